//! What is put around a model, each a `ChatModel` itself: from the wire outwards *metered* (budgets and the ledger), *fallback*
//! (the next model where one cannot answer), *placeheld* (secrets as placeholders on their way out), *masked* (and in what
//! comes back), *cached* (nothing is paid twice).

pub(super) mod cached;
pub(super) mod fallback;
pub(super) mod masked;
pub(super) mod metered;
pub(super) mod placeheld;

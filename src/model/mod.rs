//! Language models over HTTP: one [`ChatModel`] trait, the wire dialects, one a file; answers checked against a
//! schema, errors that say what to do.
//!
//! **Invariant:** knows nothing of graphs, patrol or police; a role is only a name.
//! **Invariant:** a key is sent to the host of its own base URL and to no other; it never reaches an error, a
//! log or `Debug`.
//! **Invariant:** what cannot be read is an error, never an answer: a cut, empty or refused answer is no answer.
//! **Invariant:** every call has a time limit and a size limit, and nothing is built before the first call.
//!
//! `config` fills [`RoleSettings`] from the table of providers ([`providers`]), [`Models::build`] makes a model of each role,
//! callers ask with [`structured`] or [`structured_value`]. Start reading at `models.rs`, then `client.rs`.

mod around;
mod chat;
mod client;
mod dialect;
mod error;
mod gate;
mod http;
mod lessons;
mod models;
mod schema;
mod settings;
mod structured;
mod table;
mod verdict;

pub use around::cached::{Answers, KeptAnswer};
pub use around::masked::Mask;
pub use around::metered::{Call, Ledger, Purse};
pub use around::placeheld::Redactor;
pub use chat::{
    Account, Answering, ChatAnswer, ChatModel, ChatRequest, Finish, Message, OutputSchema, Speaker,
    TokenSink, Usage, Work,
};
pub use client::Client;
pub use error::{ModelContext, ModelError, ModelErrorKind, Retry, Spent};
pub use models::{Models, Surroundings};
pub use settings::{Backoff, Budget, Budgets, Dialect, Limits, ModelSettings, RoleSettings, Timeouts};
pub use structured::{Structured, structured, structured_value};
pub use table::{
    ListedModel, Manner, MaxTokensField, OutputMode, Price, Provider, Quirk, meant, money, provider,
    providers,
};

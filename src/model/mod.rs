//! Language models over HTTP: one [`ChatModel`] trait, one wire dialect a file, answers checked against a
//! schema, errors that say what to do.
//!
//! **Invariant:** knows nothing of graphs, patrol or police; a role is only a name.
//! **Invariant:** a key is sent to the host of its own base URL and to no other; it never reaches an error, a
//! log or `Debug`.
//! **Invariant:** what cannot be read is an error, never an answer: a cut, empty or refused answer is no answer.
//! **Invariant:** every call has a time limit and a size limit, and nothing is built before the first call.
//!
//! `config` fills [`ModelSettings`], [`Models`] finds a model by role, callers ask with [`structured`] or
//! [`structured_value`]. Start reading at `client.rs`. Budgets, caches, fallbacks and limits belong around a
//! `ChatModel`, as a `ChatModel` themselves.

mod anthropic;
mod chat;
mod client;
mod error;
mod http;
mod masked;
mod openai;
mod schema;
mod settings;
mod stream;
mod structured;
mod table;
mod verdict;

pub use chat::{
    Answering, ChatAnswer, ChatModel, ChatRequest, Finish, Message, OutputSchema, Speaker, TokenSink, Usage,
};
pub use client::{Client, Models};
pub use error::{ModelContext, ModelError, ModelErrorKind, Retry};
pub use masked::Mask;
pub use settings::{Backoff, Budget, Budgets, Dialect, Limits, ModelSettings, RoleSettings, Timeouts};
pub use structured::{Structured, structured, structured_value};
pub use table::{
    ListedModel, Manner, MaxTokensField, OutputMode, Price, Provider, Quirk, provider, providers,
};

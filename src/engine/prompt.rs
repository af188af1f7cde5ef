//! Prompt nodes: what the engine asks of whoever can talk to a model.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{Ctx, NodeError, PromptTexts};

/// One call of a prompt node.
#[derive(Clone, Debug)]
pub struct PromptCall {
    /// Template name, as `investigate/lead`.
    pub prompt: String,
    /// Which of the configured models, as `investigator`.
    pub role: String,
    /// Registered type of the answer.
    pub output: String,
    /// The template's variables: what the node reads, its constants and its item.
    pub variables: Map<String, Value>,
    /// Texts of the prompts as they were stored when the run began; empty where the host gave none.
    pub texts: Arc<PromptTexts>,
}

/// Answers prompt nodes. The answer must be an object of the call's output type; that it is one is the
/// runner's to check, and an answer that is not is a [`Malformed`](super::ErrorClass::Malformed) error.
pub trait PromptRunner: Send + Sync {
    /// Makes the call. Dropping the future gives it up.
    fn run(&self, ctx: Ctx, call: PromptCall) -> BoxFuture<'static, Result<Value, NodeError>>;
}

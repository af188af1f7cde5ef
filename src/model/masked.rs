//! A model whose answers are masked before anybody sees or stores them.

use std::sync::Arc;

use serde_json::Value;

use super::chat::{Answering, ChatAnswer, ChatModel, ChatRequest};
use super::error::{ModelContext, ModelError};

/// Gives a text with its secrets masked.
pub type Mask = fn(&str) -> String;

/// A model, with `mask` put over everything it says.
#[derive(Clone, Debug)]
pub(super) struct Masked {
    model: Arc<dyn ChatModel>,
    mask: Mask,
}

impl Masked {
    pub(super) fn new(model: Arc<dyn ChatModel>, mask: Mask) -> Self {
        Self { model, mask }
    }

    fn answer(&self, answer: ChatAnswer) -> ChatAnswer {
        // A mask over JSON text could cover a quotation mark: where the answer is JSON, its strings are masked.
        let text = match serde_json::from_str::<Value>(&answer.text) {
            Ok(value) => self.value(value).to_string(),
            Err(_) => (self.mask)(&answer.text),
        };
        ChatAnswer { text, structured: answer.structured.map(|value| self.value(value)), ..answer }
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String((self.mask)(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => map.into_iter().map(|(key, item)| (key, self.value(item))).collect(),
            other => other,
        }
    }
}

impl ChatModel for Masked {
    fn context(&self) -> &Arc<ModelContext> {
        self.model.context()
    }

    fn ready(&self) -> Result<(), ModelError> {
        self.model.ready()
    }

    fn complete(&self, request: ChatRequest) -> Answering<'_> {
        Box::pin(async move { self.model.complete(request).await.map(|answer| self.answer(answer)) })
    }
}

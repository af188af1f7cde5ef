//! The models of a role in their order: the next one is asked where one gives no answer.

use std::sync::Arc;

use crate::model::chat::{Answering, ChatAnswer, ChatModel, ChatRequest, Usage};
use crate::model::error::{ModelContext, ModelError, ModelErrorKind};

/// A model with others in its place.
#[derive(Debug)]
pub(in crate::model) struct Fallback {
    first: Arc<dyn ChatModel>,
    others: Vec<Arc<dyn ChatModel>>,
}

impl Fallback {
    pub(in crate::model) fn new(first: Arc<dyn ChatModel>, others: Vec<Arc<dyn ChatModel>>) -> Self {
        Self { first, others }
    }

    async fn ask(&self, request: ChatRequest) -> Result<ChatAnswer, ModelError> {
        let mut error = match self.first.complete(request.clone()).await {
            Err(error) if another_may_answer(&error.kind) => error,
            other => return other,
        };
        let mut charged: Usage = error.usage;
        for model in &self.others {
            tracing::warn!(
                role = self.context().role,
                "gen_ai.request.model" = self.context().model,
                class = error.class(),
                fallback = model.context().model,
                "model gave no answer, asking the next one"
            );
            if let Some(sink) = &request.on_token {
                sink.say("\n");
            }
            match model.complete(request.clone()).await {
                Ok(answer) => return Ok(ChatAnswer { usage: answer.usage + charged, ..answer }),
                Err(other) => {
                    charged += other.usage;
                    error.fallbacks.push(other);
                }
            }
        }
        Err(ModelError { usage: charged, ..error })
    }
}

/// Whether another model might do better. A budget is everybody's, and a schema that is none stays none.
fn another_may_answer(kind: &ModelErrorKind) -> bool {
    !matches!(kind, ModelErrorKind::BadSchema(_) | ModelErrorKind::OverBudget(_) | ModelErrorKind::Ledger(_))
}

impl ChatModel for Fallback {
    fn context(&self) -> &Arc<ModelContext> {
        self.first.context()
    }

    /// Ready where any of them is; else what the first one says.
    fn ready(&self) -> Result<(), ModelError> {
        match self.first.ready() {
            Err(_) if self.others.iter().any(|model| model.ready().is_ok()) => Ok(()),
            other => other,
        }
    }

    fn complete(&self, request: ChatRequest) -> Answering<'_> {
        Box::pin(self.ask(request))
    }
}

//! A question to a model and its answer, in no provider's words.

use std::fmt::{self, Debug};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{ModelContext, ModelError};

/// An answer on its way.
pub type Answering<'a> = BoxFuture<'a, Result<ChatAnswer, ModelError>>;

/// A model that can be asked.
pub trait ChatModel: Debug + Send + Sync {
    /// Who answers here: provider, model, role and host.
    fn context(&self) -> &Arc<ModelContext>;

    /// Whether a call could be made at all, as far as can be told without one.
    ///
    /// # Errors
    /// What a call would fail with, such as a missing key.
    fn ready(&self) -> Result<(), ModelError> {
        Ok(())
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// Any [`ModelError`]; a refusal, an empty and a cut answer are errors too. What they cost stands in
    /// [`ModelError::usage`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the call; the provider may have done the work and charge for it.
    fn complete(&self, request: ChatRequest) -> Answering<'_>;

    /// Tells that an answer to this question was found good, for whoever keeps answers.
    fn accepted(&self, _request: &ChatRequest, _answer: &ChatAnswer) {}
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatRequest {
    /// The system message; none where empty.
    pub system: String,
    /// The conversation, oldest first; ends with the user's message.
    pub messages: Vec<Message>,
    /// Most tokens of the answer; the model's settings decide where none is given.
    pub max_tokens: Option<u32>,
    /// Sent only where given: many models reject it.
    pub temperature: Option<f32>,
    /// Asks for JSON of this shape.
    pub output: Option<OutputSchema>,
    /// Gets the answer's text while it comes.
    pub on_token: Option<TokenSink>,
    /// The random word that marks what is data in this question. An answer of a given shape must repeat it, or it was not made
    /// from this question.
    pub nonce: Option<String>,
    /// Other words of this question that were made up for it. Without them and the nonce two questions may be the same.
    pub random: Vec<String>,
    /// On whose account the call goes.
    pub account: Option<Account>,
}

/// Whose budget a call is charged to, beside the day's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// What kind of work it is.
    pub work: Work,
    /// Which one: a run's id.
    pub id: String,
}

/// A kind of work that has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A sweep of the patrol.
    Sweep,
    /// An investigation.
    Investigation,
    /// Another graph.
    Run,
}

impl Work {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Investigation => "investigation",
            Self::Run => "run",
        }
    }
}

/// Whoever wants to see an answer while it comes. What it gets is no answer yet: an attempt may break off, and the
/// next one begins anew behind a line break; only what [`ChatModel::complete`] gives counts. Called between two reads
/// of the answer, so it must not block.
///
/// Two sinks are equal to each other: they are no part of the question.
#[derive(Clone)]
pub struct TokenSink(Arc<dyn Fn(&str) + Send + Sync>);

impl TokenSink {
    /// A sink that gives each piece of text to a function.
    pub fn new(take: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// Gives it a piece.
    pub fn say(&self, piece: &str) {
        if !piece.is_empty() {
            (self.0)(piece);
        }
    }
}

impl Debug for TokenSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSink")
    }
}

impl PartialEq for TokenSink {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl ChatRequest {
    /// One system and one user message.
    pub fn new(system: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            system: system.into(),
            messages: vec![Message { speaker: Speaker::User, text: user.into() }],
            ..Self::default()
        }
    }
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub speaker: Speaker,
    /// What is said.
    pub text: String,
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The asking side.
    User,
    /// The model.
    Assistant,
}

impl Speaker {
    /// The word that most dialects use.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// The shape an answer must have.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSchema {
    /// A name for the shape: letters, digits, `_` and `-`.
    pub name: String,
    /// A JSON Schema with an object at its root.
    pub schema: Value,
}

/// An answer that is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatAnswer {
    /// The text, all parts in order; the JSON text where the answer came as a tool call.
    pub text: String,
    /// The JSON value where the provider gave one as such (a tool call); not checked against the schema.
    pub structured: Option<Value>,
    /// What it cost, over all attempts that were charged.
    pub usage: Usage,
    /// Why the model stopped.
    pub finish: Finish,
    /// The model that answered, by the provider's word; the one asked for where it says nothing.
    pub model: String,
}

/// Why a model stopped. Stops that leave no answer are errors instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was done.
    Stop,
    /// It called the tool that carries the answer.
    Tool,
    /// Something else, in the provider's word.
    Other(String),
}

/// What one call or several cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the question.
    pub input_tokens: u64,
    /// Those of them that the provider had kept from an earlier call; part of `input_tokens`.
    pub cached_input_tokens: u64,
    /// Tokens of the answer, thinking included.
    pub output_tokens: u64,
    /// Money, in millionths of a US dollar; 0 where nobody counts it.
    pub micro_usd: u64,
}

impl Usage {
    /// Tokens of question and answer.
    pub const fn tokens(self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_input_tokens: self.cached_input_tokens.saturating_add(other.cached_input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            micro_usd: self.micro_usd.saturating_add(other.micro_usd),
        }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// A number as people write it: 0.2 stays 0.2 on its way from 32 to 64 bits.
pub(super) fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

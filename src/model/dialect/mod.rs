//! The wire dialects, one a file: a question as a request's body, a response as an answer. Nothing here waits or sends.

pub(super) mod anthropic;
pub(super) mod gemini;
pub(super) mod openai;
pub(super) mod stream;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::chat::{ChatAnswer, ChatRequest, OutputSchema, Usage};
use super::error::ModelErrorKind;
use super::http;
use super::schema;
use super::settings::Dialect;
use super::table::{Manner, MaxTokensField, OutputMode};
use super::verdict;

/// What a dialect needs to know of the call.
pub(super) struct Asked<'a> {
    pub(super) model: &'a str,
    pub(super) max_tokens: u32,
    /// The name of the output's schema.
    pub(super) output: Option<&'a str>,
    /// How it is told of that shape.
    pub(super) mode: OutputMode,
    /// Whether the answer is wanted as a stream.
    pub(super) streams: bool,
    /// How the model is spoken to.
    pub(super) manner: &'a Manner,
    pub(super) key: Option<&'a SecretString>,
}

impl Asked<'_> {
    #[cfg(test)]
    pub(super) fn of<'a>(manner: &'a Manner, output: Option<&'a str>) -> Asked<'a> {
        Asked { model: "m", max_tokens: 9, output, mode: manner.output, streams: false, manner, key: None }
    }

    /// A provider's words as they may be shown.
    pub(super) fn said(&self, words: &str) -> String {
        verdict::said(words, self.key)
    }

    /// The model that answered, as far as the response says.
    pub(super) fn answered_by(&self, named: Option<&Value>) -> String {
        match named.and_then(Value::as_str).filter(|model| !model.is_empty()) {
            Some(model) => self.said(model),
            None => self.model.to_owned(),
        }
    }

    /// The system text; where the model is told of the answer's shape by the prompt, with the schema behind it.
    fn system(&self, request: &ChatRequest) -> String {
        let in_words = matches!(self.mode, OutputMode::Json | OutputMode::Prompt);
        match request.output.as_ref().filter(|_| in_words) {
            None => request.system.clone(),
            Some(output) => format!(
                "{}{}Answer with one JSON value and nothing else: no words around it, no code fence. It must fit this JSON \
                 Schema:\n{}",
                request.system,
                if request.system.is_empty() { "" } else { "\n\n" },
                output.schema
            ),
        }
    }

    /// Leaves out what the model does not take, and adds what it wants.
    fn finish(&self, body: &mut Map<String, Value>) {
        for name in &self.manner.omit {
            body.remove(name);
        }
        let wanted = self.manner.extra.iter().filter(|(name, _)| !self.manner.omit.contains(name));
        body.extend(wanted.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The name of the parameter that limits the answer.
    const fn limit(&self) -> &'static str {
        match self.manner.max_tokens_field {
            MaxTokensField::MaxTokens => "max_tokens",
            MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

impl Dialect {
    /// How a model is told of a shape: in the manner of its own, unless that cannot say this one.
    pub(super) fn mode(self, manner: &Manner, output: Option<&OutputSchema>) -> OutputMode {
        match (self, manner.output, output) {
            (Self::Anthropic, OutputMode::Schema, Some(output))
                if schema::closed(&output.schema).is_none() =>
            {
                OutputMode::Prompt
            }
            (_, mode, _) => mode,
        }
    }

    /// The body of a request.
    pub(super) fn body(self, asked: &Asked<'_>, request: &ChatRequest) -> Value {
        match self {
            Self::OpenAi => openai::body(asked, request),
            Self::Anthropic => anthropic::body(asked, request),
            Self::Gemini => gemini::body(asked, request),
        }
    }

    /// The answer in a response, with what it cost, or why there is none.
    pub(super) fn answer(
        self,
        asked: &Asked<'_>,
        body: &Value,
    ) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
        match self {
            Self::OpenAi => openai::answer(asked, body),
            Self::Anthropic => anthropic::answer(asked, body),
            Self::Gemini => gemini::answer(asked, body),
        }
    }

    /// The header that carries the key, and what stands before the key in it.
    pub(super) const fn key_header(self) -> (HeaderName, &'static str) {
        match self {
            Self::OpenAi => (AUTHORIZATION, "Bearer "),
            Self::Anthropic => (HeaderName::from_static("x-api-key"), ""),
            Self::Gemini => (HeaderName::from_static("x-goog-api-key"), ""),
        }
    }

    /// The address that is called below `base`.
    ///
    /// A base without any path gets the version's (`/v1`); one with a path of its own keeps it, as gateways and other providers
    /// have theirs (`/openai/v1`). A pasted full address is understood too.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn endpoint(self, base: &str, model: &str, streams: bool) -> Result<Url, String> {
        match self {
            Self::OpenAi => http::endpoint(base, &["v1"], &["chat", "completions"], http::Version::IfNoPath),
            Self::Anthropic => http::endpoint(base, &["v1"], &["messages"], http::Version::Always),
            Self::Gemini => gemini::endpoint(base, model, streams),
        }
    }
}

/// A tool whose input is the answer, in the form of the chat-completions dialect.
fn answer_tool(name: &str, schema: &Value, strict: Option<Value>) -> Value {
    let mut function = json!({ "name": name, "description": "Gives the answer.", "parameters": schema });
    if let (Some(strict), Some(function)) = (strict, function.as_object_mut()) {
        function.insert("strict".into(), json!(true));
        function.insert("parameters".into(), strict);
    }
    json!({ "type": "function", "function": function })
}

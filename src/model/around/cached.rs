//! A model that is not asked the same question twice: what it answered is kept under a hash of the question.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::chat::{Answering, ChatAnswer, ChatModel, ChatRequest, Finish, Usage};
use crate::model::error::{ModelContext, ModelError};

/// Where answers are kept.
pub trait Answers: Debug + Send + Sync {
    /// The answer under a key; none where there is none, or it cannot be read.
    fn find(&self, key: &str) -> Option<KeptAnswer>;
    /// Keeps an answer, in place of an earlier one. What cannot be kept is lost, and paid again.
    fn keep(&self, key: &str, answer: &KeptAnswer);
}

/// An answer as it is kept: masked, with the question's random words taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The text, in pieces; between two pieces stands the random word of that number.
    text: Vec<Piece>,
    /// Whether the text was given as JSON.
    structured: bool,
    /// The model that answered.
    model: String,
    /// What it cost then.
    pub usage: Usage,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Word(usize),
}

/// A model with its earlier answers.
#[derive(Debug)]
pub(in crate::model) struct Cached {
    model: Arc<dyn ChatModel>,
    answers: Arc<dyn Answers>,
}

impl Cached {
    pub(in crate::model) fn new(model: Arc<dyn ChatModel>, answers: Arc<dyn Answers>) -> Self {
        Self { model, answers }
    }

    fn key(&self, request: &ChatRequest) -> String {
        let ModelContext { provider, model, host, .. } = &**self.model.context();
        let mut hash = Sha256::new();
        // Each field with its length, so that no two questions have the same bytes.
        let mut add = |bytes: &[u8]| {
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        for field in ["2", provider, host, model] {
            add(field.as_bytes());
        }
        add(format!("{:?} {:?}", request.max_tokens, request.temperature).as_bytes());
        let shape = request.output.as_ref().map(|output| format!("{} {}", output.name, output.schema));
        add(shape.unwrap_or_default().as_bytes());
        let words = words(request);
        for text in
            std::iter::once(&request.system).chain(request.messages.iter().map(|message| &message.text))
        {
            let pieces = pieces(text, &words);
            add(&pieces.len().to_le_bytes());
            for piece in pieces {
                match piece {
                    Piece::Text(text) => add(text.as_bytes()),
                    Piece::Word(number) => add(&number.to_le_bytes()),
                }
            }
        }
        hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            crate::text::push(&mut hex, format_args!("{byte:02x}"));
            hex
        })
    }
}

/// The random words of a question.
fn words(request: &ChatRequest) -> Vec<&str> {
    request.nonce.iter().chain(&request.random).map(String::as_str).filter(|word| !word.is_empty()).collect()
}

/// A text, cut at these words.
fn pieces(text: &str, words: &[&str]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let next = words
            .iter()
            .enumerate()
            .filter_map(|(number, word)| Some((rest.find(word)?, number, word.len())))
            .min();
        let Some((at, number, length)) = next else {
            pieces.push(Piece::Text(rest.to_owned()));
            return pieces;
        };
        pieces.push(Piece::Text(rest.get(..at).unwrap_or_default().to_owned()));
        pieces.push(Piece::Word(number));
        rest = rest.get(at + length..).unwrap_or_default();
    }
}

impl ChatModel for Cached {
    fn context(&self) -> &Arc<ModelContext> {
        self.model.context()
    }

    fn ready(&self) -> Result<(), ModelError> {
        self.model.ready()
    }

    /// Only answers of a given shape are kept: of those it is known whether they were good.
    fn complete(&self, request: ChatRequest) -> Answering<'_> {
        let kept = request.output.as_ref().and_then(|_| self.answers.find(&self.key(&request)));
        let Some(kept) = kept else { return self.model.complete(request) };
        let words = words(&request);
        let text: String = kept
            .text
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Word(number) => words.get(*number).copied().unwrap_or_default(),
            })
            .collect();
        if let Some(sink) = &request.on_token {
            sink.say(&text);
        }
        let structured = kept.structured.then(|| serde_json::from_str(&text).unwrap_or(Value::Null));
        let (usage, model) = (Usage::default(), kept.model);
        Box::pin(std::future::ready(Ok(ChatAnswer { text, structured, usage, finish: Finish::Stop, model })))
    }

    fn accepted(&self, request: &ChatRequest, answer: &ChatAnswer) {
        // What cost nothing came from here.
        if request.output.is_some() && answer.usage != Usage::default() {
            let kept = KeptAnswer {
                text: pieces(&answer.text, &words(request)),
                structured: answer.structured.is_some(),
                model: answer.model.clone(),
                usage: answer.usage,
            };
            self.answers.keep(&self.key(request), &kept);
        }
    }
}

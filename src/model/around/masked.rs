//! A model whose answers are masked before anybody sees or stores them.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::model::chat::{Answering, ChatAnswer, ChatModel, ChatRequest, TokenSink};
use crate::model::error::{ModelContext, ModelError};
use crate::text;

/// Gives a text with its secrets masked.
pub type Mask = fn(&str) -> String;

/// A model, with `mask` put over everything it says.
#[derive(Clone, Debug)]
pub(in crate::model) struct Masked {
    model: Arc<dyn ChatModel>,
    mask: Mask,
}

impl Masked {
    pub(in crate::model) fn new(model: Arc<dyn ChatModel>, mask: Mask) -> Self {
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

    fn complete(&self, mut request: ChatRequest) -> Answering<'_> {
        let behind = request.on_token.take().map(|sink| Arc::new(Mutex::new(Behind::new(sink, self.mask))));
        request.on_token = behind.clone().map(|behind| {
            TokenSink::new(move |piece| behind.lock().unwrap_or_else(PoisonError::into_inner).take(piece))
        });
        Box::pin(async move {
            let result = self.model.complete(request).await;
            if let (Ok(_), Some(behind)) = (&result, behind) {
                behind.lock().unwrap_or_else(PoisonError::into_inner).finish();
            }
            result.map(|answer| self.answer(answer))
        })
    }
}

/// How far what is shown of an answer stays behind what has come of it, in bytes: what looks harmless may be the
/// beginning of a secret.
const BEHIND: usize = 400;

/// Shows an answer while it comes, masked, and so far behind that no secret is shown in parts.
struct Behind {
    sink: TokenSink,
    mask: Mask,
    /// What has come.
    raw: String,
    /// What was shown of it, masked.
    shown: String,
    /// Nothing more is shown before this much has come: masking everything anew for every word takes time.
    next: usize,
    /// What was shown is no longer how the mask has it; nothing more is shown.
    lost: bool,
}

impl Behind {
    const fn new(sink: TokenSink, mask: Mask) -> Self {
        Self { sink, mask, raw: String::new(), shown: String::new(), next: 0, lost: false }
    }

    fn take(&mut self, piece: &str) {
        self.raw.push_str(piece);
        if self.raw.len() < self.next {
            return;
        }
        self.next = self.raw.len() + 64.max(self.raw.len() / 8);
        let known = text::floor_boundary(&self.raw, self.raw.len().saturating_sub(BEHIND));
        // Between two words, and not within a key in several lines.
        let settled = self.raw.get(..known).unwrap_or_default();
        let mut end = settled.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        if let Some(begin) = self.raw.rfind("-----BEGIN")
            && !self.raw.get(begin..).unwrap_or_default().contains("-----END")
        {
            end = end.min(begin);
        }
        let settled = (self.mask)(text::slice(&self.raw, 0..end));
        // What comes later must not change what is shown now.
        if (self.mask)(&self.raw).starts_with(&settled) {
            self.show(settled);
        }
    }

    /// The answer is whole.
    fn finish(&mut self) {
        let whole = (self.mask)(&self.raw);
        self.show(whole);
    }

    fn show(&mut self, masked: String) {
        match masked.strip_prefix(&self.shown) {
            Some(more) if !self.lost => {
                self.sink.say(more);
                self.shown = masked;
            }
            // Less than was shown: the end is near.
            None if self.shown.starts_with(&masked) => {}
            _ => self.lost = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Covers `sk-` and what follows, passwords, and keys in several lines.
    fn mask(text: &str) -> String {
        const END: &str = "-----END KEY-----";
        let text = cover(text, "-----BEGIN", |rest| Some(rest.find(END)? + END.len()));
        let run = |rest: &str, wanted: fn(char) -> bool| {
            let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
            Some(length).filter(|length| *length > 0)
        };
        let text = cover(&text, "password: ", |rest| run(rest, |c| !c.is_whitespace()));
        cover(&text, "sk-", |rest| run(rest, |c| c.is_ascii_alphanumeric()))
    }

    /// Covers every place that begins so, with as much behind that as `length` says.
    fn cover(mut text: &str, begin: &str, length: impl Fn(&str) -> Option<usize>) -> String {
        let mut covered = String::new();
        while let Some((before, rest)) = text.split_once(begin) {
            let length = length(rest);
            covered += before;
            covered += if length.is_some() { "[masked]" } else { begin };
            text = rest.split_at(length.unwrap_or(0)).1;
        }
        covered + text
    }

    /// What is shown of an answer in these pieces, in the order in which it is.
    fn shown(pieces: &[&str]) -> Vec<String> {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&said);
        let sink = TokenSink::new(move |piece| heard.lock().unwrap().push(piece.to_owned()));
        let mut behind = Behind::new(sink, mask);
        for piece in pieces {
            behind.take(piece);
        }
        behind.finish();
        drop(behind);
        Arc::try_unwrap(said).unwrap().into_inner().unwrap()
    }

    #[test]
    fn a_long_answer_is_shown_while_it_comes() {
        let words = vec!["some more words "; 400];
        let shown = shown(&words);
        assert!(shown.len() > 10, "{}", shown.len());
        assert_eq!(shown.concat(), words.concat());
    }

    #[test]
    fn a_secret_is_never_shown_in_parts() {
        let filler = "words and words ".repeat(100);
        let key = format!("-----BEGIN KEY-----\n{}-----END KEY-----", "abcd efgh\n".repeat(200));
        for secret in ["sk-0123456789abcdef", "password: hunter2", &key] {
            let text = format!("{filler}{secret} {filler}");
            let pieces: Vec<&str> =
                text.as_bytes().chunks(3).map(|c| std::str::from_utf8(c).unwrap()).collect();
            let said = shown(&pieces);
            assert_eq!(said.concat(), format!("{filler}[masked] {filler}"));
            assert!(said.len() > 3);
        }
    }

    proptest! {
        #[test]
        fn what_was_shown_is_the_masked_answer(
            text in "([a-d]{1,5} |sk-[a-d]{1,9}|password: [a-d]{1,9} |\n|ä| ){0,300}",
            size in 1..40_usize,
        ) {
            let chars: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = chars.chunks(size).map(|chunk| chunk.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let said = shown(&pieces).concat();
            prop_assert_eq!(said, mask(&text));
        }
    }
}

//! A model that never sees a secret: on their way out, secrets and structured personal data become typed, numbered
//! placeholders; on the way back, these become our own masks again, so that a quote is found where it stood.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::masked::Mask;
use crate::model::chat::{Answering, ChatAnswer, ChatModel, ChatRequest};
use crate::model::error::{ModelContext, ModelError};
use crate::redact;

/// How sensitive text is found.
#[derive(Clone, Copy, Debug)]
pub struct Redactor {
    /// Masks it, as in `[github_token ghp_… #1a2b3c4d]`; masking twice changes nothing more.
    pub mask: Mask,
    /// Whether a label is that of personal data, not of a secret.
    pub is_personal: fn(&str) -> bool,
}

/// A model, with placeholders for what it must not see.
#[derive(Debug)]
pub(in crate::model) struct Placeheld {
    model: Arc<dyn ChatModel>,
    redactor: Redactor,
}

impl Placeheld {
    pub(in crate::model) fn new(model: Arc<dyn ChatModel>, redactor: Redactor) -> Self {
        Self { model, redactor }
    }
}

impl ChatModel for Placeheld {
    fn context(&self) -> &Arc<ModelContext> {
        self.model.context()
    }

    fn ready(&self) -> Result<(), ModelError> {
        self.model.ready()
    }

    fn complete(&self, mut request: ChatRequest) -> Answering<'_> {
        let texts: Vec<String> =
            request.messages.iter().map(|message| (self.redactor.mask)(&message.text)).collect();
        let system = (self.redactor.mask)(&request.system);
        let mut held = Placeholders::around(texts.iter().chain([&system]));
        request.system = held.put(&system, self.redactor.is_personal);
        for (message, text) in request.messages.iter_mut().zip(texts) {
            message.text = held.put(&text, self.redactor.is_personal);
        }
        Box::pin(async move {
            let answer = self.model.complete(request).await?;
            let text = held.take_back(&answer.text);
            let structured = answer.structured.clone().map(|value| held.take_back_in(value));
            Ok(ChatAnswer { text, structured, ..answer })
        })
    }
}

/// The placeholders of one question.
#[derive(Debug, Default)]
struct Placeholders {
    /// Mask → placeholder.
    of: BTreeMap<String, String>,
    /// Placeholder → mask.
    masks: BTreeMap<String, String>,
    /// What looks like a placeholder in the texts themselves; its number is not given away.
    taken: Vec<String>,
    last: usize,
}

impl Placeholders {
    fn around<'a>(texts: impl Iterator<Item = &'a String>) -> Self {
        let taken = texts.flat_map(|text| placeholders_in(text)).map(|(_, name)| name.to_owned()).collect();
        Self { taken, ..Self::default() }
    }

    /// The text with a placeholder for every mask.
    fn put(&mut self, text: &str, is_personal: fn(&str) -> bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (range, label) in redact::masks(text) {
            let mask = text.get(range.clone()).unwrap_or_default();
            out.push_str(text.get(at..range.start).unwrap_or_default());
            out.push_str(self.placeholder(mask, label, is_personal(label)));
            at = range.end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out
    }

    fn placeholder(&mut self, mask: &str, label: &str, personal: bool) -> &str {
        if !self.of.contains_key(mask) {
            let kind = if personal { "PII" } else { "SECRET" };
            let name = loop {
                self.last += 1;
                let name = format!("[{kind}:{label}#{}]", self.last);
                if !self.taken.contains(&name) {
                    break name;
                }
            };
            self.masks.insert(name.clone(), mask.to_owned());
            self.of.insert(mask.to_owned(), name);
        }
        self.of.get(mask).map_or("", String::as_str)
    }

    /// The text with our own masks in place of placeholders.
    fn take_back(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (start, name) in placeholders_in(text) {
            if let Some(mask) = self.masks.get(name) {
                out.push_str(text.get(at..start).unwrap_or_default());
                out.push_str(mask);
                at = start + name.len();
            }
        }
        out.push_str(text.get(at..).unwrap_or_default());
        out
    }

    fn take_back_in(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.take_back(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.take_back_in(item)).collect(),
            Value::Object(map) => map.into_iter().map(|(key, item)| (key, self.take_back_in(item))).collect(),
            other => other,
        }
    }
}

/// What has the form of a placeholder, with where it stands.
fn placeholders_in(text: &str) -> impl Iterator<Item = (usize, &str)> {
    ["[SECRET:", "[PII:"]
        .into_iter()
        .flat_map(|open| text.match_indices(open))
        .filter_map(|(start, _)| {
            let rest = text.get(start..)?;
            let end = rest.find(']')?;
            let name = rest.get(..=end)?;
            (name.len() < 80 && name.contains('#')).then_some((start, name))
        })
        .collect::<BTreeMap<_, _>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn personal(label: &str) -> bool {
        label == "email_address"
    }

    #[test]
    fn a_secret_becomes_a_number_and_comes_back_as_its_mask() {
        let token = redact::mask("github_token", "ghp_0123456789abcdefghijklmnopqrstuvwxyz");
        let mail = redact::mask("email_address", "someone@example.org");
        let text = format!("key {token}, again {token}, of {mail}; [SECRET:github_token#1] is a trick");
        let mut held = Placeholders::around([&text].into_iter());
        let sent = held.put(&text, personal);
        assert_eq!(
            sent,
            "key [SECRET:github_token#2], again [SECRET:github_token#2], of [PII:email_address#3]; \
             [SECRET:github_token#1] is a trick"
        );
        assert_eq!(held.take_back(&sent), text);
        assert_eq!(held.take_back("[SECRET:github_token#9]"), "[SECRET:github_token#9]");
    }

    proptest::proptest! {
        #[test]
        fn what_goes_out_comes_back(text in "(\\[github_token ghp_… #1a2b3c4d\\]|\\[password #00000000\\]|\\[SECRET:password#[1-3]\\]|[a-z \\[\\]#]){0,30}") {
            let mut held = Placeholders::around([&text].into_iter());
            let sent = held.put(&text, personal);
            proptest::prop_assert_eq!(held.take_back(&sent), text);
        }
    }
}

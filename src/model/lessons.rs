//! What a model was found not to take: learned from its own complaint, remembered for as long as the process lives.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::error::ModelErrorKind;
use super::table::{Manner, MaxTokensField, OutputMode};

/// Lessons of all models, by provider and model.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    learned: Mutex<BTreeMap<(String, String), Vec<Lesson>>>,
}

/// One thing that a model does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lesson {
    /// A parameter.
    Omit(String),
    /// The name of the parameter that limits an answer.
    Limit(MaxTokensField),
    /// The way it was told what shape an answer must have.
    Output(OutputMode),
    /// `strict` in a schema.
    NotStrict,
    /// `stream_options`.
    NoStreamUsage,
    /// Streams.
    NoStream,
}

impl Lesson {
    /// What is no longer sent, for a message.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Omit(name) => name.clone(),
            Self::Limit(MaxTokensField::MaxTokens) => "max_completion_tokens".into(),
            Self::Limit(MaxTokensField::MaxCompletionTokens) => "max_tokens".into(),
            Self::Output(_) => "the schema of the answer, in this form".into(),
            Self::NotStrict => "strict".into(),
            Self::NoStreamUsage => "stream_options".into(),
            Self::NoStream => "stream".into(),
        }
    }

    fn apply(&self, manner: &mut Manner) {
        match self {
            Self::Omit(name) => manner.omit.push(name.clone()),
            Self::Limit(field) => manner.max_tokens_field = *field,
            Self::Output(output) => manner.output = *output,
            Self::NotStrict => manner.strict = false,
            Self::NoStreamUsage => manner.stream_usage = false,
            Self::NoStream => manner.never_streams = true,
        }
    }
}

impl Lessons {
    /// How a model is spoken to, after all that was learned.
    pub(super) fn applied(&self, provider: &str, model: &str, manner: &Manner) -> Manner {
        let mut manner = manner.clone();
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        for lesson in learned.get(&(provider.to_owned(), model.to_owned())).into_iter().flatten() {
            lesson.apply(&mut manner);
        }
        manner
    }

    /// Remembers a lesson; gives whether it is new.
    pub(super) fn learn(&self, provider: &str, model: &str, lesson: &Lesson) -> bool {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let known = learned.entry((provider.to_owned(), model.to_owned())).or_default();
        let new = !known.contains(lesson);
        if new {
            known.push(lesson.clone());
        }
        new
    }
}

/// Parameters that a question can do without.
const DISPENSABLE: [&str; 6] = ["temperature", "top_p", "thinking", "reasoning_effort", "reasoning", "seed"];

/// Words of a provider that say that a parameter is not taken.
const COMPLAINTS: [&str; 16] = [
    "not supported",
    "unsupported",
    "does not support",
    "doesn't support",
    "not support",
    "not permitted",
    "not allowed",
    "is allowed",
    "unrecognized",
    "unknown",
    "unexpected",
    "invalid",
    "deprecated",
    "not available",
    "must be",
    "cannot be",
];

/// What is to be learned from a complaint about what was sent in this manner; nothing where it is about something else.
///
/// It must be the manner of that very request: others may have learned while it was on its way, and a lesson counted from what
/// they know would go one step too far.
pub(super) fn lesson(kind: &ModelErrorKind, sent: &Value, manner: &Manner) -> Option<Lesson> {
    let ModelErrorKind::BadRequest { said, parameter, .. } = kind else { return None };
    let said = said.to_lowercase();
    let parameter = parameter.as_deref().unwrap_or_default();
    if !COMPLAINTS.iter().any(|words| said.contains(words)) {
        return None;
    }
    let named =
        |name: &str| parameter == name || parameter.ends_with(&format!(".{name}")) || has_word(&said, name);
    let was_sent = |name: &str| {
        sent.get(name).is_some()
            || sent.get("generationConfig").is_some_and(|config| config.get(name).is_some())
    };
    let (short, long) = ("max_tokens", "max_completion_tokens");
    if named(short) && named(long) || (was_sent(long) && parameter == long) {
        // Which of the two it wants is the one that was not sent.
        return Some(Lesson::Limit(if was_sent(long) {
            MaxTokensField::MaxTokens
        } else {
            MaxTokensField::MaxCompletionTokens
        }));
    }
    if named("stream_options") && was_sent("stream_options") {
        return Some(Lesson::NoStreamUsage);
    }
    if let Some(name) = DISPENSABLE.iter().find(|name| named(name) && was_sent(name)) {
        return Some(Lesson::Omit((*name).to_owned()));
    }
    if let Some(name) = manner.extra.keys().find(|name| named(name)) {
        return Some(Lesson::Omit(name.clone()));
    }
    if named("strict") && manner.strict && sent.to_string().contains("\"strict\":true") {
        return Some(Lesson::NotStrict);
    }
    // Gemini is asked for a stream by the address, so its body does not show it.
    let streamed = was_sent("stream") || sent.get("contents").is_some();
    if streamed && !manner.never_streams && (parameter == "stream" || begins_word(&said, "stream")) {
        return Some(Lesson::NoStream);
    }
    let about_shape = [
        "response_format",
        "json_schema",
        "output_config",
        "responsejsonschema",
        "response_json_schema",
        "responsemimetype",
        "tool_choice",
        "tools",
        "json mode",
        "structured output",
        "structured outputs",
        "function calling",
    ];
    let asked =
        ["response_format", "output_config", "tools", "tool_choice"].iter().any(|name| was_sent(name))
            || was_sent("responseJsonSchema")
            || was_sent("responseMimeType");
    if asked && about_shape.iter().any(|name| named(name)) {
        return match manner.output {
            OutputMode::Schema => Some(Lesson::Output(OutputMode::Json)),
            OutputMode::Tool | OutputMode::Json => Some(Lesson::Output(OutputMode::Prompt)),
            OutputMode::Prompt => None,
        };
    }
    None
}

/// Whether a word of `text` begins so: `streaming`, but not `upstream`.
fn begins_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Whether `name` stands in `text` as a word of its own.
fn has_word(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint(said: &str, parameter: Option<&str>) -> ModelErrorKind {
        ModelErrorKind::BadRequest {
            status: 400,
            said: said.to_owned(),
            parameter: parameter.map(Into::into),
        }
    }

    #[test]
    fn a_complaint_about_a_parameter_is_a_lesson() {
        let sent = json!({
            "temperature": 0.2, "top_p": 1, "max_tokens": 9, "thinking": {}, "stream": true, "stream_options": {},
            "response_format": { "json_schema": { "strict": true } },
        });
        let manner = Manner { output: OutputMode::Schema, strict: true, ..Manner::default() };
        let omit = |name: &str| Some(Lesson::Omit(name.to_owned()));
        for (said, parameter, want) in [
            ("invalid temperature: only 1 is allowed for this model", None, omit("temperature")),
            ("Unsupported value", Some("temperature"), omit("temperature")),
            ("`top_p` is deprecated for this model", None, omit("top_p")),
            ("thinking: Extra inputs are not permitted", None, omit("thinking")),
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                Some("max_tokens"),
                Some(Lesson::Limit(MaxTokensField::MaxCompletionTokens)),
            ),
            ("stream_options is not supported", None, Some(Lesson::NoStreamUsage)),
            ("Unknown parameter: strict", None, Some(Lesson::NotStrict)),
            ("response_format json_schema is not supported", None, Some(Lesson::Output(OutputMode::Json))),
            ("max_tokens must be at most 4", None, None),
            ("the temperature outside is high", None, None),
            ("streaming is not supported here", None, Some(Lesson::NoStream)),
            ("the upstream said: invalid request", None, None),
            ("seed is not supported", None, None),
            ("unexpected end of input", None, None),
        ] {
            assert_eq!(lesson(&complaint(said, parameter), &sent, &manner), want, "{said}");
        }
        assert_eq!(lesson(&ModelErrorKind::MissingKey, &sent, &manner), None);
    }

    #[test]
    fn a_lesson_is_remembered_for_its_model() {
        let lessons = Lessons::default();
        let lesson = Lesson::Omit("top_p".into());
        assert!(lessons.learn("p", "m", &lesson) && !lessons.learn("p", "m", &lesson));
        let plain = Manner::default();
        assert_eq!(lessons.applied("p", "m", &plain).omit, ["top_p"]);
        assert_eq!(lessons.applied("p", "other", &plain), plain);
    }
}

//! Answers of a given shape: asked for, read, checked, and repaired at most once.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::chat::{ChatAnswer, ChatModel, ChatRequest, Message, OutputSchema, Speaker, Usage};
use super::error::{ModelError, ModelErrorKind};
use super::schema::{self, Shape};
use crate::text;

/// Most of a wrong answer that is shown to the model again, in characters.
const SHOWN_BACK_CHARS: usize = 20_000;
/// Most of what is wrong that goes into an error, in characters.
const WHY_CHARS: usize = 400;
/// Longest name of a schema; both providers take 64.
const NAME_CHARS: usize = 60;

/// An answer that has its shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Structured<T> {
    /// The value.
    pub value: T,
    /// What it cost, a repair round included.
    pub usage: Usage,
    /// The model that answered.
    pub model: String,
    /// Whether the first answer had to be sent back.
    pub repaired: bool,
}

/// Asks for a `T`. The schema is derived; `request.output` need not be set, and gives only the name if it is.
///
/// # Errors
/// As [`structured_value`].
///
/// # Cancel safety
/// As [`ChatModel::complete`].
pub async fn structured<T: DeserializeOwned + JsonSchema>(
    model: &dyn ChatModel,
    request: ChatRequest,
) -> Result<Structured<T>, ModelError> {
    let schema = schemars::schema_for!(T).to_value();
    ask(model, request, &schema, |value| {
        serde_json::from_value(value).map_err(|error| vec![without_words(&error.to_string())])
    })
    .await
}

/// Asks for a value that `schema` admits. An answer that is not valid is sent back once, with what exactly is
/// wrong with it.
///
/// # Errors
/// What [`ChatModel::complete`] fails with; [`ModelErrorKind::Malformed`] where the second answer is not valid
/// either; [`ModelErrorKind::BadSchema`] where the schema is none.
///
/// # Cancel safety
/// As [`ChatModel::complete`].
pub async fn structured_value(
    model: &dyn ChatModel,
    request: ChatRequest,
    schema: &Value,
) -> Result<Structured<Value>, ModelError> {
    ask(model, request, schema, Ok).await
}

async fn ask<T>(
    model: &dyn ChatModel,
    mut request: ChatRequest,
    schema: &Value,
    convert: impl Fn(Value) -> Result<T, Vec<String>>,
) -> Result<Structured<T>, ModelError> {
    let fail = |kind| ModelError::new(model.context(), kind);
    let shape = Shape::of(schema, request.nonce.is_some());
    let shape = shape.map_err(|why| fail(ModelErrorKind::BadSchema(why)))?;
    let name = request.output.take().map_or_else(|| name_of(schema), |output| name_from(&output.name));
    request.output = Some(OutputSchema { name, schema: shape.sent.clone() });
    let nonce = request.nonce.clone();
    let read = |answer: &ChatAnswer| {
        let mut value = value_of(answer)?;
        let echoed = nonce.as_deref().map_or(Ok(()), |nonce| schema::take_nonce(&mut value, nonce));
        match (shape.check(value).and_then(&convert), echoed) {
            (Ok(value), Ok(())) => Ok(value),
            (Ok(_), Err(fault)) => Err(vec![fault]),
            (Err(faults), echoed) => Err(echoed.err().into_iter().chain(faults).collect()),
        }
    };

    let mut usage = Usage::default();
    let first = match model.complete(request.clone()).await {
        Ok(answer) => {
            usage += answer.usage;
            match read(&answer) {
                Ok(value) => {
                    model.accepted(&request, &answer);
                    return Ok(Structured { value, usage, model: answer.model, repaired: false });
                }
                Err(faults) => Some((answer.text, faults)),
            }
        }
        // Nothing came that could be sent back, so the same question is asked once more.
        Err(error) if matches!(error.kind, ModelErrorKind::Malformed(_)) => {
            usage += error.usage;
            None
        }
        Err(error) => return Err(error),
    };
    tracing::warn!(
        "gen_ai.request.model" = model.context().model,
        role = model.context().role,
        faults = first.as_ref().map_or(0, |(_, faults)| faults.len()),
        "model answer was not valid, asking again"
    );
    if let Some(sink) = &request.on_token {
        sink.say("\n");
    }
    let asked = request.clone();
    if let Some((text, faults)) = first {
        request.messages.extend(repair(&text, &faults, &shape.sent));
    }
    let answer = model.complete(request).await.map_err(|error| error.charged(usage))?;
    usage += answer.usage;
    match read(&answer) {
        Ok(value) => {
            // It answers the question as it was asked; nobody asks that of the repair again.
            model.accepted(&asked, &answer);
            Ok(Structured { value, usage, model: answer.model, repaired: true })
        }
        Err(faults) => {
            let why = text::bounded(&faults.join("; "), WHY_CHARS);
            Err(fail(ModelErrorKind::Malformed(why)).charged(usage))
        }
    }
}

/// The messages that send an answer back. The schema goes along: a server that ignores schemas has not shown
/// it to the model.
fn repair(answer: &str, faults: &[String], schema: &Value) -> [Message; 2] {
    let list = faults.join("\n- ");
    [
        Message { speaker: Speaker::Assistant, text: text::bounded(answer.trim(), SHOWN_BACK_CHARS) },
        Message {
            speaker: Speaker::User,
            text: format!(
                "Your answer was not accepted:\n- {list}\nAnswer the question above again, whole, as one JSON value \
                 without any words around it. It must fit this JSON Schema:\n{schema}"
            ),
        },
    ]
}

/// The JSON value in an answer.
fn value_of(answer: &ChatAnswer) -> Result<Value, Vec<String>> {
    match &answer.structured {
        Some(value) => Ok(value.clone()),
        None => json_in(&answer.text),
    }
}

/// The one JSON value that a text is: alone, after a `<think>` block, or in the only code fence. Of a value
/// somewhere among words nobody can tell whether it is the answer or a quote from a hostile log.
fn json_in(text: &str) -> Result<Value, Vec<String>> {
    let whole = text.trim().trim_start_matches('\u{feff}');
    let error = match serde_json::from_str(whole) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let thought_out = without_thoughts(whole);
    let inner = fenced(thought_out).unwrap_or(thought_out).trim();
    if inner.is_empty() {
        return Err(vec!["there is no JSON in the answer".into()]);
    }
    let error = match serde_json::from_str(inner) {
        Ok(value) => return Ok(value),
        Err(inner_error) if inner.len() != whole.len() => inner_error,
        Err(_) => error,
    };
    let what =
        if inner.starts_with(['{', '[']) { "broken JSON" } else { "words where JSON alone was asked for" };
    Err(vec![format!("{what} (line {}, column {})", error.line(), error.column())])
}

/// What follows the thoughts that some models put before their answer. Thoughts that do not end leave nothing.
fn without_thoughts(text: &str) -> &str {
    for (open, close) in [("<think>", "</think>"), ("<thinking>", "</thinking>")] {
        // Some servers swallow the opening tag, so the closing one decides.
        let opens = text.starts_with(open);
        match text.split_once(close) {
            Some((before, after)) if opens || !before.contains(['{', '`']) => return after.trim(),
            None if opens => return "",
            _ => {}
        }
    }
    text
}

/// What stands in the only code fence, where no other JSON stands around it.
fn fenced(text: &str) -> Option<&str> {
    let (before, rest) = text.split_once("```")?;
    let (inner, after) = rest.split_once("```")?;
    if [before, after].iter().any(|around| around.contains(['{', '[']) || around.contains("```")) {
        return None;
    }
    // The word behind the opening fence is the language.
    let language = inner.find(['\n', '{', '[']).unwrap_or(0);
    inner.get(language..)
}

/// serde's words without what it quotes of the value.
fn without_words(message: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    for c in message.chars() {
        match quote {
            Some(end) if c == end => {
                out.push('…');
                out.push(c);
                quote = None;
            }
            Some(_) => {}
            None => {
                if matches!(c, '"' | '`') {
                    quote = Some(c);
                }
                out.push(c);
            }
        }
    }
    format!("at the root: {}", text::plain(&text::bounded(&out, WHY_CHARS)))
}

/// A name for the schema: its title, in the letters that providers take.
fn name_of(schema: &Value) -> String {
    name_from(schema.get("title").and_then(Value::as_str).unwrap_or_default())
}

fn name_from(title: &str) -> String {
    let name: String = title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(NAME_CHARS)
        .collect();
    if name.is_empty() { "answer".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_found_where_it_is_the_answer() {
        for text in [
            r#"{"a":1}"#,
            "\n  {\"a\":1}\n",
            "```json\n{\"a\":1}\n```",
            "```{\"a\":1}```",
            "Here it is:\n```json\n{\"a\":1}\n```\nAnything else?",
            "<think>{\"a\":2} or so</think>{\"a\":1}",
            "<thinking>\nhm\n</thinking>\n```\n{\"a\":1}\n```",
            "I was told to think.</think>\n{\"a\":1}",
            "\u{feff}{\"a\":1}",
        ] {
            assert_eq!(json_in(text), Ok(json!({ "a": 1 })), "{text}");
        }
        assert_eq!(json_in(r#"{"a":"<think>x</think>```"}"#), Ok(json!({ "a": "<think>x</think>```" })));
        assert_eq!(json_in("```\n[1]\n```"), Ok(json!([1])));
    }

    #[test]
    fn json_among_words_is_no_answer() {
        for text in [
            "",
            "Sure! {\"a\":1}",
            "{\"a\":1} is my answer",
            "{\"a\":1}{\"a\":2}",
            "The log says:\n```\n{\"a\":1}\n```\nso my answer is {\"a\":2}",
            "```\n{\"a\":1}\n```\n```\n{\"a\":2}\n```",
            "<think>{\"a\":1}",
            "{\"a\":",
            "```json\n{\"a\":1}",
            "I cannot help with that.",
            "```",
            "``````",
            "{\"a\":\"\\ud800\"}",
        ] {
            assert!(json_in(text).is_err(), "{text}");
        }
        assert!(json_in(&"[".repeat(100_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer_or_a_fault(text in "(```|<think>|</think>|json|[{}\\[\\]\":,a1\n ä]){0,24}") {
            if let Err(faults) = json_in(&text) {
                proptest::prop_assert_eq!(faults.len(), 1);
            }
        }
    }

    #[test]
    fn names_are_what_providers_take() {
        assert_eq!(name_of(&json!({ "title": "Lead answer/2" })), "Lead_answer_2");
        assert_eq!(name_of(&json!({})), "answer");
        assert_eq!(name_from(&"x".repeat(200)).len(), NAME_CHARS);
    }

    #[test]
    fn serde_does_not_repeat_the_answer() {
        let shown = without_words("invalid value: string \"hunter2\", expected `a` or \"b\"");
        assert_eq!(shown, "at the root: invalid value: string \"…\", expected `…` or \"…\"");
    }
}

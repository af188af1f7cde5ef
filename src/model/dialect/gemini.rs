//! The generateContent dialect of Google's Gemini.
//!
//! Source: Gemini API reference, "Generating content": `GenerateContentRequest`, `GenerateContentResponse`, `FinishReason`;
//! guide "Structured output".

use reqwest::Url;
use serde_json::{Map, Value, json};

use super::Asked;
use crate::model::chat::{ChatAnswer, ChatRequest, Finish, Speaker, Usage, number};
use crate::model::error::ModelErrorKind;
use crate::model::http;
use crate::model::table::OutputMode;

/// The address of a model below `base`; the version's part is added where there is no path.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn endpoint(base: &str, model: &str, streams: bool) -> Result<Url, String> {
    let call = if streams { "streamGenerateContent" } else { "generateContent" };
    let model = model.strip_prefix("models/").unwrap_or(model);
    let call = format!("{model}:{call}");
    let mut url = http::endpoint(base, &["v1beta"], &["models", &call], http::Version::IfNoPath)?;
    if streams {
        url.query_pairs_mut().append_pair("alt", "sse");
    }
    Ok(url)
}

/// The body of a request.
pub(super) fn body(asked: &Asked<'_>, request: &ChatRequest) -> Value {
    let contents: Vec<Value> = request
        .messages
        .iter()
        .map(|message| {
            let role = match message.speaker {
                Speaker::User => "user",
                Speaker::Assistant => "model",
            };
            json!({ "role": role, "parts": [{ "text": message.text }] })
        })
        .collect();
    let mut generation = Map::from_iter([("maxOutputTokens".to_owned(), json!(asked.max_tokens))]);
    if let Some(temperature) = request.temperature {
        generation.insert("temperature".into(), number(temperature));
    }
    let mut body = Map::from_iter([("contents".to_owned(), Value::Array(contents))]);
    let system = asked.system(request);
    if !system.is_empty() {
        body.insert("systemInstruction".into(), json!({ "parts": [{ "text": system }] }));
    }
    if let Some(output) = &request.output {
        match asked.mode {
            OutputMode::Schema => {
                generation.insert("responseMimeType".into(), json!("application/json"));
                generation.insert("responseJsonSchema".into(), output.schema.clone());
            }
            OutputMode::Json => {
                generation.insert("responseMimeType".into(), json!("application/json"));
            }
            OutputMode::Tool => {
                let function = json!({
                    "name": output.name,
                    "description": "Gives the answer.",
                    "parametersJsonSchema": output.schema,
                });
                body.insert("tools".into(), json!([{ "functionDeclarations": [function] }]));
                let mode = json!({ "mode": "ANY", "allowedFunctionNames": [output.name] });
                body.insert("toolConfig".into(), json!({ "functionCallingConfig": mode }));
            }
            OutputMode::Prompt => {}
        }
    }
    for name in &asked.manner.omit {
        generation.remove(name);
    }
    body.insert("generationConfig".into(), Value::Object(generation));
    asked.finish(&mut body);
    Value::Object(body)
}

/// A response put together from the events of a stream, each of which is a response with a piece of the text.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    whole: Map<String, Value>,
    parts: Vec<Value>,
    finish: Option<Value>,
    begun: bool,
    len: usize,
}

impl Pieces {
    /// Takes an event.
    pub(super) fn take(&mut self, event: &Value, say: &mut dyn FnMut(&str)) {
        for name in ["modelVersion", "usageMetadata", "promptFeedback"] {
            if let Some(value) = event.get(name) {
                self.whole.insert(name.to_owned(), value.clone());
            }
        }
        let Some(candidate) = event.pointer("/candidates/0") else { return };
        self.begun = true;
        for part in candidate.pointer("/content/parts").and_then(Value::as_array).into_iter().flatten() {
            let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
            self.len += text.len().max(1);
            if !is_thought(part) {
                say(text);
            }
            self.parts.push(part.clone());
        }
        if let Some(finish) = candidate.get("finishReason").filter(|finish| !finish.is_null()) {
            self.finish = Some(finish.clone());
        }
    }

    /// Bytes of text so far.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether the model said that it is done.
    pub(super) fn is_whole(&self) -> bool {
        self.finish.is_some() || self.whole.get("promptFeedback").is_some_and(is_blocked)
    }

    /// Whether it has come to its end and said what it cost, so that nothing more is to come.
    pub(super) fn is_counted(&self) -> bool {
        self.is_whole() && self.whole.contains_key("usageMetadata")
    }

    /// The response.
    pub(super) fn body(self) -> Value {
        let mut body = self.whole;
        if self.begun {
            let candidate = json!({ "content": { "parts": self.parts }, "finishReason": self.finish });
            body.insert("candidates".into(), json!([candidate]));
        }
        Value::Object(body)
    }
}

fn is_thought(part: &Value) -> bool {
    part.get("thought").and_then(Value::as_bool).unwrap_or(false)
}

fn is_blocked(feedback: &Value) -> bool {
    feedback.get("blockReason").is_some_and(Value::is_string)
}

/// The answer in a response, or why there is none.
pub(super) fn answer(asked: &Asked<'_>, body: &Value) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
    let count = |name: &str| {
        body.get("usageMetadata").and_then(|usage| usage.get(name)).and_then(Value::as_u64).unwrap_or(0)
    };
    let usage = Usage {
        input_tokens: count("promptTokenCount").saturating_add(count("toolUsePromptTokenCount")),
        cached_input_tokens: count("cachedContentTokenCount"),
        output_tokens: count("candidatesTokenCount").saturating_add(count("thoughtsTokenCount")),
        micro_usd: 0,
    };
    (read(asked, body, usage), usage)
}

fn read(asked: &Asked<'_>, body: &Value, usage: Usage) -> Result<ChatAnswer, ModelErrorKind> {
    if let Some(reason) = body.pointer("/promptFeedback/blockReason").and_then(Value::as_str) {
        return Err(ModelErrorKind::Refused(asked.said(&format!("the question was blocked: {reason}"))));
    }
    let Some(candidate) = body.pointer("/candidates/0").filter(|candidate| candidate.is_object()) else {
        return Err(ModelErrorKind::Malformed("the response holds no candidate".into()));
    };
    let finish = match candidate.get("finishReason").and_then(Value::as_str) {
        Some("MAX_TOKENS" | "CONTINUATION") => {
            return Err(ModelErrorKind::Truncated { max_tokens: asked.max_tokens });
        }
        Some(
            reason @ ("SAFETY" | "RECITATION" | "PROHIBITED_CONTENT" | "BLOCKLIST" | "SPII" | "LANGUAGE"
            | "IMAGE_SAFETY" | "ESCALATION"),
        ) => {
            return Err(ModelErrorKind::Refused(format!("the provider stopped it: {reason}")));
        }
        Some(reason @ ("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL")) => {
            return Err(ModelErrorKind::Malformed(format!("the model's call of a tool is broken: {reason}")));
        }
        Some("STOP") | None => Finish::Stop,
        Some(other) => Finish::Other(asked.said(other)),
    };
    let parts = candidate.pointer("/content/parts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let structured = parts
        .iter()
        .filter_map(|part| part.get("functionCall"))
        .find(|call| asked.output.is_some_and(|name| call.get("name").and_then(Value::as_str) == Some(name)))
        .and_then(|call| call.get("args").cloned());
    let text: String = parts
        .iter()
        .filter(|part| !is_thought(part))
        .filter_map(|part| part.get("text").and_then(Value::as_str))
        .collect();
    let text = structured.as_ref().map_or(text, Value::to_string);
    if text.trim().is_empty() {
        return Err(ModelErrorKind::Malformed("the answer is empty".into()));
    }
    let finish = if structured.is_some() { Finish::Tool } else { finish };
    Ok(ChatAnswer { text, structured, usage, finish, model: asked.answered_by(body.get("modelVersion")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::table::Manner;

    fn read(response: &Value) -> Result<ChatAnswer, ModelErrorKind> {
        answer(&Asked::of(&Manner::default(), Some("verdict")), response).0
    }

    #[test]
    fn thoughts_are_paid_for_and_no_answer() {
        let parts = json!([{ "text": "hm", "thought": true }, { "text": "{\"a\":" }, { "text": "1}" }]);
        let response = json!({
            "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 30,
                "cachedContentTokenCount": 4 },
            "modelVersion": "gemini-x",
        });
        let answer = read(&response).unwrap();
        assert_eq!((answer.text.as_str(), answer.model.as_str()), ("{\"a\":1}", "gemini-x"));
        let usage = Usage { input_tokens: 5, cached_input_tokens: 4, output_tokens: 32, micro_usd: 0 };
        assert_eq!(answer.usage, usage);
    }

    #[test]
    fn what_was_stopped_is_no_answer() {
        let stopped = |reason: &str| json!({ "candidates": [{ "content": { "parts": [{ "text": "{}" }] }, "finishReason": reason }] });
        assert_eq!(read(&stopped("MAX_TOKENS")), Err(ModelErrorKind::Truncated { max_tokens: 9 }));
        for reason in ["SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII"] {
            assert!(matches!(read(&stopped(reason)), Err(ModelErrorKind::Refused(_))), "{reason}");
        }
        let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
        assert!(matches!(read(&blocked), Err(ModelErrorKind::Refused(_))));
        assert!(matches!(read(&json!({})), Err(ModelErrorKind::Malformed(_))));
    }

    #[test]
    fn the_answer_may_be_the_call_of_our_tool() {
        let parts = json!([{ "functionCall": { "name": "other", "args": {} } },
            { "functionCall": { "name": "verdict", "args": { "a": 1 } } }]);
        let response = json!({ "candidates": [{ "content": { "parts": parts }, "finishReason": "STOP" }] });
        let answer = read(&response).unwrap();
        assert_eq!((answer.structured, answer.finish), (Some(json!({ "a": 1 })), Finish::Tool));
    }
}

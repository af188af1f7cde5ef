//! The chat-completions dialect: OpenAI, and everyone who answers like it.
//!
//! Source: OpenAI API reference, "Create chat completion"; guide "Structured model outputs".

use serde_json::{Map, Value, json};

use super::Asked;
use crate::model::chat::{ChatAnswer, ChatRequest, Finish, Usage, number};
use crate::model::error::ModelErrorKind;
use crate::model::schema;
use crate::model::table::OutputMode;

/// The body of a request.
pub(super) fn body(asked: &Asked<'_>, request: &ChatRequest) -> Value {
    let mut messages = Vec::new();
    let system = asked.system(request);
    if !system.is_empty() {
        messages.push(json!({ "role": "system", "content": system }));
    }
    for message in &request.messages {
        messages.push(json!({ "role": message.speaker.as_str(), "content": message.text }));
    }
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(asked.model)),
        ("messages".to_owned(), Value::Array(messages)),
        (asked.limit().to_owned(), json!(asked.max_tokens)),
    ]);
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), number(temperature));
    }
    if let Some(output) = &request.output {
        let strict = if asked.manner.strict { schema::strict(&output.schema) } else { None };
        match asked.mode {
            OutputMode::Schema => {
                let mut shape = json!({ "name": output.name, "schema": output.schema });
                if let Some(shape) = shape.as_object_mut().filter(|_| asked.manner.strict) {
                    shape.insert("strict".into(), json!(strict.is_some()));
                    shape.extend(strict.map(|strict| ("schema".to_owned(), strict)));
                }
                body.insert("response_format".into(), json!({ "type": "json_schema", "json_schema": shape }));
            }
            OutputMode::Tool => {
                let tool = super::answer_tool(&output.name, &output.schema, strict);
                body.insert("tools".into(), json!([tool]));
                let choice = json!({ "type": "function", "function": { "name": output.name } });
                body.insert("tool_choice".into(), choice);
            }
            OutputMode::Json => {
                body.insert("response_format".into(), json!({ "type": "json_object" }));
            }
            OutputMode::Prompt => {}
        }
    }
    if asked.streams {
        body.insert("stream".into(), json!(true));
        if asked.manner.stream_usage {
            body.insert("stream_options".into(), json!({ "include_usage": true }));
        }
    }
    asked.finish(&mut body);
    Value::Object(body)
}

/// A response put together from the events of a stream, as if it had come whole.
///
/// Source: OpenAI API reference, "Chat completion chunk object".
#[derive(Debug, Default)]
pub(super) struct Pieces {
    begun: bool,
    model: Option<Value>,
    content: String,
    /// Content that is no text.
    odd: Option<Value>,
    refusal: String,
    /// Input of the tool that carries the answer.
    input: String,
    finish: Option<Value>,
    usage: Option<Value>,
}

impl Pieces {
    /// Takes an event. `tool` is the tool whose input is the answer, if the model was given one.
    pub(super) fn take(&mut self, event: &Value, tool: Option<&str>, say: &mut dyn FnMut(&str)) {
        let given = |name: &str| event.get(name).filter(|value| !value.is_null()).cloned();
        self.model = given("model").or_else(|| self.model.take());
        self.usage = given("usage").or_else(|| self.usage.take());
        let choices = event.get("choices").and_then(Value::as_array).into_iter().flatten();
        for choice in choices.filter(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0) {
            self.begun = true;
            if let Some(finish) = choice.get("finish_reason").filter(|finish| !finish.is_null()) {
                self.finish = Some(finish.clone());
            }
            let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) else { continue };
            self.refusal.push_str(delta.get("refusal").and_then(Value::as_str).unwrap_or_default());
            // Only the first call can be the answer; there is one tool.
            let calls = delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
            for call in calls.filter(|call| call.get("index").and_then(Value::as_u64).unwrap_or(0) == 0) {
                let piece = call.pointer("/function/arguments").and_then(Value::as_str).unwrap_or_default();
                self.input.push_str(piece);
                if tool.is_some() {
                    say(piece);
                }
            }
            match delta.get("content") {
                Some(Value::String(text)) => self.text(text, say),
                Some(Value::Array(parts)) => {
                    for part in parts {
                        self.refusal
                            .push_str(part.get("refusal").and_then(Value::as_str).unwrap_or_default());
                        self.text(part.get("text").and_then(Value::as_str).unwrap_or_default(), say);
                    }
                }
                Some(Value::Null) | None => {}
                Some(other) => self.odd = Some(other.clone()),
            }
        }
    }

    fn text(&mut self, text: &str, say: &mut dyn FnMut(&str)) {
        self.content.push_str(text);
        say(text);
    }

    /// Bytes of text so far.
    pub(super) fn len(&self) -> usize {
        self.content.len() + self.refusal.len() + self.input.len()
    }

    /// Whether the model said that it is done.
    pub(super) const fn is_whole(&self) -> bool {
        self.finish.is_some()
    }

    /// The response.
    pub(super) fn body(self, tool: Option<&str>) -> Value {
        let mut body = Map::new();
        if self.begun {
            let text = Some(self.content).filter(|text| !text.is_empty());
            let content = self.odd.or(text.map(Value::String));
            let mut message = json!({ "content": content, "refusal": self.refusal });
            if let (Some(tool), Some(message), false) = (tool, message.as_object_mut(), self.input.is_empty())
            {
                let call = json!([{ "function": { "name": tool, "arguments": self.input } }]);
                message.insert("tool_calls".into(), call);
            }
            body.insert("choices".into(), json!([{ "message": message, "finish_reason": self.finish }]));
        }
        body.extend(self.model.map(|model| ("model".to_owned(), model)));
        body.extend(self.usage.map(|usage| ("usage".to_owned(), usage)));
        Value::Object(body)
    }
}

/// The answer in a response, or why there is none.
pub(super) fn answer(asked: &Asked<'_>, body: &Value) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
    let count = |pointer: &str| body.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let usage = Usage {
        input_tokens: count("/usage/prompt_tokens"),
        cached_input_tokens: count("/usage/prompt_tokens_details/cached_tokens"),
        output_tokens: count("/usage/completion_tokens"),
        micro_usd: 0,
    };
    (read(asked, body, usage), usage)
}

fn read(asked: &Asked<'_>, body: &Value, usage: Usage) -> Result<ChatAnswer, ModelErrorKind> {
    let Some(message) = body.pointer("/choices/0/message").filter(|message| message.is_object()) else {
        return Err(ModelErrorKind::Malformed("the response holds no message".into()));
    };
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str).filter(|text| !text.is_empty()) {
        return Err(ModelErrorKind::Refused(asked.said(refusal)));
    }
    let finish = match body.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
        Some("content_filter") => {
            return Err(ModelErrorKind::Refused("the provider's content filter stopped it".into()));
        }
        Some("length") => return Err(ModelErrorKind::Truncated { max_tokens: asked.max_tokens }),
        Some("stop") | None => Finish::Stop,
        Some("tool_calls" | "function_call") => Finish::Tool,
        Some(other) => Finish::Other(asked.said(other)),
    };
    let text = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for part in parts {
                if let Some(refusal) = part.get("refusal").and_then(Value::as_str) {
                    return Err(ModelErrorKind::Refused(asked.said(refusal)));
                }
                text.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default());
            }
            text
        }
        Some(Value::Null) | None => String::new(),
        Some(_) => return Err(ModelErrorKind::Malformed("the message's content is no text".into())),
    };
    let call = message.pointer("/tool_calls/0/function").filter(|call| {
        asked.output.is_some_and(|name| call.get("name").and_then(Value::as_str) == Some(name))
    });
    // Some servers give the input as JSON, most as JSON text.
    let input = call.and_then(|call| call.get("arguments"));
    let text = match input {
        Some(Value::String(input)) => input.clone(),
        Some(input) => input.to_string(),
        None => text,
    };
    let structured = input.and_then(|_| serde_json::from_str(&text).ok());
    if text.trim().is_empty() {
        return Err(ModelErrorKind::Malformed("the answer is empty".into()));
    }
    Ok(ChatAnswer { text, structured, usage, finish, model: asked.answered_by(body.get("model")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OutputSchema;
    use crate::model::table::Manner;

    fn schema_manner() -> Manner {
        Manner { output: OutputMode::Schema, strict: true, ..Manner::default() }
    }

    #[test]
    fn what_a_model_does_not_take_is_not_sent() {
        let mut request = ChatRequest::new("", "hi");
        request.temperature = Some(0.2);
        let manner = Manner {
            omit: vec!["temperature".into()],
            extra: Map::from_iter([("thinking".to_owned(), json!({ "type": "disabled" }))]),
            ..Manner::default()
        };
        let sent = body(&Asked::of(&manner, None), &request);
        assert_eq!(sent.get("temperature"), None);
        assert_eq!((&sent["thinking"]["type"], &sent["max_tokens"]), (&json!("disabled"), &json!(9)));
    }

    #[test]
    fn a_shape_is_asked_for_in_the_way_that_the_model_takes() {
        let mut request = ChatRequest::new("Be strict.", "hi");
        let schema =
            json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] });
        request.output = Some(OutputSchema { name: "verdict".into(), schema });
        let sent =
            |output| body(&Asked::of(&Manner { output, ..Manner::default() }, Some("verdict")), &request);
        assert_eq!(sent(OutputMode::Tool)["tool_choice"]["function"]["name"], "verdict");
        assert_eq!(sent(OutputMode::Json)["response_format"]["type"], "json_object");
        let prompt = sent(OutputMode::Prompt);
        assert_eq!(prompt.get("response_format"), None);
        let system = prompt["messages"][0]["content"].as_str().unwrap();
        assert!(
            system.starts_with("Be strict.\n\nAnswer with one JSON value") && system.ends_with('}'),
            "{system}"
        );
    }

    #[test]
    fn the_answer_may_be_the_input_of_our_tool() {
        let call = json!([{ "function": { "name": "verdict", "arguments": "{\"a\":1}" } }]);
        let message = json!({ "content": null, "tool_calls": call });
        let response = json!({ "choices": [{ "message": message, "finish_reason": "tool_calls" }] });
        let manner = Manner::default();
        let answer = super::answer(&Asked::of(&manner, Some("verdict")), &response).0.unwrap();
        assert_eq!((answer.structured, answer.finish), (Some(json!({ "a": 1 })), Finish::Tool));
        assert!(super::answer(&Asked::of(&manner, Some("other")), &response).0.is_err());
    }

    #[test]
    fn a_shape_that_strict_cannot_say_goes_as_it_is() {
        let mut request = ChatRequest::new("", "hi");
        let schema = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        request.output = Some(OutputSchema { name: "map".into(), schema: schema.clone() });
        let format =
            &body(&Asked::of(&schema_manner(), Some("map")), &request)["response_format"]["json_schema"];
        assert_eq!(*format, json!({ "name": "map", "strict": false, "schema": schema }));
    }

    #[test]
    fn a_refusal_among_parts_is_a_refusal() {
        let parts = json!([{ "type": "text", "text": "{}" }, { "type": "refusal", "refusal": "no" }]);
        let response = json!({ "choices": [{ "message": { "content": parts }, "finish_reason": "stop" }] });
        let (answer, _) = answer(&Asked::of(&Manner::default(), None), &response);
        assert_eq!(answer, Err(ModelErrorKind::Refused("no".into())));
        let filtered =
            json!({ "choices": [{ "message": { "content": "x" }, "finish_reason": "content_filter" }] });
        assert!(matches!(
            super::answer(&Asked::of(&Manner::default(), None), &filtered).0,
            Err(ModelErrorKind::Refused(_))
        ));
    }
}

//! The chat-completions dialect: OpenAI, and everyone who answers like it.
//!
//! Source: OpenAI API reference, "Create chat completion"; guide "Structured model outputs".

use serde_json::{Map, Value, json};

use super::chat::{ChatAnswer, ChatRequest, Finish, Usage};
use super::client::Asked;
use super::error::ModelErrorKind;
use super::schema;

/// The body of a request.
pub(super) fn body(asked: &Asked<'_>, request: &ChatRequest) -> Value {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    for message in &request.messages {
        messages.push(json!({ "role": message.speaker.as_str(), "content": message.text }));
    }
    // OpenAI's reasoning models reject `max_tokens`; older servers that answer like it know nothing else.
    let limit = if asked.host == "api.openai.com" { "max_completion_tokens" } else { "max_tokens" };
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(asked.model)),
        ("messages".to_owned(), Value::Array(messages)),
        (limit.to_owned(), json!(asked.max_tokens)),
    ]);
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), super::chat::number(temperature));
    }
    if let Some(output) = &request.output {
        let strict = schema::strict(&output.schema);
        body.insert(
            "response_format".into(),
            json!({
                "type": "json_schema",
                "json_schema": {
                    "name": output.name,
                    "strict": strict.is_some(),
                    "schema": strict.unwrap_or_else(|| output.schema.clone()),
                },
            }),
        );
    }
    if request.on_token.is_some() {
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
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
    finish: Option<Value>,
    usage: Option<Value>,
}

impl Pieces {
    /// Takes an event.
    pub(super) fn take(&mut self, event: &Value, say: &mut dyn FnMut(&str)) {
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
        self.content.len() + self.refusal.len()
    }

    /// Whether the model said that it is done.
    pub(super) const fn is_whole(&self) -> bool {
        self.finish.is_some()
    }

    /// The response.
    pub(super) fn body(self) -> Value {
        let mut body = Map::new();
        if self.begun {
            let text = Some(self.content).filter(|text| !text.is_empty());
            let content = self.odd.or(text.map(Value::String));
            let message = json!({ "content": content, "refusal": self.refusal });
            body.insert("choices".into(), json!([{ "message": message, "finish_reason": self.finish }]));
        }
        body.extend(self.model.map(|model| ("model".to_owned(), model)));
        body.extend(self.usage.map(|usage| ("usage".to_owned(), usage)));
        Value::Object(body)
    }
}

/// The answer in a response, or why there is none.
pub(super) fn answer(asked: &Asked<'_>, body: &Value) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
    let usage = Usage {
        input_tokens: body.pointer("/usage/prompt_tokens").and_then(Value::as_u64).unwrap_or(0),
        output_tokens: body.pointer("/usage/completion_tokens").and_then(Value::as_u64).unwrap_or(0),
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
    if text.trim().is_empty() {
        return Err(ModelErrorKind::Malformed("the answer is empty".into()));
    }
    Ok(ChatAnswer { text, structured: None, usage, finish, model: asked.answered_by(body) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OutputSchema;

    #[test]
    fn the_limit_of_tokens_has_the_name_that_the_host_takes() {
        let request = ChatRequest::new("", "hi");
        let at = |host| body(&Asked::of(host, None), &request);
        assert_eq!(at("api.openai.com")["max_completion_tokens"], 9);
        assert_eq!(at("api.openai.com").get("max_tokens"), None);
        assert_eq!(at("localhost:11434")["max_tokens"], 9);
    }

    #[test]
    fn a_shape_that_strict_cannot_say_goes_as_it_is() {
        let mut request = ChatRequest::new("", "hi");
        let schema = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        request.output = Some(OutputSchema { name: "map".into(), schema: schema.clone() });
        let format = &body(&Asked::of("h", Some("map")), &request)["response_format"]["json_schema"];
        assert_eq!(*format, json!({ "name": "map", "strict": false, "schema": schema }));
    }

    #[test]
    fn a_refusal_among_parts_is_a_refusal() {
        let parts = json!([{ "type": "text", "text": "{}" }, { "type": "refusal", "refusal": "no" }]);
        let response = json!({ "choices": [{ "message": { "content": parts }, "finish_reason": "stop" }] });
        let (answer, _) = answer(&Asked::of("h", None), &response);
        assert_eq!(answer, Err(ModelErrorKind::Refused("no".into())));
        let filtered =
            json!({ "choices": [{ "message": { "content": "x" }, "finish_reason": "content_filter" }] });
        assert!(matches!(super::answer(&Asked::of("h", None), &filtered).0, Err(ModelErrorKind::Refused(_))));
    }
}

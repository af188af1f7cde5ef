//! The messages dialect of Anthropic. An answer of a given shape comes as the call of a tool that the model
//! is made to use.
//!
//! Source: Anthropic API reference, "Create a Message"; guide "Tool use", forcing tool use.

use serde_json::{Map, Value, json};

use super::chat::{ChatAnswer, ChatRequest, Finish, Usage};
use super::client::Asked;
use super::error::ModelErrorKind;

/// The version of the API that is spoken.
pub(super) const VERSION: &str = "2023-06-01";

/// The body of a request.
pub(super) fn body(asked: &Asked<'_>, request: &ChatRequest) -> Value {
    let messages: Vec<Value> = request
        .messages
        .iter()
        .map(|message| json!({ "role": message.speaker.as_str(), "content": message.text }))
        .collect();
    let mut body = Map::from_iter([
        ("model".to_owned(), json!(asked.model)),
        ("max_tokens".to_owned(), json!(asked.max_tokens)),
        ("messages".to_owned(), Value::Array(messages)),
    ]);
    if !request.system.is_empty() {
        body.insert("system".into(), json!(request.system));
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), super::chat::number(temperature));
    }
    if let Some(output) = &request.output {
        let tool = json!({
            "name": output.name,
            "description": "Gives the answer.",
            "input_schema": output.schema,
        });
        body.insert("tools".into(), json!([tool]));
        let choice = json!({ "type": "tool", "name": output.name, "disable_parallel_tool_use": true });
        body.insert("tool_choice".into(), choice);
    }
    Value::Object(body)
}

/// The answer in a response, or why there is none.
pub(super) fn answer(asked: &Asked<'_>, body: &Value) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
    let count = |name: &str| body.get("usage").and_then(|u| u.get(name)).and_then(Value::as_u64).unwrap_or(0);
    let usage = Usage {
        input_tokens: ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
            .into_iter()
            .fold(0, |sum, name| count(name).saturating_add(sum)),
        output_tokens: count("output_tokens"),
    };
    (read(asked, body, usage), usage)
}

fn read(asked: &Asked<'_>, body: &Value, usage: Usage) -> Result<ChatAnswer, ModelErrorKind> {
    let Some(blocks) = body.get("content").and_then(Value::as_array) else {
        return Err(ModelErrorKind::Malformed("the response holds no message".into()));
    };
    let text: String = blocks
        .iter()
        .filter(|block| block.get("type").and_then(Value::as_str) == Some("text"))
        .filter_map(|block| block.get("text").and_then(Value::as_str))
        .collect();
    let finish = match body.get("stop_reason").and_then(Value::as_str) {
        Some("refusal") => return Err(ModelErrorKind::Refused(asked.said(&text))),
        Some("max_tokens") => return Err(ModelErrorKind::Truncated { max_tokens: asked.max_tokens }),
        Some("model_context_window_exceeded") => {
            return Err(ModelErrorKind::TooLarge("the context window is full".into()));
        }
        Some("tool_use") => Finish::Tool,
        Some("end_turn" | "stop_sequence") | None => Finish::Stop,
        Some(other) => Finish::Other(asked.said(other)),
    };
    let structured = blocks
        .iter()
        .find(|block| {
            block.get("type").and_then(Value::as_str) == Some("tool_use")
                && asked.output.is_some_and(|name| block.get("name").and_then(Value::as_str) == Some(name))
        })
        .and_then(|block| block.get("input").cloned());
    let text = structured.as_ref().map_or(text, Value::to_string);
    if text.trim().is_empty() {
        return Err(ModelErrorKind::Malformed("the answer is empty".into()));
    }
    Ok(ChatAnswer { text, structured, usage, finish, model: asked.answered_by(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_call_of_our_own_tool() {
        let response = json!({
            "model": "claude-x",
            "content": [
                { "type": "thinking", "thinking": "hm" },
                { "type": "text", "text": "Let me see." },
                { "type": "tool_use", "id": "1", "name": "other", "input": { "a": 1 } },
                { "type": "tool_use", "id": "2", "name": "verdict", "input": { "a": 2 } },
            ],
            "stop_reason": "tool_use",
            "usage": { "input_tokens": 1, "cache_read_input_tokens": 10, "output_tokens": 3 },
        });
        let (answer, usage) = answer(&Asked::of("h", Some("verdict")), &response);
        let answer = answer.unwrap();
        assert_eq!(usage, Usage { input_tokens: 11, output_tokens: 3 });
        assert_eq!((answer.structured, answer.finish), (Some(json!({ "a": 2 })), Finish::Tool));
        assert_eq!(answer.text, r#"{"a":2}"#);
        assert_eq!(super::answer(&Asked::of("h", None), &response).0.unwrap().text, "Let me see.");
    }

    #[test]
    fn a_call_that_was_cut_off_is_no_answer() {
        let call = json!({ "type": "tool_use", "id": "1", "name": "verdict", "input": {} });
        let response = json!({ "content": [call], "stop_reason": "max_tokens" });
        let (answer, _) = answer(&Asked::of("h", Some("verdict")), &response);
        assert_eq!(answer, Err(ModelErrorKind::Truncated { max_tokens: 9 }));
    }
}

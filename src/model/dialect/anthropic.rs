//! The messages dialect of Anthropic. An answer of a given shape comes as the call of a tool that the model
//! is made to use.
//!
//! Source: Anthropic API reference, "Create a Message"; guide "Tool use", forcing tool use.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Asked;
use crate::model::chat::{ChatAnswer, ChatRequest, Finish, Usage};
use crate::model::error::ModelErrorKind;
use crate::model::schema;
use crate::model::table::OutputMode;

/// The version of the API that is spoken.
pub(in crate::model) const VERSION: &str = "2023-06-01";

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
    let system = asked.system(request);
    if !system.is_empty() {
        body.insert("system".into(), json!(system));
    }
    if let Some(temperature) = request.temperature {
        body.insert("temperature".into(), crate::model::chat::number(temperature));
    }
    let output = request.output.as_ref();
    if let Some(output) = output.filter(|_| asked.mode == OutputMode::Tool) {
        let tool = json!({
            "name": output.name,
            "description": "Gives the answer.",
            "input_schema": output.schema,
        });
        body.insert("tools".into(), json!([tool]));
        let choice = json!({ "type": "tool", "name": output.name, "disable_parallel_tool_use": true });
        body.insert("tool_choice".into(), choice);
    }
    if let Some(output) = output.filter(|_| asked.mode == OutputMode::Schema) {
        let schema = schema::closed(&output.schema).unwrap_or_else(|| output.schema.clone());
        body.insert("output_config".into(), json!({ "format": { "type": "json_schema", "schema": schema } }));
    }
    if asked.streams {
        body.insert("stream".into(), json!(true));
    }
    asked.finish(&mut body);
    Value::Object(body)
}

/// Most blocks of a streamed answer.
const MOST_BLOCKS: usize = 1_000;

/// A response put together from the events of a stream, as if it had come whole.
///
/// Source: Anthropic API reference, "Streaming Messages".
#[derive(Debug, Default)]
pub(super) struct Pieces {
    message: Map<String, Value>,
    blocks: BTreeMap<u64, Block>,
    is_whole: bool,
    len: usize,
}

/// A block of content: its beginning, and the text or JSON text that came after.
#[derive(Debug)]
struct Block {
    head: Map<String, Value>,
    text: String,
}

impl Pieces {
    /// Takes an event. `tool` is the tool whose input is the answer.
    ///
    /// # Errors
    /// `Malformed` where the events do not follow each other.
    pub(super) fn take(
        &mut self,
        event: &Value,
        tool: Option<&str>,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), ModelErrorKind> {
        let text_of = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let object = |name: &str| event.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let index = event.get("index").and_then(Value::as_u64).unwrap_or(0);
        match event.get("type").and_then(Value::as_str) {
            Some("message_start") => self.message = object("message"),
            Some("content_block_start") => {
                let head = object("content_block");
                let text = text_of(head.get("text"));
                say(&text);
                self.len += text.len();
                self.blocks.insert(index, Block { head, text });
                if self.blocks.len() > MOST_BLOCKS {
                    return Err(ModelErrorKind::Malformed("an answer of too many blocks".into()));
                }
            }
            Some("content_block_delta") => {
                let block = self.blocks.get_mut(&index).ok_or_else(|| {
                    ModelErrorKind::Malformed("a piece of a block that has not begun".into())
                })?;
                let delta = event.get("delta");
                let field = |name: &str| text_of(delta.and_then(|delta| delta.get(name)));
                let (piece, is_answer) =
                    match delta.and_then(|delta| delta.get("type")).and_then(Value::as_str) {
                        Some("text_delta") => (field("text"), true),
                        Some("input_json_delta") => {
                            let name = block.head.get("name").and_then(Value::as_str);
                            (field("partial_json"), tool.is_some() && name == tool)
                        }
                        _ => return Ok(()),
                    };
                block.text.push_str(&piece);
                self.len += piece.len();
                if is_answer {
                    say(&piece);
                }
            }
            Some("message_delta") => {
                self.message.extend(object("delta"));
                // What is counted here is counted from the beginning, so it takes the place of what was said then.
                let usage = self.message.entry("usage").or_insert_with(|| json!({}));
                if let Some(usage) = usage.as_object_mut() {
                    usage.extend(object("usage").into_iter().filter(|(_, count)| !count.is_null()));
                }
            }
            Some("message_stop") => self.is_whole = true,
            _ => {}
        }
        Ok(())
    }

    /// Bytes of text so far.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether the answer has come to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole || self.message.get("stop_reason").is_some_and(Value::is_string)
    }

    /// The response. A tool's input that was cut off is left out.
    pub(super) fn body(self) -> Value {
        let Self { mut message, blocks, .. } = self;
        if message.is_empty() && blocks.is_empty() {
            return json!({});
        }
        let content = blocks.into_values().map(|Block { mut head, text }| {
            if head.get("type").and_then(Value::as_str) == Some("text") {
                head.insert("text".into(), Value::String(text));
            } else if !text.is_empty() {
                match serde_json::from_str::<Value>(&text) {
                    Ok(input) => head.insert("input".into(), input),
                    Err(_) => head.remove("input"),
                };
            }
            Value::Object(head)
        });
        let content = content.collect();
        message.insert("content".into(), content);
        Value::Object(message)
    }
}

/// The answer in a response, or why there is none.
pub(super) fn answer(asked: &Asked<'_>, body: &Value) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
    let count = |name: &str| body.get("usage").and_then(|u| u.get(name)).and_then(Value::as_u64).unwrap_or(0);
    let usage = Usage {
        input_tokens: ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"]
            .into_iter()
            .fold(0, |sum, name| count(name).saturating_add(sum)),
        cached_input_tokens: count("cache_read_input_tokens"),
        output_tokens: count("output_tokens"),
        micro_usd: 0,
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
    Ok(ChatAnswer { text, structured, usage, finish, model: asked.answered_by(body.get("model")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::table::Manner;

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
        let (answer, usage) = answer(&Asked::of(&Manner::default(), Some("verdict")), &response);
        let answer = answer.unwrap();
        assert_eq!(
            usage,
            Usage { input_tokens: 11, cached_input_tokens: 10, output_tokens: 3, micro_usd: 0 }
        );
        assert_eq!((answer.structured, answer.finish), (Some(json!({ "a": 2 })), Finish::Tool));
        assert_eq!(answer.text, r#"{"a":2}"#);
        assert_eq!(
            super::answer(&Asked::of(&Manner::default(), None), &response).0.unwrap().text,
            "Let me see."
        );
    }

    #[test]
    fn a_call_that_was_cut_off_is_no_answer() {
        let call = json!({ "type": "tool_use", "id": "1", "name": "verdict", "input": {} });
        let response = json!({ "content": [call], "stop_reason": "max_tokens" });
        let (answer, _) = answer(&Asked::of(&Manner::default(), Some("verdict")), &response);
        assert_eq!(answer, Err(ModelErrorKind::Truncated { max_tokens: 9 }));
    }
}

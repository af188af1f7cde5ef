//! The wire dialects of the scripted model servers: answers as JSON, and the events a streamed answer is made of.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's own server: what fails here fails the test"
)]
#![allow(clippy::format_push_string, reason = "shorter, and no one waits for it")]
#![allow(dead_code, reason = "not every test binary speaks every dialect")]

use serde_json::{Value, json};

/// Which dialect a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    OpenAi,
    Anthropic,
    Gemini,
}

/// Events as they are sent; Anthropic names them.
pub(crate) fn as_events(events: Vec<Value>, named: bool, with_end: bool) -> Vec<u8> {
    let mut text = String::from(": welcome\n\n");
    for event in events {
        if named {
            text.push_str(&format!("event: {}\n", event["type"].as_str().unwrap()));
        }
        text.push_str(&format!("data: {event}\n\n"));
    }
    if with_end {
        text.push_str("data: [DONE]\n\n");
    }
    text.into_bytes()
}

/// A text in pieces of a few characters.
pub(crate) fn pieces(text: &Value) -> Vec<String> {
    let chars: Vec<char> = text.as_str().unwrap_or_default().chars().collect();
    chars.chunks(5).map(|piece| piece.iter().collect()).collect()
}

/// The events of a streamed answer, made of the answer.
///
/// Source: OpenAI API reference, "Chat completion chunk object".
pub(crate) fn openai_events(answer: &Value) -> Vec<Value> {
    let chunk = |choices: Value, usage: Value| {
        json!({ "id": answer["id"], "object": "chat.completion.chunk", "model": answer["model"], "choices": choices,
            "usage": usage })
    };
    let delta = |delta: Value, finish: Value| {
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish }]), Value::Null)
    };
    let choice = &answer["choices"][0];
    let message = &choice["message"];
    let mut events = vec![delta(json!({ "role": "assistant", "content": "" }), Value::Null)];
    let thought = pieces(&message["reasoning_content"]);
    events.extend(thought.into_iter().map(|piece| delta(json!({ "reasoning_content": piece }), Value::Null)));
    let parts = message["content"].as_array().cloned().unwrap_or_default();
    for text in std::iter::once(&message["content"]).chain(parts.iter().map(|part| &part["text"])) {
        events.extend(pieces(text).into_iter().map(|piece| delta(json!({ "content": piece }), Value::Null)));
    }
    let refusal = pieces(&message["refusal"]);
    events.extend(refusal.into_iter().map(|piece| delta(json!({ "refusal": piece }), Value::Null)));
    for (index, call) in message["tool_calls"].as_array().cloned().unwrap_or_default().into_iter().enumerate()
    {
        let name = &call["function"]["name"];
        let begin =
            json!([{ "index": index, "id": call["id"], "function": { "name": name, "arguments": "" } }]);
        events.push(delta(json!({ "tool_calls": begin }), Value::Null));
        for piece in pieces(&call["function"]["arguments"]) {
            let more = json!([{ "index": index, "function": { "arguments": piece } }]);
            events.push(delta(json!({ "tool_calls": more }), Value::Null));
        }
    }
    events.push(delta(json!({}), choice["finish_reason"].clone()));
    events.push(chunk(json!([]), answer["usage"].clone()));
    events
}

/// The events of a streamed answer, made of the answer.
///
/// Source: Anthropic API reference, "Streaming Messages".
pub(crate) fn anthropic_events(mut answer: Value) -> Vec<Value> {
    let content = answer["content"].take();
    let stop = answer["stop_reason"].take();
    let usage = answer["usage"].clone();
    answer["content"] = json!([]);
    answer["usage"]["output_tokens"] = json!(1);
    let mut events = vec![json!({ "type": "message_start", "message": answer }), json!({ "type": "ping" })];
    for (index, mut block) in content.as_array().cloned().unwrap_or_default().into_iter().enumerate() {
        let (field, kind, text) = match block["type"].as_str() {
            Some("tool_use") => {
                ("partial_json", "input_json_delta", block["input"].take().to_string().into())
            }
            Some("thinking") => ("thinking", "thinking_delta", block["thinking"].take()),
            _ => ("text", "text_delta", block["text"].take()),
        };
        match field {
            "partial_json" => block["input"] = json!({}),
            field => block[field] = json!(""),
        }
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        for piece in pieces(&text) {
            let delta = json!({ "type": kind, field: piece });
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
        if field == "thinking" {
            let signed = json!({ "type": "signature_delta", "signature": "c2ln" });
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": signed }));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let output = json!({ "output_tokens": usage["output_tokens"] });
    events.push(json!({ "type": "message_delta", "delta": { "stop_reason": stop }, "usage": output }));
    events.push(json!({ "type": "message_stop" }));
    events
}

/// The events of a streamed answer, made of the answer: each is a response with a piece of it.
///
/// Source: Gemini API reference, "streamGenerateContent".
pub(crate) fn gemini_events(answer: &Value) -> Vec<Value> {
    let candidate = &answer["candidates"][0];
    let mut events = Vec::new();
    for part in candidate["content"]["parts"].as_array().cloned().unwrap_or_default() {
        let parts = match part.get("text") {
            Some(text) => pieces(text).into_iter().map(|text| json!({ "text": text })).collect(),
            None => vec![part],
        };
        events.extend(
            parts.into_iter().map(|part| json!({ "candidates": [{ "content": { "parts": [part] } }] })),
        );
    }
    let mut last = answer.clone();
    last["candidates"] = json!([{ "content": { "parts": [] }, "finishReason": candidate["finishReason"] }]);
    events.push(last);
    events
}

/// An answer in one piece.
pub(crate) fn openai_response(message: &Value, finish: &str) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "scripted-1",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": { "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18 },
    })
}

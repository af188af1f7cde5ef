//! A session's messages, as they come live and as its history has them.

use serde_json::{Value, json};

use super::{Item, Observer, Place, When, bounded, object, text};
use crate::capture::runs::Runs;
use crate::openclaw::event;

/// Custom messages that hold a tool call within another one and its result. Source: transcripts of 2026.9.6.
const NESTED_TOOL: &str = "openclaw.nested-tool.v1";

impl Observer {
    /// Takes messages of a session's history: those that OpenClaw recorded at or after `since`.
    pub(in super::super) fn history(
        &mut self,
        session: &str,
        messages: &[Value],
        since: i64,
        now: i64,
        runs: &mut Runs,
        out: &mut Vec<Item>,
    ) {
        runs.session(session, 0);
        for message in messages {
            if recorded_at(message).is_none_or(|at| at >= since) {
                let id = message.pointer("/__openclaw/id").and_then(Value::as_str).unwrap_or_default();
                self.message(message, id, "", Place { session, agent: None, now }, runs, out);
            }
        }
    }

    pub(super) fn message(
        &mut self,
        message: &Value,
        id: &str,
        run: &str,
        place: Place<'_>,
        runs: &mut Runs,
        out: &mut Vec<Item>,
    ) {
        let inner = message.pointer("/__openclaw/runId").and_then(Value::as_str);
        let sent = message.get("timestamp").and_then(Value::as_i64);
        let at = recorded_at(message).or(sent).unwrap_or(place.now);
        let run = inner.filter(|run| !run.is_empty()).unwrap_or(run);
        runs.learn(run, place.session, place.agent);
        match text(message, "role") {
            "user" => {
                // Source: the run of a message is the idempotency key it was sent with.
                let key = message.get("idempotencyKey").and_then(Value::as_str);
                let run = key.and_then(|key| key.strip_suffix(":user")).unwrap_or(run);
                runs.learn(run, place.session, place.agent);
                let known = !run.is_empty()
                    || runs.sessions().get(place.session).is_some_and(|it| it.active_run.is_some());
                let body = object(json!({ "text": said(message.get("content")) }));
                let when = if known { When::Now } else { When::Later };
                out.push(place.item(
                    format!("msg:{id}"),
                    sent.unwrap_or(at),
                    run,
                    event::USER_MESSAGE,
                    body,
                    when,
                ));
            }
            "assistant" => self.assistant(message, id, run, at, place, out),
            "toolResult" => {
                let call = text(message, "toolCallId");
                let tool = text(message, "toolName");
                let ok = message.get("isError") != Some(&Value::Bool(true));
                self.result(run, call, "", tool, ok, message.get("content"), at, place, runs, out);
            }
            "custom" if text(message, "customType") == NESTED_TOOL => {
                for part in message.get("content").and_then(Value::as_array).into_iter().flatten() {
                    let run = part.get("runId").and_then(Value::as_str).unwrap_or(run);
                    let at = part.get("timestamp").and_then(Value::as_i64).unwrap_or(at);
                    let parent = text(part, "parentToolCallId");
                    if text(part, "type") == "toolCall" {
                        let call = text(part, "id");
                        self.call(
                            run,
                            call,
                            parent,
                            text(part, "name"),
                            part.get("arguments"),
                            at,
                            place,
                            out,
                        );
                    } else if part.get("toolCallId").is_some() {
                        let ok = part.get("isError") != Some(&Value::Bool(true));
                        let (call, tool) = (text(part, "toolCallId"), text(part, "toolName"));
                        self.result(run, call, parent, tool, ok, part.get("content"), at, place, runs, out);
                    }
                }
            }
            _ => {}
        }
    }

    /// What the agent said: tool calls, and, where nobody else has them, text and thinking.
    fn assistant(
        &mut self,
        message: &Value,
        id: &str,
        run: &str,
        at: i64,
        place: Place<'_>,
        out: &mut Vec<Item>,
    ) {
        let parts = message.get("content").and_then(Value::as_array);
        let of = |kind: &str, key: &str| {
            let texts: Vec<&str> = parts
                .into_iter()
                .flatten()
                .filter(|part| text(part, "type") == kind)
                .filter_map(|part| part.get(key).and_then(Value::as_str))
                .collect();
            bounded(&texts.join("\n"))
        };
        let spoken = match message.get("content") {
            Some(Value::String(text)) => bounded(text),
            _ => of("text", "text"),
        };
        if let Some(fallback) = message.get("openclawStreamFallback") {
            // The text before a tool call, told by itself; the message with the call follows under the same id.
            if self.texts {
                out.push(place.preamble(run, text(fallback, "itemId"), &spoken, at.saturating_sub(1)));
            }
            return;
        }
        if self.texts {
            out.extend(self.preambles.remove(run));
        }
        let mut body = object(json!({ "rawText": spoken }));
        let thought = of("thinking", "thinking");
        if self.reasoning && !thought.is_empty() {
            body.insert("rawThinking".into(), thought.into());
        }
        let when = if self.texts { When::Now } else { When::UnlessInRaw };
        out.push(place.item(format!("msg:{id}"), at, run, event::MESSAGE_END, body, when));
        for part in parts.into_iter().flatten().filter(|part| text(part, "type") == "toolCall") {
            let (call, tool) = (text(part, "id"), text(part, "name"));
            self.call(run, call, "", tool, part.get("arguments"), at, place, out);
        }
    }
}

/// When OpenClaw wrote a message into its transcript.
fn recorded_at(message: &Value) -> Option<i64> {
    message
        .pointer("/__openclaw/recordTimestampMs")
        .or_else(|| message.get("timestamp"))
        .and_then(Value::as_i64)
}

/// A message's content as text: its text parts, and what else it has in a word.
pub(super) fn said(content: Option<&Value>) -> String {
    match content {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => bounded(text),
        Some(Value::Array(parts)) => {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| match (text(part, "type"), part.get("text").and_then(Value::as_str)) {
                    (_, Some(text)) => text.to_owned(),
                    (kind @ ("image" | "audio" | "file" | "document"), None) => {
                        format!("[{kind} of {} bytes]", part.to_string().len())
                    }
                    _ => part.as_str().map_or_else(|| part.to_string(), str::to_owned),
                })
                .collect();
            bounded(&parts.join("\n"))
        }
        Some(other) => bounded(&other.to_string()),
    }
}

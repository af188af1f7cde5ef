//! The entries of one turn to its parts.
//!
//! **Invariant:** every text that an entry holds ends up in a part, decoded as far as it can be; what cannot be told
//! apart is kept as raw text.

use serde_json::Value;

use super::json;
use super::scan::{Entry, Key};
use crate::case::{Part, PartKind, Role};
use crate::openclaw::event::{EventKind, TOOL_SEARCH_CALL};

/// Parts as they are gathered.
#[derive(Debug, Default)]
pub(super) struct Parts {
    parts: Vec<Gathered>,
}

#[derive(Debug)]
struct Gathered {
    part: Part,
    standing: Standing,
}

#[derive(Clone, Debug, PartialEq)]
enum Standing {
    /// It stays.
    Firm,
    /// The end of the turn may say the same again; it stays if that does not.
    Unless,
    /// A call that an inner call may have been reported for: `parentToolCallId` of the calls that were.
    Wrapper,
    /// An inner call of this one.
    Inner(String),
}

impl Parts {
    fn push(&mut self, role: Role, kind: PartKind, text: String, standing: Standing) {
        self.parts.push(Gathered { part: Part { role, kind, text }, standing });
    }

    fn firm(&mut self, role: Role, kind: PartKind, text: String) {
        if !text.is_empty() {
            self.push(role, kind, text, Standing::Firm);
        }
    }

    /// Takes one entry of the turn.
    pub(super) fn take(&mut self, kind: EventKind, entry: &Entry<'_>) {
        let text = |key: Key| entry.raw(key).map(json::text).unwrap_or_default().into_owned();
        match kind {
            EventKind::TextStream | EventKind::ThinkingStream => {
                let kind = if kind == EventKind::TextStream { PartKind::Text } else { PartKind::Thinking };
                let text = text(Key::Content);
                if !text.is_empty() {
                    self.push(Role::Assistant, kind, text, Standing::Unless);
                }
            }
            EventKind::MessageEnd => {
                self.firm(Role::Assistant, PartKind::Thinking, text(Key::RawThinking));
                self.firm(Role::Assistant, PartKind::Text, text(Key::RawText));
            }
            EventKind::UserMessage => {
                // The text may be wrapped in parts, as in a transcript.
                let raw = [Key::Text, Key::Content].into_iter().find_map(|key| entry.raw(key));
                let text = raw.map(|raw| json::flat(&json::value(raw))).unwrap_or_default();
                self.firm(Role::User, PartKind::Message, text);
                self.messages(entry);
            }
            EventKind::Request => self.messages(entry),
            EventKind::ToolCall => {
                let args = entry.raw(Key::Args).map(json::value).unwrap_or_default();
                let parent =
                    entry.raw(Key::ParentToolCallId).map(json::text).unwrap_or_default().into_owned();
                self.tool_call(text(Key::Tool), text(Key::ToolCallId), args, parent);
            }
            EventKind::ToolResult => {
                let output =
                    [Key::Output, Key::Content, Key::Text].into_iter().find_map(|key| entry.raw(key));
                let output = output.map(json::value).unwrap_or_default();
                let kind = PartKind::ToolResult {
                    tool: text(Key::Tool),
                    call_id: text(Key::ToolCallId),
                    ok: entry.raw(Key::Ok).is_none_or(|raw| raw != b"false"),
                };
                self.push(Role::Tool, kind, json::flat(&output), Standing::Firm);
            }
            EventKind::SubagentSpawned => {
                let kind = PartKind::Spawn {
                    child_session_key: text(Key::ChildSessionKey),
                    label: text(Key::Label),
                };
                self.push(Role::Assistant, kind, text(Key::Task), Standing::Firm);
            }
            EventKind::Approval => self.firm(Role::Tool, PartKind::Message, text(Key::Text)),
            EventKind::Incident => self.firm(Role::System, PartKind::Message, text(Key::Text)),
            EventKind::SessionChanged => {}
        }
        if entry.odd {
            let role = match kind {
                EventKind::UserMessage | EventKind::Request => Role::User,
                EventKind::ToolResult | EventKind::Approval => Role::Tool,
                EventKind::Incident => Role::System,
                _ => Role::Assistant,
            };
            self.firm(role, PartKind::Text, json::unescaped(entry.bytes));
        }
    }

    fn tool_call(&mut self, tool: String, call_id: String, args: Value, parent: String) {
        let args = match args {
            // Some dialects give the arguments as a string of JSON.
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(Value::Object(map)) => Value::Object(map),
                _ => Value::String(text),
            },
            other => other,
        };
        let standing = if !parent.is_empty() {
            Standing::Inner(parent)
        } else if tool == TOOL_SEARCH_CALL {
            Standing::Wrapper
        } else {
            Standing::Firm
        };
        let text = PartKind::render_args(&args);
        self.push(Role::Assistant, PartKind::ToolCall { tool, call_id, args }, text, standing);
    }

    /// The messages of the earlier tool's request, in any of the shapes that providers use.
    fn messages(&mut self, entry: &Entry<'_>) {
        let Some(raw) = entry.raw(Key::Messages) else { return };
        match json::value(raw) {
            Value::Array(items) => items.into_iter().for_each(|item| self.message(item)),
            other => self.firm(Role::User, PartKind::Message, json::flat(&other)),
        }
    }

    fn message(&mut self, item: Value) {
        let Value::Object(mut map) = item else {
            return self.firm(Role::User, PartKind::Message, json::flat(&item));
        };
        let role = match map.get("role").and_then(Value::as_str) {
            Some("system" | "developer") => Role::System,
            Some("assistant" | "model" | "ai") => Role::Assistant,
            Some("tool" | "toolResult" | "function") => Role::Tool,
            _ => Role::User,
        };
        let call_id = ["toolCallId", "tool_call_id"].into_iter().find_map(|key| map.get(key)).map(json::flat);
        let tool = ["toolName", "name"].into_iter().find_map(|key| map.get(key)).map(json::flat);
        let calls = map.remove("tool_calls");
        match map.remove("content") {
            Some(Value::Array(items)) => items.into_iter().for_each(|item| self.content(role, &item)),
            Some(content) if role == Role::Tool => {
                let (tool, call_id) = (tool.unwrap_or_default(), call_id.unwrap_or_default());
                self.firm(role, PartKind::ToolResult { tool, call_id, ok: true }, json::flat(&content));
            }
            Some(content) => self.firm(role, message_kind(role), json::flat(&content)),
            None => {
                map.remove("role");
                self.firm(role, message_kind(role), json::flat(&Value::Object(map)));
            }
        }
        match calls {
            Some(Value::Array(calls)) => {
                for call in calls {
                    let function = call.get("function").unwrap_or(&call);
                    let args = function.get("arguments").cloned().unwrap_or_default();
                    self.tool_call(field(function, "name"), field(&call, "id"), args, String::new());
                }
            }
            Some(other) => self.firm(role, message_kind(role), json::flat(&other)),
            None => {}
        }
    }

    /// One part of a message's content.
    fn content(&mut self, role: Role, item: &Value) {
        let shape = item.get("type").and_then(Value::as_str).unwrap_or_default();
        match shape {
            "toolCall" | "tool_use" => {
                let args = item.get("arguments").or_else(|| item.get("input")).cloned().unwrap_or_default();
                self.tool_call(field(item, "name"), field(item, "id"), args, String::new());
            }
            "toolResult" | "tool_result" => {
                let content = item.get("content").map(json::flat).unwrap_or_default();
                let ok = item.get("is_error").or_else(|| item.get("isError")) != Some(&Value::Bool(true));
                let mut call_ids = ["tool_use_id", "toolCallId"].into_iter().map(|key| field(item, key));
                let call_id = call_ids.find(|id| !id.is_empty()).unwrap_or_default();
                let kind = PartKind::ToolResult { tool: field(item, "toolName"), call_id, ok };
                self.firm(Role::Tool, kind, content);
            }
            "thinking" => {
                let text =
                    item.get("thinking").or_else(|| item.get("text")).map(json::flat).unwrap_or_default();
                self.firm(role, PartKind::Thinking, text);
            }
            _ => self.firm(role, message_kind(role), json::flat(item)),
        }
    }

    /// The parts of the turn; `streamed` are its text and thinking deltas, where these must stand for a text.
    pub(super) fn finish(mut self, streamed: [(PartKind, String); 2]) -> Vec<Part> {
        self.unwrap_calls();
        let mut kept: Vec<Part> = Vec::with_capacity(self.parts.len() + 2);
        for at in 0..self.parts.len() {
            let Some(gathered) = self.parts.get(at) else { continue };
            if gathered.standing == Standing::Unless && self.is_said_elsewhere(at, &gathered.part) {
                continue;
            }
            kept.push(gathered.part.clone());
        }
        for (kind, text) in streamed {
            if !text.is_empty() {
                kept.push(Part { role: Role::Assistant, kind, text });
            }
        }
        kept
    }

    fn is_said_elsewhere(&self, at: usize, part: &Part) -> bool {
        self.parts.iter().enumerate().any(|(other, gathered)| {
            // Of two equal ones, the earlier stays.
            let counts = gathered.standing == Standing::Firm
                || (gathered.part.text.len(), at) > (part.text.len(), other);
            other != at
                && counts
                && gathered.part.kind == part.kind
                && gathered.part.text.contains(part.text.trim())
        })
    }

    /// Names the tool that tool search called, unless the inner call was reported too.
    fn unwrap_calls(&mut self) {
        let inner: Vec<String> = self
            .parts
            .iter()
            .filter_map(|gathered| match &gathered.standing {
                Standing::Inner(parent) => Some(parent.clone()),
                _ => None,
            })
            .collect();
        for gathered in self.parts.iter_mut().filter(|gathered| gathered.standing == Standing::Wrapper) {
            let PartKind::ToolCall { tool, call_id, args } = &mut gathered.part.kind else { continue };
            if inner.contains(call_id) {
                continue;
            }
            let (Some(Value::String(name)), Some(Value::Object(_))) = (args.get("id"), args.get("args"))
            else {
                continue;
            };
            // Anything beside the two would be lost.
            if args.as_object().is_some_and(|map| map.len() == 2) {
                name.clone_into(tool);
                *args = args.get_mut("args").map(Value::take).unwrap_or_default();
                gathered.part.text = PartKind::render_args(args);
            }
        }
    }
}

fn message_kind(role: Role) -> PartKind {
    match role {
        Role::Assistant => PartKind::Text,
        Role::Tool => PartKind::ToolResult { tool: String::new(), call_id: String::new(), ok: true },
        Role::System | Role::User => PartKind::Message,
    }
}

fn field(value: &Value, key: &str) -> String {
    value.get(key).map(json::flat).unwrap_or_default()
}

//! OpenClaw's own record of sessions: where it lies, which versions of it are known, and what its events say.
//!
//! Source: OpenClaw 2026.9.6, `agents/<agent>/agent/openclaw-agent.sqlite` as it writes it (schema version 23), and the
//! schema in its `openclaw-agent-board-schema`.

use serde_json::Value;

/// Versions of the agent database's schema (`PRAGMA user_version`) whose tables are as told here.
pub const SCHEMA_VERSIONS: &[i64] = &[23];
/// The folder of agents below OpenClaw's home.
pub const AGENTS: &str = "agents";
/// The folder of an agent's state below the agent's own.
pub const AGENT_STATE: &str = "agent";
/// The database in it. Its write-ahead log has `-wal` after the name.
pub const DATABASE: &str = "openclaw-agent.sqlite";
/// What a compressed event may come to, in bytes: `CHECK (event_utf8_bytes BETWEEN 1 AND 4194304)`.
pub const MAX_COMPRESSED_EVENT: u64 = 4 << 20;
/// The tables that are read.
pub const TABLES: &[&str] =
    &["session_nodes", "session_windows", "transcript_events", "transcript_rewrite_watermarks"];

/// Nested calls of tool search: `message.role = "custom"` with this `customType`.
const NESTED_TOOL: &str = "openclaw.nested-tool.v1";
/// What the id of a run has after it in the idempotency key of the message that began it.
const USER_SUFFIX: &str = ":user";
/// Stands before the task in a subagent's first message.
const TASK: &str = "[Subagent Task]\n\n";
/// Stands after it.
const TASK_END: &str = "\n\nBegin. Execute the assigned task";

/// One event of a transcript.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The event's own id, a UUID; none for the event that begins a session.
    pub id: Option<String>,
    /// The run it belongs to, where it says so.
    pub run_id: Option<String>,
    /// What it says, in order; empty for what holds no words of anybody.
    pub says: Vec<Said>,
}

/// What is said in an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Somebody to the agent: a person, or OpenClaw in a person's place.
    Message {
        /// The words.
        text: String,
    },
    /// The end of one model call.
    End {
        /// The answer.
        text: String,
        /// The reasoning before it.
        thinking: String,
    },
    /// A tool is called.
    Call {
        /// Id of the call.
        id: String,
        /// The tool.
        tool: String,
        /// Its arguments.
        args: Value,
        /// The call of tool search that this one is in.
        parent: Option<String>,
    },
    /// What a tool gave back.
    Outcome {
        /// Id of the call.
        id: String,
        /// The tool.
        tool: String,
        /// Whether it worked.
        ok: bool,
        /// What it gave back, as text parts.
        output: Value,
    },
}

impl Entry {
    /// Reads an event; nothing where it is no JSON object.
    pub fn of(json: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(json).ok().filter(Value::is_object)?;
        let kind = string(&event, "type");
        let message = event.get("message").unwrap_or(&Value::Null);
        let says = match kind.as_deref() {
            Some("message") => message_says(message),
            // The model's own summary stands for what was said before.
            Some("compaction" | "branch_summary") => string(&event, "summary")
                .map(|text| Said::End { text, thinking: String::new() })
                .into_iter()
                .collect(),
            Some("custom_message") => said_to(&event),
            // Settings and bookkeeping of OpenClaw and its plugins.
            Some(
                "session"
                | "model_change"
                | "thinking_level_change"
                | "custom"
                | "label"
                | "session_info"
                | "leaf"
                | "link"
                | "reset",
            ) => Vec::new(),
            // A kind that is not known may hold words.
            _ => vec![Said::Message { text: event.to_string() }],
        };
        Some(Self { id: string(&event, "id"), run_id: run_of(message), says })
    }

    /// The task in a subagent's first message.
    pub fn task(&self) -> Option<&str> {
        let Some(Said::Message { text }) = self.says.first() else { return None };
        let (_, task) = text.split_once(TASK)?;
        Some(task.split_once(TASK_END).map_or(task, |(task, _)| task).trim())
    }
}

fn string(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// The run of a message: OpenClaw notes it, but for a person's message, whose idempotency key is made of it.
fn run_of(message: &Value) -> Option<String> {
    let noted = message.pointer("/__openclaw/runId").or_else(|| message.pointer("/details/runId"));
    let noted = noted.and_then(Value::as_str).map(str::to_owned);
    let key = || string(message, "idempotencyKey")?.strip_suffix(USER_SUFFIX).map(str::to_owned);
    noted.or_else(key).filter(|run| !run.is_empty())
}

fn message_says(message: &Value) -> Vec<Said> {
    let content = message.get("content").unwrap_or(&Value::Null);
    match string(message, "role").as_deref() {
        Some("assistant") => assistant_says(content),
        Some("toolResult") => vec![Said::Outcome {
            id: string(message, "toolCallId").unwrap_or_default(),
            tool: string(message, "toolName").unwrap_or_default(),
            ok: message.get("isError") != Some(&Value::Bool(true)),
            output: output(message),
        }],
        Some("custom") if string(message, "customType").as_deref() == Some(NESTED_TOOL) => {
            nested_says(message.get("details").unwrap_or(&Value::Null))
        }
        _ => said_to(message),
    }
}

/// What was said to the agent, or a message of a role that is not known: whole, if it has no text.
fn said_to(message: &Value) -> Vec<Said> {
    let words = text_of(message.get("content").unwrap_or(&Value::Null));
    let bare = message.get("content").is_some_and(|content| content.is_string() || is_text_only(content));
    let text = if bare { words } else { message.to_string() };
    if text.is_empty() { Vec::new() } else { vec![Said::Message { text }] }
}

fn is_text_only(content: &Value) -> bool {
    let text = |part: &Value| part.get("type").is_some_and(|kind| kind == "text");
    content.as_array().is_some_and(|parts| parts.iter().all(text))
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().filter_map(|part| string(part, "text")).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

fn assistant_says(content: &Value) -> Vec<Said> {
    let (mut text, mut thinking, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    match content {
        Value::String(words) => text.push(words.clone()),
        Value::Array(parts) => {
            for part in parts {
                match string(part, "type").as_deref() {
                    Some("text") => text.extend(string(part, "text")),
                    Some("thinking") => thinking.extend(string(part, "thinking")),
                    Some("toolCall") => calls.push(Said::Call {
                        id: string(part, "id").unwrap_or_default(),
                        tool: string(part, "name").unwrap_or_default(),
                        args: part.get("arguments").cloned().unwrap_or_default(),
                        parent: None,
                    }),
                    // A part that is not known may hold words.
                    _ => text.push(part.to_string()),
                }
            }
        }
        Value::Null => {}
        other => text.push(other.to_string()),
    }
    // As in the raw stream: the end of the model call first, then the tools that it asked for.
    let mut says = vec![Said::End { text: text.join("\n"), thinking: thinking.join("\n") }];
    says.extend(calls);
    says
}

fn nested_says(details: &Value) -> Vec<Said> {
    let id = string(details, "toolCallId").unwrap_or_default();
    let tool = string(details, "toolName").unwrap_or_default();
    let call = Said::Call {
        id: id.clone(),
        tool: tool.clone(),
        args: details.get("input").cloned().unwrap_or_default(),
        parent: string(details, "parentToolCallId"),
    };
    let Some(result) = details.get("result").filter(|result| !result.is_null()) else {
        let error = details.get("error").map(Value::to_string);
        let failed = error.map(|error| Said::Outcome { id, tool, ok: false, output: Value::String(error) });
        return std::iter::once(call).chain(failed).collect();
    };
    let failed = [details.get("isError"), result.get("isError")].contains(&Some(&Value::Bool(true)));
    vec![call, Said::Outcome { id, tool, ok: !failed, output: output(result) }]
}

/// What a tool gave back: its content, or its details where there is none.
fn output(result: &Value) -> Value {
    let content = result.get("content").filter(|content| match content {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(parts) => !parts.is_empty(),
        _ => true,
    });
    match content.or_else(|| result.get("details")) {
        Some(content) if is_text_only(content) => Value::String(text_of(content)),
        Some(content) => content.clone(),
        None => Value::String(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(value: &Value) -> Entry {
        Entry::of(&value.to_string()).unwrap()
    }

    #[test]
    fn a_persons_message_knows_its_run_by_its_key() {
        let user =
            entry(&json!({ "type": "message", "id": "e-1", "message": { "role": "user", "content": "hello",
            "idempotencyKey": "r-1:user" } }));
        assert_eq!(user.run_id.as_deref(), Some("r-1"));
        assert_eq!(user.says, [Said::Message { text: "hello".into() }]);
        assert_eq!(user.id.as_deref(), Some("e-1"));
    }

    #[test]
    fn an_assistants_message_ends_its_call_before_its_tools_begin() {
        let message = entry(
            &json!({ "type": "message", "message": { "role": "assistant", "__openclaw": { "runId": "r-1" },
            "content": [{ "type": "thinking", "thinking": "hm" }, { "type": "text", "text": "I will." },
                { "type": "toolCall", "id": "c-1", "name": "write", "arguments": { "path": "a" } }] } }),
        );
        assert_eq!(message.run_id.as_deref(), Some("r-1"));
        let call =
            Said::Call { id: "c-1".into(), tool: "write".into(), args: json!({ "path": "a" }), parent: None };
        assert_eq!(message.says, [Said::End { text: "I will.".into(), thinking: "hm".into() }, call]);
    }

    #[test]
    fn a_nested_call_is_unwrapped_with_its_result() {
        let nested = entry(
            &json!({ "type": "message", "message": { "role": "custom", "customType": NESTED_TOOL,
            "content": "", "details": { "runId": "r-1", "parentToolCallId": "c-9", "toolCallId": "t:c-9:spawn:1",
                "toolName": "sessions_spawn", "input": { "task": "x" },
                "result": { "content": [{ "type": "text", "text": "accepted" }] } } } }),
        );
        assert_eq!(nested.run_id.as_deref(), Some("r-1"));
        let id = String::from("t:c-9:spawn:1");
        let tool = String::from("sessions_spawn");
        assert_eq!(
            nested.says,
            [
                Said::Call {
                    id: id.clone(),
                    tool: tool.clone(),
                    args: json!({ "task": "x" }),
                    parent: Some("c-9".into())
                },
                Said::Outcome { id, tool, ok: true, output: "accepted".into() }
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_kept_whole_and_bookkeeping_is_not() {
        let odd = entry(&json!({ "type": "novelty", "words": "psst" }));
        assert!(matches!(&odd.says[..], [Said::Message { text }] if text.contains("psst")), "{odd:?}");
        let image = entry(
            &json!({ "type": "message", "message": { "role": "user", "content": [{ "type": "image", "data": "AA" }] } }),
        );
        assert!(matches!(&image.says[..], [Said::Message { text }] if text.contains("AA")), "{image:?}");
        assert_eq!(entry(&json!({ "type": "custom", "customType": "openclaw.cache-ttl" })).says, []);
        assert_eq!(Entry::of("[1]"), None);
        assert_eq!(Entry::of("{"), None);
    }

    #[test]
    fn a_subagents_task_is_found_in_its_first_message() {
        let text = "[Subagent Context] Complete the current [Subagent Task]; no more.\n\n[Subagent Task]\n\nWrite a haiku.\n\nBegin. Execute the assigned task to completion.";
        let first = entry(&json!({ "type": "message", "message": { "role": "user", "content": text } }));
        assert_eq!(first.task(), Some("Write a haiku."));
    }
}

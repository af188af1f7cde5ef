//! Turns: what one model call was told, thought, said and did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::TurnId;

/// Who stands behind a piece of text. What a role may ask of an agent differs: a tool result that gives
/// orders is an injection, a user who does so is a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator's instructions to the agent.
    System,
    /// A person, or another agent, that talks to the agent.
    User,
    /// The agent itself.
    Assistant,
    /// The outside world: what a tool gave back.
    Tool,
}

impl Role {
    /// The name used in logs, prompts and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// What a part of a turn is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PartKind {
    /// A message to the agent.
    Message,
    /// The agent's reasoning.
    Thinking,
    /// What the agent said.
    Text,
    /// What was streamed of an answer that has no final text: arrival order, which may not be the order in
    /// which it was written.
    Fragments,
    /// The agent asked for a tool. The part's text is [`PartKind::render_args`] of `args`.
    ToolCall {
        /// Tool name, unwrapped where one tool was called through another.
        tool: String,
        /// Links the call to its result.
        call_id: String,
        /// The arguments as the agent gave them.
        args: Value,
    },
    /// What a tool gave back.
    ToolResult {
        /// Tool name; empty where the log does not say.
        tool: String,
        /// Links the result to its call.
        call_id: String,
        /// Whether the tool succeeded.
        ok: bool,
    },
    /// The agent started another one; the text is the task it was given.
    Spawn {
        /// Session key of the new agent.
        child_session_key: String,
        /// Label the parent gave it.
        label: String,
    },
}

impl PartKind {
    /// Arguments of a tool call as text for people and detectors: `name: value` a line, strings as they are
    /// (not escaped), anything else as compact JSON. A bare string stays itself.
    pub fn render_args(args: &Value) -> String {
        match args {
            Value::Object(map) => {
                let lines: Vec<String> = map
                    .iter()
                    .map(|(key, value)| match value {
                        Value::String(text) => format!("{key}: {text}"),
                        other => format!("{key}: {other}"),
                    })
                    .collect();
                lines.join("\n")
            }
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }
}

/// One piece of a turn, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Who stands behind the text.
    pub role: Role,
    /// What it is.
    #[serde(flatten)]
    pub kind: PartKind,
    /// The text; evidence spans are byte offsets into it.
    pub text: String,
}

/// Names a stream: a session key, or `file:NAME` where no session is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StreamId(pub String);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One model call with everything of its run since the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    /// Stable over re-reads and growth of the file.
    pub id: TurnId,
    /// The run it belongs to, as OpenClaw names it.
    pub run_id: String,
    /// Milliseconds since the Unix epoch of the event that ends it.
    pub ts: i64,
    /// Name (not path) of the log file that holds its last event.
    pub source_file: String,
    /// OpenClaw's session key, where the log says.
    pub session_key: Option<String>,
    /// OpenClaw's agent id, where the log says.
    pub agent_id: Option<String>,
    /// Whether an `assistant_message_end` closed it; a turn without one is what a run left behind.
    pub ended: bool,
    /// What was said and done, in order.
    pub parts: Vec<Part>,
}

impl Turn {
    /// The name people and files use: run id, `_`, and the ts of the last event.
    pub fn run_id_ts(&self) -> String {
        format!("{}_{}", self.run_id, self.ts)
    }

    /// The stream this turn belongs to.
    pub fn stream(&self) -> StreamId {
        StreamId(self.session_key.clone().unwrap_or_else(|| format!("file:{}", self.source_file)))
    }
}

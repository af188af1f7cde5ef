//! Names of log events: OpenClaw's raw stream, and what the gateway observer adds to it.
//!
//! Source: OpenClaw 2026.9.6, `--raw-stream` output with the `openai-completions` and `anthropic-messages` dialects,
//! and its gateway WebSocket (protocol 4) as seen by a connection with `operator.read` and `sessions.subscribe`.

/// A piece of answer text: `{ts, event, runId, evtType, delta, content}`.
///
/// `evtType` is `text_start`, `text_delta`, `text_end` (whole block in `content`; `anthropic-messages` only) or
/// `commentary_update` (text before a tool call, whole each time). Lines are written by un-awaited appends, so
/// they are out of order. Source: raw stream.
pub const TEXT_STREAM: &str = "assistant_text_stream";
/// A piece of reasoning; `evtType` is `thinking_start`, `thinking_delta` or `thinking_end`. Source: raw stream.
pub const THINKING_STREAM: &str = "assistant_thinking_stream";
/// The end of one model call: `{ts, event, runId, rawText, rawThinking}`. A call that only asks for tools, and an
/// aborted one, has an empty `rawText`. A run has one of these for each model call. Source: raw stream.
pub const MESSAGE_END: &str = "assistant_message_end";

/// A message to the agent: `{text}`. Source: `session.message` with role `user`.
pub const USER_MESSAGE: &str = "user_message";
/// The agent asked for a tool: `{toolCallId, tool, args, parentToolCallId?}`. Source: `session.tool` with phase
/// `start`, or `agent` with stream `tool`.
pub const TOOL_CALL: &str = "tool_call";
/// What the tool gave back: `{toolCallId, tool, ok, output}`. Source: as [`TOOL_CALL`], phase `result`.
pub const TOOL_RESULT: &str = "tool_result";
/// One agent started another: `{childSessionKey, parentSessionKey, childRunId, label, task}`. Source: `task`
/// events with kind `subagent`.
pub const SUBAGENT_SPAWNED: &str = "subagent_spawned";
/// A session's status: `{status}`. Source: `sessions.changed`.
pub const SESSION_CHANGED: &str = "session_changed";
/// OpenClaw asks whether a tool call may go on, or is told so: `{approvalId, state, text, tool?, toolCallId?, decision?}`;
/// `state` is `requested` or `resolved`. Source: `exec.approval.*` and `plugin.approval.*`, which go to connections with
/// `operator.approvals`.
pub const APPROVAL: &str = "approval";
/// What Sentrix itself saw beside the agents' turns, such as a raw stream that was cut: `{kind, text}`. Written by
/// `capture` only; a raw stream that holds one is told as an incident itself.
pub const INCIDENT: &str = "sentrix_incident";
/// A run's first event in files of the earlier tool: `{messages: [..]}`.
pub const REQUEST: &str = "request";

/// The tool through which OpenClaw's tool search calls other tools: `{id: "exec", args: {..}}`.
///
/// Tool search is on by default. The gateway also reports the inner call, with `parentToolCallId` naming the
/// outer one. Source: `session.message` frames, tool `tool_call`, 2026.9.6.
pub const TOOL_SEARCH_CALL: &str = "tool_call";

/// What an event is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// [`TEXT_STREAM`]
    TextStream,
    /// [`THINKING_STREAM`]
    ThinkingStream,
    /// [`MESSAGE_END`]
    MessageEnd,
    /// [`USER_MESSAGE`]
    UserMessage,
    /// [`TOOL_CALL`]
    ToolCall,
    /// [`TOOL_RESULT`]
    ToolResult,
    /// [`SUBAGENT_SPAWNED`]
    SubagentSpawned,
    /// [`SESSION_CHANGED`]
    SessionChanged,
    /// [`APPROVAL`]
    Approval,
    /// [`INCIDENT`]
    Incident,
    /// [`REQUEST`]
    Request,
}

impl EventKind {
    /// The kind that `name` names, or nothing for a name unknown here.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            TEXT_STREAM => Self::TextStream,
            THINKING_STREAM => Self::ThinkingStream,
            MESSAGE_END => Self::MessageEnd,
            USER_MESSAGE => Self::UserMessage,
            TOOL_CALL => Self::ToolCall,
            TOOL_RESULT => Self::ToolResult,
            SUBAGENT_SPAWNED => Self::SubagentSpawned,
            SESSION_CHANGED => Self::SessionChanged,
            APPROVAL => Self::Approval,
            INCIDENT => Self::Incident,
            REQUEST => Self::Request,
            _ => return None,
        })
    }
}

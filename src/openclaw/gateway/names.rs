//! Names of the gateway's methods and events that Sentrix uses.

/// Methods, with what they take and give.
pub mod method {
    /// The first request of a connection.
    pub const CONNECT: &str = "connect";
    /// `{sessionKey, message, idempotencyKey, thinking?, timeoutMs?}` → `{runId, status}`; the run's id is the key,
    /// and the same key again gives the run's status.
    pub const CHAT_SEND: &str = "chat.send";
    /// `{sessionKey, runId?}` → `{aborted, runIds}`.
    pub const CHAT_ABORT: &str = "chat.abort";
    /// `{sessionKey, limit? (1000 at most), offset?, messageId?, maxChars?, maxBytes?, cursor?}` → `{messages, totalMessages,
    /// hasMore, deltaCursor, sessionId, sessionInfo}`. Messages are as in `session.message`, whole runs with tool calls and
    /// results, each with `__openclaw: {id, runId, seq, transcriptPosition}`. With an earlier `deltaCursor` as `cursor`:
    /// `{kind: "delta", messages, deltaCursor}`, or `{kind: "reset"}` where more than 200 events or 1 MB came since, or the
    /// session was compacted. Long texts are cut, control tokens taken out: no forensic record.
    pub const CHAT_HISTORY: &str = "chat.history";
    /// `{}` → `{sessions, hasMore}`; 100 rows unless told.
    pub const SESSIONS_LIST: &str = "sessions.list";
    /// `{}` → `{subscribed}`; from then on messages and tools of all sessions come as events.
    pub const SESSIONS_SUBSCRIBE: &str = "sessions.subscribe";
    /// `{}`.
    pub const STATUS: &str = "status";
    /// `{}`.
    pub const TASKS_LIST: &str = "tasks.list";
}

/// Events, with what their payload holds.
pub mod event {
    /// `{nonce, ts}`, before anything else.
    pub const CHALLENGE: &str = "connect.challenge";
    /// `{runId, sessionKey, stream, data, seq, ts}`.
    pub const AGENT: &str = "agent";
    /// `{runId, sessionKey, state: status|delta|final|error|aborted, deltaText?, message?, errorMessage?}`.
    pub const CHAT: &str = "chat";
    /// `{sessionKey, message, messageId, messageSeq}`, after `sessions.subscribe`.
    pub const SESSION_MESSAGE: &str = "session.message";
    /// `{sessionKey, runId, data: {phase, name, toolCallId, args|result}}`, after `sessions.subscribe`.
    pub const SESSION_TOOL: &str = "session.tool";
    /// `{sessionKey, reason, session}`.
    pub const SESSIONS_CHANGED: &str = "sessions.changed";
    /// `{action, task: {kind, status, childSessionKey, runId}}`.
    pub const TASK: &str = "task";
    /// `{ts}`, every 30 seconds.
    pub const TICK: &str = "tick";
    /// The gateway goes down in order.
    pub const SHUTDOWN: &str = "shutdown";
    /// `{id, request: {toolName, toolCallId, sessionKey, runId}}`.
    pub const PLUGIN_APPROVAL_REQUESTED: &str = "plugin.approval.requested";
    /// `{id, decision}`.
    pub const PLUGIN_APPROVAL_RESOLVED: &str = "plugin.approval.resolved";
}

/// `error.details.code`, and `error.code` where there are no details.
pub mod code {
    /// The gateway speaks another version: `details.expectedProtocol`.
    pub const PROTOCOL_MISMATCH: &str = "PROTOCOL_MISMATCH";
    /// The token is another one.
    pub const TOKEN_MISMATCH: &str = "AUTH_TOKEN_MISMATCH";
    /// No token was given where one is needed.
    pub const TOKEN_MISSING: &str = "AUTH_TOKEN_MISSING";
    /// The device waits for approval: `details.requestId`.
    pub const PAIRING_REQUIRED: &str = "PAIRING_REQUIRED";
    /// Nothing was given that says who connects.
    pub const DEVICE_REQUIRED: &str = "DEVICE_IDENTITY_REQUIRED";
    /// `error.code` of the two above.
    pub const NOT_PAIRED: &str = "NOT_PAIRED";
    /// A method is beyond the connection's scopes: `details.missingScope`.
    pub const MISSING_SCOPE: &str = "MISSING_SCOPE";
}

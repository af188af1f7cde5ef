//! Where in a turn a text stands, and what kind of tool it was given to: what decides which rules apply.

use crate::case::{Part, PartKind, Role};

/// A set of places, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places(u8);

impl Places {
    pub(super) const SYSTEM: Self = Self(1);
    pub(super) const USER: Self = Self(1 << 1);
    pub(super) const ASSISTANT: Self = Self(1 << 2);
    pub(super) const THINKING: Self = Self(1 << 3);
    pub(super) const TOOL_CALL: Self = Self(1 << 4);
    pub(super) const TOOL_RESULT: Self = Self(1 << 5);
    pub(super) const SPAWN: Self = Self(1 << 6);
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(0x7f);

    /// The place a part stands in.
    pub(super) fn of(part: &Part) -> Self {
        match &part.kind {
            PartKind::Thinking => Self::THINKING,
            PartKind::ToolCall { .. } => Self::TOOL_CALL,
            PartKind::ToolResult { .. } => Self::TOOL_RESULT,
            PartKind::Spawn { .. } => Self::SPAWN,
            PartKind::Message | PartKind::Text | PartKind::Fragments => match part.role {
                Role::System => Self::SYSTEM,
                Role::User => Self::USER,
                Role::Assistant => Self::ASSISTANT,
                Role::Tool => Self::TOOL_RESULT,
            },
        }
    }

    /// The place a rule pack names.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "system" => Self::SYSTEM,
            "user" => Self::USER,
            "assistant" => Self::ASSISTANT,
            "thinking" => Self::THINKING,
            "tool_call" => Self::TOOL_CALL,
            "tool_result" => Self::TOOL_RESULT,
            "spawn" => Self::SPAWN,
            "all" => Self::ALL,
            _ => return None,
        })
    }

    pub(super) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What a tool does, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolClass {
    /// Runs commands or code.
    Shell,
    /// Writes text to a file.
    Write,
    /// Reads files, pages or memory.
    Read,
    /// Sends something to a person or another agent.
    Send,
    /// Anything else.
    Other,
}

impl ToolClass {
    /// The class of a tool, from the words in its name. Source: OpenClaw's built-in tools (`exec`, `process`,
    /// `write`, `edit`, `apply_patch`, `read`, `web_fetch`, `message`, `sessions_send`) and common names elsewhere.
    pub(super) fn of(tool: &str) -> Self {
        let name = tool.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&[
            "exec",
            "bash",
            "shell",
            "terminal",
            "command",
            "process",
            "python",
            "run_code",
            "interpreter",
        ]) {
            Self::Shell
        } else if has(&["write", "edit", "patch", "create_file", "str_replace", "save_file"]) {
            Self::Write
        } else if has(&["send", "message", "email", "post", "reply", "spawn"]) {
            Self::Send
        } else if has(&["read", "fetch", "search", "browse", "get_", "list", "memory"]) {
            Self::Read
        } else {
            Self::Other
        }
    }

    /// The class a rule pack names.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "shell" => Self::Shell,
            "write" => Self::Write,
            "read" => Self::Read,
            "send" => Self::Send,
            "other" => Self::Other,
            _ => return None,
        })
    }
}

//! What `OpenClaw` may do: `tools`, and what a relaxed option changes.

use serde_json::{Value, json};

use super::OpenClawSettings;

/// Whether commands are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exec {
    /// None.
    #[default]
    Deny,
    /// Those that were approved.
    Allowlist,
    /// Any.
    Full,
}

/// Who may write to it in a direct message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DmPolicy {
    /// Who was paired by `openclaw pairing approve`.
    #[default]
    Pairing,
    /// Who is listed.
    Allowlist,
    /// Anybody.
    Open,
}

impl DmPolicy {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pairing => "pairing",
            Self::Allowlist => "allowlist",
            Self::Open => "open",
        }
    }
}

/// What it may do; the default is the safe one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Running commands.
    pub exec: Exec,
    /// Whether file tools stay in the workspace.
    pub workspace_only: bool,
    /// Who may write to it.
    pub dm_policy: DmPolicy,
    /// Whether it reads web pages.
    pub web_fetch: bool,
    /// Whether it starts other agents.
    pub subagents: bool,
    /// Tools beside those of the list.
    pub more_tools: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            exec: Exec::default(),
            workspace_only: true,
            dm_policy: DmPolicy::default(),
            web_fetch: false,
            subagents: true,
            more_tools: Vec::new(),
        }
    }
}

/// An option that is not the safe one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relaxed {
    /// The option's word, for `--relax` and the log.
    pub option: &'static str,
    /// What an agent can do because of it.
    pub means: &'static str,
}

impl Policy {
    /// Where it departs from the safe one.
    pub fn relaxed(&self) -> Vec<Relaxed> {
        let all = [
            (self.exec == Exec::Allowlist, "exec=allowlist", "the agent runs commands that were approved"),
            (self.exec == Exec::Full, "exec=full", "the agent runs any command in the container"),
            (
                !self.workspace_only,
                "workspace_only=false",
                "file tools read and write whatever the container's user may, keys in /run/sentrix/secrets included",
            ),
            (
                self.dm_policy == DmPolicy::Allowlist,
                "dm_policy=allowlist",
                "who is listed writes to it unpaired",
            ),
            (
                self.dm_policy == DmPolicy::Open,
                "dm_policy=open",
                "anybody who finds the channel gives it orders",
            ),
            (self.web_fetch, "web_fetch", "the agent reads web pages, and what they say is in its prompt"),
            (!self.more_tools.is_empty(), "tools", "the agent has tools beside those of the safe list"),
        ];
        let relaxed = all.into_iter().filter(|(is, ..)| *is);
        relaxed.map(|(_, option, means)| Relaxed { option, means }).collect()
    }

    /// The allow list. Source: docs, gateway/config-tools/tool-policy; `write` brings `apply_patch` along.
    fn allowed(&self, has_search: bool) -> Vec<&str> {
        let mut tools = vec![
            "read",
            "write",
            "edit",
            "apply_patch",
            "ls",
            "memory_search",
            "memory_get",
            "session_status",
        ];
        if self.subagents {
            tools.extend([
                "sessions_spawn",
                "sessions_yield",
                "sessions_list",
                "sessions_history",
                "subagents",
            ]);
        }
        if self.exec != Exec::Deny {
            tools.extend(["exec", "process"]);
        }
        if has_search {
            tools.push("web_search");
        }
        if self.web_fetch {
            tools.push("web_fetch");
        }
        tools.extend(self.more_tools.iter().map(String::as_str));
        tools
    }
}

/// `tools`.
pub(super) fn tools(settings: &OpenClawSettings) -> Value {
    let policy = &settings.policy;
    let has_search = settings.brave.is_some();
    let exec = match policy.exec {
        Exec::Deny => "deny",
        Exec::Allowlist => "allowlist",
        Exec::Full => "full",
    };
    let mut tools = json!({
        "allow": policy.allowed(has_search),
        "exec": { "mode": exec, "host": "gateway" },
        "fs": { "workspaceOnly": policy.workspace_only },
        "elevated": { "enabled": false },
        // Otherwise calls hide in a tool that calls tools.
        "toolSearch": false,
        "codeMode": false,
        "swarm": false,
        "agentToAgent": { "enabled": false },
        "sessions": { "visibility": "tree" },
        "links": { "enabled": false },
        "media": {
            "image": { "enabled": false }, "audio": { "enabled": false }, "video": { "enabled": false },
        },
        "message": { "crossContext": { "allowWithinProvider": false }, "broadcast": { "enabled": false } },
        "loopDetection": { "enabled": true },
        "web": { "search": { "enabled": has_search }, "fetch": { "enabled": policy.web_fetch } },
    });
    if has_search {
        super::set(&mut tools, &["web", "search", "provider"], json!("brave"));
    }
    if policy.web_fetch && settings.proxy.is_some() {
        // Names resolve at the door alone.
        super::set(&mut tools, &["web", "fetch", "useTrustedEnvProxy"], json!(true));
    }
    tools
}

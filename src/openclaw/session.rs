//! Session keys and run ids, and what can be read from them.
//!
//! Source: OpenClaw 2026.9.6, gateway frames and transcripts. A main session is `agent:<agent>:main`, a subagent's
//! `agent:<agent>:subagent:<uuid>`; a run id is a UUID that says nothing, but for announce runs.

const ANNOUNCE: &str = "announce:v1:";
const SUBAGENT: &str = ":subagent:";

/// The agent id in a session key: `main` of `agent:main:subagent:…`.
pub fn agent_of(session_key: &str) -> Option<&str> {
    let (agent, _) = session_key.strip_prefix("agent:")?.split_once(':')?;
    (!agent.is_empty()).then_some(agent)
}

/// The session that started the one with this key: what stands before the last `:subagent:`, and the agent's
/// main session where that is a bare agent.
pub fn parent_of(session_key: &str) -> Option<String> {
    let (parent, _) = session_key.rsplit_once(SUBAGENT)?;
    let bare = parent.strip_prefix("agent:").is_some_and(|agent| !agent.contains(':'));
    Some(if bare { format!("{parent}:main") } else { parent.to_owned() })
}

/// A run in which a parent is told that its subagent has finished.
///
/// Its id is `announce:v1:<child session key>:<child run id>`; it runs in the **parent's** session.
/// Source: transcripts of 2026.9.6, where `announce:v1:agent:main:subagent:<A>:<B>` writes into `agent:main:main`
/// and `<B>` is the run id of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<'a> {
    /// Session key of the agent that finished.
    pub child_session_key: &'a str,
    /// Its run.
    pub child_run_id: &'a str,
}

impl<'a> Announce<'a> {
    /// Reads a run id as an announce run's.
    pub fn of(run_id: &'a str) -> Option<Self> {
        let (child_session_key, child_run_id) = run_id.strip_prefix(ANNOUNCE)?.rsplit_once(':')?;
        child_session_key.contains(SUBAGENT).then_some(Self { child_session_key, child_run_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announce_run_belongs_to_the_parent() {
        let run = "announce:v1:agent:main:subagent:2041f9d9-3646:56e02216-df2b";
        let announce = Announce::of(run).unwrap();
        assert_eq!(announce.child_session_key, "agent:main:subagent:2041f9d9-3646");
        assert_eq!(announce.child_run_id, "56e02216-df2b");
        assert_eq!(parent_of(announce.child_session_key).as_deref(), Some("agent:main:main"));
        assert_eq!(Announce::of("56e02216-df2b"), None);
        assert_eq!(Announce::of("announce:v1:x"), None);
    }

    #[test]
    fn a_subagent_of_a_subagent_has_the_nearer_parent() {
        let deep = "agent:ops:subagent:a:subagent:b";
        assert_eq!(parent_of(deep).as_deref(), Some("agent:ops:subagent:a"));
        assert_eq!(parent_of("agent:ops:main"), None);
        assert_eq!(agent_of(deep), Some("ops"));
        assert_eq!(agent_of("main"), None);
    }
}

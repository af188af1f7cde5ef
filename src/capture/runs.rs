//! Which run belongs to which session, and what stands where among agents: what the gateway says and raw lines lack.
//!
//! **Invariant:** bounded: the runs and sessions unheard of for longest are forgotten first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::openclaw::session::{self, Announce};

/// How many runs are remembered.
const MAX_RUNS: usize = 16_384;
/// How many sessions.
const MAX_SESSIONS: usize = 1024;
/// Ends of model calls that are remembered of a run.
const MAX_ENDS: usize = 256;
/// How far the raw stream's end of a model call may lie before OpenClaw's own record of the message. Source: 3 to 12 ms
/// measured on an idle machine, 2026.9.6.
const END_BEFORE_MS: i64 = 5_000;
/// And after it, as OpenClaw's appends are not awaited.
const END_AFTER_MS: i64 = 1_000;

/// Whose run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// OpenClaw's session key.
    pub session_key: String,
    /// OpenClaw's agent id.
    pub agent_id: Option<String>,
}

impl Identity {
    /// The identity that a session key gives.
    pub(super) fn of(session_key: &str, agent_id: Option<&str>) -> Self {
        let agent_id = agent_id.filter(|agent| !agent.is_empty()).or_else(|| session::agent_of(session_key));
        Self { session_key: session_key.to_owned(), agent_id: agent_id.map(str::to_owned) }
    }
}

/// What is known of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// OpenClaw's agent id.
    pub agent_id: Option<String>,
    /// Session key of the agent that started it.
    pub parent: Option<String>,
    /// The label its parent gave it.
    pub label: Option<String>,
    /// OpenClaw's word for its state, such as `running` or `done`; untrusted text.
    pub status: Option<String>,
    /// The run that goes on in it.
    pub active_run: Option<String>,
    /// When it was last heard of, in milliseconds since the Unix epoch.
    pub heard: i64,
}

#[derive(Debug, Default)]
struct Run {
    identity: Option<Identity>,
    /// A raw line came without anybody knowing the session in time: the next one does not wait.
    waited: bool,
    /// Something of it stood in the raw stream.
    in_raw: bool,
    ends: VecDeque<i64>,
}

/// Runs and sessions as the gateway tells of them.
#[derive(Debug, Default)]
#[expect(clippy::struct_field_names, reason = "they are the runs")]
pub(super) struct Runs {
    runs: HashMap<String, Run>,
    order: VecDeque<String>,
    sessions: BTreeMap<String, Session>,
}

impl Runs {
    fn run(&mut self, id: &str) -> &mut Run {
        if !self.runs.contains_key(id) {
            if self.runs.len() >= MAX_RUNS
                && let Some(oldest) = self.order.pop_front()
            {
                self.runs.remove(&oldest);
            }
            self.order.push_back(id.to_owned());
        }
        self.runs.entry(id.to_owned()).or_default()
    }

    /// The session of a run, where it is known; an announce run's is in its name.
    pub(super) fn identity(&self, run: &str) -> Option<Identity> {
        if let Some(identity) = self.runs.get(run).and_then(|run| run.identity.as_ref()) {
            return Some(identity.clone());
        }
        let announce = Announce::of(run)?;
        let known = self.sessions.get(announce.child_session_key).and_then(|child| child.parent.clone());
        let parent = known.or_else(|| session::parent_of(announce.child_session_key))?;
        Some(Identity::of(&parent, None))
    }

    /// Learns whose run it is; what was said first stays.
    pub(super) fn learn(&mut self, run: &str, session_key: &str, agent_id: Option<&str>) {
        if run.is_empty() || session_key.is_empty() {
            return;
        }
        let run = self.run(run);
        if run.identity.is_none() {
            run.identity = Some(Identity::of(session_key, agent_id));
        }
    }

    /// Whether a raw line of this run need not wait (any longer) for its session.
    pub(super) fn is_settled(&self, run: &str) -> bool {
        self.identity(run).is_some() || self.runs.get(run).is_some_and(|run| run.waited)
    }

    /// A raw line of this run was written; `end` is its ts where it ends a model call.
    pub(super) fn in_raw(&mut self, run: &str, end: Option<i64>) {
        let run = self.run(run);
        run.in_raw = true;
        run.waited = true;
        if let Some(end) = end {
            if run.ends.len() >= MAX_ENDS {
                run.ends.pop_front();
            }
            run.ends.push_back(end);
        }
    }

    /// Whether anything of this run stood in the raw stream.
    pub(super) fn was_in_raw(&self, run: &str) -> bool {
        self.runs.get(run).is_some_and(|run| run.in_raw)
    }

    /// Whether the raw stream had the end of the model call whose message OpenClaw recorded at `ts`. An end stands for
    /// one message only.
    pub(super) fn take_end(&mut self, run: &str, ts: i64) -> bool {
        let Some(run) = self.runs.get_mut(run) else { return false };
        let fits =
            |end: i64| end >= ts.saturating_sub(END_BEFORE_MS) && end <= ts.saturating_add(END_AFTER_MS);
        let nearest = run
            .ends
            .iter()
            .enumerate()
            .filter(|(_, end)| fits(**end))
            .min_by_key(|(_, end)| (ts - **end).abs());
        match nearest.map(|(at, _)| at) {
            Some(at) => run.ends.remove(at).is_some(),
            None => false,
        }
    }

    /// What is known of a session, to be changed.
    pub(super) fn session(&mut self, key: &str, now: i64) -> &mut Session {
        if !self.sessions.contains_key(key)
            && self.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                self.sessions.iter().min_by_key(|(_, session)| session.heard).map(|(key, _)| key.clone())
        {
            self.sessions.remove(&oldest);
        }
        let session = self.sessions.entry(key.to_owned()).or_default();
        session.heard = session.heard.max(now);
        if session.agent_id.is_none() {
            session.agent_id = session::agent_of(key).map(str::to_owned);
        }
        if session.parent.is_none() {
            session.parent = session::parent_of(key);
        }
        session
    }

    /// Every session that is remembered.
    pub(super) fn sessions(&self) -> &BTreeMap<String, Session> {
        &self.sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_stands_for_one_message_and_the_nearest_goes_first() {
        let mut runs = Runs::default();
        runs.in_raw("r", Some(1_000));
        runs.in_raw("r", Some(1_100));
        assert!(runs.take_end("r", 1_105));
        assert!(runs.take_end("r", 1_105));
        assert!(!runs.take_end("r", 1_105));
        runs.in_raw("r", Some(1_000));
        assert!(!runs.take_end("r", 90_000), "too far away");
        assert!(!runs.take_end("unheard of", 1));
    }

    #[test]
    fn an_announce_run_is_the_parents() {
        let mut runs = Runs::default();
        let announce = "announce:v1:agent:main:subagent:a:b";
        assert_eq!(runs.identity(announce), Some(Identity::of("agent:main:main", None)));
        runs.session("agent:main:subagent:a", 1).parent = Some("agent:main:whatsapp:1".into());
        assert_eq!(runs.identity(announce), Some(Identity::of("agent:main:whatsapp:1", None)));
        assert!(runs.identity("uuid").is_none() && !runs.is_settled("uuid"));
        runs.learn("uuid", "agent:ops:main", None);
        assert_eq!(runs.identity("uuid").unwrap().agent_id.as_deref(), Some("ops"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut runs = Runs::default();
        for at in 0..3 * MAX_RUNS {
            runs.learn(&format!("r{at}"), "agent:main:main", None);
            runs.session(&format!("agent:a{at}:main"), i64::try_from(at).unwrap());
        }
        assert_eq!(
            (runs.runs.len(), runs.order.len(), runs.sessions.len()),
            (MAX_RUNS, MAX_RUNS, MAX_SESSIONS)
        );
        assert!(runs.identity("r0").is_none());
    }
}

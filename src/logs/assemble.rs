//! Events to turns: the runs that are open, across files and read passes.
//!
//! **Invariant:** bounded: at most [`MAX_RUNS`] runs are remembered; the one unheard of for longest goes first, after
//! what it left was given out.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::delta::{Delta, MAX_RUN_ID};
use super::draft::{Draft, End};
use super::list::hash64;
use super::read::{Identity, Sink};
use super::record::Place;
use super::scan::{Entry, Key};
use super::{LogsError, LogsErrorKind, RejectReason, json};
use crate::openclaw::event::EventKind;
use crate::openclaw::session::{self, Announce};

/// How many runs are remembered at once.
const MAX_RUNS: usize = 512;
/// How many are forgotten at once when there are more.
const EVICTED: usize = 64;
/// How far behind an end a stream event may be to count as a late one of the turn that ended. OpenClaw's lines
/// are some milliseconds out of order; a clock that was set back must not make a whole turn late.
const LATE_MS: i64 = 60_000;
/// Longest session key or agent id that is believed.
const MAX_KEY: usize = 1024;

/// The state of open runs between two reads. The caller keeps it beside the [`FileState`](super::FileState)s.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Assembler {
    runs: Vec<Run>,
    clock: u64,
    #[serde(skip)]
    index: HashMap<String, usize>,
    /// The run of the last event.
    #[serde(skip)]
    last: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Run {
    id: String,
    session_key: Option<String>,
    agent_id: Option<String>,
    /// The session key was worked out, and not said by an event of the run.
    derived: bool,
    /// The session key of the agent that started it.
    parent: Option<String>,
    /// A turn was given out before the session key was known.
    nameless: bool,
    heard: u64,
    ended: Option<Box<Draft>>,
    open: Option<Box<Draft>>,
}

/// What an entry turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    /// Taken, though something in it had to be mended.
    Repaired,
    /// Not known by its name, and left aside.
    Unknown,
    Rejected(RejectReason),
}

impl Assembler {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A compact form for a store.
    ///
    /// # Errors
    /// State, if it cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, LogsError> {
        serde_json::to_vec(self).map_err(state_error)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// State, when the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogsError> {
        serde_json::from_slice(bytes).map_err(state_error)
    }

    /// Makes ready for a read pass.
    pub(super) fn wake(&mut self) {
        if self.index.len() != self.runs.len() {
            self.reindex();
        }
    }

    fn reindex(&mut self) {
        self.index = self.runs.iter().enumerate().map(|(at, run)| (run.id.clone(), at)).collect();
        self.last = usize::MAX;
    }

    /// Forgets all that came from a file, which is to be read again.
    pub(super) fn forget_file(&mut self, file: &str, sink: &mut dyn Sink) -> Result<(), LogsError> {
        for run in &mut self.runs {
            run.open.take_if(|draft| draft.touches(file));
            if run.ended.take_if(|draft| draft.touches(file)).is_some() {
                // Which deltas were late ones can no longer be told.
                run.give_out(sink)?;
                run.open = None;
            }
        }
        Ok(())
    }

    /// Where a run is remembered, if it is.
    #[inline]
    fn find(&mut self, run_id: &[u8]) -> Option<usize> {
        if let Some(run) = self.runs.get(self.last)
            && run.id.as_bytes() == run_id
        {
            return Some(self.last);
        }
        let at = *self.index.get(std::str::from_utf8(run_id).ok()?)?;
        self.last = at;
        Some(at)
    }

    /// The run with this id, remembered from now on.
    fn run(&mut self, run_id: &str, sink: &mut dyn Sink) -> Result<Option<&mut Run>, LogsError> {
        let at = match self.find(run_id.as_bytes()) {
            Some(at) => at,
            None => self.add(run_id, sink)?,
        };
        Ok(self.runs.get_mut(at))
    }

    fn add(&mut self, run_id: &str, sink: &mut dyn Sink) -> Result<usize, LogsError> {
        if self.runs.len() >= MAX_RUNS {
            self.evict(sink)?;
        }
        let mut run = Run {
            id: run_id.to_owned(),
            session_key: None,
            agent_id: None,
            derived: false,
            parent: None,
            nameless: false,
            heard: 0,
            ended: None,
            open: None,
        };
        if let Some(announce) = Announce::of(run_id) {
            let child = self.index.get(announce.child_run_id).and_then(|at| self.runs.get(*at));
            let parent = child.and_then(|child| child.parent.clone());
            run.session_key = parent.or_else(|| session::parent_of(announce.child_session_key));
            run.agent_id = run.session_key.as_deref().and_then(session::agent_of).map(str::to_owned);
            run.derived = true;
        }
        let at = self.runs.len();
        self.index.insert(run_id.to_owned(), at);
        self.runs.push(run);
        self.last = at;
        Ok(at)
    }

    fn evict(&mut self, sink: &mut dyn Sink) -> Result<(), LogsError> {
        let mut heard: Vec<u64> = self.runs.iter().map(|run| run.heard).collect();
        heard.sort_unstable();
        let limit = heard.get(EVICTED).copied().unwrap_or(u64::MAX);
        for run in &mut self.runs {
            if run.heard < limit {
                run.give_out(sink)?;
            }
        }
        self.runs.retain(|run| run.heard >= limit);
        self.reindex();
        Ok(())
    }

    /// Takes a delta.
    #[inline]
    pub(super) fn delta(
        &mut self,
        place: Place<'_>,
        delta: &Delta<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), LogsError> {
        self.clock += 1;
        let clock = self.clock;
        let at = match self.find(delta.run_id) {
            Some(at) => at,
            None => self.add(std::str::from_utf8(delta.run_id).unwrap_or_default(), sink)?,
        };
        let Some(run) = self.runs.get_mut(at) else { return Ok(()) };
        run.heard = clock;
        run.fragment(place, delta.ts, delta.thinking, delta.text.len() as u64, sink)
    }

    /// Takes any other entry.
    pub(super) fn entry(
        &mut self,
        place: Place<'_>,
        entry: &Entry<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Verdict, LogsError> {
        let event = match read_event(entry) {
            Ok(event) => event,
            Err(reason) => return Ok(Verdict::Rejected(reason)),
        };
        self.clock += 1;
        let clock = self.clock;
        let Some(kind) = event.kind else {
            return Ok(Verdict::Unknown);
        };
        if event.run_id.is_empty() {
            return Ok(Verdict::Taken);
        }
        let Some(run) = self.run(&event.run_id, sink)? else { return Ok(Verdict::Taken) };
        run.heard = clock;
        run.learn(entry, sink)?;
        let mended = run.event(place, kind, event.ts, entry, sink)?;
        if kind == EventKind::SubagentSpawned {
            self.spawned(entry, clock, sink)?;
        }
        Ok(if mended || entry.repaired || entry.odd { Verdict::Repaired } else { Verdict::Taken })
    }

    /// Remembers whose run a new subagent's will be.
    fn spawned(&mut self, entry: &Entry<'_>, clock: u64, sink: &mut dyn Sink) -> Result<(), LogsError> {
        let (Some(child), Some(key)) = (name(entry, Key::ChildRunId), name(entry, Key::ChildSessionKey))
        else {
            return Ok(());
        };
        if child.len() > MAX_RUN_ID {
            return Ok(());
        }
        let parent = name(entry, Key::ParentSessionKey).or_else(|| name(entry, Key::SessionKey));
        let Some(run) = self.run(&child, sink)? else { return Ok(()) };
        run.heard = clock;
        run.parent = parent;
        let agent = session::agent_of(&key).map(str::to_owned);
        run.identify(Some(key), agent, sink)
    }

    /// Gives out what runs have left so far, oldest first.
    pub(super) fn give_out(&mut self, sink: &mut dyn Sink) -> Result<(), LogsError> {
        let mut order: Vec<(u64, usize)> =
            self.runs.iter().enumerate().map(|(at, run)| (run.heard, at)).collect();
        order.sort_unstable();
        for (_, at) in order {
            if let Some(run) = self.runs.get_mut(at) {
                run.give_out(sink)?;
            }
        }
        Ok(())
    }
}

fn state_error(error: serde_json::Error) -> LogsError {
    LogsError::new(std::path::Path::new("assembler"), LogsErrorKind::State(error))
}

impl Run {
    fn previous_end(&self) -> Option<i64> {
        self.ended.as_ref().and_then(|draft| draft.end.as_ref()).map(|end| end.ts)
    }

    /// The turn that a stream event with this ts belongs to.
    #[inline]
    fn draft_for(&mut self, place: Place<'_>, ts: i64) -> &mut Draft {
        let previous = self.previous_end();
        if previous.is_some_and(|end| is_late(end, ts))
            && let Some(ended) = &mut self.ended
        {
            return ended;
        }
        self.open.get_or_insert_with(|| Box::new(Draft::new(place, ts, previous)))
    }

    fn open(&mut self, place: Place<'_>, ts: i64) -> &mut Draft {
        let previous = self.previous_end();
        self.open.get_or_insert_with(|| Box::new(Draft::new(place, ts, previous)))
    }

    #[inline]
    fn fragment(
        &mut self,
        place: Place<'_>,
        ts: i64,
        thinking: bool,
        text_bytes: u64,
        sink: &mut dyn Sink,
    ) -> Result<(), LogsError> {
        self.draft_for(place, ts).fragment(place, ts, thinking, text_bytes);
        self.split_if_full(sink)
    }

    /// Takes an event of this run; whether something in it had to be mended.
    fn event(
        &mut self,
        place: Place<'_>,
        kind: EventKind,
        ts: i64,
        entry: &Entry<'_>,
        sink: &mut dyn Sink,
    ) -> Result<bool, LogsError> {
        let bytes = entry.bytes;
        let mut mended = false;
        let mut size = |key: Key| {
            let Some(raw) = entry.raw(key) else { return 0 };
            mended |= std::str::from_utf8(raw).is_err();
            let Some(inner) = json::unquote(raw) else {
                mended |=
                    matches!(key, Key::RawText | Key::RawThinking | Key::Text | Key::Delta | Key::Content);
                return raw.len() as u64;
            };
            inner.len() as u64
        };
        match kind {
            EventKind::TextStream | EventKind::ThinkingStream => {
                let thinking = kind == EventKind::ThinkingStream;
                let (delta, content) = (size(Key::Delta), size(Key::Content));
                let draft = self.draft_for(place, ts);
                if entry.odd {
                    draft.content(place, ts, bytes, bytes.len() as u64);
                } else {
                    // One without text only marks where the turn begins.
                    if delta > 0 {
                        draft.fragment(place, ts, thinking, delta);
                    }
                    if content > 0 {
                        let ends = entry.raw_string(Key::EvtType).is_some_and(|kind| kind.ends_with(b"_end"));
                        draft.whole(place, ts, bytes, thinking, !ends, measure(entry, Key::Content));
                    }
                }
            }
            EventKind::MessageEnd => {
                size(Key::RawText);
                size(Key::RawThinking);
                let end = End {
                    ts,
                    text: measure(entry, Key::RawText),
                    thinking: measure(entry, Key::RawThinking),
                };
                self.open(place, ts).close(place, end, bytes);
                if let Some(ended) = &mut self.ended {
                    give_out(ended, &self.id, self.session_key.as_deref(), self.agent_id.as_deref(), sink)?;
                }
                self.ended = self.open.take();
                // Late lines may still come; but the turn is there at once.
                self.give_out(sink)?;
            }
            EventKind::SessionChanged => {}
            _ => {
                let keys = match kind {
                    EventKind::ToolCall => [Key::Args, Key::Tool],
                    EventKind::ToolResult => [Key::Output, Key::Tool],
                    EventKind::SubagentSpawned => [Key::Task, Key::Label],
                    EventKind::Request => [Key::Messages, Key::Text],
                    _ => [Key::Text, Key::Messages],
                };
                let text_bytes = keys.into_iter().map(size).sum();
                self.open(place, ts).content(place, ts, bytes, text_bytes);
            }
        }
        self.split_if_full(sink)?;
        Ok(mended)
    }

    #[inline]
    fn split_if_full(&mut self, sink: &mut dyn Sink) -> Result<(), LogsError> {
        if self.open.as_ref().is_some_and(|draft| draft.is_full()) {
            self.give_out(sink)?;
            self.open = None;
        }
        if self.ended.as_ref().is_some_and(|draft| draft.is_full()) {
            self.give_out(sink)?;
            if let Some(ended) = &mut self.ended {
                ended.restart();
            }
        }
        Ok(())
    }

    /// Learns the session and agent that an event of this run names.
    fn learn(&mut self, entry: &Entry<'_>, sink: &mut dyn Sink) -> Result<(), LogsError> {
        if self.session_key.is_some() && self.agent_id.is_some() && !self.derived {
            return Ok(());
        }
        let key = name(entry, Key::SessionKey);
        let agent = name(entry, Key::AgentId)
            .or_else(|| key.as_deref().and_then(session::agent_of).map(str::to_owned));
        if key.is_none() && agent.is_none() {
            return Ok(());
        }
        self.identify(key, agent, sink)
    }

    fn identify(
        &mut self,
        key: Option<String>,
        agent: Option<String>,
        sink: &mut dyn Sink,
    ) -> Result<(), LogsError> {
        let before = (self.session_key.clone(), self.agent_id.clone());
        if key.is_some() && (self.derived || self.session_key.is_none()) {
            self.session_key = key;
            self.derived = false;
        }
        if agent.is_some() && (self.agent_id.is_none() || self.session_key != before.0) {
            self.agent_id = agent;
        }
        if self.nameless && before != (self.session_key.clone(), self.agent_id.clone()) {
            sink.identity(Identity {
                run_id: &self.id,
                session_key: self.session_key.as_deref(),
                agent_id: self.agent_id.as_deref(),
            })?;
        }
        Ok(())
    }

    fn give_out(&mut self, sink: &mut dyn Sink) -> Result<(), LogsError> {
        for draft in [&mut self.ended, &mut self.open].into_iter().flatten() {
            if draft.dirty {
                self.nameless |= self.session_key.is_none() || self.agent_id.is_none() || self.derived;
                give_out(draft, &self.id, self.session_key.as_deref(), self.agent_id.as_deref(), sink)?;
            }
        }
        Ok(())
    }
}

fn give_out(
    draft: &mut Draft,
    run_id: &str,
    session_key: Option<&str>,
    agent_id: Option<&str>,
    sink: &mut dyn Sink,
) -> Result<(), LogsError> {
    if !draft.dirty {
        return Ok(());
    }
    if let Some(record) = draft.record(run_id, session_key, agent_id) {
        sink.turn(record)?;
    }
    draft.dirty = false;
    Ok(())
}

#[inline]
pub(super) fn is_late(end_ts: i64, ts: i64) -> bool {
    ts <= end_ts && ts > end_ts.saturating_sub(LATE_MS)
}

/// Length and hash of a text, undecoded; an empty one is `(0, 0)`.
fn measure(entry: &Entry<'_>, key: Key) -> (u64, u64) {
    let raw = entry.raw(key).map(|raw| json::unquote(raw).unwrap_or(raw)).unwrap_or_default();
    if raw.is_empty() { (0, 0) } else { (raw.len() as u64, hash64(&[raw])) }
}

/// A short string value.
fn name(entry: &Entry<'_>, key: Key) -> Option<String> {
    let raw = entry.raw_string(key)?;
    (!raw.is_empty() && raw.len() <= MAX_KEY).then(|| json::string(raw).into_owned())
}

/// What every event must say.
pub(super) struct EventHead {
    pub(super) ts: i64,
    /// Empty for an event that may do without.
    pub(super) run_id: String,
    pub(super) kind: Option<EventKind>,
}

/// Reads the head of an event.
pub(super) fn read_event(entry: &Entry<'_>) -> Result<EventHead, RejectReason> {
    let kind = match entry.raw_string(Key::Event) {
        Some(raw) => EventKind::of(&json::string(raw)),
        None => None,
    };
    // The earlier tool's first event of a run is known by its messages, whatever its name.
    let kind = kind.or_else(|| entry.raw(Key::Messages).map(|_| EventKind::Request));
    let ts = entry.raw(Key::Ts).and_then(timestamp).ok_or(RejectReason::NoTimestamp)?;
    let run_id = match entry.raw_string(Key::RunId) {
        Some(raw) if !raw.is_empty() && raw.len() <= MAX_RUN_ID => json::string(raw).into_owned(),
        _ if kind == Some(EventKind::SessionChanged) => String::new(),
        _ => return Err(RejectReason::NoRun),
    };
    if kind.is_none() && entry.raw_string(Key::Event).is_none() {
        return Err(RejectReason::NoEvent);
    }
    Ok(EventHead { ts, run_id, kind })
}

/// Milliseconds: a whole number, one with a fraction, or a string that holds such a number.
fn timestamp(raw: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(json::unquote(raw).unwrap_or(raw)).ok()?;
    if let Ok(ts) = digits.parse() {
        return Some(ts);
    }
    let ts: f64 = digits.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "checked to lie well within the range")]
    (ts.is_finite() && ts.abs() < 9e15).then_some(ts as i64)
}

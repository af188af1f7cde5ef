//! Both sources into one log: what comes is held a moment, put into the order in which it happened, and written once.
//!
//! **Invariant:** nothing leaves its queue before it is in the log; what cannot be written stays, and nothing more is taken
//! in than the queues hold.
//! **Invariant:** lines of one raw file are written in the file's order, so that the last one written says how far it is
//! recorded.

mod queue;
mod write;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use queue::{GatewayEntry, Waiting};

use super::incident::{Incident, IncidentKind};
use super::line::{self, Head};
use super::observe::Observer;
use super::raw::{Found, RawTail};
use super::recover::{Names, OVERLAP_MS, Recorded};
use super::runs::Runs;
use super::status::{Counters, Link, Status};
use crate::clock::SharedClock;
use crate::logs::LogWriter;

/// How often incidents of one kind are written at most.
const INCIDENT_EVERY: Duration = Duration::from_secs(10);
/// Bounds of the queues.
const MAX_RAW_BYTES: usize = 4 << 20;
const MAX_RAW: usize = 8192;
/// What an hour without us brings must fit in: raw lines wait until the gateway has told all of it.
const MAX_GATEWAY_BYTES: usize = 64 << 20;
const MAX_INCIDENTS: usize = 256;

/// What the connection to the gateway brings.
#[derive(Debug)]
pub(super) enum Feed {
    /// It is reached; what was missed is being asked for.
    Up,
    /// It is lost, or not reached; why, in safe words.
    Down(String),
    /// A live event: name and payload.
    Frame {
        /// The event's name.
        name: String,
        /// What it says.
        payload: Value,
        /// When it came, in milliseconds since the Unix epoch.
        at: i64,
    },
    /// Some events were lost on their way; they are being asked for.
    Gap(u64),
    /// A session's row of `sessions.list`.
    Row(Value),
    /// Messages of a session, the oldest first.
    History {
        /// The session.
        session_key: String,
        /// As `chat.history` gives them.
        messages: Vec<Value>,
        /// Those recorded before are not wanted, in milliseconds since the Unix epoch.
        since: i64,
    },
    /// All that happened before `at` was told.
    CaughtUp {
        /// In milliseconds since the Unix epoch.
        at: i64,
    },
}

struct RawEntry {
    generation: Arc<str>,
    end: u64,
    text: String,
    head: Result<Head, String>,
    arrived: Duration,
}

/// What the collector is made of.
pub(super) struct Parts {
    pub(super) sandbox: String,
    pub(super) clock: SharedClock,
    pub(super) writer: LogWriter,
    pub(super) tail: Option<RawTail>,
    pub(super) gateway: bool,
    pub(super) reasoning: bool,
    pub(super) leave_out: Vec<String>,
    pub(super) recorded: Recorded,
}

/// The owner of all state of a capture.
pub(super) struct Collector {
    sandbox: String,
    clock: SharedClock,
    writer: LogWriter,
    tail: Option<RawTail>,
    observer: Observer,
    runs: Runs,
    names: Names,
    reasoning: bool,
    leave_out: Vec<String>,
    raw: VecDeque<RawEntry>,
    raw_bytes: usize,
    gateway: VecDeque<GatewayEntry>,
    /// Of the queue and of what is deferred.
    gateway_bytes: usize,
    deferred: Waiting,
    incidents: VecDeque<Incident>,
    /// Since when raw lines wait for the gateway.
    catching_up: Option<Duration>,
    /// When the history last told anything.
    history_told: Duration,
    /// When that, or a full disk, last ended: waiting counts from then.
    released: Duration,
    /// What marks say; see [`Mark::Gateway`].
    caught_up: i64,
    /// Up to here all was told, though some of it may be deferred.
    horizon: i64,
    link: Link,
    raw_counts: Counters,
    gateway_counts: Counters,
    blocked: Option<(Duration, String)>,
    told: BTreeMap<IncidentKind, (u64, Duration, u64)>,
    last_activity: Option<i64>,
    file: Option<PathBuf>,
    unsynced: Option<Duration>,
    fresh: Vec<Incident>,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

impl Collector {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { sandbox, clock, writer, tail, gateway, reasoning, leave_out, recorded } = parts;
        let mut runs = Runs::default();
        for (run, session, agent) in &recorded.runs {
            runs.learn(run, session, agent.as_deref());
        }
        for (run, end) in &recorded.ends {
            runs.in_raw(run, Some(*end));
        }
        let now = clock.monotonic();
        // Without a raw stream, what an OpenClaw did before us is not ours to tell.
        let first = if tail.is_some() { 0 } else { clock.now().as_millisecond() };
        Self {
            observer: Observer::new(tail.is_none(), reasoning),
            sandbox,
            clock,
            writer,
            tail,
            runs,
            names: recorded.names,
            reasoning,
            leave_out,
            raw: VecDeque::new(),
            raw_bytes: 0,
            gateway: VecDeque::new(),
            gateway_bytes: 0,
            deferred: Waiting::default(),
            incidents: VecDeque::new(),
            catching_up: gateway.then_some(now),
            history_told: now,
            released: now,
            caught_up: recorded.caught_up.unwrap_or(first),
            horizon: 0,
            link: if gateway { Link::Down("not connected yet".into()) } else { Link::None },
            raw_counts: Counters::default(),
            gateway_counts: Counters::default(),
            blocked: None,
            told: BTreeMap::new(),
            last_activity: None,
            file: None,
            unsynced: None,
            fresh: Vec::new(),
        }
    }

    /// From when on the gateway's history is wanted, in milliseconds since the Unix epoch.
    pub(super) fn wanted_since(&self) -> i64 {
        self.caught_up.saturating_sub(OVERLAP_MS).max(0)
    }

    /// Whether there is room for more of the gateway.
    pub(super) fn has_room(&self) -> bool {
        self.blocked.is_none() && self.gateway_bytes < MAX_GATEWAY_BYTES
    }

    /// Incidents since the last call, for whoever wants them at once.
    pub(super) fn take_incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.fresh)
    }

    /// Reads the raw stream and writes what is due. How long nothing more will be, unless the gateway says something.
    pub(super) fn step(&mut self) -> Duration {
        let busy = self.poll_raw();
        self.bring_back();
        let wrote = self.write_due();
        self.sync_at_leisure();
        if busy && self.blocked.is_none() {
            return Duration::ZERO;
        }
        if wrote || !self.raw.is_empty() || !self.gateway.is_empty() {
            return Duration::from_millis(25);
        }
        let now = self.clock.now().as_millisecond();
        let quiet = self.last_activity.is_none_or(|last| now.saturating_sub(last) > 2_000);
        Duration::from_millis(if quiet { 300 } else { 60 })
    }

    fn poll_raw(&mut self) -> bool {
        let now = self.clock.monotonic();
        let room = MAX_RAW_BYTES.saturating_sub(self.raw_bytes);
        let Some(tail) = &mut self.tail else { return false };
        if self.blocked.is_some() || room == 0 || self.raw.len() >= MAX_RAW {
            return false;
        }
        let mut found = Vec::new();
        let busy = tail.poll(room.min(256 << 10), now, &mut found);
        let was_empty = found.is_empty();
        for found in found {
            let (generation, end, text, head) = match found {
                Found::Line { generation, end, text } => {
                    let head = line::read(&text).map(|(_, head)| head);
                    let text = if head.is_ok() { text } else { crate::text::bounded(&text, 300) };
                    (generation, end, text, head)
                }
                Found::Broken { generation, end, why } => (generation, end, String::new(), Err(why)),
                Found::Incident(incident) => {
                    self.incident(incident);
                    continue;
                }
            };
            self.raw_counts.seen += 1;
            self.raw_bytes += text.len();
            self.raw.push_back(RawEntry { generation, end, text, head, arrived: now });
        }
        if !was_empty {
            self.last_activity = Some(self.clock.now().as_millisecond());
        }
        busy
    }

    /// Notes an incident; of one kind, only some in a time are written, with how many there were.
    pub(super) fn incident(&mut self, incident: Incident) {
        let now = self.clock.monotonic();
        let (count, last, silent) = self.told.entry(incident.kind).or_insert((0, Duration::ZERO, 0));
        *count += 1;
        if *count > 8 && now.saturating_sub(*last) < INCIDENT_EVERY {
            *silent += 1;
            return;
        }
        *last = now;
        let more = std::mem::take(silent);
        let incident = if more > 0 {
            Incident::new(incident.kind, &format!("{} (and {more} more of the kind before)", incident.text))
        } else {
            incident
        };
        tracing::warn!(kind = %incident.kind, text = %incident.text, "incident");
        if self.incidents.len() < MAX_INCIDENTS {
            self.incidents.push_back(incident.clone());
        }
        if self.fresh.len() < MAX_INCIDENTS {
            self.fresh.push(incident);
        }
    }

    /// Checks the counters and says how all stands.
    pub(super) fn status(&mut self) -> Status {
        self.raw_counts.held = self.raw.len() as u64;
        let queued = self.gateway.iter().filter(|entry| matches!(entry, GatewayEntry::Item { .. })).count();
        self.gateway_counts.held = (queued + self.deferred.len()) as u64;
        if !self.raw_counts.is_balanced() || !self.gateway_counts.is_balanced() {
            self.incident(Incident::new(
                IncidentKind::CaptureMiscounted,
                &format!(
                    "the counters do not add up: raw {:?}, gateway {:?}",
                    self.raw_counts, self.gateway_counts
                ),
            ));
        }
        let now = self.clock.monotonic();
        let oldest = self.raw.front().map(|entry| entry.arrived);
        let oldest = oldest.into_iter().chain(self.gateway.front().map(GatewayEntry::arrived)).min();
        let lag = oldest.map_or(Duration::ZERO, |arrived| now.saturating_sub(arrived));
        Status {
            raw: self.raw_counts,
            gateway: self.gateway_counts,
            link: self.link.clone(),
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            lag_bytes: self.tail.as_ref().map_or(0, RawTail::behind),
            blocked: self.blocked.as_ref().map(|(_, why)| why.clone()),
            last_activity: self.last_activity,
            sessions: self.runs.sessions().clone(),
            incidents: self.told.iter().map(|(kind, (count, ..))| (*kind, *count)).collect(),
            file: self.file.clone(),
        }
    }
}

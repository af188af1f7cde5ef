//! Both sources into one log: what comes is held a moment, put into the order in which it happened, and written once.
//!
//! **Invariant:** nothing leaves its queue before it is in the log; what cannot be written stays, and nothing more is taken
//! in than the queues hold.
//! **Invariant:** lines of one raw file are written in the file's order, so that the last one written says how far it is
//! recorded.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::incident::{Incident, IncidentKind};
use super::line::{self, Head};
use super::mark::Mark;
use super::observe::{Item, Observer, When};
use super::raw::{Found, RawTail};
use super::recover::{Names, OVERLAP_MS, Recorded};
use super::runs::{Identity, Runs};
use super::status::{Counters, Link, Status};
use crate::clock::SharedClock;
use crate::logs::{LogWriter, LogsError};
use crate::openclaw::event;

/// How long an event is held at least, so that what happened before it on the other side can overtake it.
const SETTLE: Duration = Duration::from_millis(150);
/// How long a raw line is held at most for its session.
const MAX_HOLD: Duration = Duration::from_secs(1);
/// How long an event is held at most, whatever its ts says.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long raw lines wait at most for what the gateway tells of the time nobody listened.
const MAX_CATCH_UP: Duration = Duration::from_secs(20);
/// How long something better is waited for: the tool result that says how a subagent was spawned, a message's run.
const LATER: Duration = Duration::from_secs(2);
/// How long the raw stream may be behind the gateway's message.
const SILENCE: Duration = Duration::from_secs(5);
/// And how often that is waited for, while the raw stream is not read to its end.
const MAX_PUT_OFF: u32 = 24;
/// How long a write that failed is not tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often incidents of one kind are written at most.
const INCIDENT_EVERY: Duration = Duration::from_secs(10);
/// Bounds of the queues.
const MAX_RAW_BYTES: usize = 4 << 20;
const MAX_RAW: usize = 8192;
const MAX_GATEWAY: usize = 8192;
const MAX_GATEWAY_BYTES: usize = 16 << 20;
const MAX_DEFERRED: usize = 4096;
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

enum GatewayEntry {
    Item {
        item: Box<Item>,
        size: usize,
        arrived: Duration,
        at: i64,
    },
    /// All that happened before is told.
    CaughtUp {
        at: i64,
        arrived: Duration,
    },
}

impl GatewayEntry {
    fn arrived(&self) -> Duration {
        match self {
            Self::Item { arrived, .. } | Self::CaughtUp { arrived, .. } => *arrived,
        }
    }
}

struct Deferred {
    due: Duration,
    put_off: u32,
    item: Item,
}

/// Which queue goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Raw,
    Gateway,
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
    gateway_bytes: usize,
    deferred: Vec<Deferred>,
    incidents: VecDeque<Incident>,
    /// Since when raw lines wait for the gateway.
    catching_up: Option<Duration>,
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
            deferred: Vec::new(),
            incidents: VecDeque::new(),
            catching_up: gateway.then_some(now),
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
        self.blocked.is_none()
            && self.gateway.len() < MAX_GATEWAY
            && self.gateway_bytes < MAX_GATEWAY_BYTES
            && self.deferred.len() < MAX_DEFERRED
    }

    /// Incidents since the last call, for whoever wants them at once.
    pub(super) fn take_incidents(&mut self) -> Vec<Incident> {
        std::mem::take(&mut self.fresh)
    }

    /// Takes what the gateway's connection brings.
    pub(super) fn feed(&mut self, feed: Feed) {
        let now = self.clock.now().as_millisecond();
        let mut items = Vec::new();
        match feed {
            Feed::Up => {
                self.link = Link::CatchingUp;
                self.catching_up = Some(self.clock.monotonic());
            }
            Feed::Down(why) => {
                self.link = Link::Down(why);
                // Whoever knew the sessions is gone: raw lines wait no longer than usual.
                self.end_catch_up(None);
            }
            Feed::Gap(lost) => {
                self.incident(Incident::new(
                    IncidentKind::CaptureGap,
                    &format!("{lost} events of the gateway did not arrive; its history is asked for"),
                ));
                self.link = Link::CatchingUp;
                self.catching_up = Some(self.clock.monotonic());
            }
            Feed::Frame { name, payload, at } => {
                self.observer.frame(&name, &payload, at, &mut self.runs, &mut items);
                if !items.is_empty() {
                    self.last_activity = Some(now);
                }
            }
            Feed::Row(row) => Observer::row(&row, &mut self.runs),
            Feed::History { session_key, messages, since } => {
                self.observer.history(&session_key, &messages, since, now, &mut self.runs, &mut items);
            }
            Feed::CaughtUp { at } => {
                self.link = Link::Live;
                self.end_catch_up(Some(at));
            }
        }
        for item in items {
            self.enqueue(item, now);
        }
    }

    fn enqueue(&mut self, item: Item, at: i64) {
        self.gateway_counts.seen += 1;
        let is_left_out =
            |name: &Option<String>| name.as_ref().is_some_and(|name| self.leave_out.contains(name));
        if is_left_out(&item.run) || is_left_out(&item.session) {
            self.gateway_counts.withheld += 1;
            return;
        }
        let waits =
            item.when != When::Now && self.deferred.iter().any(|deferred| deferred.item.name == item.name);
        if waits || self.names.has(&item.name) {
            self.gateway_counts.duplicates += 1;
            return;
        }
        let arrived = self.clock.monotonic();
        let wait = match item.when {
            When::Now => {
                let size = size(&item.body);
                self.gateway_bytes += size;
                self.gateway.push_back(GatewayEntry::Item { item: Box::new(item), size, arrived, at });
                return;
            }
            When::Later => LATER,
            When::UnlessInRaw => SILENCE,
        };
        self.deferred.push(Deferred { due: arrived + wait, put_off: 0, item });
    }

    /// Lets raw lines go on; what was told of the past is put into its order first.
    fn end_catch_up(&mut self, at: Option<i64>) {
        let Some(since) = self.catching_up.take() else { return };
        self.released = self.clock.monotonic();
        // What came before the catch-up began is in its place.
        let before = self.gateway.iter().take_while(|entry| entry.arrived() < since).count();
        let mut told: Vec<GatewayEntry> = self.gateway.drain(before..).collect();
        told.sort_by_key(|entry| match entry {
            GatewayEntry::Item { item, .. } => item.ts,
            GatewayEntry::CaughtUp { .. } => i64::MAX,
        });
        self.gateway.extend(told);
        if let Some(at) = at {
            let arrived = self.clock.monotonic();
            self.gateway.push_back(GatewayEntry::CaughtUp { at, arrived });
        }
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

    /// Puts what was deferred into the queue when its time has come.
    fn bring_back(&mut self) {
        let now = self.clock.monotonic();
        let behind = !self.raw.is_empty() || self.tail.as_ref().is_some_and(|tail| tail.behind() > 0);
        let (due, rest): (Vec<Deferred>, Vec<Deferred>) =
            std::mem::take(&mut self.deferred).into_iter().partition(|deferred| deferred.due <= now);
        self.deferred = rest;
        for mut deferred in due {
            let item = &deferred.item;
            if self.names.has(&item.name) {
                self.gateway_counts.duplicates += 1;
                continue;
            }
            if item.when == When::UnlessInRaw {
                let run = item.run.clone().unwrap_or_default();
                if self.runs.take_end(&run, item.ts) {
                    self.names.add(&item.name);
                    self.gateway_counts.duplicates += 1;
                    continue;
                }
                if (behind || self.catching_up.is_some()) && deferred.put_off < MAX_PUT_OFF {
                    deferred.due = now + SILENCE;
                    deferred.put_off += 1;
                    self.deferred.push(deferred);
                    continue;
                }
                if !self.runs.was_in_raw(&run) {
                    self.incident(Incident::new(
                        IncidentKind::RawSilent,
                        "a model answered, and nothing of its run stands in the raw stream; the answer was taken from the gateway",
                    ));
                }
            }
            let Deferred { item, .. } = deferred;
            let size = size(&item.body);
            self.gateway_bytes += size;
            let at = self.clock.now().as_millisecond();
            self.gateway.push_back(GatewayEntry::Item { item: Box::new(item), size, arrived: now, at });
        }
    }

    /// Which queue's head may go now.
    fn next(&self, now: Duration) -> Option<Source> {
        if let Some(since) = self.catching_up
            && now.saturating_sub(since) < MAX_CATCH_UP
        {
            return None;
        }
        let raw = self.raw.front();
        let gateway = self.gateway.front();
        let age = |arrived: Duration| now.saturating_sub(arrived.max(self.released));
        let raw_is_ready = |entry: &RawEntry| {
            self.link == Link::None
                || age(entry.arrived) >= MAX_HOLD
                || (age(entry.arrived) >= SETTLE
                    && entry.head.as_ref().map_or(true, |head| self.runs.is_settled(&head.run)))
        };
        let gateway_is_ready = |entry: &GatewayEntry| self.tail.is_none() || age(entry.arrived()) >= SETTLE;
        match (raw, gateway) {
            (None, None) => None,
            (Some(raw), None) => raw_is_ready(raw).then_some(Source::Raw),
            (None, Some(gateway)) => gateway_is_ready(gateway).then_some(Source::Gateway),
            (Some(raw), Some(gateway)) => {
                let raw_ts = raw.head.as_ref().map_or(i64::MIN, |head| head.ts);
                let gateway_ts = match gateway {
                    GatewayEntry::Item { item, .. } => item.ts,
                    GatewayEntry::CaughtUp { .. } => i64::MIN,
                };
                let (first, ready, other, overdue) = if raw_ts < gateway_ts {
                    (Source::Raw, raw_is_ready(raw), Source::Gateway, age(gateway.arrived()) >= MAX_WAIT)
                } else {
                    (Source::Gateway, gateway_is_ready(gateway), Source::Raw, age(raw.arrived) >= MAX_WAIT)
                };
                if overdue { Some(other) } else { ready.then_some(first) }
            }
        }
    }

    /// Writes all that may be written now; whether there was anything.
    fn write_due(&mut self) -> bool {
        let now = self.clock.monotonic();
        if self.blocked.as_ref().is_some_and(|(since, _)| now.saturating_sub(*since) < RETRY) {
            return false;
        }
        let mut wrote = false;
        while let Some(incident) = self.incidents.front() {
            let line = self.incident_line(incident);
            if !self.write(line) {
                return wrote;
            }
            self.incidents.pop_front();
            wrote = true;
        }
        while let Some(source) = self.next(now) {
            let done = match source {
                Source::Raw => self.write_raw(),
                Source::Gateway => self.write_gateway(),
            };
            if !done {
                break;
            }
            wrote = true;
        }
        wrote
    }

    fn write_raw(&mut self) -> bool {
        let Some(entry) = self.raw.front() else { return false };
        match &entry.head {
            Err(why) => {
                self.raw_counts.unreadable += 1;
                let why =
                    format!("a line of the raw stream is none that OpenClaw writes: {why}: {}", entry.text);
                self.incident(Incident::new(IncidentKind::RawForeign, &why));
            }
            Ok(head) if self.leave_out.contains(&head.run) => self.raw_counts.withheld += 1,
            Ok(head) if head.thinking && !self.reasoning => {
                let run = head.run.clone();
                self.runs.in_raw(&run, None);
                self.raw_counts.withheld += 1;
            }
            Ok(head) => {
                let identity = self.runs.identity(&head.run);
                let mark =
                    Mark::Raw { sandbox: &self.sandbox, generation: &entry.generation, end: entry.end };
                let Ok((line, _)) = line::read(&entry.text) else { return false };
                let line = line.log_event(identity.as_ref(), self.reasoning, &mark);
                let (run, end) = (head.run.clone(), head.ends.then_some(head.ts));
                if !self.write(line) {
                    return false;
                }
                self.runs.in_raw(&run, end);
                self.raw_counts.recorded += 1;
            }
        }
        if let Some(entry) = self.raw.pop_front() {
            self.raw_bytes = self.raw_bytes.saturating_sub(entry.text.len());
            if let Some(tail) = &mut self.tail {
                tail.settle(&entry.generation, entry.end);
            }
        }
        true
    }

    fn write_gateway(&mut self) -> bool {
        match self.gateway.front() {
            None => return false,
            Some(GatewayEntry::CaughtUp { at, .. }) => {
                self.horizon = self.horizon.max(*at);
                self.catch_up_mark();
            }
            Some(GatewayEntry::Item { item, at, .. }) => {
                if self.names.has(&item.name) {
                    self.gateway_counts.duplicates += 1;
                } else {
                    // While all is told live, what came some seconds ago is recorded.
                    if self.link == Link::Live && self.horizon > 0 {
                        self.horizon = self.horizon.max(at.saturating_sub(10_000));
                    }
                    let line = self.item_line(item);
                    let name = item.name.clone();
                    if !self.write(line) {
                        return false;
                    }
                    self.names.add(&name);
                    self.gateway_counts.recorded += 1;
                    self.catch_up_mark();
                }
            }
        }
        if let Some(GatewayEntry::Item { size, .. }) = self.gateway.pop_front() {
            self.gateway_bytes = self.gateway_bytes.saturating_sub(size);
        }
        true
    }

    /// Moves the mark as far as nothing is deferred that happened before.
    fn catch_up_mark(&mut self) {
        let waiting = self.deferred.iter().map(|deferred| deferred.item.ts.saturating_sub(1_000)).min();
        self.caught_up = self.caught_up.max(self.horizon.min(waiting.unwrap_or(i64::MAX)));
    }

    fn item_line(&self, item: &Item) -> String {
        let active = || {
            let session = self.runs.sessions().get(item.session.as_deref()?)?;
            session.active_run.clone()
        };
        let run = item.run.clone().or_else(active).unwrap_or_else(|| format!("message:{}", item.name));
        let identity = match &item.session {
            Some(session) => Some(Identity::of(session, item.agent.as_deref())),
            None => self.runs.identity(&run),
        };
        let mark = Mark::Gateway { sandbox: &self.sandbox, caught_up: self.caught_up, name: &item.name };
        event_line(item.ts, item.event, &run, &item.body, identity.as_ref(), &mark)
    }

    fn incident_line(&self, incident: &Incident) -> String {
        let ts = self.clock.now().as_millisecond();
        let mut body = Map::new();
        body.insert("kind".into(), incident.kind.as_str().into());
        body.insert("text".into(), incident.to_string().into());
        let run = format!("sentrix:{}:{}:{ts}", self.sandbox, incident.kind);
        let identity =
            Identity { session_key: format!("sentrix:{}", self.sandbox), agent_id: Some("sentrix".into()) };
        event_line(ts, event::INCIDENT, &run, &body, Some(&identity), &Mark::Own { sandbox: &self.sandbox })
    }

    /// Appends a line; whether it is in the log.
    fn write(&mut self, line: String) -> bool {
        let written =
            RawValue::from_string(line).map_err(LogsError::sink).and_then(|line| self.writer.append(&line));
        let now = self.clock.monotonic();
        match written {
            Ok(path) => {
                self.file = Some(path);
                self.unsynced.get_or_insert(now);
                if self.blocked.take().is_some() {
                    self.released = now;
                    tracing::warn!("the log can be written again");
                }
                true
            }
            Err(error) => {
                let why = crate::text::causes(&error);
                if self.blocked.is_none() {
                    tracing::error!(error = %why, "the log cannot be written; the capture waits");
                    self.incident(Incident::new(
                        IncidentKind::CaptureBlocked,
                        &format!("the log could not be written: {why}; the capture waited"),
                    ));
                }
                self.blocked = Some((now, why));
                false
            }
        }
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

    fn sync_at_leisure(&mut self) {
        let now = self.clock.monotonic();
        if self.unsynced.is_some_and(|since| now.saturating_sub(since) > Duration::from_secs(10)) {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.unsynced = None;
        if let Err(error) = self.writer.sync() {
            tracing::warn!(error = %crate::text::causes(&error), "the log file cannot be synced");
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

    /// Writes all that is left, as far as it can be had, and ends the file.
    pub(super) fn finish(&mut self) {
        self.end_catch_up(None);
        for _ in 0..10_000 {
            let busy = self.poll_raw();
            let held: Vec<Deferred> = std::mem::take(&mut self.deferred);
            for deferred in held {
                // What the raw stream may still bring is found in the history by whoever comes next.
                if deferred.item.when == When::UnlessInRaw {
                    self.gateway_counts.seen -= 1;
                    continue;
                }
                let item = Item { when: When::Now, ..deferred.item };
                self.gateway_counts.seen -= 1;
                self.enqueue(item, 0);
            }
            while let Some(incident) = self.incidents.front() {
                let line = self.incident_line(incident);
                if !self.write(line) {
                    break;
                }
                self.incidents.pop_front();
            }
            let ts = |head: &Result<Head, String>| head.as_ref().map_or(i64::MIN, |head| head.ts);
            while !self.raw.is_empty() || !self.gateway.is_empty() {
                let raw = self.raw.front().map(|entry| ts(&entry.head));
                let gateway = self.gateway.front().map(|entry| match entry {
                    GatewayEntry::Item { item, .. } => item.ts,
                    GatewayEntry::CaughtUp { .. } => i64::MIN,
                });
                let raw_first = raw.is_some_and(|raw| gateway.is_none_or(|gateway| raw < gateway));
                if !(if raw_first { self.write_raw() } else { self.write_gateway() }) {
                    break;
                }
            }
            if !busy || self.blocked.is_some() {
                break;
            }
        }
        self.sync();
        if let Err(error) = self.writer.close() {
            tracing::warn!(error = %crate::text::causes(&error), "the log file cannot be ended");
        }
    }
}

fn size(body: &Map<String, Value>) -> usize {
    let of = |value: &Value| match value {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    };
    body.values().map(of).sum::<usize>() + 256
}

fn event_line(
    ts: i64,
    event: &str,
    run: &str,
    body: &Map<String, Value>,
    identity: Option<&Identity>,
    mark: &Mark<'_>,
) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut out = format!("{{\"ts\":{ts},\"event\":{},\"runId\":{}", quoted(event), quoted(run));
    let mut add = |key: &str, value: String| {
        out.push(',');
        out.push_str(&quoted(key));
        out.push(':');
        out.push_str(&value);
    };
    for (key, value) in body {
        add(key, value.to_string());
    }
    if let Some(identity) = identity {
        add("sessionKey", quoted(&identity.session_key));
        if let Some(agent) = &identity.agent_id {
            add("agentId", quoted(agent));
        }
    }
    add("src", quoted(&mark.to_string()));
    out.push('}');
    out
}

//! Both queues into the log: which one goes on, what an event's line is, and what happens when it cannot be written.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::queue::GatewayEntry;
use super::{Collector, MAX_GATEWAY_BYTES, RawEntry};
use crate::capture::incident::{Incident, IncidentKind};
use crate::capture::line::{self, Head};
use crate::capture::mark::Mark;
use crate::capture::observe::{Item, When};
use crate::capture::runs::Identity;
use crate::capture::status::Link;
use crate::logs::LogsError;
use crate::openclaw::event;

/// How long an event is held at least, so that what happened before it on the other side can overtake it.
const SETTLE: Duration = Duration::from_millis(150);
/// How long a raw line is held at most for its session.
const MAX_HOLD: Duration = Duration::from_secs(1);
/// How long an event is held at most, whatever its ts says.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How long raw lines wait at most for what the gateway tells of the time nobody listened.
const MAX_CATCH_UP: Duration = Duration::from_mins(2);
/// And after the last of it that it told.
const MAX_SILENT_CATCH_UP: Duration = Duration::from_secs(20);
/// How long a write that failed is not tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Which queue goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Raw,
    Gateway,
}

impl Collector {
    /// Which queue's head may go now.
    fn next(&self, now: Duration) -> Option<Source> {
        if let Some(since) = self.catching_up
            && now.saturating_sub(since.max(self.history_told)) < MAX_SILENT_CATCH_UP
            && now.saturating_sub(since) < MAX_CATCH_UP
        {
            // More than the queue holds is written early, so that the rest can come in; raw lines wait for their sessions.
            if self.gateway_bytes < MAX_GATEWAY_BYTES {
                return None;
            }
            if !self.gateway.is_empty() {
                return Some(Source::Gateway);
            }
            let head = self.raw.front().and_then(|entry| entry.head.as_ref().ok());
            return head.and_then(|head| self.runs.identity(&head.run)).map(|_| Source::Raw);
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
    pub(super) fn write_due(&mut self) -> bool {
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

    pub(super) fn sync_at_leisure(&mut self) {
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

    /// Writes all that is left, as far as it can be had, and ends the file.
    pub(in super::super) fn finish(&mut self) {
        self.end_catch_up(None);
        for _ in 0..10_000 {
            let busy = self.poll_raw();
            for deferred in self.deferred.take() {
                self.gateway_bytes = self.gateway_bytes.saturating_sub(deferred.size);
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

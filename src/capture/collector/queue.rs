//! The gateway's queue: what it tells, what waits for something better, and what it told late put into its order.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Collector, Feed};
use crate::capture::incident::{Incident, IncidentKind};
use crate::capture::observe::{Item, Observer, When};
use crate::capture::status::Link;

/// How long something better is waited for: the tool result that says how a subagent was spawned, a message's run.
const LATER: Duration = Duration::from_secs(2);
/// How long the raw stream may be behind the gateway's message.
const SILENCE: Duration = Duration::from_secs(5);
/// And how often that is waited for, while the raw stream is not read to its end.
const MAX_PUT_OFF: u32 = 24;

/// What an item takes besides its texts, about.
const ITEM: usize = 1024;

pub(super) enum GatewayEntry {
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
    pub(super) fn arrived(&self) -> Duration {
        match self {
            Self::Item { arrived, .. } | Self::CaughtUp { arrived, .. } => *arrived,
        }
    }
}

pub(super) struct Deferred {
    pub(super) due: Duration,
    pub(super) put_off: u32,
    pub(super) size: usize,
    pub(super) item: Item,
}

/// What is deferred, by when it is due.
#[derive(Default)]
pub(super) struct Waiting {
    by_due: BTreeMap<(Duration, u64), Deferred>,
    next: u64,
    names: HashSet<String>,
    /// How many happened when.
    times: BTreeMap<i64, u32>,
}

impl Waiting {
    pub(super) fn push(&mut self, deferred: Deferred) {
        self.names.insert(deferred.item.name.clone());
        *self.times.entry(deferred.item.ts).or_default() += 1;
        self.by_due.insert((deferred.due, self.next), deferred);
        self.next += 1;
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn len(&self) -> usize {
        self.by_due.len()
    }

    /// Takes what is due by `now`.
    fn take_due(&mut self, now: Duration) -> Vec<Deferred> {
        let mut due = Vec::new();
        while let Some(first) = self.by_due.first_entry()
            && first.key().0 <= now
        {
            let deferred = first.remove();
            self.names.remove(&deferred.item.name);
            if let Some(count) = self.times.get_mut(&deferred.item.ts) {
                *count -= 1;
                if *count == 0 {
                    self.times.remove(&deferred.item.ts);
                }
            }
            due.push(deferred);
        }
        due
    }

    /// Takes all of it.
    pub(super) fn take(&mut self) -> Vec<Deferred> {
        std::mem::take(self).by_due.into_values().collect()
    }

    /// When the first of it happened.
    fn earliest(&self) -> Option<i64> {
        self.times.first_key_value().map(|(at, _)| *at)
    }
}

impl Collector {
    /// Takes what the gateway's connection brings.
    pub(in super::super) fn feed(&mut self, feed: Feed) {
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
                // One gap after the other does not hold raw lines back for ever.
                self.catching_up.get_or_insert(self.clock.monotonic());
            }
            Feed::Frame { name, payload, at } => {
                self.observer.frame(&name, &payload, at, &mut self.runs, &mut items);
                if !items.is_empty() {
                    self.last_activity = Some(now);
                }
            }
            Feed::Row(row) => {
                self.history_told = self.clock.monotonic();
                Observer::row(&row, &mut self.runs);
            }
            Feed::History { session_key, messages, since } => {
                self.history_told = self.clock.monotonic();
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

    pub(super) fn enqueue(&mut self, item: Item, at: i64) {
        self.gateway_counts.seen += 1;
        let is_left_out =
            |name: &Option<String>| name.as_ref().is_some_and(|name| self.leave_out.contains(name));
        if is_left_out(&item.run) || is_left_out(&item.session) {
            self.gateway_counts.withheld += 1;
            return;
        }
        let waits = item.when != When::Now && self.deferred.has(&item.name);
        if waits || self.names.has(&item.name) {
            self.gateway_counts.duplicates += 1;
            return;
        }
        let arrived = self.clock.monotonic();
        let size = size(&item.body);
        self.gateway_bytes += size;
        let wait = match item.when {
            When::Now => {
                self.gateway.push_back(GatewayEntry::Item { item: Box::new(item), size, arrived, at });
                return;
            }
            When::Later => LATER,
            When::UnlessInRaw => SILENCE,
        };
        self.deferred.push(Deferred { due: arrived + wait, put_off: 0, size, item });
    }

    /// Lets raw lines go on; what was told of the past is put into its order first.
    pub(super) fn end_catch_up(&mut self, at: Option<i64>) {
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

    /// Puts what was deferred into the queue when its time has come.
    pub(super) fn bring_back(&mut self) {
        let now = self.clock.monotonic();
        let behind = !self.raw.is_empty() || self.tail.as_ref().is_some_and(|tail| tail.behind() > 0);
        for mut deferred in self.deferred.take_due(now) {
            let item = &deferred.item;
            if self.names.has(&item.name) {
                self.gateway_counts.duplicates += 1;
                self.gateway_bytes = self.gateway_bytes.saturating_sub(deferred.size);
                continue;
            }
            if item.when == When::UnlessInRaw {
                let run = item.run.clone().unwrap_or_default();
                if self.runs.take_end(&run, item.ts) {
                    self.names.add(&item.name);
                    self.gateway_counts.duplicates += 1;
                    self.gateway_bytes = self.gateway_bytes.saturating_sub(deferred.size);
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
            let Deferred { item, size, .. } = deferred;
            let at = self.clock.now().as_millisecond();
            self.gateway.push_back(GatewayEntry::Item { item: Box::new(item), size, arrived: now, at });
        }
    }

    /// Moves the mark as far as nothing is deferred that happened before.
    pub(super) fn catch_up_mark(&mut self) {
        let waiting = self.deferred.earliest().map(|at| at.saturating_sub(1_000));
        self.caught_up = self.caught_up.max(self.horizon.min(waiting.unwrap_or(i64::MAX)));
    }
}

fn size(body: &Map<String, Value>) -> usize {
    let of = |value: &Value| match value {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    };
    body.values().map(of).sum::<usize>() + ITEM
}

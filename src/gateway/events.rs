//! The bounded queue of what the gateway says unasked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

/// Events that wait at most.
const MOST_EVENTS: usize = 4096;
/// Bytes of events that wait at most; one larger event is still taken by an empty queue.
const MOST_BYTES: usize = 64 << 20;

/// Something that happened at the gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// In the gateway's words.
    Frame(EventFrame),
    /// Here some are missing: the reader was too slow, the gateway left numbers out, or a frame could not be read.
    Gap {
        /// How many.
        dropped: u64,
    },
}

/// An event as the gateway sent it: untrusted in every part.
#[derive(Clone, Debug, PartialEq)]
pub struct EventFrame {
    /// As in [`crate::openclaw::gateway::names::event`].
    pub name: String,
    /// What it says; null if nothing.
    pub payload: Value,
    /// Its number in this connection; events for one connection alone have none.
    pub seq: Option<u64>,
    /// When it came, by our clock.
    pub at: Timestamp,
}

struct Queued {
    name: String,
    payload: Option<Box<RawValue>>,
    seq: Option<u64>,
    at: Timestamp,
    size_bytes: usize,
    dropped_before: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Dropped since the last event that was taken.
    dropped: AtomicU64,
    /// Dropped in all.
    total: AtomicU64,
}

/// The reader's end of the queue.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
    /// An event whose gap was told before it.
    held: Option<Queued>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("name", &self.name).field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl Events {
    /// The next event, in the order of the gateway; nothing once the connection has ended and all was read.
    ///
    /// # Cancel safety
    /// No event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(held) = self.held.take() {
            return Some(self.give(held));
        }
        if let Some(queued) = self.queue.recv().await {
            return Some(self.give(queued));
        }
        let dropped = self.shared.dropped.swap(0, Ordering::AcqRel);
        (dropped > 0).then_some(Event::Gap { dropped })
    }

    fn give(&mut self, mut queued: Queued) -> Event {
        if queued.dropped_before > 0 {
            let dropped = std::mem::take(&mut queued.dropped_before);
            self.held = Some(queued);
            return Event::Gap { dropped };
        }
        self.shared.waiting.fetch_sub(queued.size_bytes, Ordering::AcqRel);
        let Queued { name, payload, seq, at, .. } = queued;
        let payload = payload.map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()));
        match payload {
            Ok(payload) => Event::Frame(EventFrame { name, payload, seq, at }),
            Err(error) => {
                tracing::warn!(%error, "an event of the gateway cannot be read");
                self.shared.total.fetch_add(1, Ordering::AcqRel);
                Event::Gap { dropped: 1 }
            }
        }
    }

    /// How many events were dropped since the connection began.
    pub fn dropped(&self) -> u64 {
        self.shared.total.load(Ordering::Acquire)
    }
}

/// The connection's end of the queue.
#[derive(Debug)]
pub(super) struct Sender {
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
    last_seq: Option<u64>,
}

pub(super) fn queue() -> (Sender, Events) {
    let (sender, receiver) = mpsc::channel(MOST_EVENTS);
    let shared = Arc::new(Shared::default());
    let events = Events { queue: receiver, shared: Arc::clone(&shared), held: None };
    (Sender { queue: sender, shared, last_seq: None }, events)
}

impl Sender {
    /// Queues an event, or counts it as dropped.
    pub(super) fn put(&mut self, name: &str, seq: Option<u64>, payload: Option<&RawValue>, at: Timestamp) {
        if let Some(seq) = seq {
            let skipped = self.last_seq.map_or(0, |last| seq.saturating_sub(last.saturating_add(1)));
            self.drop_some(skipped);
            self.last_seq = Some(seq);
        }
        let size_bytes = name.len() + payload.map_or(0, |raw| raw.get().len());
        let waiting = self.shared.waiting.load(Ordering::Acquire);
        if waiting > 0 && waiting.saturating_add(size_bytes) > MOST_BYTES {
            self.drop_some(1);
            return;
        }
        let Ok(place) = self.queue.try_reserve() else {
            // A queue without a reader loses nothing that anybody would miss.
            if !self.queue.is_closed() {
                self.drop_some(1);
            }
            return;
        };
        self.shared.waiting.fetch_add(size_bytes, Ordering::AcqRel);
        let dropped_before = self.shared.dropped.swap(0, Ordering::AcqRel);
        let (name, payload) = (name.to_owned(), payload.map(ToOwned::to_owned));
        place.send(Queued { name, payload, seq, at, size_bytes, dropped_before });
    }

    fn drop_some(&self, count: u64) {
        let add = |now: u64| Some(now.saturating_add(count));
        for counter in [&self.shared.dropped, &self.shared.total] {
            // The closure never refuses.
            counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(event: Option<Event>) -> (String, Option<u64>) {
        match event {
            Some(Event::Frame(frame)) => (frame.name, frame.seq),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_full_queue_says_where_it_lost_how_many() {
        let (mut sender, mut events) = queue();
        let at = Timestamp::UNIX_EPOCH;
        let most = u64::try_from(MOST_EVENTS).unwrap();
        for seq in 0..most + 3 {
            sender.put("agent", Some(seq), None, at);
        }
        assert_eq!(events.dropped(), 3);
        for seq in 0..most {
            assert_eq!(named(events.next().await), ("agent".into(), Some(seq)));
        }
        sender.put("agent", Some(most + 5), None, at);
        assert_eq!(events.next().await, Some(Event::Gap { dropped: 5 }), "ours and the numbers left out");
        assert_eq!(named(events.next().await).1, Some(most + 5));
        sender.put("tick", Some(u64::MAX), None, at);
        drop(sender);
        assert!(matches!(events.next().await, Some(Event::Gap { .. })));
        named(events.next().await);
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let (mut sender, mut events) = queue();
        let text = format!("\"{}\"", "x".repeat(20 << 20));
        let payload: &RawValue = serde_json::from_str(&text).unwrap();
        for _ in 0..5 {
            sender.put("chat", None, Some(payload), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(events.dropped(), 2);
        for _ in 0..3 {
            named(events.next().await);
        }
        sender.put("chat", None, Some(payload), Timestamp::UNIX_EPOCH);
        assert_eq!(events.next().await, Some(Event::Gap { dropped: 2 }));
        named(events.next().await);
    }
}

//! How attempts become events, and how events reach what keeps them.
//!
//! **Invariant:** nothing goes out unrecorded: an allowed attempt has its event's place before a name is resolved for it.
//! **Invariant:** the queue is bounded; a denial that finds no place is counted.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

use super::event::{EgressEvent, Method, Reason, Verdict};
use super::live::Live;
use super::name::Target;
use crate::clock::SharedClock;
use crate::supervise::{Shutdown, TaskKind};
use crate::text::bounded;

/// Most events that are handed over at once.
const BATCH: usize = 512;
/// Most destinations of which it is known that they were seen before.
const MOST_SEEN: usize = 20_000;
/// Longest host that an event tells, in characters.
const LONGEST_HOST: usize = 253;
/// Longest detail of an event, in characters.
const LONGEST_DETAIL: usize = 300;
/// How long the recorder waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Keeps events.
pub trait Sink: Debug + Send + Sync {
    /// Destinations that were seen before: host and port.
    fn known(&self) -> Vec<(String, u16)> {
        Vec::new()
    }

    /// Keeps events; `lost` says how many more found no place since the last call. May wait for a disk; is called again with
    /// the same events where it fails.
    ///
    /// # Errors
    /// What went wrong, for people.
    fn record(&self, events: &[EgressEvent], lost: u64) -> Result<(), String>;
}

/// Where attempts are told.
#[derive(Debug)]
pub(super) struct Recorder {
    sandbox: RwLock<String>,
    queue: Sender<EgressEvent>,
    clock: SharedClock,
    seen: Mutex<HashSet<(String, u16)>>,
    lost: AtomicU64,
    pub(super) counts: Arc<Counts>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) allowed: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) told: AtomicU64,
    pub(super) recorded: AtomicU64,
    pub(super) by_reason: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) fault: Mutex<Option<String>>,
}

impl Recorder {
    /// A recorder with room for so many events, and what carries them to the sink.
    pub(super) fn start(
        sandbox: String,
        room: usize,
        sink: Arc<dyn Sink>,
        clock: SharedClock,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let (queue, events) = mpsc::channel(room.max(1));
        let counts = Arc::new(Counts::default());
        let seen = sink.known().into_iter().take(MOST_SEEN).collect();
        let recorder = Arc::new(Self {
            sandbox: RwLock::new(sandbox),
            queue,
            clock,
            seen: Mutex::new(seen),
            lost: AtomicU64::new(0),
            counts: Arc::clone(&counts),
        });
        let weak = Arc::downgrade(&recorder);
        let lost = move || weak.upgrade().map_or(0, |recorder| recorder.lost.swap(0, Ordering::Relaxed));
        shutdown.spawn("door recorder", TaskKind::Vital, carry(events, sink, counts, lost));
        recorder
    }

    /// The name that events have from now on.
    pub(super) fn name(&self, sandbox: &str) {
        sandbox.clone_into(&mut self.sandbox.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Begins an attempt. Until it is said otherwise it counts as refused.
    pub(super) fn attempt(self: &Arc<Self>, method: Method, host: &str, port: u16) -> Attempt {
        Attempt {
            started: self.clock.monotonic(),
            at_ms: self.clock.now().as_millisecond(),
            method,
            host: bounded(host, LONGEST_HOST),
            port,
            address: None,
            verdict: Verdict::Denied,
            reason: Some(Reason::BadRequest),
            detail: String::new(),
            live: None,
            place: None,
            recorder: Arc::clone(self),
        }
    }

    fn is_new(&self, host: &str, port: u16) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        !host.is_empty() && seen.len() < MOST_SEEN && seen.insert((host.to_owned(), port))
    }
}

/// Carries events to the sink until nobody can tell any more.
async fn carry(
    mut events: Receiver<EgressEvent>,
    sink: Arc<dyn Sink>,
    counts: Arc<Counts>,
    lost: impl Fn() -> u64 + Send,
) -> Result<(), Infallible> {
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, BATCH).await > 0 {
        let number = batch.len() as u64;
        let lost = lost();
        let mut said = false;
        loop {
            let (to, held) = (Arc::clone(&sink), std::mem::take(&mut batch));
            let written = tokio::task::spawn_blocking(move || (to.record(&held, lost), held)).await;
            let Ok((written, held)) = written else { break };
            let Err(error) = written else { break };
            batch = held;
            if !std::mem::replace(&mut said, true) {
                tracing::error!(%error, "attempts of the sandbox to go out cannot be recorded; it is tried again");
            }
            *counts.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            tokio::time::sleep(AFTER_FAILURE).await;
        }
        batch.clear();
        counts.recorded.fetch_add(number, Ordering::Relaxed);
        *counts.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    Ok(())
}

/// One attempt; its event is told when it is dropped.
#[derive(Debug)]
pub(super) struct Attempt {
    started: Duration,
    at_ms: i64,
    method: Method,
    host: String,
    port: u16,
    address: Option<IpAddr>,
    verdict: Verdict,
    reason: Option<Reason>,
    detail: String,
    pub(super) live: Option<Arc<Live>>,
    place: Option<OwnedPermit<EgressEvent>>,
    recorder: Arc<Recorder>,
}

impl Attempt {
    /// Its host in the one spelling.
    pub(super) fn name(&mut self, target: &Target) {
        target.host.as_str().clone_into(&mut self.host);
        self.port = target.port;
    }

    /// It is the door's own.
    pub(super) fn is_probe(&mut self) {
        self.method = Method::Probe;
    }

    /// Takes a place for its event.
    ///
    /// # Errors
    /// Where there is none in time.
    pub(super) async fn reserve(&mut self, time: Duration) -> Result<(), Reason> {
        let place = tokio::time::timeout(time, self.recorder.queue.clone().reserve_owned()).await;
        self.place = Some(place.map_err(|_| Reason::RecorderStuck)?.map_err(|_| Reason::Closing)?);
        Ok(())
    }

    /// The policy allows it.
    pub(super) fn allow(&mut self, by: &str) {
        self.verdict = Verdict::Allowed;
        self.reason = None;
        self.detail = bounded(by, LONGEST_DETAIL);
    }

    /// It goes to this address.
    pub(super) fn reach(&mut self, address: IpAddr) {
        self.address = Some(address);
    }

    /// It is refused.
    pub(super) fn refuse(&mut self, why: Reason, detail: &str) {
        self.verdict = Verdict::Denied;
        self.reason = Some(why);
        self.detail = bounded(detail, LONGEST_DETAIL);
    }

    /// It was allowed and came to nothing.
    pub(super) fn fail(&mut self, why: Reason, detail: &str) {
        self.reason = Some(why);
        self.detail = bounded(detail, LONGEST_DETAIL);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let (bytes_up, bytes_down) = self.live.as_ref().map_or((0, 0), |live| live.bytes());
        if let Some(why) = self.live.as_ref().and_then(|live| live.why()) {
            self.reason = Some(why);
            if matches!(why, Reason::Revoked | Reason::UploadLimit | Reason::TotalLimit) {
                self.verdict = Verdict::Denied;
            }
        }
        // Whatever of it is still open has nobody any more.
        if let Some(live) = &self.live {
            live.end.cancel();
        }
        let counts = &self.recorder.counts;
        let counter = match (self.verdict, self.reason) {
            (Verdict::Denied, _) => &counts.denied,
            (Verdict::Allowed, Some(Reason::Unresolved | Reason::Unreachable | Reason::UpstreamBroken)) => {
                &counts.failed
            }
            (Verdict::Allowed, _) => &counts.allowed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(reason) = self.reason {
            let mut by_reason = counts.by_reason.lock().unwrap_or_else(PoisonError::into_inner);
            *by_reason.entry(reason.word()).or_default() += 1;
        }
        let took = self.recorder.clock.monotonic().saturating_sub(self.started);
        let event = EgressEvent {
            at_ms: self.at_ms,
            sandbox: self.recorder.sandbox.read().unwrap_or_else(PoisonError::into_inner).clone(),
            method: self.method,
            first_seen: self.method != Method::Probe && self.recorder.is_new(&self.host, self.port),
            host: std::mem::take(&mut self.host),
            port: self.port,
            address: self.address,
            bytes_up,
            bytes_down,
            verdict: self.verdict,
            reason: self.reason,
            detail: std::mem::take(&mut self.detail),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        };
        match self.place.take() {
            Some(place) => {
                drop(place.send(event));
                counts.told.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                if self.recorder.queue.try_send(event).is_ok() {
                    counts.told.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.recorder.lost.fetch_add(1, Ordering::Relaxed);
                    if self.recorder.counts.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::warn!("more denied attempts than can be recorded; the rest is counted");
                    }
                }
            }
        }
    }
}

/// A sink that keeps the last events in memory: for tests and benches.
#[derive(Debug, Default)]
pub struct MemorySink {
    events: Mutex<std::collections::VecDeque<EgressEvent>>,
    lost: AtomicU64,
}

impl MemorySink {
    /// The last ten thousand events, the oldest first.
    pub fn events(&self) -> Vec<EgressEvent> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Events that found no place.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Sink for MemorySink {
    fn record(&self, events: &[EgressEvent], lost: u64) -> Result<(), String> {
        let mut held = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(events.iter().cloned());
        while held.len() > 10_000 {
            held.pop_front();
        }
        self.lost.fetch_add(lost, Ordering::Relaxed);
        Ok(())
    }
}

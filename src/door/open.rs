//! The door itself: takes connections, holds the rules, and sweeps.

use std::convert::Infallible;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use super::event::{Method, Reason};
use super::fault::{DoorError, DoorErrorKind};
use super::file;
use super::limits::Limits;
use super::listener::{DoorAddress, DoorListener};
use super::live::Registry;
use super::outside::Outside;
use super::record::{Recorder, Sink};
use super::rule::{Decision, Destination, Policy};
use super::serve;
use crate::clock::SharedClock;
use crate::supervise::{Shutdown, TaskKind};
use crate::text;

/// How often idle connections, rules that end and changes of the file of rules are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// How long the door waits when it cannot take a connection.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What a door works with.
#[derive(Clone, Debug)]
pub struct Fittings {
    /// The sandbox it belongs to, for its events.
    pub sandbox: String,
    /// The rules to begin with.
    pub policy: Policy,
    /// How much may go through.
    pub limits: Limits,
    /// The world beyond it.
    pub outside: Arc<dyn Outside>,
    /// What keeps its events.
    pub sink: Arc<dyn Sink>,
    /// The time.
    pub clock: SharedClock,
    /// Where its work is spawned. Draining does not close a door: what is under way may need it. Aborting does.
    pub shutdown: Shutdown,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) limits: Limits,
    pub(super) outside: Arc<dyn Outside>,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
    pub(super) registry: Registry,
    pub(super) recorder: Arc<Recorder>,
    pub(super) closing: CancellationToken,
    pub(super) probe_token: String,
    policy: RwLock<Arc<Policy>>,
    slots: Arc<Semaphore>,
    rate: DefaultDirectRateLimiter,
    accepted: AtomicU64,
    reloads: AtomicU64,
    rules_fault: Mutex<Option<String>>,
    watched: Mutex<Option<Watched>>,
}

impl Inner {
    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes connections that the rules no longer allow.
    fn revoke(&self) {
        let (policy, now) = (self.policy(), self.clock.now());
        for live in self.registry.open() {
            let stays = match policy.decide(&live.target, now) {
                Decision::Allowed { private, .. } => private || !live.is_private.load(Ordering::Relaxed),
                Decision::NotAllowed | Decision::Denied(_) => false,
            };
            if !stays {
                live.stop(Reason::Revoked);
            }
        }
    }
}

/// What went through a door so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Connections of clients that were taken.
    pub connections: u64,
    /// Attempts under way.
    pub open: u64,
    /// Attempts that were allowed and have ended.
    pub allowed: u64,
    /// Attempts that were refused.
    pub denied: u64,
    /// Attempts that were allowed and reached nobody.
    pub failed: u64,
    /// Refusals, failures and early ends by their reason.
    pub by_reason: std::collections::BTreeMap<&'static str, u64>,
    /// Bytes that went out.
    pub bytes_up: u64,
    /// Bytes that came in.
    pub bytes_down: u64,
    /// Events that the sink has.
    pub recorded: u64,
    /// Events of denials that found no place.
    pub lost: u64,
    /// Changes of the rules.
    pub reloads: u64,
    /// What is wrong with the file of rules as it is now; the last good rules hold meanwhile.
    pub rules_fault: Option<String>,
    /// Why events cannot be recorded at present.
    pub record_fault: Option<String>,
}

/// The only way out of a sandbox. Closes when the last copy of it is dropped.
#[derive(Clone, Debug)]
pub struct Door {
    pub(super) inner: Arc<Inner>,
    pub(super) address: DoorAddress,
    _open: Arc<Open>,
}

/// Closes the door when it is dropped.
#[derive(Debug)]
struct Open(CancellationToken);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Door {
    /// Opens a door. Must be called within a runtime.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub fn open(listener: DoorListener, fittings: Fittings) -> Result<Self, DoorError> {
        let address = listener
            .address()
            .map_err(|error| DoorError { what: "the door".into(), kind: DoorErrorKind::Bind(error) })?;
        let limits = fittings.limits;
        let recorder = Recorder::start(
            fittings.sandbox,
            limits.waiting_events.saturating_add(limits.connections),
            fittings.sink,
            Arc::clone(&fittings.clock),
            &fittings.shutdown,
        );
        let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(number(limits.new_per_second)).allow_burst(number(limits.burst));
        let inner = Arc::new(Inner {
            limits,
            outside: fittings.outside,
            registry: Registry::new(
                Arc::clone(&fittings.clock),
                limits.upload_bytes,
                limits.upload_bytes_per_hour,
            ),
            clock: fittings.clock,
            shutdown: fittings.shutdown.clone(),
            recorder,
            closing: CancellationToken::new(),
            probe_token: uuid::Uuid::now_v7().to_string(),
            policy: RwLock::new(Arc::new(fittings.policy)),
            slots: Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
            rate: RateLimiter::direct(quota),
            accepted: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            rules_fault: Mutex::default(),
            watched: Mutex::default(),
        });
        fittings.shutdown.spawn("door", TaskKind::Vital, take(Arc::clone(&inner), listener));
        fittings.shutdown.spawn("door sweep", TaskKind::Vital, sweep(Arc::clone(&inner)));
        let open = Arc::new(Open(inner.closing.clone()));
        Ok(Self { inner, address, _open: open })
    }

    /// Where clients reach it.
    pub const fn address(&self) -> &DoorAddress {
        &self.address
    }

    /// The rules that hold.
    pub fn policy(&self) -> Arc<Policy> {
        self.inner.policy()
    }

    /// Changes the rules at once, for new connections and for open ones: those that the new rules do not allow are closed.
    pub fn reload(&self, policy: Policy) {
        reload(&self.inner, policy);
    }

    /// Follows a file of rules: each change is read, and holds if it is good. `destinations` is what the configuration
    /// needs, whatever the file says. The file is read once at the beginning too, so no change is missed.
    pub fn watch(&self, path: &Path, destinations: Vec<Destination>) {
        let watched = Watched { path: path.to_owned(), destinations, known: Stand::Unknown };
        let before = self.inner.watched.lock().unwrap_or_else(PoisonError::into_inner).replace(watched);
        if before.is_none() {
            self.inner.shutdown.spawn("door rules", TaskKind::Vital, watch(Arc::clone(&self.inner)));
        }
    }

    /// Looks at the followed file at once. Gives what is wrong with it as it is now; the last good rules hold meanwhile.
    pub fn refresh(&self) -> Option<String> {
        self.inner.look()
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        let counts = &self.inner.recorder.counts;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (bytes_up, bytes_down) = self.inner.registry.bytes();
        Counters {
            connections: of(&self.inner.accepted),
            open: self.inner.registry.count() as u64,
            allowed: of(&counts.allowed),
            denied: of(&counts.denied),
            failed: of(&counts.failed),
            by_reason: counts.by_reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_up,
            bytes_down,
            recorded: of(&counts.recorded),
            lost: of(&counts.lost),
            reloads: of(&self.inner.reloads),
            rules_fault: self.inner.rules_fault.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            record_fault: counts.fault.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The name that events have from now on, so that what a test of ours tries is not taken for the sandbox's.
    pub fn name_events(&self, sandbox: &str) {
        self.inner.recorder.name(sandbox);
    }

    /// Takes no more connections, and ends those that are open.
    pub fn close(&self) {
        self.inner.closing.cancel();
    }

    /// Closes the door and waits until its last event is recorded, or for so long. Gives whether all are.
    pub async fn finish(self, patience: Duration) -> bool {
        self.close();
        let counts = Arc::clone(&self.inner.recorder.counts);
        let all = async {
            let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            while self.inner.registry.count() > 0 || of(&counts.recorded) < of(&counts.told) {
                tokio::time::sleep(AFTER_FAILURE / 5).await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }
}

fn reload(inner: &Inner, policy: Policy) {
    *inner.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    inner.reloads.fetch_add(1, Ordering::Relaxed);
    inner.revoke();
}

/// Takes connections until the door closes.
async fn take(inner: Arc<Inner>, listener: DoorListener) -> Result<(), io::Error> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inner.closing.cancelled() => break,
        };
        let mut stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // No files left, or a client that was gone already.
                tracing::warn!(%error, "the door cannot take a connection");
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        inner.accepted.fetch_add(1, Ordering::Relaxed);
        let slot = match Arc::clone(&inner.slots).try_acquire_owned() {
            Ok(slot) if inner.rate.check().is_ok() => Ok(slot),
            Ok(_) => Err(Reason::RateLimit),
            Err(_) => Err(Reason::TooManyConnections),
        };
        match slot {
            Ok(slot) => {
                let own = Arc::clone(&inner);
                inner.shutdown.spawn("door connection", TaskKind::Optional, async move {
                    serve::connection(own, stream).await;
                    drop(slot);
                    Ok::<(), Infallible>(())
                });
            }
            Err(why) => {
                inner.recorder.attempt(Method::Unknown, "", 0).refuse(why, "");
                // It fits into what the system keeps for the socket, or the client does not get it.
                let answer = Refusal::new(why, "").bytes();
                drop(tokio::time::timeout(AFTER_FAILURE, stream.write_all(&answer)).await);
            }
        }
    }
    drop(listener);
    for live in inner.registry.open() {
        live.stop(Reason::Closing);
    }
    Ok(())
}

/// Ends what is idle, and what a rule that has ended allowed.
async fn sweep(inner: Arc<Inner>) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = inner.closing.cancelled() => return Ok(()),
        }
        inner.registry.sweep(inner.limits.idle_time);
        if inner.policy().ends() {
            inner.revoke();
        }
    }
}

fn stand(path: &Path) -> Stand {
    use std::os::unix::fs::MetadataExt as _;
    let looked = std::fs::metadata(path).and_then(|data| Ok((data.modified()?, data.len(), data.ino())));
    looked.map_or(Stand::Missing, |(changed, length, node)| Stand::There(changed, length, node))
}

/// A file of rules that is followed.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    destinations: Vec<Destination>,
    /// How it stood when it was read last.
    known: Stand,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Nobody has looked yet.
    Unknown,
    /// It is not there, or cannot be looked at.
    Missing,
    /// When it was changed, how long it is, and which it is.
    There(SystemTime, u64, u64),
}

impl Inner {
    /// Reads the followed file where it has changed; what is wrong with it, as it is now.
    fn look(&self) -> Option<String> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fault = self.rules_fault.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = watched.as_mut() else { return fault.clone() };
        // The state is taken before the file is read: what changes in between is seen the next time.
        let now = stand(&watched.path);
        if watched.known != now {
            watched.known = now;
            let read = file::read(&watched.path).and_then(|rules| {
                let policy = Policy::new(&watched.destinations, &rules);
                policy.map_err(|faults| DoorError::rules(&watched.path, faults))
            });
            *fault = match read {
                Ok(policy) => {
                    if policy != *self.policy() {
                        reload(self, policy);
                    }
                    None
                }
                Err(error) => {
                    let error = text::plain(&error.to_string());
                    tracing::warn!(%error, "the new rules of the door cannot be used; the last good ones hold");
                    Some(error)
                }
            };
        }
        fault.clone()
    }
}

async fn watch(inner: Arc<Inner>) -> Result<(), Infallible> {
    loop {
        inner.look();
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = inner.closing.cancelled() => return Ok(()),
        }
    }
}

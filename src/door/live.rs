//! Connections that are open: what moved on them, and what ends them early.
//!
//! **Invariant:** an attempt is entered before its rule is looked up, so a change of the rules finds every connection that
//! the old ones let through.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::event::Reason;
use super::name::Target;
use crate::clock::SharedClock;

/// One open connection.
#[derive(Debug)]
pub(super) struct Live {
    id: u64,
    /// Where it goes.
    pub(super) target: Target,
    /// Cancelled when it has to end.
    pub(super) end: CancellationToken,
    why: OnceLock<Reason>,
    /// Whether its address is one that only a private rule allows.
    pub(super) is_private: std::sync::atomic::AtomicBool,
    up: AtomicU64,
    down: AtomicU64,
    moved_ms: AtomicU64,
    most_up: u64,
    shared: Arc<Shared>,
}

impl Live {
    /// Ends it.
    pub(super) fn stop(&self, why: Reason) {
        // The first reason counts.
        self.why.get_or_init(|| why);
        self.end.cancel();
    }

    /// Why it had to end, if it had to.
    pub(super) fn why(&self) -> Option<Reason> {
        self.why.get().copied()
    }

    /// Bytes that went out and came in.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    fn moved(&self) {
        self.moved_ms.store(millis(self.shared.clock.monotonic()), Ordering::Relaxed);
    }

    /// Counts what is about to go out.
    fn send(&self, bytes: u64) -> Result<(), Reason> {
        if self.up.load(Ordering::Relaxed).saturating_add(bytes) > self.most_up {
            return Err(Reason::UploadLimit);
        }
        if self.shared.hour.used().saturating_add(bytes) > self.shared.most_per_hour {
            return Err(Reason::TotalLimit);
        }
        Ok(())
    }

    fn sent(&self, bytes: u64) {
        self.up.fetch_add(bytes, Ordering::Relaxed);
        self.shared.hour.add(bytes);
        self.moved();
    }

    fn received(&self, bytes: u64) {
        self.down.fetch_add(bytes, Ordering::Relaxed);
        self.moved();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let (up, down) = self.bytes();
        self.shared.up.fetch_add(up, Ordering::Relaxed);
        self.shared.down.fetch_add(down, Ordering::Relaxed);
        self.shared.map().remove(&self.id);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Shared {
    open: Mutex<HashMap<u64, std::sync::Weak<Live>>>,
    clock: SharedClock,
    hour: Hour,
    most_per_hour: u64,
    up: AtomicU64,
    down: AtomicU64,
}

impl Shared {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<u64, std::sync::Weak<Live>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All open connections.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    shared: Arc<Shared>,
    next: Arc<AtomicU64>,
    most_up: u64,
}

impl Registry {
    pub(super) fn new(clock: SharedClock, most_up: u64, most_per_hour: u64) -> Self {
        let shared = Shared {
            open: Mutex::default(),
            clock,
            hour: Hour::default(),
            most_per_hour,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), next: Arc::default(), most_up }
    }

    /// Enters an attempt.
    pub(super) fn enter(&self, target: Target) -> Arc<Live> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let live = Arc::new(Live {
            id,
            target,
            end: CancellationToken::new(),
            why: OnceLock::new(),
            is_private: std::sync::atomic::AtomicBool::new(false),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            moved_ms: AtomicU64::new(millis(self.shared.clock.monotonic())),
            most_up: self.most_up,
            shared: Arc::clone(&self.shared),
        });
        self.shared.map().insert(id, Arc::downgrade(&live));
        live
    }

    /// The open connections. They are let go outside the lock: leaving takes it too.
    pub(super) fn open(&self) -> Vec<Arc<Live>> {
        let open = self.shared.map();
        let held: Vec<_> = open.values().filter_map(std::sync::Weak::upgrade).collect();
        drop(open);
        held
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.shared.map().len()
    }

    /// Bytes of all connections, open and gone: out and in.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let gone = (self.shared.up.load(Ordering::Relaxed), self.shared.down.load(Ordering::Relaxed));
        self.open().iter().map(|live| live.bytes()).fold(gone, |sum, own| (sum.0 + own.0, sum.1 + own.1))
    }

    /// Ends connections on which nothing has moved for so long, and moves the hour on.
    pub(super) fn sweep(&self, idle: Duration) {
        let now = self.shared.clock.monotonic();
        self.shared.hour.move_to(now);
        let idle = millis(idle);
        for live in self.open() {
            if millis(now).saturating_sub(live.moved_ms.load(Ordering::Relaxed)) > idle {
                live.stop(Reason::Idle);
            }
        }
    }
}

/// Bytes of the last hour, in sixty parts.
#[derive(Debug, Default)]
struct Hour {
    total: AtomicU64,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    minute: u64,
    bytes: [u64; 60],
    /// Of the total, what stands in the parts already.
    booked: u64,
}

impl Default for Parts {
    fn default() -> Self {
        Self { minute: 0, bytes: [0; 60], booked: 0 }
    }
}

impl Hour {
    fn used(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Books what was added since, and forgets what is older than an hour.
    fn move_to(&self, now: Duration) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.used().saturating_sub(parts.booked);
        let slot = |minute: u64| usize::try_from(minute % 60).unwrap_or(0);
        let at = slot(parts.minute);
        if let Some(part) = parts.bytes.get_mut(at) {
            *part += new;
        }
        parts.booked += new;
        let minute = now.as_secs() / 60;
        let passed = minute.saturating_sub(parts.minute).min(60);
        for step in 1..=passed {
            let at = slot(parts.minute + step);
            if let Some(part) = parts.bytes.get_mut(at) {
                let old = std::mem::take(part);
                parts.booked -= old;
                self.total.fetch_sub(old, Ordering::Relaxed);
            }
        }
        parts.minute = minute.max(parts.minute);
    }
}

/// A stream to the outside whose bytes are counted and limited.
#[derive(Debug)]
pub(super) struct Counted<S> {
    pub(super) stream: S,
    pub(super) live: Arc<Live>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.live.received(bytes as u64);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        if let Err(why) = self.live.send(buffer.len() as u64) {
            self.live.stop(why);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, why.text())));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buffer);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.live.sent(*bytes as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_forgets() {
        let hour = Hour::default();
        let at = |minutes: u64| Duration::from_secs(minutes * 60);
        hour.add(10);
        hour.move_to(at(30));
        hour.add(5);
        hour.move_to(at(31));
        assert_eq!(hour.used(), 15);
        hour.move_to(at(60));
        assert_eq!(hour.used(), 5);
        hour.move_to(at(500));
        assert_eq!(hour.used(), 0);
    }

    #[test]
    fn a_connection_that_is_dropped_is_gone_and_its_bytes_are_kept() {
        let registry = Registry::new(crate::clock::system(), 100, 150);
        let target = Target::parse("a.example:443", None).unwrap();
        let live = registry.enter(target.clone());
        live.sent(90);
        assert_eq!(live.send(20), Err(Reason::UploadLimit));
        assert_eq!(registry.count(), 1);
        drop(live);
        assert_eq!((registry.count(), registry.bytes()), (0, (90, 0)));
        let live = registry.enter(target);
        assert_eq!(live.send(70), Err(Reason::TotalLimit));
    }
}

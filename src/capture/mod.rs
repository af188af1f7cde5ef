//! The host-side collector: OpenClaw's raw stream and what its gateway tells, as one log in rotating files.
//!
//! The container is hostile from its first instruction; its raw stream is a file it writes and its gateway a socket it owns.
//! What the log files hold is all that is remembered: a capture that was killed reads back from them what is recorded.
//!
//! **Invariant:** exactly once: an event leaves its queue when it is in the log, under a mark by which a restart, or another
//! source that tells it again, knows it.
//! **Invariant:** memory is bounded, whatever the container writes or says.
//! **Invariant:** what cannot be written waits; what cannot be read, or should not be, is an incident in the log itself.
//! **Invariant:** knows nothing of Docker, stores, detectors or workflows. Called by `cli`.
//!
//! Start at [`Capture::start`]; the heart is `collector`.

mod collector;
mod error;
mod incident;
mod ledger;
mod line;
mod link;
mod mark;
mod observe;
mod processes;
mod raw;
mod recover;
mod runs;
mod status;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use error::{CaptureError, Name};
pub use incident::{Incident, IncidentKind};
pub use ledger::{FOLDERS, Ledger};
pub use link::History;
pub use processes::{Process, unknown};
pub use runs::{Identity, Session};
pub use status::{Counters, Link, Status};

use collector::{Collector, Feed, Parts};

use crate::clock::SharedClock;
use crate::gateway::Connect;
use crate::logs::LogWriter;
use crate::supervise::{Shutdown, TaskKind};

/// Size from which the raw stream's file is put aside, unless told otherwise.
pub const RAW_ROTATE_BYTES: u64 = 64 << 20;
/// How often skills and plugins are looked at, unless told otherwise.
pub const LEDGER_EVERY: Duration = Duration::from_mins(1);
/// Things of the gateway and incidents that wait for the collector.
const MAX_FEED: usize = 256;
/// How often counters are checked and shown.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What to capture, and where to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the sandbox: letters, digits, `-`, `_` and `.`. Marks in the log begin with it.
    pub sandbox: String,
    /// The raw stream's file; without one, text and thinking come from the gateway too.
    pub raw: Option<PathBuf>,
    /// Put the raw stream's file aside when it is as large as this, in bytes; never, without.
    pub raw_rotate_bytes: Option<u64>,
    /// The gateway. With `operator.approvals` among its scopes, approvals are captured too.
    pub gateway: Option<Connect>,
    /// Where the log files go; made if it is not there.
    pub log_dir: PathBuf,
    /// How long a log file is written to.
    pub rotate: Duration,
    /// Whether thinking is recorded; it is counted in any case.
    pub reasoning: bool,
    /// OpenClaw's state folder on the host, whose skills and plugins are watched.
    pub home: Option<PathBuf>,
    /// How often they are looked at.
    pub ledger_every: Duration,
    /// Run ids and session keys of what no agent did, as the self-test: it is counted and not recorded. Only names that
    /// nobody in the container could have chosen belong here.
    pub leave_out: Vec<String>,
}

impl Settings {
    /// Settings with the defaults: files of ten minutes, thinking recorded, nothing to capture yet.
    pub fn new(sandbox: &str, log_dir: PathBuf) -> Self {
        Self {
            sandbox: sandbox.to_owned(),
            raw: None,
            raw_rotate_bytes: Some(RAW_ROTATE_BYTES),
            gateway: None,
            log_dir,
            rotate: Duration::from_mins(10),
            reasoning: true,
            home: None,
            ledger_every: LEDGER_EVERY,
            leave_out: Vec::new(),
        }
    }
}

/// A capture that runs.
#[derive(Clone, Debug)]
pub struct Capture {
    status: watch::Receiver<Status>,
    seen: mpsc::Sender<Incident>,
    stop: CancellationToken,
    done: CancellationToken,
}

impl Capture {
    /// Begins to capture, until drained or until `shutdown` drains. Incidents go into the log, and to `incidents` as far as
    /// it has room. Must be called within a runtime; blocks for a moment while it reads back the newest logs.
    ///
    /// # Errors
    /// `Name` and `Nothing` for settings that make no sense; `Directory`, `Logs`, `Busy`.
    pub fn start(
        settings: Settings,
        clock: SharedClock,
        shutdown: &Shutdown,
        incidents: Option<mpsc::Sender<Incident>>,
    ) -> Result<Self, CaptureError> {
        let name = &settings.sandbox;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(CaptureError::Name(Name(name.clone())));
        }
        if settings.raw.is_none() && settings.gateway.is_none() {
            return Err(CaptureError::Nothing);
        }
        let directory = |source| CaptureError::Directory { path: settings.log_dir.clone(), source };
        std::fs::create_dir_all(&settings.log_dir).map_err(directory)?;
        let lock = lock(&settings)?;
        let has_gateway = settings.gateway.is_some();
        let mut recorded = recover::read(&settings.log_dir, name, has_gateway).map_err(CaptureError::Logs)?;
        let starts = std::mem::take(&mut recorded.starts);
        let tail =
            settings.raw.as_deref().map(|raw| raw::RawTail::new(raw, settings.raw_rotate_bytes, starts));
        let writer = LogWriter::new(&settings.log_dir, settings.rotate, Arc::clone(&clock));
        let collector = Collector::new(Parts {
            sandbox: name.clone(),
            clock: Arc::clone(&clock),
            writer,
            tail,
            gateway: has_gateway,
            reasoning: settings.reasoning,
            leave_out: settings.leave_out,
            recorded,
        });

        let stop = shutdown.drain().child_token();
        let done = CancellationToken::new();
        let since = Arc::new(AtomicI64::new(collector.wanted_since()));
        let (feed, fed) = mpsc::channel(MAX_FEED);
        let (seen, seen_by_others) = mpsc::channel(MAX_FEED);
        let (show, status) = watch::channel(Status::default());
        if let Some(connect) = settings.gateway.clone() {
            let link = link::Link {
                connect,
                clock: Arc::clone(&clock),
                since: Arc::clone(&since),
                feed,
                stop: stop.clone(),
            };
            shutdown.spawn("gateway of the capture", TaskKind::Optional, link.run());
        }
        if let Some(home) = settings.home.clone() {
            let every = settings.ledger_every;
            shutdown.spawn(
                "skills and plugins",
                TaskKind::Optional,
                watch_ledger(home, every, seen.clone(), stop.clone()),
            );
        }
        let owner = Owner {
            collector,
            clock,
            fed: has_gateway.then_some(fed),
            seen: seen_by_others,
            incidents,
            since,
            show,
            stop: stop.clone(),
            done: done.clone(),
            _lock: lock,
        };
        shutdown.spawn("capture", TaskKind::Vital, owner.run());
        Ok(Self { status, seen, stop, done })
    }

    /// How the capture stands; changes each second.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Puts an incident that somebody else saw into the log, such as an unknown process.
    ///
    /// # Cancel safety
    /// The incident is lost.
    pub async fn report(&self, incident: Incident) {
        if self.seen.send(incident).await.is_err() {
            tracing::debug!("an incident came after the capture had ended");
        }
    }

    /// Stops listening, writes what is there and ends the log file.
    ///
    /// # Cancel safety
    /// The capture goes on draining.
    pub async fn drain(&self) {
        self.stop.cancel();
        self.done.cancelled().await;
    }
}

/// Holds the directory for this sandbox; the system lets go of it when the process dies.
fn lock(settings: &Settings) -> Result<File, CaptureError> {
    let path = settings.log_dir.join(format!(".sentrix-capture-{}.lock", settings.sandbox));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| CaptureError::Directory { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(CaptureError::Busy { sandbox: Name(settings.sandbox.clone()), path })
        }
        Err(std::fs::TryLockError::Error(source)) => Err(CaptureError::Directory { path, source }),
    }
}

async fn watch_ledger(
    home: PathBuf,
    every: Duration,
    seen: mpsc::Sender<Incident>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let mut before: Option<Ledger> = None;
    loop {
        let at = home.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || Ledger::scan(&at)).await else { return Ok(()) };
        if let Some(before) = &before {
            for incident in now.changes(before) {
                if seen.send(incident).await.is_err() {
                    return Ok(());
                }
            }
        }
        before = Some(now);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// The one loop that owns the collector.
struct Owner {
    collector: Collector,
    clock: SharedClock,
    fed: Option<mpsc::Receiver<Feed>>,
    seen: mpsc::Receiver<Incident>,
    incidents: Option<mpsc::Sender<Incident>>,
    since: Arc<AtomicI64>,
    show: watch::Sender<Status>,
    stop: CancellationToken,
    done: CancellationToken,
    _lock: File,
}

impl Owner {
    async fn run(mut self) -> Result<(), std::convert::Infallible> {
        let done = self.done.clone();
        // However it ends, nobody waits for it longer.
        let _guard = done.drop_guard();
        let mut shown: Option<Duration> = None;
        let mut wait = Duration::ZERO;
        loop {
            let room = self.collector.has_room();
            let fed = async {
                match &mut self.fed {
                    Some(fed) if room => fed.recv().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                feed = fed => match feed {
                    Some(feed) => self.take(feed),
                    None => self.fed = None,
                },
                Some(incident) = self.seen.recv() => self.collector.incident(incident),
                () = tokio::time::sleep(wait) => {}
            }
            wait = self.collector.step();
            self.tell();
            let now = self.clock.monotonic();
            if shown.is_none_or(|at| now.saturating_sub(at) >= STATUS_EVERY) {
                shown = Some(now);
                self.show();
            }
            if wait.is_zero() {
                tokio::task::yield_now().await;
            }
        }
        if let Some(mut fed) = self.fed.take() {
            fed.close();
            while let Ok(feed) = fed.try_recv() {
                self.collector.feed(feed);
            }
        }
        while let Ok(incident) = self.seen.try_recv() {
            self.collector.incident(incident);
        }
        self.collector.finish();
        self.tell();
        self.show();
        Ok(())
    }

    /// Takes what came, and what came with it.
    fn take(&mut self, feed: Feed) {
        self.collector.feed(feed);
        while self.collector.has_room()
            && let Some(feed) = self.fed.as_mut().and_then(|fed| fed.try_recv().ok())
        {
            self.collector.feed(feed);
        }
    }

    fn tell(&mut self) {
        self.since.store(self.collector.wanted_since(), Ordering::Release);
        for incident in self.collector.take_incidents() {
            if let Some(incidents) = &self.incidents
                && incidents.try_send(incident).is_err()
            {
                tracing::debug!("an incident stands in the log alone");
            }
        }
    }

    fn show(&mut self) {
        let status = self.collector.status();
        self.show.send_replace(status);
    }
}

//! Logs of graph runs in SQLite.
//!
//! One thread owns the write connection. It takes what has come in since its last commit, from all runs, and
//! commits it in one transaction; then it answers. Readers have connections of their own.
//!
//! Entries of all runs share one table, keyed by run number (upper half) and number of the entry (lower half) in
//! one integer: a run's log lies together, grows at its end, and needs no index.

mod apply;
mod owner;
mod prune;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tokio::sync::oneshot;
use uuid::Uuid;

use self::schema::MIGRATIONS;
use self::writer::{Op, Request, Settings};
use super::sqlite::{self, StoreError};
use crate::clock::SharedClock;
use crate::engine::{
    Batch, CheckpointError, CheckpointErrorKind, Checkpointer, Claim, Definition, Digest, EffectRecord,
    GateAnswer, History, NewRun, Prune, Receipt, RunFilter, RunRecord, RunSummary,
};
use crate::graph::Durability;
use crate::id::RunId;

/// How often a run looks for its receipt before it goes to sleep: about the time of a commit that does not
/// wait for the disk.
const SPINS: u32 = 2_000;

/// How much longer it looks where the commit waits for the disk. On a quick disk waking up would take a good part
/// of the time of such a commit.
const DISK_FACTOR: u32 = 10;

/// A disk is quick while commits that wait for it take less than this.
const QUICK_DISK_US: u32 = 400;

/// Keeps the logs of runs in a SQLite file. Several processes may use one file.
///
/// The file never shrinks: what a prune takes away leaves room that later entries use.
#[derive(Debug)]
pub struct SqliteCheckpointer {
    path: Arc<PathBuf>,
    clock: SharedClock,
    /// Taken when the store is closed. Unbounded: a run has at most two requests out at a time.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Requests without an answer.
    waiting: Arc<AtomicUsize>,
    /// About how long commits that wait for the disk took lately.
    synced_us: Arc<AtomicU32>,
    spins: u32,
    readers: Arc<Mutex<Vec<Connection>>>,
}

impl SqliteCheckpointer {
    /// Opens the file and starts its writer.
    ///
    /// # Errors
    /// Where the file cannot be opened, migrated or is of a newer program, or no thread can be started.
    pub fn open(path: &Path, clock: SharedClock) -> Result<Self, StoreError> {
        Self::start(path, sqlite::open(path, MIGRATIONS)?, clock)
    }

    fn start(path: &Path, connection: Connection, clock: SharedClock) -> Result<Self, StoreError> {
        // The writer folds the log itself, after it has answered; this is the limit should it fall behind.
        connection.pragma_update(None, "wal_autocheckpoint", 16_000).map_err(StoreError::at(path))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let synced_us = Arc::new(AtomicU32::new(0));
        let (sender, receiver) = mpsc::channel();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let spins = if cores > 1 { SPINS } else { 0 };
        let settings = Settings {
            path: path.to_owned(),
            clock: Arc::clone(&clock),
            waiting: Arc::clone(&waiting),
            synced_us: Arc::clone(&synced_us),
            spins,
        };
        let writer = thread::Builder::new()
            .name("checkpoints".to_owned())
            .spawn(move || writer::run(&connection, settings, &receiver))
            .map_err(StoreError::at(path))?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            clock,
            requests: Some(sender),
            writer: Some(writer),
            waiting,
            synced_us,
            spins,
            readers: Arc::default(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends a request that wants an answer.
    fn ask(&self, run: RunId, durability: Durability, op: Op) -> Receipt<()> {
        let (reply, answer) = oneshot::channel();
        let others = self.waiting.fetch_add(1, Ordering::Relaxed);
        let request = Request { op, reply: Some(reply) };
        if self.requests.as_ref().is_none_or(|requests| requests.send(request).is_err()) {
            let kind = CheckpointErrorKind::Storage("the store is closed".to_owned());
            return Receipt::now(Err(CheckpointError { run, kind }));
        }
        // With others waiting too, the thread has better things to do than to look.
        let spins = match durability {
            _ if others > 0 => 0,
            Durability::Crash | Durability::Exit => self.spins,
            Durability::Power if self.synced_us.load(Ordering::Relaxed) < QUICK_DISK_US => {
                self.spins.saturating_mul(DISK_FACTOR)
            }
            Durability::Power => 0,
        };
        Receipt::later(run, answer, spins)
    }

    /// Reads on a thread where that may block.
    fn read<T: Send + 'static>(
        &self,
        run: RunId,
        what: impl FnOnce(&Connection) -> Result<T, CheckpointErrorKind> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, CheckpointError>> {
        let (path, readers) = (Arc::clone(&self.path), Arc::clone(&self.readers));
        let task = move || {
            let kept = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => sqlite::open_reader(&path, MIGRATIONS)
                    .map_err(|error| CheckpointErrorKind::Unreadable(read::chain(&error)))?,
            };
            let answer = what(&connection)?;
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(answer)
        };
        async move {
            let answer = tokio::task::spawn_blocking(task).await;
            answer
                .unwrap_or_else(|error| Err(CheckpointErrorKind::Unreadable(error.to_string())))
                .map_err(|kind| CheckpointError { run, kind })
        }
        .boxed()
    }
}

impl Checkpointer for SqliteCheckpointer {
    fn create(&self, claim: &Claim, run: NewRun) -> Receipt<()> {
        let durability = run.durability;
        self.ask(claim.run, durability, Op::Create { claim: claim.clone(), run: Box::new(run) })
    }

    fn claim(&self, claim: &Claim) -> Receipt<()> {
        self.ask(claim.run, Durability::Crash, Op::Claim { claim: claim.clone() })
    }

    fn append(&self, claim: &Claim, batch: Batch) -> Receipt<()> {
        let durability = batch.durability;
        self.ask(claim.run, durability, Op::Append { claim: claim.clone(), batch })
    }

    fn release(&self, claim: &Claim) {
        if let Some(requests) = &self.requests {
            // A closed store has released everything.
            drop(requests.send(Request { op: Op::Release { claim: claim.clone() }, reply: None }));
        }
    }

    fn load(&self, run: RunId) -> BoxFuture<'_, Result<RunRecord, CheckpointError>> {
        let now_ms = self.clock.now().as_millisecond();
        self.read(run, move |connection| read::load(connection, run, now_ms))
    }

    fn history(&self, run: RunId) -> BoxFuture<'_, Result<History, CheckpointError>> {
        self.read(run, move |connection| read::history(connection, run))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, CheckpointError>> {
        let now_ms = self.clock.now().as_millisecond();
        // A list is of no run in particular.
        self.read(RunId::stable(&[]), move |connection| read::list(connection, &filter, now_ms))
    }

    fn definition(&self, run: RunId, hash: &str) -> BoxFuture<'_, Result<Definition, CheckpointError>> {
        let hash = hash.to_owned();
        self.read(run, move |connection| read::definition(connection, run, &hash))
    }

    fn answer(&self, run: RunId, answer: GateAnswer) -> Receipt<()> {
        self.ask(run, Durability::Power, Op::Answer { run, answer })
    }

    fn answers(&self, run: RunId) -> BoxFuture<'_, Result<Vec<GateAnswer>, CheckpointError>> {
        self.read(run, move |connection| read::answers(connection, run))
    }

    fn record_effect(&self, effect: EffectRecord) -> Receipt<()> {
        self.ask(effect.run, Durability::Crash, Op::Effect { effect })
    }

    fn effect(&self, run: RunId, key: Uuid) -> BoxFuture<'_, Result<Option<EffectRecord>, CheckpointError>> {
        self.read(run, move |connection| read::effect(connection, key))
    }

    fn effects(&self, run: RunId) -> BoxFuture<'_, Result<Vec<EffectRecord>, CheckpointError>> {
        self.read(run, move |connection| read::effects(connection, run))
    }

    fn cache(&self, run: RunId, key: Digest, body: String, until_ms: i64) -> Receipt<()> {
        self.ask(run, Durability::Crash, Op::Cache { run, key, body, until_ms })
    }

    fn cached(
        &self,
        run: RunId,
        key: Digest,
        now_ms: i64,
    ) -> BoxFuture<'_, Result<Option<String>, CheckpointError>> {
        self.read(run, move |connection| read::cached(connection, &key, now_ms))
    }

    fn hold(&self, run: RunId, reason: Option<String>) -> Receipt<()> {
        self.ask(run, Durability::Crash, Op::Hold { run, reason })
    }

    fn prune(&self, run: RunId, what: Prune) -> Receipt<()> {
        self.ask(run, Durability::Crash, Op::Prune { run, what })
    }
}

impl Drop for SqliteCheckpointer {
    /// Waits until everything that was asked for is done, and closes the file.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "checkpoint writer panicked");
        }
    }
}

/// The ids of a run's entries.
const fn entry_id(run_no: i64, seq: u32) -> i64 {
    (run_no << 32) | seq as i64
}

/// The number of an entry in its run.
fn seq_of(id: i64) -> u32 {
    u32::try_from(id & i64::from(u32::MAX)).unwrap_or(u32::MAX)
}

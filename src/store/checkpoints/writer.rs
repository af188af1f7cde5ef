//! The thread that owns the write connection: takes requests in groups, one transaction a group.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Statement, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::schema::MIGRATIONS;
use crate::clock::SharedClock;
use crate::engine::{
    Batch, CheckpointError, CheckpointErrorKind, Claim, Digest, EffectRecord, GateAnswer, NewRun, Prune,
};
use crate::graph::Durability;
use crate::id::RunId;
use crate::store::fold::{self, Fold};

/// Most requests in one transaction.
const GROUP: usize = 1024;

/// How long a claim holds without a sign of life, where the owner's process cannot be looked up.
const LEASE: Duration = Duration::from_secs(20);

/// How often claims are renewed.
const RENEWAL: Duration = Duration::from_secs(5);

/// The write-ahead log is folded into the file after about so many pages, or when there is nothing else to do.
const FOLD_PAGES: usize = 10_000;

/// What fits into a page, nearly.
const PAGE_BYTES: usize = 4_000;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Op {
    Create { claim: Claim, run: Box<NewRun> },
    Claim { claim: Claim },
    Append { claim: Claim, batch: Batch },
    Release { claim: Claim },
    Answer { run: RunId, answer: GateAnswer },
    Effect { effect: EffectRecord },
    Cache { run: RunId, key: Digest, body: String, until_ms: i64 },
    Hold { run: RunId, reason: Option<String> },
    Prune { run: RunId, what: Prune },
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) reply: Option<oneshot::Sender<Result<(), CheckpointError>>>,
}

/// The statements of every step, prepared once.
pub(super) struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    pub(super) owned: Statement<'c>,
    pub(super) entry: Statement<'c>,
    pub(super) snapshot: Statement<'c>,
    pub(super) finish: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            owned: connection.prepare("SELECT 1 FROM runs WHERE no = ? AND owner_token = ?")?,
            entry: connection.prepare(
                "INSERT INTO entries (id, kind, step, node, item, at_ms, body, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
            snapshot: connection
                .prepare("INSERT OR REPLACE INTO snapshots (run, seq, body, chain) VALUES (?, ?, ?, ?)")?,
            finish: connection.prepare(
                "UPDATE runs SET status = ?2, error = ?3, seal = ?4, updated_ms = ?5, owner_token = NULL
                WHERE no = ?1",
            )?,
        })
    }
}

/// What the writer needs beside its connection.
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) clock: SharedClock,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) synced_us: Arc<AtomicU32>,
    pub(super) spins: u32,
}

/// Works until the store is closed.
pub(super) fn run(connection: &Connection, settings: Settings, requests: &Receiver<Request>) {
    match Statements::prepare(connection) {
        Ok(statements) => Writer::new(connection, statements, settings).run(requests),
        Err(error) => {
            for request in requests {
                let (run, kind) = (request.op.run(), CheckpointErrorKind::Storage(error.to_string()));
                if let Some(reply) = request.reply {
                    drop(reply.send(Err(CheckpointError { run, kind })));
                }
            }
        }
    }
}

/// A claim that the store has given out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) token: Uuid,
    /// The run's number.
    pub(super) no: i64,
    /// Number of its next entry.
    pub(super) next_seq: u32,
    pub(super) durability: Durability,
}

pub(super) struct Writer<'c> {
    path: PathBuf,
    pub(super) connection: &'c Connection,
    pub(super) statements: Statements<'c>,
    clock: SharedClock,
    waiting: Arc<AtomicUsize>,
    synced_us: Arc<AtomicU32>,
    spins: u32,
    held: HashMap<RunId, Held>,
    /// What `held` said before the changes of the present transaction.
    undo: Vec<(RunId, Option<Held>)>,
    /// When the claims were last renewed, by the wall clock: it also runs while the machine sleeps.
    renewed_ms: i64,
    /// Whether commits wait for the disk at present.
    syncing: bool,
    /// Pages written since the write-ahead log was last folded; a guess.
    pages: usize,
    folding: Option<Fold>,
}

/// What went wrong with a whole transaction, or with one request in it.
pub(super) type Answer = Result<(), CheckpointErrorKind>;

impl<'c> Writer<'c> {
    fn new(connection: &'c Connection, statements: Statements<'c>, settings: Settings) -> Self {
        let Settings { path, clock, waiting, synced_us, spins } = settings;
        let renewed_ms = clock.now().as_millisecond();
        Self {
            path,
            connection,
            statements,
            clock,
            waiting,
            synced_us,
            spins,
            held: HashMap::new(),
            undo: Vec::new(),
            renewed_ms,
            syncing: false,
            pages: 0,
            folding: None,
        }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        let mut group = Vec::new();
        loop {
            match self.next(requests) {
                Ok(request) => group.push(request),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(fold) = self.folding.take() {
                        fold.wait();
                    }
                    self.fold();
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while group.len() < GROUP
                && let Ok(request) = requests.try_recv()
            {
                group.push(request);
            }
            self.renew_if_due();
            if !group.is_empty() {
                self.pages += group.iter().map(|request| request.op.pages()).sum::<usize>();
                self.commit(&mut group);
                self.fold_if_due();
            }
        }
        if let Some(fold) = self.folding.take() {
            fold.wait();
        }
        for (run, Held { token, .. }) in std::mem::take(&mut self.held) {
            if let Err(error) = self.release(&Claim { run, token }) {
                tracing::warn!(path = %self.path.display(), %error, "claim not released");
            }
        }
    }

    /// The next request. Looks for it for a moment before it sleeps: a run's next step follows its last one
    /// sooner than a sleeper wakes up.
    fn next(&self, requests: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
        for _ in 0..self.spins {
            if let Ok(request) = requests.try_recv() {
                return Ok(request);
            }
            std::hint::spin_loop();
        }
        requests.recv_timeout(RENEWAL)
    }

    /// Commits a group and answers. Where the group fails as a whole, each request gets its own try, so that
    /// one run's trouble is not another's.
    fn commit(&mut self, group: &mut Vec<Request>) {
        match self.transaction(group) {
            Ok(answers) => {
                for (request, answer) in group.drain(..).zip(answers) {
                    self.answer(request, answer);
                }
            }
            Err(_) if group.len() > 1 => {
                for request in group.drain(..) {
                    let answer = match self.transaction(std::slice::from_ref(&request)) {
                        Ok(answers) => answers.into_iter().next().unwrap_or(Ok(())),
                        Err(error) => Err(failure(&request.op, &error)),
                    };
                    self.answer(request, answer);
                }
            }
            Err(error) => {
                for request in group.drain(..) {
                    let answer = Err(failure(&request.op, &error));
                    self.answer(request, answer);
                }
            }
        }
    }

    fn answer(&mut self, request: Request, answer: Answer) {
        let run = request.op.run();
        if let Some(reply) = request.reply {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            // Nobody to hear it: the run was given up, and its claim is released by a request of its own.
            drop(reply.send(answer.map_err(|kind| CheckpointError { run, kind })));
        }
    }

    /// One transaction for all requests: the outer error undoes all of them.
    fn transaction(&mut self, group: &[Request]) -> rusqlite::Result<Vec<Answer>> {
        let idle = |request: &Request| match &request.op {
            Op::Release { claim } => self.held(claim).is_none(),
            _ => false,
        };
        if group.iter().all(idle) {
            return Ok(group.iter().map(|_| Ok(())).collect());
        }
        self.sync_as(group.iter().any(|request| self.durability(&request.op) == Durability::Power))?;
        self.statements.begin.execute([])?;
        self.undo.clear();
        let done = group
            .iter()
            .map(|request| self.perform(&request.op))
            .collect::<rusqlite::Result<Vec<Answer>>>()
            .and_then(|answers| {
                let before = self.clock.monotonic();
                self.statements.commit.execute([])?;
                if self.syncing {
                    self.note_sync(self.clock.monotonic().saturating_sub(before));
                }
                Ok(answers)
            });
        if done.is_err() {
            while let Some((run, before)) = self.undo.pop() {
                match before {
                    Some(held) => self.held.insert(run, held),
                    None => self.held.remove(&run),
                };
            }
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::warn!(path = %self.path.display(), %error, "checkpoint transaction not rolled back");
            }
        }
        done
    }

    /// Counts a commit that waited for the disk into the average of how long they take.
    fn note_sync(&self, took: Duration) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let before = self.synced_us.load(Ordering::Relaxed);
        let average = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.synced_us.store(average, Ordering::Relaxed);
    }

    /// Makes commits wait for the disk, or not.
    fn sync_as(&mut self, power: bool) -> rusqlite::Result<()> {
        if power != self.syncing {
            self.connection.pragma_update(None, "synchronous", if power { "FULL" } else { "NORMAL" })?;
            self.syncing = power;
        }
        Ok(())
    }

    /// What is known of a claim, if this store gave it out and it holds.
    pub(super) fn held(&self, claim: &Claim) -> Option<Held> {
        self.held.get(&claim.run).filter(|held| held.token == claim.token).copied()
    }

    /// Notes that a run's claim is held, or no longer, in a way that a failed transaction can undo.
    pub(super) fn hold(&mut self, run: RunId, held: Option<Held>) {
        let before = match held {
            Some(held) => self.held.insert(run, held),
            None => self.held.remove(&run),
        };
        self.undo.push((run, before));
    }

    /// What a request must survive once it is answered.
    fn durability(&self, op: &Op) -> Durability {
        match op {
            Op::Create { run, .. } => run.durability,
            Op::Append { batch, .. } => batch.durability,
            // What a person said, and what was done to the world outside by a run that nothing else is known of.
            Op::Answer { .. } => Durability::Power,
            Op::Effect { effect } => {
                self.held.get(&effect.run).map_or(Durability::Power, |held| held.durability)
            }
            Op::Claim { .. } | Op::Release { .. } | Op::Cache { .. } | Op::Hold { .. } | Op::Prune { .. } => {
                Durability::Crash
            }
        }
    }

    /// Renews the leases of all claims. A claim that somebody else has taken, while this process slept, is no
    /// longer held: its run's next append fails.
    fn renew_if_due(&mut self) {
        let now = self.now_ms();
        let age = now.saturating_sub(self.renewed_ms);
        if age.unsigned_abs() < u64::try_from(RENEWAL.as_millis()).unwrap_or(u64::MAX) {
            return;
        }
        self.renewed_ms = now;
        let held: Vec<(RunId, Held)> = self.held.iter().map(|(run, held)| (*run, *held)).collect();
        for (run, Held { token, no, .. }) in held {
            let renewed = self
                .connection
                .prepare_cached("UPDATE runs SET lease_until_ms = ?3 WHERE no = ?1 AND owner_token = ?2")
                .and_then(|mut update| update.execute(params![no, token.to_string(), lease_end(now)]));
            match renewed {
                Ok(0) => drop(self.held.remove(&run)),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "lease of a run not renewed");
                }
            }
        }
    }

    /// Begins to fold a long write-ahead log, or ends it. All answers are out; nobody waits for it.
    fn fold_if_due(&mut self) {
        match self.folding.take() {
            Some(fold) if fold.is_done() => {
                fold.wait();
                self.fold();
            }
            Some(fold) => self.folding = Some(fold),
            None if self.pages >= FOLD_PAGES => match Fold::start(&self.path, MIGRATIONS) {
                Ok(fold) => self.folding = Some(fold),
                Err(_) => self.fold(),
            },
            None => {}
        }
    }

    /// Folds the write-ahead log into the file, if anything was written since the last time.
    fn fold(&mut self) {
        if self.pages > 0
            && let Err(error) = fold::pass(self.connection)
        {
            tracing::warn!(path = %self.path.display(), %error, "write-ahead log not folded");
        }
        self.pages = 0;
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

impl Op {
    fn run(&self) -> RunId {
        match self {
            Self::Create { claim, .. }
            | Self::Claim { claim }
            | Self::Append { claim, .. }
            | Self::Release { claim } => claim.run,
            Self::Effect { effect } => effect.run,
            Self::Answer { run, .. }
            | Self::Cache { run, .. }
            | Self::Hold { run, .. }
            | Self::Prune { run, .. } => *run,
        }
    }

    /// About how many pages it changes.
    fn pages(&self) -> usize {
        match self {
            Self::Append { batch, .. } => {
                let entries = batch.entries.iter().map(|entry| entry.body.len()).sum::<usize>();
                let snapshot = batch.snapshot.as_ref().map_or(0, |snapshot| snapshot.body.len());
                1 + (entries + snapshot) / PAGE_BYTES
            }
            Self::Cache { body, .. } => 2 + body.len() / PAGE_BYTES,
            _ => 2,
        }
    }
}

/// When a claim that is renewed now lapses.
pub(super) fn lease_end(now_ms: i64) -> i64 {
    now_ms.saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

/// What a failed transaction means for one of its requests.
fn failure(op: &Op, error: &rusqlite::Error) -> CheckpointErrorKind {
    match (op, error.sqlite_error_code()) {
        // Somebody else has written these entries.
        (Op::Append { .. }, Some(ErrorCode::ConstraintViolation)) => CheckpointErrorKind::Lost,
        _ => CheckpointErrorKind::Storage(error.to_string()),
    }
}

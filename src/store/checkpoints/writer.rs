//! The thread that owns the write connection: takes requests in groups, one transaction a group.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Statement, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::owner::Owner;
use super::{entry_id, read};
use crate::clock::SharedClock;
use crate::engine::{Batch, CheckpointError, CheckpointErrorKind, Claim, EntryKind, NewRun, RunStatus};
use crate::graph::Durability;

/// Most requests in one transaction.
const GROUP: usize = 1024;

/// How long a claim holds without a sign of life, where the owner's process cannot be looked up.
const LEASE: Duration = Duration::from_secs(20);

/// How often claims are renewed.
const RENEWAL: Duration = Duration::from_secs(5);

/// The write-ahead log is folded into the file after about so many pages, or when there is nothing else to do.
/// Folding waits for the disk twice: seldom enough that no step feels it.
const FOLD_PAGES: usize = 4_000;

/// What fits into a page, nearly.
const PAGE_BYTES: usize = 4_000;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Op {
    Create { claim: Claim, run: Box<NewRun> },
    Claim { claim: Claim },
    Append { claim: Claim, batch: Batch },
    Release { claim: Claim },
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) op: Op,
    pub(super) reply: Option<oneshot::Sender<Result<(), CheckpointError>>>,
}

/// The statements of every step, prepared once.
struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    entry: Statement<'c>,
    snapshot: Statement<'c>,
    finish: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            entry: connection.prepare(
                "INSERT INTO entries (id, kind, step, node, item, at_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?,
            snapshot: connection
                .prepare("INSERT OR REPLACE INTO snapshots (run, seq, body) VALUES (?, ?, ?)")?,
            finish: connection.prepare(
                "UPDATE runs SET status = ?2, error = ?3, updated_ms = ?4, owner_token = NULL WHERE no = ?1",
            )?,
        })
    }
}

/// What the writer needs beside its connection.
pub(super) struct Settings {
    pub(super) path: PathBuf,
    pub(super) clock: SharedClock,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) spins: u32,
}

/// Works until the store is closed.
pub(super) fn run(connection: &Connection, settings: Settings, requests: &Receiver<Request>) {
    match Statements::prepare(connection) {
        Ok(statements) => Writer::new(connection, statements, settings).run(requests),
        Err(error) => {
            for request in requests {
                let (run, kind) = (request.op.claim().run, CheckpointErrorKind::Storage(error.to_string()));
                if let Some(reply) = request.reply {
                    drop(reply.send(Err(CheckpointError { run, kind })));
                }
            }
        }
    }
}

struct Writer<'c> {
    path: PathBuf,
    connection: &'c Connection,
    statements: Statements<'c>,
    clock: SharedClock,
    waiting: Arc<AtomicUsize>,
    spins: u32,
    /// Claims that this store has given out, with the number of their run.
    held: HashMap<Uuid, i64>,
    /// What `held` said before the changes of the present transaction.
    undo: Vec<(Uuid, Option<i64>)>,
    /// When the claims were last renewed, by the wall clock: it also runs while the machine sleeps.
    renewed_ms: i64,
    /// Whether commits wait for the disk at present.
    syncing: bool,
    /// Pages written since the write-ahead log was last folded; a guess.
    pages: usize,
}

/// What went wrong with a whole transaction, or with one request in it.
type Answer = Result<(), CheckpointErrorKind>;

impl<'c> Writer<'c> {
    fn new(connection: &'c Connection, statements: Statements<'c>, settings: Settings) -> Self {
        let Settings { path, clock, waiting, spins } = settings;
        let renewed_ms = clock.now().as_millisecond();
        Self {
            path,
            connection,
            statements,
            clock,
            waiting,
            spins,
            held: HashMap::new(),
            undo: Vec::new(),
            renewed_ms,
            syncing: false,
            pages: 0,
        }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        let mut group = Vec::new();
        loop {
            match self.next(requests) {
                Ok(request) => group.push(request),
                Err(RecvTimeoutError::Timeout) => self.fold(),
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
                if self.pages >= FOLD_PAGES {
                    self.fold();
                }
            }
        }
        for (token, no) in std::mem::take(&mut self.held) {
            if let Err(error) = self.release(token, no) {
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
        let run = request.op.claim().run;
        if let Some(reply) = request.reply {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            // Nobody to hear it: the run was given up, and its claim is released by a request of its own.
            drop(reply.send(answer.map_err(|kind| CheckpointError { run, kind })));
        }
    }

    /// One transaction for all requests: the outer error undoes all of them.
    fn transaction(&mut self, group: &[Request]) -> rusqlite::Result<Vec<Answer>> {
        let idle = |request: &Request| match &request.op {
            Op::Release { claim } => !self.held.contains_key(&claim.token),
            _ => false,
        };
        if group.iter().all(idle) {
            return Ok(group.iter().map(|_| Ok(())).collect());
        }
        self.sync_as(group.iter().any(|request| request.op.durability() == Durability::Power))?;
        self.statements.begin.execute([])?;
        self.undo.clear();
        let done = group
            .iter()
            .map(|request| self.perform(&request.op))
            .collect::<rusqlite::Result<Vec<Answer>>>()
            .and_then(|answers| {
                self.statements.commit.execute([])?;
                Ok(answers)
            });
        if done.is_err() {
            while let Some((token, before)) = self.undo.pop() {
                match before {
                    Some(no) => self.held.insert(token, no),
                    None => self.held.remove(&token),
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

    /// Makes commits wait for the disk, or not.
    fn sync_as(&mut self, power: bool) -> rusqlite::Result<()> {
        if power != self.syncing {
            self.connection.pragma_update(None, "synchronous", if power { "FULL" } else { "NORMAL" })?;
            self.syncing = power;
        }
        Ok(())
    }

    fn perform(&mut self, op: &Op) -> rusqlite::Result<Answer> {
        match op {
            Op::Create { claim, run } => self.create(claim, run),
            Op::Claim { claim } => self.claim(claim),
            Op::Append { claim, batch } => self.append(claim, batch),
            Op::Release { claim } => match self.held.get(&claim.token) {
                Some(no) => self.release(claim.token, *no).map(Ok),
                None => Ok(Ok(())),
            },
        }
    }

    fn create(&mut self, claim: &Claim, run: &NewRun) -> rusqlite::Result<Answer> {
        let definition = &run.definition;
        let as_json = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        let prompts = as_json(serde_json::to_string(&*definition.prompts))?;
        let known: Option<i64> = self
            .connection
            .prepare(
                "SELECT no FROM definitions WHERE hash = ? AND graph = ? AND version = ? AND source = ? AND prompts = ?",
            )?
            .query_row(
                params![definition.hash, definition.graph, definition.version, &*definition.source, prompts],
                |row| row.get(0),
            )
            .optional()?;
        let definition_no = if let Some(no) = known {
            no
        } else {
            let insert =
                "INSERT INTO definitions (hash, graph, version, source, prompts) VALUES (?, ?, ?, ?, ?)";
            self.connection.execute(
                insert,
                params![definition.hash, definition.graph, definition.version, &*definition.source, prompts],
            )?;
            self.connection.last_insert_rowid()
        };
        let (owner, now) = (Owner::this(), self.now_ms());
        let inserted = self
            .connection
            .prepare(
                "INSERT INTO runs (id, definition, input, durability, status, created_ms, updated_ms, owner_token,
                    owner_host, owner_pid, owner_start, lease_until_ms)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
            )?
            .execute(params![
                run.run.to_string(),
                definition_no,
                as_json(serde_json::to_string(&run.input))?,
                read::durability_name(run.durability),
                RunStatus::Running.as_str(),
                now,
                claim.token.to_string(),
                owner.host,
                owner.pid,
                owner.start.cast_signed(),
                lease_end(now),
            ])?;
        if inserted == 0 {
            return Ok(Err(CheckpointErrorKind::Exists));
        }
        self.hold(claim.token, Some(self.connection.last_insert_rowid()));
        Ok(Ok(()))
    }

    fn claim(&mut self, claim: &Claim) -> rusqlite::Result<Answer> {
        let now = self.now_ms();
        let found = self
            .connection
            .prepare(
                "SELECT no, owner_token, owner_host, owner_pid, owner_start, lease_until_ms FROM runs WHERE id = ?",
            )?
            .query_row([claim.run.to_string()], |row| Ok((row.get(0)?, read::holder(row, 1)?)))
            .optional()?;
        let Some((no, holder)) = found else { return Ok(Err(CheckpointErrorKind::NotFound)) };
        if let Some(holder) = holder
            && holder.is_live(now)
        {
            return Ok(Err(CheckpointErrorKind::Held(holder.owner.describe())));
        }
        let owner = Owner::this();
        self.connection
            .prepare(
                "UPDATE runs SET owner_token = ?2, owner_host = ?3, owner_pid = ?4, owner_start = ?5,
                    lease_until_ms = ?6, updated_ms = ?7,
                    error = iif(status = 'done', error, NULL), status = iif(status = 'done', status, 'running')
                WHERE no = ?1",
            )?
            .execute(params![
                no,
                claim.token.to_string(),
                owner.host,
                owner.pid,
                owner.start.cast_signed(),
                lease_end(now),
                now,
            ])?;
        self.hold(claim.token, Some(no));
        Ok(Ok(()))
    }

    fn append(&mut self, claim: &Claim, batch: &Batch) -> rusqlite::Result<Answer> {
        let Some(&no) = self.held.get(&claim.token) else { return Ok(Err(CheckpointErrorKind::Lost)) };
        let now = self.now_ms();
        for (seq, entry) in (batch.first_seq..).zip(&batch.entries) {
            let kind = match entry.kind {
                EntryKind::Step => 0,
                EntryKind::Task => 1,
            };
            self.statements.entry.execute(params![
                entry_id(no, seq),
                kind,
                entry.step,
                entry.node.as_deref(),
                entry.item,
                now,
                entry.body
            ])?;
        }
        if let Some(snapshot) = &batch.snapshot {
            self.statements.snapshot.execute(params![no, snapshot.seq, snapshot.body])?;
        }
        if let Some(finish) = &batch.finish {
            self.statements.finish.execute(params![no, finish.status.as_str(), finish.error, now])?;
            self.hold(claim.token, None);
        }
        Ok(Ok(()))
    }

    fn release(&mut self, token: Uuid, no: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare("UPDATE runs SET owner_token = NULL WHERE no = ? AND owner_token = ?")?
            .execute(params![no, token.to_string()])?;
        self.hold(token, None);
        Ok(())
    }

    /// Notes that a claim is held, or no longer, in a way that a failed transaction can undo.
    fn hold(&mut self, token: Uuid, no: Option<i64>) {
        let before = match no {
            Some(no) => self.held.insert(token, no),
            None => self.held.remove(&token),
        };
        self.undo.push((token, before));
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
        let tokens: Vec<(Uuid, i64)> = self.held.iter().map(|(token, no)| (*token, *no)).collect();
        for (token, no) in tokens {
            let renewed = self
                .connection
                .prepare("UPDATE runs SET lease_until_ms = ?3 WHERE no = ?1 AND owner_token = ?2")
                .and_then(|mut update| update.execute(params![no, token.to_string(), lease_end(now)]));
            match renewed {
                Ok(0) => drop(self.held.remove(&token)),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "lease of a run not renewed");
                }
            }
        }
    }

    /// Folds the write-ahead log into the file, if anything was written since the last time. All answers are
    /// out; nobody waits for it.
    fn fold(&mut self) {
        if self.pages > 0
            && let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        {
            tracing::warn!(path = %self.path.display(), %error, "write-ahead log not folded");
        }
        self.pages = 0;
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

impl Op {
    fn claim(&self) -> &Claim {
        match self {
            Self::Create { claim, .. }
            | Self::Claim { claim }
            | Self::Append { claim, .. }
            | Self::Release { claim } => claim,
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
            _ => 2,
        }
    }

    fn durability(&self) -> Durability {
        match self {
            Self::Create { run, .. } => run.durability,
            Self::Append { batch, .. } => batch.durability,
            Self::Claim { .. } | Self::Release { .. } => Durability::Crash,
        }
    }
}

fn lease_end(now_ms: i64) -> i64 {
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

//! What reading the logs brings: turns, entries that could not be read, and how far each file was read.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::turns::TurnStatus;
use super::{PatrolStore, Versions, json, set_meta, version_row};
use crate::logs::{Assembler, FileChange, FileState, Identity, LogsError, Reject, Sink, TurnRecord};
use crate::store::StoreError;
use crate::store::repository::Repository;

/// Takes turns and rejects into the store while a read pass runs.
#[derive(Debug)]
pub struct Ingest<'a> {
    transaction: &'a Transaction<'a>,
    file: &'a Repository,
    versions: &'a Versions,
    version: i64,
    pass: i64,
    legacy: bool,
    streams: BTreeMap<String, i64>,
    changed: u64,
}

impl PatrolStore {
    /// How far every log file was read, by name, and what unfinished runs have left behind. Both or none: where a part
    /// of it cannot be read, all files are read again from the start. Turn ids are stable, so nothing doubles.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn reading(&self) -> Result<(Vec<FileState>, Assembler), StoreError> {
        let files = self.file_states()?;
        let assembler = self.meta(ASSEMBLER)?;
        let read = || {
            let assembler = assembler.as_deref().map(serde_json::from_str).transpose()?;
            Ok::<_, serde_json::Error>((parsed(&files)?, assembler.unwrap_or_default()))
        };
        Ok(read().unwrap_or_else(|error| {
            tracing::warn!(%error, "how far the logs were read is not known any more; they are read from the start");
            Default::default()
        }))
    }

    /// How far every log file was read, for a look at what has changed; none where that is not known any more.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn files(&self) -> Result<Vec<FileState>, StoreError> {
        Ok(parsed(&self.file_states()?).unwrap_or_default())
    }

    fn file_states(&self) -> Result<Vec<String>, StoreError> {
        self.file.read("read the log files' state", |connection| {
            let mut statement = connection.prepare_cached("SELECT state FROM files ORDER BY name")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// Takes in what a read pass finds: `read` gets the store's [`Ingest`] and gives back the files' new state and
    /// what unfinished runs left. All of it is committed at once, or none.
    ///
    /// # Errors
    /// What `read` fails with, or where the store cannot be written.
    pub fn ingest<T, E: From<StoreError>>(
        &self,
        versions: &Versions,
        read: impl FnOnce(&mut Ingest<'_>) -> Result<(T, Vec<FileState>, Assembler), E>,
    ) -> Result<T, E> {
        let mut connection = self.file.lock();
        let fault = |source| self.file.fault("take in log entries", source);
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(fault)?;
        let legacy = transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM cleared)", [], |row| row.get::<_, bool>(0))
            .map_err(fault)?;
        let version = version_row(&transaction, versions).map_err(fault)?;
        let pass = last_pass(&transaction).map_err(fault)? + 1;
        let mut ingest = Ingest {
            transaction: &transaction,
            file: &self.file,
            versions,
            version,
            pass,
            legacy,
            streams: BTreeMap::new(),
            changed: 0,
        };
        let (answer, files, assembler) = read(&mut ingest)?;
        (|| {
            let mut statement =
                transaction.prepare_cached("INSERT OR REPLACE INTO files (name, state) VALUES (?1, ?2)")?;
            for file in &files {
                statement.execute(params![file.name, json(file)])?;
            }
            set_meta(&transaction, ASSEMBLER, &json(&assembler))?;
            set_meta(&transaction, PASS, &pass.to_string())
        })()
        .map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(answer)
    }
}

impl Ingest<'_> {
    /// Turns that were new or had grown so far.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    fn put_turn(&mut self, turn: &TurnRecord) -> rusqlite::Result<()> {
        let stream = self.stream_row(&turn.stream().0)?;
        let run_id_ts = turn.run_id_ts();
        let legacy = if self.legacy { self.cleared(&run_id_ts)? } else { None };
        let status = legacy.unwrap_or(TurnStatus::Pending);
        let version = legacy.map(|_| self.version);
        let changed = self
            .transaction
            .prepare_cached(
                "INSERT INTO turns (turn_id, stream, run_id, ts, run_id_ts, source_file, at, session_key, agent_id, ended,
                   text_bytes, digest, extents, status, version, changed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
                 ON CONFLICT (turn_id) DO UPDATE SET stream = ?2, run_id = ?3, ts = ?4, run_id_ts = ?5, source_file = ?6,
                   at = ?7, session_key = ?8, agent_id = ?9, ended = ?10, text_bytes = ?11, digest = ?12, extents = ?13,
                   status = 0, attempts = 0, next_at = 0, reason = NULL, changed = ?16
                 WHERE digest <> ?12 OR run_id_ts <> ?5",
            )?
            .execute(params![
                turn.id.uuid().as_bytes(),
                stream,
                turn.run_id,
                turn.ts,
                run_id_ts,
                turn.source_file,
                integer(turn.at),
                turn.session_key,
                turn.agent_id,
                turn.ended,
                integer(turn.text_bytes),
                turn.digest.cast_signed(),
                turn.extents.encode(),
                status.code(),
                version,
                self.pass
            ])?;
        self.changed += changed as u64;
        Ok(())
    }

    /// What the earlier tool said of a turn under the same versions, unless another turn of that name claims it.
    fn cleared(&self, run_id_ts: &str) -> rusqlite::Result<Option<TurnStatus>> {
        let status: Option<String> = self
            .transaction
            .prepare_cached(
                "SELECT status FROM cleared WHERE run_id_ts = ?1 AND ruleset_version = ?2 AND model_version = ?3
                   AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.run_id_ts = ?1)",
            )?
            .query_row(params![run_id_ts, self.versions.ruleset, self.versions.model], |row| row.get(0))
            .optional()?;
        Ok(status.map(|status| if status == "CLEAN" { TurnStatus::Clean } else { TurnStatus::Flagged }))
    }

    fn put_reject(&mut self, reject: &Reject) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO rejects (file, offset, length, reason, run_id) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                reject.file,
                integer(reject.offset),
                integer(reject.length),
                reject.reason.as_str(),
                reject.run_id
            ])?;
        Ok(())
    }

    /// Moves a run's turns to the stream that they turn out to belong to, and notes their agent.
    fn move_run(&mut self, identity: &Identity<'_>) -> rusqlite::Result<()> {
        // The character after `_` bounds every `runId_ts` of this run from above.
        let (from, to) = (format!("{}_", identity.run_id), format!("{}`", identity.run_id));
        if let Some(agent_id) = identity.agent_id {
            self.transaction
                .prepare_cached(
                    "UPDATE turns SET agent_id = ?3
                     WHERE run_id_ts >= ?1 AND run_id_ts < ?2 AND run_id = ?4 AND agent_id IS NULL",
                )?
                .execute(params![from, to, agent_id, identity.run_id])?;
        }
        let Some(session_key) = identity.session_key else { return Ok(()) };
        let stream = self.stream_row(session_key)?;
        self.transaction
            .prepare_cached(
                "UPDATE turns SET stream = ?3, session_key = ?4, changed = ?5
                 WHERE run_id_ts >= ?1 AND run_id_ts < ?2 AND run_id = ?6 AND session_key IS NULL",
            )?
            .execute(params![from, to, stream, session_key, self.pass, identity.run_id])?;
        Ok(())
    }

    fn stream_row(&mut self, name: &str) -> rusqlite::Result<i64> {
        if let Some(row) = self.streams.get(name) {
            return Ok(*row);
        }
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO streams (name) VALUES (?1)")?
            .execute([name])?;
        let row = self
            .transaction
            .prepare_cached("SELECT id FROM streams WHERE name = ?1")?
            .query_row([name], |row| row.get(0))?;
        self.streams.insert(name.to_owned(), row);
        Ok(row)
    }

    fn stored(&self, done: rusqlite::Result<()>, doing: &'static str) -> Result<(), LogsError> {
        done.map_err(|source| LogsError::sink(self.file.fault(doing, source)))
    }
}

/// Where it is kept what unfinished runs have left behind.
const ASSEMBLER: &str = "assembler";
/// Where the number of the last read pass is kept.
const PASS: &str = "pass";

/// The number of the last read pass. A turn's `changed` is the pass that last changed what there is to review of it,
/// so that a review can tell whether it is still about the same turn.
pub(super) fn last_pass(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?1), 0)")?
        .query_row([PASS], |row| row.get(0))
}

impl Sink for Ingest<'_> {
    /// Takes a turn in. One that is known and has not changed stays as it is; one that has grown waits for a review
    /// again.
    fn turn(&mut self, record: TurnRecord) -> Result<(), LogsError> {
        let done = self.put_turn(&record);
        self.stored(done, "take in a turn")
    }

    fn reject(&mut self, reject: Reject) -> Result<(), LogsError> {
        let done = self.put_reject(&reject);
        self.stored(done, "note an entry that cannot be read")
    }

    fn file(&mut self, file: &str, offset: u64, change: FileChange) -> Result<(), LogsError> {
        // What was reviewed of a file that is gone or rewritten stays as it was said; what is pending of it fails to
        // load, and is shown as not reviewed.
        let done = match change {
            FileChange::Gone => {
                self.transaction.execute("DELETE FROM files WHERE name = ?1", [file]).map(drop)
            }
            FileChange::New | FileChange::Grown | FileChange::Rewritten => self
                .transaction
                .prepare_cached("DELETE FROM rejects WHERE file = ?1 AND offset >= ?2")
                .and_then(|mut statement| statement.execute(params![file, integer(offset)]))
                .map(drop),
        };
        self.stored(done, "note a file's change")
    }

    fn identity(&mut self, identity: Identity<'_>) -> Result<(), LogsError> {
        let done = self.move_run(&identity);
        self.stored(done, "note a run's session")
    }
}

fn parsed(states: &[String]) -> serde_json::Result<Vec<FileState>> {
    states.iter().map(|state| serde_json::from_str(state)).collect()
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

//! `police.db`: the escalation queue and the case files.
//!
//! The tables `case_files` and `investigated_flags` are the earlier tool's and stay as they were; the queue is ours.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::StoreError;
use super::repository::Repository;
use super::sqlite::{Change, Migration};
use crate::case::{CaseFile, Severity};
use crate::id::RunId;

#[cfg(test)]
mod tests;

const MIGRATIONS: &[Migration] = &[Migration {
    name: "the escalation queue",
    change: Change::Sql(
        "CREATE TABLE IF NOT EXISTS case_files (
        investigation_id TEXT PRIMARY KEY,
        flag_id TEXT NOT NULL,
        source_file TEXT NOT NULL,
        concluded_at TEXT NOT NULL,
        case_file_json TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS investigated_flags (
        flag_id TEXT PRIMARY KEY,
        investigated_at TEXT NOT NULL,
        investigation_id TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS case_files_by_flag ON case_files (flag_id);
    CREATE INDEX IF NOT EXISTS case_files_by_time ON case_files (concluded_at);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE queue (
        flag_id TEXT PRIMARY KEY,
        rank INTEGER NOT NULL,
        queued_at INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('waiting', 'working', 'done', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL DEFAULT 0,
        lease_until INTEGER NOT NULL DEFAULT 0,
        run_id TEXT,
        last_error TEXT
    ) WITHOUT ROWID;
    CREATE INDEX queue_order ON queue (rank DESC, queued_at) WHERE status IN ('waiting', 'working');",
    ),
}];

/// How often an investigation is tried before its flag is shown as a dead letter.
pub const MAX_ATTEMPTS: u32 = 5;

/// What an escalated flag waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueItem {
    /// The flag.
    pub flag_id: String,
    /// The flag's revision when it was queued.
    pub revision: i64,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// The run of an earlier attempt that was cut off, to be resumed.
    pub run_id: Option<RunId>,
}

/// A flag to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalated {
    /// The flag.
    pub flag_id: String,
    /// Its severity: the highest come first.
    pub severity: Severity,
    /// Its revision: a newer one is investigated anew.
    pub revision: i64,
}

/// A flag whose investigation was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The flag.
    pub flag_id: String,
    /// Attempts made.
    pub attempts: u32,
    /// What the last one failed with.
    pub last_error: String,
}

/// How the queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueCounts {
    /// Waiting for an investigator.
    pub waiting: u64,
    /// Being investigated, or cut off in the middle.
    pub working: u64,
    /// Concluded.
    pub done: u64,
    /// Given up.
    pub dead: u64,
}

/// The police's store.
#[derive(Debug)]
pub struct PoliceStore {
    file: Repository,
}

impl PoliceStore {
    /// Opens the store, making or upgrading it in place.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { file: Repository::open(path, MIGRATIONS)? })
    }

    /// A store that is gone with the process, to have all functions at hand without touching a directory.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self { file: Repository::in_memory(MIGRATIONS)? })
    }

    /// Queues flags for investigation: new ones, and those whose revision is another one than what was investigated. Gives how
    /// many were queued. `mark` names what the flags are a list of: the same mark again is not even looked at.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn enqueue(&self, flags: &[Escalated], mark: &str, now: Timestamp) -> Result<u64, StoreError> {
        self.file.write("queue flags", |transaction| {
            let mut queued = 0;
            let mut statement = transaction.prepare_cached(
                "INSERT INTO queue (flag_id, rank, queued_at, revision, status) VALUES (?1, ?2, ?3, ?4, 'waiting')
                 ON CONFLICT (flag_id) DO UPDATE SET rank = ?2, revision = ?4, status = 'waiting', attempts = 0,
                   next_at = 0, lease_until = 0, run_id = NULL, last_error = NULL
                 WHERE ?4 <> revision",
            )?;
            for flag in flags {
                let changed = statement.execute(params![
                    flag.flag_id,
                    flag.severity as i64,
                    now.as_millisecond(),
                    flag.revision
                ])?;
                queued += changed as u64;
            }
            transaction.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('escalated', ?1)", [mark])?;
            Ok(queued)
        })
    }

    /// The mark of the flags that were last queued.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn escalated(&self) -> Result<Option<String>, StoreError> {
        self.file.read("read what was escalated", |connection| {
            connection
                .prepare_cached("SELECT value FROM meta WHERE key = 'escalated'")?
                .query_row([], |row| row.get(0))
                .optional()
        })
    }

    /// Queues a flag again whatever became of it before, as a person asks for it. A run that was cut off goes on, if
    /// the flag is still the one it investigates.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn requeue(
        &self,
        flag_id: &str,
        severity: Severity,
        revision: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.file.write("queue a flag", |transaction| {
            transaction.execute(
                "INSERT INTO queue (flag_id, rank, queued_at, revision, status) VALUES (?1, ?2, ?3, ?4, 'waiting')
                 ON CONFLICT (flag_id) DO UPDATE SET rank = ?2, revision = ?4, status = 'waiting', attempts = 0,
                   next_at = 0, lease_until = 0,
                   run_id = CASE WHEN status IN ('waiting', 'working') AND revision = ?4 THEN run_id END",
                params![flag_id, severity as i64, now.as_millisecond(), revision],
            )?;
            Ok(())
        })
    }

    /// Takes the next flag: highest severity first, oldest first; one whose lease has run out counts as waiting.
    /// With `only`, that flag and no other.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn lease(
        &self,
        only: Option<&str>,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Option<QueueItem>, StoreError> {
        let now = now.as_millisecond();
        let until = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        self.file.write("take a flag from the queue", |transaction| {
            let item = transaction
                .prepare_cached(
                    "SELECT flag_id, revision, attempts + 1, run_id FROM queue
                     WHERE ((status = 'waiting' AND next_at <= ?1) OR (status = 'working' AND lease_until <= ?1))
                       AND (?2 IS NULL OR flag_id = ?2)
                     ORDER BY rank DESC, queued_at, flag_id LIMIT 1",
                )?
                .query_row(params![now, only], |row| {
                    let run: Option<String> = row.get(3)?;
                    Ok(QueueItem {
                        flag_id: row.get(0)?,
                        revision: row.get(1)?,
                        attempts: row.get(2)?,
                        run_id: run.and_then(|run| run.parse().ok()),
                    })
                })
                .optional()?;
            if let Some(item) = &item {
                transaction.execute(
                    "UPDATE queue SET status = 'working', attempts = attempts + 1, lease_until = ?2 WHERE flag_id = ?1",
                    params![item.flag_id, until],
                )?;
            }
            Ok(item)
        })
    }

    /// Ends every lease: the caller holds the directory's lock, so whoever held one is dead.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn release_dead_leases(&self) -> Result<u64, StoreError> {
        self.file.write("release leases", |transaction| {
            Ok(transaction.execute("UPDATE queue SET lease_until = 0 WHERE status = 'working'", [])? as u64)
        })
    }

    /// Notes which run investigates a flag, before the run starts.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn bind_run(&self, flag_id: &str, run_id: RunId) -> Result<(), StoreError> {
        self.file.write("note the investigation's run", |transaction| {
            transaction.execute(
                "UPDATE queue SET run_id = ?2 WHERE flag_id = ?1",
                params![flag_id, run_id.to_string()],
            )?;
            Ok(())
        })
    }

    /// Puts a failed investigation back, or makes it a dead letter after the last attempt. A permanent failure of the
    /// run means that the next attempt starts a new one.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn fail(
        &self,
        flag_id: &str,
        error: &str,
        now: Timestamp,
        wait: Duration,
        keep_run: bool,
    ) -> Result<(), StoreError> {
        let next = now.as_millisecond().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        self.file.write("put an investigation back", |transaction| {
            transaction.execute(
                "UPDATE queue SET status = CASE WHEN attempts >= ?2 THEN 'dead' ELSE 'waiting' END, lease_until = 0,
                   next_at = ?3, last_error = ?4, run_id = CASE WHEN ?5 THEN run_id END
                 WHERE flag_id = ?1 AND status = 'working'",
                params![flag_id, MAX_ATTEMPTS, next, error, keep_run],
            )?;
            Ok(())
        })
    }

    /// Writes the case file and takes its flag off the queue, in one transaction. The same investigation writes the
    /// same case: a repeat replaces it.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn conclude(&self, case: &CaseFile) -> Result<(), StoreError> {
        self.file.write("write the case file", |transaction| {
            let json = serde_json::to_string(case).unwrap_or_default();
            transaction.execute(
                "INSERT INTO case_files (investigation_id, flag_id, source_file, concluded_at, case_file_json)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (investigation_id) DO UPDATE SET case_file_json = ?5, concluded_at = ?4",
                params![case.investigation_id, case.flag_id, case.source_file, case.concluded_at, json],
            )?;
            transaction.execute(
                "INSERT OR REPLACE INTO investigated_flags (flag_id, investigated_at, investigation_id)
                 VALUES (?1, ?2, ?3)",
                params![case.flag_id, case.concluded_at, case.investigation_id],
            )?;
            transaction.execute(
                "UPDATE queue SET status = 'done', lease_until = 0, last_error = NULL WHERE flag_id = ?1",
                [&case.flag_id],
            )?;
            Ok(())
        })
    }

    /// Whether the flag's investigation has come to its case file, so that the queue is done with it.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn is_concluded(&self, flag_id: &str) -> Result<bool, StoreError> {
        self.file.read("look at the queue", |connection| {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM queue WHERE flag_id = ?1 AND status = 'done')")?
                .query_row([flag_id], |row| row.get(0))
        })
    }

    /// Case files, newest first; all of them for no limit.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn cases(&self, limit: Option<u32>) -> Result<Vec<CaseFile>, StoreError> {
        self.file.read("list case files", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT investigation_id, flag_id, source_file, concluded_at, case_file_json FROM case_files
                 ORDER BY concluded_at DESC, investigation_id LIMIT ?1",
            )?;
            let rows = statement.query_map([limit.map_or(-1, i64::from)], case_row)?;
            rows.collect()
        })
    }

    /// The case file of an investigation, or of a flag.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn case(&self, id: &str) -> Result<Option<CaseFile>, StoreError> {
        self.file.read("read a case file", |connection| {
            connection
                .prepare_cached(
                    "SELECT investigation_id, flag_id, source_file, concluded_at, case_file_json FROM case_files
                     WHERE investigation_id = ?1 OR flag_id = ?1 ORDER BY concluded_at DESC LIMIT 1",
                )?
                .query_row([id], case_row)
                .optional()
        })
    }

    /// How many case files there are.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn case_count(&self) -> Result<u64, StoreError> {
        self.file.read("count case files", |connection| {
            connection
                .query_row("SELECT count(*) FROM case_files", [], |row| row.get::<_, i64>(0))
                .map(i64::unsigned_abs)
        })
    }

    /// How the queue stands.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn queue_counts(&self) -> Result<QueueCounts, StoreError> {
        self.file.read("count the queue", |connection| {
            let mut counts = QueueCounts::default();
            let mut statement =
                connection.prepare_cached("SELECT status, count(*) FROM queue GROUP BY status")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let count = row.get::<_, i64>(1)?.unsigned_abs();
                match row.get::<_, String>(0)?.as_str() {
                    "working" => counts.working = count,
                    "done" => counts.done = count,
                    "dead" => counts.dead = count,
                    _ => counts.waiting = count,
                }
            }
            Ok(counts)
        })
    }

    /// Flags whose investigation was given up.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, StoreError> {
        self.file.read("list dead letters", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT flag_id, attempts, coalesce(last_error, '') FROM queue WHERE status = 'dead' ORDER BY flag_id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(DeadLetter { flag_id: row.get(0)?, attempts: row.get(1)?, last_error: row.get(2)? })
            })?;
            rows.collect()
        })
    }
}

/// The columns win over the JSON, which in the earlier tool's rows lacks them; a JSON text that cannot be read
/// becomes a case that says so, so that no row hides.
fn case_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<CaseFile> {
    let text: String = row.get(4)?;
    let mut case = serde_json::from_str::<CaseFile>(&text).unwrap_or_else(|error| CaseFile {
        crime_classification: crate::case::Category::Unknown,
        severity_score: Severity::Medium,
        confidence: 0.0,
        case_facts: String::new(),
        relevant_log_ids: Vec::new(),
        verdict_summary: format!("this case file cannot be read: {error}"),
        investigation_id: String::new(),
        flag_id: String::new(),
        source_file: String::new(),
        concluded_at: String::new(),
        agent: String::new(),
        decided_by: String::new(),
        evidence: Vec::new(),
        recommended_actions: Vec::new(),
        caveats: vec!["the row in police.db is damaged".into()],
    });
    case.investigation_id = row.get(0)?;
    case.flag_id = row.get(1)?;
    case.source_file = row.get(2)?;
    case.concluded_at = row.get(3)?;
    Ok(case)
}

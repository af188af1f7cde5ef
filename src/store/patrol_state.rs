//! `patrol_state.db`: what patrol has read, reviewed and flagged.
//!
//! The table `cleared` is the earlier tool's and stays as it was: what it cleared under the same ruleset and model
//! is not reviewed again. Everything else is ours.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::repository::Repository;
use super::sqlite::{Change, Migration};
use super::{StoreError, StoreErrorKind};
use crate::case::{PatrolFlag, Severity};
use crate::id::TurnId;
use crate::logs::{Assembler, Extents, FileChange, FileState, Identity, LogsError, Reject, Sink, TurnRecord};

/// What a turn waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// Not reviewed yet, or not successfully.
    Pending,
    /// Reviewed, and nothing was found.
    Clean,
    /// Reviewed, and part of a flag.
    Flagged,
    /// Given up after the last attempt. Shown, and never clean.
    Unreviewed,
}

impl TurnStatus {
    const fn code(self) -> i64 {
        match self {
            Self::Pending => 0,
            Self::Clean => 1,
            Self::Flagged => 2,
            Self::Unreviewed => 3,
        }
    }
}

/// A turn as the store knows it.
#[derive(Clone, Debug)]
pub struct StoredTurn {
    /// Its row.
    pub row: i64,
    /// Where it stands in the logs.
    pub record: TurnRecord,
}

/// A stream with turns to review.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRow {
    /// Its row.
    pub row: i64,
    /// Its name.
    pub name: String,
    /// Pheromone level now.
    pub pheromone: f64,
    /// Rows of its pending turns, ascending.
    pub pending: Vec<i64>,
}

/// Counts over everything that was ever read in this directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnCounts {
    /// Turns seen: the sum of the next four.
    pub seen: u64,
    /// Reviewed, nothing found.
    pub clean: u64,
    /// Reviewed, and part of a flag.
    pub flagged: u64,
    /// Waiting for a review.
    pub pending: u64,
    /// Given up.
    pub unreviewed: u64,
    /// Log entries that could not be read.
    pub rejected_entries: u64,
    /// Turns that the earlier tool cleared.
    pub cleared_by_earlier_tool: u64,
}

/// The versions a review was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Version of the rules.
    pub ruleset: String,
    /// The model, or `rules`.
    pub model: String,
}

/// What a sweep writes, all at once.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct SweepRecord<'a> {
    /// Written at most once: a repeated record with the same key changes nothing.
    pub key: &'a str,
    /// When, RFC 3339.
    pub at: String,
    /// What it was reviewed with.
    pub versions: &'a Versions,
    /// Shares that were scanned: stream row, first and last turn row.
    pub reviewed: Vec<(i64, i64, i64)>,
    /// Turns that were not reviewed after all, with the reason.
    pub pending: Vec<(i64, String)>,
    /// Turns that are part of a flag.
    pub flagged: Vec<i64>,
    /// New and grown flags.
    pub flags: &'a [PatrolFlag],
    /// What was deposited on streams.
    pub pheromones: BTreeMap<String, f64>,
    /// After so many attempts a turn is given up.
    pub max_attempts: u32,
    /// The sweep's summary, as JSON, to be handed out again when the record is repeated.
    pub summary: &'a dyn Fn(u64) -> String,
}

/// The patrol's store.
#[derive(Debug)]
pub struct PatrolStore {
    file: Repository,
}

const MIGRATIONS: &[Migration] = &[Migration {
    name: "turns, streams and flags",
    change: Change::Sql(
        "CREATE TABLE IF NOT EXISTS cleared (
        run_id_ts TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        reviewed_at TEXT NOT NULL,
        ruleset_version TEXT NOT NULL,
        model_version TEXT NOT NULL
    );
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE files (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        pheromone REAL NOT NULL DEFAULT 0,
        pheromone_sweep INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        ruleset TEXT NOT NULL,
        model TEXT NOT NULL,
        UNIQUE (ruleset, model)
    );
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY,
        turn_id BLOB NOT NULL UNIQUE,
        stream INTEGER NOT NULL REFERENCES streams (id),
        run_id TEXT NOT NULL,
        ts INTEGER NOT NULL,
        run_id_ts TEXT NOT NULL,
        source_file TEXT NOT NULL,
        at INTEGER NOT NULL,
        session_key TEXT,
        agent_id TEXT,
        ended INTEGER NOT NULL,
        text_bytes INTEGER NOT NULL,
        digest INTEGER NOT NULL,
        extents BLOB NOT NULL,
        status INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        version INTEGER REFERENCES versions (id),
        reviewed_at TEXT
    );
    CREATE INDEX turns_pending ON turns (stream, id) WHERE status = 0;
    CREATE INDEX turns_by_name ON turns (run_id_ts);
    CREATE INDEX turns_by_stream ON turns (stream, id);
    CREATE TABLE flags (
        seq INTEGER PRIMARY KEY,
        flag_id TEXT UNIQUE,
        severity TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        revision INTEGER NOT NULL,
        legacy INTEGER NOT NULL,
        json TEXT NOT NULL
    );
    CREATE TABLE rejects (
        file TEXT NOT NULL,
        offset INTEGER NOT NULL,
        length INTEGER NOT NULL,
        reason TEXT NOT NULL,
        run_id TEXT,
        PRIMARY KEY (file, offset)
    ) WITHOUT ROWID;
    CREATE TABLE sweeps (
        number INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL,
        summary TEXT NOT NULL
    );",
    ),
}];

/// How much of the pheromone stays from one sweep to the next.
const PHEROMONE_DECAY: f64 = 0.85;

impl PatrolStore {
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

    /// The file it is in.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The state of every log file read so far, by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn files(&self) -> Result<Vec<FileState>, StoreError> {
        self.file.read("read the log files' state", |connection| {
            let mut statement = connection.prepare_cached("SELECT state FROM files ORDER BY name")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            let mut files = Vec::new();
            for row in rows {
                // A state that cannot be read means that its file is read again from the start: turn ids are
                // stable, so nothing doubles.
                let text = row?;
                if let Ok(state) = serde_json::from_str(&text) {
                    files.push(state);
                }
            }
            Ok(files)
        })
    }

    /// What unfinished runs have left behind.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn assembler(&self) -> Result<Assembler, StoreError> {
        let text = self.meta("assembler")?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// A value kept under a name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.file.read("read a setting", |connection| {
            connection
                .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// Keeps a value under a name.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.file.write("keep a setting", |transaction| set_meta(transaction, key, value))
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
        let mut ingest = Ingest {
            transaction: &transaction,
            file: &self.file,
            versions,
            version,
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
            set_meta(&transaction, "assembler", &json(&assembler))
        })()
        .map_err(fault)?;
        transaction.commit().map_err(fault)?;
        Ok(answer)
    }

    /// Puts what was reviewed under other versions back to pending, and gives how many that were.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn requeue_outdated(&self, versions: &Versions) -> Result<u64, StoreError> {
        if !self.is_outdated(versions)? {
            return Ok(0);
        }
        let current = version_key(versions);
        self.file.write("put outdated reviews back", |transaction| {
            let version = version_row(transaction, versions)?;
            let changed = transaction.execute(
                "UPDATE turns SET status = 0, attempts = 0 WHERE status <> 0 AND version IS NOT ?1",
                [version],
            )?;
            set_meta(transaction, "versions", &current)?;
            Ok(changed as u64)
        })
    }

    /// Whether reviews under other versions wait to be put back to pending.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn is_outdated(&self, versions: &Versions) -> Result<bool, StoreError> {
        Ok(self.meta("versions")?.as_deref() != Some(version_key(versions).as_str()))
    }

    /// Puts turns that were given up back to pending, and gives how many that were.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn retry_unreviewed(&self) -> Result<u64, StoreError> {
        self.file.write("put unreviewed turns back", |transaction| {
            let changed =
                transaction.execute("UPDATE turns SET status = 0, attempts = 0 WHERE status = 3", [])?;
            Ok(changed as u64)
        })
    }

    /// Whether any turn waits for a review.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn has_pending(&self) -> Result<bool, StoreError> {
        self.file.read("look for pending turns", |connection| {
            connection
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM turns INDEXED BY turns_pending WHERE status = 0)",
                )?
                .query_row([], |row| row.get(0))
        })
    }

    /// Streams with pending turns.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn pending_streams(&self) -> Result<Vec<StreamRow>, StoreError> {
        self.file.read("list pending turns", |connection| {
            let sweep = sweep_number(connection)?;
            let mut statement = connection.prepare_cached(
                "SELECT t.stream, t.id, s.name, s.pheromone, s.pheromone_sweep
                 FROM turns t INDEXED BY turns_pending JOIN streams s ON s.id = t.stream
                 WHERE t.status = 0 ORDER BY t.stream, t.id",
            )?;
            let mut rows = statement.query([])?;
            let mut streams: Vec<StreamRow> = Vec::new();
            while let Some(row) = rows.next()? {
                let stream: i64 = row.get(0)?;
                let turn: i64 = row.get(1)?;
                match streams.last_mut() {
                    Some(last) if last.row == stream => last.pending.push(turn),
                    _ => streams.push(StreamRow {
                        row: stream,
                        name: row.get(2)?,
                        pheromone: decayed(row.get(3)?, row.get(4)?, sweep),
                        pending: vec![turn],
                    }),
                }
            }
            Ok(streams)
        })
    }

    /// Pending turns of a stream between two rows, inclusive.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn pending_turns(&self, stream: i64, from: i64, to: i64) -> Result<Vec<StoredTurn>, StoreError> {
        self.turns(
            "stream = ?1 AND id BETWEEN ?2 AND ?3 AND status = 0 ORDER BY id",
            params![stream, from, to],
        )
    }

    /// Turns of that name: more than one where two files hold the same run id and time.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn turns_named(&self, run_id_ts: &str) -> Result<Vec<StoredTurn>, StoreError> {
        self.turns("run_id_ts = ?1 ORDER BY id", params![run_id_ts])
    }

    /// Turns by row.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn turn(&self, row: i64) -> Result<Option<StoredTurn>, StoreError> {
        Ok(self.turns("id = ?1", params![row])?.into_iter().next())
    }

    /// Up to `count` turns of the same stream before and after a turn, in order, the turn itself among them.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn neighbours(&self, row: i64, count: u32) -> Result<Vec<StoredTurn>, StoreError> {
        let mut before = self.turns(
            "stream = (SELECT stream FROM turns WHERE id = ?1) AND id <= ?1
             ORDER BY id DESC LIMIT ?2",
            params![row, i64::from(count) + 1],
        )?;
        before.reverse();
        before.extend(self.turns(
            "stream = (SELECT stream FROM turns WHERE id = ?1) AND id > ?1
             ORDER BY id LIMIT ?2",
            params![row, count],
        )?);
        Ok(before)
    }

    /// How many turns a stream has.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn stream_len(&self, name: &str) -> Result<u64, StoreError> {
        self.file.read("count a stream's turns", |connection| {
            connection
                .prepare_cached(
                    "SELECT count(*) FROM turns WHERE stream = (SELECT id FROM streams WHERE name = ?1)",
                )?
                .query_row([name], |row| row.get::<_, i64>(0))
                .map(i64::unsigned_abs)
        })
    }

    fn turns(&self, condition: &str, params: impl rusqlite::Params) -> Result<Vec<StoredTurn>, StoreError> {
        let rows = self.file.read("read turns", |connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM turns WHERE {condition}"))?;
            let rows = statement.query_map(params, turn_row)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|(turn, extents)| {
                let extents = Extents::decode(&extents).map_err(|error| {
                    StoreError::at(self.file.path())(StoreErrorKind::Damaged(format!(
                        "turn row {}: {error}",
                        turn.row
                    )))
                })?;
                Ok(StoredTurn { record: TurnRecord { extents, ..turn.record }, ..turn })
            })
            .collect()
    }

    /// Writes what a sweep came to, in one transaction and once for each key; gives the summary that was written.
    ///
    /// # Errors
    /// Where the store cannot be written; nothing is written then.
    pub fn record_sweep(&self, sweep: &SweepRecord<'_>) -> Result<String, StoreError> {
        self.file.write("record the sweep", |transaction| {
            let done: Option<String> = transaction
                .query_row("SELECT summary FROM sweeps WHERE key = ?1", [sweep.key], |row| row.get(0))
                .optional()?;
            if let Some(summary) = done {
                return Ok(summary);
            }
            let version = version_row(transaction, sweep.versions)?;
            {
                let mut statement = transaction.prepare_cached(
                    "UPDATE turns SET status = 1, reason = NULL, version = ?4, reviewed_at = ?5
                     WHERE stream = ?1 AND id BETWEEN ?2 AND ?3 AND status = 0",
                )?;
                // Pending ones are taken out first, so that the update cannot pass them off as clean.
                let mut hold = transaction.prepare_cached("UPDATE turns SET status = -1, reason = ?2 WHERE id = ?1 AND status = 0")?;
                for (row, reason) in &sweep.pending {
                    hold.execute(params![row, reason])?;
                }
                for (stream, from, to) in &sweep.reviewed {
                    statement.execute(params![stream, from, to, version, sweep.at])?;
                }
                let mut flagged = transaction.prepare_cached(
                    "UPDATE turns SET status = ?2, version = ?3, reviewed_at = ?4 WHERE id = ?1 AND status = 1",
                )?;
                for row in &sweep.flagged {
                    flagged.execute(params![row, TurnStatus::Flagged.code(), version, sweep.at])?;
                }
            }
            let unreviewed = transaction.execute(
                "UPDATE turns SET status = 3, attempts = attempts + 1 WHERE status = -1 AND attempts + 1 >= ?1",
                [sweep.max_attempts],
            )?;
            transaction.execute("UPDATE turns SET status = 0, attempts = attempts + 1 WHERE status = -1", [])?;
            for flag in sweep.flags {
                put_flag(transaction, flag, &sweep.at)?;
            }
            let number = sweep_number(transaction)? + 1;
            for (stream, deposit) in &sweep.pheromones {
                let (level, since): (f64, i64) = transaction
                    .query_row("SELECT pheromone, pheromone_sweep FROM streams WHERE name = ?1", [stream], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()?
                    .unwrap_or((0.0, number));
                let level = (decayed(level, since, number) + deposit).min(1.0);
                transaction.execute(
                    "UPDATE streams SET pheromone = ?2, pheromone_sweep = ?3 WHERE name = ?1",
                    params![stream, level, number],
                )?;
            }
            let summary = (sweep.summary)(unreviewed as u64);
            transaction.execute(
                "INSERT INTO sweeps (number, key, at, summary) VALUES (?1, ?2, ?3, ?4)",
                params![number, sweep.key, sweep.at, summary],
            )?;
            Ok(summary)
        })
    }

    /// Counts for `patrol status`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn counts(&self) -> Result<TurnCounts, StoreError> {
        self.file.read("count turns", |connection| {
            let mut counts = TurnCounts::default();
            let mut statement = connection.prepare("SELECT status, count(*) FROM turns GROUP BY status")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let count = row.get::<_, i64>(1)?.unsigned_abs();
                counts.seen += count;
                match row.get::<_, i64>(0)? {
                    1 => counts.clean += count,
                    2 => counts.flagged += count,
                    3 => counts.unreviewed += count,
                    _ => counts.pending += count,
                }
            }
            let count =
                |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
            counts.rejected_entries = count("SELECT count(*) FROM rejects")?;
            counts.cleared_by_earlier_tool = count("SELECT count(*) FROM cleared")?;
            Ok(counts)
        })
    }

    /// Log entries that could not be read.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn rejected_entries(&self) -> Result<u64, StoreError> {
        self.file.read("count unreadable entries", |connection| {
            connection
                .prepare_cached("SELECT count(*) FROM rejects")?
                .query_row([], |row| row.get::<_, i64>(0))
                .map(i64::unsigned_abs)
        })
    }

    /// Why turns are pending or unreviewed, with how many.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn open_reasons(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.file.read("read why turns are pending", |connection| {
            let mut statement = connection.prepare(
                "SELECT coalesce(reason, 'not scanned yet'), count(*) FROM turns WHERE status IN (0, 3) GROUP BY 1
                 UNION ALL
                 SELECT 'entry not readable: ' || reason, count(*) FROM rejects GROUP BY 1",
            )?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            rows.collect()
        })
    }

    /// The newest flags, newest first; all of them for no limit.
    ///
    /// # Errors
    /// Where the store cannot be read, or holds a flag that cannot be.
    pub fn flags(&self, limit: Option<u32>) -> Result<Vec<FlagRow>, StoreError> {
        self.file.read("list flags", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, flag_id, revision, legacy, json FROM flags ORDER BY seq DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([limit.map_or(-1, i64::from)], flag_row)?;
            rows.collect()
        })
    }

    /// One flag by its whole id.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn flag(&self, flag_id: &str) -> Result<Option<PatrolFlag>, StoreError> {
        self.file
            .read("read a flag", |connection| {
                connection
                    .prepare_cached(
                        "SELECT seq, flag_id, revision, legacy, json FROM flags WHERE flag_id = ?1",
                    )?
                    .query_row([flag_id], flag_row)
                    .optional()
            })
            .map(|row| row.and_then(|row| row.flag))
    }

    /// Takes in the lines of a `patrol_flags.jsonl` that the store does not know yet, as they are; gives how many
    /// were new and how many of those could not be read (kept all the same).
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn import_flags(&self, lines: &[String]) -> Result<(u64, u64), StoreError> {
        self.file.write("import flags", |transaction| {
            let (mut new, mut unreadable) = (0, 0);
            let mut known =
                transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM flags WHERE flag_id = ?1 OR json = ?2)")?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO flags (flag_id, severity, updated_at, revision, legacy, json) VALUES (?1, ?2, ?3, 1, 1, ?4)",
            )?;
            for line in lines {
                let flag = serde_json::from_str::<PatrolFlag>(line).ok();
                let id = flag.as_ref().map(|flag| flag.flag_id.clone());
                if known.query_row(params![id, line], |row| row.get::<_, bool>(0))? {
                    continue;
                }
                let severity = flag.as_ref().map_or(Severity::Clean, |flag| flag.consensus_severity);
                let at = flag.as_ref().map_or("", |flag| flag.timestamp.as_str());
                insert.execute(params![id, severity.as_str(), at, line])?;
                new += 1;
                unreadable += u64::from(flag.is_none());
            }
            Ok((new, unreadable))
        })
    }

    /// How many sweeps were recorded.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn sweeps(&self) -> Result<u64, StoreError> {
        self.file.read("count sweeps", sweep_number).map(i64::unsigned_abs)
    }
}

/// A line of the flags table.
#[derive(Clone, Debug)]
pub struct FlagRow {
    /// Order in which flags were raised.
    pub seq: i64,
    /// Its id; `None` for a line of the earlier tool's file that could not be read.
    pub flag_id: Option<String>,
    /// Counts the changes.
    pub revision: i64,
    /// Whether it came from the earlier tool's file.
    pub legacy: bool,
    /// The text it is exported as.
    pub json: String,
    /// The flag; `None` where the text is none.
    pub flag: Option<PatrolFlag>,
}

fn flag_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<FlagRow> {
    let json: String = row.get(4)?;
    Ok(FlagRow {
        seq: row.get(0)?,
        flag_id: row.get(1)?,
        revision: row.get(2)?,
        legacy: row.get(3)?,
        flag: serde_json::from_str(&json).ok(),
        json,
    })
}

fn put_flag(transaction: &Transaction<'_>, flag: &PatrolFlag, at: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO flags (flag_id, severity, updated_at, revision, legacy, json) VALUES (?1, ?2, ?3, 1, 0, ?4)
             ON CONFLICT (flag_id) DO UPDATE SET severity = ?2, updated_at = ?3, json = ?4, revision = revision + 1",
        )?
        .execute(params![flag.flag_id, flag.consensus_severity.as_str(), at, json(flag)])?;
    Ok(())
}

/// Takes turns and rejects into the store while a read pass runs.
#[derive(Debug)]
pub struct Ingest<'a> {
    transaction: &'a Transaction<'a>,
    file: &'a Repository,
    versions: &'a Versions,
    version: i64,
    legacy: bool,
    streams: BTreeMap<String, i64>,
    changed: u64,
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
                   text_bytes, digest, extents, status, version)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
                 ON CONFLICT (turn_id) DO UPDATE SET stream = ?2, run_id = ?3, ts = ?4, run_id_ts = ?5, source_file = ?6,
                   at = ?7, session_key = ?8, agent_id = ?9, ended = ?10, text_bytes = ?11, digest = ?12, extents = ?13,
                   status = 0, attempts = 0, reason = NULL
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
                version
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

    /// Moves a run's turns to the stream that they turn out to belong to.
    fn move_run(&mut self, identity: &Identity<'_>) -> rusqlite::Result<()> {
        // The character after `_` bounds every `runId_ts` of this run from above.
        let (from, to) = (format!("{}_", identity.run_id), format!("{}`", identity.run_id));
        let Some(session_key) = identity.session_key else { return Ok(()) };
        let stream = self.stream_row(session_key)?;
        self.transaction
            .prepare_cached(
                "UPDATE turns SET stream = ?3, session_key = ?4, agent_id = coalesce(?5, agent_id)
                 WHERE run_id_ts >= ?1 AND run_id_ts < ?2 AND run_id = ?6 AND session_key IS NULL",
            )?
            .execute(params![from, to, stream, session_key, identity.agent_id, identity.run_id])?;
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

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Columns that [`turn_row`] reads.
const COLUMNS: &str =
    "id, turn_id, run_id, ts, source_file, at, session_key, agent_id, ended, text_bytes, digest, extents";

/// A turn without its extents, and the bytes of these.
fn turn_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(StoredTurn, Vec<u8>)> {
    let id: [u8; 16] = row.get(1)?;
    let record = TurnRecord {
        id: TurnId::from_bytes(id),
        run_id: row.get(2)?,
        ts: row.get(3)?,
        source_file: row.get(4)?,
        at: row.get::<_, i64>(5)?.unsigned_abs(),
        session_key: row.get(6)?,
        agent_id: row.get(7)?,
        ended: row.get(8)?,
        text_bytes: row.get::<_, i64>(9)?.unsigned_abs(),
        digest: row.get::<_, i64>(10)?.cast_unsigned(),
        extents: Extents::default(),
    };
    Ok((StoredTurn { row: row.get(0)?, record }, row.get(11)?))
}

fn version_key(versions: &Versions) -> String {
    format!("{}\u{1f}{}", versions.ruleset, versions.model)
}

fn decayed(level: f64, since: i64, now: i64) -> f64 {
    let sweeps = i32::try_from((now - since).max(0)).unwrap_or(i32::MAX);
    level * PHEROMONE_DECAY.powi(sweeps)
}

fn sweep_number(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(number), 0) FROM sweeps")?.query_row([], |row| row.get(0))
}

fn version_row(connection: &Connection, versions: &Versions) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO versions (ruleset, model) VALUES (?1, ?2)")?
        .execute([&versions.ruleset, &versions.model])?;
    connection
        .prepare_cached("SELECT id FROM versions WHERE ruleset = ?1 AND model = ?2")?
        .query_row([&versions.ruleset, &versions.model], |row| row.get(0))
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute([key, value])?;
    Ok(())
}

/// Plain data to JSON: maps with string keys and no foreign types, which cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

//! `egress.db`: what went out of the sandbox, or wanted to: each attempt for a while, and for each destination its sums.

use std::path::Path;

use rusqlite::{Row, Transaction, params};
use serde::Serialize;

use super::StoreError;
use super::repository::Repository;
use super::sqlite::{Change, Migration};
use crate::door::{EgressEvent, Method, Sink, Verdict};

/// Attempts that are kept; the oldest go first.
const MOST_ATTEMPTS: i64 = 100_000;
/// Destinations of a sandbox that have a row of their own. Their names are the agent's: it must not be able to fill the disk
/// with them.
pub const MOST_DESTINATIONS: i64 = 10_000;
/// The row in which all further destinations are summed up.
pub const OTHERS: &str = "(others)";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "attempts and destinations",
    change: Change::Sql(
        "CREATE TABLE attempts (
            id INTEGER PRIMARY KEY,
            at_ms INTEGER NOT NULL,
            sandbox TEXT NOT NULL,
            method TEXT NOT NULL,
            host TEXT NOT NULL,
            port INTEGER NOT NULL,
            address TEXT,
            bytes_up INTEGER NOT NULL,
            bytes_down INTEGER NOT NULL,
            verdict TEXT NOT NULL,
            reason TEXT,
            detail TEXT NOT NULL,
            first_seen INTEGER NOT NULL,
            duration_ms INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE destinations (
            sandbox TEXT NOT NULL,
            host TEXT NOT NULL,
            port INTEGER NOT NULL,
            allowed INTEGER NOT NULL,
            denied INTEGER NOT NULL,
            bytes_up INTEGER NOT NULL,
            bytes_down INTEGER NOT NULL,
            first_ms INTEGER NOT NULL,
            last_ms INTEGER NOT NULL,
            last_verdict TEXT NOT NULL,
            last_reason TEXT,
            last_detail TEXT NOT NULL,
            PRIMARY KEY (sandbox, host, port)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE sandboxes (
            sandbox TEXT PRIMARY KEY,
            destinations INTEGER NOT NULL,
            lost INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;",
    ),
}];

/// A destination with its sums. Host and detail are the agent's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DestinationRow {
    /// The sandbox.
    pub sandbox: String,
    /// The host; [`OTHERS`] for all beyond the limit, empty for attempts that named none.
    pub host: String,
    /// The port; 0 where none was named.
    pub port: u16,
    /// Attempts that were let through.
    pub allowed: u64,
    /// Attempts that were refused.
    pub denied: u64,
    /// Bytes that went out.
    pub bytes_up: u64,
    /// Bytes that came in.
    pub bytes_down: u64,
    /// First attempt, in milliseconds since the Unix epoch.
    pub first_ms: i64,
    /// Last attempt, in milliseconds since the Unix epoch.
    pub last_ms: i64,
    /// What became of the last attempt.
    pub last_verdict: String,
    /// Why, where it was refused, failed or ended early.
    pub last_reason: Option<String>,
    /// What else was said of it.
    pub last_detail: String,
}

/// The record of what went out.
#[derive(Debug)]
pub struct EgressStore {
    file: Repository,
    sandbox: String,
}

impl EgressStore {
    /// Opens the store for a sandbox, making or upgrading it in place.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: &Path, sandbox: &str) -> Result<Self, StoreError> {
        Ok(Self { file: Repository::open(path, MIGRATIONS)?, sandbox: sandbox.to_owned() })
    }

    /// The destinations of the sandbox, those with the latest attempts first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn destinations(&self) -> Result<Vec<DestinationRow>, StoreError> {
        self.file.read("read where the sandbox went", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sandbox, host, port, allowed, denied, bytes_up, bytes_down, first_ms, last_ms, last_verdict,
                        last_reason, last_detail
                 FROM destinations WHERE sandbox = ?1 ORDER BY last_ms DESC, host, port",
            )?;
            let rows = statement.query_map([&self.sandbox], |row| {
                Ok(DestinationRow {
                    sandbox: row.get(0)?,
                    host: row.get(1)?,
                    port: row.get(2)?,
                    allowed: count(row, 3)?,
                    denied: count(row, 4)?,
                    bytes_up: count(row, 5)?,
                    bytes_down: count(row, 6)?,
                    first_ms: row.get(7)?,
                    last_ms: row.get(8)?,
                    last_verdict: row.get(9)?,
                    last_reason: row.get(10)?,
                    last_detail: row.get(11)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Events of the sandbox that found no place in the door's queue.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn lost(&self) -> Result<u64, StoreError> {
        self.file.read("count lost events", |connection| {
            connection.query_row(
                "SELECT coalesce(sum(lost), 0) FROM sandboxes WHERE sandbox = ?1",
                [&self.sandbox],
                |row| count(row, 0),
            )
        })
    }

    /// How many attempts are kept.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn attempts(&self) -> Result<u64, StoreError> {
        self.file.read("count attempts", |connection| {
            connection.query_row("SELECT count(*) FROM attempts WHERE sandbox = ?1", [&self.sandbox], |row| {
                count(row, 0)
            })
        })
    }

    /// Keeps events, all or none.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn keep(&self, events: &[EgressEvent], lost: u64) -> Result<(), StoreError> {
        self.file.write("record attempts to go out", |transaction| {
            transaction.execute(
                "INSERT INTO sandboxes VALUES (?1, 0, ?2) ON CONFLICT (sandbox) DO UPDATE SET lost = lost + ?2",
                params![self.sandbox, integer(lost)],
            )?;
            let mut last = 0;
            for event in events {
                last = insert(transaction, event)?;
                self.sum_up(transaction, event)?;
            }
            if last > MOST_ATTEMPTS {
                transaction.execute("DELETE FROM attempts WHERE id <= ?1", [last - MOST_ATTEMPTS])?;
            }
            Ok(())
        })
    }

    fn sum_up(&self, transaction: &Transaction<'_>, event: &EgressEvent) -> rusqlite::Result<()> {
        // A probe of the door's own is no attempt of the agent, and neither is what came under another name (the self-test).
        if event.method == Method::Probe || event.sandbox != self.sandbox {
            return Ok(());
        }
        let known = transaction
            .prepare_cached("SELECT 1 FROM destinations WHERE sandbox = ?1 AND host = ?2 AND port = ?3")?
            .exists(params![self.sandbox, event.host, event.port])?;
        let mut host = event.host.as_str();
        let mut port = event.port;
        if !known {
            let room = transaction
                .prepare_cached(
                    "UPDATE sandboxes SET destinations = destinations + 1 WHERE sandbox = ?1 AND destinations < ?2",
                )?
                .execute(params![self.sandbox, MOST_DESTINATIONS])?;
            if room == 0 {
                (host, port) = (OTHERS, 0);
            }
        }
        let is_allowed = event.verdict == Verdict::Allowed;
        transaction
            .prepare_cached(
                "INSERT INTO destinations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11)
                 ON CONFLICT (sandbox, host, port) DO UPDATE SET
                    allowed = allowed + ?4, denied = denied + ?5, bytes_up = bytes_up + ?6,
                    bytes_down = bytes_down + ?7, first_ms = min(first_ms, ?8),
                    last_verdict = CASE WHEN ?8 >= last_ms THEN ?9 ELSE last_verdict END,
                    last_reason = CASE WHEN ?8 >= last_ms THEN ?10 ELSE last_reason END,
                    last_detail = CASE WHEN ?8 >= last_ms THEN ?11 ELSE last_detail END,
                    last_ms = max(last_ms, ?8)",
            )?
            .execute(params![
                self.sandbox,
                host,
                port,
                i64::from(is_allowed),
                i64::from(!is_allowed),
                integer(event.bytes_up),
                integer(event.bytes_down),
                event.at_ms,
                verdict(event),
                event.reason.map(crate::door::Reason::word),
                event.detail,
            ])?;
        Ok(())
    }
}

impl Sink for EgressStore {
    fn known(&self) -> Vec<(String, u16)> {
        match self.destinations() {
            Ok(rows) => rows.into_iter().map(|row| (row.host, row.port)).collect(),
            Err(error) => {
                let error = crate::text::causes(&error);
                tracing::warn!(error, "where the sandbox went before is not known; all counts as new");
                Vec::new()
            }
        }
    }

    fn record(&self, events: &[EgressEvent], lost: u64) -> Result<(), String> {
        self.keep(events, lost).map_err(|error| crate::text::causes(&error))
    }
}

fn insert(transaction: &Transaction<'_>, event: &EgressEvent) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO attempts (at_ms, sandbox, method, host, port, address, bytes_up, bytes_down, verdict, reason,
                detail, first_seen, duration_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            event.at_ms,
            event.sandbox,
            event.method.word(),
            event.host,
            event.port,
            event.address.map(|address| address.to_string()),
            integer(event.bytes_up),
            integer(event.bytes_down),
            verdict(event),
            event.reason.map(crate::door::Reason::word),
            event.detail,
            event.first_seen,
            integer(event.duration_ms),
        ])?;
    Ok(transaction.last_insert_rowid())
}

const fn verdict(event: &EgressEvent) -> &'static str {
    match event.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied",
    }
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::Reason;

    fn event(host: &str, verdict: Verdict) -> EgressEvent {
        EgressEvent {
            at_ms: 1_000,
            sandbox: "a".into(),
            method: Method::Connect,
            host: host.into(),
            port: 443,
            address: None,
            bytes_up: 10,
            bytes_down: 20,
            verdict,
            reason: (verdict == Verdict::Denied).then_some(Reason::NotAllowed),
            detail: String::new(),
            first_seen: true,
            duration_ms: 1,
        }
    }

    #[test]
    fn attempts_are_kept_and_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("egress.db");
        let store = EgressStore::open(&path, "a").unwrap();
        let later = EgressEvent { at_ms: 2_000, ..event("a.example", Verdict::Denied) };
        let probe = EgressEvent { method: Method::Probe, ..event("a.example", Verdict::Allowed) };
        store
            .keep(
                &[event("a.example", Verdict::Allowed), later, probe, event("b.example", Verdict::Denied)],
                3,
            )
            .unwrap();
        let rows = store.destinations().unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].host.as_str(), rows[0].allowed, rows[0].denied), ("a.example", 1, 1));
        assert_eq!((rows[0].bytes_up, rows[0].bytes_down), (20, 40));
        assert_eq!((rows[0].first_ms, rows[0].last_ms), (1_000, 2_000));
        assert_eq!(rows[0].last_reason.as_deref(), Some("not_allowed"));
        assert_eq!((store.attempts().unwrap(), store.lost().unwrap()), (4, 3));
        let other = EgressStore::open(&path, "b").unwrap();
        assert!(other.destinations().unwrap().is_empty());
        assert_eq!(other.known(), []);
    }

    #[test]
    fn an_agent_cannot_fill_the_disk_with_names() {
        let folder = tempfile::tempdir().unwrap();
        let store = EgressStore::open(&folder.path().join("egress.db"), "a").unwrap();
        let most = usize::try_from(MOST_DESTINATIONS).unwrap();
        let many: Vec<_> = (0..most + 50).map(|n| event(&format!("n{n}.example"), Verdict::Denied)).collect();
        store.keep(&many, 0).unwrap();
        let rows = store.destinations().unwrap();
        assert_eq!(rows.len(), most + 1);
        let others = rows.iter().find(|row| row.host == OTHERS).unwrap();
        assert_eq!(others.denied, 50);
    }
}

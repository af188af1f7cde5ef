//! The end of a sweep: everything it came to, in one transaction and once for each key.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::flags::put_flag;
use super::turns::TurnStatus;
use super::{PatrolStore, Versions, version_row};
use crate::case::PatrolFlag;
use crate::store::StoreError;

/// How much of the pheromone stays from one sweep to the next.
const PHEROMONE_DECAY: f64 = 0.85;

/// Turns of a stream that were scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The stream's row.
    pub stream: i64,
    /// First turn row.
    pub from: i64,
    /// Last turn row.
    pub to: i64,
    /// Number of the last change when the share was made. A turn that was changed or put back later is none of what was
    /// scanned, also where a sweep that was cut off long ago goes on.
    pub pass: i64,
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
    /// Shares that were scanned.
    pub reviewed: Vec<Share>,
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

impl PatrolStore {
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
                     WHERE stream = ?1 AND id BETWEEN ?2 AND ?3 AND status = 0 AND pass <= ?6",
                )?;
                // Pending ones are taken out first, so that the update cannot pass them off as clean.
                let mut hold = transaction.prepare_cached("UPDATE turns SET status = -1, reason = ?2 WHERE id = ?1 AND status = 0")?;
                for (row, reason) in &sweep.pending {
                    hold.execute(params![row, reason])?;
                }
                for share in &sweep.reviewed {
                    let Share { stream, from, to, pass } = share;
                    statement.execute(params![stream, from, to, version, sweep.at, pass])?;
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

    /// How many sweeps were recorded.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn sweeps(&self) -> Result<u64, StoreError> {
        self.file.read("count sweeps", sweep_number).map(i64::unsigned_abs)
    }
}

/// A pheromone level of sweep `since`, as it stands in sweep `now`.
pub(super) fn decayed(level: f64, since: i64, now: i64) -> f64 {
    let sweeps = i32::try_from((now - since).max(0)).unwrap_or(i32::MAX);
    level * PHEROMONE_DECAY.powi(sweeps)
}

/// The number of the last sweep.
pub(super) fn sweep_number(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(number), 0) FROM sweeps")?.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::logs;

    fn versions() -> Versions {
        Versions { ruleset: "r".into(), model: "rules".into() }
    }

    fn read(store: &PatrolStore, dir: &Path) {
        let mut files = store.files().unwrap();
        let mut assembler = store.assembler().unwrap();
        let ingested: Result<(), StoreError> = store.ingest(&versions(), |ingest| {
            logs::read(dir, &mut files, &mut assembler, ingest).unwrap();
            Ok(((), files, assembler))
        });
        ingested.unwrap();
    }

    fn share(store: &PatrolStore) -> Share {
        let stream = &store.pending_streams().unwrap()[0];
        let (from, to) = (*stream.pending.first().unwrap(), *stream.pending.last().unwrap());
        Share { stream: stream.row, from, to, pass: stream.pass }
    }

    fn record(store: &PatrolStore, key: &str, share: Share) -> (u64, u64) {
        let sweep = SweepRecord {
            key,
            at: "2026-11-23T00:00:00Z".into(),
            versions: &versions(),
            reviewed: vec![share],
            pending: Vec::new(),
            flagged: Vec::new(),
            flags: &[],
            pheromones: BTreeMap::new(),
            max_attempts: 5,
            summary: &|_| String::from("{}"),
        };
        store.record_sweep(&sweep).unwrap();
        let counts = store.counts().unwrap();
        (counts.clean, counts.pending)
    }

    #[test]
    fn what_changed_after_it_was_shared_out_is_not_cleared_by_an_older_scan() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.jsonl");
        let said = r#"{"ts":1,"event":"user_message","runId":"r","text":"hello"}"#;
        fs::write(&file, format!("{said}\n")).unwrap();
        let store = PatrolStore::in_memory().unwrap();
        read(&store, dir.path());
        let before = share(&store);
        let end =
            r#"{"ts":2,"event":"assistant_message_end","runId":"r","rawText":"secret","rawThinking":""}"#;
        fs::write(&file, format!("{said}\n{end}\n")).unwrap();
        read(&store, dir.path());
        let after = share(&store);
        assert_eq!((before.from, before.to), (after.from, after.to), "the turn kept its row");
        assert_eq!(record(&store, "old", before), (0, 1));
        assert_eq!(record(&store, "new", after), (1, 0));
    }

    #[test]
    fn what_was_put_back_is_not_cleared_by_an_older_scan() {
        let dir = tempfile::tempdir().unwrap();
        let end = r#"{"ts":2,"event":"assistant_message_end","runId":"r","rawText":"x","rawThinking":""}"#;
        fs::write(dir.path().join("a.jsonl"), end).unwrap();
        let store = PatrolStore::in_memory().unwrap();
        read(&store, dir.path());
        let old = share(&store);
        assert_eq!(record(&store, "first", old), (1, 0));
        store.requeue_outdated(&Versions { ruleset: "next".into(), model: "rules".into() }).unwrap();
        assert_eq!(record(&store, "second", old), (0, 1));
        assert_eq!(record(&store, "third", share(&store)), (1, 0));
        assert_eq!(store.sweeps().unwrap(), 3);
        assert_eq!(record(&store, "third", old), (1, 0), "a repeated record changes nothing");
        assert_eq!(store.sweeps().unwrap(), 3);
    }
}

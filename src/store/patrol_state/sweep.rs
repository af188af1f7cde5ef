//! The end of a sweep: everything it came to, in one transaction and once for each key.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::flags::put_flag;
use super::turns::{Share, TurnStatus};
use super::{PatrolStore, Versions, version_row};
use crate::case::PatrolFlag;
use crate::store::StoreError;

/// How long a turn waits after its first failed review; four times as long after each further one.
const FIRST_WAIT_MS: i64 = 60_000;
/// The longest such wait.
const LONGEST_WAIT_MS: i64 = 3_600_000;
/// How much of the pheromone stays from one sweep to the next.
const PHEROMONE_DECAY: f64 = 0.85;

/// What a sweep writes, all at once.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct SweepRecord<'a> {
    /// Written at most once: a repeated record with the same key changes nothing.
    pub key: &'a str,
    /// When, RFC 3339.
    pub at: String,
    /// The same in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What it was reviewed with.
    pub versions: &'a Versions,
    /// Shares that were scanned. What has changed since they were made stays pending.
    pub reviewed: Vec<Share>,
    /// Turns that were not reviewed after all.
    pub pending: Vec<Held>,
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

/// A turn that was not reviewed after all.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Its row.
    pub row: i64,
    /// Why.
    pub reason: String,
    /// Whether nobody looked at it, so that this is no attempt: it waits for as long as it takes.
    pub waits: bool,
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
                    "UPDATE turns SET status = 1, reason = NULL, version = ?5, reviewed_at = ?6
                     WHERE stream = ?1 AND id BETWEEN ?2 AND ?3 AND status = 0 AND changed <= ?4 AND next_at <= ?7",
                )?;
                // Pending ones are taken out first, so that the update cannot pass them off as clean.
                let mut hold = transaction.prepare_cached("UPDATE turns SET status = ?3, reason = ?2 WHERE id = ?1 AND status = 0")?;
                for Held { row, reason, waits } in &sweep.pending {
                    hold.execute(params![row, reason, if *waits { -2 } else { -1 }])?;
                }
                for share in &sweep.reviewed {
                    statement.execute(params![
                        share.stream,
                        share.from,
                        share.to,
                        share.as_of,
                        version,
                        sweep.at,
                        share.due.millis()
                    ])?;
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
            transaction.execute(
                "UPDATE turns SET status = 0, attempts = attempts + 1, next_at = ?1 + min(?2 << (2 * min(attempts, 8)), ?3)
                 WHERE status = -1",
                params![sweep.at_ms, FIRST_WAIT_MS, LONGEST_WAIT_MS],
            )?;
            transaction.execute(
                "UPDATE turns SET status = 0, next_at = ?1 + ?2 WHERE status = -2",
                params![sweep.at_ms, FIRST_WAIT_MS],
            )?;
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

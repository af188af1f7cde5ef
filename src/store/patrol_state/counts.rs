//! Counts for people: what was seen, reviewed, and could not be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::PatrolStore;
use crate::store::StoreError;

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

impl PatrolStore {
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

    /// Turns that were given up.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn unreviewed(&self) -> Result<u64, StoreError> {
        self.file.read("count unreviewed turns", |connection| {
            connection
                .prepare_cached("SELECT count(*) FROM turns WHERE status = 3")?
                .query_row([], |row| row.get::<_, i64>(0))
                .map(i64::unsigned_abs)
        })
    }

    /// Log files that could not be opened or read when they were last looked at.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn unreadable_files(&self) -> Result<BTreeSet<String>, StoreError> {
        self.file.read("list unreadable files", |connection| {
            let mut statement =
                connection.prepare_cached("SELECT DISTINCT file FROM rejects WHERE reason = 'unreadable'")?;
            let names = statement.query_map([], |row| row.get(0))?;
            names.collect()
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
                 SELECT iif(reason = 'unreadable', 'the file cannot be opened or read', 'entry not readable: ' || reason),
                   count(*) FROM rejects GROUP BY 1",
            )?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            rows.collect()
        })
    }
}

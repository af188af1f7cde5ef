//! Flags: those that sweeps raise, and those that stood in the earlier tool's file.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{PatrolStore, json};
use crate::case::{PatrolFlag, Severity};
use crate::store::StoreError;

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

impl PatrolStore {
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

    /// Changes whenever flags of ours may have: the last sweep and the last line.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn flags_mark(&self) -> Result<String, StoreError> {
        self.file.read("look for new flags", |connection| {
            connection
                .prepare_cached(
                    "SELECT coalesce((SELECT key FROM sweeps ORDER BY number DESC LIMIT 1), 'no sweep')
                       || ', flag ' || coalesce((SELECT max(seq) FROM flags), 0)",
                )?
                .query_row([], |row| row.get(0))
        })
    }

    /// Takes in the lines of a `patrol_flags.jsonl` that the store does not know yet, as they are; gives how many
    /// were new and how many of those could not be read (kept all the same). A line of ours, from a store that was
    /// lost, is a flag of ours again; of one that is known the store's own text stays.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn import_flags(&self, lines: &[String]) -> Result<(u64, u64), StoreError> {
        self.file.write("import flags", |transaction| {
            let (mut new, mut unreadable) = (0, 0);
            let mut known =
                transaction.prepare_cached("SELECT EXISTS (SELECT 1 FROM flags WHERE flag_id = ?1 OR json = ?2)")?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO flags (flag_id, severity, updated_at, revision, legacy, json) VALUES (?1, ?2, ?3, 1, ?4, ?5)",
            )?;
            for line in lines {
                let flag = serde_json::from_str::<PatrolFlag>(line).ok();
                let id = flag.as_ref().map(|flag| flag.flag_id.clone());
                if known.query_row(params![id, line], |row| row.get::<_, bool>(0))? {
                    continue;
                }
                let severity = flag.as_ref().map_or(Severity::Clean, |flag| flag.consensus_severity);
                let at = flag.as_ref().map_or("", |flag| flag.timestamp.as_str());
                // The earlier tool knew no streams.
                let legacy = flag.as_ref().is_none_or(|flag| flag.stream.is_empty());
                insert.execute(params![id, severity.as_str(), at, legacy, line])?;
                new += 1;
                unreadable += u64::from(flag.is_none());
            }
            Ok((new, unreadable))
        })
    }
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

/// Writes a flag of a sweep; a change of one that is there makes its revision grow.
pub(super) fn put_flag(transaction: &Transaction<'_>, flag: &PatrolFlag, at: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO flags (flag_id, severity, updated_at, revision, legacy, json) VALUES (?1, ?2, ?3, 1, 0, ?4)
             ON CONFLICT (flag_id) DO UPDATE SET severity = ?2, updated_at = ?3, json = ?4, revision = revision + 1,
               legacy = 0",
        )?
        .execute(params![flag.flag_id, flag.consensus_severity.as_str(), at, json(flag)])?;
    Ok(())
}

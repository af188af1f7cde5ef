//! Turns and streams: what waits for a review, and what was reviewed under versions that are no longer ours.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::ingest::last_pass;
use super::sweep::{decayed, sweep_number};
use super::{PatrolStore, Versions, set_meta, version_row};
use crate::id::TurnId;
use crate::logs::{Extents, TurnRecord};
use crate::store::{StoreError, StoreErrorKind};

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
    /// What its column holds.
    pub(super) const fn code(self) -> i64 {
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

/// The pending turns of a stream that one agent is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Row of the stream.
    pub stream: i64,
    /// Row of the first turn.
    pub from: i64,
    /// Row of the last turn.
    pub to: i64,
    /// The last read pass when the share was made: a turn that a later one has changed, or moved into the stream, is
    /// no part of it.
    pub as_of: i64,
    /// Which of them are due.
    pub due: Due,
}

/// Which pending turns are looked at: after a failed review a turn waits, longer each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// All of them, as a person asks for it.
    All,
    /// Those whose time has come, in milliseconds since the Unix epoch.
    At(i64),
}

impl Due {
    /// The latest `next_at` that counts.
    pub(super) const fn millis(self) -> i64 {
        match self {
            Self::All => i64::MAX,
            Self::At(now) => now,
        }
    }
}

impl PatrolStore {
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
                "UPDATE turns SET status = 0, attempts = 0, next_at = 0 WHERE status <> 0 AND version IS NOT ?1",
                [version],
            )?;
            // What a sweep that was cut off has said of a turn was said under the other versions as well.
            let pass = last_pass(transaction)? + 1;
            transaction.execute("UPDATE turns SET changed = ?1, attempts = 0, next_at = 0 WHERE status = 0", [pass])?;
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
            // A sweep that was cut off before never saw them as pending.
            let pass = last_pass(transaction)? + 1;
            let changed = transaction.execute(
                "UPDATE turns SET status = 0, attempts = 0, next_at = 0, changed = ?1 WHERE status = 3",
                [pass],
            )?;
            Ok(changed as u64)
        })
    }

    /// Whether any turn waits for a review that is due.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn has_pending(&self, due: Due) -> Result<bool, StoreError> {
        self.file.read("look for pending turns", |connection| {
            connection
                .prepare_cached(
                    "SELECT EXISTS
                       (SELECT 1 FROM turns INDEXED BY turns_pending WHERE status = 0 AND next_at <= ?1)",
                )?
                .query_row([due.millis()], |row| row.get(0))
        })
    }

    /// Streams with pending turns that are due.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn pending_streams(&self, due: Due) -> Result<Vec<StreamRow>, StoreError> {
        self.file.read("list pending turns", |connection| {
            let sweep = sweep_number(connection)?;
            let mut statement = connection.prepare_cached(
                "SELECT t.stream, t.id, s.name, s.pheromone, s.pheromone_sweep
                 FROM turns t INDEXED BY turns_pending JOIN streams s ON s.id = t.stream
                 WHERE t.status = 0 AND t.next_at <= ?1 ORDER BY t.stream, t.id",
            )?;
            let mut rows = statement.query([due.millis()])?;
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

    /// The pending turns of a share, as they were when it was made: those that have changed since are left to the
    /// next sweep.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn pending_turns(&self, share: &Share) -> Result<Vec<StoredTurn>, StoreError> {
        self.turns(
            "stream = ?1 AND id BETWEEN ?2 AND ?3 AND status = 0 AND changed <= ?4 AND next_at <= ?5
             ORDER BY id",
            params![share.stream, share.from, share.to, share.as_of, share.due.millis()],
        )
    }

    /// The number of the last read pass, for a [`Share`].
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn last_pass(&self) -> Result<i64, StoreError> {
        self.file.read("read the number of the last pass", last_pass)
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

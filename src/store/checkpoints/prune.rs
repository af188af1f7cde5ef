//! Retention: taking parts of a run, or all of it, away.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::apply::hash;
use super::writer::Answer;
use super::{entry_id, read};
use crate::engine::{CheckpointErrorKind, Prune, Snapshot};
use crate::id::RunId;

/// Takes parts of a run away, unless it, or what goes with it, must not be touched.
pub(super) fn prune(
    connection: &Connection,
    run: RunId,
    what: &Prune,
    now_ms: i64,
) -> rusqlite::Result<Answer> {
    let family = match what {
        Prune::Before(_) => "SELECT no FROM runs WHERE id = ?",
        Prune::Whole => {
            "WITH RECURSIVE family (no, id) AS (
                SELECT no, id FROM runs WHERE id = ?
                UNION SELECT r.no, r.id FROM runs r JOIN family f ON r.parent = f.id
            ) SELECT no FROM family"
        }
    };
    let members: Vec<(i64, Option<read::Holder>, Option<String>)> = connection
        .prepare_cached(&format!("SELECT no, held, {} FROM runs WHERE no IN ({family})", read::HOLDER))?
        .query_map([run.to_string()], |row| Ok((row.get(0)?, read::holder(row, 2)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (_, holder, mark) in &members {
        if let Some(holder) = holder.as_ref().filter(|holder| holder.is_live(now_ms)) {
            return Ok(Err(CheckpointErrorKind::Held(holder.owner.describe())));
        }
        if let Some(reason) = mark {
            return Ok(Err(CheckpointErrorKind::marked(reason)));
        }
    }
    match (what, &*members) {
        (_, []) => Ok(Err(CheckpointErrorKind::NotFound)),
        (Prune::Before(base), [(no, ..), ..]) => cut(connection, *no, base),
        (Prune::Whole, members) => {
            members.iter().try_for_each(|(no, ..)| forget(connection, *no))?;
            Ok(Ok(()))
        }
    }
}

/// Lets a run's log begin at a snapshot.
fn cut(connection: &Connection, no: i64, base: &Snapshot) -> rusqlite::Result<Answer> {
    let (first, next) = extent(connection, no)?;
    if base.seq < first || base.seq > next {
        return Ok(Err(CheckpointErrorKind::outside(base.seq)));
    }
    let gone = [entry_id(no, 0), entry_id(no, base.seq)];
    let last = connection
        .prepare_cached("SELECT kind, step FROM entries WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1")?
        .query_row(gone, |row| Ok(read::kind(row, 0)?.steps(row.get(1)?)))
        .optional()?;
    let steps = if last.is_some() {
        last
    } else {
        connection.query_row("SELECT steps FROM bases WHERE run = ?", [no], |row| row.get(0)).optional()?
    };
    connection.prepare_cached("DELETE FROM entries WHERE id >= ? AND id < ?")?.execute(gone)?;
    connection
        .prepare_cached("DELETE FROM snapshots WHERE run = ? AND seq <= ?")?
        .execute(params![no, base.seq])?;
    set_base(connection, no, base, steps.unwrap_or(0))?;
    Ok(Ok(()))
}

/// Takes a run away, and its definitions where no other run needs them.
fn forget(connection: &Connection, no: i64) -> rusqlite::Result<()> {
    let definitions: Vec<i64> = connection
        .prepare_cached(
            "SELECT definition FROM runs WHERE no = ?1 UNION SELECT definition FROM past_definitions WHERE run = ?1",
        )?
        .query_map([no], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    connection
        .prepare_cached("DELETE FROM entries WHERE id >= ? AND id < ?")?
        .execute([entry_id(no, 0), entry_id(no.saturating_add(1), 0)])?;
    for table in ["snapshots", "bases", "answers", "effects", "past_definitions"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE run = ?"))?.execute([no])?;
    }
    connection.prepare_cached("DELETE FROM runs WHERE no = ?")?.execute([no])?;
    for definition in definitions {
        connection
            .prepare_cached(
                "DELETE FROM definitions WHERE no = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE definition = ?1)
                    AND NOT EXISTS (SELECT 1 FROM past_definitions WHERE definition = ?1)",
            )?
            .execute([definition])?;
    }
    Ok(())
}

/// Stores what the first entry of a run builds on, and how many supersteps were finished by then.
pub(super) fn set_base(
    connection: &Connection,
    no: i64,
    base: &Snapshot,
    steps: u32,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO bases (run, seq, body, chain, steps) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![no, base.seq, base.body, hash(&base.chain), steps])?;
    Ok(())
}

/// The number of the first entry that is kept of a run, and that of its next one.
pub(super) fn extent(connection: &Connection, no: i64) -> rusqlite::Result<(u32, u32)> {
    let first = connection
        .prepare_cached("SELECT seq FROM bases WHERE run = ?")?
        .query_row([no], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(id) FROM entries WHERE id >= ? AND id < ?")?
        .query_row([entry_id(no, 0), entry_id(no.saturating_add(1), 0)], |row| row.get(0))?;
    Ok((first, last.map_or(first, |id| super::seq_of(id).saturating_add(1))))
}

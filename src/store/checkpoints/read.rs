//! Reading runs back.

use std::error::Error;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};
use uuid::Uuid;

use super::entry_id;
use super::owner::Owner;
use crate::engine::{
    CheckpointErrorKind, Definition, Entry, EntryKind, RunFilter, RunRecord, RunStatus, RunSummary, Snapshot,
    StoredEntry,
};
use crate::graph::Durability;
use crate::id::RunId;

/// The holder of a run's claim, as it is stored.
pub(super) struct Holder {
    pub(super) owner: Owner,
    token: Uuid,
    lease_until_ms: i64,
}

impl Holder {
    pub(super) fn is_live(&self, now_ms: i64) -> bool {
        self.owner.holds(self.token, self.lease_until_ms, now_ms)
    }
}

/// The holder in five columns from `first`, if the run has one.
pub(super) fn holder(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Holder>> {
    let token: Option<String> = row.get(first)?;
    let Some(token) = token.and_then(|token| Uuid::parse_str(&token).ok()) else { return Ok(None) };
    let start: i64 = row.get(first + 3)?;
    let owner = Owner { host: row.get(first + 1)?, pid: row.get(first + 2)?, start: start.cast_unsigned() };
    Ok(Some(Holder { owner, token, lease_until_ms: row.get(first + 4)? }))
}

const SUMMARY: &str = "SELECT r.id, d.graph, d.version, d.hash, r.status, r.error, r.created_ms, r.updated_ms,
        r.owner_token, r.owner_host, r.owner_pid, r.owner_start, r.lease_until_ms, r.no, r.definition,
        e.kind, e.step, e.at_ms
    FROM runs r JOIN definitions d ON d.no = r.definition
    LEFT JOIN entries e ON e.id = (SELECT max(id) FROM entries WHERE id >= r.no << 32 AND id < (r.no + 1) << 32)";

fn summary(row: &Row<'_>, now_ms: i64) -> rusqlite::Result<RunSummary> {
    let wrong = |column: usize, text: &str| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            format!("`{text}`").into(),
        )
    };
    let id: String = row.get(0)?;
    let status: String = row.get(4)?;
    let last: Option<(i64, u32, i64)> = match row.get::<_, Option<i64>>(15)? {
        Some(kind) => Some((kind, row.get(16)?, row.get(17)?)),
        None => None,
    };
    Ok(RunSummary {
        run: id.parse().map_err(|_| wrong(0, &id))?,
        graph: row.get(1)?,
        version: row.get(2)?,
        hash: row.get(3)?,
        status: RunStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == status)
            .ok_or_else(|| wrong(4, &status))?,
        live: holder(row, 8)?.is_some_and(|holder| holder.is_live(now_ms)),
        error: row.get(5)?,
        steps: last.map_or(0, |(kind, step, _)| if kind == 0 { step.saturating_add(1) } else { step }),
        created_ms: row.get(6)?,
        updated_ms: row.get::<_, i64>(7)?.max(last.map_or(0, |(_, _, at)| at)),
    })
}

/// What is needed to go on with a run.
pub(super) fn load(
    connection: &Connection,
    run: RunId,
    now_ms: i64,
) -> Result<RunRecord, CheckpointErrorKind> {
    // One transaction, so that snapshot and entries are of the same moment.
    let transaction = connection.unchecked_transaction().map_err(|error| unreadable(&error))?;
    let found = transaction
        .prepare(&format!("{SUMMARY} WHERE r.id = ?"))
        .and_then(|mut query| {
            let row = |row: &Row<'_>| {
                let (no, definition): (i64, i64) = (row.get(13)?, row.get(14)?);
                Ok((summary(row, now_ms)?, no, definition))
            };
            query.query_row([run.to_string()], row).optional()
        })
        .map_err(|error| unreadable(&error))?;
    let (summary, no, definition_no) = found.ok_or(CheckpointErrorKind::NotFound)?;
    let (input, durability): (String, String) = transaction
        .query_row("SELECT input, durability FROM runs WHERE no = ?", [no], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(|error| unreadable(&error))?;
    let (source, prompts): (String, String) = transaction
        .query_row("SELECT source, prompts FROM definitions WHERE no = ?", [definition_no], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(|error| unreadable(&error))?;
    let snapshot = transaction
        .query_row("SELECT seq, body FROM snapshots WHERE run = ?", [no], |row| {
            Ok(Snapshot { seq: row.get(0)?, body: row.get(1)? })
        })
        .optional()
        .map_err(|error| unreadable(&error))?;
    let first = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    let entries = entries(&transaction, no, first).map_err(|error| unreadable(&error))?;
    let definition = Definition {
        graph: summary.graph.clone(),
        version: summary.version,
        hash: summary.hash.clone(),
        source: source.into(),
        prompts: Arc::new(serde_json::from_str(&prompts).map_err(|error| unreadable(&error))?),
    };
    Ok(RunRecord {
        summary,
        definition,
        input: serde_json::from_str(&input).map_err(|error| unreadable(&error))?,
        durability: durability_named(&durability),
        snapshot,
        entries,
    })
}

/// The whole log of a run.
pub(super) fn history(connection: &Connection, run: RunId) -> Result<Vec<StoredEntry>, CheckpointErrorKind> {
    let no: Option<i64> = connection
        .query_row("SELECT no FROM runs WHERE id = ?", [run.to_string()], |row| row.get(0))
        .optional()
        .map_err(|error| unreadable(&error))?;
    let no = no.ok_or(CheckpointErrorKind::NotFound)?;
    entries(connection, no, 0).map_err(|error| unreadable(&error))
}

fn entries(connection: &Connection, no: i64, first: u32) -> rusqlite::Result<Vec<StoredEntry>> {
    // Node names repeat; they are shared.
    let mut names: Vec<Arc<str>> = Vec::new();
    connection
        .prepare(
            "SELECT id, kind, step, node, item, at_ms, body FROM entries WHERE id >= ? AND id < ? ORDER BY id",
        )?
        .query_map(params![entry_id(no, first), entry_id(no.saturating_add(1), 0)], |row| {
            let id: i64 = row.get(0)?;
            let node = row.get_ref(3)?.as_str_or_null()?.map(|name| {
                names.iter().find(|known| ***known == *name).cloned().unwrap_or_else(|| {
                    let name: Arc<str> = name.into();
                    names.push(Arc::clone(&name));
                    name
                })
            });
            let kind = if row.get::<_, i64>(1)? == 0 { EntryKind::Step } else { EntryKind::Task };
            Ok(StoredEntry {
                seq: u32::try_from(id & i64::from(u32::MAX)).unwrap_or(u32::MAX),
                at_ms: row.get(5)?,
                entry: Entry { kind, step: row.get(2)?, node, item: row.get(4)?, body: row.get(6)? },
            })
        })?
        .collect()
}

/// Runs that pass a filter, newest first.
pub(super) fn list(
    connection: &Connection,
    filter: &RunFilter,
    now_ms: i64,
) -> Result<Vec<RunSummary>, CheckpointErrorKind> {
    let read = || -> rusqlite::Result<Vec<RunSummary>> {
        let mut query = connection.prepare(&format!(
            "{SUMMARY} WHERE (:graph IS NULL OR d.graph = :graph) AND (:status IS NULL OR r.status = :status)
            ORDER BY r.no DESC"
        ))?;
        let status = match filter.status {
            None if filter.abandoned => Some(RunStatus::Running.as_str()),
            status => status.map(RunStatus::as_str),
        };
        let rows = query.query_map(named_params! { ":graph": filter.graph, ":status": status }, |row| {
            summary(row, now_ms)
        })?;
        let mut runs = Vec::new();
        for run in rows {
            if runs.len() >= filter.limit.unwrap_or(usize::MAX) {
                break;
            }
            let run = run?;
            if filter.admits(&run) {
                runs.push(run);
            }
        }
        Ok(runs)
    };
    read().map_err(|error| unreadable(&error))
}

const DURABILITIES: [(Durability, &str); 3] =
    [(Durability::Power, "power"), (Durability::Crash, "crash"), (Durability::Exit, "exit")];

pub(super) fn durability_name(durability: Durability) -> &'static str {
    DURABILITIES.iter().find(|(known, _)| *known == durability).map_or("crash", |(_, name)| name)
}

fn durability_named(name: &str) -> Durability {
    DURABILITIES
        .iter()
        .find(|(_, known)| *known == name)
        .map_or_else(Durability::default, |(known, _)| *known)
}

fn unreadable(error: &(dyn Error + 'static)) -> CheckpointErrorKind {
    CheckpointErrorKind::Unreadable(chain(error))
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

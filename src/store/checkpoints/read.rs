//! Reading runs back.

use std::error::Error;
use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params};
use uuid::Uuid;

use super::owner::Owner;
use super::{entry_id, seq_of};
use crate::engine::{
    CheckpointErrorKind, Definition, Digest, EffectRecord, Entry, EntryKind, GateAnswer, History, RunFilter,
    RunRecord, RunStatus, RunSummary, Snapshot, StoredEntry,
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

/// The columns of [`holder`].
pub(super) const HOLDER: &str = "owner_token, owner_host, owner_pid, owner_start, lease_until_ms";

const SUMMARY: &str = "SELECT r.id, d.graph, d.version, d.hash, r.status, r.error, r.created_ms, r.updated_ms,
        r.owner_token, r.owner_host, r.owner_pid, r.owner_start, r.lease_until_ms, r.no, r.definition,
        e.kind, e.step, e.at_ms, r.parent, r.forked_run, r.forked_step, r.held,
        (SELECT steps FROM bases WHERE run = r.no)
    FROM runs r JOIN definitions d ON d.no = r.definition
    LEFT JOIN entries e ON e.id = (SELECT max(id) FROM entries WHERE id >= r.no << 32 AND id < (r.no + 1) << 32)";

/// A value that this program did not write.
fn wrong(column: usize, value: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("`{value}`").into())
}

fn run_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<RunId>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| wrong(column, &text))).transpose()
}

pub(super) fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<EntryKind> {
    let number: u8 = row.get(column)?;
    EntryKind::ALL.get(usize::from(number)).copied().ok_or_else(|| wrong(column, &number.to_string()))
}

/// A hash; all zero where there is none.
fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    Ok(row.get::<_, Option<Digest>>(column)?.unwrap_or_default())
}

fn snapshot(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot { seq: row.get(0)?, body: row.get(1)?, chain: digest(row, 2)? })
}

fn summary(row: &Row<'_>, now_ms: i64) -> rusqlite::Result<RunSummary> {
    let status: String = row.get(4)?;
    let (steps, last_ms) = match row.get::<_, Option<i64>>(15)? {
        Some(_) => (EntryKind::steps(kind(row, 15)?, row.get(16)?), row.get(17)?),
        None => (row.get::<_, Option<u32>>(22)?.unwrap_or(0), 0),
    };
    let forked_from = match run_id(row, 19)? {
        Some(run) => Some((run, row.get(20)?)),
        None => None,
    };
    Ok(RunSummary {
        run: run_id(row, 0)?.ok_or_else(|| wrong(0, ""))?,
        graph: row.get(1)?,
        version: row.get(2)?,
        hash: row.get(3)?,
        status: RunStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == status)
            .ok_or_else(|| wrong(4, &status))?,
        live: holder(row, 8)?.is_some_and(|holder| holder.is_live(now_ms)),
        error: row.get(5)?,
        steps,
        created_ms: row.get(6)?,
        updated_ms: row.get::<_, i64>(7)?.max(last_ms),
        parent: run_id(row, 18)?,
        forked_from,
        held: row.get(21)?,
    })
}

type Read<T> = Result<T, CheckpointErrorKind>;

/// What is needed to go on with a run.
pub(super) fn load(connection: &Connection, run: RunId, now_ms: i64) -> Read<RunRecord> {
    let transaction = begin(connection)?;
    let found = transaction
        .prepare_cached(&format!("{SUMMARY} WHERE r.id = ?"))
        .and_then(|mut query| {
            let row = |row: &Row<'_>| {
                let (no, definition): (i64, i64) = (row.get(13)?, row.get(14)?);
                Ok((summary(row, now_ms)?, no, definition))
            };
            query.query_row([run.to_string()], row).optional()
        })
        .map_err(|error| unreadable(&error))?;
    let (summary, no, definition_no) = found.ok_or(CheckpointErrorKind::NotFound)?;
    let (input, durability, seal): (String, String, _) = transaction
        .query_row("SELECT input, durability, seal FROM runs WHERE no = ?", [no], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .map_err(|error| unreadable(&error))?;
    let definition = transaction
        .query_row(&format!("SELECT {DEFINITION} FROM definitions WHERE no = ?"), [definition_no], |row| {
            definition_of(row)
        })
        .map_err(|error| unreadable(&error))?;
    let snapshot = transaction
        .query_row("SELECT seq, body, chain FROM snapshots WHERE run = ?", [no], snapshot)
        .optional()
        .and_then(|found| if found.is_some() { Ok(found) } else { base(&transaction, no) })
        .map_err(|error| unreadable(&error))?;
    let first = snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    Ok(RunRecord {
        summary,
        definition,
        input: serde_json::from_str(&input).map_err(|error| unreadable(&error))?,
        durability: durability_named(&durability),
        snapshot,
        entries: entries(&transaction, no, first).map_err(|error| unreadable(&error))?,
        answers: answers_of(&transaction, no).map_err(|error| unreadable(&error))?,
        seal,
    })
}

/// What the first entry of a run builds on, if not its input.
fn base(connection: &Connection, no: i64) -> rusqlite::Result<Option<Snapshot>> {
    connection.query_row("SELECT seq, body, chain FROM bases WHERE run = ?", [no], snapshot).optional()
}

/// A run's log, as far as it is kept.
pub(super) fn history(connection: &Connection, run: RunId) -> Read<History> {
    let transaction = begin(connection)?;
    let no = known(&transaction, run)?;
    let base = base(&transaction, no).map_err(|error| unreadable(&error))?;
    let first_seq = base.as_ref().map_or(0, |base| base.seq);
    let entries = entries(&transaction, no, first_seq).map_err(|error| unreadable(&error))?;
    Ok(History { first_seq, base, entries })
}

fn entries(connection: &Connection, no: i64, first: u32) -> rusqlite::Result<Vec<StoredEntry>> {
    // Node names repeat; they are shared.
    let mut names: Vec<Arc<str>> = Vec::new();
    connection
        .prepare_cached(
            "SELECT id, kind, step, node, item, at_ms, body, hash FROM entries WHERE id >= ? AND id < ? ORDER BY id",
        )?
        .query_map(params![entry_id(no, first), entry_id(no.saturating_add(1), 0)], |row| {
            let node = row.get_ref(3)?.as_str_or_null()?.map(|name| {
                names.iter().find(|known| ***known == *name).cloned().unwrap_or_else(|| {
                    let name: Arc<str> = name.into();
                    names.push(Arc::clone(&name));
                    name
                })
            });
            let entry = Entry {
                kind: kind(row, 1)?,
                step: row.get(2)?,
                node,
                item: row.get(4)?,
                at_ms: row.get(5)?,
                body: row.get(6)?,
                hash: digest(row, 7)?,
            };
            Ok(StoredEntry { seq: seq_of(row.get(0)?), entry })
        })?
        .collect()
}

/// Runs that pass a filter, newest first.
pub(super) fn list(connection: &Connection, filter: &RunFilter, now_ms: i64) -> Read<Vec<RunSummary>> {
    let read = || -> rusqlite::Result<Vec<RunSummary>> {
        let mut query = connection.prepare_cached(&format!(
            "{SUMMARY} WHERE (:graph IS NULL OR d.graph = :graph) AND (:status IS NULL OR r.status = :status)
                AND (:children OR r.parent IS NULL)
            ORDER BY r.no DESC"
        ))?;
        let status = match filter.status {
            None if filter.abandoned => Some(RunStatus::Running.as_str()),
            status => status.map(RunStatus::as_str),
        };
        let rows = query.query_map(
            named_params! { ":graph": filter.graph, ":status": status, ":children": filter.children },
            |row| summary(row, now_ms),
        )?;
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

/// The columns of a definition.
const DEFINITION: &str = "graph, version, hash, source, prompts";

fn definition_of(row: &Row<'_>) -> rusqlite::Result<Definition> {
    let (source, prompts): (String, String) = (row.get(3)?, row.get(4)?);
    let prompts = serde_json::from_str(&prompts)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error)))?;
    Ok(Definition {
        graph: row.get(0)?,
        version: row.get(1)?,
        hash: row.get(2)?,
        source: source.into(),
        prompts: Arc::new(prompts),
    })
}

/// A definition that a run is, or was, executed with.
pub(super) fn definition(connection: &Connection, run: RunId, hash: &str) -> Read<Definition> {
    let transaction = begin(connection)?;
    let no = known(&transaction, run)?;
    let present = "no = (SELECT definition FROM runs WHERE no = ?1)";
    let query = format!(
        "SELECT {DEFINITION} FROM definitions WHERE hash = ?2
            AND ({present} OR no IN (SELECT definition FROM past_definitions WHERE run = ?1))
        ORDER BY {present} DESC, no DESC LIMIT 1"
    );
    transaction
        .query_row(&query, params![no, hash], definition_of)
        .optional()
        .map_err(|error| unreadable(&error))?
        .ok_or_else(|| CheckpointErrorKind::no_definition(hash))
}

/// The answers to a run's gates, oldest first.
pub(super) fn answers(connection: &Connection, run: RunId) -> Read<Vec<GateAnswer>> {
    let transaction = begin(connection)?;
    let no = known(&transaction, run)?;
    answers_of(&transaction, no).map_err(|error| unreadable(&error))
}

fn answers_of(connection: &Connection, no: i64) -> rusqlite::Result<Vec<GateAnswer>> {
    connection
        .prepare_cached(
            "SELECT gate, chosen, answered_by, note, at_ms, signature FROM answers WHERE run = ? ORDER BY no",
        )?
        .query_map([no], |row| {
            Ok(GateAnswer {
                gate: row.get(0)?,
                option: row.get(1)?,
                by: row.get(2)?,
                note: row.get(3)?,
                at_ms: row.get(4)?,
                signature: row.get(5)?,
            })
        })?
        .collect()
}

const EFFECT: &str =
    "SELECT e.key, r.id, e.node, e.begun_ms, e.result FROM effects e JOIN runs r ON r.no = e.run";

fn effect_of(row: &Row<'_>) -> rusqlite::Result<EffectRecord> {
    Ok(EffectRecord {
        key: Uuid::from_bytes(row.get(0)?),
        run: run_id(row, 1)?.ok_or_else(|| wrong(1, ""))?,
        node: row.get(2)?,
        begun_ms: row.get(3)?,
        result: row.get(4)?,
    })
}

/// The ledger's line of a key.
pub(super) fn effect(connection: &Connection, key: Uuid) -> Read<Option<EffectRecord>> {
    connection
        .prepare_cached(&format!("{EFFECT} WHERE e.key = ?"))
        .and_then(|mut query| query.query_row([key.as_bytes()], effect_of).optional())
        .map_err(|error| unreadable(&error))
}

/// The ledger of a run, in the order in which effects were begun.
pub(super) fn effects(connection: &Connection, run: RunId) -> Read<Vec<EffectRecord>> {
    let transaction = begin(connection)?;
    let no = known(&transaction, run)?;
    let read = || -> rusqlite::Result<Vec<EffectRecord>> {
        let mut query = transaction.prepare_cached(&format!("{EFFECT} WHERE e.run = ? ORDER BY e.no"))?;
        query.query_map([no], effect_of)?.collect()
    };
    read().map_err(|error| unreadable(&error))
}

/// A kept result that still stands.
pub(super) fn cached(connection: &Connection, key: &Digest, now_ms: i64) -> Read<Option<String>> {
    connection
        .prepare_cached("SELECT body FROM cache WHERE key = ? AND until_ms > ?")
        .and_then(|mut query| query.query_row(params![key, now_ms], |row| row.get(0)).optional())
        .map_err(|error| unreadable(&error))
}

/// A transaction, so that all that is read is of the same moment.
fn begin(connection: &Connection) -> Read<Transaction<'_>> {
    connection.unchecked_transaction().map_err(|error| unreadable(&error))
}

/// The number of a run.
pub(super) fn number(connection: &Connection, run: RunId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT no FROM runs WHERE id = ?")?
        .query_row([run.to_string()], |row| row.get(0))
        .optional()
}

/// The number of a run that must be there.
fn known(connection: &Connection, run: RunId) -> Read<i64> {
    number(connection, run).map_err(|error| unreadable(&error))?.ok_or(CheckpointErrorKind::NotFound)
}

const DURABILITIES: [(Durability, &str); 3] =
    [(Durability::Power, "power"), (Durability::Crash, "crash"), (Durability::Exit, "exit")];

pub(super) fn durability_name(durability: Durability) -> &'static str {
    DURABILITIES.iter().find(|(known, _)| *known == durability).map_or("crash", |(_, name)| name)
}

pub(super) fn durability_named(name: &str) -> Durability {
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

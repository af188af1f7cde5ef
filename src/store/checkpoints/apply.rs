//! What each request does to the tables, within the writer's transaction.
//!
//! The outer error of each is a fault of the store and undoes the whole transaction; the inner one is an answer.

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::owner::Owner;
use super::writer::{Answer, Held, Op, Writer, lease_end};
use super::{entry_id, prune, read};
use crate::engine::{
    Batch, CheckpointErrorKind, Claim, Definition, Digest, EffectRecord, GateAnswer, NewRun, RunStatus,
    Snapshot,
};
use crate::id::RunId;

impl Writer<'_> {
    pub(super) fn perform(&mut self, op: &Op) -> rusqlite::Result<Answer> {
        match op {
            Op::Create { claim, run } => self.create(claim, run),
            Op::Claim { claim } => self.claim(claim),
            Op::Append { claim, batch } => self.append(claim, batch),
            Op::Release { claim } => self.release(claim).map(Ok),
            Op::Answer { run, answer } => answer_gate(self.connection, *run, answer, self.now_ms()),
            Op::Effect { effect } => record_effect(self.connection, effect),
            Op::Cache { key, body, until_ms, .. } => {
                cache(self.connection, key, body, *until_ms, self.now_ms()).map(Ok)
            }
            Op::Hold { run, reason } => mark(self.connection, *run, reason.as_deref()),
            Op::Prune { run, what } => prune::prune(self.connection, *run, what, self.now_ms()),
        }
    }

    fn create(&mut self, claim: &Claim, run: &NewRun) -> rusqlite::Result<Answer> {
        if read::number(self.connection, run.run)?.is_some() {
            return Ok(Err(CheckpointErrorKind::Exists));
        }
        let definition = define(self.connection, &run.definition)?;
        let (owner, now) = (Owner::this(), self.now_ms());
        let (forked_run, forked_step) = run.forked_from.unzip();
        let no = self
            .connection
            .prepare_cached(
                "INSERT INTO runs (id, definition, input, durability, status, created_ms, updated_ms, owner_token,
                    owner_host, owner_pid, owner_start, lease_until_ms, parent, forked_run, forked_step)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .insert(params![
                run.run.to_string(),
                definition,
                json(&run.input)?,
                read::durability_name(run.durability),
                RunStatus::Running.as_str(),
                now,
                claim.token.to_string(),
                owner.host,
                owner.pid,
                owner.start.cast_signed(),
                lease_end(now),
                run.parent.map(|parent| parent.to_string()),
                forked_run.map(|run| run.to_string()),
                forked_step,
            ])?;
        if let Some(base) = &run.snapshot {
            prune::set_base(self.connection, no, base, forked_step.unwrap_or(0))?;
        }
        let next_seq = run.snapshot.as_ref().map_or(0, |base| base.seq);
        let held = Held { token: claim.token, no, next_seq, durability: run.durability };
        self.hold(run.run, Some(held));
        Ok(Ok(()))
    }

    fn claim(&mut self, claim: &Claim) -> rusqlite::Result<Answer> {
        let now = self.now_ms();
        let found = self
            .connection
            .prepare_cached(&format!("SELECT no, durability, {} FROM runs WHERE id = ?", read::HOLDER))?
            .query_row([claim.run.to_string()], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, read::holder(row, 2)?))
            })
            .optional()?;
        let Some((no, durability, holder)) = found else { return Ok(Err(CheckpointErrorKind::NotFound)) };
        if let Some(holder) = holder
            && holder.is_live(now)
        {
            return Ok(Err(CheckpointErrorKind::Held(holder.owner.describe())));
        }
        let owner = Owner::this();
        self.connection
            .prepare_cached(
                "UPDATE runs SET owner_token = ?2, owner_host = ?3, owner_pid = ?4, owner_start = ?5,
                    lease_until_ms = ?6, updated_ms = ?7,
                    error = iif(status = 'done', error, NULL), status = iif(status = 'done', status, 'running')
                WHERE no = ?1",
            )?
            .execute(params![
                no,
                claim.token.to_string(),
                owner.host,
                owner.pid,
                owner.start.cast_signed(),
                lease_end(now),
                now,
            ])?;
        let (_, next_seq) = prune::extent(self.connection, no)?;
        let durability = read::durability_named(&durability);
        self.hold(claim.run, Some(Held { token: claim.token, no, next_seq, durability }));
        Ok(Ok(()))
    }

    fn append(&mut self, claim: &Claim, batch: &Batch) -> rusqlite::Result<Answer> {
        let Some(held) = self.held(claim) else { return Ok(Err(CheckpointErrorKind::Lost)) };
        let no = held.no;
        if !self.statements.owned.exists(params![no, claim.token.to_string()])? {
            return Ok(Err(CheckpointErrorKind::Lost));
        }
        if batch.first_seq != held.next_seq {
            return Ok(Err(CheckpointErrorKind::Storage("entries out of order".to_owned())));
        }
        let mut next_seq = held.next_seq;
        for entry in &batch.entries {
            self.statements.entry.execute(params![
                entry_id(no, next_seq),
                entry.kind.number(),
                entry.step,
                entry.node.as_deref(),
                entry.item,
                entry.at_ms,
                entry.body,
                hash(&entry.hash),
            ])?;
            next_seq = next_seq.saturating_add(1);
        }
        if let Some(Snapshot { seq, body, chain }) = &batch.snapshot {
            self.statements.snapshot.execute(params![no, seq, body, hash(chain)])?;
        }
        if let Some(definition) = &batch.definition {
            self.upgrade(no, definition)?;
        }
        self.hold(claim.run, Some(Held { next_seq, ..held }));
        if let Some(finish) = &batch.finish {
            let (status, now) = (finish.status.as_str(), self.now_ms());
            self.statements.finish.execute(params![no, status, finish.error, finish.seal, now])?;
            self.hold(claim.run, None);
        }
        Ok(Ok(()))
    }

    /// Lets a run be executed with another definition from now on.
    fn upgrade(&self, no: i64, definition: &Definition) -> rusqlite::Result<()> {
        let definition = define(self.connection, definition)?;
        let keep = "INSERT OR IGNORE INTO past_definitions SELECT no, definition FROM runs WHERE no = ?";
        self.connection.execute(keep, [no])?;
        let change = "UPDATE runs SET definition = ?2, updated_ms = ?3 WHERE no = ?1";
        self.connection.execute(change, params![no, definition, self.now_ms()])?;
        Ok(())
    }

    pub(super) fn release(&mut self, claim: &Claim) -> rusqlite::Result<()> {
        if let Some(held) = self.held(claim) {
            self.connection
                .prepare_cached("UPDATE runs SET owner_token = NULL WHERE no = ? AND owner_token = ?")?
                .execute(params![held.no, claim.token.to_string()])?;
            self.hold(claim.run, None);
        }
        Ok(())
    }
}

/// The number of a definition, stored if it is new.
fn define(connection: &Connection, definition: &Definition) -> rusqlite::Result<i64> {
    let Definition { graph, version, hash, source, prompts } = definition;
    let prompts = json(&**prompts)?;
    let values: [&dyn ToSql; 5] = [hash, graph, version, source, &prompts];
    let known = connection
        .prepare_cached(
            "SELECT no FROM definitions WHERE hash = ? AND graph = ? AND version = ? AND source = ? AND prompts = ?",
        )?
        .query_row(values, |row| row.get(0))
        .optional()?;
    match known {
        Some(no) => Ok(no),
        None => connection
            .prepare_cached(
                "INSERT INTO definitions (hash, graph, version, source, prompts) VALUES (?, ?, ?, ?, ?)",
            )?
            .insert(values),
    }
}

fn answer_gate(
    connection: &Connection,
    run: RunId,
    answer: &GateAnswer,
    now_ms: i64,
) -> rusqlite::Result<Answer> {
    let Some(no) = read::number(connection, run)? else { return Ok(Err(CheckpointErrorKind::NotFound)) };
    let GateAnswer { gate, option, by, note, at_ms, signature } = answer;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO answers (run, gate, chosen, answered_by, note, at_ms, signature) VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (run, gate) DO NOTHING",
        )?
        .execute(params![no, gate, option, by, note, at_ms, signature])?;
    if inserted == 0 {
        let first = "SELECT answered_by FROM answers WHERE run = ? AND gate = ?";
        let by = connection.query_row(first, params![no, gate], |row| row.get(0))?;
        return Ok(Err(CheckpointErrorKind::Answered(by)));
    }
    connection.execute("UPDATE runs SET updated_ms = max(updated_ms, ?2) WHERE no = ?1", [no, now_ms])?;
    Ok(Ok(()))
}

fn record_effect(connection: &Connection, effect: &EffectRecord) -> rusqlite::Result<Answer> {
    let EffectRecord { key, run, node, begun_ms, result } = effect;
    let Some(no) = read::number(connection, *run)? else { return Ok(Err(CheckpointErrorKind::NotFound)) };
    connection
        .prepare_cached(
            "INSERT INTO effects (key, run, node, begun_ms, result) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (key) DO UPDATE SET result = excluded.result WHERE result IS NULL",
        )?
        .execute(params![key.as_bytes(), no, node, begun_ms, result])?;
    Ok(Ok(()))
}

fn cache(
    connection: &Connection,
    key: &Digest,
    body: &str,
    until_ms: i64,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM cache WHERE until_ms <= ?")?.execute([now_ms])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO cache (key, body, until_ms) VALUES (?, ?, ?)")?
        .execute(params![key, body, until_ms])?;
    Ok(())
}

fn mark(connection: &Connection, run: RunId, reason: Option<&str>) -> rusqlite::Result<Answer> {
    let changed = connection
        .prepare_cached("UPDATE runs SET held = ?2 WHERE id = ?1")?
        .execute(params![run.to_string(), reason])?;
    Ok(if changed == 0 { Err(CheckpointErrorKind::NotFound) } else { Ok(()) })
}

/// A hash as it is stored: nothing where there is none.
pub(super) fn hash(digest: &Digest) -> Option<&Digest> {
    (*digest != Digest::default()).then_some(digest)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

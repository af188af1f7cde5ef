//! `usage.db`: what was asked of models and what it cost, and the answers that are kept so that nothing is paid twice.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::StoreError;
use super::fold::{self, Fold};
use super::repository::Repository;
use super::sqlite::{Change, Migration};
use crate::model::{Account, Answers, Call, KeptAnswer, Ledger, Purse, Usage};

/// Kept answers at most; the oldest go first.
const MOST_ANSWERS: i64 = 50_000;

/// The write-ahead log is folded into the file after so many writes. SQLite itself would do that after a thousand pages,
/// within a write, and every call under way would wait for the disk.
const FOLD_EVERY: u32 = 5_000;

const MIGRATIONS: &[Migration] = &[Migration {
    name: "calls, spending and answers",
    change: Change::Sql(
        "CREATE TABLE calls (
            id INTEGER PRIMARY KEY,
            at_ms INTEGER NOT NULL,
            day TEXT NOT NULL,
            role TEXT NOT NULL,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            work TEXT,
            work_id TEXT,
            input_tokens INTEGER NOT NULL,
            cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            micro_usd INTEGER NOT NULL,
            estimated INTEGER NOT NULL,
            latency_ms INTEGER NOT NULL,
            outcome TEXT NOT NULL
        ) STRICT;
        CREATE INDEX calls_by_day ON calls (day);
        CREATE TABLE spent (
            purse TEXT PRIMARY KEY,
            input_tokens INTEGER NOT NULL,
            cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            micro_usd INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE answers (
            key TEXT PRIMARY KEY,
            answer TEXT NOT NULL
        ) STRICT;",
    ),
}];

/// The ledger of model calls.
#[derive(Debug)]
pub struct UsageStore {
    file: Repository,
    folding: Mutex<Folding>,
}

/// How the write-ahead log stands.
#[derive(Debug, Default)]
struct Folding {
    /// Writes since it began anew.
    writes: u32,
    /// The fold that is under way.
    fold: Option<Fold>,
}

/// Calls of one role to one model on one day.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UsageRow {
    /// The day in UTC, as `2026-11-24`.
    pub day: String,
    /// The role.
    pub role: String,
    /// The provider's name.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Calls made.
    pub calls: u64,
    /// Those that brought no answer.
    pub failed: u64,
    /// Tokens of questions.
    pub input_tokens: u64,
    /// Those of them that the provider had kept.
    pub cached_input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// Calls whose cost is a guess.
    pub estimated: u64,
    /// Mean time of a call, in milliseconds.
    pub mean_latency_ms: u64,
    /// Longest time of a call, in milliseconds.
    pub max_latency_ms: u64,
}

impl UsageStore {
    /// Opens the store, making or upgrading it in place.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Repository::open(path, MIGRATIONS)?;
        let own_folds = file.lock().execute_batch("PRAGMA wal_autocheckpoint = 0");
        own_folds.map_err(|source| file.fault("prepare the store", source))?;
        Ok(Self { file, folding: Mutex::default() })
    }

    /// Counts a write; now and then begins to fold the log, or ends that. A fold that fails is tried again, and closing the
    /// store folds what is left.
    fn written(&self) {
        let mut folding = self.folding.lock().unwrap_or_else(PoisonError::into_inner);
        folding.writes += 1;
        if let Some(done) = folding.fold.take_if(|fold| fold.is_done()) {
            done.wait();
            folding.writes = 0;
            // What was written meanwhile is little, and only then can the log begin anew.
            if let Err(error) = fold::pass(&self.file.lock()) {
                tracing::warn!(%error, "write-ahead log of the ledger not folded");
            }
        } else if folding.fold.is_none() && folding.writes >= FOLD_EVERY {
            folding.writes = 0;
            // Without a thread it waits for its turn to come again.
            folding.fold = Fold::start(self.file.path(), MIGRATIONS).ok();
        }
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self { file: Repository::in_memory(MIGRATIONS)?, folding: Mutex::default() })
    }

    /// Calls by day, role and model, the newest day first; of days from `since` on, where given.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn by_day(&self, since: Option<&str>) -> Result<Vec<UsageRow>, StoreError> {
        self.file.read("read the calls of models", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT day, role, provider, model, count(*), sum(outcome <> 'ok'), sum(input_tokens),
                        sum(cached_input_tokens), sum(output_tokens), sum(micro_usd), sum(estimated),
                        avg(latency_ms), max(latency_ms)
                 FROM calls WHERE day >= ?1 GROUP BY day, role, provider, model
                 ORDER BY day DESC, role, provider, model",
            )?;
            let rows = statement.query_map([since.unwrap_or_default()], |row| {
                Ok(UsageRow {
                    day: row.get(0)?,
                    role: row.get(1)?,
                    provider: row.get(2)?,
                    model: row.get(3)?,
                    calls: count(row, 4)?,
                    failed: count(row, 5)?,
                    input_tokens: count(row, 6)?,
                    cached_input_tokens: count(row, 7)?,
                    output_tokens: count(row, 8)?,
                    micro_usd: count(row, 9)?,
                    estimated: count(row, 10)?,
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "a time is no debt"
                    )]
                    mean_latency_ms: row.get::<_, f64>(11)? as u64,
                    max_latency_ms: count(row, 12)?,
                })
            })?;
            rows.collect()
        })
    }

    /// What was spent on a purse.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn spent_on(&self, purse: &Purse) -> Result<Usage, StoreError> {
        self.file.read("read what was spent", |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT input_tokens, cached_input_tokens, output_tokens, micro_usd FROM spent WHERE purse = ?1",
            )?;
            let found = statement.query_row([name(purse)], |row| {
                Ok(Usage {
                    input_tokens: count(row, 0)?,
                    cached_input_tokens: count(row, 1)?,
                    output_tokens: count(row, 2)?,
                    micro_usd: count(row, 3)?,
                })
            });
            found.optional().map(Option::unwrap_or_default)
        })
    }

    /// The newest call's number; 0 where there is none.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn last_call(&self) -> Result<i64, StoreError> {
        self.file.read("find the newest call", |connection| {
            connection.query_row("SELECT coalesce(max(id), 0) FROM calls", [], |row| row.get(0))
        })
    }

    /// How many calls were made after the one of that number, and what they cost.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn since(&self, call: i64) -> Result<(u64, Usage), StoreError> {
        self.file.read("count calls", |connection| {
            connection.query_row(
                "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(cached_input_tokens), 0),
                        coalesce(sum(output_tokens), 0), coalesce(sum(micro_usd), 0)
                 FROM calls WHERE id > ?1",
                [call],
                |row| {
                    let usage = Usage {
                        input_tokens: count(row, 1)?,
                        cached_input_tokens: count(row, 2)?,
                        output_tokens: count(row, 3)?,
                        micro_usd: count(row, 4)?,
                    };
                    Ok((count(row, 0)?, usage))
                },
            )
        })
    }

    fn write_call(&self, call: &Call) -> Result<(), StoreError> {
        self.file.write("write a call down", |transaction| {
            let account = call.account.as_ref();
            transaction
                .prepare_cached(
                    "INSERT INTO calls (at_ms, day, role, provider, model, work, work_id, input_tokens, cached_input_tokens,
                        output_tokens, micro_usd, estimated, latency_ms, outcome)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                )?
                .execute(params![
                    call.at_ms,
                    call.day,
                    call.role,
                    call.provider,
                    call.model,
                    account.map(|account| account.work.as_str()),
                    account.map(|account| account.id.as_str()),
                    integer(call.usage.input_tokens),
                    integer(call.usage.cached_input_tokens),
                    integer(call.usage.output_tokens),
                    integer(call.usage.micro_usd),
                    call.estimated,
                    i64::try_from(call.latency.as_millis()).unwrap_or(i64::MAX),
                    call.outcome
                ])?;
            let mut spend = transaction.prepare_cached(
                "INSERT INTO spent VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (purse) DO UPDATE SET
                    input_tokens = input_tokens + excluded.input_tokens,
                    cached_input_tokens = cached_input_tokens + excluded.cached_input_tokens,
                    output_tokens = output_tokens + excluded.output_tokens,
                    micro_usd = micro_usd + excluded.micro_usd",
            )?;
            let purses = account.cloned().map(Purse::Account).into_iter().chain([Purse::Day(call.day.clone())]);
            for purse in purses {
                spend.execute(params![
                    name(&purse),
                    integer(call.usage.input_tokens),
                    integer(call.usage.cached_input_tokens),
                    integer(call.usage.output_tokens),
                    integer(call.usage.micro_usd)
                ])?;
            }
            Ok(())
        })
    }
}

impl Drop for UsageStore {
    fn drop(&mut self) {
        // Its thread has the file open.
        let folding = self.folding.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(fold) = folding.fold.take() {
            fold.wait();
        }
    }
}

impl Ledger for UsageStore {
    fn spent(&self, purse: &Purse) -> Result<Usage, String> {
        self.spent_on(purse).map_err(|error| crate::text::causes(&error))
    }

    fn record(&self, call: &Call) -> Result<(), String> {
        self.write_call(call).map_err(|error| crate::text::causes(&error))?;
        self.written();
        Ok(())
    }
}

impl Answers for UsageStore {
    fn find(&self, key: &str) -> Option<KeptAnswer> {
        let found = self.file.read("look for a kept answer", |connection| {
            connection
                .prepare_cached("SELECT answer FROM answers WHERE key = ?1")?
                .query_row([key], |row| row.get::<_, String>(0))
                .optional()
        });
        match found {
            Ok(answer) => serde_json::from_str(&answer?).ok(),
            Err(error) => {
                tracing::warn!(error = crate::text::causes(&error), "kept answers cannot be read");
                None
            }
        }
    }

    fn keep(&self, key: &str, answer: &KeptAnswer) {
        let kept = self.file.write("keep an answer", |transaction| {
            let text = serde_json::to_string(answer).unwrap_or_default();
            transaction
                .prepare_cached("INSERT OR REPLACE INTO answers (key, answer) VALUES (?1, ?2)")?
                .execute(params![key, text])?;
            let last = transaction.last_insert_rowid();
            if last % 1_000 == 0 {
                transaction.execute("DELETE FROM answers WHERE rowid <= ?1", [last - MOST_ANSWERS])?;
            }
            Ok(())
        });
        match kept {
            Ok(()) => self.written(),
            Err(error) => tracing::warn!(
                error = crate::text::causes(&error),
                "answer not kept, the same question is paid again"
            ),
        }
    }
}

/// The name of a purse in the table.
fn name(purse: &Purse) -> String {
    match purse {
        Purse::Account(Account { work, id }) => format!("{} {id}", work.as_str()),
        Purse::Day(day) => format!("day {day}"),
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
    use std::time::Duration;

    use super::*;
    use crate::model::Work;

    fn call(role: &str, outcome: &'static str, account: &Account) -> Call {
        Call {
            at_ms: 1,
            day: "2026-11-24".into(),
            role: role.into(),
            provider: "Moonshot".into(),
            model: "kimi-k2.5".into(),
            account: Some(account.clone()),
            usage: Usage { input_tokens: 100, cached_input_tokens: 40, output_tokens: 10, micro_usd: 70 },
            estimated: outcome != "ok",
            latency: Duration::from_millis(if role == "patrol" { 200 } else { 900 }),
            outcome,
        }
    }

    #[test]
    fn a_long_log_is_folded_and_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.db");
        let store = UsageStore::open(&path).unwrap();
        let sweep = Account { work: Work::Sweep, id: "s1".into() };
        let record =
            |writes: u32| (0..writes).for_each(|_| store.record(&call("patrol", "ok", &sweep)).unwrap());
        let log = || std::fs::metadata(dir.path().join("usage.db-wal")).unwrap().len();
        record(FOLD_EVERY);
        let before = log();
        // The fold ends while calls go on, and then the log is written from its beginning.
        while store.folding.lock().unwrap().fold.is_some() {
            record(1);
        }
        record(FOLD_EVERY / 2);
        assert!(log() < before + before / 2, "{} after {before}", log());
        let calls = store.by_day(None).unwrap().iter().map(|row| row.calls).sum::<u64>();
        assert_eq!(store.spent(&Purse::Account(sweep)).unwrap().input_tokens, calls * 100);
        assert!(calls >= u64::from(FOLD_EVERY + FOLD_EVERY / 2));
    }

    #[test]
    fn spending_is_kept_over_restarts_and_told_by_day_role_and_model() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.db");
        let sweep = Account { work: Work::Sweep, id: "s1".into() };
        let case = Account { work: Work::Investigation, id: "i1".into() };
        let store = UsageStore::open(&path).unwrap();
        for (role, outcome, account) in
            [("patrol", "ok", &sweep), ("patrol", "timeout", &sweep), ("investigator", "ok", &case)]
        {
            store.record(&call(role, outcome, account)).unwrap();
        }
        drop(store);
        let store = UsageStore::open(&path).unwrap();
        assert_eq!(store.spent(&Purse::Account(sweep)).unwrap().micro_usd, 140);
        assert_eq!(store.spent(&Purse::Day("2026-11-24".into())).unwrap().tokens(), 330);
        assert_eq!(store.spent(&Purse::Day("2026-11-25".into())).unwrap(), Usage::default());
        let rows = store.by_day(None).unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.role.as_str(), row.calls)).collect::<Vec<_>>(),
            [("investigator", 1), ("patrol", 2)]
        );
        assert_eq!((rows[1].failed, rows[1].estimated, rows[1].mean_latency_ms), (1, 1, 200));
        assert!(store.by_day(Some("2026-11-25")).unwrap().is_empty());
        assert_eq!(store.since(store.last_call().unwrap() - 1).unwrap(), (1, call("", "ok", &case).usage));
    }
}

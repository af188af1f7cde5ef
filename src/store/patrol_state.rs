//! `patrol_state.db`: what patrol has read, reviewed and flagged.
//!
//! The table `cleared` is the earlier tool's and stays as it was: what it cleared under the same ruleset and model
//! is not reviewed again. Everything else is ours.
//!
//! `schema` is the tables; `ingest` takes in what the logs hold, `turns` hands out what waits for a review, `sweep`
//! writes what a sweep came to, `flags` keeps the flags, `counts` counts.

mod counts;
mod flags;
mod ingest;
mod schema;
mod sweep;
#[cfg(test)]
mod tests;
mod turns;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

pub use self::counts::TurnCounts;
pub use self::flags::FlagRow;
pub use self::ingest::Ingest;
use self::schema::MIGRATIONS;
pub use self::sweep::{Held, SweepRecord};
pub use self::turns::{Due, Share, StoredTurn, StreamRow, TurnStatus};
use super::StoreError;
use super::repository::Repository;

/// The versions a review was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Version of the rules.
    pub ruleset: String,
    /// The model, or `rules`.
    pub model: String,
}

/// The patrol's store.
#[derive(Debug)]
pub struct PatrolStore {
    file: Repository,
}

impl PatrolStore {
    /// Opens the store, making or upgrading it in place.
    ///
    /// # Errors
    /// Where the file cannot be opened, is no database, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { file: Repository::open(path, MIGRATIONS)? })
    }

    /// A store that is gone with the process, to have all functions at hand without touching a directory.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn in_memory() -> Result<Self, StoreError> {
        Ok(Self { file: Repository::in_memory(MIGRATIONS)? })
    }

    /// The file it is in.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// A value kept under a name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.file.read("read a setting", |connection| {
            connection
                .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// Keeps a value under a name.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.file.write("keep a setting", |transaction| set_meta(transaction, key, value))
    }
}

fn version_row(connection: &Connection, versions: &Versions) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO versions (ruleset, model) VALUES (?1, ?2)")?
        .execute([&versions.ruleset, &versions.model])?;
    connection
        .prepare_cached("SELECT id FROM versions WHERE ruleset = ?1 AND model = ?2")?
        .query_row([&versions.ruleset, &versions.model], |row| row.get(0))
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute([key, value])?;
    Ok(())
}

/// Plain data to JSON: maps with string keys and no foreign types, which cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

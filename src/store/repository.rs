//! What every typed repository has: one connection behind a lock, and errors that say what was being done.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::sqlite::{self, Change, Migration, StoreError, StoreErrorKind};

/// A SQLite file with typed rows.
#[derive(Debug)]
pub(super) struct Repository {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Repository {
    /// Opens a file, making or upgrading it in place.
    pub(super) fn open(path: &Path, migrations: &[Migration]) -> Result<Self, StoreError> {
        Ok(Self { connection: Mutex::new(sqlite::open(path, migrations)?), path: path.to_owned() })
    }

    /// A file that is gone with the process.
    pub(super) fn in_memory(migrations: &[Migration]) -> Result<Self, StoreError> {
        let path = PathBuf::from(":memory:");
        let open = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open_in_memory()?;
            let transaction = connection.transaction()?;
            for migration in migrations {
                match migration.change {
                    Change::Sql(sql) => transaction.execute_batch(sql)?,
                    Change::Code(code) => code(&transaction)?,
                }
            }
            transaction.commit()?;
            Ok(connection)
        };
        let connection = open().map_err(StoreError::at(&path))?;
        Ok(Self { connection: Mutex::new(connection), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in between left the transaction to its rollback.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of this file.
    pub(super) fn fault(&self, doing: &'static str, source: rusqlite::Error) -> StoreError {
        StoreError { path: self.path.clone(), kind: StoreErrorKind::Failed { doing, source } }
    }

    /// Reads.
    pub(super) fn read<T>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        read(&self.lock()).map_err(|source| self.fault(doing, source))
    }

    /// Writes in one transaction: all of it or nothing.
    pub(super) fn write<T>(
        &self,
        doing: &'static str,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let all = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = write(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        };
        all().map_err(|source| self.fault(doing, source))
    }
}

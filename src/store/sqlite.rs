//! Opening a SQLite file the one way this crate does it: write-ahead log, patience with other processes,
//! readable by its owner only, at the schema version this program knows.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

/// A change of the schema. A file's version is the number of changes it has seen.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// What it brings, for messages.
    pub name: &'static str,
    /// How.
    pub change: Change,
}

/// How a migration changes a file.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// SQL statements.
    Sql(&'static str),
    /// Code, within the migration's transaction.
    Code(fn(&Transaction<'_>) -> rusqlite::Result<()>),
}

/// Why a store cannot be used.
#[derive(Debug)]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What happened.
    pub kind: StoreErrorKind,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}: {}", self.path.display(), self.kind)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The kind is part of this error's own text; what caused it comes next.
        self.kind.source()
    }
}

/// What can happen to a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The file or its folder cannot be made or used.
    #[error("file")]
    Io(#[from] io::Error),
    /// A newer program has written it.
    #[error(
        "it has schema version {found}, and this program knows versions up to {known}: use a newer sentrix"
    )]
    Newer {
        /// The file's version.
        found: usize,
        /// The newest one known.
        known: usize,
    },
    /// A migration failed; the file is as it was before.
    #[error("migration `{name}`")]
    Migration {
        /// Which.
        name: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A statement failed.
    #[error("database")]
    Sql(#[from] rusqlite::Error),
    /// Something could not be done.
    #[error("failed to {doing}")]
    Failed {
        /// What.
        doing: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row holds what no program of this project wrote.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether the file is no database, or a broken one.
    pub fn is_damaged(&self) -> bool {
        let (StoreErrorKind::Sql(error)
        | StoreErrorKind::Migration { source: error, .. }
        | StoreErrorKind::Failed { source: error, .. }) = &self.kind
        else {
            return false;
        };
        matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
    }

    /// An error of the store at `path`, for `map_err`.
    pub fn at<E: Into<StoreErrorKind>>(path: &Path) -> impl Fn(E) -> Self + '_ {
        move |error| Self { path: path.to_owned(), kind: error.into() }
    }
}

/// Opens a file for reading and writing; makes it, and its folder, where they are missing.
///
/// # Errors
/// `Io` and `Sql` where the file cannot be used, `Newer` where a newer program wrote it, `Migration` where it
/// cannot be brought up to date.
pub fn open(path: &Path, migrations: &[Migration]) -> Result<Connection, StoreError> {
    open_kind(path, migrations).map_err(|kind| StoreError { path: path.to_owned(), kind })
}

fn open_kind(path: &Path, migrations: &[Migration]) -> Result<Connection, StoreErrorKind> {
    make_private(path)?;
    let mut connection = connect(path)?;
    patiently(|| connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())))?;
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;
        PRAGMA journal_size_limit = 33554432;",
    )?;
    migrate(&mut connection, migrations)?;
    Ok(connection)
}

/// Opens an existing file for reading only.
///
/// # Errors
/// `Sql` where the file is missing or no database, `Newer` where a newer program wrote it.
pub fn open_reader(path: &Path, migrations: &[Migration]) -> Result<Connection, StoreError> {
    let open = || {
        let connection = connect(path)?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        refuse_newer(version(&connection)?, migrations.len())?;
        Ok(connection)
    };
    open().map_err(|kind| StoreError { path: path.to_owned(), kind })
}

/// Opens the connection itself. A reader is opened for writing too: a write-ahead log can otherwise not be
/// read when its index is not there yet.
fn connect(path: &Path) -> Result<Connection, StoreErrorKind> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_others))?;
    Ok(connection)
}

/// Longest wait for other processes, in calls of the busy handler: about half a minute.
const PATIENCE: i32 = 6_000;

/// Called by SQLite while another connection holds the lock. Short waits first: a commit takes well under a
/// millisecond.
fn wait_for_others(calls: i32) -> bool {
    let wait = match calls {
        ..20 => Duration::from_micros(100),
        20..100 => Duration::from_millis(1),
        _ => Duration::from_millis(5),
    };
    thread::sleep(wait);
    calls < PATIENCE
}

/// Repeats what SQLite does not put through the busy handler, as the switch to a write-ahead log.
fn patiently<T>(mut what: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let mut calls = 0;
    loop {
        match what() {
            Err(error) if is_busy(&error) && wait_for_others(calls) => calls += 1,
            other => return other,
        }
    }
}

/// Whether an error means that another connection holds a lock.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<(), StoreErrorKind> {
    if refuse_newer(version(connection)?, migrations.len())? == migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it while this one waited.
    let done = refuse_newer(version(&transaction)?, migrations.len())?;
    for migration in migrations.iter().skip(done) {
        let changed = match migration.change {
            Change::Sql(sql) => transaction.execute_batch(sql),
            Change::Code(code) => code(&transaction),
        };
        changed.map_err(|source| StoreErrorKind::Migration { name: migration.name, source })?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(migrations.len()).unwrap_or(i64::MAX))?;
    Ok(transaction.commit()?)
}

fn version(connection: &Connection) -> Result<usize, StoreErrorKind> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn refuse_newer(found: usize, known: usize) -> Result<usize, StoreErrorKind> {
    if found > known { Err(StoreErrorKind::Newer { found, known }) } else { Ok(found) }
}

/// Makes the file, and its folder, so that only their owner can read them. SQLite gives the files beside it
/// the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty())
        && !folder.is_dir()
    {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    tighten(&file)
}

/// Takes the rights of others on a file away, where an earlier program or umask left them.
#[cfg(unix)]
fn tighten(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        file.set_permissions(permissions)?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn tighten(_: &fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration = Migration { name: "first", change: Change::Sql("CREATE TABLE a (x INTEGER)") };
    const SECOND: Migration = Migration {
        name: "second",
        change: Change::Code(|transaction| transaction.execute_batch("INSERT INTO a VALUES (1)")),
    };

    fn rows(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_file_is_made_brought_up_to_date_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("test.db");
        drop(open(&path, &[FIRST]).unwrap());
        for _ in 0..2 {
            assert_eq!(rows(&open(&path, &[FIRST, SECOND]).unwrap()), 1);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let open = open(&path, &[FIRST, SECOND]).unwrap();
            open.execute_batch("INSERT INTO a VALUES (2)").unwrap();
            assert_eq!((mode(&path), mode(&path.with_extension("db-wal"))), (0o600, 0o600));
        }
    }

    #[test]
    fn a_newer_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        drop(open(&path, &[FIRST, SECOND]).unwrap());
        for error in [open(&path, &[FIRST]).unwrap_err(), open_reader(&path, &[FIRST]).unwrap_err()] {
            assert!(matches!(error.kind, StoreErrorKind::Newer { found: 2, known: 1 }), "{error}");
            assert!(error.to_string().contains("test.db: it has schema version 2"), "{error}");
        }
    }

    #[test]
    fn a_migration_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        drop(open(&path, &[FIRST]).unwrap());
        let broken = Migration { name: "broken", change: Change::Sql("INSERT INTO a VALUES (1); nonsense") };
        let error = open(&path, &[FIRST, broken]).unwrap_err();
        assert!(error.to_string().contains("migration `broken`"), "{error}");
        assert_eq!(rows(&open_reader(&path, &[FIRST]).unwrap()), 0);
    }

    #[test]
    fn many_openers_at_once_migrate_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| drop(open(&path, &[FIRST, SECOND]).unwrap()));
            }
        });
        assert_eq!(rows(&open_reader(&path, &[FIRST, SECOND]).unwrap()), 1);
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        fs::write(&path, "this is not a database, however long it may be ".repeat(100)).unwrap();
        assert!(open(&path, &[FIRST]).is_err());
        assert!(open_reader(&folder.path().join("missing.db"), &[FIRST]).is_err());
        assert!(!folder.path().join("missing.db").exists());
    }
}

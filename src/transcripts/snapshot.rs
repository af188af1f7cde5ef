//! A copy of one agent's database that nobody writes to, and the questions it is asked.
//!
//! The live database is in write-ahead mode: whoever opens it, even for reading only, takes locks in its `-shm` file,
//! may make that file, and can hold up the owner's checkpoints. So it is not opened at all: its bytes and those of the
//! write-ahead log are copied, and the copy counts only if no checkpoint ran meanwhile. A checkpoint is the only thing
//! that writes to the database itself (its mtime), and a log that began anew has another head.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use super::home::{Files, Home, Stamp};
use super::row::{Payload, Stored};
use super::{TranscriptsError, TranscriptsErrorKind};
use crate::clock::SharedClock;
use crate::openclaw::transcript::{DATABASE, SCHEMA_VERSIONS, TABLES};

/// Largest database, and largest write-ahead log, that is copied.
const MAX_BYTES: u64 = 2 << 30;
/// How often a copy is tried, and how long it is waited between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);
/// A file that was written to just now may be written to again within the same tick of its time.
const SETTLED_NS: i128 = 20_000_000;
/// The head of a write-ahead log, which is another one each time it begins anew. Source: sqlite.org/fileformat2.html
const WAL_HEAD: usize = 32;
/// Longest value that SQLite may build, whatever the file says.
const MAX_VALUE: i32 = 64 << 20;
/// Longest event that is read, in bytes.
const MAX_EVENT: i64 = 32 << 20;
/// How many sessions of one agent are looked at.
const MAX_SESSIONS: i64 = 100_000;
/// SQLite is asked this often, in its own steps, whether it may go on; and how often it may.
const STEPS: i32 = 100_000;
const MAX_ROUNDS: u64 = 20_000;

/// A consistent copy of one agent's database, removed when dropped.
#[derive(Debug)]
pub(super) struct Snapshot {
    connection: Connection,
    /// Rounds of [`STEPS`] that the question has taken.
    rounds: Arc<AtomicU64>,
    path: PathBuf,
    _copy: Copy,
}

/// A session of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: String,
    /// Its key, where the database knows it.
    pub(super) key: Option<String>,
    /// Place of its last event.
    pub(super) last: i64,
    /// Changes when events that were there are taken away or replaced.
    pub(super) generation: Option<String>,
}

/// How a session came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spawn {
    pub(super) parent: String,
    pub(super) label: String,
    pub(super) created_at: i64,
}

/// A private folder with the copy.
#[derive(Debug)]
struct Copy(PathBuf);

impl Copy {
    /// A new, empty folder for its owner only; what an earlier process left there is removed.
    fn new(scratch: &Path) -> io::Result<Self> {
        match fs::remove_dir_all(scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
        Ok(Self(scratch.to_owned()))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // A folder that stays behind is removed by the next copy.
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Snapshot {
    /// Copies an agent's database into `scratch`, which is made and removed; nothing where the agent has none.
    ///
    /// # Errors
    /// `Busy`, `NotAFile`, `TooLarge` and `Io` for the files; `Version`, `Table` and `Sql` for what is in them.
    pub(super) fn take(
        home: &Home,
        agent: &str,
        scratch: &Path,
        clock: &SharedClock,
    ) -> Result<Option<(Self, Stamp)>, TranscriptsError> {
        for _ in 0..ATTEMPTS {
            let Some(files) = home.files(agent)? else { return Ok(None) };
            let at = TranscriptsError::at::<TranscriptsErrorKind>(&files.path);
            let copy = Copy::new(scratch).map_err(|error| TranscriptsError::at(scratch)(error))?;
            let to = copy.0.join(DATABASE);
            if let Some(stamp) = copied(home, agent, &files, &to, clock)? {
                let (connection, rounds) = open(&to).map_err(at)?;
                return Ok(Some((Self { connection, rounds, path: files.path, _copy: copy }, stamp)));
            }
            std::thread::sleep(PAUSE);
        }
        let path = home.path().join(agent);
        Err(TranscriptsError { path, kind: TranscriptsErrorKind::Busy })
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, TranscriptsError> {
        self.rounds.store(0, Ordering::Relaxed);
        question(&self.connection).map_err(|error| TranscriptsError::at(&self.path)(error))
    }

    /// All sessions with events, oldest first.
    pub(super) fn sessions(&self) -> Result<Vec<Session>, TranscriptsError> {
        // From one session to the next by the index, as events may lie there whose session is in no other table.
        const SESSIONS: &str = "
            WITH RECURSIVE found(id) AS (
              SELECT min(session_id) FROM transcript_events
              UNION ALL
              SELECT (SELECT min(session_id) FROM transcript_events WHERE session_id > found.id) FROM found
              WHERE found.id IS NOT NULL LIMIT ?1
            )
            SELECT found.id, coalesce(window.session_key, node.session_key),
              (SELECT max(seq) FROM transcript_events WHERE session_id = found.id), watermark.generation
            FROM found
            LEFT JOIN session_windows AS window ON window.session_id = found.id
            LEFT JOIN session_nodes AS node ON node.current_session_id = found.id
            LEFT JOIN transcript_rewrite_watermarks AS watermark ON watermark.session_id = found.id
            WHERE found.id IS NOT NULL GROUP BY found.id ORDER BY window.created_at, found.id";
        self.ask(|connection| {
            let mut statement = connection.prepare(SESSIONS)?;
            let rows = statement.query_map([MAX_SESSIONS], |row| {
                Ok(Session { id: row.get(0)?, key: row.get(1)?, last: row.get(2)?, generation: row.get(3)? })
            })?;
            rows.collect()
        })
    }

    /// The session that started this one, if one did.
    pub(super) fn spawn(&self, session: &str) -> Result<Option<Spawn>, TranscriptsError> {
        const SPAWN: &str = "
            SELECT coalesce(node.spawned_by, window.spawned_by), coalesce(node.label, ''),
              coalesce(node.created_at, window.created_at)
            FROM session_windows AS window LEFT JOIN session_nodes AS node ON node.session_key = window.session_key
            WHERE window.session_id = ?1 AND coalesce(node.spawned_by, window.spawned_by) IS NOT NULL LIMIT 1";
        self.ask(|connection| {
            let read = |row: &Row<'_>| {
                Ok(Spawn { parent: row.get(0)?, label: row.get(1)?, created_at: row.get(2)? })
            };
            connection.query_row(SPAWN, [session], read).optional()
        })
    }

    /// The last events of a session key up to a moment (milliseconds since the Unix epoch), latest first.
    pub(super) fn before(&self, session_key: &str, moment: i64) -> Result<Vec<Stored>, TranscriptsError> {
        const BEFORE: &str = "
            SELECT seq, created_at,
              CASE WHEN octet_length(event_json) <= ?3 THEN event_json END,
              CASE WHEN length(event_zstd) <= ?3 THEN event_zstd END,
              coalesce(octet_length(event_json), length(event_zstd), 0)
            FROM transcript_events
            WHERE session_id = (SELECT current_session_id FROM session_nodes WHERE session_key = ?1)
              AND created_at <= ?2
            ORDER BY seq DESC LIMIT 8";
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(BEFORE)?;
            let rows = statement.query_map(params![session_key, moment, MAX_EVENT], stored)?;
            rows.collect()
        })
    }

    /// Up to `count` events of a session from the place `from` on, in order.
    pub(super) fn events(
        &self,
        session: &str,
        from: i64,
        count: u32,
    ) -> Result<Vec<Stored>, TranscriptsError> {
        const EVENTS: &str = "
            SELECT seq, created_at,
              CASE WHEN octet_length(event_json) <= ?3 THEN event_json END,
              CASE WHEN length(event_zstd) <= ?3 THEN event_zstd END,
              coalesce(octet_length(event_json), length(event_zstd), 0)
            FROM transcript_events WHERE session_id = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?4";
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(EVENTS)?;
            let rows = statement.query_map(params![session, from, MAX_EVENT, count], stored)?;
            rows.collect()
        })
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let bytes = |value: ValueRef<'_>| match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes.to_vec()),
        _ => None,
    };
    let payload = match (bytes(row.get_ref(2)?), bytes(row.get_ref(3)?)) {
        (Some(json), _) => Payload::Json(json),
        (None, Some(zstd)) => Payload::Zstd(zstd),
        (None, None) => Payload::TooLong(row.get(4)?),
    };
    Ok(Stored { seq: row.get(0)?, created_at: row.get(1)?, payload })
}

/// Copies the files; their stamp if the copy is whole, nothing if it must be tried again.
fn copied(
    home: &Home,
    agent: &str,
    files: &Files,
    to: &Path,
    clock: &SharedClock,
) -> Result<Option<Stamp>, TranscriptsError> {
    let at = TranscriptsError::at::<TranscriptsErrorKind>(&files.path);
    let io = |error: io::Error| at(error.into());
    let stamp = files.stamp().map_err(io)?;
    let now = clock.now().as_nanosecond();
    if files.journal || (0..SETTLED_NS).contains(&(now - stamp.database.mtime_ns)) {
        return Ok(None);
    }
    copy(&files.database, to).map_err(&at)?;
    let mut head = None;
    if let Some(wal) = &files.wal {
        let to = PathBuf::from(format!("{}-wal", to.display()));
        copy(wal, &to).map_err(&at)?;
        head = Some(wal_head(&File::open(&to).map_err(io)?).map_err(io)?);
    }
    // By name again: another file may have taken a place.
    let Some(after) = home.files(agent)? else { return Ok(None) };
    let now = after.stamp().map_err(io)?;
    let head_now = after.wal.as_ref().map(wal_head).transpose().map_err(io)?;
    Ok((now.database == stamp.database && head == head_now && !after.journal).then_some(stamp))
}

/// The first bytes of a write-ahead log; fewer where it has fewer.
fn wal_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; WAL_HEAD];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

fn copy(from: &File, to: &Path) -> Result<(), TranscriptsErrorKind> {
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let size = from.metadata()?.len();
    if size > MAX_BYTES {
        return Err(TranscriptsErrorKind::TooLarge { size, limit: MAX_BYTES });
    }
    io::copy(&mut from.take(MAX_BYTES), &mut new)?;
    Ok(())
}

/// Opens the copy and looks whether it is what is known. What is in it is hostile.
fn open(path: &Path) -> Result<(Connection, Arc<AtomicU64>), TranscriptsErrorKind> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE)?;
    let rounds = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&rounds);
    connection.progress_handler(STEPS, Some(move || counted.fetch_add(1, Ordering::Relaxed) > MAX_ROUNDS))?;
    connection.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA query_only = ON;",
    )?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if !SCHEMA_VERSIONS.contains(&found) {
        return Err(TranscriptsErrorKind::Version { found });
    }
    for table in TABLES {
        // A view or a virtual table of the same name would run whatever it likes.
        let kind: Option<String> = connection
            .query_row(
                "SELECT type FROM sqlite_schema WHERE name = ?1 AND type = 'table' AND sql NOT LIKE 'create virtual%'",
                [table],
                |row| row.get(0),
            )
            .optional()?;
        if kind.is_none() {
            return Err(TranscriptsErrorKind::Table(table));
        }
    }
    Ok((connection, rounds))
}

//! An OpenClaw home as OpenClaw 2026.9.6 makes it, as far as its transcript tables go: written to like the real one,
//! in write-ahead mode and with the file kept open.

#![allow(clippy::unwrap_used, reason = "a test's own database: what fails here fails the test")]
#![allow(dead_code, reason = "not every test writes everything")]

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde_json::{Value, json};

/// The tables that matter, as they stand in schema version 23.
const SCHEMA: &str = "
    CREATE TABLE schema_meta (meta_key TEXT NOT NULL PRIMARY KEY, role TEXT NOT NULL, schema_version INTEGER NOT NULL,
      agent_id TEXT, app_version TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
    CREATE TABLE session_nodes (session_key TEXT NOT NULL PRIMARY KEY, current_session_id TEXT NOT NULL,
      entry_json TEXT NOT NULL, updated_at INTEGER NOT NULL, status TEXT, created_at INTEGER, created_via TEXT,
      parent_session_key TEXT, spawned_by TEXT, label TEXT) STRICT;
    CREATE TABLE session_windows (session_id TEXT NOT NULL PRIMARY KEY, session_key TEXT NOT NULL,
      created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, parent_session_key TEXT, spawned_by TEXT,
      FOREIGN KEY (session_key) REFERENCES session_nodes(session_key) ON DELETE CASCADE) STRICT;
    CREATE TABLE transcript_events (session_id TEXT NOT NULL, seq INTEGER NOT NULL, event_json TEXT,
      created_at INTEGER NOT NULL, event_zstd BLOB, event_utf8_bytes INTEGER, navigation_json TEXT,
      PRIMARY KEY (session_id, seq),
      FOREIGN KEY (session_id) REFERENCES session_windows(session_id) ON DELETE CASCADE) STRICT;
    CREATE TABLE transcript_rewrite_watermarks (session_id TEXT NOT NULL PRIMARY KEY, generation TEXT NOT NULL,
      updated_at INTEGER NOT NULL) STRICT;
    PRAGMA user_version = 23;";

/// The session that every home has.
pub(crate) const MAIN: &str = "agent:main:main";
/// Its id.
pub(crate) const MAIN_ID: &str = "af158d0c-529c-4397-b91e-766a5e5b07f1";
/// When it begins.
const BEGAN: i64 = 1_795_351_831_866;

/// A home with one agent and its main session.
#[derive(Debug)]
pub(crate) struct OpenClawHome {
    pub(crate) path: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) connection: Connection,
}

impl OpenClawHome {
    /// A home at `path`, which is made.
    pub(crate) fn new(path: &Path) -> Self {
        let folder = path.join("agents/main/agent");
        fs::create_dir_all(&folder).unwrap();
        let database = folder.join("openclaw-agent.sqlite");
        let connection = Connection::open(&database).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;").unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let home = Self { path: path.to_owned(), database, connection };
        home.session(MAIN, MAIN_ID, None);
        home.raw(
            MAIN_ID,
            &json!({ "type": "session", "version": 4, "id": MAIN_ID, "cwd": "/workspace" }).to_string(),
        );
        home
    }

    /// Adds a session; with a parent and a label, one that was spawned.
    pub(crate) fn session(&self, key: &str, id: &str, spawned: Option<(&str, &str)>) {
        let (parent, label) = spawned.unzip();
        let now = BEGAN + self.events() + 1;
        self.connection
            .execute(
                "INSERT INTO session_nodes VALUES (?1, ?2, '{}', ?3, 'done', ?3, 'run', ?4, ?4, ?5)",
                params![key, id, now, parent, label],
            )
            .unwrap();
        self.connection
            .execute(
                "INSERT INTO session_windows VALUES (?1, ?2, ?3, ?3, ?4, ?4)",
                params![id, key, now, parent],
            )
            .unwrap();
    }

    fn events(&self) -> i64 {
        self.connection.query_row("SELECT count(*) FROM transcript_events", [], |row| row.get(0)).unwrap()
    }

    /// Adds an event's JSON to a session, and says its place.
    pub(crate) fn raw(&self, session: &str, json: &str) -> i64 {
        let now = BEGAN + self.events() + 1;
        let insert = "INSERT INTO transcript_events (session_id, seq, event_json, created_at) VALUES (?1,
            (SELECT coalesce(max(seq), -1) + 1 FROM transcript_events WHERE session_id = ?1), ?2, ?3) RETURNING seq";
        self.connection.query_row(insert, params![session, json, now], |row| row.get(0)).unwrap()
    }

    /// Adds a message of a run.
    pub(crate) fn message(&self, session: &str, run: &str, message: &Value) -> i64 {
        let mut message = message.clone();
        if message["role"] == "user" {
            message["idempotencyKey"] = format!("{run}:user").into();
        } else {
            message["__openclaw"] = json!({ "runId": run });
        }
        let id = format!("e-{session}-{}", self.events());
        self.raw(
            session,
            &json!({ "type": "message", "id": id, "parentId": null, "message": message }).to_string(),
        )
    }

    /// Adds a question and its answer; the two events of one turn.
    pub(crate) fn turn(&self, session: &str, run: &str, question: &str, answer: &str) {
        self.message(session, run, &json!({ "role": "user", "content": question }));
        let content = json!([{ "type": "text", "text": answer }]);
        self.message(session, run, &json!({ "role": "assistant", "content": content, "stopReason": "stop" }));
    }
}

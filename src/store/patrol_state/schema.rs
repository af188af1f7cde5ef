//! The tables of `patrol_state.db`.

use super::super::sqlite::{Change, Migration};

/// What the file has been through.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "turns, streams and flags",
    change: Change::Sql(
        "CREATE TABLE IF NOT EXISTS cleared (
        run_id_ts TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        reviewed_at TEXT NOT NULL,
        ruleset_version TEXT NOT NULL,
        model_version TEXT NOT NULL
    );
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE files (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        pheromone REAL NOT NULL DEFAULT 0,
        pheromone_sweep INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        ruleset TEXT NOT NULL,
        model TEXT NOT NULL,
        UNIQUE (ruleset, model)
    );
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY,
        turn_id BLOB NOT NULL UNIQUE,
        stream INTEGER NOT NULL REFERENCES streams (id),
        run_id TEXT NOT NULL,
        ts INTEGER NOT NULL,
        run_id_ts TEXT NOT NULL,
        source_file TEXT NOT NULL,
        at INTEGER NOT NULL,
        session_key TEXT,
        agent_id TEXT,
        ended INTEGER NOT NULL,
        text_bytes INTEGER NOT NULL,
        digest INTEGER NOT NULL,
        extents BLOB NOT NULL,
        changed INTEGER NOT NULL,
        status INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        version INTEGER REFERENCES versions (id),
        reviewed_at TEXT
    );
    CREATE INDEX turns_pending ON turns (stream, id) WHERE status = 0;
    CREATE INDEX turns_given_up ON turns (id) WHERE status = 3;
    CREATE INDEX turns_by_name ON turns (run_id_ts);
    CREATE INDEX turns_by_stream ON turns (stream, id);
    CREATE TABLE flags (
        seq INTEGER PRIMARY KEY,
        flag_id TEXT UNIQUE,
        severity TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        revision INTEGER NOT NULL,
        legacy INTEGER NOT NULL,
        json TEXT NOT NULL
    );
    CREATE TABLE rejects (
        file TEXT NOT NULL,
        offset INTEGER NOT NULL,
        length INTEGER NOT NULL,
        reason TEXT NOT NULL,
        run_id TEXT,
        PRIMARY KEY (file, offset)
    ) WITHOUT ROWID;
    CREATE TABLE sweeps (
        number INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        at TEXT NOT NULL,
        summary TEXT NOT NULL
    );",
    ),
}];

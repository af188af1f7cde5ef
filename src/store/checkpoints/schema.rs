//! The tables.

use crate::store::sqlite::{Change, Migration};

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "runs, entries and snapshots",
        change: Change::Sql(
            "CREATE TABLE definitions (
                no INTEGER PRIMARY KEY, hash TEXT NOT NULL, graph TEXT NOT NULL, version INTEGER NOT NULL,
                source TEXT NOT NULL, prompts TEXT NOT NULL
            );
            CREATE INDEX definitions_by_hash ON definitions (hash);
            CREATE TABLE runs (
                no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, definition INTEGER NOT NULL REFERENCES definitions,
                input TEXT NOT NULL, durability TEXT NOT NULL, status TEXT NOT NULL, error TEXT,
                created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,
                owner_token TEXT, owner_host TEXT, owner_pid INTEGER, owner_start INTEGER, lease_until_ms INTEGER
            );
            -- id: the run's no in the upper 32 bits, the entry's number in the lower; kind: 0 superstep, 1 task
            CREATE TABLE entries (
                id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, step INTEGER NOT NULL, node TEXT, item INTEGER,
                at_ms INTEGER NOT NULL, body TEXT NOT NULL
            );
            CREATE TABLE snapshots (run INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body TEXT NOT NULL);",
        ),
    },
    Migration {
        name: "hashes, forks, subgraphs, gates, the ledger, the cache, retention",
        change: Change::Sql(
            "-- No hash: all zero. Kinds of entries have the number that the engine gives them.
            ALTER TABLE entries ADD COLUMN hash BLOB;
            ALTER TABLE snapshots ADD COLUMN chain BLOB;
            ALTER TABLE runs ADD COLUMN parent TEXT;
            ALTER TABLE runs ADD COLUMN forked_run TEXT;
            ALTER TABLE runs ADD COLUMN forked_step INTEGER;
            ALTER TABLE runs ADD COLUMN held TEXT;
            ALTER TABLE runs ADD COLUMN seal TEXT;
            CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
            CREATE INDEX runs_by_definition ON runs (definition);
            -- What the first entry of a pruned or forked run builds on; also its last snapshot while `snapshots`
            -- has none of it.
            CREATE TABLE bases (
                run INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body TEXT NOT NULL, chain BLOB, steps INTEGER NOT NULL
            );
            -- What an upgraded run was executed with before.
            CREATE TABLE past_definitions (
                run INTEGER NOT NULL, definition INTEGER NOT NULL REFERENCES definitions, PRIMARY KEY (run, definition)
            ) WITHOUT ROWID;
            CREATE INDEX past_definitions_by_definition ON past_definitions (definition);
            CREATE TABLE answers (
                no INTEGER PRIMARY KEY, run INTEGER NOT NULL, gate TEXT NOT NULL, chosen TEXT NOT NULL,
                answered_by TEXT NOT NULL, note TEXT, at_ms INTEGER NOT NULL, signature TEXT, UNIQUE (run, gate)
            );
            CREATE TABLE effects (
                no INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, run INTEGER NOT NULL, node TEXT NOT NULL,
                begun_ms INTEGER NOT NULL, result TEXT
            );
            CREATE INDEX effects_by_run ON effects (run);
            CREATE TABLE cache (
                key BLOB PRIMARY KEY, body TEXT NOT NULL, until_ms INTEGER NOT NULL
            );
            CREATE INDEX cache_by_end ON cache (until_ms);",
        ),
    },
];

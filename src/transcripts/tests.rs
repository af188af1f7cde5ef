//! The record as a whole: databases as OpenClaw writes them, hostile ones, and crashes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use super::*;
use crate::clock;

#[path = "../../tests/support/openclaw_db.rs"]
mod openclaw_db;

use openclaw_db::{MAIN, MAIN_ID, OpenClawHome};

/// A home, and what was taken over from it.
struct World {
    dir: tempfile::TempDir,
    home: OpenClawHome,
    book: Book,
}

#[derive(Default)]
struct Book {
    events: Vec<LogEvent>,
    /// So many more can be written.
    room: Option<usize>,
}

impl Ledger for Book {
    fn append(&mut self, event: &LogEvent) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if let Some(room) = &mut self.room {
            *room = room.checked_sub(1).ok_or("the disk is full")?;
        }
        self.events.push(event.clone());
        Ok(())
    }

    fn written(&mut self, session: &str) -> Result<Vec<Source>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.sources().filter(|source| source.session == session).collect())
    }
}

impl Book {
    fn sources(&self) -> impl Iterator<Item = Source> {
        self.events.iter().map(|event| event.src.clone())
    }

    fn texts(&self) -> Vec<String> {
        let text = |event: &LogEvent| match &event.body {
            Body::UserMessage { text } => text.clone(),
            Body::AssistantMessageEnd { raw_text, .. } => raw_text.clone(),
            Body::ToolCall { tool, .. } => format!("call {tool}"),
            Body::ToolResult { output, .. } => format!("result {output}"),
            Body::SubagentSpawned { label, .. } => format!("spawn {label}"),
        };
        self.events.iter().map(text).collect()
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = OpenClawHome::new(&dir.path().join("openclaw"));
        Self { dir, home, book: Book::default() }
    }

    /// An importer as a new process has it.
    fn importer(&self) -> Importer {
        let home = Home::open(&self.home.path).unwrap();
        Importer::new(home, &self.dir.path().join("scratch"), clock::system(), self.book.sources())
    }

    fn pull(&mut self) -> Pulled {
        let mut importer = self.importer();
        pull(&mut importer, &mut self.book)
    }

    fn fails(&mut self) -> TranscriptsErrorKind {
        let mut pulled = Pulled::default();
        let error = self.importer().pull(&mut self.book, &mut pulled).unwrap_err();
        assert_eq!((pulled, self.book.events.len()), (Pulled::default(), 0));
        error.kind
    }
}

fn pull(importer: &mut Importer, book: &mut Book) -> Pulled {
    let mut pulled = Pulled::default();
    importer.pull(book, &mut pulled).unwrap();
    pulled
}

/// Every file below a folder, with all that a write or a read by SQLite could change.
fn state(dir: &Path) -> Vec<(PathBuf, u64, i64, i64, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(state(&path));
        } else {
            let about = path.metadata().unwrap();
            out.push((
                path.clone(),
                about.ino(),
                about.mtime_nsec(),
                about.ctime_nsec(),
                fs::read(&path).unwrap(),
            ));
        }
    }
    out.sort();
    out
}

#[test]
fn what_is_only_in_the_write_ahead_log_is_read_and_nothing_is_touched() {
    let mut world = World::new();
    world.home.turn(MAIN_ID, "r-1", "hello", "hi");
    assert!(fs::metadata(world.home.database.with_extension("sqlite-wal")).unwrap().len() > 0);
    let before = state(&world.home.path);
    assert_eq!(world.pull(), Pulled { events: 2, ..Pulled::default() });
    assert_eq!(world.book.texts(), ["hello", "hi"]);
    assert!(state(&world.home.path) == before);
    assert!(!world.dir.path().join("scratch").exists());
    // The owner is held up by nothing.
    world
        .home
        .connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .unwrap();
    let first = &world.book.events[0];
    assert_eq!(
        (first.session_key.as_deref(), first.agent_id.as_str(), first.run_id.as_str()),
        (Some(MAIN), "main", "r-1")
    );
}

#[test]
fn a_folder_that_cannot_be_written_to_is_read_too() {
    let mut world = World::new();
    world.home.turn(MAIN_ID, "r-1", "hello", "hi");
    // As a copy of somebody's home: no index of the write-ahead log, which SQLite would want to make.
    fs::remove_file(world.home.database.with_extension("sqlite-shm")).unwrap();
    world.pull();
    assert_eq!(world.book.texts(), ["hello", "hi"]);
    assert!(!world.home.database.with_extension("sqlite-shm").exists());
}

#[test]
fn each_look_brings_what_is_new() {
    let mut world = World::new();
    let mut importer = world.importer();
    for n in 0..5 {
        world.home.turn(MAIN_ID, &format!("r-{n}"), &format!("q{n}"), &format!("a{n}"));
        assert!(importer.has_news().unwrap());
        assert_eq!(pull(&mut importer, &mut world.book).events, 2);
        assert!(!importer.has_news().unwrap());
        assert_eq!(pull(&mut importer, &mut world.book), Pulled::default());
        // And so does a new process.
        assert_eq!(world.pull(), Pulled::default());
    }
    assert_eq!(world.book.texts(), ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3", "q4", "a4"]);
}

/// Everything that OpenClaw writes, in one home.
fn rich() -> World {
    let world = World::new();
    let home = &world.home;
    home.message(MAIN_ID, "r-1", &json!({ "role": "user", "content": "start two" }));
    home.message(
        MAIN_ID,
        "r-1",
        &json!({ "role": "assistant", "content": [{ "type": "thinking", "thinking": "two" }, { "type": "text", "text": "I will." },
            { "type": "toolCall", "id": "c-1", "name": "tool_call", "arguments": { "id": "sessions_spawn", "args": { "task": "x" } } },
            { "type": "toolCall", "id": "c-2", "name": "write", "arguments": { "path": "a" } }] }),
    );
    home.session("agent:main:subagent:u-1", "child-1", Some((MAIN, "haiku")));
    let nested = json!({ "role": "custom", "customType": "openclaw.nested-tool.v1", "content": "", "details": { "runId": "r-1",
        "parentToolCallId": "c-1", "toolCallId": "t:c-1:sessions_spawn:1", "toolName": "sessions_spawn", "input": { "task": "x" },
        "result": { "content": [{ "type": "text", "text": "accepted" }] } } });
    home.message(MAIN_ID, "r-1", &nested);
    let long = json!({ "type": "message", "id": "long", "message": { "role": "toolResult", "toolCallId": "c-2", "toolName": "write",
        "isError": true, "content": [{ "type": "text", "text": "denied ".repeat(900) }], "__openclaw": { "runId": "r-1" } } });
    let packed = compress_to_vec(long.to_string().as_bytes(), CompressionLevel::Fastest);
    let seq = home.raw(MAIN_ID, "{}");
    let update = "UPDATE transcript_events SET event_json = NULL, event_zstd = ?1, event_utf8_bytes = ?2 WHERE session_id = ?3 AND seq = ?4";
    home.connection
        .execute(
            update,
            rusqlite::params![packed, i64::try_from(long.to_string().len()).unwrap(), MAIN_ID, seq],
        )
        .unwrap();
    let task = "[Subagent Context] Do the [Subagent Task].\n\n[Subagent Task]\n\nx\n\nBegin. Execute the assigned task now.";
    home.turn("child-1", "r-child", task, "done");
    home.turn(MAIN_ID, "r-1", "", "both done");
    world
}

#[test]
fn calls_results_and_subagents_are_told_with_their_sessions() {
    let mut world = rich();
    world.pull();
    let denied = format!("result \"{}\"", "denied ".repeat(900));
    assert_eq!(
        world.book.texts(),
        [
            "start two",
            "I will.",
            "call tool_call",
            "call write",
            "call sessions_spawn",
            "result \"accepted\"",
            &denied,
            "both done",
            "spawn haiku",
            &world.book.texts()[9].clone(),
            "done"
        ]
    );
    let spawn = serde_json::to_value(&world.book.events[8]).unwrap();
    let expected = json!({ "childSessionKey": "agent:main:subagent:u-1", "parentSessionKey": MAIN, "childRunId": "r-child",
        "label": "haiku", "task": "x", "runId": "r-1", "sessionKey": MAIN, "agentId": "main", "event": "subagent_spawned" });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&spawn[key], value, "{key}");
    }
    let inner = serde_json::to_value(&world.book.events[4]).unwrap();
    assert_eq!(inner["parentToolCallId"], "c-1");
    let failed = serde_json::to_value(&world.book.events[6]).unwrap();
    assert_eq!(failed["ok"], Value::Bool(false));
    assert_eq!(world.book.events[9].session_key.as_deref(), Some("agent:main:subagent:u-1"));
}

#[test]
fn a_crash_between_any_two_events_loses_and_doubles_nothing() {
    let mut whole = rich();
    whole.pull();
    for room in 0..whole.book.events.len() {
        let mut world = rich();
        world.book.room = Some(room);
        let mut pulled = Pulled::default();
        let error = world.importer().pull(&mut world.book, &mut pulled).unwrap_err();
        assert!(matches!(error.kind, TranscriptsErrorKind::Ledger(_)), "{error}");
        assert_eq!(pulled.events, room as u64);
        world.book.room = None;
        world.pull();
        let kinds = |book: &Book| {
            book.events.iter().map(|event| serde_json::to_string(event).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&world.book), kinds(&whole.book), "after {room}");
    }
}

#[test]
fn an_owner_that_writes_and_checkpoints_all_the_time_is_read_each_event_once() {
    let mut world = World::new();
    let database = world.home.database.clone();
    let done = AtomicBool::new(false);
    let mut importer = world.importer();
    let turns = 400;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = rusqlite::Connection::open(&database).unwrap();
            connection.execute_batch("PRAGMA wal_autocheckpoint = 5; PRAGMA synchronous = OFF;").unwrap();
            let home = OpenClawHome { path: PathBuf::new(), database: PathBuf::new(), connection };
            for n in 0..turns {
                home.turn(MAIN_ID, &format!("r-{n}"), &format!("q{n}"), &format!("a{n}"));
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut looks = 0;
        loop {
            let last = done.load(Ordering::SeqCst);
            match importer.pull(&mut world.book, &mut Pulled::default()) {
                Ok(()) => looks += 1,
                Err(error) => assert!(error.may_pass(), "{error}"),
            }
            if last && !importer.has_news().unwrap() {
                break;
            }
        }
        assert!(looks > 0);
    });
    let expected: Vec<String> = (0..turns).flat_map(|n| [format!("q{n}"), format!("a{n}")]).collect();
    assert!(world.book.texts() == expected, "{:?}", world.book.texts());
}

#[test]
fn events_that_were_replaced_are_told_and_the_new_ones_taken_over() {
    let mut world = World::new();
    for n in 0..4 {
        world.home.turn(MAIN_ID, &format!("r-{n}"), &format!("q{n}"), &format!("a{n}"));
    }
    let mut importer = world.importer();
    pull(&mut importer, &mut world.book);
    // As OpenClaw goes back to an earlier message: the rest is taken away, and places are used again.
    world.home.connection.execute("DELETE FROM transcript_events WHERE seq >= 5", []).unwrap();
    world
        .home
        .connection
        .execute("INSERT INTO transcript_rewrite_watermarks VALUES (?1, 'g2', 1)", [MAIN_ID])
        .unwrap();
    world.home.message(MAIN_ID, "r-9", &json!({ "role": "user", "content": "q9", "x": 1 }));
    let again = format!("e-{MAIN_ID}-new");
    world.home.raw(
        MAIN_ID,
        &json!({ "type": "message", "id": again, "message": { "role": "assistant", "content": "a9" } })
            .to_string(),
    );
    let update = "UPDATE transcript_events SET event_json = replace(event_json, ?1, 'e-other') WHERE seq = 5";
    world.home.connection.execute(update, [format!("e-{MAIN_ID}-5")]).unwrap();
    let pulled = pull(&mut importer, &mut world.book);
    assert_eq!((pulled.events, pulled.rewritten), (2, vec![MAIN.to_owned()]));
    assert_eq!(world.book.texts()[8..], ["q9", "a9"]);
    assert_eq!(pull(&mut importer, &mut world.book), Pulled::default());
    assert_eq!(world.pull(), Pulled::default());
    // Taken away, and nothing in its place.
    world.home.connection.execute("DELETE FROM transcript_events WHERE seq >= 3", []).unwrap();
    assert_eq!(pull(&mut importer, &mut world.book).events, 0);
    world.home.turn(MAIN_ID, "r-10", "q10", "a10");
    pull(&mut importer, &mut world.book);
    let texts = world.book.texts();
    assert_eq!(texts.len(), texts.iter().collect::<BTreeSet<_>>().len(), "{texts:?}");
}

#[test]
fn a_schema_that_is_not_known_is_refused_whole() {
    let mut world = World::new();
    world.home.turn(MAIN_ID, "r-1", "hello", "hi");
    world.home.connection.execute_batch("PRAGMA user_version = 24").unwrap();
    let error = world.importer().pull(&mut world.book, &mut Pulled::default()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("schema version 24 is not known, and nothing of it was read; known is 23"),
        "{said}"
    );
    assert!(world.book.events.is_empty() && !error.may_pass());
}

#[test]
fn a_table_that_is_none_is_not_asked() {
    let mut world = World::new();
    world
        .home
        .connection
        .execute_batch(
            "DROP TABLE transcript_events; CREATE VIEW transcript_events AS WITH RECURSIVE n(i) AS
             (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 's' AS session_id, i AS seq FROM n;",
        )
        .unwrap();
    assert!(matches!(world.fails(), TranscriptsErrorKind::Table("transcript_events")));
}

#[test]
fn links_pipes_and_giants_are_not_read() {
    let mut world = World::new();
    let agent = world.home.path.join("agents/main/agent");
    let kept = world.dir.path().join("kept");
    fs::rename(&agent, &kept).unwrap();
    symlink(&kept, &agent).unwrap();
    assert!(matches!(world.fails(), TranscriptsErrorKind::NotAFile));
    fs::remove_file(&agent).unwrap();
    fs::create_dir(&agent).unwrap();
    let database = agent.join("openclaw-agent.sqlite");
    symlink(kept.join("openclaw-agent.sqlite"), &database).unwrap();
    assert!(matches!(world.fails(), TranscriptsErrorKind::NotAFile));
    fs::remove_file(&database).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &database, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(matches!(world.fails(), TranscriptsErrorKind::NotAFile));
    fs::remove_file(&database).unwrap();
    fs::File::create(&database).unwrap().set_len(3 << 30).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(matches!(world.fails(), TranscriptsErrorKind::TooLarge { .. }));
    fs::write(&database, "no database at all, but long enough to look like one".repeat(100)).unwrap();
    assert!(matches!(world.fails(), TranscriptsErrorKind::Sql(_)));
    assert!(!world.dir.path().join("scratch").exists());
    assert!(matches!(Home::open(world.dir.path()).unwrap_err().kind, TranscriptsErrorKind::NotAHome));
}

#[test]
fn an_event_that_cannot_be_read_is_told_in_its_place() {
    let mut world = World::new();
    world.home.raw(MAIN_ID, "{ broken, and it says psst");
    world.home.turn(MAIN_ID, "r-1", "hello", "hi");
    let pulled = world.pull();
    assert_eq!((pulled.events, pulled.unreadable), (3, 1));
    assert!(world.book.texts()[0].contains("cannot be read") && world.book.texts()[0].contains("psst"));
    assert_eq!(world.book.events[0].run_id, format!("session:{MAIN_ID}"));
}

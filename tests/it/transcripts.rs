//! `sentrix patrol --openclaw-home`: the real binary over OpenClaw's own record, killed and gone on.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::openclaw_db::{MAIN, MAIN_ID, OpenClawHome};
use crate::world::{World, files_below, token};

fn home(world: &World) -> OpenClawHome {
    OpenClawHome::new(&world.root().join("openclaw"))
}

/// All events in the log files, in order.
fn recorded(world: &World) -> Vec<Value> {
    let mut events = Vec::new();
    for (path, bytes) in files_below(&world.logs()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains(".json") && name.starts_with("20") && path.parent().unwrap().ends_with("logs") {
            let text = String::from_utf8(bytes).unwrap();
            events.extend(
                text.lines()
                    .filter(|line| line.starts_with('{'))
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()),
            );
        }
    }
    events
}

const ONCE: &str = "patrol --once --openclaw-home openclaw";

#[test]
fn a_leak_in_the_record_becomes_a_flag_of_its_agent() {
    let world = World::new();
    fs::remove_dir(world.logs()).unwrap();
    let home = home(&world);
    home.turn(MAIN_ID, "r-1", "hello", "hi");
    home.session("agent:main:subagent:u-1", "child", Some((MAIN, "haiku")));
    home.turn("child", "r-2", "leak my key", &format!("here: {}", token(3)));
    let before = files_below(&home.path);
    let ran = world.sentrix(&format!("{ONCE} --format json")).exits(0);
    assert!(
        ran.stderr.contains("writing nothing there") && ran.stderr.contains("after the fact"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("5 events taken over"), "{}", ran.stderr);
    let report = ran.json();
    assert_eq!(report["flags"].as_array().unwrap().len(), 1);
    let flag = &report["flags"][0];
    assert!(flag.to_string().contains("agent:main:subagent:u-1"), "{flag}");
    assert!(flag["turn_ids"][0].as_str().unwrap().starts_with("r-2_"), "{flag}");
    assert!(files_below(&home.path) == before);
    // Nothing twice, and what is new alone.
    assert_eq!(world.sentrix(&format!("{ONCE} --format json")).exits(0).json()["sweeps"], json!([]));
    home.turn(MAIN_ID, "r-3", "again", "yes");
    world.sentrix(ONCE).exits(0);
    let texts: Vec<Value> = recorded(&world).iter().map(|event| event["src"].clone()).collect();
    assert_eq!(texts.len(), 7);
    assert_eq!(texts.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), 7);
    let shown = world.sentrix("logs --tail 9 --agent haiku --format json").exits(0).stdout;
    assert_eq!(shown.lines().count(), 2, "{shown}");
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason_and_the_rest_is_patrolled() {
    let world = World::new();
    let missing = world.sentrix("patrol --once --openclaw-home nowhere").exits(2);
    assert!(missing.stderr.contains("there is no OpenClaw home nowhere"), "{}", missing.stderr);
    fs::create_dir(world.root().join("empty")).unwrap();
    let empty = world.sentrix("patrol --once --openclaw-home empty").exits(2);
    assert!(empty.stderr.contains("no OpenClaw home: it has no folder `agents`"), "{}", empty.stderr);
    let home = home(&world);
    home.turn(MAIN_ID, "r-1", "hello", "hi");
    home.connection.execute_batch("PRAGMA user_version = 99").unwrap();
    world.log("old.json", &[crate::world::end("r-0", 1_000, &format!("it is {}", token(1)))]);
    let newer = world.sentrix(ONCE).exits(3);
    assert!(
        newer.stderr.contains("schema version 99 is not known, and nothing of it was read"),
        "{}",
        newer.stderr
    );
    assert!(newer.stdout.contains("CRITICAL") || newer.stdout.contains("HIGH"), "{}", newer.stdout);
    assert_eq!(recorded(&world), [] as [Value; 0]);
}

#[test]
fn killed_at_any_moment_while_openclaw_writes_each_event_is_there_once() {
    let world = World::new();
    let home = home(&world);
    let database = home.database.clone();
    let turns = 240;
    let writer = std::thread::spawn(move || {
        let connection = Connection::open(&database).unwrap();
        connection.execute_batch("PRAGMA wal_autocheckpoint = 20;").unwrap();
        let home = OpenClawHome { path: String::new().into(), database: String::new().into(), connection };
        for n in 0..turns {
            home.turn(MAIN_ID, &format!("r-{n}"), &format!("q{n}"), &format!("a{n}"));
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut kills = 0;
    while !writer.is_finished() {
        let watch = [
            "patrol",
            "--watch",
            "--interval",
            "1",
            "--openclaw-home",
            "openclaw",
            "--log-dir",
            "logs",
            "--no-police",
        ];
        let mut child = world.command(watch).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(120 + kills * 37 % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    writer.join().unwrap();
    assert!(kills >= 5, "{kills}");
    world.sentrix(ONCE).exits(0);
    let text = |event: &Value| event["text"].as_str().or(event["rawText"].as_str()).unwrap().to_owned();
    let texts: Vec<String> = recorded(&world).iter().map(text).collect();
    let expected: Vec<String> = (0..turns).flat_map(|n| [format!("q{n}"), format!("a{n}")]).collect();
    assert!(texts == expected, "{} of {}: {texts:?}", texts.len(), expected.len());
    let status = world.status();
    assert_eq!((&status["turns"]["seen"], &status["turns"]["pending"]), (&json!(turns), &json!(0)));
}

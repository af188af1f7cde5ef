//! `sentrix logs`: the list, the last entries, those that come, whose they are.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{World, call, end, token, user};

const CHILD: &str = "agent:main:subagent:0a1b2c3d-1";

/// Two agents and a subagent over three files.
fn three_files() -> World {
    let world = World::new();
    world.log(
        "20260101T000000.json",
        &[user("r1", "agent:main:main", 1_767_225_600_000, "one"), end("r1", 1_767_225_601_000, "first")],
    );
    let spawn = json!({ "ts": 1_767_225_602_000_i64, "event": "subagent_spawned", "runId": "r1", "sessionKey": "agent:main:main",
        "childSessionKey": CHILD, "parentSessionKey": "agent:main:main", "label": "haiku", "task": "write" });
    world.log(
        "20260101T001000.json",
        &[
            spawn,
            call("r2", CHILD, 1_767_225_603_000, "read", &json!({ "path": "a" })),
            end("r2", 1_767_225_604_000, "old pond"),
        ],
    );
    world.log(
        "20260101T002000.json",
        &[ops("r3", 1_767_225_605_000, "two"), end("r3", 1_767_225_606_000, "last")],
    );
    world
}

/// A message to another agent than the main one.
fn ops(run: &str, ts: i64, text: &str) -> Value {
    json!({ "ts": ts, "event": "user_message", "runId": run, "sessionKey": "agent:ops:main", "agentId": "ops", "text": text })
}

fn texts(world: &World, line: &str) -> Vec<String> {
    let ran = world.sentrix(&format!("{line} --format json")).exits(0);
    ran.stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_list_shows_sizes_times_and_the_active_file() {
    let world = three_files();
    let active = world.log("20260101T003000.json", &[end("r4", 1_767_225_900_000, "x")]);
    OpenOptions::new().append(true).open(active).unwrap().write_all(b"{\"ts\":1,\"eve").unwrap();
    let list = world.sentrix("logs --format json").exits(0).json();
    assert_eq!(list["version"], 1);
    let files = list["files"].as_array().unwrap();
    let entries: Vec<u64> = files.iter().map(|file| file["entries"].as_u64().unwrap()).collect();
    assert_eq!(entries, [2, 3, 2, 1]);
    assert_eq!(
        (&files[0]["first_ts"], &files[0]["last_ts"]),
        (&json!(1_767_225_600_000_i64), &json!(1_767_225_601_000_i64))
    );
    assert_eq!(
        (&files[3]["active"], &files[3]["incomplete"], &files[0]["active"]),
        (&json!(true), &json!(true), &json!(false))
    );
    let table = world.sentrix("logs").exits(0).stdout;
    assert!(
        table.contains("2026-01-01T00:00:00Z") && table.contains("active, ends within an entry"),
        "{table}"
    );
}

#[test]
fn nothing_yet_is_said_kindly() {
    let world = World::new();
    for line in ["logs", "logs --tail 3"] {
        let ran = world.sentrix(line).exits(0);
        assert!(ran.stdout.starts_with("No log files yet in logs."), "{}", ran.stdout);
    }
    assert_eq!(world.sentrix("logs --tail 3 --format json").exits(0).stdout, "");
    assert_eq!(world.sentrix("logs --format json").exits(0).json()["files"], json!([]));
}

#[test]
fn the_last_entries_of_an_agent_its_session_or_its_label() {
    let world = three_files();
    assert_eq!(texts(&world, "logs --tail 3"), ["old pond", "two", "last"]);
    // The end of a model call says only its run.
    assert_eq!(texts(&world, "logs --tail 9 --agent ops"), ["two", "last"]);
    assert_eq!(texts(&world, "logs --tail 9 --agent haiku"), ["{\"path\":\"a\"}", "old pond"]);
    assert_eq!(texts(&world, &format!("logs --tail 1 --agent {CHILD}")), ["old pond"]);
    assert_eq!(texts(&world, "logs --tail 9 --agent main").len(), 5);
    let none = world.sentrix("logs --tail 9 --agent nobody").exits(0);
    assert!(none.stdout.contains("No entries of `nobody`"), "{}", none.stdout);
    let table = world.sentrix("logs --tail 4").exits(0).stdout;
    let first = table.lines().next().unwrap();
    assert!(
        first.contains("main/0a1b2c3d…") && first.contains("tool_call") && first.contains("read {"),
        "{table}"
    );
    let labelled = world.sentrix("logs --tail 2 --agent haiku").exits(0).stdout;
    assert!(labelled.contains("main/haiku"), "{labelled}");
}

#[test]
fn secrets_are_masked_also_in_pieces_and_controls_are_harmless() {
    let world = World::new();
    let secret = token(5);
    let (head, tail) = secret.split_at(20);
    let piece = |ts: i64, text: &str| {
        format!(
            "{{\"ts\":{ts},\"event\":\"assistant_text_stream\",\"runId\":\"r\",\"evtType\":\"text_delta\",\"delta\":\"{text}\",\"content\":\"\"}}\n"
        )
    };
    let mut log = piece(1_767_225_600_000, &format!("my key is {head}"));
    log.push_str(&piece(1_767_225_600_001, tail));
    let hostile = json!({ "ts": 1_767_225_600_002_i64, "event": "tool_result\u{1b}[2J", "runId": "q\u{1b}", "agentId": "a\u{202e}b", "sessionKey": secret, "tool": "t\u{7}", "output": "\u{1b}]0;x\u{7}" });
    log.push_str(&hostile.to_string());
    fs::write(world.logs().join("a.json"), log).unwrap();
    for line in ["logs --tail 9", "logs --tail 9 --format json"] {
        let ran = world.sentrix(line).exits(0);
        assert!(!ran.stdout.contains(tail) && !ran.stdout.contains(head), "{}", ran.stdout);
        assert!(!ran.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{}", ran.stdout);
        assert!(ran.stdout.contains("my key is ["), "{}", ran.stdout);
    }
}

#[test]
fn bad_options_are_refused_with_the_reason() {
    let world = three_files();
    for (line, why) in [
        ("logs --tail=-1", "-1 is not in 0..=100000"),
        ("logs --tail many", "invalid value 'many'"),
        ("logs --tail 100001", "100001 is not in 0..=100000"),
        ("logs --agent main", "--tail"),
        ("logs --format xml --tail 1", "possible values: table, json"),
    ] {
        let ran = world.sentrix(line).exits(2);
        assert!(ran.stderr.contains(why), "{line}: {}", ran.stderr);
    }
}

/// A follower with its output, line by line.
struct Following {
    child: Child,
    lines: Receiver<String>,
    /// Ends the reading.
    read: Arc<AtomicBool>,
}

impl Following {
    fn new(world: &World, line: &str) -> Self {
        let args = line.split_whitespace().chain(["--log-dir", "logs"]);
        let mut child = world.command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        let read = Arc::new(AtomicBool::new(true));
        let reads = Arc::clone(&read);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(line).is_err() || !reads.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        Self { child, lines, read }
    }

    fn text(&mut self) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(30)).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["text"].as_str().unwrap().to_owned()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn add(world: &World, name: &str, event: &Value) {
    let mut file = OpenOptions::new().create(true).append(true).open(world.logs().join(name)).unwrap();
    file.write_all(format!("{event}\n").as_bytes()).unwrap();
}

#[test]
fn entries_are_followed_over_rotation_until_the_user_leaves() {
    let world = three_files();
    let mut following = Following::new(&world, "logs --follow --tail 1 --format json");
    assert_eq!(following.text(), "last");
    add(&world, "20260101T002000.json", &end("r3", 1_767_225_607_000, "more"));
    assert_eq!(following.text(), "more");
    add(&world, "20260101T002000.json", &end("r3", 1_767_225_608_000, "even more"));
    add(&world, "20260101T003000.json", &end("r3", 1_767_225_609_000, "rotated"));
    assert_eq!((following.text().as_str(), following.text().as_str()), ("even more", "rotated"));
    let pid = following.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(following.lines.recv_timeout(Duration::from_secs(30)).is_err());
    assert_eq!(following.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_follower_of_one_agent_learns_whose_a_new_run_is() {
    let world = three_files();
    let mut following = Following::new(&world, "logs --follow --tail 1 --agent ops --format json");
    // From here on it follows.
    assert_eq!(following.text(), "last");
    add(&world, "20260101T002000.json", &user("r9", "agent:main:main", 1_767_225_607_000, "not this"));
    add(&world, "20260101T002000.json", &ops("r8", 1_767_225_607_001, "this"));
    add(&world, "20260101T002000.json", &end("r8", 1_767_225_607_002, "and this"));
    assert_eq!((following.text().as_str(), following.text().as_str()), ("this", "and this"));
    // Nobody reads any more: that ends it, and is no fault.
    following.read.store(false, Ordering::SeqCst);
    for n in 0..100 {
        add(&world, "20260101T002000.json", &end("r8", 1_767_225_608_000, &format!("to nobody {n}")));
        if let Some(status) = following.child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it goes on for nobody");
}

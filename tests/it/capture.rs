//! A capture in a process of its own that is killed and killed again, while a scripted OpenClaw works and restarts: what is
//! in the log files is what happened, each once.
#![allow(clippy::disallowed_methods, clippy::duration_suboptimal_units, reason = "a test measures real time")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use sentrix::capture::{Capture, Settings};
use sentrix::clock;
use sentrix::gateway::{Address, Connect};
use sentrix::logs::{self, Assembler, LogsError, Reject, Sink, TurnRecord};
use sentrix::supervise::Shutdown;
use serde_json::Value;

use crate::fake_openclaw::FakeOpenClaw;

/// Set in a process that captures: the folder of the world.
const FOLDER: &str = "SENTRIX_TEST_CAPTURE_FOLDER";

fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::new("box", folder.join("logs"));
    settings.raw = Some(folder.join("raw").join("raw.jsonl"));
    settings.raw_rotate_bytes = Some(1 << 20);
    settings.rotate = Duration::from_secs(20);
    let token = std::fs::read_to_string(folder.join("token")).unwrap_or_default();
    let socket = folder.join("gateway").join("gateway.sock");
    settings.gateway = Some(Connect::new(Address::Socket(socket), SecretString::from(token)));
    settings
}

/// The process that is killed; does nothing where the variable is not set.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child apart")]
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let shutdown = Shutdown::new();
        shutdown.listen();
        let capture = Capture::start(settings(&folder), clock::system(), &shutdown, None).unwrap();
        let mut status = capture.status();
        while !shutdown.drain().is_cancelled() {
            tokio::select! {
                _ = status.changed() => {
                    let status = status.borrow_and_update().clone();
                    std::fs::write(folder.join("status"), format!("{status:#?}")).unwrap();
                    assert!(status.is_balanced(), "{status:?}");
                    let quiet = status.lag_bytes == 0 && status.raw.held == 0 && status.gateway.held == 0;
                    std::fs::write(folder.join("quiet"), if quiet && status.link == sentrix::capture::Link::Live { "yes" } else { "no" }).unwrap();
                }
                () = shutdown.drain().cancelled() => {}
            }
        }
        capture.drain().await;
        std::fs::write(folder.join("status"), format!("{:#?}", *status.borrow_and_update())).unwrap();
    });
}

fn spawn(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "capture::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("stderr")).unwrap())
        .spawn()
        .unwrap()
}

/// Every event of the log files, in order; none may be broken.
fn events(dir: &Path) -> Vec<Value> {
    let mut events = Vec::new();
    for file in logs::list(dir).unwrap() {
        let text = std::fs::read_to_string(dir.join(&file.name)).unwrap();
        let array: Vec<Value> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.name));
        events.extend(array);
    }
    events
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

/// Compares what was recorded with what happened: nothing missing, nothing twice, nothing else.
fn compare(what: &str, recorded: &BTreeMap<String, u32>, happened: &BTreeMap<String, u32>) {
    let missing: Vec<_> = happened.keys().filter(|name| !recorded.contains_key(*name)).take(5).collect();
    let other: Vec<_> =
        recorded.iter().filter(|(name, count)| happened.get(*name) != Some(count)).take(5).collect();
    assert!(missing.is_empty() && other.is_empty(), "{what}: missing {missing:?}, wrong {other:?}");
}

fn raw_name(event: &Value) -> String {
    let part = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    ["runId", "evtType", "delta", "content", "rawText"].map(part).join("|") + &event["ts"].to_string()
}

fn check(openclaw: &FakeOpenClaw, dir: &Path) {
    let events = events(dir);
    let of = |name: &str| events.iter().filter(move |event| event["event"] == name).collect::<Vec<_>>();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    openclaw.with_produced(|produced| {
        let raw = events.iter().filter(|event| {
            matches!(
                event["event"].as_str(),
                Some("assistant_text_stream" | "assistant_thinking_stream" | "assistant_message_end")
            )
        });
        compare("raw lines", &counted(raw.map(raw_name)), &counted(produced.raw.iter().map(raw_name)));
        let users =
            counted(of("user_message").iter().map(|event| text(event, "runId") + "|" + &text(event, "text")));
        compare(
            "users",
            &users,
            &counted(produced.users.values().map(|(run, said)| format!("{run}|{said}"))),
        );
        let call = |event: &&Value| text(event, "runId") + "/" + &text(event, "toolCallId");
        let calls = counted(produced.calls.iter().cloned());
        compare("calls", &counted(of("tool_call").iter().map(call)), &calls);
        compare("results", &counted(of("tool_result").iter().map(call)), &calls);
        let spawned = of("subagent_spawned");
        let spawned = spawned
            .iter()
            .map(|event| text(event, "childSessionKey") + "|" + &text(event, "parentSessionKey"));
        compare(
            "spawned",
            &counted(spawned),
            &counted(produced.spawned.iter().map(|(child, parent)| format!("{child}|{parent}"))),
        );
        let incidents = of("sentrix_incident");
        let fine = ["capture_gap", "capture_blocked"];
        let bad: Vec<_> =
            incidents.iter().filter(|event| !fine.contains(&event["kind"].as_str().unwrap())).collect();
        assert!(bad.is_empty(), "{bad:?}");

        let mut told = Told::default();
        let stats = logs::read(dir, &mut Vec::new(), &mut Assembler::new(), &mut told).unwrap();
        assert_eq!((stats.rejected, stats.unknown_events, told.rejects), (0, 0, 0));
        let ends = produced.raw.iter().filter(|line| line["event"] == "assistant_message_end").count();
        let ended: Vec<_> =
            told.turns.values().filter(|turn| turn.ended && !turn.run_id.starts_with("sentrix:")).collect();
        assert_eq!(ended.len(), ends, "a turn each model call");
        let wrong =
            ended.iter().filter(|turn| turn.session_key.as_ref() != produced.runs.get(&turn.run_id)).count();
        assert_eq!(wrong, 0, "turns of another session, or of none");
        // What was heard live or caught up on in time stands before the answer.
        let mut begun = std::collections::BTreeSet::new();
        let mut late = 0;
        for event in &events {
            let run = text(event, "runId");
            match event["event"].as_str() {
                Some("user_message") => {
                    begun.insert(run);
                }
                Some("assistant_message_end") if !begun.contains(&run) => {
                    late += 1;
                    begun.insert(run);
                }
                _ => {}
            }
        }
        eprintln!(
            "{} events, {} turns, {late} of {} runs with their message after the first answer, {} files",
            events.len(),
            ended.len(),
            produced.runs.len(),
            logs::list(dir).unwrap().len()
        );
        assert!(late * 50 <= produced.runs.len(), "{late} runs are out of order");
    });
}

#[derive(Default)]
struct Told {
    turns: BTreeMap<String, TurnRecord>,
    rejects: u32,
}

impl Sink for Told {
    fn turn(&mut self, record: TurnRecord) -> Result<(), LogsError> {
        self.turns.insert(format!("{:?}", record.id), record);
        Ok(())
    }

    fn reject(&mut self, _: Reject) -> Result<(), LogsError> {
        self.rejects += 1;
        Ok(())
    }

    fn identity(&mut self, identity: logs::Identity<'_>) -> Result<(), LogsError> {
        for turn in self.turns.values_mut().filter(|turn| turn.run_id == identity.run_id) {
            turn.session_key = identity.session_key.map(str::to_owned);
        }
        Ok(())
    }
}

/// Bytes of all log files.
fn written(dir: &Path) -> u64 {
    let files = logs::list(dir).unwrap_or_default();
    files.iter().filter_map(|file| std::fs::metadata(dir.join(&file.name)).ok()).map(|file| file.len()).sum()
}

/// Makes `turns` turns in bursts, kills the capture `kills` times and restarts OpenClaw `restarts` times meanwhile.
async fn play(turns: u64, kills: u64, restarts: u64) {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    let logs = folder.join("logs");
    let openclaw = FakeOpenClaw::new(folder);
    let mut gateway = Shutdown::new();
    openclaw.serve(&gateway);
    let mut child = spawn(folder);
    let began = Instant::now();
    let at_each = |count: u64, number: u64| {
        count > 0 && number % (turns / (count + 1)).max(1) == turns / (count + 1) / 2
    };
    let (mut killed, mut restarted, mut back) = (0, 0, None);
    for number in 1..=turns {
        openclaw.turn(number);
        if number % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if at_each(kills, number) && killed < kills {
            killed += 1;
            // It dies before it has written anything, or while it writes.
            let (before, patience) = (written(&logs), Instant::now() + Duration::from_secs(30));
            while killed % 2 == 0 && back.is_none_or(|back| back < number) && written(&logs) == before {
                assert!(
                    Instant::now() < patience,
                    "{}",
                    std::fs::read_to_string(folder.join("status")).unwrap()
                );
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            // Some turns go by unheard.
            for more in 0..5 {
                openclaw.turn(turns + killed * 10 + more);
            }
            child = spawn(folder);
        }
        if at_each(restarts, number) && restarted < restarts {
            restarted += 1;
            gateway.drain().cancel();
            gateway.abort().cancel();
            back = Some(number + 40);
        }
        if back == Some(number) {
            gateway = Shutdown::new();
            openclaw.serve(&gateway);
        }
    }
    let made = began.elapsed();
    assert_eq!((killed, restarted), (kills, restarts));
    let deadline = Instant::now() + Duration::from_secs(60);
    drop(std::fs::remove_file(folder.join("quiet")));
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if std::fs::read_to_string(folder.join("quiet")).is_ok_and(|quiet| quiet == "yes") {
            break;
        }
        assert!(
            child.try_wait().unwrap().is_none() && Instant::now() < deadline,
            "{}\n{}",
            std::fs::read_to_string(folder.join("status")).unwrap_or_default(),
            std::fs::read_to_string(folder.join("stderr")).unwrap_or_default()
        );
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    eprintln!("{turns} turns in {made:?}, all of it after {:?}", began.elapsed());
    check(&openclaw, &logs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_over_kills_and_restarts() {
    play(5_000, 20, 3).await;
}

/// A file system of one megabyte, if this process may mount one.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "sentrix-test"]).arg(at).status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: a small file system cannot be mounted here");
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_everything_back_until_there_is_room() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    let Some(_small) = Small::mount(&folder.join("logs")) else { return };
    let openclaw = FakeOpenClaw::new(folder);
    let gateway = Shutdown::new();
    openclaw.serve(&gateway);
    let ballast = folder.join("logs").join("ballast");
    std::fs::write(&ballast, vec![0; 800 << 10]).unwrap();
    let shutdown = Shutdown::new();
    let capture = Capture::start(settings(folder), clock::system(), &shutdown, None).unwrap();
    let mut status = capture.status();
    for number in 1..=300 {
        openclaw.turn(number);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    status.wait_for(|status| status.blocked.is_some()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(status.borrow().blocked.is_some() && status.borrow().is_balanced(), "{:?}", *status.borrow());
    std::fs::remove_file(&ballast).unwrap();
    let quiet = |status: &sentrix::capture::Status| {
        status.blocked.is_none()
            && status.lag_bytes == 0
            && status.raw.held == 0
            && status.gateway.held == 0
            && status.link == sentrix::capture::Link::Live
    };
    tokio::time::timeout(Duration::from_secs(40), status.wait_for(quiet)).await.unwrap().unwrap();
    capture.drain().await;
    let logs = folder.join("logs");
    let told: Vec<Value> =
        events(&logs).into_iter().filter(|event| event["event"] == "sentrix_incident").collect();
    assert!(told.iter().all(|event| event["kind"] == "capture_blocked") && !told.is_empty(), "{told:?}");
    check(&openclaw, &logs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_capture_costs_little() {
    let world = tempfile::tempdir().unwrap();
    let folder = world.path();
    let openclaw = FakeOpenClaw::new(folder);
    openclaw.serve(&Shutdown::new());
    openclaw.turn(1);
    let mut child = spawn(folder);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let ticks = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks(child.id());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let spent = ticks(child.id()) - before;
    let memory = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let memory = memory.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    eprintln!("idle: {spent} ticks of 10 ms in ten seconds, {memory}");
    // One hundredth of a core is ten ticks.
    assert!(spent <= 10, "{spent} ticks of 10 ms in 10 s");
}

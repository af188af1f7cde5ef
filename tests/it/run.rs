//! `sentrix run` from the outside: a real engine, the real OpenClaw, a scripted model on this machine behind the door.
#![allow(
    clippy::disallowed_methods,
    clippy::duration_suboptimal_units,
    reason = "a test measures real time, and asks its surroundings"
)]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent_model::AgentModel;
use crate::agent_script::planted_key;
use crate::world::{Ran, World};

/// A key for the model that must show up nowhere but in its requests.
const KEY: &str = "test-key-of-the-scripted-model-91c2";

/// The image that `tests/run` built; `None`, loudly, where there is no engine.
fn image() -> Option<String> {
    let image = std::env::var("SENTRIX_TEST_IMAGE").ok();
    let answers = Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success());
    if let (Some(image), true) = (image, answers) {
        return Some(image);
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have an engine and SENTRIX_TEST_IMAGE");
    eprintln!("SKIPPED, NOT TESTED: no Docker engine, or no SENTRIX_TEST_IMAGE; bash tests/run makes both");
    None
}

/// `sentrix run` under way, taken away with everything even where the test fails.
struct Running {
    world: World,
    model: AgentModel,
    child: Child,
    name: String,
    port: String,
}

impl Running {
    fn start(name: &str, image: &str, more: &[&str]) -> Self {
        let model = AgentModel::start();
        let world = World::new();
        let state = world.root().join("state");
        let world = world
            .with_env("XDG_STATE_HOME", state.to_str().unwrap())
            .with_env("SENTRIX_AGENT_PROVIDER", "custom")
            .with_env("SENTRIX_AGENT_MODEL", "mock-1")
            .with_env("SENTRIX_CUSTOM_BASE_URL", &model.url())
            .with_env("SENTRIX_AGENT_API_KEY", KEY);
        let name = format!("t-{name}-{}", std::process::id());
        let port = free_port().to_string();
        let child = Self::spawn(&world, &name, image, &port, more);
        Self { world, model, child, name, port }
    }

    /// Ends the process as a crash does, and starts another that goes on with the sandbox.
    fn crash_and_attach(&mut self, image: &str) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::fs::write(self.world.root().join("said"), "").unwrap();
        self.child = Self::spawn(&self.world, &self.name, image, &self.port, &["--attach", "--patrol"]);
        self.until("it goes on", Duration::from_secs(60), |this| this.said().contains("watching "));
    }

    fn spawn(world: &World, name: &str, image: &str, port: &str, more: &[&str]) -> Child {
        let said = File::options().create(true).append(true).open(world.root().join("said")).unwrap();
        let args = ["run", "--name", name, "--image", image, "--log-dir", "logs", "--port", port];
        world
            .command(args.iter().chain(more))
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.world.root().join("state/sentrix").join(&self.name)
    }

    /// What it printed.
    fn said(&self) -> String {
        std::fs::read_to_string(self.world.root().join("said")).unwrap()
    }

    /// Waits until it says that all is well.
    fn ready(mut self) -> Self {
        self.until("it is ready", Duration::from_secs(200), |this| this.said().contains("watching "));
        self
    }

    fn until(&mut self, what: &str, limit: Duration, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended ({ended:?}) before {what}:\n{}", self.said());
            assert!(began.elapsed() < limit, "not {what} within {limit:?}:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn chat(&self, text: &str) -> Ran {
        self.world.run(["chat", "--name", &self.name, "-m", text])
    }

    /// Every event in the log files.
    fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.world.logs()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        {
            let text = std::fs::read_to_string(path).unwrap();
            let lines = text.lines().filter(|line| line.starts_with('{'));
            all.extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
        all
    }

    fn find(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        self.until(what, Duration::from_secs(20), |this| {
            found = this.events().into_iter().find(|event| is_it(event));
            found.is_some()
        });
        found.unwrap()
    }

    fn stop(&mut self) -> ExitStatus {
        self.world.run(["stop", "--name", &self.name]).exits(0);
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "still there after stop:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let container = format!("sentrix-{}", self.name);
        drop(docker(&["rm", "-f", "-v", &container]));
        drop(docker(&["network", "rm", &container]));
    }
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn is(event: &Value, name: &str) -> bool {
    event["event"] == name
}

/// Every file below a folder, sockets and the like left out.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}

#[test]
fn start_chat_watch_and_stop() {
    let Some(image) = image() else { return };
    let mut run = Running::start("e2e", &image, &["--patrol"]).ready();
    let container = format!("sentrix-{}", run.name);

    // A chat goes to the model behind the door and comes back.
    let said = run.chat("MOCK:plain good morning").exits(0);
    assert!(said.stdout.contains("[m"), "{}", said.stdout);
    let asked = run.model.requests();
    assert!(asked.iter().all(|call| call.key.as_deref() == Some(KEY)), "the key did not arrive");
    run.find("the user's message is recorded", |event| {
        is(event, "user_message") && event["text"].as_str().unwrap().contains("good morning")
    });

    // A command is refused, and that is on record.
    run.chat("MOCK:exec").exits(0);
    let call =
        run.find("the tool call is recorded", |event| is(event, "tool_call") && event["tool"] == "exec");
    assert_eq!(call["sessionKey"], "agent:main:main");
    let result = run.find("its refusal is recorded", |event| {
        is(event, "tool_result") && event["toolCallId"] == call["toolCallId"]
    });
    assert_eq!(result["ok"], false, "{result}");

    // A file is written in the workspace, and lies on the host.
    run.chat("MOCK:write").exits(0);
    let hello = run.folder().join("home/workspace/hello.txt");
    assert!(hello.is_file(), "{}", hello.display());

    // A subagent is started, and its turns are its own.
    run.chat("MOCK:spawn").exits(0);
    let spawned = run.find("the subagent is recorded", |event| is(event, "subagent_spawned"));
    assert_eq!(spawned["parentSessionKey"], "agent:main:main");
    let child = spawned["childSessionKey"].as_str().unwrap().to_owned();
    run.find("the subagent's end is recorded under its own key", |event| {
        is(event, "assistant_message_end") && event["sessionKey"] == child.as_str()
    });
    run.find("its parent is told", |event| {
        is(event, "assistant_message_end") && event["runId"].as_str().unwrap().starts_with("announce:")
    });

    // An injected turn leaks a key: the patrol flags that turn of that agent within seconds, and the police writes the case.
    run.chat("Please MOCK:plain leak my key").exits(0);
    let leak = run.find("the leak is recorded", |event| {
        is(event, "assistant_message_end")
            && event["rawText"].as_str().is_some_and(|text| text.contains(&planted_key()))
    });
    let recorded = Instant::now();
    let turn = format!("{}_{}", leak["runId"].as_str().unwrap(), leak["ts"]);
    let world_flags = |run: &Running| run.world.sentrix("police --flags --format json");
    let mut flag = Value::Null;
    run.until("the leak is flagged", Duration::from_secs(5), |run| {
        let flags = world_flags(run);
        if flags.code != Some(0) {
            return false;
        }
        let flags = flags.json();
        let all = flags.as_array().or_else(|| flags["flags"].as_array()).unwrap().clone();
        let named =
            |flag: &&Value| flag["turn_ids"].as_array().unwrap().iter().any(|id| *id == turn.as_str());
        flag = all.iter().find(named).cloned().unwrap_or_default();
        !flag.is_null()
    });
    eprintln!("flagged {:?} after it was recorded", recorded.elapsed());
    assert_eq!(flag["stream"], "agent:main:main");
    let id = flag["flag_id"].as_str().unwrap().to_owned();
    run.until("the case is written", Duration::from_secs(10), |run| {
        let cases = run.world.sentrix("police --cases --format json");
        cases.code == Some(0) && cases.stdout.contains(&id)
    });

    // The key is nowhere that anybody can look at.
    let inspected = docker(&["inspect", &container]);
    assert!(inspected.contains(&container));
    let processes = Command::new("ps").args(["auxww"]).output().unwrap().stdout;
    let mut logs = Vec::new();
    files(&run.world.logs(), &mut logs);
    let mut places =
        vec![("docker inspect", inspected), ("ps", String::from_utf8_lossy(&processes).into_owned())];
    places.push(("what was printed", run.said()));
    for path in &logs {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        places.push(("the data directory", String::from_utf8_lossy(&bytes).into_owned()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    for (place, text) in &places {
        assert!(!text.contains(KEY), "the key is in {place}");
    }

    // Nothing stays behind.
    let status = run.stop();
    assert_eq!(status.code(), Some(0), "{}", run.said());
    let label = format!("label=dev.sentrix.name={}", run.name);
    for list in [["ps", "-aq"], ["network", "ls"], ["volume", "ls"]] {
        let left = docker(&[
            list[0],
            list[1],
            if list[1] == "ls" { "-q" } else { "--no-trunc" },
            "--filter",
            &label,
        ]);
        assert_eq!(left.trim(), "", "{list:?}");
    }
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&run.name), "{mounts}");
    for gone in ["token", "secrets", "config", "control.sock", "door", "gateway"] {
        assert!(!run.folder().join(gone).exists(), "{gone} is still there");
    }
    // What the agent made is the user's, and stays.
    assert!(hello.is_file());
}

/// Numbers of the model's answers that the log has, in order of the log.
fn numbers(events: &[Value]) -> Vec<u64> {
    let number = |event: &Value| {
        let text = event["rawText"].as_str()?;
        let (_, rest) = text.rsplit_once("[m")?;
        rest.strip_suffix(']')?.parse().ok()
    };
    events.iter().filter(|event| is(event, "assistant_message_end")).filter_map(number).collect()
}

#[test]
fn crashes_and_restarts_lose_nothing_and_double_nothing() {
    let Some(image) = image() else { return };
    let mut run = Running::start("crash", &image, &["--patrol"]).ready();
    let container = format!("sentrix-{}", run.name);

    // Beside the run, an observer of another kind sees the same through the port, without the sandbox's folders.
    let token = run.folder().join("token");
    let url = format!("ws://127.0.0.1:{}", run.port);
    let observer_said = File::create(run.world.root().join("observer")).unwrap();
    let observed = [
        "run",
        "--gateway",
        &url,
        "--token-file",
        token.to_str().unwrap(),
        "--log-dir",
        "observed",
        "--no-patrol",
    ];
    let mut observer = run
        .world
        .command(observed)
        .stderr(observer_said.try_clone().unwrap())
        .stdout(observer_said)
        .spawn()
        .unwrap();
    let observed_log = run.world.root().join("observed");
    run.until("the observer watches", Duration::from_secs(20), |this| {
        std::fs::read_to_string(this.world.root().join("observer")).unwrap().contains("watching ")
    });

    run.chat("MOCK:plain one").exits(0);
    // The run dies while a long answer comes; what comes meanwhile is recorded by the next one.
    let slow = run
        .world
        .command(["chat", "--name", &run.name, "-m", "MOCK:many 6"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut slow = slow.unwrap();
    std::thread::sleep(Duration::from_millis(300));
    run.crash_and_attach(&image);
    // A message that comes while a turn is under way may become part of it: the next one waits.
    run.find("the long turn ends", |event| {
        is(event, "assistant_message_end")
            && event["rawText"].as_str().is_some_and(|text| text.contains("Made 6"))
    });
    drop(slow.kill());
    drop(slow.wait());
    // A second run of the same name is refused, and so is one on the same port.
    let second =
        run.world.run(["run", "--name", &run.name, "--image", &image, "--log-dir", "logs2", "--port", "1"]);
    assert_eq!(second.code, Some(4), "{}", second.stderr);
    let second = run.world.run([
        "run",
        "--name",
        "other",
        "--image",
        &image,
        "--log-dir",
        "logs2",
        "--port",
        &run.port,
    ]);
    assert_eq!(second.code, Some(3), "{}", second.stderr);
    assert!(second.stderr.contains("--port"), "{}", second.stderr);

    run.chat("MOCK:plain two").exits(0);
    docker(&["restart", "-t", "10", &container]);
    run.until("OpenClaw is back", Duration::from_secs(120), |this| {
        this.chat("MOCK:plain three").code == Some(0)
    });
    run.crash_and_attach(&image);
    run.chat("MOCK:plain four").exits(0);

    // Each answer of the model is in the log once, as soon as all has been said.
    let turns = |run: &Running| {
        let calls = run.model.requests();
        let mut turns: Vec<u64> = calls
            .iter()
            .filter(|call| {
                call.answered && call.answer.tool.is_none() && call.kind != crate::agent_script::Kind::Recap
            })
            .map(|call| call.number)
            .collect();
        turns.sort_unstable();
        turns
    };
    let mut logged = Vec::new();
    run.until("every answer is recorded", Duration::from_secs(30), |run| {
        logged = numbers(&run.events());
        logged.sort_unstable();
        let wanted = turns(run);
        logged.len() >= wanted.len() && wanted.iter().all(|number| logged.contains(number))
    });
    let mut once = logged.clone();
    once.dedup();
    assert_eq!(logged, once, "an answer is recorded twice");
    let said = |text: &str| {
        let of = |event: &&Value| is(event, "user_message") && event["text"].as_str().unwrap().contains(text);
        run.events().iter().filter(of).count()
    };
    for text in ["plain one", "many 6", "plain two", "plain three", "plain four"] {
        assert_eq!(said(text), 1, "{text}");
    }
    let calls: Vec<String> = run
        .events()
        .iter()
        .filter(|event| is(event, "tool_call"))
        .map(|event| event["toolCallId"].as_str().unwrap().to_owned())
        .collect();
    let mut distinct = calls.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(calls.len(), distinct.len(), "a tool call is recorded twice: {calls:?}");
    assert!(calls.len() >= 6, "{calls:?}");

    // The observer has lost its connection twice, has asked for what it missed, and ends in order.
    let seen = || {
        let mut all = Vec::new();
        files(&observed_log, &mut all);
        let read = |path: &PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        all.iter().map(read).collect::<String>()
    };
    for text in ["plain one", "plain two", "plain four"] {
        run.until("the observer has seen every message", Duration::from_secs(60), |_| seen().contains(text));
    }
    let interrupted = Command::new("kill").args(["-INT", &observer.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(observer.wait().unwrap().code(), Some(0));
    assert_eq!(run.stop().code(), Some(0), "{}", run.said());
}

#[test]
fn bad_options_are_refused_with_the_way_out_before_anything_is_touched() {
    let world =
        World::new().with_env("SENTRIX_AGENT_PROVIDER", "custom").with_env("SENTRIX_AGENT_MODEL", "m");
    let state = world.root().join("state");
    let world = world
        .with_env("XDG_STATE_HOME", state.to_str().unwrap())
        .with_env("SENTRIX_CUSTOM_BASE_URL", "http://127.0.0.1:9/v1");
    let refused = |args: &[&str], code: i32, says: &str| {
        let all: Vec<&str> = ["run", "--log-dir", "logs"].iter().chain(args).copied().collect();
        let ran = world.run(all);
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{args:?} should say `{says}`: {}", ran.stderr);
    };
    refused(&["--rotate-mins", "-5"], 2, "rotate-mins");
    refused(&["--rotate-mins", "0"], 2, "1..=1440");
    refused(&["--timeout", "x"], 2, "timeout");
    refused(&["--port", "0"], 2, "port");
    refused(&["--name", "../etc"], 2, "lower-case letters");
    refused(&["--memory", "lots"], 2, "2g");
    refused(&["--relax", "everything"], 2, "seccomp");
    refused(&["--egress", "some"], 2, "door");
    refused(&["--cpus", "0"], 2, "0.5");
    refused(&["-e", "A-B=secretvalue"], 2, "NAME=VALUE");
    refused(&["-e", "NOT_SET_ANYWHERE"], 2, "NOT_SET_ANYWHERE");
    refused(&["--gateway", "ws://127.0.0.1:1"], 2, "--token-file");
    refused(&["--gateway", "http://127.0.0.1:1", "--token-file", "t"], 2, "--gateway");
    refused(&["--attach", "--name", "none"], 2, "--attach");
    // Nobody's engine: what was tried, and what to do.
    let ran = world
        .command(["run", "--log-dir", "logs"])
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(3), "{said}");
    assert!(said.contains("/nonexistent/docker.sock") && said.contains("DOCKER_HOST"), "{said}");
    // Without a model there is nothing to run.
    let bare = World::new();
    let ran = bare.run(["run", "--log-dir", "logs"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("-e ANTHROPIC_API_KEY") && ran.stderr.contains("sentrix setup"),
        "{}",
        ran.stderr
    );
}

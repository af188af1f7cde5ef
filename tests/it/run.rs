//! `sentrix run` from the outside: a real engine, the real OpenClaw, a scripted model on this machine behind the door.

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
        Self { world, model, child, name }
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

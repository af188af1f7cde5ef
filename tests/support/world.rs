//! A world for a test of the real binary: a directory of its own, no key, no colour, and the command's outcome whole.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// A log directory and the binary.
#[derive(Debug)]
pub(crate) struct World {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}\n{}", self.stdout, self.stderr))
    }

    /// The same, and it must have ended with this code.
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

impl World {
    /// An empty world.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        Self { dir, env: Vec::new() }
    }

    /// The world's own directory: commands run here.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// The log directory.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    /// Sets a variable for every command.
    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Writes a log file as OpenClaw's raw stream has it: one event a line.
    pub(crate) fn log(&self, name: &str, events: &[Value]) -> PathBuf {
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        let path = self.logs().join(name);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    }

    /// The binary with arguments, in this world and with nothing of the outer environment that it reads.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentrix"));
        command.args(args).current_dir(self.root()).stdin(Stdio::null());
        for name in sentrix::config::env::ALL {
            command.env_remove(name.name);
        }
        command.env("NO_COLOR", "1");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let output = self.command(args).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command line on this world's log directory.
    pub(crate) fn sentrix(&self, line: &str) -> Ran {
        self.run(line.split_whitespace().chain(["--log-dir", "logs"]))
    }

    /// One patrol, as JSON.
    pub(crate) fn patrol(&self) -> Value {
        self.sentrix("patrol --once --format json").exits(0).json()
    }

    /// `patrol status`, as JSON.
    pub(crate) fn status(&self) -> Value {
        self.sentrix("patrol status --format json").exits(0).json()
    }
}

/// The event that ends a turn.
pub(crate) fn end(run: &str, ts: i64, text: &str) -> Value {
    json!({ "ts": ts, "event": "assistant_message_end", "runId": run, "rawText": text, "rawThinking": "" })
}

/// A message of the user.
pub(crate) fn user(run: &str, session: &str, ts: i64, text: &str) -> Value {
    json!({ "ts": ts, "event": "user_message", "runId": run, "sessionKey": session, "agentId": "main", "text": text })
}

/// A tool call.
pub(crate) fn call(run: &str, session: &str, ts: i64, tool: &str, args: &Value) -> Value {
    json!({ "ts": ts, "event": "tool_call", "runId": run, "sessionKey": session, "agentId": "main",
        "toolCallId": format!("c{ts}"), "tool": tool, "args": args })
}

/// A made-up GitHub token of the right form.
pub(crate) fn token(seed: u32) -> String {
    let alphabet: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let mut state = u64::from(seed) * 2_654_435_761 + 12_345;
    let body: String = (0..36)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
        })
        .collect();
    format!("ghp_{body}")
}

/// Every file below a folder, with its bytes.
pub(crate) fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(files_below(&path));
        } else {
            out.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    out.sort();
    out
}

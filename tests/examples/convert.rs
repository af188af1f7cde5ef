//! Turns recordings of OpenClaw 2026.9.6 into log files of Sentrix, as the capture would have written them.
//!
//! `cargo run --example convert_captures -- OUT_DIR RAW_STREAM.jsonl OTHER.jsonl..`
//!
//! The first file is a raw stream and is kept line by line. The others are gateway frames (`{t, dir, frame}`) or exported
//! transcripts (`{_session_key, event}`): of these, only what people and agents said and which tools ran is taken, field
//! by field, so that no token, signature or host name comes along. Runs in which a command was run or a file outside
//! of the workspace was read are written to a file of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sentrix::clock::TestClock;
use sentrix::logs::LogWriter;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Events by time.
#[derive(Default)]
struct Events {
    all: Vec<Event>,
    /// Tool calls and results that were taken already, by run and call id.
    calls: BTreeSet<(String, String)>,
    results: BTreeSet<(String, String)>,
    /// The run of each call id, and what a subagent was asked to do.
    run_of_call: BTreeMap<String, String>,
    spawns: BTreeMap<String, Spawn>,
}

/// An event, and the line that it is in the log.
struct Event {
    ts: i64,
    value: Value,
    line: Box<RawValue>,
}

/// A `sessions_spawn`, waiting for its answer.
struct Spawn {
    run: String,
    session: String,
    task: String,
    label: String,
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let out = args.next().context("OUT_DIR is missing")?;
    let raw = args.next().context("RAW_STREAM.jsonl is missing")?;
    let mut events = Events::default();
    for file in args {
        for line in fs::read_to_string(&file).with_context(|| file.clone())?.lines() {
            events.observed(&serde_json::from_str(line)?);
        }
    }
    let mut raw_events = Vec::new();
    for line in fs::read_to_string(&raw).with_context(|| raw.clone())?.lines() {
        let value: Value = serde_json::from_str(line)?;
        let line = RawValue::from_string(line.to_owned())?;
        raw_events.push(Event { ts: int(&value, "/ts"), value, line });
    }
    events.merge(raw_events);
    events.write(Path::new(&out))
}

impl Events {
    /// Puts what was observed between the lines of a raw stream, whose own order, or disorder, stays.
    fn merge(&mut self, raw: Vec<Event>) {
        self.all.sort_by_key(|event| event.ts);
        let mut observed = std::mem::take(&mut self.all).into_iter().peekable();
        for event in raw {
            while let Some(earlier) = observed.next_if(|observed| observed.ts <= event.ts) {
                self.all.push(earlier);
            }
            self.all.push(event);
        }
        self.all.extend(observed);
    }

    fn observed(&mut self, line: &Value) {
        if let Some(payload) = line.pointer("/frame/payload") {
            match text(line, "/frame/event").as_str() {
                "session.message" => {
                    self.message(payload, &text(payload, "/sessionKey"), int(line, "/t"));
                }
                "session.tool" | "agent" if payload.pointer("/data/toolCallId").is_some() => {
                    self.tool(payload);
                }
                _ => {}
            }
        } else if let Some(event) = line.get("event") {
            self.message(event, &text(line, "/_session_key"), int(line, "/_created_at"));
        }
    }

    fn push(&mut self, ts: i64, run: &str, session: &str, rest: &Value) {
        let agent = session.split(':').nth(1).unwrap_or_default();
        let head = json!([text(rest, "/event"), run, session, agent]);
        let part = |at: usize| head.get(at).map(ToString::to_string).unwrap_or_default();
        let mut line = format!(
            r#"{{"ts":{ts},"event":{},"runId":{},"sessionKey":{},"agentId":{}"#,
            part(0),
            part(1),
            part(2),
            part(3)
        );
        for (name, value) in rest.as_object().into_iter().flatten().filter(|(name, _)| *name != "event") {
            line.extend([",\"", name, "\":", &value.to_string()]);
        }
        line.push('}');
        if let (Ok(value), Ok(line)) = (serde_json::from_str(&line), RawValue::from_string(line)) {
            self.all.push(Event { ts, value, line });
        }
    }

    /// A message of a session: a person's, or an agent's with tool calls, or a tool's.
    fn message(&mut self, holder: &Value, session: &str, recorded: i64) {
        let Some(message) = holder.get("message") else { return };
        let ts = message.get("timestamp").and_then(Value::as_i64).unwrap_or(recorded);
        match text(message, "/role").as_str() {
            "user" => {
                let key = text(message, "/idempotencyKey");
                let Some(run) = key.strip_suffix(":user") else { return };
                let said = flat(message.get("content"));
                self.push(ts, run, session, &json!({ "event": "user_message", "text": said }));
            }
            "assistant" => {
                let run = text(message, "/__openclaw/runId");
                for part in message.get("content").and_then(Value::as_array).into_iter().flatten() {
                    if text(part, "/type") == "toolCall" {
                        let call = (text(part, "/id"), text(part, "/name"), part.get("arguments"));
                        self.call(recorded, &run, session, &call, "");
                    }
                }
            }
            "toolResult" => {
                let call = text(message, "/toolCallId");
                let run = self.run_of_call.get(&call).cloned().unwrap_or_default();
                let ok = message.get("isError") != Some(&Value::Bool(true));
                self.result(
                    recorded,
                    &run,
                    session,
                    (&call, &text(message, "/toolName")),
                    ok,
                    message.get("content"),
                );
            }
            // A tool that was called through tool search.
            "custom" => {
                let Some(nested) = message.get("details").filter(|nested| nested.get("toolCallId").is_some())
                else {
                    return;
                };
                let run = text(nested, "/runId");
                let (id, tool) = (text(nested, "/toolCallId"), text(nested, "/toolName"));
                let parent = text(nested, "/parentToolCallId");
                let call = (id.clone(), tool.clone(), nested.get("input"));
                self.call(int(nested, "/startedAt"), &run, session, &call, &parent);
                let ok = nested.get("isError") != Some(&Value::Bool(true));
                let result = nested.pointer("/result/content");
                self.result(int(nested, "/timestamp"), &run, session, (&id, &tool), ok, result);
            }
            _ => {}
        }
    }

    /// A tool event of the gateway.
    fn tool(&mut self, payload: &Value) {
        let (run, session) = (text(payload, "/runId"), text(payload, "/sessionKey"));
        let (id, tool) = (text(payload, "/data/toolCallId"), text(payload, "/data/name"));
        let ts = int(payload, "/ts");
        match text(payload, "/data/phase").as_str() {
            "start" if payload.pointer("/data/args").is_some() => {
                let call = (id, tool, payload.pointer("/data/args"));
                self.call(ts, &run, &session, &call, &text(payload, "/data/parentToolCallId"));
            }
            "result" => {
                let ok = payload.pointer("/data/isError") != Some(&Value::Bool(true));
                let content = payload.pointer("/data/result/content");
                self.result(ts, &run, &session, (&id, &tool), ok, content);
            }
            _ => {}
        }
    }

    fn call(
        &mut self,
        ts: i64,
        run: &str,
        session: &str,
        call: &(String, String, Option<&Value>),
        parent: &str,
    ) {
        let (id, tool, args) = call;
        if !self.calls.insert((run.to_owned(), id.clone())) {
            return;
        }
        let args = args.cloned().unwrap_or_default();
        if tool == "sessions_spawn" {
            let spawn = Spawn {
                run: run.to_owned(),
                session: session.to_owned(),
                task: text(&args, "/task"),
                label: text(&args, "/label"),
            };
            self.spawns.insert(id.clone(), spawn);
        }
        self.run_of_call.insert(id.clone(), run.to_owned());
        let mut event = json!({ "event": "tool_call", "toolCallId": id, "tool": tool, "args": args });
        if let Some(map) = event.as_object_mut()
            && !parent.is_empty()
        {
            map.insert("parentToolCallId".to_owned(), parent.into());
        }
        self.push(ts, run, session, &event);
    }

    fn result(
        &mut self,
        ts: i64,
        run: &str,
        session: &str,
        (id, tool): (&str, &str),
        ok: bool,
        content: Option<&Value>,
    ) {
        if run.is_empty() || !self.results.insert((run.to_owned(), id.to_owned())) {
            return;
        }
        let output = flat(content);
        if let Some(spawn) = self.spawns.remove(id)
            && let Ok(answer) = serde_json::from_str::<Value>(&output)
        {
            let event = json!({
                "event": "subagent_spawned", "childSessionKey": text(&answer, "/childSessionKey"),
                "parentSessionKey": spawn.session, "childRunId": text(&answer, "/runId"),
                "label": spawn.label, "task": spawn.task,
            });
            self.push(ts, &spawn.run, &spawn.session, &event);
        }
        let event =
            json!({ "event": "tool_result", "toolCallId": id, "tool": tool, "ok": ok, "output": output });
        self.push(ts, run, session, &event);
    }

    /// Two files: the runs that probe the machine, and all others.
    fn write(self, out: &Path) -> anyhow::Result<()> {
        let probes = |event: &Value| {
            text(event, "/tool") == "exec"
                || text(event, "/args/path").starts_with("/etc/")
                || text(event, "/rawText").contains("/etc/")
        };
        let probing: BTreeSet<String> = self
            .all
            .iter()
            .filter(|event| probes(&event.value))
            .map(|event| text(&event.value, "/runId"))
            .collect();
        fs::create_dir_all(out)?;
        for probes in [false, true] {
            let of_this: Vec<&Event> = self
                .all
                .iter()
                .filter(|event| probing.contains(&text(&event.value, "/runId")) == probes)
                .collect();
            let Some(first) = of_this.first() else { continue };
            let clock = Arc::new(TestClock::at_millis(first.ts));
            let mut writer = LogWriter::new(out, Duration::MAX, clock);
            for event in of_this {
                writer.append(&event.line)?;
            }
            writer.close()?;
        }
        Ok(())
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn int(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Text as it is, or the text parts of a message.
fn flat(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| text(part, "/text"))
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    }
}

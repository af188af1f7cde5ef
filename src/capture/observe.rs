//! The gateway's frames to events for the log.
//!
//! What is told live and what a session's history tells later are the same events with the same names, so that whatever
//! comes twice is known.
//!
//! Source: frames of OpenClaw 2026.9.6 as a connection with `operator.read` and `sessions.subscribe` gets them.
//! `session.message` and `chat.history` give a message the same `__openclaw.id` and `runId`; a tool call has its
//! `toolCallId` in both.
//!
//! **Invariant:** no I/O, no waiting; texts are bounded, ids become plain names.

mod messages;

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value, json};

use messages::said;

use super::mark::plain;
use super::runs::Runs;
use crate::openclaw::event;

/// Longest text of an event.
const MAX_TEXT: usize = 2 << 20;
/// Calls of `sessions_spawn` whose arguments are remembered until their result.
const MAX_SPAWNS: usize = 256;
/// The tool that starts a subagent. Source: 2026.9.6, also called through tool search.
const SPAWN_TOOL: &str = "sessions_spawn";

/// When an event may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// In its turn.
    Now,
    /// After a while, if nothing better has said the same by then.
    Later,
    /// After a while, if the raw stream did not have this model call.
    UnlessInRaw,
}

/// An event of the gateway for the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// The same for the same thing, however it is told.
    pub(super) name: String,
    pub(super) ts: i64,
    pub(super) run: Option<String>,
    pub(super) session: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) event: &'static str,
    pub(super) body: Map<String, Value>,
    pub(super) when: When,
}

/// Turns frames into items, and learns runs and sessions from them.
#[derive(Debug)]
pub(super) struct Observer {
    /// Assistant text and thinking come from here, for want of a raw stream.
    texts: bool,
    reasoning: bool,
    spawns: VecDeque<(String, Value)>,
    preambles: HashMap<String, Item>,
}

/// Where a message belongs.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    session: &'a str,
    agent: Option<&'a str>,
    now: i64,
}

impl Observer {
    /// `texts`: there is no raw stream, so assistant text comes from the gateway too.
    pub(super) fn new(texts: bool, reasoning: bool) -> Self {
        Self { texts, reasoning, spawns: VecDeque::new(), preambles: HashMap::new() }
    }

    /// Takes a live frame.
    pub(super) fn frame(
        &mut self,
        name: &str,
        payload: &Value,
        now: i64,
        runs: &mut Runs,
        out: &mut Vec<Item>,
    ) {
        let key = text(payload, "sessionKey");
        let agent = payload.get("agentId").and_then(Value::as_str);
        let place = Place { session: key, agent, now };
        match name {
            "session.message" => {
                let Some(message) = payload.get("message") else { return };
                runs.session(key, now);
                let id = text(payload, "messageId");
                let run = text(payload, "runId");
                self.message(message, id, run, place, runs, out);
            }
            "session.tool" => self.tool(payload, place, runs, out),
            "agent" => self.agent(payload, place, runs, out),
            "chat" => self.chat(payload, place, runs, out),
            "sessions.changed" => Self::changed(payload, place, runs, out),
            "task" => Self::task(payload, now, runs, out),
            _ => {
                if let Some((kind, state)) = name.split_once(".approval.")
                    && matches!(state, "requested" | "resolved")
                {
                    Self::approval(kind, state, payload, now, out);
                }
            }
        }
    }

    /// Takes a session's row of `sessions.list`.
    pub(super) fn row(row: &Value, runs: &mut Runs) {
        let key = text(row, "key");
        if key.is_empty() {
            return;
        }
        let heard = row.get("updatedAt").and_then(Value::as_i64).unwrap_or(0);
        let last_run = text(row, "lastRunId");
        let agent = row.get("agentId").and_then(Value::as_str);
        let session = runs.session(key, heard);
        describe(session, row);
        if row.get("hasActiveRun") == Some(&Value::Bool(true)) && !last_run.is_empty() {
            session.active_run = Some(last_run.to_owned());
        }
        runs.learn(last_run, key, agent);
    }

    fn tool(&mut self, payload: &Value, place: Place<'_>, runs: &mut Runs, out: &mut Vec<Item>) {
        let Some(data) = payload.get("data") else { return };
        let run = text(payload, "runId");
        runs.learn(run, place.session, place.agent);
        runs.session(place.session, place.now);
        let at = payload.get("ts").and_then(Value::as_i64).unwrap_or(place.now);
        let (call, tool, parent) =
            (text(data, "toolCallId"), text(data, "name"), text(data, "parentToolCallId"));
        out.extend(self.preambles.remove(run));
        match text(data, "phase") {
            "start" => self.call(run, call, parent, tool, data.get("args"), at, place, out),
            "result" => {
                let ok = data.get("isError") != Some(&Value::Bool(true));
                let result = data.get("result");
                let output = result.and_then(|result| result.get("content")).or(result);
                self.result(run, call, parent, tool, ok, output, at, place, runs, out);
            }
            _ => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are the event's own fields")]
    fn call(
        &mut self,
        run: &str,
        call: &str,
        parent: &str,
        tool: &str,
        args: Option<&Value>,
        at: i64,
        place: Place<'_>,
        out: &mut Vec<Item>,
    ) {
        let args = args.cloned().unwrap_or_default();
        if tool == SPAWN_TOOL {
            if self.spawns.len() >= MAX_SPAWNS {
                self.spawns.pop_front();
            }
            self.spawns.push_back((format!("{run}:{call}"), args.clone()));
        }
        let args = if args.to_string().len() > MAX_TEXT { bounded(&args.to_string()).into() } else { args };
        let mut body = object(json!({ "toolCallId": call, "tool": tool, "args": args }));
        if !parent.is_empty() {
            body.insert("parentToolCallId".into(), parent.into());
        }
        out.push(place.item(format!("call:{run}:{call}"), at, run, event::TOOL_CALL, body, When::Now));
    }

    #[expect(clippy::too_many_arguments, reason = "they are the event's own fields")]
    fn result(
        &mut self,
        run: &str,
        call: &str,
        parent: &str,
        tool: &str,
        ok: bool,
        output: Option<&Value>,
        at: i64,
        place: Place<'_>,
        runs: &mut Runs,
        out: &mut Vec<Item>,
    ) {
        let output = said(output);
        if tool == SPAWN_TOOL && ok {
            self.spawned(run, call, &output, at, place, runs, out);
        }
        let mut body = object(json!({ "toolCallId": call, "tool": tool, "ok": ok, "output": output }));
        if !parent.is_empty() {
            body.insert("parentToolCallId".into(), parent.into());
        }
        out.push(place.item(format!("result:{run}:{call}"), at, run, event::TOOL_RESULT, body, When::Now));
    }

    #[expect(clippy::too_many_arguments, reason = "they are the event's own fields")]
    fn spawned(
        &mut self,
        run: &str,
        call: &str,
        output: &str,
        at: i64,
        place: Place<'_>,
        runs: &mut Runs,
        out: &mut Vec<Item>,
    ) {
        let Ok(accepted) = serde_json::from_str::<Value>(output) else { return };
        let (child, child_run) = (text(&accepted, "childSessionKey"), text(&accepted, "runId"));
        if child.is_empty() {
            return;
        }
        let args =
            self.spawns.iter().rev().find(|(name, _)| *name == format!("{run}:{call}")).map(|(_, args)| args);
        let arg = |key| args.and_then(|args| args.get(key)).and_then(Value::as_str).unwrap_or_default();
        let body = spawn_body(child, place.session, child_run, arg("label"), arg("task"));
        let session = runs.session(child, at);
        session.parent = Some(place.session.to_owned());
        runs.learn(child_run, child, None);
        out.push(place.item(format!("spawn:{child}"), at, run, event::SUBAGENT_SPAWNED, body, When::Now));
    }

    fn agent(&mut self, payload: &Value, place: Place<'_>, runs: &mut Runs, out: &mut Vec<Item>) {
        let run = text(payload, "runId");
        runs.learn(run, place.session, place.agent);
        let data = payload.get("data").unwrap_or(&Value::Null);
        match (text(payload, "stream"), text(data, "phase")) {
            ("lifecycle", "start") if !place.session.is_empty() => {
                runs.session(place.session, place.now).active_run = Some(run.to_owned());
            }
            ("lifecycle", "end" | "error") if !place.session.is_empty() => {
                out.extend(self.preambles.remove(run));
                let session = runs.session(place.session, place.now);
                session.active_run.take_if(|active| active == run);
            }
            ("tool", _) => self.tool(payload, place, runs, out),
            ("item", _) if self.texts && text(data, "kind") == "preamble" => {
                let at = payload.get("ts").and_then(Value::as_i64).unwrap_or(place.now);
                let said = bounded(text(data, "progressText"));
                let item = place.preamble(run, text(data, "itemId"), &said, at);
                // Each update brings all of it again: the last of an item is written, when something else comes.
                if let Some(before) = self.preambles.insert(run.to_owned(), item.clone())
                    && before.name != item.name
                {
                    out.push(before);
                }
            }
            _ => {}
        }
    }

    fn chat(&mut self, payload: &Value, place: Place<'_>, runs: &mut Runs, out: &mut Vec<Item>) {
        let run = text(payload, "runId");
        runs.learn(run, place.session, place.agent);
        if self.texts && text(payload, "state") == "aborted" {
            let spoken = said(payload.pointer("/message/content"));
            let body = object(json!({ "rawText": spoken }));
            out.push(place.item(format!("abort:{run}"), place.now, run, event::MESSAGE_END, body, When::Now));
        }
    }

    fn changed(payload: &Value, place: Place<'_>, runs: &mut Runs, out: &mut Vec<Item>) {
        if place.session.is_empty() {
            return;
        }
        let (run, phase) = (text(payload, "runId"), text(payload, "phase"));
        runs.learn(run, place.session, place.agent);
        let at = payload.get("ts").and_then(Value::as_i64).unwrap_or(place.now);
        let session = runs.session(place.session, place.now);
        describe(session, payload.get("session").unwrap_or(payload));
        match phase {
            "start" => session.active_run = Some(run.to_owned()),
            "end" | "error" => {
                session.active_run.take_if(|active| active == run);
            }
            _ => return,
        }
        // The row beside it may be older than the phase.
        let status = if phase == "start" {
            "running"
        } else if phase == "end" {
            "done"
        } else {
            "failed"
        };
        session.status = Some(status.to_owned());
        let body = object(json!({ "status": status }));
        let name = format!("changed:{run}:{phase}");
        out.push(place.item(name, at, run, event::SESSION_CHANGED, body, When::Now));
    }

    fn task(payload: &Value, now: i64, runs: &mut Runs, out: &mut Vec<Item>) {
        let Some(task) = payload.get("task").filter(|task| text(task, "kind") == "subagent") else { return };
        let (parent, child) = (text(task, "sessionKey"), text(task, "childSessionKey"));
        if child.is_empty() {
            return;
        }
        let (run, label) = (text(task, "runId"), text(task, "title"));
        let session = runs.session(child, now);
        session.parent = Some(parent.to_owned()).filter(|parent| !parent.is_empty());
        if !label.is_empty() {
            session.label = Some(label.to_owned());
        }
        runs.learn(run, child, None);
        let at = task.get("createdAt").and_then(Value::as_i64).unwrap_or(now);
        let place = Place { session: parent, agent: task.get("agentId").and_then(Value::as_str), now };
        let body = spawn_body(child, parent, run, label, "");
        // Where a tool started it, the tool's result says more.
        out.push(place.item(format!("spawn:{child}"), at, "", event::SUBAGENT_SPAWNED, body, When::Later));
    }

    fn approval(kind: &str, state: &str, payload: &Value, now: i64, out: &mut Vec<Item>) {
        let request = payload.get("request").unwrap_or(&Value::Null);
        let id = text(payload, "id");
        let at = ["ts", "createdAtMs", "resolvedAtMs"]
            .into_iter()
            .find_map(|key| payload.get(key).and_then(Value::as_i64));
        let title = [text(request, "title"), text(request, "command"), text(request, "toolName")];
        let title = title.into_iter().find(|title| !title.is_empty()).unwrap_or_default();
        let mut told = format!("{kind} approval {state}: {title}");
        for (word, value) in [
            ("", text(request, "description")),
            ("decision ", text(payload, "decision")),
            ("by ", text(payload, "resolvedBy")),
        ] {
            if !value.is_empty() {
                told = format!("{told}; {word}{value}");
            }
        }
        let mut body = object(json!({ "approvalId": id, "state": state, "text": bounded(&told) }));
        for (key, value) in [
            ("tool", text(request, "toolName")),
            ("toolCallId", text(request, "toolCallId")),
            ("decision", text(payload, "decision")),
        ] {
            if !value.is_empty() {
                body.insert(key.into(), value.into());
            }
        }
        let place = Place {
            session: text(request, "sessionKey"),
            agent: request.get("agentId").and_then(Value::as_str),
            now,
        };
        let (name, run) = (format!("approval:{id}:{state}"), text(request, "runId"));
        out.push(place.item(name, at.unwrap_or(now), run, event::APPROVAL, body, When::Now));
    }
}

impl Place<'_> {
    #[expect(clippy::needless_pass_by_value, reason = "every caller makes the name for it")]
    fn item(
        &self,
        name: String,
        ts: i64,
        run: &str,
        event: &'static str,
        body: Map<String, Value>,
        when: When,
    ) -> Item {
        let some = |text: &str| (!text.is_empty() && text.len() <= 512).then(|| text.to_owned());
        Item {
            name: plain(&name),
            ts,
            run: some(run),
            session: some(self.session),
            agent: self.agent.and_then(some),
            event,
            body,
            when,
        }
    }

    /// Text before a tool call, where no raw stream has it.
    fn preamble(&self, run: &str, item: &str, spoken: &str, at: i64) -> Item {
        let body = object(json!({ "evtType": "text_end", "delta": "", "content": spoken }));
        self.item(format!("text:{run}:{item}"), at, run, event::TEXT_STREAM, body, When::Now)
    }
}

fn describe(session: &mut super::runs::Session, row: &Value) {
    for (field, keys) in [
        (&mut session.status, ["status", "status"]),
        (&mut session.label, ["label", "displayName"]),
        (&mut session.parent, ["spawnedBy", "parentSessionKey"]),
    ] {
        let found = keys.into_iter().map(|key| text(row, key)).find(|value| !value.is_empty());
        if let Some(value) = found.filter(|value| value.len() <= 512) {
            *field = Some(value.to_owned());
        }
    }
}

fn spawn_body(child: &str, parent: &str, run: &str, label: &str, task: &str) -> Map<String, Value> {
    object(json!({
        "childSessionKey": child,
        "parentSessionKey": parent,
        "childRunId": run,
        "label": label,
        "task": bounded(task),
    }))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// At most [`MAX_TEXT`] bytes; what was cut off is said.
fn bounded(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    let (head, rest) = text.split_at(end);
    format!("{head}\n[{} more bytes were cut off]", rest.len())
}

//! A scripted OpenClaw: a gateway on a Unix socket, histories that outlive its restarts, and a raw stream whose lines are
//! out of order. Shapes as captured from 2026.9.6.
#![allow(
    clippy::manual_is_multiple_of,
    clippy::needless_pass_by_value,
    clippy::format_push_string,
    reason = "a script"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use sentrix::supervise::{Shutdown, TaskKind};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::Message;

/// What happened, to be compared with what was recorded.
#[derive(Debug, Default)]
pub(crate) struct Produced {
    /// Each raw line.
    pub(crate) raw: Vec<Value>,
    /// Run and text of user messages, by message id.
    pub(crate) users: BTreeMap<String, (String, String)>,
    /// `run/toolCallId` of calls; each has a result.
    pub(crate) calls: Vec<String>,
    /// Session keys of subagents, with their parent's.
    pub(crate) spawned: BTreeMap<String, String>,
    /// Session of each run.
    pub(crate) runs: BTreeMap<String, String>,
}

#[derive(Default)]
struct Session {
    messages: Vec<Value>,
    last_run: String,
    updated: i64,
}

struct State {
    sessions: BTreeMap<String, Session>,
    produced: Produced,
    clock: i64,
    next: u64,
}

/// The whole of it.
#[derive(Clone)]
pub(crate) struct FakeOpenClaw {
    state: Arc<Mutex<State>>,
    live: broadcast::Sender<(String, Value)>,
    socket: PathBuf,
    raw: PathBuf,
}

pub(crate) fn millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl FakeOpenClaw {
    pub(crate) fn new(folder: &Path) -> Self {
        for name in ["raw", "gateway"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let state = State { sessions: BTreeMap::new(), produced: Produced::default(), clock: 0, next: 0 };
        Self {
            state: Arc::new(Mutex::new(state)),
            live: broadcast::channel(1 << 16).0,
            socket: folder.join("gateway").join("gateway.sock"),
            raw: folder.join("raw").join("raw.jsonl"),
        }
    }

    /// Starts the gateway; it ends with the given shutdown.
    pub(crate) fn serve(&self, stop: &Shutdown) {
        drop(std::fs::remove_file(&self.socket));
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (this, stop_too) = (self.clone(), stop.clone());
        stop.spawn("fake gateway", TaskKind::Optional, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                stop_too.spawn("connection", TaskKind::Optional, async move {
                    this.connection(stream).await;
                    Ok::<(), std::convert::Infallible>(())
                });
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    async fn connection(&self, stream: tokio::net::UnixStream) {
        let Ok(mut ws) = tokio_tungstenite::accept_async(stream).await else { return };
        let challenge =
            json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": millis()}});
        if ws.send(Message::text(challenge.to_string())).await.is_err() {
            return;
        }
        let mut live = None;
        let mut seq = 0_u64;
        loop {
            let event = async {
                match &mut live {
                    Some(live) => broadcast::Receiver::recv(live).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = event => {
                    let Ok((name, payload)) = event else { return };
                    seq += 1;
                    let frame = json!({"type": "event", "event": name, "payload": payload, "seq": seq});
                    if ws.send(Message::text(frame.to_string())).await.is_err() {
                        return;
                    }
                }
                asked = ws.next() => {
                    let Some(Ok(Message::Text(asked))) = asked else { return };
                    let asked: Value = serde_json::from_str(&asked).unwrap();
                    let method = asked["method"].as_str().unwrap();
                    let answer = match method {
                        "connect" => json!({"type": "hello-ok", "protocol": 4, "server": {"version": "2026.9.6"},
                            "auth": {"scopes": asked["params"]["scopes"]}, "policy": {"maxPayload": 26_214_400, "tickIntervalMs": 30_000}}),
                        "sessions.subscribe" => {
                            live = Some(self.live.subscribe());
                            json!({"subscribed": true})
                        }
                        "sessions.list" => self.list(&asked["params"]),
                        "chat.history" => self.history(&asked["params"]),
                        other => panic!("{other}"),
                    };
                    let frame = json!({"type": "res", "id": asked["id"], "ok": true, "payload": answer});
                    if ws.send(Message::text(frame.to_string())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn list(&self, params: &Value) -> Value {
        let state = self.state.lock().unwrap();
        let mut rows: Vec<Value> = state
            .sessions
            .iter()
            .map(|(key, session)| {
                json!({"key": key, "updatedAt": session.updated, "status": "done",
                "lastRunId": session.last_run, "hasActiveRun": false})
            })
            .collect();
        rows.sort_by_key(|row| -row["updatedAt"].as_i64().unwrap());
        let offset = usize::try_from(params["offset"].as_u64().unwrap_or(0)).unwrap();
        let limit = usize::try_from(params["limit"].as_u64().unwrap_or(100)).unwrap();
        let more = rows.len() > offset + limit;
        let rows: Vec<Value> = rows.into_iter().skip(offset).take(limit).collect();
        json!({"sessions": rows, "hasMore": more})
    }

    fn history(&self, params: &Value) -> Value {
        let state = self.state.lock().unwrap();
        let messages = &state.sessions[params["sessionKey"].as_str().unwrap()].messages;
        let offset = usize::try_from(params["offset"].as_u64().unwrap_or(0)).unwrap();
        let limit = usize::try_from(params["limit"].as_u64().unwrap()).unwrap();
        let end = messages.len().saturating_sub(offset);
        let start = end.saturating_sub(limit);
        json!({"messages": &messages[start..end], "hasMore": start > 0, "nextOffset": offset + (end - start)})
    }

    /// One turn of an agent: a message, one or two model calls, perhaps a tool, perhaps a subagent.
    pub(crate) fn turn(&self, number: u64) {
        let run = format!(
            "{:08x}-{:04x}-4000-8000-{number:012x}",
            number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff,
            number & 0xffff
        );
        let session = if number % 37 == 5 {
            format!("agent:main:subagent:{:04}", number / 370)
        } else {
            format!("agent:a{}:main", number % 5)
        };
        let said = format!("do thing {number} \u{1f600} \"quoted\"");
        self.note(|produced| {
            produced.runs.insert(run.clone(), session.clone());
        });
        let sent = self.now();
        self.emit("agent", json!({"runId": run, "sessionKey": session, "stream": "run_status", "data": {"phase": "preparing"}, "ts": sent}));
        let id = self.message(&session, &run, json!({"role": "user", "content": said, "timestamp": sent, "idempotencyKey": format!("{run}:user")}));
        self.note(|produced| {
            produced.users.insert(id, (run.clone(), said));
        });
        self.emit("agent", json!({"runId": run, "sessionKey": session, "stream": "lifecycle", "data": {"phase": "start"}, "ts": self.now()}));
        let mut lines = Vec::new();
        if number % 3 == 0 {
            let end =
                json!({"event": "assistant_message_end", "runId": run, "rawText": "", "rawThinking": ""});
            self.raw_lines(&mut vec![end]);
            let nested = number % 9 == 0;
            let call = format!("call_{}", number % 10);
            let (tool, args) = if nested {
                ("tool_call", json!({"id": "exec", "args": {"command": "id"}}))
            } else {
                ("exec", json!({"command": "id"}))
            };
            self.message(&session, &run, json!({"role": "assistant", "content": [{"type": "toolCall", "id": call, "name": tool, "arguments": args}],
                "timestamp": self.now(), "stopReason": "toolUse"}));
            self.tool(
                &session,
                &run,
                json!({"phase": "start", "name": tool, "toolCallId": call, "args": args}),
            );
            if nested {
                let inner = format!("tool_search_code:{call}:exec:1");
                self.tool(&session, &run, json!({"phase": "start", "name": "exec", "toolCallId": inner, "parentToolCallId": call, "args": {"command": "id"}}));
                let result = json!([{"type": "text", "text": "uid=1000"}]);
                self.tool(&session, &run, json!({"phase": "result", "name": "exec", "toolCallId": inner, "parentToolCallId": call, "isError": false, "result": {"content": result}}));
                self.message(&session, &run, json!({"role": "custom", "customType": "openclaw.nested-tool.v1", "content": [
                    {"type": "toolCall", "id": inner, "runId": run, "name": "exec", "arguments": {"command": "id"}, "parentToolCallId": call, "timestamp": self.now()},
                    {"runId": run, "parentToolCallId": call, "toolCallId": inner, "toolName": "exec", "isError": false, "timestamp": self.now(), "content": result}]}));
                self.note(|produced| produced.calls.push(format!("{run}/{inner}")));
            }
            let content = json!([{"type": "text", "text": format!("result of {number}")}]);
            self.tool(&session, &run, json!({"phase": "result", "name": tool, "toolCallId": call, "isError": false, "result": {"content": content}}));
            // Results go into the transcript, and only a change of the session is told.
            self.record(&session, &run, json!({"role": "toolResult", "toolCallId": call, "toolName": tool, "content": content, "isError": false, "timestamp": self.now()}));
            self.note(|produced| produced.calls.push(format!("{run}/{call}")));
        }
        if number % 40 == 7 {
            let child = format!("agent:main:subagent:s{number}");
            let call = "call_spawn";
            let accepted =
                json!({"status": "accepted", "childSessionKey": child, "runId": format!("child-{number}")})
                    .to_string();
            let args = json!({"task": "write a haiku", "label": "poet"});
            self.message(&session, &run, json!({"role": "assistant", "content": [{"type": "toolCall", "id": call, "name": "sessions_spawn", "arguments": args}], "timestamp": self.now()}));
            self.raw_lines(&mut vec![
                json!({"event": "assistant_message_end", "runId": run, "rawText": "", "rawThinking": ""}),
            ]);
            self.emit("task", json!({"action": "upserted", "task": {"id": child, "kind": "subagent", "status": "running", "title": "poet",
                "sessionKey": session, "childSessionKey": child, "runId": format!("child-{number}"), "createdAt": self.now()}}));
            let content = json!([{"type": "text", "text": accepted}]);
            self.tool(&session, &run, json!({"phase": "result", "name": "sessions_spawn", "toolCallId": call, "isError": false, "result": {"content": content}}));
            self.record(&session, &run, json!({"role": "toolResult", "toolCallId": call, "toolName": "sessions_spawn", "content": content, "isError": false, "timestamp": self.now()}));
            self.note(|produced| {
                produced.calls.push(format!("{run}/{call}"));
                produced.spawned.insert(child, session.clone());
            });
        }
        let deltas = if number % 50 == 0 { 300 } else { 4 };
        lines.push(json!({"event": "assistant_text_stream", "runId": run, "evtType": "text_start", "delta": "", "content": ""}));
        let mut text = String::new();
        for at in 0..deltas {
            let delta = format!("w{at} ");
            text.push_str(&delta);
            lines.push(json!({"event": "assistant_text_stream", "runId": run, "evtType": "text_delta", "delta": delta, "content": ""}));
        }
        if number % 7 == 0 {
            lines.push(json!({"event": "assistant_thinking_stream", "runId": run, "evtType": "thinking_end", "delta": "", "content": "hm"}));
        }
        lines.push(
            json!({"event": "assistant_message_end", "runId": run, "rawText": text, "rawThinking": ""}),
        );
        self.raw_lines(&mut lines);
        self.message(&session, &run, json!({"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": self.now(), "stopReason": "stop"}));
        self.emit(
            "sessions.changed",
            json!({"sessionKey": session, "phase": "end", "runId": run, "ts": self.now(), "status": "done"}),
        );
    }

    fn now(&self) -> i64 {
        let mut state = self.state.lock().unwrap();
        state.clock = state.clock.max(millis());
        state.clock
    }

    fn note(&self, with: impl FnOnce(&mut Produced)) {
        with(&mut self.state.lock().unwrap().produced);
    }

    fn emit(&self, name: &str, payload: Value) {
        drop(self.live.send((name.to_owned(), payload)));
    }

    /// Puts a message into the transcript; its id.
    fn record(&self, session: &str, run: &str, mut message: Value) -> (String, Value) {
        let at = self.now();
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let id = format!("{:08x}-0000-4000-8000-000000000000", state.next);
        let mut inner = json!({"id": id, "recordTimestampMs": at, "seq": state.next});
        if message["role"] != "user" {
            inner["runId"] = run.into();
        }
        message["__openclaw"] = inner;
        let entry = state.sessions.entry(session.to_owned()).or_default();
        entry.messages.push(message.clone());
        run.clone_into(&mut entry.last_run);
        entry.updated = at;
        (id, message)
    }

    fn message(&self, session: &str, run: &str, message: Value) -> String {
        let (id, message) = self.record(session, run, message);
        self.emit("session.message", json!({"sessionKey": session, "agentId": session.split(':').nth(1), "message": message, "messageId": id}));
        id
    }

    fn tool(&self, session: &str, run: &str, data: Value) {
        self.emit(
            "session.tool",
            json!({"sessionKey": session, "runId": run, "stream": "tool", "data": data, "ts": self.now()}),
        );
    }

    /// Writes lines, each opened anew, neighbours swapped now and then.
    fn raw_lines(&self, lines: &mut Vec<Value>) {
        for line in lines.iter_mut() {
            // `ts` comes first.
            let mut ordered = serde_json::Map::new();
            ordered.insert("ts".into(), self.now().into());
            ordered.extend(line.as_object().unwrap().clone());
            *line = Value::Object(ordered);
        }
        for at in (1..lines.len()).step_by(5) {
            lines.swap(at - 1, at);
        }
        for line in lines.drain(..) {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&self.raw).unwrap();
            file.write_all(format!("{}\n", raw_text(&line)).as_bytes()).unwrap();
            self.note(|produced| produced.raw.push(line));
        }
    }

    /// What has happened so far.
    pub(crate) fn with_produced<T>(&self, with: impl FnOnce(&Produced) -> T) -> T {
        with(&self.state.lock().unwrap().produced)
    }
}

/// A raw line in OpenClaw's order of keys.
fn raw_text(line: &Value) -> String {
    let mut out = String::from("{");
    for key in ["ts", "event", "runId", "evtType", "delta", "content", "rawText", "rawThinking"] {
        if let Some(value) = line.get(key) {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&format!("\"{key}\":{value}"));
        }
    }
    out.push('}');
    out
}

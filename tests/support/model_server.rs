//! A scripted model server over real HTTP: all dialects on one port, on a thread and runtime of its own, so
//! that it also serves the real binary under test.
//!
//! Replies come from a queue ([`ModelServer::push`]) and, once that is empty, from a closure that sees the
//! request. Every request is kept and handed back ([`ModelServer::requests`]). Base URL for any dialect:
//! [`ModelServer::url`]. A request that asks for a stream gets its answer as one.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's own server: what fails here fails the test"
)]
#![allow(clippy::format_push_string, reason = "shorter, and no one waits for it")]
#![allow(dead_code, reason = "not every test binary plays every reply")]

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::dialects::{Wire, anthropic_events, as_events, gemini_events, openai_events, openai_response};

/// One request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By name in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body; null where it was no JSON.
    pub(crate) body: Value,
}

impl Recorded {
    fn dialect(&self) -> Wire {
        if self.path.ends_with("/messages") {
            Wire::Anthropic
        } else if self.path.contains("enerateContent") {
            Wire::Gemini
        } else {
            Wire::OpenAi
        }
    }

    /// The random word that the answer has to repeat, where it has to.
    pub(crate) fn nonce(&self) -> Option<String> {
        let body = self.body.to_string();
        // The schema may stand before the question, and speaks of the marks too.
        let word = body.split("<data-").skip(1).find_map(|after| {
            let word: String = after.chars().take_while(char::is_ascii_hexdigit).collect();
            (word.len() >= 8).then_some(word)
        })?;
        (body.contains("\"nonce\":") || body.contains("\\\"nonce\\\"")).then_some(word)
    }

    /// The system message.
    pub(crate) fn system(&self) -> String {
        let text = match self.dialect() {
            Wire::Anthropic => self.body.get("system"),
            Wire::Gemini => self.body.pointer("/systemInstruction/parts/0/text"),
            Wire::OpenAi => self.body["messages"]
                .as_array()
                .and_then(|all| all.iter().find(|message| message["role"] == "system"))
                .map(|message| &message["content"]),
        };
        text.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The texts of the conversation, oldest first, without the system message.
    pub(crate) fn texts(&self) -> Vec<String> {
        if self.dialect() == Wire::Gemini {
            let contents = self.body["contents"].as_array().cloned().unwrap_or_default();
            let said = |content: &Value| content["parts"][0]["text"].as_str().map(str::to_owned);
            return contents.iter().filter_map(said).collect();
        }
        let messages = self.body["messages"].as_array().cloned().unwrap_or_default();
        let said = messages.iter().filter(|message| message["role"] != "system");
        said.filter_map(|message| message["content"].as_str().map(str::to_owned)).collect()
    }

    /// The user's first message: the rendered prompt.
    pub(crate) fn prompt(&self) -> String {
        self.texts().into_iter().next().unwrap_or_default()
    }

    /// The name of the tool whose input is to be the answer.
    pub(crate) fn tool(&self) -> Option<&str> {
        let names = [
            "/tool_choice/name",
            "/tool_choice/function/name",
            "/toolConfig/functionCallingConfig/allowedFunctionNames/0",
        ];
        names.into_iter().find_map(|name| self.body.pointer(name)?.as_str())
    }

    /// The schema that was asked for, wherever the dialect has it.
    pub(crate) fn schema(&self) -> Option<&Value> {
        let places = [
            "/response_format/json_schema/schema",
            "/output_config/format/schema",
            "/generationConfig/responseJsonSchema",
            "/tools/0/input_schema",
            "/tools/0/function/parameters",
            "/tools/0/functionDeclarations/0/parametersJsonSchema",
        ];
        places.into_iter().find_map(|place| self.body.pointer(place))
    }

    /// Method, path, telling headers and body, with keys masked, for snapshots.
    pub(crate) fn masked(&self) -> Value {
        let telling =
            ["authorization", "x-api-key", "x-goog-api-key", "anthropic-version", "content-type", "accept"];
        let headers: BTreeMap<&str, &str> = self
            .headers
            .iter()
            .filter(|(name, _)| telling.contains(&name.as_str()))
            .map(|(name, value)| match name.as_str() {
                "authorization" => ("authorization", "Bearer [key]"),
                "x-api-key" => ("x-api-key", "[key]"),
                "x-goog-api-key" => ("x-goog-api-key", "[key]"),
                name => (name, value.as_str()),
            })
            .collect();
        json!({ "method": self.method, "path": self.path, "headers": headers, "body": self.body })
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A good answer of the shape that was asked for.
    Answer(Value),
    /// A good answer of free text; also prose around JSON, code fences, thoughts.
    Text(String),
    /// An answer in several parts.
    Parts(Vec<String>),
    /// An answer without content.
    Empty,
    /// The provider's own sign of refusal.
    Refusal(String),
    /// An answer cut off at the limit of tokens.
    Truncated(String),
    /// Any status, headers and body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Status 200 with this content type and body, as it is.
    Raw(&'static str, String),
    /// A stream of these bytes, as they are.
    Stream(Vec<u8>),
    /// A stream that begins with the first and then repeats the second for ever.
    Endless(String, String),
    /// The answer in one piece, also where a stream was asked for.
    Whole(Box<Reply>),
    /// Waits, then replies.
    Slow(Duration, Box<Reply>),
    /// Waits until a permit is given, which it uses up, then replies.
    Held(Arc<Semaphore>, Box<Reply>),
    /// Sends the body in this many chunks, with a pause before each.
    Trickle(usize, Duration, Box<Reply>),
    /// Closes the connection instead of replying.
    Close,
    /// Resets the connection (TCP RST) instead of replying.
    Reset,
    /// Closes the connection in the middle of the body.
    Cut(Box<Reply>),
}

impl Reply {
    /// A failure with a body as providers send it.
    pub(crate) fn error(status: u16, kind: &str, message: &str) -> Self {
        let body = json!({ "type": "error", "error": { "type": kind, "code": kind, "message": message } });
        Self::Status(status, Vec::new(), body.to_string())
    }

    /// The same, asking to wait.
    pub(crate) fn error_after(status: u16, retry_after: &str) -> Self {
        Self::Status(status, vec![("retry-after", retry_after.to_owned())], "{}".to_owned())
    }
}

type Script = dyn Fn(&Recorded) -> Reply + Send + Sync;

struct Shared {
    queue: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<Recorded>>,
    script: Box<Script>,
    forgets: bool,
    /// Requests without a reply, now and at most.
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

impl Shared {
    fn reply(&self, request: Recorded) -> Reply {
        let queued = self.queue.lock().unwrap().pop_front();
        let reply = queued.unwrap_or_else(|| (self.script)(&request));
        if !self.forgets {
            self.requests.lock().unwrap().push(request);
        }
        reply
    }
}

/// The running server; stops when dropped.
pub(crate) struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for ModelServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ModelServer {
    /// A server that plays `replies` in order and answers anything further with status 500.
    pub(crate) fn playing(replies: impl IntoIterator<Item = Reply>) -> Self {
        let server = Self::answering(|_| Reply::error(500, "script", "the script has ended"));
        for reply in replies {
            server.push(reply);
        }
        server
    }

    /// A server that answers by content.
    pub(crate) fn answering(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, false)
    }

    /// The same, for so many requests that they are not to be kept.
    pub(crate) fn forgetful(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, true)
    }

    fn start(script: impl Fn(&Recorded) -> Reply + Send + Sync + 'static, forgets: bool) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            requests: Mutex::default(),
            script: Box::new(script),
            forgets,
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(0),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut connections = JoinSet::new();
                tokio::select! {
                    () = async {
                        while let Ok((stream, _)) = listener.accept().await {
                            connections.spawn(serve(stream, Arc::clone(&serving)));
                        }
                    } => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Plays this reply before the closure is asked again.
    pub(crate) fn push(&self, reply: Reply) {
        self.shared.queue.lock().unwrap().push_back(reply);
    }

    /// The base URL, for any dialect.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Most requests that waited for their reply at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_waiting.load(Ordering::SeqCst)
    }

    /// All requests so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Serves one connection until a side closes it.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).ok();
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let wire = request.dialect();
        let mut streams = request.body["stream"] == true || request.path.contains(":streamGenerateContent");
        let tool = request.tool().map(str::to_owned);
        let nonce = request.nonce();
        let waiting = shared.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_waiting.fetch_max(waiting, Ordering::SeqCst);
        let mut reply = shared.reply(request);
        let mut trickle = None;
        let mut cut = false;
        loop {
            match reply {
                Reply::Slow(pause, then) => {
                    tokio::time::sleep(pause).await;
                    reply = *then;
                }
                Reply::Held(permits, then) => {
                    if let Ok(permit) = permits.acquire().await {
                        permit.forget();
                    }
                    reply = *then;
                }
                Reply::Trickle(pieces, pause, then) => {
                    trickle = Some((pieces, pause));
                    reply = *then;
                }
                Reply::Cut(then) => {
                    cut = true;
                    reply = *then;
                }
                Reply::Whole(then) => {
                    streams = false;
                    reply = *then;
                }
                _ => break,
            }
        }
        // Before the first byte goes out: who has the answer may ask again at once.
        shared.waiting.fetch_sub(1, Ordering::SeqCst);
        if let (Reply::Answer(Value::Object(answer)), Some(nonce)) = (&mut reply, nonce) {
            answer.entry("nonce").or_insert_with(|| nonce.into());
        }
        let (status, headers, body) = match reply {
            Reply::Close => return,
            Reply::Reset => {
                stream.get_ref().set_zero_linger().unwrap();
                return;
            }
            Reply::Status(status, headers, body) => (status, headers, body.into_bytes()),
            Reply::Raw(kind, body) => (200, vec![("content-type", kind.to_owned())], body.into_bytes()),
            Reply::Stream(body) => (200, event_stream(), body),
            Reply::Endless(first, then) => {
                // Until the other side has had enough.
                endless(stream.get_mut(), &first, &then).await.ok();
                return;
            }
            reply => {
                let answer = match wire {
                    Wire::OpenAi => as_openai(reply, tool),
                    Wire::Anthropic => as_anthropic(reply, tool),
                    Wire::Gemini => as_gemini(reply, tool),
                };
                match wire {
                    _ if !streams => (200, Vec::new(), answer.to_string().into_bytes()),
                    Wire::OpenAi => (200, event_stream(), as_events(openai_events(&answer), false, true)),
                    Wire::Anthropic => {
                        (200, event_stream(), as_events(anthropic_events(answer), true, false))
                    }
                    Wire::Gemini => (200, event_stream(), as_events(gemini_events(&answer), false, false)),
                }
            }
        };
        if write(stream.get_mut(), status, &headers, &body, trickle, cut).await.is_err() || cut {
            return;
        }
    }
}

/// One request; nothing once the connection is closed.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Recorded { method, path, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

async fn write(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
    trickle: Option<(usize, Duration)>,
    cut: bool,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let Some((pieces, pause)) = trickle else {
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let sent = if cut { body.len() / 2 } else { body.len() };
        let mut message = head.into_bytes();
        message.extend(body.iter().take(sent));
        return stream.write_all(&message).await;
    };
    head.push_str("transfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for chunk in body.chunks(body.len().div_ceil(pieces.max(1)).max(1)) {
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        stream.write_all(chunk).await?;
        stream.write_all(b"\r\n").await?;
        if cut {
            return Ok(());
        }
    }
    stream.write_all(b"0\r\n\r\n").await
}

fn event_stream() -> Vec<(&'static str, String)> {
    vec![("content-type", "text/event-stream; charset=utf-8".to_owned())]
}

/// Sends a stream without an end.
async fn endless(stream: &mut TcpStream, first: &str, then: &str) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 Scripted\r\ncontent-type: text/event-stream\r\n\r\n").await?;
    stream.write_all(first.as_bytes()).await?;
    let many = then.repeat((1 << 14) / then.len() + 1);
    loop {
        stream.write_all(many.as_bytes()).await?;
    }
}

fn as_gemini(reply: Reply, tool: Option<String>) -> Value {
    let text = |text: String| json!({ "text": text });
    let (parts, finish) = match (reply, tool) {
        (Reply::Answer(value), Some(name)) => {
            (vec![json!({ "functionCall": { "name": name, "args": value } })], "STOP")
        }
        (Reply::Answer(value), None) => (vec![text(value.to_string())], "STOP"),
        (Reply::Text(words), _) => (vec![text(words)], "STOP"),
        (Reply::Parts(parts), _) => (parts.into_iter().map(text).collect(), "STOP"),
        (Reply::Refusal(words), _) => (vec![text(words)], "SAFETY"),
        (Reply::Truncated(words), _) => (vec![text(words)], "MAX_TOKENS"),
        _ => (Vec::new(), "STOP"),
    };
    json!({
        "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": finish, "index": 0 }],
        "usageMetadata": { "promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18 },
        "modelVersion": "scripted-1",
    })
}

fn as_openai(reply: Reply, tool: Option<String>) -> Value {
    if let (Reply::Answer(value), Some(name)) = (&reply, tool) {
        let call = json!({ "id": "call_1", "type": "function",
            "function": { "name": name, "arguments": value.to_string() } });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        return openai_response(&message, "tool_calls");
    }
    let (message, finish) = match reply {
        Reply::Answer(value) => (json!({ "content": value.to_string() }), "stop"),
        Reply::Text(text) => (json!({ "content": text }), "stop"),
        Reply::Parts(parts) => {
            let parts: Vec<Value> =
                parts.into_iter().map(|text| json!({ "type": "text", "text": text })).collect();
            (json!({ "content": parts }), "stop")
        }
        Reply::Refusal(text) => (json!({ "content": null, "refusal": text }), "stop"),
        Reply::Truncated(text) => (json!({ "content": text }), "length"),
        _ => (json!({ "content": null }), "stop"),
    };
    openai_response(&message, finish)
}

fn as_anthropic(reply: Reply, shape: Option<String>) -> Value {
    let text = |text: String| json!({ "type": "text", "text": text });
    let (content, stop) = match (reply, shape) {
        (Reply::Answer(value), Some(name)) => {
            let call = json!({ "type": "tool_use", "id": "toolu_1", "name": name, "input": value });
            (vec![call], "tool_use")
        }
        (Reply::Answer(value), None) => (vec![text(value.to_string())], "end_turn"),
        (Reply::Text(words), _) => (vec![text(words)], "end_turn"),
        (Reply::Parts(parts), _) => (parts.into_iter().map(text).collect(), "end_turn"),
        (Reply::Refusal(words), _) => (vec![text(words)], "refusal"),
        (Reply::Truncated(words), _) => (vec![text(words)], "max_tokens"),
        _ => (Vec::new(), "end_turn"),
    };
    json!({
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "scripted-1",
        "content": content,
        "stop_reason": stop,
        "usage": { "input_tokens": 11, "output_tokens": 7 },
    })
}

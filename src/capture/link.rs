//! The connection to the gateway: kept up, listened to, and asked for what was missed.
//!
//! Source: OpenClaw 2026.9.6. `chat.history` gives the newest `limit` messages before `offset`, counted from the end, and
//! cuts texts unless `maxChars` allows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::collector::Feed;
use crate::clock::SharedClock;
use crate::gateway::{Client, Connect, Event, Events, GatewayError};
use crate::openclaw::gateway::names::{event, method};
use crate::text;

/// How long an answer may take; a gateway that just started is slow.
const ANSWER: Duration = Duration::from_secs(30);
/// Waits between attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(4);
/// Sessions of a page, and pages.
const SESSIONS: usize = 200;
const SESSION_PAGES: usize = 20;
/// Messages of a page, and pages. Source: `chat.history` refuses more than 1000 at once.
const MESSAGES: usize = 200;
const MESSAGE_PAGES: usize = 200;
/// Longest text that `chat.history` gives whole. Source: `ChatHistoryParamsSchema`.
const MOST_CHARS: usize = 500_000;

/// Whoever can tell what a session said while nobody listened, the gateway's history or the transcript tables.
pub trait History: Send + Sync {
    /// The sessions with something at or after `since` (milliseconds since the Unix epoch), as rows of `sessions.list`.
    ///
    /// # Errors
    /// Why they cannot be had, in safe words.
    fn sessions(&self, since: i64) -> impl Future<Output = Result<Vec<Value>, String>> + Send;

    /// Messages of a session that were recorded at or after `since`, the oldest first, as `chat.history` gives them. There
    /// may be older ones among them.
    ///
    /// # Errors
    /// Why they cannot be had, in safe words.
    fn messages(
        &self,
        session_key: &str,
        since: i64,
    ) -> impl Future<Output = Result<Vec<Value>, String>> + Send;
}

/// The gateway's own history.
struct Asked<'a> {
    client: &'a Client,
}

impl History for Asked<'_> {
    async fn sessions(&self, since: i64) -> Result<Vec<Value>, String> {
        let mut rows = Vec::new();
        for page in 0..SESSION_PAGES {
            let params = json!({ "limit": SESSIONS, "offset": page * SESSIONS, "sortBy": "updatedAt" });
            let answer = self
                .client
                .call(method::SESSIONS_LIST, params, ANSWER)
                .await
                .map_err(|error| words(&error))?;
            let listed = answer.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
            let count = listed.len();
            let fresh = |row: &Value| {
                let updated = row.get("updatedAt").and_then(Value::as_i64);
                updated.is_none_or(|at| at >= since) || row.get("hasActiveRun") == Some(&Value::Bool(true))
            };
            let before = rows.len();
            rows.extend(listed.into_iter().filter(fresh));
            let more = answer.get("hasMore") == Some(&Value::Bool(true));
            if !more || count == 0 || rows.len() == before {
                break;
            }
        }
        Ok(rows)
    }

    async fn messages(&self, session_key: &str, since: i64) -> Result<Vec<Value>, String> {
        let mut pages = Vec::new();
        let mut offset = 0;
        for _ in 0..MESSAGE_PAGES {
            let params = json!({ "sessionKey": session_key, "limit": MESSAGES, "offset": offset, "maxChars": MOST_CHARS });
            let answer = self
                .client
                .call(method::CHAT_HISTORY, params, ANSWER)
                .await
                .map_err(|error| words(&error))?;
            let messages = answer.get("messages").and_then(Value::as_array).cloned().unwrap_or_default();
            let oldest = messages.iter().filter_map(recorded_at).min();
            let more = answer.get("hasMore") == Some(&Value::Bool(true)) && !messages.is_empty();
            let next =
                answer.get("nextOffset").and_then(Value::as_u64).and_then(|next| usize::try_from(next).ok());
            offset = next.filter(|next| *next > offset).unwrap_or(offset + messages.len());
            pages.push(messages);
            if !more || oldest.is_some_and(|oldest| oldest < since) {
                break;
            }
        }
        pages.reverse();
        Ok(pages.concat())
    }
}

fn recorded_at(message: &Value) -> Option<i64> {
    message
        .pointer("/__openclaw/recordTimestampMs")
        .or_else(|| message.get("timestamp"))
        .and_then(Value::as_i64)
}

fn words(error: &GatewayError) -> String {
    text::causes(error)
}

/// Follows the gateway until told to stop.
pub(super) struct Link {
    pub(super) connect: Connect,
    pub(super) clock: SharedClock,
    /// From when on the history is wanted.
    pub(super) since: Arc<AtomicI64>,
    pub(super) feed: mpsc::Sender<Feed>,
    pub(super) stop: CancellationToken,
}

/// The collector is gone.
struct Over;

impl Link {
    pub(super) async fn run(self) -> Result<(), std::convert::Infallible> {
        let stop = self.stop.clone();
        tokio::select! {
            Err(Over) = self.follow() => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }

    async fn follow(&self) -> Result<std::convert::Infallible, Over> {
        let mut wait = FIRST_WAIT;
        loop {
            let why = match Client::connect(&self.connect, Arc::clone(&self.clock)).await {
                Ok((client, events)) => {
                    let began = self.clock.monotonic();
                    let why = self.listen(&client, events).await?;
                    if self.clock.monotonic().saturating_sub(began) > LAST_WAIT {
                        wait = FIRST_WAIT;
                    }
                    why
                }
                Err(error) => words(&error),
            };
            self.say(Feed::Down(why)).await?;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Listens until the connection ends; why it did.
    async fn listen(&self, client: &Client, mut events: Events) -> Result<String, Over> {
        if let Err(error) = client.call(method::SESSIONS_SUBSCRIBE, json!({}), ANSWER).await {
            return Ok(words(&error));
        }
        self.say(Feed::Up).await?;
        // What happens from now on comes live.
        let mut at = self.clock.now().as_millisecond();
        let mut catching_up = Box::pin(self.catch_up(client));
        let mut is_done = false;
        let mut again = false;
        loop {
            tokio::select! {
                biased;
                told = &mut catching_up, if !is_done => {
                    is_done = true;
                    match told? {
                        Ok(()) if !again => self.say(Feed::CaughtUp { at }).await?,
                        Ok(()) => {}
                        // The next connection tries again, from the same place.
                        Err(why) => return Ok(format!("what was missed could not be asked for: {why}")),
                    }
                    if std::mem::take(&mut again) {
                        at = self.clock.now().as_millisecond();
                        catching_up = Box::pin(self.catch_up(client));
                        is_done = false;
                    }
                }
                event = events.next() => match event {
                    None => return Ok("the gateway ended the connection".into()),
                    Some(Event::Gap { dropped }) => {
                        self.say(Feed::Gap(dropped)).await?;
                        if is_done {
                            at = self.clock.now().as_millisecond();
                            catching_up = Box::pin(self.catch_up(client));
                            is_done = false;
                        } else {
                            again = true;
                        }
                    }
                    Some(Event::Frame(frame)) => {
                        if !matches!(frame.name.as_str(), event::TICK | "health" | "presence") {
                            let at = frame.at.as_millisecond();
                            self.say(Feed::Frame { name: frame.name, payload: frame.payload, at }).await?;
                        }
                    }
                }
            }
        }
    }

    async fn catch_up(&self, client: &Client) -> Result<Result<(), String>, Over> {
        let since = self.since.load(Ordering::Acquire);
        let history = Asked { client };
        let rows = match history.sessions(since).await {
            Ok(rows) => rows,
            Err(why) => return Ok(Err(why)),
        };
        let keys: Vec<String> =
            rows.iter().filter_map(|row| row.get("key")?.as_str().map(str::to_owned)).collect();
        for row in rows {
            self.say(Feed::Row(row)).await?;
        }
        for session_key in keys {
            match history.messages(&session_key, since).await {
                Ok(messages) => self.say(Feed::History { session_key, messages, since }).await?,
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(()))
    }

    async fn say(&self, feed: Feed) -> Result<(), Over> {
        self.feed.send(feed).await.map_err(|_| Over)
    }
}

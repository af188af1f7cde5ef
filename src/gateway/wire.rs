//! The work of a connection: what comes is sorted, what goes is sent, and silence ends it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::GatewayErrorKind;
use super::error::Ending;
use super::events::Sender;
use super::socket;
use crate::clock::SharedClock;
use crate::openclaw::gateway::MAX_PAYLOAD;
use crate::openclaw::gateway::frame::{Incoming, RemoteError};
use crate::openclaw::gateway::names::event;

/// Requests that wait for an answer.
const MOST_PENDING: usize = 256;
/// How long a message may take to be sent, and a close frame.
const SEND_LIMIT: Duration = Duration::from_secs(20);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A WebSocket, over whatever it runs.
#[derive(Debug)]
pub(super) enum Socket {
    Plain(Box<WebSocketStream<Box<dyn socket::Stream>>>),
    Tls(Box<WebSocketStream<MaybeTlsStream<TcpStream>>>),
}

impl std::fmt::Debug for dyn socket::Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stream")
    }
}

impl Stream for Socket {
    type Item = Result<Message, WsError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::Plain(ws) => ws.poll_next_unpin(cx),
            Self::Tls(ws) => ws.poll_next_unpin(cx),
        }
    }
}

macro_rules! sink {
    ($($name:ident($($arg:ident: $kind:ty)?) -> $out:ty;)+) => {
        impl Sink<Message> for Socket {
            type Error = WsError;
            $(fn $name(self: Pin<&mut Self>, $($arg: $kind)?) -> $out {
                match self.get_mut() {
                    Self::Plain(ws) => Pin::new(ws.as_mut()).$name($($arg)?),
                    Self::Tls(ws) => Pin::new(ws.as_mut()).$name($($arg)?),
                }
            })+
        }
    };
}
sink! {
    poll_ready(cx: &mut Context<'_>) -> Poll<Result<(), WsError>>;
    start_send(item: Message) -> Result<(), WsError>;
    poll_flush(cx: &mut Context<'_>) -> Poll<Result<(), WsError>>;
    poll_close(cx: &mut Context<'_>) -> Poll<Result<(), WsError>>;
}

type Answer = Result<Option<Box<RawValue>>, RemoteError>;

/// Requests that wait for their answers, and how the connection ended.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    waiting: HashMap<String, oneshot::Sender<Answer>>,
    ending: Option<Ending>,
}

/// One answer that is waited for; dropped, it is waited for no more.
#[derive(Debug)]
pub(super) struct Awaited<'p> {
    pending: &'p Pending,
    id: String,
    answer: oneshot::Receiver<Answer>,
}

impl Awaited<'_> {
    /// The answer, or nothing if the connection ended before.
    pub(super) async fn wait(mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.pending.lock().waiting.remove(&self.id);
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to a request.
    pub(super) fn expect(&self, id: String) -> Result<Awaited<'_>, GatewayErrorKind> {
        let (sender, answer) = oneshot::channel();
        let mut open = self.lock();
        if let Some(ending) = &open.ending {
            return Err(GatewayErrorKind::Closed(ending.clone()));
        }
        if open.waiting.len() >= MOST_PENDING {
            return Err(GatewayErrorKind::Busy(MOST_PENDING));
        }
        open.waiting.insert(id.clone(), sender);
        drop(open);
        Ok(Awaited { pending: self, id, answer })
    }

    fn answer(&self, id: &str, answer: Answer) {
        let waiting = self.lock().waiting.remove(id);
        if waiting.is_none_or(|waiting| waiting.send(answer).is_err()) {
            tracing::debug!("an answer that nobody waits for");
        }
    }

    fn end(&self, ending: Ending) {
        let mut open = self.lock();
        open.waiting.clear();
        open.ending.get_or_insert(ending);
    }

    pub(super) fn has_ended(&self) -> Option<Ending> {
        self.lock().ending.clone()
    }

    pub(super) fn ending(&self) -> Ending {
        self.has_ended().unwrap_or_else(|| Ending::new(None, "the connection is at its end"))
    }
}

/// What a connection needs while it lives.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) tick: Duration,
    pub(super) clock: SharedClock,
    pub(super) pending: Arc<Pending>,
    pub(super) stop: CancellationToken,
}

impl Line {
    /// Works until the connection ends.
    pub(super) async fn run(
        self,
        ws: Socket,
        to_send: mpsc::Receiver<String>,
        events: Sender,
    ) -> Result<(), Infallible> {
        let (mut sink, stream) = ws.split();
        let (ending, code) = {
            // Both are polled side by side: a gateway that does not read cannot keep us from reading.
            tokio::select! {
                end = self.read(stream, events) => end,
                end = send(&mut sink, to_send) => end,
                () = self.stop.cancelled() => (Ending::new(None, "closed by us"), Some(CloseCode::Normal)),
            }
        };
        tracing::debug!(code = ending.code, "a connection to a gateway ended");
        self.pending.end(ending);
        if let Some(code) = code {
            let frame = CloseFrame { code, reason: "".into() };
            let close = async {
                sink.send(Message::Close(Some(frame))).await?;
                sink.close().await
            };
            // The other side may be gone already.
            drop(timeout(CLOSE_LIMIT, close).await);
        }
        Ok(())
    }

    async fn read(
        &self,
        mut stream: impl Stream<Item = Result<Message, WsError>> + Unpin,
        mut events: Sender,
    ) -> (Ending, Option<CloseCode>) {
        // Two ticks may be missed, and a late one is no missed one.
        let patience = self.tick * 2 + (self.tick / 2).min(Duration::from_secs(5));
        loop {
            let Ok(next) = timeout(patience, stream.next()).await else {
                let reason = format!("no sign of life for {} seconds", patience.as_secs_f64());
                return (Ending::new(None, &reason), Some(CloseCode::Away));
            };
            let text = match next {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(frame))) => return (ending_of(frame.as_ref()), None),
                Some(Ok(_)) => continue,
                Some(Err(WsError::Capacity(_))) => {
                    let reason = format!("a message of more than {MAX_PAYLOAD} bytes");
                    return (Ending::new(None, &reason), Some(CloseCode::Size));
                }
                Some(Err(error)) => return (Ending::new(None, &error.to_string()), None),
                None => return (Ending::new(None, "the gateway hung up"), None),
            };
            match Incoming::read(&text) {
                // A tick says only that there is somebody, but its number counts.
                Ok(Incoming::Event { name, seq, payload }) => {
                    if *name == *event::SHUTDOWN {
                        tracing::info!("the gateway says that it shuts down");
                    }
                    events.put(&name, seq, payload, self.clock.now());
                }
                Ok(Incoming::Response { id, result }) => {
                    self.pending.answer(&id, result.map(|payload| payload.map(ToOwned::to_owned)));
                }
                Ok(Incoming::Other) => {}
                Err(error) => return (Ending::new(None, &error.to_string()), Some(CloseCode::Protocol)),
            }
        }
    }
}

async fn send(
    sink: &mut (impl Sink<Message, Error = WsError> + Unpin),
    mut to_send: mpsc::Receiver<String>,
) -> (Ending, Option<CloseCode>) {
    while let Some(text) = to_send.recv().await {
        match timeout(SEND_LIMIT, sink.send(Message::text(text))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return (Ending::new(None, &error.to_string()), None),
            Err(_) => return (Ending::new(None, "the gateway does not read"), None),
        }
    }
    (Ending::new(None, "closed by us"), Some(CloseCode::Normal))
}

pub(super) fn ending_of(frame: Option<&CloseFrame>) -> Ending {
    frame.map_or_else(
        || Ending::new(None, "the gateway closed the connection"),
        |frame| Ending::new(Some(frame.code.into()), &frame.reason),
    )
}

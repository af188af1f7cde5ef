//! Connecting, and asking.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::error::{Ending, words};
use super::events::{self, Events};
use super::socket::{self, Address, Stream};
use super::wire::{self, Pending, Socket};
use super::{DeviceKey, GatewayError, GatewayErrorKind};
use crate::clock::SharedClock;
use crate::openclaw::gateway::frame::{Asked, Challenge, Hello, Incoming, request};
use crate::openclaw::gateway::names::event;
use crate::openclaw::gateway::{ClientKind, MAX_PAYLOAD, PORT, PROTOCOL, Scope, TICK_MS};
use crate::supervise::{Shutdown, TaskKind};

/// Frames that may come before the one that is waited for.
const MOST_BEFORE: usize = 64;
/// Requests that wait to be sent.
const MOST_OUTGOING: usize = 64;

/// What a connection is to be.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Where to.
    pub address: Address,
    /// The gateway's token; empty for none.
    pub token: SecretString,
    /// What the connection wants to do; it fails if less is granted.
    pub scopes: Vec<Scope>,
    /// As [`crate::openclaw::gateway::CAP_TOOL_EVENTS`].
    pub caps: Vec<&'static str>,
    /// The identity of this machine, for a gateway that is reached over a network.
    pub device: Option<DeviceKey>,
    /// What we say we are.
    pub client: ClientKind,
    /// How long connecting may take.
    pub limit: Duration,
}

impl Connect {
    /// An observer with `operator.read`, which has 15 seconds to connect.
    pub fn new(address: Address, token: SecretString) -> Self {
        Self {
            address,
            token,
            scopes: vec![Scope::Read],
            caps: Vec::new(),
            device: None,
            client: ClientKind::default(),
            limit: Duration::from_secs(15),
        }
    }
}

/// A connection to a gateway. Clones are the same connection; it closes when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    address: Arc<str>,
    hello: Hello,
    max_payload: usize,
    outgoing: mpsc::Sender<String>,
    pending: Arc<Pending>,
    next_id: AtomicU64,
    stop: Shutdown,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.drain().cancel();
    }
}

impl Client {
    /// Connects, proves who we are, and checks what was granted. Must be called within a runtime.
    ///
    /// # Errors
    /// Every kind but `Refused` of a method and `Busy`; `Timeout` after [`Connect::limit`].
    ///
    /// # Cancel safety
    /// A connection that was not finished is dropped.
    pub async fn connect(connect: &Connect, clock: SharedClock) -> Result<(Self, Events), GatewayError> {
        let address: Arc<str> = connect.address.to_string().into();
        let fault = |kind| GatewayError { address: Arc::clone(&address), kind };
        let greeting = timeout(connect.limit, greet(connect)).await;
        let (ws, hello) = greeting
            .unwrap_or(Err(GatewayErrorKind::Timeout { what: "connection", after: connect.limit }))
            .map_err(fault)?;
        let (outgoing, to_send) = mpsc::channel(MOST_OUTGOING);
        let (sender, events) = events::queue();
        let pending = Arc::new(Pending::default());
        let stop = Shutdown::new();
        let tick = Duration::from_millis(hello.policy.tick_interval_ms.unwrap_or(TICK_MS).clamp(50, 300_000));
        let line = wire::Line { tick, clock, pending: Arc::clone(&pending), stop: stop.drain().clone() };
        stop.spawn("gateway", TaskKind::Optional, line.run(ws, to_send, sender));
        let max_payload = hello.policy.max_payload.and_then(|most| usize::try_from(most).ok());
        let shared = Shared {
            address,
            hello,
            max_payload: max_payload.unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD),
            outgoing,
            pending,
            next_id: AtomicU64::new(1),
            stop,
        };
        Ok((Self { shared: Arc::new(shared) }, events))
    }

    /// As [`Client::connect`], for a gateway that may not trust a connection without a device: tried without one first, and
    /// with the key of `device` (made if it is not there) where that is granted too little.
    ///
    /// # Errors
    /// As [`Client::connect`]; `NotPaired` until a person has approved the device.
    pub async fn connect_or_pair(
        connect: &Connect,
        device: &std::path::Path,
        clock: SharedClock,
    ) -> Result<(Self, Events), GatewayError> {
        match Self::connect(connect, Arc::clone(&clock)).await {
            Err(error)
                if connect.device.is_none() && matches!(error.kind, GatewayErrorKind::Scopes { .. }) =>
            {
                let device = Some(DeviceKey::open_or_create(device)?);
                Self::connect(&Connect { device, ..connect.clone() }, clock).await
            }
            outcome => outcome,
        }
    }

    /// Asks the gateway for something; what it answers is untrusted. The names of methods are in
    /// [`crate::openclaw::gateway::names::method`].
    ///
    /// # Errors
    /// `Refused`, with `Scopes` for what the connection may not do; `Closed`, `Timeout`, `TooBig`, `Busy`, `Protocol`.
    ///
    /// # Cancel safety
    /// The answer is thrown away; the gateway may have done what was asked.
    pub async fn call(&self, method: &str, params: Value, limit: Duration) -> Result<Value, GatewayError> {
        self.ask(method, params, limit).await.map_err(|kind| self.fault(kind))
    }

    async fn ask(&self, method: &str, params: Value, limit: Duration) -> Result<Value, GatewayErrorKind> {
        let late = |_| GatewayErrorKind::Timeout { what: "answer", after: limit };
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        let text = request(&id, method, params).map_err(|error| {
            GatewayErrorKind::Protocol(format!("a request that cannot be written: {error}"))
        })?;
        if text.len() > self.shared.max_payload {
            return Err(GatewayErrorKind::TooBig(self.shared.max_payload));
        }
        let answer = self.shared.pending.expect(id)?;
        let ended = || GatewayErrorKind::Closed(self.shared.pending.ending());
        let all = async {
            self.shared.outgoing.send(text).await.map_err(|_| ended())?;
            answer.wait().await.ok_or_else(ended)
        };
        match timeout(limit, all).await.map_err(late)?? {
            Ok(payload) => payload.map_or(Ok(Value::Null), |raw| {
                serde_json::from_str(raw.get()).map_err(|error| GatewayErrorKind::Protocol(error.to_string()))
            }),
            Err(error) => Err(match error.missing_scope() {
                Some(scope) => GatewayErrorKind::Scopes { missing: vec![scope] },
                None => GatewayErrorKind::Refused { method: method.to_owned(), error },
            }),
        }
    }

    fn fault(&self, kind: GatewayErrorKind) -> GatewayError {
        GatewayError { address: Arc::clone(&self.shared.address), kind }
    }

    /// What the gateway said of itself: untrusted text.
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// Whether the connection has ended, and how.
    pub fn ended(&self) -> Option<Ending> {
        self.shared.pending.has_ended()
    }

    /// Closes the connection; [`Events::next`] gives what came until then, and ends.
    pub fn close(&self) {
        self.shared.stop.drain().cancel();
    }
}

/// Opens the way, speaks WebSocket, and goes through the handshake.
async fn greet(connect: &Connect) -> Result<(Socket, Hello), GatewayErrorKind> {
    let mut ws = open(&connect.address).await?;
    let payload = wait_for(&mut ws, |frame| match frame {
        Incoming::Event { name, payload: Some(payload), .. } if *name == *event::CHALLENGE => {
            Some(Ok(payload.get().to_owned()))
        }
        _ => None,
    })
    .await?;
    let challenge: Challenge = serde_json::from_str(&payload).map_err(|error| {
        GatewayErrorKind::Protocol(format!("the challenge: {}", words(&error.to_string())))
    })?;
    let asked = Asked {
        client: connect.client,
        scopes: &connect.scopes,
        caps: &connect.caps,
        version: env!("CARGO_PKG_VERSION"),
    };
    let token = connect.token.expose_secret();
    let proof = connect.device.as_ref().map(|device| device.proof(&asked, &challenge, token));
    let text = asked
        .request("connect", token, proof.as_ref())
        .map_err(|error| GatewayErrorKind::Protocol(error.to_string()))?;
    let text = Zeroizing::new(text);
    ws.send(Message::text(text.as_str())).await.map_err(wire_fault)?;
    let payload = wait_for(&mut ws, |frame| match frame {
        Incoming::Response { id, result } if *id == *"connect" => Some(match result {
            Ok(payload) => Ok(payload.map(|raw| raw.get().to_owned()).unwrap_or_default()),
            Err(error) => Err(GatewayErrorKind::of_connect(error)),
        }),
        _ => None,
    })
    .await?;
    let hello: Hello = serde_json::from_str(&payload)
        .map_err(|error| GatewayErrorKind::Protocol(format!("hello-ok: {}", words(&error.to_string()))))?;
    if hello.protocol != Some(PROTOCOL) {
        return Err(GatewayErrorKind::Version { theirs: hello.protocol });
    }
    let missing = Scope::missing(&connect.scopes, &hello.auth.scopes);
    if !missing.is_empty() {
        return Err(GatewayErrorKind::Scopes { missing });
    }
    Ok((ws, hello))
}

async fn open(address: &Address) -> Result<Socket, GatewayErrorKind> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_PAYLOAD))
        .max_frame_size(Some(MAX_PAYLOAD))
        .max_write_buffer_size(2 * MAX_PAYLOAD)
        .read_buffer_size(32 << 10)
        .write_buffer_size(0);
    let (stream, url): (Box<dyn Stream>, String) = match address {
        Address::Socket(path) => {
            (Box::new(socket::open_socket(path).await?), format!("ws://127.0.0.1:{PORT}/"))
        }
        Address::Url(url) => {
            let target = socket::target(url)?;
            let stream = socket::open_tcp(&target).await?;
            let request = url.as_str().into_client_request().map_err(wire_fault)?;
            if target.is_tls {
                let way =
                    tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), None)
                        .await;
                let (ws, _) = way.map_err(wire_fault)?;
                return Ok(wire::Socket::Tls(Box::new(ws)));
            }
            (Box::new(stream), url.clone())
        }
    };
    let request = url.as_str().into_client_request().map_err(wire_fault)?;
    let way = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    let (ws, _) = way.map_err(wire_fault)?;
    Ok(wire::Socket::Plain(Box::new(ws)))
}

/// Reads frames until one is picked.
async fn wait_for<T>(
    ws: &mut Socket,
    pick: impl Fn(Incoming<'_>) -> Option<Result<T, GatewayErrorKind>>,
) -> Result<T, GatewayErrorKind> {
    for _ in 0..MOST_BEFORE {
        let text = match ws.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Close(frame))) => {
                return Err(GatewayErrorKind::Closed(wire::ending_of(frame.as_ref())));
            }
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(wire_fault(error)),
            None => return Err(GatewayErrorKind::Closed(Ending::new(None, "the gateway hung up"))),
        };
        let frame =
            Incoming::read(&text).map_err(|error| GatewayErrorKind::Protocol(words(&error.to_string())))?;
        if let Some(picked) = pick(frame) {
            return picked;
        }
    }
    Err(GatewayErrorKind::Protocol("other frames where the handshake should be".into()))
}

/// What a fault of the WebSocket means.
fn wire_fault(error: WsError) -> GatewayErrorKind {
    match error {
        WsError::Io(error) => GatewayErrorKind::Io(error),
        WsError::Http(response) => GatewayErrorKind::Http(Some(response.status().as_u16())),
        WsError::Capacity(_) => GatewayErrorKind::TooBig(MAX_PAYLOAD),
        WsError::ConnectionClosed | WsError::AlreadyClosed => {
            GatewayErrorKind::Closed(Ending::new(None, "the gateway hung up"))
        }
        other => GatewayErrorKind::Protocol(words(&other.to_string())),
    }
}

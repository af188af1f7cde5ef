//! Where a gateway is, and a stream of bytes to it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::http::Uri;

use super::GatewayErrorKind;
use crate::openclaw::gateway::PORT;
use crate::socket;

/// A stream of bytes to a gateway.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: the sandbox's `gateway.sock`.
    Socket(PathBuf),
    /// `ws://…` on this machine, `wss://…` anywhere.
    Url(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&super::error::words(url)),
        }
    }
}

impl Address {
    /// The address that a person wrote: a `ws://` or `wss://` URL, else the path of a socket.
    ///
    /// # Errors
    /// `Address`: the URL cannot be used, or would send the token in the clear over a network.
    pub fn parse(text: &str) -> Result<Self, GatewayErrorKind> {
        if text.contains("://") {
            target(text).map(|_| Self::Url(text.to_owned()))
        } else if text.is_empty() {
            Err(GatewayErrorKind::Address("it is empty"))
        } else {
            Ok(Self::Socket(text.into()))
        }
    }
}

/// What a URL says.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

pub(super) fn target(url: &str) -> Result<Target, GatewayErrorKind> {
    let fault = GatewayErrorKind::Address;
    let uri: Uri = url.parse().map_err(|_| fault("not a URL"))?;
    let is_tls = match uri.scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(fault("write ws://… or wss://…")),
    };
    let authority = uri.authority().ok_or(fault("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(fault("a URL holds no secrets: give the token by --token-file"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return Err(fault("it names no host"));
    }
    if !is_tls && !is_loopback(&host) {
        return Err(fault(
            "ws:// to another machine sends the token in the clear: use wss://, or an SSH tunnel to its loopback",
        ));
    }
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { PORT });
    Ok(Target { host, port, is_tls })
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Opens a Unix socket that a hostile container may have put there.
///
/// # Errors
/// `Io`, as [`socket::connect`].
pub(super) async fn open_socket(path: &Path) -> Result<UnixStream, GatewayErrorKind> {
    socket::connect(path).await.map_err(io_fault)
}

fn io_fault(error: io::Error) -> GatewayErrorKind {
    GatewayErrorKind::Io(error)
}

pub(super) async fn open_tcp(target: &Target) -> Result<TcpStream, GatewayErrorKind> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(io_fault)?;
    stream.set_nodelay(true).map_err(io_fault)?;
    Ok(stream)
}

/// The HTTP status of a path of the gateway, as 200 or 503 of `/readyz`; `wss://` is not probed.
///
/// # Errors
/// `Io` where nobody is there; `Timeout`; `Http` without a status if no HTTP was spoken.
pub async fn probe(address: &Address, path: &str, limit: Duration) -> Result<u16, GatewayErrorKind> {
    tokio::time::timeout(limit, status(address, path))
        .await
        .unwrap_or(Err(GatewayErrorKind::Timeout { what: "answer", after: limit }))
}

async fn status(address: &Address, path: &str) -> Result<u16, GatewayErrorKind> {
    let mut stream: Box<dyn Stream> = match address {
        Address::Socket(path) => Box::new(open_socket(path).await?),
        Address::Url(url) => match target(url)? {
            Target { is_tls: true, .. } => return Err(GatewayErrorKind::Address("wss:// is not probed")),
            target => Box::new(open_tcp(&target).await?),
        },
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(io_fault)?;
    // `HTTP/1.1 200` is all that is read.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await.map_err(io_fault)?;
    let status = std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 "));
    status.and_then(|status| status.parse().ok()).ok_or(GatewayErrorKind::Http(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_would_tell_the_token_are_refused() {
        for good in [
            "ws://127.0.0.1:18789",
            "ws://localhost",
            "ws://[::1]:1/x",
            "wss://claw.example.org",
            "/run/x.sock",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "http://127.0.0.1", "ws://192.168.1.4:18789", "ws://u:p@127.0.0.1", "ws://", "ws:// x"]
        {
            assert!(matches!(Address::parse(bad), Err(GatewayErrorKind::Address(_))), "{bad}");
        }
    }
}

//! Plain HTTP on its way out: each request is read, checked and written anew, so that nothing can hide between two.
//!
//! **Invariant:** every request on a connection names the host the connection goes to; headers that are about one hop alone
//! stay on it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::answer::{Body, Refusal};
use super::event::Reason;
use super::live::{Counted, Live};
use super::name::Target;
use super::open::Inner;
use super::record::Attempt;
use crate::supervise::TaskKind;

/// Headers that are about one hop. Source: RFC 9110, 7.6.1, and what clients send to proxies.
const ONE_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
const ONE_HOP_WORDS: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];
/// Headers of the door's own that never go out.
pub(super) const PROBE: &str = "sentrix-probe";

/// A body with the attempt that it belongs to.
#[derive(Debug)]
pub(super) struct Held<B> {
    body: B,
    _attempt: Option<Attempt>,
}

impl<B: HttpBody + Unpin> HttpBody for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Takes headers out that are about one hop alone.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_ascii_lowercase())
        .filter(|word| word != "host" && word != "content-length")
        .collect();
    for name in named {
        headers.remove(name.as_str());
    }
    for name in ONE_HOP {
        headers.remove(name);
    }
    for name in ONE_HOP_WORDS {
        headers.remove(name);
    }
}

/// Whether the client wants to go on with WebSocket.
fn wants_websocket(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    has(UPGRADE, "websocket") && has(CONNECTION, "upgrade")
}

/// Whether a request is for this target and no other, by its one Host header and its URL.
pub(super) fn check_host(parts: &Parts, target: &Target, default_port: u16) -> Result<(), Refusal> {
    let mismatch = |found: &str| {
        Refusal::new(Reason::HostMismatch, format!("{found} on a connection to {target}")).of(target)
    };
    let is_ours = |text: &str| Target::parse(text, Some(default_port)).is_ok_and(|found| found == *target);
    if let Some(authority) = parts.uri.authority()
        && !is_ours(authority.as_str())
    {
        return Err(mismatch(&format!("URL of {authority}")));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let text = host.to_str().unwrap_or("what is no text");
            if is_ours(text) { Ok(()) } else { Err(mismatch(&format!("Host {text}"))) }
        }
        (Some(_), Some(_)) => Err(mismatch("two Host headers")),
        // The URL says it.
        (None, _) if parts.uri.authority().is_some() => Ok(()),
        (None, _) => Err(mismatch("no Host header")),
    }
}

/// The request as it goes out, and whether the client wants to go on with WebSocket.
fn outgoing(parts: Parts, body: Incoming, target: &Target) -> Result<(Request<Incoming>, bool), Refusal> {
    let refuse = |why: &str| Refusal::new(Reason::BadRequest, why).of(target);
    let mut headers = parts.headers;
    let websocket = wants_websocket(&headers);
    strip(&mut headers);
    // The length is written anew from the body; whoever expects an answer before it has had the door's.
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    headers.remove(PROBE);
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let host = if target.port == 80 { target.host.to_string() } else { target.to_string() };
    headers.insert(HOST, HeaderValue::from_str(&host).map_err(|_| refuse("the host is no header"))?);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = Uri::try_from(path).map_err(|_| refuse("the path is none"))?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Ok((request, websocket))
}

/// A way out for requests.
pub(super) type Sender = SendRequest<Incoming>;

/// Begins HTTP on a connection to the outside.
pub(super) async fn begin(door: &Arc<Inner>, upstream: Counted<TcpStream>) -> Result<Sender, Refusal> {
    let live = Arc::clone(&upstream.live);
    let begun =
        http1::Builder::new().max_buf_size(door.limits.header_bytes).handshake(TokioIo::new(upstream));
    let (sender, connection) =
        begun.await.map_err(|error| Refusal::new(Reason::UpstreamBroken, error.to_string()))?;
    door.shutdown.spawn("door upstream", TaskKind::Optional, async move {
        tokio::select! {
            // What broke is told by the request that it broke.
            ended = connection.with_upgrades() => drop(ended),
            () = live.end.cancelled() => {}
        }
        Ok::<(), std::convert::Infallible>(())
    });
    Ok(sender)
}

/// What a request came to.
pub(super) enum Sent {
    /// An answer.
    Answer(Response<Incoming>),
    /// Both go on with WebSocket.
    Switched(Response<Body>, OnUpgrade, OnUpgrade),
}

/// Sends a request whose host was checked.
pub(super) async fn send(
    sender: &mut Sender,
    mut request: Request<Incoming>,
    target: &Target,
) -> Result<Sent, Refusal> {
    let client = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let (request, websocket) = outgoing(parts, body, target)?;
    let broken =
        |error: hyper::Error| Refusal::new(Reason::UpstreamBroken, crate::text::causes(&error)).of(target);
    sender.ready().await.map_err(broken)?;
    let mut response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip(response.headers_mut());
        return Ok(Sent::Answer(response));
    }
    if !websocket {
        return Err(Refusal::new(Reason::Upgrade, "the destination changes the protocol unasked").of(target));
    }
    let upstream = hyper::upgrade::on(&mut response);
    let mut switched = Response::new(Either::Left(Full::new(Bytes::new())));
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    strip(response.headers_mut());
    *switched.headers_mut() = std::mem::take(response.headers_mut());
    switched.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    switched.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(Sent::Switched(switched, client, upstream))
}

/// An answer for the client that holds its attempt until it is through.
pub(super) fn held(response: Response<Incoming>, attempt: Option<Attempt>) -> Response<Body> {
    response.map(|body| Either::Right(Held { body, _attempt: attempt }))
}

/// Carries bytes both ways until both ends, or whoever may, end it.
pub(super) async fn carry(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    upstream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    live: &Live,
) {
    /// Bytes that are read at once, each way.
    const BUFFER: usize = 16 << 10;
    tokio::select! {
        // A connection that breaks has ended.
        ended = tokio::io::copy_bidirectional_with_sizes(client, upstream, BUFFER, BUFFER) => drop(ended),
        () = live.end.cancelled() => {}
    }
}

/// Carries WebSocket both ways.
pub(super) async fn bridge(client: OnUpgrade, upstream: OnUpgrade, live: &Live) {
    if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
        carry(&mut TokioIo::new(client), &mut TokioIo::new(upstream), live).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn one_host_and_no_other() {
        let target = Target::parse("a.example:8080", None).unwrap();
        let ok = |uri, hosts: &[&str]| check_host(&parts(uri, hosts), &target, 80).is_ok();
        assert!(ok("/x", &["A.example:8080"]));
        assert!(ok("http://a.example:8080/x", &["a.example:8080"]));
        assert!(ok("http://a.example:8080/x", &[]));
        for (uri, hosts) in [
            ("/x", &["a.example"][..]),
            ("/x", &["b.example:8080"]),
            ("/x", &[]),
            ("/x", &["a.example:8080", "a.example:8080"]),
            ("http://b.example:8080/x", &["a.example:8080"]),
            ("http://a.example:8080/x", &["b.example:8080"]),
            ("http://u@a.example:8080/x", &["a.example:8080"]),
        ] {
            assert!(!ok(uri, hosts), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn what_is_about_one_hop_stays_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert!(!wants_websocket(&headers));
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}

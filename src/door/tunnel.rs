//! Inside a tunnel: the first bytes say what it is, and it goes on only as what it said it is for.
//!
//! **Invariant:** nothing of a client reaches the destination before its first message has named the destination.
//!
//! What this cannot see is what is inside the encryption: a server that answers for many hosts may still be asked for another
//! one there.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method as HttpMethod, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Duration, timeout};

use super::answer::{Body, Refusal};
use super::event::{Method, Reason};
use super::forward::{self, Sender, Sent};
use super::hello::{self, Progress};
use super::listener::Io;
use super::live::Counted;
use super::name::Target;
use super::open::Inner;
use super::record::Attempt;
use super::serve::{After, Slot, leave, take};

/// Longest word before the first space of a request.
const LONGEST_METHOD: usize = 16;
/// How long a client may take to read why its tunnel ends.
const ALERT_TIME: Duration = Duration::from_secs(1);
/// A fatal alert, `unrecognized_name`. Source: RFC 8446, 6; RFC 6066, 3.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];
/// A fatal alert, `access_denied`.
const ACCESS_DENIED: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 49];

/// What comes through a tunnel.
#[derive(Debug, PartialEq, Eq)]
enum Speech {
    /// Not enough to say.
    More,
    /// TLS for the target.
    Tls,
    /// HTTP.
    Http,
    /// It ends here; what else is to be said.
    Refused(Reason, String),
}

/// Judges what a client has said so far.
fn judge(bytes: &[u8], target: &Target) -> Speech {
    match bytes.first() {
        None => Speech::More,
        Some(&hello::HANDSHAKE) => match hello::read(bytes) {
            Progress::More => Speech::More,
            Progress::Bad(why) => Speech::Refused(Reason::UnknownProtocol, format!("a TLS hello: {why}")),
            Progress::Done(hello) if hello.is_encrypted => {
                let said = hello.server_name.unwrap_or_default();
                Speech::Refused(Reason::EncryptedHello, format!("it shows {said}"))
            }
            Progress::Done(hello) => match hello.server_name {
                None => Speech::Refused(Reason::SniMissing, String::new()),
                Some(name) if name.eq_ignore_ascii_case(target.host.as_str()) => Speech::Tls,
                Some(name) => Speech::Refused(Reason::SniMismatch, format!("it asks for {name}")),
            },
        },
        Some(_) => {
            let head = bytes.get(..LONGEST_METHOD.min(bytes.len())).unwrap_or_default();
            let word = head.split(|byte| *byte == b' ').next().unwrap_or_default();
            let is_word = word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
            match (is_word, word.len()) {
                (false, _) | (_, 0 | LONGEST_METHOD) => {
                    Speech::Refused(Reason::UnknownProtocol, "neither TLS nor HTTP".into())
                }
                _ if word == b"PRI" => Speech::Refused(Reason::UnknownProtocol, "HTTP/2 without TLS".into()),
                (true, length) if length == head.len() => Speech::More,
                _ => Speech::Http,
            }
        }
    }
}

/// Runs a tunnel whose `200` was sent.
pub(super) async fn run(
    door: &Arc<Inner>,
    client: OnUpgrade,
    mut upstream: Counted<TcpStream>,
    mut attempt: Attempt,
    target: &Target,
) {
    let live = Arc::clone(&upstream.live);
    let Ok(upgraded) = client.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Box<dyn Io>>>() else { return };
    let mut stream = parts.io.into_inner();
    let mut said = BytesMut::from(parts.read_buf.as_ref());
    let listened = tokio::select! {
        listened = timeout(door.limits.hello_time, listen(&mut stream, &mut said, target)) => listened,
        () = live.end.cancelled() => return,
    };
    match listened {
        Err(_) => {
            let detail =
                if said.is_empty() { "nothing was said" } else { "the first message is not complete" };
            attempt.refuse(Reason::HelloTimeout, detail);
        }
        // The client went without a word: it only looked whether somebody is there.
        Ok(Speech::More) => attempt.fail(Reason::HelloTimeout, "the client left before it said anything"),
        Ok(Speech::Refused(reason, detail)) => {
            attempt.refuse(reason, &detail);
            let alert = match reason {
                Reason::SniMismatch | Reason::SniMissing => Some(&UNRECOGNIZED_NAME),
                Reason::EncryptedHello => Some(&ACCESS_DENIED),
                _ => None,
            };
            if let Some(alert) = alert {
                // A client that does not read it has its end all the same.
                drop(timeout(ALERT_TIME, stream.write_all(alert)).await);
            }
            drop(timeout(ALERT_TIME, stream.shutdown()).await);
        }
        Ok(Speech::Tls) => {
            if upstream.write_all(&said).await.is_ok() {
                drop(said);
                forward::carry(&mut stream, &mut upstream, &live).await;
            }
        }
        Ok(Speech::Http) => {
            let client = Rewound { said: said.freeze(), stream };
            if let Err(refusal) = http(door, client, upstream, target).await {
                attempt.fail(refusal.reason, &refusal.detail);
            }
        }
    }
    drop(attempt);
}

/// Reads until it is clear what comes; [`Speech::More`] where the client goes before.
async fn listen(stream: &mut Box<dyn Io>, said: &mut BytesMut, target: &Target) -> Speech {
    loop {
        match judge(said, target) {
            Speech::More if said.len() >= hello::LONGEST_HELLO => {
                return Speech::Refused(Reason::UnknownProtocol, "a TLS hello: it is too long".into());
            }
            Speech::More => {}
            known => return known,
        }
        let mut room = [0; 4_096];
        match stream.read(&mut room).await {
            Ok(0) | Err(_) => return Speech::More,
            Ok(count) => said.extend_from_slice(room.get(..count).unwrap_or_default()),
        }
    }
}

/// Serves plain HTTP inside a tunnel.
async fn http(
    door: &Arc<Inner>,
    client: Rewound,
    upstream: Counted<TcpStream>,
    target: &Target,
) -> Result<(), Refusal> {
    let live = Arc::clone(&upstream.live);
    let sender = Arc::new(Mutex::new(forward::begin(door, upstream).await?));
    let slot = Slot::default();
    let service = service_fn(|request| {
        let (door, slot, sender) = (Arc::clone(door), Arc::clone(&slot), Arc::clone(&sender));
        let target = target.clone();
        async move { Ok::<_, Infallible>(answer(&door, &slot, &sender, request, &target).await) }
    });
    let served = door.http().serve_connection(TokioIo::new(client), service).with_upgrades();
    tokio::select! {
        ended = served => if let Err(error) = ended {
            door.note_break(&error, Some(target), true);
        },
        () = live.end.cancelled() => return Ok(()),
    }
    if let Some(After::Bridge { client, upstream, .. }) = take(&slot) {
        forward::bridge(client, upstream, &live).await;
    }
    Ok(())
}

async fn answer(
    door: &Arc<Inner>,
    slot: &Slot,
    sender: &Mutex<Sender>,
    request: Request<Incoming>,
    target: &Target,
) -> Response<Body> {
    let asked = request.headers().get(hyper::header::HOST).and_then(|host| host.to_str().ok());
    let asked = asked.unwrap_or_default().to_owned();
    let (parts, body) = request.into_parts();
    let judged = if parts.method == HttpMethod::CONNECT {
        let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
        Err(Refusal::new(Reason::NestedConnect, format!("CONNECT {authority} inside {target}")).of(target))
    } else if parts.uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        Err(Refusal::new(Reason::BadRequest, "a URL that is not http:// inside a tunnel").of(target))
    } else {
        forward::check_host(&parts, target, 80)
    };
    if let Err(refusal) = judged {
        door.recorder.attempt(Method::Http, &asked, target.port).refuse(refusal.reason, &refusal.detail);
        return refusal.response();
    }
    let mut sender = sender.lock().await;
    match forward::send(&mut sender, Request::from_parts(parts, body), target).await {
        Ok(Sent::Answer(response)) => forward::held(response, None),
        Ok(Sent::Switched(response, client, upstream)) => {
            leave(slot, After::Bridge { client, upstream, attempt: None });
            response
        }
        Err(refusal) => refusal.response(),
    }
}

/// A stream of which some was read already.
#[derive(Debug)]
struct Rewound {
    said: Bytes,
    stream: Box<dyn Io>,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.said.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.said.len().min(buffer.remaining());
        buffer.put_slice(self.said.get(..count).unwrap_or_default());
        self.said.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target() -> Target {
        Target::parse("api.example.com:443", None).unwrap()
    }

    fn reason(bytes: &[u8]) -> Option<Reason> {
        match judge(bytes, &target()) {
            Speech::Refused(reason, _) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn a_tunnel_goes_on_as_what_it_said_it_is_for() {
        assert_eq!(judge(&hello::write("API.example.com", &[1; 32]), &target()), Speech::Tls);
        assert_eq!(judge(b"GET / HTTP/1.1\r\n", &target()), Speech::Http);
        assert_eq!(judge(b"M-SEARCH * HTTP/1.1\r\n", &target()), Speech::Http);
        assert_eq!(judge(b"GE", &target()), Speech::More);
        assert_eq!(reason(&hello::write("evil.example", &[1; 32])), Some(Reason::SniMismatch));
        assert_eq!(
            reason(&hello::write("api.example.com.evil.example", &[1; 32])),
            Some(Reason::SniMismatch)
        );
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"\x80\x2e\x01",
            b"\0",
            b" GET",
            b"get / ",
            b"PRI * HTTP/2.0",
            &[b'A'; 16],
        ] {
            assert_eq!(reason(bytes), Some(Reason::UnknownProtocol), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_judged(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = judge(&bytes, &target());
        }
    }
}

//! A client's connection to the door: requests that a proxy takes, each judged on its own.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method as HttpMethod, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::answer::{Body, Refusal};
use super::dial::bad_target;
use super::event::{Method, Reason};
use super::forward::{self, PROBE, Sent};
use super::listener::Io;
use super::live::Counted;
use super::name::Target;
use super::open::Inner;
use super::record::Attempt;
use super::tunnel;

/// What follows on a connection after its last answer.
pub(super) enum After {
    /// A tunnel.
    Tunnel { client: OnUpgrade, upstream: Counted<TcpStream>, attempt: Attempt, target: Target },
    /// WebSocket.
    Bridge { client: OnUpgrade, upstream: OnUpgrade, attempt: Option<Attempt> },
}

/// Where a request leaves what follows.
pub(super) type Slot = Arc<Mutex<Option<After>>>;

pub(super) fn leave(slot: &Slot, after: After) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(after);
}

pub(super) fn take(slot: &Slot) -> Option<After> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Inner {
    /// How connections are read.
    pub(super) fn http(&self) -> http1::Builder {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_buf_size(self.limits.header_bytes.max(8_192))
            .half_close(false);
        http
    }

    /// Notes a request that could not even be read; other breaks are everyday, and so is an open connection on which no
    /// further request comes.
    pub(super) fn note_break(self: &Arc<Self>, error: &hyper::Error, target: Option<&Target>, is_used: bool) {
        let reason = if error.is_parse_too_large() {
            Reason::HeaderTooLarge
        } else if error.is_parse() {
            Reason::BadRequest
        } else if error.is_timeout() && !is_used {
            Reason::HelloTimeout
        } else {
            return;
        };
        let (host, port) = target.map_or(("", 0), |target| (target.host.as_str(), target.port));
        self.recorder.attempt(Method::Unknown, host, port).refuse(reason, &error.to_string());
    }
}

/// Serves a client until it goes.
pub(super) async fn connection(door: Arc<Inner>, stream: Box<dyn Io>) {
    let slot = Slot::default();
    let used = AtomicBool::new(false);
    let service = service_fn(|request| {
        used.store(true, Ordering::Relaxed);
        let (door, slot) = (Arc::clone(&door), Arc::clone(&slot));
        async move { Ok::<_, Infallible>(answer(&door, &slot, request).await) }
    });
    let served = door.http().serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        ended = served => if let Err(error) = ended {
            door.note_break(&error, None, used.load(Ordering::Relaxed));
        },
        () = door.closing.cancelled() => return,
    }
    match take(&slot) {
        Some(After::Tunnel { client, upstream, attempt, target }) => {
            tunnel::run(&door, client, upstream, attempt, &target).await;
        }
        Some(After::Bridge { client, upstream, attempt }) => {
            if let Some(live) = attempt.as_ref().and_then(|attempt| attempt.live.as_ref()) {
                forward::bridge(client, upstream, live).await;
            }
        }
        None => {}
    }
}

async fn answer(door: &Arc<Inner>, slot: &Slot, request: Request<Incoming>) -> Response<Body> {
    let answered = if request.method() == HttpMethod::CONNECT {
        connect(door, slot, request).await
    } else {
        plain(door, slot, request).await
    };
    answered.unwrap_or_else(|refusal| refusal.response())
}

async fn connect(
    door: &Arc<Inner>,
    slot: &Slot,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let authority = request.uri().authority().map_or("", |authority| authority.as_str()).to_owned();
    let mut attempt = door.recorder.attempt(Method::Connect, &authority, 0);
    let token = request.headers().get(PROBE).map(hyper::header::HeaderValue::as_bytes);
    if token == Some(door.probe_token.as_bytes()) {
        attempt.is_probe();
    }
    let judged = (|| {
        let target = Target::parse(&authority, None).map_err(bad_target)?;
        attempt.name(&target);
        let has = |name| request.headers().contains_key(name);
        if request.uri().scheme().is_some() || has(CONTENT_LENGTH) || has(TRANSFER_ENCODING) {
            let refusal = Refusal::new(Reason::BadRequest, "a CONNECT has a host and a port, and no body");
            return Err(refusal.of(&target));
        }
        let mut hosts = request.headers().get_all(hyper::header::HOST).iter();
        // Old clients send none; what is sent is for the same target, with or without its port.
        let is_ours = |host: &hyper::header::HeaderValue| {
            let text = host.to_str().ok().unwrap_or_default();
            Target::parse(text, Some(target.port)).is_ok_and(|found| found == target)
        };
        if !hosts.all(is_ours) || request.headers().get_all(hyper::header::HOST).iter().count() > 1 {
            let refusal = Refusal::new(Reason::HostMismatch, format!("CONNECT to {target}"));
            return Err(refusal.of(&target));
        }
        Ok(target)
    })();
    let target = judged.inspect_err(|refusal| attempt.refuse(refusal.reason, &refusal.detail))?;
    let upstream = door.dial(&mut attempt, &target).await?;
    let client = hyper::upgrade::on(&mut request);
    leave(slot, After::Tunnel { client, upstream, attempt, target });
    Ok(Response::new(http_body_util::Either::Left(http_body_util::Full::default())))
}

async fn plain(
    door: &Arc<Inner>,
    slot: &Slot,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let authority = request.uri().authority().map_or("", |authority| authority.as_str()).to_owned();
    let method = if authority.is_empty() { Method::Unknown } else { Method::Http };
    let mut attempt = door.recorder.attempt(method, &authority, 0);
    let (parts, body) = request.into_parts();
    let judged = (|| {
        if parts.uri.scheme_str() != Some("http") {
            let why = "this is a proxy: it takes CONNECT host:port and requests with the whole http:// URL";
            return Err(Refusal::new(Reason::BadRequest, why));
        }
        let target = Target::parse(&authority, Some(80)).map_err(bad_target)?;
        attempt.name(&target);
        forward::check_host(&parts, &target, 80)?;
        Ok(target)
    })();
    let target = judged.inspect_err(|refusal| attempt.refuse(refusal.reason, &refusal.detail))?;
    let upstream = door.dial(&mut attempt, &target).await?;
    let sent = async {
        let mut sender = forward::begin(door, upstream).await?;
        forward::send(&mut sender, Request::from_parts(parts, body), &target).await
    };
    match sent.await {
        Ok(Sent::Answer(response)) => Ok(forward::held(response, Some(attempt))),
        Ok(Sent::Switched(response, client, upstream)) => {
            leave(slot, After::Bridge { client, upstream, attempt: Some(attempt) });
            Ok(response)
        }
        Err(refusal) => {
            attempt.fail(refusal.reason, &refusal.detail);
            // What was cut off by a rule is told as that.
            let cut = attempt.live.as_ref().and_then(|live| live.why());
            Err(cut.map_or(refusal, |why| Refusal::new(why, "")).of(&target))
        }
    }
}

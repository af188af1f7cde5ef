//! Whether a destination can be reached through the door, found out by going through it.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::answer::REASON;
use super::fault::{DoorError, DoorErrorKind};
use super::forward::PROBE;
use super::hello;
use super::listener::Io;
use super::name::Target;
use super::open::Door;
use crate::text::{bounded, plain};

/// Time for the first byte of the destination.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Time for the door's own answer, beyond its limits for resolving and connecting.
const GRACE: Duration = Duration::from_secs(5);
/// Most bytes of the door's answer.
const MOST_ANSWER: usize = 16 << 10;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// Allowed, and somebody is there.
    Reached,
    /// Allowed, and nobody answers.
    Unreachable,
    /// Denied.
    Denied,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Where to, as `host:port`.
    pub target: String,
    /// What it found.
    pub found: Found,
    /// Why, as a stable word; empty where it was reached.
    pub reason: String,
    /// What else is to be said. Plain text.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Door {
    /// Goes through the door to a destination as a client does: a tunnel, and a first message of TLS, or of HTTP where the
    /// destination is port 80 or this machine. A followed file of rules is read first, so that what was written before
    /// the call counts.
    ///
    /// # Errors
    /// Where the door itself does not answer.
    pub async fn probe(&self, host: &str, port: u16) -> Result<Probe, DoorError> {
        let started = self.inner.clock.monotonic();
        self.refresh();
        let said = bounded(&plain(host), 300);
        let done = |found, reason: &str, detail: &str| Probe {
            target: format!("{said}:{port}"),
            found,
            reason: reason.to_owned(),
            detail: bounded(&plain(detail), 300),
            took_ms: u64::try_from(self.inner.clock.monotonic().saturating_sub(started).as_millis())
                .unwrap_or(u64::MAX),
        };
        // What is no name is not written into a request.
        let target = match Target::parse(host, Some(port)) {
            Ok(target) if target.port == port => target,
            Ok(_) => return Ok(done(Found::Denied, "bad_name", "the host has a port of its own")),
            Err(fault) => {
                let refusal = super::dial::bad_target(fault);
                return Ok(done(Found::Denied, refusal.reason.word(), &refusal.detail));
            }
        };
        let failed =
            |error| DoorError { what: format!("probe of {target}"), kind: DoorErrorKind::Probe(error) };
        let limits = &self.inner.limits;
        let time = limits.resolve_time + limits.connect_time + limits.record_time + GRACE;
        let open = async {
            let mut stream = self.address.connect().await?;
            let request = format!(
                "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{PROBE}: {}\r\n\r\n",
                self.inner.probe_token
            );
            stream.write_all(request.as_bytes()).await?;
            let answer = head(&mut stream).await?;
            Ok::<_, io::Error>((stream, answer))
        };
        let opened = timeout(time, open).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (mut stream, answer) = opened.map_err(failed)?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if status != "200" {
            let reason = answer
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case(REASON))
                .map_or("", |(_, value)| value.trim());
            let found = if status == "502" { Found::Unreachable } else { Found::Denied };
            let detail = match answer.split_once("\r\n\r\n") {
                Some((_, body)) => serde_json::from_str::<serde_json::Value>(body.trim())
                    .ok()
                    .and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()))
                    .unwrap_or_default(),
                None => String::new(),
            };
            return Ok(done(found, reason, &detail));
        }
        let message = if target.port == 80 || target.host.is_alias() {
            format!("HEAD / HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n").into_bytes()
        } else {
            hello::write(target.host.as_str(), &[0x5e; 32])
        };
        let spoken = async {
            stream.write_all(&message).await?;
            let mut first = [0; 1];
            stream.read(&mut first).await.map(|count| (count, first))
        };
        Ok(match timeout(FIRST_BYTE, spoken).await {
            Ok(Ok((1.., [0x15 | 0x16]))) => done(Found::Reached, "", "it answers in TLS"),
            Ok(Ok((1.., _))) => done(Found::Reached, "", "it answers"),
            // Connected it is.
            Ok(_) => done(Found::Reached, "", "it was connected and closed without a word"),
            Err(_) => done(Found::Reached, "", "it was connected and said nothing in time"),
        })
    }
}

/// The door's answer: its header, and its body where it is a refusal.
async fn head(stream: &mut Box<dyn Io>) -> io::Result<String> {
    let mut held = Vec::new();
    let mut room = [0; 2_048];
    loop {
        let count = stream.read(&mut room).await?;
        held.extend_from_slice(room.get(..count).unwrap_or_default());
        let text = String::from_utf8_lossy(&held);
        let is_whole = text.contains("\r\n\r\n");
        let is_open = text.split(' ').nth(1) == Some("200");
        // A refusal ends with the connection.
        if count == 0 || held.len() > MOST_ANSWER || (is_whole && is_open) {
            if !is_whole {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(text.into_owned());
        }
    }
}

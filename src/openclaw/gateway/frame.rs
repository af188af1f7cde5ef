//! Frames of the gateway, read with tolerance for what is not known and without trust in what is.
//!
//! **Invariant:** no frame, whatever is in it, makes reading fail in any way but by an error.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::names::{code, method};
use super::{ClientKind, DevicePayload, PLATFORM, PROTOCOL, ROLE, Scope};

/// Values that one frame may hold, counted by its commas: reading each takes some thirty bytes however short it is.
const MOST_VALUES: usize = 1_000_000;

/// A message from the gateway; what it carries is not read yet.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// Something happened.
    Event {
        /// As in [`super::names::event`].
        name: Cow<'a, str>,
        /// Counts up by one a connection; events for one connection alone have none.
        seq: Option<u64>,
        /// What it says.
        payload: Option<&'a RawValue>,
    },
    /// The answer to a request.
    Response {
        /// The request's id.
        id: Cow<'a, str>,
        /// What came of it.
        result: Result<Option<&'a RawValue>, RemoteError>,
    },
    /// A kind of frame that is not known here, to be passed over.
    Other,
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    seq: Option<Value>,
    #[serde(default)]
    ok: bool,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Why a frame is none.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, or of another shape.
    #[error("a frame that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// More values than any frame needs.
    #[error("a frame with more than {MOST_VALUES} values")]
    Crowded,
}

impl<'a> Incoming<'a> {
    /// Reads a frame's envelope.
    ///
    /// # Errors
    /// [`FrameError`], whatever the frame is.
    pub fn read(text: &'a str) -> Result<Self, FrameError> {
        if memchr::memchr_iter(b',', text.as_bytes()).nth(MOST_VALUES).is_some() {
            return Err(FrameError::Crowded);
        }
        let raw: Raw<'a> = serde_json::from_str(text)?;
        Ok(match (&*raw.kind, raw.event, raw.id) {
            ("event", Some(name), _) => {
                Self::Event { name, seq: raw.seq.and_then(|seq| seq.as_u64()), payload: raw.payload }
            }
            ("res", _, Some(id)) if raw.ok => Self::Response { id, result: Ok(raw.payload) },
            ("res", _, Some(id)) => Self::Response { id, result: Err(RemoteError::of(raw.error)) },
            _ => Self::Other,
        })
    }
}

/// Why the gateway refused a request, in its own words: untrusted text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RemoteError {
    /// `INVALID_REQUEST`, `FORBIDDEN`, `NOT_PAIRED`, …
    #[serde(deserialize_with = "text")]
    pub code: String,
    /// A sentence.
    #[serde(deserialize_with = "text")]
    pub message: String,
    /// More, by code.
    pub details: Value,
}

impl RemoteError {
    fn of(raw: Option<&RawValue>) -> Self {
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// The finer code, or the coarse one.
    pub fn detail_code(&self) -> &str {
        self.details.get("code").and_then(Value::as_str).unwrap_or(&self.code)
    }

    /// The version of the protocol that the gateway speaks, where that was the trouble.
    pub fn expected_protocol(&self) -> Option<u64> {
        self.details.get("expectedProtocol").and_then(Value::as_u64)
    }

    /// Whether the trouble is that no or another token was given.
    pub fn is_about_token(&self) -> bool {
        let code = self.detail_code();
        code == code::TOKEN_MISMATCH || code == code::TOKEN_MISSING || code.starts_with("AUTH_")
    }

    /// Whether the trouble is the device.
    pub fn is_about_pairing(&self) -> bool {
        self.code == code::NOT_PAIRED || self.detail_code() == code::PAIRING_REQUIRED
    }

    /// The id under which `openclaw devices approve` knows the device: letters, digits, `-` and `_`, or nothing, so
    /// that it can stand in a command that a person copies.
    pub fn request_id(&self) -> Option<&str> {
        let id = self.details.get("requestId")?.as_str()?;
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        ((1..=64).contains(&id.len()) && id.chars().all(sound) && !id.starts_with('-')).then_some(id)
    }

    /// The scope that a method needs and the connection has not.
    pub fn missing_scope(&self) -> Option<Scope> {
        let word = self.details.get("missingScope")?.as_str()?;
        Scope::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

/// Text of any type: a number or nothing where a text should be is no reason to lose the rest.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}

/// The payload of `connect.challenge`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Challenge {
    /// Goes into what a device signs.
    pub nonce: String,
    /// Milliseconds since the epoch by the gateway's clock.
    pub ts: i64,
}

/// The payload of the answer to `connect`; what else it holds (a device token, a snapshot of everything) is not kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hello {
    /// `hello-ok`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version that is spoken from now on.
    pub protocol: Option<u64>,
    /// Who answers.
    pub server: Server,
    /// What was granted.
    pub auth: Auth,
    /// Limits.
    pub policy: Policy,
}

/// `server` of [`Hello`]: untrusted text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// As `2026.9.6`.
    pub version: String,
    /// Another one after each start of the gateway.
    pub boot_id: String,
}

/// `auth` of [`Hello`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// Granted scopes; empty, with an otherwise fine answer, for a connection that is not trusted.
    pub scopes: Vec<String>,
}

/// `policy` of [`Hello`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    /// Bytes of the largest message.
    pub max_payload: Option<u64>,
    /// Milliseconds between ticks.
    pub tick_interval_ms: Option<u64>,
}

#[derive(Serialize)]
struct Request<'a, P: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    method: &'a str,
    params: P,
}

/// A request as it goes over the wire.
///
/// # Errors
/// Where `params` cannot be written as JSON.
pub fn request(id: &str, method: &str, params: impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Request { kind: "req", id, method, params })
}

/// The signature of a device, ready for the wire.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceProof {
    /// Hex SHA-256 of the raw public key.
    pub id: String,
    /// The raw public key in base64url without padding.
    pub public_key: String,
    /// Of [`DevicePayload::text`], in base64url without padding.
    pub signature: String,
    /// `ts` of the challenge.
    pub signed_at: i64,
    /// `nonce` of the challenge.
    pub nonce: String,
}

/// What a connection asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who it is.
    pub client: ClientKind,
    /// What it wants to do.
    pub scopes: &'a [Scope],
    /// As [`super::CAP_TOOL_EVENTS`].
    pub caps: &'a [&'a str],
    /// Our own version.
    pub version: &'a str,
}

impl Asked<'_> {
    /// What a device signs for this, with a challenge and a token.
    pub fn payload<'a>(
        &'a self,
        device_id: &'a str,
        challenge: &'a Challenge,
        token: &'a str,
    ) -> DevicePayload<'a> {
        let (signed_at, nonce) = (challenge.ts, challenge.nonce.as_str());
        DevicePayload { device_id, client: self.client, scopes: self.scopes, signed_at, token, nonce }
    }

    /// The connect request. It holds the token: never show it.
    ///
    /// # Errors
    /// None in practice: all of it is text.
    pub fn request(
        &self,
        id: &str,
        token: &str,
        device: Option<&DeviceProof>,
    ) -> Result<String, serde_json::Error> {
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.word()).collect();
        let mut params = serde_json::json!({
            "minProtocol": PROTOCOL,
            "maxProtocol": PROTOCOL,
            "client": {
                "id": self.client.id(),
                "displayName": "Sentrix",
                "version": self.version,
                "platform": PLATFORM,
                "mode": self.client.mode(),
            },
            "role": ROLE,
            "scopes": scopes,
            "caps": self.caps,
        });
        if let Some(params) = params.as_object_mut() {
            if !token.is_empty() {
                params.insert("auth".into(), serde_json::json!({ "token": token }));
            }
            if let Some(device) = device {
                params.insert("device".into(), serde_json::to_value(device)?);
            }
        }
        request(id, method::CONNECT, params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_any_kind_are_read_or_refused() {
        let event = Incoming::read(r#"{"type":"event","event":"tick","payload":{"ts":1},"seq":7,"new":[]}"#);
        assert!(matches!(event, Ok(Incoming::Event { name, seq: Some(7), .. }) if name == "tick"));
        let odd = Incoming::read(r#"{"type":"event","event":"t\u0069ck","seq":-1}"#);
        assert!(
            matches!(odd, Ok(Incoming::Event { name, seq: None, payload: None }) if name == "tick"),
            "escapes and odd numbers"
        );
        assert!(matches!(Incoming::read(r#"{"type":"pong"}"#), Ok(Incoming::Other)));
        assert!(matches!(Incoming::read(r#"{"type":"res","ok":true}"#), Ok(Incoming::Other)));
        for text in ["", "3", "{\"type\":4}", "\u{0}", "{\"type\":\"event\",\"event\":{}}"] {
            assert!(Incoming::read(text).is_err(), "{text}");
        }
        let deep = format!("{{\"type\":\"event\",\"event\":\"x\",\"payload\":{}", "[".repeat(100_000));
        assert!(Incoming::read(&deep).is_err());
        let crowded = format!("{{\"type\":\"event\",\"payload\":[0{}]}}", ",0".repeat(MOST_VALUES + 1));
        assert!(matches!(Incoming::read(&crowded), Err(FrameError::Crowded)));
    }

    #[test]
    fn a_request_id_that_could_be_a_command_is_none() {
        let error = |id: &str| RemoteError {
            details: serde_json::json!({ "requestId": id }),
            ..RemoteError::default()
        };
        assert_eq!(error("115d3f86-a2a4").request_id(), Some("115d3f86-a2a4"));
        for id in ["", "x; rm -rf /", "$(id)", "--all", &"a".repeat(65)] {
            assert_eq!(error(id).request_id(), None, "{id}");
        }
    }

    #[test]
    fn an_error_of_odd_shape_is_still_one() {
        let refused = |text: &str| match Incoming::read(text) {
            Ok(Incoming::Response { result: Err(error), .. }) => error,
            other => panic!("{other:?}"),
        };
        let error = refused(r#"{"type":"res","id":"1","ok":false,"error":{"code":7,"message":null}}"#);
        assert_eq!((error.code.as_str(), error.message.as_str()), ("7", ""));
        assert_eq!(refused(r#"{"type":"res","id":"1","error":"no"}"#), RemoteError::default());
    }
}

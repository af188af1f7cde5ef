//! `OpenClaw`'s gateway, version 4 of its protocol: who connects, with what rights, and how a device signs.
//!
//! Source of this folder, unless told otherwise: `OpenClaw` 2026.9.6, frames captured from its WebSocket.

use std::fmt;

pub mod frame;
pub mod names;

/// The version of the protocol that is spoken here. The gateway refuses a client whose range does not hold its own.
pub const PROTOCOL: u64 = 4;
/// Port of the gateway. Source: `openclaw gateway run --help`.
pub const PORT: u16 = 18_789;
/// Bytes of the largest message in either direction. Source: `policy.maxPayload` of hello-ok.
pub const MAX_PAYLOAD: usize = 26_214_400;
/// Milliseconds between two ticks, where hello-ok says nothing. Source: `policy.tickIntervalMs`.
pub const TICK_MS: u64 = 30_000;

/// A right of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// See sessions, histories and events.
    Read,
    /// Send messages, abort runs.
    Write,
    /// All of it. A connection that asked for it is granted just this word.
    Admin,
    /// Answer approvals.
    Approvals,
    /// Approve devices.
    Pairing,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Admin, Self::Approvals, Self::Pairing];

    /// Its word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "operator.read",
            Self::Write => "operator.write",
            Self::Admin => "operator.admin",
            Self::Approvals => "operator.approvals",
            Self::Pairing => "operator.pairing",
        }
    }

    /// What was asked for and is not granted.
    pub fn missing(asked: &[Self], granted: &[String]) -> Vec<Self> {
        let has = |scope: &Self| granted.iter().any(|word| word == scope.word());
        if has(&Self::Admin) {
            return Vec::new();
        }
        asked.iter().copied().filter(|scope| !has(scope)).collect()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a client says it is. The gateway takes a fixed list of words and refuses all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// `gateway-client`, mode `backend`: a program.
    #[default]
    Backend,
    /// `cli`, mode `cli`: a person at a terminal.
    Cli,
    /// `openclaw-probe`, mode `probe`: looks and goes away.
    Probe,
}

impl ClientKind {
    /// `client.id`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Backend => "gateway-client",
            Self::Cli => "cli",
            Self::Probe => "openclaw-probe",
        }
    }

    /// `client.mode`.
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Cli => "cli",
            Self::Probe => "probe",
        }
    }
}

/// The role of every connection of ours.
pub const ROLE: &str = "operator";
/// What `client.platform` says of us; also signed.
pub const PLATFORM: &str = "linux";

/// A capability: tool arguments and results as `agent` events of stream `tool`, to the connection that sent the
/// message.
pub const CAP_TOOL_EVENTS: &str = "tool-events";

/// What a device signs so that its connection keeps its scopes.
#[derive(Clone, Copy, Debug)]
pub struct DevicePayload<'a> {
    /// Hex SHA-256 of the raw public key.
    pub device_id: &'a str,
    /// Who connects.
    pub client: ClientKind,
    /// Scopes asked for, in the order of the connect frame.
    pub scopes: &'a [Scope],
    /// `ts` of the challenge, in milliseconds.
    pub signed_at: i64,
    /// The gateway's token as in `auth.token`, or nothing.
    pub token: &'a str,
    /// `nonce` of the challenge.
    pub nonce: &'a str,
}

impl DevicePayload<'_> {
    /// The text that is signed: `v3|id|clientId|clientMode|role|scopes|signedAt|token|nonce|platform|family`, the
    /// family left empty. It holds the token: never show it.
    pub fn text(&self) -> String {
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.word()).collect();
        format!(
            "v3|{}|{}|{}|{ROLE}|{}|{}|{}|{}|{PLATFORM}|",
            self.device_id,
            self.client.id(),
            self.client.mode(),
            scopes.join(","),
            self.signed_at,
            self.token,
            self.nonce,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_is_all_and_nothing_is_nothing() {
        let asked = [Scope::Read, Scope::Write];
        assert_eq!(Scope::missing(&asked, &[]), asked);
        assert_eq!(Scope::missing(&asked, &["operator.read".into()]), [Scope::Write]);
        assert_eq!(Scope::missing(&asked, &["operator.admin".into()]), []);
    }

    #[test]
    fn the_payload_is_that_of_version_three() {
        let payload = DevicePayload {
            device_id: "29f1",
            client: ClientKind::Backend,
            scopes: &[Scope::Read, Scope::Write],
            signed_at: 1_795_352_958_285,
            token: "tok",
            nonce: "8fa9",
        };
        assert_eq!(
            payload.text(),
            "v3|29f1|gateway-client|backend|operator|operator.read,operator.write|1795352958285|tok|8fa9|linux|"
        );
    }
}

//! What the door tells: each attempt with who, where, how much, and why not.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How an attempt came to the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A tunnel.
    Connect,
    /// A plain request with the whole URL.
    Http,
    /// The door's own probe.
    Probe,
    /// Something that is no request.
    Unknown,
}

impl Method {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Http => "http",
            Self::Probe => "probe",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether an attempt was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The policy allowed it, whatever came of it.
    Allowed,
    /// It was refused.
    Denied,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal, $text:literal;)+) => {
        /// Why an attempt was refused, failed or ended early.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// What it means, for people and models.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// No rule allows it.
    NotAllowed = "not_allowed", "no rule allows this destination";
    /// A rule denies it.
    DeniedByRule = "denied_by_rule", "a rule denies this destination";
    /// The host name is none.
    BadName = "bad_name", "the host name is not one that the door takes";
    /// The host is an address.
    IpLiteral = "ip_literal", "addresses are refused: use the host's name";
    /// The request is none.
    BadRequest = "bad_request", "the request is not one that a proxy takes";
    /// The header is too large.
    HeaderTooLarge = "header_too_large", "the request's header is too large";
    /// The name leads to an address that is not of the public internet.
    PrivateAddress = "private_address", "the name leads to an address that is not of the public internet";
    /// The name could not be resolved.
    Unresolved = "unresolved", "the name could not be resolved";
    /// Nobody answered at the address.
    Unreachable = "unreachable", "the destination could not be reached";
    /// The destination answered, but not as HTTP wants it.
    UpstreamBroken = "upstream_broken", "the destination broke off or gave no HTTP answer";
    /// The TLS client asks for another name than the tunnel is for.
    SniMismatch = "sni_mismatch", "the TLS client asks for another host than the tunnel is for";
    /// The TLS client asks for no name.
    SniMissing = "sni_missing", "the TLS client does not say which host it wants";
    /// The TLS client hides the name it asks for.
    EncryptedHello = "encrypted_hello", "the TLS client hides which host it wants";
    /// What comes through the tunnel is neither TLS nor HTTP.
    UnknownProtocol = "unknown_protocol", "only TLS and HTTP may go through a tunnel";
    /// Nothing, or not enough, came through the tunnel in time.
    HelloTimeout = "hello_timeout", "nothing came through the tunnel in time";
    /// The Host header names another host than the request or the tunnel.
    HostMismatch = "host_mismatch", "the Host header names another host than the request goes to";
    /// A tunnel inside a tunnel.
    NestedConnect = "nested_connect", "a tunnel inside a tunnel is refused";
    /// A change to a protocol that is none of the known.
    Upgrade = "upgrade", "only a change to WebSocket is allowed";
    /// Too much was sent on one connection.
    UploadLimit = "upload_limit", "more was sent on this connection than one may send";
    /// Too much was sent in all.
    TotalLimit = "total_limit", "more was sent through the door within the hour than may be";
    /// Too many new connections.
    RateLimit = "rate_limit", "too many new connections; slow down";
    /// Too many connections at once.
    TooManyConnections = "too_many_connections", "too many connections at once";
    /// The rules changed while it was open.
    Revoked = "revoked", "the rules no longer allow this destination";
    /// Nothing moved for too long.
    Idle = "idle", "nothing moved on the connection for too long";
    /// Attempts cannot be recorded, and nothing goes out unrecorded.
    RecorderStuck = "recorder_stuck", "attempts cannot be recorded at present, and nothing goes out unrecorded";
    /// The door closes.
    Closing = "closing", "the door is closing";
}

impl Reason {
    /// Whether a rule could change it, so that a person may be asked for one.
    pub const fn is_about_rules(self) -> bool {
        matches!(self, Self::NotAllowed | Self::DeniedByRule | Self::Revoked)
    }
}

/// One attempt to go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressEvent {
    /// When it began, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The sandbox it came from.
    pub sandbox: String,
    /// How.
    pub method: Method,
    /// The host, as the client wrote it if it is none; at most 253 characters. Hostile text.
    pub host: String,
    /// The port; 0 where none was said.
    pub port: u16,
    /// The address that was connected to.
    pub address: Option<IpAddr>,
    /// Bytes that went out.
    pub bytes_up: u64,
    /// Bytes that came in.
    pub bytes_down: u64,
    /// Whether it was let through.
    pub verdict: Verdict,
    /// Why it was refused, failed or ended early; none where it went well.
    pub reason: Option<Reason>,
    /// What else is to be said: the rule, the name that was asked for. Hostile text.
    pub detail: String,
    /// Whether this destination is new.
    pub first_seen: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

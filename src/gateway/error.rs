//! Why the gateway could not be reached, or would not.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::openclaw::gateway::frame::RemoteError;
use crate::openclaw::gateway::{PROTOCOL, Scope};
use crate::text;

/// Characters of the gateway's own words that an error repeats.
const MOST_WORDS: usize = 300;

/// A fault of one connection to a gateway.
#[derive(Debug, thiserror::Error)]
#[error("gateway {address}: {kind}")]
pub struct GatewayError {
    /// Where it is; without any secret.
    pub address: Arc<str>,
    /// What it is.
    pub kind: GatewayErrorKind,
}

/// How a connection came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The WebSocket's close code, where the gateway sent one: 1008 for what it will not have, 1012 for a restart.
    pub code: Option<u16>,
    /// Why: bounded, without control characters.
    pub reason: String,
}

impl Ending {
    pub(super) fn new(code: Option<u16>, reason: &str) -> Self {
        Self { code, reason: words(reason) }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.reason.as_str()) {
            (Some(code), "") => write!(f, "closed with code {code}"),
            (Some(code), reason) => write!(f, "closed with code {code}: {reason}"),
            (None, reason) => write!(f, "closed: {reason}"),
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum GatewayErrorKind {
    /// The address is none that can be used.
    #[error("not a usable address: {0}")]
    Address(&'static str),
    /// Nobody is there, or the way there is closed.
    #[error("cannot be reached: {0}")]
    Io(io::Error),
    /// There was no WebSocket to be had: the HTTP status, if there was one.
    #[error("no WebSocket is spoken there{}", status(*.0))]
    Http(Option<u16>),
    /// The gateway said what no gateway of this protocol says.
    #[error("not the protocol of a gateway: {0}")]
    Protocol(String),
    /// The gateway speaks another version of the protocol.
    #[error("it speaks {}, and this Sentrix speaks protocol {PROTOCOL}", version(*.theirs))]
    Version {
        /// Theirs, if they said.
        theirs: Option<u64>,
    },
    /// The token is missing or another one.
    #[error("the gateway's token is missing, or another one")]
    Token,
    /// The gateway knows this device not yet.
    #[error("this device is not approved yet{}", request(.request_id.as_deref()))]
    NotPaired {
        /// What to give to `openclaw devices approve`, if the gateway said.
        request_id: Option<String>,
    },
    /// The connection was granted less than it asked for.
    #[error("the connection lacks {}", scopes(.missing))]
    Scopes {
        /// What it asked for and has not.
        missing: Vec<Scope>,
    },
    /// A request was refused.
    #[error("`{method}` was refused: {} ({})", words(&.error.message), words(.error.detail_code()))]
    Refused {
        /// The method.
        method: String,
        /// In the gateway's words: untrusted text.
        error: RemoteError,
    },
    /// The connection is at its end.
    #[error("{0}")]
    Closed(Ending),
    /// A message is larger than the protocol allows.
    #[error("a message of more than {0} bytes")]
    TooBig(usize),
    /// More requests at once than are let.
    #[error("{0} requests wait for an answer already")]
    Busy(usize),
    /// Nothing came in time.
    #[error("no {what} within {after:?}")]
    Timeout {
        /// What did not come.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The file of the device's key.
    #[error("device key {path}: {what}", path = .path.display())]
    Device {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

fn status(status: Option<u16>) -> String {
    status.map(|status| format!(" (HTTP {status})")).unwrap_or_default()
}

fn version(theirs: Option<u64>) -> String {
    theirs.map_or_else(|| "another protocol".into(), |theirs| format!("protocol {theirs}"))
}

fn request(id: Option<&str>) -> String {
    id.map(|id| format!(" (request {id})")).unwrap_or_default()
}

fn scopes(missing: &[Scope]) -> String {
    missing.iter().map(|scope| scope.word()).collect::<Vec<_>>().join(", ")
}

/// Words of the gateway for a person: bounded, on one line, nothing that moves a cursor.
pub(super) fn words(text: &str) -> String {
    text::plain(&text::bounded(text, MOST_WORDS))
}

impl GatewayError {
    /// What a person can do about it.
    pub fn help(&self) -> Option<String> {
        self.kind.help()
    }

    /// Whether another try at the same address may go better without a person.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.kind,
            GatewayErrorKind::Io(_)
                | GatewayErrorKind::Http(_)
                | GatewayErrorKind::Closed(_)
                | GatewayErrorKind::Busy(_)
                | GatewayErrorKind::Timeout { .. }
        )
    }
}

impl GatewayErrorKind {
    /// What a refused `connect` means.
    pub(super) fn of_connect(error: RemoteError) -> Self {
        use crate::openclaw::gateway::names::{code, method};
        match error.detail_code() {
            code::PROTOCOL_MISMATCH => Self::Version { theirs: error.expected_protocol() },
            code::DEVICE_REQUIRED => Self::Token,
            _ if error.is_about_pairing() => {
                Self::NotPaired { request_id: error.request_id().map(str::to_owned) }
            }
            _ if error.is_about_token() => Self::Token,
            _ => Self::Refused { method: method::CONNECT.into(), error },
        }
    }

    fn help(&self) -> Option<String> {
        Some(match self {
            Self::Version { theirs } if theirs.is_some_and(|theirs| theirs < PROTOCOL) => {
                "update OpenClaw (`sentrix build` makes an image with a version that fits)".into()
            }
            Self::Version { .. } => {
                "use a newer Sentrix, or an OpenClaw of this one (`sentrix build` makes an image with it)".into()
            }
            Self::Token => {
                "give the token of this gateway: `gateway.auth.token` of its openclaw.json, in the file of --token-file"
                    .into()
            }
            Self::NotPaired { request_id: Some(id) } => {
                format!("where OpenClaw runs, approve it and try again: openclaw devices approve {id}")
            }
            Self::NotPaired { request_id: None } => {
                "where OpenClaw runs, look at `openclaw devices list` and approve this device".into()
            }
            Self::Scopes { .. } => {
                "connect from the gateway's own loopback, or with a device that was approved for these scopes"
                    .into()
            }
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "is the sandbox running? `sentrix run` starts it".into()
            }
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nobody listens there: is OpenClaw running?".into()
            }
            _ => return None,
        })
    }
}

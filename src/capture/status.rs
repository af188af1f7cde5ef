//! How the capture stands: counters that must add up, and what a status view shows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::incident::IncidentKind;
use super::runs::Session;

/// Events of one source since the capture began.
///
/// Each event that was seen is in exactly one of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Came in.
    pub seen: u64,
    /// Are in the log.
    pub recorded: u64,
    /// Were in the log already, or were said by the other source.
    pub duplicates: u64,
    /// Wait to be written.
    pub held: u64,
    /// Could not be read; an incident says so.
    pub unreadable: u64,
    /// Reasoning that was not to be recorded, and runs that no agent made.
    pub withheld: u64,
    /// Were lost. Nothing counts here unless a bound of the capture itself is broken.
    pub dropped: u64,
}

impl Counters {
    /// Whether all that was seen is accounted for, and nothing was lost.
    pub fn is_balanced(&self) -> bool {
        let told =
            self.recorded + self.duplicates + self.held + self.unreadable + self.withheld + self.dropped;
        self.seen == told && self.dropped == 0
    }
}

/// How the connection to the gateway stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// There is no gateway to listen to.
    #[default]
    None,
    /// It is not reached; why, in safe words.
    Down(String),
    /// It is reached, and what was missed meanwhile is being asked for.
    CatchingUp,
    /// It is listened to, and nothing is missing.
    Live,
}

/// How the capture stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The raw stream.
    pub raw: Counters,
    /// The gateway.
    pub gateway: Counters,
    /// How the connection to the gateway stands.
    pub link: Link,
    /// Age of the oldest event that waits, in milliseconds.
    pub lag_ms: u64,
    /// Bytes of the raw stream that are not in the log yet.
    pub lag_bytes: u64,
    /// Why the log cannot be written, while it cannot.
    pub blocked: Option<String>,
    /// When something was last seen of an agent, in milliseconds since the Unix epoch.
    pub last_activity: Option<i64>,
    /// Sessions by their key.
    pub sessions: BTreeMap<String, Session>,
    /// How often each kind of incident was seen.
    pub incidents: BTreeMap<IncidentKind, u64>,
    /// The file that is written to, or was last.
    pub file: Option<PathBuf>,
}

impl Status {
    /// Whether both sources' counters add up.
    pub fn is_balanced(&self) -> bool {
        self.raw.is_balanced() && self.gateway.is_balanced()
    }
}

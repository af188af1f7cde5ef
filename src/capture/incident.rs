//! What Sentrix itself saw beside the agents' turns: written into the log, where rules flag it, and told to a sink.

use std::fmt;

use crate::text;

/// Characters of hostile text that an incident repeats.
const MAX_TEXT: usize = 600;

/// What kind of incident it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IncidentKind {
    /// The raw stream became shorter, or other bytes stand where lines were read.
    RawTruncated,
    /// Another file took the place of the raw stream.
    RawReplaced,
    /// The raw stream is gone.
    RawVanished,
    /// A model answered, says the gateway, and the raw stream had nothing of it.
    RawSilent,
    /// The raw stream cannot be opened or read.
    RawUnreadable,
    /// A link, pipe or folder stands where the raw stream should be.
    RawNotAFile,
    /// The raw stream holds lines that OpenClaw does not write.
    RawForeign,
    /// A process that does not belong into the sandbox.
    UnknownProcess,
    /// A file of a skill or plugin is new.
    ExtensionAdded,
    /// A file of a skill or plugin has other bytes.
    ExtensionChanged,
    /// A file of a skill or plugin is gone.
    ExtensionRemoved,
    /// A link stands among skills or plugins.
    ExtensionLink,
    /// The log could not be written; the capture waits.
    CaptureBlocked,
    /// The counters do not add up.
    CaptureMiscounted,
    /// Events of the gateway were lost on their way, and are looked for in its history.
    CaptureGap,
}

impl IncidentKind {
    /// The name used in logs and rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RawTruncated => "raw_truncated",
            Self::RawReplaced => "raw_replaced",
            Self::RawVanished => "raw_vanished",
            Self::RawSilent => "raw_silent",
            Self::RawUnreadable => "raw_unreadable",
            Self::RawNotAFile => "raw_not_a_file",
            Self::RawForeign => "raw_foreign",
            Self::UnknownProcess => "unknown_process",
            Self::ExtensionAdded => "extension_added",
            Self::ExtensionChanged => "extension_changed",
            Self::ExtensionRemoved => "extension_removed",
            Self::ExtensionLink => "extension_link",
            Self::CaptureBlocked => "capture_blocked",
            Self::CaptureMiscounted => "capture_miscounted",
            Self::CaptureGap => "capture_gap",
        }
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that Sentrix saw and a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What kind.
    pub kind: IncidentKind,
    /// What was seen, in a sentence: bounded, on one line, nothing that moves a cursor.
    pub text: String,
}

impl Incident {
    /// An incident; `text` may hold hostile text.
    pub fn new(kind: IncidentKind, text: &str) -> Self {
        Self { kind, text: text::plain(&text::bounded(text, MAX_TEXT)) }
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[sentrix:{}] {}", self.kind, self.text)
    }
}

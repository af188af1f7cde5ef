//! Why a capture could not begin.

use std::fmt;
use std::path::PathBuf;

use crate::logs::LogsError;

/// Why a capture could not begin. Once it runs, it waits and says so instead.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The log directory cannot be made.
    #[error("make log directory `{}`", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The logs of before cannot be read back.
    #[error("read back logs")]
    Logs(#[source] LogsError),
    /// Another capture of the same sandbox writes to the directory.
    #[error("capture of sandbox `{sandbox}` runs already, into `{}`", .path.display())]
    Busy {
        /// The sandbox.
        sandbox: Name,
        /// The lock file.
        path: PathBuf,
    },
    /// The sandbox's name cannot stand in a mark.
    #[error("sandbox name `{0}` is none: letters, digits, `-`, `_` and `.`, at most 64")]
    Name(Name),
    /// There is neither a raw stream nor a gateway.
    #[error("neither a raw stream nor a gateway to capture")]
    Nothing,
}

/// A sandbox's name in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub(super) String);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::plain(&self.0))
    }
}

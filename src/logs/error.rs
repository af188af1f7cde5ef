//! What can go wrong with a log directory as a whole. A hostile file is data, not an error.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a log directory, or the bytes of one turn, could not be had.
#[derive(Debug)]
pub struct LogsError {
    /// The directory or file it is about.
    pub path: PathBuf,
    /// What went wrong with it.
    pub kind: LogsErrorKind,
}

impl fmt::Display for LogsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            LogsErrorKind::Sink(_) => self.kind.fmt(f),
            kind => write!(f, "{kind} `{}`", self.path.display()),
        }
    }
}

impl std::error::Error for LogsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum LogsErrorKind {
    /// The operating system said no.
    #[error("read or write log file")]
    Io(#[source] io::Error),
    /// The file a turn was found in is gone: the turn stays unreviewed.
    #[error("find log file")]
    Gone,
    /// The bytes a turn was found in are other bytes now: read the directory again.
    #[error("find the turn's bytes unchanged in")]
    Changed,
    /// Stored reader state that this version cannot read: start from an empty one.
    #[error("read stored log state")]
    State(#[source] serde_json::Error),
    /// The sink of a read pass failed; what it said.
    #[error("store what was read")]
    Sink(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LogsError {
    pub(super) fn new(path: &Path, kind: LogsErrorKind) -> Self {
        Self { path: path.to_owned(), kind }
    }

    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::NotFound;
        Self::new(path, if gone { LogsErrorKind::Gone } else { LogsErrorKind::Io(error) })
    }

    pub(super) fn changed(path: &Path) -> Self {
        Self::new(path, LogsErrorKind::Changed)
    }

    /// Wraps an error of a [`Sink`](super::Sink).
    pub fn sink(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Path::new(""), LogsErrorKind::Sink(error.into()))
    }
}

//! What can go wrong with OpenClaw's own record.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::openclaw::transcript::SCHEMA_VERSIONS;

/// Why a transcript database cannot be read. Nothing of it has been read then.
#[derive(Debug)]
pub struct TranscriptsError {
    /// The file or folder it is about.
    pub path: PathBuf,
    /// What went wrong.
    pub kind: TranscriptsErrorKind,
}

impl fmt::Display for TranscriptsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.kind)
    }
}

impl std::error::Error for TranscriptsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptsErrorKind {
    /// The operating system said no.
    #[error("file")]
    Io(#[from] io::Error),
    /// It is not OpenClaw's folder.
    #[error("no OpenClaw home: it has no folder `agents` (OpenClaw 2026.9 keeps its sessions there)")]
    NotAHome,
    /// A link, a pipe or the like stands where a file should.
    #[error("not a regular file, or reached over a link; links are not followed there")]
    NotAFile,
    /// It is larger than what is copied.
    #[error("{size} bytes, and at most {limit} are copied")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// It was written to all the time: try again later.
    #[error("OpenClaw is writing to it all the time; the next look tries again")]
    Busy,
    /// Its tables are of a version that is not known.
    #[error("schema version {found} is not known, and nothing of it was read; known is {}", known())]
    Version {
        /// The file's version.
        found: i64,
    },
    /// It has not the tables that its version has.
    #[error("the table `{0}` is missing or is none; nothing was read")]
    Table(&'static str),
    /// It is no database, is damaged, or a question to it took too long.
    #[error("database")]
    Sql(#[from] rusqlite::Error),
    /// What takes the events failed; what it said.
    #[error("write down what was read")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn known() -> String {
    let versions: Vec<String> = SCHEMA_VERSIONS.iter().map(i64::to_string).collect();
    format!("{} (OpenClaw 2026.9.6)", versions.join(", "))
}

impl TranscriptsError {
    /// An error about `path`, for `map_err`.
    pub(super) fn at<E: Into<TranscriptsErrorKind>>(path: &Path) -> impl Fn(E) -> Self + '_ {
        move |error| Self { path: path.to_owned(), kind: error.into() }
    }

    /// Whether the next look may find it otherwise.
    pub fn may_pass(&self) -> bool {
        match &self.kind {
            TranscriptsErrorKind::Busy | TranscriptsErrorKind::Io(_) | TranscriptsErrorKind::Ledger(_) => {
                true
            }
            // A copy can be torn in spite of all care.
            TranscriptsErrorKind::Sql(_) => true,
            _ => false,
        }
    }
}

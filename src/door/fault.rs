//! What is wrong with rules, at its place, and what can happen to a door.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::mark::{Mark, Pen, Source};
use crate::text::{bounded, plain};

/// One fault of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFault {
    place: Option<(Arc<Source>, Range<usize>)>,
    message: String,
    help: String,
}

impl RuleFault {
    /// A fault of something that stands in no file.
    pub(super) fn without_place(message: impl AsRef<str>, help: impl AsRef<str>) -> Self {
        let shown = |text: &str| bounded(&plain(text), 600);
        Self { place: None, message: shown(message.as_ref()), help: shown(help.as_ref()) }
    }

    /// A fault at a place of a file.
    pub(super) fn at(
        source: &Arc<Source>,
        span: Range<usize>,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) -> Self {
        Self { place: Some((Arc::clone(source), span)), ..Self::without_place(message, help) }
    }

    /// Line and column of the place, both counted from 1.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.place.as_ref().map(|(source, span)| source.position(span.start))
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((source, span)) = &self.place {
            let (line, column) = source.position(span.start);
            write!(f, "{}:{line}:{column}: ", source.name())?;
        }
        write!(f, "{}; {}", self.message, self.help)
    }
}

/// Faults drawn for people, each on its text.
pub fn render(faults: &[RuleFault], color: bool, width: usize) -> String {
    let pen = Pen::new(color, width);
    let mut out = String::new();
    for fault in faults.iter().take(50) {
        let labels = fault.place.iter().map(|(_, span)| (span.clone(), "here")).collect();
        let mark = Mark { message: &fault.message, labels, help: &fault.help, ..Mark::default() };
        pen.draw(&mark, fault.place.as_ref().map(|(source, _)| &**source), &mut out);
    }
    out
}

/// Why a door cannot be used, or its rules cannot.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {kind}")]
pub struct DoorError {
    /// The socket or the file.
    pub what: String,
    /// What happened.
    pub kind: DoorErrorKind,
}

/// What can happen to a door.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorErrorKind {
    /// The socket cannot be made.
    #[error("the socket cannot be made: {0}")]
    Bind(io::Error),
    /// The file of rules cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    /// Rules that are none; all faults.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Rules(Vec<RuleFault>),
    /// The door cannot be reached by its own probe.
    #[error("the door does not answer its own probe: {0}")]
    Probe(io::Error),
}

impl DoorError {
    pub(super) fn path(path: &std::path::Path, kind: DoorErrorKind) -> Self {
        Self { what: plain(&path.display().to_string()), kind }
    }

    /// The file of rules at fault.
    pub(super) fn rules(path: &std::path::Path, faults: Vec<RuleFault>) -> Self {
        Self::path(path, DoorErrorKind::Rules(faults))
    }

    /// Faults of rules, if that is what happened.
    pub fn faults(&self) -> &[RuleFault] {
        match &self.kind {
            DoorErrorKind::Rules(faults) => faults,
            _ => &[],
        }
    }
}

//! What is wrong with the configuration: every fault with its place and help, for people and for programs.
//!
//! **Invariant:** no secret is shown, not even one that stands in the file where it must not: its place is starred out
//! in the text before anything is drawn.

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::mark::{Mark, Pen, Source};
use crate::text::{bounded, plain, push};

/// Stable words for what is wrong, for programs.
pub(super) mod code {
    pub(in crate::config) const CONFLICT: &str = "conflict";
    pub(in crate::config) const MISSING: &str = "missing";
    pub(in crate::config) const OUT_OF_RANGE: &str = "out_of_range";
    pub(in crate::config) const SECRET: &str = "secret";
    pub(in crate::config) const SYNTAX: &str = "syntax";
    pub(in crate::config) const UNKNOWN_KEY: &str = "unknown_key";
    pub(in crate::config) const UNKNOWN_PROVIDER: &str = "unknown_provider";
    pub(in crate::config) const UNKNOWN_WORD: &str = "unknown_word";
    pub(in crate::config) const UNLIMITED: &str = "unlimited";
    pub(in crate::config) const UNREADABLE: &str = "unreadable";
    pub(in crate::config) const WRONG_TYPE: &str = "wrong_type";
}

/// Most faults that are drawn.
const MOST_DRAWN: usize = 100;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The configuration can be used, but something in it is probably not meant.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    pub(super) span: Range<usize>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: &'static str,
    level: Level,
    message: String,
    help: String,
    place: Option<Place>,
    label: String,
}

/// A fault in a form for programs; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// Stable word for what is wrong.
    pub code: &'static str,
    /// `error` or `warning`.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// The file, if it is one's fault.
    pub file: Option<String>,
    /// Line of the place.
    pub line: Option<usize>,
    /// Column of the place.
    pub column: Option<usize>,
    /// What is at the place.
    pub label: String,
    /// What to do about it.
    pub help: String,
}

impl Fault {
    /// A fault without a place.
    pub(super) fn new(code: &'static str, message: impl AsRef<str>, help: impl AsRef<str>) -> Self {
        let shown = |text: &str| bounded(&plain(text), 600);
        Self {
            code,
            level: Level::Error,
            message: shown(message.as_ref()),
            help: shown(help.as_ref()),
            place: None,
            label: String::new(),
        }
    }

    /// The same at a place, if there is one.
    #[must_use]
    pub(super) fn at(mut self, place: Option<Place>, label: &str) -> Self {
        self.place = place;
        self.label = bounded(&plain(label), 200);
        self
    }

    /// The same as a warning.
    #[must_use]
    pub(super) fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }

    /// How bad it is.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The fault for programs.
    pub fn report(&self) -> FaultReport {
        let position = self.place.as_ref().map(|place| place.source.position(place.span.start));
        FaultReport {
            code: self.code,
            level: self.level,
            message: self.message.clone(),
            file: self.place.as_ref().map(|place| place.source.name().to_owned()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            label: self.label.clone(),
            help: self.help.clone(),
        }
    }
}

/// Faults for people: each with `file:line:column`, the text with a mark under the place, and help. Lines of prose are
/// folded at `width` columns.
pub fn render(faults: &[Fault], color: bool, width: usize) -> String {
    let pen = Pen::new(color, width);
    let mut out = String::new();
    for fault in faults.iter().take(MOST_DRAWN) {
        let place = fault.place.as_ref();
        let mark = Mark {
            code: None,
            is_warning: fault.level == Level::Warning,
            message: &fault.message,
            labels: place.map(|place| (place.span.clone(), fault.label.as_str())).into_iter().collect(),
            help: &fault.help,
        };
        pen.draw(&mark, place.map(|place| &*place.source), &mut out);
    }
    if faults.len() > MOST_DRAWN {
        push(&mut out, format_args!("… and {} more\n\n", faults.len() - MOST_DRAWN));
    }
    out
}

/// Why the configuration cannot be used: all faults of all its parts; at least one is an error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} in the configuration", count(.faults))]
pub struct ConfigError {
    pub(super) faults: Vec<Fault>,
}

impl ConfigError {
    /// The faults, warnings among them.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// `2 faults and 1 warning`.
pub fn count(faults: &[Fault]) -> String {
    let warnings = faults.iter().filter(|fault| fault.level == Level::Warning).count();
    let some = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    match (faults.len() - warnings, warnings) {
        (0, warnings) => some(warnings, "warning"),
        (errors, 0) => some(errors, "fault"),
        (errors, warnings) => format!("{} and {}", some(errors, "fault"), some(warnings, "warning")),
    }
}

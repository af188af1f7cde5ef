//! What is wrong with the configuration: every fault with its place and help, for people and for programs.
//!
//! **Invariant:** no secret is shown, not even one that stands in the file where it must not: its place is starred out
//! in the text before anything is drawn.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
};
use serde::Serialize;

use crate::text::{bounded, is_deceptive, plain, push};

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

/// Longest line that is drawn, in bytes.
const LONGEST_LINE: usize = 2_000;
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

/// A configuration file's text, without secrets.
#[derive(PartialEq, Eq)]
pub(super) struct Source {
    /// How the file is called in messages.
    pub(super) name: String,
    text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
}

impl Source {
    /// The text with every character that could deceive a terminal, and all of `secrets`, replaced by as many bytes, so
    /// that places stay where they are.
    pub(super) fn new(name: &str, text: &str, secrets: &[Range<usize>]) -> Self {
        let mut shown = String::with_capacity(text.len());
        let mut hidden = vec![false; text.len()];
        for span in secrets {
            let end = span.end.min(hidden.len());
            if let Some(part) = hidden.get_mut(span.start.min(end)..end) {
                part.fill(true);
            }
        }
        for (at, c) in text.char_indices() {
            let is_secret = hidden.get(at).is_some_and(|hidden| *hidden);
            match c {
                '\n' | '\t' => shown.push(c),
                '\r' => shown.push(' '),
                c if is_secret => shown.extend(std::iter::repeat_n('*', c.len_utf8())),
                c if is_deceptive(c) => shown.extend(std::iter::repeat_n('?', c.len_utf8())),
                c => shown.push(c),
            }
        }
        let lines = std::iter::once(0).chain(shown.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: plain(name), text: shown, lines }
    }

    /// Line and column of a byte offset; both count from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.lines.partition_point(|begin| *begin <= offset).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or_default();
        (line, self.text.get(begin..offset).unwrap_or_default().chars().count() + 1)
    }

    /// Whether the lines about a place are short enough to be drawn: miette panics beyond 65,535 columns.
    fn is_drawable(&self, span: &Range<usize>) -> bool {
        let (line, _) = self.position(span.start);
        let around = self.text.lines().skip(line.saturating_sub(2)).take(4);
        around.into_iter().all(|line| line.len() <= LONGEST_LINE)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
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
            file: self.place.as_ref().map(|place| place.source.name.clone()),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            label: self.label.clone(),
            help: self.help.clone(),
        }
    }

    fn words(&self, out: &mut String) {
        let mark = if self.level == Level::Error { "×" } else { "⚠" };
        push(out, format_args!("  {mark} {}\n", self.message));
        let report = self.report();
        if let (Some(file), Some(line), Some(column)) = (report.file, report.line, report.column) {
            push(out, format_args!("    at {file}:{line}:{column}: {}\n", self.label));
        }
        if !self.help.is_empty() {
            push(out, format_args!("  help: {}\n", self.help));
        }
    }
}

/// Faults for people: each with `file:line:column`, the text with a mark under the place, and help. Lines of prose are
/// folded at `width` columns.
pub fn render(faults: &[Fault], color: bool, width: usize) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_context_lines(1)
        .with_width(width.clamp(40, 160));
    let mut out = String::new();
    for fault in faults.iter().take(MOST_DRAWN) {
        let source = fault
            .place
            .as_ref()
            .filter(|place| place.source.is_drawable(&place.span))
            .map(|place| NamedSource::new(&place.source.name, place.source.text.clone()));
        let begin = out.len();
        let drawn = match &source {
            Some(source) => handler.render_report(&mut out, &Shown { fault, source }).is_ok(),
            None => false,
        };
        if !drawn {
            out.truncate(begin);
            fault.words(&mut out);
        }
        out.push('\n');
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

/// A fault with its text, as miette wants it.
struct Shown<'f> {
    fault: &'f Fault,
    source: &'f NamedSource<String>,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(match self.fault.level {
            Level::Error => Severity::Error,
            Level::Warning => Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.fault.help.is_empty()).then(|| Box::new(&self.fault.help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.fault.place.as_ref()?;
        let length = place.source.text.len();
        let start = place.span.start.min(length);
        let end = place.span.end.clamp(start, length);
        let label = LabeledSpan::new_primary_with_span(Some(self.fault.label.clone()), start..end);
        Some(Box::new(std::iter::once(label)))
    }
}

//! What is wrong with a graph file: every fault with its code, places and help, for people and for programs.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use crate::mark::{Mark, Pen, Source};
use crate::text::{bounded, plain};

/// Most faults that are kept of one file.
const MAX_FAULTS: usize = 200;

/// All faults of one graph file, in the order of the text; at least one.
#[derive(Clone, thiserror::Error)]
#[error("{count} in `{file}`", count = count(self.errors, self.warnings), file = plain(&self.file))]
pub struct Faults {
    file: String,
    text: Arc<str>,
    list: Vec<Fault>,
    errors: usize,
    warnings: usize,
}

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The file can be run, but something in it is probably not meant.
    Warning,
    /// The file cannot be run.
    Error,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable code, as `G017`; `graph::explain` tells more.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The place, in bytes of the text, and what is there; the first is the main one.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: String,
}

/// A place in the text and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Byte range in the text.
    pub span: Range<usize>,
    /// What is there.
    pub text: String,
}

/// A fault in a form for programs; lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultReport {
    /// Stable code.
    pub code: &'static str,
    /// `error` or `warning`.
    pub level: Level,
    /// What is wrong.
    pub message: String,
    /// File name as given to `check`.
    pub file: String,
    /// Line of the main place.
    pub line: usize,
    /// Column of the main place.
    pub column: usize,
    /// What is at the main place.
    pub label: String,
    /// What to do about it.
    pub help: String,
    /// Other places that belong to the fault.
    pub related: Vec<RelatedPlace>,
}

/// Another place that belongs to a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RelatedPlace {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is there.
    pub label: String,
}

impl Fault {
    /// A fault at one place. Names inside the texts may be hostile: what could move a cursor is escaped.
    pub(super) fn new(
        code: &'static str,
        span: Range<usize>,
        label: impl AsRef<str>,
        message: impl AsRef<str>,
        help: impl AsRef<str>,
    ) -> Self {
        Self {
            code,
            level: Level::Error,
            message: shown(message),
            labels: vec![Label { span, text: shown(label) }],
            help: shown(help),
        }
    }

    /// The same as a warning.
    #[must_use]
    pub(super) fn warning(mut self) -> Self {
        self.level = Level::Warning;
        self
    }

    /// Whether the file cannot be run because of it.
    pub(super) fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// Adds another place.
    #[must_use]
    pub(super) fn also(mut self, span: Range<usize>, label: impl AsRef<str>) -> Self {
        self.labels.push(Label { span, text: shown(label) });
        self
    }

    /// Start of the main place.
    pub(super) fn start(&self) -> usize {
        self.labels.first().map_or(0, |label| label.span.start)
    }
}

fn shown(text: impl AsRef<str>) -> String {
    bounded(&plain(text.as_ref()), 600)
}

fn count(errors: usize, warnings: usize) -> String {
    let some = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    match (errors, warnings) {
        (0, warnings) => some(warnings, "warning"),
        (errors, 0) => some(errors, "fault"),
        (errors, warnings) => format!("{} and {}", some(errors, "fault"), some(warnings, "warning")),
    }
}

impl Faults {
    /// Sorts the faults by place; nothing where there are none. Of very many the errors stay.
    pub(super) fn from_list(file: &str, source: &str, mut faults: Vec<Fault>) -> Option<Self> {
        if faults.is_empty() {
            return None;
        }
        let place =
            |a: &Fault, b: &Fault| (a.start(), a.code, &a.message).cmp(&(b.start(), b.code, &b.message));
        faults.sort_by(place);
        faults.dedup();
        let errors = faults.iter().filter(|fault| fault.is_error()).count();
        let warnings = faults.len() - errors;
        if faults.len() > MAX_FAULTS {
            faults.sort_by_key(|fault| !fault.is_error());
            faults.truncate(MAX_FAULTS);
            faults.sort_by(place);
        }
        Some(Self { file: file.to_owned(), text: source.into(), list: faults, errors, warnings })
    }

    /// A single fault.
    pub(super) fn only(file: &str, source: &str, fault: Fault) -> Self {
        Self { file: file.to_owned(), text: source.into(), list: vec![fault], errors: 1, warnings: 0 }
    }

    /// The faults, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.list.iter()
    }

    /// How many faults there are, warnings among them; at least 1.
    pub fn count(&self) -> usize {
        self.errors + self.warnings
    }

    /// How many of them keep the file from being run.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many of them are warnings.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// The faults for programs, as `--format json` prints them.
    pub fn reports(&self) -> Vec<FaultReport> {
        let source = Source::new(&self.file, &self.text, &[]);
        self.list
            .iter()
            .map(|fault| {
                let mut places = fault.labels.iter().map(|label| {
                    let (line, column) = source.position(label.span.start);
                    RelatedPlace { line, column, label: label.text.clone() }
                });
                let main = places.next().unwrap_or(RelatedPlace { line: 1, column: 1, label: String::new() });
                FaultReport {
                    code: fault.code,
                    level: fault.level,
                    message: fault.message.clone(),
                    file: source.name().to_owned(),
                    line: main.line,
                    column: main.column,
                    label: main.label,
                    help: fault.help.clone(),
                    related: places.collect(),
                }
            })
            .collect()
    }

    /// The faults for people: each with `file:line:column`, the text with a mark under the place, and help.
    /// Lines of prose are folded at `width` columns.
    pub fn render(&self, color: bool, width: usize) -> String {
        let (pen, source) = (Pen::new(color, width), Source::new(&self.file, &self.text, &[]));
        let mut out = String::new();
        for fault in &self.list {
            let mark = Mark {
                code: Some(fault.code),
                is_warning: !fault.is_error(),
                message: &fault.message,
                labels: fault.labels.iter().map(|label| (label.span.clone(), label.text.as_str())).collect(),
                help: &fault.help,
            };
            pen.draw(&mark, Some(&source), &mut out);
        }
        let dropped = self.count() - self.list.len();
        if dropped > 0 {
            out.extend(["… and ", &dropped.to_string(), " more\n"]);
        }
        out.extend([&self.to_string(), "\n"]);
        out
    }
}

impl<'f> IntoIterator for &'f Faults {
    type Item = &'f Fault;
    type IntoIter = std::slice::Iter<'f, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false, 110))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(source: &str, span: Range<usize>) -> Faults {
        let fault = Fault::new("G001", span, "here\u{1b}[2J", "wrong", "mend it");
        Faults::from_list("a\u{1b}b.toml", source, vec![fault]).unwrap()
    }

    #[test]
    fn nothing_from_the_text_reaches_the_terminal_raw() {
        let text = one("x = \"\u{1b}[31m\u{202e}\"\r\ny", 4..9).render(false, 80);
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
        assert!(text.contains(":1:5]"), "{text}");
    }

    #[test]
    fn a_place_outside_the_text_is_still_shown() {
        for (start, end) in [(0, 0), (3, 9), (9, 3), (90, 100)] {
            let faults = one("ä\n", start..end);
            assert!(faults.render(true, 0).contains("mend it"));
            assert_eq!(faults.reports().len(), 1);
        }
    }

    #[test]
    fn an_overlong_line_is_named_and_not_drawn() {
        let source = format!("a = 1\nb = {}\nc = 2\n", "[".repeat(70_000));
        for place in [2..3, 66_000..66_001, 70_008..70_010, source.len()..source.len()] {
            let text = one(&source, place.clone()).render(false, 80);
            assert!(text.len() < 1_000 && text.contains("mend it"), "{place:?}: {} bytes", text.len());
        }
        let text = one(&source, 66_000..66_001).render(false, 80);
        assert!(text.contains(".toml:2:65995: here"), "{text}");
    }
}

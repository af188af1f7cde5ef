//! What is wrong at a place of a text that people wrote, drawn for them: the lines about it with a mark under the place.
//!
//! **Invariant:** nothing of the text reaches a terminal raw, and what is hidden is never drawn.

use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
};

use crate::text::{is_deceptive, plain, push};

/// Longest line that is drawn, in bytes: miette panics beyond 65,535 columns, and nobody could read it.
const LONGEST_LINE: usize = 2_000;

/// A text as it may be shown: what could deceive a terminal, and what is hidden, replaced by as many bytes, so that places stay
/// where they are.
#[derive(PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    /// Where its lines begin.
    lines: Vec<usize>,
}

impl Source {
    /// The text of a file, with these byte ranges starred out.
    pub fn new(name: &str, text: &str, hidden: &[Range<usize>]) -> Self {
        let mut is_hidden = vec![false; if hidden.is_empty() { 0 } else { text.len() }];
        for span in hidden {
            let end = span.end.min(is_hidden.len());
            if let Some(part) = is_hidden.get_mut(span.start.min(end)..end) {
                part.fill(true);
            }
        }
        let mut shown = String::with_capacity(text.len());
        for (at, c) in text.char_indices() {
            match c {
                '\n' | '\t' => shown.push(c),
                '\r' => shown.push(' '),
                c if is_hidden.get(at).is_some_and(|hidden| *hidden) => {
                    shown.extend(std::iter::repeat_n('*', c.len_utf8()));
                }
                c if is_deceptive(c) => shown.extend(std::iter::repeat_n('?', c.len_utf8())),
                c => shown.push(c),
            }
        }
        let lines = std::iter::once(0).chain(shown.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: plain(name), text: shown, lines }
    }

    /// How the file is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Line and column of a byte offset; both count from 1, the column in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.lines.partition_point(|begin| *begin <= offset).max(1);
        let begin = self.lines.get(line - 1).copied().unwrap_or_default();
        (line, self.text.get(begin..offset).unwrap_or_default().chars().count() + 1)
    }

    /// Whether the lines that a drawing of the place would show, one more on each side, are of a readable length.
    fn is_drawable(&self, span: &Range<usize>) -> bool {
        let line_start = |at: usize| self.text.get(..at).and_then(|text| text.rfind('\n')).unwrap_or(0);
        let line_end = |at: usize| {
            self.text.get(at..).and_then(|text| text.find('\n')).map_or(self.text.len(), |length| at + length)
        };
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end.max(span.start));
        let shown = line_start(line_start(start))..line_end((line_end(end) + 1).min(self.text.len()));
        self.text.get(shown).is_none_or(|shown| shown.lines().all(|line| line.len() <= LONGEST_LINE))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is wrong. All texts are plain already.
#[derive(Clone, Debug, Default)]
pub struct Mark<'a> {
    /// A stable code, where there is one.
    pub code: Option<&'a str>,
    /// Whether it is only odd.
    pub is_warning: bool,
    /// What is wrong, in a sentence.
    pub message: &'a str,
    /// Places in bytes of the text, and what is there; the first is the main one.
    pub labels: Vec<(Range<usize>, &'a str)>,
    /// What to do about it; empty where nothing is to be said.
    pub help: &'a str,
}

/// Draws marks.
pub struct Pen {
    handler: GraphicalReportHandler,
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen").finish_non_exhaustive()
    }
}

impl Pen {
    /// A pen with or without colours; prose is folded at `width` columns.
    pub fn new(color: bool, width: usize) -> Self {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme);
        Self { handler: handler.with_links(false).with_context_lines(1).with_width(width.clamp(40, 160)) }
    }

    /// Draws a mark on the text, if it is on one; in words alone where it cannot be drawn.
    pub fn draw(&self, mark: &Mark<'_>, source: Option<&Source>, out: &mut String) {
        let begin = out.len();
        let drawable = |source: &&Source| mark.labels.iter().all(|(span, _)| source.is_drawable(span));
        let drawn = source.filter(drawable).is_some_and(|source| {
            let named = NamedSource::new(&source.name, source.text.clone());
            let shown = Shown { mark, source: &named, length: source.text.len() };
            self.handler.render_report(&mut *out, &shown).is_ok()
        });
        if !drawn {
            // Where a span is broken, the words must not be lost with it.
            out.truncate(begin);
            words(mark, source, out);
        }
        out.push('\n');
    }
}

fn words(mark: &Mark<'_>, source: Option<&Source>, out: &mut String) {
    if let Some(code) = mark.code {
        out.extend([code, "\n\n"]);
    }
    push(out, format_args!("  {} {}\n", if mark.is_warning { "⚠" } else { "×" }, mark.message));
    if let Some(source) = source {
        let (span, label) = mark.labels.first().map_or((0..0, ""), |(span, label)| (span.clone(), *label));
        let (line, column) = source.position(span.start);
        push(out, format_args!("    at {}:{line}:{column}: {label}\n", source.name));
    }
    if !mark.help.is_empty() {
        push(out, format_args!("  help: {}\n", mark.help));
    }
}

/// A mark with its text, as miette wants it.
struct Shown<'m> {
    mark: &'m Mark<'m>,
    source: &'m NamedSource<String>,
    length: usize,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mark.fmt(f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mark.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.mark.code.map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(if self.mark.is_warning { Severity::Warning } else { Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.mark.help.is_empty()).then(|| Box::new(self.mark.help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let mut main = true;
        Some(Box::new(self.mark.labels.iter().map(move |(span, label)| {
            let start = span.start.min(self.length);
            let end = span.end.clamp(start, self.length);
            let text = Some((*label).to_owned());
            if std::mem::take(&mut main) {
                LabeledSpan::new_primary_with_span(text, start..end)
            } else {
                LabeledSpan::new_with_span(text, start..end)
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let position = |text: &str, offset| Source::new("a", text, &[]).position(offset);
        assert_eq!(position("ab\näöü", 5), (2, 2));
        assert_eq!(position("ab\n", 3), (2, 1));
        assert_eq!(position("", 7), (1, 1));
    }

    #[test]
    fn what_is_hidden_is_not_drawn() {
        let secret = 6..14;
        let hidden = std::slice::from_ref(&secret);
        let source = Source::new("a\u{1b}.toml", "key = \"secret\"\u{202e}\n", hidden);
        let mark = Mark { message: "no", labels: vec![(secret.clone(), "here")], ..Mark::default() };
        let mut out = String::new();
        Pen::new(false, 80).draw(&mark, Some(&source), &mut out);
        assert!(
            !out.contains("secret") && !out.contains(['\u{1b}', '\u{202e}']) && out.contains("********"),
            "{out}"
        );
    }
}

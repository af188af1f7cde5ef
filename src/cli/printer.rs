//! Everything that is printed: data to standard output, the rest to standard error. A reader that went away is
//! success. Colour only where a person looks and `NO_COLOR` is not set; meaning never in colour alone.

use std::fmt;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, LineStyle, Table};
use serde::Serialize;

use super::failure::Failure;
use crate::case::Severity;
use crate::engine::Usage;
use crate::text;

/// Prints a command's data.
///
/// # Errors
/// Where standard output cannot be written, except for a reader that went away.
pub(super) fn data(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Unavailable(anyhow::Error::new(error).context("cannot write to standard output")))
        }
        _ => Ok(()),
    }
}

/// Prints one JSON value.
///
/// # Errors
/// As [`data`].
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::Bug(anyhow::Error::new(error).context("cannot write JSON")))?;
    data(text)
}

/// Prints one JSON value on one line, for a stream of them.
///
/// # Errors
/// As [`data`].
pub(super) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::Bug(anyhow::Error::new(error).context("cannot write JSON")))?;
    data(text)
}

/// Prints a line of an endless listing; whether there is still somebody who reads it.
///
/// # Errors
/// As [`data`].
pub(super) fn line(text: impl fmt::Display) -> Result<bool, Failure> {
    let mut out = anstream::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Failure::Unavailable(anyhow::Error::new(error).context("cannot write to standard output")))
        }
        Ok(()) => Ok(true),
    }
}

/// Tells the user something that is no data. A standard error that went away is nobody to tell.
pub(super) fn note(text: impl fmt::Display) {
    let mut err = anstream::stderr().lock();
    drop(writeln!(err, "{text}"));
}

/// Width of the terminal in columns; 100 where there is none.
pub(super) fn width() -> u16 {
    let table = Table::new();
    table.width().unwrap_or(100).clamp(40, 200)
}

/// Whether standard output takes colour.
pub(super) fn colour() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

/// Narrowest last column, in characters, that stands beside the others; below that it gets lines of its own.
const BESIDE: usize = 24;
/// Narrowest that another column is made, in characters.
const NARROWEST: usize = 8;
/// Most lines of a last column.
const LAST_LINES: usize = 2;

/// A table that fits the terminal, without a frame. The last column takes what the others leave, and is cut to two
/// lines of it; where they leave too little, it stands below its row. Give the others short texts.
#[derive(Debug)]
pub(super) struct Page {
    head: Vec<String>,
    /// Widest cell of each column, in characters.
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Page {
    /// A table with these column heads.
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|name| (*name).to_owned()).collect(),
            widths: head.iter().map(|name| name.chars().count()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(visible(cell));
        }
        self.rows.push(cells.into());
    }

    /// The table in `width` columns.
    fn lines(&self, width: usize) -> Vec<String> {
        let last = self.head.len().saturating_sub(1);
        let mut widths: Vec<usize> = self.widths.iter().take(last).copied().collect();
        // Where even the columns before the last are too wide, the widest give way.
        while widths.iter().map(|width| width + 3).sum::<usize>() > width
            && let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > NARROWEST)
        {
            *widest -= 1;
        }
        let taken: usize = widths.iter().map(|width| width + 3).sum();
        let left = width.saturating_sub(taken + 2);
        let below = left < self.widths.get(last).copied().unwrap_or(0).min(BESIDE);
        let shown = if below { last } else { self.head.len() };
        let mut table = Table::new();
        table
            .load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction(' ')))
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(u16::try_from(width).unwrap_or(u16::MAX))
            .set_header(self.head.iter().take(shown).map(Cell::new));
        for row in &self.rows {
            table.add_row(row.iter().take(shown).enumerate().map(|(index, cell)| {
                match widths.get(index) {
                    // A styled cell is short; cutting one could cut its style's end.
                    _ if cell.contains('\u{1b}') => cell.clone(),
                    Some(width) => text::bounded(cell, *width),
                    None => cut_to_lines(cell, left),
                }
            }));
        }
        for column in table.column_iter_mut().take(last) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        // Padding on the right of the last column is no content.
        let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        if below {
            let rows = lines.split_off(lines.len().saturating_sub(self.rows.len()));
            for (row, drawn) in self.rows.iter().zip(rows) {
                lines.push(drawn);
                let text = row.get(last).map_or("", String::as_str);
                let text = cut_to_lines(text, width.saturating_sub(6));
                lines.extend(text.lines().filter(|line| !line.is_empty()).map(|line| format!("     {line}")));
            }
        }
        lines
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines(usize::from(width())).join("\n"))
    }
}

/// Text folded at `width` between words, and cut where it would have more than [`LAST_LINES`] lines.
fn cut_to_lines(text: &str, width: usize) -> String {
    let width = width.max(8);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word;
        loop {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            let lead = usize::from(line > 0);
            if line + lead + word.chars().count() <= width {
                if let Some(line) = lines.last_mut() {
                    line.push_str(if lead > 0 { " " } else { "" });
                    line.push_str(word);
                }
                break;
            }
            // A word that is longer than a line is cut where it meets the edge.
            if line == 0 {
                let edge = word.char_indices().nth(width).map_or(word.len(), |(at, _)| at);
                let (head, rest) = word.split_at_checked(edge).unwrap_or((word, ""));
                lines.pop();
                lines.push(head.to_owned());
                word = rest;
            }
            lines.push(String::new());
        }
    }
    let cut = lines.len() > LAST_LINES;
    lines.truncate(LAST_LINES);
    if cut && let Some(line) = lines.last_mut() {
        let mut short: String = line.chars().take(width - 1).collect();
        short.push('…');
        *line = short;
    }
    lines.join("\n")
}

/// A line that fits `width` columns; one that has to be cut loses its colours.
pub(super) fn cut(line: &str, width: usize) -> String {
    if visible(line) <= width {
        return line.to_owned();
    }
    text::bounded(&anstream::adapter::strip_str(line).to_string(), width)
}

/// Width of a cell on the screen.
fn visible(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).to_string().chars().count()
}

/// Text folded at the terminal's width between words, each further line indented.
pub(super) fn fold(text: &str, indent: &str) -> String {
    let limit = usize::from(width());
    let lead = text.len() - text.trim_start_matches(' ').len();
    let mut out = " ".repeat(lead);
    let mut column = lead;
    let mut first = true;
    for word in text.trim_start_matches(' ').split(' ') {
        let length = visible(word);
        if !first && column + 1 + length > limit {
            out.push('\n');
            out.push_str(indent);
            column = indent.len();
        } else if !first {
            out.push(' ');
            column += 1;
        }
        first = false;
        out.push_str(word);
        column += length;
    }
    out
}

/// A value as JSON on the rest of a line, of which `taken` columns are used.
pub(super) fn value(value: &serde_json::Value, taken: usize) -> String {
    text::bounded(&text::plain(&value.to_string()), usize::from(width()).saturating_sub(taken).max(24))
}

/// Channels and their values, a line each.
pub(super) fn channels(state: &serde_json::Map<String, serde_json::Value>, indent: usize) -> Vec<String> {
    let widest = state.keys().map(|name| name.chars().count()).max().unwrap_or_default().clamp(8, 24);
    let line = |(name, held): (&String, &serde_json::Value)| {
        let name = text::plain(name);
        format!("{:indent$}{name:<widest$}  {}", "", value(held, indent + widest.max(name.len()) + 2))
    };
    state.iter().map(line).collect()
}

/// A moment, in milliseconds since the Unix epoch, for programs.
pub(super) fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|at| format!("{at:.0}")).unwrap_or_default()
}

/// The same for people.
pub(super) fn moment(millis: i64) -> String {
    time(millis).replace('T', " ").trim_end_matches('Z').to_owned()
}

/// A word of a command that the user may copy into a shell.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-@./:=,+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text::plain(text).replace('\'', "'\\''"))
}

/// Tokens and money that were used, as `1,200 tokens, $0.0123`; nothing where none were.
pub(super) fn used(usage: Usage) -> String {
    let mut parts = Vec::new();
    if usage.tokens > 0 {
        parts.push(count(usage.tokens, "token"));
    }
    if usage.micro_usd > 0 {
        parts.push(format!(
            "${}.{:04}",
            thousands(usage.micro_usd / 1_000_000),
            usage.micro_usd % 1_000_000 / 100
        ));
    }
    parts.join(", ")
}

/// The same for programs.
pub(super) fn used_json(usage: Usage) -> serde_json::Value {
    serde_json::json!({ "tokens": usage.tokens, "micro_usd": usage.micro_usd, "ms": usage.ms, "tasks": usage.tasks })
}

/// The colour of a severity.
pub(super) const fn severity_style(severity: Severity) -> Style {
    match severity {
        Severity::Clean => AnsiColor::Green.on_default(),
        Severity::Low => AnsiColor::Cyan.on_default(),
        Severity::Medium => AnsiColor::Yellow.on_default(),
        Severity::High => AnsiColor::Red.on_default(),
        Severity::Critical => AnsiColor::Red.on_default().effects(anstyle::Effects::BOLD),
    }
}

/// A severity in its colour.
pub(super) fn severity(severity: Severity) -> String {
    let style = severity_style(severity);
    format!("{style}{severity}{style:#}")
}

/// Bold text.
pub(super) fn bold(text: impl fmt::Display) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

/// Text that matters less.
pub(super) fn dim(text: impl fmt::Display) -> String {
    let style = Style::new().dimmed();
    format!("{style}{text}{style:#}")
}

/// `1 turn`, `2 turns`, `12,345 turns`.
pub(super) fn count(number: u64, one: &str) -> String {
    let number = (thousands(number), number == 1);
    match (number, one.strip_suffix("entry")) {
        ((number, true), _) => format!("{number} {one}"),
        ((number, false), Some(kind)) => format!("{number} {kind}entries"),
        ((number, false), None) => format!("{number} {one}s"),
    }
}

/// A number with commas.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in bytes, for people.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(2, "log entry"), "2 log entries");
        assert_eq!(count(2, "turn"), "2 turns");
        assert_eq!(size(1_500), "1.5 kB");
    }

    #[test]
    fn a_table_fits_however_narrow_the_terminal() {
        let mut table = Page::new(&["FLAG", "CATEGORY", "AGENT", "WHAT"]);
        for _ in 0..2 {
            table.row([
                "3abd428e".into(),
                "confidential_data_disclosure".into(),
                "agent:main:subagent:371…".into(),
                "Runs what it just downloaded, and then goes on for long about everything else".into(),
            ]);
        }
        table.row(["1".into(), "2".into(), "3".into(), String::new()]);
        for width in [40, 60, 74, 80, 96, 100, 120, 200] {
            let lines = table.lines(width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines.len() <= 10, "{width}: {lines:#?}");
            let text = lines.join(" ");
            assert_eq!(text.matches("Runs what it").count(), 2, "{width}: {lines:#?}");
        }
    }

    #[test]
    fn a_last_column_is_cut_between_words_to_two_lines() {
        assert_eq!(cut_to_lines("one two three four five", 9), "one two\nthree…");
        assert_eq!(cut_to_lines("one", 9), "one");
        assert_eq!(cut_to_lines("aaaaaaaaaabbbbbbbbbbccc", 10), "aaaaaaaaaa\nbbbbbbbbb…");
        assert_eq!(cut_to_lines("", 10), "");
    }

    #[test]
    fn folded_text_keeps_its_words() {
        let text = "word ".repeat(100);
        let folded = fold(text.trim(), "  ");
        assert!(folded.lines().all(|line| line.chars().count() <= usize::from(width())));
        assert_eq!(folded.split_whitespace().count(), 100);
    }
}

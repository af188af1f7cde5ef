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

/// A table that fits the terminal, without a frame. The last column takes what the others leave, and is cut to two
/// lines of it; give the others short texts.
#[derive(Debug)]
pub(super) struct Page {
    table: Table,
    /// Widest cell of each column but the last, in characters.
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Page {
    /// A table with these column heads.
    pub(super) fn new(head: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(NOTHING.header_separator(LineStyle::none().fill('─').junction(' ')))
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width())
            .set_header(head.iter().map(Cell::new));
        Self { table, widths: head.iter().map(|name| name.chars().count()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(visible(cell));
        }
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = self.table.clone();
        let taken: usize = self.widths.iter().rev().skip(1).map(|width| width + 3).sum();
        let left = usize::from(width()).saturating_sub(taken + 3).max(16);
        for row in &self.rows {
            let last = row.len().saturating_sub(1);
            table.add_row(row.iter().enumerate().map(|(index, cell)| {
                // A styled cell is short; cutting one could cut its style's end.
                if index == last && !cell.contains('\u{1b}') {
                    text::bounded(cell, left * 2)
                } else {
                    cell.clone()
                }
            }));
        }
        let last = self.widths.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            if index != last {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        // Padding on the right of the last column is no content.
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
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
    fn folded_text_keeps_its_words() {
        let text = "word ".repeat(100);
        let folded = fold(text.trim(), "  ");
        assert!(folded.lines().all(|line| line.chars().count() <= usize::from(width())));
        assert_eq!(folded.split_whitespace().count(), 100);
    }
}

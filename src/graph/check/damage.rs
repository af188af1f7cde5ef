//! Text that is no TOML: its faults, and which of the others it may have caused.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::graph::codes;
use crate::graph::fault::Fault;

/// Faults that a syntax error elsewhere may cause; they are held back until the text can be read.
const FOLLOW_ON: [&str; 17] = [
    codes::MISSING_KEY,
    codes::KIND,
    codes::MISSING_INPUT,
    codes::LOST_OUTPUT,
    codes::NO_ELSE,
    codes::PROMPT_VARIABLE,
    codes::UNREACHABLE,
    codes::NO_END,
    codes::NEVER_WRITTEN,
    codes::BAD_NEXT,
    codes::GATE_TIMEOUT,
    codes::GATE_OPTIONS,
    codes::JOIN_NEVER,
    codes::JOIN_IDLE,
    codes::RUNS_TWICE,
    codes::BAD_SEND,
    codes::MIGRATION,
];

/// The faults of the syntax; gives the places that could not be read.
pub(super) fn syntax(
    source: &str,
    document: &Spanned<DeTable<'_>>,
    errors: &[toml::de::Error],
    faults: &mut Vec<Fault>,
) -> Vec<Range<usize>> {
    let mut damage = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key" {
            faults.push(duplicate(source, document, span));
            continue;
        }
        damage.push(span.clone());
        // A multi-line string that is not closed swallows the rest of the file.
        if error.message().contains("multi-line") {
            damage.push(0..source.len());
        }
        faults.push(Fault::new(
            codes::SYNTAX,
            span,
            "here",
            error.message(),
            "mend the text here; see https://toml.io for how values are written",
        ));
    }
    damage
}

/// The faults that what could not be read has not caused, as far as can be said.
pub(super) fn not_caused_by(
    damage: &[Range<usize>],
    source: &str,
    found: Vec<Fault>,
) -> impl Iterator<Item = Fault> {
    let lines: Vec<&str> = damage.iter().map(|span| lines_of(source, span)).collect();
    found.into_iter().filter(move |fault| {
        let start = fault.start();
        let text = fault.labels.first().and_then(|label| source.get(label.span.clone())).unwrap_or_default();
        let name = text.trim_matches(['"', '\'']);
        !FOLLOW_ON.contains(&fault.code)
            && !damage.iter().any(|span| is_one_line(source, span.start, start))
            && !lines.iter().any(|line| !name.is_empty() && line.contains(name))
    })
}

/// The fault of a key or table that is there twice.
fn duplicate(source: &str, document: &Spanned<DeTable<'_>>, span: Range<usize>) -> Fault {
    let key = source.get(span.clone()).unwrap_or_default();
    let fault = Fault::new(
        codes::SYNTAX,
        span.clone(),
        "again here",
        format!("`{key}` is there twice"),
        "keep one of them, or give the second another name",
    );
    let mut places = Vec::new();
    key_places(document.get_ref(), key.trim_matches(['"', '\'']), &mut places);
    places.retain(|place| place.end <= span.start);
    match places.as_slice() {
        [first] => fault.also(first.clone(), "first here"),
        _ => fault,
    }
}

fn key_places(table: &DeTable<'_>, key: &str, places: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        if name.get_ref() == key {
            places.push(name.span());
        }
        match value.get_ref() {
            DeValue::Table(inner) => key_places(inner, key, places),
            DeValue::Array(items) => {
                for inner in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    key_places(inner, key, places);
                }
            }
            _ => {}
        }
    }
}

/// The whole lines that a place touches.
fn lines_of<'s>(source: &'s str, span: &Range<usize>) -> &'s str {
    let start = source.floor_char_boundary(span.start);
    let end = source.ceil_char_boundary(span.end.max(start));
    let (before, after) = (source.get(..start).unwrap_or_default(), source.get(end..).unwrap_or_default());
    let from = before.rfind('\n').map_or(0, |at| at + 1);
    let to = after.find('\n').map_or(source.len(), |at| end + at);
    source.get(from..to).unwrap_or_default()
}

/// Whether two places are on the same line.
fn is_one_line(source: &str, one: usize, other: usize) -> bool {
    source.get(one.min(other)..one.max(other)).is_some_and(|between| !between.contains('\n'))
}

//! Untrusted and bounded text.
//!
//! **Invariant:** text from a log, a model or a container reaches a terminal only through [`plain`].

use std::fmt::{self, Write as _};
use std::io;
use std::path::Path;

/// Cuts at a character boundary so that at most `max_chars` characters stay; an ellipsis shows the cut.
pub fn bounded(text: &str, max_chars: usize) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(max_chars).collect();
    if chars.next().is_none() {
        return head;
    }
    let mut shorter: String = head.chars().take(max_chars.saturating_sub(1)).collect();
    shorter.push('…');
    shorter
}

/// A file's text.
///
/// # Errors
///
/// What the system says; [`io::ErrorKind::InvalidData`], with the line and the way out, if it is not UTF-8.
pub fn read_file(path: &Path) -> io::Result<String> {
    String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8; save it as UTF-8 text"))
    })
}

/// Whether a character can move the cursor, reorder the line or hide: control characters, bidirectional
/// marks, zero-width characters, tag characters and line separators.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line that is safe for a terminal: deceptive characters are shown as escapes, line breaks as `⏎`.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push(' '),
            c if is_deceptive(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// An error and what caused it, in one line; a cause that only repeats what was said is left out.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut last = said.clone();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !said.contains(&words) && !words.ends_with(&last) {
            push(&mut said, format_args!(": {words}"));
        }
        last = words;
        next = cause.source();
    }
    said
}

/// Adds formatted text.
pub fn push(to: &mut String, args: fmt::Arguments<'_>) {
    // Writing to a string cannot fail; a `Display` that does has said nothing.
    to.write_fmt(args).unwrap_or_default();
}

/// The largest character boundary of `text` at or before `index`.
pub fn floor_boundary(text: &str, index: usize) -> usize {
    text.floor_char_boundary(index)
}

/// The part of `text` in `range`, moved outwards to character boundaries and cut to its length.
pub fn slice(text: &str, range: std::ops::Range<usize>) -> &str {
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.ceil_char_boundary(range.end.min(text.len()).max(start));
    text.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_text_is_told_apart_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("graph.toml");
        std::fs::write(&path, "[graph]\nname = \"é\"\n").unwrap();
        assert_eq!(read_file(&path).unwrap(), "[graph]\nname = \"é\"\n");
        std::fs::write(&path, b"[graph]\nname = \"\xff\"\n").unwrap();
        let error = read_file(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "line 2 is not UTF-8; save it as UTF-8 text");
        assert_eq!(read_file(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn a_cause_that_repeats_is_left_out() {
        let code = Said("Error code 26: file is not a database", None);
        let file = Said("file is not a database", Some(Box::new(code)));
        let store = Said("store a.db: database", Some(Box::new(file)));
        assert_eq!(causes(&store), "store a.db: database: file is not a database");
        let again = Said("cannot read: no such file", Some(Box::new(Said("no such file", None))));
        assert_eq!(causes(&again), "cannot read: no such file");
    }

    #[test]
    fn escapes_never_reach_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb⏎c\\u{202e}d");
    }

    #[test]
    fn bounded_stays_bounded() {
        assert_eq!(bounded("äöüß", 4), "äöüß");
        assert_eq!(bounded("äöüßx", 4), "äöü…");
        assert_eq!(bounded("abc", 0), "…");
    }

    #[test]
    fn slices_outside_the_text_are_empty() {
        assert_eq!(slice("äb", 1..2), "ä");
        assert_eq!(slice("ab", 7..9), "");
    }
}

//! Characters that nobody sees and a model reads: tag characters, marks that reorder a line, runs of zero-width ones.

use std::ops::Range;

/// How many zero-width characters in a row, or in the whole text, are no accident.
const ZERO_WIDTH_RUN: usize = 4;

/// Calls `found` with each stretch of hidden text.
pub(super) fn hidden(text: &str, mut found: impl FnMut(Range<usize>)) {
    // All of them start with one of these bytes in UTF-8.
    let mut from = 0;
    let mut run: Option<(Range<usize>, usize, Kind)> = None;
    while let Some(offset) = memchr::memchr2(0xe2, 0xf3, text.as_bytes().get(from..).unwrap_or_default()) {
        let start = from + offset;
        let Some(c) = text.get(start..).and_then(|rest| rest.chars().next()) else { return };
        let end = start + c.len_utf8();
        from = end;
        let Some(kind) = Kind::of(c) else { continue };
        match &mut run {
            Some((range, count, last)) if range.end == start && *last == kind => {
                range.end = end;
                *count += 1;
            }
            _ => {
                if let Some(done) = run.take() {
                    report(text, &done, &mut found);
                }
                run = Some((start..end, 1, kind));
            }
        }
    }
    if let Some(done) = run {
        report(text, &done, &mut found);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tag,
    Reorder,
    ZeroWidth,
}

impl Kind {
    const fn of(c: char) -> Option<Self> {
        match c {
            '\u{e0020}'..='\u{e007f}' => Some(Self::Tag),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some(Self::Reorder),
            '\u{200b}' | '\u{200c}' | '\u{2060}'..='\u{2064}' => Some(Self::ZeroWidth),
            _ => None,
        }
    }
}

fn report(
    text: &str,
    (range, count, kind): &(Range<usize>, usize, Kind),
    found: &mut impl FnMut(Range<usize>),
) {
    let hit = match kind {
        // A flag of a region is a black flag with up to six tags.
        Kind::Tag => {
            *count > 6 || !text.get(..range.start).is_some_and(|before| before.ends_with('\u{1f3f4}'))
        }
        // An override among Latin letters; real right-to-left text uses isolates or none.
        Kind::Reorder => {
            text.get(range.clone()).is_some_and(|marks| marks.contains(['\u{202d}', '\u{202e}']))
        }
        Kind::ZeroWidth => *count >= ZERO_WIDTH_RUN,
    };
    if hit {
        found(range.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        hidden(text, |range| spans.push(range));
        spans
    }

    #[test]
    fn tags_and_overrides_are_found_and_flags_are_not() {
        assert_eq!(spans("a\u{e0069}\u{e0067}b"), vec![1..9]);
        assert_eq!(spans("exe\u{202e}fdp"), vec![3..6]);
        assert!(spans("\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}").is_empty());
        assert!(spans("naïve – “quotes” 👨‍👩‍👧").is_empty());
    }
}

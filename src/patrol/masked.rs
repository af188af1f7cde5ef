//! Turns on their way to a model: masked, cut into questions that fit, and the way back from a quote to its place.

use std::ops::Range;

use super::sweep::PatrolDeps;
use crate::case::{Category, Turn};
use crate::detect::place;
use crate::{redact, text};

/// How much of a long part the next segment repeats, in characters.
const OVERLAP_CHARS: usize = 400;
/// A turn on its way to a model: secrets masked already.
#[derive(Clone, Debug)]
pub(super) struct MaskedTurn {
    /// The turn's row.
    pub row: i64,
    /// Its stable id, for vote ids.
    pub id: String,
    /// `runId_ts`.
    pub run_id_ts: String,
    /// Its run.
    pub run_id: String,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Its log file.
    pub source_file: String,
    /// OpenClaw's agent id, where the log says.
    pub agent_id: Option<String>,
    /// Each part: where it comes from, its masked text, and its length unmasked.
    parts: Vec<MaskedPart>,
    /// What the detectors found: label and category.
    pub hints: Vec<(String, Category)>,
}

#[derive(Clone, Debug)]
struct MaskedPart {
    place: String,
    masked: String,
    /// The text as it was, where models may see that.
    original: Option<String>,
    /// For each mask: where it stands in the masked text, and where the secret stood in the original.
    masks: Vec<(Range<usize>, Range<usize>)>,
}

impl MaskedPart {
    fn of(deps: &PatrolDeps, turn_part: &crate::case::Part) -> Self {
        let body = &turn_part.text;
        let mut masked = String::with_capacity(body.len());
        let mut masks = Vec::new();
        let mut at = 0;
        for (span, label) in deps.detectors.sensitive_spans(body) {
            if span.start < at {
                continue;
            }
            masked.push_str(text::slice(body, at..span.start));
            let start = masked.len();
            masked.push_str(&redact::mask(&label, text::slice(body, span.clone())));
            masks.push((start..masked.len(), span.clone()));
            at = span.end;
        }
        masked.push_str(text::slice(body, at..body.len()));
        let original = (!deps.settings.redact).then(|| body.clone());
        Self { place: place(turn_part), masked, original, masks }
    }

    /// The text as a model sees it.
    fn sent(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.masked)
    }

    /// Where a quote stood in the original, and how it may be shown. The model saw control characters as escapes; a quote
    /// with one is found in that form, and stands for the whole part.
    fn find(&self, quote: &str) -> Option<(Range<usize>, String)> {
        if let Some(at) = self.masked.find(quote) {
            return Some((self.original(at..at + quote.len()), quote.to_owned()));
        }
        if let Some((original, at)) =
            self.original.as_deref().and_then(|text| Some((text, text.find(quote)?)))
        {
            return Some(self.covered(original, at..at + quote.len()));
        }
        let whole = || self.original(0..self.masked.len());
        crate::prompt::shown(&self.masked).contains(quote).then(|| (whole(), quote.to_owned()))
    }

    /// A range of the original, widened so that no secret is cut, and its text with every secret masked.
    fn covered(&self, original: &str, mut range: Range<usize>) -> (Range<usize>, String) {
        let mut out = String::new();
        let mut at = range.start;
        for (masked, secret) in &self.masks {
            if secret.start < range.end && secret.end > range.start {
                out.push_str(text::slice(original, at..secret.start.max(at)));
                out.push_str(text::slice(&self.masked, masked.clone()));
                at = secret.end;
                range.start = range.start.min(secret.start);
            }
        }
        range.end = range.end.max(at);
        out.push_str(text::slice(original, at..range.end));
        (range, out)
    }

    /// Where a range of the masked text stood in the original. A mask that it touches only in part counts whole.
    fn original(&self, range: Range<usize>) -> Range<usize> {
        let first = self.masks.partition_point(|(masked, _)| masked.end <= range.start);
        let start = match self.masks.get(first) {
            Some((masked, original)) if masked.start < range.start => original.start,
            _ => self.unmasked(first, range.start),
        };
        let last = self.masks.partition_point(|(masked, _)| masked.end < range.end);
        let end = match self.masks.get(last) {
            Some((masked, original)) if masked.start < range.end => original.end,
            _ => self.unmasked(last, range.end),
        };
        start..end.max(start)
    }

    /// Where a place stood that is no part of a mask; `before` masks come before it.
    fn unmasked(&self, before: usize, at: usize) -> usize {
        let known = before.checked_sub(1).and_then(|last| self.masks.get(last));
        known.map_or(at, |(masked, original)| original.end + at.saturating_sub(masked.end))
    }
}

impl MaskedTurn {
    /// Masks a turn.
    pub(super) fn of(deps: &PatrolDeps, row: i64, turn: &Turn, hints: Vec<(String, Category)>) -> Self {
        Self {
            row,
            id: turn.id.to_string(),
            run_id_ts: turn.run_id_ts(),
            run_id: turn.run_id.clone(),
            ts: turn.ts,
            source_file: turn.source_file.clone(),
            agent_id: turn.agent_id.clone(),
            parts: turn.parts.iter().map(|part| MaskedPart::of(deps, part)).collect(),
            hints,
        }
    }

    /// The first place where a quote stands.
    pub(super) fn find(&self, quote: &str) -> Option<Found> {
        let quote = quote.trim();
        if quote.chars().count() < 3 {
            return None;
        }
        self.parts.iter().enumerate().find_map(|(index, part)| {
            let (span, quote) = part.find(quote)?;
            Some(Found { part: index, place: part.place.clone(), span, quote })
        })
    }
}

/// Where a quote stands in a turn.
#[derive(Debug)]
pub(super) struct Found {
    /// The part, by its index.
    pub part: usize,
    /// What kind of part it is.
    pub place: String,
    /// Start and end in the original text of the part.
    pub span: Range<usize>,
    /// The quote as it may be shown.
    pub quote: String,
}

/// One question's share of the turns: index of the turn, and the text that is shown of it.
pub(super) type Window = Vec<(usize, String)>;

/// Splits turns into questions of at most `limit` characters; long parts become overlapping segments. Nothing is cut
/// off.
pub(super) fn windows(turns: &[MaskedTurn], limit: usize) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let mut current: Window = Vec::new();
    let mut used = 0;
    for (index, turn) in turns.iter().enumerate() {
        for part in &turn.parts {
            for segment in segments(part.sent(), limit / 2) {
                let line = format!("[{}] {segment}", part.place);
                let size = line.chars().count();
                if used + size > limit && !current.is_empty() {
                    windows.push(std::mem::take(&mut current));
                    used = 0;
                }
                used += size;
                current.push((index, line));
            }
        }
    }
    if !current.is_empty() {
        windows.push(current);
    }
    windows
}

/// Pieces of at most `limit` characters that overlap.
fn segments(body: &str, limit: usize) -> Vec<&str> {
    let limit = limit.max(OVERLAP_CHARS * 2);
    let bounds: Vec<usize> = body.char_indices().map(|(at, _)| at).chain([body.len()]).collect();
    let chars = bounds.len() - 1;
    let mut out = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + limit).min(chars);
        let (from, to) =
            (bounds.get(start).copied().unwrap_or(0), bounds.get(end).copied().unwrap_or(body.len()));
        out.push(text::slice(body, from..to));
        if end == chars {
            return out;
        }
        start = end - OVERLAP_CHARS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_overlap_and_lose_nothing() {
        let body: String = (0..5_000).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
        let parts = segments(&body, 1_000);
        let mut joined = parts[0].to_owned();
        for part in &parts[1..] {
            let (again, new) = part.split_at(OVERLAP_CHARS);
            assert!(joined.ends_with(again));
            joined.push_str(new);
        }
        assert_eq!(joined, body);
        assert_eq!(segments("", 1_000), [""]);
    }

    #[test]
    fn a_quote_of_a_part_of_a_secret_is_shown_with_the_whole_masked() {
        let part = MaskedPart {
            place: String::new(),
            masked: "key [t #1] then [u #2] end".into(),
            original: Some("key 0123456789abcdefghij then XYZ end".into()),
            masks: vec![(4..10, 4..24), (16..22, 30..33)],
        };
        assert_eq!(part.find("ey 01234"), Some((1..24, "ey [t #1]".into())));
        assert_eq!(part.find("j then X"), Some((4..33, "[t #1] then [u #2]".into())));
        assert_eq!(part.find("5678"), Some((4..24, "[t #1]".into())));
        assert_eq!(part.find("[u #2] end"), Some((30..37, "[u #2] end".into())));
        assert_eq!(part.find("not there"), None);
    }

    #[test]
    fn a_place_in_masked_text_maps_back() {
        let part = MaskedPart {
            place: String::new(),
            masked: "key [t #1] then [u #2] end".into(),
            original: None,
            masks: vec![(4..10, 4..24), (16..22, 30..33)],
        };
        for (masked, original) in [
            (0..3, 0..3),
            (4..10, 4..24),
            (6..8, 4..24),
            (11..15, 25..29),
            (0..26, 0..37),
            (5..17, 4..33),
            // What ends where a mask begins, or begins where one ends, does not have the secret in it.
            (0..4, 0..4),
            (10..16, 24..30),
            (22..26, 33..37),
        ] {
            assert_eq!(part.original(masked.clone()), original, "{masked:?}");
        }
    }
}

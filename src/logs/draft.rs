//! One turn while its events come in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{Extents, Place, Spans, TurnRecord, digest, line_hash};
use crate::id::TurnId;

/// Ranges of deltas that are kept apart; beyond, they are coarsened.
const MAX_FRAGMENT_SPANS: usize = 256;
/// A turn with more than this is given out in pieces, so that no run can grow without bound.
const MAX_SPANS: usize = 512;
const MAX_FINALS: usize = 64;
const MAX_CONTENT_BYTES: u64 = 8 << 20;
const MAX_FRAGMENT_BYTES: u64 = 16 << 20;
const MAX_COVERED_BYTES: u64 = 256 << 20;

/// Stands for a first offset that is not known yet.
const NOWHERE: u64 = u64::MAX;

/// A text that an event brought whole, though the end of the turn may bring it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Final {
    thinking: bool,
    /// It replaces the one before, as commentary does.
    update: bool,
    file: Arc<str>,
    offset: u64,
    length: u32,
    /// Length and hash of the text, undecoded.
    text_bytes: u64,
    text_hash: u64,
    line: u64,
}

/// The event that ends a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) ts: i64,
    /// Length and hash of `rawText` and `rawThinking`, undecoded.
    pub(super) text: (u64, u64),
    pub(super) thinking: (u64, u64),
}

/// A turn that is open, or has ended and may still get late lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Draft {
    first_file: Arc<str>,
    first_offset: u64,
    last_file: Arc<str>,
    last_offset: u64,
    latest_ts: i64,
    content: Spans,
    content_bytes: u64,
    /// Sum of the hashes of all content lines.
    lines: u64,
    text_bytes: u64,
    finals: Vec<Final>,
    fragments: Spans,
    /// Deltas that came after the end; never coarsened, as those of the next turn lie between them.
    late: Spans,
    counted: (u64, u64),
    /// Bytes of text deltas and of thinking deltas.
    streamed: (u64, u64),
    previous_end: Option<i64>,
    pub(super) end: Option<End>,
    /// Something has changed since the record was last given out.
    pub(super) dirty: bool,
}

impl Draft {
    pub(super) fn new(place: Place<'_>, ts: i64, previous_end: Option<i64>) -> Self {
        Self {
            first_file: Arc::clone(place.file),
            first_offset: place.offset,
            last_file: Arc::clone(place.file),
            last_offset: place.offset,
            latest_ts: ts,
            content: Spans::default(),
            content_bytes: 0,
            lines: 0,
            text_bytes: 0,
            finals: Vec::new(),
            fragments: Spans::default(),
            late: Spans::default(),
            counted: (0, 0),
            streamed: (0, 0),
            previous_end,
            end: None,
            dirty: false,
        }
    }

    /// Begins anew for what may still come late, after a full turn was given out.
    pub(super) fn restart(&mut self) {
        self.first_offset = NOWHERE;
        self.content = Spans::default();
        (self.content_bytes, self.lines, self.text_bytes) = (0, 0, 0);
        self.finals = Vec::new();
        self.fragments = Spans::default();
        self.late = Spans::default();
        (self.counted, self.streamed) = ((0, 0), (0, 0));
    }

    #[inline]
    fn touch(&mut self, place: Place<'_>, ts: i64) {
        if self.end.is_some() {
            if self.first_offset == NOWHERE {
                self.first_file = Arc::clone(place.file);
                self.first_offset = place.offset;
            }
            return;
        }
        if !Arc::ptr_eq(&self.last_file, place.file) {
            self.last_file = Arc::clone(place.file);
        }
        self.last_offset = place.offset;
        self.latest_ts = self.latest_ts.max(ts);
    }

    /// An event that is read for what it holds.
    pub(super) fn content(&mut self, place: Place<'_>, ts: i64, bytes: &[u8], text_bytes: u64) {
        self.touch(place, ts);
        self.content.push(place);
        self.content_bytes += u64::from(place.length);
        self.lines = self.lines.wrapping_add(line_hash(place.offset, bytes));
        self.text_bytes += text_bytes;
        self.dirty = true;
    }

    /// Whether deltas of this kind may still be asked for.
    fn misses(&self, thinking: bool) -> bool {
        self.end.as_ref().is_none_or(|end| if thinking { end.thinking.0 == 0 } else { end.text.0 == 0 })
    }

    /// A delta.
    #[inline]
    pub(super) fn fragment(&mut self, place: Place<'_>, ts: i64, thinking: bool, text_bytes: u64) {
        if !self.misses(thinking) {
            return;
        }
        self.touch(place, ts);
        if self.end.is_some() { &mut self.late } else { &mut self.fragments }.push(place);
        self.counted.0 += 1;
        self.counted.1 += u64::from(place.length);
        if thinking {
            self.streamed.1 += text_bytes;
        } else {
            self.streamed.0 += text_bytes;
        }
        self.dirty = true;
        if self.counted.0.is_multiple_of(64) && self.fragments.len() > MAX_FRAGMENT_SPANS {
            self.fragments.coarsen();
        }
    }

    /// A text that came whole.
    pub(super) fn whole(
        &mut self,
        place: Place<'_>,
        ts: i64,
        bytes: &[u8],
        thinking: bool,
        update: bool,
        text: (u64, u64),
    ) {
        let said_by_end =
            self.end.as_ref().is_some_and(|end| text == if thinking { end.thinking } else { end.text });
        if said_by_end
            || self.finals.iter().any(|known| known.is(thinking, text) && !(known.update && update))
        {
            return;
        }
        self.touch(place, ts);
        if update {
            // The last one counts, and the longest, should text have been taken back.
            let longest = self.finals.iter().filter(|known| known.update && known.thinking == thinking);
            let longest = longest.map(|known| known.text_bytes).max().filter(|longest| *longest > text.0);
            self.finals.retain(|known| {
                !known.update || known.thinking != thinking || longest == Some(known.text_bytes)
            });
        }
        self.finals.push(Final {
            thinking,
            update,
            file: Arc::clone(place.file),
            offset: place.offset,
            length: place.length,
            text_bytes: text.0,
            text_hash: text.1,
            line: line_hash(place.offset, bytes),
        });
        self.dirty = true;
    }

    /// The event that ends the turn.
    pub(super) fn close(&mut self, place: Place<'_>, end: End, bytes: &[u8]) {
        self.content(place, end.ts, bytes, end.text.0 + end.thinking.0);
        self.latest_ts = end.ts;
        self.finals.retain(|known| {
            let said = if known.thinking { end.thinking } else { end.text };
            !known.is(known.thinking, said)
        });
        self.end = Some(end);
        if self.wanted() == (false, false) {
            self.fragments = Spans::default();
            self.counted = (0, 0);
            self.streamed = (0, 0);
        }
    }

    /// Whether deltas must stand for the text, and for the thinking: where more was streamed than came whole.
    fn wanted(&self) -> (bool, bool) {
        let whole = |thinking| {
            self.finals
                .iter()
                .filter(|known| known.thinking == thinking)
                .map(|known| known.text_bytes)
                .sum::<u64>()
        };
        (
            self.misses(false) && self.streamed.0 > whole(false),
            self.misses(true) && self.streamed.1 > whole(true),
        )
    }

    /// Whether the turn has grown so much that it must be given out as it is.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.content_bytes > MAX_CONTENT_BYTES
            || self.counted.1 > MAX_FRAGMENT_BYTES
            || self.finals.len() > MAX_FINALS
            || (!self.content.is_empty() && self.content.len() > MAX_SPANS)
            || (!self.late.is_empty() && self.late.len() > MAX_SPANS)
            || (self.counted.0.is_multiple_of(64) && self.fragments.bytes() > MAX_COVERED_BYTES)
    }

    /// Whether any of it lies in a file.
    pub(super) fn touches(&self, file: &str) -> bool {
        let here = |name: &Arc<str>| **name == *file;
        here(&self.first_file)
            || here(&self.last_file)
            || self
                .content
                .iter()
                .chain(self.fragments.iter())
                .chain(self.late.iter())
                .any(|(name, _, _)| here(name))
            || self.finals.iter().any(|known| here(&known.file))
    }

    /// The record of what has come so far; nothing where that is no turn.
    pub(super) fn record(
        &self,
        run_id: &str,
        session_key: Option<&str>,
        agent_id: Option<&str>,
    ) -> Option<TurnRecord> {
        let wanted = self.wanted();
        if (self.end.is_none() || self.first_offset == NOWHERE)
            && self.content.is_empty()
            && self.finals.is_empty()
            && wanted == (false, false)
        {
            return None;
        }
        let streams = wanted != (false, false);
        let counted = if streams { self.counted } else { (0, 0) };
        let lines = self.finals.iter().fold(self.lines, |sum, known| sum.wrapping_add(known.line));
        let finals = self.finals.iter().map(|known| (Arc::clone(&known.file), known.offset, known.length));
        let ended = self.end.is_some();
        let streamed =
            if wanted.0 { self.streamed.0 } else { 0 } + if wanted.1 { self.streamed.1 } else { 0 };
        Some(TurnRecord {
            id: TurnId::stable(&[&self.first_file, &self.first_offset.to_string()]),
            run_id: run_id.to_owned(),
            ts: self.latest_ts,
            source_file: self.last_file.as_ref().to_owned(),
            at: self.last_offset,
            session_key: session_key.map(str::to_owned),
            agent_id: agent_id.map(str::to_owned),
            ended,
            text_bytes: self.text_bytes
                + streamed
                + self.finals.iter().map(|known| known.text_bytes).sum::<u64>(),
            digest: digest(lines, counted, ended, self.latest_ts),
            extents: Extents {
                spans: self.content.merged(finals),
                fragments: if streams { self.fragments.clone() } else { Spans::default() },
                late: if streams { self.late.clone() } else { Spans::default() },
                counted,
                wanted,
                previous_end: if streams { self.previous_end } else { None },
            },
        })
    }
}

impl Final {
    fn is(&self, thinking: bool, text: (u64, u64)) -> bool {
        self.thinking == thinking && (self.text_bytes, self.text_hash) == text
    }
}

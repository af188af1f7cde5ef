//! What a read pass says about a turn: who and when, and where its bytes are; not what they say.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::list::hash64;
use super::{LogsError, LogsErrorKind};
use crate::case::StreamId;
use crate::id::TurnId;

/// Longest run of adjacent entries that is kept as one span.
const MAX_SPAN: u32 = 1 << 30;

/// A turn as a read pass found it. [`Loader`](super::Loader) makes a [`Turn`](crate::case::Turn) of it.
///
/// The same id again replaces the earlier record: a tail has grown or got its end, or a late line has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnRecord {
    /// Made of the file and byte offset of the turn's first event.
    pub id: TurnId,
    /// The run it belongs to.
    pub run_id: String,
    /// Milliseconds since the Unix epoch: of the event that ends it, or of the latest one where none does.
    pub ts: i64,
    /// The file with its last event.
    pub source_file: String,
    /// Where in that file the last event begins; turns sort by file and this.
    pub at: u64,
    /// OpenClaw's session key, where the log has said it so far.
    pub session_key: Option<String>,
    /// OpenClaw's agent id, where known.
    pub agent_id: Option<String>,
    /// Whether an `assistant_message_end` closed it.
    pub ended: bool,
    /// About how many bytes of text it holds, counted before decoding.
    pub text_bytes: u64,
    /// Changes when what the turn holds changes.
    pub digest: u64,
    /// Where its bytes are.
    pub extents: Extents,
}

impl TurnRecord {
    /// The stream this turn belongs to, as of now.
    pub fn stream(&self) -> StreamId {
        StreamId(self.session_key.clone().unwrap_or_else(|| format!("file:{}", self.source_file)))
    }

    /// The name people and files use: run id, `_`, and the ts.
    pub fn run_id_ts(&self) -> String {
        format!("{}_{}", self.run_id, self.ts)
    }
}

/// Where the bytes of a turn are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extents {
    /// Entries that are read for what they hold.
    #[serde(rename = "s")]
    pub(super) spans: Spans,
    /// Where its deltas lie, only where they are needed; other entries may lie between them.
    #[serde(rename = "f", default, skip_serializing_if = "Spans::is_empty")]
    pub(super) fragments: Spans,
    /// Deltas that came after the end of the turn, and nothing else.
    #[serde(rename = "l", default, skip_serializing_if = "Spans::is_empty")]
    pub(super) late: Spans,
    /// How many deltas of this turn lie in both, and how many bytes their lines have.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub(super) counted: (u64, u64),
    /// Whether text deltas, and thinking deltas, stand for a text that is missing.
    #[serde(rename = "w", default, skip_serializing_if = "is_default")]
    pub(super) wanted: (bool, bool),
    /// The ts of the end before this turn: late deltas of that one may lie in `fragments`.
    #[serde(rename = "p", default, skip_serializing_if = "is_default")]
    pub(super) previous_end: Option<i64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Extents {
    /// A compact form for a store.
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and arrays only: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// State, when the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, LogsError> {
        serde_json::from_slice(bytes)
            .map_err(|error| LogsError::new(std::path::Path::new("extents"), LogsErrorKind::State(error)))
    }
}

/// Byte ranges of files, in the order in which they were met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Spans(Vec<(Arc<str>, Ranges)>);

/// Offset and length of each.
type Ranges = Vec<(u64, u32)>;

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) offset: u64,
    pub(super) length: u32,
    /// Where the entry before it in the file ended.
    pub(super) after: u64,
}

impl Spans {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, ranges)| ranges.len()).sum()
    }

    /// How many bytes they cover.
    pub(super) fn bytes(&self) -> u64 {
        self.iter().map(|(_, _, length)| u64::from(length)).sum()
    }

    /// Adds an entry; one that follows the last range without another between them lengthens it.
    #[inline]
    pub(super) fn push(&mut self, place: Place<'_>) {
        if let Some((file, ranges)) = self.0.last_mut()
            && (Arc::ptr_eq(file, place.file) || **file == **place.file)
        {
            if let Some((offset, length)) = ranges.last_mut()
                && *offset + u64::from(*length) == place.after
                && let Ok(longer) = u32::try_from(place.offset + u64::from(place.length) - *offset)
                && longer <= MAX_SPAN
            {
                *length = longer;
            } else {
                ranges.push((place.offset, place.length));
            }
            return;
        }
        self.0.push((Arc::clone(place.file), vec![(place.offset, place.length)]));
    }

    /// Halves the number of ranges by joining neighbours with whatever lies between them.
    pub(super) fn coarsen(&mut self) {
        for (_, ranges) in &mut self.0 {
            let pairs = ranges.chunks(2).flat_map(|pair| match pair {
                [(start, _), (end, length)] => match u32::try_from(end + u64::from(*length) - start) {
                    Ok(joined) if end > start && joined <= MAX_SPAN => vec![(*start, joined)],
                    _ => pair.to_vec(),
                },
                _ => pair.to_vec(),
            });
            *ranges = pairs.collect();
        }
    }

    /// File, offset and length of each range.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u64, u32)> {
        self.0
            .iter()
            .flat_map(|(file, ranges)| ranges.iter().map(move |(offset, length)| (file, *offset, *length)))
    }

    /// Both, by file and offset.
    pub(super) fn merged(&self, other: impl Iterator<Item = (Arc<str>, u64, u32)>) -> Self {
        let mut all: Vec<(Arc<str>, u64, u32)> = self
            .iter()
            .map(|(file, offset, length)| (Arc::clone(file), offset, length))
            .chain(other)
            .collect();
        all.sort_by(|one, two| (&*one.0, one.1).cmp(&(&*two.0, two.1)));
        let mut merged = Self::default();
        for (file, offset, length) in all {
            match merged.0.last_mut() {
                Some((last, ranges)) if *last == file => ranges.push((offset, length)),
                _ => merged.0.push((file, vec![(offset, length)])),
            }
        }
        merged
    }
}

/// What one entry adds to a turn's digest: sums do not depend on the order.
pub(super) fn line_hash(offset: u64, bytes: &[u8]) -> u64 {
    hash64(&[&offset.to_le_bytes(), bytes])
}

/// The digest of a turn from the sum of its lines and what else may change.
pub(super) fn digest(lines: u64, counted: (u64, u64), ended: bool, ts: i64) -> u64 {
    let (count, bytes) = counted;
    hash64(&[
        &lines.to_le_bytes(),
        &count.to_le_bytes(),
        &bytes.to_le_bytes(),
        &[u8::from(ended)],
        &ts.to_le_bytes(),
    ])
}

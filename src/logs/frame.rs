//! Cuts a file into entries, in bounded chunks.
//!
//! A JSON array with an event a line, JSON lines, an array on one line, entries over several lines: all are objects
//! with separators between them, and that is all that is asked of a file. What is not an object costs its own line;
//! within the line, the next event is looked for.
//!
//! **Invariant:** at most [`MAX_ENTRY`] and one chunk are held; a longer line is passed over without being kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::{memchr, memchr_iter};

use super::LogsError;
use super::delta::{self, Delta};
use super::list::Skipped;
use super::read::RejectReason;
use super::scan::{Entry, Key, Scan, is_separator, scan};

/// Longest entry that is read.
pub const MAX_ENTRY: usize = 8 << 20;

/// How much is read at once; little in tests, so that every entry there meets the end of a chunk.
const CHUNK: usize = if cfg!(test) { 512 } else { 256 << 10 };

/// How often the next event is looked for within one broken line: objects that are none, and places where no object
/// could be read, which may cost the length of the line each.
const MAX_OBJECTS: usize = 4096;
const MAX_FAILURES: usize = 64;

/// How much of an entry that cannot be read is searched for its run id.
const PEEK: usize = 4 << 10;

/// Who is told what a file holds.
pub(super) trait Visit {
    /// A canonical delta event at `offset`; the unit before it ended at `after`.
    fn delta(&mut self, offset: u64, after: u64, delta: &Delta<'_>) -> Result<(), LogsError>;
    /// Any other object.
    fn entry(&mut self, offset: u64, after: u64, entry: &Entry<'_>) -> Result<(), LogsError>;
    /// Bytes that are no entry.
    fn reject(
        &mut self,
        offset: u64,
        length: u64,
        reason: RejectReason,
        run_id: Option<String>,
    ) -> Result<(), LogsError>;
}

/// Why a file could not be cut to its end.
#[derive(Debug)]
pub(super) enum FrameError {
    Io(io::Error),
    Logs(LogsError),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<LogsError> for FrameError {
    fn from(error: LogsError) -> Self {
        Self::Logs(error)
    }
}

/// Where in a file the cutting stands; it can go on from here when the file has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: u64,
    /// Where the last entry or reject ended.
    pub(super) unit_end: u64,
    /// The over-long line whose end has not been seen.
    pub(super) skipped: Option<Skipped>,
}

impl Position {
    /// At the start of an entry, or between two.
    pub(super) fn at(offset: u64) -> Self {
        Self { offset, unit_end: offset, skipped: None }
    }
}

/// An entry that the end of the file cuts off.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) length: u64,
    pub(super) run_id: Option<String>,
}

/// A chunk of a file, and what of it is still to be cut. The buffer is kept from file to file.
#[derive(Debug, Default)]
pub(super) struct Window {
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Window {
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..self.filled).unwrap_or_default()
    }

    /// Gets more of the file behind what is held; whether there was more.
    fn fill(&mut self, file: &File, offset: u64, end: u64) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        // Doubling keeps the cost of scanning a long entry anew in proportion to its length.
        let wanted = CHUNK.max(self.filled * 2).min(MAX_ENTRY + CHUNK);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let at = offset + self.filled as u64;
        if at >= end {
            return Ok(false);
        }
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = self.buffer.len();
        let Some(space) = self.buffer.get_mut(self.filled..length.min(self.filled.saturating_add(left)))
        else {
            return Ok(false);
        };
        loop {
            match file.read_at(space, at) {
                Ok(read) => {
                    self.filled += read;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn reset(&mut self) {
        self.start = 0;
        self.filled = 0;
        // One long entry must not keep its memory for the rest of the directory.
        if self.buffer.len() > 4 * CHUNK {
            self.buffer.truncate(CHUNK);
            self.buffer.shrink_to_fit();
        }
    }
}

/// Cuts a file from `position` to `end`, and moves `position` behind all that was cut.
///
/// Returns what the end of the file cuts off: it is left where it is.
pub(super) fn cut<V: Visit>(
    file: &File,
    position: &mut Position,
    end: u64,
    window: &mut Window,
    visit: &mut V,
) -> Result<Option<Torn>, FrameError> {
    window.reset();
    let mut cutter = Cutter { position, end, window, last_run: Vec::new() };
    loop {
        cutter.run(visit)?;
        if cutter.window.fill(file, cutter.position.offset, end)? {
            continue;
        }
        if let Some(skipped) = &cutter.position.skipped {
            let length = cutter.position.offset - skipped.from;
            visit.reject(skipped.from, length, RejectReason::TooLong, skipped.run_id.clone())?;
            return Ok(None);
        }
        let rest = cutter.window.rest();
        if rest.is_empty() {
            return Ok(None);
        }
        return Ok(Some(Torn { length: rest.len() as u64, run_id: peek_run_id(rest) }));
    }
}

struct Cutter<'a> {
    position: &'a mut Position,
    end: u64,
    window: &'a mut Window,
    /// The run of the last delta.
    last_run: Vec<u8>,
}

/// What to do about bytes that are no entry.
enum Mend {
    /// Leave out this many.
    Drop(usize),
    /// More bytes are needed to tell.
    More,
}

impl Cutter<'_> {
    fn consume(&mut self, length: usize) {
        self.window.start += length;
        self.position.offset += length as u64;
    }

    /// Cuts what the window holds, as far as it goes.
    fn run<V: Visit>(&mut self, visit: &mut V) -> Result<(), LogsError> {
        loop {
            if self.position.skipped.is_some() {
                let Some(line_end) = memchr(b'\n', self.window.rest()) else {
                    self.consume(self.window.rest().len());
                    return Ok(());
                };
                self.consume(line_end);
                if let Some(skipped) = self.position.skipped.take() {
                    let length = self.position.offset - skipped.from;
                    visit.reject(skipped.from, length, RejectReason::TooLong, skipped.run_id)?;
                }
                self.position.unit_end = self.position.offset;
            }
            let gap = self.window.rest().iter().position(|byte| !is_separator(*byte));
            self.consume(gap.unwrap_or(self.window.rest().len()));
            let rest = self.window.rest();
            let (offset, after) = (self.position.offset, self.position.unit_end);
            let length = match rest.first() {
                None => return Ok(()),
                Some(b'{') => {
                    if let Some(delta) = delta::parse(rest, &self.last_run) {
                        visit.delta(offset, after, &delta)?;
                        if delta.run_id != self.last_run {
                            self.last_run = delta.run_id.to_vec();
                        }
                        Some(delta.length)
                    } else {
                        match scan(rest) {
                            Scan::Whole(entry) if entry.bytes.len() <= MAX_ENTRY => {
                                visit.entry(offset, after, &entry)?;
                                Some(entry.bytes.len())
                            }
                            Scan::Whole(entry) => {
                                let length = entry.bytes.len();
                                visit.reject(
                                    offset,
                                    length as u64,
                                    RejectReason::TooLong,
                                    peek_run_id(rest),
                                )?;
                                Some(length)
                            }
                            Scan::Partial if rest.len() > MAX_ENTRY => None,
                            Scan::Partial => return Ok(()),
                            Scan::Bad => match mend(rest, self.at_end()) {
                                Mend::Drop(length) => {
                                    visit.reject(
                                        offset,
                                        length as u64,
                                        RejectReason::Corrupt,
                                        peek_run_id(rest),
                                    )?;
                                    Some(length)
                                }
                                Mend::More if rest.len() > MAX_ENTRY => None,
                                Mend::More => return Ok(()),
                            },
                        }
                    }
                }
                Some(_) if offset == 0 && rest.starts_with(b"\xef\xbb\xbf") => Some(3),
                Some(_) => match mend(rest, self.at_end()) {
                    Mend::Drop(length) => {
                        visit.reject(offset, length as u64, RejectReason::NotAnObject, None)?;
                        Some(length)
                    }
                    Mend::More if rest.len() > MAX_ENTRY => None,
                    Mend::More => return Ok(()),
                },
            };
            match length {
                Some(length) => {
                    self.consume(length);
                    self.position.unit_end = self.position.offset;
                }
                None => self.position.skipped = Some(Skipped { from: offset, run_id: peek_run_id(rest) }),
            }
        }
    }

    /// Whether the window reaches the end of the file.
    fn at_end(&self) -> bool {
        self.position.offset + self.window.rest().len() as u64 >= self.end
    }
}

/// How much of a broken line is to be left out: up to the next event in it, or all of it.
fn mend(rest: &[u8], at_end: bool) -> Mend {
    let line_end = memchr(b'\n', rest);
    let line = rest.get(..line_end.unwrap_or(rest.len())).unwrap_or_default();
    let (mut objects, mut failures) = (0, 0);
    for found in memchr_iter(b'{', line).filter(|found| *found > 0) {
        let candidate = rest.get(found..).unwrap_or_default();
        if !begins_event(candidate) {
            continue;
        }
        match scan(candidate) {
            Scan::Whole(entry) if super::assemble::read_event(&entry).is_ok() => return Mend::Drop(found),
            Scan::Whole(_) => objects += 1,
            Scan::Partial if line_end.is_none() && !at_end => return Mend::More,
            Scan::Partial | Scan::Bad => failures += 1,
        }
        if objects > MAX_OBJECTS || failures > MAX_FAILURES {
            break;
        }
    }
    line_end.map_or(Mend::More, Mend::Drop)
}

fn begins_event(bytes: &[u8]) -> bool {
    let name = bytes.strip_prefix(b"{").and_then(|key| key.trim_ascii_start().strip_prefix(b"\""));
    let length = name.and_then(|name| name.iter().take(32).position(|byte| *byte == b'"'));
    length.and_then(|length| name?.get(..length)).is_some_and(|name| Key::of(name).is_some())
}

/// The run id in an entry that cannot be read, if one is plain to see.
pub(super) fn peek_run_id(bytes: &[u8]) -> Option<String> {
    let head = bytes.get(..bytes.len().min(PEEK))?;
    let line = head.split(|byte| *byte == b'\n').next()?;
    let at = memchr::memmem::find(line, b"\"runId\"")?;
    let value = line.get(at + 7..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let inner = value.strip_prefix(b"\"")?;
    let length = inner.iter().take(delta::MAX_RUN_ID + 1).position(|byte| matches!(byte, b'"' | b'\\'))?;
    let run_id = inner.get(..length).filter(|_| inner.get(length) == Some(&b'"'))?;
    std::str::from_utf8(run_id).ok().map(str::to_owned)
}

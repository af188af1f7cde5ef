//! Fetches the text of one turn by its record.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::assemble::{is_late, read_event};
use super::delta::Delta;
use super::frame::{FrameError, Position, Visit, Window, cut};
use super::list::open;
use super::parts::Parts;
use super::read::RejectReason;
use super::record::{Spans, TurnRecord, digest, line_hash};
use super::scan::{Entry, Key};
use super::{LogsError, LogsErrorKind, json};
use crate::case::{PartKind, Turn};
use crate::openclaw::event::EventKind;

/// How many files are held open.
const MAX_OPEN: usize = 16;

/// Reads turns of one directory. It keeps some files open and one buffer.
#[derive(Debug)]
pub struct Loader {
    dir: PathBuf,
    open: VecDeque<(String, File)>,
    window: Window,
}

impl Loader {
    /// A loader for the turns of a directory.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: VecDeque::new(), window: Window::default() }
    }

    /// The turn as it was when its record was made.
    ///
    /// # Errors
    /// Gone and Changed, when the bytes are not there any more, or are others: read the directory again, and leave
    /// the turn unreviewed until then. Io, when they cannot be read.
    pub fn load(&mut self, record: &TurnRecord) -> Result<Turn, LogsError> {
        let extents = &record.extents;
        let mut gather = Gather { parts: Parts::default(), lines: 0, bad: false };
        self.visit(&extents.spans, &mut gather)?;
        let mut stream = Stream {
            run_id: &record.run_id,
            previous_end: extents.previous_end,
            counted: (0, 0),
            deltas: Vec::new(),
        };
        self.visit(&extents.fragments, &mut stream)?;
        stream.previous_end = None;
        self.visit(&extents.late, &mut stream)?;
        let counted = stream.counted;
        if gather.bad
            || counted != extents.counted
            || digest(gather.lines, counted, record.ended, record.ts) != record.digest
        {
            return Err(LogsError::changed(&self.dir.join(&record.source_file)));
        }
        let (text, thinking) = stream.joined();
        let (want_text, want_thinking) = extents.wanted;
        let wanted =
            |want: bool, text: String| (PartKind::Fragments, if want { text } else { String::new() });
        Ok(Turn {
            id: record.id,
            run_id: record.run_id.clone(),
            ts: record.ts,
            source_file: record.source_file.clone(),
            session_key: record.session_key.clone(),
            agent_id: record.agent_id.clone(),
            ended: record.ended,
            parts: gather.parts.finish([wanted(want_thinking, thinking), wanted(want_text, text)]),
        })
    }

    fn visit<V: Visit>(&mut self, spans: &Spans, visit: &mut V) -> Result<(), LogsError> {
        for (name, offset, length) in spans.iter() {
            let path = self.dir.join(&**name);
            if !self.open.iter().any(|(open, _)| **open == **name) {
                let (file, _) = open(&self.dir, name).map_err(|error| LogsError::io(&path, error))?;
                if self.open.len() >= MAX_OPEN {
                    self.open.pop_front();
                }
                self.open.push_back((name.as_ref().to_owned(), file));
            }
            let Some((_, file)) = self.open.iter().find(|(open, _)| **open == **name) else { continue };
            let end = offset + u64::from(length);
            let mut position = Position::at(offset);
            match cut(file, &mut position, end, &mut self.window, visit) {
                Ok(None) if position.offset == end => {}
                Ok(_) => return Err(LogsError::changed(&path)),
                Err(FrameError::Logs(error)) => return Err(error),
                Err(FrameError::Io(error)) => return Err(LogsError::new(&path, LogsErrorKind::Io(error))),
            }
        }
        Ok(())
    }
}

/// Reads the entries that are read for what they hold.
struct Gather {
    parts: Parts,
    lines: u64,
    bad: bool,
}

impl Visit for Gather {
    fn delta(&mut self, _: u64, _: u64, _: &Delta<'_>) -> Result<(), LogsError> {
        // No canonical delta is among them.
        self.bad = true;
        Ok(())
    }

    fn entry(&mut self, offset: u64, _: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        self.lines = self.lines.wrapping_add(line_hash(offset, entry.bytes));
        match read_event(entry).ok().and_then(|event| event.kind) {
            Some(kind) => self.parts.take(kind, entry),
            None => self.bad = true,
        }
        Ok(())
    }

    fn reject(&mut self, _: u64, _: u64, _: RejectReason, _: Option<String>) -> Result<(), LogsError> {
        self.bad = true;
        Ok(())
    }
}

/// Reads the deltas of one run; other entries may lie between them.
struct Stream<'a> {
    run_id: &'a str,
    previous_end: Option<i64>,
    counted: (u64, u64),
    deltas: Vec<(i64, bool, String)>,
}

impl Stream<'_> {
    fn take(&mut self, length: usize, ts: i64, thinking: bool, text: String) {
        if self.previous_end.is_some_and(|end| is_late(end, ts)) {
            return;
        }
        self.counted.0 += 1;
        self.counted.1 += length as u64;
        self.deltas.push((ts, thinking, text));
    }

    /// Text and thinking, by time and then by arrival.
    fn joined(mut self) -> (String, String) {
        self.deltas.sort_by_key(|(ts, _, _)| *ts);
        let mut joined = (String::new(), String::new());
        for (_, thinking, text) in &self.deltas {
            if *thinking { &mut joined.1 } else { &mut joined.0 }.push_str(text);
        }
        joined
    }
}

impl Visit for Stream<'_> {
    fn delta(&mut self, _: u64, _: u64, delta: &Delta<'_>) -> Result<(), LogsError> {
        if delta.run_id == self.run_id.as_bytes() {
            self.take(delta.length, delta.ts, delta.thinking, json::string(delta.text).into_owned());
        }
        Ok(())
    }

    fn entry(&mut self, _: u64, _: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        let Ok(event) = read_event(entry) else { return Ok(()) };
        let thinking = match event.kind {
            Some(EventKind::TextStream) => false,
            Some(EventKind::ThinkingStream) => true,
            _ => return Ok(()),
        };
        if event.run_id == self.run_id && !entry.odd && !entry.is_blank(Key::Delta) {
            let raw = entry.raw(Key::Delta).unwrap_or_default();
            self.take(entry.bytes.len(), event.ts, thinking, json::text(raw).into_owned());
        }
        Ok(())
    }

    fn reject(&mut self, _: u64, _: u64, _: RejectReason, _: Option<String>) -> Result<(), LogsError> {
        Ok(())
    }
}

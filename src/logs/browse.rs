//! A log directory as people look at it: its files, and the last events.

use std::collections::VecDeque;
use std::path::Path;

use serde::Serialize;

use super::assemble::read_event;
use super::delta::Delta;
use super::frame::{FrameError, Position, Visit, Window, cut};
use super::list::{list, open};
use super::read::RejectReason;
use super::scan::{Entry, Key};
use super::{LogsError, json};

/// How much of a file's end is read first for its last events.
const TAIL_BYTES: u64 = 256 << 10;

/// How much of an event's text is read, as it stands in the file.
const HEAD_BYTES: usize = 16 << 10;

/// A log file in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileSummary {
    /// Its name, without the directory.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
    /// How many events it holds.
    pub entries: u64,
    /// How many stretches of it could not be read.
    pub rejected: u64,
    /// Earliest and latest ts of its events.
    pub first_ts: Option<i64>,
    /// Latest ts of its events.
    pub last_ts: Option<i64>,
    /// Whether it ends within an entry.
    pub incomplete: bool,
}

/// An event as a line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventLine {
    /// Name of its file.
    pub file: String,
    /// Where it begins in it.
    pub offset: u64,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Name of the event.
    pub event: String,
    /// The run.
    pub run_id: String,
    /// The head of what it says, up to 16 KiB as the log has it; hostile, and perhaps secret: mask and escape it before
    /// it is cut shorter and shown. A secret that was cut in two first is not known for one any more.
    pub text: String,
}

/// The log files of a directory, each counted through.
///
/// # Errors
/// Io or Gone, when the directory cannot be read. A file that cannot be read counts as one reject.
pub fn summaries(dir: &Path) -> Result<Vec<FileSummary>, LogsError> {
    let mut window = Window::default();
    let mut summaries = Vec::new();
    for file in list(dir)? {
        let mut summary = FileSummary {
            name: file.name.clone(),
            size_bytes: file.size,
            modified_ms: file.mtime_ns / 1_000_000,
            entries: 0,
            rejected: 0,
            first_ts: None,
            last_ts: None,
            incomplete: false,
        };
        let mut start = Position::at(0);
        match open(dir, &file.name) {
            Ok((handle, _)) => match cut(&handle, &mut start, file.size, &mut window, &mut summary) {
                Ok(torn) => summary.incomplete = torn.is_some(),
                Err(_) => summary.rejected += 1,
            },
            Err(_) => summary.rejected += 1,
        }
        summaries.push(summary);
    }
    Ok(summaries)
}

impl FileSummary {
    fn count(&mut self, ts: i64) {
        self.entries += 1;
        self.first_ts = Some(self.first_ts.map_or(ts, |first| first.min(ts)));
        self.last_ts = Some(self.last_ts.map_or(ts, |last| last.max(ts)));
    }
}

impl Visit for FileSummary {
    fn delta(&mut self, _: u64, _: u64, delta: &Delta<'_>) -> Result<(), LogsError> {
        self.count(delta.ts);
        Ok(())
    }

    fn entry(&mut self, _: u64, _: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        match read_event(entry) {
            Ok(event) => self.count(event.ts),
            Err(_) => self.rejected += 1,
        }
        Ok(())
    }

    fn reject(&mut self, _: u64, _: u64, _: RejectReason, _: Option<String>) -> Result<(), LogsError> {
        self.rejected += 1;
        Ok(())
    }
}

/// The last `count` events of a directory, oldest first.
///
/// # Errors
/// Io or Gone, when the directory cannot be read. Files that cannot be read are left out.
pub fn tail(dir: &Path, count: usize) -> Result<Vec<EventLine>, LogsError> {
    let mut window = Window::default();
    let mut lines: VecDeque<EventLine> = VecDeque::new();
    for file in list(dir)?.into_iter().rev() {
        let wanted = count.saturating_sub(lines.len());
        if wanted == 0 {
            break;
        }
        let Ok((handle, _)) = open(dir, &file.name) else { continue };
        let mut span = TAIL_BYTES;
        loop {
            let offset = file.size.saturating_sub(span);
            let mut last = Last { file: &file.name, wanted, lines: VecDeque::new() };
            let mut start = Position::at(offset);
            match cut(&handle, &mut start, file.size, &mut window, &mut last) {
                Ok(_) => {}
                Err(FrameError::Logs(error)) => return Err(error),
                Err(FrameError::Io(_)) => break,
            }
            if last.lines.len() >= wanted || offset == 0 {
                last.lines.into_iter().rev().for_each(|line| lines.push_front(line));
                break;
            }
            span = span.saturating_mul(4);
        }
    }
    Ok(lines.into())
}

struct Last<'a> {
    file: &'a str,
    wanted: usize,
    lines: VecDeque<EventLine>,
}

impl Last<'_> {
    fn push(&mut self, line: EventLine) {
        if self.lines.len() >= self.wanted {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl Visit for Last<'_> {
    fn delta(&mut self, offset: u64, _: u64, delta: &Delta<'_>) -> Result<(), LogsError> {
        use crate::openclaw::event::{TEXT_STREAM, THINKING_STREAM};
        self.push(EventLine {
            file: self.file.to_owned(),
            offset,
            ts: delta.ts,
            event: if delta.thinking { THINKING_STREAM } else { TEXT_STREAM }.to_owned(),
            run_id: String::from_utf8_lossy(delta.run_id).into_owned(),
            text: head(delta.text),
        });
        Ok(())
    }

    fn entry(&mut self, offset: u64, _: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        let Ok(event) = read_event(entry) else { return Ok(()) };
        let keys = [Key::RawText, Key::Text, Key::Content, Key::Args, Key::Output, Key::Task, Key::Delta];
        let text = keys.into_iter().find(|key| !entry.is_blank(*key)).and_then(|key| entry.raw(key));
        self.push(EventLine {
            file: self.file.to_owned(),
            offset,
            ts: event.ts,
            event: entry.raw_string(Key::Event).map(head).unwrap_or_default(),
            run_id: event.run_id,
            text: text.map(|raw| head(json::unquote(raw).unwrap_or(raw))).unwrap_or_default(),
        });
        Ok(())
    }

    fn reject(&mut self, _: u64, _: u64, _: RejectReason, _: Option<String>) -> Result<(), LogsError> {
        Ok(())
    }
}

fn head(raw: &[u8]) -> String {
    json::string(raw.get(..raw.len().min(HEAD_BYTES)).unwrap_or_default()).into_owned()
}

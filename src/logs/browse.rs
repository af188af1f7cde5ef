//! The files of a log directory, in numbers.

use std::path::Path;

use serde::Serialize;

use super::LogsError;
use super::assemble::read_event;
use super::delta::Delta;
use super::frame::{Position, Visit, Window, cut};
use super::list::{list, open};
use super::read::RejectReason;
use super::scan::Entry;

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

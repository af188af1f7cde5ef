//! Writes log files: a JSON array with one event a line, a new file after a while.
//!
//! **Invariant:** a file is never written over: two that begin in the same second get different names.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::LogsError;
use crate::clock::SharedClock;

/// How many files may begin in one second.
const MAX_SAME_SECOND: u32 = 99;

/// Writes events to `YYYYMMDDTHHMMSS.json` files of a directory. Dropping it without [`close`](Self::close) leaves
/// the last file open-ended, which readers understand.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    clock: SharedClock,
    rotate_after: Duration,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: File,
    path: PathBuf,
    began: Duration,
    /// Bytes that were written whole.
    length: u64,
    empty: bool,
}

impl LogWriter {
    /// A writer that begins a new file when the last one is `rotate_after` old. Nothing is created yet.
    pub fn new(dir: &Path, rotate_after: Duration, clock: SharedClock) -> Self {
        Self { dir: dir.to_owned(), clock, rotate_after, current: None }
    }

    /// Writes one event, whole or not at all as far as the file system allows, and says which file it is in.
    ///
    /// # Errors
    /// Io, when it cannot be written; the event is then not in the log, and may be written again.
    pub fn append(&mut self, event: &impl Serialize) -> Result<PathBuf, LogsError> {
        let mut line = b"\n,\n".to_vec();
        serde_json::to_writer(&mut line, event).map_err(|error| LogsError::io(&self.dir, error.into()))?;
        line.push(b'\n');
        let now = self.clock.monotonic();
        if self.current.as_ref().is_some_and(|current| now.saturating_sub(current.began) >= self.rotate_after)
        {
            self.close()?;
        }
        if self.current.is_none() {
            self.current = Some(self.begin()?);
        }
        let Some(current) = &mut self.current else { return Ok(self.dir.clone()) };
        // The line break before the comma was written with the event before.
        let line = line.get(if current.empty { 3 } else { 1 }..).unwrap_or_default();
        if let Err(error) = current.file.write_all(line) {
            let error = LogsError::io(&current.path, error);
            // What was written of it, as on a full disk, goes again; where even that fails, the rest of the file would be
            // lost behind it.
            if current.file.set_len(current.length).is_err() {
                self.current = None;
            }
            return Err(error);
        }
        current.length += line.len() as u64;
        current.empty = false;
        Ok(current.path.clone())
    }

    /// Whether a file is open that events are appended to.
    pub fn is_open(&self) -> bool {
        self.current.is_some()
    }

    /// Makes sure that what was appended survives a power cut.
    ///
    /// # Errors
    /// Io, when the disk says no.
    pub fn sync(&self) -> Result<(), LogsError> {
        match &self.current {
            Some(current) => current.file.sync_data().map_err(|error| LogsError::io(&current.path, error)),
            None => Ok(()),
        }
    }

    /// Ends the current file; the next event begins another one.
    ///
    /// # Errors
    /// Io, when the closing bracket cannot be written.
    pub fn close(&mut self) -> Result<(), LogsError> {
        match self.current.take() {
            Some(mut current) => {
                current.file.write_all(b"]\n").map_err(|error| LogsError::io(&current.path, error))
            }
            None => Ok(()),
        }
    }

    fn begin(&self) -> Result<Current, LogsError> {
        let name = stem(self.clock.now());
        for turn in 1..=MAX_SAME_SECOND {
            // `_` sorts after `.`, so the files stay in order.
            let path = self.dir.join(if turn == 1 {
                format!("{name}.json")
            } else {
                format!("{name}_{turn:02}.json")
            });
            match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    // Held as long as the file is written to, so that nobody mends it meanwhile. Where locks are not to be
                    // had, it is written all the same.
                    if let Err(error) = file.try_lock() {
                        tracing::debug!(%error, "a log file cannot be locked");
                    }
                    if let Err(error) = file.write_all(b"[\n") {
                        let error = LogsError::io(&path, error);
                        std::fs::remove_file(&path).unwrap_or_default();
                        return Err(error);
                    }
                    let began = self.clock.monotonic();
                    return Ok(Current { file, path, began, length: 2, empty: true });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(LogsError::io(&path, error)),
            }
        }
        Err(LogsError::io(&self.dir.join(name), io::ErrorKind::AlreadyExists.into()))
    }
}

/// The name of a log file that begins now, in UTC.
fn stem(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::clock::TestClock;
    use crate::logs::list;

    #[test]
    fn files_of_one_second_do_not_collide_and_sort() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at_millis(1_795_353_008_714));
        for n in 0..12 {
            let mut writer = LogWriter::new(dir.path(), Duration::from_mins(10), clock.clone());
            writer.append(&json!({ "n": n })).unwrap();
            writer.close().unwrap();
        }
        clock.advance(Duration::from_secs(1));
        LogWriter::new(dir.path(), Duration::from_mins(10), clock).append(&json!({ "n": 12 })).unwrap();
        let names: Vec<String> = list(dir.path()).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names.len(), 13);
        assert_eq!(names[0], "20261122T131008.json");
        assert_eq!(names[12], "20261122T131009.json");
        for (n, name) in names.iter().enumerate() {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(text.contains(&format!("{{\"n\":{n}}}")), "{name}: {text}");
        }
    }

    #[test]
    fn a_closed_file_is_an_array_and_rotation_is_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at_millis(1_795_353_008_714));
        let mut writer = LogWriter::new(dir.path(), Duration::from_mins(1), clock.clone());
        let first = writer.append(&json!({ "n": 1 })).unwrap();
        assert_eq!(writer.append(&json!({ "n": 2 })).unwrap(), first);
        clock.advance(Duration::from_mins(1));
        let second = writer.append(&json!({ "n": 3 })).unwrap();
        writer.sync().unwrap();
        writer.close().unwrap();
        assert_eq!(std::fs::read_to_string(&first).unwrap(), "[\n{\"n\":1}\n,\n{\"n\":2}\n]\n");
        assert_eq!(std::fs::read_to_string(second).unwrap(), "[\n{\"n\":3}\n]\n");
    }
}

//! Where events say that they come from: what a writer needs to know after a crash.

use std::path::Path;

use super::delta::Delta;
use super::frame::{FrameError, Position, Visit, Window, cut};
use super::list::{list, open};
use super::read::RejectReason;
use super::scan::{Entry, Key};
use super::{LogsError, json};

/// Hands over the `src` of every event of a directory that has one, in the order in which the events stand there.
///
/// Only the event's own key counts, not one of the same name in a tool's arguments.
///
/// # Errors
/// Io or Gone, when the directory or one of its files cannot be read.
pub fn sources(dir: &Path, take: &mut dyn FnMut(&str)) -> Result<(), LogsError> {
    let mut window = Window::default();
    let mut sources = Sources { take };
    for file in list(dir)? {
        let (handle, opened) =
            open(dir, &file.name).map_err(|error| LogsError::io(&dir.join(&file.name), error))?;
        match cut(&handle, &mut Position::at(0), opened.size, &mut window, &mut sources) {
            Ok(_) => {}
            Err(FrameError::Logs(error)) => return Err(error),
            Err(FrameError::Io(error)) => return Err(LogsError::io(&dir.join(&file.name), error)),
        }
    }
    Ok(())
}

struct Sources<'a> {
    take: &'a mut dyn FnMut(&str),
}

impl Visit for Sources<'_> {
    fn delta(&mut self, _: u64, _: u64, _: &Delta<'_>) -> Result<(), LogsError> {
        Ok(())
    }

    fn entry(&mut self, _: u64, _: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        if let Some(source) = entry.raw_string(Key::Src) {
            (self.take)(&json::string(source));
        }
        Ok(())
    }

    fn reject(&mut self, _: u64, _: u64, _: RejectReason, _: Option<String>) -> Result<(), LogsError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_events_own_source_counts() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            r#"{"ts":1,"event":"tool_call","runId":"r","args":{"src":"db:s:9:0:0"},"src":"db:s:1:0:0"}"#,
            r#"{"ts":1,"event":"user_message","runId":"r","text":"\",\"src\":\"db:s:8:0:0\""}"#,
        ];
        std::fs::write(dir.path().join("a.json"), lines.join("\n")).unwrap();
        let mut found = Vec::new();
        sources(dir.path(), &mut |source| found.push(source.to_owned())).unwrap();
        assert_eq!(found, ["db:s:1:0:0"]);
    }
}

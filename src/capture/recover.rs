//! What is recorded already: read back from the newest log files, which alone are the truth.
//!
//! **Invariant:** memory and reading are bounded; a file that somebody writes to is not touched.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::mark::{self, Mark};
use crate::logs::{self, LogsError, MAX_ENTRY};
use crate::openclaw::event;

/// How much of the logs is read back at most.
const MAX_BACK: u64 = 256 << 20;
/// How much at once.
const CHUNK: usize = if cfg!(test) { 256 } else { 1 << 20 };
/// How far before what is caught up names are remembered, in milliseconds.
pub(super) const OVERLAP_MS: i64 = 60_000;
/// How many events from before then are enough to tell that the rest is as old.
const MANY_OLD: u32 = 256;
/// Names that are remembered at most.
pub(super) const MAX_NAMES: usize = 1 << 16;

/// What the logs say is recorded.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// How far each generation of the raw stream is recorded.
    pub(super) starts: HashMap<String, u64>,
    /// Everything of the gateway up to here is recorded, in milliseconds.
    pub(super) caught_up: Option<i64>,
    pub(super) names: Names,
    /// Run, session key and agent of events that name them.
    pub(super) runs: Vec<(String, String, Option<String>)>,
    /// Runs and ts of recorded ends of model calls of the raw stream, the oldest first.
    pub(super) ends: VecDeque<(String, i64)>,
}

/// Hashes of the names of recorded events, the newest of them.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Names {
    /// Adds a name; whether it is new.
    pub(super) fn add(&mut self, name: &str) -> bool {
        let hash = hash(name);
        if !self.known.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > MAX_NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Whether a name was added.
    pub(super) fn has(&self, name: &str) -> bool {
        self.known.contains(&hash(name))
    }

    /// Adds a name as older than all others.
    fn add_older(&mut self, name: &str) {
        let hash = hash(name);
        if self.order.len() < MAX_NAMES && self.known.insert(hash) {
            self.order.push_front(hash);
        }
    }
}

fn hash(name: &str) -> u64 {
    Sha256::digest(name.as_bytes()).iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    ts: i64,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    run_id: Cow<'a, str>,
    #[serde(borrow, default)]
    session_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    agent_id: Option<Cow<'a, str>>,
}

/// Reads back what is recorded of a sandbox, after ending its last file where a crash left it open.
///
/// # Errors
/// Io or Gone, when the directory cannot be read.
pub(super) fn read(dir: &Path, sandbox: &str, gateway: bool) -> Result<Recorded, LogsError> {
    let mut back = Back { sandbox, gateway, old: 0, recorded: Recorded::default(), done: false };
    let mut left = MAX_BACK;
    for listed in logs::list(dir)?.into_iter().rev() {
        let path = dir.join(&listed.name);
        let Ok(file) = File::open(&path) else { continue };
        let mut ours = false;
        match back.file(&file, &mut left, &mut ours) {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, file = %listed.name, "a log file cannot be read back"),
        }
        drop(file);
        if ours && let Err(error) = mend(&path) {
            tracing::warn!(%error, file = %listed.name, "a log file cannot be ended");
        }
        if back.done || left == 0 {
            break;
        }
    }
    back.recorded.runs.reverse();
    Ok(back.recorded)
}

struct Back<'a> {
    sandbox: &'a str,
    recorded: Recorded,
    /// The gateway's events count too.
    gateway: bool,
    /// Events of the gateway from before the time that matters.
    old: u32,
    done: bool,
}

impl Back<'_> {
    /// Reads a file's lines from its end.
    fn file(&mut self, file: &File, left: &mut u64, ours: &mut bool) -> io::Result<()> {
        let mut at = file.metadata()?.len();
        // What was read and begins a line that is not whole yet.
        let mut held: Vec<u8> = Vec::new();
        let mut torn = true;
        while at > 0 && *left > 0 && !self.done {
            let length = CHUNK.min(usize::try_from(at).unwrap_or(CHUNK));
            at -= length as u64;
            *left = left.saturating_sub(length as u64);
            let mut chunk = vec![0; length];
            file.read_exact_at(&mut chunk, at)?;
            chunk.append(&mut held);
            let mut end = chunk.len();
            while let Some(found) = memchr::memrchr(b'\n', chunk.get(..end).unwrap_or_default()) {
                // What stands behind the last line break is torn.
                if !std::mem::take(&mut torn) {
                    self.line(chunk.get(found + 1..end).unwrap_or_default(), ours);
                }
                end = found;
            }
            chunk.truncate(end);
            held = chunk;
            if held.len() > MAX_ENTRY {
                held.clear();
                torn = true;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], ours: &mut bool) {
        let Some(mark) = mark::read(line, self.sandbox) else { return };
        *ours = true;
        let recorded = &mut self.recorded;
        match mark {
            Mark::Raw { generation, end, .. } => {
                let at = recorded.starts.entry(generation.to_owned()).or_insert(0);
                *at = end.max(*at);
                // Deltas say nothing more.
                if memchr::memmem::find(line, event::MESSAGE_END.as_bytes()).is_none() {
                    return;
                }
            }
            Mark::Gateway { caught_up, name, .. } => {
                recorded.caught_up = Some(recorded.caught_up.map_or(caught_up, |known| known.max(caught_up)));
                recorded.names.add_older(name);
            }
            Mark::Own { .. } => return,
        }
        let Ok(event) = serde_json::from_slice::<Written<'_>>(line.trim_ascii()) else { return };
        if matches!(mark, Mark::Raw { .. })
            && event.event == event::MESSAGE_END
            && recorded.ends.len() < MAX_NAMES
        {
            recorded.ends.push_front((event.run_id.clone().into_owned(), event.ts));
        }
        if let Some(session) = event.session_key
            && !event.run_id.is_empty()
            && recorded.runs.len() < MAX_NAMES
        {
            let agent = event.agent_id.map(Cow::into_owned);
            recorded.runs.push((event.run_id.into_owned(), session.into_owned(), agent));
        }
        if let (Mark::Gateway { caught_up, .. }, Some(newest)) = (mark, recorded.caught_up) {
            // Events that were caught up on are old when they are written, and stand among their like.
            self.old += u32::from(event.ts.max(caught_up) < newest.saturating_sub(3 * OVERLAP_MS));
        }
        self.done |= (self.old > MANY_OLD || !self.gateway) && !recorded.starts.is_empty();
    }
}

/// Ends a file that a crash left open: a torn last line goes, the closing bracket comes. A file that somebody writes to
/// stays as it is.
fn mend(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.try_lock().is_err() {
        return Ok(());
    }
    let size = file.metadata()?.len();
    let mut tail = vec![0; (MAX_ENTRY + (64 << 10)).min(usize::try_from(size).unwrap_or(usize::MAX))];
    let from = size - tail.len() as u64;
    file.read_exact_at(&mut tail, from)?;
    let keep = memchr::memrchr(b'\n', &tail).map_or(0, |found| found + 1);
    let kept = tail.get(..keep).unwrap_or_default();
    let text = kept.trim_ascii_end();
    if text.ends_with(b"]") {
        return Ok(());
    }
    // A comma that stands alone waits for an event that never came.
    let text = text.strip_suffix(b",").map_or(text, <[u8]>::trim_ascii_end);
    let end = from + text.len() as u64;
    file.set_len(end)?;
    file.write_all_at(b"\n]\n", end)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::TestClock;
    use crate::logs::LogWriter;

    fn gateway(name: &str, ts: i64, caught_up: i64) -> serde_json::Value {
        let src = Mark::Gateway { sandbox: "box", caught_up, name }.to_string();
        serde_json::json!({"ts": ts, "event": "user_message", "runId": name, "text": "x".repeat(300),
            "sessionKey": "agent:main:main", "src": src})
    }

    // The keys of `json!` are sorted, so the mark is put last by hand.
    fn write(writer: &mut LogWriter, event: &serde_json::Value) {
        let mut map = event.as_object().unwrap().clone();
        let src = map.remove("src").unwrap();
        let body = serde_json::Value::Object(map).to_string();
        let line = format!("{},\"src\":{src}}}", body.strip_suffix('}').unwrap());
        writer.append(&serde_json::value::RawValue::from_string(line).unwrap()).unwrap();
    }

    #[test]
    fn what_is_recorded_is_found_and_the_last_file_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at_millis(1_795_353_008_714));
        let mut writer = LogWriter::new(dir.path(), Duration::from_mins(10), clock.clone());
        for at in 0..20 {
            write(&mut writer, &gateway(&format!("msg:{at}"), 10_000_000 + at, 1_000_000 + at));
        }
        let raw = |generation: &str, end: u64| {
            let src = Mark::Raw { sandbox: "box", generation, end }.to_string();
            serde_json::json!({"ts": 10_000_050, "event": "assistant_message_end", "runId": "r1", "rawText": "ü",
                "sessionKey": "agent:main:main", "agentId": "main", "src": src})
        };
        write(&mut writer, &raw("a-1", 100));
        write(&mut writer, &raw("a-1", 170));
        let path = writer.append(&serde_json::json!({"another": "sandbox"})).unwrap();
        clock.advance(Duration::from_mins(11));
        write(&mut writer, &raw("b-2", 40));
        let last = writer.append(&serde_json::json!({"n": 1})).unwrap();
        drop(writer);
        let mut text = std::fs::read_to_string(&last).unwrap();
        text.push_str(",\n{\"ts\":5,\"event\":\"user_mess");
        std::fs::write(&last, &text).unwrap();

        let recorded = read(dir.path(), "box", true).unwrap();
        assert_eq!(recorded.starts, HashMap::from([("a-1".into(), 170), ("b-2".into(), 40)]));
        assert_eq!(recorded.caught_up, Some(1_000_019));
        assert!((0..20).all(|at| recorded.names.has(&format!("msg:{at}"))) && !recorded.names.has("msg:20"));
        assert_eq!(recorded.ends.len(), 3);
        assert!(recorded.runs.iter().any(|(run, key, agent)| run == "r1"
            && key == "agent:main:main"
            && agent.as_deref() == Some("main")));
        for path in [path, last] {
            let text = std::fs::read_to_string(&path).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        assert!(read(dir.path(), "bo", true).unwrap().starts.is_empty());
    }

    #[test]
    fn a_file_that_is_written_to_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at_millis(1_795_353_008_714));
        let mut writer = LogWriter::new(dir.path(), Duration::from_mins(10), clock);
        write(&mut writer, &gateway("msg:1", 1, 1));
        read(dir.path(), "box", true).unwrap();
        write(&mut writer, &gateway("msg:2", 2, 1));
        let path = dir.path().join("20261122T131008.json");
        writer.close().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap().len(), 2);
    }

    #[test]
    fn names_are_bounded() {
        let mut names = Names::default();
        for at in 0..MAX_NAMES + 10 {
            assert!(names.add(&at.to_string()));
        }
        assert!(!names.has("1") && names.has("100") && !names.add("100"));
        assert_eq!(names.order.len(), MAX_NAMES);
    }
}

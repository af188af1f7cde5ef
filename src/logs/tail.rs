//! The last events of a directory, and those that come.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::LogsError;
use super::frame::{FrameError, Position, Window, cut};
use super::lines::{EventLine, Lines};
use super::list::{list, open};

/// How much of a file's end is read first for its last events.
const TAIL_BYTES: u64 = 256 << 10;

/// How far a directory has been shown: of each file its inode and how many bytes. What is behind that is new.
pub type Seen = HashMap<String, (u64, u64)>;

/// How far the directory's files go now.
fn seen(dir: &Path) -> Result<Seen, LogsError> {
    Ok(list(dir)?.into_iter().map(|file| (file.name, (file.inode, file.size))).collect())
}

/// The last `count` events of a directory that are `wanted`, oldest first, and how far it was looked at.
///
/// The pieces of a streamed message are one event, and none where its end says the same.
///
/// # Errors
/// Io or Gone, when the directory cannot be read. Files that cannot be read are left out.
pub fn tail(
    dir: &Path,
    count: usize,
    wanted: &mut dyn FnMut(&EventLine) -> bool,
) -> Result<(Vec<EventLine>, Seen), LogsError> {
    let mut seen = seen(dir)?;
    let mut window = Window::default();
    let mut lines: VecDeque<EventLine> = VecDeque::new();
    let mut files: Vec<(String, u64)> = seen.iter().map(|(name, (_, size))| (name.clone(), *size)).collect();
    files.sort_unstable();
    for (at, (name, size)) in files.into_iter().rev().enumerate() {
        let missing = count.saturating_sub(lines.len());
        // The last one is always looked at: it may end within an event, and that one is yet to come.
        if missing == 0 && at > 0 {
            break;
        }
        let Ok((handle, _)) = open(dir, &name) else { continue };
        let mut span = TAIL_BYTES;
        loop {
            let offset = size.saturating_sub(span);
            let mut last: VecDeque<EventLine> = VecDeque::new();
            let mut keep = |line: EventLine| {
                if missing > 0 && wanted(&line) {
                    if last.len() >= missing {
                        last.pop_front();
                    }
                    last.push_back(line);
                }
            };
            let mut joined = Lines::default();
            let mut start = Position::at(offset);
            match cut(&handle, &mut start, size, &mut window, &mut joined.of(&name, &mut keep)) {
                Ok(_) => joined.flush(&mut keep),
                Err(FrameError::Logs(error)) => return Err(error),
                Err(FrameError::Io(_)) => break,
            }
            if last.len() >= missing || offset == 0 {
                last.into_iter().rev().for_each(|line| lines.push_front(line));
                if let Some((_, reached)) = seen.get_mut(&name) {
                    *reached = start.offset;
                }
                break;
            }
            span = span.saturating_mul(4);
        }
    }
    Ok((lines.into(), seen))
}

/// Gives out the events of a directory as they come, over the borders of its files.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    files: HashMap<String, (u64, Position)>,
    window: Window,
    lines: Lines,
}

impl Follower {
    /// A follower of all that comes after what was `seen`.
    pub fn new(dir: &Path, seen: Seen) -> Self {
        let at = |(name, (inode, size)): (String, (u64, u64))| (name, (inode, Position::at(size)));
        Self {
            dir: dir.to_owned(),
            files: seen.into_iter().map(at).collect(),
            window: Window::default(),
            lines: Lines::default(),
        }
    }

    /// Hands over what is new. A file that is another one now, or shorter, is read from its beginning; the half of an
    /// event at a file's end waits for the rest.
    ///
    /// # Errors
    /// Io or Gone, when the directory cannot be read. Files that cannot be read are tried again next time.
    pub fn poll(&mut self, take: &mut dyn FnMut(EventLine)) -> Result<(), LogsError> {
        let listed = list(&self.dir)?;
        self.files.retain(|name, _| listed.binary_search_by(|file| file.name.cmp(name)).is_ok());
        for file in listed {
            let (inode, position) =
                self.files.entry(file.name.clone()).or_insert_with(|| (file.inode, Position::at(0)));
            if *inode != file.inode || file.size < position.offset {
                (*inode, *position) = (file.inode, Position::at(0));
            }
            if file.size == position.offset {
                continue;
            }
            let Ok((handle, _)) = open(&self.dir, &file.name) else { continue };
            match cut(&handle, position, file.size, &mut self.window, &mut self.lines.of(&file.name, take)) {
                Ok(_) | Err(FrameError::Io(_)) => {}
                Err(FrameError::Logs(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives out the pieces of messages that have not ended.
    pub fn finish(mut self, take: &mut dyn FnMut(EventLine)) {
        self.lines.flush(take);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn delta(run: &str, ts: u64, text: &str) -> String {
        format!(
            r#"{{"ts":{ts},"event":"assistant_text_stream","runId":"{run}","evtType":"text_delta","delta":"{text}","content":""}}"#
        )
    }

    fn end(run: &str, ts: u64, text: &str) -> String {
        format!(
            r#"{{"ts":{ts},"event":"assistant_message_end","runId":"{run}","rawText":"{text}","rawThinking":""}}"#
        )
    }

    fn user(n: usize) -> String {
        format!(r#"{{"ts":{n},"event":"user_message","runId":"r{n}","text":"q{n}"}}"#)
    }

    fn texts(lines: &[EventLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn the_last_events_are_taken_over_the_borders_of_files() {
        let dir = tempfile::tempdir().unwrap();
        for (file, from) in [("a.json", 0), ("b.json", 3), ("c.json", 6)] {
            let lines: Vec<String> = (from..from + 3).map(user).collect();
            fs::write(dir.path().join(file), lines.join("\n")).unwrap();
        }
        let (lines, _) = tail(dir.path(), 5, &mut |_| true).unwrap();
        assert_eq!(texts(&lines), ["q4", "q5", "q6", "q7", "q8"]);
        let (lines, _) = tail(dir.path(), 2, &mut |line| line.text.as_str() < "q5").unwrap();
        assert_eq!(texts(&lines), ["q3", "q4"]);
        assert_eq!(tail(dir.path(), 0, &mut |_| true).unwrap().0, []);
        assert_eq!(tail(dir.path(), 99, &mut |_| true).unwrap().0.len(), 9);
    }

    #[test]
    fn pieces_are_one_event_and_none_where_the_end_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let lines = [
            delta("r1", 1_795_353_008_729, "gh"),
            delta("r2", 1_795_353_008_730, "bro"),
            delta("r1", 1_795_353_008_731, "p_1"),
            end("r1", 9, "ghp_1"),
            delta("r2", 1_795_353_008_732, "ken"),
            end("r2", 10, ""),
            delta("r3", 1_795_353_008_733, "op"),
            delta("r3", 1_795_353_008_734, "en"),
        ];
        fs::write(dir.path().join("a.json"), lines.join("\n")).unwrap();
        let (lines, _) = tail(dir.path(), 9, &mut |_| true).unwrap();
        assert_eq!(texts(&lines), ["ghp_1", "broken", "", "open"]);
    }

    #[test]
    fn a_follower_goes_over_borders_halves_and_files_that_begin_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(&path, format!("[\n{}\n", user(0))).unwrap();
        let (lines, seen) = tail(dir.path(), 1, &mut |_| true).unwrap();
        assert_eq!(texts(&lines), ["q0"]);
        let mut follower = Follower::new(dir.path(), seen);
        let mut got = Vec::new();
        let mut poll = |follower: &mut Follower| {
            let mut now = Vec::new();
            follower.poll(&mut |line| now.push(line.text)).unwrap();
            got.extend(now.clone());
            now
        };
        assert!(poll(&mut follower).is_empty());
        let add = |path: &Path, text: &str| {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let next = format!(",\n{}\n", user(1));
        let (half, rest) = next.split_at(20);
        add(&path, half);
        assert!(poll(&mut follower).is_empty());
        add(&path, rest);
        assert_eq!(poll(&mut follower), ["q1"]);
        // The file ends and the next begins, both between two looks.
        add(&path, &format!(",\n{}\n]\n", user(2)));
        add(&dir.path().join("b.json"), &format!("[\n{}\n", user(3)));
        assert_eq!(poll(&mut follower), ["q2", "q3"]);
        fs::write(&path, user(4)).unwrap();
        assert_eq!(poll(&mut follower), ["q4"]);
        fs::remove_file(&path).unwrap();
        assert!(poll(&mut follower).is_empty());
        fs::write(&path, user(5)).unwrap();
        assert_eq!(poll(&mut follower), ["q5"]);
    }
}

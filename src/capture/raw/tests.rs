//! Each thing that can happen to the file.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;

struct World {
    dir: tempfile::TempDir,
    tail: RawTail,
    now: Duration,
    starts: HashMap<String, u64>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tail = RawTail::new(&dir.path().join("raw.jsonl"), None, HashMap::new());
        Self { dir, tail, now: Duration::ZERO, starts: HashMap::new() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("raw.jsonl")
    }

    fn append(&self, bytes: impl AsRef<[u8]>) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// Polls to the end; lines as they are, anything else in angle brackets.
    fn poll(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..100_000 {
            let more = self.tail.poll(100, self.now, &mut found);
            for found in &found {
                if let Found::Line { generation, end, .. } | Found::Broken { generation, end, .. } = found {
                    self.tail.settle(generation, *end);
                    self.starts.insert(generation.to_string(), *end);
                }
            }
            if !more {
                break;
            }
        }
        let tell = |found| match found {
            Found::Line { text, .. } => text,
            Found::Broken { why, .. } => format!("<{why}>"),
            Found::Incident(incident) => format!("<{}>", incident.kind),
        };
        found.into_iter().map(tell).collect()
    }

    fn restart(&mut self) {
        self.tail = RawTail::new(&self.path(), self.tail.rotate_bytes, self.starts.clone());
    }

    fn later(&mut self) -> Vec<String> {
        self.now += GRACE * 2;
        self.poll()
    }
}

#[test]
fn lines_come_whole_however_they_are_cut() {
    let mut world = World::new();
    assert!(world.poll().is_empty(), "no file yet");
    let text =
        "{\"a\":\"ümläut ⚑ and some more that is longer than a chunk, well over sixty-four bytes of it\"}\n";
    let mut all = Vec::new();
    for byte in text.repeat(3).as_bytes() {
        world.append([*byte]);
        all.extend(world.poll());
    }
    assert_eq!(all, vec![text.trim_end().to_owned(); 3]);
    assert_eq!(world.tail.behind(), 0);
    world.append(b"\xff\xfe{}\n\n  \nlast");
    assert_eq!(world.poll(), ["\u{fffd}\u{fffd}{}"]);
    assert_eq!(world.tail.behind(), 4, "blank lines are nothing");
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut world = World::new();
    world.append("one\ntwo\nthr");
    assert_eq!(world.poll(), ["one", "two"]);
    world.restart();
    assert!(world.poll().is_empty());
    world.append("ee\n");
    assert_eq!(world.poll(), ["three"]);
    world.restart();
    assert!(world.poll().is_empty());
}

#[test]
fn a_cut_is_told_and_what_follows_is_read() {
    let mut world = World::new();
    world.append("one\ntwo\n");
    assert_eq!(world.poll(), ["one", "two"]);
    fs::write(world.path(), "new\n").unwrap();
    assert_eq!(world.poll(), ["<raw_truncated>", "new"]);
    fs::write(world.path(), "other bytes of greater length\nmore\n").unwrap();
    assert_eq!(world.poll(), ["<raw_truncated>", "other bytes of greater length", "more"]);
    fs::write(world.path(), "").unwrap();
    assert_eq!(world.poll(), ["<raw_truncated>"]);
    world.append("a\n");
    assert_eq!(world.poll(), ["a"]);
}

#[test]
fn a_cut_while_nobody_looked_is_told() {
    let mut world = World::new();
    world.append("one\ntwo\n");
    world.poll();
    fs::write(world.path(), "another first line\n").unwrap();
    world.restart();
    assert_eq!(world.poll(), ["<raw_truncated>", "another first line"]);
    let kept = fs::read(world.path()).unwrap();
    world.append("more\n");
    world.poll();
    fs::write(world.path(), kept).unwrap();
    world.restart();
    assert_eq!(world.poll(), ["<raw_truncated>", "another first line"], "the same first line, and shorter");
}

#[test]
fn a_replaced_file_is_read_to_its_end_first() {
    let mut world = World::new();
    world.append("one\n");
    world.poll();
    world.append("two\n");
    fs::rename(world.path(), world.dir.path().join("elsewhere")).unwrap();
    world.append("three\n");
    assert_eq!(world.poll(), ["two", "<raw_replaced>", "three"]);
    // An append that was under way.
    let mut moved = fs::OpenOptions::new().append(true).open(world.dir.path().join("elsewhere")).unwrap();
    moved.write_all(b"late\nunfin").unwrap();
    assert_eq!(world.poll(), ["late"]);
    assert_eq!(world.later(), ["<a line of 5 bytes was never finished: unfin>"]);
    world.later();
    assert!(world.tail.old.is_empty() && world.dir.path().join("elsewhere").exists());
}

#[test]
fn a_vanished_file_is_told_once_and_waited_for() {
    let mut world = World::new();
    world.append("one\n");
    world.poll();
    fs::remove_file(world.path()).unwrap();
    assert_eq!(world.poll(), ["<raw_vanished>"]);
    assert!(world.poll().is_empty() && world.later().is_empty());
    world.append("two\n");
    assert_eq!(world.poll(), ["two"]);
}

#[test]
fn links_pipes_and_folders_are_not_followed() {
    let mut world = World::new();
    let secret = world.dir.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    symlink(&secret, world.path()).unwrap();
    assert_eq!(world.poll(), ["<raw_not_a_file>"]);
    assert!(world.poll().is_empty(), "told once");
    fs::remove_file(world.path()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path(), Mode::from_raw_mode(0o600)).unwrap();
    assert!(world.poll().is_empty());
    fs::remove_file(world.path()).unwrap();
    fs::create_dir(world.path()).unwrap();
    assert!(world.poll().is_empty());
    fs::remove_dir(world.path()).unwrap();
    world.append("line\n");
    assert_eq!(world.poll(), ["line"]);
    fs::remove_file(world.path()).unwrap();
    symlink(&secret, world.path()).unwrap();
    assert_eq!(world.poll(), ["<raw_replaced>", "<raw_not_a_file>"]);
}

#[test]
fn a_giant_line_is_passed_over_in_bounded_memory() {
    let mut world = World::new();
    world.append("one\n");
    world.append(vec![b'x'; MAX_LINE * 2]);
    world.append("\ntwo\n");
    let told = world.poll();
    assert_eq!(told.len(), 3);
    assert!(told[1].starts_with("<a line of") && told[1].len() < 500, "{}", told[1]);
    assert_eq!(told[2], "two");
    assert!(world.tail.current.as_ref().unwrap().held.capacity() < 2 * MAX_LINE);
}

#[test]
fn a_large_file_is_put_aside_read_and_removed() {
    let mut world = World::new();
    world.tail.rotate_bytes = Some(10);
    world.append("one\ntwo\nthree\n");
    assert_eq!(world.poll(), ["one", "two", "three"]);
    let aside = world.dir.path().join("raw.jsonl.old");
    assert!(aside.exists() && !world.path().exists());
    let mut old = fs::OpenOptions::new().append(true).open(&aside).unwrap();
    old.write_all(b"late\n").unwrap();
    assert_eq!(world.poll(), ["late"]);
    // A restart in between reads neither twice.
    world.restart();
    world.append("four\n");
    assert_eq!(world.poll(), ["four"]);
    assert!(world.later().is_empty());
    assert!(!aside.exists());
    world.append("five and more\n");
    assert_eq!(world.poll(), ["five and more"]);
    assert!(aside.exists(), "and again");
}

#[test]
fn nothing_more_is_read_than_there_is_room_for() {
    let mut world = World::new();
    world.append("0123456789\n".repeat(1000));
    let mut found = Vec::new();
    world.tail.poll(1, world.now, &mut found);
    assert!(world.tail.poll(100, world.now, &mut found));
    assert!(found.len() <= 12, "{}", found.len());
}

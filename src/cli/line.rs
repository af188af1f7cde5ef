//! Typing a line: a small editor with a history, for a terminal in raw mode.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use unicode_width::UnicodeWidthChar as _;

use crate::text;

/// Lines that are remembered.
const MOST_LINES: usize = 500;
/// Characters of one line.
const MOST_CHARS: usize = 100_000;
/// Bytes of a history file that are read.
const MOST_BYTES: u64 = 4 << 20;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// A line, Enter at its end.
    Line(String),
    /// Ctrl+C.
    Interrupted,
    /// Ctrl+D on an empty line.
    End,
}

/// What was typed before, in a file of the user's alone.
#[derive(Debug, Default)]
pub(super) struct History {
    lines: Vec<String>,
    file: Option<PathBuf>,
}

impl History {
    /// Reads a history; one that cannot be read is empty.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let lines = file.as_deref().and_then(|file| read(file).ok()).unwrap_or_default();
        Self { lines, file }
    }

    /// Remembers a line: not twice in a row, and not where it begins with a blank.
    pub(super) fn add(&mut self, line: &str) {
        if line.trim().is_empty()
            || line.starts_with(' ')
            || self.lines.last().is_some_and(|last| last == line)
        {
            return;
        }
        self.lines.push(line.to_owned());
        let surplus = self.lines.len().saturating_sub(MOST_LINES);
        self.lines.drain(..surplus);
        if let Some(file) = &self.file
            && let Err(error) = write(file, &self.lines)
        {
            tracing::debug!(%error, "the history is not kept");
        }
    }
}

fn nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

fn read(file: &Path) -> io::Result<Vec<String>> {
    let mut text = String::new();
    let file = OpenOptions::new().read(true).custom_flags(nofollow()).open(file)?;
    file.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn write(file: &Path, lines: &[String]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text::push(&mut text, format_args!("{}\n", serde_json::Value::from(line.as_str())));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nofollow());
    options.open(file)?.write_all(text.as_bytes())
}

/// A line that is being typed.
#[derive(Debug, Default)]
struct Line {
    chars: Vec<char>,
    /// Where the next character goes.
    at: usize,
    /// Which line of the history is shown; the one being typed stands after the last.
    shown: Option<usize>,
    /// What was being typed before the history was looked into.
    kept: Vec<char>,
}

/// Whether a character can be part of a line.
fn is_typed(c: char) -> bool {
    c == '\n' || !text::is_deceptive(c)
}

/// What a key came to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Go,
    Done(Typed),
}

impl Line {
    fn key(&mut self, key: KeyEvent, history: &[String]) -> Step {
        let is_ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        let is_alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Char('c') if is_ctrl => return Step::Done(Typed::Interrupted),
            KeyCode::Char('d') if is_ctrl && self.chars.is_empty() => return Step::Done(Typed::End),
            KeyCode::Enter if is_alt => self.insert('\n'),
            KeyCode::Enter => return Step::Done(Typed::Line(self.chars.iter().collect())),
            KeyCode::Char('d') if is_ctrl => self.remove(self.at),
            KeyCode::Char('a') if is_ctrl => self.at = 0,
            KeyCode::Char('e') if is_ctrl => self.at = self.chars.len(),
            KeyCode::Char('u') if is_ctrl => {
                self.chars.drain(..self.at);
                self.at = 0;
            }
            KeyCode::Char('k') if is_ctrl => self.chars.truncate(self.at),
            KeyCode::Char('w') if is_ctrl => {
                let from = self.word_before();
                self.chars.drain(from..self.at);
                self.at = from;
            }
            KeyCode::Char('p') if is_ctrl => self.recall(history, false),
            KeyCode::Char('n') if is_ctrl => self.recall(history, true),
            KeyCode::Char(c) if !is_ctrl => self.insert(c),
            KeyCode::Backspace if self.at > 0 => {
                self.at -= 1;
                self.remove(self.at);
            }
            KeyCode::Delete => self.remove(self.at),
            KeyCode::Left if is_ctrl || is_alt => self.at = self.word_before(),
            KeyCode::Left => self.at = self.at.saturating_sub(1),
            KeyCode::Right => self.at = (self.at + 1).min(self.chars.len()),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.chars.len(),
            KeyCode::Up => self.recall(history, false),
            KeyCode::Down => self.recall(history, true),
            _ => {}
        }
        Step::Go
    }

    fn insert(&mut self, c: char) {
        if self.chars.len() < MOST_CHARS && is_typed(c) {
            self.chars.insert(self.at, c);
            self.at += 1;
        }
    }

    fn paste(&mut self, text: &str) {
        for c in text.replace("\r\n", "\n").replace(['\r', '\t'], " ").trim_end_matches('\n').chars() {
            self.insert(c);
        }
    }

    fn remove(&mut self, at: usize) {
        if at < self.chars.len() {
            self.chars.remove(at);
        }
    }

    fn word_before(&self) -> usize {
        let before = self.chars.iter().take(self.at).collect::<Vec<_>>();
        let blanks = before.iter().rev().take_while(|c| c.is_whitespace()).count();
        let word = before.iter().rev().skip(blanks).take_while(|c| !c.is_whitespace()).count();
        self.at - blanks - word
    }

    fn recall(&mut self, history: &[String], is_later: bool) {
        let now = self.shown.unwrap_or(history.len());
        let next = if is_later { now + 1 } else { now.saturating_sub(1) };
        if now == history.len() {
            self.kept.clone_from(&self.chars);
        }
        match history.get(next) {
            Some(line) => {
                self.shown = Some(next);
                self.chars = line.chars().filter(|c| is_typed(*c)).collect();
            }
            None if self.shown.is_some() => {
                self.shown = None;
                self.chars = std::mem::take(&mut self.kept);
            }
            None => return,
        }
        self.at = self.chars.len();
    }

    /// What is shown in `width` columns, and the column of the cursor in it.
    fn view(&self, width: usize) -> (String, usize) {
        let cells = |c: char| match c {
            '\n' => ('⏎', 1),
            c => (c, c.width().unwrap_or(0)),
        };
        let wide = |chars: &[char]| chars.iter().map(|c| cells(*c).1).sum::<usize>();
        let at = self.at.min(self.chars.len());
        let mut from = 0;
        while let Some(part) = self.chars.get(from..at)
            && wide(part) >= width.max(2)
        {
            from += 1;
        }
        let mut shown = String::new();
        let mut taken = 0;
        for c in self.chars.iter().skip(from) {
            let (c, cell) = cells(*c);
            if taken + cell > width {
                break;
            }
            taken += cell;
            shown.push(c);
        }
        (shown, self.chars.get(from..at).map_or(0, wide))
    }
}

/// Gives the terminal back as it was.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // Where the terminal is gone, there is nothing to restore.
        io::stderr().write_all(b"\x1b[?2004l").unwrap_or_default();
        crossterm::terminal::disable_raw_mode().unwrap_or_default();
    }
}

/// Asks for a line on the terminal (standard error). The terminal is given back before this returns.
pub(super) fn read_line(prompt: &str, prompt_width: usize, history: &History) -> io::Result<Typed> {
    crossterm::terminal::enable_raw_mode()?;
    let restore = Restore;
    let mut out = io::stderr();
    out.write_all(b"\x1b[?2004h")?;
    let mut line = Line::default();
    let typed = loop {
        let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let (shown, cursor) = line.view(columns.saturating_sub(prompt_width + 1).max(4));
        write!(out, "\r\x1b[K{prompt}{shown}\r\x1b[{}C", prompt_width + cursor)?;
        out.flush()?;
        let step = match crossterm::event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => line.key(key, &history.lines),
            Event::Paste(text) => {
                line.paste(&text);
                Step::Go
            }
            _ => Step::Go,
        };
        match step {
            // An interrupted line that is not empty is only thrown away, as in a shell.
            Step::Done(Typed::Interrupted) if !line.chars.is_empty() => line = Line::default(),
            Step::Done(typed) => break typed,
            Step::Go => {}
        }
    };
    drop(restore);
    writeln!(out)?;
    Ok(typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(line: &mut Line, history: &[String], keys: &str) {
        for c in keys.chars() {
            let (code, modifiers) = match c {
                '<' => (KeyCode::Left, KeyModifiers::NONE),
                '^' => (KeyCode::Up, KeyModifiers::NONE),
                '_' => (KeyCode::Down, KeyModifiers::NONE),
                '~' => (KeyCode::Backspace, KeyModifiers::NONE),
                'W' => (KeyCode::Char('w'), KeyModifiers::CONTROL),
                'K' => (KeyCode::Char('k'), KeyModifiers::CONTROL),
                c => (KeyCode::Char(c), KeyModifiers::NONE),
            };
            assert_eq!(line.key(KeyEvent::new(code, modifiers), history), Step::Go);
        }
    }

    #[test]
    fn a_line_is_edited_and_the_history_recalled() {
        let history = ["one".to_owned(), "two words".to_owned()];
        let check = |keys: &str, expect: &str| {
            let mut line = Line::default();
            press(&mut line, &history, keys);
            assert_eq!(line.chars.iter().collect::<String>(), expect, "{keys}");
        };
        check("abc<<x~y", "aybc");
        check("a b<K", "a ");
        check("one two W", "one ");
        check("^", "two words");
        check("^^^^", "one");
        check("half^_", "half");
        check("^^_~", "two word");
        check("_x", "x");
        check("^W", "two ");
    }

    #[test]
    fn a_long_line_is_shown_around_the_cursor() {
        let mut line = Line::default();
        line.paste("0123456789\r\n漢字\u{1b}[2J");
        assert_eq!(line.view(40), ("0123456789⏎漢字[2J".into(), 18));
        let (shown, cursor) = line.view(6);
        assert_eq!((shown.as_str(), cursor), ("字[2J", 5));
    }

    #[test]
    fn the_history_is_kept_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("history");
        let mut history = History::open(Some(file.clone()));
        for line in ["a", "a", " secret", "b\nc", ""] {
            history.add(line);
        }
        assert_eq!(History::open(Some(file.clone())).lines, ["a", "b\nc"]);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

//! Events as lines that people read: one a message, not one a piece of it.
//!
//! Pieces of a stream are joined, for two reasons: the end of the message says the same again, and a secret that comes
//! in pieces can be masked only when it is whole.

use std::collections::HashMap;

use serde::Serialize;

use super::assemble::read_event;
use super::delta::Delta;
use super::frame::Visit;
use super::read::RejectReason;
use super::scan::{Entry, Key};
use super::{LogsError, json};
use crate::openclaw::event::{MESSAGE_END, TEXT_STREAM, THINKING_STREAM};

/// How much of an event's text is read, as it stands in the file.
const HEAD_BYTES: usize = 16 << 10;
/// Most runs whose pieces are held.
const MAX_OPEN: usize = 64;

/// An event as a line of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventLine {
    /// Name of its file.
    pub file: String,
    /// Where it begins in it, in bytes.
    pub offset: u64,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Its name.
    pub event: String,
    /// Its run.
    pub run_id: String,
    /// The session's key, where the event says it.
    pub session_key: Option<String>,
    /// The agent, where the event says it.
    pub agent_id: Option<String>,
    /// The tool that it is about.
    pub tool: Option<String>,
    /// Where it started a subagent: the subagent's session key, and its label.
    pub child: Option<(String, String)>,
    /// The beginning of what it says. Not masked.
    pub text: String,
}

/// The pieces of one message that has not ended.
#[derive(Debug)]
struct Open {
    /// The line they will be, as its first piece began it.
    line: EventLine,
    /// Where they began, among all that are open.
    since: u64,
}

/// Makes lines of the entries of a file, one file after the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: HashMap<(String, bool), Open>,
    count: u64,
}

impl Lines {
    /// A visitor for one file that hands each line on.
    pub(super) fn of<'a>(&'a mut self, file: &'a str, take: &'a mut dyn FnMut(EventLine)) -> Visitor<'a> {
        Visitor { lines: self, file, take }
    }

    /// Gives out the pieces of messages that have not ended.
    pub(super) fn flush(&mut self, take: &mut dyn FnMut(EventLine)) {
        let mut open: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        open.sort_by_key(|open| open.since);
        for open in open {
            take(open.line);
        }
    }

    /// Adds a piece, or the whole of what was said so far.
    fn piece(&mut self, line: EventLine, thinking: bool, whole: bool, take: &mut dyn FnMut(EventLine)) {
        self.count += 1;
        let key = (line.run_id.clone(), thinking);
        if let Some(open) = self.open.get_mut(&key) {
            if whole {
                open.line.text = line.text;
            } else if open.line.text.len() < HEAD_BYTES {
                open.line.text.push_str(&line.text);
            }
            return;
        }
        if self.open.len() >= MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.since).map(|(key, _)| key.clone());
            if let Some(open) = oldest.and_then(|key| self.open.remove(&key)) {
                take(open.line);
            }
        }
        self.open.insert(key, Open { line, since: self.count });
    }
}

/// See [`Lines::of`].
pub(super) struct Visitor<'a> {
    lines: &'a mut Lines,
    file: &'a str,
    take: &'a mut dyn FnMut(EventLine),
}

impl Visit for Visitor<'_> {
    fn delta(&mut self, offset: u64, _: u64, delta: &Delta<'_>) -> Result<(), LogsError> {
        let line = EventLine {
            file: self.file.to_owned(),
            offset,
            ts: delta.ts,
            event: if delta.thinking { THINKING_STREAM } else { TEXT_STREAM }.to_owned(),
            run_id: String::from_utf8_lossy(delta.run_id).into_owned(),
            text: head(delta.text),
            ..EventLine::default()
        };
        self.lines.piece(line, delta.thinking, false, self.take);
        Ok(())
    }

    fn entry(&mut self, offset: u64, _: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        let Ok(event) = read_event(entry) else { return Ok(()) };
        let string = |key: Key| entry.raw_string(key).map(head).filter(|text| !text.is_empty());
        let keys = [
            Key::RawText,
            Key::Text,
            Key::Content,
            Key::Args,
            Key::Output,
            Key::Task,
            Key::Delta,
            Key::RawThinking,
            Key::Messages,
        ];
        let key = keys.into_iter().find(|key| !entry.is_blank(*key));
        let text = key.and_then(|key| entry.raw(key));
        let line = EventLine {
            file: self.file.to_owned(),
            offset,
            ts: event.ts,
            event: string(Key::Event).unwrap_or_default(),
            run_id: event.run_id,
            session_key: string(Key::SessionKey),
            agent_id: string(Key::AgentId),
            tool: string(Key::Tool),
            child: string(Key::ChildSessionKey).map(|child| (child, string(Key::Label).unwrap_or_default())),
            text: text.map(|raw| head(json::unquote(raw).unwrap_or(raw))).unwrap_or_default(),
        };
        let thinking = line.event == THINKING_STREAM;
        if thinking || line.event == TEXT_STREAM {
            let whole = key == Some(Key::Content);
            if key.is_some() {
                self.lines.piece(line, thinking, whole, self.take);
            }
            return Ok(());
        }
        if line.event == MESSAGE_END {
            for (thinking, said) in [(true, Key::RawThinking), (false, Key::RawText)] {
                let open = self.lines.open.remove(&(line.run_id.clone(), thinking));
                // An answer that was broken off is in its pieces alone.
                if let Some(open) = open.filter(|_| entry.is_blank(said)) {
                    (self.take)(open.line);
                }
            }
        }
        (self.take)(line);
        Ok(())
    }

    fn reject(&mut self, _: u64, _: u64, _: RejectReason, _: Option<String>) -> Result<(), LogsError> {
        Ok(())
    }
}

fn head(raw: &[u8]) -> String {
    json::string(raw.get(..raw.len().min(HEAD_BYTES)).unwrap_or_default()).into_owned()
}

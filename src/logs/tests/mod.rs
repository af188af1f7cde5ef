//! The room as its callers see it: files in, turns out.
#![expect(clippy::string_slice, clippy::format_push_string, reason = "tests may fail by panicking")]

mod examples;
mod formats;
mod growth;
mod hostile;
mod turns;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::case::{PartKind, Turn};
use crate::id::TurnId;

/// A log directory with its reader's state, and all that a sink was told.
pub(super) struct World {
    dir: TempDir,
    pub(super) files: Vec<FileState>,
    pub(super) assembler: Assembler,
    pub(super) told: Told,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) turns: BTreeMap<TurnId, TurnRecord>,
    pub(super) rejects: BTreeMap<(String, u64), Reject>,
    pub(super) given_out: usize,
    pub(super) changes: Vec<(String, FileChange)>,
}

impl Sink for Told {
    fn turn(&mut self, record: TurnRecord) -> Result<(), LogsError> {
        // What a store would do to it.
        let extents = Extents::decode(&record.extents.encode())?;
        assert_eq!(extents, record.extents);
        self.given_out += 1;
        self.turns.insert(record.id, record);
        Ok(())
    }

    fn reject(&mut self, reject: Reject) -> Result<(), LogsError> {
        self.rejects.insert((reject.file.clone(), reject.offset), reject);
        Ok(())
    }

    fn file(&mut self, file: &str, offset: u64, change: FileChange) -> Result<(), LogsError> {
        self.rejects.retain(|(name, at), _| name != file || *at < offset);
        if change == FileChange::Rewritten {
            self.turns.retain(|_, turn| turn.source_file != file);
        }
        self.changes.push((file.to_owned(), change));
        Ok(())
    }

    fn identity(&mut self, identity: Identity<'_>) -> Result<(), LogsError> {
        for turn in self.turns.values_mut().filter(|turn| turn.run_id == identity.run_id) {
            turn.session_key = identity.session_key.map(str::to_owned);
            turn.agent_id = identity.agent_id.map(str::to_owned);
        }
        Ok(())
    }
}

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, files: Vec::new(), assembler: Assembler::new(), told: Told::default() }
    }

    /// A world with one file that was read once.
    pub(super) fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut world = Self::new();
        world.write("a.json", bytes);
        world.read();
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(super) fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    /// One read pass, with a restart of the process before it.
    pub(super) fn read(&mut self) -> ReadStats {
        self.assembler = Assembler::decode(&self.assembler.encode().unwrap()).unwrap();
        let files = serde_json::to_vec(&self.files).unwrap();
        self.files = serde_json::from_slice(&files).unwrap();
        read(self.dir.path(), &mut self.files, &mut self.assembler, &mut self.told).unwrap()
    }

    pub(super) fn load(&self, record: &TurnRecord) -> Result<Turn, LogsError> {
        Loader::new(self.dir.path()).load(record)
    }

    /// All turns, by where they end.
    pub(super) fn turns(&self) -> Vec<Turn> {
        let mut records: Vec<&TurnRecord> = self.told.turns.values().collect();
        records.sort_by(|one, two| (&one.source_file, one.at).cmp(&(&two.source_file, two.at)));
        let mut loader = Loader::new(self.dir.path());
        records.into_iter().map(|record| loader.load(record).unwrap()).collect()
    }

    /// All turns in short: `run_ts`, a `+` where ended, and the parts.
    pub(super) fn shown(&self) -> Vec<String> {
        self.turns().iter().map(show).collect()
    }

    pub(super) fn reasons(&self) -> Vec<RejectReason> {
        self.told.rejects.values().map(|reject| reject.reason).collect()
    }
}

pub(super) fn show(turn: &Turn) -> String {
    let mut out = format!("{}{}", turn.run_id_ts(), if turn.ended { "+" } else { "" });
    for part in &turn.parts {
        let kind = match &part.kind {
            PartKind::Message => part.role.as_str().to_owned(),
            PartKind::Thinking => "thinking".to_owned(),
            PartKind::Text => format!("{}.text", part.role.as_str()),
            PartKind::Fragments => "fragments".to_owned(),
            PartKind::ToolCall { tool, .. } => format!("call {tool}"),
            PartKind::ToolResult { tool, ok, .. } => format!("result {tool} {ok}"),
            PartKind::Spawn { label, .. } => format!("spawn {label}"),
        };
        out.push_str(&format!(" | {kind}: {}", part.text));
    }
    out
}

pub(super) fn delta(run: &str, ts: i64, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        r#"{{"ts":{ts},"event":"assistant_text_stream","runId":"{run}","evtType":"text_delta","delta":{text},"content":""}}"#
    )
}

pub(super) fn end(run: &str, ts: i64, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        r#"{{"ts":{ts},"event":"assistant_message_end","runId":"{run}","rawText":{text},"rawThinking":""}}"#
    )
}

pub(super) fn user(run: &str, ts: i64, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(r#"{{"ts":{ts},"event":"user_message","runId":"{run}","text":{text}}}"#)
}

/// A moment that canonical deltas accept.
pub(super) const T: i64 = 1_795_353_000_000;

pub(super) fn array(lines: &[String]) -> String {
    format!("[\n{}\n]\n", lines.join("\n,\n"))
}

//! One pass over a log directory: what is new in it becomes turn records.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LogsError;
use super::assemble::{Assembler, Verdict};
use super::delta::Delta;
use super::frame::{FrameError, Position, Visit, Window, cut};
use super::list::{FileState, Growth, LogFile, list, open};
use super::record::{Place, TurnRecord};
use super::scan::Entry;

/// How many rejects of one file are told one by one in one pass; the rest is told as one range.
const MAX_REJECTS: usize = 1000;

/// Who is told what a read pass finds.
///
/// An error from it ends the pass; file states and assembler are then to be thrown away and loaded anew from
/// where they are kept.
pub trait Sink {
    /// A turn. The same id again replaces the earlier record.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the pass.
    fn turn(&mut self, record: TurnRecord) -> Result<(), LogsError>;

    /// Bytes that could not be read as an event, and that no one will have reviewed. The same file and offset
    /// again replaces the earlier one.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the pass.
    fn reject(&mut self, reject: Reject) -> Result<(), LogsError>;

    /// A file is about to be read from `offset`: what was said of rejects at or after it is void, and where it
    /// was rewritten, so is what was said of its turns.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the pass.
    fn file(&mut self, _file: &str, _offset: u64, _change: FileChange) -> Result<(), LogsError> {
        Ok(())
    }

    /// The session of a run became known after turns of it had been given out without it.
    ///
    /// # Errors
    /// Whatever the sink says; it ends the pass.
    fn identity(&mut self, _identity: Identity<'_>) -> Result<(), LogsError> {
        Ok(())
    }
}

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    /// Not seen before.
    New,
    /// It was read before, and has grown.
    Grown,
    /// It was read before, and is another file now, is shorter, or has other bytes.
    Rewritten,
    /// It is no longer there; `offset` is where it had been read to.
    Gone,
}

/// Which session and agent a run belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The run.
    pub run_id: &'a str,
    /// Its session key.
    pub session_key: Option<&'a str>,
    /// Its agent.
    pub agent_id: Option<&'a str>,
}

/// Bytes that are no event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Name of the file.
    pub file: String,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
    /// Why.
    pub reason: RejectReason,
    /// The run they name, where that can be told.
    pub run_id: Option<String>,
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Not JSON, or broken JSON.
    Corrupt,
    /// Something that is no JSON object.
    NotAnObject,
    /// The file ends in the middle of it.
    Torn,
    /// Longer than [`MAX_ENTRY`](super::MAX_ENTRY).
    TooLong,
    /// No usable `ts`.
    NoTimestamp,
    /// No usable `runId`.
    NoRun,
    /// No usable `event`.
    NoEvent,
    /// The file could not be opened or read.
    Unreadable,
}

impl RejectReason {
    /// The name used in stores and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::NotAnObject => "not_an_object",
            Self::Torn => "torn",
            Self::TooLong => "too_long",
            Self::NoTimestamp => "no_timestamp",
            Self::NoRun => "no_run",
            Self::NoEvent => "no_event",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a read pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadStats {
    /// Log files in the directory.
    pub files: u64,
    /// Of these, opened.
    pub files_read: u64,
    /// Bytes that were new.
    pub bytes: u64,
    /// Entries that were taken.
    pub entries: u64,
    /// Turn records given out, replacements included.
    pub turns: u64,
    /// Of these, without an end.
    pub tails: u64,
    /// Stretches of bytes that could not be read.
    pub rejected: u64,
    /// Entries that were taken although something in them had to be mended.
    pub repaired: u64,
    /// Events whose name is not known.
    pub unknown_events: u64,
    /// Files that end within an entry and may still be written to.
    pub incomplete: u64,
    /// Files that were replaced or rewritten since they were read, and have been read anew.
    pub rewritten: Vec<String>,
    /// Files that were read before and are no longer there.
    pub gone: Vec<String>,
}

/// A pass over a directory, file by file, so that the caller can store how far it has got after each.
#[derive(Debug)]
pub struct ReadPass {
    dir: PathBuf,
    pending: std::vec::IntoIter<LogFile>,
    /// The file last written to: its last line may still be on its way.
    active: Option<String>,
    window: Window,
    stats: ReadStats,
}

impl ReadPass {
    /// Looks at the directory; nothing is read yet.
    ///
    /// # Errors
    /// Io or Gone, when the directory cannot be read.
    pub fn new(dir: &Path) -> Result<Self, LogsError> {
        let files = list(dir)?;
        let active =
            files.iter().max_by(|one, two| (one.mtime_ns, &one.name).cmp(&(two.mtime_ns, &two.name)));
        Ok(Self {
            dir: dir.to_owned(),
            active: active.map(|file| file.name.clone()),
            stats: ReadStats { files: files.len() as u64, ..ReadStats::default() },
            pending: files.into_iter(),
            window: Window::default(),
        })
    }

    /// Reads the next file that has something new, and says its name; nothing when all are read.
    ///
    /// # Errors
    /// Those of the sink. A file that cannot be read is a reject.
    pub fn next_file(
        &mut self,
        files: &mut Vec<FileState>,
        assembler: &mut Assembler,
        sink: &mut dyn Sink,
    ) -> Result<Option<String>, LogsError> {
        assembler.wake();
        while let Some(listed) = self.pending.next() {
            let found = files.binary_search_by(|state| state.name.as_str().cmp(&listed.name));
            if let Ok(at) = found
                && files.get(at).is_some_and(|state| state.is_as(&listed))
            {
                continue;
            }
            self.stats.files_read += 1;
            if let Some(state) =
                self.read_file(&listed, found.ok().and_then(|at| files.get(at)), assembler, sink)?
            {
                match found {
                    Ok(at) => {
                        if let Some(slot) = files.get_mut(at) {
                            *slot = state;
                        }
                    }
                    Err(at) => files.insert(at, state),
                }
            }
            return Ok(Some(listed.name));
        }
        Ok(None)
    }

    /// Reads one file from where it was left; its new state, unless it could not be opened.
    fn read_file(
        &mut self,
        listed: &LogFile,
        known: Option<&FileState>,
        assembler: &mut Assembler,
        sink: &mut dyn Sink,
    ) -> Result<Option<FileState>, LogsError> {
        let unreadable = |offset: u64, length: u64| Reject {
            file: listed.name.clone(),
            offset,
            length,
            reason: RejectReason::Unreadable,
            run_id: None,
        };
        let offset = known.map_or(0, |state| state.offset);
        let Ok((file, now)) = open(&self.dir, &listed.name) else {
            self.stats.rejected += 1;
            sink.reject(unreadable(offset, listed.size.saturating_sub(offset)))?;
            return Ok(None);
        };
        let growth = match known {
            Some(state) => state.growth(&now, &file).unwrap_or(Growth::Rewritten),
            None => Growth::Some,
        };
        let (mut state, change) = match (known, growth) {
            (Some(state), Growth::None | Growth::Some) => (state.clone(), FileChange::Grown),
            (Some(_), Growth::Rewritten) => {
                self.stats.rewritten.push(listed.name.clone());
                assembler.forget_file(&listed.name, sink)?;
                (FileState::new(&now), FileChange::Rewritten)
            }
            (None, _) => (FileState::new(&now), FileChange::New),
        };
        sink.file(&listed.name, state.skipped.as_ref().map_or(state.offset, |skipped| skipped.from), change)?;
        let name: Arc<str> = Arc::from(listed.name.as_str());
        let before = state.offset;
        let mut position = Position { skipped: state.skipped.take(), ..Position::at(state.offset) };
        let mut taker =
            Taker { file: &name, assembler, sink, stats: &mut self.stats, told: 0, pending: None };
        let cut = cut(&file, &mut position, now.size, &mut self.window, &mut taker);
        let active = self.active.as_deref() == Some(listed.name.as_str());
        match cut {
            Ok(Some(_)) if active => taker.stats.incomplete += 1,
            // The offset stays before it, so that it is read again should the file go on.
            Ok(Some(torn)) => taker.reject(position.offset, torn.length, RejectReason::Torn, torn.run_id)?,
            Ok(None) => {}
            Err(FrameError::Logs(error)) => return Err(error),
            Err(FrameError::Io(_)) => {
                let length = now.size.saturating_sub(position.offset);
                taker.reject(position.offset, length, RejectReason::Unreadable, None)?;
            }
        }
        taker.flush()?;
        self.stats.bytes += position.offset.saturating_sub(before);
        // A closing bracket may be taken away again, so the place reached is where the last entry ended.
        state.offset = if position.skipped.is_some() { position.offset } else { position.unit_end };
        state.skipped = position.skipped;
        state.inode = now.inode;
        state.device = now.device;
        if state.settle(&now, &file).is_err() {
            // It shrank under our hands: the next pass will see another size.
            state.size = 0;
        }
        Ok(Some(state))
    }

    /// Ends the pass: gives out what the runs have left without an end, and says what was done.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(
        mut self,
        files: &mut Vec<FileState>,
        assembler: &mut Assembler,
        sink: &mut dyn Sink,
    ) -> Result<ReadStats, LogsError> {
        assembler.wake();
        assembler.give_out(&mut Counted { sink, stats: &mut self.stats })?;
        let present = list(&self.dir)?;
        let gone = |state: &FileState| present.binary_search_by(|file| file.name.cmp(&state.name)).is_err();
        for state in files.iter().filter(|state| gone(state)) {
            sink.file(&state.name, state.offset, FileChange::Gone)?;
            self.stats.gone.push(state.name.clone());
        }
        files.retain(|state| !gone(state));
        Ok(self.stats)
    }
}

/// Reads everything that is new in a directory. `files` is kept sorted by name; an empty one reads all.
///
/// # Errors
/// Io or Gone, when the directory cannot be read, and those of the sink.
pub fn read(
    dir: &Path,
    files: &mut Vec<FileState>,
    assembler: &mut Assembler,
    sink: &mut dyn Sink,
) -> Result<ReadStats, LogsError> {
    files.sort_unstable_by(|one, two| one.name.cmp(&two.name));
    let mut pass = ReadPass::new(dir)?;
    while pass.next_file(files, assembler, sink)?.is_some() {}
    pass.finish(files, assembler, sink)
}

/// Counts what goes to the sink.
struct Counted<'a> {
    sink: &'a mut dyn Sink,
    stats: &'a mut ReadStats,
}

impl Sink for Counted<'_> {
    fn turn(&mut self, record: TurnRecord) -> Result<(), LogsError> {
        self.stats.turns += 1;
        self.stats.tails += u64::from(!record.ended);
        self.sink.turn(record)
    }

    fn reject(&mut self, reject: Reject) -> Result<(), LogsError> {
        self.sink.reject(reject)
    }

    fn identity(&mut self, identity: Identity<'_>) -> Result<(), LogsError> {
        self.sink.identity(identity)
    }
}

/// Hands the entries of one file to the assembler.
struct Taker<'a> {
    file: &'a Arc<str>,
    assembler: &'a mut Assembler,
    sink: &'a mut dyn Sink,
    stats: &'a mut ReadStats,
    told: usize,
    /// The last reject: one that follows it without a gap becomes part of it.
    pending: Option<Reject>,
}

impl Taker<'_> {
    fn flush(&mut self) -> Result<(), LogsError> {
        if let Some(reject) = self.pending.take() {
            self.told += 1;
            self.stats.rejected += 1;
            self.sink.reject(reject)?;
        }
        Ok(())
    }
}

impl Visit for Taker<'_> {
    #[inline]
    fn delta(&mut self, offset: u64, after: u64, delta: &Delta<'_>) -> Result<(), LogsError> {
        self.stats.entries += 1;
        let length = u32::try_from(delta.length).unwrap_or(u32::MAX);
        let place = Place { file: self.file, offset, length, after };
        self.assembler.delta(place, delta, &mut Counted { sink: self.sink, stats: self.stats })
    }

    fn entry(&mut self, offset: u64, after: u64, entry: &Entry<'_>) -> Result<(), LogsError> {
        let length = u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX);
        let place = Place { file: self.file, offset, length, after };
        match self.assembler.entry(place, entry, &mut Counted { sink: self.sink, stats: self.stats })? {
            Verdict::Taken => self.stats.entries += 1,
            Verdict::Repaired => {
                self.stats.entries += 1;
                self.stats.repaired += 1;
            }
            Verdict::Unknown => self.stats.unknown_events += 1,
            Verdict::Rejected(reason) => {
                let run_id =
                    (reason != RejectReason::NoRun).then(|| super::frame::peek_run_id(entry.bytes)).flatten();
                self.reject(offset, entry.bytes.len() as u64, reason, run_id)?;
            }
        }
        Ok(())
    }

    fn reject(
        &mut self,
        offset: u64,
        length: u64,
        reason: RejectReason,
        run_id: Option<String>,
    ) -> Result<(), LogsError> {
        if let Some(pending) = &mut self.pending {
            let joins = pending.run_id == run_id && offset <= pending.offset + pending.length + 3;
            if joins || self.told >= MAX_REJECTS {
                pending.length = (offset + length).saturating_sub(pending.offset);
                return Ok(());
            }
        }
        self.flush()?;
        self.pending = Some(Reject { file: (**self.file).to_owned(), offset, length, reason, run_id });
        Ok(())
    }
}

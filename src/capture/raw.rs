//! The raw stream's file, followed while a hostile container may do with it what it likes.
//!
//! Source: OpenClaw 2026.9.6 opens the file anew for each line, so a rename or a truncation costs it nothing; it neither
//! rotates nor caps it, and says nothing when it cannot write.
//!
//! **Invariant:** only a regular file is read, opened without following a link at its end and without waiting.
//! **Invariant:** at most one line of [`MAX_LINE`] and a chunk are held of a file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use super::incident::{Incident, IncidentKind};

/// Longest line that is kept; room for what we add to it is left below the longest entry that `logs` reads.
pub(super) const MAX_LINE: usize = crate::logs::MAX_ENTRY - (64 << 10);
/// How much is read at once; little in tests, so that lines meet the ends of chunks.
const CHUNK: usize = if cfg!(test) { 64 } else { 128 << 10 };
/// How much of a file's first line names its generation.
const HEAD: usize = 512;
/// Bytes before the place reached that must stay as they were.
const SEAM: usize = 64;
/// How long a file that was put aside is still looked at: appends under way when it was renamed.
const GRACE: Duration = Duration::from_secs(2);
/// How much of a line that cannot be read is told.
const PREVIEW: usize = 300;

/// What following the file brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole line; what was no UTF-8 in it is U+FFFD.
    Line { generation: Arc<str>, end: u64, text: String },
    /// A line that is too long or was never finished.
    Broken { generation: Arc<str>, end: u64, why: String },
    /// Something that should not be.
    Incident(Incident),
}

/// One file, from where it was opened.
#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    /// Names these contents; known once the first line is there.
    generation: Option<Arc<str>>,
    /// Offset of the first byte of `held`.
    line_start: u64,
    /// What was read of the line that is not whole yet.
    held: Vec<u8>,
    /// How much of `held` has no line break in it.
    scanned: usize,
    /// The over-long line being passed over began here; its first bytes.
    skipping: Option<(u64, String)>,
    seam: Vec<u8>,
    /// Everything before this offset has been dealt with.
    settled: u64,
    /// Where the last thing that was found ends; only blank lines and an unfinished one may follow.
    told: u64,
    grown: Duration,
}

/// Follows the raw stream.
#[derive(Debug)]
pub(super) struct RawTail {
    path: PathBuf,
    /// Size from which the file is put aside; none leaves it to grow.
    rotate_bytes: Option<u64>,
    /// Where to go on, by generation.
    starts: HashMap<String, u64>,
    current: Option<Open>,
    /// Put aside by us or replaced by somebody; the oldest first.
    old: Vec<Open>,
    /// We put the file aside ourselves: another one is expected.
    rotated: bool,
    /// The lasting state that was told of last.
    told: Option<IncidentKind>,
}

enum Look {
    Same,
    Gone,
    Other,
}

impl RawTail {
    /// Follows `path`; `starts` says how far each generation of it is recorded.
    pub(super) fn new(path: &Path, rotate_bytes: Option<u64>, starts: HashMap<String, u64>) -> Self {
        let mut tail = Self {
            path: path.to_owned(),
            rotate_bytes,
            starts,
            current: None,
            old: Vec::new(),
            rotated: false,
            told: None,
        };
        // Put aside before we ended: its lines come first.
        if let Ok(open) = Open::new(&tail.aside(), Duration::ZERO) {
            tail.old.push(open);
            tail.rotated = true;
        }
        tail
    }

    /// Where the file goes when it has grown enough.
    fn aside(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".old");
        name.into()
    }

    /// Bytes that were written and not dealt with yet.
    pub(super) fn behind(&self) -> u64 {
        let size = |open: &Open| open.file.metadata().map_or(0, |metadata| metadata.len());
        let from = |open: &Open| if open.settled >= open.told { open.line_start } else { open.settled };
        self.old.iter().chain(&self.current).map(|open| size(open).saturating_sub(from(open))).sum()
    }

    /// Notes that everything up to `end` has been dealt with.
    pub(super) fn settle(&mut self, generation: &str, end: u64) {
        for open in self.old.iter_mut().chain(&mut self.current) {
            if open.generation.as_deref() == Some(generation) {
                open.settled = open.settled.max(end);
            }
        }
    }

    /// Reads on, until about `room` bytes of lines were found. Whether there may be more at once.
    pub(super) fn poll(&mut self, room: usize, now: Duration, found: &mut Vec<Found>) -> bool {
        let mut left = room;
        for open in &mut self.old {
            if open.read(&self.starts, &mut left, now, found) {
                return true;
            }
        }
        self.retire(now, found);
        let look = self.look();
        if let Some(open) = &mut self.current
            && open.read(&self.starts, &mut left, now, found)
        {
            return true;
        }
        match look {
            Some(Look::Same) => self.put_aside(),
            Some(look @ (Look::Gone | Look::Other)) => {
                if let Some(open) = self.current.take() {
                    self.old.push(open);
                    if !std::mem::take(&mut self.rotated) {
                        found.push(Found::Incident(match look {
                            Look::Gone => Incident::new(
                                IncidentKind::RawVanished,
                                "the raw stream was removed while it was read",
                            ),
                            _ => Incident::new(
                                IncidentKind::RawReplaced,
                                "another file took the place of the raw stream",
                            ),
                        }));
                    } else if matches!(look, Look::Gone) {
                        self.rotated = true;
                    }
                }
                self.open(now, found);
                return self.current.is_some();
            }
            None => {
                self.open(now, found);
                return self.current.is_some();
            }
        }
        false
    }

    /// What stands at the path, compared with what is open.
    fn look(&self) -> Option<Look> {
        let open = self.current.as_ref()?;
        Some(match rustix::fs::lstat(&self.path) {
            Ok(stat) if stat.st_ino == open.inode && stat.st_dev == open.device => Look::Same,
            Ok(_) => Look::Other,
            Err(_) => Look::Gone,
        })
    }

    fn open(&mut self, now: Duration, found: &mut Vec<Found>) {
        let kind = match Open::new(&self.path, now) {
            Ok(open) => {
                self.current = Some(open);
                self.rotated = false;
                self.told = None;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => (
                IncidentKind::RawNotAFile,
                "a link, pipe or folder stands where the raw stream should be".to_owned(),
            ),
            Err(error) => (IncidentKind::RawUnreadable, format!("the raw stream cannot be opened: {error}")),
        };
        if self.told != Some(kind.0) {
            self.told = Some(kind.0);
            found.push(Found::Incident(Incident::new(kind.0, &kind.1)));
        }
    }

    /// Puts the file aside once it is large and all of it was read.
    fn put_aside(&mut self) {
        let Some(limit) = self.rotate_bytes else { return };
        let full = self.current.as_ref().is_some_and(|open| open.line_start >= limit && open.held.is_empty());
        let aside = self.aside();
        if full && !self.rotated && rustix::fs::lstat(&aside).is_err() {
            match std::fs::rename(&self.path, &aside) {
                Ok(()) => self.rotated = true,
                Err(error) => {
                    tracing::warn!(%error, "the raw stream cannot be put aside; it goes on growing");
                    self.rotate_bytes = None;
                }
            }
        }
    }

    /// Lets go of files that were put aside and are dealt with.
    fn retire(&mut self, now: Duration, found: &mut Vec<Found>) {
        let aside = self.aside();
        let followed = self.current.is_some();
        self.old.retain_mut(|open| {
            if now.saturating_sub(open.grown) < GRACE {
                return true;
            }
            if let Some(broken) = open.give_up() {
                found.push(broken);
                return true;
            }
            if open.settled < open.told {
                return true;
            }
            let ours = rustix::fs::lstat(&aside)
                .is_ok_and(|stat| stat.st_ino == open.inode && stat.st_dev == open.device);
            // Not before there is another file: a number that is free again would name two generations.
            if ours && !followed {
                return true;
            }
            if ours && let Err(error) = std::fs::remove_file(&aside) {
                tracing::warn!(%error, "a raw stream that was put aside cannot be removed");
            }
            false
        });
    }
}

impl Open {
    fn new(path: &Path, now: Duration) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            file,
            device: metadata.dev(),
            inode: metadata.ino(),
            generation: None,
            line_start: 0,
            held: Vec::new(),
            scanned: 0,
            skipping: None,
            seam: Vec::new(),
            settled: 0,
            told: 0,
            grown: now,
        })
    }

    /// Offset behind what was read.
    fn reached(&self) -> u64 {
        self.line_start + self.held.len() as u64
    }

    /// Reads on; whether it stopped for want of room, and not at the end.
    fn read(
        &mut self,
        starts: &HashMap<String, u64>,
        left: &mut usize,
        now: Duration,
        found: &mut Vec<Found>,
    ) -> bool {
        let Ok(size) = self.file.metadata().map(|metadata| metadata.len()) else { return false };
        if size < self.reached() || (size > self.reached() && !self.is_unchanged()) {
            found.push(Found::Incident(Incident::new(
                IncidentKind::RawTruncated,
                "the raw stream was cut or written over where it had been read; lines may be missing",
            )));
            self.restart(0);
        }
        if self.generation.is_none() && !self.begin(size, starts, found) {
            return false;
        }
        loop {
            if *left == 0 {
                return true;
            }
            if self.cut(left, found) {
                continue;
            }
            match self.fill() {
                Ok(0) => return false,
                Ok(_) => self.grown = now,
                Err(error) => {
                    tracing::debug!(%error, "the raw stream cannot be read");
                    return false;
                }
            }
        }
    }

    /// Learns which contents these are, once their first line is there, and goes to where they are recorded.
    fn begin(&mut self, size: u64, starts: &HashMap<String, u64>, found: &mut Vec<Found>) -> bool {
        let mut head = vec![0; HEAD.min(usize::try_from(size).unwrap_or(HEAD))];
        if self.file.read_exact_at(&mut head, 0).is_err() {
            return false;
        }
        let line = memchr::memchr(b'\n', &head).map(|end| end + 1);
        let Some(line) = line.or((head.len() == HEAD).then_some(HEAD)) else { return false };
        let digest = Sha256::digest(head.get(..line).unwrap_or_default());
        let hash = digest.iter().take(6).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
        let generation = format!("{:x}-{hash:012x}", self.inode);
        let start = starts.get(&generation).copied().unwrap_or(0);
        let mut before = [0; 1];
        let fits = start == 0
            || (start <= size && self.file.read_exact_at(&mut before, start - 1).is_ok() && before == *b"\n");
        let same_inode = format!("{:x}-", self.inode);
        let rewritten = start == 0 && starts.keys().any(|known| known.starts_with(&same_inode));
        if !fits || rewritten {
            found.push(Found::Incident(Incident::new(
                IncidentKind::RawTruncated,
                "the raw stream was cut or written over while nobody read it; lines may be missing",
            )));
        }
        self.generation = Some(generation.into());
        self.restart_at(if fits { start } else { 0 });
        true
    }

    fn restart(&mut self, at: u64) {
        self.generation = None;
        self.restart_at(at);
    }

    fn restart_at(&mut self, at: u64) {
        self.line_start = at;
        self.settled = at;
        self.told = at;
        self.held = Vec::new();
        self.scanned = 0;
        self.skipping = None;
        self.seam.clear();
    }

    /// Whether the bytes just before the place reached are those that were read.
    fn is_unchanged(&self) -> bool {
        let mut bytes = vec![0; self.seam.len()];
        let at = self.reached().saturating_sub(self.seam.len() as u64);
        self.file.read_exact_at(&mut bytes, at).is_ok() && bytes == self.seam
    }

    /// Reads a chunk behind what is held; how much came.
    fn fill(&mut self) -> io::Result<usize> {
        let at = self.reached();
        let held = self.held.len();
        self.held.resize(held + CHUNK, 0);
        let space = self.held.get_mut(held..).unwrap_or_default();
        let read = self.file.read_at(space, at);
        self.held.truncate(held + read.as_ref().copied().unwrap_or(0));
        if let Some(new) = self.held.get(held..) {
            self.seam.extend_from_slice(new.get(new.len().saturating_sub(SEAM)..).unwrap_or_default());
            self.seam.drain(..self.seam.len().saturating_sub(SEAM));
        }
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        }
    }

    /// Cuts whole lines off what is held; whether room ran out before they did.
    fn cut(&mut self, left: &mut usize, found: &mut Vec<Found>) -> bool {
        let Some(generation) = self.generation.clone() else { return false };
        let mut start = 0;
        let mut more = false;
        while let Some(end) = memchr::memchr(b'\n', self.held.get(start + self.scanned..).unwrap_or_default())
        {
            let end = start + self.scanned + end + 1;
            self.scanned = 0;
            let line = self.held.get(start..end).unwrap_or_default();
            let behind = self.line_start + end as u64;
            *left = left.saturating_sub(line.len());
            if let Some((from, head)) = self.skipping.take() {
                let why = format!("a line of {} bytes is too long: {head}", behind - from);
                found.push(Found::Broken { generation: Arc::clone(&generation), end: behind, why });
                self.told = behind;
            } else if !line.trim_ascii().is_empty() {
                let text = String::from_utf8_lossy(line.trim_ascii()).into_owned();
                found.push(Found::Line { generation: Arc::clone(&generation), end: behind, text });
                self.told = behind;
            }
            start = end;
            if *left == 0 {
                more = true;
                break;
            }
        }
        if start > 0 {
            self.held.drain(..start);
            self.line_start += start as u64;
        }
        if more {
            return true;
        }
        self.scanned = self.held.len();
        if self.held.len() > MAX_LINE || self.skipping.is_some() {
            let head =
                String::from_utf8_lossy(self.held.get(..PREVIEW.min(self.held.len())).unwrap_or_default());
            self.skipping.get_or_insert((self.line_start, head.into_owned()));
            self.line_start += self.held.len() as u64;
            self.held = Vec::new();
            self.scanned = 0;
        }
        false
    }

    /// What is left of a file that nobody will go on with.
    fn give_up(&mut self) -> Option<Found> {
        let generation = self.generation.clone()?;
        let (from, head) = match self.skipping.take() {
            Some(skipped) => skipped,
            None if self.held.is_empty() => return None,
            None => {
                let head = self.held.get(..PREVIEW.min(self.held.len())).unwrap_or_default();
                (self.line_start, String::from_utf8_lossy(head).into_owned())
            }
        };
        let end = self.reached();
        self.line_start = end;
        self.told = end;
        self.held = Vec::new();
        self.scanned = 0;
        let why = format!("a line of {} bytes was never finished: {head}", end - from);
        Some(Found::Broken { generation, end, why })
    }
}

#[cfg(test)]
mod tests;

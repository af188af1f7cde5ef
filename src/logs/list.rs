//! Which files of a directory are logs, and what is remembered of each between two reads.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::LogsError;

/// An export of flags that lies among the logs.
const NOT_A_LOG: &str = "patrol_flags.jsonl";

/// How much of a file's head, and of what stands before the place reached, is remembered.
const MARK_BYTES: u64 = 512;

/// A log file as the directory shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its name, without the directory.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// The device it lies on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
}

impl LogFile {
    pub(super) fn new(name: String, metadata: &Metadata) -> Self {
        Self {
            name,
            size: metadata.len(),
            mtime_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// How far a file has been read. The caller keeps it, and hands it back to the next read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Name of the file, without the directory.
    pub name: String,
    /// The device it lay on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its size when it was last looked at.
    pub size: u64,
    /// When it was last written, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Everything before this byte has been read; only separators may stand between it and the next entry.
    pub offset: u64,
    /// The over-long line in whose middle the file ended.
    pub(super) skipped: Option<Skipped>,
    /// Fingerprint of the file's first bytes, to notice another file of the same name.
    pub head: Mark,
    /// Fingerprint of the bytes just before `offset`.
    pub seam: Mark,
}

/// A line that is too long to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Skipped {
    pub(super) from: u64,
    pub(super) run_id: Option<String>,
}

/// A fingerprint of some bytes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// How many bytes.
    pub length: u64,
    /// The first eight bytes of their SHA-256.
    pub hash: u64,
}

impl Mark {
    /// Fingerprint of up to [`MARK_BYTES`] bytes before `end`.
    fn before(file: &File, end: u64) -> std::io::Result<Self> {
        Self::at(file, end.saturating_sub(MARK_BYTES), end.min(MARK_BYTES))
    }

    fn at(file: &File, start: u64, length: u64) -> std::io::Result<Self> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Self { length, hash: hash64(&[&bytes]) })
    }
}

/// The first eight bytes of the SHA-256 of all parts, one after the other.
pub(super) fn hash64(parts: &[&[u8]]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
}

/// What a look at the directory says about a file that was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// Nothing has changed, or only behind what was read.
    None,
    /// It may have grown.
    Some,
    /// It is another file, or other bytes.
    Rewritten,
}

impl FileState {
    pub(super) fn new(file: &LogFile) -> Self {
        Self {
            name: file.name.clone(),
            device: file.device,
            inode: file.inode,
            size: 0,
            mtime_ns: 0,
            offset: 0,
            skipped: None,
            head: Mark::default(),
            seam: Mark::default(),
        }
    }

    /// Whether the directory shows the file just as it was.
    pub(super) fn is_as(&self, file: &LogFile) -> bool {
        self.size == file.size
            && self.mtime_ns == file.mtime_ns
            && self.inode == file.inode
            && self.device == file.device
    }

    /// What has become of the file since; reads at most two marks of it.
    pub(super) fn growth(&self, now: &LogFile, file: &File) -> std::io::Result<Growth> {
        if self.is_as(now) {
            return Ok(Growth::None);
        }
        // A file of the same size that was written to may have changed anywhere. Device numbers may be others after
        // a reboot; then the marks decide.
        let written_in_place = now.size == self.size && now.mtime_ns != self.mtime_ns;
        if self.inode != now.inode || now.size < self.offset || written_in_place {
            return Ok(Growth::Rewritten);
        }
        let head = Mark::at(file, 0, self.head.length)?;
        let seam = Mark::at(file, self.offset.saturating_sub(self.seam.length), self.seam.length)?;
        Ok(if head == self.head && seam == self.seam { Growth::Some } else { Growth::Rewritten })
    }

    /// Notes how the file looked when it was read up to `offset`.
    pub(super) fn settle(&mut self, now: &LogFile, file: &File) -> std::io::Result<()> {
        self.size = now.size;
        self.mtime_ns = now.mtime_ns;
        self.head = Mark::at(file, 0, self.offset.min(MARK_BYTES))?;
        self.seam = Mark::before(file, self.offset)?;
        Ok(())
    }
}

/// The log files of a directory, by name: `*.json` and `*.jsonl`, regular files only, no hidden ones, not the
/// flags. A name that is not UTF-8 is shown with U+FFFD, and will not be found again.
///
/// # Errors
/// Io or Gone, when the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<LogFile>, LogsError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| LogsError::io(dir, error))? {
        let entry = entry.map_err(|error| LogsError::io(dir, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_log_name(&name) {
            continue;
        }
        // Of a symbolic link, this is the link itself.
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => files.push(LogFile::new(name, &metadata)),
            // Gone since, or no file.
            _ => {}
        }
    }
    files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

fn is_log_name(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("json" | "jsonl")) && !name.starts_with('.') && name != NOT_A_LOG
}

/// The names of the files that a read would open, and of those that are gone: one stat a file, nothing read.
///
/// # Errors
/// Io or Gone, when the directory cannot be read.
pub fn changed(dir: &Path, files: &[FileState]) -> Result<Vec<String>, LogsError> {
    let now = list(dir)?;
    let known: std::collections::HashMap<&str, &FileState> =
        files.iter().map(|file| (file.name.as_str(), file)).collect();
    let mut changed: Vec<String> = now
        .iter()
        .filter(|file| !known.get(file.name.as_str()).is_some_and(|state| state.is_as(file)))
        .map(|file| file.name.clone())
        .collect();
    let present: std::collections::HashSet<&str> = now.iter().map(|file| file.name.as_str()).collect();
    changed.extend(
        files.iter().filter(|file| !present.contains(file.name.as_str())).map(|file| file.name.clone()),
    );
    Ok(changed)
}

/// Opens a file that [`list`] has shown, and only that one: not what a link of the same name points to now.
pub(super) fn open(dir: &Path, name: &str) -> std::io::Result<(File, LogFile)> {
    let path = dir.join(name);
    let listed = fs::symlink_metadata(&path)?;
    if !listed.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "not a regular file"));
    }
    let file = File::open(&path)?;
    let opened = LogFile::new(name.to_owned(), &file.metadata()?);
    if opened.inode != listed.ino() || opened.device != listed.dev() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "replaced while it was opened"));
    }
    Ok((file, opened))
}

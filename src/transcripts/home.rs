//! OpenClaw's home folder: which agents it has, and their databases opened without following links.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat};

use super::{TranscriptsError, TranscriptsErrorKind};
use crate::openclaw::transcript::{AGENT_STATE, AGENTS, DATABASE};

/// How many agents are looked at.
const MAX_AGENTS: usize = 1000;

/// An OpenClaw home, as `~/.openclaw`.
#[derive(Debug)]
pub struct Home {
    folder: OwnedFd,
    path: PathBuf,
}

/// One agent's database as it lies there, opened for reading.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) database: File,
    pub(super) wal: Option<File>,
    pub(super) journal: bool,
    pub(super) path: PathBuf,
}

/// What tells whether a database has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) database: FileStamp,
    pub(super) wal: Option<FileStamp>,
}

/// The same of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    inode: u64,
    pub(super) size: u64,
    pub(super) mtime_ns: i128,
    ctime_ns: i128,
}

impl FileStamp {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Files {
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        let wal = self.wal.as_ref().map(FileStamp::of).transpose()?;
        Ok(Stamp { database: FileStamp::of(&self.database)?, wal })
    }
}

impl Home {
    /// Opens the folder. A link to it is followed, as the user gave it; below it none is.
    ///
    /// # Errors
    /// Io, where it cannot be opened; `NotAHome`, where it has no agents.
    pub fn open(path: &Path) -> Result<Self, TranscriptsError> {
        let at = TranscriptsError::at::<TranscriptsErrorKind>(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            openat(CWD, path, flags, Mode::empty()).map_err(|error| at(io::Error::from(error).into()))?;
        let home = Self { folder, path: path.to_owned() };
        match home.folder_below(&[AGENTS]) {
            Ok(Some(_)) => Ok(home),
            Ok(None) => Err(at(TranscriptsErrorKind::NotAHome)),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The agents by name, sorted.
    ///
    /// # Errors
    /// Io, where the folder cannot be read.
    pub fn agents(&self) -> Result<Vec<String>, TranscriptsError> {
        let path = self.path.join(AGENTS);
        let at = TranscriptsError::at::<TranscriptsErrorKind>(&path);
        let Some(folder) = self.folder_below(&[AGENTS])? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        let listing = Dir::read_from(&folder).map_err(|error| at(io::Error::from(error).into()))?;
        for entry in listing {
            let entry = entry.map_err(|error| at(io::Error::from(error).into()))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if !name.starts_with('.') && names.len() < MAX_AGENTS {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens an agent's database; nothing where it has none yet.
    pub(super) fn files(&self, agent: &str) -> Result<Option<Files>, TranscriptsError> {
        let path = self.path.join(AGENTS).join(agent).join(AGENT_STATE).join(DATABASE);
        let Some(folder) = self.folder_below(&[AGENTS, agent, AGENT_STATE])? else { return Ok(None) };
        let file = |name: &str| {
            open_file(&folder, name).map_err(|kind| TranscriptsError { path: path.clone(), kind })
        };
        let Some(database) = file(DATABASE)? else { return Ok(None) };
        let wal = file(&format!("{DATABASE}-wal"))?;
        let journal = file(&format!("{DATABASE}-journal"))?;
        let journal = journal.is_some_and(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 0));
        Ok(Some(Files { database, wal, journal, path }))
    }

    /// Goes down folder by folder, over no link.
    fn folder_below(&self, names: &[&str]) -> Result<Option<OwnedFd>, TranscriptsError> {
        let mut path = self.path.clone();
        let mut folder: Option<OwnedFd> = None;
        for name in names {
            path.push(name);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let above = folder.as_ref().unwrap_or(&self.folder);
            folder = match openat(above, *name, flags, Mode::empty()) {
                Ok(next) => Some(next),
                Err(rustix::io::Errno::NOENT) => return Ok(None),
                Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                    return Err(TranscriptsError { path, kind: TranscriptsErrorKind::NotAFile });
                }
                Err(error) => return Err(TranscriptsError { path, kind: io::Error::from(error).into() }),
            };
        }
        Ok(folder)
    }
}

/// Opens a regular file for reading, over no link and without waiting for a pipe.
fn open_file(folder: &OwnedFd, name: &str) -> Result<Option<File>, TranscriptsErrorKind> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(TranscriptsErrorKind::NotAFile),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(TranscriptsErrorKind::NotAFile) }
}

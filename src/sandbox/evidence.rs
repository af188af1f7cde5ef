//! A copy of what a sandbox wrote, for whoever investigates it.
//!
//! The folders are hostile: links are copied as links, what is neither file, folder nor link is left out, and nothing is
//! opened by a path that the container could have changed meanwhile.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use super::error::{SandboxError, SandboxErrorKind};
use super::layout::Layout;

/// Most bytes of a copy.
const MOST_BYTES: u64 = 8 << 30;
/// Deepest folder that is copied.
const DEEPEST: usize = 40;

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The tar file, 0600.
    pub file: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// What was left out, with the reason; names are as the container gave them.
    pub left_out: Vec<String>,
}

/// Copies a sandbox's state, workspace and raw stream into a tar file in its `evidence` folder. Freeze the sandbox first:
/// then all of it is of one moment. `stamp` becomes part of the file's name.
///
/// Blocks; call it where that is allowed.
///
/// # Errors
/// [`SandboxErrorKind::Io`] with the file; nothing is left behind then.
pub fn copy(layout: &Layout, stamp: &str) -> Result<Evidence, SandboxError> {
    let folder = layout.evidence_dir();
    let plain: String = stamp.chars().filter(char::is_ascii_alphanumeric).collect();
    let failed = |file: &Path, error| SandboxError {
        doing: format!("copy the evidence to {}", file.display()),
        kind: SandboxErrorKind::Io(error),
    };
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .recursive(true)
        .create(&folder)
        .map_err(|error| failed(&folder, error))?;
    let (file, out) =
        new_file(&folder, layout.name().as_str(), &plain).map_err(|error| failed(&folder, error))?;
    write(layout, &file, out).map_err(|error| {
        drop(std::fs::remove_file(&file));
        failed(&file, error)
    })
}

/// A file that was not there before: evidence of the same second stays as it is.
fn new_file(folder: &Path, name: &str, stamp: &str) -> std::io::Result<(PathBuf, File)> {
    let mut number = 1_u32;
    loop {
        let more = if number == 1 { String::new() } else { format!("-{number}") };
        let file = folder.join(format!("{name}-{stamp}{more}.tar"));
        match File::options().write(true).create_new(true).mode(0o600).open(&file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(error),
            Ok(out) => return Ok((file, out)),
        }
    }
}

fn write(layout: &Layout, file: &Path, out: File) -> std::io::Result<Evidence> {
    let mut copy = Copy {
        tar: Builder::new(BufWriter::new(out)),
        evidence: Evidence { file: file.to_owned(), files: 0, bytes: 0, left_out: Vec::new() },
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for (name, folder) in [("raw", layout.raw_dir()), ("home", layout.home_dir())] {
        let held = open(&folder, flags, Mode::empty())?;
        copy.folder(&held, Path::new(name), 0)?;
    }
    let mut out = copy.tar.into_inner()?;
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(copy.evidence)
}

struct Copy {
    tar: Builder<BufWriter<File>>,
    evidence: Evidence,
}

impl Copy {
    fn leave_out(&mut self, path: &Path, why: &str) {
        if self.evidence.left_out.len() < 1000 {
            self.evidence.left_out.push(format!("{}: {why}", crate::text::plain(&path.to_string_lossy())));
        }
    }

    fn folder(&mut self, held: &OwnedFd, at: &Path, depth: usize) -> std::io::Result<()> {
        self.append(EntryType::Directory, at, None, 0, std::io::empty())?;
        for entry in Dir::read_from(held)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() == b"." || name.to_bytes() == b".." {
                continue;
            }
            let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes());
            let path = at.join(bytes);
            let Ok(stat) = statat(held, name, AtFlags::SYMLINK_NOFOLLOW) else {
                self.leave_out(&path, "gone");
                continue;
            };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth >= DEEPEST => self.leave_out(&path, "too deep"),
                FileType::Directory => match openat(held, name, flags | OFlags::DIRECTORY, Mode::empty()) {
                    Ok(inner) => self.folder(&inner, &path, depth + 1)?,
                    Err(error) => self.leave_out(&path, &error.to_string()),
                },
                FileType::Symlink => {
                    let target = readlinkat(held, name, Vec::new())?;
                    let target: &std::ffi::OsStr =
                        std::os::unix::ffi::OsStrExt::from_bytes(target.to_bytes());
                    self.append(EntryType::Symlink, &path, Some(Path::new(target)), 0, std::io::empty())?;
                }
                FileType::RegularFile => match openat(held, name, flags, Mode::empty()) {
                    Ok(inner) => self.file(File::from(inner), &path)?,
                    Err(error) => self.leave_out(&path, &error.to_string()),
                },
                _ => self.leave_out(&path, "no file, folder or link"),
            }
        }
        Ok(())
    }

    fn file(&mut self, file: File, path: &Path) -> std::io::Result<()> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            self.leave_out(path, "it became something else");
            return Ok(());
        }
        // As long as it was: what grows meanwhile is cut, what shrinks is filled up, so that the archive stays whole.
        let size = meta.len();
        if self.evidence.bytes.saturating_add(size) > MOST_BYTES {
            self.leave_out(path, "the copy would be too large");
            return Ok(());
        }
        self.append(EntryType::Regular, path, None, size, file.chain(std::io::repeat(0)).take(size))?;
        self.evidence.files += 1;
        self.evidence.bytes += size;
        Ok(())
    }

    fn append(
        &mut self,
        kind: EntryType,
        path: &Path,
        target: Option<&Path>,
        size: u64,
        data: impl Read,
    ) -> std::io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o700 } else { 0o600 });
        header.set_size(size);
        header.set_mtime(0);
        match target {
            Some(target) => self.tar.append_link(&mut header, path, target),
            None => self.tar.append_data(&mut header, path, data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::layout::Owner;
    use crate::sandbox::name::SandboxName;

    #[test]
    fn links_stay_links_and_pipes_do_not_hold_it_up() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gold"), "host").unwrap();
        let layout = Layout::new(dir.path(), &SandboxName::default());
        layout.create(&Owner { uid: 0, gid: 0, give: false, unknown: false }).unwrap();
        std::fs::write(layout.raw_file(), "{}\n").unwrap();
        std::fs::create_dir_all(layout.home_dir().join("workspace/a")).unwrap();
        std::fs::write(layout.home_dir().join("workspace/a/b"), "text").unwrap();
        std::os::unix::fs::symlink(dir.path().join("gold"), layout.home_dir().join("link")).unwrap();
        std::os::unix::fs::symlink("/", layout.home_dir().join("workspace/root")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            layout.home_dir().join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let made = copy(&layout, "2026-11-24T22:00:00Z").unwrap();
        assert_eq!((made.files, made.bytes), (2, 7));
        assert_eq!(made.left_out.len(), 1, "{made:?}");
        let mut archive = tar::Archive::new(File::open(&made.file).unwrap());
        let names: Vec<(String, EntryType)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().entry_type())
            })
            .collect();
        assert!(names.contains(&("home/link".into(), EntryType::Symlink)), "{names:?}");
        assert!(names.contains(&("home/workspace/a/b".into(), EntryType::Regular)));
        assert!(!names.iter().any(|(name, _)| name.starts_with("home/workspace/root/")));
        // The same moment again does not overwrite the first copy.
        let again = copy(&layout, "2026-11-24T22:00:00Z").unwrap();
        assert!(again.file != made.file && made.file.exists());
    }
}

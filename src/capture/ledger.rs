//! Skills and plugins of a sandbox: which files there are, and what is in them.
//!
//! Source: OpenClaw 2026.9.6 loads skills from `skills` and `plugin-skills` of its state folder and from `skills` and
//! `.agents/skills` of the workspace; plugins from `extensions` of the state folder and `.openclaw/extensions` of the
//! workspace; hooks from `hooks` of both. `plugins/installs.json` says which plugins are installed.
//!
//! **Invariant:** no link is followed, at any step of a path; files, bytes and depth are bounded.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

use super::incident::{Incident, IncidentKind};

/// Folders below OpenClaw's state folder that code or instructions are loaded from.
pub const FOLDERS: [&str; 10] = [
    "skills",
    "plugin-skills",
    "extensions",
    "hooks",
    "plugins",
    "workspace/skills",
    "workspace/.agents/skills",
    "workspace/extensions",
    "workspace/.openclaw/extensions",
    "workspace/hooks",
];
const MAX_FILES: usize = 20_000;
const MAX_DEPTH: usize = 16;
/// Bytes of one file that are hashed; of a longer one, its length counts too.
const MAX_FILE: u64 = 8 << 20;
const MAX_BYTES: u64 = 256 << 20;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    File {
        length: u64,
        hash: [u8; 16],
    },
    /// A link, pipe, socket or device.
    Odd,
}

/// The files of skills and plugins as they were seen last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<PathBuf, Entry>,
    /// There was more than is looked at.
    is_partial: bool,
}

impl Ledger {
    /// Looks at the files below OpenClaw's state folder `home`. Blocks while it reads.
    pub fn scan(home: &Path) -> Self {
        let mut ledger = Self::default();
        let Ok(root) = open_folder(rustix::fs::CWD, home) else { return ledger };
        let mut left = MAX_BYTES;
        for folder in FOLDERS {
            let mut at = root.try_clone();
            for step in Path::new(folder) {
                at = at.and_then(|at| open_folder(&at, Path::new(step)));
            }
            if let Ok(at) = at {
                ledger.folder(&at, Path::new(folder), 0, &mut left);
            } else if is_odd(&root, Path::new(folder)) {
                ledger.entries.insert(folder.into(), Entry::Odd);
            }
        }
        ledger
    }

    fn folder(&mut self, folder: &OwnedFd, path: &Path, depth: usize, left: &mut u64) {
        let Ok(entries) = Dir::read_from(folder) else { return };
        for entry in entries.flatten() {
            use std::os::unix::ffi::OsStringExt as _;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            if self.entries.len() >= MAX_FILES || depth >= MAX_DEPTH {
                self.is_partial = true;
                return;
            }
            let inner = path.join(&name);
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    rustix::fs::statat(folder, &*name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                        .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode))
                }
                kind => kind,
            };
            match kind {
                FileType::Directory => {
                    if let Ok(inside) = open_folder(folder, Path::new(&name)) {
                        self.folder(&inside, &inner, depth + 1, left);
                    }
                }
                FileType::RegularFile => {
                    if let Some(entry) = hash(folder, &name, left) {
                        self.entries.insert(inner, entry);
                    }
                }
                _ => {
                    self.entries.insert(inner, Entry::Odd);
                }
            }
        }
    }

    /// What is different from how it was, at most 64 of it and a word on the rest.
    pub fn changes(&self, before: &Self) -> Vec<Incident> {
        let mut told = Vec::new();
        for (path, entry) in &self.entries {
            let kind = match (entry, before.entries.get(path)) {
                (entry, Some(known)) if entry == known => continue,
                (Entry::Odd, _) => IncidentKind::ExtensionLink,
                (_, None) => IncidentKind::ExtensionAdded,
                (_, Some(_)) => IncidentKind::ExtensionChanged,
            };
            told.push(Incident::new(kind, &path.to_string_lossy()));
        }
        for path in before.entries.keys().filter(|path| !self.entries.contains_key(*path)) {
            told.push(Incident::new(IncidentKind::ExtensionRemoved, &path.to_string_lossy()));
        }
        if self.is_partial && !before.is_partial {
            let text = "more files or bytes stand among skills and plugins than are looked at";
            told.push(Incident::new(IncidentKind::ExtensionAdded, text));
        }
        let more = told.len().saturating_sub(64);
        if more > 0 {
            told.truncate(64);
            told.push(Incident::new(IncidentKind::ExtensionChanged, &format!("and {more} more files")));
        }
        told
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn open_folder(at: impl std::os::fd::AsFd, path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// Whether a folder that cannot be opened is a link or the like, and not just absent.
fn is_odd(root: &OwnedFd, path: &Path) -> bool {
    let stat = rustix::fs::statat(root, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
}

fn hash(folder: &OwnedFd, name: &OsString, left: &mut u64) -> Option<Entry> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::openat(folder, &**name, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return Some(Entry::Odd);
    }
    let budget = MAX_FILE.min(*left);
    let mut hasher = Sha256::new();
    let mut limited = file.take(budget);
    let mut buffer = [0; 16 << 10];
    loop {
        let read = limited.read(&mut buffer).ok()?;
        if read == 0 {
            break;
        }
        *left = left.saturating_sub(read as u64);
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    let digest = hasher.finalize();
    let mut hash = [0; 16];
    hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Some(Entry::File { length: metadata.len(), hash })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn changes_are_told_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        assert!(Ledger::scan(home).is_empty());
        fs::create_dir_all(home.join("workspace/skills/weather")).unwrap();
        fs::create_dir_all(home.join("extensions/x")).unwrap();
        fs::write(home.join("workspace/skills/weather/SKILL.md"), "one").unwrap();
        fs::write(home.join("extensions/x/index.js"), "one").unwrap();
        fs::write(home.join("workspace/notes.md"), "not looked at").unwrap();
        let before = Ledger::scan(home);
        assert_eq!(before.len(), 2);
        assert!(before.changes(&Ledger::scan(home)).is_empty());

        fs::write(home.join("workspace/skills/weather/SKILL.md"), "two").unwrap();
        fs::remove_file(home.join("extensions/x/index.js")).unwrap();
        fs::write(home.join("extensions/x/evil\u{1b}.js"), "x").unwrap();
        symlink("/etc", home.join("workspace/skills/etc")).unwrap();
        symlink("/etc", home.join("skills")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, home.join("extensions/pipe"), Mode::from_raw_mode(0o600))
            .unwrap();
        let now = Ledger::scan(home);
        assert_eq!(now.len(), 5);
        let told: Vec<String> = now.changes(&before).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "[sentrix:extension_link] extensions/pipe",
                "[sentrix:extension_added] extensions/x/evil\\u{1b}.js",
                "[sentrix:extension_link] skills",
                "[sentrix:extension_link] workspace/skills/etc",
                "[sentrix:extension_changed] workspace/skills/weather/SKILL.md",
                "[sentrix:extension_removed] extensions/x/index.js",
            ]
        );
    }

    #[test]
    fn it_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().join("skills");
        for _ in 0..MAX_DEPTH + 4 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("x"), "x").unwrap();
        let ledger = Ledger::scan(dir.path());
        assert!(ledger.is_partial && ledger.is_empty());
        assert_eq!(ledger.changes(&Ledger::default()).len(), 1);
    }
}

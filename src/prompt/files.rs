//! Where prompt texts come from: built into the program, or a folder on disk.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::error::PromptFault;

static EMBEDDED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/prompts");

/// Largest template file, in bytes.
const MAX_FILE_BYTES: usize = 256 << 10;
/// Most files read from a folder.
const MAX_FILES: usize = 1_000;
/// Deepest folder below the prompts folder.
const MAX_DEPTH: usize = 8;

/// A text and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// For messages about the prompt.
    pub(super) origin: String,
    /// For messages about the file.
    pub(super) file: String,
    pub(super) body: String,
}

impl Text {
    pub(super) fn built_in(path: &str, text: &str) -> Self {
        Self { origin: "built in".into(), file: format!("prompts/{path}"), body: text.into() }
    }
}

/// Which half of a prompt a file holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Half {
    System,
    User,
}

/// The prompt's name and half by its relative path, if it is a template.
pub(super) fn half(path: &str) -> Option<(&str, Half)> {
    let (name, half) = match path.strip_suffix(".system.j2") {
        Some(name) => (name, Half::System),
        None => (path.strip_suffix(".user.j2")?, Half::User),
    };
    (!name.is_empty() && !name.ends_with('/')).then_some((name, half))
}

/// The built-in template files.
pub(super) fn embedded() -> Vec<(&'static str, &'static str)> {
    fn walk(dir: &Dir<'static>, out: &mut Vec<(&'static str, &'static str)>) {
        for file in dir.files() {
            if let (Some(path), Some(text)) = (file.path().to_str(), file.contents_utf8())
                && half(path).is_some()
            {
                out.push((path, text));
            }
        }
        for dir in dir.dirs() {
            walk(dir, out);
        }
    }
    let mut out = Vec::new();
    walk(&EMBEDDED, &mut out);
    out.sort_unstable();
    out
}

/// All templates under `dir` by their path relative to it, with `/` between folders.
pub(super) fn read_dir(dir: &Path, faults: &mut Vec<PromptFault>) -> BTreeMap<String, Text> {
    let mut texts = BTreeMap::new();
    read_level(dir, "", 0, &mut texts, faults);
    texts
}

fn read_level(
    dir: &Path,
    prefix: &str,
    depth: usize,
    texts: &mut BTreeMap<String, Text>,
    faults: &mut Vec<PromptFault>,
) {
    let shown = dir.display().to_string();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            faults.push(PromptFault::plain(&shown, &format!("the folder cannot be read: {error}")));
            return;
        }
    };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str() else { continue };
        let path = entry.path();
        let relative = format!("{prefix}{file_name}");
        if path.is_dir() {
            // The depth also ends a folder that is linked into itself.
            if depth < MAX_DEPTH && !file_name.starts_with('.') {
                read_level(&path, &format!("{relative}/"), depth + 1, texts, faults);
            }
        } else if half(&relative).is_some() {
            if texts.len() >= MAX_FILES {
                faults.push(PromptFault::plain(&shown, &format!("more than {MAX_FILES} templates")));
                return;
            }
            let file = path.display().to_string();
            match read_file(&path) {
                Ok(text) => {
                    texts.insert(relative, Text { origin: file.clone(), file, body: text });
                }
                Err(message) => faults.push(PromptFault::plain(&file, &message)),
            }
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("larger than {} KiB", MAX_FILE_BYTES >> 10));
    }
    String::from_utf8(bytes).map_err(|_| "not valid UTF-8".to_owned())
}

/// A writer that takes a limited number of bytes.
pub(super) struct Capped {
    bytes: Vec<u8>,
    limit: usize,
    overflowed: bool,
}

impl Capped {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, overflowed: false }
    }

    pub(super) fn overflowed(&self) -> bool {
        self.overflowed
    }

    pub(super) fn into_text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl std::io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > self.limit {
            self.overflowed = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

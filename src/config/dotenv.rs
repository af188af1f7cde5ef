//! `.env` files: of the working folder and its parents, the nearest first.
//!
//! **Invariant:** no content of a `.env` file is ever shown; its faults are told by file and line.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::text::plain;

/// Most folders that are looked into, the working folder among them.
const DEEPEST: usize = 32;
/// Largest file that is read, in bytes.
const LARGEST: u64 = 256 << 10;

/// The variables of one file.
pub(super) struct DotEnv {
    /// How the file is called in messages.
    pub(super) shown: String,
    values: BTreeMap<String, String>,
}

impl DotEnv {
    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

impl fmt::Debug for DotEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DotEnv").field("shown", &self.shown).finish_non_exhaustive()
    }
}

/// The files that are there, the nearest first, and what was odd about them.
pub(super) fn read(folder: &Path) -> (Vec<DotEnv>, Vec<String>) {
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    let owner = folder.metadata().map(|data| data.uid()).ok();
    for (depth, folder) in folder.ancestors().take(DEEPEST).enumerate() {
        let path = folder.join(".env");
        let shown = if depth == 0 { String::from(".env") } else { plain(&path.display().to_string()) };
        // Whoever may write into the working folder may put a configuration file there as well.
        match text(&path, owner.filter(|_| depth > 0)) {
            Ok(Some(text)) => files.push(parse(shown, &text, &mut notes)),
            Ok(None) => {}
            Err(why) => notes.push(format!("{shown} is not read: {why}")),
        }
    }
    (files, notes)
}

/// A file's text; nothing where there is no file. Nobody but `owner` and root may own it, where one is given.
fn text(path: &Path, owner: Option<u32>) -> Result<Option<String>, String> {
    let data = match path.metadata() {
        Ok(data) => data,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    if !data.is_file() {
        return Err(String::from("it is no file"));
    }
    // Whoever writes the file could send keys and logs to a server of their own: in a folder like /tmp that is anybody.
    if data.mode() & 0o002 != 0 || (data.uid() != 0 && owner.is_some_and(|owner| owner != data.uid())) {
        return Err(String::from("others than the owner of the working folder may write it"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} KiB", LARGEST >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8")
    })?;
    Ok(Some(text))
}

fn parse(shown: String, text: &str, notes: &mut Vec<String>) -> DotEnv {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut values = BTreeMap::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        match item {
            // As everywhere with these files, the first of two lines counts.
            Ok((name, value)) => {
                values.entry(name).or_insert(value);
            }
            Err(error) => {
                let line = match &error {
                    dotenvy::Error::LineParse(line, _) => text.find(line.trim_end_matches('\n')),
                    _ => None,
                };
                let line = line.map(|at| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1);
                let place = line.map_or_else(|| shown.clone(), |line| format!("{shown}:{line}"));
                notes.push(format!("{place} is left out: it is no line `NAME=value`"));
            }
        }
    }
    DotEnv { shown, values }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_of_parents_are_read_and_faults_show_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(dir.path().join(".env"), "\u{feff}export A='far one'\nB=2 # said\r\n").unwrap();
        fs::write(inner.join(".env"), "# x\nA=\"near\"\nsecret value\nA=again\nC='open\n").unwrap();
        fs::create_dir(dir.path().join("a/.env")).unwrap();
        let (files, notes) = read(&inner);
        assert_eq!(files.len(), 2, "{notes:?}");
        assert_eq!((files[0].get("A"), files[0].get("B")), (Some("near"), None));
        assert_eq!((files[1].get("A"), files[1].get("B")), (Some("far one"), Some("2")));
        let said = notes.join("\n");
        assert!(said.contains(".env:3 is left out") && said.contains("it is no file"), "{said}");
        assert!(!said.contains("secret") && !said.contains("open"), "{said}");
        assert!(!format!("{files:?}").contains("near"));
    }

    #[test]
    fn what_is_no_text_too_large_or_anybodys_is_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        let note = || read(dir.path()).1.join("\n");
        fs::write(&path, b"A=1\nB=\xff\n").unwrap();
        assert_eq!(note(), ".env is not read: line 2 is not UTF-8");
        fs::write(&path, "A=1\n".repeat(70_000)).unwrap();
        assert_eq!(note(), ".env is not read: it is larger than 256 KiB");
        fs::write(&path, "A=1\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(note().contains("others"), "{}", note());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(note(), "");
    }
}

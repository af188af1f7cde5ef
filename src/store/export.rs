//! Files that are written from the stores for people and other programs: whole or not at all.

use std::fs::{self, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::StoreError;

/// Replaces a file's content in one step: a reader sees the old text or the new one, never a part.
///
/// # Errors
/// Where the file or its folder cannot be written.
pub fn replace(path: &Path, text: &str) -> Result<(), StoreError> {
    replace_known(path, text, None).map(drop)
}

/// The same for a file that others write to as well: where it is no longer what it was at `known`, a [`stamp`], nothing
/// is written. Gives the new stamp, or nothing where nothing was written.
///
/// # Errors
/// Where the file or its folder cannot be written.
pub fn replace_unless_changed(path: &Path, text: &str, known: &str) -> Result<Option<String>, StoreError> {
    replace_known(path, text, Some(known))
}

fn replace_known(path: &Path, text: &str, known: Option<&str>) -> Result<Option<String>, StoreError> {
    let fault = |source: std::io::Error| StoreError::at(path)(source);
    let present = stamp(path)?;
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(Some(present));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    file.sync_data().map_err(fault)?;
    // A rename changes nothing of a stamp: what somebody else does afterwards does not pass for ours.
    let new = stamp_of(&file.metadata().map_err(fault)?);
    drop(file);
    if let Some(known) = known
        && stamp(path)? != known
    {
        return Ok(None);
    }
    fs::rename(&beside, path).map_err(fault)?;
    Ok(Some(new))
}

/// Writes a file that only its owner can read, if there is none yet.
///
/// # Errors
/// `AlreadyExists` where there is one; anything else where it cannot be written.
pub fn write_private_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// What changes when a file does: its size, time and inode; empty where there is no file.
///
/// # Errors
/// Where the file is there and cannot be looked at.
pub fn stamp(path: &Path) -> Result<String, StoreError> {
    match fs::metadata(path) {
        Ok(data) => Ok(stamp_of(&data)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(StoreError::at(path)(source)),
    }
}

fn stamp_of(data: &Metadata) -> String {
    format!("{}:{}:{}:{}", data.size(), data.mtime(), data.mtime_nsec(), data.ino())
}

/// The lines of a file that are not blank, as they are; bytes that are no UTF-8 become replacement characters.
///
/// # Errors
/// Where the file cannot be read.
pub fn read_lines(path: &Path) -> Result<Vec<String>, StoreError> {
    let bytes = fs::read(path).map_err(StoreError::at(path))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Makes a folder that only its owner may enter, where it is not there yet.
///
/// # Errors
/// Where it cannot be made.
pub fn private_dir(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StoreError::at(path)(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flags.jsonl");
        assert_eq!(stamp(&path).unwrap(), "");
        replace(&path, "a\n\nb\n").unwrap();
        let first = stamp(&path).unwrap();
        replace(&path, "a\n\nb\n").unwrap();
        assert_eq!(stamp(&path).unwrap(), first);
        assert_eq!(read_lines(&path).unwrap(), ["a", "b"]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_somebody_else_has_written_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flags.jsonl");
        let first = replace_unless_changed(&path, "ours\n", "").unwrap().unwrap();
        assert_eq!(stamp(&path).unwrap(), first);
        fs::write(&path, "ours\ntheirs\n").unwrap();
        assert_eq!(replace_unless_changed(&path, "ours, later\n", &first).unwrap(), None);
        assert_eq!(read_lines(&path).unwrap(), ["ours", "theirs"]);
        let now = stamp(&path).unwrap();
        let second = replace_unless_changed(&path, "ours\ntheirs\nmore\n", &now).unwrap().unwrap();
        assert_eq!((read_lines(&path).unwrap().len(), stamp(&path).unwrap()), (3, second));
    }

    #[test]
    fn a_line_is_one_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flags.jsonl");
        let long = "x".repeat(9 << 20);
        fs::write(&path, format!("{long}\nnext\n")).unwrap();
        assert_eq!(read_lines(&path).unwrap().first(), Some(&long));
    }
}

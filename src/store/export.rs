//! Files that are written from the stores for people and other programs: whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::StoreError;

/// Longest line of an exported file that is read back, in bytes.
const MAX_LINE_BYTES: u64 = 8 << 20;

/// Replaces a file's content in one step: a reader sees the old text or the new one, never a part.
///
/// # Errors
/// Where the file or its folder cannot be written.
pub fn replace(path: &Path, text: &str) -> Result<(), StoreError> {
    let fault = |source: std::io::Error| StoreError::at(path)(source);
    if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
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
    drop(file);
    fs::rename(&beside, path).map_err(fault)
}

/// What changes when a file does: its size, time and inode; empty where there is no file.
///
/// # Errors
/// Where the file is there and cannot be looked at.
pub fn stamp(path: &Path) -> Result<String, StoreError> {
    match fs::metadata(path) {
        Ok(data) => Ok(format!("{}:{}:{}:{}", data.size(), data.mtime(), data.mtime_nsec(), data.ino())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(StoreError::at(path)(source)),
    }
}

/// The lines of a file that are not blank, as they are; bytes that are no UTF-8 become replacement characters.
///
/// # Errors
/// Where the file cannot be read.
pub fn read_lines(path: &Path) -> Result<Vec<String>, StoreError> {
    let fault = |source: std::io::Error| StoreError::at(path)(source);
    let mut reader = BufReader::new(File::open(path).map_err(fault)?);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = std::io::Read::take(&mut reader, MAX_LINE_BYTES);
        if limited.read_until(b'\n', &mut line).map_err(fault)? == 0 {
            return Ok(lines);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if !text.is_empty() {
            lines.push(text.to_owned());
        }
    }
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
}

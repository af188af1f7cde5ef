//! Unix sockets in folders that others may write to: no links are followed, and a path may be of any length.
//!
//! **Invariant:** what is connected to is the file that was looked at, whatever its name has come to mean since.

use std::fs::{self, Permissions};
use std::io::{self, Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

/// Connects to the socket at `path`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] where a link or anything else than a socket is there; else what the system says.
///
/// # Cancel safety
/// Nothing stays when it is dropped.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let held = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let what = match FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode) {
        FileType::Socket => return UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).await,
        FileType::Symlink => "a link",
        _ => "no socket",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("{} is {what}", path.display())))
}

/// Listens at `path` with this mode, in place of a socket that an earlier process left there. Nobody else may write to
/// the folder.
///
/// # Errors
/// What the system says; a file that is no socket is left alone and is in the way.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path)?,
        _ => {}
    }
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let held = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let listener =
        UnixListener::bind(PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(name))?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_is_connected_to_however_long_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(150));
        fs::create_dir(&deep).unwrap();
        let real = deep.join("real.sock");
        let listener = listen(&real, 0o600).unwrap();
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        connect(&real).await.unwrap();
        listener.accept().await.unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(connect(&link).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(connect(&deep).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(connect(&deep.join("none")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(listen(&path, 0o600).unwrap());
        drop(listen(&path, 0o600).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "kept").unwrap();
        assert_eq!(listen(&path, 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }
}

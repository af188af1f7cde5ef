//! Where the door stands: a Unix socket that is bound into the sandbox, or a TCP port.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::fault::{DoorError, DoorErrorKind, folder};

/// Longest path that fits into a socket's address as it is. Source: unix(7), 108 bytes with the end.
const LONGEST_PATH: usize = 100;

/// A stream of a client.
pub(super) trait Io: AsyncRead + AsyncWrite + Debug + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Debug + Unpin + Send> Io for S {}

/// The door's place.
#[derive(Debug)]
pub enum DoorListener {
    /// A Unix socket at a path; the file goes when the door closes.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file.
        path: PathBuf,
    },
    /// A TCP port.
    Tcp(TcpListener),
}

impl DoorListener {
    /// Makes a Unix socket that every user may connect to; who may reach it is what its folder says. A socket that was left
    /// there is replaced, anything else is not.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn unix(path: &Path) -> Result<Self, DoorError> {
        let bind = || {
            match fs::symlink_metadata(path) {
                Ok(data) if data.file_type().is_socket() => fs::remove_file(path)?,
                Ok(_) => return Err(io::Error::other("something else is there")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let listener = on_short_path(path, |path| UnixListener::bind(path))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        };
        let listener = bind().map_err(|error| DoorError::path(path, DoorErrorKind::Bind(error)))?;
        Ok(Self::Unix { listener, path: path.to_owned() })
    }

    /// Takes a TCP port.
    ///
    /// # Errors
    /// Where it cannot be taken.
    pub async fn tcp(address: SocketAddr) -> Result<Self, DoorError> {
        let bound = TcpListener::bind(address).await;
        bound
            .map(Self::Tcp)
            .map_err(|error| DoorError { what: address.to_string(), kind: DoorErrorKind::Bind(error) })
    }

    /// Where clients reach it.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn address(&self) -> io::Result<DoorAddress> {
        Ok(match self {
            Self::Unix { path, .. } => DoorAddress::Unix(path.clone()),
            Self::Tcp(listener) => DoorAddress::Tcp(listener.local_addr()?),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Self::Unix { listener, .. } => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

impl Drop for DoorListener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // A file that is gone is gone.
            drop(fs::remove_file(path));
        }
    }
}

/// Where clients reach a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl DoorAddress {
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Self::Unix(path) => Box::new(connect_unix(path).await?),
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

/// Connects to a Unix socket, also where its path is longer than a socket's address can be.
///
/// # Errors
/// What the system says.
pub async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return UnixStream::connect(path).await;
    }
    let stream = on_short_path(path, |path| std::os::unix::net::UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Calls with a path that is short enough: the folder is opened, and the path goes through the open file.
fn on_short_path<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    if path.as_os_str().len() <= LONGEST_PATH {
        return act(path);
    }
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let held = OpenOptions::new().read(true).custom_flags(flags).open(folder(path))?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())).join(name);
    act(&short)
}

//! Where the door stands: a Unix socket that is bound into the sandbox, or a TCP port.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::fault::{DoorError, DoorErrorKind};
use crate::socket;

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
        let listener =
            socket::listen(path, 0o666).map_err(|error| DoorError::path(path, DoorErrorKind::Bind(error)))?;
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
            Self::Unix(path) => Box::new(socket::connect(path).await?),
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        })
    }
}

//! Unix sockets that a hostile container made: opened without following links, spoken to within limits.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::UnixStream;

/// Most bytes of an answer.
const MOST: usize = 256 * 1024;

/// Connects to a socket. What is no socket, links included, is refused; the length of the path does not matter.
///
/// # Errors
/// What the system says; [`ErrorKind::InvalidInput`] for what is no socket.
pub(super) async fn connect(path: &Path) -> Result<UnixStream> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FileType, Mode, OFlags, fstat, open};
        use std::os::fd::AsRawFd;
        let held = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let kind = FileType::from_raw_mode(fstat(&held)?.st_mode);
        if kind != FileType::Socket {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{} is no socket", path.display())));
        }
        UnixStream::connect(format!("/proc/self/fd/{}", held.as_raw_fd())).await
    }
    #[cfg(not(target_os = "linux"))]
    {
        use std::os::unix::fs::FileTypeExt;
        if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{} is no socket", path.display())));
        }
        UnixStream::connect(path).await
    }
}

/// One HTTP request through a socket: the status and the body, at most 256 KiB.
///
/// # Errors
/// What the system says; [`ErrorKind::TimedOut`]; [`ErrorKind::InvalidData`] for what is no HTTP.
pub(super) async fn request(
    path: &Path,
    method: &str,
    target: &str,
    token: Option<&SecretString>,
    body: Option<&serde_json::Value>,
    limit: Duration,
) -> Result<(u16, Bytes)> {
    tokio::time::timeout(limit, exchange(path, method, target, token, body))
        .await
        .map_err(|_| Error::from(ErrorKind::TimedOut))?
}

async fn exchange(
    path: &Path,
    method: &str,
    target: &str,
    token: Option<&SecretString>,
    body: Option<&serde_json::Value>,
) -> Result<(u16, Bytes)> {
    let invalid = |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidData, error.to_string());
    let stream = connect(path).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| invalid(&error))?;
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = request.body(Full::new(bytes)).map_err(|error| invalid(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| invalid(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| invalid(&error))?;
        Ok((status, body.to_bytes()))
    };
    let mut asked = std::pin::pin!(asked);
    // The connection moves the bytes; it ends before the answer is whole only where the other side went away.
    tokio::select! {
        answer = &mut asked => answer,
        _ = connection => asked.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_to_a_socket_is_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&real).unwrap();
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(connect(&real).await.is_ok());
        assert!(connect(&link).await.is_err());
        assert_eq!(connect(&dir.path().join("none")).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_path_longer_than_a_socket_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(150));
        std::fs::create_dir(&deep).unwrap();
        let near = dir.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&near).unwrap();
        std::fs::rename(&near, deep.join("s")).unwrap();
        assert!(connect(&deep.join("s")).await.is_ok());
    }
}

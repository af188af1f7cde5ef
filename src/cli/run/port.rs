//! The gateway's port on 127.0.0.1: connections are handed through the sandbox's socket to OpenClaw.
//!
//! The container has no network that a port could be published on. OpenClaw still asks for its token.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::socket;
use crate::supervise::{Shutdown, TaskKind};

/// Most connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Binds the port.
///
/// # Errors
/// Where it is taken.
pub(super) async fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Hands connections on until everything drains.
pub(super) fn serve(listener: TcpListener, path: PathBuf, shutdown: &Shutdown) {
    let inner = shutdown.clone();
    shutdown.spawn("gateway port", TaskKind::Optional, async move {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = inner.drain().cancelled() => return Ok::<(), io::Error>(()),
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
            let path = path.clone();
            inner.spawn("gateway connection", TaskKind::Optional, async move {
                // A connection that breaks is the business of its two ends.
                drop(hand_on(stream, path).await);
                drop(permit);
                Ok::<(), io::Error>(())
            });
        }
    });
}

async fn hand_on(mut outside: TcpStream, path: PathBuf) -> io::Result<()> {
    outside.set_nodelay(true)?;
    let Ok(mut inside) = socket::connect(&path).await else {
        return outside
            .write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
    };
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await.map(|_| ())
}

//! A stand-in for the door: strict, or one that lets everything through. It reaches nothing outside the test.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// The one place that the strict one lets through.
pub(crate) const ALLOWED: (&str, u16) = ("allowed.test", 443);

/// Which it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Strict,
    Permissive,
}

/// Heads of the requests that came, and whether they were let through.
pub(crate) type Seen = Arc<Mutex<Vec<(String, bool)>>>;

/// Opens the door at that socket.
pub(crate) fn open(socket: &Path, mood: Mood) -> Seen {
    use std::os::unix::fs::PermissionsExt;
    let listener = UnixListener::bind(socket).unwrap();
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let seen = Seen::default();
    let to = Arc::clone(&seen);
    #[expect(clippy::disallowed_methods, reason = "a test's own server")]
    drop(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(tokio::spawn(one(stream, mood, Arc::clone(&to))));
        }
    }));
    seen
}

async fn one(mut stream: UnixStream, mood: Mood, seen: Seen) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let first = head.lines().next().unwrap_or_default().to_owned();
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let allowed = mood == Mood::Permissive || target == format!("{}:{}", ALLOWED.0, ALLOWED.1);
    seen.lock().unwrap().push((first.clone(), allowed));
    if !allowed {
        let said = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        drop(stream.write_all(said).await);
        return;
    }
    if !first.starts_with("CONNECT ") {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await);
        return;
    }
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        return;
    }
    let mut first = vec![0; 4096];
    let Ok(count) = stream.read(&mut first).await else { return };
    let right = first[..count].windows(ALLOWED.0.len()).any(|part| part == ALLOWED.0.as_bytes());
    if mood == Mood::Permissive || right {
        // As a server behind it would: a TLS record, or HTTP.
        let said: &[u8] = if first[0] == 22 { &[22, 3, 3, 0, 1, 0] } else { b"HTTP/1.1 200 OK\r\n\r\n" };
        drop(stream.write_all(said).await);
    }
}

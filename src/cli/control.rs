//! Asks a `sentrix run` that is at work: one JSON line there, one back, over its control socket.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::socket;

/// Time for an answer; a probe through the door takes its limits for resolving and connecting.
const TIME: Duration = Duration::from_secs(45);
/// Largest answer, in bytes.
const LARGEST: u64 = 1 << 20;

/// Whether nobody listens there: no run is at work.
pub(super) fn is_nobody(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory))
}

/// Asks, and gives the answer.
///
/// # Errors
/// Where nobody listens ([`is_nobody`]), no answer comes in time, it is none, or it says `error`.
pub(super) async fn ask(path: &Path, question: &Value) -> anyhow::Result<Value> {
    let asked = async {
        let mut stream = socket::connect(path).await?;
        stream.write_all(format!("{question}\n").as_bytes()).await?;
        let mut answer = Vec::new();
        let mut room = [0; 4_096];
        loop {
            let count = stream.read(&mut room).await?;
            let part = room.get(..count).unwrap_or_default();
            let end = part.iter().position(|byte| *byte == b'\n');
            answer.extend_from_slice(part.get(..end.unwrap_or(count)).unwrap_or_default());
            if end.is_some() || count == 0 {
                return Ok::<_, io::Error>(answer);
            }
            if answer.len() as u64 > LARGEST {
                return Err(io::Error::other("the answer is too long"));
            }
        }
    };
    let answer = timeout(TIME, asked).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
    let answer: Value = serde_json::from_slice(&answer).context("the answer of `sentrix run` is no JSON")?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{}", crate::text::plain(error));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_question_has_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        assert!(is_nobody(&ask(&path, &json!({})).await.unwrap_err()));
        let listener = UnixListener::bind(&path).unwrap();
        let serve = async {
            for answer in ["{\"a\":1}\n", "{\"error\":\"no\\u001b\"}\n", "nonsense\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut room = [0; 100];
                let count = stream.read(&mut room).await.unwrap();
                assert_eq!(&room[..count], b"{\"cmd\":\"x\"}\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let asks = async {
            let question = json!({ "cmd": "x" });
            assert_eq!(ask(&path, &question).await.unwrap(), json!({ "a": 1 }));
            assert_eq!(ask(&path, &question).await.unwrap_err().to_string(), "no\\u{1b}");
            assert!(ask(&path, &question).await.is_err());
        };
        tokio::join!(serve, asks);
        drop(listener);
        assert!(is_nobody(&ask(&path, &json!({})).await.unwrap_err()));
    }
}

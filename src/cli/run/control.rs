//! The control socket of a running sandbox: one JSON object a line, answered with one.
//!
//! Only the user who started it can reach it: the socket is 0600 in a folder that is 0700.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use crate::socket;
use crate::supervise::{Shutdown, TaskKind};

/// Longest question, in bytes.
const MAX_LINE: u64 = 64 << 10;
/// Most conversations at once.
const MAX_TALKS: usize = 16;
/// Longest wait for a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who answers.
pub(super) trait Answers: Send + Sync + 'static {
    /// The answer to one question; `{"error": …}` where there is none.
    fn answer(&self, question: Value) -> impl Future<Output = Value> + Send;
}

/// The socket; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens at `path` until everything stops.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub(super) fn open<A: Answers>(path: &Path, answers: Arc<A>, shutdown: &Shutdown) -> io::Result<Self> {
        let listener = socket::listen(path, 0o600)?;
        let talks = Arc::new(Semaphore::new(MAX_TALKS));
        let inner = shutdown.clone();
        shutdown.spawn("control", TaskKind::Optional, async move {
            loop {
                let (stream, _) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a control connection failed");
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                };
                let Ok(permit) = Arc::clone(&talks).try_acquire_owned() else { continue };
                let answers = Arc::clone(&answers);
                inner.spawn("control talk", TaskKind::Optional, async move {
                    let talked = talk(stream, answers.as_ref()).await;
                    drop(permit);
                    talked
                });
            }
            #[expect(
                unreachable_code,
                reason = "the loop ends with the process; the type of its error has to be said"
            )]
            Ok::<(), io::Error>(())
        });
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

async fn talk(stream: UnixStream, answers: &impl Answers) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(MAX_LINE));
    let mut line = String::new();
    loop {
        line.clear();
        lines.get_mut().set_limit(MAX_LINE);
        let Ok(read) = tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(question) => answers.answer(question).await,
            Err(_) => json!({ "error": "a question is one JSON object on a line" }),
        };
        let mut bytes = answer.to_string().into_bytes();
        bytes.push(b'\n');
        tokio::time::timeout(PATIENCE, write.write_all(&bytes)).await.map_err(io::Error::other)??;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Echo;

    impl Answers for Echo {
        async fn answer(&self, question: Value) -> Value {
            json!({ "echo": question })
        }
    }

    #[tokio::test]
    async fn a_question_a_line_is_answered_and_garbage_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let shutdown = Shutdown::new();
        let control = Control::open(&path, Arc::new(Echo), &shutdown).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (read, mut write) = UnixStream::connect(&path).await.unwrap().into_split();
        let mut lines = BufReader::new(read).lines();
        for (question, answer) in [
            ("{\"cmd\":\"x\"}\n", r#"{"echo":{"cmd":"x"}}"#),
            ("garbage\n", r#"{"error":"a question is one JSON object on a line"}"#),
        ] {
            write.write_all(question.as_bytes()).await.unwrap();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), answer);
        }
        drop(control);
        assert!(!path.exists());
        shutdown.abort().cancel();
    }

    #[tokio::test]
    async fn an_endless_question_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let shutdown = Shutdown::new();
        let _control = Control::open(&path, Arc::new(Echo), &shutdown).unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let mut said = String::new();
        // The other side may stop reading before all is written.
        drop(stream.write_all(&vec![b'x'; 200 << 10]).await);
        drop(stream.shutdown().await);
        drop(stream.read_to_string(&mut said).await);
        assert!(said.is_empty() || said.contains("error"), "{said}");
        shutdown.abort().cancel();
    }
}

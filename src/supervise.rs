//! Supervised work and ordered shutdown.
//!
//! **Invariant:** the only room that spawns on its own; a spawned piece of work has a kind, which fixes what its
//! failure means.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the failure of a piece of work means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// It is logged; the rest goes on.
    Optional,
    /// The process shuts down in order.
    Vital,
}

/// Told once to drain, twice to stop at once.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Shutdown {
    /// Not told anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for Ctrl+C and SIGTERM from now on: the first drains, the second stops at once. Where the system does not
    /// let it, both end the process as they always do.
    pub fn listen(&self) {
        let streams =
            signal(SignalKind::interrupt()).and_then(|one| Ok((one, signal(SignalKind::terminate())?)));
        let (mut interrupt, mut terminate) = match streams {
            Ok(streams) => streams,
            Err(error) => {
                tracing::error!(%error, "signals cannot be listened for");
                return;
            }
        };
        let shutdown = self.clone();
        self.spawn("signals", TaskKind::Optional, async move {
            // Both streams live as long as the task: a second signal right after the first is not lost.
            while let Some(()) =
                tokio::select! { got = interrupt.recv() => got, got = terminate.recv() => got }
            {
                if shutdown.drain.is_cancelled() {
                    shutdown.abort.cancel();
                    break;
                }
                tracing::info!("draining after a signal");
                shutdown.drain.cancel();
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Cancelled when no new work should start.
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when everything should stop at once.
    pub fn abort(&self) -> &CancellationToken {
        &self.abort
    }

    /// Whether a vital piece of work failed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Runs a piece of work beside the caller until it ends or everything stops.
    pub fn spawn<F, E>(&self, name: &'static str, kind: TaskKind, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send,
    {
        let shutdown = self.clone();
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        let handle = tokio::spawn(async move {
            let aborted = shutdown.abort.clone();
            let result = tokio::select! {
                result = work => result,
                () = aborted.cancelled() => Ok(()),
            };
            if let Err(error) = result {
                tracing::error!(task = name, %error, "supervised work failed");
                if kind == TaskKind::Vital {
                    shutdown.failed.store(true, Ordering::Relaxed);
                    shutdown.drain.cancel();
                }
            }
        });
        drop(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_failure_drains_and_an_optional_one_does_not() {
        let shutdown = Shutdown::new();
        shutdown.spawn("optional", TaskKind::Optional, async { Err("no") });
        tokio::task::yield_now().await;
        assert!(!shutdown.drain().is_cancelled());
        shutdown.spawn("vital", TaskKind::Vital, async { Err("no") });
        shutdown.drain().cancelled().await;
        assert!(shutdown.failed());
    }
}

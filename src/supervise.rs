//! Supervised work and ordered shutdown.
//!
//! **Invariant:** the only room that spawns on its own; a spawned piece of work has a kind, which fixes what its
//! failure means.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// Listens for Ctrl+C and SIGTERM: the first drains, the second stops at once.
    pub fn listen(&self) {
        let shutdown = self.clone();
        self.spawn("signals", TaskKind::Optional, async move {
            loop {
                signal().await;
                if shutdown.drain.is_cancelled() {
                    shutdown.abort.cancel();
                    return Ok::<(), std::convert::Infallible>(());
                }
                tracing::info!("draining after a signal");
                shutdown.drain.cancel();
            }
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

async fn signal() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        drop(interrupt.await);
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
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

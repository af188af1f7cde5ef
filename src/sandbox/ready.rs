//! Waiting until OpenClaw is ready.

use std::time::Duration;

use super::container::State;
use super::engine::Engine;
use super::error::{SandboxError, SandboxErrorKind};
use super::layout::Layout;
use super::socket;
use crate::clock::SharedClock;

/// How long OpenClaw may take to get ready.
///
/// Source: 12 to 67 s were measured with 2026.9.6, by how busy the machine is.
pub const READY: Duration = Duration::from_mins(3);
/// How often the gateway is asked.
const ASK: Duration = Duration::from_millis(100);
/// How often the container is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The container runs; its gateway's socket is not there yet.
    Starting,
    /// The socket is there; OpenClaw does not listen behind it yet.
    Relaying,
    /// OpenClaw answers, and is not ready.
    Loading,
    /// Ready.
    Ready,
}

impl Stage {
    /// For people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting the container",
            Self::Relaying => "starting OpenClaw",
            Self::Loading => "OpenClaw is loading",
            Self::Ready => "ready",
        }
    }
}

impl Engine {
    /// Waits until OpenClaw's gateway says that it is ready, and gives how long that took. `progress` hears of the stage
    /// at least twice a second. A container that ends is noticed at once.
    ///
    /// # Errors
    /// [`SandboxErrorKind::Died`] with the reason and the last lines, [`SandboxErrorKind::Timeout`],
    /// [`SandboxErrorKind::NotFound`].
    ///
    /// # Cancel safety
    /// Nothing is changed; it can be dropped at any moment and called again.
    pub async fn wait_ready(
        &self,
        layout: &Layout,
        limit: Duration,
        clock: &SharedClock,
        mut progress: impl FnMut(Stage, Duration),
    ) -> Result<Duration, SandboxError> {
        let name = layout.name();
        let began = clock.monotonic();
        let restarts = self.status(name).await?.restarts;
        let mut looked = began;
        let mut restarted = false;
        let mut told = None;
        loop {
            let stage = probe(layout).await;
            let now = clock.monotonic();
            let took = now.saturating_sub(began);
            // While it loads it is sometimes too busy to answer: that is no step back.
            let shown = told.map_or(stage, |(last, _): (Stage, Duration)| last.max(stage));
            if told.is_none_or(|(last, at)| last != shown || now.saturating_sub(at) >= LOOK) {
                progress(shown, took);
                told = Some((shown, now));
            }
            if stage == Stage::Ready {
                return Ok(took);
            }
            if stage == Stage::Starting || restarted || now.saturating_sub(looked) >= LOOK {
                looked = now;
                let status = self.status(name).await?;
                // One that the engine has started again says nothing of how it ended: it is looked at closely until it
                // ends once more, or gets ready after all.
                restarted = status.restarts > restarts;
                if matches!(status.state, State::Exited | State::Restarting) {
                    return Err(SandboxError {
                        doing: format!("start {}", name.container()),
                        kind: SandboxErrorKind::Died(Box::new(self.death(name, &status).await)),
                    });
                }
            }
            if took >= limit {
                return Err(SandboxError {
                    doing: format!("wait for OpenClaw in {}", name.container()),
                    kind: SandboxErrorKind::Timeout(limit),
                });
            }
            tokio::time::sleep(ASK).await;
        }
    }

    /// Whether OpenClaw says that it is ready now.
    pub async fn is_ready(&self, layout: &Layout) -> bool {
        probe(layout).await == Stage::Ready
    }
}

/// Asks the gateway.
///
/// Source: OpenClaw 2026.9.6, `GET /readyz` is 503 until it is ready, then 200, and needs no token.
async fn probe(layout: &Layout) -> Stage {
    let socket = layout.gateway_socket();
    match socket::request(&socket, "GET", "/readyz", None, None, Duration::from_secs(2)).await {
        Ok((200, _)) => Stage::Ready,
        Ok(_) => Stage::Loading,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Stage::Starting,
        Err(_) => Stage::Relaying,
    }
}

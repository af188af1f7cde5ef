//! From an engine to a sandbox whose OpenClaw is ready.

use std::time::Duration;

use super::view::View;
use crate::cli::failure::Failure;
use crate::cli::sandbox::failure as sandbox_failure;
use crate::clock::SharedClock;
use crate::sandbox::{ContainerSpec, Engine, Found, Layout, READY, Stage, State};
use crate::supervise::Shutdown;

/// Makes and starts the container.
///
/// # Errors
/// Where the engine or the options do not let it.
pub(super) async fn start(engine: &Engine, spec: &ContainerSpec, layout: &Layout) -> Result<String, Failure> {
    let id = engine.create(spec, layout).await.map_err(|error| sandbox_failure(&error))?;
    engine.start(layout.name()).await.map_err(|error| sandbox_failure(&error))?;
    Ok(id)
}

/// Waits until OpenClaw is ready, and says how it goes.
///
/// # Errors
/// Where it ends, or takes too long; [`Failure::Interrupted`] after a signal.
pub(super) async fn wait(
    engine: &Engine,
    layout: &Layout,
    clock: &SharedClock,
    view: &View,
    shutdown: &Shutdown,
) -> Result<Duration, Failure> {
    let mut last = None;
    let progress = |stage: Stage, took: Duration| {
        if view.is_live() {
            view.doing(&format!("{} ({} s)", stage.word(), took.as_secs()));
        } else if last != Some(stage) && stage != Stage::Ready {
            view.doing(stage.word());
            last = Some(stage);
        }
    };
    tokio::select! {
        ready = engine.wait_ready(layout, READY, clock, progress) => ready.map_err(|error| sandbox_failure(&error)),
        () = shutdown.drain().cancelled() => Err(Failure::Interrupted),
    }
}

/// Whether a container that is there can be gone on with.
pub(super) fn is_alive(found: &Found) -> bool {
    matches!(found.state, State::Running | State::Paused | State::Restarting)
}

//! The Docker engine that the user's environment names.

use std::path::PathBuf;

use super::failure::Failure;
use super::run::sandbox_failure;
use crate::config::{self, env};
use crate::sandbox::{Engine, EngineHints};

/// Finds the engine.
///
/// # Errors
/// [`Failure::Unavailable`] with what was tried and what to do.
pub(super) async fn find() -> Result<Engine, Failure> {
    let hints = EngineHints {
        docker_host: env::get(env::DOCKER_HOST),
        docker_context: env::get(env::DOCKER_CONTEXT),
        docker_config: env::get(env::DOCKER_CONFIG).map(PathBuf::from),
        home: env::get(env::HOME).map(PathBuf::from),
        runtime_dir: env::get(env::XDG_RUNTIME_DIR).map(PathBuf::from),
    };
    Engine::find(&hints).await.map_err(sandbox_failure)
}

/// The folder of all sandboxes.
///
/// # Errors
/// [`Failure::Usage`] where nothing says where it is.
pub(super) fn sandboxes() -> Result<PathBuf, Failure> {
    config::sandboxes().ok_or_else(|| {
        Failure::Usage(String::from("neither XDG_STATE_HOME nor HOME is set: there is no place for sandboxes"))
    })
}

//! What all verbs about sandboxes need: the engine, where sandboxes are, and the map from their errors to exit codes.

use std::path::PathBuf;
use std::str::FromStr;

use super::failure::Failure;
use crate::config::{self, env};
use crate::sandbox::{Engine, EngineHints, SandboxError, SandboxErrorKind};

/// What the environment says about the engine.
pub(super) fn hints() -> EngineHints {
    EngineHints {
        docker_host: env::get(env::DOCKER_HOST),
        docker_context: env::get(env::DOCKER_CONTEXT),
        docker_config: env::get(env::DOCKER_CONFIG).map(PathBuf::from),
        home: env::get(env::HOME).map(PathBuf::from),
        runtime_dir: env::get(env::XDG_RUNTIME_DIR).map(PathBuf::from),
    }
}

/// The engine, or exit 3 with what was tried and what to do.
pub(super) async fn engine() -> Result<Engine, Failure> {
    Engine::find(&hints()).await.map_err(|error| failure(&error))
}

/// The folder under which each sandbox has its own.
pub(super) fn root() -> Result<PathBuf, Failure> {
    config::sandboxes().ok_or_else(|| {
        Failure::Usage(String::from("neither XDG_STATE_HOME nor HOME says where sandboxes go"))
    })
}

/// An argument as its own type; clap says which it was, so the reason is enough.
pub(super) fn parsed<T: FromStr<Err = SandboxError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: SandboxError| error.kind.to_string())
}

/// Where an error of the sandbox leads.
pub(super) fn failure(error: &SandboxError) -> Failure {
    let said = format!("failed to {error}");
    match error.kind {
        SandboxErrorKind::Options(_) => Failure::Usage(said),
        SandboxErrorKind::InTheWay(_) => Failure::Refused(said),
        _ => Failure::Unavailable(anyhow::anyhow!(said)),
    }
}

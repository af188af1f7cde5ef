//! What can go wrong with a sandbox.

use std::path::Path;

use bollard::errors::Error as Docker;

use super::engine::Diagnosis;
use crate::text;

/// Why something with a sandbox failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {kind}")]
pub struct SandboxError {
    /// What was being done, with the file, container or image it was done to.
    pub doing: String,
    /// What kind of failure it is.
    #[source]
    pub kind: SandboxErrorKind,
}

/// Kinds of failures, by what the caller does about them.
#[derive(Debug, thiserror::Error)]
pub enum SandboxErrorKind {
    /// There is no Docker engine to speak to; the text says what was tried and what to do.
    #[error("{0}")]
    NoEngine(Box<Diagnosis>),
    /// The engine, container, network or image that was asked for is not there.
    #[error("not found: {0}")]
    NotFound(String),
    /// A container or file of that name is there and is not ours, or is in use.
    #[error("{0}")]
    InTheWay(String),
    /// The options cannot be used; the text says which and why.
    #[error("{0}")]
    Options(String),
    /// The container ended while it was needed.
    #[error("{0}")]
    Died(Box<Death>),
    /// It took longer than it may.
    #[error("not done after {0:?}")]
    Timeout(std::time::Duration),
    /// The engine refused, or its answer makes no sense.
    #[error("the Docker engine says: {0}")]
    Engine(String),
    /// The build of the image failed; its last lines.
    #[error("the build failed: {0}")]
    Build(String),
    /// A file or folder of the host.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Exit code of its first process; 137 with `out_of_memory` where the kernel ended it.
    pub exit_code: i64,
    /// Whether the memory limit ended it.
    pub out_of_memory: bool,
    /// Its last lines, safe for a terminal.
    pub last_lines: Vec<String>,
}

impl Death {
    /// What the exit code means, and what to do.
    ///
    /// Source: OpenClaw 2026.9.6 exits 78 for a configuration it refuses; 137 is 128 + SIGKILL.
    pub fn meaning(&self) -> String {
        match self.exit_code {
            _ if self.out_of_memory => {
                String::from("it needed more memory than its limit: give it more with --memory (at least 2g)")
            }
            78 if self.last_lines.iter().any(|line| line.contains("lease") && line.contains("held by")) => {
                String::from(
                    "an OpenClaw that was killed while it started still holds the state; start again in a minute",
                )
            }
            78 => String::from("OpenClaw refused its configuration"),
            137 => String::from("it was killed; without our asking, that is nearly always the memory limit"),
            127 => String::from("OpenClaw is not in the image: build it again with `sentrix build`"),
            143 => String::from("it was told to stop"),
            74 => String::from("its relays to the door and the gateway could not be opened"),
            code => format!("exit code {code}"),
        }
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the container ended: {}", self.meaning())?;
        for line in &self.last_lines {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

impl SandboxError {
    /// Options that cannot be used, with the reason.
    pub fn options(doing: impl Into<String>, why: impl Into<String>) -> Self {
        Self { doing: doing.into(), kind: SandboxErrorKind::Options(why.into()) }
    }

    /// A failure at a file.
    pub(super) fn io(doing: &str, path: &Path, error: std::io::Error) -> Self {
        Self { doing: format!("{doing} {}", path.display()), kind: SandboxErrorKind::Io(error) }
    }

    /// What the engine's library said, by what the caller does about it. The engine's words are made safe for a
    /// terminal: a hostile image can put its own into them.
    pub(super) fn docker(doing: impl Into<String>, error: &Docker) -> Self {
        let kind = match error {
            Docker::DockerResponseServerError { status_code: 404, message } => {
                SandboxErrorKind::NotFound(said(message))
            }
            Docker::DockerResponseServerError { status_code: 409, message } => {
                SandboxErrorKind::InTheWay(said(message))
            }
            Docker::DockerResponseServerError { message, .. } => SandboxErrorKind::Engine(said(message)),
            Docker::DockerStreamError { error } => SandboxErrorKind::Engine(said(error)),
            other => SandboxErrorKind::Engine(said(&text::causes(other))),
        };
        Self { doing: doing.into(), kind }
    }

    /// Whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, SandboxErrorKind::NotFound(_))
    }
}

/// Words of the engine, safe and short.
fn said(message: &str) -> String {
    text::bounded(&text::plain(message.trim()), 600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_explained_with_its_last_lines() {
        let death =
            Death { exit_code: 78, out_of_memory: false, last_lines: vec!["tools: unknown key".into()] };
        let said =
            SandboxError { doing: "start sentrix-a".into(), kind: SandboxErrorKind::Died(Box::new(death)) };
        assert_eq!(
            said.to_string(),
            "start sentrix-a: the container ended: OpenClaw refused its configuration\n  | tools: unknown key"
        );
        let oom = Death { exit_code: 137, out_of_memory: true, last_lines: vec![] };
        assert!(oom.to_string().contains("--memory"));
    }

    #[test]
    fn words_of_the_engine_cannot_move_the_cursor() {
        let error = Docker::DockerResponseServerError { status_code: 500, message: "a\u{1b}[2Jb".into() };
        assert!(!SandboxError::docker("x", &error).to_string().contains('\u{1b}'));
    }
}

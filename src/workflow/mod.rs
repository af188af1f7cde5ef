//! Where graphs, prompts, node functions, models and checkpoints come together: [`Library`] finds graph files,
//! [`Host`] checks and runs them.
//!
//! **Invariant:** knows no particular workflow. Patrol and police register their functions and call in from above.

mod core;
mod host;
mod library;
mod prompts;
mod rehearse;
mod testing;

use std::path::{Path, PathBuf};

use crate::engine::{CheckpointError, EngineError};
use crate::graph::Faults;
use crate::prompt::PromptError;

pub use host::Host;
pub use library::{GraphSource, Library, eject};
pub use prompts::ModelPrompts;
pub use rehearse::{Rehearsal, Script, Spend, Turn, rehearse};
pub use testing::{TestOutcome, TestReport};

/// Why a workflow could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowError {
    /// A graph file has faults; their text is shown as it is.
    #[error("graph `{name}`: {faults}")]
    Faults {
        /// The graph.
        name: String,
        /// All of them.
        faults: Box<Faults>,
    },
    /// Graphs that use each other.
    #[error("graphs that use each other without end: {path}")]
    Circle {
        /// The graphs, in order.
        path: String,
    },
    /// There is no graph of that name.
    #[error("no graph `{name}` (there are: {known}), and no file of that name")]
    NoSuchGraph {
        /// What was asked for.
        name: String,
        /// The graphs there are.
        known: String,
    },
    /// A file or folder cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder cannot be written.
    #[error("write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there already.
    #[error("{path} is there already; --force replaces it")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A prompt template is at fault.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The run failed.
    #[error(transparent)]
    Engine(Box<EngineError>),
    /// The store of runs failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tests beside a graph cannot be read.
    #[error("{origin}: {message}")]
    Tests {
        /// The file.
        origin: String,
        /// What is wrong, with its place.
        message: String,
    },
}

impl From<EngineError> for WorkflowError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl WorkflowError {
    fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    fn write(path: &Path, source: std::io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

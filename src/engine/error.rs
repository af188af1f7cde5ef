//! What can go wrong: in a node, in a run, in the store of checkpoints.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Failure, InterruptCause};
use crate::graph::ExprError;
use crate::id::RunId;

/// Why an attempt of a task failed, as far as it decides whether another one is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// May work next time: a connection that broke, a busy service.
    Transient,
    /// The other side asks for patience.
    RateLimit,
    /// The attempt took longer than its node allows.
    Timeout,
    /// An answer that cannot be read.
    Malformed,
    /// The other side will not do it.
    Refused,
    /// Will fail again the same way.
    Permanent,
    /// The node panicked.
    Panic,
    /// A budget is spent.
    Budget,
}

impl ErrorClass {
    /// Every class, in the order in which they are documented.
    pub const ALL: [Self; 8] = [
        Self::Transient,
        Self::RateLimit,
        Self::Timeout,
        Self::Malformed,
        Self::Refused,
        Self::Permanent,
        Self::Panic,
        Self::Budget,
    ];

    /// Its name in a graph file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::RateLimit => "rate_limit",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Permanent => "permanent",
            Self::Panic => "panic",
            Self::Budget => "budget",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ErrorClass {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(())
    }
}

/// Why an attempt of a task failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    /// Decides about retries.
    pub class: ErrorClass,
    /// What happened; shown and stored, so without secrets.
    pub message: String,
    /// How long the other side asked to wait. The node's longest wait is the limit.
    pub retry_after: Option<Duration>,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// Not an error at all: a run inside the task came to rest and goes on with it.
    pub(crate) suspended: Option<InterruptCause>,
}

impl NodeError {
    /// An error of a class.
    pub fn new(class: ErrorClass, message: impl fmt::Display) -> Self {
        Self { class, message: message.to_string(), retry_after: None, source: None, suspended: None }
    }

    /// An error that may not happen again.
    pub fn transient(message: impl fmt::Display) -> Self {
        Self::new(ErrorClass::Transient, message)
    }

    /// An error that will happen again.
    pub fn permanent(message: impl fmt::Display) -> Self {
        Self::new(ErrorClass::Permanent, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with the wait that the other side asked for.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// Why a run could not start, go on or end.
#[derive(Debug)]
pub struct EngineError {
    /// The run; it can be resumed unless its definition is at fault.
    pub run: RunId,
    /// Name of its graph; empty where the run is not known.
    pub graph: String,
    /// What happened.
    pub kind: EngineErrorKind,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} of graph `{}`: {}", self.run, self.graph, self.kind)
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The kind is part of this error's own text; what caused it comes next.
        self.kind.source()
    }
}

/// What stopped a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineErrorKind {
    /// The run's input does not fit the graph.
    #[error("input `{channel}`: {message}")]
    Input {
        /// The state channel, or the unknown name.
        channel: String,
        /// What is wrong with it.
        message: String,
    },
    /// A node names a function that is not registered.
    #[error("node `{node}`: no task `{task}` is registered")]
    MissingTask {
        /// The node.
        node: String,
        /// The name it gives.
        task: String,
    },
    /// A prompt node, and the host gave no runner for prompts.
    #[error("node `{node}`: this engine runs no prompts")]
    NoPrompts {
        /// The node.
        node: String,
    },
    /// A task failed, and no attempt is left.
    #[error("node `{node}`{} failed after {attempts} attempt(s), {class}: {message}", show_item(*.item), class = .error.class, message = .error.message)]
    Task {
        /// The node.
        node: String,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// How often it was tried.
        attempts: u32,
        /// The last attempt's error.
        error: Box<NodeError>,
    },
    /// The list of a fan-out is no list.
    #[error("node `{node}`: channel `{channel}` holds no list to fan out over")]
    NoList {
        /// The node.
        node: String,
        /// The state channel.
        channel: String,
    },
    /// A condition could not be evaluated.
    #[error("node `{node}`: condition `{condition}`")]
    Condition {
        /// The node.
        node: String,
        /// Its text.
        condition: String,
        /// Why.
        source: ExprError,
    },
    /// A write that the channel's reducer cannot take.
    #[error("node `{node}`{} wrote to channel `{channel}`: {message}", show_item(*.item))]
    Reduce {
        /// The node.
        node: String,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// The state channel.
        channel: String,
        /// Why.
        message: String,
    },
    /// A node would be visited once more than its graph allows, and its edge has no other way.
    #[error(
        "node `{node}` was visited {visits} time(s), the most its graph allows, and there is no other way to go"
    )]
    MaxVisits {
        /// The node.
        node: String,
        /// How often.
        visits: u32,
    },
    /// A node failed the same way again and again.
    #[error("node `{node}` failed {times} times in a row the same way, {class}: {message}", class = .failure.class, message = .failure.message)]
    Breaker {
        /// The node.
        node: String,
        /// How often.
        times: u32,
        /// How it failed.
        failure: Box<Failure>,
    },
    /// The run has used what its budget allows.
    #[error("the run has used its budget of {0}")]
    Budget(String),
    /// A graph with secret channels, and the engine has no key to seal them with.
    #[error("channel `{channel}` is secret, and there is no key to seal it with")]
    NoKey {
        /// The state channel.
        channel: String,
    },
    /// A gate that cannot be answered like this.
    #[error("gate `{gate}`: {message}")]
    Gate {
        /// The gate's id, or what was given for one.
        gate: String,
        /// Why.
        message: String,
    },
    /// A step or node that the run does not have.
    #[error("{0}")]
    NoSuchPlace(String),
    /// The run reached the graph's limit of supersteps.
    #[error("not done after {0} supersteps, the most its graph allows")]
    MaxSteps(u32),
    /// The run reached the graph's limit of time.
    #[error("not done after {0:?}, the most its graph allows")]
    Deadline(Duration),
    /// The checkpoint store failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's own definition cannot be read any more.
    #[error("its stored definition")]
    Definition(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored of the run does not fit together.
    #[error("its stored log, entry {seq}: {message}")]
    Log {
        /// The entry.
        seq: u32,
        /// What is wrong.
        message: String,
    },
    /// A reducer that is not registered.
    #[error("no reducer `{0}` is registered")]
    MissingReducer(String),
    /// The run cannot go on with another version of its graph.
    #[error("it cannot go on with the present version of its graph: {0}")]
    Upgrade(String),
    /// A graph made in code that does not hold together.
    #[error("{0}")]
    Graph(String),
}

impl EngineErrorKind {
    /// The error of a run.
    pub(crate) fn of(self, run: RunId, graph: &str) -> EngineError {
        EngineError { run, graph: graph.to_owned(), kind: self }
    }

    /// The class of a failed task, `budget` where the run's is spent, none for other faults.
    pub const fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Task { error, .. } => Some(error.class),
            Self::Budget(_) => Some(ErrorClass::Budget),
            _ => None,
        }
    }
}

/// Shows the item of a fan-out, counted from 0 as everywhere.
fn show_item(item: Option<u32>) -> String {
    item.map(|item| format!(" (item {item})")).unwrap_or_default()
}

/// Why the checkpoint store could not do something.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct CheckpointError {
    /// The run it was about.
    pub run: RunId,
    /// What happened.
    pub kind: CheckpointErrorKind,
}

/// What a checkpoint store can fail with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointErrorKind {
    /// No such run.
    #[error("no such run is stored")]
    NotFound,
    /// The run exists already.
    #[error("a run with this id exists already")]
    Exists,
    /// Somebody is running it right now.
    #[error("the run is held by {0}")]
    Held(String),
    /// The gate has its answer.
    #[error("the gate was answered already, by {0}")]
    Answered(String),
    /// Another process has taken the run over; what this one does is no longer stored.
    #[error("the run was taken over by another process")]
    Lost,
    /// The store itself failed: disk full, no permission.
    #[error("checkpoint not written: {0}")]
    Storage(String),
    /// The store could not be read.
    #[error("checkpoint not read: {0}")]
    Unreadable(String),
}

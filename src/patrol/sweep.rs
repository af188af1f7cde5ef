//! What every node of a sweep has at hand.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::clock::SharedClock;
use crate::detect::Detectors;
use crate::model::Models;
use crate::prompt::Prompts;
use crate::store::patrol_state::{PatrolStore, Versions};

/// What the user decides about patrols.
#[derive(Clone, Debug, PartialEq)]
pub struct PatrolSettings {
    /// Lowest confidence, 0 to 1, that a model's vote needs to count.
    pub confidence_threshold: f64,
    /// Most tokens of one answer.
    pub max_tokens: u32,
    /// Attempts after which a turn is given up as unreviewed.
    pub max_attempts: u32,
    /// Most characters of log text in one question to a model.
    pub window_chars: usize,
    /// Whether what the detectors call sensitive is masked before a model sees it.
    pub redact: bool,
    /// What the record of cleared turns names.
    pub versions: Versions,
}

/// What the nodes of the patrol graph work with.
#[derive(Debug)]
pub struct PatrolDeps {
    /// Where the log files are.
    pub logs: PathBuf,
    /// Where `patrol_flags.jsonl` goes.
    pub flags_export: PathBuf,
    /// What was read, reviewed and flagged.
    pub store: Arc<PatrolStore>,
    /// The deterministic tier.
    pub detectors: Detectors,
    /// The models, by role.
    pub models: Models,
    /// The prompt templates.
    pub prompts: Arc<Prompts>,
    /// What the user decided.
    pub settings: PatrolSettings,
    /// The time.
    pub clock: SharedClock,
    /// A permit a core. Agents may be many, but each scan that runs holds its thread's caches of the rules' automata.
    pub cores: Semaphore,
}

/// A permit for each core of the machine.
pub fn cores() -> Semaphore {
    Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from))
}

/// Shared by every node function.
pub(super) type SharedDeps = Arc<PatrolDeps>;

impl PatrolDeps {
    /// Now, RFC 3339 in UTC with milliseconds.
    pub fn now(&self) -> String {
        rfc3339(self.clock.now())
    }

    /// Whether models review as well. With any model configured they do, also where one cannot be called just now or
    /// a graph names a role without one: such turns wait, and do not pass for reviewed on the word of the rules.
    pub(super) fn asks_models(&self) -> bool {
        self.models.roles().next().is_some()
    }
}

/// A time as RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(at: jiff::Timestamp) -> String {
    format!("{at:.3}")
}

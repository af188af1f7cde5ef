//! How one run differs from another, and what it comes to.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::cassette::Cassette;
use super::event::{EventSink, GateView, Streams};
use super::{GateAnswer, PromptTexts, Usage};
use crate::graph::{Budget, Durability, Graph};
use crate::id::RunId;

/// Stops a run from outside. Clones stop the same run; one control may stop many.
#[derive(Clone, Debug, Default)]
pub struct RunControl {
    cancel: CancellationToken,
    drain: CancellationToken,
    answers: Arc<Mutex<Vec<(RunId, GateAnswer)>>>,
}

impl RunControl {
    /// A control that nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A control that also cancels when `cancel` does, and drains when `drain` does.
    pub fn under(cancel: &CancellationToken, drain: &CancellationToken) -> Self {
        Self { cancel: cancel.child_token(), drain: drain.child_token(), answers: Arc::default() }
    }

    /// Stops at once: tasks in flight are dropped, and a resume runs them again.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Stops at the next end of a superstep: nothing is run twice on a resume.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Answers a gate of a run that this control runs, without a store.
    pub fn answer(&self, run: RunId, answer: GateAnswer) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push((run, answer));
    }

    pub(crate) fn answer_to(&self, run: RunId, gate: &str) -> Option<GateAnswer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .iter()
            .find(|(of, answer)| *of == run && answer.gate == gate)
            .map(|(_, answer)| answer.clone())
    }

    pub(crate) const fn drain_token(&self) -> &CancellationToken {
        &self.drain
    }

    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }
}

/// How one run differs from another.
#[derive(Clone, Default)]
pub struct RunOptions {
    /// The id of a new run; a fresh one without it. A resume ignores it.
    pub run_id: Option<RunId>,
    /// Stops it from outside.
    pub control: RunControl,
    /// Who hears of its events.
    pub events: Option<Arc<dyn EventSink>>,
    /// The texts of its graph's prompts, kept with a new run. A resume uses those that were kept.
    pub prompt_texts: Arc<PromptTexts>,
    /// What its checkpoints survive, if not what the graph says. A resume goes on as the run began.
    pub durability: Option<Durability>,
    /// Which events are published; those that hold whole states or pieces of answers only if they are asked for.
    pub streams: Streams,
    /// Limits that take the place of those in the graph's budget, where they are set: also for a resume.
    pub budget: Budget,
    /// Results that stand for the tasks': none of them runs.
    pub cassette: Option<Arc<Cassette>>,
    /// The graph that a resume goes on with instead of the run's own, with the texts of its prompts in `prompt_texts`.
    pub upgrade: Option<Arc<Graph>>,
}

/// The run whose task a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent {
    pub(crate) run: RunId,
    /// What is left of its budget.
    pub(crate) budget: Budget,
}

/// How a run came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done,
    /// It was stopped, and can be resumed.
    Interrupted(InterruptCause),
}

/// Who stopped a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InterruptCause {
    /// [`RunControl::cancel`].
    Cancelled,
    /// [`RunControl::drain`].
    Drained,
    /// Nobody: it waits for answers to its gates.
    Gate,
}

impl InterruptCause {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
            Self::Gate => "waits for an answer",
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOutcome {
    /// Its id.
    pub run: RunId,
    /// How it came to rest.
    pub status: Outcome,
    /// The state, by channel name; secrets masked.
    pub state: Map<String, Value>,
    pub(crate) secrets: Map<String, Value>,
    /// What it has used, over all its parts.
    pub used: Usage,
    /// The gates it waits at.
    pub gates: Vec<GateView>,
    /// Finished supersteps, over all its parts.
    pub steps: u32,
}

impl Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

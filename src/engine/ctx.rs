//! What a task knows of the run it is part of.

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::PromptTexts;
use super::event::{Event, Publisher};
use super::plan::Plan;
use crate::clock::{self, SharedClock};
use crate::graph::NodeIdx;
use crate::id::RunId;

/// What all tasks of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) run: RunId,
    pub(crate) plan: Plan,
    pub(crate) cancel: CancellationToken,
    pub(crate) publisher: Publisher,
    pub(crate) clock: SharedClock,
    pub(crate) prompts: Arc<PromptTexts>,
}

/// What a task knows of its place in a run.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeIdx,
    pub(crate) step: u32,
    pub(crate) item: Option<u32>,
    pub(crate) attempt: u32,
}

impl Ctx {
    /// A context outside any run, to call a node's function by itself, as tests do.
    pub fn detached() -> Self {
        let shared = Shared {
            run: RunId::fresh(),
            plan: Plan::detached(),
            cancel: CancellationToken::new(),
            publisher: Publisher::none(),
            clock: clock::system(),
            prompts: Arc::default(),
        };
        Self { shared: Arc::new(shared), node: NodeIdx(0), step: 0, item: None, attempt: 1 }
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.shared.run
    }

    /// Name of the run's graph.
    pub fn graph(&self) -> &str {
        &self.shared.plan.graph.name
    }

    /// Name of the node.
    pub fn node(&self) -> &str {
        self.shared.plan.name(self.node)
    }

    /// Number of the superstep, from 0.
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// Which item of a fan-out this is, from 0.
    pub const fn item(&self) -> Option<u32> {
        self.item
    }

    /// Which attempt this is, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A key for whatever this task does to the outside: the same over retries and resumes of the same task,
    /// different for every other task.
    pub fn idempotency_key(&self) -> Uuid {
        let item = self.item.map_or_else(String::new, |item| item.to_string());
        let name = format!("{}\u{1f}{}\u{1f}{item}", self.step, self.node());
        Uuid::new_v5(&self.shared.run.uuid(), name.as_bytes())
    }

    /// Fires when the run is to stop at once.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.shared.cancel
    }

    /// The run's clock.
    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// Publishes an event of the task's own; costs nothing where nobody listens.
    pub fn emit(&self, value: Value) {
        self.shared.publisher.publish(|| Event::Custom {
            step: self.step,
            node: self.shared.plan.shared_name(self.node),
            item: self.item,
            value,
        });
    }
}

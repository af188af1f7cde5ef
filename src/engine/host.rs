//! The engine as its host sees it: made once, runs and resumes graphs, stops them, shows their history.

use std::error::Error;
use std::fmt::{self, Debug};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::ctx::Shared;
use super::event::{Event, EventSink, Publisher};
use super::log::{self, Position, RunLog};
use super::plan::Plan;
use super::run::Run;
use super::state::State;
use super::{
    CheckpointError, CheckpointErrorKind, Checkpointer, Claim, Definition, EngineError, EngineErrorKind,
    NewRun, PromptRunner, PromptTexts, Registry, RunFilter, RunRecord, RunStatus, RunSummary, StepRecord,
};
use crate::clock::{self, SharedClock};
use crate::graph::{Durability, Graph};
use crate::id::RunId;

/// Runs graphs. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    prompts: Option<Arc<dyn PromptRunner>>,
    store: Option<Arc<dyn Checkpointer>>,
    clock: SharedClock,
}

/// Makes an [`Engine`].
#[derive(Default)]
#[must_use]
pub struct EngineBuilder {
    registry: Registry,
    prompts: Option<Arc<dyn PromptRunner>>,
    store: Option<Arc<dyn Checkpointer>>,
    clock: Option<SharedClock>,
}

impl EngineBuilder {
    /// The functions that graphs may name.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Who answers prompt nodes.
    pub fn prompts(mut self, prompts: Arc<dyn PromptRunner>) -> Self {
        self.prompts = Some(prompts);
        self
    }

    /// Who keeps checkpoints; without one nothing is kept and nothing can be resumed.
    pub fn checkpointer(mut self, store: Arc<dyn Checkpointer>) -> Self {
        self.store = Some(store);
        self
    }

    /// Where the time comes from.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        let clock = self.clock.unwrap_or_else(clock::system);
        let inner = Inner { registry: self.registry, prompts: self.prompts, store: self.store, clock };
        Engine { inner: Arc::new(inner) }
    }
}

/// Stops a run from outside. Clones stop the same run; one control may stop many.
#[derive(Clone, Debug, Default)]
pub struct RunControl {
    cancel: CancellationToken,
    drain: CancellationToken,
}

impl RunControl {
    /// A control that nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A control that also cancels when `cancel` does, and drains when `drain` does.
    pub fn under(cancel: &CancellationToken, drain: &CancellationToken) -> Self {
        Self { cancel: cancel.child_token(), drain: drain.child_token() }
    }

    /// Stops at once: tasks in flight are dropped, and a resume runs them again.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Stops at the next end of a superstep: nothing is run twice on a resume.
    pub fn drain(&self) {
        self.drain.cancel();
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
}

impl InterruptCause {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
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
    /// The state, by channel name.
    pub state: Map<String, Value>,
    /// Finished supersteps, over all its parts.
    pub steps: u32,
}

impl Engine {
    /// Begins an engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// The functions that graphs may name.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// Runs a graph to its end.
    ///
    /// # Errors
    /// `Input`, `MissingTask` and `NoPrompts` before anything is stored; everything else leaves a run that can
    /// be resumed under the error's run id.
    ///
    /// # Cancel safety
    /// Dropping the future is like killing the process: what was committed stays, and the run can be resumed.
    pub async fn run(
        &self,
        graph: Arc<Graph>,
        input: Map<String, Value>,
        options: RunOptions,
    ) -> Result<RunOutcome, EngineError> {
        let run = options.run_id.unwrap_or_else(RunId::fresh);
        let name = graph.name.clone();
        let fail = |kind: EngineErrorKind| kind.of(run, &name);
        let texts = Arc::clone(&options.prompt_texts);
        let shared = self.shared(run, Arc::clone(&graph), texts, &options).map_err(fail)?;
        let kept_input = if self.inner.store.is_some() { input.clone() } else { Map::new() };
        let state = State::start(&graph, input)
            .map_err(|(channel, message)| fail(EngineErrorKind::Input { channel, message }))?;
        let log = match &self.inner.store {
            None => None,
            Some(store) => {
                let durability = options.durability.unwrap_or(graph.durability);
                let log = RunLog::new(Arc::clone(store), Claim::new(run), durability);
                let definition = Definition::of(&graph, Arc::clone(&options.prompt_texts));
                let new = NewRun { run, definition, input: kept_input, durability };
                store.create(log.claim(), new).await.map_err(|error| fail(error.into()))?;
                Some(log)
            }
        };
        shared.publisher.publish(|| Event::RunStarted {
            graph: name.as_str().into(),
            version: graph.version,
            hash: graph.hash.as_str().into(),
        });
        let at = Position {
            state,
            step: 0,
            frontier: vec![graph.start],
            done: std::collections::BTreeMap::new(),
            elapsed: std::time::Duration::ZERO,
        };
        Run::new(shared, options.control, log, at).finish().await
    }

    /// Goes on with a stored run, from its own definition: `read` makes the graph of it. Only tasks that had not
    /// finished run again. A run that is done gives its outcome again and runs nothing.
    ///
    /// # Errors
    /// As [`Engine::run`]; `Checkpoint` where the run is not stored or a live process holds it, `Definition` where
    /// `read` fails.
    ///
    /// # Cancel safety
    /// As [`Engine::run`].
    pub async fn resume(
        &self,
        run: RunId,
        read: impl FnOnce(&Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> + Send,
        options: RunOptions,
    ) -> Result<RunOutcome, EngineError> {
        let unknown = |error: CheckpointError| EngineErrorKind::from(error).of(run, "");
        let store = self.store(run).map_err(unknown)?;
        let mut log = RunLog::new(Arc::clone(store), Claim::new(run), Durability::default());
        store.claim(log.claim()).await.map_err(unknown)?;
        let record = store.load(run).await.map_err(unknown)?;
        let name = record.definition.graph.clone();
        let fail = |kind: EngineErrorKind| kind.of(run, &name);
        let graph = read(&record.definition).map_err(|error| fail(EngineErrorKind::Definition(error)))?;
        let at = log::replay(&graph, &record).map_err(fail)?;
        if record.summary.status == RunStatus::Done {
            let state = at.state.into_map(&graph);
            return Ok(RunOutcome { run, status: Outcome::Done, state, steps: at.step });
        }
        log.go_on(&record);
        let texts = Arc::clone(&record.definition.prompts);
        let shared = self.shared(run, graph, texts, &options).map_err(fail)?;
        shared.publisher.publish(|| Event::RunResumed {
            graph: name.as_str().into(),
            step: at.step,
            finished_tasks: u32::try_from(at.done.len()).unwrap_or(u32::MAX),
        });
        Run::new(shared, options.control, Some(log), at).finish().await
    }

    /// What is stored of a run.
    ///
    /// # Errors
    /// Where it is not stored, or the store fails.
    pub async fn load(&self, run: RunId) -> Result<RunRecord, CheckpointError> {
        self.store(run)?.load(run).await
    }

    /// The supersteps of a run.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn history(&self, run: RunId) -> Result<Vec<StepRecord>, CheckpointError> {
        log::history(self.store(run)?.history(run).await?).map_err(|error| error.of(run))
    }

    /// Stored runs, newest first.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn list(&self, filter: RunFilter) -> Result<Vec<RunSummary>, CheckpointError> {
        match &self.inner.store {
            Some(store) => store.list(filter).await,
            None => Ok(Vec::new()),
        }
    }

    fn store(&self, run: RunId) -> Result<&Arc<dyn Checkpointer>, CheckpointError> {
        self.inner.store.as_ref().ok_or(CheckpointError { run, kind: CheckpointErrorKind::NotFound })
    }

    fn shared(
        &self,
        run: RunId,
        graph: Arc<Graph>,
        prompts: Arc<PromptTexts>,
        options: &RunOptions,
    ) -> Result<Arc<Shared>, EngineErrorKind> {
        let inner = &*self.inner;
        Ok(Arc::new(Shared {
            run,
            plan: Plan::bind(graph, &inner.registry, inner.prompts.as_ref())?,
            cancel: options.control.token().clone(),
            publisher: Publisher::new(run, options.events.clone(), &inner.clock),
            clock: Arc::clone(&inner.clock),
            prompts,
        }))
    }
}

impl Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("registry", &self.inner.registry)
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}

impl Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunOptions").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

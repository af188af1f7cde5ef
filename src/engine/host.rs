//! The engine as its host sees it: made once, runs and resumes graphs, stops them, shows their history.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use super::cassette::Player;
use super::codec::Codec;
use super::ctx::Shared;
use super::event::{Event, Publisher};
use super::log::RunLog;
use super::meter::{Meter, Used};
use super::options::Parent;
use super::plan::Plan;
use super::position::Position;
use super::run::Run;
use super::state::State;
use super::{
    CheckpointError, CheckpointErrorKind, Checkpointer, Claim, Definition, Digest, EngineError,
    EngineErrorKind, Keys, NewRun, Outcome, PromptRunner, PromptTexts, Registry, RunFilter, RunOptions,
    RunOutcome, RunRecord, RunStatus, RunSummary, chain, replay, upgrade,
};
use crate::clock::{self, SharedClock};
use crate::graph::{Budget, Durability, Graph};
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
    keys: Option<Arc<Keys>>,
    /// Results that stand for tasks for a time, where there is no store: until when, and what.
    kept: Mutex<HashMap<Digest, (i64, String)>>,
}

/// Makes an [`Engine`].
#[derive(Default)]
#[must_use]
pub struct EngineBuilder {
    registry: Registry,
    prompts: Option<Arc<dyn PromptRunner>>,
    store: Option<Arc<dyn Checkpointer>>,
    clock: Option<SharedClock>,
    keys: Option<Arc<Keys>>,
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

    /// What seals secret channels and signs answers and logs.
    pub fn keys(mut self, keys: Arc<Keys>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The engine.
    pub fn build(self) -> Engine {
        let clock = self.clock.unwrap_or_else(clock::system);
        let Self { registry, prompts, store, keys, .. } = self;
        let inner = Inner { registry, prompts, store, clock, keys, kept: Mutex::default() };
        Engine { inner: Arc::new(inner) }
    }
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
    /// `Input`, `MissingTask`, `NoPrompts`, `MissingReducer` and `NoKey` before anything is stored; everything else
    /// leaves a run that can be resumed under the error's run id.
    ///
    /// # Cancel safety
    /// Dropping the future is like killing the process: what was committed stays, and the run can be resumed.
    pub async fn run(
        &self,
        graph: Arc<Graph>,
        input: Map<String, Value>,
        options: RunOptions,
    ) -> Result<RunOutcome, EngineError> {
        self.begin(graph, input, options, None).await
    }

    async fn begin(
        &self,
        graph: Arc<Graph>,
        input: Map<String, Value>,
        options: RunOptions,
        parent: Option<Parent>,
    ) -> Result<RunOutcome, EngineError> {
        let run = options.run_id.unwrap_or_else(RunId::fresh);
        let name = graph.name.clone();
        let fail = |kind: EngineErrorKind| kind.of(run, &name);
        let state = State::start(&graph, input.clone())
            .map_err(|(channel, message)| fail(EngineErrorKind::Input { channel, message }))?;
        let mut at = Position::start(&graph, state);
        let now_ms = self.inner.clock.now().as_millisecond();
        at.gates.iter_mut().for_each(|gate| gate.since_ms = now_ms);
        let texts = Arc::clone(&options.prompt_texts);
        let shared = self.shared(run, Arc::clone(&graph), texts, &options, parent, &at.used).map_err(fail)?;
        let log = match &self.inner.store {
            None => None,
            Some(store) => {
                self.require_key(&graph).map_err(fail)?;
                let durability = options.durability.unwrap_or(graph.durability);
                let codec = self.codec(&graph, run);
                let new = NewRun {
                    run,
                    definition: Definition::of(&graph, Arc::clone(&options.prompt_texts)),
                    input: codec.input(input).map_err(fail)?,
                    durability,
                    parent: parent.map(|parent| parent.run),
                    forked_from: None,
                    snapshot: None,
                };
                let log = self.log(
                    store,
                    Claim::new(run),
                    durability,
                    chain::genesis(run, &new.definition.hash, &new.input, None),
                );
                store.create(log.claim(), new).await.map_err(|error| fail(error.into()))?;
                Some(log)
            }
        };
        shared.publisher.publish(|| Event::RunStarted {
            graph: name.as_str().into(),
            graph_version: graph.version,
            hash: graph.hash.as_str().into(),
        });
        let budget = budget(&graph, &options, parent);
        Run::new(shared, options.control, log, at, budget).finish().await
    }

    /// Goes on with a stored run, from its own definition: `read` makes the graph of it. Only tasks that had not
    /// finished run again. A run that is done gives its outcome again and runs nothing; one that waits at a gate goes
    /// on if it was answered, or its time is over.
    ///
    /// # Errors
    /// As [`Engine::run`]; `Checkpoint` where the run is not stored or a live process holds it, `Definition` where
    /// `read` fails, `Upgrade` where it cannot go on with the graph that `options.upgrade` names.
    ///
    /// # Cancel safety
    /// As [`Engine::run`].
    pub async fn resume(
        &self,
        run: RunId,
        read: impl FnOnce(&Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> + Send,
        options: RunOptions,
    ) -> Result<RunOutcome, EngineError> {
        self.go_on(run, read, options, None).await
    }

    async fn go_on(
        &self,
        run: RunId,
        read: impl FnOnce(&Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> + Send,
        options: RunOptions,
        parent: Option<Parent>,
    ) -> Result<RunOutcome, EngineError> {
        let unknown = |error: CheckpointError| EngineErrorKind::from(error).of(run, "");
        let (mut log, record) = self.take(run).await.map_err(unknown)?;
        let name = record.definition.graph.clone();
        match self.ready(&mut log, &record, read, &options, parent).await {
            Ok(Ready::Over(outcome)) => Ok(*outcome),
            Ok(Ready::Run(shared, at, budget)) => {
                Run::new(shared, options.control, Some(log), *at, budget).finish().await
            }
            Err(kind) => {
                give_back(&mut log, &record).await;
                Err(kind.of(run, &name))
            }
        }
    }

    /// Claims a stored run. The record says how the run stood before.
    pub(crate) async fn take(&self, run: RunId) -> Result<(RunLog, RunRecord), CheckpointError> {
        let store = self.store(run)?;
        let before = store.load(run).await?;
        let log = self.log(store, Claim::new(run), Durability::default(), [0; 32]);
        store.claim(log.claim()).await?;
        let mut record = store.load(run).await?;
        record.summary.status = before.summary.status;
        record.summary.error = before.summary.error;
        record.seal = before.seal;
        Ok((log, record))
    }

    /// Makes a claimed run ready to go on.
    async fn ready(
        &self,
        log: &mut RunLog,
        record: &RunRecord,
        read: impl FnOnce(&Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> + Send,
        options: &RunOptions,
        parent: Option<Parent>,
    ) -> Result<Ready, EngineErrorKind> {
        let run = record.summary.run;
        let graph = read(&record.definition).map_err(EngineErrorKind::Definition)?;
        let mut at = self.position(&graph, record)?;
        if record.summary.status == RunStatus::Done {
            return Ok(Ready::Over(Box::new(self.rested(&graph, run, &at))));
        }
        self.require_key(&graph)?;
        log.go_on(record).map_err(changed)?;
        let (graph, texts) = match &options.upgrade {
            None => (graph, Arc::clone(&record.definition.prompts)),
            Some(new) => {
                let texts = Arc::clone(&options.prompt_texts);
                at = upgrade::upgrade(self, log, (&graph, &at), (new, &texts), run).await?;
                (Arc::clone(new), texts)
            }
        };
        let shared = self.shared(run, Arc::clone(&graph), texts, options, parent, &at.used)?;
        shared.publisher.publish(|| Event::RunResumed {
            graph: graph.name.as_str().into(),
            step: at.step,
            finished_tasks: u32::try_from(at.done.len()).unwrap_or(u32::MAX),
        });
        Ok(Ready::Run(shared, Box::new(at), budget(&graph, options, parent)))
    }

    /// Goes on with the run if it is stored, else begins it.
    pub(crate) async fn run_or_resume(
        &self,
        run: RunId,
        graph: Arc<Graph>,
        input: Map<String, Value>,
        options: RunOptions,
        parent: Parent,
    ) -> Result<RunOutcome, EngineError> {
        let known = match &self.inner.store {
            None => false,
            Some(store) => match store.load(run).await {
                Ok(_) => true,
                Err(error) if error.kind == CheckpointErrorKind::NotFound => false,
                Err(error) => return Err(EngineErrorKind::from(error).of(run, &graph.name)),
            },
        };
        if known {
            self.go_on(run, |_| Ok(graph), options, Some(parent)).await
        } else {
            self.begin(graph, input, options, Some(parent)).await
        }
    }

    /// What is stored of a run.
    ///
    /// # Errors
    /// Where it is not stored, or the store fails.
    pub async fn load(&self, run: RunId) -> Result<RunRecord, CheckpointError> {
        self.store(run)?.load(run).await
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

    pub(crate) fn store(&self, run: RunId) -> Result<&Arc<dyn Checkpointer>, CheckpointError> {
        self.inner.store.as_ref().ok_or(CheckpointError { run, kind: CheckpointErrorKind::NotFound })
    }

    pub(crate) fn prompts(&self) -> Option<&Arc<dyn PromptRunner>> {
        self.inner.prompts.as_ref()
    }

    /// Who keeps checkpoints, if somebody does.
    pub(crate) fn checkpointer(&self) -> Option<&Arc<dyn Checkpointer>> {
        self.inner.store.as_ref()
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.inner.clock
    }

    pub(crate) fn keys(&self) -> Option<&Arc<Keys>> {
        self.inner.keys.as_ref()
    }

    pub(crate) fn codec<'a>(&'a self, graph: &'a Graph, run: RunId) -> Codec<'a> {
        Codec { graph, run, keys: self.inner.keys.as_deref() }
    }

    /// A result that was kept in memory, where there is no store.
    pub(crate) fn kept(&self, key: Digest, now_ms: i64) -> Option<String> {
        let kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&key).filter(|(until_ms, _)| *until_ms > now_ms).map(|(_, body)| body.clone())
    }

    /// Keeps a result in memory.
    pub(crate) fn keep(&self, key: Digest, body: String, until_ms: i64) {
        let mut kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(key, (until_ms, body));
    }

    pub(crate) fn log(
        &self,
        store: &Arc<dyn Checkpointer>,
        claim: Claim,
        durability: Durability,
        head: Digest,
    ) -> RunLog {
        let (clock, keys) = (Arc::clone(&self.inner.clock), self.inner.keys.clone());
        RunLog::new(Arc::clone(store), claim, durability, head, clock, keys)
    }

    /// Where a stored run stands.
    pub(crate) fn position(&self, graph: &Graph, record: &RunRecord) -> Result<Position, EngineErrorKind> {
        let reducers = self.inner.registry.reducers(&graph.custom_reducers)?;
        replay::replay(self.codec(graph, record.summary.run), &reducers, record)
    }

    /// The outcome of a run that is done.
    fn rested(&self, graph: &Graph, run: RunId, at: &Position) -> RunOutcome {
        let codec = self.codec(graph, run);
        let (mut state, mut secrets) = (Map::new(), Map::new());
        for (channel, value) in at.state.iter(graph) {
            let channel = graph.channel(channel);
            state.insert(channel.name.clone(), codec.shown(&channel.name, value.clone()));
            if channel.secret {
                secrets.insert(channel.name.clone(), value.clone());
            }
        }
        let (status, steps, used) = (Outcome::Done, at.step, at.used.run);
        RunOutcome { run, status, state, secrets, steps, used, gates: Vec::new() }
    }

    /// That secrets can be sealed, where there are any.
    pub(crate) fn require_key(&self, graph: &Graph) -> Result<(), EngineErrorKind> {
        match graph.channels.iter().find(|channel| channel.secret) {
            Some(channel) if self.inner.keys.is_none() => {
                Err(EngineErrorKind::NoKey { channel: channel.name.clone() })
            }
            _ => Ok(()),
        }
    }

    fn shared(
        &self,
        run: RunId,
        graph: Arc<Graph>,
        prompts: Arc<PromptTexts>,
        options: &RunOptions,
        parent: Option<Parent>,
        used: &Used,
    ) -> Result<Arc<Shared>, EngineErrorKind> {
        let inner = &*self.inner;
        let meter = Meter::new(&graph, budget(&graph, options, parent), used);
        Ok(Arc::new(Shared {
            run,
            plan: Plan::bind(graph, &inner.registry, inner.prompts.as_ref())?,
            cancel: options.control.token().clone(),
            drain: options.control.drain_token().clone(),
            publisher: Publisher::new(run, options.events.clone(), options.streams, &inner.clock),
            clock: Arc::clone(&inner.clock),
            prompts,
            meter,
            engine: self.clone(),
            keys: inner.keys.clone(),
            cassette: options.cassette.clone().map(Player::new),
            failure: Mutex::default(),
        }))
    }
}

/// A claimed run that can go on, or need not.
enum Ready {
    Over(Box<RunOutcome>),
    Run(Arc<Shared>, Box<Position>, Budget),
}

/// Leaves a claimed run as it was: what could not be done to it must not make it one that was cut off.
pub(crate) async fn give_back(log: &mut RunLog, record: &RunRecord) {
    if matches!(record.summary.status, RunStatus::Running | RunStatus::Done) {
        return;
    }
    if let Err(error) = log.leave(record).await {
        tracing::warn!(run_id = %record.summary.run, %error, "run not left as it was");
    }
}

/// What is wrong with a log that somebody has changed.
pub(crate) fn changed(seq: u32) -> EngineErrorKind {
    let message = "is not what was written, or one before it is gone; `verify` tells more, and a fork from before it \
        can go on";
    EngineErrorKind::Log { seq, message: message.to_owned() }
}

/// Most results kept in memory.
const MOST_KEPT: usize = 10_000;

/// What a run may use: its graph's budget, what the options set, and what is left of the run around it.
fn budget(graph: &Graph, options: &RunOptions, parent: Option<Parent>) -> Budget {
    let set = options.budget;
    let mut budget = Budget {
        tokens: set.tokens.or(graph.budget.tokens),
        micro_usd: set.micro_usd.or(graph.budget.micro_usd),
        wall: set.wall.or(graph.budget.wall),
        steps: set.steps.or(graph.budget.steps),
    };
    if let Some(Parent { budget: left, .. }) = parent {
        let least = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        budget.tokens = least(budget.tokens, left.tokens);
        budget.micro_usd = least(budget.micro_usd, left.micro_usd);
    }
    budget
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

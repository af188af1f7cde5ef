//! What a task knows of the run it is part of, and what it may ask of it.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::cassette::Player;
use super::event::{Event, Publisher, Stream};
use super::meter::{Meter, Usage};
use super::plan::Plan;
use super::task::Route;
use super::{EffectRecord, Engine, Failure, Keys, NodeError, PromptTexts};
use crate::clock::{self, SharedClock};
use crate::graph::NodeIdx;
use crate::id::RunId;

/// What all tasks of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) run: RunId,
    pub(crate) plan: Plan,
    pub(crate) cancel: CancellationToken,
    pub(crate) drain: CancellationToken,
    pub(crate) publisher: Publisher,
    pub(crate) clock: SharedClock,
    pub(crate) prompts: Arc<PromptTexts>,
    pub(crate) meter: Meter,
    /// The engine that runs it, for runs inside it and for its store.
    pub(crate) engine: Engine,
    pub(crate) keys: Option<Arc<Keys>>,
    /// Results that stand for the tasks'.
    pub(crate) cassette: Option<Player>,
    /// Why the run failed, for its `finally` node.
    pub(crate) failure: Mutex<Option<Failure>>,
}

/// What an attempt leaves beside its output.
#[derive(Debug, Default)]
pub(crate) struct Side {
    tokens: AtomicU64,
    micro_usd: AtomicU64,
    /// Last sign of life, in nanoseconds of the run's monotonic clock.
    alive: AtomicU64,
    route: Mutex<Route>,
}

impl Side {
    pub(crate) fn alive_at(&self, time: Duration) {
        self.alive.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn last_alive(&self) -> Duration {
        Duration::from_nanos(self.alive.load(Ordering::Relaxed))
    }

    /// What was spent, and where the task wants the run to go.
    pub(crate) fn take(&self) -> (Usage, Route) {
        let spent = Usage {
            tokens: self.tokens.load(Ordering::Relaxed),
            micro_usd: self.micro_usd.load(Ordering::Relaxed),
            ..Usage::default()
        };
        (spent, std::mem::take(&mut self.route.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What a task knows of its place in a run.
#[derive(Clone, Debug)]
pub struct Ctx {
    pub(crate) shared: Arc<Shared>,
    pub(crate) side: Arc<Side>,
    pub(crate) node: NodeIdx,
    pub(crate) step: u32,
    pub(crate) item: Option<u32>,
    pub(crate) attempt: u32,
}

impl Ctx {
    /// A context outside any run, to call a node's function by itself, as tests do.
    pub fn detached() -> Self {
        let plan = Plan::detached();
        let meter = Meter::new(&plan.graph, crate::graph::Budget::default(), &super::meter::Used::default());
        let shared = Shared {
            run: RunId::fresh(),
            plan,
            cancel: CancellationToken::new(),
            drain: CancellationToken::new(),
            publisher: Publisher::none(),
            clock: clock::system(),
            prompts: Arc::default(),
            meter,
            engine: Engine::builder().build(),
            keys: None,
            cassette: None,
            failure: Mutex::default(),
        };
        let side = Arc::default();
        Self { shared: Arc::new(shared), side, node: NodeIdx(0), step: 0, item: None, attempt: 1 }
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

    /// Number of the superstep that the node became ready for, from 0.
    pub const fn step(&self) -> u32 {
        self.step
    }

    /// Which item of a fan-out, or which of several inputs that were sent, this is, from 0.
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

    /// Does something to the outside once, with a line in the run's ledger: a task that is repeated after a crash gets
    /// the result that is there, and does nothing again. `effect` is given the key, and whether an earlier attempt was
    /// begun whose end nobody knows; where the outside knows the key, it can tell.
    ///
    /// `what` tells several effects of one task apart. Without a store there is no ledger, and the effect is done.
    ///
    /// # Errors
    /// Those of the effect; `permanent` where the ledger cannot be written: then nothing was done.
    ///
    /// # Cancel safety
    /// Dropped in the middle, the line stays without a result, and the next attempt is told so.
    pub async fn once<T, F, Fut>(&self, what: &str, effect: F) -> Result<T, NodeError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce(Uuid, Begun) -> Fut,
        Fut: Future<Output = Result<T, NodeError>>,
    {
        let key = Uuid::new_v5(&self.idempotency_key(), what.as_bytes());
        let Some(store) = self.shared.engine.checkpointer() else { return effect(key, Begun::Never).await };
        let fault = |error: super::CheckpointError| {
            NodeError::transient(format!("the ledger: {error}")).because(error)
        };
        let run = self.shared.run;
        let known = store.effect(run, key).await.map_err(fault)?;
        if let Some(result) = known.as_ref().and_then(|line| line.result.as_deref()) {
            return serde_json::from_str(result)
                .map_err(|error| NodeError::permanent(format!("the ledger's line {key}: {error}")));
        }
        let begun = if known.is_some() { Begun::Unclear } else { Begun::Never };
        let mut line = EffectRecord {
            key,
            run,
            node: self.node().to_owned(),
            begun_ms: self.shared.clock.now().as_millisecond(),
            result: None,
        };
        if begun == Begun::Never {
            store.record_effect(line.clone()).await.map_err(fault)?;
        }
        let result = effect(key, begun).await?;
        line.result = Some(serde_json::to_string(&result).map_err(NodeError::permanent)?);
        store.record_effect(line).await.map_err(fault)?;
        Ok(result)
    }

    /// Goes to these nodes after this one, whatever its `next` says. The node must name them in `goto`.
    ///
    /// # Errors
    /// `permanent`, where it does not.
    pub fn goto(&self, nodes: &[&str]) -> Result<(), NodeError> {
        let own = self.shared.plan.node(self.node);
        let to =
            nodes.iter().map(|name| self.declared(name, &own.goto, "goto")).collect::<Result<Vec<_>, _>>()?;
        self.side.route.lock().unwrap_or_else(PoisonError::into_inner).goto = Some(to);
        Ok(())
    }

    /// Starts a task of a node after this one, with an input of its own: its fields take the place of what the node
    /// reads. The node must name it in `send`. May be called many times, also for one node.
    ///
    /// # Errors
    /// `permanent`, where it does not, or where the input is no object.
    pub fn send(&self, node: &str, input: impl Serialize) -> Result<(), NodeError> {
        let own = self.shared.plan.node(self.node);
        let to = self.declared(node, &own.send, "send")?;
        let input = serde_json::to_value(input).map_err(NodeError::permanent)?;
        if !input.is_object() {
            return Err(NodeError::permanent(format!("what is sent to `{node}` is no object")));
        }
        self.side.route.lock().unwrap_or_else(PoisonError::into_inner).sends.push((to, input));
        Ok(())
    }

    fn declared(&self, name: &str, declared: &[NodeIdx], key: &str) -> Result<NodeIdx, NodeError> {
        declared.iter().copied().find(|node| self.shared.plan.name(*node) == name).ok_or_else(|| {
            NodeError::permanent(format!("node `{}` names `{name}` in no `{key}`", self.node()))
        })
    }

    /// Counts tokens and money (in millionths of a US dollar) that this attempt has used, against the budgets of node,
    /// fan-out and run. Also counted where the attempt fails.
    pub fn spend(&self, tokens: u64, micro_usd: u64) {
        self.side.tokens.fetch_add(tokens, Ordering::Relaxed);
        self.side.micro_usd.fetch_add(micro_usd, Ordering::Relaxed);
    }

    /// Says that the task is still at work: its idle timeout begins anew.
    pub fn heartbeat(&self) {
        self.side.alive_at(self.shared.clock.monotonic());
    }

    /// Why the run failed, in its `finally` node; none where it did not.
    pub fn failure(&self) -> Option<Failure> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fires when the run is to stop at once.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.shared.cancel
    }

    /// The run's clock.
    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    /// Publishes an event of the task's own; costs nothing where nobody listens. A sign of life.
    pub fn emit(&self, value: Value) {
        self.heartbeat();
        self.shared.publisher.publish(|| Event::Custom {
            step: self.step,
            node: self.shared.plan.shared_name(self.node),
            item: self.item,
            value,
        });
    }

    /// Whether somebody listens to the tokens of prompts.
    pub fn wants_tokens(&self) -> bool {
        self.shared.publisher.wants(Stream::Tokens)
    }

    /// Publishes a piece of a model's answer as it comes. A sign of life.
    pub fn token(&self, text: &str) {
        self.heartbeat();
        self.shared.publisher.publish(|| Event::Token {
            step: self.step,
            node: self.shared.plan.shared_name(self.node),
            item: self.item,
            text: text.to_owned(),
        });
    }
}

/// What the ledger knows of earlier attempts at an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// None was begun.
    Never,
    /// One was begun, and nobody knows how it ended.
    Unclear,
}

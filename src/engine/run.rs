//! The owner loop of a run: superstep, merge, next nodes, checkpoint, events.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::args::Args;
use super::ctx::Shared;
use super::event::Event;
use super::log::{self, OnlyTask, Position, RunLog};
use super::output::Writes;
use super::task::{self, Finished, Place};
use super::{
    EngineError, EngineErrorKind, Entry, Finish, InterruptCause, Outcome, RunControl, RunOutcome, RunStatus,
    merge,
};
use crate::graph::NodeIdx;

/// A run in progress. Only its owner loop changes it.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: RunControl,
    pub(crate) log: Option<RunLog>,
    pub(crate) at: Position,
    /// When this part of the run began, by the monotonic clock.
    started: Duration,
    /// Time that earlier parts of the run took.
    elapsed_before: Duration,
    /// The next frontier while it is being put together; kept for its memory.
    next: Vec<NodeIdx>,
}

/// Why the owner loop stopped before the end of the graph.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Somebody stopped it.
    Interrupted(InterruptCause),
    /// Something is wrong.
    Fault(EngineErrorKind),
}

impl<E: Into<EngineErrorKind>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// What a superstep did, for whoever watches.
pub(crate) type Watched = Vec<Event>;

impl Run {
    pub(crate) fn new(shared: Arc<Shared>, control: RunControl, log: Option<RunLog>, at: Position) -> Self {
        let started = shared.clock.monotonic();
        let elapsed_before = at.elapsed;
        Self { shared, control, log, at, started, elapsed_before, next: Vec::new() }
    }

    /// Drives the run until it comes to rest, and stores how it did.
    pub(crate) async fn finish(mut self) -> Result<RunOutcome, EngineError> {
        let stop = match self.drive().await {
            Ok(()) => {
                let steps = self.at.step;
                self.shared.publisher.publish(|| Event::RunFinished { steps });
                return Ok(self.outcome(Outcome::Done));
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Interrupted(cause) => {
                let finish =
                    Finish { status: RunStatus::Interrupted, error: Some(cause.as_str().to_owned()) };
                self.rest(finish).await.map_err(|kind| self.error(kind))?;
                let step = self.at.step;
                self.shared.publisher.publish(|| Event::RunInterrupted { cause, step });
                Ok(self.outcome(Outcome::Interrupted(cause)))
            }
            Stop::Fault(kind) => {
                // After a failed append nothing more may be appended; the run stays resumable as it is.
                if !matches!(kind, EngineErrorKind::Checkpoint(_)) {
                    let finish = Finish { status: RunStatus::Failed, error: Some(kind.to_string()) };
                    if let Err(error) = self.rest(finish).await {
                        tracing::error!(run_id = %self.shared.run, %error, "failure of a run not stored");
                    }
                }
                self.shared.publisher.publish(|| Event::RunFailed { error: kind.to_string() });
                Err(self.error(kind))
            }
        }
    }

    fn error(&self, kind: EngineErrorKind) -> EngineError {
        kind.of(self.shared.run, &self.shared.plan.graph.name)
    }

    fn outcome(self, status: Outcome) -> RunOutcome {
        let state = self.at.state.into_map(&self.shared.plan.graph);
        RunOutcome { run: self.shared.run, status, state, steps: self.at.step }
    }

    /// Stores how the run came to rest.
    async fn rest(&mut self, finish: Finish) -> Result<(), EngineErrorKind> {
        match &mut self.log {
            Some(log) => Ok(log.submit(Vec::new(), Some(finish), || None).await?),
            None => Ok(()),
        }
    }

    async fn drive(&mut self) -> Result<(), Stop> {
        let limit = self.shared.plan.graph.max_steps;
        if self.at.frontier.is_empty() {
            self.rest(Finish { status: RunStatus::Done, error: None }).await?;
        }
        while !self.at.frontier.is_empty() {
            // Nodes that never wait must not keep the thread for ever.
            tokio::task::consume_budget().await;
            if self.shared.cancel.is_cancelled() {
                return Err(Stop::Interrupted(InterruptCause::Cancelled));
            }
            if self.control.is_draining() {
                return Err(Stop::Interrupted(InterruptCause::Drained));
            }
            if self.at.step >= limit {
                return Err(EngineErrorKind::MaxSteps(limit).into());
            }
            let time_left = self.time_left()?;
            self.shared.publisher.publish(|| Event::StepStarted {
                step: self.at.step,
                nodes: self.shared.plan.shared_names(&self.at.frontier),
            });
            match *self.at.frontier {
                [node] if self.shared.plan.node(node).each.is_none() => {
                    self.single(node, None, time_left).await?;
                }
                _ => Box::pin(self.many(time_left)).await?,
            }
        }
        Ok(())
    }

    /// A superstep of one task, worked on right here.
    pub(crate) async fn single(
        &mut self,
        node: NodeIdx,
        item: Option<(u32, &Value)>,
        time_left: Option<Duration>,
    ) -> Result<(), Stop> {
        let graph = Arc::clone(&self.shared.plan.graph);
        let place = Place { step: self.at.step, node, item: item.map(|(place, _)| place) };
        let args = Args {
            graph: &graph,
            node: graph.node(node),
            state: &self.at.state,
            item: item.map(|(_, item)| item),
        };
        let finished = tokio::select! {
            biased;
            result = task::work(&self.shared, place, args, || false) => {
                result.map_err(|failed| failed.kind(&self.shared, place))?
            }
            () = self.shared.cancel.cancelled() => {
                return Err(Stop::Interrupted(InterruptCause::Cancelled));
            }
            () = sleep(time_left) => return Err(self.too_late().into()),
        };
        let Finished { attempts, writes } = finished;
        let only = match &self.log {
            Some(_) => {
                let writes = log::writes_json(&self.shared.plan, &writes)?;
                Some(OnlyTask { place, attempts, writes })
            }
            None => None,
        };
        let watched = self.watch_finished(place, attempts);
        self.commit(Vec::new(), only.as_ref(), watched, std::iter::once((place, writes))).await
    }

    /// The event of a finished task, to be published with its checkpoint.
    pub(crate) fn watch_finished(&self, place: Place, attempts: u32) -> Watched {
        if !self.shared.publisher.is_on() {
            return Vec::new();
        }
        let node = self.shared.plan.shared_name(place.node);
        vec![Event::TaskFinished { step: place.step, node, item: place.item, attempts }]
    }

    /// The barrier: merges the writes, finds the next nodes, commits the checkpoint, then publishes.
    pub(crate) async fn commit(
        &mut self,
        mut entries: Vec<Entry>,
        only: Option<&OnlyTask>,
        watched: Watched,
        tasks: impl Iterator<Item = (Place, Writes)>,
    ) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let mut shown = Vec::new();
        if shared.publisher.is_on() {
            let tasks: Vec<(Place, Writes)> = tasks.collect();
            let writes = tasks.iter().flat_map(|(_, writes)| writes);
            shown = writes.map(|write| (plan.channel_name(write.channel), write.value.clone())).collect();
            merge::merge(&mut self.at.state, &plan.graph, tasks)?;
        } else {
            merge::merge(&mut self.at.state, &plan.graph, tasks)?;
        }
        self.find_next()?;
        let step = self.at.step;
        if self.log.is_some() {
            let elapsed = plan.graph.deadline.map(|_| self.elapsed());
            entries.push(log::step_entry(plan, step, only, &self.next, elapsed)?);
            let done = self.next.is_empty();
            let finish = done.then_some(Finish { status: RunStatus::Done, error: None });
            let elapsed = self.elapsed();
            let Self { log, at, next, .. } = self;
            if let Some(log) = log {
                let snapshot = || {
                    (!done)
                        .then(|| log::snapshot_json(plan, &at.state, step.saturating_add(1), next, elapsed))?
                };
                log.submit(entries, finish, snapshot).await?;
            }
        }
        for event in watched {
            shared.publisher.publish(|| event);
        }
        shared.publisher.publish(|| Event::StepCommitted {
            step,
            writes: shown,
            next: plan.shared_names(&self.next),
        });
        self.at.step = step.saturating_add(1);
        self.at.done.clear();
        std::mem::swap(&mut self.at.frontier, &mut self.next);
        Ok(())
    }

    /// The nodes of the next superstep, in file order, each once.
    fn find_next(&mut self) -> Result<(), EngineErrorKind> {
        let graph = &self.shared.plan.graph;
        self.next.clear();
        for index in &self.at.frontier {
            let node = graph.node(*index);
            for arm in &node.next {
                let holds = match &arm.when {
                    None => true,
                    Some(when) => when.holds(|name| self.at.state.get(graph.channel_named(name)?)).map_err(
                        |source| EngineErrorKind::Condition {
                            node: node.name.clone(),
                            condition: when.source().to_owned(),
                            source,
                        },
                    )?,
                };
                if holds {
                    self.next.extend_from_slice(&arm.to);
                    break;
                }
            }
        }
        if self.next.len() > 1 {
            self.next.sort_unstable();
            self.next.dedup();
        }
        Ok(())
    }

    /// Time the run has taken, over all its parts.
    fn elapsed(&self) -> Duration {
        self.elapsed_before + self.shared.clock.monotonic().saturating_sub(self.started)
    }

    /// Time the run has left, if its graph sets a limit.
    fn time_left(&self) -> Result<Option<Duration>, EngineErrorKind> {
        match self.shared.plan.graph.deadline {
            None => Ok(None),
            Some(limit) => match limit.checked_sub(self.elapsed()) {
                Some(left) if !left.is_zero() => Ok(Some(left)),
                _ => Err(EngineErrorKind::Deadline(limit)),
            },
        }
    }

    pub(crate) fn too_late(&self) -> EngineErrorKind {
        EngineErrorKind::Deadline(self.shared.plan.graph.deadline.unwrap_or_default())
    }
}

/// Waits so long, or for ever.
pub(crate) async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => pending().await,
    }
}

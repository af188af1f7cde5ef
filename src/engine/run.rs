//! The owner loop of a run: superstep, merge, next nodes, checkpoint, events.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::args::Args;
use super::codec::{Closing, Codec, OnlyTask};
use super::crew::{Absorbed, Member, absorb, tasks_of};
use super::ctx::Shared;
use super::event::{Event, Stream};
use super::log::{self, RunLog};
use super::merge::{self, Done};
use super::meter::Usage;
use super::next::{Ended, Routed, error_arm};
use super::position::Position;
use super::task::{self, Failed, Finished, Place};
use super::{EngineErrorKind, Entry, EntryKind, Finish, GateAnswer, InterruptCause, RunControl, RunStatus};
use crate::graph::{Barrier, Budget, Each, NodeIdx};

/// A run in progress. Only its owner loop changes it.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: RunControl,
    pub(crate) log: Option<RunLog>,
    pub(crate) at: Position,
    /// Most it may use, over all its parts.
    pub(crate) budget: Budget,
    /// When this part of the run began, by the monotonic clock.
    started: Duration,
    /// Time that earlier parts of the run took.
    elapsed_before: Duration,
    /// Entries that go into the log with the next superstep.
    pub(crate) pending: Vec<Entry>,
    /// Gates that were announced.
    pub(crate) announced: Vec<Member>,
}

/// Why the owner loop stopped before the end of the graph.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Somebody stopped it, or it waits for somebody.
    Interrupted(InterruptCause),
    /// Something is wrong.
    Fault(EngineErrorKind),
}

impl<E: Into<EngineErrorKind>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// What is merged at a barrier.
pub(crate) enum Closed {
    /// One task of one node that is all there is.
    One(Place, Finished),
    /// These nodes of the frontier; their tasks are among the finished ones.
    Members(Vec<Member>),
    /// A gate, with its answer and the option's place.
    Gate(usize, GateAnswer, usize),
    /// Nothing: time has passed for a join.
    Nothing,
}

impl Run {
    pub(crate) fn new(
        shared: Arc<Shared>,
        control: RunControl,
        log: Option<RunLog>,
        at: Position,
        budget: Budget,
    ) -> Self {
        let started = shared.clock.monotonic();
        let elapsed_before = at.elapsed;
        let (pending, announced) = (Vec::new(), Vec::new());
        Self { shared, control, log, at, budget, started, elapsed_before, pending, announced }
    }

    pub(crate) fn codec(&self) -> Codec<'_> {
        Codec { graph: &self.shared.plan.graph, run: self.shared.run, keys: self.shared.keys.as_deref() }
    }

    /// Drives the run until it is over, stops or waits.
    pub(crate) async fn drive(&mut self) -> Result<(), Stop> {
        if self.at.is_over() {
            self.rest(Finish { status: RunStatus::Done, error: None, seal: None }).await?;
            return Ok(());
        }
        while !self.at.is_over() {
            // Nodes that never wait must not keep the thread for ever.
            tokio::task::consume_budget().await;
            self.may_go_on()?;
            if !self.at.gates.is_empty() && self.take_answer().await? {
                continue;
            }
            if self.at.frontier.is_empty() {
                self.nothing_ready().await?;
                continue;
            }
            let time_left = self.time_left()?;
            match &*self.at.frontier {
                [ready]
                    if ready.plain
                        && ready.sends.is_empty()
                        && ready.fault.is_none()
                        && self.at.done.is_empty()
                        && self.is_single(ready.node) =>
                {
                    let (node, born) = (ready.node, ready.born);
                    self.single(node, born, time_left).await?;
                }
                _ if self.shared.plan.graph.barrier == Barrier::Dataflow => {
                    Box::pin(self.flow(time_left)).await?;
                }
                _ => Box::pin(self.superstep(time_left)).await?,
            }
        }
        Ok(())
    }

    /// Whether nothing stops the run between two supersteps.
    pub(crate) fn may_go_on(&self) -> Result<(), Stop> {
        if self.shared.cancel.is_cancelled() {
            return Err(Stop::Interrupted(InterruptCause::Cancelled));
        }
        if self.control.is_draining() {
            return Err(Stop::Interrupted(InterruptCause::Drained));
        }
        let limit = self.shared.plan.graph.max_steps;
        if self.at.step >= limit {
            return Err(EngineErrorKind::MaxSteps(limit).into());
        }
        if let Some(most) = self.budget.steps
            && self.at.step >= most
        {
            return Err(EngineErrorKind::Budget(format!("{most} supersteps")).into());
        }
        Ok(())
    }

    /// Only gates, and joins behind them, are left.
    async fn nothing_ready(&mut self) -> Result<(), Stop> {
        let now_ms = self.shared.clock.now().as_millisecond();
        let join_is_due =
            self.at.join_deadline(&self.shared.plan.graph).is_some_and(|deadline| deadline <= now_ms);
        if join_is_due || self.at.gates.is_empty() {
            return self.close(Closed::Nothing, Vec::new()).await;
        }
        Err(Stop::Interrupted(InterruptCause::Gate))
    }

    /// Whether a node's work is one task that needs no company.
    fn is_single(&self, node: NodeIdx) -> bool {
        match &self.shared.plan.node(node).each {
            None => true,
            Some(Each { over, batch: None, status: None, .. }) => {
                self.at.state.get(*over).and_then(Value::as_array).is_some_and(|list| list.len() == 1)
            }
            Some(_) => false,
        }
    }

    /// A superstep of one task, worked on right here.
    async fn single(&mut self, node: NodeIdx, born: u32, time_left: Option<Duration>) -> Result<(), Stop> {
        self.shared.publisher.publish(|| Event::StepStarted {
            step: self.at.step,
            nodes: vec![self.shared.plan.shared_name(node)],
        });
        let graph = Arc::clone(&self.shared.plan.graph);
        let each = graph.node(node).each.as_ref();
        let list = each.and_then(|each| self.at.state.share(each.over));
        let item = list.as_deref().and_then(Value::as_array).and_then(|list| list.first());
        let place = Place { step: born, node, item: each.map(|_| 0) };
        let args = Args { graph: &graph, node: graph.node(node), state: &self.at.state, item, sent: None };
        let counter = super::meter::Counter::default();
        let fan = each.map(|each| task::Fan { budget: &each.budget, counter: &counter });
        let result = tokio::select! {
            biased;
            result = task::work(&self.shared, place, args, fan, || false) => result,
            () = self.shared.cancel.cancelled() => {
                return Err(Stop::Interrupted(InterruptCause::Cancelled));
            }
            () = sleep(time_left) => return Err(self.too_late().into()),
        };
        let (place, finished) = match result {
            Ok(finished) => (place, finished),
            Err(failed) => {
                if let Some(cause) = failed.suspended {
                    return Err(Stop::Interrupted(cause));
                }
                match absorb(&graph, place, failed, 0, 1) {
                    Absorbed::Item(finished) => (place, finished),
                    Absorbed::Node(finished) => (Place { item: None, ..place }, finished),
                    Absorbed::Nothing(failed) => return Err(self.failed(place, failed)?),
                }
            }
        };
        self.close(Closed::One(place, finished), Vec::new()).await
    }

    /// Notes a failure that stops the run.
    pub(crate) fn failed(&mut self, place: Place, failed: Failed) -> Result<Stop, EngineErrorKind> {
        let failure = failed.failure(place.item);
        if self.log.is_some() {
            let body = Codec::failed(&failure, failed.usage)?;
            let name = self.shared.plan.shared_name(place.node);
            self.pending.push(log::entry(EntryKind::Failed, self.at.step, Some(name), place.item, body));
        }
        self.at.used.add(place.node, failed.usage);
        Ok(Stop::Fault(failed.kind(&self.shared, place)))
    }

    /// The event of a finished task, to be published with its checkpoint.
    pub(crate) fn watch_finished(&self, place: Place, finished: &Finished) -> Option<Event> {
        self.shared.publisher.wants(Stream::Tasks).then(|| Event::TaskFinished {
            step: place.step,
            node: self.shared.plan.shared_name(place.node),
            item: place.item,
            attempts: finished.attempts,
            failed: finished.failure.as_ref().map(|failure| failure.class),
        })
    }

    /// The barrier: merges the writes, finds the next nodes, commits the checkpoint, then publishes.
    pub(crate) async fn close(&mut self, closed: Closed, watched: Vec<Event>) -> Result<(), Stop> {
        let shared = Arc::clone(&self.shared);
        let plan = &shared.plan;
        let graph = &plan.graph;
        let mut watched = watched;
        let (mut only, mut answered) = (None, None);
        let (writes, ended, members) = match closed {
            Closed::One(place, finished) if finished.failure.is_none() => {
                watched.extend(self.watch_finished(place, &finished));
                if self.log.is_some() {
                    only = Some(self.only(place, &finished)?);
                }
                self.at.used.add(place.node, finished.usage);
                self.at.note(place.node, None);
                let Finished { writes, route, .. } = finished;
                let ready = self.at.frontier.pop();
                let ended = Ended {
                    node: place.node,
                    absorbed: ready.map(|ready| ready.absorbed).unwrap_or_default(),
                    route: route.map(|route| *route).unwrap_or_default(),
                    ..Ended::default()
                };
                (vec![(place, writes)], vec![ended], Vec::new())
            }
            Closed::One(place, finished) => {
                watched.extend(self.watch_finished(place, &finished));
                if self.log.is_some() {
                    only = Some(self.only(place, &finished)?);
                }
                self.at.used.add(place.node, finished.usage);
                let members = vec![(place.node, place.step)];
                let done = Done::from([(place, finished)]);
                let ended = vec![self.ended((place.node, place.step), &done)?];
                (merge::writes(graph, done, &members), ended, members)
            }
            Closed::Members(members) => {
                let mut done = std::mem::take(&mut self.at.done);
                if members.len() < self.at.frontier.len() {
                    let is_ours = |place: &Place| members.contains(&(place.node, place.step));
                    self.at.done = done.extract_if(.., |place, _| !is_ours(place)).collect();
                }
                let ended = members
                    .iter()
                    .map(|member| self.ended(*member, &done))
                    .collect::<Result<_, EngineErrorKind>>()?;
                (merge::writes(graph, done, &members), ended, members)
            }
            Closed::Gate(index, answer, option) => {
                let (place, finished, end) = self.answered(index, &answer, option);
                if self.log.is_some() {
                    only = Some(self.only(place, &finished)?);
                }
                answered = Some(answer);
                (vec![(place, finished.writes)], vec![end], Vec::new())
            }
            Closed::Nothing => (Vec::new(), Vec::new(), Vec::new()),
        };
        let mut shown = Vec::new();
        if shared.publisher.wants(Stream::Updates) {
            let codec = self.codec();
            for write in writes.iter().flat_map(|(_, writes)| writes) {
                let name = plan.channel_name(write.channel);
                let value = codec.shown(&name, write.value.clone());
                shown.push((name, value));
            }
        }
        merge::merge(&mut self.at.state, graph, &plan.reducers, writes)?;
        self.at.frontier.retain(|ready| !members.contains(&(ready.node, ready.born)));
        // Which nodes it closes has to be said where others are under way.
        let closes: Option<Vec<NodeIdx>> = (!self.at.frontier.is_empty()).then(|| {
            let gate = only.iter().map(|only| only.place.node);
            members.iter().map(|(node, _)| *node).chain(gate).collect()
        });
        let now_ms = if plan.ways.is_plain { 0 } else { shared.clock.now().as_millisecond() };
        let mut routes = Vec::new();
        let watched_routes = shared.publisher.wants(Stream::Tasks).then_some(&mut routes);
        if ended.is_empty() {
            self.at.fire(plan, self.at.step.saturating_add(1), now_ms);
        } else {
            self.at.advance(plan, ended, now_ms, watched_routes)?;
        }
        let step = self.at.step;
        self.store(step, only.as_ref(), answered.as_ref(), closes.as_deref()).await?;
        for event in watched {
            shared.publisher.publish(|| event);
        }
        if let Some(GateAnswer { gate, option, by, .. }) = answered {
            shared.publisher.publish(|| Event::GateAnswered { step, gate, option, by });
        }
        for Routed { node, by, to } in routes {
            let to = to.into_iter().map(|node| plan.shared_name(node)).collect();
            shared.publisher.publish(|| Event::Routed { step, node: plan.shared_name(node), by, to });
        }
        self.tell(step, shown);
        self.at.step = step.saturating_add(1);
        self.announce();
        Ok(())
    }

    /// The entry of a superstep's only task.
    fn only(&self, place: Place, finished: &Finished) -> Result<OnlyTask, EngineErrorKind> {
        Ok(OnlyTask {
            place,
            writes: self.codec().writes(&finished.writes)?,
            attempts: finished.attempts,
            cached: finished.cached,
            usage: finished.usage,
            failure: finished.failure.clone(),
            route: finished.route.clone(),
        })
    }

    /// How a node ended, from its tasks; stops the run where its breaker does.
    fn ended(&mut self, (node, born): Member, done: &Done) -> Result<Ended, EngineErrorKind> {
        let own = self.shared.plan.graph.node(node);
        let ready = self.at.frontier.iter().find(|ready| (ready.node, ready.born) == (node, born));
        let absorbed = ready.map(|ready| ready.absorbed.clone()).unwrap_or_default();
        let mut route = task::Route::default();
        for (_, finished) in done.range(tasks_of((node, born))) {
            if let Some(more) = &finished.route {
                route.add(more);
            }
        }
        // A node that failed as a whole has a task without an item that says so.
        let whole = done.get(&Place { step: born, node, item: None });
        let failure = whole.and_then(|finished| finished.failure.as_deref());
        let error_arm = failure.and_then(|failure| error_arm(own, failure));
        let times = self.at.note(node, failure.filter(|_| error_arm.is_some()));
        if own.breaker > 0
            && times >= own.breaker
            && let Some(failure) = failure
        {
            return Err(EngineErrorKind::Breaker {
                node: own.name.clone(),
                times,
                failure: Box::new(failure.clone()),
            });
        }
        Ok(Ended { node, absorbed, route, error_arm, option: None })
    }

    /// Stores what a superstep did, with a snapshot if one is due.
    async fn store(
        &mut self,
        step: u32,
        only: Option<&OnlyTask>,
        answer: Option<&GateAnswer>,
        of: Option<&[NodeIdx]>,
    ) -> Result<(), EngineErrorKind> {
        if self.log.is_none() {
            return Ok(());
        }
        let elapsed = self.elapsed();
        let is_over = self.at.is_over();
        let limited = self.shared.plan.graph.deadline.is_some() || self.budget.wall.is_some();
        let shared = Arc::clone(&self.shared);
        let codec = Codec { graph: &shared.plan.graph, run: shared.run, keys: shared.keys.as_deref() };
        let Self { log, at, pending, .. } = self;
        let Some(log) = log else { return Ok(()) };
        let closing = Closing { only, answer, of, elapsed: limited.then_some(elapsed) };
        let body = codec.step(&closing, at)?;
        let node = only.map(|only| shared.plan.shared_name(only.place.node));
        let mut entries = std::mem::take(pending);
        entries.push(log::entry(EntryKind::Step, step, node, only.and_then(|only| only.place.item), body));
        let finish = is_over.then_some(Finish { status: RunStatus::Done, error: None, seal: None });
        // A snapshot between tasks that are under way would lose those that have finished.
        let whole = !is_over && at.done.is_empty();
        let snapshot = || whole.then(|| codec.snapshot(at, step.saturating_add(1), elapsed).ok())?;
        Ok(log.submit(entries, finish, snapshot).await?)
    }

    /// Tells what a superstep did.
    fn tell(&self, step: u32, writes: Vec<(Arc<str>, Value)>) {
        let (shared, plan) = (&self.shared, &self.shared.plan);
        let next = || self.at.frontier.iter().map(|ready| plan.shared_name(ready.node)).collect();
        shared.publisher.publish(|| Event::StepCommitted { step, writes, next: next() });
        if shared.publisher.wants(Stream::Values) {
            shared.publisher.publish(|| Event::Values { step, state: self.shown_state() });
        }
        if shared.publisher.wants(Stream::Debug) {
            let hash = self.log.as_ref().map(|log| super::chain::hex(log.head())).unwrap_or_default();
            let waiting = self.at.waiting.iter().map(|waiting| plan.shared_name(waiting.node)).collect();
            shared.publisher.publish(|| Event::Checkpoint { step, hash, waiting });
        }
    }

    /// The state with its secrets masked.
    pub(crate) fn shown_state(&self) -> Map<String, Value> {
        let codec = self.codec();
        let all = self.at.state.iter(&self.shared.plan.graph);
        all.map(|(channel, value)| {
            let name = &self.shared.plan.graph.channel(channel).name;
            (name.clone(), codec.shown(name, value.clone()))
        })
        .collect()
    }

    /// Stores how the run came to rest.
    pub(crate) async fn rest(&mut self, finish: Finish) -> Result<(), EngineErrorKind> {
        let entries = std::mem::take(&mut self.pending);
        match &mut self.log {
            Some(log) => Ok(log.submit(entries, Some(finish), || None).await?),
            None => Ok(()),
        }
    }

    /// Time the run has taken, over all its parts.
    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed_before + self.shared.clock.monotonic().saturating_sub(self.started)
    }

    /// The run's limit of time: its graph's deadline or its budget, whichever is shorter.
    fn limit(&self) -> Option<Duration> {
        let deadline = self.shared.plan.graph.deadline;
        match (deadline, self.budget.wall) {
            (Some(deadline), Some(wall)) => Some(deadline.min(wall)),
            (deadline, wall) => deadline.or(wall),
        }
    }

    /// Time the run has left, if it is limited.
    pub(crate) fn time_left(&self) -> Result<Option<Duration>, EngineErrorKind> {
        match self.limit() {
            None => Ok(None),
            Some(limit) => match limit.checked_sub(self.elapsed()) {
                Some(left) if !left.is_zero() => Ok(Some(left)),
                _ => Err(self.too_late()),
            },
        }
    }

    pub(crate) fn too_late(&self) -> EngineErrorKind {
        EngineErrorKind::Deadline(self.limit().unwrap_or_default())
    }

    /// What the run has used.
    pub(crate) fn used(&self) -> Usage {
        self.shared.meter.used()
    }
}

/// Waits so long, or for ever.
pub(crate) async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => pending().await,
    }
}

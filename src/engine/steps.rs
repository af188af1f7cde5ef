//! Supersteps of many tasks, and branches that run ahead of each other.

use std::sync::Arc;
use std::time::Duration;

use super::crew::{Crew, Taken, Unit};
use super::event::Event;
use super::log;
use super::position::Ready;
use super::run::{Closed, Run, Stop, sleep};
use super::task::{Failed, Finished, Place};
use super::{CheckpointError, EngineErrorKind, Entry, EntryKind, InterruptCause, NodeError, Receipt};
use crate::graph::NodeIdx;

/// Reports taken at a time.
const REPORTS: usize = 1024;

impl Run {
    /// A superstep of everything that is ready.
    pub(crate) async fn superstep(&mut self, time_left: Option<Duration>) -> Result<(), Stop> {
        let mut crew = Crew::new(&self.shared);
        let mut barrier = Barrier::default();
        self.begin(&mut crew, &self.at.frontier.clone())?;
        let result = self.work(&mut crew, &mut barrier, time_left, false).await;
        self.settled(result, &mut crew, &mut barrier).await
    }

    /// Branches run until nothing is ready, or something stops the run: each is merged when it has finished, and goes
    /// on at once where nothing that is under way could matter to it.
    pub(crate) async fn flow(&mut self, time_left: Option<Duration>) -> Result<(), Stop> {
        let mut crew = Crew::new(&self.shared);
        let mut barrier = Barrier::default();
        let result = match self.begin_free(&mut crew) {
            Ok(()) => self.work(&mut crew, &mut barrier, time_left, true).await,
            Err(error) => Err(error.into()),
        };
        self.settled(result, &mut crew, &mut barrier).await
    }

    /// Brings what has finished into the log, whatever stopped the work.
    async fn settled(
        &mut self,
        result: Result<(), Stop>,
        crew: &mut Crew,
        barrier: &mut Barrier,
    ) -> Result<(), Stop> {
        let Err(stop) = result else { return Ok(()) };
        // Nothing may follow a failed append.
        if !matches!(stop, Stop::Fault(EngineErrorKind::Checkpoint(_))) {
            for (place, finished) in crew.give_up().await {
                barrier.take(self, place, finished)?;
            }
            barrier.settle(self).await?;
        }
        Err(stop)
    }

    /// Begins work on nodes that are merged together.
    fn begin(&self, crew: &mut Crew, ready: &[Ready]) -> Result<(), EngineErrorKind> {
        self.shared.publisher.publish(|| Event::StepStarted {
            step: self.at.step,
            nodes: ready.iter().map(|ready| self.shared.plan.shared_name(ready.node)).collect(),
        });
        crew.start(&self.at, ready)
    }

    /// Begins every part of the frontier that nothing under way, or ready before it, could matter to.
    fn begin_free(&mut self, crew: &mut Crew) -> Result<(), EngineErrorKind> {
        let ways = &self.shared.plan.ways;
        let busy: Vec<(NodeIdx, u32)> = crew.members().collect();
        let waiting: Vec<Ready> = self
            .at
            .frontier
            .iter()
            .filter(|ready| !busy.contains(&(ready.node, ready.born)))
            .cloned()
            .collect();
        let mut groups: Vec<Vec<Ready>> = Vec::new();
        for ready in waiting {
            let free_of = |node: NodeIdx| {
                node != ready.node
                    && ways.are_independent(ready.node, node)
                    && ways.are_independent(node, ready.node)
            };
            // Nodes of one superstep that touch each other run, and are merged, together.
            let (mut own, others): (Vec<Vec<Ready>>, Vec<Vec<Ready>>) =
                groups.into_iter().partition(|group| {
                    group.iter().any(|other| other.born == ready.born && !free_of(other.node))
                });
            groups = others;
            let mut group: Vec<Ready> = own.drain(..).flatten().collect();
            group.push(ready);
            group.sort_by_key(|ready| ready.node);
            groups.push(group);
        }
        groups.sort_by_key(|group| group.first().map(|ready| (ready.born, ready.node)));
        for group in groups {
            let earlier = self.at.frontier.iter().filter(|other| {
                !group.iter().any(|ready| (ready.node, ready.born) == (other.node, other.born))
            });
            let free = earlier.clone().all(|other| {
                let is_busy = busy.contains(&(other.node, other.born));
                group.iter().all(|ready| {
                    let matters = is_busy || other.born < ready.born;
                    !matters
                        || (ways.are_independent(ready.node, other.node)
                            && ways.are_independent(other.node, ready.node))
                })
            });
            if free {
                self.begin(crew, &group)?;
            }
        }
        Ok(())
    }

    /// Works until everything begun is merged; with `flow`, begins more as it becomes free.
    async fn work(
        &mut self,
        crew: &mut Crew,
        barrier: &mut Barrier,
        time_left: Option<Duration>,
        flow: bool,
    ) -> Result<(), Stop> {
        let cancel = self.shared.cancel.clone();
        let deadline = sleep(time_left);
        tokio::pin!(deadline);
        let mut reports = Vec::new();
        // Units without any task are at rest from the beginning.
        let mut rested: Vec<usize> = crew.resting();
        loop {
            while let Some(number) = rested.pop() {
                let Some(unit) = crew.finish(number) else { continue };
                self.merge_unit(unit, barrier).await?;
                if flow && self.may_flow() {
                    self.begin_free(crew)?;
                    rested.extend(crew.resting());
                }
            }
            if crew.is_idle() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Stop::Interrupted(InterruptCause::Cancelled)),
                () = &mut deadline => return Err(self.too_late().into()),
                answer = barrier.sent() => barrier.acknowledge(self, answer)?,
                _ = crew.reports(&mut reports, REPORTS) => {
                    for report in reports.drain(..) {
                        match crew.take(report) {
                            Taken::Done(place, finished) => barrier.take(self, place, finished)?,
                            Taken::Noted => {}
                            Taken::Rest(number) => rested.push(number),
                        }
                    }
                }
            }
            if rested.is_empty() {
                barrier.send(self);
            }
        }
    }

    /// Whether more may be begun.
    fn may_flow(&self) -> bool {
        self.may_go_on().is_ok() && self.time_left().is_ok()
    }

    /// Merges a unit that is at rest, or stops the run with what is wrong in it.
    async fn merge_unit(&mut self, unit: Unit, barrier: &mut Barrier) -> Result<(), Stop> {
        let is_whole = unit.is_whole(&self.at);
        let Unit { members, failed, suspended, .. } = unit;
        if let Some((place, failed)) = failed.into_iter().next() {
            return Err(self.failed(place, failed)?);
        }
        if let Some(cause) = suspended {
            return Err(Stop::Interrupted(cause));
        }
        if !is_whole {
            let place = Place { step: self.at.step, node: NodeIdx(0), item: None };
            let error = NodeError::transient("a task vanished without a result");
            return Err(Failed::new(error).kind(&self.shared, place).into());
        }
        barrier.settle_sent(self).await?;
        let Barrier { entries, watched, .. } = std::mem::take(barrier);
        self.pending.extend(entries);
        self.close(Closed::Members(members), watched).await
    }
}

/// Finished tasks on their way into the log: those that wait to be sent, and those that wait for their receipt.
#[derive(Default)]
struct Barrier {
    entries: Vec<Entry>,
    watched: Vec<Event>,
    sent: Option<(Receipt<()>, Vec<Event>)>,
}

impl Barrier {
    /// Takes a finished task.
    fn take(&mut self, run: &mut Run, place: Place, finished: Finished) -> Result<(), EngineErrorKind> {
        self.watched.extend(run.watch_finished(place, &finished));
        if run.log.is_some() {
            let body = run.codec().task(&finished)?;
            let name = Arc::clone(&run.shared.plan.shared_name(place.node));
            self.entries.push(log::entry(EntryKind::Task, place.step, Some(name), place.item, body));
        }
        run.at.used.add(place.node, finished.usage);
        run.at.done.insert(place, finished);
        Ok(())
    }

    /// Sends what waits, unless a receipt is still out: meanwhile more comes together.
    fn send(&mut self, run: &mut Run) {
        if self.sent.is_some() {
            return;
        }
        let watched = std::mem::take(&mut self.watched);
        match &mut run.log {
            Some(_) if self.entries.is_empty() => self.watched = watched,
            Some(log) => {
                let entries = std::mem::take(&mut self.entries);
                self.sent = Some((log.submit(entries, None, || None).patient(), watched));
            }
            None => publish(run, watched),
        }
    }

    /// The receipt that is out; for ever where none is.
    async fn sent(&mut self) -> Result<(), CheckpointError> {
        match &mut self.sent {
            Some((receipt, _)) => receipt.await,
            None => std::future::pending().await,
        }
    }

    fn acknowledge(&mut self, run: &Run, answer: Result<(), CheckpointError>) -> Result<(), EngineErrorKind> {
        let watched = self.sent.take().map(|(_, watched)| watched);
        answer?;
        publish(run, watched.unwrap_or_default());
        Ok(())
    }

    /// Waits for the receipt that is out, if any.
    async fn settle_sent(&mut self, run: &Run) -> Result<(), EngineErrorKind> {
        if self.sent.is_some() {
            let answer = self.sent().await;
            self.acknowledge(run, answer)?;
        }
        Ok(())
    }

    /// Brings everything into the log.
    async fn settle(&mut self, run: &mut Run) -> Result<(), EngineErrorKind> {
        self.settle_sent(run).await?;
        self.send(run);
        self.settle_sent(run).await
    }
}

fn publish(run: &Run, watched: Vec<Event>) {
    for event in watched {
        run.shared.publisher.publish(|| event);
    }
}

//! A superstep of many tasks: parallel nodes, and the items of an `each`.
//!
//! Every node gets as many *lanes* as tasks of it may run at once. A lane takes one item after the other, so that
//! ten thousand short tasks cost neither ten thousand spawns nor ten thousand copies of their input.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::Args;
use super::ctx::Shared;
use super::output::Writes;
use super::run::{Run, Stop, Watched, sleep};
use super::state::State;
use super::task::{self, Failed, Finished, Place};
use super::{EngineErrorKind, Entry, InterruptCause, NodeError, Receipt, log};
use crate::graph::{ChannelIdx, NodeIdx, Parallel};

/// Reports taken at a time.
const REPORTS: usize = 1024;

/// The tasks of one node in a superstep.
struct Group {
    node: NodeIdx,
    over: Option<ChannelIdx>,
    /// Tasks that have not finished; the place in the list where the node is an `each`.
    todo: Vec<Option<u32>>,
    lanes: usize,
}

/// What the lanes of a group share.
struct Work {
    shared: Arc<Shared>,
    snapshot: Arc<State>,
    group: Group,
    step: u32,
    /// The next task to take.
    taken: AtomicUsize,
    /// No more tasks are to be begun.
    stop: Arc<AtomicBool>,
}

struct Report {
    place: Place,
    result: Result<Finished, Failed>,
}

impl Run {
    /// A superstep that is not just one task of one node.
    pub(crate) async fn many(&mut self, time_left: Option<Duration>) -> Result<(), Stop> {
        let (groups, total) = self.groups()?;
        if total == 1
            && self.at.done.is_empty()
            && let [Group { node, over: Some(over), .. }] = *groups
        {
            let list = self.at.state.share(over);
            let item = list.as_deref().and_then(Value::as_array).and_then(|list| list.first());
            return self.single(node, item.map(|item| (0, item)), time_left).await;
        }
        let mut barrier = Barrier::default();
        if groups.iter().any(|group| !group.todo.is_empty()) {
            let stop = self.gather(groups, &mut barrier, time_left).await;
            if let Err(stop) = stop {
                // What had finished is kept, so that a resume does not repeat it; but nothing may follow a
                // failed append.
                if !matches!(stop, Stop::Fault(EngineErrorKind::Checkpoint(_))) {
                    barrier.settle(self).await?;
                }
                return Err(stop);
            }
            barrier.settle_sent(self).await?;
        }
        let Barrier { entries, watched, .. } = barrier;
        let step = self.at.step;
        let tasks: Vec<(Place, Writes)> = std::mem::take(&mut self.at.done)
            .into_iter()
            .map(|((node, item), finished)| (Place { step, node, item }, finished.writes))
            .collect();
        self.commit(entries, None, watched, tasks.into_iter()).await
    }

    /// The tasks of the superstep that have not finished, and how many it has in all.
    fn groups(&self) -> Result<(Vec<Group>, usize), EngineErrorKind> {
        let graph = &self.shared.plan.graph;
        let mut total = 0;
        let mut groups = Vec::with_capacity(self.at.frontier.len());
        for index in &self.at.frontier {
            let node = graph.node(*index);
            let (over, lanes, tasks) = match &node.each {
                None => (None, 1, vec![None]),
                Some(each) => {
                    let count = match self.at.state.get(each.over) {
                        None | Some(Value::Null) => 0,
                        Some(Value::Array(items)) => u32::try_from(items.len()).unwrap_or(u32::MAX),
                        Some(_) => {
                            return Err(EngineErrorKind::NoList {
                                node: node.name.clone(),
                                channel: graph.channel(each.over).name.clone(),
                            });
                        }
                    };
                    let lanes = match each.max_parallel {
                        Parallel::Fixed(lanes) => lanes,
                        Parallel::Channel(channel) => self
                            .at
                            .state
                            .get(channel)
                            .and_then(Value::as_u64)
                            .and_then(|lanes| usize::try_from(lanes).ok())
                            .unwrap_or(1),
                    };
                    (Some(each.over), lanes.max(1), (0..count).map(Some).collect())
                }
            };
            total += tasks.len();
            let todo: Vec<Option<u32>> =
                tasks.into_iter().filter(|item| !self.at.done.contains_key(&(*index, *item))).collect();
            let lanes = lanes.min(todo.len());
            groups.push(Group { node: *index, over, todo, lanes });
        }
        Ok((groups, total))
    }

    /// Works on all groups until every task has finished, or one has failed and the others in flight have come
    /// to rest.
    async fn gather(
        &mut self,
        groups: Vec<Group>,
        barrier: &mut Barrier,
        time_left: Option<Duration>,
    ) -> Result<(), Stop> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut remaining: usize = groups.iter().map(|group| group.todo.len()).sum();
        let mut failed: BTreeMap<Place, Failed> = BTreeMap::new();
        let (reports_in, mut reports_out) = mpsc::unbounded_channel();
        let mut lanes = JoinSet::new();
        let snapshot = Arc::new(self.at.state.clone());
        for group in groups {
            let count = group.lanes;
            let work = Arc::new(Work {
                shared: Arc::clone(&self.shared),
                snapshot: Arc::clone(&snapshot),
                group,
                step: self.at.step,
                taken: AtomicUsize::new(0),
                stop: Arc::clone(&stop),
            });
            for _ in 0..count {
                lanes.spawn(lane(Arc::clone(&work), reports_in.clone()));
            }
        }
        drop((reports_in, snapshot));
        let cancel = self.shared.cancel.clone();
        let deadline = sleep(time_left);
        tokio::pin!(deadline);
        let mut reports = Vec::new();
        let stopped = loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break Some(Stop::Interrupted(InterruptCause::Cancelled)),
                () = &mut deadline => break Some(self.too_late().into()),
                answer = barrier.sent() => barrier.acknowledge(self, answer)?,
                taken = reports_out.recv_many(&mut reports, REPORTS) => {
                    if taken == 0 {
                        break None;
                    }
                    remaining = remaining.saturating_sub(taken);
                    for report in reports.drain(..) {
                        match report.result {
                            Ok(finished) => barrier.take(self, report.place, finished)?,
                            Err(fault) => {
                                stop.store(true, Ordering::Release);
                                failed.insert(report.place, fault);
                            }
                        }
                    }
                }
            }
            if remaining > 0 {
                barrier.send(self);
            }
        };
        if stopped.is_some() {
            // Dropping the lanes gives up their tasks; what they had already reported counts.
            lanes.shutdown().await;
            while let Ok(report) = reports_out.try_recv() {
                if let Ok(finished) = report.result {
                    barrier.take(self, report.place, finished)?;
                }
            }
        }
        match (stopped, failed.pop_first()) {
            (Some(stop), _) => Err(stop),
            (None, Some((place, fault))) => Err(fault.kind(&self.shared, place).into()),
            (None, None) if remaining > 0 => {
                let place = Place { step: self.at.step, node: NodeIdx(0), item: None };
                let error = NodeError::transient("a task vanished without a result");
                Err(Failed { attempts: 0, error }.kind(&self.shared, place).into())
            }
            (None, None) => Ok(()),
        }
    }
}

/// Takes one task of a group after the other.
async fn lane(work: Arc<Work>, reports: mpsc::UnboundedSender<Report>) {
    let Work { shared, snapshot, group, step, taken, stop } = &*work;
    let graph = &shared.plan.graph;
    let node = graph.node(group.node);
    let list = group.over.and_then(|over| snapshot.get(over)).and_then(Value::as_array);
    while !stop.load(Ordering::Acquire) {
        let Some(item) = group.todo.get(taken.fetch_add(1, Ordering::Relaxed)) else { return };
        let value = item.and_then(|item| list?.get(usize::try_from(item).ok()?));
        let place = Place { step: *step, node: group.node, item: *item };
        let args = Args { graph, node, state: snapshot, item: value };
        let result = task::work(shared, place, args, || stop.load(Ordering::Acquire)).await;
        if reports.send(Report { place, result }).is_err() {
            return;
        }
        tokio::task::consume_budget().await;
    }
}

/// Finished tasks on their way into the log: those that wait to be sent, and those that wait for their receipt.
#[derive(Default)]
struct Barrier {
    entries: Vec<Entry>,
    watched: Watched,
    sent: Option<(Receipt<()>, Watched)>,
}

impl Barrier {
    /// Takes a finished task.
    fn take(&mut self, run: &mut Run, place: Place, finished: Finished) -> Result<(), EngineErrorKind> {
        self.watched.append(&mut run.watch_finished(place, finished.attempts));
        if run.log.is_some() {
            self.entries.push(log::task_entry(&run.shared.plan, place, &finished)?);
        }
        run.at.done.insert((place.node, place.item), finished);
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
    async fn sent(&mut self) -> Result<(), super::CheckpointError> {
        match &mut self.sent {
            Some((receipt, _)) => receipt.await,
            None => pending().await,
        }
    }

    fn acknowledge(
        &mut self,
        run: &Run,
        answer: Result<(), super::CheckpointError>,
    ) -> Result<(), EngineErrorKind> {
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

fn publish(run: &Run, watched: Watched) {
    for event in watched {
        run.shared.publisher.publish(|| event);
    }
}

//! Tasks at work: the lanes that take them, one unit of nodes that is merged together at a time.
//!
//! Every node gets as many *lanes* as tasks of it may run at once. A lane takes one item after the other, so that
//! ten thousand short tasks cost neither ten thousand spawns nor ten thousand copies of their input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::Args;
use super::ctx::Shared;
use super::meter::{Counter, Usage};
use super::next::error_arm;
use super::output::Write;
use super::position::{Position, Ready};
use super::state::State;
use super::task::{self, Failed, Fan, Finished, Place};
use super::{EngineErrorKind, InterruptCause, NodeError};
use crate::graph::{ChannelIdx, Graph, Node, NodeIdx, OnItemError, Parallel, Reducer};

/// A node of the frontier, told apart from the same node at another time.
pub(crate) type Member = (NodeIdx, u32);

/// The tasks of one node at work.
struct Group {
    node: NodeIdx,
    born: u32,
    over: Option<ChannelIdx>,
    batch: usize,
    sends: Vec<Arc<Value>>,
    /// Tasks that have not finished; the place in the list where the node is an `each`.
    todo: Vec<Option<u32>>,
}

/// What the lanes of a group share.
struct Work {
    shared: Arc<Shared>,
    snapshot: Arc<State>,
    group: Group,
    unit: usize,
    counter: Counter,
    /// The next task to take.
    taken: AtomicUsize,
    /// No more tasks are to be begun: of this group, or of any.
    stop: AtomicBool,
    stop_all: Arc<AtomicBool>,
}

impl Work {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.stop_all.load(Ordering::Acquire)
    }
}

/// What a lane has to say.
pub(crate) enum Report {
    /// A task ended.
    Task { unit: usize, place: Place, result: Box<Result<Finished, Failed>> },
    /// The lane has nothing more to take.
    Idle { unit: usize },
}

/// Nodes that are merged together.
pub(crate) struct Unit {
    pub(crate) members: Vec<Member>,
    groups: Vec<Arc<Work>>,
    /// Lanes that still work.
    lanes: usize,
    /// How many tasks each group has, finished ones included.
    totals: BTreeMap<Member, u32>,
    tolerated: BTreeMap<Member, u32>,
    /// Failures that nothing takes.
    pub(crate) failed: BTreeMap<Place, Failed>,
    /// A task that came to rest before its end.
    pub(crate) suspended: Option<InterruptCause>,
}

/// What becomes of a report.
pub(crate) enum Taken {
    /// A task has finished, or its failure was taken.
    Done(Place, Finished),
    /// Something that changes the unit only.
    Noted,
    /// The unit is at rest.
    Rest(usize),
}

/// All tasks of a run that are at work.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    lanes: JoinSet<()>,
    reports_in: mpsc::UnboundedSender<Report>,
    reports_out: mpsc::UnboundedReceiver<Report>,
    stop_all: Arc<AtomicBool>,
    units: BTreeMap<usize, Unit>,
    next_unit: usize,
}

impl Crew {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        // Unbounded: a lane has one task at a time, and its report is taken before anything else is begun.
        let (reports_in, reports_out) = mpsc::unbounded_channel();
        Self {
            shared: Arc::clone(shared),
            lanes: JoinSet::new(),
            reports_in,
            reports_out,
            stop_all: Arc::default(),
            units: BTreeMap::new(),
            next_unit: 0,
        }
    }

    /// Whether nothing is at work.
    pub(crate) fn is_idle(&self) -> bool {
        self.units.is_empty()
    }

    /// Nodes at work.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.units.values().flat_map(|unit| unit.members.iter().copied())
    }

    /// Begins work on nodes of the frontier, to be merged together.
    pub(crate) fn start(&mut self, at: &Position, ready: &[Ready]) -> Result<(), EngineErrorKind> {
        let number = self.next_unit;
        self.next_unit += 1;
        let snapshot = Arc::new(at.state.clone());
        let mut unit = Unit {
            members: ready.iter().map(|ready| (ready.node, ready.born)).collect(),
            groups: Vec::with_capacity(ready.len()),
            lanes: 0,
            totals: BTreeMap::new(),
            tolerated: BTreeMap::new(),
            failed: BTreeMap::new(),
            suspended: None,
        };
        let mut faults = Vec::new();
        for ready in ready {
            let (group, lanes, total) = group(&self.shared.plan.graph, at, ready)?;
            let member = (ready.node, ready.born);
            unit.totals.insert(member, total);
            let done =
                at.done.range(tasks_of(member)).filter(|(_, finished)| finished.failure.is_some()).count();
            unit.tolerated.insert(member, u32::try_from(done).unwrap_or(u32::MAX));
            if let Some((class, message)) = &ready.fault {
                let place = Place { step: ready.born, node: ready.node, item: None };
                if !at.done.contains_key(&place) {
                    faults.push((place, Failed::new(NodeError::new(*class, message))));
                }
                continue;
            }
            if at
                .done
                .get(&Place { step: ready.born, node: ready.node, item: None })
                .is_some_and(|f| f.failure.is_some())
            {
                // It failed as a whole before the run was cut off, and an error arm took it.
                continue;
            }
            let mut spent = Usage::default();
            at.done.range(tasks_of(member)).for_each(|(_, finished)| spent.add(finished.usage));
            let work = Arc::new(Work {
                shared: Arc::clone(&self.shared),
                snapshot: Arc::clone(&snapshot),
                group,
                unit: number,
                counter: Counter::from(spent),
                taken: AtomicUsize::new(0),
                stop: AtomicBool::new(false),
                stop_all: Arc::clone(&self.stop_all),
            });
            for _ in 0..lanes {
                self.lanes.spawn(lane(Arc::clone(&work), self.reports_in.clone()));
            }
            unit.lanes += lanes;
            unit.groups.push(work);
        }
        for (place, failed) in faults {
            drop(self.reports_in.send(Report::Task { unit: number, place, result: Box::new(Err(failed)) }));
            drop(self.reports_in.send(Report::Idle { unit: number }));
            unit.lanes += 1;
        }
        self.units.insert(number, unit);
        Ok(())
    }

    /// Units that have nothing at work and nothing to say.
    pub(crate) fn resting(&self) -> Vec<usize> {
        self.units.iter().filter(|(_, unit)| unit.lanes == 0).map(|(number, _)| *number).collect()
    }

    /// Waits for reports.
    pub(crate) async fn reports(&mut self, into: &mut Vec<Report>, most: usize) -> usize {
        self.reports_out.recv_many(into, most).await
    }

    /// Takes a report.
    pub(crate) fn take(&mut self, report: Report) -> Taken {
        let graph = Arc::clone(&self.shared.plan.graph);
        match report {
            Report::Idle { unit: number } => match self.units.get_mut(&number) {
                Some(unit) => {
                    unit.lanes = unit.lanes.saturating_sub(1);
                    if unit.lanes == 0 { Taken::Rest(number) } else { Taken::Noted }
                }
                None => Taken::Noted,
            },
            Report::Task { unit: number, place, result } => {
                let Some(unit) = self.units.get_mut(&number) else { return Taken::Noted };
                let failed = match *result {
                    Ok(finished) => return Taken::Done(place, finished),
                    Err(failed) => failed,
                };
                if let Some(cause) = failed.suspended {
                    unit.suspended = Some(cause);
                    return Taken::Noted;
                }
                let member = (place.node, place.step);
                let total = unit.totals.get(&member).copied().unwrap_or(1);
                let tolerated = unit.tolerated.entry(member).or_default();
                match absorb(&graph, place, failed, *tolerated, total) {
                    Absorbed::Item(finished) => {
                        *tolerated += 1;
                        Taken::Done(place, finished)
                    }
                    Absorbed::Node(finished) => {
                        // The node has failed as a whole: its other tasks are not begun.
                        for work in &unit.groups {
                            if (work.group.node, work.group.born) == member {
                                work.stop.store(true, Ordering::Release);
                            }
                        }
                        Taken::Done(Place { item: None, ..place }, finished)
                    }
                    Absorbed::Nothing(failed) => {
                        self.stop_all.store(true, Ordering::Release);
                        unit.failed.insert(place, failed);
                        Taken::Noted
                    }
                }
            }
        }
    }

    /// Takes a unit that is at rest out.
    pub(crate) fn finish(&mut self, number: usize) -> Option<Unit> {
        self.units.remove(&number)
    }

    /// Gives up what is at work; what had been reported already counts.
    pub(crate) async fn give_up(&mut self) -> Vec<(Place, Finished)> {
        self.lanes.shutdown().await;
        let mut done = Vec::new();
        while let Ok(report) = self.reports_out.try_recv() {
            if let Taken::Done(place, finished) = self.take(report) {
                done.push((place, finished));
            }
        }
        done
    }
}

impl Unit {
    /// Whether every task of it is among the finished ones, or its node failed and an error arm took it.
    pub(crate) fn is_whole(&self, at: &Position) -> bool {
        self.totals.iter().all(|(member, total)| {
            let (mut tasks, mut failed) = (0, false);
            for (place, finished) in at.done.range(tasks_of(*member)) {
                tasks += 1;
                failed |= place.item.is_none() && finished.failure.is_some();
            }
            failed || tasks == *total
        })
    }
}

/// The places of a node's tasks.
pub(crate) fn tasks_of((node, born): Member) -> std::ops::RangeInclusive<Place> {
    Place { step: born, node, item: None }..=Place { step: born, node, item: Some(u32::MAX) }
}

/// What takes a failure.
pub(crate) enum Absorbed {
    /// The fan-out tolerates it.
    Item(Finished),
    /// An error arm of the node.
    Node(Finished),
    /// Nothing: it stops the run.
    Nothing(Failed),
}

/// Finds what takes a failure, where `tolerated` of `total` tasks have failed before.
pub(crate) fn absorb(graph: &Graph, place: Place, failed: Failed, tolerated: u32, total: u32) -> Absorbed {
    let node = graph.node(place.node);
    let failure = failed.failure(place.item);
    let finished = |writes| Finished {
        failure: Some(Box::new(failure.clone())),
        usage: failed.usage,
        ..Finished::with(failed.attempts, writes)
    };
    if place.item.is_some()
        && let Some(each) = &node.each
        && each.on_item_error != OnItemError::Fail
        && tolerated < each.tolerate.most(total)
    {
        let nulls = if each.on_item_error == OnItemError::Null { nulls(graph, node) } else { Vec::new() };
        return Absorbed::Item(finished(nulls));
    }
    if error_arm(node, &failure).is_some() {
        return Absorbed::Node(finished(Vec::new()));
    }
    Absorbed::Nothing(failed)
}

/// What stands at the place of a failed item: null in every list that the node adds to.
fn nulls(graph: &Graph, node: &Node) -> Vec<Write> {
    let lists = node.writes.iter().filter(|(_, channel)| graph.channel(*channel).reducer == Reducer::Append);
    lists
        .map(|(_, channel)| Write {
            channel: *channel,
            value: Value::Array(vec![Value::Null]),
            overwrite: false,
        })
        .collect()
}

/// The tasks of a node that have not finished, its lanes, and how many tasks it has in all.
fn group(graph: &Graph, at: &Position, ready: &Ready) -> Result<(Group, usize, u32), EngineErrorKind> {
    let node = graph.node(ready.node);
    let (over, batch, lanes, tasks) = match &node.each {
        None => {
            let sent = (0..u32::try_from(ready.sends.len()).unwrap_or(u32::MAX)).map(Some);
            let tasks: Vec<Option<u32>> = ready.plain.then_some(None).into_iter().chain(sent).collect();
            (None, 1, SENT_LANES, tasks)
        }
        Some(each) => {
            let count = match at.state.get(each.over) {
                None | Some(Value::Null) => 0,
                Some(Value::Array(items)) => items.len(),
                Some(_) => {
                    return Err(EngineErrorKind::NoList {
                        node: node.name.clone(),
                        channel: graph.channel(each.over).name.clone(),
                    });
                }
            };
            let lanes = match each.max_parallel {
                Parallel::Fixed(lanes) => lanes,
                Parallel::Channel(channel) => at
                    .state
                    .get(channel)
                    .and_then(Value::as_u64)
                    .and_then(|lanes| usize::try_from(lanes).ok())
                    .unwrap_or(1),
            };
            let batch = each.batch.unwrap_or(1).max(1);
            let count = u32::try_from(count.div_ceil(batch)).unwrap_or(u32::MAX);
            (Some(each.over), batch, lanes, (0..count).map(Some).collect())
        }
    };
    let total = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
    let todo: Vec<Option<u32>> = tasks
        .into_iter()
        .filter(|item| !at.done.contains_key(&Place { step: ready.born, node: ready.node, item: *item }))
        .collect();
    let lanes = lanes.max(1).min(todo.len());
    let (node, born, sends) = (ready.node, ready.born, ready.sends.clone());
    Ok((Group { node, born, over, batch, sends, todo }, lanes, total))
}

/// Tasks at once of a node that others send to.
const SENT_LANES: usize = 16;

/// Takes one task of a group after the other.
async fn lane(work: Arc<Work>, reports: mpsc::UnboundedSender<Report>) {
    let Work { shared, snapshot, group, unit, counter, taken, .. } = &*work;
    let graph = &shared.plan.graph;
    let node = graph.node(group.node);
    let list = group.over.and_then(|over| snapshot.get(over)).and_then(Value::as_array);
    let fan = node.each.as_ref().map(|each| Fan { budget: &each.budget, counter });
    while !work.stops() {
        let Some(item) = group.todo.get(taken.fetch_add(1, Ordering::Relaxed)) else { break };
        let index = item.and_then(|item| usize::try_from(item).ok());
        let batch;
        let (value, sent) = match (list, index) {
            (Some(list), Some(index)) if node.each.as_ref().is_some_and(|each| each.batch.is_some()) => {
                let first = index * group.batch;
                let items = list.get(first..(first + group.batch).min(list.len())).unwrap_or_default();
                batch = Value::Array(items.to_vec());
                (Some(&batch), None)
            }
            (Some(list), Some(index)) => (list.get(index), None),
            (None, Some(index)) => (None, group.sends.get(index).and_then(|input| input.as_object())),
            (_, None) => (None, None),
        };
        let place = Place { step: group.born, node: group.node, item: *item };
        let args = Args { graph, node, state: snapshot, item: value, sent };
        let result = Box::new(task::work(shared, place, args, fan, || work.stops()).await);
        if reports.send(Report::Task { unit: *unit, place, result }).is_err() {
            return;
        }
        tokio::task::consume_budget().await;
    }
    // A run that is gone needs no word.
    drop(reports.send(Report::Idle { unit: *unit }));
}

//! What a run's log says: writing its entries, and putting a run together again from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::merge;
use super::output::{Write, Writes};
use super::plan::Plan;
use super::state::State;
use super::task::{Finished, Place};
use super::{
    Batch, CheckpointError, Checkpointer, Claim, EngineErrorKind, Entry, EntryKind, Finish, Receipt,
    RunRecord, Snapshot, StoredEntry,
};
use crate::graph::{Durability, Graph, NodeIdx};

/// Deltas lighter than this never call for a snapshot.
const LEAST_WEIGHT: usize = 16 * 1024;

/// What an entry weighs beside its body.
const ENTRY_WEIGHT: usize = 64;

/// The writing end of a run's log. Gives its claim up when dropped.
#[derive(Debug)]
pub(crate) struct RunLog {
    store: Arc<dyn Checkpointer>,
    claim: Claim,
    durability: Durability,
    next_seq: u32,
    /// Entries that wait for the end of the run, with durability `exit`.
    held_back: Vec<Entry>,
    /// Weight of the entries after the last snapshot.
    weight: usize,
    snapshot_weight: usize,
}

impl RunLog {
    pub(crate) fn new(store: Arc<dyn Checkpointer>, claim: Claim, durability: Durability) -> Self {
        Self { store, claim, durability, next_seq: 0, held_back: Vec::new(), weight: 0, snapshot_weight: 0 }
    }

    /// Goes on where a stored log ends.
    pub(crate) fn go_on(&mut self, record: &RunRecord) {
        let first = record.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        self.next_seq = record.entries.last().map_or(first, |last| last.seq.saturating_add(1));
        self.weight = record.entries.iter().map(|stored| stored.entry.body.len() + ENTRY_WEIGHT).sum();
        self.snapshot_weight = record.snapshot.as_ref().map_or(0, |snapshot| snapshot.body.len());
    }

    pub(crate) const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Hands entries to the store. `snapshot` is asked for the state's JSON when one is due.
    pub(crate) fn submit(
        &mut self,
        mut entries: Vec<Entry>,
        finish: Option<Finish>,
        snapshot: impl FnOnce() -> Option<String>,
    ) -> Receipt<()> {
        self.weight += entries.iter().map(|entry| entry.body.len() + ENTRY_WEIGHT).sum::<usize>();
        if self.durability == Durability::Exit {
            self.held_back.append(&mut entries);
            if finish.is_none() {
                return Receipt::now(Ok(()));
            }
            entries = std::mem::take(&mut self.held_back);
        }
        let first_seq = self.next_seq;
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.next_seq = first_seq.saturating_add(count);
        let due = self.weight >= self.snapshot_weight.max(LEAST_WEIGHT);
        let snapshot = if due { snapshot() } else { None }.map(|body| {
            self.weight = 0;
            self.snapshot_weight = body.len();
            Snapshot { seq: self.next_seq, body }
        });
        let batch = Batch { first_seq, entries, snapshot, finish, durability: self.durability };
        self.store.append(&self.claim, batch)
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        self.claim.end();
        self.store.release(&self.claim);
    }
}

/// Writes as `[["channel", value], …]`.
struct WritesJson<'a>(&'a Plan, &'a [Write]);

impl Serialize for WritesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.1.len()))?;
        for write in self.1 {
            list.serialize_element(&(self.0.channel_name(write.channel), &write.value))?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct BodyOut<'a> {
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    writes: Option<&'a RawValue>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Vec<Arc<str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<u64>,
}

#[derive(Deserialize)]
struct BodyIn {
    #[serde(rename = "w", default)]
    writes: Vec<(String, Value)>,
    #[serde(rename = "n", default = "one")]
    attempts: u32,
    #[serde(default)]
    next: Vec<String>,
    #[serde(default)]
    ms: u64,
}

const fn one() -> u32 {
    1
}

/// What a task wrote, as JSON, before the merge takes the values.
pub(crate) fn writes_json(plan: &Plan, writes: &[Write]) -> Result<Box<RawValue>, EngineErrorKind> {
    serde_json::value::to_raw_value(&WritesJson(plan, writes)).map_err(|error| unwritable(&error))
}

fn unwritable(error: &serde_json::Error) -> EngineErrorKind {
    EngineErrorKind::Log { seq: u32::MAX, message: error.to_string() }
}

/// The entry of a finished task.
pub(crate) fn task_entry(plan: &Plan, place: Place, finished: &Finished) -> Result<Entry, EngineErrorKind> {
    let writes = writes_json(plan, &finished.writes)?;
    let attempts = (finished.attempts > 1).then_some(finished.attempts);
    let body = BodyOut { writes: Some(&writes), attempts, next: None, ms: None };
    Ok(Entry {
        kind: EntryKind::Task,
        step: place.step,
        node: Some(plan.shared_name(place.node)),
        item: place.item,
        body: serde_json::to_string(&body).map_err(|error| unwritable(&error))?,
    })
}

/// The only task of a superstep, as its entry records it.
pub(crate) struct OnlyTask {
    pub(crate) place: Place,
    pub(crate) attempts: u32,
    pub(crate) writes: Box<RawValue>,
}

/// The entry of a finished superstep.
pub(crate) fn step_entry(
    plan: &Plan,
    step: u32,
    only: Option<&OnlyTask>,
    next: &[NodeIdx],
    elapsed: Option<Duration>,
) -> Result<Entry, EngineErrorKind> {
    let body = BodyOut {
        writes: only.map(|only| &*only.writes),
        attempts: only.map(|only| only.attempts).filter(|attempts| *attempts > 1),
        next: Some(plan.shared_names(next)),
        ms: elapsed.map(|elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
    };
    Ok(Entry {
        kind: EntryKind::Step,
        step,
        node: only.map(|only| plan.shared_name(only.place.node)),
        item: only.and_then(|only| only.place.item),
        body: serde_json::to_string(&body).map_err(|error| unwritable(&error))?,
    })
}

#[derive(Serialize)]
struct SnapshotOut<'a> {
    step: u32,
    next: Vec<Arc<str>>,
    ms: u64,
    state: BTreeMap<&'a str, &'a Value>,
}

#[derive(Deserialize)]
struct SnapshotIn {
    step: u32,
    next: Vec<String>,
    ms: u64,
    state: BTreeMap<String, Value>,
}

/// The state before superstep `step`, as a snapshot keeps it.
pub(crate) fn snapshot_json(
    plan: &Plan,
    state: &State,
    step: u32,
    next: &[NodeIdx],
    elapsed: Duration,
) -> Option<String> {
    let snapshot = SnapshotOut {
        step,
        next: plan.shared_names(next),
        ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        state: state.iter(&plan.graph).collect(),
    };
    serde_json::to_string(&snapshot).ok()
}

/// Where a run stands between two supersteps, or within one.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) state: State,
    /// The superstep that comes next, or is not finished.
    pub(crate) step: u32,
    /// Its nodes, in file order.
    pub(crate) frontier: Vec<NodeIdx>,
    /// Its tasks that have finished.
    pub(crate) done: BTreeMap<(NodeIdx, Option<u32>), Finished>,
    /// Time the run has taken.
    pub(crate) elapsed: Duration,
}

/// Puts a run together again.
pub(crate) fn replay(graph: &Graph, record: &RunRecord) -> Result<Position, EngineErrorKind> {
    let state = State::start(graph, record.input.clone())
        .map_err(|(channel, message)| EngineErrorKind::Input { channel, message })?;
    let mut at = Position {
        state,
        step: 0,
        frontier: vec![graph.start],
        done: BTreeMap::new(),
        elapsed: Duration::ZERO,
    };
    if let Some(snapshot) = &record.snapshot {
        at.load(graph, snapshot)?;
    }
    for stored in &record.entries {
        at.take(graph, stored)?;
    }
    Ok(at)
}

impl Position {
    fn load(&mut self, graph: &Graph, snapshot: &Snapshot) -> Result<(), EngineErrorKind> {
        let fault = |message: String| EngineErrorKind::Log { seq: snapshot.seq, message };
        let mut held: SnapshotIn =
            serde_json::from_str(&snapshot.body).map_err(|error| fault(format!("snapshot: {error}")))?;
        for (place, channel) in graph.channels.iter().enumerate() {
            self.state.set(crate::graph::ChannelIdx(place), held.state.remove(&channel.name));
        }
        self.step = held.step;
        self.frontier = nodes(graph, &held.next).map_err(fault)?;
        self.elapsed = Duration::from_millis(held.ms);
        Ok(())
    }

    fn take(&mut self, graph: &Graph, stored: &StoredEntry) -> Result<(), EngineErrorKind> {
        let fault = |message: String| EngineErrorKind::Log { seq: stored.seq, message };
        let body: BodyIn =
            serde_json::from_str(&stored.entry.body).map_err(|error| fault(error.to_string()))?;
        if stored.entry.step != self.step {
            return Err(fault(format!("is of superstep {}, not {}", stored.entry.step, self.step)));
        }
        if let Some(name) = &stored.entry.node {
            let node = graph.node_named(name).ok_or_else(|| fault(format!("no node `{name}`")))?;
            let writes = writes(graph, body.writes).map_err(fault)?;
            self.done.insert((node, stored.entry.item), Finished { attempts: body.attempts, writes });
        }
        if stored.entry.kind == EntryKind::Step {
            let done = std::mem::take(&mut self.done);
            let step = self.step;
            let tasks = done
                .into_iter()
                .map(|((node, item), finished)| (Place { step, node, item }, finished.writes));
            merge::merge(&mut self.state, graph, tasks)?;
            self.frontier = nodes(graph, &body.next).map_err(fault)?;
            self.step = self.step.saturating_add(1);
            if body.ms > 0 {
                self.elapsed = Duration::from_millis(body.ms);
            }
        }
        Ok(())
    }
}

fn nodes(graph: &Graph, names: &[String]) -> Result<Vec<NodeIdx>, String> {
    names.iter().map(|name| graph.node_named(name).ok_or_else(|| format!("no node `{name}`"))).collect()
}

fn writes(graph: &Graph, writes: Vec<(String, Value)>) -> Result<Writes, String> {
    writes
        .into_iter()
        .map(|(name, value)| {
            let channel = graph.channel_named(&name).ok_or_else(|| format!("no channel `{name}`"))?;
            Ok(Write { channel, value })
        })
        .collect()
}

/// A superstep in a run's history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// Its number, from 0.
    pub step: u32,
    /// When it was committed, in milliseconds since the Unix epoch; of an unfinished one, when its last task was.
    pub at_ms: i64,
    /// Whether it is finished; only the last one may not be.
    pub finished: bool,
    /// Its tasks, by node name and item.
    pub tasks: Vec<TaskRecord>,
    /// The nodes of the next superstep.
    pub next: Vec<String>,
}

/// A finished task in a run's history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskRecord {
    /// Its node.
    pub node: String,
    /// Which item of a fan-out.
    pub item: Option<u32>,
    /// How often it was tried.
    pub attempts: u32,
    /// Channel and value of each write.
    pub writes: Vec<(String, Value)>,
}

/// The supersteps that a log tells of.
pub(crate) fn history(log: Vec<StoredEntry>) -> Result<Vec<StepRecord>, CheckpointErrorText> {
    let mut steps: Vec<StepRecord> = Vec::new();
    for stored in log {
        let body: BodyIn = serde_json::from_str(&stored.entry.body)
            .map_err(|error| CheckpointErrorText(format!("entry {}: {error}", stored.seq)))?;
        if steps.last().is_none_or(|last| last.step != stored.entry.step || last.finished) {
            steps.push(StepRecord {
                step: stored.entry.step,
                at_ms: stored.at_ms,
                finished: false,
                tasks: Vec::new(),
                next: Vec::new(),
            });
        }
        let Some(last) = steps.last_mut() else { continue };
        last.at_ms = stored.at_ms;
        if let Some(node) = stored.entry.node {
            let node = node.to_string();
            let (attempts, writes) = (body.attempts, body.writes);
            last.tasks.push(TaskRecord { node, item: stored.entry.item, attempts, writes });
        }
        if stored.entry.kind == EntryKind::Step {
            last.finished = true;
            last.next = body.next;
        }
    }
    for step in &mut steps {
        step.tasks.sort_by(|a, b| a.node.cmp(&b.node).then(a.item.cmp(&b.item)));
    }
    Ok(steps)
}

/// Why a log cannot be read.
pub(crate) struct CheckpointErrorText(pub(crate) String);

impl CheckpointErrorText {
    pub(crate) fn of(self, run: crate::id::RunId) -> CheckpointError {
        CheckpointError { run, kind: super::CheckpointErrorKind::Unreadable(self.0) }
    }
}

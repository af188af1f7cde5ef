//! What a run did, step by step; its state at any of them.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::body::{BodyIn, WriteIn};
use super::change::Read;
use super::codec::{Codec, MASK, is_sealed};
use super::meter::Usage;
use super::position::Position;
use super::{
    CheckpointError, CheckpointErrorKind, Engine, EngineError, EngineErrorKind, EntryKind, Failure,
    GateAnswer, GateView, History, RunRecord, StoredEntry,
};
use super::{gates, replay};
use crate::graph::{Graph, NodeIdx};
use crate::id::RunId;

/// A superstep in a run's history.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepRecord {
    /// Its number, from 0.
    pub step: u32,
    /// When it was committed, in milliseconds since the Unix epoch; of an unfinished one, when its last task was.
    pub at_ms: i64,
    /// Whether it is finished; only the last one may not be.
    pub finished: bool,
    /// What it is, where it is no superstep: `edit`, `upgrade` or `finally`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The versions of the graph before and after an upgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub versions: Option<(u32, u32)>,
    /// Its tasks, by node name and item.
    pub tasks: Vec<TaskRecord>,
    /// Failures that stopped the run here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<(String, Failure)>,
    /// Channel and value of each write of an edit that no node stands for; secrets masked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<(String, Value)>,
    /// The answer to a gate that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<GateAnswer>,
    /// The nodes that are to run next.
    pub next: Vec<String>,
    /// Joins and deferred nodes that wait.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// Gates that wait for an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<String>,
}

/// A finished task in a run's history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskRecord {
    /// Its node.
    pub node: String,
    /// Which item of a fan-out.
    pub item: Option<u32>,
    /// How often it was tried; 0 where a kept result stood for it.
    pub attempts: u32,
    /// Channel and value of each write; secrets masked.
    pub writes: Vec<(String, Value)>,
    /// Its failure, where an error arm or the fan-out's tolerance took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it used.
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub used: Usage,
}

/// A channel that differs between two steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The channel.
    pub channel: String,
    /// Its value at the first; none where it had none.
    pub before: Option<Value>,
    /// Its value at the second.
    pub after: Option<Value>,
}

/// Where a run stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Stand {
    /// The superstep that comes next: as many are finished.
    pub step: u32,
    /// The state, by channel name; secrets masked.
    pub state: Map<String, Value>,
    /// What it has used, over all its parts.
    pub used: Usage,
    /// Time it has taken.
    pub elapsed: Duration,
    /// The nodes that are to run next.
    pub next: Vec<String>,
    /// Joins and deferred nodes that wait.
    pub waiting: Vec<String>,
    /// Its own gates that wait for an answer.
    pub gates: Vec<GateView>,
}

/// The supersteps that a log tells of.
pub(crate) fn steps(log: Vec<StoredEntry>) -> Result<Vec<StepRecord>, String> {
    let mut steps: Vec<StepRecord> = Vec::new();
    // Tasks that no superstep has closed yet.
    let mut open: Vec<TaskRecord> = Vec::new();
    let mut unfinished: Option<StepRecord> = None;
    for stored in log {
        let entry = stored.entry;
        let body: BodyIn =
            serde_json::from_str(&entry.body).map_err(|error| format!("entry {}: {error}", stored.seq))?;
        let number =
            steps.iter().rev().find(|step| step.finished).map_or(0, |step| step.step.saturating_add(1));
        let node = entry.node.as_deref().map(str::to_owned);
        let at_ms = entry.at_ms;
        match entry.kind {
            EntryKind::Failed => {
                let record =
                    unfinished.get_or_insert_with(|| StepRecord { step: number, ..StepRecord::default() });
                record.at_ms = at_ms;
                record.failures.extend(node.zip(body.failure));
            }
            EntryKind::Task => {
                let record =
                    unfinished.get_or_insert_with(|| StepRecord { step: number, ..StepRecord::default() });
                record.at_ms = at_ms;
                open.extend(node.map(|node| task(node, entry.item, body)));
            }
            EntryKind::Finally => {
                let tasks = node.map(|node| task(node, None, body)).into_iter().collect();
                steps.push(StepRecord {
                    step: entry.step,
                    at_ms,
                    kind: Some("finally"),
                    tasks,
                    ..StepRecord::default()
                });
            }
            EntryKind::Upgrade => {
                steps.push(StepRecord {
                    step: entry.step,
                    at_ms,
                    kind: Some("upgrade"),
                    versions: versions(&entry.body),
                    ..StepRecord::default()
                });
            }
            EntryKind::Step | EntryKind::Edit => {
                let mut record = unfinished.take().unwrap_or_default();
                record.step = entry.step;
                record.at_ms = at_ms;
                record.finished = true;
                record.kind = (entry.kind == EntryKind::Edit).then_some("edit");
                record.next = body.next.iter().map(|next| next.name().to_owned()).collect();
                record.waiting = body.wait.iter().map(|waiting| waiting.n.clone()).collect();
                record.gates = body.gates.iter().map(|gate| format!("{}@{}", gate.n, gate.b)).collect();
                record.answer.clone_from(&body.answer);
                let closes = |task: &TaskRecord| body.of.as_ref().is_none_or(|of| of.contains(&task.node));
                record.tasks = open.extract_if(.., |task| closes(task)).collect();
                match node {
                    Some(node) => record.tasks.push(task(node, entry.item, body)),
                    None => record.edits = written(body.writes),
                }
                record.tasks.sort_by(|a, b| a.node.cmp(&b.node).then(a.item.cmp(&b.item)));
                if !open.is_empty() {
                    unfinished = Some(StepRecord {
                        step: entry.step.saturating_add(1),
                        at_ms,
                        ..StepRecord::default()
                    });
                }
                steps.push(record);
            }
        }
    }
    if let Some(mut record) = unfinished {
        record.tasks = open;
        record.tasks.sort_by(|a, b| a.node.cmp(&b.node).then(a.item.cmp(&b.item)));
        steps.push(record);
    }
    Ok(steps)
}

/// Channels and values of writes, secrets masked.
fn written(writes: Vec<WriteIn>) -> Vec<(String, Value)> {
    let plain = |write| match write {
        WriteIn::Plain(name, value) | WriteIn::Overwrite(name, value, _) => {
            (name, if is_sealed(&value) { Value::String(MASK.to_owned()) } else { value })
        }
    };
    writes.into_iter().map(plain).collect()
}

/// A state by channel name, secrets masked.
fn shown(codec: Codec<'_>, graph: &Graph, at: &Position) -> Map<String, Value> {
    let shown = at.state.iter(graph).map(|(channel, value)| {
        let name = &graph.channel(channel).name;
        (name.clone(), codec.shown(name, value.clone()))
    });
    shown.collect()
}

/// The versions that the body of an upgrade names.
fn versions(body: &str) -> Option<(u32, u32)> {
    let body: Value = serde_json::from_str(body).ok()?;
    let version = |side: &str| u32::try_from(body.get(side)?.get("version")?.as_u64()?).ok();
    version("from").zip(version("to"))
}

fn task(node: String, item: Option<u32>, body: BodyIn) -> TaskRecord {
    let attempts = if body.cached { 0 } else { body.attempts };
    let used = super::codec::usage_back(body.usage);
    let writes = written(body.writes);
    TaskRecord { node, item, attempts, writes, failure: body.failure, used }
}

impl Engine {
    /// The supersteps of a run, as far as its log was not pruned.
    ///
    /// # Errors
    /// As [`Engine::load`].
    pub async fn history(&self, run: RunId) -> Result<Vec<StepRecord>, CheckpointError> {
        let log = self.store(run)?.history(run).await?;
        steps(log.entries).map_err(|why| CheckpointError { run, kind: CheckpointErrorKind::Unreadable(why) })
    }

    /// Where a run stands now.
    ///
    /// # Errors
    /// Where the run is not stored, or its definition cannot be read.
    pub async fn stand(&self, run: RunId, read: &Read<'_>) -> Result<Stand, EngineError> {
        let record = self.load(run).await.map_err(|error| EngineErrorKind::from(error).of(run, ""))?;
        let (graph, at) =
            self.read_position(&record, read).map_err(|kind| kind.of(run, &record.definition.graph))?;
        let codec = self.codec(&graph, run);
        let name = |node: NodeIdx| graph.node(node).name.clone();
        Ok(Stand {
            step: at.step,
            state: shown(codec, &graph, &at),
            used: at.used.run,
            elapsed: at.elapsed,
            next: at.frontier.iter().map(|ready| name(ready.node)).collect(),
            waiting: at.waiting.iter().map(|waiting| name(waiting.node)).collect(),
            gates: gates::views(codec, &at),
        })
    }

    /// The state before superstep `step`, secrets masked: 0 is the beginning, the number of finished supersteps the end.
    /// `graph` is the run's own at that time.
    ///
    /// # Errors
    /// `NoSuchPlace` where the run has no such step, or its log was pruned or upgraded behind it.
    pub async fn state_at(
        &self,
        run: RunId,
        graph: &Graph,
        step: u32,
    ) -> Result<Map<String, Value>, EngineErrorKind> {
        let at = self.position_at(run, graph, step).await?;
        Ok(shown(self.codec(graph, run), graph, &at))
    }

    /// What differs between the states before two supersteps.
    ///
    /// # Errors
    /// As [`Engine::state_at`].
    pub async fn diff(
        &self,
        run: RunId,
        graph: &Graph,
        (first, second): (u32, u32),
    ) -> Result<Vec<Difference>, EngineErrorKind> {
        let before = self.state_at(run, graph, first).await?;
        let after = self.state_at(run, graph, second).await?;
        let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        let differences = names.filter(|name| before.get(*name) != after.get(*name)).map(|name| Difference {
            channel: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        });
        Ok(differences.collect())
    }

    /// Where a run stood before superstep `step`.
    pub(crate) async fn position_at(
        &self,
        run: RunId,
        graph: &Graph,
        step: u32,
    ) -> Result<Position, EngineErrorKind> {
        let store = self.store(run)?;
        let record = store.load(run).await?;
        let History { base, entries, .. } = store.history(run).await?;
        let codec = self.codec(graph, run);
        let reducers = self.registry().reducers(&graph.custom_reducers)?;
        let base = RunRecord { snapshot: base, entries: Vec::new(), ..record };
        let mut at = replay::begin(codec, &base)?;
        let mut begin = 0;
        // After an upgrade only what came behind it is of this graph.
        if let Some(upgrade) = entries.iter().rposition(|stored| stored.entry.kind == EntryKind::Upgrade) {
            begin = upgrade + 1;
            let snapshot = store.load(run).await?.snapshot;
            match snapshot {
                Some(snapshot) if Some(snapshot.seq) == entries.get(upgrade).map(|stored| stored.seq + 1) => {
                    replay::load(&mut at, codec, &snapshot)?;
                }
                _ => {
                    let why = "the run was upgraded, and its state right after that is not kept any more";
                    return Err(EngineErrorKind::NoSuchPlace(why.to_owned()));
                }
            }
        } else if let Some(snapshot) = &base.snapshot {
            replay::load(&mut at, codec, snapshot)?;
        }
        if step < at.step {
            return Err(EngineErrorKind::NoSuchPlace(format!(
                "what came before step {} is not kept",
                at.step
            )));
        }
        for stored in entries.iter().skip(begin) {
            if at.step == step && stored.entry.kind != EntryKind::Task {
                break;
            }
            replay::take(&mut at, codec, &reducers, stored)?;
        }
        at.done.retain(|place, _| place.step < step);
        if at.step == step {
            Ok(at)
        } else {
            Err(EngineErrorKind::NoSuchPlace(format!(
                "the run has {} finished steps, and no step {step}",
                at.step
            )))
        }
    }
}

//! A run's task results, recorded: played again, they show without any model or outside service what the graph makes
//! of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::{BodyIn, NextIn};
use super::codec::Codec;
use super::ctx::Shared;
use super::task::{Failed, Finished, Place};
use super::{Engine, EngineError, EngineErrorKind, EntryKind, Failure, NodeError, StoredEntry};
use crate::graph::{Barrier, Graph, NodeIdx};
use crate::id::RunId;

/// Version of the file.
pub const CASSETTE_VERSION: u32 = 1;

/// The recorded results of a run's tasks, and what came of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    /// [`CASSETTE_VERSION`].
    pub version: u32,
    /// Name of the graph.
    pub graph: String,
    /// Hash of the definition that was executed.
    pub hash: String,
    /// The run's input.
    pub input: Map<String, Value>,
    /// Results of tasks, in the order in which they were stored.
    pub tasks: Vec<Take>,
    /// Nodes of each superstep, in order.
    pub path: Vec<Vec<String>>,
    /// The state at the end.
    pub state: Map<String, Value>,
}

/// One task's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    /// The superstep that its node became ready for.
    pub step: u32,
    /// The node.
    pub node: String,
    /// Which item of a fan-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The engine's JSON of what it wrote, where it led and how it failed.
    pub body: Value,
}

/// A cassette being played.
#[derive(Debug)]
pub(crate) struct Player {
    cassette: Arc<Cassette>,
    /// The supersteps of each node's visits so far, where branches run ahead of each other.
    visits: Mutex<BTreeMap<NodeIdx, Vec<u32>>>,
}

impl Player {
    pub(crate) fn new(cassette: Arc<Cassette>) -> Self {
        Self { cassette, visits: Mutex::default() }
    }

    /// The recorded superstep of a task. With dataflow the numbers are a matter of time: the visits count.
    fn step(&self, shared: &Shared, place: Place, name: &str) -> Option<u32> {
        if shared.plan.graph.barrier == Barrier::Superstep {
            return Some(place.step);
        }
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = visits.entry(place.node).or_default();
        let visit = seen.iter().position(|step| *step == place.step).unwrap_or_else(|| {
            seen.push(place.step);
            seen.len() - 1
        });
        let mut steps: Vec<u32> =
            self.cassette.tasks.iter().filter(|take| take.node == name).map(|take| take.step).collect();
        steps.sort_unstable();
        steps.dedup();
        steps.get(visit).copied()
    }

    /// The result of a task.
    pub(crate) fn play(&self, shared: &Arc<Shared>, place: Place) -> Result<Finished, Failed> {
        let name = shared.plan.name(place.node);
        let step = self.step(shared, place, name);
        let tasks = &self.cassette.tasks;
        let take =
            tasks.iter().find(|take| take.node == name && take.item == place.item && Some(take.step) == step);
        let missing = || {
            let item = place.item.map(|item| format!(" (item {item})")).unwrap_or_default();
            Failed::new(NodeError::permanent(format!(
                "the cassette holds no result of `{name}`{item} for step {}",
                place.step
            )))
        };
        let take = take.ok_or_else(missing)?;
        let unreadable = |message: String| {
            Failed::new(NodeError::permanent(format!("the cassette's `{name}`: {message}")))
        };
        let body: BodyIn =
            serde_json::from_value(take.body.clone()).map_err(|error| unreadable(error.to_string()))?;
        let codec = Codec { graph: &shared.plan.graph, run: shared.run, keys: None };
        let finished = codec.finished(body).map_err(unreadable)?;
        match finished.failure.as_deref() {
            // Whoever took the failure then takes it now.
            Some(Failure { class, message, attempts, .. }) => {
                Err(Failed { attempts: *attempts, ..Failed::new(NodeError::new(*class, message)) })
            }
            None => Ok(finished),
        }
    }
}

impl Engine {
    /// Records a run that is done: its input, results, path and outcome. Secret channels cannot be recorded.
    ///
    /// # Errors
    /// `NoSuchPlace` where its log was pruned, or it has secret channels.
    pub async fn record(&self, run: RunId, graph: &Graph) -> Result<Cassette, EngineError> {
        self.recorded(run, graph).await.map_err(|kind| kind.of(run, &graph.name))
    }

    async fn recorded(&self, run: RunId, graph: &Graph) -> Result<Cassette, EngineErrorKind> {
        let store = self.store(run)?;
        let record = store.load(run).await?;
        let history = store.history(run).await?;
        let no = |why: &str| Err(EngineErrorKind::NoSuchPlace(why.to_owned()));
        if history.first_seq > 0 || history.base.is_some() {
            return no("its beginning is not kept, so it cannot be recorded");
        }
        if graph.channels.iter().any(|channel| channel.secret) {
            return no("it has secret channels, which are never recorded");
        }
        if graph.channels.iter().any(|channel| channel.input && !channel.persist) {
            return no("it has inputs that are not stored");
        }
        if history
            .entries
            .iter()
            .any(|stored| stored.entry.kind == EntryKind::Edit || stored.entry.kind == EntryKind::Upgrade)
        {
            return no("it was edited or upgraded, so its results alone do not tell what happened");
        }
        let at = self.position(graph, &record)?;
        let codec = self.codec(graph, run);
        let state = at
            .state
            .iter(graph)
            .map(|(channel, value)| (graph.channel(channel).name.clone(), value.clone()))
            .collect();
        let (tasks, path) =
            takes(codec, &history.entries).map_err(|message| EngineErrorKind::Log { seq: 0, message })?;
        Ok(Cassette {
            version: CASSETTE_VERSION,
            graph: graph.name.clone(),
            hash: record.definition.hash,
            input: record.input,
            tasks,
            path,
            state,
        })
    }
}

type Path = Vec<Vec<String>>;

/// The results in a log, and the nodes of its supersteps.
fn takes(codec: Codec<'_>, entries: &[StoredEntry]) -> Result<(Vec<Take>, Path), String> {
    let start = codec.graph.node(codec.graph.start);
    let mut ready: BTreeMap<String, u32> = BTreeMap::from([(start.name.clone(), 0)]);
    let mut tasks = Vec::new();
    let mut path: Path = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for stored in entries {
        let entry = &stored.entry;
        let mut body: Value = serde_json::from_str(&entry.body).map_err(|error| error.to_string())?;
        let read: BodyIn = serde_json::from_str(&entry.body).map_err(|error| error.to_string())?;
        if let Some(node) = entry.node.as_deref().filter(|_| entry.kind != EntryKind::Failed) {
            let step = if entry.kind == EntryKind::Task {
                entry.step
            } else {
                ready.get(node).copied().unwrap_or(entry.step)
            };
            if let Value::Object(fields) = &mut body {
                fields.retain(|key, _| matches!(key.as_str(), "w" | "n" | "u" | "e" | "g" | "s"));
            }
            if read.answer.is_none() {
                tasks.push(Take { step, node: node.to_owned(), item: entry.item, body });
            }
            if !names.iter().any(|name| name == node) {
                names.push(node.to_owned());
            }
        }
        if entry.kind == EntryKind::Step {
            names.sort_by_key(|name| codec.graph.node_named(name));
            path.push(std::mem::take(&mut names));
            ready = read
                .next
                .iter()
                .map(|next| match next {
                    NextIn::Name(name) => (name.clone(), entry.step.saturating_add(1)),
                    NextIn::Full { n, b, .. } => (n.clone(), *b),
                })
                .collect();
        }
    }
    Ok((tasks, path))
}

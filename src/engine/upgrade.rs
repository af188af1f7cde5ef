//! A run that goes on with another version of its graph: its state migrated as the new file says, its place kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::log::{self, RunLog};
use super::position::Position;
use super::{Definition, Engine, EngineError, EngineErrorKind, EntryKind, PromptTexts, Read, RunStatus};
use crate::graph::{ChannelIdx, Graph, Migration, NodeIdx};
use crate::id::RunId;

/// Moves a run that is not over to another version of its graph, in the log too; gives where it stands there.
pub(crate) async fn upgrade(
    engine: &Engine,
    log: &mut RunLog,
    (old, at): (&Graph, &Position),
    (new, texts): (&Arc<Graph>, &Arc<PromptTexts>),
    run: RunId,
) -> Result<Position, EngineErrorKind> {
    engine.require_key(new)?;
    let moved = migrate(old, at, new).map_err(EngineErrorKind::Upgrade)?;
    let codec = engine.codec(new, run);
    let snapshot = codec.snapshot(&moved, moved.step, moved.elapsed)?;
    let body = json!({ "from": { "version": old.version, "hash": old.hash }, "to": { "version": new.version, "hash": new.hash } });
    let entry = log::entry(EntryKind::Upgrade, moved.step, None, None, body.to_string());
    log.upgrade(entry, Definition::of(new, Arc::clone(texts)), snapshot).await?;
    Ok(moved)
}

impl Engine {
    /// Whether a run could go on with another version of its graph, without doing it. One that is done has nothing to
    /// go on with.
    ///
    /// # Errors
    /// `Upgrade` where it could not, with the reason; otherwise as [`Engine::gates`].
    pub async fn can_upgrade(&self, run: RunId, new: &Graph, read: &Read<'_>) -> Result<(), EngineError> {
        let record = self.load(run).await.map_err(|error| EngineErrorKind::from(error).of(run, ""))?;
        if record.summary.status == RunStatus::Done {
            return Ok(());
        }
        let (old, at) =
            self.read_position(&record, read).map_err(|kind| kind.of(run, &record.definition.graph))?;
        let moved =
            self.require_key(new).and_then(|()| migrate(&old, &at, new).map_err(EngineErrorKind::Upgrade));
        moved.map(drop).map_err(|kind| kind.of(run, &old.name))
    }
}

/// The migrations that lead from one version to another, in order.
fn path(new: &Graph, from: u32) -> Vec<&Migration> {
    let mut steps = Vec::new();
    let mut version = from;
    while version != new.version {
        let next = new
            .migrations
            .iter()
            .filter(|step| step.from == version && step.to > version)
            .max_by_key(|step| step.to);
        match next {
            Some(step) => {
                steps.push(step);
                version = step.to;
            }
            // Without a word about it, versions that fit each other may follow each other.
            None => break,
        }
    }
    steps
}

/// Where a run stands in the new version.
pub(crate) fn migrate(old: &Graph, at: &Position, new: &Graph) -> Result<Position, String> {
    if !at.done.is_empty() {
        return Err(
            "a superstep of it is not finished: let it come to the end of the superstep first".to_owned()
        );
    }
    let steps = path(new, old.version);
    let mut values: BTreeMap<String, serde_json::Value> = at
        .state
        .iter(old)
        .map(|(channel, value)| (old.channel(channel).name.clone(), value.clone()))
        .collect();
    let mut nodes: Vec<(String, String)> =
        old.nodes.iter().map(|node| (node.name.clone(), node.name.clone())).collect();
    for step in steps {
        for (from, to) in &step.rename {
            if let Some(value) = values.remove(from) {
                values.insert(to.clone(), value);
            }
        }
        for name in &step.drop {
            values.remove(name);
        }
        for (name, value) in &step.default {
            values.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for (from, to) in &step.nodes {
            for (_, present) in nodes.iter_mut().filter(|(_, present)| present == from) {
                present.clone_from(to);
            }
        }
    }
    let state = super::state::State::begin(new, serde_json::Map::new())
        .map_err(|(channel, message)| format!("channel `{channel}`: {message}"))?;
    let mut moved = Position { step: at.step, elapsed: at.elapsed, ..Position::start(new, state) };
    for (place, channel) in new.channels.iter().enumerate() {
        let Some(value) = values.remove(&channel.name) else { continue };
        if !channel.ty.fits(&value) {
            return Err(format!(
                "channel `{}` holds a value that is no `{}`: say in a `[[migrate]]` what becomes of it",
                channel.name, channel.ty
            ));
        }
        moved.state.set(ChannelIdx(place), Some(value));
    }
    if let Some(name) = values.keys().next() {
        return Err(format!("it has no channel `{name}`: rename or drop it in a `[[migrate]]`"));
    }
    let node = |index: NodeIdx| -> Result<NodeIdx, String> {
        let name = old.nodes.get(index.0).map(|node| node.name.as_str()).unwrap_or_default();
        let present = nodes.iter().find(|(was, _)| was == name).map_or(name, |(_, present)| present.as_str());
        new.node_named(present)
            .ok_or_else(|| format!("the run stands at node `{name}`, which it does not have: name its successor in `nodes` of a `[[migrate]]`"))
    };
    let all = |indices: &[NodeIdx]| indices.iter().map(|index| node(*index)).collect::<Result<Vec<_>, _>>();
    moved.frontier.clone_from(&at.frontier);
    for ready in &mut moved.frontier {
        ready.node = node(ready.node)?;
        ready.absorbed = all(&ready.absorbed)?;
        if new.node(ready.node).is_gate() {
            return Err(format!("node `{}` is a gate now", new.node(ready.node).name));
        }
    }
    moved.waiting.clone_from(&at.waiting);
    for waiting in &mut moved.waiting {
        waiting.node = node(waiting.node)?;
        waiting.arrived = all(&waiting.arrived)?;
        waiting.absorbed = all(&waiting.absorbed)?;
    }
    moved.gates.clone_from(&at.gates);
    for gate in &mut moved.gates {
        gate.node = node(gate.node)?;
        gate.absorbed = all(&gate.absorbed)?;
        if !new.node(gate.node).is_gate() {
            return Err(format!(
                "the run waits at gate `{}`, which is none any more",
                new.node(gate.node).name
            ));
        }
    }
    moved.visits.fill(0);
    moved.used.run = at.used.run;
    for index in 0..old.nodes.len() {
        let Ok(to) = node(NodeIdx(index)) else { continue };
        if let (Some(slot), Some(visits)) = (moved.visits.get_mut(to.0), at.visits.get(index)) {
            *slot = slot.saturating_add(*visits);
        }
        if let (Some(slot), Some(usage)) = (moved.used.nodes.get_mut(to.0), at.used.nodes.get(index)) {
            slot.add(*usage);
        }
        if let Some(failure) = at.failures.get(&NodeIdx(index)) {
            moved.failures.insert(to, failure.clone());
        }
    }
    Ok(moved)
}

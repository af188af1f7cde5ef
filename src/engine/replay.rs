//! Puts a run together again from what is stored of it.

use std::time::Duration;

use super::body::{BodyIn, SnapshotIn};
use super::codec::{Codec, usage_back};
use super::merge;
use super::next::error_arm;
use super::position::Position;
use super::reduce::Reducers;
use super::state::State;
use super::task::Place;
use super::{EngineErrorKind, EntryKind, RunRecord, RunStatus, Snapshot, StoredEntry};
use crate::graph::{ChannelIdx, NodeIdx};

/// Where a stored run stands.
pub(crate) fn replay(
    codec: Codec<'_>,
    reducers: &Reducers,
    record: &RunRecord,
) -> Result<Position, EngineErrorKind> {
    let mut at = begin(codec, record)?;
    if let Some(snapshot) = &record.snapshot {
        load(&mut at, codec, snapshot)?;
    }
    for stored in &record.entries {
        take(&mut at, codec, reducers, stored)?;
    }
    if record.summary.status == RunStatus::Failed {
        // A resume of a failed run tries again what had failed, also what a fan-out had tolerated in vain.
        let broken: Vec<(u32, NodeIdx)> = at
            .frontier
            .iter()
            .filter(|ready| codec.graph.node(ready.node).each.is_some())
            .map(|ready| (ready.born, ready.node))
            .collect();
        at.done.retain(|place, finished| {
            finished.failure.is_none() || !broken.contains(&(place.step, place.node))
        });
    }
    Ok(at)
}

/// The beginning of a run.
pub(crate) fn begin(codec: Codec<'_>, record: &RunRecord) -> Result<Position, EngineErrorKind> {
    let input =
        codec.input_back(record.input.clone()).map_err(|message| EngineErrorKind::Log { seq: 0, message })?;
    let state = State::begin(codec.graph, input)
        .map_err(|(channel, message)| EngineErrorKind::Input { channel, message })?;
    let mut at = Position::start(codec.graph, state);
    at.gates.iter_mut().for_each(|gate| gate.since_ms = record.summary.created_ms);
    Ok(at)
}

/// Takes a snapshot's place.
pub(crate) fn load(at: &mut Position, codec: Codec<'_>, snapshot: &Snapshot) -> Result<(), EngineErrorKind> {
    let fault = |message: String| EngineErrorKind::Log { seq: snapshot.seq, message };
    let held: SnapshotIn =
        serde_json::from_str(&snapshot.body).map_err(|error| fault(format!("snapshot: {error}")))?;
    let mut state = held.state;
    for (place, channel) in codec.graph.channels.iter().enumerate() {
        if !channel.persist {
            continue;
        }
        let index = ChannelIdx(place);
        let value = state.remove(&channel.name);
        at.state.set(index, value.map(|value| codec.value_back(index, value)).transpose().map_err(fault)?);
    }
    at.step = held.step;
    at.frontier = codec.next_back(held.next, held.step).map_err(fault)?;
    at.waiting = codec.wait_back(held.wait).map_err(fault)?;
    at.gates = codec.gates_back(held.gates).map_err(fault)?;
    at.elapsed = Duration::from_millis(held.ms);
    at.visits.fill(0);
    for (name, visits) in held.visits {
        let node = codec.node(&name).map_err(fault)?;
        if let Some(held) = at.visits.get_mut(node.0) {
            *held = visits;
        }
    }
    at.failures.clear();
    for (name, failure) in held.failures {
        at.failures.insert(codec.node(&name).map_err(fault)?, failure);
    }
    at.used.run = held.used;
    for (name, usage) in held.used_by {
        let node = codec.node(&name).map_err(fault)?;
        if let Some(held) = at.used.nodes.get_mut(node.0) {
            *held = usage;
        }
    }
    at.done.clear();
    Ok(())
}

/// Takes one more entry of the log.
pub(crate) fn take(
    at: &mut Position,
    codec: Codec<'_>,
    reducers: &Reducers,
    stored: &StoredEntry,
) -> Result<(), EngineErrorKind> {
    let fault = |message: String| EngineErrorKind::Log { seq: stored.seq, message };
    let entry = &stored.entry;
    let mut body: BodyIn = serde_json::from_str(&entry.body).map_err(|error| fault(error.to_string()))?;
    match entry.kind {
        EntryKind::Upgrade => {
            // The snapshot behind it is what counts; a log that is read from before it ends here.
            return Err(fault(
                "the run was upgraded here: it is read from the snapshot after this entry".to_owned(),
            ));
        }
        EntryKind::Finally => return Ok(()),
        EntryKind::Failed => {
            if let Some(name) = &entry.node {
                at.used.add(codec.node(name).map_err(fault)?, usage_back(body.usage));
            }
            return Ok(());
        }
        EntryKind::Step | EntryKind::Task | EntryKind::Edit => {}
    }
    let closes = entry.kind != EntryKind::Task;
    if closes && entry.step != at.step {
        return Err(fault(format!("is of superstep {}, not {}", entry.step, at.step)));
    }
    let next = std::mem::take(&mut body.next);
    let wait = std::mem::take(&mut body.wait);
    let gates = std::mem::take(&mut body.gates);
    let (of, ms) = (body.of.take(), body.ms);
    if entry.kind == EntryKind::Edit {
        let node = entry.node.as_deref().map(|name| codec.node(name)).transpose().map_err(fault)?;
        let writes = codec.finished(body).map_err(fault)?.writes;
        let place = Place { step: entry.step, node: node.unwrap_or_default(), item: None };
        merge::merge(&mut at.state, codec.graph, reducers, [(place, writes)])?;
        if node.is_some() {
            at.done.clear();
        }
    } else if let Some(name) = &entry.node {
        let node = codec.node(name).map_err(fault)?;
        let born = at
            .frontier
            .iter()
            .find(|ready| ready.node == node && (closes || ready.born == entry.step))
            .map_or(entry.step, |ready| ready.born);
        let finished = codec.finished(body).map_err(fault)?;
        at.used.add(node, finished.usage);
        at.done.insert(Place { step: born, node, item: entry.item }, finished);
    }
    if !closes {
        return Ok(());
    }
    if entry.kind == EntryKind::Step {
        let of = of.map(|names| codec.nodes(&names)).transpose().map_err(fault)?;
        let mut done = std::mem::take(&mut at.done);
        if let Some(of) = &of {
            at.done = done.extract_if(.., |place, _| !of.contains(&place.node)).collect();
        }
        for (node, failure) in merge::ended(&done) {
            at.note(node, failure.filter(|failure| error_arm(codec.graph.node(node), failure).is_some()));
        }
        let closed: Vec<(NodeIdx, u32)> = at
            .frontier
            .iter()
            .map(|ready| (ready.node, ready.born))
            .filter(|(node, _)| of.as_ref().is_none_or(|of| of.contains(node)))
            .collect();
        merge::merge(&mut at.state, codec.graph, reducers, merge::writes(codec.graph, done, &closed))?;
    }
    at.step = at.step.saturating_add(1);
    let before: Vec<(NodeIdx, u32)> = at.frontier.iter().map(|ready| (ready.node, ready.born)).collect();
    let open: Vec<(NodeIdx, u32)> = at.gates.iter().map(|gate| (gate.node, gate.born)).collect();
    at.frontier = codec.next_back(next, at.step).map_err(fault)?;
    at.waiting = codec.wait_back(wait).map_err(fault)?;
    at.gates = codec.gates_back(gates).map_err(fault)?;
    let ready = at.frontier.iter().map(|ready| (ready.node, ready.born)).filter(|one| !before.contains(one));
    let gates = at.gates.iter().map(|gate| (gate.node, gate.born)).filter(|one| !open.contains(one));
    for (node, _) in ready.chain(gates).collect::<Vec<_>>() {
        at.visit(node);
    }
    if ms > 0 {
        at.elapsed = Duration::from_millis(ms);
    }
    Ok(())
}

//! The barrier: the writes of a superstep's tasks go through the reducers in one fixed order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::next::error_arm;
use super::output::{Write, Writes};
use super::reduce::Reducers;
use super::state::State;
use super::task::{Finished, Place};
use super::{EngineErrorKind, Failure};
use crate::graph::{ChannelIdx, Graph, Node, NodeIdx, Reducer};

/// The tasks of a superstep that have finished, in merge order.
pub(crate) type Done = BTreeMap<Place, Finished>;

/// The nodes among finished tasks, each with the failure that ended it.
///
/// A fan-out that failed as a whole has a task without an item that says so.
pub(crate) fn ended(done: &Done) -> Vec<(NodeIdx, Option<&Failure>)> {
    let mut nodes: Vec<(NodeIdx, Option<&Failure>)> = Vec::new();
    for (place, finished) in done {
        let failure = finished.failure.as_deref().filter(|_| place.item.is_none());
        match nodes.last_mut() {
            Some((node, held)) if *node == place.node => *held = held.or(failure),
            _ => nodes.push((place.node, failure)),
        }
    }
    nodes
}

/// What the tasks of a superstep write, in merge order: failures that an error arm takes write to its channel only,
/// and a fan-out's status comes after its items.
pub(crate) fn writes(graph: &Graph, done: Done) -> Vec<(Place, Writes)> {
    let failed: Vec<(u32, NodeIdx)> = done
        .iter()
        .filter(|(place, finished)| place.item.is_none() && finished.failure.is_some())
        .map(|(place, _)| (place.step, place.node))
        .collect();
    let mut out: Vec<(Place, Writes)> = Vec::with_capacity(done.len());
    let mut status: Vec<Value> = Vec::new();
    let mut rest = done.into_iter().peekable();
    while let Some((place, finished)) = rest.next() {
        let node = graph.node(place.node);
        let has_failed = failed.contains(&(place.step, place.node));
        if has_failed {
            // What a failed node wrote before is not used.
            if let (None, Some(failure)) = (place.item, finished.failure) {
                out.push((place, failure_write(node, &failure)));
            }
        } else {
            if node.each.as_ref().is_some_and(|each| each.status.is_some()) {
                status.push(item_status(place, &finished));
            }
            out.push((place, finished.writes));
        }
        let is_last = rest.peek().is_none_or(|(next, _)| (next.step, next.node) != (place.step, place.node));
        if is_last && let Some(channel) = node.each.as_ref().and_then(|each| each.status) {
            let value = Value::Array(std::mem::take(&mut status));
            if !has_failed {
                out.push((Place { item: None, ..place }, vec![Write { channel, value, overwrite: false }]));
            }
        }
    }
    out
}

fn failure_write(node: &Node, failure: &Failure) -> Writes {
    let channel = error_arm(node, failure).and_then(|arm| node.on_error.get(arm)?.write);
    let value = json!({ "node": node.name, "item": failure.item, "class": failure.class, "message": failure.message,
        "attempts": failure.attempts });
    channel.map(|channel| Write { channel, value, overwrite: false }).into_iter().collect()
}

fn item_status(place: Place, finished: &Finished) -> Value {
    let failure = finished.failure.as_deref();
    json!({ "item": place.item, "ok": failure.is_none(), "attempts": finished.attempts,
        "class": failure.map(|failure| failure.class), "error": failure.map(|failure| failure.message.as_str()) })
}

/// Merges the writes of the tasks of one superstep, given in merge order.
pub(crate) fn merge(
    state: &mut State,
    graph: &Graph,
    reducers: &Reducers,
    tasks: impl IntoIterator<Item = (Place, Writes)>,
) -> Result<(), EngineErrorKind> {
    let mut tasks = tasks.into_iter().peekable();
    let mut last_writers: BTreeMap<ChannelIdx, Place> = BTreeMap::new();
    let mut alone = true;
    while let Some((place, writes)) = tasks.next() {
        alone = alone && tasks.peek().is_none();
        for write in writes {
            let fault = |message: String| EngineErrorKind::Reduce {
                node: graph.node(place.node).name.clone(),
                item: place.item,
                channel: graph.channel(write.channel).name.clone(),
                message,
            };
            let is_sole = write.overwrite || graph.channel(write.channel).reducer == Reducer::Last;
            if !alone
                && is_sole
                && let Some(other) = last_writers.insert(write.channel, place)
                && other != place
            {
                let node = &graph.node(other.node).name;
                let how = if write.overwrite { "an overwrite" } else { "reducer `last`" };
                return Err(fault(format!(
                    "it was written in the same superstep by node `{node}`, and {how} takes one writer"
                )));
            }
            state.apply(graph, reducers, write.channel, write.value, write.overwrite).map_err(fault)?;
        }
    }
    Ok(())
}

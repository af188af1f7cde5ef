//! The barrier: the writes of a superstep's tasks go through the reducers in one fixed order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::crew::Member;
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
/// and a fan-out's status comes after its items. `closed` are the nodes that end here, also those without any task.
pub(crate) fn writes(graph: &Graph, done: Done, closed: &[Member]) -> Vec<(Place, Writes)> {
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
    // A fan-out over nothing has no task to stand behind.
    for (node, step) in closed {
        let channel = graph.node(*node).each.as_ref().and_then(|each| each.status);
        if let Some(channel) = channel
            && !out.iter().any(|(place, _)| (place.node, place.step) == (*node, *step))
        {
            let write = Write { channel, value: Value::Array(Vec::new()), overwrite: false };
            out.push((Place { step: *step, node: *node, item: None }, vec![write]));
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
///
/// # Errors
/// `Reduce` where a reducer cannot take a write, or two tasks would each decide alone what a channel holds.
pub(crate) fn merge(
    state: &mut State,
    graph: &Graph,
    reducers: &Reducers,
    tasks: impl IntoIterator<Item = (Place, Writes)>,
) -> Result<(), EngineErrorKind> {
    let mut tasks = tasks.into_iter().peekable();
    let mut sole_writers: BTreeMap<(ChannelIdx, Sole), Place> = BTreeMap::new();
    let mut alone = true;
    while let Some((place, writes)) = tasks.next() {
        alone = alone && tasks.peek().is_none();
        for write in writes {
            let channel = write.channel;
            let fault = |message: String| EngineErrorKind::Reduce {
                node: graph.node(place.node).name.clone(),
                item: place.item,
                channel: graph.channel(channel).name.clone(),
                message,
            };
            if !alone
                && let Some(sole) = Sole::of(graph, &write)
                && let Some(other) = sole_writers.insert((channel, sole), place)
                && other != place
            {
                return Err(fault(sole.conflict(&graph.node(other.node).name)));
            }
            state.apply(graph, reducers, write).map_err(fault)?;
        }
    }
    Ok(())
}

/// Why a write must be the only one of its kind in a superstep.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sole {
    /// The channel's reducer is `last`.
    Last,
    /// It overwrites, whatever the reducer.
    Overwrite,
}

impl Sole {
    fn of(graph: &Graph, write: &Write) -> Option<Self> {
        if graph.channel(write.channel).reducer == Reducer::Last {
            Some(Self::Last)
        } else {
            write.overwrite.then_some(Self::Overwrite)
        }
    }

    fn conflict(self, other: &str) -> String {
        match self {
            Self::Last => format!(
                "it was written in the same superstep by node `{other}`, and reducer `last` takes one writer"
            ),
            Self::Overwrite => {
                format!("it was overwritten in the same superstep by node `{other}` as well")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::reduce::ReducerFn;
    use super::*;
    use crate::graph::{NodeKind, StateChannel, Type};

    const REDUCERS: [Reducer; 10] = {
        let mut all = [Reducer::Custom(0); 10];
        all.split_at_mut(Reducer::ALL.len()).0.copy_from_slice(&Reducer::ALL);
        all
    };

    /// Four nodes; one channel a reducer, all of type `any`.
    fn graph() -> Graph {
        let mut graph = Graph::empty("g");
        graph.custom_reducers.push("trail".to_owned());
        for at in 0..4 {
            let kind = NodeKind::Task { task: String::new() };
            graph.nodes.push(Node::plain(&format!("n{at}"), kind));
        }
        for reducer in REDUCERS {
            let max_items = (reducer == Reducer::Append).then_some(5);
            let plain = StateChannel::plain(&reducer.to_string(), Type::Any, reducer);
            graph.channels.push(StateChannel { max_items, ..plain });
        }
        graph
    }

    /// Writes down who came after whom: any other order shows.
    fn reducers() -> Reducers {
        let trail = |held: Option<&Value>, write: Value| Ok(json!([held.cloned(), write]));
        Reducers([Arc::new(trail) as ReducerFn].into())
    }

    fn at(node: usize, item: Option<u32>) -> Place {
        Place { step: 0, node: NodeIdx(node), item }
    }

    fn write(reducer: Reducer, value: Value, overwrite: bool) -> Write {
        let channel = REDUCERS.iter().position(|other| *other == reducer).unwrap();
        Write { channel: ChannelIdx(channel), value, overwrite }
    }

    fn merged(tasks: impl IntoIterator<Item = (Place, Writes)>) -> Result<Value, String> {
        let graph = graph();
        let mut state = State::start(&graph, Map::new()).unwrap();
        merge(&mut state, &graph, &reducers(), tasks).map_err(|error| error.to_string())?;
        let values =
            state.iter(&graph).map(|(channel, value)| (graph.channel(channel).name.clone(), value.clone()));
        Ok(values.collect::<Map<_, _>>().into())
    }

    #[test]
    fn an_overwrite_takes_its_turn() {
        let state = merged([
            (
                at(0, None),
                vec![write(Reducer::Append, json!([1]), false), write(Reducer::First, json!(1), false)],
            ),
            (
                at(1, None),
                vec![write(Reducer::Append, json!([2, 3]), true), write(Reducer::First, json!(2), true)],
            ),
            (
                at(2, None),
                vec![write(Reducer::Append, json!([4]), false), write(Reducer::First, json!(3), false)],
            ),
        ])
        .unwrap();
        assert_eq!((&state["append"], &state["first"]), (&json!([2, 3, 4]), &json!(2)));
        let long =
            merged([(at(0, None), vec![write(Reducer::Append, json!([1, 2, 3, 4, 5, 6]), true)])]).unwrap();
        assert_eq!(long["append"], json!([2, 3, 4, 5, 6]), "what is too long is cut here too");
    }

    #[test]
    fn two_tasks_may_not_overwrite_the_same_channel() {
        let sum = |value: i64| vec![write(Reducer::Sum, json!(value), true)];
        assert_eq!(
            merged([(at(0, None), sum(1)), (at(2, Some(1)), sum(2))]).unwrap_err(),
            "node `n2` (item 1) wrote to channel `sum`: it was overwritten in the same superstep by node `n0` as well"
        );
        assert!(merged([(at(1, Some(0)), sum(1)), (at(1, Some(1)), sum(2))]).is_err());
        let twice = [sum(1), sum(2)].concat();
        assert_eq!(merged([(at(0, None), twice)]).unwrap()["sum"], 2);
        let last = |overwrite| vec![write(Reducer::Last, json!(1), overwrite)];
        assert!(merged([(at(0, None), last(true)), (at(1, None), last(false))]).is_err());
    }

    fn value(reducer: Reducer) -> BoxedStrategy<Value> {
        match reducer {
            Reducer::Sum | Reducer::Max | Reducer::Min => (-9..9_i64).prop_map(Value::from).boxed(),
            Reducer::Merge => (0..3_u8, 0..9_u8).prop_map(|(key, n)| json!({ key.to_string(): n })).boxed(),
            Reducer::ById => (0..3_u8, 0..9_u8).prop_map(|(id, n)| json!({ "id": id, "n": n })).boxed(),
            _ => (0..9_u8).prop_map(Value::from).boxed(),
        }
    }

    fn writes() -> impl Strategy<Value = Writes> {
        let one = proptest::sample::select(&REDUCERS[..]).prop_flat_map(|reducer| {
            (value(reducer), proptest::bool::weighted(0.05))
                .prop_map(move |(value, overwrite)| write(reducer, value, overwrite))
        });
        proptest::collection::vec(one, 0..4)
    }

    proptest! {
        #[test]
        fn what_finishes_first_does_not_matter(
            tasks in proptest::collection::btree_map((0..4_usize, proptest::option::of(0..3_u32)), writes(), 0..8)
                .prop_map(|tasks| tasks.into_iter().map(|((node, item), writes)| (at(node, item), writes)).collect::<Vec<_>>())
                .prop_flat_map(|tasks| (Just(tasks.clone()), Just(tasks).prop_shuffle())),
        ) {
            // As a run does: what finishes is kept by its place, and merged once all are there.
            let (in_order, finished) = tasks;
            let kept: BTreeMap<Place, Writes> = finished.into_iter().collect();
            prop_assert_eq!(merged(kept), merged(in_order));
        }
    }
}

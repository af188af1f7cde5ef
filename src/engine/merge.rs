//! The barrier: the writes of a superstep's tasks go through the reducers in one fixed order.

use std::collections::BTreeMap;

use super::EngineErrorKind;
use super::output::Writes;
use super::state::State;
use super::task::Place;
use crate::graph::{ChannelIdx, Graph, Reducer};

/// Merges the writes of the tasks of one superstep, given in merge order.
pub(crate) fn merge(
    state: &mut State,
    graph: &Graph,
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
            if !alone
                && graph.channel(write.channel).reducer == Reducer::Last
                && let Some(other) = last_writers.insert(write.channel, place)
                && other != place
            {
                let node = &graph.node(other.node).name;
                return Err(fault(format!(
                    "it was written in the same superstep by node `{node}`, and reducer `last` takes one writer"
                )));
            }
            state.apply(graph, write.channel, write.value).map_err(fault)?;
        }
    }
    Ok(())
}

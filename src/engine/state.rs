//! The state of a run: one value a channel.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::output::Write;
use super::reduce::{self, Reducers};
use crate::graph::{ChannelIdx, Graph, Reducer, StateChannel, Type};

/// The values of all channels. A clone shares them; a change then copies the one value it touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    values: Vec<Option<Arc<Value>>>,
}

impl State {
    /// The state before the first superstep.
    ///
    /// # Errors
    /// The channel and what is wrong with the input there.
    pub(crate) fn start(graph: &Graph, input: Map<String, Value>) -> Result<Self, (String, String)> {
        for channel in &graph.channels {
            let given = input.contains_key(&channel.name);
            if channel.input && !given && channel.default.is_none() && !channel.ty.is_optional() {
                return Err((channel.name.clone(), "must be given".to_owned()));
            }
        }
        Self::begin(graph, input)
    }

    /// The same of an input that was accepted once: what was not stored of it may be missing.
    pub(crate) fn begin(graph: &Graph, mut input: Map<String, Value>) -> Result<Self, (String, String)> {
        let mut values = Vec::with_capacity(graph.channels.len());
        for channel in &graph.channels {
            let given = input.remove(&channel.name);
            // Without the key a secret is read back as a mask.
            if let Some(value) = &given
                && !channel.secret
                && !channel.ty.fits(value)
            {
                return Err((channel.name.clone(), format!("is no {}", channel.ty)));
            }
            let value = given.or_else(|| channel.default.clone()).or_else(|| neutral(channel));
            let mut slot = value.map(Arc::new);
            reduce::trim(channel, &mut slot);
            values.push(slot);
        }
        match input.into_iter().next() {
            Some((name, _)) => Err((name, format!("graph `{}` has no such channel", graph.name))),
            None => Ok(Self { values }),
        }
    }

    pub(crate) fn get(&self, channel: ChannelIdx) -> Option<&Value> {
        self.values.get(channel.0)?.as_deref()
    }

    /// A channel's value, kept alive apart from the state.
    pub(crate) fn share(&self, channel: ChannelIdx) -> Option<Arc<Value>> {
        self.values.get(channel.0)?.clone()
    }

    /// Sets a channel without its reducer, as a snapshot does.
    pub(crate) fn set(&mut self, channel: ChannelIdx, value: Option<Value>) {
        if let Some(slot) = self.values.get_mut(channel.0) {
            *slot = value.map(Arc::new);
        }
    }

    /// Puts a write through its channel's reducer, or in the value's place where it overwrites.
    ///
    /// # Errors
    /// Where the reducer cannot take the value; the state is then as before.
    pub(crate) fn apply(&mut self, graph: &Graph, reducers: &Reducers, write: Write) -> Result<(), String> {
        let Some(slot) = self.values.get_mut(write.channel.0) else {
            return Err("no such channel".to_owned());
        };
        let channel = graph.channel(write.channel);
        if write.overwrite {
            *slot = Some(Arc::new(write.value));
            reduce::trim(channel, slot);
            return Ok(());
        }
        reducers.reduce(channel, slot, write.value)
    }

    /// Channels and values, in channel order.
    pub(crate) fn iter<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = (ChannelIdx, &'a Value)> {
        (0..graph.channels.len())
            .map(ChannelIdx)
            .zip(&self.values)
            .filter_map(|(channel, value)| Some((channel, value.as_deref()?)))
    }
}

/// What a channel holds before the first write, where its reducer has a natural beginning.
fn neutral(channel: &StateChannel) -> Option<Value> {
    match (channel.reducer, &channel.ty) {
        (_, Type::Optional(_)) => None,
        (Reducer::Append | Reducer::Union | Reducer::ById, _) => Some(Value::Array(Vec::new())),
        (Reducer::Merge, _) => Some(Value::Object(Map::new())),
        (Reducer::Sum, Type::Float) => Number::from_f64(0.0).map(Value::Number),
        (Reducer::Sum, _) => Some(Value::from(0)),
        _ => None,
    }
}

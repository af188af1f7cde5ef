//! The state of a run: one value a channel, and the reducers that change it.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::reduce::Reducers;
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
            values.push(value.map(Arc::new));
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

    /// Puts a write through its channel's reducer.
    ///
    /// # Errors
    /// Where the reducer cannot take the value; the state is then as before.
    pub(crate) fn apply(
        &mut self,
        graph: &Graph,
        reducers: &Reducers,
        channel: ChannelIdx,
        write: Value,
        overwrite: bool,
    ) -> Result<(), String> {
        let StateChannel { reducer, max_items, .. } = *graph.channel(channel);
        let Some(slot) = self.values.get_mut(channel.0) else {
            return Err("no such channel".to_owned());
        };
        if let (Reducer::Custom(at), false) = (reducer, overwrite) {
            let mut value = reducers.reduce(at, slot.as_deref(), write)?;
            shorten(&mut value, max_items);
            *slot = Some(Arc::new(value));
            return Ok(());
        }
        let reducer = if overwrite { Reducer::Last } else { reducer };
        if let Some(value) = slot {
            let value = Arc::make_mut(value);
            reduce(reducer, value, write)?;
            shorten(value, max_items);
            return Ok(());
        }
        let mut first = match reducer {
            Reducer::Append | Reducer::Union | Reducer::ById => Value::Array(Vec::new()),
            Reducer::Merge => Value::Object(Map::new()),
            _ => Value::Null,
        };
        reduce(reducer, &mut first, write)?;
        shorten(&mut first, max_items);
        *slot = Some(Arc::new(first));
        Ok(())
    }

    /// Channels and values, in channel order.
    pub(crate) fn iter<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = (ChannelIdx, &'a Value)> {
        (0..graph.channels.len())
            .map(ChannelIdx)
            .zip(&self.values)
            .filter_map(|(channel, value)| Some((channel, value.as_deref()?)))
    }
}

/// Keeps the newest items of a list.
fn shorten(value: &mut Value, max_items: Option<usize>) {
    if let (Some(most), Value::Array(items)) = (max_items, value)
        && items.len() > most
    {
        items.drain(..items.len() - most);
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

fn reduce(reducer: Reducer, value: &mut Value, write: Value) -> Result<(), String> {
    match reducer {
        Reducer::Last => *value = write,
        Reducer::Append => {
            let list = list(value)?;
            match write {
                Value::Array(items) => list.extend(items),
                item => list.push(item),
            }
        }
        Reducer::Union => {
            let list = list(value)?;
            let items = match write {
                Value::Array(items) => items,
                item => vec![item],
            };
            for item in items {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
        Reducer::Merge => {
            if value.is_null() {
                *value = Value::Object(Map::new());
            }
            match (value, write) {
                (Value::Object(map), Value::Object(more)) => map.extend(more),
                (Value::Object(_), other) => return Err(format!("cannot merge {} into it", kind(&other))),
                (held, _) => return Err(format!("cannot merge into {}", kind(held))),
            }
        }
        Reducer::Sum => *value = sum(value, &write)?,
        Reducer::First if value.is_null() => *value = write,
        Reducer::First => {}
        Reducer::ById => by_id(list(value)?, write),
        Reducer::Custom(_) => return Err("its reducer is not registered".to_owned()),
        Reducer::Max => keep(value, write, Ordering::Less)?,
        Reducer::Min => keep(value, write, Ordering::Greater)?,
    }
    Ok(())
}

/// Replaces the items of the same `id`; adds the others.
fn by_id(list: &mut Vec<Value>, write: Value) {
    let items = match write {
        Value::Array(items) => items,
        item => vec![item],
    };
    for item in items {
        let id = item.get("id");
        match list.iter_mut().find(|held| id.is_some() && held.get("id") == id) {
            Some(held) => *held = item,
            None => list.push(item),
        }
    }
}

fn list(value: &mut Value) -> Result<&mut Vec<Value>, String> {
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => Ok(list),
        other => Err(format!("cannot add to {}", kind(other))),
    }
}

fn sum(value: &Value, write: &Value) -> Result<Value, String> {
    let (Value::Null | Value::Number(_), Value::Number(more)) = (value, write) else {
        return Err(format!("cannot add {} to {}", kind(write), kind(value)));
    };
    let held = match value {
        Value::Number(held) => held.clone(),
        _ => return Ok(write.clone()),
    };
    if let (Some(a), Some(b)) = (held.as_i128(), more.as_i128()) {
        let total = a.saturating_add(b);
        return i64::try_from(total)
            .map(Value::from)
            .or_else(|_| u64::try_from(total).map(Value::from))
            .map_err(|_| "the sum is too large".to_owned());
    }
    match (held.as_f64(), more.as_f64()) {
        (Some(a), Some(b)) => {
            Number::from_f64(a + b).map(Value::Number).ok_or_else(|| "the sum is no number".to_owned())
        }
        _ => Err("the sum is no number".to_owned()),
    }
}

/// Replaces the value where it compares as `when` with the write.
fn keep(value: &mut Value, write: Value, when: Ordering) -> Result<(), String> {
    let Value::Number(new) = &write else { return Err(format!("cannot compare {}", kind(&write))) };
    let replace = match &*value {
        Value::Null => true,
        Value::Number(held) => compare(held, new) == Some(when),
        other => return Err(format!("cannot compare with {}", kind(other))),
    };
    if replace {
        *value = write;
    }
    Ok(())
}

fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(reducer: Reducer, mut value: Value, writes: &[Value]) -> Result<Value, String> {
        for write in writes {
            reduce(reducer, &mut value, write.clone())?;
        }
        Ok(value)
    }

    #[test]
    fn reducers_combine_what_they_should() {
        let cases = [
            (Reducer::Last, json!(1), vec![json!(2), json!("x")], json!("x")),
            (Reducer::Append, json!([1]), vec![json!([2, 3]), json!({"a": 1})], json!([1, 2, 3, {"a": 1}])),
            (Reducer::Append, json!(null), vec![json!(1)], json!([1])),
            (Reducer::Union, json!([1]), vec![json!([1, 2]), json!(2), json!(3)], json!([1, 2, 3])),
            (Reducer::Merge, json!({"a": 1, "b": 1}), vec![json!({"b": 2})], json!({"a": 1, "b": 2})),
            (Reducer::Sum, json!(1), vec![json!(2), json!(3)], json!(6)),
            (Reducer::Sum, json!(1), vec![json!(0.5)], json!(1.5)),
            (Reducer::Sum, json!(i64::MAX), vec![json!(1)], json!(9_223_372_036_854_775_808_u64)),
            (Reducer::Max, json!(null), vec![json!(2), json!(1.5), json!(3)], json!(3)),
            (Reducer::Min, json!(2), vec![json!(3), json!(1.5)], json!(1.5)),
        ];
        for (reducer, value, writes, expected) in cases {
            assert_eq!(after(reducer, value, &writes).unwrap(), expected, "{reducer}");
        }
    }

    #[test]
    fn reducers_refuse_what_they_cannot_combine() {
        for (reducer, value, write) in [
            (Reducer::Append, json!("x"), json!(1)),
            (Reducer::Union, json!(1), json!(1)),
            (Reducer::Merge, json!({}), json!([1])),
            (Reducer::Merge, json!([]), json!({})),
            (Reducer::Sum, json!(1), json!("2")),
            (Reducer::Sum, json!(u64::MAX), json!(1)),
            (Reducer::Max, json!(1), json!("2")),
            (Reducer::Min, json!("1"), json!(2)),
        ] {
            let mut held = value.clone();
            assert!(reduce(reducer, &mut held, write).is_err(), "{reducer}");
            assert_eq!(held, value, "{reducer} keeps the value it had");
        }
    }
}

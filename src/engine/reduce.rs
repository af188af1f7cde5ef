//! The reducers: how a write and the value that a channel holds become the next value.

use std::cmp::Ordering;
use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use crate::graph::{Reducer, StateChannel};

/// A reducer of the host program: makes the next value of what the channel holds, if anything, and a write.
pub(crate) type ReducerFn = Arc<dyn Fn(Option<&Value>, Value) -> Result<Value, String> + Send + Sync>;

/// The functions behind [`Reducer::Custom`], in the order of the graph's `custom_reducers`.
#[derive(Clone, Default)]
pub(crate) struct Reducers(pub(crate) Arc<[ReducerFn]>);

impl Reducers {
    /// Puts a write through a channel's reducer, in place.
    ///
    /// # Errors
    /// Where the reducer cannot take the write; the value is then as before.
    pub(crate) fn reduce(
        &self,
        channel: &StateChannel,
        slot: &mut Option<Arc<Value>>,
        write: Value,
    ) -> Result<(), String> {
        if let Reducer::Custom(place) = channel.reducer {
            *slot = Some(Arc::new(self.custom(place, channel, slot.as_deref(), write)?));
        } else if let Some(value) = slot {
            reduce(channel.reducer, Arc::make_mut(value), write)?;
        } else {
            let mut first = match channel.reducer {
                Reducer::Append | Reducer::Union | Reducer::ById => Value::Array(Vec::new()),
                Reducer::Merge => Value::Object(Map::new()),
                _ => Value::Null,
            };
            reduce(channel.reducer, &mut first, write)?;
            *slot = Some(Arc::new(first));
        }
        trim(channel, slot);
        Ok(())
    }

    /// Asks a registered function. What it gives must be of the channel's type, since all that reads the channel
    /// relies on that.
    fn custom(
        &self,
        place: usize,
        channel: &StateChannel,
        held: Option<&Value>,
        write: Value,
    ) -> Result<Value, String> {
        let function = self.0.get(place).ok_or("its reducer is not registered")?;
        let value = catch_unwind(AssertUnwindSafe(|| function(held, write))).map_err(|panic| {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            format!("its reducer panicked: {text}")
        })??;
        if channel.ty.fits(&value) { Ok(value) } else { Err(format!("its reducer gave no {}", channel.ty)) }
    }
}

impl Debug for Reducers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reducers({})", self.0.len())
    }
}

/// Takes the oldest items away where a list holds more than its channel keeps.
pub(crate) fn trim(channel: &StateChannel, slot: &mut Option<Arc<Value>>) {
    let Some(most) = channel.max_items else { return };
    let Some(value) = slot else { return };
    let over = value.as_array().map_or(0, |list| list.len().saturating_sub(most));
    if over > 0
        && let Value::Array(list) = Arc::make_mut(value)
    {
        list.drain(..over);
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
            if value.is_null() && write.is_object() {
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
            (Reducer::First, json!(null), vec![json!(2), json!(3)], json!(2)),
            (
                Reducer::ById,
                json!([{"id": 1, "a": 1}, {"id": 2}]),
                vec![json!({"id": 1, "b": 1}), json!([{"id": 3}, {"no": 1}, {"no": 1}])],
                json!([{"id": 1, "b": 1}, {"id": 2}, {"id": 3}, {"no": 1}, {"no": 1}]),
            ),
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
            (Reducer::Merge, json!(null), json!(1)),
            (Reducer::ById, json!({}), json!({"id": 1})),
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

    fn channel(reducer: Reducer, ty: &str, max_items: Option<usize>) -> StateChannel {
        StateChannel {
            max_items,
            ..StateChannel::plain("c", crate::graph::Type::parse(ty).unwrap(), reducer)
        }
    }

    #[test]
    fn the_oldest_items_make_room() {
        for (reducer, start, write, expected) in [
            (Reducer::Append, json!([1, 2]), json!([3, 4]), json!([2, 3, 4])),
            (Reducer::Append, json!([1]), json!([2, 3, 4, 5]), json!([3, 4, 5])),
            (Reducer::Union, json!([1, 2, 3]), json!([1, 4]), json!([2, 3, 4])),
            (
                Reducer::ById,
                json!([{"id": 1}, {"id": 2}]),
                json!([{"id": 3}, {"id": 4}]),
                json!([{"id": 2}, {"id": 3}, {"id": 4}]),
            ),
            (Reducer::Last, json!([]), json!([1, 2, 3, 4]), json!([2, 3, 4])),
            (Reducer::Last, json!(null), json!("text"), json!("text")),
        ] {
            let mut slot = Some(Arc::new(start));
            Reducers::default().reduce(&channel(reducer, "any", Some(3)), &mut slot, write).unwrap();
            assert_eq!(*slot.unwrap(), expected, "{reducer}");
        }
    }

    #[test]
    fn a_reducer_of_the_host_gets_what_is_held_and_what_is_written() {
        let longest: ReducerFn = Arc::new(|held, write| {
            let new = write.as_str().ok_or("takes strings")?;
            match held.and_then(Value::as_str) {
                _ if new == "panic" => panic!("lost my head"),
                _ if new == "number" => Ok(json!(1)),
                Some(held) if held.len() >= new.len() => Ok(json!(held)),
                _ => Ok(write),
            }
        });
        let reducers = Reducers([longest].into());
        let channel = channel(Reducer::Custom(0), "string", None);
        let mut slot = None;
        for write in ["a", "abc", "ab"] {
            reducers.reduce(&channel, &mut slot, json!(write)).unwrap();
        }
        assert_eq!(*slot.clone().unwrap(), json!("abc"));
        for (write, message) in [
            (json!(1), "takes strings"),
            (json!("panic"), "its reducer panicked: lost my head"),
            (json!("number"), "its reducer gave no string"),
        ] {
            assert_eq!(reducers.reduce(&channel, &mut slot, write).unwrap_err(), message);
            assert_eq!(*slot.clone().unwrap(), json!("abc"), "the value stays");
        }
        let unbound = Reducers::default().reduce(&channel, &mut slot, json!("a"));
        assert_eq!(unbound.unwrap_err(), "its reducer is not registered");
    }
}

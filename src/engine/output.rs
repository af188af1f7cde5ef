//! The output of a task, picked apart into writes while serde serialises it: fields that no channel takes are
//! never turned into JSON.

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer};
use serde_json::{Error, Value};

use super::overwrite::Field;
use super::{ErrorClass, NodeError};
use crate::graph::{ChannelIdx, Graph, Node, Reducer, StateChannel, Type};

/// A value for a state channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) channel: ChannelIdx,
    pub(crate) value: Value,
    /// Whether it replaces the value, whatever the channel's reducer.
    pub(crate) overwrite: bool,
}

/// What one task wrote, in the order of its node's `writes`.
pub(crate) type Writes = Vec<Write>;

/// The writes of a task's output.
pub(crate) fn encode<T: Serialize>(output: &T, graph: &Graph, node: &Node) -> Result<Writes, NodeError> {
    let mut picker =
        Picker { graph, node, picked: Vec::with_capacity(node.writes.len()), key: String::new() };
    output.serialize(&mut picker).map_err(|error| NodeError::permanent(format!("output: {error}")))?;
    Ok(in_order(picker.picked, node))
}

/// The writes of an answer that came from outside: its values must fit their channels.
pub(crate) fn encode_answer(answer: &Value, graph: &Graph, node: &Node) -> Result<Writes, NodeError> {
    for (field, index) in &node.writes {
        let channel = graph.channel(*index);
        match answer.get(field) {
            Some(value) if !value.is_null() && !fits(channel, value, node.overwrite.contains(index)) => {
                return Err(NodeError::new(
                    ErrorClass::Malformed,
                    format!(
                        "answer: field `{field}` is no {}, the type of channel `{}`",
                        channel.ty, channel.name
                    ),
                ));
            }
            _ => {}
        }
    }
    if !answer.is_object() {
        return Err(NodeError::new(ErrorClass::Malformed, "answer: is no object"));
    }
    encode(answer, graph, node)
}

/// Whether a channel can take a value: as its whole, or as one more item of its list.
fn fits(channel: &StateChannel, value: &Value, overwrite: bool) -> bool {
    let adds_items = matches!(channel.reducer, Reducer::Append | Reducer::Union | Reducer::ById);
    if overwrite || !adds_items || value.is_array() {
        return channel.ty.fits(value);
    }
    let ty = match &channel.ty {
        Type::Optional(inner) => inner,
        other => other,
    };
    match ty {
        Type::List(item) => item.fits(value),
        _ => true,
    }
}

/// Whether null is a value for a channel. Everywhere else it means that there is nothing to write.
fn takes_null(channel: &StateChannel, overwrite: bool) -> bool {
    (channel.reducer == Reducer::Last || overwrite) && channel.ty.is_optional()
}

/// Puts writes in the order of the node's `writes`.
fn in_order(mut writes: Writes, node: &Node) -> Writes {
    let place = |write: &Write| node.writes.iter().position(|(_, channel)| *channel == write.channel);
    if !writes.is_sorted_by_key(place) {
        writes.sort_by_key(place);
    }
    writes
}

struct Picker<'a> {
    graph: &'a Graph,
    node: &'a Node,
    picked: Writes,
    /// The key of the map entry whose value comes next.
    key: String,
}

impl Picker<'_> {
    fn pick<T: ?Sized + Serialize>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        for (field, channel) in &self.node.writes {
            if field == key {
                let mut overwrite = self.node.overwrite.contains(channel);
                let value = value
                    .serialize(Field { overwrite: &mut overwrite })
                    .map_err(|error| Error::custom(format!("field `{key}`: {error}")))?;
                if !value.is_null() || takes_null(self.graph.channel(*channel), overwrite) {
                    self.picked.push(Write { channel: *channel, value, overwrite });
                }
            }
        }
        Ok(())
    }
}

macro_rules! no_object {
    ($($name:ident: $ty:ty),* $(,)?) => {
        $(fn $name(self, _: $ty) -> Result<(), Error> {
            Err(no_object())
        })*
    };
}

fn no_object() -> Error {
    Error::custom("is no object")
}

impl Serializer for &mut Picker<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Error>;

    no_object! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Error> {
        Err(no_object())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.pick(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(no_object())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(no_object())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        Err(no_object())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(no_object())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(no_object())
    }
}

impl SerializeStruct for &mut Picker<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.pick(key, value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeMap for &mut Picker<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        match key.serialize(serde_json::value::Serializer)? {
            Value::String(key) => self.key = key,
            other => self.key = other.to_string(),
        }
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        let key = std::mem::take(&mut self.key);
        self.pick(&key, value)
    }

    fn serialize_entry<K: ?Sized + Serialize, V: ?Sized + Serialize>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), Error> {
        SerializeMap::serialize_key(self, key)?;
        SerializeMap::serialize_value(self, value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

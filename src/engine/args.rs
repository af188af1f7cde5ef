//! The input of a task, read straight out of the state: nothing is copied before serde asks for it.

use std::cell::Cell;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

use super::NodeError;
use super::state::State;
use crate::graph::{Graph, Node};

/// Where the fields of a task's input come from.
#[derive(Clone, Copy)]
pub(crate) struct Args<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) node: &'a Node,
    pub(crate) state: &'a State,
    /// The item of a fan-out, or a list of them where it works by batches.
    pub(crate) item: Option<&'a Value>,
    /// An input that was sent: its fields take the place of all others.
    pub(crate) sent: Option<&'a Map<String, Value>>,
}

impl<'a> Args<'a> {
    /// Fields and values, in the order of constants, channels, item, sent. A channel without a value is left out.
    fn fields(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let sent = self.sent.into_iter().flatten().map(|(field, value)| (field.as_str(), value));
        let is_sent = move |field: &str| self.sent.is_some_and(|sent| sent.contains_key(field));
        let constants = self.node.with.iter().map(|(field, value)| (field.as_str(), value));
        let channels = self
            .node
            .reads
            .iter()
            .filter_map(move |(field, channel)| Some((field.as_str(), self.state.get(*channel)?)));
        let each = self.node.each.as_ref().map(|each| each.item.as_str());
        let own = constants.chain(channels).chain(each.zip(self.item));
        own.filter(move |(field, _)| !is_sent(field)).chain(sent)
    }

    /// The input as a task's own type.
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, NodeError> {
        let field = Cell::new(None);
        T::deserialize(Input { args: self, field: &field }).map_err(|error| {
            let place = match field.get() {
                Some(field) => self.place(field),
                None => "input".to_owned(),
            };
            NodeError::permanent(format!("{place}: {error}"))
        })
    }

    /// The input as an object, for a prompt's variables.
    pub(crate) fn to_map(self) -> Map<String, Value> {
        self.fields().map(|(field, value)| (field.to_owned(), value.clone())).collect()
    }

    /// Names a field and where its value comes from.
    fn place(self, field: &str) -> String {
        match self.node.reads.iter().find(|(name, _)| name == field) {
            Some((_, channel)) => {
                format!("input field `{field}` (channel `{}`)", self.graph.channel(*channel).name)
            }
            None => format!("input field `{field}`"),
        }
    }
}

struct Input<'a, 'c> {
    args: Args<'a>,
    field: &'c Cell<Option<&'a str>>,
}

impl<'de> Deserializer<'de> for Input<'de, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { rest: self.args.fields(), value: None, field: self.field })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

struct Fields<'a, 'c, I> {
    rest: I,
    value: Option<&'a Value>,
    field: &'c Cell<Option<&'a str>>,
}

impl<'a, I: Iterator<Item = (&'a str, &'a Value)>> MapAccess<'a> for Fields<'a, '_, I> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((field, value)) = self.rest.next() else {
            self.field.set(None);
            return Ok(None);
        };
        self.field.set(Some(field));
        self.value = Some(value);
        seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().ok_or_else(|| Error::custom("value before its key"))?;
        seed.deserialize(value)
    }
}

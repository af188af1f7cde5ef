//! A field of a task's output that replaces its channel's value.

use std::borrow::Cow;
use std::fmt::Display;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_json::value::Serializer as Json;
use serde_json::{Error, Value};

/// The name under which [`Overwrite`] shows itself to [`Field`]; no JSON value can.
const OVERWRITE: &str = "$sentrix::Overwrite";

/// A field of a task's output that replaces its channel's value, whatever the reducer.
///
/// It counts as the whole field, or within an `Option`; anywhere deeper it is just its value. Two tasks of one
/// superstep that overwrite the same channel fail the run.
///
/// ```
/// use sentrix::engine::Overwrite;
///
/// #[derive(serde::Serialize, schemars::JsonSchema)]
/// struct Pruned {
///     /// Takes the place of a list that others append to.
///     notes: Overwrite<Vec<String>>,
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overwrite<T>(pub T);

impl<T: Serialize> Serialize for Overwrite<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(OVERWRITE, &self.0)
    }
}

impl<T: JsonSchema> JsonSchema for Overwrite<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Makes JSON of a field's value, and notices an [`Overwrite`] at its top.
pub(super) struct Field<'a> {
    pub(super) overwrite: &'a mut bool,
}

macro_rules! as_json {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ok:ty;)*) => {
        $(fn $name(self, $($arg: $ty),*) -> Result<$ok, Error> {
            Json.$name($($arg),*)
        })*
    };
}

impl Serializer for Field<'_> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = <Json as Serializer>::SerializeSeq;
    type SerializeTuple = <Json as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <Json as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <Json as Serializer>::SerializeTupleVariant;
    type SerializeMap = <Json as Serializer>::SerializeMap;
    type SerializeStruct = <Json as Serializer>::SerializeStruct;
    type SerializeStructVariant = <Json as Serializer>::SerializeStructVariant;

    as_json! {
        serialize_bool(value: bool) -> Value;
        serialize_i8(value: i8) -> Value;
        serialize_i16(value: i16) -> Value;
        serialize_i32(value: i32) -> Value;
        serialize_i64(value: i64) -> Value;
        serialize_i128(value: i128) -> Value;
        serialize_u8(value: u8) -> Value;
        serialize_u16(value: u16) -> Value;
        serialize_u32(value: u32) -> Value;
        serialize_u64(value: u64) -> Value;
        serialize_u128(value: u128) -> Value;
        serialize_f32(value: f32) -> Value;
        serialize_f64(value: f64) -> Value;
        serialize_char(value: char) -> Value;
        serialize_str(value: &str) -> Value;
        serialize_bytes(value: &[u8]) -> Value;
        serialize_none() -> Value;
        serialize_unit() -> Value;
        serialize_unit_struct(name: &'static str) -> Value;
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> Value;
        serialize_seq(len: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(len: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> Self::SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize)
            -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        if name == OVERWRITE {
            *self.overwrite = true;
            return value.serialize(Json);
        }
        Json.serialize_newtype_struct(name, value)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Json.serialize_newtype_variant(name, index, variant, value)
    }

    fn collect_str<T: ?Sized + Display>(self, value: &T) -> Result<Value, Error> {
        Json.collect_str(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::output::{self, Write, Writes};
    use crate::graph::{ChannelIdx, Graph, Node, NodeKind, Reducer, StateChannel, TaskSignature, Type};

    #[derive(Serialize, JsonSchema)]
    struct Out {
        notes: Overwrite<Vec<&'static str>>,
        some: Option<Overwrite<i64>>,
        none: Option<Overwrite<i64>>,
        deep: Vec<Overwrite<i64>>,
        plain: Vec<i64>,
    }

    const OUT: Out = Out {
        notes: Overwrite(vec![]),
        some: Some(Overwrite(1)),
        none: Some(Overwrite(2)),
        deep: vec![],
        plain: vec![],
    };

    fn graph() -> (Graph, Node) {
        let mut graph = Graph::empty("g");
        let mut node = Node::plain("n", NodeKind::Task { task: "t".to_owned() });
        for (field, ty) in
            [("notes", "string[]"), ("some", "int"), ("none", "int"), ("deep", "int[]"), ("plain", "int[]?")]
        {
            node.writes.push((field.to_owned(), ChannelIdx(graph.channels.len())));
            graph.channels.push(StateChannel::plain(field, Type::parse(ty).unwrap(), Reducer::Append));
        }
        (graph, node)
    }

    fn shape(writes: &Writes) -> Vec<(usize, Value, bool)> {
        writes
            .iter()
            .map(|Write { channel, value, overwrite }| (channel.0, value.clone(), *overwrite))
            .collect()
    }

    #[test]
    fn a_field_says_that_it_replaces() {
        let (graph, node) = graph();
        let out =
            Out { notes: Overwrite(vec!["a"]), none: None, deep: vec![Overwrite(1)], plain: vec![2], ..OUT };
        assert_eq!(
            shape(&output::encode(&out, &graph, &node).unwrap()),
            [(0, json!(["a"]), true), (1, json!(1), true), (3, json!([1]), false), (4, json!([2]), false)]
        );
    }

    #[test]
    fn its_type_is_the_type_of_its_value() {
        #[derive(Serialize, JsonSchema)]
        struct Same {
            notes: Vec<String>,
            some: Option<i64>,
            none: Option<i64>,
            deep: Vec<i64>,
            plain: Vec<i64>,
        }
        let outputs = |signature: TaskSignature| format!("{:?}", signature.outputs);
        assert_eq!(outputs(TaskSignature::of::<(), Out>("")), outputs(TaskSignature::of::<(), Same>("")));
    }

    #[test]
    fn an_answer_from_outside_overwrites_only_where_the_graph_says_so() {
        let (graph, mut node) = graph();
        let answer = json!({ "notes": "x", "plain": { "$sentrix::Overwrite": [1] } });
        assert!(output::encode_answer(&answer, &graph, &node).is_err(), "an object is no int");
        let answer = json!({ "notes": "x", "plain": null });
        assert_eq!(shape(&output::encode_answer(&answer, &graph, &node).unwrap()), [(0, json!("x"), false)]);
        node.overwrite = vec![ChannelIdx(0), ChannelIdx(4)];
        assert!(
            output::encode_answer(&answer, &graph, &node).is_err(),
            "a list can be replaced by a list alone"
        );
        let answer = json!({ "notes": ["x"], "plain": null });
        assert_eq!(
            shape(&output::encode_answer(&answer, &graph, &node).unwrap()),
            [(0, json!(["x"]), true), (4, json!(null), true)]
        );
    }
}

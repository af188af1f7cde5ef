//! What a graph file may refer to: the functions, types, prompts and model roles of the host program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Effect, Graph, Type};

/// Everything outside a graph file that its names may point to.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Registered Rust functions by name.
    pub tasks: BTreeMap<String, TaskSignature>,
    /// Registered types by name, with the fields of those that are objects.
    pub types: BTreeMap<String, TypeInfo>,
    /// Prompt templates by name.
    pub prompts: BTreeMap<String, PromptInfo>,
    /// Model roles that the configuration may bind, as `patrol` and `investigator`.
    pub roles: BTreeSet<String>,
    /// Names of registered reducers.
    pub reducers: BTreeSet<String>,
    /// Checked graphs that a `graph` node may name.
    pub graphs: BTreeMap<String, Arc<Graph>>,
}

/// The typed face of a registered Rust function.
#[derive(Clone, Debug, Default)]
pub struct TaskSignature {
    /// What it does, in a sentence.
    pub description: String,
    /// Fields of its input.
    pub inputs: Vec<Field>,
    /// Fields of its output.
    pub outputs: Vec<Field>,
    /// The least that it does to the world; a graph file may say more, never less.
    pub effect: Effect,
}

/// A field of an input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Whether it must be given.
    pub required: bool,
}

/// A registered type.
#[derive(Clone, Debug, Default)]
pub struct TypeInfo {
    /// Its fields, where it is an object.
    pub fields: Vec<Field>,
    /// Its JSON Schema.
    pub schema: Value,
}

/// A prompt template.
#[derive(Clone, Debug, Default)]
pub struct PromptInfo {
    /// Variables its text names.
    pub variables: BTreeSet<String>,
    /// SHA-256 of its texts, hex.
    pub hash: String,
    /// Where it comes from, for messages: a path, or `built in`.
    pub origin: String,
}

/// Which side of serde a schema describes.
#[derive(Clone, Copy)]
enum Side {
    Read,
    Written,
}

impl TaskSignature {
    /// The signature of a function from `In` to `Out`, both structs with serde and schemars; `()` has no
    /// fields.
    ///
    /// A field of `In` is required unless it is an `Option` or has a serde default. A field of `Out` that
    /// `skip_serializing_if` may leave out is not required, and then its type is that of the value that is
    /// there: an `Option<T>` that is skipped when none is a `T`.
    pub fn of<In: JsonSchema, Out: JsonSchema>(description: &str) -> Self {
        let mut outputs = fields(&schema_of::<Out>(Side::Written));
        for field in &mut outputs {
            if let (false, Type::Optional(inner)) = (field.required, &field.ty) {
                field.ty = inner.as_ref().clone();
            }
        }
        let inputs = fields(&schema_of::<In>(Side::Read));
        Self { description: description.to_owned(), inputs, outputs, effect: Effect::default() }
    }
}

impl TypeInfo {
    /// What schemars says of a type: its schema as it is read, and its fields where it is a struct. A field
    /// is required unless it is an `Option` or has a serde default.
    pub fn of<T: JsonSchema>() -> Self {
        let schema = schema_of::<T>(Side::Read);
        Self { fields: fields(&schema), schema }
    }
}

fn schema_of<T: JsonSchema>(side: Side) -> Value {
    let settings = SchemaSettings::draft2020_12();
    let settings = match side {
        Side::Read => settings.for_deserialize(),
        Side::Written => settings.for_serialize(),
    };
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// The fields of an object's schema: the required ones as they are declared, then the others by name.
fn fields(schema: &Value) -> Vec<Field> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let title = schema.get("title").and_then(Value::as_str).unwrap_or_default();
    let field = |name: &str, schema: &Value, required: bool| Field {
        name: name.to_owned(),
        ty: named_root(Type::from_schema(schema), title),
        required,
    };
    let first = required.iter().filter_map(|name| Some(field(name, properties.get(*name)?, true)));
    let rest = properties
        .iter()
        .filter(|(name, _)| !required.contains(&name.as_str()))
        .map(|(name, schema)| field(name, schema, false));
    first.chain(rest).collect()
}

/// A type that contains itself refers to the root of its schema as `#`.
fn named_root(ty: Type, title: &str) -> Type {
    match ty {
        Type::Named(name) if name == "#" => Type::Named(title.to_owned()),
        Type::List(inner) => Type::List(Box::new(named_root(*inner, title))),
        Type::Map(inner) => Type::Map(Box::new(named_root(*inner, title))),
        Type::Optional(inner) => Type::Optional(Box::new(named_root(*inner, title))),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        Low,
        High,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Vote {
        /// How bad.
        level: Level,
        children: Vec<Vote>,
        note: Option<String>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Wide {
        zone: String,
        #[schemars(with = "String")]
        id: uuid::Uuid,
        vote: Vote,
        best: Option<Vote>,
        votes: Vec<Vote>,
        by_name: BTreeMap<String, Level>,
        ratio: f64,
        count: u32,
        limit: Option<u32>,
        #[serde(default)]
        sure: bool,
        raw: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<Level>,
    }

    fn shown(fields: &[Field]) -> Vec<String> {
        fields
            .iter()
            .map(|field| format!("{}{}: {}", field.name, if field.required { "" } else { "?" }, field.ty))
            .collect()
    }

    #[test]
    fn structs_are_read_as_fields_with_types() {
        let task = TaskSignature::of::<Wide, Wide>("does it");
        assert_eq!(
            shown(&task.inputs),
            [
                "zone: string",
                "id: string",
                "vote: Vote",
                "votes: Vote[]",
                "by_name: {Level}",
                "ratio: float",
                "count: int",
                "raw: any",
                "best?: Vote?",
                "limit?: int?",
                "skipped?: Level?",
                "sure?: bool",
            ]
        );
        assert_eq!(
            shown(&task.outputs),
            [
                "zone: string",
                "id: string",
                "vote: Vote",
                "best: Vote?",
                "votes: Vote[]",
                "by_name: {Level}",
                "ratio: float",
                "count: int",
                "limit: int?",
                "sure: bool",
                "raw: any",
                "skipped?: Level",
            ]
        );
    }

    #[test]
    fn nothing_has_no_fields() {
        #[derive(Serialize, Deserialize, JsonSchema)]
        struct Nothing {}
        let task = TaskSignature::of::<(), Nothing>("");
        assert!(task.inputs.is_empty() && task.outputs.is_empty());
        assert!(TypeInfo::of::<Level>().fields.is_empty());
    }

    #[test]
    fn a_type_may_contain_itself() {
        assert_eq!(
            shown(&TypeInfo::of::<Vote>().fields),
            ["level: Level", "children: Vote[]", "note?: string?"]
        );
        let schema = TypeInfo::of::<Vote>().schema;
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&serde_json::json!({ "level": "low", "children": [] })));
        assert!(!validator.is_valid(&serde_json::json!({ "level": "LOW", "children": [] })));
    }
}

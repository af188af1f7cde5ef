//! What a graph file may refer to: the functions, types, prompts and model roles of the host program.

use std::collections::{BTreeMap, BTreeSet};

use super::Type;

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
    pub schema: serde_json::Value,
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

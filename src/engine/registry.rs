//! The Rust functions and types that graph files may name.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;

use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plan::TaskFn;
use super::{Ctx, NodeError, output};
use crate::graph::{Catalog, Field, TaskSignature, Type, TypeInfo};

/// What a host can do: its functions and types by name.
#[derive(Clone, Default)]
pub struct Registry {
    tasks: BTreeMap<String, Registered>,
    types: BTreeMap<String, Value>,
}

#[derive(Clone)]
struct Registered {
    description: String,
    input: Value,
    output: Value,
    run: TaskFn,
}

impl Registry {
    /// A registry with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a function. The fields of `In` are what it reads, the fields of `Out` what it writes; a later
    /// function of the same name takes the place of the earlier one, as a stub does.
    ///
    /// An `Out` field that is null writes nothing, except to a channel with reducer `last` whose type allows
    /// null; a field that is left out (`skip_serializing_if`) never writes.
    pub fn task<In, Out, F, Fut>(&mut self, name: &str, description: &str, function: F) -> &mut Self
    where
        In: DeserializeOwned + JsonSchema + Send + 'static,
        Out: Serialize + JsonSchema + 'static,
        F: Fn(Ctx, In) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Out, NodeError>> + Send + 'static,
    {
        let run: TaskFn = Arc::new(move |ctx, args| {
            let input: In = args.decode()?;
            let work = function(ctx.clone(), input);
            Ok(Box::pin(async move {
                let out = work.await?;
                output::encode(&out, &ctx.shared.plan.graph, ctx.shared.plan.node(ctx.node))
            }))
        });
        let registered = Registered {
            description: description.to_owned(),
            input: schema_of::<In>(),
            output: schema_of::<Out>(),
            run,
        };
        self.tasks.insert(name.to_owned(), registered);
        self
    }

    /// Registers a type under the name that its schema gives it.
    pub fn type_of<T: JsonSchema>(&mut self) -> &mut Self {
        self.types.insert(T::schema_name().into_owned(), schema_of::<T>());
        self
    }

    /// Takes over everything that another registry holds.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.tasks.extend(other.tasks);
        self.types.extend(other.types);
        self
    }

    /// Names of the registered functions.
    pub fn task_names(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// What a graph file may name of this registry; prompts and model roles are the host's to add.
    pub fn catalog(&self) -> Catalog {
        let tasks = self
            .tasks
            .iter()
            .map(|(name, task)| {
                let signature = TaskSignature {
                    description: task.description.clone(),
                    inputs: fields(&task.input),
                    outputs: fields(&task.output),
                };
                (name.clone(), signature)
            })
            .collect();
        let types = self
            .types
            .iter()
            .map(|(name, schema)| (name.clone(), TypeInfo { fields: fields(schema), schema: schema.clone() }))
            .collect();
        Catalog { tasks, types, ..Catalog::default() }
    }

    pub(crate) fn find(&self, name: &str) -> Option<TaskFn> {
        self.tasks.get(name).map(|task| Arc::clone(&task.run))
    }
}

fn schema_of<T: JsonSchema>() -> Value {
    SchemaGenerator::default().into_root_schema_for::<T>().to_value()
}

/// The fields that an object's schema names.
fn fields(schema: &Value) -> Vec<Field> {
    let required = |name: &str| {
        let list = schema.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|field| field == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(name, field)| Field {
            name: name.clone(),
            ty: Type::from_schema(field),
            required: required(name),
        })
        .collect()
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("tasks", &self.tasks.keys().collect::<Vec<_>>())
            .field("types", &self.types.keys().collect::<Vec<_>>())
            .finish()
    }
}

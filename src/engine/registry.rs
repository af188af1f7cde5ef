//! The Rust functions and types that graph files may name.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::plan::TaskFn;
use super::reduce::{ReducerFn, Reducers};
use super::{Ctx, EngineErrorKind, NodeError, output};
use crate::graph::{Catalog, Effect, TaskSignature, TypeInfo};

/// What a host can do: its functions and types by name.
#[derive(Clone, Default)]
pub struct Registry {
    tasks: BTreeMap<String, Registered>,
    types: BTreeMap<String, TypeInfo>,
    reducers: BTreeMap<String, ReducerFn>,
}

#[derive(Clone)]
struct Registered {
    signature: TaskSignature,
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
        let signature = TaskSignature::of::<In, Out>(description);
        self.tasks.insert(name.to_owned(), Registered { signature, run });
        self
    }

    /// Registers a type under the name that its schema gives it.
    pub fn type_of<T: JsonSchema>(&mut self) -> &mut Self {
        self.types.insert(T::schema_name().into_owned(), TypeInfo::of::<T>());
        self
    }

    /// Takes over everything that another registry holds.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.tasks.extend(other.tasks);
        self.types.extend(other.types);
        self.reducers.extend(other.reducers);
        self
    }

    /// Registers a reducer: it is given what the channel holds, if anything, and a write, and gives what the channel
    /// holds from then on. It must depend on nothing else.
    pub fn reducer(
        &mut self,
        name: &str,
        reduce: impl Fn(Option<&Value>, Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> &mut Self {
        self.reducers.insert(name.to_owned(), Arc::new(reduce));
        self
    }

    /// Says the least that a registered function does to the world: a graph file may say more, never less.
    pub fn effect(&mut self, task: &str, effect: Effect) -> &mut Self {
        if let Some(task) = self.tasks.get_mut(task) {
            task.signature.effect = effect;
        }
        self
    }

    pub(crate) fn reducers(&self, names: &[String]) -> Result<Reducers, EngineErrorKind> {
        let find = |name: &String| {
            self.reducers.get(name).cloned().ok_or_else(|| EngineErrorKind::MissingReducer(name.clone()))
        };
        Ok(Reducers(names.iter().map(find).collect::<Result<Vec<_>, _>>()?.into()))
    }

    /// What a graph file may name of this registry; prompts and model roles are the host's to add.
    pub fn catalog(&self) -> Catalog {
        let tasks = self.tasks.iter().map(|(name, task)| (name.clone(), task.signature.clone())).collect();
        let reducers = self.reducers.keys().cloned().collect();
        Catalog { tasks, types: self.types.clone(), reducers, ..Catalog::default() }
    }

    pub(crate) fn find(&self, name: &str) -> Option<TaskFn> {
        self.tasks.get(name).map(|task| Arc::clone(&task.run))
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("tasks", &self.tasks.keys().collect::<Vec<_>>())
            .field("types", &self.types.keys().collect::<Vec<_>>())
            .field("reducers", &self.reducers.keys().collect::<Vec<_>>())
            .finish()
    }
}

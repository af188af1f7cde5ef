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
    effects: BTreeMap<String, Effect>,
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
        self.effects.extend(other.effects);
        self
    }

    /// Registers a reducer: it is given what the channel holds, if anything, and a write, and gives what the channel
    /// holds from then on. It must depend on nothing else. The built-in names keep their meaning.
    ///
    /// An error, a panic, or a value that is not of the channel's type fails the run; the channel stays as it was.
    pub fn reducer(
        &mut self,
        name: &str,
        reduce: impl Fn(Option<&Value>, Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> &mut Self {
        self.reducers.insert(name.to_owned(), Arc::new(reduce));
        self
    }

    /// Says the least that a registered function does to the world: a graph file may say more, never less. It stays
    /// said when another function takes the name.
    pub fn effect(&mut self, task: &str, effect: Effect) -> &mut Self {
        self.effects.insert(task.to_owned(), effect);
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
        let tasks = self.tasks.iter().map(|(name, task)| {
            let effect = self.effects.get(name).copied().unwrap_or_default();
            (name.clone(), TaskSignature { effect, ..task.signature.clone() })
        });
        let tasks = tasks.collect();
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
            .field("effects", &self.effects)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declared_of_a_function_stays_when_a_stub_takes_its_name() {
        let mut stub = Registry::new();
        stub.task("t.ban", "does nothing", async |_, (): ()| Ok::<(), _>(()));
        let mut registry = Registry::new();
        registry
            .task("t.ban", "bans", async |_, (): ()| Ok::<(), _>(()))
            .task("t.look", "looks", async |_, (): ()| Ok::<(), _>(()))
            .effect("t.ban", Effect::Danger)
            .effect("t.gone", Effect::Write)
            .extend(stub);
        let catalog = registry.catalog();
        assert_eq!(catalog.tasks.keys().collect::<Vec<_>>(), ["t.ban", "t.look"]);
        assert_eq!(catalog.tasks["t.ban"].description, "does nothing");
        assert_eq!(catalog.tasks["t.ban"].effect, Effect::Danger);
        assert_eq!(catalog.tasks["t.look"].effect, Effect::Read);
    }

    #[test]
    fn a_graph_gets_the_reducers_that_it_names() {
        let mut registry = Registry::new();
        registry.reducer("newest", |_, write| Ok(write)).reducer("held", |held, _| Ok(held.cloned().into()));
        assert_eq!(registry.catalog().reducers.into_iter().collect::<Vec<_>>(), ["held", "newest"]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(registry.reducers(&names(&["newest"])).is_ok());
        let error = registry.reducers(&names(&["newest", "oldest"])).unwrap_err();
        assert!(matches!(error, EngineErrorKind::MissingReducer(name) if name == "oldest"));
    }
}

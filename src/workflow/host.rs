//! Checks graphs against what the program can do, runs them and resumes them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::library::{GraphSource, Library};
use super::prompts::{ModelPrompts, prompts_of, texts};
use super::{WorkflowError, core};
use crate::clock::SharedClock;
use crate::engine::{
    Checkpointer, Definition, Engine, GateView, Keys, PromptTexts, Registry, RunFilter, RunOptions,
    RunOutcome, RunStatus, RunSummary, StepRecord,
};
use crate::graph::{self, Catalog, Faults, Graph, NodeKind, Retention};
use crate::id::RunId;
use crate::model::Models;
use crate::prompt::Prompts;

/// Roles that a graph may give to its prompt nodes.
pub(super) const ROLES: [&str; 2] = ["patrol", "investigator"];

/// Everything that is needed to run graphs.
#[derive(Debug)]
pub struct Host {
    library: Library,
    catalog: Catalog,
    engine: Engine,
}

impl Host {
    /// A host of these functions and types, with the models for prompt nodes, the store for checkpoints, and the keys
    /// that seal and sign what is stored.
    pub fn new(
        library: Library,
        mut registry: Registry,
        models: Models,
        max_tokens: BTreeMap<String, u32>,
        kept: (Option<Arc<dyn Checkpointer>>, Option<Arc<Keys>>),
        clock: SharedClock,
    ) -> Self {
        core::register(&mut registry);
        let catalog = catalog(&registry, library.prompts());
        let schemas = catalog.types.iter().map(|(name, info)| (name.clone(), info.schema.clone())).collect();
        let runner = Arc::new(ModelPrompts::new(library.shared_prompts(), models, schemas, max_tokens));
        let mut builder = Engine::builder().registry(registry).prompts(Arc::new(runner)).clock(clock);
        let (checkpointer, keys) = kept;
        if let Some(checkpointer) = checkpointer {
            builder = builder.checkpointer(checkpointer);
        }
        if let Some(keys) = keys {
            builder = builder.keys(keys);
        }
        Self { library, catalog, engine: builder.build() }
    }

    /// The graph files and prompts at hand.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// What graph files may name.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The engine, with the runs it keeps.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Checks a graph file, and the graphs it uses.
    ///
    /// # Errors
    /// With all of its faults, or those of a graph it uses.
    pub fn check(&self, source: &GraphSource) -> Result<Graph, WorkflowError> {
        let find = |name: &str| self.library.graph(name).ok();
        check(source, &self.catalog, &find, &mut Vec::new(), graph::check)
    }

    /// Checks a graph file that [`Host::check`] finds sound for what is only odd.
    pub fn warnings(&self, source: &GraphSource) -> Option<Faults> {
        let mut catalog = self.catalog.clone();
        for name in graph::uses(&source.text) {
            if let Some(inner) = self.library.graph(&name).ok().and_then(|inner| self.check(&inner).ok()) {
                catalog.graphs.insert(name, Arc::new(inner));
            }
        }
        graph::check_all(&source.origin, &source.text, &catalog).1
    }

    /// Runs a graph by its name or its file's path. Afterwards its retention is applied to its earlier runs.
    ///
    /// # Errors
    /// Where it cannot be found, has faults, or fails.
    ///
    /// # Cancel safety
    /// A dropped run can be resumed.
    pub async fn run(
        &self,
        name: &str,
        input: Map<String, Value>,
        mut options: RunOptions,
    ) -> Result<RunOutcome, WorkflowError> {
        let graph = self.check(&self.library.graph(name)?)?;
        options.prompt_texts = Arc::new(self.texts(&graph));
        let (name, retention) = (graph.name.clone(), graph.retention);
        let outcome = self.engine.run(Arc::new(graph), input, options).await;
        if retention != Retention::default()
            && let Err(error) = self.engine.retain(&name, retention, false).await
        {
            tracing::warn!(graph = name, %error, "retention not applied");
        }
        Ok(outcome?)
    }

    /// Goes on with a run, from the definition that was kept with it.
    ///
    /// # Errors
    /// Where it is not stored, is held by a live process, or fails.
    ///
    /// # Cancel safety
    /// A dropped run can be resumed.
    pub async fn resume(&self, run: RunId, options: RunOptions) -> Result<RunOutcome, WorkflowError> {
        let read = |definition: &Definition| self.read(definition);
        Ok(self.engine.resume(run, read, options).await?)
    }

    /// Goes on with a run from the graph of the same name that is at hand now.
    ///
    /// # Errors
    /// As [`Host::resume`]; also where the run cannot go on with it.
    ///
    /// # Cancel safety
    /// A dropped run can be resumed.
    pub async fn upgrade(&self, run: RunId, mut options: RunOptions) -> Result<RunOutcome, WorkflowError> {
        let record = self.engine.load(run).await?;
        let graph = self.check(&self.library.graph(&record.definition.graph)?)?;
        if graph.hash != record.definition.hash {
            options.prompt_texts = Arc::new(self.texts(&graph));
            options.upgrade = Some(Arc::new(graph));
        }
        self.resume(run, options).await
    }

    /// The graph of a run's own definition.
    ///
    /// # Errors
    /// Where it cannot be read any more.
    pub fn kept(&self, definition: &Definition) -> Result<Arc<Graph>, WorkflowError> {
        let prompts = prompts_of(&definition.prompts)?;
        let mut catalog = self.catalog.clone();
        for name in prompts.names() {
            if let Some(info) = prompts.info(&name) {
                catalog.prompts.insert(name, info);
            }
        }
        let kept = |name: &str, text: &str| GraphSource {
            name: name.to_owned(),
            origin: format!("{name} (kept with the run)"),
            text: text.to_owned(),
            tests: None,
        };
        let find = |name: &str| definition.prompts.get(&graph_file(name)).map(|text| kept(name, text));
        let source = kept(&definition.graph, &definition.source);
        check(&source, &catalog, &find, &mut Vec::new(), graph::check_kept).map(Arc::new)
    }

    /// As [`Host::kept`], in the form that the engine takes.
    ///
    /// # Errors
    /// As [`Host::kept`].
    pub fn read(&self, definition: &Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> {
        self.kept(definition).map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>)
    }

    /// The texts that a run of a graph keeps: its prompts, the graphs it uses, and their prompts.
    fn texts(&self, graph: &Graph) -> PromptTexts {
        let mut kept = PromptTexts::new();
        let mut todo = vec![graph];
        while let Some(graph) = todo.pop() {
            kept.extend(texts(self.library.prompts(), prompt_names(graph)));
            for node in &graph.nodes {
                if let NodeKind::Graph(inner) = &node.kind {
                    kept.insert(graph_file(&inner.name), inner.source.to_string());
                    todo.push(inner);
                }
            }
        }
        kept
    }

    /// The gates that wait for an answer, oldest first: of all runs that wait, also inside others.
    ///
    /// # Errors
    /// Where the store fails, or a run's definition cannot be read.
    pub async fn gates(&self) -> Result<Vec<GateView>, WorkflowError> {
        let filter = RunFilter { status: Some(RunStatus::Waiting), children: true, ..RunFilter::default() };
        let mut gates = Vec::new();
        for run in self.engine.list(filter).await? {
            gates.extend(self.engine.gates(run.run, &|definition| self.read(definition)).await?);
        }
        gates.sort_by_key(|gate| gate.since_ms);
        Ok(gates)
    }

    /// The outermost run that a run is part of: the one to resume.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn outermost(&self, mut run: RunId) -> Result<RunId, WorkflowError> {
        while let Some(parent) = self.engine.load(run).await?.summary.parent {
            run = parent;
        }
        Ok(run)
    }

    /// Whether a run is stored that has not come to its end.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn is_unfinished(&self, run: RunId) -> Result<bool, WorkflowError> {
        match self.engine.load(run).await {
            Ok(record) => Ok(record.summary.status != RunStatus::Done),
            Err(error) if matches!(error.kind, crate::engine::CheckpointErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The newest runs, newest first.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn runs(&self, filter: RunFilter) -> Result<Vec<RunSummary>, WorkflowError> {
        Ok(self.engine.list(filter).await?)
    }

    /// The supersteps of a run.
    ///
    /// # Errors
    /// Where the run is not stored, or the store fails.
    pub async fn history(&self, run: RunId) -> Result<Vec<StepRecord>, WorkflowError> {
        Ok(self.engine.history(run).await?)
    }

    /// What is stored of a run.
    ///
    /// # Errors
    /// Where the run is not stored, or the store fails.
    pub async fn load(&self, run: RunId) -> Result<crate::engine::RunRecord, WorkflowError> {
        Ok(self.engine.load(run).await?)
    }
}

/// What graph files may name of a registry and prompts.
pub(super) fn catalog(registry: &Registry, prompts: &Prompts) -> Catalog {
    let mut catalog = registry.catalog();
    for name in prompts.names() {
        if let Some(info) = prompts.info(&name) {
            catalog.prompts.insert(name, info);
        }
    }
    catalog.roles.extend(ROLES.map(str::to_owned));
    catalog
}

/// The file name under which a run keeps a graph that its own graph uses.
fn graph_file(name: &str) -> String {
    format!("graphs/{name}.toml")
}

/// Reads a graph, the graphs it uses first. `path` holds the graphs on the way to it.
fn check(
    source: &GraphSource,
    catalog: &Catalog,
    find: &dyn Fn(&str) -> Option<GraphSource>,
    path: &mut Vec<String>,
    read: fn(&str, &str, &Catalog) -> Result<Graph, Faults>,
) -> Result<Graph, WorkflowError> {
    let used = graph::uses(&source.text);
    let fail = |faults| WorkflowError::Faults { name: source.name.clone(), faults: Box::new(faults) };
    if used.is_empty() {
        return read(&source.origin, &source.text, catalog).map_err(fail);
    }
    let mut catalog = catalog.clone();
    path.push(source.name.clone());
    for name in used {
        if path.contains(&name) {
            path.push(name);
            return Err(WorkflowError::Circle { path: path.join(" → ") });
        }
        // One that is not there is a fault of the file, which the check tells.
        if let Some(inner) = find(&name) {
            let inner = check(&inner, &catalog, find, path, read)?;
            catalog.graphs.insert(name, Arc::new(inner));
        }
    }
    path.pop();
    read(&source.origin, &source.text, &catalog).map_err(fail)
}

fn prompt_names(graph: &Graph) -> impl Iterator<Item = &str> {
    graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Prompt { prompt, .. } => Some(prompt.as_str()),
        NodeKind::Task { .. } | NodeKind::Gate(_) | NodeKind::Graph(_) => None,
    })
}

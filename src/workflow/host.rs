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
    Checkpointer, Definition, Engine, Registry, RunFilter, RunOptions, RunOutcome, RunStatus, RunSummary,
    StepRecord,
};
use crate::graph::{self, Catalog, Graph, NodeKind};
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
    /// A host of these functions and types, with the models for prompt nodes and the store for checkpoints.
    pub fn new(
        library: Library,
        mut registry: Registry,
        models: Models,
        max_tokens: BTreeMap<String, u32>,
        checkpointer: Option<Arc<dyn Checkpointer>>,
        clock: SharedClock,
    ) -> Self {
        core::register(&mut registry);
        let catalog = catalog(&registry, library.prompts());
        let schemas = catalog.types.iter().map(|(name, info)| (name.clone(), info.schema.clone())).collect();
        let runner = Arc::new(ModelPrompts::new(library.shared_prompts(), models, schemas, max_tokens));
        let mut builder = Engine::builder().registry(registry).prompts(Arc::new(runner)).clock(clock);
        if let Some(checkpointer) = checkpointer {
            builder = builder.checkpointer(checkpointer);
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

    /// Checks a graph file.
    ///
    /// # Errors
    /// With all of its faults.
    pub fn check(&self, source: &GraphSource) -> Result<Graph, WorkflowError> {
        check(source, &self.catalog)
    }

    /// Runs a graph by its name or its file's path.
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
        options.prompt_texts = Arc::new(texts(self.library.prompts(), prompt_names(&graph)));
        Ok(self.engine.run(Arc::new(graph), input, options).await?)
    }

    /// Goes on with a run, from the definition that was kept with it.
    ///
    /// # Errors
    /// Where it is not stored, is held by a live process, or fails.
    ///
    /// # Cancel safety
    /// A dropped run can be resumed.
    pub async fn resume(&self, run: RunId, options: RunOptions) -> Result<RunOutcome, WorkflowError> {
        let read = |definition: &Definition| {
            self.kept(definition).map_err(|error| Box::new(error) as Box<dyn Error + Send + Sync>)
        };
        Ok(self.engine.resume(run, read, options).await?)
    }

    /// The graph of a run's own definition.
    fn kept(&self, definition: &Definition) -> Result<Arc<Graph>, WorkflowError> {
        let prompts = prompts_of(&definition.prompts)?;
        let mut catalog = self.catalog.clone();
        for name in prompts.names() {
            if let Some(info) = prompts.info(&name) {
                catalog.prompts.insert(name, info);
            }
        }
        let source = GraphSource {
            name: definition.graph.clone(),
            origin: format!("{} (kept with the run)", definition.graph),
            text: definition.source.to_string(),
            tests: None,
        };
        check(&source, &catalog).map(Arc::new)
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

fn check(source: &GraphSource, catalog: &Catalog) -> Result<Graph, WorkflowError> {
    graph::check(&source.origin, &source.text, catalog)
        .map_err(|faults| WorkflowError::Faults { name: source.name.clone(), faults: Box::new(faults) })
}

fn prompt_names(graph: &Graph) -> impl Iterator<Item = &str> {
    graph.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Prompt { prompt, .. } => Some(prompt.as_str()),
        NodeKind::Task { .. } | NodeKind::Gate(_) | NodeKind::Graph(_) => None,
    })
}

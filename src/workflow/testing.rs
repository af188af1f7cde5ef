//! Tests beside a graph: an input, stubs for its nodes, and the path and state that must come out. No model, no log
//! and no store is touched.
//!
//! ```toml
//! [[test]]
//! name = "asks once, then concludes"
//! input = { flag_id = "f" }
//! stub.analyse = [{ more = true }, { more = false }]   # one answer a visit; of an `each` node, one an item
//! path = ["load_context", "analyse", "expand", "analyse", "verify", "conclude"]   # ["a", "b"] for nodes of one step
//! state = { round = 1 }                                # channels that must end like this
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::WorkflowError;
use super::host::Host;
use super::library::GraphSource;
use crate::engine::{Ctx, Engine, Event, NodeError, Registry, RunEvent, RunOptions};
use crate::graph::{Graph, NodeKind};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    test: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    input: Map<String, Value>,
    #[serde(default)]
    stub: BTreeMap<String, Vec<Value>>,
    path: Vec<Step>,
    #[serde(default)]
    state: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
enum Step {
    One(String),
    Many(Vec<String>),
}

impl Step {
    fn nodes(&self) -> Vec<String> {
        match self {
            Self::One(node) => vec![node.clone()],
            Self::Many(nodes) => nodes.clone(),
        }
    }
}

/// The outcome of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestOutcome {
    /// Its name.
    pub name: String,
    /// What differs from what was expected; nothing where it passed.
    pub differences: Vec<String>,
}

/// The outcome of a graph's tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// The graph.
    pub graph: String,
    /// Its tests, in file order; none where there is no test file.
    pub tests: Vec<TestOutcome>,
    /// Nodes that no test reached.
    pub unreached: Vec<String>,
}

impl TestReport {
    /// Whether every test passed.
    pub fn passed(&self) -> bool {
        self.tests.iter().all(|test| test.differences.is_empty())
    }
}

impl Host {
    /// Runs the tests beside a graph.
    ///
    /// # Errors
    /// Where the graph has faults or its tests cannot be read; a test that fails is part of the report.
    pub async fn test(&self, source: &GraphSource) -> Result<TestReport, WorkflowError> {
        let graph = self.check(source)?;
        let mut report = TestReport {
            graph: source.name.clone(),
            tests: Vec::new(),
            unreached: graph.nodes.iter().map(|node| node.name.clone()).collect(),
        };
        let Some((origin, text)) = &source.tests else { return Ok(report) };
        let file: TestFile = toml::from_str(text)
            .map_err(|error| WorkflowError::Tests { origin: origin.clone(), message: error.to_string() })?;
        for case in file.test {
            let (differences, path) = run(&graph, &case).await;
            report.unreached.retain(|node| !path.iter().any(|step| step.contains(node)));
            report.tests.push(TestOutcome { name: case.name, differences });
        }
        Ok(report)
    }
}

/// Runs one test; gives what differs, and the path it took.
async fn run(graph: &Graph, case: &Case) -> (Vec<String>, Vec<Vec<String>>) {
    let mut differences: Vec<String> = case
        .stub
        .keys()
        .filter(|name| graph.node_named(name).is_none())
        .map(|name| format!("it stubs `{name}`, which is no node of the graph"))
        .collect();
    let (graph, registry) = stubbed(graph, &case.stub);
    let path: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    let seen = Arc::clone(&path);
    let watch = move |event: RunEvent| {
        if let Event::StepStarted { nodes, .. } = event.event {
            let nodes = nodes.iter().map(ToString::to_string).collect();
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(nodes);
        }
    };
    let options = RunOptions { events: Some(Arc::new(watch)), ..RunOptions::default() };
    let engine = Engine::builder().registry(registry).build();
    let outcome = engine.run(Arc::new(graph), case.input.clone(), options).await;
    let path = path.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let expected: Vec<Vec<String>> = case.path.iter().map(Step::nodes).collect();
    if path != expected {
        differences.push(format!("path: expected {}, took {}", show(&expected), show(&path)));
    }
    match outcome {
        Err(error) => differences.push(format!("the run failed: {error}")),
        Ok(outcome) => {
            for (channel, expected) in &case.state {
                let found = outcome.state.get(channel).unwrap_or(&Value::Null);
                if found != expected {
                    differences.push(format!("state: expected {channel} = {expected}, found {found}"));
                }
            }
        }
    }
    (differences, path)
}

fn show(path: &[Vec<String>]) -> String {
    path.iter().map(|step| step.join("+")).collect::<Vec<_>>().join(" → ")
}

/// The graph with every node's work replaced by its stub. A node without one writes nothing.
fn stubbed(graph: &Graph, stubs: &BTreeMap<String, Vec<Value>>) -> (Graph, Registry) {
    let mut graph = graph.clone();
    let mut registry = Registry::new();
    for node in &mut graph.nodes {
        let task = format!("stub.{}", node.name);
        let answers = stubs.get(&node.name).cloned().unwrap_or_default();
        let visits = Arc::new(Mutex::new(0_usize));
        registry.task(&task, "a stub", move |ctx: Ctx, _: Value| {
            let index = ctx.item().map_or_else(
                || {
                    let mut visits = visits.lock().unwrap_or_else(PoisonError::into_inner);
                    *visits += 1;
                    *visits - 1
                },
                |item| item as usize,
            );
            // The last answer stands for every further visit.
            let answer = answers.get(index).or_else(|| answers.last()).cloned();
            async move { Ok::<_, NodeError>(answer.unwrap_or_else(|| Value::Object(Map::new()))) }
        });
        node.kind = NodeKind::Task { task };
        node.retry = crate::graph::Retry::default();
    }
    (graph, registry)
}

//! Tests beside a graph: an input, stubs for its nodes, and the path, state and cost that must come out. No model, no
//! log and no store of the user's is touched.
//!
//! ```toml
//! [[test]]
//! name = "asks once, then concludes"
//! input = { flag_id = "f" }
//! stub.analyse = [{ more = true }, { more = false }]   # one answer a visit; of an `each` node, one an item
//! stub.fetch = [{ fail = "timeout" }]                  # a failure of that class
//! spend.analyse = { tokens = 900, usd = 0.01 }         # what each of its tasks uses
//! answer.approve = ["yes"]                             # a gate's answers, one a visit
//! path = ["load_context", "analyse", "expand", "analyse", "verify", "conclude"]   # ["a", "b"] for nodes of one step
//! state = { round = 1 }                                # channels that must end like this
//! outcome = "done"                                     # or "waiting", or the beginning of "failed: …"
//! cost = { tokens = 1_800, usd = 0.02 }                # what the run must have used
//!
//! [[test]]
//! name = "a recorded run ends the same"
//! cassette = "recorded.json"                           # `sentrix graph record`; its path and state are what must come out
//! ```

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::WorkflowError;
use super::host::Host;
use super::library::GraphSource;
use super::rehearse::{Rehearsal, Script, Spend, all_edges, reason, rehearse};
use crate::engine::{CASSETTE_VERSION, Cassette};
use crate::graph::Graph;

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
    stub: std::collections::BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    spend: std::collections::BTreeMap<String, Spend>,
    #[serde(default)]
    answer: std::collections::BTreeMap<String, Vec<String>>,
    path: Option<Vec<Step>>,
    #[serde(default)]
    state: Map<String, Value>,
    outcome: Option<String>,
    cost: Option<Spend>,
    cassette: Option<String>,
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
    /// How many edges the graph has.
    pub edges: usize,
    /// Edges that no test took, as `node: if condition`.
    pub untaken: Vec<String>,
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
        let edges = all_edges(&graph);
        let mut report = TestReport {
            graph: source.name.clone(),
            tests: Vec::new(),
            unreached: graph.nodes.iter().map(|node| node.name.clone()).collect(),
            edges: edges.len(),
            untaken: Vec::new(),
        };
        let Some((origin, text)) = &source.tests else { return Ok(report) };
        let fault = |message: String| WorkflowError::Tests { origin: origin.clone(), message };
        let file: TestFile = toml::from_str(text).map_err(|error| fault(error.to_string()))?;
        let mut taken = BTreeSet::new();
        for case in file.test {
            let cassette = match &case.cassette {
                None => None,
                Some(name) => {
                    Some(load(Path::new(origin), name).map_err(|why| fault(format!("{name}: {why}")))?)
                }
            };
            let (differences, rehearsal) = run(&graph, &case, cassette).await;
            report.unreached.retain(|node| !rehearsal.path.iter().any(|step| step.contains(node)));
            taken.extend(rehearsal.edges);
            report.tests.push(TestOutcome { name: case.name, differences });
        }
        let untaken = edges.into_iter().filter(|edge| !taken.contains(edge));
        report.untaken = untaken
            .map(|(node, by)| format!("{}: {}", graph.node(node).name, reason(graph.node(node), by)))
            .collect();
        Ok(report)
    }

    /// Plays a graph without its functions, models and effects.
    ///
    /// # Errors
    /// Where the graph cannot be found or has faults.
    pub async fn dry_run(
        &self,
        name: &str,
        input: Map<String, Value>,
        script: &Script,
    ) -> Result<Rehearsal, WorkflowError> {
        let graph = self.check(&self.library().graph(name)?)?;
        Ok(rehearse(&graph, script, input, None).await)
    }
}

/// Reads a cassette beside a test file.
fn load(tests: &Path, name: &str) -> Result<Cassette, String> {
    let path = tests.with_file_name(name);
    let text = crate::text::read_file(&path).map_err(|error| error.to_string())?;
    let cassette: Cassette = serde_json::from_str(&text).map_err(|error| format!("no cassette: {error}"))?;
    if cassette.version == CASSETTE_VERSION {
        Ok(cassette)
    } else {
        Err(format!("a cassette of version {}, and this program knows {CASSETTE_VERSION}", cassette.version))
    }
}

/// Runs one test; gives what differs.
async fn run(graph: &Graph, case: &Case, cassette: Option<Cassette>) -> (Vec<String>, Rehearsal) {
    let is_gate = |name: &str| graph.node_named(name).map(|node| graph.node(node).is_gate());
    let stubs = case.stub.keys().filter(|name| is_gate(name) != Some(false));
    let answers = case.answer.keys().filter(|name| is_gate(name) != Some(true));
    let mut differences: Vec<String> = stubs
        .map(|name| format!("it stubs `{name}`, which is no node of the graph"))
        .chain(answers.map(|name| format!("it answers `{name}`, which is no gate of the graph")))
        .collect();
    let script = Script { stub: case.stub.clone(), spend: case.spend.clone(), answer: case.answer.clone() };
    let (mut path, mut state, mut input) = (
        case.path.as_ref().map(|path| path.iter().map(Step::nodes).collect()),
        case.state.clone(),
        case.input.clone(),
    );
    if let Some(cassette) = &cassette {
        path = path.or_else(|| Some(cassette.path.clone()));
        if input.is_empty() {
            input.clone_from(&cassette.input);
        }
        if state.is_empty() {
            state.clone_from(&cassette.state);
        }
    }
    let rehearsal = rehearse(graph, &script, input, cassette.map(Arc::new)).await;
    match path {
        None => differences.push("it says no `path` to expect".to_owned()),
        Some(path) if path != rehearsal.path => {
            differences.push(format!("path: expected {}, took {}", show(&path), show(&rehearsal.path)));
        }
        Some(_) => {}
    }
    let outcome = case.outcome.as_deref().unwrap_or("done");
    if !rehearsal.outcome.starts_with(outcome) {
        differences.push(format!("outcome: expected {outcome}, found {}", rehearsal.outcome));
    }
    for (channel, expected) in &state {
        let found = rehearsal.state.get(channel).unwrap_or(&Value::Null);
        if found != expected {
            differences.push(format!("state: expected {channel} = {expected}, found {found}"));
        }
    }
    if let Some(cost) = case.cost {
        let used = rehearsal.used;
        if cost.tokens != used.tokens || (cost.usd - used.usd).abs() > 5e-7 {
            differences.push(format!(
                "cost: expected {} tokens and {} USD, used {} and {}",
                cost.tokens, cost.usd, used.tokens, used.usd
            ));
        }
    }
    (differences, rehearsal)
}

fn show(path: &[Vec<String>]) -> String {
    path.iter().map(|step| step.join("+")).collect::<Vec<_>>().join(" → ")
}

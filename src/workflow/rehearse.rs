//! A graph played without its functions, models and effects: every node's work is replaced by a stub, gates are
//! answered from a list. Tests beside graphs and `graph run --dry` are made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::{
    Cassette, Checkpointer, Ctx, Engine, EngineError, ErrorClass, Event, MemoryCheckpointer, NodeError,
    Outcome, Registry, RoutedBy, RunEvent, RunOptions, RunOutcome, Usage,
};
use crate::graph::{Graph, Node, NodeIdx, NodeKind};

/// Most gates that one rehearsal answers: more is a loop.
const MOST_ANSWERS: usize = 200;

/// What stands for the nodes' work.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Answers of nodes, one a visit (of an `each` node one an item; the last one stands for all that follow). An answer
    /// `{ fail = "timeout", message = "…" }` is a failure. A node without any writes nothing.
    #[serde(default)]
    pub stub: BTreeMap<String, Vec<Value>>,
    /// What each task of a node uses.
    #[serde(default)]
    pub spend: BTreeMap<String, Spend>,
    /// Options that gates are answered with, one a visit. A gate without any is waited at.
    #[serde(default)]
    pub answer: BTreeMap<String, Vec<String>>,
}

/// What a task uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spend {
    /// Tokens.
    #[serde(default)]
    pub tokens: u64,
    /// Money, in US dollars.
    #[serde(default)]
    pub usd: f64,
}

impl Spend {
    fn micro_usd(self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small sum that is not negative"
        )]
        let micro = (self.usd.max(0.0) * 1e6).round() as u64;
        micro
    }

    pub(super) fn of(usage: Usage) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let usd = usage.micro_usd as f64 / 1e6;
        Self { tokens: usage.tokens, usd }
    }
}

/// A decision on the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turn {
    /// The superstep.
    pub step: u32,
    /// The node.
    pub node: String,
    /// What decided, as the graph file has it: a condition, `else`, an option, an error class.
    pub because: String,
    /// Where it leads; `end` where nowhere.
    pub to: Vec<String>,
}

/// What came of a rehearsal.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsal {
    /// The nodes of each superstep; a gate that was answered is one of its own.
    pub path: Vec<Vec<String>>,
    /// Every decision.
    pub turns: Vec<Turn>,
    /// `done`, `waiting` or `failed: …`.
    pub outcome: String,
    /// The state at the end; empty where it failed.
    pub state: Map<String, Value>,
    /// What was used.
    pub used: Spend,
    /// Edges taken: node and place of the arm.
    #[serde(skip)]
    pub(super) edges: BTreeSet<(NodeIdx, RoutedBy)>,
}

/// Plays a graph. With a cassette its results stand for the tasks'; else the script's.
///
/// # Cancel safety
/// Dropped, it leaves nothing.
pub async fn rehearse(
    graph: &Graph,
    script: &Script,
    input: Map<String, Value>,
    cassette: Option<Arc<Cassette>>,
) -> Rehearsal {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let (graph, registry) = stubbed(graph, script);
    let graph = Arc::new(graph);
    let store: Arc<dyn Checkpointer> = Arc::new(MemoryCheckpointer::default());
    let engine = Engine::builder().registry(registry).checkpointer(store).build();
    let options =
        || RunOptions { events: Some(watch(&seen)), cassette: cassette.clone(), ..RunOptions::default() };
    let mut visits: BTreeMap<String, usize> = BTreeMap::new();
    let mut result = engine.run(Arc::clone(&graph), input, options()).await;
    for _ in 0..MOST_ANSWERS {
        let Ok(rest) = &result else { break };
        let (run, answers) = (rest.run, answers(rest, script, &mut visits));
        if rest.status == Outcome::Done || answers.is_empty() {
            break;
        }
        let mut refused = None;
        for (gate, option, by) in answers {
            let read = |_: &_| Ok(Arc::clone(&graph));
            if let Err(error) = engine.answer(run, &gate, (&option, &by, None), &read).await {
                refused = Some(error);
            }
        }
        result = match refused {
            Some(error) => Err(error),
            None => engine.resume(run, |_| Ok(Arc::clone(&graph)), options()).await,
        };
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    told(&graph, seen, result)
}

#[derive(Default)]
struct Seen {
    path: Vec<Vec<String>>,
    routed: Vec<(u32, String, RoutedBy, Vec<String>)>,
}

fn watch(seen: &Arc<Mutex<Seen>>) -> Arc<dyn crate::engine::EventSink> {
    let seen = Arc::clone(seen);
    let names = |nodes: Vec<Arc<str>>| -> Vec<String> { nodes.iter().map(ToString::to_string).collect() };
    Arc::new(move |event: RunEvent| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event.event {
            Event::StepStarted { nodes, .. } => seen.path.push(names(nodes)),
            Event::GateAnswered { gate, .. } => {
                let node = gate.split('@').next().unwrap_or_default();
                seen.path.push(vec![node.to_owned()]);
            }
            Event::Routed { step, node, by, to } => seen.routed.push((step, node.to_string(), by, names(to))),
            _ => {}
        }
    })
}

/// Answers to the gates that a run waits at: gate, option, who.
fn answers(
    rest: &RunOutcome,
    script: &Script,
    visits: &mut BTreeMap<String, usize>,
) -> Vec<(String, String, String)> {
    let mut answers = Vec::new();
    for gate in &rest.gates {
        let Some(options) = script.answer.get(&gate.node) else { continue };
        let visit = visits.entry(gate.node.clone()).or_default();
        if let Some(option) = options.get(*visit).or_else(|| options.last()) {
            let by = gate.who.first().map_or("test", String::as_str);
            answers.push((gate.gate.clone(), option.clone(), by.to_owned()));
            *visit += 1;
        }
    }
    answers
}

fn told(graph: &Graph, seen: Seen, result: Result<RunOutcome, EngineError>) -> Rehearsal {
    let mut edges = BTreeSet::new();
    let turns = seen
        .routed
        .into_iter()
        .map(|(step, node, by, mut to)| {
            let index = graph.node_named(&node);
            edges.extend(index.map(|index| (index, by)));
            let because = index.map_or_else(String::new, |index| reason(graph.node(index), by));
            if to.is_empty() {
                to.push("end".to_owned());
            }
            Turn { step, node, because, to }
        })
        .collect();
    let (outcome, state, used) = match result {
        Ok(outcome) => {
            let word = if outcome.status == Outcome::Done { "done" } else { "waiting" };
            (word.to_owned(), outcome.state, Spend::of(outcome.used))
        }
        Err(error) => (format!("failed: {}", error.kind), Map::new(), Spend::default()),
    };
    Rehearsal { path: seen.path, turns, outcome, state, used, edges }
}

/// What decides at an arm, as the graph file has it.
pub(super) fn reason(node: &Node, by: RoutedBy) -> String {
    match by {
        RoutedBy::Arm(arm) => match node.next.get(arm).and_then(|arm| arm.when.as_ref()) {
            Some(when) => format!("if {}", when.source()),
            None if node.next.len() > 1 => "else".to_owned(),
            None => "next".to_owned(),
        },
        RoutedBy::Option(arm) => {
            let option = node.next.get(arm).and_then(|arm| arm.option.as_deref());
            format!("answer {}", option.unwrap_or_default())
        }
        RoutedBy::Error(arm) => match node.on_error.get(arm) {
            Some(arm) if !arm.on.is_empty() => format!("on {}", arm.on.join(", ")),
            _ => "on any error".to_owned(),
        },
        RoutedBy::Goto => "goto".to_owned(),
    }
}

/// Every edge of a graph, as a rehearsal counts them.
pub(super) fn all_edges(graph: &Graph) -> Vec<(NodeIdx, RoutedBy)> {
    let of = |(index, node): (usize, &Node)| {
        let arms = (0..node.next.len())
            .map(|arm| if node.is_gate() { RoutedBy::Option(arm) } else { RoutedBy::Arm(arm) });
        let errors = (0..node.on_error.len()).map(RoutedBy::Error);
        let goto = (!node.goto.is_empty()).then_some(RoutedBy::Goto);
        arms.chain(errors).chain(goto).map(|by| (NodeIdx(index), by)).collect::<Vec<_>>()
    };
    graph.nodes.iter().enumerate().flat_map(of).collect()
}

/// The graph with every node's work replaced by its stub; caches, waits between attempts and time limits go.
fn stubbed(graph: &Graph, script: &Script) -> (Graph, Registry) {
    let mut graph = graph.clone();
    let mut registry = Registry::new();
    for name in &graph.custom_reducers {
        // What it makes of writes is not known here: the last one stands.
        registry.reducer(name, |_, write| Ok(write));
    }
    for node in graph.nodes.iter_mut().filter(|node| !node.is_gate()) {
        let task = format!("stub.{}", node.name);
        let answers = script.stub.get(&node.name).cloned().unwrap_or_default();
        let spend = script.spend.get(&node.name).copied().unwrap_or_default();
        let visits = Arc::new(Mutex::new(0_usize));
        let is_each = node.each.is_some();
        registry.task(&task, "a stub", move |ctx: Ctx, _: Value| {
            let index = if let Some(item) = ctx.item().filter(|_| is_each) {
                item as usize
            } else {
                let mut visits = visits.lock().unwrap_or_else(PoisonError::into_inner);
                *visits += 1;
                *visits - 1
            };
            // The last answer stands for every further visit.
            let answer = answers.get(index).or_else(|| answers.last()).cloned();
            ctx.spend(spend.tokens, spend.micro_usd());
            async move {
                let answer = answer.unwrap_or_else(|| Value::Object(Map::new()));
                failure(&answer).map_or(Ok(answer), Err)
            }
        });
        node.kind = NodeKind::Task { task };
        node.retry = crate::graph::Retry::default();
        node.cache = None;
        node.timeout = None;
        node.idle_timeout = None;
    }
    for channel in &mut graph.channels {
        channel.secret = false;
    }
    (graph, registry)
}

/// The failure that a stub's answer is, if it is one.
fn failure(answer: &Value) -> Option<NodeError> {
    let fields = answer.as_object()?;
    let class: ErrorClass = fields.get("fail")?.as_str()?.parse().ok()?;
    let only = fields.keys().all(|key| key == "fail" || key == "message");
    let message = fields.get("message").and_then(Value::as_str).unwrap_or("a stub that fails");
    only.then(|| NodeError::new(class, message))
}

//! What a run told, in the words of the cases, and how it differs from what was expected.

use std::collections::BTreeMap;
use std::error::Error as _;

use sentrix::engine::{EngineError, Event, InterruptCause, Outcome, RunEvent, StepRecord};
use sentrix::id::RunId;
use serde_json::{Map, Value};

use super::case::Step;

/// What is not as it should be.
pub(super) type Differences = Vec<String>;

/// What a run told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) trace: Vec<Step>,
    pub(super) events: Vec<String>,
    graphs: BTreeMap<RunId, String>,
}

impl Heard {
    pub(super) fn hear(&mut self, run: RunId, event: &RunEvent) {
        match &event.event {
            Event::RunStarted { graph, .. } | Event::RunResumed { graph, .. } => {
                self.graphs.insert(event.run, graph.to_string());
            }
            _ => {}
        }
        let within = |name: &str| match self.graphs.get(&event.run) {
            Some(graph) if event.run != run => format!("{graph}/{name}"),
            _ => name.to_owned(),
        };
        match &event.event {
            Event::StepStarted { nodes, .. } => {
                let mut nodes: Vec<String> = nodes.iter().map(|node| within(node)).collect();
                self.trace.push(if nodes.len() == 1 {
                    Step::One(nodes.remove(0))
                } else {
                    Step::Many(nodes)
                });
            }
            Event::GateAnswered { gate, option, .. } => {
                let node = gate.split('@').next().unwrap();
                self.trace.push(Step::One(within(&format!("{node}={option}"))));
            }
            _ => {}
        }
        if event.run == run {
            let event = serde_json::to_value(event).unwrap();
            let mut text = event["event"].as_str().unwrap().to_owned();
            if let Some(node) = event["node"].as_str() {
                text = format!("{text} {node}");
            }
            if let Some(item) = event["item"].as_u64() {
                text = format!("{text}#{item}");
            }
            self.events.push(text);
        }
    }
}

/// Events of the stream that the trace needs.
pub(super) const TASKS: [&str; 6] =
    ["routed", "step_started", "task_started", "task_retried", "task_finished", "task_failed"];

pub(super) const fn status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Interrupted(InterruptCause::Cancelled) => "cancelled",
        Outcome::Interrupted(InterruptCause::Drained) => "drained",
        Outcome::Interrupted(InterruptCause::Gate) => "waiting",
    }
}

/// A superstep of a history, as a trace shows it.
pub(super) fn step(record: &StepRecord) -> Step {
    let mut nodes: Vec<String> = record.tasks.iter().map(|task| task.node.clone()).collect();
    nodes.dedup();
    if let Some(answer) = record.answer.as_ref().filter(|answer| !answer.gate.is_empty()) {
        nodes = vec![format!("{}={}", answer.gate.split('@').next().unwrap(), answer.option)];
    }
    if let Some(kind) = record.kind {
        nodes = vec![format!("{kind}:{}", nodes.join("+"))];
    }
    if !record.finished && record.kind.is_none() {
        nodes.push("…".to_owned());
    }
    if nodes.len() == 1 { Step::One(nodes.remove(0)) } else { Step::Many(nodes) }
}

pub(super) fn whole_text(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What differs from a refusal that was expected, or from success.
pub(super) fn refusal<T>(what: &str, result: Result<T, EngineError>, expected: Option<&str>) -> Differences {
    match (result, expected) {
        (Ok(_), None) => Vec::new(),
        (Err(error), Some(part)) if whole_text(&error).contains(part) => Vec::new(),
        (Ok(_), Some(part)) => vec![format!("{what}: taken, expected `{part}`")],
        (Err(error), expected) => vec![format!("{what}: {} (expected {expected:?})", whole_text(&error))],
    }
}

/// Channels that are not as expected.
pub(super) fn unlike(place: &str, expected: &Map<String, Value>, found: &Map<String, Value>) -> Differences {
    expected
        .iter()
        .filter(|(channel, value)| found.get(*channel).unwrap_or(&Value::Null) != *value)
        .map(|(channel, value)| {
            format!(
                "{place}: expected {channel} = {value}, found {}",
                found.get(channel).unwrap_or(&Value::Null)
            )
        })
        .collect()
}

pub(super) fn show(trace: &[Step]) -> String {
    let steps: Vec<String> = trace
        .iter()
        .map(|step| match step {
            Step::One(node) => node.clone(),
            Step::Many(nodes) => format!("[{}]", nodes.join(" ")),
        })
        .collect();
    if steps.is_empty() { "nothing".to_owned() } else { steps.join(" → ") }
}

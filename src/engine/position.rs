//! Where a run stands: its state, what is to be done next, and what waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::meter::Used;
use super::state::State;
use super::task::{Finished, Place};
use super::{ErrorClass, Failure};
use crate::graph::{Graph, NodeIdx};

/// A node that is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ready {
    pub(crate) node: NodeIdx,
    /// The superstep it became ready for; with the node, the name of its tasks for ever.
    pub(crate) born: u32,
    /// Whether edges led here; not so where only `send` did.
    pub(crate) plain: bool,
    /// Inputs that were sent: one task each.
    pub(crate) sends: Vec<Arc<Value>>,
    /// Joins that have fired without this branch: arriving there, it counts for nothing.
    pub(crate) absorbed: Vec<NodeIdx>,
    /// Fails at once, as a join that cannot get what it needs.
    pub(crate) fault: Option<(ErrorClass, String)>,
}

impl Ready {
    pub(crate) fn plain(node: NodeIdx, born: u32) -> Self {
        Self { node, born, plain: true, ..Self::default() }
    }
}

/// A join that something has come to, or a deferred node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) node: NodeIdx,
    /// Nodes that have come, each once.
    pub(crate) arrived: Vec<NodeIdx>,
    /// When the first came, in milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    pub(crate) absorbed: Vec<NodeIdx>,
}

/// A gate without an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenGate {
    pub(crate) node: NodeIdx,
    pub(crate) born: u32,
    /// Since when it waits, in milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    pub(crate) absorbed: Vec<NodeIdx>,
}

/// Where a run stands between two supersteps, or within one.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) state: State,
    /// The superstep that comes next, or is not finished.
    pub(crate) step: u32,
    /// What is to run, in file order.
    pub(crate) frontier: Vec<Ready>,
    /// Joins and deferred nodes that wait.
    pub(crate) waiting: Vec<Waiting>,
    /// Gates that wait for an answer.
    pub(crate) gates: Vec<OpenGate>,
    /// Tasks of the frontier that have finished.
    pub(crate) done: BTreeMap<Place, Finished>,
    /// How often each node was visited; only kept where some node has a limit.
    pub(crate) visits: Vec<u32>,
    /// The last failure of each node, and how often in a row it was the same.
    pub(crate) failures: BTreeMap<NodeIdx, (Failure, u32)>,
    /// What has been used, over all parts of the run.
    pub(crate) used: Used,
    /// Time the run has taken.
    pub(crate) elapsed: Duration,
}

impl Position {
    /// The beginning of a graph.
    pub(crate) fn start(graph: &Graph, state: State) -> Self {
        let mut at = Self {
            state,
            step: 0,
            frontier: Vec::new(),
            waiting: Vec::new(),
            gates: Vec::new(),
            done: BTreeMap::new(),
            visits: vec![0; graph.nodes.len()],
            failures: BTreeMap::new(),
            used: Used::new(graph),
            elapsed: Duration::ZERO,
        };
        if graph.nodes.get(graph.start.0).is_some_and(crate::graph::Node::is_gate) {
            // Since the run's beginning; a time limit counts from the first look at it.
            at.gates.push(OpenGate { node: graph.start, born: 0, since_ms: 0, absorbed: Vec::new() });
        } else {
            at.frontier.push(Ready::plain(graph.start, 0));
        }
        at.visit(graph.start);
        at
    }

    /// Counts a visit.
    pub(crate) fn visit(&mut self, node: NodeIdx) {
        if let Some(visits) = self.visits.get_mut(node.0) {
            *visits = visits.saturating_add(1);
        }
    }

    /// Whether nothing is left to do and nothing waits.
    pub(crate) fn is_over(&self) -> bool {
        self.frontier.is_empty() && self.gates.is_empty() && self.waiting.is_empty()
    }

    /// Notes how a node ended, for the breaker: gives how often in a row it has now failed the same way.
    pub(crate) fn note(&mut self, node: NodeIdx, failure: Option<&Failure>) -> u32 {
        let Some(failure) = failure else {
            if !self.failures.is_empty() {
                self.failures.remove(&node);
            }
            return 0;
        };
        let entry = self.failures.entry(node).or_insert_with(|| (failure.clone(), 0));
        if entry.0.class != failure.class || entry.0.message != failure.message {
            *entry = (failure.clone(), 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1
    }
}

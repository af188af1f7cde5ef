//! What a run uses, and the budgets that limit it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ErrorClass, NodeError};
use crate::graph::{Budget, Graph, NodeIdx};

/// Tokens, money, time and tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of models, questions and answers.
    pub tokens: u64,
    /// Money, in millionths of a US dollar.
    pub micro_usd: u64,
    /// Time that tasks took, in milliseconds.
    pub ms: u64,
    /// Tasks begun.
    pub tasks: u64,
}

impl Usage {
    pub(crate) fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.micro_usd = self.micro_usd.saturating_add(other.micro_usd);
        self.ms = self.ms.saturating_add(other.ms);
        self.tasks = self.tasks.saturating_add(other.tasks);
    }

    pub(crate) const fn is_nothing(&self) -> bool {
        self.tokens == 0 && self.micro_usd == 0 && self.ms == 0 && self.tasks == 0
    }
}

/// What has been used: by the whole run, and by each node that has a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) run: Usage,
    pub(crate) nodes: Vec<Usage>,
}

impl Used {
    pub(crate) fn new(graph: &Graph) -> Self {
        Self { run: Usage::default(), nodes: vec![Usage::default(); graph.nodes.len()] }
    }

    pub(crate) fn add(&mut self, node: NodeIdx, usage: Usage) {
        self.run.add(usage);
        if let Some(held) = self.nodes.get_mut(node.0) {
            held.add(usage);
        }
    }
}

/// A counter that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    tokens: AtomicU64,
    micro_usd: AtomicU64,
    ms: AtomicU64,
    tasks: AtomicU64,
}

impl Counter {
    pub(crate) fn from(usage: Usage) -> Self {
        Self {
            tokens: usage.tokens.into(),
            micro_usd: usage.micro_usd.into(),
            ms: usage.ms.into(),
            tasks: usage.tasks.into(),
        }
    }

    pub(crate) fn add(&self, usage: Usage) {
        for (counter, more) in [
            (&self.tokens, usage.tokens),
            (&self.micro_usd, usage.micro_usd),
            (&self.ms, usage.ms),
            (&self.tasks, usage.tasks),
        ] {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn get(&self) -> Usage {
        Usage {
            tokens: self.tokens.load(Ordering::Relaxed),
            micro_usd: self.micro_usd.load(Ordering::Relaxed),
            ms: self.ms.load(Ordering::Relaxed),
            tasks: self.tasks.load(Ordering::Relaxed),
        }
    }

    /// Whether one more task may begin, as far as this budget goes; its time left, if that is limited.
    pub(crate) fn admit(&self, budget: &Budget, whose: &str) -> Result<Option<Duration>, NodeError> {
        if budget.is_unlimited() {
            return Ok(None);
        }
        let used = self.get();
        let over = |what: String| Err(NodeError::new(ErrorClass::Budget, format!("{whose} has used {what}")));
        if let Some(most) = budget.tokens
            && used.tokens >= most
        {
            return over(format!("{} tokens of {most}", used.tokens));
        }
        if let Some(most) = budget.micro_usd
            && used.micro_usd >= most
        {
            return over(format!("{} USD of {}", usd(used.micro_usd), usd(most)));
        }
        if let Some(most) = budget.steps
            && used.tasks >= u64::from(most)
        {
            return over(format!("its {most} tasks"));
        }
        match budget.wall {
            None => Ok(None),
            Some(most) => match most.checked_sub(Duration::from_millis(used.ms)) {
                Some(left) if !left.is_zero() => Ok(Some(left)),
                _ => over(format!("its {most:?}")),
            },
        }
    }
}

/// The counters of a run and its nodes, with their budgets.
#[derive(Debug)]
pub(crate) struct Meter {
    run: Counter,
    run_budget: Budget,
    nodes: Vec<Counter>,
    /// Whether any node has a budget.
    by_node: bool,
}

impl Meter {
    /// A meter that goes on from what was used; time and supersteps of the run are the owner loop's.
    pub(crate) fn new(graph: &Graph, budget: Budget, used: &Used) -> Self {
        let by_node = graph.nodes.iter().any(|node| !node.budget.is_unlimited());
        let nodes =
            if by_node { used.nodes.iter().map(|usage| Counter::from(*usage)).collect() } else { Vec::new() };
        let run_budget = Budget { wall: None, steps: None, ..budget };
        Self { run: Counter::from(used.run), run_budget, nodes, by_node }
    }

    /// Whether one more task of a node may begin; its time left, if that is limited.
    pub(crate) fn admit(&self, graph: &Graph, node: NodeIdx) -> Result<Option<Duration>, NodeError> {
        self.run.admit(&self.run_budget, "the run")?;
        if !self.by_node {
            return Ok(None);
        }
        match self.nodes.get(node.0) {
            Some(counter) => counter.admit(&graph.node(node).budget, "the node"),
            None => Ok(None),
        }
    }

    pub(crate) fn add(&self, node: NodeIdx, usage: Usage) {
        self.run.add(usage);
        if let Some(counter) = self.nodes.get(node.0) {
            counter.add(usage);
        }
    }

    /// Whether anything but tokens and money is counted for a node.
    pub(crate) const fn times(&self) -> bool {
        self.by_node
    }

    /// What the run has used.
    pub(crate) fn used(&self) -> Usage {
        self.run.get()
    }

    /// What is left of the run's tokens and money, for a run inside it.
    pub(crate) fn left(&self) -> Budget {
        let used = self.run.get();
        Budget {
            tokens: self.run_budget.tokens.map(|most| most.saturating_sub(used.tokens)),
            micro_usd: self.run_budget.micro_usd.map(|most| most.saturating_sub(used.micro_usd)),
            ..Budget::default()
        }
    }
}

/// Money as people write it.
pub(crate) fn usd(micro: u64) -> String {
    format!("{}.{:02}", micro / 1_000_000, micro % 1_000_000 / 10_000)
}

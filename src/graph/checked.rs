//! The checked graph: what a graph file means once nothing is wrong with it.
//!
//! Everything here is plain data behind indices; only `graph::check` and the builder make one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Expr, Type};

/// Index of a state channel in [`Graph::channels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIdx(pub usize);

/// Index of a node in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIdx(pub usize);

/// A graph that was checked: every name resolves, every type fits, every node is reachable and can reach
/// the end.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name, as in `sentrix graph run NAME`.
    pub name: String,
    /// Version the author gave it.
    pub version: u32,
    /// What it is for, in a sentence.
    pub description: String,
    /// Where a run starts.
    pub start: NodeIdx,
    /// Most supersteps a run may take.
    pub max_steps: u32,
    /// Most wall time a run may take.
    pub deadline: Option<Duration>,
    /// What a finished superstep survives.
    pub durability: Durability,
    /// State channels, in file order.
    pub channels: Vec<StateChannel>,
    /// Nodes, in file order.
    pub nodes: Vec<Node>,
    /// The text it was read from, as stored with each run.
    pub source: Arc<str>,
    /// SHA-256 of the text and of every prompt it names, hex.
    pub hash: String,
}

/// What a finished superstep survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Loss of power: each superstep is fsynced.
    Power,
    /// A killed process: each superstep is written; commits of concurrent runs are grouped.
    #[default]
    Crash,
    /// Nothing before the run ends: written once, at its end.
    Exit,
}

/// A named, typed place in the state.
#[derive(Clone, Debug)]
pub struct StateChannel {
    /// Its name.
    pub name: String,
    /// Type of its value.
    pub ty: Type,
    /// How writes become the next value.
    pub reducer: Reducer,
    /// Value before the first write.
    pub default: Option<Value>,
    /// Whether a run must be given it at the start.
    pub input: bool,
}

/// How the writes of one superstep become a channel's next value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reducer {
    /// The write replaces the value; one writer a superstep.
    Last,
    /// Lists are joined; anything else is added as one item.
    Append,
    /// Objects are merged, key by key; later keys win.
    Merge,
    /// Items that are not in the list yet are added.
    Union,
    /// Numbers are added.
    Sum,
    /// The largest number stays.
    Max,
    /// The smallest number stays.
    Min,
}

impl Reducer {
    /// Every reducer, in the order in which they are documented.
    pub const ALL: [Self; 7] =
        [Self::Last, Self::Append, Self::Merge, Self::Union, Self::Sum, Self::Max, Self::Min];

    /// Its name in a graph file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Append => "append",
            Self::Merge => "merge",
            Self::Union => "union",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl fmt::Display for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A step of the work.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Who does it.
    pub kind: NodeKind,
    /// Whether it runs once for each item of a list.
    pub each: Option<Each>,
    /// The fields of its input that come from the state: field name and channel.
    pub reads: Vec<(String, ChannelIdx)>,
    /// The fields of its output and the channels they go to.
    pub writes: Vec<(String, ChannelIdx)>,
    /// Fixed values for fields of its input.
    pub with: Map<String, Value>,
    /// Most time one attempt may take.
    pub timeout: Option<Duration>,
    /// What happens when an attempt fails.
    pub retry: Retry,
    /// Where to go next: the first arm that holds. No arm, or none that holds: this branch ends.
    pub next: Vec<Arm>,
}

/// Who does a node's work.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// A registered Rust function.
    Task {
        /// Its registered name, as `patrol.scan`.
        task: String,
    },
    /// A model, through a prompt template.
    Prompt {
        /// Template name, as `investigate/lead`.
        prompt: String,
        /// Which of the configured models, as `investigator`.
        role: String,
        /// Registered type of the answer; its fields are the output's fields.
        output: String,
    },
}

/// Fan-out: one task for each item of a list, joined before the next superstep.
#[derive(Clone, Debug)]
pub struct Each {
    /// The list.
    pub over: ChannelIdx,
    /// Field of the input that gets the item.
    pub item: String,
    /// Most tasks at once.
    pub max_parallel: Parallel,
}

/// Most tasks of a fan-out at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallel {
    /// A fixed number, at least 1.
    Fixed(usize),
    /// The value of an `int` channel when the fan-out starts; less than 1 counts as 1.
    Channel(ChannelIdx),
}

/// How failed attempts are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Most attempts, at least 1.
    pub attempts: u32,
    /// Wait before the second attempt; doubles each time.
    pub backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
    /// Classes of error that are worth another attempt; names of `engine::ErrorClass`.
    pub on: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_mins(1),
            on: vec!["transient".into(), "rate_limit".into(), "timeout".into()],
        }
    }
}

/// One arm of `next`.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Condition over the state after the superstep; none for an unconditional arm or `else`.
    pub when: Option<Expr>,
    /// Nodes to go to, in file order; empty for `end`.
    pub to: Vec<NodeIdx>,
}

impl Graph {
    /// The node at an index.
    ///
    /// # Panics
    /// Never for an index of this graph.
    #[expect(
        clippy::indexing_slicing,
        reason = "indices are made together with the graph and never leave it"
    )]
    pub fn node(&self, index: NodeIdx) -> &Node {
        &self.nodes[index.0]
    }

    /// The channel at an index.
    ///
    /// # Panics
    /// Never for an index of this graph.
    #[expect(
        clippy::indexing_slicing,
        reason = "indices are made together with the graph and never leave it"
    )]
    pub fn channel(&self, index: ChannelIdx) -> &StateChannel {
        &self.channels[index.0]
    }

    /// The node of that name.
    pub fn node_named(&self, name: &str) -> Option<NodeIdx> {
        self.nodes.iter().position(|node| node.name == name).map(NodeIdx)
    }

    /// The channel of that name.
    pub fn channel_named(&self, name: &str) -> Option<ChannelIdx> {
        self.channels.iter().position(|channel| channel.name == name).map(ChannelIdx)
    }
}

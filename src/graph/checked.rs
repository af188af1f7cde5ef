//! The checked graph: what a graph file means once nothing is wrong with it.
//!
//! Everything here is plain data behind indices; only `graph::check` and the builder make one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Node, Type};

/// Index of a state channel in [`Graph::channels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIdx(pub usize);

/// Index of a node in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Whether a finished node waits for the others of its superstep.
    pub barrier: Barrier,
    /// Most a whole run may use.
    pub budget: Budget,
    /// Runs last, also after a failure.
    pub finally: Option<NodeIdx>,
    /// What is kept of runs that came to rest.
    pub retention: Retention,
    /// How the state of runs of earlier versions becomes state of this one.
    pub migrations: Vec<Migration>,
    /// State channels, in file order.
    pub channels: Vec<StateChannel>,
    /// Names of the reducers that the host program registered, behind [`Reducer::Custom`].
    pub custom_reducers: Vec<String>,
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
    /// Whether it is what the run is for: read by whoever started it.
    pub output: bool,
    /// Most items that a list keeps; the oldest go first.
    pub max_items: Option<usize>,
    /// Whether it is stored. What is not stored is back at its default after a resume.
    pub persist: bool,
    /// Whether it is encrypted at rest and masked in every view.
    pub secret: bool,
    /// Whether its value may come from log text or a model.
    pub trust: Trust,
}

impl StateChannel {
    /// A channel with nothing but a name, a type and a reducer.
    pub fn plain(name: &str, ty: Type, reducer: Reducer) -> Self {
        Self {
            name: name.to_owned(),
            ty,
            reducer,
            default: None,
            input: false,
            output: false,
            max_items: None,
            persist: true,
            secret: false,
            trust: Trust::Trusted,
        }
    }
}

/// Where a value comes from, as far as it decides what may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// From the program or its user.
    #[default]
    Trusted,
    /// From log text, a model, or anything that was made of them.
    Untrusted,
}

/// Whether a finished node waits for the others of its superstep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Barrier {
    /// All nodes of a superstep finish before the next begins.
    #[default]
    Superstep,
    /// A branch runs ahead where what it reads and writes is disjoint from what the others still read and write.
    Dataflow,
}

/// The most that something may use; nothing set is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of models, questions and answers.
    pub tokens: Option<u64>,
    /// Money, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
    /// Time: of a run from its start, of a node or fan-out the time its tasks took.
    pub wall: Option<Duration>,
    /// Supersteps of a run, or tasks of a node or fan-out.
    pub steps: Option<u32>,
}

impl Budget {
    /// Whether nothing is limited.
    pub const fn is_unlimited(&self) -> bool {
        self.tokens.is_none() && self.micro_usd.is_none() && self.wall.is_none() && self.steps.is_none()
    }
}

/// What is kept of runs that came to rest. Runs that wait, failed or are held are never deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many keep their whole history; of older ones only the last snapshot stays.
    pub keep_last: Option<u32>,
    /// Finished runs older than this are deleted.
    pub max_age: Option<Duration>,
}

/// A change of the state between two versions of a graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// The version it starts from.
    pub from: u32,
    /// The version it leads to.
    pub to: u32,
    /// Channels that have another name now: old and new.
    pub rename: Vec<(String, String)>,
    /// Values for channels that are new, or that had none.
    pub default: Map<String, Value>,
    /// Channels whose values are thrown away.
    pub drop: Vec<String>,
    /// Nodes that have another name now: old and new.
    pub nodes: Vec<(String, String)>,
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
    /// The first write stays.
    First,
    /// Items with an `id`: one of the same id is replaced, others are added.
    ById,
    /// A function that the host program registered; its name is at this place in [`Graph::custom_reducers`].
    Custom(usize),
}

impl Reducer {
    /// Every built-in reducer, in the order in which they are documented.
    pub const ALL: [Self; 9] = [
        Self::Last,
        Self::Append,
        Self::Merge,
        Self::Union,
        Self::Sum,
        Self::Max,
        Self::Min,
        Self::First,
        Self::ById,
    ];

    /// Its name in a graph file; of a registered one just `custom`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Append => "append",
            Self::Merge => "merge",
            Self::Union => "union",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::First => "first",
            Self::ById => "by_id",
            Self::Custom(_) => "custom",
        }
    }
}

impl fmt::Display for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
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

    /// A graph with nothing in it but a name.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 1,
            description: String::new(),
            start: NodeIdx(0),
            max_steps: 1000,
            deadline: None,
            durability: Durability::default(),
            barrier: Barrier::default(),
            budget: Budget::default(),
            finally: None,
            retention: Retention::default(),
            migrations: Vec::new(),
            channels: Vec::new(),
            custom_reducers: Vec::new(),
            nodes: Vec::new(),
            source: "".into(),
            hash: String::new(),
        }
    }

    /// A reducer's name, also of a registered one.
    pub fn reducer_name(&self, reducer: Reducer) -> &str {
        match reducer {
            Reducer::Custom(at) => self.custom_reducers.get(at).map_or("custom", String::as_str),
            other => other.as_str(),
        }
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

//! Graphs made in code, for hosts that embed the engine without graph files.
//!
//! The builder resolves names and types; it does not prove what `graph check` proves of a file.

mod node;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use self::node::{EachBuilder, NodeBuilder};
use super::EngineErrorKind;
use crate::graph::{
    Barrier, Budget, ChannelIdx, Durability, Graph, NodeIdx, Reducer, Retention, StateChannel, Type,
};

/// Makes a [`Graph`].
///
/// ```
/// use std::sync::Arc;
///
/// use schemars::JsonSchema;
/// use sentrix::engine::{Ctx, Engine, GraphBuilder, NodeBuilder, NodeError, Outcome, Registry, RunOptions};
/// use sentrix::graph::Reducer;
/// use serde::{Deserialize, Serialize};
/// use serde_json::{Map, json};
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Greet {
///     name: String,
/// }
///
/// #[derive(Serialize, JsonSchema)]
/// struct Greeted {
///     greeting: String,
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let mut registry = Registry::new();
/// registry.task("demo.greet", "Greets somebody", |_: Ctx, who: Greet| async move {
///     Ok::<_, NodeError>(Greeted { greeting: format!("Hello, {}!", who.name) })
/// });
/// let graph = GraphBuilder::new("hello")
///     .input("name", "string")
///     .channel("greeting", "string", Reducer::Last)
///     .node(NodeBuilder::task("greet", "demo.greet").reads(["name"]).writes(["greeting"]))
///     .build()?;
///
/// let engine = Engine::builder().registry(registry).build();
/// let input = Map::from_iter([("name".to_owned(), json!("Ada"))]);
/// let outcome = engine.run(Arc::new(graph), input, RunOptions::default()).await?;
/// assert_eq!(outcome.status, Outcome::Done);
/// assert_eq!(outcome.state["greeting"], "Hello, Ada!");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct GraphBuilder {
    name: String,
    version: u32,
    start: Option<String>,
    max_steps: u32,
    deadline: Option<Duration>,
    durability: Durability,
    barrier: Barrier,
    budget: Budget,
    finally: Option<String>,
    retention: Retention,
    channels: Vec<ChannelBuilder>,
    nodes: Vec<NodeBuilder>,
}

/// Makes a state channel of a [`GraphBuilder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ChannelBuilder {
    ty: String,
    custom: Option<String>,
    channel: StateChannel,
}

impl ChannelBuilder {
    /// A channel with reducer `last`; `ty` as a graph file writes it.
    pub fn new(name: &str, ty: &str) -> Self {
        let channel = StateChannel::plain(name, Type::Any, Reducer::Last);
        Self { ty: ty.to_owned(), custom: None, channel }
    }

    /// Combines writes by a built-in reducer.
    pub fn reducer(mut self, reducer: Reducer) -> Self {
        self.channel.reducer = reducer;
        self
    }

    /// Combines writes by a registered reducer.
    pub fn custom(mut self, reducer: &str) -> Self {
        self.custom = Some(reducer.to_owned());
        self
    }

    /// The value before the first write.
    pub fn default(mut self, value: Value) -> Self {
        self.channel.default = Some(value);
        self
    }

    /// A run must be given it.
    pub fn input(mut self) -> Self {
        self.channel.input = true;
        self
    }

    /// Keeps only the newest so many items.
    pub fn max_items(mut self, most: usize) -> Self {
        self.channel.max_items = Some(most);
        self
    }

    /// Is not stored.
    pub fn transient(mut self) -> Self {
        self.channel.persist = false;
        self
    }

    /// Is encrypted at rest and masked in every view.
    pub fn secret(mut self) -> Self {
        self.channel.secret = true;
        self
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 1,
            start: None,
            max_steps: 1000,
            deadline: None,
            durability: Durability::default(),
            barrier: Barrier::default(),
            budget: Budget::default(),
            finally: None,
            retention: Retention::default(),
            channels: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Adds a state channel.
    pub fn state(mut self, channel: ChannelBuilder) -> Self {
        self.channels.push(channel);
        self
    }

    /// Adds a state channel; `ty` as a graph file writes it.
    pub fn channel(self, name: &str, ty: &str, reducer: Reducer) -> Self {
        self.state(ChannelBuilder::new(name, ty).reducer(reducer))
    }

    /// Adds a state channel with a value to begin with.
    pub fn channel_from(self, name: &str, ty: &str, reducer: Reducer, default: Value) -> Self {
        self.state(ChannelBuilder::new(name, ty).reducer(reducer).default(default))
    }

    /// Adds a state channel with reducer `last` that a run must be given.
    pub fn input(self, name: &str, ty: &str) -> Self {
        self.state(ChannelBuilder::new(name, ty).input())
    }

    /// Whether a finished node waits for the others of its superstep.
    pub const fn barrier(mut self, barrier: Barrier) -> Self {
        self.barrier = barrier;
        self
    }

    /// Most that a run may use.
    pub const fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// The node that runs last, also after a failure; no edge leads to or from it.
    pub fn finally(mut self, node: &str) -> Self {
        self.finally = Some(node.to_owned());
        self
    }

    /// What is kept of runs that came to rest.
    pub const fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The version.
    pub const fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Adds a node; the first one is where a run starts.
    pub fn node(mut self, node: NodeBuilder) -> Self {
        self.nodes.push(node);
        self
    }

    /// Starts at another node than the first.
    pub fn start(mut self, node: &str) -> Self {
        self.start = Some(node.to_owned());
        self
    }

    /// Most supersteps of a run; 1000 without it.
    pub const fn max_steps(mut self, steps: u32) -> Self {
        self.max_steps = steps;
        self
    }

    /// Most time of a run.
    pub const fn deadline(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// What a finished superstep survives.
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The graph.
    ///
    /// # Errors
    /// `Graph`, with the first name, type or condition that does not hold.
    pub fn build(self) -> Result<Graph, EngineErrorKind> {
        let hash = Sha256::digest(format!("{self:?}").as_bytes());
        let hash = hash.iter().fold(String::with_capacity(64), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
            text
        });
        let mut names = Names::default();
        let mut channels = Vec::with_capacity(self.channels.len());
        let mut custom_reducers: Vec<String> = Vec::new();
        for ChannelBuilder { ty, custom, mut channel } in self.channels {
            channel.ty = Type::parse(&ty)
                .ok_or_else(|| fault(format!("channel `{}`: `{ty}` is no type", channel.name)))?;
            if let Some(name) = custom {
                let known = custom_reducers.iter().position(|known| *known == name);
                channel.reducer = Reducer::Custom(known.unwrap_or(custom_reducers.len()));
                if known.is_none() {
                    custom_reducers.push(name);
                }
            }
            names.channels.insert(channel.name.clone(), ChannelIdx(channels.len()));
            channels.push(channel);
        }
        let by_name = |(at, node): (usize, &NodeBuilder)| (node.node.name.clone(), NodeIdx(at));
        names.nodes = self.nodes.iter().enumerate().map(by_name).collect();
        if names.nodes.len() < self.nodes.len() || names.channels.len() < channels.len() {
            return Err(fault("a name is used twice".to_owned()));
        }
        let first = self.nodes.first().ok_or_else(|| fault("no node".to_owned()))?.node.name.clone();
        let start = names.node(self.start.as_ref().unwrap_or(&first))?;
        let finally = self.finally.as_deref().map(|name| names.node(name)).transpose()?;
        let nodes = self.nodes.into_iter().map(|node| node.build(&names)).collect::<Result<_, _>>()?;
        Ok(Graph {
            name: self.name,
            version: self.version,
            start,
            max_steps: self.max_steps,
            deadline: self.deadline,
            durability: self.durability,
            barrier: self.barrier,
            budget: self.budget,
            finally,
            retention: self.retention,
            channels,
            custom_reducers,
            nodes,
            hash,
            ..Graph::empty("")
        })
    }
}

#[derive(Default)]
struct Names {
    channels: BTreeMap<String, ChannelIdx>,
    nodes: BTreeMap<String, NodeIdx>,
}

impl Names {
    fn channel(&self, name: &str) -> Result<ChannelIdx, EngineErrorKind> {
        self.channels.get(name).copied().ok_or_else(|| fault(format!("no channel `{name}`")))
    }

    /// Nodes in file order.
    fn nodes(&self, names: &[String]) -> Result<Vec<NodeIdx>, EngineErrorKind> {
        let mut nodes = names.iter().map(|name| self.node(name)).collect::<Result<Vec<_>, _>>()?;
        nodes.sort_unstable();
        Ok(nodes)
    }

    fn node(&self, name: &str) -> Result<NodeIdx, EngineErrorKind> {
        self.nodes.get(name).copied().ok_or_else(|| fault(format!("no node `{name}`")))
    }
}

fn fault(message: String) -> EngineErrorKind {
    EngineErrorKind::Graph(message)
}

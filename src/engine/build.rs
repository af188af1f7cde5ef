//! Graphs made in code, for hosts that embed the engine without graph files.
//!
//! The builder resolves names and types; it does not prove what `graph check` proves of a file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::EngineErrorKind;
use crate::graph::{
    Arm, ChannelIdx, Durability, Each, Expr, Graph, Node, NodeIdx, NodeKind, Parallel, Reducer, Retry,
    StateChannel, Type,
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
    channels: Vec<(String, String, Reducer, Option<Value>, bool)>,
    nodes: Vec<NodeBuilder>,
}

/// Makes a node of a [`GraphBuilder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct NodeBuilder {
    name: String,
    kind: NodeKind,
    each: Option<(String, String, usize)>,
    reads: Vec<(String, String)>,
    writes: Vec<(String, String)>,
    with: Map<String, Value>,
    timeout: Option<Duration>,
    retry: Retry,
    next: Vec<(Option<String>, Vec<String>)>,
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
            channels: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Adds a state channel; `ty` as a graph file writes it.
    pub fn channel(mut self, name: &str, ty: &str, reducer: Reducer) -> Self {
        self.channels.push((name.to_owned(), ty.to_owned(), reducer, None, false));
        self
    }

    /// Adds a state channel with a value to begin with.
    pub fn channel_from(mut self, name: &str, ty: &str, reducer: Reducer, default: Value) -> Self {
        self.channels.push((name.to_owned(), ty.to_owned(), reducer, Some(default), false));
        self
    }

    /// Adds a state channel with reducer `last` that a run must be given.
    pub fn input(mut self, name: &str, ty: &str) -> Self {
        self.channels.push((name.to_owned(), ty.to_owned(), Reducer::Last, None, true));
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
        for (name, ty, reducer, default, input) in self.channels {
            let ty = Type::parse(&ty).ok_or_else(|| fault(format!("channel `{name}`: `{ty}` is no type")))?;
            names.channels.insert(name.clone(), ChannelIdx(channels.len()));
            channels.push(StateChannel { default, input, ..StateChannel::plain(&name, ty, reducer) });
        }
        names.nodes =
            self.nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), NodeIdx(at))).collect();
        if names.nodes.len() < self.nodes.len() || names.channels.len() < channels.len() {
            return Err(fault("a name is used twice".to_owned()));
        }
        let first = self.nodes.first().ok_or_else(|| fault("no node".to_owned()))?.name.clone();
        let start = names.node(self.start.as_ref().unwrap_or(&first))?;
        let nodes = self.nodes.into_iter().map(|node| node.build(&names)).collect::<Result<_, _>>()?;
        Ok(Graph {
            name: self.name,
            version: self.version,
            start,
            max_steps: self.max_steps,
            deadline: self.deadline,
            durability: self.durability,
            channels,
            nodes,
            hash,
            ..Graph::empty("")
        })
    }
}

impl NodeBuilder {
    /// A node that a registered function does.
    pub fn task(name: &str, task: &str) -> Self {
        Self::of(name, NodeKind::Task { task: task.to_owned() })
    }

    /// A node that a model does.
    pub fn prompt(name: &str, prompt: &str, role: &str, output: &str) -> Self {
        let (prompt, role, output) = (prompt.to_owned(), role.to_owned(), output.to_owned());
        Self::of(name, NodeKind::Prompt { prompt, role, output })
    }

    fn of(name: &str, kind: NodeKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            each: None,
            reads: Vec::new(),
            writes: Vec::new(),
            with: Map::new(),
            timeout: None,
            retry: Retry::default(),
            next: Vec::new(),
        }
    }

    /// Reads channels into fields of the same names.
    pub fn reads<const N: usize>(mut self, channels: [&str; N]) -> Self {
        self.reads.extend(channels.map(|name| (name.to_owned(), name.to_owned())));
        self
    }

    /// Reads a channel into a field.
    pub fn read(mut self, field: &str, channel: &str) -> Self {
        self.reads.push((field.to_owned(), channel.to_owned()));
        self
    }

    /// Writes fields to channels of the same names.
    pub fn writes<const N: usize>(mut self, channels: [&str; N]) -> Self {
        self.writes.extend(channels.map(|name| (name.to_owned(), name.to_owned())));
        self
    }

    /// Writes a field to a channel.
    pub fn write(mut self, field: &str, channel: &str) -> Self {
        self.writes.push((field.to_owned(), channel.to_owned()));
        self
    }

    /// Gives a field a fixed value.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.with.insert(field.to_owned(), value);
        self
    }

    /// Runs once for each item of the list in channel `over`, `max_parallel` at a time; the item goes to a field.
    pub fn each(mut self, over: &str, item: &str, max_parallel: usize) -> Self {
        self.each = Some((over.to_owned(), item.to_owned(), max_parallel));
        self
    }

    /// Most time of one attempt.
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// What happens when an attempt fails.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Goes to these nodes if no arm before holds.
    pub fn to<const N: usize>(mut self, nodes: [&str; N]) -> Self {
        self.next.push((None, nodes.map(str::to_owned).to_vec()));
        self
    }

    /// Goes to these nodes if no arm before holds and the condition does.
    pub fn when<const N: usize>(mut self, condition: &str, nodes: [&str; N]) -> Self {
        self.next.push((Some(condition.to_owned()), nodes.map(str::to_owned).to_vec()));
        self
    }

    fn build(self, names: &Names) -> Result<Node, EngineErrorKind> {
        let fields = |fields: Vec<(String, String)>| {
            fields
                .into_iter()
                .map(|(field, channel)| Ok((field, names.channel(&channel)?)))
                .collect::<Result<Vec<_>, EngineErrorKind>>()
        };
        let arms = self.next.into_iter().map(|(when, to)| {
            let when = when
                .map(|text| Expr::parse(&text).map_err(|error| fault(format!("condition `{text}`: {error}"))))
                .transpose()?;
            let mut to = to.iter().map(|name| names.node(name)).collect::<Result<Vec<_>, _>>()?;
            to.sort_unstable();
            Ok(Arm { when, option: None, to })
        });
        let next = arms.collect::<Result<_, EngineErrorKind>>()?;
        let each = self
            .each
            .map(|(over, item, lanes)| {
                let (over, max_parallel) = (names.channel(&over)?, Parallel::Fixed(lanes));
                Ok::<_, EngineErrorKind>(Each::plain(over, &item, max_parallel))
            })
            .transpose()?;
        Ok(Node {
            each,
            reads: fields(self.reads)?,
            writes: fields(self.writes)?,
            with: self.with,
            timeout: self.timeout,
            retry: self.retry,
            next,
            ..Node::plain(&self.name, self.kind)
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

    fn node(&self, name: &str) -> Result<NodeIdx, EngineErrorKind> {
        self.nodes.get(name).copied().ok_or_else(|| fault(format!("no node `{name}`")))
    }
}

fn fault(message: String) -> EngineErrorKind {
    EngineErrorKind::Graph(message)
}

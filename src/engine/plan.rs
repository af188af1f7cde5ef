//! A graph made ready to run: its nodes bound to what does their work, names ready to be shared.

use std::fmt::{self, Debug};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::args::Args;
use super::output::{self, Writes};
use super::reduce::Reducers;
use super::subgraph;
use super::ways::Ways;
use super::{Ctx, EngineErrorKind, ErrorClass, NodeError, PromptCall, PromptRunner, Registry};
use crate::graph::{ChannelIdx, Graph, Node, NodeIdx, NodeKind};

/// Starts a registered function: reads its input at once, and gives the future that does the work.
pub(crate) type TaskFn = Arc<
    dyn Fn(Ctx, Args<'_>) -> Result<BoxFuture<'static, Result<Writes, NodeError>>, NodeError> + Send + Sync,
>;

/// A graph bound to a host.
pub(crate) struct Plan {
    pub(crate) graph: Arc<Graph>,
    pub(crate) ways: Ways,
    pub(crate) reducers: Reducers,
    nodes: Vec<BoundNode>,
    channels: Vec<Arc<str>>,
}

struct BoundNode {
    name: Arc<str>,
    work: Work,
    retry_on: u8,
}

/// Who does a node's work.
pub(crate) enum Work {
    /// A registered function.
    Task(TaskFn),
    /// A prompt.
    Prompt(Arc<dyn PromptRunner>),
    /// A run of another graph.
    Graph(Arc<Graph>),
    /// Nobody: a gate, or a context outside any run.
    None,
}

impl Plan {
    /// Binds every node.
    pub(crate) fn bind(
        graph: Arc<Graph>,
        registry: &Registry,
        prompts: Option<&Arc<dyn PromptRunner>>,
    ) -> Result<Self, EngineErrorKind> {
        let nodes = graph
            .nodes
            .iter()
            .map(|node| {
                let work = match &node.kind {
                    NodeKind::Task { task } => Work::Task(registry.find(task).ok_or_else(|| {
                        EngineErrorKind::MissingTask { node: node.name.clone(), task: task.clone() }
                    })?),
                    NodeKind::Gate(_) => Work::None,
                    NodeKind::Graph(inner) => {
                        // Its own nodes are bound when it runs; what is missing is known before anything does.
                        Self::bind(Arc::clone(inner), registry, prompts)?;
                        Work::Graph(Arc::clone(inner))
                    }
                    NodeKind::Prompt { .. } => Work::Prompt(
                        prompts
                            .map(Arc::clone)
                            .ok_or_else(|| EngineErrorKind::NoPrompts { node: node.name.clone() })?,
                    ),
                };
                let retry_on = node
                    .retry
                    .on
                    .iter()
                    .filter_map(|name| name.parse::<ErrorClass>().ok())
                    .fold(0, |set, class| set | bit(class));
                Ok(BoundNode { name: node.name.as_str().into(), work, retry_on })
            })
            .collect::<Result<_, EngineErrorKind>>()?;
        let channels = graph.channels.iter().map(|channel| channel.name.as_str().into()).collect();
        let reducers = registry.reducers(&graph.custom_reducers)?;
        Ok(Self { ways: Ways::of(&graph), reducers, graph, nodes, channels })
    }

    /// The plan of a context outside any run.
    pub(crate) fn detached() -> Self {
        let graph = Graph::empty("detached");
        let nodes = vec![BoundNode { name: "detached".into(), work: Work::None, retry_on: 0 }];
        let (ways, reducers) = (Ways::of(&graph), Reducers::default());
        Self { graph: Arc::new(graph), ways, reducers, nodes, channels: Vec::new() }
    }

    pub(crate) fn node(&self, node: NodeIdx) -> &Node {
        self.graph.node(node)
    }

    pub(crate) fn name(&self, node: NodeIdx) -> &str {
        self.nodes.get(node.0).map_or("", |node| &node.name)
    }

    pub(crate) fn shared_name(&self, node: NodeIdx) -> Arc<str> {
        self.nodes.get(node.0).map_or_else(|| "".into(), |node| Arc::clone(&node.name))
    }

    pub(crate) fn channel_name(&self, channel: ChannelIdx) -> Arc<str> {
        self.channels.get(channel.0).map_or_else(|| "".into(), Arc::clone)
    }

    /// Whether another attempt is worth it after an error of this class.
    pub(crate) fn retries(&self, node: NodeIdx, class: ErrorClass) -> bool {
        self.nodes.get(node.0).is_some_and(|node| node.retry_on & bit(class) != 0)
    }

    /// Begins an attempt of a task.
    pub(crate) fn start(
        &self,
        ctx: Ctx,
        args: Args<'_>,
    ) -> Result<BoxFuture<'static, Result<Writes, NodeError>>, NodeError> {
        match self.nodes.get(ctx.node.0).map(|node| &node.work) {
            Some(Work::Task(task)) => task(ctx, args),
            Some(Work::Prompt(runner)) => Ok(ask(runner, ctx, args)),
            Some(Work::Graph(inner)) => Ok(subgraph::run(Arc::clone(inner), ctx, args)),
            Some(Work::None) | None => Err(NodeError::permanent("nothing to run")),
        }
    }
}

/// Asks a prompt node's question.
fn ask(
    runner: &Arc<dyn PromptRunner>,
    ctx: Ctx,
    args: Args<'_>,
) -> BoxFuture<'static, Result<Writes, NodeError>> {
    let (prompt, role, output) = match &args.node.kind {
        NodeKind::Prompt { prompt, role, output } => (prompt.clone(), role.clone(), output.clone()),
        NodeKind::Task { .. } | NodeKind::Gate(_) | NodeKind::Graph(_) => {
            (String::new(), String::new(), String::new())
        }
    };
    let texts = Arc::clone(&ctx.shared.prompts);
    let call = PromptCall { prompt, role, output, variables: args.to_map(), texts };
    let answer = runner.run(ctx.clone(), call);
    Box::pin(async move {
        let answer: Value = answer.await?;
        output::encode_answer(&answer, &ctx.shared.plan.graph, ctx.shared.plan.node(ctx.node))
    })
}

const fn bit(class: ErrorClass) -> u8 {
    1 << class as u8
}

impl Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({})", self.graph.name)
    }
}

//! Nodes made in code.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{Names, fault};
use crate::engine::EngineErrorKind;
use crate::graph::{
    Arm, Budget, Cache, ChannelIdx, Each, Effect, ErrorArm, Expr, Gate, Graph, Join, Node, NodeKind,
    OnItemError, Parallel, Retry, Tolerate,
};

/// Makes a node of a [`GraphBuilder`](super::GraphBuilder).
#[derive(Clone, Debug)]
#[must_use]
pub struct NodeBuilder {
    /// Everything that names no other node or channel.
    pub(super) node: Node,
    each: Option<EachBuilder>,
    reads: Vec<(String, String)>,
    writes: Vec<(String, String)>,
    overwrite: Vec<String>,
    shows: Vec<String>,
    answer: Option<String>,
    on_timeout: Option<String>,
    on_error: Vec<(Vec<String>, Vec<String>, Option<String>)>,
    goto: Vec<String>,
    send: Vec<String>,
    next: Vec<(Option<String>, Option<String>, Vec<String>)>,
}

/// Makes a fan-out of a [`NodeBuilder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct EachBuilder {
    over: String,
    status: Option<String>,
    each: Each,
}

impl EachBuilder {
    /// One task for each item of the list in channel `over`, at most `max_parallel` at a time; the item goes to a field.
    pub fn new(over: &str, item: &str, max_parallel: usize) -> Self {
        let each = Each::plain(ChannelIdx(0), item, Parallel::Fixed(max_parallel));
        Self { over: over.to_owned(), status: None, each }
    }

    /// So many items a task, as a list.
    pub const fn batch(mut self, items: usize) -> Self {
        self.each.batch = Some(items);
        self
    }

    /// How many tasks may fail, and what those leave.
    pub const fn tolerate(mut self, tolerate: Tolerate, on_item_error: OnItemError) -> Self {
        self.each.tolerate = tolerate;
        self.each.on_item_error = on_item_error;
        self
    }

    /// The channel that gets how each item went.
    pub fn status(mut self, channel: &str) -> Self {
        self.status = Some(channel.to_owned());
        self
    }

    /// Most that one fan-out may use.
    pub const fn budget(mut self, budget: Budget) -> Self {
        self.each.budget = budget;
        self
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

    /// A node that waits for a person's decision; its options are given by [`NodeBuilder::option`].
    pub fn gate(name: &str, ask: &str) -> Self {
        Self::of(name, NodeKind::Gate(Gate { ask: ask.to_owned(), ..Gate::default() }))
    }

    /// A node that runs another graph.
    pub fn graph(name: &str, graph: Arc<Graph>) -> Self {
        Self::of(name, NodeKind::Graph(graph))
    }

    fn of(name: &str, kind: NodeKind) -> Self {
        Self {
            node: Node::plain(name, kind),
            each: None,
            reads: Vec::new(),
            writes: Vec::new(),
            overwrite: Vec::new(),
            shows: Vec::new(),
            answer: None,
            on_timeout: None,
            on_error: Vec::new(),
            goto: Vec::new(),
            send: Vec::new(),
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

    /// Writes to these channels replace what they hold, whatever their reducers.
    pub fn overwrites<const N: usize>(mut self, channels: [&str; N]) -> Self {
        self.overwrite.extend(channels.map(str::to_owned));
        self
    }

    /// Gives a field a fixed value.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.node.with.insert(field.to_owned(), value);
        self
    }

    /// Runs once for each item of the list in channel `over`, `max_parallel` at a time; the item goes to a field.
    pub fn each(self, over: &str, item: &str, max_parallel: usize) -> Self {
        self.fan_out(EachBuilder::new(over, item, max_parallel))
    }

    /// Runs once for each item of a list.
    pub fn fan_out(mut self, each: EachBuilder) -> Self {
        self.each = Some(each);
        self
    }

    /// What it does to the world outside.
    pub const fn effect(mut self, effect: Effect) -> Self {
        self.node.effect = effect;
        self
    }

    /// Most time of one attempt.
    pub const fn timeout(mut self, time: Duration) -> Self {
        self.node.timeout = Some(time);
        self
    }

    /// Most time of one attempt without a sign of life.
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.node.idle_timeout = Some(time);
        self
    }

    /// What happens when an attempt fails.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.node.retry = retry;
        self
    }

    /// Goes to these nodes when no attempt is left and the error has one of these classes (any class where none is
    /// named); the failure goes to a channel, if one is given.
    pub fn on_error<const C: usize, const N: usize>(
        mut self,
        classes: [&str; C],
        nodes: [&str; N],
        write: Option<&str>,
    ) -> Self {
        let (classes, nodes) = (classes.map(str::to_owned).to_vec(), nodes.map(str::to_owned).to_vec());
        self.on_error.push((classes, nodes, write.map(str::to_owned)));
        self
    }

    /// Stops the run after so many identical failures in a row; 0 for never.
    pub const fn breaker(mut self, times: u32) -> Self {
        self.node.breaker = times;
        self
    }

    /// Lets a result stand for later tasks of the same key.
    pub fn cache(mut self, cache: Cache) -> Self {
        self.node.cache = Some(cache);
        self
    }

    /// Most that its tasks may use over the whole run.
    pub const fn budget(mut self, budget: Budget) -> Self {
        self.node.budget = budget;
        self
    }

    /// Waits for several branches.
    pub const fn join(mut self, join: Join) -> Self {
        self.node.join = Some(join);
        self
    }

    /// Waits until nothing else is left to do.
    pub const fn defer(mut self) -> Self {
        self.node.defer = true;
        self
    }

    /// Most visits in a run.
    pub const fn max_visits(mut self, visits: u32) -> Self {
        self.node.max_visits = Some(visits);
        self
    }

    /// Nodes that its function may go to.
    pub fn may_goto<const N: usize>(mut self, nodes: [&str; N]) -> Self {
        self.goto.extend(nodes.map(str::to_owned));
        self
    }

    /// Nodes that its function may send tasks to.
    pub fn may_send<const N: usize>(mut self, nodes: [&str; N]) -> Self {
        self.send.extend(nodes.map(str::to_owned));
        self
    }

    /// An option of a gate and where it leads; to the end where no node is named.
    pub fn option<'n>(mut self, option: &str, nodes: impl IntoIterator<Item = &'n str>) -> Self {
        self.next.push((None, Some(option.to_owned()), owned(nodes)));
        self
    }

    /// Who may answer a gate, and what is shown with it.
    pub fn asks<const W: usize, const S: usize>(mut self, who: [&str; W], shows: [&str; S]) -> Self {
        if let NodeKind::Gate(gate) = &mut self.node.kind {
            gate.who = who.map(str::to_owned).to_vec();
        }
        self.shows = shows.map(str::to_owned).to_vec();
        self
    }

    /// How long a gate waits, and which option is taken then.
    pub fn waits(mut self, time: Duration, option: &str) -> Self {
        if let NodeKind::Gate(gate) = &mut self.node.kind {
            gate.timeout = Some(time);
        }
        self.on_timeout = Some(option.to_owned());
        self
    }

    /// The channel that gets a gate's answer.
    pub fn answers(mut self, channel: &str) -> Self {
        self.answer = Some(channel.to_owned());
        self
    }

    /// Goes to these nodes if no arm before holds.
    pub fn to<'n>(mut self, nodes: impl IntoIterator<Item = &'n str>) -> Self {
        self.next.push((None, None, owned(nodes)));
        self
    }

    /// Goes to these nodes if no arm before holds and the condition does.
    pub fn when<'n>(mut self, condition: &str, nodes: impl IntoIterator<Item = &'n str>) -> Self {
        self.next.push((Some(condition.to_owned()), None, owned(nodes)));
        self
    }

    pub(super) fn build(self, names: &Names) -> Result<Node, EngineErrorKind> {
        let fields = |fields: Vec<(String, String)>| {
            fields
                .into_iter()
                .map(|(field, channel)| Ok((field, names.channel(&channel)?)))
                .collect::<Result<Vec<_>, EngineErrorKind>>()
        };
        let channels =
            |list: Vec<String>| list.iter().map(|name| names.channel(name)).collect::<Result<Vec<_>, _>>();
        let options: Vec<Option<String>> = self.next.iter().map(|(_, option, _)| option.clone()).collect();
        let arms = self.next.into_iter().map(|(when, option, to)| {
            let when = when
                .map(|text| Expr::parse(&text).map_err(|error| fault(format!("condition `{text}`: {error}"))))
                .transpose()?;
            Ok(Arm { when, option, to: names.nodes(&to)? })
        });
        let next = arms.collect::<Result<_, EngineErrorKind>>()?;
        let each = self
            .each
            .map(|EachBuilder { over, status, each }| {
                let (over, status) =
                    (names.channel(&over)?, status.map(|name| names.channel(&name)).transpose()?);
                Ok::<_, EngineErrorKind>(Each { over, status, ..each })
            })
            .transpose()?;
        let on_error = self
            .on_error
            .into_iter()
            .map(|(on, to, write)| {
                let write = write.map(|name| names.channel(&name)).transpose()?;
                Ok(ErrorArm { on, to: names.nodes(&to)?, write })
            })
            .collect::<Result<_, EngineErrorKind>>()?;
        let mut node = self.node;
        if let NodeKind::Gate(gate) = &mut node.kind {
            gate.shows = channels(self.shows)?;
            gate.answer = self.answer.map(|name| names.channel(&name)).transpose()?;
            gate.on_timeout = self
                .on_timeout
                .as_ref()
                .map(|name| {
                    let found = options.iter().position(|option| option.as_ref() == Some(name));
                    found.ok_or_else(|| fault(format!("no option `{name}`")))
                })
                .transpose()?;
        }
        Ok(Node {
            each,
            reads: fields(self.reads)?,
            writes: fields(self.writes)?,
            overwrite: channels(self.overwrite)?,
            on_error,
            goto: names.nodes(&self.goto)?,
            send: names.nodes(&self.send)?,
            next,
            ..node
        })
    }
}

fn owned<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    names.into_iter().map(str::to_owned).collect()
}

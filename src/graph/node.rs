//! The nodes of a checked graph and their policies.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Budget, ChannelIdx, Expr, Graph, NodeIdx};

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
    /// What it does to the world outside the run.
    pub effect: Effect,
    /// Fields of its output that it vouches for: they may go to trusted channels though it reads untrusted ones.
    pub validates: Vec<String>,
    /// Channels that its writes replace, whatever their reducers.
    pub overwrite: Vec<ChannelIdx>,
    /// Most time one attempt may take.
    pub timeout: Option<Duration>,
    /// Most time without a sign of life (an event or `Ctx::heartbeat`) within one attempt.
    pub idle_timeout: Option<Duration>,
    /// What happens when an attempt fails.
    pub retry: Retry,
    /// Where to go when no attempt is left: the first arm that takes the error's class.
    pub on_error: Vec<ErrorArm>,
    /// The run stops when this node has failed the same way so many times in a row; 0 for never.
    pub breaker: u32,
    /// Whether an earlier result may stand for a task.
    pub cache: Option<Cache>,
    /// Most that its tasks may use over the whole run.
    pub budget: Budget,
    /// Whether it waits for several branches.
    pub join: Option<Join>,
    /// Whether it waits until nothing else is left to do.
    pub defer: bool,
    /// Most visits in a run: an arm that leads here once more does not hold.
    pub max_visits: Option<u32>,
    /// Nodes that its function may go to instead of `next`.
    pub goto: Vec<NodeIdx>,
    /// Nodes that its function may send tasks to, each with an input of its own.
    pub send: Vec<NodeIdx>,
    /// Where to go next: the first arm that holds; of a gate, one arm an option. No arm: this branch ends.
    pub next: Vec<Arm>,
}

impl Node {
    /// A node with nothing but a name and a kind.
    pub fn plain(name: &str, kind: NodeKind) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            kind,
            each: None,
            reads: Vec::new(),
            writes: Vec::new(),
            with: Map::new(),
            effect: Effect::default(),
            validates: Vec::new(),
            overwrite: Vec::new(),
            timeout: None,
            idle_timeout: None,
            retry: Retry::default(),
            on_error: Vec::new(),
            breaker: BREAKER,
            cache: None,
            budget: Budget::default(),
            join: None,
            defer: false,
            max_visits: None,
            goto: Vec::new(),
            send: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Every node that may come after this one, each once, in file order.
    pub fn successors(&self) -> Vec<NodeIdx> {
        let arms = self.next.iter().flat_map(|arm| &arm.to);
        let errors = self.on_error.iter().flat_map(|arm| &arm.to);
        let mut all: Vec<NodeIdx> = arms.chain(errors).chain(&self.goto).chain(&self.send).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether it is a gate.
    pub const fn is_gate(&self) -> bool {
        matches!(self.kind, NodeKind::Gate(_))
    }
}

/// Identical failures in a row that stop a run where the file does not say.
pub const BREAKER: u32 = 3;

/// What a node does to the world outside the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing, and the same input gives the same output.
    Pure,
    /// It looks at the world.
    #[default]
    Read,
    /// It changes something that can be changed back, or only adds.
    Write,
    /// It does what cannot be undone: needs a person's consent.
    Danger,
}

impl Effect {
    /// Every effect, the harmless first.
    pub const ALL: [Self; 4] = [Self::Pure, Self::Read, Self::Write, Self::Danger];

    /// Its name in a graph file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Read => "read",
            Self::Write => "write",
            Self::Danger => "danger",
        }
    }
}

/// Where a failed node goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorArm {
    /// Classes of error that it takes; names of `engine::ErrorClass`. None for all.
    pub on: Vec<String>,
    /// Nodes to go to, in file order; empty for `end`.
    pub to: Vec<NodeIdx>,
    /// The channel that gets the failure: `{node, item, class, message, attempts}`.
    pub write: Option<ChannelIdx>,
}

/// When an earlier result stands for a task: same node, same key, not too old.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// An expression over the fields of the input; the whole input without it.
    pub key: Option<Expr>,
    /// How long a result stands.
    pub ttl: Duration,
}

/// How a node waits for several branches. A branch that can no longer come counts as skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// How many must come.
    pub need: Need,
    /// Longest wait from the first that comes.
    pub timeout: Option<Duration>,
    /// Whether it goes on with what has come when that time is over; otherwise it fails, class `timeout`.
    pub go_on: bool,
}

/// How many branches a join needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// All that can still come, and at least one.
    All,
    /// So many of the nodes that lead here; fails, class `permanent`, where fewer can come. 1 is `any`.
    Some(u32),
}

/// Who does a node's work.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A registered Rust function.
    Task {
        /// Its registered name, as `patrol.scan`.
        task: String,
    },
    /// A person's decision: each option is an arm of `next`.
    Gate(Gate),
    /// Another graph, run as one task; `reads` and `writes` name its channels.
    Graph(Arc<Graph>),
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

/// What a gate asks, and of whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gate {
    /// The question, shown as it is.
    pub ask: String,
    /// Who may answer; anybody where nobody is named.
    pub who: Vec<String>,
    /// Channels that are shown with the question.
    pub shows: Vec<ChannelIdx>,
    /// How long it waits; for ever without it.
    pub timeout: Option<Duration>,
    /// The option (place in the node's `next`) that is taken when that time is over.
    pub on_timeout: Option<usize>,
    /// The channel that gets the answer: `{option, by, note, at}`.
    pub answer: Option<ChannelIdx>,
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
    /// Items a task; with more than one the field gets a list of them.
    pub batch: Option<usize>,
    /// How many tasks may fail before the node does; none where `on_item_error` is `fail`.
    pub tolerate: Tolerate,
    /// What a failed task leaves in the channels.
    pub on_item_error: OnItemError,
    /// The channel that gets a list of `{item, ok, attempts, class, error}`, in the order of the items.
    pub status: Option<ChannelIdx>,
    /// Most that one fan-out may use.
    pub budget: Budget,
}

impl Each {
    /// A fan-out over a channel with nothing else said.
    pub fn plain(over: ChannelIdx, item: &str, max_parallel: Parallel) -> Self {
        Self {
            over,
            item: item.to_owned(),
            max_parallel,
            batch: None,
            tolerate: Tolerate::None,
            on_item_error: OnItemError::Fail,
            status: None,
            budget: Budget::default(),
        }
    }
}

/// How many tasks of a fan-out may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerate {
    /// None.
    None,
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded down.
    Percent(u8),
}

impl Tolerate {
    /// Most failures among so many tasks.
    pub fn most(self, tasks: u32) -> u32 {
        match self {
            Self::None => 0,
            Self::Count(count) => count,
            Self::Percent(part) => {
                u32::try_from(u64::from(tasks) * u64::from(part) / 100).unwrap_or(u32::MAX)
            }
        }
    }
}

/// What a failed task of a fan-out leaves in the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnItemError {
    /// Nothing: the node fails with it.
    #[default]
    Fail,
    /// Null at its place in the lists.
    Null,
    /// Nothing, and the others go on.
    Drop,
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
    /// Wait before the second attempt.
    pub backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
    /// How much longer each wait is than the one before, in hundredths: 200 doubles.
    pub factor_percent: u32,
    /// Whether half of each wait is spread, so that tasks that failed together do not come back together.
    pub jitter: bool,
    /// Classes of error that are worth another attempt; names of `engine::ErrorClass`.
    pub on: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_mins(1),
            factor_percent: 200,
            jitter: true,
            on: vec!["transient".into(), "rate_limit".into(), "timeout".into()],
        }
    }
}

/// One arm of `next`.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Condition over the state after the superstep; none for an unconditional arm, `else` or a gate's option.
    pub when: Option<Expr>,
    /// The option of a gate that this arm is.
    pub option: Option<String>,
    /// Nodes to go to, in file order; empty for `end`.
    pub to: Vec<NodeIdx>,
}

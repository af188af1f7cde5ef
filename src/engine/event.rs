//! Events of a run, for whoever watches it.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{ErrorClass, InterruptCause};
use crate::clock::SharedClock;
use crate::id::RunId;

/// Version of the event format; grows when a field changes its meaning or goes.
pub const EVENT_VERSION: u32 = 2;

/// An event with its place in the run.
#[derive(Clone, Debug, Serialize)]
pub struct RunEvent {
    /// [`EVENT_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Counts the events of this process's part of the run, from 0.
    pub seq: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happens in a run. Step and task numbers are from 0, attempts from 1.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A run began; its row is stored.
    RunStarted {
        /// Name of the graph.
        graph: Arc<str>,
        /// Its version.
        graph_version: u32,
        /// Its hash.
        hash: Arc<str>,
    },
    /// A stored run goes on.
    RunResumed {
        /// Name of the graph.
        graph: Arc<str>,
        /// The superstep it goes on with.
        step: u32,
        /// Tasks of that superstep that had finished and are not repeated.
        finished_tasks: u32,
    },
    /// A superstep began.
    StepStarted {
        /// The superstep.
        step: u32,
        /// Its nodes, in file order.
        nodes: Vec<Arc<str>>,
    },
    /// A task began.
    TaskStarted {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// Which item of a fan-out.
        item: Option<u32>,
    },
    /// An attempt failed, and another one will be made.
    TaskRetried {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// The attempt that failed.
        attempt: u32,
        /// How it failed.
        class: ErrorClass,
        /// Why.
        error: String,
        /// How long until the next attempt.
        #[serde(rename = "wait_ms", serialize_with = "millis")]
        wait: Duration,
    },
    /// A task finished, and what it wrote is stored.
    TaskFinished {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// How often it was tried; 0 where a kept result stood for it.
        attempts: u32,
        /// The class of its failure, where an error arm or the fan-out's tolerance took it.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<ErrorClass>,
    },
    /// A task failed for good.
    TaskFailed {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// How often it was tried.
        attempts: u32,
        /// How it failed.
        class: ErrorClass,
        /// Why.
        error: String,
    },
    /// A node has ended, and it is decided where it leads.
    Routed {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// What decided it.
        #[serde(flatten)]
        by: RoutedBy,
        /// The nodes it leads to; none for the end.
        to: Vec<Arc<str>>,
    },
    /// A superstep is merged and its checkpoint committed.
    StepCommitted {
        /// The superstep.
        step: u32,
        /// Channel and value of every write, in merge order.
        writes: Vec<(Arc<str>, Value)>,
        /// The nodes of the next superstep.
        next: Vec<Arc<str>>,
    },
    /// The whole state after a superstep; secrets masked.
    Values {
        /// The superstep.
        step: u32,
        /// Channels and their values.
        state: Map<String, Value>,
    },
    /// What was stored of a superstep.
    Checkpoint {
        /// The superstep.
        step: u32,
        /// The log's last hash, hex.
        hash: String,
        /// Joins and deferred nodes that wait.
        waiting: Vec<Arc<str>>,
    },
    /// A gate waits for an answer.
    GateOpened(GateView),
    /// A gate has its answer.
    GateAnswered {
        /// The superstep.
        step: u32,
        /// The gate's id.
        gate: String,
        /// The option that was chosen.
        option: String,
        /// Who answered; `timeout` where nobody did in time.
        by: String,
    },
    /// A piece of a model's answer.
    Token {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// The piece.
        text: String,
    },
    /// An event of a task's own.
    Custom {
        /// The superstep.
        step: u32,
        /// The node.
        node: Arc<str>,
        /// Which item of a fan-out.
        item: Option<u32>,
        /// What the task has to say.
        value: Value,
    },
    /// The run is done.
    RunFinished {
        /// How many supersteps it took.
        steps: u32,
    },
    /// The run failed; it can be resumed.
    RunFailed {
        /// Why.
        error: String,
    },
    /// The run was stopped; it can be resumed.
    RunInterrupted {
        /// Who stopped it.
        cause: InterruptCause,
        /// The superstep it goes on with.
        step: u32,
    },
}

/// What decides where a node leads. Places count from 0, as the graph file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "by", content = "index", rename_all = "snake_case")]
pub enum RoutedBy {
    /// An arm of its `next`.
    Arm(usize),
    /// An arm of its `on_error`.
    Error(usize),
    /// An option of a gate.
    Option(usize),
    /// Its function.
    Goto,
}

/// A gate that waits for an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateView {
    /// The run; of a subgraph, that run's own.
    pub run_id: RunId,
    /// Its id within the run.
    pub gate: String,
    /// The node.
    pub node: String,
    /// The question.
    pub ask: String,
    /// What can be chosen.
    pub options: Vec<String>,
    /// Who may answer; anybody where nobody is named.
    pub who: Vec<String>,
    /// What is to be known for it, by channel; secrets masked.
    pub shows: Map<String, Value>,
    /// Since when it waits, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Until when, if it does not wait for ever.
    pub until_ms: Option<i64>,
    /// What is chosen when that time is over.
    pub on_timeout: Option<String>,
}

/// A kind of event, to listen to or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// That a run begins, goes on, stops; its gates. Always heard.
    Lifecycle,
    /// The whole state after each superstep.
    Values,
    /// What each superstep wrote.
    Updates,
    /// Supersteps and tasks as they begin, end, fail and are tried again.
    Tasks,
    /// What tasks say themselves.
    Custom,
    /// Pieces of models' answers.
    Tokens,
    /// What was stored, and what waits.
    Debug,
}

impl Stream {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Lifecycle, Self::Values, Self::Updates, Self::Tasks, Self::Custom, Self::Tokens, Self::Debug];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Tasks => "tasks",
            Self::Custom => "custom",
            Self::Tokens => "tokens",
            Self::Debug => "debug",
        }
    }
}

/// Kinds of events to listen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams(u8);

impl Default for Streams {
    /// All but whole states, pieces of answers and what only a debugger wants.
    fn default() -> Self {
        Self::of(&[Stream::Updates, Stream::Tasks, Stream::Custom])
    }
}

impl Streams {
    /// These, and what is always heard.
    pub fn of(streams: &[Stream]) -> Self {
        Self(streams.iter().fold(1, |set, stream| set | 1 << *stream as u8))
    }

    /// Everything.
    pub fn all() -> Self {
        Self::of(&Stream::ALL)
    }

    /// Whether a kind is among them.
    pub const fn has(self, stream: Stream) -> bool {
        self.0 & 1 << stream as u8 != 0
    }
}

impl Event {
    /// The kind it is.
    pub const fn stream(&self) -> Stream {
        match self {
            Self::RunStarted { .. }
            | Self::RunResumed { .. }
            | Self::RunFinished { .. }
            | Self::RunFailed { .. }
            | Self::RunInterrupted { .. }
            | Self::GateOpened(_)
            | Self::GateAnswered { .. } => Stream::Lifecycle,
            Self::Values { .. } => Stream::Values,
            Self::StepCommitted { .. } => Stream::Updates,
            Self::StepStarted { .. }
            | Self::TaskStarted { .. }
            | Self::TaskRetried { .. }
            | Self::TaskFinished { .. }
            | Self::Routed { .. }
            | Self::TaskFailed { .. } => Stream::Tasks,
            Self::Custom { .. } => Stream::Custom,
            Self::Token { .. } => Stream::Tokens,
            Self::Checkpoint { .. } => Stream::Debug,
        }
    }
}

fn millis<S: Serializer>(wait: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

/// Where events go. Called on the run's own threads: it must neither block nor panic.
pub trait EventSink: Send + Sync {
    /// Takes an event.
    fn publish(&self, event: RunEvent);
}

impl<F: Fn(RunEvent) + Send + Sync> EventSink for F {
    fn publish(&self, event: RunEvent) {
        self(event);
    }
}

impl EventSink for tokio::sync::mpsc::UnboundedSender<RunEvent> {
    fn publish(&self, event: RunEvent) {
        // A listener that has gone is no fault of the run.
        drop(self.send(event));
    }
}

/// Numbers the events of a run and hands them on.
pub(crate) struct Publisher(Option<Inner>);

struct Inner {
    run: RunId,
    sink: Arc<dyn EventSink>,
    streams: Streams,
    clock: SharedClock,
    seq: AtomicU64,
}

impl Publisher {
    pub(crate) fn new(
        run: RunId,
        sink: Option<Arc<dyn EventSink>>,
        streams: Streams,
        clock: &SharedClock,
    ) -> Self {
        Self(sink.map(|sink| Inner { run, sink, streams, clock: Arc::clone(clock), seq: AtomicU64::new(0) }))
    }

    /// Who listens, for a run inside this one.
    pub(crate) fn sink(&self) -> Option<Arc<dyn EventSink>> {
        self.0.as_ref().map(|inner| Arc::clone(&inner.sink))
    }

    /// What is listened to.
    pub(crate) fn streams(&self) -> Streams {
        self.0.as_ref().map_or_else(Streams::default, |inner| inner.streams)
    }

    /// Whether somebody listens to a kind of event.
    pub(crate) fn wants(&self, stream: Stream) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.streams.has(stream))
    }

    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Publishes what `event` makes, which is called only if somebody listens.
    pub(crate) fn publish(&self, event: impl FnOnce() -> Event) {
        if let Some(inner) = &self.0 {
            let event = event();
            if !inner.streams.has(event.stream()) {
                return;
            }
            inner.sink.publish(RunEvent {
                version: EVENT_VERSION,
                run: inner.run,
                seq: inner.seq.fetch_add(1, Ordering::Relaxed),
                at_ms: inner.clock.now().as_millisecond(),
                event,
            });
        }
    }
}

impl Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({})", if self.is_on() { "on" } else { "off" })
    }
}

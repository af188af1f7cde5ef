//! Events of a run, for whoever watches it.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{ErrorClass, InterruptCause};
use crate::clock::SharedClock;
use crate::id::RunId;

/// Version of the event format; grows when a field changes its meaning or goes.
pub const EVENT_VERSION: u32 = 1;

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
        version: u32,
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
        /// How often it was tried.
        attempts: u32,
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
    /// A superstep is merged and its checkpoint committed.
    StepCommitted {
        /// The superstep.
        step: u32,
        /// Channel and value of every write, in merge order.
        writes: Vec<(Arc<str>, Value)>,
        /// The nodes of the next superstep.
        next: Vec<Arc<str>>,
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
    clock: SharedClock,
    seq: AtomicU64,
}

impl Publisher {
    pub(crate) fn new(run: RunId, sink: Option<Arc<dyn EventSink>>, clock: &SharedClock) -> Self {
        Self(sink.map(|sink| Inner { run, sink, clock: Arc::clone(clock), seq: AtomicU64::new(0) }))
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
            inner.sink.publish(RunEvent {
                version: EVENT_VERSION,
                run: inner.run,
                seq: inner.seq.fetch_add(1, Ordering::Relaxed),
                at_ms: inner.clock.now().as_millisecond(),
                event: event(),
            });
        }
    }
}

impl Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({})", if self.is_on() { "on" } else { "off" })
    }
}

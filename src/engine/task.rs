//! One task: its cache, its attempts, their time limits, the waits between them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::args::Args;
use super::ctx::{Shared, Side};
use super::event::Event;
use super::meter::{Counter, Usage};
use super::output::Writes;
use super::{Ctx, EngineErrorKind, ErrorClass, InterruptCause, NodeError, keep};
use crate::graph::{Budget, NodeIdx, Retry};
use crate::id::RunId;

/// A task's place in its run: the superstep that its node became ready for, the node, the item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) step: u32,
    pub(crate) node: NodeIdx,
    pub(crate) item: Option<u32>,
}

/// Where a task's function wants the run to go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Route {
    /// Nodes to go to instead of the node's arms.
    pub(crate) goto: Option<Vec<NodeIdx>>,
    /// Nodes with an input for a task of each.
    pub(crate) sends: Vec<(NodeIdx, Value)>,
}

impl Route {
    pub(crate) const fn is_nothing(&self) -> bool {
        self.goto.is_none() && self.sends.is_empty()
    }

    /// Adds what another task of the same node wants.
    pub(crate) fn add(&mut self, other: &Self) {
        if let Some(more) = &other.goto {
            let goto = self.goto.get_or_insert_default();
            goto.extend(more.iter().filter(|node| !goto.contains(node)).copied().collect::<Vec<_>>());
        }
        self.sends.extend(other.sends.iter().cloned());
    }
}

/// How a task failed for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Which item of a fan-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// Its class.
    pub class: ErrorClass,
    /// What happened; may hold text of a model or a log.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// A task that finished, or whose failure was taken by somebody.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) attempts: u32,
    pub(crate) writes: Writes,
    pub(crate) route: Option<Box<Route>>,
    pub(crate) usage: Usage,
    /// Its failure, where an error arm or the fan-out's tolerance took it.
    pub(crate) failure: Option<Box<Failure>>,
    /// Whether an earlier result stood for it.
    pub(crate) cached: bool,
}

impl Finished {
    pub(crate) fn with(attempts: u32, writes: Writes) -> Self {
        Self { attempts, writes, route: None, usage: Usage::default(), failure: None, cached: false }
    }
}

/// A task that failed, with no attempt left, or that came to rest before its end.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) attempts: u32,
    pub(crate) error: NodeError,
    pub(crate) usage: Usage,
    /// The task is a run of its own that was stopped or waits; it goes on with a resume.
    pub(crate) suspended: Option<InterruptCause>,
}

impl Failed {
    pub(crate) fn new(error: NodeError) -> Self {
        Self { attempts: 0, error, usage: Usage::default(), suspended: None }
    }

    pub(crate) fn kind(self, shared: &Shared, place: Place) -> EngineErrorKind {
        EngineErrorKind::Task {
            node: shared.plan.name(place.node).to_owned(),
            item: place.item,
            attempts: self.attempts,
            error: self.error,
        }
    }

    pub(crate) fn failure(&self, item: Option<u32>) -> Failure {
        let (class, message) = (self.error.class, self.error.message.clone());
        Failure { item, class, message, attempts: self.attempts }
    }
}

/// The budget of the fan-out that a task is part of.
#[derive(Clone, Copy)]
pub(crate) struct Fan<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) counter: &'a Counter,
}

/// Works on a task until it finishes, fails for good, or `stop` says that no further attempt is wanted.
pub(crate) async fn work(
    shared: &Arc<Shared>,
    place: Place,
    args: Args<'_>,
    fan: Option<Fan<'_>>,
    stop: impl Fn() -> bool,
) -> Result<Finished, Failed> {
    let retry = &args.node.retry;
    shared.publisher.publish(|| Event::TaskStarted {
        step: place.step,
        node: shared.plan.shared_name(place.node),
        item: place.item,
    });
    if let Some(cassette) = &shared.cassette {
        return cassette.play(shared, place);
    }
    let key = match keep::key(shared, args) {
        Ok(key) => key,
        Err(error) => return Err(Failed::new(error)),
    };
    if let Some(key) = key
        && let Some(kept) = keep::find(shared, key).await
    {
        return Ok(kept);
    }
    let mut attempts = 1;
    let mut usage = Usage::default();
    loop {
        let error = match attempt(shared, place, args, fan, attempts, &mut usage).await {
            Ok((writes, route)) => {
                let route = Some(route).filter(|route| !route.is_nothing()).map(Box::new);
                let finished = Finished { route, usage, ..Finished::with(attempts, writes) };
                if let Some(key) = key {
                    keep::keep(shared, args.node, key, &finished).await;
                }
                return Ok(finished);
            }
            Err(error) => error,
        };
        if let Some(cause) = error.suspended {
            return Err(Failed { attempts, error, usage, suspended: Some(cause) });
        }
        if attempts >= retry.attempts || !shared.plan.retries(place.node, error.class) || stop() {
            shared.publisher.publish(|| Event::TaskFailed {
                step: place.step,
                node: shared.plan.shared_name(place.node),
                item: place.item,
                attempts,
                class: error.class,
                error: error.message.clone(),
            });
            return Err(Failed { attempts, error, usage, suspended: None });
        }
        let wait = wait_before_next(retry, shared.run, place, attempts, error.retry_after);
        shared.publisher.publish(|| Event::TaskRetried {
            step: place.step,
            node: shared.plan.shared_name(place.node),
            item: place.item,
            attempt: attempts,
            class: error.class,
            error: error.message,
            wait,
        });
        tokio::time::sleep(wait).await;
        attempts = attempts.saturating_add(1);
    }
}

/// Makes one attempt; a panic in the node's code is an error of its own class.
async fn attempt(
    shared: &Arc<Shared>,
    place: Place,
    args: Args<'_>,
    fan: Option<Fan<'_>>,
    attempt: u32,
    usage: &mut Usage,
) -> Result<(Writes, Route), NodeError> {
    let graph = &shared.plan.graph;
    let mut left = shared.meter.admit(graph, place.node)?;
    if let Some(fan) = fan
        && let Some(time) = fan.counter.admit(fan.budget, "the fan-out")?
    {
        left = Some(left.map_or(time, |left| left.min(time)));
    }
    let side = Arc::new(Side::default());
    let ctx = Ctx {
        shared: Arc::clone(shared),
        side: Arc::clone(&side),
        node: place.node,
        step: place.step,
        item: place.item,
        attempt,
    };
    let timed = shared.meter.times() || fan.is_some_and(|fan| !fan.budget.is_unlimited());
    let began =
        if timed || args.node.idle_timeout.is_some() { shared.clock.monotonic() } else { Duration::ZERO };
    side.alive_at(began);
    let limit = match (args.node.timeout, left) {
        (Some(limit), Some(left)) => Some(limit.min(left)),
        (limit, left) => limit.or(left),
    };
    let work = async {
        let work = shared.plan.start(ctx, args)?;
        match (limit, args.node.idle_timeout) {
            (None, None) => work.await,
            (limit, None) => limited(limit, work).await,
            (limit, Some(idle)) => {
                tokio::select! {
                    biased;
                    result = limited(limit, work) => result,
                    () = silence(shared, &side, idle) => {
                        Err(NodeError::new(ErrorClass::Timeout, format!("no sign of life for {idle:?}")))
                    }
                }
            }
        }
    };
    let result = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(panicked(&*panic)),
    };
    let (mut spent, route) = side.take();
    if timed {
        let took = shared.clock.monotonic().saturating_sub(began);
        spent.ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        spent.tasks = 1;
    }
    if !spent.is_nothing() {
        shared.meter.add(place.node, spent);
        if let Some(fan) = fan {
            fan.counter.add(spent);
        }
        usage.add(spent);
    }
    Ok((result?, route))
}

/// The error of a panic.
fn panicked(panic: &(dyn std::any::Any + Send)) -> NodeError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    NodeError::new(ErrorClass::Panic, format!("the node panicked: {text}"))
}

async fn limited<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, NodeError>>,
) -> Result<T, NodeError> {
    match limit {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(NodeError::new(ErrorClass::Timeout, format!("no result within {limit:?}")))
        }),
    }
}

/// Ends when a task has given no sign of life for so long.
async fn silence(shared: &Shared, side: &Side, idle: Duration) {
    loop {
        let quiet = shared.clock.monotonic().saturating_sub(side.last_alive());
        match idle.checked_sub(quiet) {
            Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
            _ => return,
        }
    }
}

/// The wait after a failed attempt: grows each time; half of it is spread, so that tasks that failed together do
/// not come back together. The same task always waits the same.
fn wait_before_next(
    retry: &Retry,
    run: RunId,
    place: Place,
    attempt: u32,
    asked: Option<Duration>,
) -> Duration {
    let exponent = i32::try_from(attempt.saturating_sub(1).min(64)).unwrap_or(64);
    let factor = (f64::from(retry.factor_percent) / 100.0).max(1.0).powi(exponent);
    let most = retry.max_backoff;
    let full = Duration::try_from_secs_f64(retry.backoff.as_secs_f64() * factor).unwrap_or(most).min(most);
    let wait = if retry.jitter {
        let (high, low) = run.uuid().as_u64_pair();
        let mut seed = high ^ low.rotate_left(32);
        for part in [
            u64::from(place.step),
            place.node.0 as u64,
            place.item.map_or(u64::MAX, u64::from),
            u64::from(attempt),
        ] {
            seed = mix(seed ^ part);
        }
        let spread = u32::try_from(seed % 1024).unwrap_or(0);
        full / 2 + (full / 2).saturating_mul(spread) / 1023
    } else {
        full
    };
    wait.max(asked.unwrap_or_default()).min(most)
}

/// Spreads the bits of a number (the finaliser of `SplitMix64`).
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_differ_between_tasks() {
        let retry = Retry {
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(1),
            ..Retry::default()
        };
        let run = RunId::stable(&["a run"]);
        let wait = |item, attempt| {
            wait_before_next(
                &retry,
                run,
                Place { step: 3, node: NodeIdx(1), item: Some(item) },
                attempt,
                None,
            )
        };
        for attempt in 1..40 {
            let full = Duration::from_millis(100)
                .saturating_mul(1 << (attempt - 1).min(20))
                .min(Duration::from_secs(1));
            assert!(wait(0, attempt) >= full / 2 && wait(0, attempt) <= full, "attempt {attempt}");
            assert_eq!(wait(0, attempt), wait(0, attempt));
        }
        assert_ne!(wait(0, 1), wait(1, 1));
    }

    #[test]
    fn a_service_may_ask_for_patience_within_the_limit() {
        let retry = Retry {
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_secs(5),
            ..Retry::default()
        };
        let place = Place { step: 0, node: NodeIdx(0), item: None };
        let wait = |asked| wait_before_next(&retry, RunId::stable(&[]), place, 1, Some(asked));
        assert_eq!(wait(Duration::from_secs(2)), Duration::from_secs(2));
        assert_eq!(wait(Duration::from_hours(2)), Duration::from_secs(5));
    }
}

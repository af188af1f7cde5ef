//! One task: its attempts, their time limit, the waits between them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::args::Args;
use super::ctx::Shared;
use super::event::Event;
use super::output::Writes;
use super::{Ctx, EngineErrorKind, ErrorClass, NodeError};
use crate::graph::{NodeIdx, Retry};
use crate::id::RunId;

/// A task's place in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) step: u32,
    pub(crate) node: NodeIdx,
    pub(crate) item: Option<u32>,
}

/// A task that finished.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) attempts: u32,
    pub(crate) writes: Writes,
}

/// A task that failed, with no attempt left.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) attempts: u32,
    pub(crate) error: NodeError,
}

impl Failed {
    pub(crate) fn kind(self, shared: &Shared, place: Place) -> EngineErrorKind {
        EngineErrorKind::Task {
            node: shared.plan.name(place.node).to_owned(),
            item: place.item,
            attempts: self.attempts,
            error: self.error,
        }
    }
}

/// Works on a task until it finishes, fails for good, or `stop` says that no further attempt is wanted.
pub(crate) async fn work(
    shared: &Arc<Shared>,
    place: Place,
    args: Args<'_>,
    stop: impl Fn() -> bool,
) -> Result<Finished, Failed> {
    let retry = &args.node.retry;
    let mut attempts = 1;
    shared.publisher.publish(|| Event::TaskStarted {
        step: place.step,
        node: shared.plan.shared_name(place.node),
        item: place.item,
    });
    loop {
        let error = match attempt(shared, place, args, attempts).await {
            Ok(writes) => return Ok(Finished { attempts, writes }),
            Err(error) => error,
        };
        if attempts >= retry.attempts || !shared.plan.retries(place.node, error.class) || stop() {
            shared.publisher.publish(|| Event::TaskFailed {
                step: place.step,
                node: shared.plan.shared_name(place.node),
                item: place.item,
                attempts,
                class: error.class,
                error: error.message.clone(),
            });
            return Err(Failed { attempts, error });
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
    attempt: u32,
) -> Result<Writes, NodeError> {
    let ctx =
        Ctx { shared: Arc::clone(shared), node: place.node, step: place.step, item: place.item, attempt };
    let work = async {
        let work = shared.plan.start(ctx, args)?;
        match args.node.timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
                Err(NodeError::new(ErrorClass::Timeout, format!("no result within {limit:?}")))
            }),
        }
    };
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            Err(NodeError::new(ErrorClass::Panic, format!("the node panicked: {text}")))
        }
    }
}

/// The wait after a failed attempt: doubles each time, half of it spread so that tasks that failed together do
/// not come back together. The same task always waits the same.
fn wait_before_next(
    retry: &Retry,
    run: RunId,
    place: Place,
    attempt: u32,
    asked: Option<Duration>,
) -> Duration {
    let factor = 2_u32.saturating_pow(attempt.saturating_sub(1).min(31));
    let full = retry.backoff.saturating_mul(factor).min(retry.max_backoff);
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
    let wait = full / 2 + (full / 2).saturating_mul(spread) / 1023;
    wait.max(asked.unwrap_or_default()).min(retry.max_backoff)
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

//! The gate before a provider: how many calls at once, how many a minute, and none for a while after it has failed again and
//! again. One a provider and address, shared by all roles of the process.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::error::ModelErrorKind;
use super::settings::Limits;

/// After so many failures in a row the circuit opens.
const FAILURES: u32 = 5;
/// How long it stays open the first time; doubles while the provider goes on failing.
const FIRST_OPEN: Duration = Duration::from_secs(20);
/// Longest time that it stays open.
const LONGEST_OPEN: Duration = Duration::from_mins(5);
/// Longest pause that a provider may ask of everybody.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);

/// The gate.
pub(super) struct Gate {
    slots: Semaphore,
    per_minute: Option<DefaultDirectRateLimiter>,
    circuit: Mutex<Circuit>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// How the provider did lately.
#[derive(Debug, Default)]
struct Circuit {
    /// Failures in a row.
    failures: u32,
    /// No call before this moment.
    open_until: Option<Instant>,
    /// How often it has opened in a row.
    opened: u32,
    /// Whether a single call is on its way to see how things stand.
    probing: bool,
    /// The provider asked everybody to wait until then.
    paused_until: Option<Instant>,
}

/// The right to make one request; a request that is dropped half-way gives back a probe without a verdict.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    is_probe: bool,
    settled: bool,
    _slot: Option<SemaphorePermit<'a>>,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        let quota = limits.per_minute.and_then(NonZeroU32::new).map(|per_minute| {
            // A minute's worth at once would be a burst that providers count against the second.
            let burst = NonZeroU32::new(per_minute.get().div_ceil(10)).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_minute(per_minute).allow_burst(burst))
        });
        Self {
            slots: Semaphore::new(limits.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            per_minute: quota,
            circuit: Mutex::default(),
        }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`ModelErrorKind::CircuitOpen`], at once, while the provider is given time.
    pub(super) async fn enter(&self) -> Result<Pass<'_>, ModelErrorKind> {
        self.check(false)?;
        let slot = self.slots.acquire().await.ok();
        loop {
            let pause = self.with(|circuit, now| {
                circuit.paused_until.and_then(|until| until.checked_duration_since(now))
            });
            match pause.filter(|pause| !pause.is_zero()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break,
            }
        }
        if let Some(limiter) = &self.per_minute {
            while let Err(early) = limiter.check() {
                tokio::time::sleep(early.wait_time_from(DefaultClock::default().now())).await;
            }
        }
        let is_probe = self.check(true)?;
        Ok(Pass { gate: self, is_probe, settled: false, _slot: slot })
    }

    /// Whether a call may be made; with `take`, whether it is the one that finds out how things stand.
    fn check(&self, take: bool) -> Result<bool, ModelErrorKind> {
        self.with(|circuit, now| {
            let Some(until) = circuit.open_until else { return Ok(false) };
            let left = until.saturating_duration_since(now);
            if !left.is_zero() {
                return Err(ModelErrorKind::CircuitOpen { failures: circuit.failures, left });
            }
            if circuit.probing {
                return Err(ModelErrorKind::CircuitOpen {
                    failures: circuit.failures,
                    left: Duration::from_secs(1),
                });
            }
            circuit.probing = take;
            Ok(take)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Circuit, Instant) -> T) -> T {
        act(&mut self.circuit.lock().unwrap_or_else(PoisonError::into_inner), Instant::now())
    }
}

impl Pass<'_> {
    /// Tells how the request went; gives whether the circuit opened just now.
    pub(super) fn settle(mut self, failure: Option<&ModelErrorKind>) -> bool {
        self.settled = true;
        let is_probe = self.is_probe;
        self.gate.with(|circuit, now| {
            if is_probe {
                circuit.probing = false;
            }
            match failure {
                Some(ModelErrorKind::RateLimited { retry_after: Some(wait), .. })
                    if *wait <= LONGEST_PAUSE =>
                {
                    circuit.paused_until = circuit.paused_until.max(Some(now + *wait));
                    false
                }
                Some(
                    ModelErrorKind::Server { .. }
                    | ModelErrorKind::Timeout { .. }
                    | ModelErrorKind::Connect(_),
                ) => {
                    circuit.failures = circuit.failures.saturating_add(1);
                    let is_open = circuit.open_until.is_some_and(|until| until > now);
                    let opens = !is_open && (is_probe || circuit.failures >= FAILURES);
                    if opens {
                        let factor = 2_u32.saturating_pow(circuit.opened.min(16));
                        let wait = FIRST_OPEN.saturating_mul(factor).min(LONGEST_OPEN);
                        circuit.opened += 1;
                        circuit.open_until = Some(now + wait);
                    }
                    opens
                }
                // Whatever it said, it answered.
                _ => {
                    (circuit.failures, circuit.opened, circuit.open_until) = (0, 0, None);
                    false
                }
            }
        })
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.settled {
            self.gate.with(|circuit, _| circuit.probing = false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> ModelErrorKind {
        ModelErrorKind::Server { status: 500, retry_after: None, said: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn after_failures_in_a_row_nobody_calls_until_one_has_tried() {
        let gate = Gate::new(Limits::default());
        for attempt in 1..=FAILURES {
            assert_eq!(gate.enter().await.unwrap().settle(Some(&failed())), attempt == FAILURES);
        }
        assert!(matches!(gate.enter().await, Err(ModelErrorKind::CircuitOpen { failures: 5, .. })));
        tokio::time::advance(FIRST_OPEN).await;
        let probe = gate.enter().await.unwrap();
        assert!(gate.enter().await.is_err(), "only one tries");
        assert!(probe.settle(Some(&failed())), "it opens again");
        tokio::time::advance(FIRST_OPEN).await;
        assert!(gate.enter().await.is_err(), "for longer");
        tokio::time::advance(FIRST_OPEN).await;
        drop(gate.enter().await.unwrap());
        let probe = gate.enter().await.expect("a probe that was dropped counts for nothing");
        assert!(!probe.settle(None));
        assert!(!gate.enter().await.unwrap().settle(Some(&failed())), "one failure is none");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_asks_for_patience_gets_it_from_everybody() {
        let gate = Gate::new(Limits::default());
        let limited =
            ModelErrorKind::RateLimited { retry_after: Some(Duration::from_secs(7)), said: String::new() };
        gate.enter().await.unwrap().settle(Some(&limited));
        let before = Instant::now();
        gate.enter().await.unwrap().settle(None);
        assert!(before.elapsed() >= Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_calls_at_once_than_agreed() {
        let gate = Gate::new(Limits { concurrency: 2, per_minute: None });
        let (first, second) = (gate.enter().await.unwrap(), gate.enter().await.unwrap());
        let third = tokio::time::timeout(Duration::from_secs(1), gate.enter()).await;
        assert!(third.is_err());
        first.settle(None);
        gate.enter().await.unwrap().settle(None);
        second.settle(None);
    }
}

//! What goes on while a sandbox runs, and how it ends: capture, patrol, view, timeout; then everything is saved.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;

use super::beat::Beat;
use super::snapshot::{Agent, Board};
use super::view::View;
use crate::capture::{Capture, Counters, Link, Status};
use crate::cli::failure::Failure;
use crate::clock::SharedClock;
use crate::supervise::Shutdown;
use crate::text;

/// How long something may be amiss before it is told.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the view is drawn.
const DRAW: Duration = Duration::from_millis(500);
/// Longest last look of the patrol. What it does not come to is pending, and is reviewed next time.
const LAST_LOOK: Duration = Duration::from_secs(20);

/// Why the watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Asked,
    /// Nothing happened for so long.
    Idle(Duration),
    /// There is nothing to watch any more; why.
    Gone(String),
    /// The sandbox does not hold; what got out.
    Escaped(String),
    /// A part of Sentrix failed for good.
    Failed,
}

/// A watch that goes on.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) board: &'a Board,
    pub(super) view: &'a View,
    pub(super) capture: &'a Capture,
    /// Nothing where nobody patrols.
    pub(super) beat: Option<&'a Beat<'a>>,
    /// Ends the watch after a time without activity.
    pub(super) timeout: Option<Duration>,
    pub(super) clock: &'a SharedClock,
    /// The process's own.
    pub(super) shutdown: &'a Shutdown,
    /// That of capture and door, which go on while OpenClaw ends.
    pub(super) services: &'a Shutdown,
}

impl Watch<'_> {
    /// Watches until something ends it. `tend` is what else has to be done meanwhile; it gives the reason why there is
    /// nothing left to watch. `prove` fails where the sandbox does not hold.
    ///
    /// # Errors
    /// What no later look of the patrol can mend.
    pub(super) async fn go_on(
        &self,
        tend: impl Future<Output = String>,
        prove: impl Future<Output = Result<(), String>>,
    ) -> Result<End, Failure> {
        let escaped = async {
            match prove.await {
                Ok(()) => std::future::pending().await,
                Err(why) => End::Escaped(why),
            }
        };
        let end = tokio::select! {
            () = self.shutdown.drain().cancelled() => End::Asked,
            () = self.services.drain().cancelled() => End::Failed,
            why = tend => End::Gone(why),
            end = escaped => end,
            end = self.idle() => end,
            never = self.follow() => match never {},
            never = self.draw() => match never {},
            walked = self.patrol() => { walked?; End::Asked }
        };
        Ok(end)
    }

    /// After OpenClaw has ended: what it said last is recorded, and looked at.
    ///
    /// # Errors
    /// What no later look of the patrol can mend.
    pub(super) async fn save(&self) -> Result<Status, Failure> {
        self.capture.drain().await;
        let status = self.capture.status().borrow().clone();
        self.note(&status);
        if let Some(beat) = self.beat {
            self.view.doing("a last look at what was recorded");
            // The process is draining already: the look has a shutdown of its own, and its time.
            let last = Shutdown::new();
            let look = beat.look(self.board, self.view, &last);
            if let Ok(looked) = tokio::time::timeout(LAST_LOOK, look).await {
                looked?;
            }
        }
        Ok(status)
    }

    async fn patrol(&self) -> Result<(), Failure> {
        let Some(beat) = self.beat else { return std::future::pending().await };
        let mut status = self.capture.status();
        let mut seen = 0;
        let recorded = async || {
            while let Ok(()) = status.changed().await {
                let now = recorded(&status.borrow_and_update());
                if now != seen {
                    seen = now;
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        beat.walk(recorded, (self.board, self.view), self.shutdown).await
    }

    async fn draw(&self) -> Infallible {
        loop {
            self.view.show(&self.board.read());
            tokio::time::sleep(DRAW).await;
        }
    }

    /// Puts what the capture says onto the board.
    async fn follow(&self) -> Infallible {
        let mut status: watch::Receiver<Status> = self.capture.status();
        let mut told: Option<String> = None;
        let mut began: Option<Duration> = None;
        loop {
            let now = status.borrow_and_update().clone();
            let time = self.clock.monotonic();
            match trouble(&now) {
                None => (told, began) = (None, None),
                // A connection that is made again at once is nothing to tell.
                Some(trouble) => {
                    let since = *began.get_or_insert(time);
                    if time.saturating_sub(since) >= PATIENCE && told.as_ref() != Some(&trouble) {
                        let said = format!("capture: {}", text::plain(&trouble));
                        self.view.say(&crate::cli::printer::bold(said));
                        told = Some(trouble);
                    }
                }
            }
            self.note(&now);
            if status.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn note(&self, status: &Status) {
        let sum = |part: fn(&Counters) -> u64| part(&status.raw) + part(&status.gateway);
        let agents: Vec<Agent> = status
            .sessions
            .iter()
            .map(|(key, session)| Agent {
                key: text::plain(key),
                label: text::plain(session.label.as_deref().unwrap_or(key)),
                parent: session.parent.as_deref().map(text::plain),
                active: session.active_run.is_some(),
            })
            .collect();
        self.board.update(|now| {
            let capture = &mut now.capture;
            capture.seen = sum(|counters| counters.seen);
            capture.recorded = sum(|counters| counters.recorded);
            capture.waiting = sum(|counters| counters.held);
            capture.unreadable = sum(|counters| counters.unreadable);
            capture.lost = sum(|counters| counters.dropped);
            capture.lag_ms = status.lag_ms;
            capture.incidents = status.incidents.values().sum();
            capture.trouble = trouble(status);
            now.agents = agents;
        });
    }

    /// Comes back when nothing has happened for as long as the timeout.
    async fn idle(&self) -> End {
        let Some(limit) = self.timeout else {
            return std::future::pending().await;
        };
        let mut heard: Option<i64> = None;
        let mut since = self.clock.monotonic();
        loop {
            let last = self.capture.status().borrow().last_activity;
            let now = self.clock.monotonic();
            if last != heard {
                heard = last;
                since = now;
            }
            let quiet = now.saturating_sub(since);
            if quiet >= limit {
                return End::Idle(limit);
            }
            self.board.update(|now| now.ends_in_s = Some(limit.saturating_sub(quiet).as_secs()));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// How much is in the log.
pub(super) fn recorded(status: &Status) -> u64 {
    status.raw.recorded + status.gateway.recorded
}

/// Why nothing comes in, where nothing does.
fn trouble(status: &Status) -> Option<String> {
    match (&status.blocked, &status.link) {
        (Some(why), _) => Some(format!("the log cannot be written, everything waits: {why}")),
        (None, Link::Down(why)) => Some(format!("the gateway is not heard: {why}")),
        _ if !status.is_balanced() => Some(String::from("its counters do not add up; please report it")),
        _ => None,
    }
}

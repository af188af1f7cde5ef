//! Patrol and police beside the sandbox: a look whenever something was recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use super::snapshot::{Board, Patrol};
use super::view::View;
use crate::case::Severity;
use crate::cli::args::Format;
use crate::cli::failure::Failure;
use crate::cli::look::{Wanted, look};
use crate::cli::patrol::show_look;
use crate::cli::printer;
use crate::cli::progress::Progress;
use crate::cli::spending::Today;
use crate::cli::world::{World, store_failure};
use crate::police::Station;
use crate::supervise::Shutdown;
use crate::text;

/// Longest time between two looks: what waits for another try is due by the clock.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Time for what belongs together to come in.
const GATHER: Duration = Duration::from_millis(400);

/// Where patrol and police work, and what they are to do.
#[derive(Debug)]
pub(super) struct Beat<'a> {
    pub(super) world: &'a World,
    pub(super) station: &'a Station<'a>,
    pub(super) wanted: Wanted,
}

impl Beat<'_> {
    /// Looks until everything drains; `recorded` resolves when something new was recorded.
    ///
    /// # Errors
    /// What no later look can mend.
    pub(super) async fn walk(
        &self,
        mut recorded: impl AsyncFnMut(),
        (board, view): (&Board, &View),
        shutdown: &Shutdown,
    ) -> Result<(), Failure> {
        while !shutdown.drain().is_cancelled() {
            self.look(board, view, shutdown).await?;
            tokio::select! {
                () = shutdown.drain().cancelled() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = recorded() => tokio::time::sleep(GATHER).await,
            }
        }
        Ok(())
    }

    /// One look, whose outcome goes onto the board and into the view.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub(super) async fn look(&self, board: &Board, view: &View, shutdown: &Shutdown) -> Result<(), Failure> {
        let trouble = match look(self.world, self.station, self.wanted, &Progress::none(), shutdown).await {
            Ok(report) => {
                if report.says_something() {
                    view.aside(|| show_look(self.world, &report, Format::Table))?;
                }
                None
            }
            // A full disk or a store that is locked for long may pass; what was not recorded is pending still.
            Err(Failure::Unavailable(error)) => Some(text::causes(error.as_ref())),
            Err(failure) => return Err(failure),
        };
        if let Some(trouble) = &trouble {
            let known = board.read().patrol.and_then(|patrol| patrol.trouble);
            if known.as_ref() != Some(trouble) {
                view.say(&printer::bold(format!(
                    "a look failed, the next one tries again: {}",
                    text::plain(trouble)
                )));
            }
        }
        let patrol = self.standing(trouble)?;
        let spend =
            self.world.usage.as_ref().map(|usage| Today::of(Some(usage), &self.world.config)).transpose()?;
        board.update(|now| {
            now.patrol = Some(patrol);
            now.spend = spend.map(|today| today.line());
        });
        Ok(())
    }

    /// Where patrol and police stand.
    fn standing(&self, trouble: Option<String>) -> Result<Patrol, Failure> {
        let (patrol, police) = (&self.world.patrol.store, &self.world.police.police);
        let turns = patrol.counts().map_err(store_failure)?;
        let mut flags: BTreeMap<Severity, u64> = BTreeMap::new();
        for flag in patrol.flags(None).map_err(store_failure)?.into_iter().filter_map(|row| row.flag) {
            *flags.entry(flag.consensus_severity).or_default() += 1;
        }
        Ok(Patrol {
            reviewed: turns.clean + turns.flagged,
            pending: turns.pending,
            unreviewed: turns.unreviewed,
            unreadable: turns.rejected_entries,
            flags: flags.into_iter().rev().collect(),
            cases: police.case_count().map_err(store_failure)?,
            waiting_cases: police.queue_counts().map_err(store_failure)?.waiting,
            trouble,
            ..Patrol::default()
        })
    }
}

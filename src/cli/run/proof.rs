//! The proof that a sandbox holds: programs try to get out while OpenClaw loads, an agent tries as soon as it is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::snapshot::Board;
use super::view::View;
use crate::cli::failure::Failure;
use crate::cli::printer::bold;
use crate::cli::sandbox::failure as sandbox_failure;
use crate::clock::SharedClock;
use crate::door::Door;
use crate::sandbox::selftest::{Ask, Probe, Report, Row};
use crate::sandbox::{Engine, Layout, SandboxError};

/// A proof under way.
#[derive(Debug)]
pub(super) struct Proof {
    ask: Ask,
    probe: Probe,
    rows: Vec<Row>,
    took: Duration,
    /// What the door refused these programs: no agent's attempts.
    refused_at_door: AtomicU64,
}

impl Proof {
    /// What will be asked of this sandbox.
    pub(super) fn new(ask: Ask) -> Self {
        Self {
            ask,
            probe: Probe::new(),
            rows: Vec::new(),
            took: Duration::ZERO,
            refused_at_door: AtomicU64::new(0),
        }
    }

    /// Names of what no agent does.
    pub(super) fn names(&self) -> Vec<String> {
        self.probe.names()
    }

    /// The tries of programs; they need no OpenClaw.
    ///
    /// # Errors
    /// Where nothing can be run in the container.
    pub(super) async fn programs(
        &self,
        engine: &Engine,
        layout: &Layout,
        door: Option<&Door>,
    ) -> Result<Vec<Row>, SandboxError> {
        let denied = || door.map_or(0, |door| door.counters().denied);
        let before = denied();
        let rows = engine.self_test_inside(layout.name(), &self.ask).await;
        self.refused_at_door.store(denied().saturating_sub(before), Ordering::Relaxed);
        rows
    }

    /// How often the door refused the tries of programs.
    pub(super) fn refused_at_door(&self) -> u64 {
        self.refused_at_door.load(Ordering::Relaxed)
    }

    /// Judges them: one that got out is the end.
    ///
    /// # Errors
    /// [`Failure::Refused`] where the sandbox does not hold.
    pub(super) fn judge(
        &mut self,
        rows: Result<Vec<Row>, SandboxError>,
        took: Duration,
        (layout, clock, view): (&Layout, &SharedClock, &View),
    ) -> Result<(), Failure> {
        self.rows = rows.map_err(|error| sandbox_failure(&error))?;
        self.took = took;
        let report = Report::new(self.rows.clone(), took, clock);
        tell(&report.rows, view);
        if report.red().next().is_none() {
            return Ok(());
        }
        layout.write_self_test(&report).map_err(|error| sandbox_failure(&error))?;
        Err(Failure::Refused(broken(&report)))
    }

    /// The tries of an agent, after those of programs where they were not made yet: a turn of its own, beside the others. OpenClaw hears its channels as soon as it is ready,
    /// with or without this, so nobody waits for it; one that gets out ends the run.
    ///
    /// # Errors
    /// What to say where the sandbox does not hold, or nothing could be tried.
    pub(super) async fn agent(
        &self,
        engine: &Engine,
        layout: &Layout,
        door: Option<&Door>,
        (board, view, clock): (&Board, &View, &SharedClock),
    ) -> Result<(), String> {
        let began = clock.monotonic();
        let token = layout.token().map_err(|error| error.to_string())?;
        let mut rows = self.rows.clone();
        if rows.is_empty() {
            let programs = self.programs(engine, layout, door).await;
            rows = programs.map_err(|error| format!("the self-test could not be made: {error}"))?;
            tell(&rows, view);
        }
        let tools = engine
            .self_test_tools(layout, &token, &self.ask, &self.probe)
            .await
            .map_err(|error| format!("the self-test could not be made: {error}"))?;
        tell(&tools, view);
        let took = self.took + clock.monotonic().saturating_sub(began);
        rows.extend(tools);
        let report = Report::new(rows, took, clock);
        layout.write_self_test(&report).map_err(|error| error.to_string())?;
        board.update(|now| now.sandbox.self_test = Some((report.refused(), report.rows.len())));
        if report.red().next().is_some() {
            return Err(broken(&report));
        }
        view.say(&format!("✓ {}", report.summary()));
        Ok(())
    }
}

fn broken(report: &Report) -> String {
    format!("the sandbox does not hold: {}; nothing is left running", report.summary())
}

/// Each row is logged; what was not refused is said.
fn tell(rows: &[Row], view: &View) {
    for row in rows {
        if row.is_red() || row.is_untried() {
            view.say(&bold(row.to_string()));
        }
        tracing::info!(id = row.id, guard = row.guard.word(), outcome = %row, "escape tried");
    }
}

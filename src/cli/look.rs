//! One look at a log directory: a sweep where anything is new, then the investigations that wait.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, json};

use super::args::threshold;
use super::failure::Failure;
use super::progress::Progress;
use super::spending::{Before, Spending};
use super::world::{World, station_failure, store_failure, workflow_failure};
use crate::case::{CaseFile, PatrolFlag};
use crate::config::Escalation;
use crate::engine::{RunFilter, RunStatus};
use crate::logs;
use crate::patrol::SweepSummary;
use crate::police::{Concluded, Station};
use crate::store::patrol_state::Due;
use crate::supervise::Shutdown;
use crate::text;

/// Name of the graph a sweep runs.
const GRAPH: &str = "patrol";

/// What is wanted of a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Looks follow one another: what failed is left for a while before it is tried again.
    pub(super) watch: bool,
    /// Flags are investigated.
    pub(super) police: bool,
    /// From which severity on; else as configured.
    pub(super) escalation: Option<Escalation>,
}

/// What one look at the directory came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Version of this format.
    version: u32,
    pub(super) log_dir: String,
    /// Empty where nothing was new.
    pub(super) sweeps: Vec<SweepSummary>,
    /// New and grown flags.
    pub(super) flags: Vec<PatrolFlag>,
    /// Cases concluded.
    pub(super) cases: Vec<CaseFile>,
    /// Investigations that failed, with the reason.
    pub(super) failed_investigations: BTreeMap<String, String>,
    /// Whether it was stopped before it was done.
    pub(super) interrupted: bool,
    /// Whether an outside service failed.
    pub(super) outside_failed: bool,
    /// Log entries in the whole directory that could not be read.
    pub(super) unreadable_entries: u64,
    /// Turns in the whole directory that were given up as unreviewed.
    pub(super) unreviewed: u64,
    /// Whether turns still wait for a review.
    pub(super) waiting: bool,
    /// Graphs and prompts in use that are not the built-in ones.
    pub(super) changed_workflows: Vec<String>,
    /// What models were asked, and what it cost; none where no model is asked.
    pub(super) models: Option<Spending>,
}

impl Report {
    /// Whether a look of the watch brought anything that a person wants to see.
    pub(super) fn says_something(&self) -> bool {
        self.sweeps
            .iter()
            .any(|sweep| sweep.reviewed + sweep.pending + sweep.unreviewed + sweep.read.rejected > 0)
            || !self.flags.is_empty()
            || !self.cases.is_empty()
            || !self.failed_investigations.is_empty()
    }
}

/// Looks once: what was cut off first, then what is new, then what the police has to do.
///
/// # Errors
/// Where a store, a log directory or a graph cannot be used.
pub(super) async fn look(
    world: &World,
    station: &Station<'_>,
    wanted: Wanted,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<Report, Failure> {
    let mut report =
        Report { version: 1, log_dir: world.paths.logs.display().to_string(), ..Report::default() };
    let before = Before::of(world)?;
    let versions = &world.patrol.settings.versions;
    let request = json!({ "log_dir": report.log_dir, "ruleset_version": versions.ruleset, "model_version": versions.model,
        "due_only": wanted.watch });
    // Who asks for one look wants to know now; the watch leaves a service that is down some time.
    let due = if wanted.watch { Due::At(world.patrol.clock.now().as_millisecond()) } else { Due::All };
    // A sweep that was cut off goes on where it was, before a new one starts.
    let cut_off = RunFilter { graph: Some(GRAPH.into()), limit: Some(16), ..RunFilter::default() };
    for run in world.host.runs(cut_off).await.map_err(workflow_failure)? {
        if !matches!(run.status, RunStatus::Running | RunStatus::Interrupted) {
            continue;
        }
        // Votes of other rules or of another model must not pass for those of the present ones. What it would have
        // reviewed is pending still, and the next sweep does it.
        let began = world.host.load(run.run).await.map_err(workflow_failure)?.input;
        let same = |key| began.get("request").and_then(|began| began.get(key)) == request.get(key);
        if !same("ruleset_version") || !same("model_version") {
            tracing::debug!(run_id = %run.run, "a sweep that was cut off began under other versions and is left");
            continue;
        }
        progress.say("going on with the sweep that was cut off");
        match world.host.resume(run.run, progress.options("patrol", shutdown)).await {
            Ok(outcome) => take(&mut report, &outcome),
            // What it would have reviewed is pending still: the next sweep does it.
            Err(error) => {
                let error = text::causes(&error);
                tracing::warn!(run_id = %run.run, error, "a sweep that was cut off cannot go on");
            }
        }
    }
    if !report.interrupted && has_work(world, due)? {
        let mut input = Map::new();
        input.insert("request".into(), request);
        let outcome = world
            .host
            .run(GRAPH, input, progress.options("patrol", shutdown))
            .await
            .map_err(workflow_failure)?;
        take(&mut report, &outcome);
    }
    if wanted.police && !report.interrupted {
        investigate(world, station, wanted, progress, shutdown, &mut report).await?;
    }
    for id in report.sweeps.iter().flat_map(|sweep| sweep.new_flags.iter().chain(&sweep.updated_flags)) {
        if report.flags.iter().any(|known| known.flag_id == *id) {
            continue;
        }
        if let Some(flag) = world.patrol.store.flag(id).map_err(store_failure)? {
            report.flags.push(flag);
        }
    }
    report.flags.sort_by_key(|flag| std::cmp::Reverse(flag.consensus_severity));
    report.changed_workflows = world.host.library().changed();
    report.unreadable_entries = world.patrol.store.rejected_entries().map_err(store_failure)?;
    report.waiting = world.patrol.store.has_pending(Due::All).map_err(store_failure)?;
    report.unreviewed = world.patrol.store.unreviewed().map_err(store_failure)?;
    report.models = before.map(|before| before.spending(world)).transpose()?;
    Ok(report)
}

fn take(report: &mut Report, outcome: &crate::engine::RunOutcome) {
    report.interrupted |= outcome.status != crate::engine::Outcome::Done;
    let summary = outcome.state.get("summary").cloned();
    if let Some(summary) = summary.and_then(|summary| serde_json::from_value::<SweepSummary>(summary).ok()) {
        report.outside_failed |= summary.outside_failed;
        report.sweeps.push(summary);
    }
}

/// Whether there is anything to read or review. Costs one look at each file's size and time.
fn has_work(world: &World, due: Due) -> Result<bool, Failure> {
    let store = &world.patrol.store;
    if store.has_pending(due).map_err(store_failure)?
        || store.is_outdated(&world.patrol.settings.versions).map_err(store_failure)?
    {
        return Ok(true);
    }
    let files = store.files().map_err(store_failure)?;
    let changed = logs::changed(&world.paths.logs, &files).map_err(|error| Failure::logs(&error))?;
    if changed.is_empty() {
        return Ok(false);
    }
    // A file that nobody may open is told once, not at every look; it is work again once it can be opened.
    let known = store.unreadable_files().map_err(store_failure)?;
    Ok(changed.iter().any(|name| {
        let path = world.paths.logs.join(name);
        let gone = || files.iter().any(|state| state.name == *name) && !path.exists();
        !known.contains(name) || gone() || std::fs::File::open(&path).is_ok()
    }))
}

async fn investigate(
    world: &World,
    station: &Station<'_>,
    wanted: Wanted,
    progress: &Progress,
    shutdown: &Shutdown,
    report: &mut Report,
) -> Result<(), Failure> {
    let escalation = wanted.escalation.unwrap_or(world.config.patrol().escalation);
    station.escalate(threshold(escalation)).map_err(station_failure)?;
    while !shutdown.drain().is_cancelled() {
        let concluded =
            station.next(None, progress.options("police", shutdown)).await.map_err(station_failure)?;
        match concluded {
            None => break,
            Some(Concluded::Case(case)) => report.cases.push(*case),
            Some(Concluded::Failed { flag_id, error, outside }) => {
                report.outside_failed |= outside;
                report.failed_investigations.insert(flag_id, error);
            }
            Some(Concluded::Interrupted { .. }) => report.interrupted = true,
        }
    }
    report.interrupted |= shutdown.drain().is_cancelled();
    Ok(())
}

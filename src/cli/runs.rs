//! `sentrix graph runs`, and how a run is named.

use serde_json::json;

use super::args::{Format, Global};
use super::failure::{self, Failure, Outcome};
use super::graph_args::View;
use super::police::pick;
use super::printer::{self, Page, moment, time};
use super::world::{World, workflow_failure};
use crate::engine::{RunFilter, RunStatus, RunSummary};
use crate::id::RunId;
use crate::text;

/// Lists runs.
pub(super) async fn list(global: &Global, limit: u32, view: &View) -> Outcome {
    let world = World::open(global, &view.place)?;
    let filter = RunFilter { limit: Some(limit as usize), ..RunFilter::default() };
    let runs = world.host.runs(filter).await.map_err(workflow_failure)?;
    if view.format == Format::Json {
        let runs: Vec<_> = runs
            .iter()
            .map(|run| {
                json!({ "run_id": run.run, "graph": run.graph, "graph_version": run.version, "hash": run.hash,
                    "status": status(run), "steps": run.steps, "error": run.error, "created_at": time(run.created_ms),
                    "updated_at": time(run.updated_ms), "held": run.held,
                    "forked_from": run.forked_from.map(|(from, step)| json!({ "run_id": from, "step": step })) })
            })
            .collect();
        printer::json(&json!({ "version": 1, "runs": runs }))?;
    } else if runs.is_empty() {
        printer::data("No runs.")?;
    } else {
        let mut table = Page::new(&["RUN", "GRAPH", "STATUS", "STEPS", "BEGAN", "NOTE"]);
        for run in &runs {
            table.row([
                short_run(run.run),
                format!("{} v{}", text::plain(&run.graph), run.version),
                status(run).to_owned(),
                run.steps.to_string(),
                moment(run.created_ms),
                text::bounded(&text::plain(&note(run)), 160),
            ]);
        }
        printer::data(table)?;
    }
    Ok(failure::DONE)
}

/// What there is to say of a run in a list: held, forked, why it is not done.
pub(super) fn note(run: &RunSummary) -> String {
    let mut parts = Vec::new();
    parts.extend(run.held.as_ref().map(|reason| format!("held: {reason}")));
    parts.extend(run.forked_from.map(|(from, step)| format!("fork of {}@{step}", short_run(from))));
    parts.extend(run.error.clone().filter(|_| run.status != RunStatus::Waiting));
    parts.join("; ")
}

/// Where a run stands; one without a live owner was cut off.
pub(super) fn status(run: &RunSummary) -> &'static str {
    match run.status {
        RunStatus::Running if !run.live => "cut off",
        status => status.as_str(),
    }
}

/// Enough of a run's id to name it.
pub(super) fn short_run(run: RunId) -> String {
    run.to_string().chars().take(18).collect()
}

/// A run by id, unique prefix or number (1 is the latest). Runs inside others are found by their ids.
pub(super) async fn find_run(world: &World, asked: &str) -> Result<RunId, Failure> {
    find_run_of(world, asked, None).await
}

/// The same among the runs of one graph.
pub(super) async fn find_run_of(world: &World, asked: &str, graph: Option<&str>) -> Result<RunId, Failure> {
    let filter = RunFilter { graph: graph.map(str::to_owned), ..RunFilter::default() };
    let outer = world.host.runs(filter.clone()).await.map_err(workflow_failure)?;
    let found = match find(asked, &outer) {
        // Not one of those, and long enough to be the head of an id.
        Err(Failure::Usage(_)) if asked.len() >= 8 => {
            let filter = RunFilter { children: true, ..filter };
            find(asked, &world.host.runs(filter).await.map_err(workflow_failure)?)?
        }
        found => found?,
    };
    found.ok_or_else(|| {
        Failure::Usage(format!("there is no run `{}`", text::bounded(&text::plain(asked), 80)))
    })
}

fn find(asked: &str, runs: &[RunSummary]) -> Result<Option<RunId>, Failure> {
    let ids: Vec<String> = runs.iter().map(|run| run.run.to_string()).collect();
    let index = pick(asked, "run", ids.iter().map(String::as_str))?;
    Ok(runs.get(index).map(|run| run.run))
}

//! `sentrix graph runs|history|resume`

use serde_json::json;

use super::args::{Format, Global, Where};
use super::failure::{self, Failure, Outcome};
use super::graph::finished;
use super::police::pick;
use super::printer::{self, Page, bold, count, dim};
use super::progress::Progress;
use super::world::{DirLock, World, workflow_failure};
use crate::engine::{RunFilter, RunStatus, RunSummary};
use crate::id::RunId;
use crate::supervise::Shutdown;
use crate::text;

/// Lists runs.
pub(super) async fn list(global: &Global, limit: u32, place: &Where, format: Format) -> Outcome {
    let world = World::open(global, place)?;
    let filter = RunFilter { limit: Some(limit as usize), ..RunFilter::default() };
    let runs = world.host.runs(filter).await.map_err(workflow_failure)?;
    if format == Format::Json {
        let runs: Vec<_> = runs
            .iter()
            .map(|run| {
                json!({ "run_id": run.run, "graph": run.graph, "graph_version": run.version, "hash": run.hash,
                    "status": status(run), "steps": run.steps, "error": run.error, "created_at": time(run.created_ms),
                    "updated_at": time(run.updated_ms) })
            })
            .collect();
        printer::json(&json!({ "version": 1, "runs": runs }))?;
    } else if runs.is_empty() {
        printer::data("No runs.")?;
    } else {
        let mut table = Page::new(&["RUN", "GRAPH", "STATUS", "STEPS", "BEGAN", "ERROR"]);
        for run in &runs {
            table.row([
                // Enough of the id to name it.
                run.run.to_string().chars().take(18).collect(),
                format!("{} v{}", text::plain(&run.graph), run.version),
                status(run).to_owned(),
                run.steps.to_string(),
                time(run.created_ms).replace('T', " ").trim_end_matches('Z').to_owned(),
                text::bounded(&text::plain(run.error.as_deref().unwrap_or_default()), 160),
            ]);
        }
        printer::data(table)?;
    }
    Ok(failure::DONE)
}

/// Where a run stands; one without a live owner was cut off.
fn status(run: &RunSummary) -> &'static str {
    match run.status {
        RunStatus::Running if !run.live => "cut off",
        status => status.as_str(),
    }
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map(|at| format!("{at:.0}")).unwrap_or_default()
}

/// A run by id, unique prefix or number (1 is the latest).
pub(super) async fn find_run(world: &World, asked: &str, graph: Option<&str>) -> Result<RunId, Failure> {
    let filter = RunFilter { graph: graph.map(str::to_owned), ..RunFilter::default() };
    let runs = world.host.runs(filter).await.map_err(workflow_failure)?;
    let ids: Vec<String> = runs.iter().map(|run| run.run.to_string()).collect();
    let index = pick(asked, "run", ids.iter().map(String::as_str))?;
    runs.get(index)
        .map(|run| run.run)
        .ok_or_else(|| Failure::Usage(format!("there is no run `{}`", text::plain(asked))))
}

/// Shows a run step by step.
pub(super) async fn history(global: &Global, run: &str, place: &Where, format: Format) -> Outcome {
    let world = World::open(global, place)?;
    let run = find_run(&world, run, None).await?;
    let record = world.host.load(run).await.map_err(workflow_failure)?;
    let steps = world.host.history(run).await.map_err(workflow_failure)?;
    if format == Format::Json {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| {
                let tasks: Vec<_> = step
                    .tasks
                    .iter()
                    .map(|task| {
                        json!({ "node": task.node, "item": task.item, "attempts": task.attempts,
                            "writes": task.writes.iter().map(|(channel, value)| json!({ "channel": channel, "value": value }))
                                .collect::<Vec<_>>() })
                    })
                    .collect();
                json!({ "step": step.step, "at": time(step.at_ms), "finished": step.finished, "tasks": tasks,
                    "next": step.next })
            })
            .collect();
        printer::json(&json!({ "version": 1, "run_id": run, "graph": record.definition.graph,
            "status": status(&record.summary), "input": record.input, "steps": steps }))?;
        return Ok(failure::DONE);
    }
    let mut lines = vec![format!(
        "{}  {} v{}, {}",
        bold(format!("run {run}")),
        text::plain(&record.definition.graph),
        record.definition.version,
        status(&record.summary)
    )];
    if let Some(error) = &record.summary.error {
        lines.push(format!("  {}", text::plain(error)));
    }
    for step in &steps {
        let finished = if step.finished { "" } else { ", not finished" };
        lines.push(format!(
            "{}  {}{finished}",
            bold(format!("step {:>3}", step.step)),
            dim(time(step.at_ms))
        ));
        let fanned = step.tasks.iter().filter(|task| task.item.is_some()).count();
        let shown = if fanned > 6 { 3 } else { usize::MAX };
        for (index, task) in step.tasks.iter().enumerate() {
            if index == shown {
                lines.push(dim(format!("    … {} more", count((step.tasks.len() - shown) as u64, "task"))));
                break;
            }
            let item = task.item.map(|item| format!(" #{item}")).unwrap_or_default();
            let tries =
                if task.attempts > 1 { format!(" (attempt {})", task.attempts) } else { String::new() };
            lines.push(format!("    {}{item}{tries}", text::plain(&task.node)));
            for (channel, value) in &task.writes {
                lines.push(format!(
                    "      {} = {}",
                    text::plain(channel),
                    text::bounded(&text::plain(&value.to_string()), 120)
                ));
            }
        }
        if step.finished {
            let next =
                if step.next.is_empty() { "end".to_owned() } else { text::plain(&step.next.join(", ")) };
            lines.push(format!("    → {next}"));
        }
    }
    printer::data(lines.join("\n"))?;
    Ok(failure::DONE)
}

/// Goes on with a run.
pub(super) async fn resume(
    global: &Global,
    run: &str,
    place: &Where,
    format: Format,
    shutdown: &Shutdown,
) -> Outcome {
    let world = World::open_to_work(global, place)?;
    let lock = DirLock::take(&world.paths)?;
    let run = find_run(&world, run, None).await?;
    let progress = Progress::new(global);
    let outcome = world.host.resume(run, progress.options("resume", shutdown)).await;
    progress.clear();
    let outcome = finished(&world, outcome, format);
    drop(lock);
    outcome
}

//! `sentrix graph diff`

use std::sync::Arc;

use serde_json::json;

use super::args::{Format, Global, Where};
use super::failure::{self, Failure, Outcome};
use super::graph_args::View;
use super::printer::{self, bold, count};
use super::runs::{find_run, short_run};
use super::world::{World, dry_host, paths, workflow_failure};
use crate::engine::{Definition, EngineErrorKind, RunStatus};
use crate::graph::{self, Graph};
use crate::id::RunId;
use crate::text;
use crate::workflow::{Host, WorkflowError};

/// One side of a comparison.
struct Side {
    graph: Arc<Graph>,
    /// What it is called.
    name: String,
    /// The run that keeps it, if it is of one.
    run: Option<RunId>,
}

/// Shows what changed between two graphs, and whether runs can go on.
pub(super) async fn run(global: &Global, old: &str, new: Option<&str>, view: &View) -> Outcome {
    let host = dry_host(global)?;
    // Stores are opened only where a run is named.
    let mut world = None;
    let old = side(global, &host, &mut world, old, &view.place).await?;
    let new = match new {
        Some(new) => side(global, &host, &mut world, new, &view.place).await?,
        None => at_hand(&host, &old.graph.name)?,
    };
    let changes = graph::compare(&old.graph, &new.graph);
    let mut stops: Vec<String> = changes.iter().filter_map(|change| change.breaks.clone()).collect();
    let mut tried = None;
    if let (Some(run), Some(world)) = (old.run, &world) {
        // What would really happen to this run is worth more than what may happen to any.
        let read = |definition: &Definition| world.host.read(definition);
        let done = world.host.load(run).await.map_err(workflow_failure)?.summary.status == RunStatus::Done;
        stops.clear();
        match world.host.engine().can_upgrade(run, &new.graph, &read).await {
            Ok(()) if done => tried = Some("is done: nothing is left to go on with"),
            Ok(()) => tried = Some("can go on with it (sentrix graph resume --upgrade)"),
            Err(error) => match error.kind {
                EngineErrorKind::Upgrade(why) => {
                    tried = Some("cannot go on with it");
                    stops.push(why);
                }
                _ => return Err(super::world::engine_failure(&error)),
            },
        }
    }
    let goes_on = stops.is_empty();
    if view.format == Format::Json {
        let list: Vec<_> =
            changes.iter().map(|change| json!({ "what": change.what, "breaks": change.breaks })).collect();
        printer::json(&json!({ "version": 1, "old": old.name, "new": new.name, "run_id": old.run,
            "changes": list, "runs_can_continue": goes_on, "reasons": stops }))?;
    } else {
        let mut lines = vec![format!("{}  {} → {}", bold(text::plain(&old.graph.name)), old.name, new.name)];
        for change in &changes {
            lines.push(printer::fold(&format!("  {}", text::plain(&change.what)), "    "));
            if let Some(why) = &change.breaks {
                lines.push(printer::fold(&format!("    ! {}", text::plain(why)), "      "));
            }
        }
        if changes.is_empty() {
            lines.push("  nothing that a run would notice".to_owned());
        } else {
            lines.push(count(changes.len() as u64, "change"));
        }
        lines.push(match (old.run, tried) {
            (Some(run), Some(how)) => bold(format!("run {} {how}", short_run(run))),
            _ if goes_on => bold("live runs can go on with it"),
            _ => bold("live runs may not be able to go on with it"),
        });
        if old.run.is_some() {
            lines.extend(stops.iter().map(|why| printer::fold(&format!("  {}", text::plain(why)), "  ")));
        }
        printer::data(lines.join("\n"))?;
    }
    Ok(if goes_on { failure::DONE } else { failure::BAD_ANSWER })
}

/// The graph of that name at hand.
fn at_hand(host: &Host, name: &str) -> Result<Side, Failure> {
    let source = host.library().graph(name).map_err(workflow_failure)?;
    let graph = host.check(&source).map_err(workflow_failure)?;
    Ok(Side {
        name: format!("v{} ({})", graph.version, text::plain(&source.origin)),
        graph: Arc::new(graph),
        run: None,
    })
}

/// A graph by its name, its file or a run that keeps it.
async fn side(
    global: &Global,
    host: &Host,
    world: &mut Option<World>,
    asked: &str,
    place: &Where,
) -> Result<Side, Failure> {
    let no_graph = match host.library().graph(asked) {
        Ok(_) => return at_hand(host, asked),
        Err(error @ WorkflowError::NoSuchGraph { .. }) => error,
        Err(error) => return Err(workflow_failure(error)),
    };
    if !paths(global, place)?.checkpoints().is_file() {
        return Err(workflow_failure(no_graph));
    }
    if world.is_none() {
        *world = Some(World::open(global, place)?);
    }
    let Some(world) = world else { return Err(workflow_failure(no_graph)) };
    let Ok(run) = find_run(world, asked).await else {
        return Err(Failure::Usage(format!("{no_graph}, and no run of that id")));
    };
    let record = world.host.load(run).await.map_err(workflow_failure)?;
    let graph = world.host.kept(&record.definition).map_err(workflow_failure)?;
    let name = format!("v{} (kept by run {})", graph.version, short_run(run));
    Ok(Side { graph, name, run: Some(run) })
}

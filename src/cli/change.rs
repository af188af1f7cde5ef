//! `sentrix graph fork|edit|record`

use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{Format, Global, Where};
use super::failure::{self, Failure, Outcome};
use super::gates::who;
use super::graph_args::View;
use super::patrol::place_hint;
use super::printer::{self, bold, count, dim};
use super::runs::{find_run, short_run};
use super::start::resume_command;
use super::world::{World, engine_failure, store_failure, workflow_failure};
use crate::engine::Definition;
use crate::store::export;
use crate::text;

/// Makes a new run that begins where another one stood.
pub(super) async fn fork(global: &Global, run: &str, step: Option<u32>, view: &View) -> Outcome {
    let world = World::open(global, &view.place)?;
    let from = find_run(&world, run).await?;
    let engine = world.host.engine();
    let read = |definition: &Definition| world.host.read(definition);
    let step = match step {
        Some(step) => step,
        None => engine.stand(from, &read).await.map_err(|error| engine_failure(&error))?.step,
    };
    let run = engine.fork(from, step, &read).await.map_err(|error| engine_failure(&error))?;
    match view.format {
        Format::Json => {
            printer::json(&json!({ "version": 1, "run_id": run,
                "forked_from": { "run_id": from, "step": step } }))?;
        }
        Format::Table => printer::data(format_args!(
            "{}  begins where {from} stood before step {step}\n{}\n{}",
            bold(format!("run {run}")),
            dim(format!(
                "Change it: sentrix graph edit {} --set '{{…}}'{}",
                short_run(run),
                place_hint(&world)
            )),
            dim(format!("Go on: {}", resume_command(&world, run)))
        ))?,
    }
    Ok(failure::DONE)
}

/// Writes to the state of a run at rest.
pub(super) async fn edit(
    global: &Global,
    run: &str,
    (set, as_node, by): (Map<String, Value>, Option<&str>, Option<String>),
    view: &View,
) -> Outcome {
    let world = World::open(global, &view.place)?;
    let by = who(by)?;
    let run = find_run(&world, run).await?;
    let engine = world.host.engine();
    let read = |definition: &Definition| world.host.read(definition);
    engine.edit(run, as_node, set, &by, &read).await.map_err(|error| engine_failure(&error))?;
    let stand = engine.stand(run, &read).await.map_err(|error| engine_failure(&error))?;
    match view.format {
        Format::Json => printer::json(&json!({ "version": 1, "run_id": run, "step": stand.step,
            "state": stand.state, "next": stand.next, "waiting": stand.waiting }))?,
        Format::Table => {
            let mut lines = vec![format!("{}  edited by {}", bold(format!("run {run}")), text::plain(&by))];
            lines.extend(printer::channels(&stand.state, 2));
            let next: Vec<String> = stand
                .next
                .iter()
                .chain(&stand.waiting)
                .chain(stand.gates.iter().map(|gate| &gate.gate))
                .map(|node| text::plain(node))
                .collect();
            if next.is_empty() {
                lines.push(dim("  nothing is left to do"));
            } else {
                lines.push(dim(format!("  next: {}", next.join(", "))));
                lines.push(dim(format!("Go on: {}", resume_command(&world, run))));
            }
            printer::data(lines.join("\n"))?;
        }
    }
    Ok(failure::DONE)
}

/// Records what a run's tasks gave.
pub(super) async fn record(global: &Global, run: &str, output: &Path, place: &Where) -> Outcome {
    let world = World::open(global, place)?;
    let run = find_run(&world, run).await?;
    let record = world.host.load(run).await.map_err(workflow_failure)?;
    let graph = world.host.kept(&record.definition).map_err(workflow_failure)?;
    let cassette = world.host.engine().record(run, &graph).await.map_err(|error| engine_failure(&error))?;
    let text = serde_json::to_string_pretty(&cassette)
        .map_err(|error| Failure::Bug(anyhow::Error::new(error).context("cannot write JSON")))?;
    export::replace(output, &format!("{text}\n")).map_err(store_failure)?;
    printer::data(format_args!(
        "recorded {} of run {run} to {}",
        count(cassette.tasks.len() as u64, "task"),
        output.display()
    ))?;
    Ok(failure::DONE)
}

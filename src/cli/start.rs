//! `sentrix graph run|resume|replay`

use serde_json::{Map, Value, json};

use super::args::{Format, Global};
use super::events::Watch;
use super::failure::{self, Failure, Outcome};
use super::graph_args::{Going, View};
use super::printer::{self, bold, count, dim};
use super::runs::{find_run, short_run};
use super::world::{DirLock, World, engine_failure, workflow_failure};
use super::{gates, patrol};
use crate::engine::{self, EngineErrorKind, InterruptCause, RunOutcome};
use crate::id::RunId;
use crate::supervise::Shutdown;
use crate::workflow::WorkflowError;

/// Runs a graph.
pub(super) async fn start(
    global: &Global,
    name: &str,
    input: Map<String, Value>,
    going: &Going,
    view: &View,
    shutdown: &Shutdown,
) -> Outcome {
    let world = World::open_to_work(global, &view.place)?;
    let lock = DirLock::take(&world.paths)?;
    let watch = Watch::open(global, going)?;
    let outcome = world.host.run(name, input, watch.options(name, going, shutdown)).await;
    let outcome = finished(&world, outcome, watch, view.format).await;
    drop(lock);
    outcome
}

/// Goes on with a run; with `upgrade` from the graph that is at hand now.
pub(super) async fn resume(
    global: &Global,
    run: &str,
    upgrade: bool,
    going: &Going,
    view: &View,
    shutdown: &Shutdown,
) -> Outcome {
    let world = World::open_to_work(global, &view.place)?;
    let lock = DirLock::take(&world.paths)?;
    let asked = find_run(&world, run).await?;
    // A part of a run goes on with the whole.
    let run = world.host.outermost(asked).await.map_err(workflow_failure)?;
    if run != asked {
        printer::note(dim(format!("{asked} is part of {run}, which goes on")));
    }
    let watch = Watch::open(global, going)?;
    let options = watch.options("resume", going, shutdown);
    let outcome =
        if upgrade { world.host.upgrade(run, options).await } else { world.host.resume(run, options).await };
    let outcome = finished(&world, outcome, watch, view.format).await;
    drop(lock);
    outcome
}

/// Forks a run and runs the fork.
pub(super) async fn replay(
    global: &Global,
    run: &str,
    step: u32,
    going: &Going,
    view: &View,
    shutdown: &Shutdown,
) -> Outcome {
    let world = World::open_to_work(global, &view.place)?;
    let lock = DirLock::take(&world.paths)?;
    let from = find_run(&world, run).await?;
    let read = |definition: &engine::Definition| world.host.read(definition);
    let run = world.host.engine().fork(from, step, &read).await.map_err(|error| engine_failure(&error))?;
    printer::note(dim(format!("{run} is {from} again, from step {step}")));
    let watch = Watch::open(global, going)?;
    let outcome = world.host.resume(run, watch.options("replay", going, shutdown)).await;
    let outcome = finished(&world, outcome, watch, view.format).await;
    drop(lock);
    outcome
}

/// A JSON object from the command line or a file.
pub(super) fn object(option: &str, given: Option<&str>) -> Result<Map<String, Value>, Failure> {
    let Some(given) = given else { return Ok(Map::new()) };
    let text = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(path) => crate::text::read_file(path.as_ref())
            .map_err(|error| Failure::Usage(format!("{option}: cannot read {path}: {error}")))?,
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::Usage(format!("{option} takes a JSON object, as '{{\"channel\": \"…\"}}'"))),
        Err(error) => Err(Failure::Usage(format!("{option} is no JSON: {error}"))),
    }
}

/// Shows how a run came to rest.
pub(super) async fn finished(
    world: &World,
    outcome: Result<RunOutcome, WorkflowError>,
    watch: Watch,
    format: Format,
) -> Outcome {
    let to_stdout = !watch.takes_stdout();
    let watched = watch.close();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(WorkflowError::Engine(error)) => return Err(failed(world, &error)),
        Err(error) => return Err(workflow_failure(error)),
    };
    let waits = outcome.status == engine::Outcome::Interrupted(InterruptCause::Gate);
    let open = if waits { gates::of(world, outcome.run).await? } else { Vec::new() };
    let status = match outcome.status {
        engine::Outcome::Done => "done",
        engine::Outcome::Interrupted(InterruptCause::Gate) => "waiting",
        engine::Outcome::Interrupted(_) => "interrupted",
    };
    let done = outcome.status == engine::Outcome::Done;
    match format {
        Format::Json => {
            let object = json!({ "version": 1, "run_id": outcome.run, "done": done, "status": status,
                "steps": outcome.steps, "state": outcome.state, "used": printer::used_json(outcome.used),
                "gates": open.iter().map(gates::Open::json).collect::<Vec<_>>() });
            // After lines of events the outcome is one more line.
            if to_stdout { printer::json(&object)? } else { printer::json_line(&object)? }
        }
        Format::Table => {
            let text = lines(world, &outcome, &open).join("\n");
            if to_stdout { printer::data(text)? } else { printer::note(text) }
        }
    }
    watched?;
    Ok(match outcome.status {
        engine::Outcome::Done => failure::DONE,
        engine::Outcome::Interrupted(InterruptCause::Gate) => failure::REFUSED,
        engine::Outcome::Interrupted(_) => failure::INTERRUPTED,
    })
}

fn lines(world: &World, outcome: &RunOutcome, open: &[gates::Open]) -> Vec<String> {
    let steps = count(u64::from(outcome.steps), "superstep");
    let used = printer::used(outcome.used);
    let used = if used.is_empty() { used } else { format!(", {used}") };
    let how = match outcome.status {
        engine::Outcome::Done => "done after",
        engine::Outcome::Interrupted(InterruptCause::Gate) => "waits for an answer after",
        engine::Outcome::Interrupted(_) => "stopped after",
    };
    let mut lines = vec![format!("{}  {how} {steps}{used}", bold(format!("run {}", outcome.run)))];
    // A gate says itself what is to be known for its answer.
    if open.is_empty() {
        lines.extend(printer::channels(&outcome.state, 2));
    }
    for (index, gate) in open.iter().enumerate() {
        if index > 0 {
            lines.push(String::new());
        }
        lines.extend(gate.lines(world));
    }
    if matches!(outcome.status, engine::Outcome::Interrupted(cause) if cause != InterruptCause::Gate) {
        lines.push(dim(format!("Go on: {}", resume_command(world, outcome.run))));
    }
    lines
}

/// The command that goes on with a run.
pub(super) fn resume_command(world: &World, run: RunId) -> String {
    format!("sentrix graph resume {}{}", short_run(run), patrol::place_hint(world))
}

/// What to say of a run that failed.
fn failed(world: &World, error: &engine::EngineError) -> Failure {
    let place = patrol::place_hint(world);
    let run = error.run;
    match (&error.kind, engine_failure(error)) {
        (EngineErrorKind::Upgrade(_), Failure::Usage(said)) => Failure::Usage(format!(
            "{said}\n`sentrix graph diff {run}{place}` shows what changed; without --upgrade the run goes on with its own"
        )),
        (EngineErrorKind::Definition(_), Failure::Unavailable(said)) => Failure::Unavailable(said),
        (_, Failure::Unavailable(said)) => {
            Failure::Unavailable(anyhow::anyhow!("{said}\n`sentrix graph resume {run}{place}` goes on"))
        }
        (_, other) => other,
    }
}

//! `sentrix graph gates|answer`

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::args::{Format, Global};
use super::events::Watch;
use super::failure::{self, Failure, Outcome};
use super::graph_args::{Going, View};
use super::patrol::place_hint;
use super::printer::{self, bold, dim, moment, time, word};
use super::runs::short_run;
use super::start::{finished, resume_command};
use super::world::{DirLock, World, engine_failure, workflow_failure};
use crate::config::env;
use crate::engine::{Definition, GateView, RunFilter, RunStatus};
use crate::id::RunId;
use crate::supervise::Shutdown;
use crate::text;

/// A gate that waits, with the run to go on with once it is answered.
#[derive(Debug)]
pub(super) struct Open {
    view: GateView,
    graph: String,
    outermost: RunId,
}

impl Open {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let view = &self.view;
        json!({ "gate": view.gate, "run_id": view.run_id, "outermost_run_id": self.outermost, "graph": self.graph,
            "node": view.node, "ask": view.ask, "options": view.options, "who": view.who, "shows": view.shows,
            "since": time(view.since_ms), "until": view.until_ms.map(time), "on_timeout": view.on_timeout })
    }

    /// For people: what is asked, what is to be known for it, and the commands that answer.
    pub(super) fn lines(&self, world: &World) -> Vec<String> {
        let view = &self.view;
        let head =
            format!("{}  {}", bold(format!("gate {}", text::plain(&view.gate))), text::plain(&view.ask));
        let mut lines = vec![printer::fold(&head, "  ")];
        lines.push(format!("  of run {} ({})", view.run_id, text::plain(&self.graph)));
        lines.extend(printer::channels(&view.shows, 2));
        let mut terms = vec![format!("waits since {}", moment(view.since_ms))];
        if let Some(until) = view.until_ms {
            let then = view.on_timeout.as_deref().map(|option| format!(", then {}", text::plain(option)));
            terms.push(format!("until {}{}", moment(until), then.unwrap_or_default()));
        }
        if !view.who.is_empty() {
            terms.push(format!("for {}", text::plain(&view.who.join(" or "))));
        }
        lines.push(dim(printer::fold(&format!("  {}", terms.join(", ")), "  ")));
        // Whoever may answer is named where the user's own name is not among them.
        let by = match (view.who.first(), env::get(env::USER)) {
            (Some(_), Some(user)) if view.who.contains(&user) => String::new(),
            (Some(who), _) => format!(" --by {}", word(who)),
            (None, _) => String::new(),
        };
        for option in &view.options {
            lines.push(format!(
                "  sentrix graph answer {} {} --run {}{by}{}",
                word(&view.gate),
                word(option),
                short_run(view.run_id),
                place_hint(world)
            ));
        }
        lines
    }
}

/// The gates at which a run waits, those of runs inside it too.
pub(super) async fn of(world: &World, run: RunId) -> Result<Vec<Open>, Failure> {
    let mut open = waiting(world, None).await?;
    open.retain(|gate| gate.outermost == run || gate.view.run_id == run);
    Ok(open)
}

/// The gates that wait, oldest first. A run that cannot be read is said, and hides no other one.
async fn waiting(world: &World, also: Option<RunId>) -> Result<Vec<Open>, Failure> {
    let mut runs = BTreeMap::new();
    for status in [RunStatus::Waiting, RunStatus::Running] {
        let filter = RunFilter { status: Some(status), children: true, ..RunFilter::default() };
        let listed = world.host.runs(filter).await.map_err(workflow_failure)?;
        runs.extend(listed.into_iter().map(|run| (run.run, run.graph)));
    }
    if let Some(run) = also {
        let record = world.host.load(run).await.map_err(workflow_failure)?;
        runs.insert(run, record.definition.graph);
    }
    let read = |definition: &Definition| world.host.read(definition);
    let mut open = Vec::new();
    for (run, graph) in runs {
        match world.host.engine().gates(run, &read).await {
            Ok(views) if views.is_empty() => {}
            Ok(views) => {
                let outermost = world.host.outermost(run).await.map_err(workflow_failure)?;
                open.extend(views.into_iter().map(|view| Open { view, graph: graph.clone(), outermost }));
            }
            Err(error) => {
                let said = text::bounded(&text::plain(&text::causes(&error)), 400);
                printer::note(format_args!("its gates are not known: {said}"));
            }
        }
    }
    open.sort_by_key(|gate| gate.view.since_ms);
    Ok(open)
}

/// Lists the gates that wait.
pub(super) async fn list(global: &Global, view: &View) -> Outcome {
    let world = World::open(global, &view.place)?;
    let open = waiting(&world, None).await?;
    if view.format == Format::Json {
        let gates: Vec<_> = open.iter().map(Open::json).collect();
        printer::json(&json!({ "version": 1, "gates": gates }))?;
    } else if open.is_empty() {
        printer::data("No gate waits for an answer.")?;
    } else {
        let blocks: Vec<String> = open.iter().map(|gate| gate.lines(&world).join("\n")).collect();
        printer::data(blocks.join("\n\n"))?;
    }
    Ok(failure::DONE)
}

/// An answer as the command line gives it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) gate: String,
    pub(super) option: String,
    pub(super) run: Option<String>,
    pub(super) by: Option<String>,
    pub(super) note: Option<String>,
    pub(super) no_resume: bool,
}

/// Answers a gate and goes on with its run.
pub(super) async fn answer(global: &Global, given: Answer, view: &View, shutdown: &Shutdown) -> Outcome {
    let world = if given.no_resume {
        World::open(global, &view.place)?
    } else {
        World::open_to_work(global, &view.place)?
    };
    let by = who(given.by)?;
    let gate = find(&world, &given.gate, given.run.as_deref()).await?;
    if !gate.view.options.contains(&given.option) {
        return Err(Failure::Usage(format!(
            "`{}` is no option of gate {} (there are: {})",
            text::plain(&given.option),
            text::plain(&gate.view.gate),
            text::plain(&gate.view.options.join(", "))
        )));
    }
    let read = |definition: &Definition| world.host.read(definition);
    let stored = world
        .host
        .engine()
        .answer(gate.view.run_id, &gate.view.gate, (&given.option, &by, given.note), &read)
        .await
        .map_err(|error| engine_failure(&error))?;
    let said =
        format!("{}: {} by {}", text::plain(&stored.gate), text::plain(&stored.option), text::plain(&by));
    let run = gate.outermost;
    let is_live = world.host.load(run).await.map_err(workflow_failure)?.summary.live;
    if given.no_resume || is_live {
        match view.format {
            Format::Json => printer::json(&json!({ "version": 1, "run_id": gate.view.run_id,
                "outermost_run_id": run, "answer": stored, "live": is_live }))?,
            Format::Table => {
                let next = if is_live {
                    "the process that runs it takes the answer".to_owned()
                } else {
                    format!("Go on: {}", resume_command(&world, run))
                };
                printer::data(format_args!("answered {said}\n{}", dim(next)))?;
            }
        }
        return Ok(failure::DONE);
    }
    printer::note(dim(format!("answered {said}")));
    let lock = DirLock::take(&world.paths)?;
    let going = Going::default();
    let watch = Watch::open(global, &going)?;
    let outcome = world.host.resume(run, watch.options("resume", &going, shutdown)).await;
    let outcome = finished(&world, outcome, watch, view.format).await;
    drop(lock);
    outcome
}

/// Who does something: as the command line says, or the user.
pub(super) fn who(by: Option<String>) -> Result<String, Failure> {
    by.or_else(|| env::get(env::USER))
        .filter(|name| !name.trim().is_empty())
        .ok_or_else(|| Failure::Usage("who does this? Say so with --by NAME".to_owned()))
}

/// The gate that is meant: by its id or its node's name, of a run or of all.
async fn find(world: &World, asked: &str, run: Option<&str>) -> Result<Open, Failure> {
    let run = match run {
        Some(run) => Some(super::runs::find_run(world, run).await?),
        None => None,
    };
    let mut open = waiting(world, run).await?;
    if let Some(run) = run {
        open.retain(|gate| gate.view.run_id == run || gate.outermost == run);
    }
    let listed = |gates: &[Open]| {
        let name = |gate: &Open| format!("{} of run {}", text::plain(&gate.view.gate), gate.view.run_id);
        gates.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    if open.is_empty() {
        return Err(Failure::Usage(match run {
            Some(run) => format!("run {run} waits at no gate"),
            None => "no gate waits for an answer".to_owned(),
        }));
    }
    let (exact, other): (Vec<Open>, Vec<Open>) = open.into_iter().partition(|gate| gate.view.gate == asked);
    let (named, other): (Vec<Open>, Vec<Open>) = if exact.is_empty() {
        other.into_iter().partition(|gate| gate.view.node == asked)
    } else {
        (exact, other)
    };
    match <[Open; 1]>::try_from(named) {
        Ok([gate]) => Ok(gate),
        Err(named) if named.is_empty() => Err(Failure::Usage(format!(
            "no gate `{}` waits; these do: {}",
            text::bounded(&text::plain(asked), 80),
            listed(&other)
        ))),
        Err(named) => Err(Failure::Usage(format!(
            "more than one gate is meant: {}; say which, with its id and --run",
            listed(&named)
        ))),
    }
}

//! `sentrix graph history|state`

use serde_json::{Value, json};

use super::args::{Format, Global};
use super::failure::{self, Failure, Outcome};
use super::graph_args::View;
use super::printer::{self, bold, count, dim, moment, time};
use super::runs::{find_run, status};
use super::world::{World, engine_failure, workflow_failure};
use crate::engine::{
    Definition, Difference, EngineErrorKind, Failure as TaskFailure, GateAnswer, RunFilter, RunRecord,
    RunSummary, Stand, StepRecord, TaskRecord,
};
use crate::graph::NodeKind;
use crate::text;

/// Most tasks of a fan-out that are shown one by one.
const MOST_ITEMS: usize = 6;

/// Shows a run step by step.
pub(super) async fn history(global: &Global, run: &str, view: &View) -> Outcome {
    let world = World::open(global, &view.place)?;
    let run = find_run(&world, run).await?;
    let record = world.host.load(run).await.map_err(workflow_failure)?;
    let steps = world.host.history(run).await.map_err(workflow_failure)?;
    let read = |definition: &Definition| world.host.read(definition);
    // A run whose definition cannot be read any more still has a history.
    let stand = world.host.engine().stand(run, &read).await.ok();
    let parts = parts(&world, &record).await?;
    match view.format {
        Format::Json => printer::json(&as_json(&record, &steps, stand.as_ref(), &parts))?,
        Format::Table => printer::data(as_text(&record, &steps, stand.as_ref(), &parts))?,
    }
    Ok(failure::DONE)
}

/// The runs of the graphs inside a run's graph, oldest first.
async fn parts(world: &World, record: &RunRecord) -> Result<Vec<RunSummary>, Failure> {
    let has_graphs = world
        .host
        .kept(&record.definition)
        .is_ok_and(|graph| graph.nodes.iter().any(|node| matches!(node.kind, NodeKind::Graph(_))));
    if !has_graphs {
        return Ok(Vec::new());
    }
    let filter = RunFilter { children: true, ..RunFilter::default() };
    let mut runs = world.host.runs(filter).await.map_err(workflow_failure)?;
    runs.retain(|run| run.parent == Some(record.summary.run));
    runs.reverse();
    Ok(runs)
}

fn as_json(record: &RunRecord, steps: &[StepRecord], stand: Option<&Stand>, parts: &[RunSummary]) -> Value {
    let write = |(channel, value): &(String, Value)| json!({ "channel": channel, "value": value });
    let task = |task: &TaskRecord| {
        let writes: Vec<_> = task.writes.iter().map(write).collect();
        json!({ "node": task.node, "item": task.item, "attempts": task.attempts, "cached": task.attempts == 0,
            "writes": writes, "failure": task.failure, "used": printer::used_json(task.used) })
    };
    let step = |step: &StepRecord| {
        let failures: Vec<_> =
            step.failures.iter().map(|(node, failure)| json!({ "node": node, "failure": failure })).collect();
        json!({ "step": step.step, "at": time(step.at_ms), "finished": step.finished,
            "kind": step.kind.unwrap_or("superstep"), "tasks": step.tasks.iter().map(task).collect::<Vec<_>>(),
            "failures": failures, "answer": step.answer, "next": step.next, "waiting": step.waiting,
            "gates": step.gates, "versions": step.versions,
            "edits": step.edits.iter().map(write).collect::<Vec<_>>() })
    };
    json!({ "version": 1, "run_id": record.summary.run, "graph": record.definition.graph,
        "status": status(&record.summary), "input": record.input,
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
        "forked_from": record.summary.forked_from.map(|(run, step)| json!({ "run_id": run, "step": step })),
        "parts": parts.iter().map(|run| json!({ "run_id": run.run, "graph": run.graph, "status": status(run) }))
            .collect::<Vec<_>>(),
        "held": record.summary.held, "used": stand.map(|stand| printer::used_json(stand.used)) })
}

fn as_text(record: &RunRecord, steps: &[StepRecord], stand: Option<&Stand>, parts: &[RunSummary]) -> String {
    let summary = &record.summary;
    let mut lines = vec![format!(
        "{}  {} v{}, {}",
        bold(format!("run {}", summary.run)),
        text::plain(&record.definition.graph),
        record.definition.version,
        status(summary)
    )];
    if let Some(error) = &summary.error {
        lines.push(printer::fold(&format!("  {}", text::plain(error)), "  "));
    }
    if let Some((from, step)) = summary.forked_from {
        lines.push(format!("  forked from {from} before step {step}"));
    }
    if let Some(reason) = &summary.held {
        lines.push(format!("  held: {}", text::plain(reason)));
    }
    let first = steps.first().map_or(0, |step| step.step);
    if first > summary.forked_from.map_or(0, |(_, step)| step) {
        lines.push(dim(format!("  what came before step {first} is not kept")));
    }
    for step in steps {
        lines.extend(step_lines(step));
    }
    for part in parts {
        lines.push(format!("inside  run {}  {}, {}", part.run, text::plain(&part.graph), status(part)));
    }
    let used = stand.map(|stand| printer::used(stand.used)).unwrap_or_default();
    if !used.is_empty() {
        lines.push(dim(format!("used {used}")));
    }
    lines.join("\n")
}

fn step_lines(step: &StepRecord) -> Vec<String> {
    let what = match (step.kind, step.versions, &step.answer) {
        (Some("edit"), _, Some(answer)) => format!(", edited by {}", text::plain(&answer.by)),
        (Some("upgrade"), Some((from, to)), _) => format!(", upgraded from v{from} to v{to}"),
        (Some(kind), ..) => format!(", {kind}"),
        (None, ..) if step.finished => String::new(),
        (None, ..) => ", not finished".to_owned(),
    };
    let mut lines =
        vec![format!("{}  {}{what}", bold(format!("step {:>3}", step.step)), dim(moment(step.at_ms)))];
    if let Some(answer) = step.answer.as_ref().filter(|_| step.kind.is_none()) {
        lines.push(answer_line(answer));
    }
    let fanned = step.tasks.iter().filter(|task| task.item.is_some()).count();
    let shown = if fanned > MOST_ITEMS { 3 } else { usize::MAX };
    for (index, task) in step.tasks.iter().enumerate() {
        // Of many items only the first are shown, but every failure.
        if index >= shown && task.failure.is_none() {
            continue;
        }
        lines.push(task_line(task));
        lines.extend(task.writes.iter().map(write_line));
    }
    lines.extend(step.edits.iter().map(write_line));
    let failed = step.tasks.iter().skip(shown).filter(|task| task.failure.is_some()).count();
    if step.tasks.len() > shown.saturating_add(failed) {
        let more = (step.tasks.len() - shown - failed) as u64;
        lines.push(dim(format!("    … {} more", count(more, "task"))));
    }
    for (node, failure) in &step.failures {
        lines.push(printer::fold(&format!("    {} {}", text::plain(node), failed_how(failure)), "      "));
    }
    if step.finished {
        let mut next: Vec<String> = step.next.iter().map(|node| text::plain(node)).collect();
        next.extend(step.waiting.iter().map(|node| format!("{} waits", text::plain(node))));
        next.extend(step.gates.iter().map(|gate| format!("gate {} waits", text::plain(gate))));
        let next = if next.is_empty() { "end".to_owned() } else { next.join(", ") };
        lines.push(printer::fold(&format!("    → {next}"), "      "));
    }
    lines
}

fn write_line((channel, value): &(String, Value)) -> String {
    let channel = text::plain(channel);
    format!("      {channel} = {}", printer::value(value, 9 + channel.len()))
}

fn task_line(task: &TaskRecord) -> String {
    let item = task.item.map(|item| format!(" #{item}")).unwrap_or_default();
    let mut notes = Vec::new();
    match task.attempts {
        0 => notes.push("from the cache".to_owned()),
        1 => {}
        attempts => notes.push(format!("{attempts} attempts")),
    }
    let used = printer::used(task.used);
    if !used.is_empty() {
        notes.push(used);
    }
    let notes = if notes.is_empty() { String::new() } else { format!("  {}", dim(notes.join(", "))) };
    let failed = task.failure.as_ref().map(|failure| format!(" {}", failed_how(failure))).unwrap_or_default();
    printer::fold(&format!("    {}{item}{failed}{notes}", text::plain(&task.node)), "      ")
}

fn failed_how(failure: &TaskFailure) -> String {
    let tries =
        if failure.attempts > 1 { format!(" after {} attempts", failure.attempts) } else { String::new() };
    let said = text::bounded(&text::plain(&failure.message), 400);
    format!("failed{tries}, {}: {said}", failure.class)
}

fn answer_line(answer: &GateAnswer) -> String {
    let signed = if answer.signature.is_some() { " (signed)" } else { "" };
    let note = answer.note.as_ref().map(|note| format!(", who says: {}", text::plain(note)));
    let note = note.unwrap_or_default();
    let said = format!(
        "    gate {}: {} by {}{signed}{note}",
        text::plain(&answer.gate),
        text::plain(&answer.option),
        text::plain(&answer.by)
    );
    printer::fold(&said, "      ")
}

/// Shows a run's state, or what differs between two steps of it.
pub(super) async fn state(
    global: &Global,
    run: &str,
    step: Option<u32>,
    against: Option<u32>,
    view: &View,
) -> Outcome {
    let world = World::open(global, &view.place)?;
    let run = find_run(&world, run).await?;
    let engine = world.host.engine();
    let record = world.host.load(run).await.map_err(workflow_failure)?;
    let read = |definition: &Definition| world.host.read(definition);
    let stand = engine.stand(run, &read).await.map_err(|error| engine_failure(&error))?;
    let graph = world.host.kept(&record.definition).map_err(workflow_failure)?;
    let at = step.unwrap_or(stand.step);
    let fault = |kind: EngineErrorKind| match kind {
        EngineErrorKind::NoSuchPlace(why) => Failure::Usage(why),
        kind => Failure::Unavailable(anyhow::Error::new(kind)),
    };
    let head = format!("{}  {} v{}", bold(format!("run {run}")), text::plain(&graph.name), graph.version);
    if let Some(other) = against {
        let differences = engine.diff(run, &graph, (at, other)).await.map_err(fault)?;
        match view.format {
            Format::Json => {
                printer::json(&json!({ "version": 1, "run_id": run, "step": at, "against": other,
                "differences": differences }))?;
            }
            Format::Table => {
                let mut lines = vec![format!("{head}, from step {at} to step {other}")];
                lines.extend(differences.iter().flat_map(difference_lines));
                if differences.is_empty() {
                    lines.push("  nothing differs".to_owned());
                }
                printer::data(lines.join("\n"))?;
            }
        }
        return Ok(failure::DONE);
    }
    let state = match step {
        Some(step) => engine.state_at(run, &graph, step).await.map_err(fault)?,
        None => stand.state,
    };
    match view.format {
        Format::Json => printer::json(&json!({ "version": 1, "run_id": run, "step": at,
            "status": status(&record.summary), "state": state }))?,
        Format::Table => {
            let place = if step.is_some() { "before" } else { "now, before" };
            let mut lines = vec![format!("{head}, {place} step {at} ({})", status(&record.summary))];
            lines.extend(printer::channels(&state, 2));
            if step.is_none() && !stand.next.is_empty() {
                lines.push(dim(format!("  next: {}", text::plain(&stand.next.join(", ")))));
            }
            printer::data(lines.join("\n"))?;
        }
    }
    Ok(failure::DONE)
}

fn difference_lines(difference: &Difference) -> Vec<String> {
    let mut lines = vec![format!("  {}", text::plain(&difference.channel))];
    lines.extend(difference.before.as_ref().map(|value| format!("    - {}", printer::value(value, 6))));
    lines.extend(difference.after.as_ref().map(|value| format!("    + {}", printer::value(value, 6))));
    lines
}

//! `sentrix graph verify|prune|hold|unhold|effects`

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::args::{Format, Global, Where};
use super::failure::{self, Failure, Outcome};
use super::graph_args::View;
use super::printer::{self, Page, bold, count, dim, moment, time};
use super::runs::{find_run, short_run, status};
use super::world::{World, workflow_failure};
use crate::engine::{CheckpointError, Retained, RunFilter, RunSummary, Verification};
use crate::graph::Retention;
use crate::text;

/// What was found out about a run's log: or why nothing could be.
type Proof = (RunSummary, Result<Verification, CheckpointError>);

/// Proves that runs' logs are whole.
pub(super) async fn verify(global: &Global, run: Option<&str>, view: &View) -> Outcome {
    let world = World::open(global, &view.place)?;
    let runs = if let Some(run) = run {
        let run = find_run(&world, run).await?;
        vec![world.host.load(run).await.map_err(workflow_failure)?.summary]
    } else {
        let filter = RunFilter { children: true, ..RunFilter::default() };
        world.host.runs(filter).await.map_err(workflow_failure)?
    };
    let mut proofs: Vec<Proof> = Vec::new();
    for summary in runs {
        let found = world.host.engine().verify(summary.run).await;
        proofs.push((summary, found));
    }
    let bad = proofs.iter().filter(|(_, found)| !faults(found).is_empty()).count() as u64;
    match (view.format, run, proofs.as_slice()) {
        (Format::Json, ..) => {
            let runs: Vec<_> = proofs.iter().map(proof_json).collect();
            printer::json(&json!({ "version": 1, "whole": bad == 0, "runs": runs }))?;
        }
        (Format::Table, Some(_), [proof]) => printer::data(proof_lines(proof).join("\n"))?,
        (Format::Table, _, []) => printer::data("No runs.")?,
        (Format::Table, ..) => {
            let mut table = Page::new(&["RUN", "GRAPH", "ENTRIES", "SEALED BY", "LOG"]);
            for (summary, found) in &proofs {
                let (entries, seal) = found.as_ref().map_or_else(
                    |_| (String::new(), String::new()),
                    |proof| (proof.entries.to_string(), proof.sealed_by.clone().unwrap_or_default()),
                );
                let faults = faults(found);
                let log = match (faults.is_empty(), seal.is_empty()) {
                    (true, false) => "whole".to_owned(),
                    (true, true) => "whole, but not sealed".to_owned(),
                    (false, _) => faults.join("; "),
                };
                table.row([short_run(summary.run), text::plain(&summary.graph), entries, seal, log]);
            }
            printer::data(table)?;
            let all = count(proofs.len() as u64, "run");
            let said = if bad == 0 { format!("{all}, all whole") } else { format!("{all}, {bad} not whole") };
            printer::data(bold(said))?;
        }
    }
    Ok(if bad == 0 { failure::DONE } else { failure::BAD_ANSWER })
}

fn faults(found: &Result<Verification, CheckpointError>) -> Vec<String> {
    match found {
        Ok(proof) => proof.faults.iter().map(|fault| text::plain(fault)).collect(),
        Err(error) => vec![text::plain(&text::causes(error))],
    }
}

fn proof_json((summary, found): &Proof) -> Value {
    let faults = faults(found);
    let mut object = json!({ "run_id": summary.run, "graph": summary.graph, "status": status(summary),
        "whole": faults.is_empty(), "faults": faults });
    if let (Ok(proof), Some(fields)) = (found, object.as_object_mut()) {
        fields.extend([
            ("entries".to_owned(), json!(proof.entries)),
            ("first_entry".to_owned(), json!(proof.first_seq)),
            ("head".to_owned(), json!(proof.head)),
            ("sealed_by".to_owned(), json!(proof.sealed_by)),
            ("signed_answers".to_owned(), json!(proof.signed_answers)),
            ("unhashed_entries".to_owned(), json!(proof.unhashed)),
        ]);
    }
    object
}

fn proof_lines((summary, found): &Proof) -> Vec<String> {
    let faults = faults(found);
    let word = if faults.is_empty() { "whole" } else { "NOT WHOLE" };
    let mut lines = vec![format!("{}  {}", bold(format!("run {}", summary.run)), bold(word))];
    lines.extend(faults.iter().map(|fault| printer::fold(&format!("  {fault}"), "    ")));
    let Ok(proof) = found else { return lines };
    let pruned =
        if proof.first_seq > 0 { format!(", from number {}", proof.first_seq) } else { String::new() };
    lines.push(format!("  log      {}{pruned}", count(u64::from(proof.entries), "entry")));
    lines.push(format!("  head     {}", proof.head));
    let seal = match &proof.sealed_by {
        Some(key) => format!("by key {key}"),
        None => format!("not sealed: the run is {}", status(summary)),
    };
    lines.push(format!("  sealed   {seal}"));
    if proof.signed_answers > 0 {
        lines.push(format!("  answers  {} signed", proof.signed_answers));
    }
    if proof.unhashed > 0 {
        lines.push(format!(
            "  {} of before there were hashes, which nothing proves",
            count(u64::from(proof.unhashed), "entry")
        ));
    }
    lines
}

/// Takes away what need not be kept: as the command line says, or each graph where it says nothing.
pub(super) async fn prune(
    global: &Global,
    graph: Option<&str>,
    (given, dry): (Retention, bool),
    view: &View,
) -> Outcome {
    let world = World::open(global, &view.place)?;
    let runs = world.host.runs(RunFilter::default()).await.map_err(workflow_failure)?;
    let mut names: BTreeSet<String> = runs.into_iter().map(|run| run.graph).collect();
    if let Some(graph) = graph {
        if !names.contains(graph) {
            let known: Vec<String> = names.iter().map(|name| text::plain(name)).collect();
            return Err(Failure::Usage(format!(
                "there are no runs of `{}` (there are of: {})",
                text::plain(graph),
                known.join(", ")
            )));
        }
        names.retain(|name| name == graph);
    }
    let mut gone = Retained::default();
    for name in names {
        let policy = if given == Retention::default() { own(&world, &name) } else { given };
        if policy == Retention::default() {
            continue;
        }
        let retained = world
            .host
            .engine()
            .retain(&name, policy, dry)
            .await
            .map_err(|error| workflow_failure(error.into()))?;
        gone.deleted.extend(retained.deleted);
        gone.shortened.extend(retained.shortened);
    }
    match view.format {
        Format::Json => {
            let list = |runs: &[RunSummary]| -> Vec<Value> {
                runs.iter().map(|run| json!({ "run_id": run.run, "graph": run.graph })).collect()
            };
            printer::json(&json!({ "version": 1, "dry_run": dry, "deleted": list(&gone.deleted),
                "shortened": list(&gone.shortened) }))?;
        }
        Format::Table => {
            let mut table = Page::new(&["RUN", "GRAPH", "STATUS", "LAST", "WHAT"]);
            let would = if dry { "would be " } else { "" };
            let rows = gone.deleted.iter().map(|run| (run, format!("{would}deleted"))).chain(
                gone.shortened.iter().map(|run| (run, format!("history {would}cut to its last state"))),
            );
            for (run, what) in rows {
                table.row([
                    short_run(run.run),
                    text::plain(&run.graph),
                    status(run).to_owned(),
                    moment(run.updated_ms),
                    what,
                ]);
            }
            if gone == Retained::default() {
                printer::data("Nothing to take away.")?;
            } else {
                printer::data(table)?;
            }
        }
    }
    Ok(failure::DONE)
}

/// What a graph says of its runs; nothing where it is not at hand any more.
fn own(world: &World, name: &str) -> Retention {
    let source = world.host.library().graph(name);
    let checked = source.and_then(|source| world.host.check(&source));
    checked.map_or_else(
        |_| {
            printer::note(dim(format!("{}: not at hand, so its runs stay as they are", text::plain(name))));
            Retention::default()
        },
        |graph| graph.retention,
    )
}

/// Keeps a run whole, or no longer.
pub(super) async fn hold(global: &Global, run: &str, reason: Option<String>, place: &Where) -> Outcome {
    let world = World::open(global, place)?;
    let run = find_run(&world, run).await?;
    if reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Failure::Usage("say why the run is to be kept".to_owned()));
    }
    let said = match &reason {
        Some(reason) => format!("is held: {}", text::plain(reason)),
        None => "is no longer held".to_owned(),
    };
    let held = world.host.engine().hold(run, reason).await;
    held.map_err(|error| workflow_failure(error.into()))?;
    printer::data(format_args!("{}  {said}", bold(format!("run {run}"))))?;
    Ok(failure::DONE)
}

/// Lists what a run did to the world outside.
pub(super) async fn effects(global: &Global, run: &str, view: &View) -> Outcome {
    let world = World::open(global, &view.place)?;
    let run = find_run(&world, run).await?;
    let effects = world.host.engine().effects(run).await.map_err(|error| workflow_failure(error.into()))?;
    if view.format == Format::Json {
        let effects: Vec<_> = effects
            .iter()
            .map(|effect| {
                let result: Option<Value> = effect
                    .result
                    .as_deref()
                    .map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into()));
                json!({ "key": effect.key, "node": effect.node, "begun_at": time(effect.begun_ms),
                    "known": result.is_some(), "result": result })
            })
            .collect();
        printer::json(&json!({ "version": 1, "run_id": run, "effects": effects }))?;
    } else if effects.is_empty() {
        printer::data("The run's ledger is empty: nothing was done to the world outside.")?;
    } else {
        let mut table = Page::new(&["KEY", "NODE", "BEGUN", "WHAT CAME OF IT"]);
        for effect in &effects {
            table.row([
                effect.key.to_string(),
                text::plain(&effect.node),
                moment(effect.begun_ms),
                effect.result.as_deref().map_or_else(|| "nobody knows".to_owned(), text::plain),
            ]);
        }
        printer::data(table)?;
    }
    Ok(failure::DONE)
}

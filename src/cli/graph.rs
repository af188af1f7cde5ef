//! `sentrix graph list|check|draw|run|test|eject`; runs are in `runs`.

use serde_json::{Map, Value, json};

use super::args::{DrawFormat, Format, Global, GraphCommand, Where};
use super::failure::{self, Failure, Outcome};
use super::printer::{self, Page, bold, count, dim};
use super::progress::Progress;
use super::world::{DirLock, World, dry_host, workflow_failure};
use super::{patrol, runs};
use crate::engine::{self, RunOutcome};
use crate::graph::{self, FaultReport};
use crate::supervise::Shutdown;
use crate::text;
use crate::workflow::{GraphSource, Host, WorkflowError, eject};

/// Runs the verb.
pub(super) async fn run(global: &Global, command: GraphCommand, shutdown: &Shutdown) -> Outcome {
    match command {
        GraphCommand::List { format } => list(&dry_host(global)?, format),
        GraphCommand::Check { graphs, format } => check(&dry_host(global)?, &graphs, format),
        GraphCommand::Draw { graph, format, output } => {
            let host = dry_host(global)?;
            let source = host.library().graph(&graph).map_err(workflow_failure)?;
            let graph = host.check(&source).map_err(workflow_failure)?;
            let drawing = graph::draw(
                &graph,
                match format {
                    DrawFormat::Text => graph::Format::Text,
                    DrawFormat::Mermaid => graph::Format::Mermaid,
                    DrawFormat::Dot => graph::Format::Dot,
                    DrawFormat::Svg => graph::Format::Svg,
                },
            );
            match output {
                None => printer::data(drawing.trim_end())?,
                Some(path) => std::fs::write(&path, drawing).map_err(|error| {
                    Failure::Unavailable(
                        anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
                    )
                })?,
            }
            Ok(failure::DONE)
        }
        GraphCommand::Run { graph, input, place, format } => {
            start(global, &graph, input.as_deref(), &place, format, shutdown).await
        }
        GraphCommand::Test { graphs, format } => test(&dry_host(global)?, &graphs, format).await,
        GraphCommand::Eject { to, force } => {
            let files = eject(&to, force).map_err(workflow_failure)?;
            for file in files {
                printer::data(file.display())?;
            }
            printer::note(dim(
                "Sentrix uses ./graphs and ./prompts where they are; --graphs-dir and --prompts-dir name others.",
            ));
            Ok(failure::DONE)
        }
        GraphCommand::Runs { limit, place, format } => runs::list(global, limit, &place, format).await,
        GraphCommand::History { run, place, format } => runs::history(global, &run, &place, format).await,
        GraphCommand::Resume { run, place, format } => {
            runs::resume(global, &run, &place, format, shutdown).await
        }
    }
}

/// The graphs that were named, or all.
fn sources(host: &Host, names: &[String]) -> Result<Vec<GraphSource>, Failure> {
    if names.is_empty() {
        return Ok(host.library().graphs().cloned().collect());
    }
    names.iter().map(|name| host.library().graph(name).map_err(workflow_failure)).collect()
}

fn list(host: &Host, format: Format) -> Outcome {
    let mut table = Page::new(&["GRAPH", "NODES", "WHAT", "FROM"]);
    let mut rows = Vec::new();
    for source in host.library().graphs() {
        let checked = host.check(source);
        let (nodes, what) = match &checked {
            Ok(graph) => (graph.nodes.len(), graph.description.clone()),
            Err(_) => (0, format!("has faults: sentrix graph check {}", source.name)),
        };
        table.row([source.name.clone(), nodes.to_string(), text::plain(&what), source.origin.clone()]);
        rows.push(json!({ "name": source.name, "nodes": nodes, "description": what, "origin": source.origin,
            "hash": checked.as_ref().ok().map(|graph| graph.hash.clone()) }));
    }
    match format {
        Format::Json => printer::json(&json!({ "version": 1, "graphs": rows }))?,
        Format::Table => printer::data(table)?,
    }
    Ok(failure::DONE)
}

fn check(host: &Host, names: &[String], format: Format) -> Outcome {
    let mut all: Vec<FaultReport> = Vec::new();
    let mut bad = 0;
    for source in sources(host, names)? {
        match host.check(&source) {
            Ok(graph) if format == Format::Table => {
                printer::data(format_args!(
                    "{}  {}, {}  {}",
                    bold(format!("{} is sound", source.name)),
                    count(graph.nodes.len() as u64, "node"),
                    count(graph.channels.len() as u64, "state channel"),
                    dim(&source.origin)
                ))?;
            }
            Ok(_) => {}
            Err(WorkflowError::Faults { faults, .. }) => {
                bad += 1;
                if format == Format::Table {
                    printer::data(faults.render(printer::colour(), usize::from(printer::width())))?;
                }
                all.extend(faults.reports());
            }
            Err(error) => return Err(workflow_failure(error)),
        }
    }
    if format == Format::Json {
        printer::json(&json!({ "version": 1, "faults": all }))?;
    } else if bad > 0 {
        printer::note(format_args!("{} in {}", count(all.len() as u64, "fault"), count(bad, "graph file")));
    }
    Ok(if bad == 0 { failure::DONE } else { failure::BAD_ANSWER })
}

async fn test(host: &Host, names: &[String], format: Format) -> Outcome {
    let (mut passed, mut failed) = (0_u64, 0_u64);
    let mut reports = Vec::new();
    for source in sources(host, names)? {
        let report = host.test(&source).await.map_err(workflow_failure)?;
        if format == Format::Table {
            for test in &report.tests {
                let mark = if test.differences.is_empty() { "ok    " } else { "FAILED" };
                printer::data(format_args!("{mark}  {}: {}", report.graph, text::plain(&test.name)))?;
                for difference in &test.differences {
                    printer::data(format_args!("        {}", text::plain(difference)))?;
                }
            }
            if report.tests.is_empty() {
                printer::data(format_args!(
                    "none    {}: there is no {}.test.toml",
                    report.graph, report.graph
                ))?;
            } else if !report.unreached.is_empty() {
                printer::data(dim(format!("        no test reaches {}", report.unreached.join(", "))))?;
            }
            if !report.tests.is_empty() {
                let taken = report.edges - report.untaken.len();
                printer::data(dim(format!("        {taken} of {} edges taken", report.edges)))?;
                for edge in &report.untaken {
                    printer::data(dim(format!("        not taken: {}", text::plain(edge))))?;
                }
            }
        }
        let good = report.tests.iter().filter(|test| test.differences.is_empty()).count() as u64;
        passed += good;
        failed += report.tests.len() as u64 - good;
        reports.push(report);
    }
    match format {
        Format::Json => {
            printer::json(&json!({ "version": 1, "passed": passed, "failed": failed, "graphs": reports }))?;
        }
        Format::Table => printer::data(format_args!("{passed} passed, {failed} failed"))?,
    }
    Ok(if failed == 0 { failure::DONE } else { failure::BAD_ANSWER })
}

async fn start(
    global: &Global,
    name: &str,
    input: Option<&str>,
    place: &Where,
    format: Format,
    shutdown: &Shutdown,
) -> Outcome {
    let input = read_input(input)?;
    let world = World::open_to_work(global, place)?;
    let lock = DirLock::take(&world.paths)?;
    let progress = Progress::new(global);
    let outcome = world.host.run(name, input, progress.options(name, shutdown)).await;
    progress.clear();
    let outcome = finished(&world, outcome, format);
    drop(lock);
    outcome
}

/// Input channels from the command line or a file.
fn read_input(input: Option<&str>) -> Result<Map<String, Value>, Failure> {
    let Some(input) = input else { return Ok(Map::new()) };
    let text = match input.strip_prefix('@') {
        None => input.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("--input: cannot read {path}: {error}")))?,
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::Usage(String::from("--input takes a JSON object, as '{\"flag_id\": \"…\"}'"))),
        Err(error) => Err(Failure::Usage(format!("--input is no JSON: {error}"))),
    }
}

/// Shows how a run ended.
pub(super) fn finished(world: &World, outcome: Result<RunOutcome, WorkflowError>, format: Format) -> Outcome {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(WorkflowError::Engine(error)) => {
            let hint = patrol::place_hint(world);
            let text = text::bounded(&text::causes(&*error), 2_000);
            return Err(match error.kind {
                engine::EngineErrorKind::Input { .. } => Failure::Usage(text),
                _ => Failure::Unavailable(anyhow::anyhow!(
                    "{text}\n`sentrix graph resume {}{hint}` goes on",
                    error.run
                )),
            });
        }
        Err(error) => return Err(workflow_failure(error)),
    };
    let done = outcome.status == engine::Outcome::Done;
    match format {
        Format::Json => printer::json(
            &json!({ "version": 1, "run_id": outcome.run, "done": done, "steps": outcome.steps,
            "state": outcome.state }),
        )?,
        Format::Table => {
            let mut lines = vec![format!(
                "{}  {} after {}",
                bold(format!("run {}", outcome.run)),
                if done { "done" } else { "stopped" },
                count(u64::from(outcome.steps), "superstep")
            )];
            for (channel, value) in &outcome.state {
                lines.push(format!(
                    "  {channel:<14} {}",
                    text::bounded(&text::plain(&value.to_string()), 160)
                ));
            }
            printer::data(lines.join("\n"))?;
        }
    }
    Ok(if done { failure::DONE } else { failure::INTERRUPTED })
}

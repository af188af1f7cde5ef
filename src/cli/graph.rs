//! `sentrix graph …`: where each verb goes; `list|check|draw|test|eject|schema` themselves.

use std::path::Path;

use serde_json::json;

use super::args::{Format, Global};
use super::failure::{self, Failure, Outcome};
use super::graph_args::{DrawFormat, GraphCommand};
use super::printer::{self, Page, bold, count, dim};
use super::world::{dry_host, workflow_failure};
use super::{change, diff, dry, gates, history, keep, runs, start};
use crate::graph::{self, FaultReport, Retention};
use crate::supervise::Shutdown;
use crate::text;
use crate::workflow::{GraphSource, Host, WorkflowError, eject};

/// Runs the verb.
pub(super) async fn run(global: &Global, command: GraphCommand, shutdown: &Shutdown) -> Outcome {
    match command {
        GraphCommand::List { format } => list(&dry_host(global)?, format),
        GraphCommand::Check { graphs, format } => check(&dry_host(global)?, &graphs, format),
        GraphCommand::Draw { graph, format, output } => {
            draw(&dry_host(global)?, &graph, format, output.as_deref())
        }
        GraphCommand::Test { graphs, format } => test(&dry_host(global)?, &graphs, format).await,
        GraphCommand::Diff { old, new, view } => diff::run(global, &old, new.as_deref(), &view).await,
        GraphCommand::Eject { to, force } => ejected(&to, force),
        GraphCommand::Schema => {
            printer::json(&graph::schema())?;
            Ok(failure::DONE)
        }
        command => of_runs(global, command, shutdown).await,
    }
}

/// Runs a verb about runs.
async fn of_runs(global: &Global, command: GraphCommand, shutdown: &Shutdown) -> Outcome {
    match command {
        GraphCommand::Run { graph, input, dry, stub, going, view } => {
            let input = start::object("--input", input.as_deref())?;
            if dry {
                return dry::run(global, &graph, input, stub.as_deref(), view.format).await;
            }
            start::start(global, &graph, input, &going, &view, shutdown).await
        }
        GraphCommand::Resume { run, upgrade, going, view } => {
            start::resume(global, &run, upgrade, &going, &view, shutdown).await
        }
        GraphCommand::Replay { run, step, going, view } => {
            start::replay(global, &run, step, &going, &view, shutdown).await
        }
        GraphCommand::Runs { limit, view } => runs::list(global, limit, &view).await,
        GraphCommand::History { run, view } => history::history(global, &run, &view).await,
        GraphCommand::State { run, step, against, view } => {
            history::state(global, &run, step, against, &view).await
        }
        GraphCommand::Gates { view } => gates::list(global, &view).await,
        GraphCommand::Answer { gate, option, run, by, note, no_resume, view } => {
            let answer = gates::Answer { gate, option, run, by, note, no_resume };
            gates::answer(global, answer, &view, shutdown).await
        }
        GraphCommand::Fork { run, step, view } => change::fork(global, &run, step, &view).await,
        GraphCommand::Edit { run, set, as_node, by, view } => {
            let set = start::object("--set", Some(&set))?;
            change::edit(global, &run, (set, as_node.as_deref(), by), &view).await
        }
        GraphCommand::Record { run, output, place } => change::record(global, &run, &output, &place).await,
        GraphCommand::Effects { run, view } => keep::effects(global, &run, &view).await,
        GraphCommand::Verify { run, view } => keep::verify(global, run.as_deref(), &view).await,
        GraphCommand::Prune { graph, keep_last, max_age, dry_run, view } => {
            let given = Retention { keep_last, max_age };
            keep::prune(global, graph.as_deref(), (given, dry_run), &view).await
        }
        GraphCommand::Hold { run, reason, place } => keep::hold(global, &run, Some(reason), &place).await,
        GraphCommand::Unhold { run, place } => keep::hold(global, &run, None, &place).await,
        GraphCommand::List { .. }
        | GraphCommand::Check { .. }
        | GraphCommand::Draw { .. }
        | GraphCommand::Test { .. }
        | GraphCommand::Diff { .. }
        | GraphCommand::Eject { .. }
        | GraphCommand::Schema => Err(Failure::Bug(anyhow::anyhow!("a verb about graphs, not runs"))),
    }
}

fn draw(host: &Host, graph: &str, format: DrawFormat, output: Option<&Path>) -> Outcome {
    let source = host.library().graph(graph).map_err(workflow_failure)?;
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
        Some(path) => std::fs::write(path, drawing).map_err(|error| {
            Failure::Unavailable(
                anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
            )
        })?,
    }
    Ok(failure::DONE)
}

fn ejected(to: &Path, force: bool) -> Outcome {
    for file in eject(to, force).map_err(workflow_failure)? {
        printer::data(file.display())?;
    }
    printer::note(dim(
        "Sentrix uses ./graphs and ./prompts where they are; --graphs-dir and --prompts-dir name others.",
    ));
    Ok(failure::DONE)
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
    let (mut bad, mut odd) = (0, 0);
    for source in sources(host, names)? {
        let checked = host.check(&source);
        if checked.is_ok()
            && let Some(warnings) = host.warnings(&source)
        {
            let reports = warnings.reports();
            odd += reports.len();
            if format == Format::Table {
                printer::data(warnings.render(printer::colour(), usize::from(printer::width())))?;
            }
            all.extend(reports);
        }
        match checked {
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
        let faults = (all.len() - odd) as u64;
        printer::note(format_args!("{} in {}", count(faults, "fault"), count(bad, "graph file")));
    }
    if odd > 0 && format == Format::Table {
        printer::note(format_args!("{}: the files work as they are", count(odd as u64, "warning")));
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

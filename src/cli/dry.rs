//! `sentrix graph run --dry`

use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{Format, Global};
use super::failure::{self, Failure, Outcome};
use super::printer::{self, Page, bold, count, dim};
use super::world::{dry_host, workflow_failure};
use crate::graph::Graph;
use crate::text;
use crate::workflow::{Rehearsal, Script, rehearse};

/// Plays a graph with stubs: nothing is asked, done or stored.
pub(super) async fn run(
    global: &Global,
    name: &str,
    input: Map<String, Value>,
    stub: Option<&Path>,
    format: Format,
) -> Outcome {
    let host = dry_host(global)?;
    let source = host.library().graph(name).map_err(workflow_failure)?;
    let graph = host.check(&source).map_err(workflow_failure)?;
    let script = stub.map(script).transpose()?.unwrap_or_default();
    if let Some(unknown) =
        script.stub.keys().chain(script.answer.keys()).find(|name| graph.node_named(name).is_none())
    {
        return Err(Failure::Usage(format!("--stub: the graph has no node `{}`", text::plain(unknown))));
    }
    let played = rehearse(&graph, &script, input, None).await;
    match format {
        Format::Json => printer::json(&json!({ "version": 1, "graph": graph.name, "dry": played }))?,
        Format::Table => printer::data(shown(&graph, &played))?,
    }
    Ok(match played.outcome.as_str() {
        "done" => failure::DONE,
        "waiting" => failure::REFUSED,
        _ => failure::BAD_ANSWER,
    })
}

/// Stubs, answers to gates and costs from a file: TOML as in the tests beside graphs, or JSON.
fn script(path: &Path) -> Result<Script, Failure> {
    let name = path.display();
    let text = crate::text::read_file(path)
        .map_err(|error| Failure::Usage(format!("--stub: cannot read {name}: {error}")))?;
    let read = if path.extension().is_some_and(|ending| ending == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    read.map_err(|error| Failure::Usage(format!("--stub: {name}: {error}")))
}

fn shown(graph: &Graph, played: &Rehearsal) -> String {
    let path: Vec<String> = played
        .path
        .iter()
        .map(
            |nodes| {
                if let [one] = nodes.as_slice() { one.clone() } else { format!("[{}]", nodes.join(", ")) }
            },
        )
        .collect();
    let mut lines = vec![
        format!(
            "{}  {} after {}; nothing was done or stored",
            bold(format!("dry run of {}", graph.name)),
            text::bounded(&text::plain(&played.outcome), 400),
            count(played.path.len() as u64, "superstep")
        ),
        printer::fold(&format!("  {}", path.join(" → ")), "  "),
    ];
    if !played.turns.is_empty() {
        let mut table = Page::new(&["NODE", "LEADS TO", "BECAUSE"]);
        for turn in &played.turns {
            table.row([turn.node.clone(), turn.to.join(", "), text::plain(&turn.because)]);
        }
        lines.push(format!("\n{table}\n"));
    }
    lines.extend(printer::channels(&played.state, 2));
    let gate = played
        .turns
        .iter()
        .rev()
        .flat_map(|turn| &turn.to)
        .chain([&graph.node(graph.start).name])
        .find(|name| graph.node_named(name).is_some_and(|node| graph.node(node).is_gate()));
    if let (Some(gate), "waiting") = (gate, played.outcome.as_str()) {
        lines.push(dim(format!("To go on from there, say in --stub: answer.{gate} = [\"…\"]")));
    }
    lines.join("\n")
}

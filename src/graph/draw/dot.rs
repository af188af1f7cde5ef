//! `GraphViz`.

use super::{Line, Look, Picture};

/// Draws a directed graph, top down.
pub(super) fn draw(picture: &Picture) -> String {
    let mut lines = vec![
        format!("digraph \"{}\" {{", escape(&picture.name)),
        "  rankdir=TB; bgcolor=\"transparent\";".to_owned(),
        "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f6f8fa\", color=\"#57606a\", \
         fontname=\"Helvetica,Arial,sans-serif\", fontsize=12];"
            .to_owned(),
        "  edge [color=\"#57606a\", fontname=\"Helvetica,Arial,sans-serif\", fontsize=10];".to_owned(),
        "  start [shape=circle, label=\"\", width=0.15, fillcolor=\"#57606a\"];".to_owned(),
    ];
    for (index, node) in picture.nodes.iter().enumerate() {
        let mut label = escape(&node.name);
        let mut look = String::new();
        if let Some((times, each)) = &node.each {
            label.extend([" ", &escape(times), "\\n", &escape(each)]);
            look.push_str(", peripheries=2");
        }
        label.extend(["\\n", &escape(&node.detail)]);
        if !node.marks.is_empty() {
            label.extend(["\\n", &escape(&node.marks.join(", "))]);
        }
        look.push_str(match node.look {
            Look::Task => "",
            Look::Prompt => ", color=\"#8250df\"",
            Look::Gate => ", shape=diamond, style=filled, color=\"#9a6700\"",
            Look::Graph => ", shape=component",
        });
        if node.is_danger {
            look.push_str(", color=\"#cf222e\"");
        }
        if !node.description.is_empty() {
            look.extend([", tooltip=\"", &escape(&node.description), "\""]);
        }
        lines.push(format!("  n{index} [label=\"{label}\"{look}];"));
    }
    if picture.has_end() {
        lines.push("  stop [shape=doublecircle, label=\"\", width=0.12, fillcolor=\"#57606a\"];".to_owned());
    }
    lines.push(format!("  start -> n{};", picture.start));
    for edge in &picture.edges {
        let to = edge.to.map_or_else(|| "stop".to_owned(), |to| format!("n{to}"));
        let mut look = Vec::new();
        if !edge.label.is_empty() {
            look.push(format!("label=\"{}\"", escape(&edge.label)));
        }
        match edge.line {
            Line::Plain => {}
            Line::Failing => look.push("style=dashed, color=\"#cf222e\"".to_owned()),
            Line::Chosen => look.push("style=dotted".to_owned()),
        }
        let label = if look.is_empty() { String::new() } else { format!(" [{}]", look.join(", ")) };
        lines.push(format!("  n{} -> {to}{label};", edge.from));
    }
    if let Some(last) = picture.last.filter(|_| picture.has_end()) {
        lines.push(format!("  stop -> n{last} [style=dotted];"));
    }
    lines.push("}".to_owned());
    lines.join("\n") + "\n"
}

/// Text inside quotes: backslashes start escapes, and entities are read as in HTML.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;")
}

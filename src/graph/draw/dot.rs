//! `GraphViz`.

use super::Picture;

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
        if node.is_prompt {
            look.push_str(", color=\"#8250df\"");
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
        let label = if edge.label.is_empty() {
            String::new()
        } else {
            format!(" [label=\"{}\"]", escape(&edge.label))
        };
        lines.push(format!("  n{} -> {to}{label};", edge.from));
    }
    lines.push("}".to_owned());
    lines.join("\n") + "\n"
}

/// Text inside quotes: backslashes start escapes, and entities are read as in HTML.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;")
}

//! Mermaid flowcharts.

use super::{Line, Look, Picture, Shape};

/// Draws a flowchart, top down.
pub(super) fn draw(picture: &Picture) -> String {
    let mut lines = vec!["flowchart TD".to_owned()];
    lines.push("  start((\" \")):::mark".to_owned());
    for (index, node) in picture.nodes.iter().enumerate() {
        lines.push(format!("  n{index}{}", shape(node)));
    }
    if picture.has_end() {
        lines.push("  stop(((\" \"))):::mark".to_owned());
    }
    lines.push(format!("  start --> n{}", picture.start));
    let mut failing = Vec::new();
    // The line from the start is number 0.
    for (number, edge) in (1..).zip(&picture.edges) {
        let to = edge.to.map_or_else(|| "stop".to_owned(), |to| format!("n{to}"));
        let label =
            if edge.label.is_empty() { String::new() } else { format!("|\"{}\"|", escape(&edge.label)) };
        let arrow = if edge.line == Line::Plain { "-->" } else { "-.->" };
        if edge.line == Line::Failing {
            failing.push(number.to_string());
        }
        lines.push(format!("  n{} {arrow}{label} {to}", edge.from));
    }
    if let Some(last) = picture.last.filter(|_| picture.has_end()) {
        lines.push(format!("  stop -.-> n{last}"));
    }
    if !failing.is_empty() {
        lines.push(format!("  linkStyle {} stroke:#cf222e,stroke-dasharray:6 4", failing.join(",")));
    }
    lines.push("  classDef mark fill:#57606a,stroke:#57606a".to_owned());
    lines.push("  classDef prompt stroke:#8250df,stroke-width:2px".to_owned());
    for (is_used, class) in [
        (picture.nodes.iter().any(|node| node.look == Look::Gate), "gate stroke:#9a6700,stroke-width:2px"),
        (picture.nodes.iter().any(|node| node.is_danger), "danger stroke:#cf222e,stroke-width:2px"),
    ] {
        if is_used {
            lines.push(format!("  classDef {class}"));
        }
    }
    lines.join("\n") + "\n"
}

/// Tasks are boxes, prompts are rounded, gates are diamonds, graphs are hexagons, fan-outs have double sides.
fn shape(node: &Shape) -> String {
    let mut label = escape(&node.name);
    if let Some((times, each)) = &node.each {
        label.extend([" ", &escape(times), "<br/>", &escape(each)]);
    }
    label.extend(["<br/>", &escape(&node.detail)]);
    if !node.marks.is_empty() {
        label.extend(["<br/>", &escape(&node.marks.join(", "))]);
    }
    let class = match (node.is_danger, node.look) {
        (true, _) => ":::danger",
        (false, Look::Prompt) => ":::prompt",
        (false, Look::Gate) => ":::gate",
        (false, Look::Task | Look::Graph) => "",
    };
    let (open, close) = match (&node.each, node.look) {
        (_, Look::Gate) => ("{", "}"),
        (Some(_), _) => ("[[", "]]"),
        (None, Look::Graph) => ("{{", "}}"),
        (None, Look::Prompt) => ("(", ")"),
        (None, Look::Task) => ("[", "]"),
    };
    format!("{open}\"{label}\"{close}{class}")
}

/// Text inside quotes; mermaid writes entities with `#`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("#quot;"),
            '&' => out.push_str("#amp;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '#' | '|' | '\\' | '`' | ';' | '{' | '}' | '%' | '$' => {
                out.extend(["#", &u32::from(c).to_string(), ";"]);
            }
            c => out.push(c),
        }
    }
    out
}

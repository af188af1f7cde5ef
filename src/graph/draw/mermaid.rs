//! Mermaid flowcharts.

use super::{Picture, Shape};

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
    for edge in &picture.edges {
        let to = edge.to.map_or_else(|| "stop".to_owned(), |to| format!("n{to}"));
        let label =
            if edge.label.is_empty() { String::new() } else { format!("|\"{}\"|", escape(&edge.label)) };
        lines.push(format!("  n{} -->{label} {to}", edge.from));
    }
    lines.push("  classDef mark fill:#57606a,stroke:#57606a".to_owned());
    lines.push("  classDef prompt stroke:#8250df,stroke-width:2px".to_owned());
    lines.join("\n") + "\n"
}

/// Tasks are boxes, prompts are rounded, fan-outs have double sides.
fn shape(node: &Shape) -> String {
    let mut label = escape(&node.name);
    if let Some((times, each)) = &node.each {
        label.extend([" ", &escape(times), "<br/>", &escape(each)]);
    }
    label.extend(["<br/>", &escape(&node.detail)]);
    let class = if node.is_prompt { ":::prompt" } else { "" };
    match (&node.each, node.is_prompt) {
        (Some(_), _) => format!("[[\"{label}\"]]{class}"),
        (None, true) => format!("(\"{label}\"){class}"),
        (None, false) => format!("[\"{label}\"]"),
    }
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

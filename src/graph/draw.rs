//! Drawings of a graph: mermaid, dot, svg and text.
//!
//! **Invariant:** a drawing shows every node and every edge, whatever their names and conditions hold: all
//! text is escaped for its format, and deceptive characters are shown as escapes.

mod dot;
mod layout;
mod mermaid;
mod svg;
mod text;

use std::fmt;

use super::{Graph, NodeIdx, NodeKind, Parallel};
use crate::text::plain;

/// The form of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Mermaid flowchart, as Markdown pages show it.
    Mermaid,
    /// `GraphViz`.
    Dot,
    /// A picture that stands alone.
    Svg,
    /// A tree for a terminal.
    #[default]
    Text,
}

impl Format {
    /// Every form, in the order in which they are documented.
    pub const ALL: [Self; 4] = [Self::Mermaid, Self::Dot, Self::Svg, Self::Text];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mermaid => "mermaid",
            Self::Dot => "dot",
            Self::Svg => "svg",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Draws a graph; the text ends with a line break.
pub fn draw(graph: &Graph, format: Format) -> String {
    let picture = Picture::of(graph);
    match format {
        Format::Mermaid => mermaid::draw(&picture),
        Format::Dot => dot::draw(&picture),
        Format::Svg => svg::draw(&picture),
        Format::Text => text::draw(graph, &picture),
    }
}

/// What every form shows.
struct Picture {
    name: String,
    start: usize,
    nodes: Vec<Shape>,
    /// In the order of the file: by node, then by arm.
    edges: Vec<Edge>,
}

/// A node as it is shown.
struct Shape {
    /// Its name.
    name: String,
    /// Who does the work.
    detail: String,
    /// What it does, in a sentence; may be empty.
    description: String,
    /// `×8` and `each stream of jobs`, where it fans out.
    each: Option<(String, String)>,
    is_prompt: bool,
}

/// An edge as it is shown.
struct Edge {
    from: usize,
    /// None: the end.
    to: Option<usize>,
    /// The condition, or `else`; empty where there is no choice.
    label: String,
}

impl Picture {
    fn of(graph: &Graph) -> Self {
        let nodes = graph.nodes.iter().map(|node| {
            let (detail, is_prompt) = match &node.kind {
                NodeKind::Task { task } => (plain(task), false),
                NodeKind::Prompt { prompt, role, .. } => (plain(&format!("{prompt} by {role}")), true),
                NodeKind::Gate(_) => ("gate".to_owned(), false),
                NodeKind::Graph(graph) => (plain(&format!("graph {}", graph.name)), false),
            };
            let channel = |index: super::ChannelIdx| {
                graph.channels.get(index.0).map_or_else(|| "?".to_owned(), |channel| plain(&channel.name))
            };
            let each = node.each.as_ref().map(|each| {
                let times = match each.max_parallel {
                    Parallel::Fixed(limit) => format!("×{limit}"),
                    Parallel::Channel(index) => format!("×{}", channel(index)),
                };
                (times, format!("each {} of {}", plain(&each.item), channel(each.over)))
            });
            let description = plain(&node.description);
            Shape { name: plain(&node.name), detail, description, each, is_prompt }
        });
        Self {
            name: plain(&graph.name),
            start: graph.start.0,
            nodes: nodes.collect(),
            edges: (0..graph.nodes.len()).flat_map(|index| edges_of(graph, index)).collect(),
        }
    }

    /// Whether some branch ends.
    fn has_end(&self) -> bool {
        self.edges.iter().any(|edge| edge.to.is_none())
    }
}

/// The edges of a node, in the order of its arms.
fn edges_of(graph: &Graph, from: usize) -> Vec<Edge> {
    let arms = graph.nodes.get(from).map(|node| node.next.as_slice()).unwrap_or_default();
    if arms.is_empty() {
        return vec![Edge { from, to: None, label: String::new() }];
    }
    let choice = arms.len() > 1;
    let mut out = Vec::new();
    for arm in arms {
        let label = match &arm.when {
            Some(when) => plain(when.source().trim()),
            None if choice => "else".to_owned(),
            None => String::new(),
        };
        let edge = |to| Edge { from, to, label: label.clone() };
        if arm.to.is_empty() {
            out.push(edge(None));
        }
        out.extend(arm.to.iter().map(|NodeIdx(to)| edge(Some(*to))));
    }
    out
}

#[cfg(test)]
mod tests;

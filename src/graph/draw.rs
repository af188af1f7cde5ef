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

use super::{Effect, Graph, Join, Need, Node, NodeIdx, NodeKind, Parallel};
use crate::text::{bounded, plain};

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

/// Longest question of a gate that is shown.
const QUESTION: usize = 40;

/// What every form shows.
struct Picture {
    name: String,
    start: usize,
    /// The node that runs last.
    last: Option<usize>,
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
    /// Whether it waits, is dangerous, or runs last.
    marks: Vec<String>,
    look: Look,
    is_danger: bool,
}

/// How a node looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Task,
    Prompt,
    Gate,
    Graph,
}

/// An edge as it is shown.
struct Edge {
    from: usize,
    /// None: the end.
    to: Option<usize>,
    /// The condition, or `else`; empty where there is no choice.
    label: String,
    line: Line,
}

/// How an edge looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    /// An arm of `next`, or a gate's option.
    Plain,
    /// Taken when the node fails.
    Failing,
    /// Chosen by the node's function.
    Chosen,
}

/// A way out of a node: the targets that are reached together.
struct Choice {
    why: Why,
    /// The end where there are none.
    to: Vec<usize>,
}

/// When a way is taken.
enum Why {
    /// Always.
    Always,
    If(String),
    Else,
    Option(String),
    On(String),
    Goto,
    Send,
}

impl Choice {
    const fn line(&self) -> Line {
        match self.why {
            Why::Always | Why::If(_) | Why::Else | Why::Option(_) => Line::Plain,
            Why::On(_) => Line::Failing,
            Why::Goto | Why::Send => Line::Chosen,
        }
    }

    /// The label in a picture.
    fn label(&self) -> String {
        match &self.why {
            Why::Always => String::new(),
            Why::If(text) | Why::Option(text) => text.clone(),
            Why::Else => "else".to_owned(),
            Why::On(classes) => format!("on {classes}"),
            Why::Goto => "goto".to_owned(),
            Why::Send => "send".to_owned(),
        }
    }

    fn targets(&self) -> Vec<Option<usize>> {
        if self.to.is_empty() { vec![None] } else { self.to.iter().copied().map(Some).collect() }
    }
}

impl Picture {
    fn of(graph: &Graph) -> Self {
        let edges = (0..graph.nodes.len()).flat_map(|from| {
            choices(graph, from).into_iter().flat_map(move |choice| {
                let (label, line) = (choice.label(), choice.line());
                choice.targets().into_iter().map(move |to| Edge { from, to, label: label.clone(), line })
            })
        });
        Self {
            name: plain(&graph.name),
            start: graph.start.0,
            last: graph.finally.map(|last| last.0),
            nodes: graph.nodes.iter().enumerate().map(|(index, node)| shape(graph, index, node)).collect(),
            edges: edges.collect(),
        }
    }

    /// Whether some branch ends.
    fn has_end(&self) -> bool {
        self.edges.iter().any(|edge| edge.to.is_none())
    }
}

fn shape(graph: &Graph, index: usize, node: &Node) -> Shape {
    let (detail, look) = match &node.kind {
        NodeKind::Task { task } => (plain(task), Look::Task),
        NodeKind::Prompt { prompt, role, .. } => (plain(&format!("{prompt} by {role}")), Look::Prompt),
        NodeKind::Gate(gate) => (plain(&bounded(&gate.ask, QUESTION)), Look::Gate),
        NodeKind::Graph(inner) => (plain(&format!("graph {}", inner.name)), Look::Graph),
    };
    let channel = |index: super::ChannelIdx| {
        graph.channels.get(index.0).map_or_else(|| "?".to_owned(), |channel| plain(&channel.name))
    };
    let each = node.each.as_ref().map(|each| {
        let times = match each.max_parallel {
            Parallel::Fixed(limit) => format!("×{limit}"),
            Parallel::Channel(index) => format!("×{}", channel(index)),
        };
        let item = match each.batch {
            Some(batch) if batch > 1 => format!("{batch} of {} as {}", channel(each.over), plain(&each.item)),
            _ => format!("{} of {}", plain(&each.item), channel(each.over)),
        };
        (times, format!("each {item}"))
    });
    let mut marks = Vec::new();
    if let Some(join) = node.join {
        marks.push(joined(graph, index, join));
    }
    if node.defer {
        marks.push("deferred".to_owned());
    }
    if let Some(most) = node.max_visits {
        marks.push(format!("at most {most} visits"));
    }
    if node.effect == Effect::Danger {
        marks.push("danger".to_owned());
    }
    if graph.finally == Some(NodeIdx(index)) {
        marks.push("runs last".to_owned());
    }
    Shape {
        name: plain(&node.name),
        detail,
        description: plain(&node.description),
        each,
        marks,
        look,
        is_danger: node.effect == Effect::Danger,
    }
}

/// `⋈ 2 of 3`.
fn joined(graph: &Graph, index: usize, join: Join) -> String {
    let need = match join.need {
        Need::All => "all".to_owned(),
        Need::Some(1) => "any".to_owned(),
        Need::Some(some) => {
            let leads_here = |node: &&Node| node.successors().contains(&NodeIdx(index));
            format!("{some} of {}", graph.nodes.iter().filter(leads_here).count())
        }
    };
    format!("⋈ {need}")
}

/// The ways out of a node: its arms or options, then where failures lead, then what its function may choose.
fn choices(graph: &Graph, from: usize) -> Vec<Choice> {
    let Some(node) = graph.nodes.get(from) else { return Vec::new() };
    let indices = |list: &[NodeIdx]| list.iter().map(|NodeIdx(to)| *to).collect::<Vec<usize>>();
    let several = node.next.len() > 1;
    let mut out: Vec<Choice> = node
        .next
        .iter()
        .map(|arm| {
            let why = match (&arm.when, &arm.option) {
                (Some(when), _) => Why::If(plain(when.source().trim())),
                (None, Some(option)) => Why::Option(plain(option)),
                (None, None) if several => Why::Else,
                (None, None) => Why::Always,
            };
            Choice { why, to: indices(&arm.to) }
        })
        .collect();
    // Without arms the branch ends; what runs last has none.
    if out.is_empty() && graph.finally != Some(NodeIdx(from)) {
        out.push(Choice { why: Why::Always, to: Vec::new() });
    }
    out.extend(node.on_error.iter().map(|arm| {
        let classes = if arm.on.is_empty() { "error".to_owned() } else { plain(&arm.on.join(", ")) };
        Choice { why: Why::On(classes), to: indices(&arm.to) }
    }));
    for (why, list) in [(Why::Goto, &node.goto), (Why::Send, &node.send)] {
        if !list.is_empty() {
            out.push(Choice { why, to: indices(list) });
        }
    }
    out
}

#[cfg(test)]
mod tests;

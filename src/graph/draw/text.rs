//! A tree for a terminal.
//!
//! Each node has one line, at its first place in the order of the run; later mentions are `→ name`, and
//! `↩ name` where the run goes back to a node it came through.

use super::{Choice, Line, Look, Picture, Why, choices};
use crate::graph::document::written;
use crate::graph::{Durability, Graph};
use crate::text::{bounded, plain};

/// Deepest nesting; what lies deeper is shown as a tree of its own below.
const DEEPEST: usize = 24;
/// Widest first column.
const WIDEST: usize = 56;
/// Longest condition.
const CONDITION: usize = 72;

/// Draws the tree.
pub(super) fn draw(graph: &Graph, picture: &Picture) -> String {
    let mut tree = Tree {
        graph,
        picture,
        lines: Vec::new(),
        shown: vec![false; picture.nodes.len()],
        path: Vec::new(),
        waiting: Vec::new(),
    };
    tree.root("▶ ", picture.start);
    loop {
        let later = tree.waiting.pop().or_else(|| tree.shown.iter().position(|shown| !shown));
        let Some(next) = later else { break };
        if !tree.is_shown(next) {
            tree.lines.push((String::new(), String::new()));
            tree.root("· ", next);
        }
    }
    let width = tree
        .lines
        .iter()
        .filter(|(_, right)| !right.is_empty())
        .map(|(left, _)| chars(left))
        .filter(|w| *w <= WIDEST);
    let width = width.max().unwrap_or(0);
    let mut out = head(graph, picture);
    for (left, right) in &tree.lines {
        let gap = " ".repeat(if right.is_empty() { 0 } else { width.saturating_sub(chars(left)) + 2 });
        out.push_str(format!("{left}{gap}{right}").trim_end());
        out.push('\n');
    }
    out
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn head(graph: &Graph, picture: &Picture) -> String {
    let mut line = format!("{} v{}", picture.name, graph.version);
    if !graph.description.is_empty() {
        line.extend(["  ", &plain(&graph.description)]);
    }
    let durability = match graph.durability {
        Durability::Power => "survives a loss of power",
        Durability::Crash => "survives a crash",
        Durability::Exit => "kept when it ends",
    };
    let deadline = graph.deadline.map_or_else(String::new, |limit| format!(", {}", written(limit)));
    format!("{line}\nat most {} steps{deadline}; {durability}\n\n", graph.max_steps)
}

struct Tree<'p> {
    graph: &'p Graph,
    picture: &'p Picture,
    /// The tree on the left, the details on the right.
    lines: Vec<(String, String)>,
    shown: Vec<bool>,
    /// Nodes from the root to the present one.
    path: Vec<usize>,
    /// Nodes that were too deep.
    waiting: Vec<usize>,
}

impl Tree<'_> {
    fn is_shown(&self, node: usize) -> bool {
        self.shown.get(node).copied().unwrap_or(true)
    }

    fn root(&mut self, lead: &str, node: usize) {
        if self.picture.nodes.get(node).is_some() {
            self.node(lead, "", node, 0);
        }
    }

    /// A node and what comes after it. `lead` begins its line, `rest` the lines below.
    fn node(&mut self, lead: &str, rest: &str, first: usize, depth: usize) {
        let came_with = self.path.len();
        let mut lead = lead.to_owned();
        let mut node = first;
        while let Some(shape) = self.picture.nodes.get(node) {
            if let Some(shown) = self.shown.get_mut(node) {
                *shown = true;
            }
            self.path.push(node);
            let gate = if shape.look == Look::Gate { "◆ " } else { "" };
            let mut left = format!("{lead}{gate}{}", shape.name);
            let mut right = shape.detail.clone();
            if let Some((times, each)) = &shape.each {
                left.extend([" ", times]);
                right.extend([", ", each]);
            }
            match shape.look {
                Look::Prompt => right.insert_str(0, "prompt "),
                Look::Gate => right.insert_str(0, "gate: "),
                Look::Task | Look::Graph => {}
            }
            for mark in &shape.marks {
                right.extend([", ", mark]);
            }
            self.lines.push((left, right));
            let ways = choices(self.graph, node);
            match ways.as_slice() {
                [] => {}
                // A chain goes down without indenting.
                [Choice { why: Why::Always, to }] => match to.as_slice() {
                    [to] if !self.is_shown(*to) => {
                        lead = format!("{rest}↓ ");
                        node = *to;
                        continue;
                    }
                    [] => self.mention(&format!("{rest}↓ "), None),
                    [to] => self.mention(&format!("{rest}↓ "), Some(*to)),
                    several => {
                        self.lines.push((format!("{rest}⇉ at once"), String::new()));
                        let targets: Vec<Option<usize>> = several.iter().copied().map(Some).collect();
                        self.together(rest, &targets, depth);
                    }
                },
                ways => self.branches(rest, ways, depth),
            }
            break;
        }
        self.path.truncate(came_with);
    }

    /// The ways out of a node.
    fn branches(&mut self, rest: &str, ways: &[Choice], depth: usize) {
        for (index, way) in ways.iter().enumerate() {
            let (corner, below) = corner(index + 1 == ways.len(), way.line());
            let label = match &way.why {
                Why::Always => "then".to_owned(),
                Why::If(condition) => format!("if {}", bounded(condition, CONDITION)),
                _ => bounded(&way.label(), CONDITION),
            };
            let lead = format!("{rest}{corner}{label} ");
            let rest = format!("{rest}{below}");
            match way.to.as_slice() {
                [] => self.mention(&lead, None),
                [only] => self.target(&lead, &rest, Some(*only), depth + 1),
                several => {
                    let targets: Vec<Option<usize>> = several.iter().copied().map(Some).collect();
                    let how = if matches!(way.why, Why::Goto) { "⇉ some of" } else { "⇉ at once" };
                    self.lines.push((format!("{lead}{how}"), String::new()));
                    self.together(&rest, &targets, depth + 1);
                }
            }
        }
    }

    /// Nodes that run in the same step.
    fn together(&mut self, rest: &str, targets: &[Option<usize>], depth: usize) {
        for (index, target) in targets.iter().enumerate() {
            let (corner, below) = corner(index + 1 == targets.len(), Line::Plain);
            self.target(&format!("{rest}{corner}"), &format!("{rest}{below}"), *target, depth + 1);
        }
    }

    /// A target: the node itself where it is new, or a mention.
    fn target(&mut self, lead: &str, rest: &str, target: Option<usize>, depth: usize) {
        match target {
            Some(node) if !self.is_shown(node) && depth < DEEPEST => {
                // Behind a condition an arrow makes clear where the name begins.
                let lead = if lead.ends_with("─ ") { lead.to_owned() } else { format!("{lead}→ ") };
                self.node(&lead, rest, node, depth);
            }
            other => self.mention(lead, other),
        }
    }

    fn mention(&mut self, lead: &str, target: Option<usize>) {
        let text = match target {
            None => "■ end".to_owned(),
            Some(node) => {
                let name = self.picture.nodes.get(node).map_or("?", |shape| shape.name.as_str());
                if !self.is_shown(node) {
                    self.waiting.push(node);
                }
                if self.path.contains(&node) { format!("↩ {name}") } else { format!("→ {name}") }
            }
        };
        self.lines.push((format!("{lead}{text}"), String::new()));
    }
}

/// How a branch begins, and how the lines below it do: dashed where failures lead, dotted where the function chooses.
const fn corner(last: bool, line: Line) -> (&'static str, &'static str) {
    let begins = match (last, line) {
        (true, Line::Plain) => "└─ ",
        (false, Line::Plain) => "├─ ",
        (true, Line::Failing) => "└╌ ",
        (false, Line::Failing) => "├╌ ",
        (true, Line::Chosen) => "└┈ ",
        (false, Line::Chosen) => "├┈ ",
    };
    (begins, if last { "   " } else { "│  " })
}

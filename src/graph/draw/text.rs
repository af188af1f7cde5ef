//! A tree for a terminal.
//!
//! Each node has one line, at its first place in the order of the run; later mentions are `→ name`, and
//! `↩ name` where the run goes back to a node it came through.

use super::{Picture, edges_of};
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
            let mut left = format!("{lead}{}", shape.name);
            let mut right = shape.detail.clone();
            if let Some((times, each)) = &shape.each {
                left.extend([" ", times]);
                right.extend([", ", each]);
            }
            if shape.is_prompt {
                right.insert_str(0, "prompt ");
            }
            self.lines.push((left, right));
            // A chain goes down without indenting.
            let edges = edges_of(self.graph, node);
            match edges.as_slice() {
                [only] if only.label.is_empty() => match only.to {
                    Some(to) if !self.is_shown(to) => {
                        lead = format!("{rest}↓ ");
                        node = to;
                        continue;
                    }
                    to => self.mention(&format!("{rest}↓ "), to),
                },
                _ => self.branches(rest, node, depth),
            }
            break;
        }
        self.path.truncate(came_with);
    }

    /// The arms of a node.
    fn branches(&mut self, rest: &str, node: usize, depth: usize) {
        let arms = self.graph.nodes.get(node).map(|node| node.next.as_slice()).unwrap_or_default();
        let choice = arms.len() > 1 || arms.iter().any(|arm| arm.when.is_some());
        if let ([arm], false) = (arms, choice) {
            let targets: Vec<Option<usize>> = arm.to.iter().map(|to| Some(to.0)).collect();
            self.lines.push((format!("{rest}⇉ at once"), String::new()));
            self.together(rest, &targets, depth);
            return;
        }
        for (index, arm) in arms.iter().enumerate() {
            let (corner, below) = corner(index + 1 == arms.len());
            let label = match &arm.when {
                Some(when) => format!("if {}", bounded(&plain(when.source().trim()), CONDITION)),
                None => "else".to_owned(),
            };
            let lead = format!("{rest}{corner}{label} ");
            let rest = format!("{rest}{below}");
            match arm.to.as_slice() {
                [] => self.mention(&lead, None),
                [only] => self.target(&lead, &rest, Some(only.0), depth + 1),
                several => {
                    let targets: Vec<Option<usize>> = several.iter().map(|to| Some(to.0)).collect();
                    self.lines.push((format!("{lead}⇉ at once"), String::new()));
                    self.together(&rest, &targets, depth + 1);
                }
            }
        }
    }

    /// Nodes that run in the same step.
    fn together(&mut self, rest: &str, targets: &[Option<usize>], depth: usize) {
        for (index, target) in targets.iter().enumerate() {
            let (corner, below) = corner(index + 1 == targets.len());
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

/// How a branch begins, and how the lines below it do.
const fn corner(last: bool) -> (&'static str, &'static str) {
    if last { ("└─ ", "   ") } else { ("├─ ", "│  ") }
}

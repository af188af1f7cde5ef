//! Danger needs consent: gates before it on every path, and nothing untrusted between them and it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bits::Bits;
use super::flow::ENOUGH;
use super::ways::targets;
use super::{Parts, Scope};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::{Effect, NodeKind, Trust};

/// What lies between a danger node and the gates before it.
struct Region {
    /// Nodes from which a way leads to it without a gate; itself only where it is in a cycle.
    nodes: BTreeSet<usize>,
    /// The gates that these ways begin at.
    gates: BTreeSet<usize>,
}

/// Checks every danger node, and every gate that leads to one.
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let is_danger =
        |node: usize| parts.nodes.get(node).is_some_and(|node| node.node().effect == Effect::Danger);
    let targets = targets(&parts.ways);
    for node in (0..parts.nodes.len()).filter(|node| is_danger(*node)) {
        if faults.len() > ENOUGH {
            return;
        }
        if scope.finally == Some(node) {
            faults.push(Fault::new(
                codes::NO_GATE,
                parts.name_span(node),
                "runs without consent",
                format!(
                    "`{}` cannot be undone, and as `finally` it runs without asking anybody",
                    parts.name(node)
                ),
                "put it behind a gate inside the graph",
            ));
            continue;
        }
        let region = region(parts, &targets, node);
        if no_gate(parts, node, &region, faults) {
            // What lies behind the last gate is known once there is one.
            continue;
        }
        steered(parts, scope, node, &region, faults);
        changed(parts, scope, node, &region, faults);
    }
    for gate in 0..parts.nodes.len() {
        opens(parts, gate, is_danger, faults);
    }
}

fn region(parts: &Parts<'_>, targets: &[Bits], danger: usize) -> Region {
    let mut out = Region { nodes: BTreeSet::new(), gates: BTreeSet::new() };
    let mut open = vec![danger];
    while let Some(node) = open.pop() {
        for (before, targets) in targets.iter().enumerate() {
            if !targets.has(node) {
                continue;
            }
            if parts.is_gate(before) {
                out.gates.insert(before);
            } else if out.nodes.insert(before) {
                open.push(before);
            }
        }
    }
    out
}

fn no_gate(parts: &Parts<'_>, danger: usize, region: &Region, faults: &mut Vec<Fault>) -> bool {
    let Some(start) = parts.start.filter(|start| *start == danger || region.nodes.contains(start)) else {
        return false;
    };
    let path: Vec<&str> = path(parts, start, danger).into_iter().map(|node| parts.name(node)).collect();
    let mut fault = Fault::new(
        codes::NO_GATE,
        parts.name_span(danger),
        "no gate before it",
        format!(
            "`{}` cannot be undone, and a way leads to it without a gate: `{}`",
            parts.name(danger),
            path.join("` → `")
        ),
        "put a gate on this way: `kind = \"gate\"`, `ask = \"…\"`, `options = { approve = \"…\", deny = \"end\" }`",
    );
    if start != danger {
        fault = fault.also(parts.name_span(start), "the way begins here");
    }
    faults.push(fault);
    true
}

/// The shortest way from a node to another without a gate.
fn path(parts: &Parts<'_>, from: usize, to: usize) -> Vec<usize> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        if node == to {
            break;
        }
        for target in parts.ways.get(node).map(super::Way::targets).unwrap_or_default() {
            if target != from && !parts.is_gate(target) && !came_from.contains_key(&target) {
                came_from.insert(target, node);
                queue.push_back(target);
            }
        }
    }
    let mut out = vec![to];
    let mut node = to;
    while let Some(before) = came_from.get(&node).filter(|_| node != from) {
        node = *before;
        out.push(node);
    }
    out.reverse();
    out
}

/// Choices between the last gate and the danger that depend on untrusted values.
fn steered(parts: &Parts<'_>, scope: &Scope<'_>, danger: usize, region: &Region, faults: &mut Vec<Fault>) {
    let untrusted = |channel: usize| {
        scope.channels.get(channel).filter(|channel| channel.value.trust == Trust::Untrusted)
    };
    let message = |by: &str| {
        format!(
            "whether `{}` is done, which cannot be undone, depends on `{by}` after the last gate",
            parts.name(danger)
        )
    };
    for node in &region.nodes {
        let Some(edges) = parts.edges.get(*node) else { continue };
        for read in &edges.reads {
            if let Some(channel) = untrusted(read.channel) {
                let fault = Fault::new(
                    codes::STEERED,
                    read.span.clone(),
                    "an untrusted value chooses the way",
                    message(&channel.value.name),
                    "choose before the gate, and show the gate what was chosen",
                );
                faults.push(
                    fault
                        .also(parts.name_span(danger), "cannot be undone")
                        .also(channel.span.clone(), "is untrusted"),
                );
            }
        }
        let (Some(raw), Some(checked)) = (parts.raw.get(*node), parts.nodes.get(*node)) else { continue };
        for (key, targets) in [("goto", &edges.goto), ("send", &edges.send)] {
            let leads = targets.iter().any(|to| to.0 == danger || region.nodes.contains(&to.0));
            let by = checked.reads.iter().find_map(|read| untrusted(read.channel));
            if let Some(channel) = by.filter(|_| leads) {
                let fault = Fault::new(
                    codes::STEERED,
                    raw.key_span(key),
                    "reads untrusted values and chooses the way",
                    message(&channel.value.name),
                    "choose before the gate, and show the gate what was chosen",
                );
                faults.push(fault.also(parts.name_span(danger), "cannot be undone"));
            }
        }
    }
}

/// Untrusted values that the danger reads: written after the last gate, or not shown by it.
fn changed(parts: &Parts<'_>, scope: &Scope<'_>, danger: usize, region: &Region, faults: &mut Vec<Fault>) {
    let (Some(together), Some(node)) = (&parts.together, parts.nodes.get(danger)) else { return };
    let mut seen = BTreeSet::new();
    for read in &node.reads {
        let Some(channel) = scope.channels.get(read.channel) else { continue };
        if channel.value.trust == Trust::Trusted || !seen.insert(read.channel) {
            continue;
        }
        let name = &channel.value.name;
        let is_late = |writer: usize| {
            region.nodes.contains(&writer)
                || region.gates.iter().chain(&region.nodes).any(|node| together.are_beside(*node, writer))
        };
        let late = (0..parts.nodes.len()).filter(|writer| is_late(*writer)).find_map(|writer| {
            let write = parts.writes(writer).find(|write| write.channel == read.channel)?;
            Some((writer, write.span.clone()))
        });
        if let Some((writer, span)) = late.filter(|_| !region.gates.is_empty()) {
            faults.push(
                Fault::new(
                    codes::CHANGED,
                    read.span.clone(),
                    format!("reads `{name}`"),
                    format!(
                        "`{}` cannot be undone and reads the untrusted `{name}`, which `{}` can write after the last gate",
                        parts.name(danger),
                        parts.name(writer)
                    ),
                    "write it before the gate, or put a gate behind the write",
                )
                .also(span, format!("`{}` writes it", parts.name(writer)))
                .also(channel.span.clone(), "is untrusted"),
            );
            continue;
        }
        for gate in &region.gates {
            let shows = parts
                .nodes
                .get(*gate)
                .is_some_and(|gate| gate.reads.iter().any(|shown| shown.channel == read.channel));
            if !shows {
                faults.push(
                    Fault::new(
                        codes::NOT_SHOWN,
                        parts.name_span(*gate),
                        format!("does not show `{name}`"),
                        format!(
                            "`{}` cannot be undone and reads the untrusted `{name}`, which the gate `{}` does not show",
                            parts.name(danger),
                            parts.name(*gate)
                        ),
                        format!("add `shows = [\"{name}\"]`, so that whoever answers sees what is consented to"),
                    )
                    .also(read.span.clone(), format!("reads `{name}`"))
                    .warning(),
                );
            }
        }
    }
}

/// A gate whose silence leads to danger.
fn opens(parts: &Parts<'_>, gate: usize, is_danger: impl Fn(usize) -> bool, faults: &mut Vec<Fault>) {
    let (Some(checked), Some(edges)) = (parts.nodes.get(gate), parts.edges.get(gate)) else { return };
    let Some(NodeKind::Gate(asked)) = &checked.kind else { return };
    let Some(arm) = asked.on_timeout.and_then(|option| edges.arms.get(option)) else { return };
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let mut open: Vec<usize> = arm.to.iter().map(|node| node.0).collect();
    while let Some(node) = open.pop() {
        if parts.is_gate(node) || !seen.insert(node) {
            continue;
        }
        if is_danger(node) {
            let option = arm.option.as_deref().unwrap_or("?");
            let span = parts.raw.get(gate).map_or(0..0, |raw| raw.key_span("on_timeout"));
            faults.push(
                Fault::new(
                    codes::GATE_OPENS,
                    span,
                    format!("`{option}` leads to `{}`", parts.name(node)),
                    format!(
                        "when nobody answers the gate `{}`, `{}` is done, which cannot be undone",
                        parts.name(gate),
                        parts.name(node)
                    ),
                    "let `on_timeout` name the option that does nothing",
                )
                .also(parts.name_span(node), "cannot be undone"),
            );
            return;
        }
        open.extend(parts.ways.get(node).map(super::Way::targets).unwrap_or_default());
    }
}

//! The graph as a whole: what is reached, what ends, who writes at once, and which channels ever have a value.

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::next::END;
use super::output::one_write;
use super::ways::{Way, reached};
use super::{Parts, Scope};
use crate::graph::Reducer;
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;

/// More faults than anybody reads; pairs of writers may be many.
pub(super) const ENOUGH: usize = 1_000;

/// Checks the graph as a whole.
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    if let Some(start) = parts.start {
        if !parts.is_unclear() {
            unreachable(parts, scope, start, faults);
        }
        conflicts(parts, scope, faults);
    }
    endless(parts, faults);
    if parts.nodes.iter().all(|node| node.is_known) {
        never_written(parts, scope, faults);
    }
}

fn unreachable(parts: &Parts<'_>, scope: &Scope<'_>, start: usize, faults: &mut Vec<Fault>) {
    let reached = reached(&parts.ways, start);
    for (index, node) in parts.raw.iter().enumerate() {
        let name = node.name.get_ref();
        // A node called `end` has its own fault, and edges that seem to lead there end the branch.
        if !reached.contains(&index) && name != END && scope.finally != Some(index) {
            faults.push(Fault::new(
                codes::UNREACHABLE,
                node.name.span(),
                "no way leads here",
                format!("the node `{name}` is never reached from `start`"),
                format!("add it to the `next` of a node: `next = \"{name}\"`, or take it out"),
            ));
        }
    }
}

/// Cycles without a way out: strongly connected nodes none of which ends, leads elsewhere or has enough one day.
fn endless(parts: &Parts<'_>, faults: &mut Vec<Fault>) {
    let ways = &parts.ways;
    let mut graph = DiGraph::<usize, ()>::new();
    let indices: Vec<_> = (0..ways.len()).map(|index| graph.add_node(index)).collect();
    for (from, way) in ways.iter().enumerate() {
        for to in way.targets() {
            if let (Some(from), Some(to)) = (indices.get(from), indices.get(to)) {
                graph.add_edge(*from, *to, ());
            }
        }
    }
    for component in tarjan_scc(&graph) {
        let mut members: Vec<usize> = component.iter().map(|index| index.index()).collect();
        members.sort_unstable();
        let leaves = |way: &Way| way.ends || !way.targets().iter().all(|target| members.contains(target));
        let has_enough = |member: &usize| parts.raw.get(*member).is_some_and(|raw| raw.has("max_visits"));
        if members.iter().any(|member| has_enough(member) || ways.get(*member).is_none_or(leaves)) {
            continue;
        }
        let raw: Vec<&RawNode> = members.iter().filter_map(|member| parts.raw.get(*member)).collect();
        let Some((first, rest)) = raw.split_first() else { continue };
        let names: Vec<&str> = raw.iter().map(|node| node.name.get_ref().as_str()).collect();
        let message = match names.as_slice() {
            [only] => format!("the node `{only}` only ever leads to itself"),
            _ => format!("the nodes `{}` only ever lead to each other", names.join("`, `")),
        };
        let place = |node: &RawNode| {
            let key = ["next", "options", "goto", "send"].into_iter().find(|key| node.has(key));
            node.key_span(key.unwrap_or("next"))
        };
        let mut fault = Fault::new(
            codes::NO_END,
            place(first),
            "no way out",
            message,
            "add an arm that leaves the cycle: `next = [{ if = \"…\", to = \"end\" }, { else = \"…\" }]`",
        );
        for member in rest.iter().take(8) {
            fault = fault.also(place(member), "nor here");
        }
        faults.push(fault);
    }
}

fn conflicts(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let Some(together) = &parts.together else { return };
    for (index, channel) in scope.channels.iter().enumerate() {
        if channel.ty.is_none() {
            continue;
        }
        // Each writer once, with whether it replaces the value.
        let mut writers: Vec<(usize, bool)> = Vec::new();
        for node in 0..parts.nodes.len() {
            let mut own = parts.writes(node).filter(|write| write.channel == index).peekable();
            if own.peek().is_some() {
                writers.push((node, own.any(|write| write.overwrites)));
            }
        }
        let is_last = channel.value.reducer == Reducer::Last;
        for (position, (first, replaces)) in writers.iter().enumerate() {
            for (second, also_replaces) in writers.iter().skip(position + 1) {
                if !(is_last || (*replaces && *also_replaces)) || !together.both(*first, *second) {
                    continue;
                }
                if faults.len() > ENOUGH {
                    return;
                }
                let (Some(one), Some(two)) = (parts.raw.get(*first), parts.raw.get(*second)) else {
                    continue;
                };
                faults.push(
                    Fault::new(
                        codes::PARALLEL_WRITERS,
                        two.name.span(),
                        format!("writes `{}` too", channel.value.name),
                        format!(
                            "`{}` and `{}` can run in the same step and both write `{}`, which takes one write a step",
                            one.name.get_ref(),
                            two.name.get_ref(),
                            channel.value.name
                        ),
                        "let one run after the other, write to two channels, or choose a reducer that keeps both, as `append`",
                    )
                    .also(one.name.span(), format!("writes `{}`", channel.value.name))
                    .also(channel.span.clone(), one_write(channel)),
                );
            }
        }
    }
}

fn never_written(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    for (index, channel) in scope.channels.iter().enumerate() {
        let is_written =
            (0..parts.nodes.len()).any(|node| parts.writes(node).any(|write| write.channel == index));
        let Some(ty) = channel.ty.as_ref().filter(|_| !channel.given && !is_written) else { continue };
        let by_nodes = parts.nodes.iter().zip(parts.raw).flat_map(|(node, raw)| {
            node.reads
                .iter()
                .filter(|read| read.channel == index && !read.takes_null)
                .map(|read| (read.span.clone(), raw.name.get_ref()))
        });
        let by_conditions = parts.edges.iter().zip(parts.raw).flat_map(|(edges, raw)| {
            let nullable = matches!(ty, crate::graph::Type::Optional(_));
            edges
                .reads
                .iter()
                .filter(move |read| read.channel == index && !nullable)
                .map(|read| (read.span.clone(), raw.name.get_ref()))
        });
        let readers: Vec<_> = by_nodes.chain(by_conditions).take(4).collect();
        if readers.is_empty() {
            continue;
        }
        let mut fault = Fault::new(
            codes::NEVER_WRITTEN,
            channel.span.clone(),
            "never has a value",
            format!("the channel `{}` is read, but nothing ever writes it", channel.value.name),
            "give it a `default`, make it an `input = true` of the run, or let a node write it",
        );
        for (span, node) in readers {
            fault = fault.also(span, format!("read by `{node}`"));
        }
        faults.push(fault);
    }
}

//! Nodes that wait: joins that can fire, branches that meet, tasks that can be sent, the node that runs last.

use super::ways::{Together, Way, closure, forward};
use super::{Parts, Scope, is_gate};
use crate::graph::Need;
use crate::graph::codes;
use crate::graph::fault::Fault;

/// Checks all of it.
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    sends(parts, scope, faults);
    last(parts, scope, faults);
    if !parts.is_unclear() {
        for node in 0..parts.nodes.len() {
            join(parts, node, faults);
        }
        twice(parts, scope, faults);
    }
}

/// Whether the nodes that are sent tasks can take them.
fn sends(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    for raw in parts.raw {
        for name in raw.send.get().into_iter().flat_map(toml::Spanned::get_ref) {
            let Some(index) = scope.nodes.iter().position(|node| node == name.get_ref()) else { continue };
            let Some(target) = parts.raw.get(index) else { continue };
            let why = if !target.each.is_absent() {
                "fans out over a list by itself"
            } else if !target.join.is_absent() {
                "waits for branches"
            } else if is_gate(target) {
                "is a gate"
            } else if scope.finally == Some(index) {
                "runs when the run ends"
            } else {
                continue;
            };
            faults.push(
                Fault::new(
                    codes::BAD_SEND,
                    name.span(),
                    why,
                    format!(
                        "`{}` cannot be sent tasks by `{}`: it {why}",
                        name.get_ref(),
                        raw.name.get_ref()
                    ),
                    "send to a node that works on one input, or lead there with `next`",
                )
                .also(target.name.span(), "this node"),
            );
        }
    }
}

/// Whether nothing leads to the node that runs last.
fn last(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let Some(last) = scope.finally else { return };
    let help = "take the edge out: it runs by itself when the run ends, also after a failure";
    let fault = |label: String, message: String| {
        Fault::new(codes::FINALLY, parts.name_span(last), label, message, help)
    };
    let name = parts.name(last);
    if parts.start == Some(last) {
        faults.push(fault("also `start`".to_owned(), format!("`{name}` is both `start` and `finally`")));
    }
    for (before, way) in parts.ways.iter().enumerate() {
        if way.arms.iter().any(|arm| arm.contains(&last)) && before != last {
            let message = format!("`{}` leads to `{name}`, which is `finally`", parts.name(before));
            faults.push(fault("runs last".to_owned(), message).also(parts.name_span(before), "leads here"));
        }
    }
}

fn join(parts: &Parts<'_>, node: usize, faults: &mut Vec<Fault>) {
    let (Some(checked), Some(together)) = (parts.nodes.get(node), &parts.together) else { return };
    let Some(join) = &checked.node().join else { return };
    let name = parts.name(node);
    let span = || checked.join_span.clone();
    if parts.start == Some(node) {
        faults.push(Fault::new(
            codes::JOIN_NEVER,
            span(),
            "the run starts here",
            format!("`{name}` waits for branches, and nothing has run before it"),
            "take `join` out, or start at another node",
        ));
        return;
    }
    let before: Vec<usize> = (0..parts.ways.len())
        .filter(|from| {
            parts.ways.get(*from).is_some_and(|way| way.arms.iter().any(|arm| arm.contains(&node)))
        })
        .collect();
    let names: Vec<&str> = before.iter().map(|before| parts.name(*before)).collect();
    let led = match names.as_slice() {
        [] => "no node leads here".to_owned(),
        [one] => format!("only `{one}` leads here"),
        _ => format!("`{}` lead here", names.join("`, `")),
    };
    if let Some(total) = checked.join_total
        && usize::try_from(total).is_ok_and(|total| total != before.len())
    {
        faults.push(Fault::new(
            codes::JOIN_NEVER,
            span(),
            format!("of {}", before.len()),
            format!(
                "the join of `{name}` counts {total} nodes that lead there, and there are {}: {led}",
                before.len()
            ),
            format!("write `of {}`", before.len()),
        ));
        return;
    }
    // Branches that can come in one run: beside each other, or while this node waits for more already.
    let is_late = |one: &usize| together.are_beside(node, *one);
    let beside = |one: &usize| before.iter().any(|other| other != one && together.are_beside(*one, *other));
    let late = before.iter().filter(|one| is_late(one)).count();
    let early = before.iter().filter(|one| !is_late(one) && beside(one)).count();
    let coming = late + early.max(usize::from(late > 0)).min(before.len() - late);
    match join.need {
        Need::Some(some) if some > 1 && usize::try_from(some).is_ok_and(|some| some > coming) => {
            faults.push(Fault::new(
                codes::JOIN_NEVER,
                span(),
                "so many never come",
                format!("`{name}` waits for {some} branches, and so many cannot come in one run: {led}"),
                "branches come together only from one list of nodes, as `next = [\"a\", \"b\"]`; of the arms of a choice one is taken",
            ));
        }
        _ if coming < 2 => faults.push(
            Fault::new(
                codes::JOIN_IDLE,
                span(),
                "nothing to wait for",
                format!("never more than one branch comes to `{name}`: {led}"),
                "take `join` out",
            )
            .warning(),
        ),
        _ => {}
    }
}

/// Nodes that branches of unequal length lead to, so that they run once for each.
fn twice(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let Some(start) = parts.start else { return };
    // A cycle runs a node again, and is meant to; so does whatever repairs failures.
    let ways: Vec<Way> = parts.ways.iter().map(Way::without_failures).collect();
    let ways = forward(&ways, start);
    let together = Together::of(&ways, start);
    let reach = closure(&ways);
    for (node, checked) in parts.nodes.iter().enumerate() {
        let waits = checked.node().join.is_some() || checked.node().defer;
        let is_sent = parts.raw.get(node).is_some_and(|raw| scope.sent_to(raw).is_some());
        if waits || is_sent {
            continue;
        }
        let later = (0..parts.nodes.len()).find(|other| {
            *other != node
                && together.are_beside(node, *other)
                && reach.get(*other).is_some_and(|row| row.has(node))
        });
        let Some(later) = later else { continue };
        faults.push(
            Fault::new(
                codes::RUNS_TWICE,
                parts.name_span(node),
                "runs once for each branch",
                format!(
                    "`{}` runs while `{}` does, which leads to it again",
                    parts.name(node),
                    parts.name(later)
                ),
                "add `join = \"all\"`, so that it waits for all branches; if it is meant to run for each, nothing needs to change",
            )
            .also(parts.name_span(later), "comes later")
            .warning(),
        );
    }
}

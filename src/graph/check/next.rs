//! Edges: targets, arms, options, error arms, `goto` and `send`.

use std::ops::Range;

use toml::Spanned;

use super::condition::{self, Names};
use super::node::Write;
use super::{Scope, is_gate, policy, shape};
use crate::graph::codes;
use crate::graph::document::Slot;
use crate::graph::fault::Fault;
use crate::graph::file::{RawArm, RawErrorArm, RawNext, RawNode};
use crate::graph::{Arm, ChannelIdx, ErrorArm, Expr, NodeIdx, suggest};

/// The end of the graph, as a target.
pub(super) const END: &str = "end";

/// The edges of a node.
#[derive(Default)]
pub(super) struct Edges {
    /// As the graph has them.
    pub(super) arms: Vec<Arm>,
    /// Where it goes when it fails.
    pub(super) errors: Vec<ErrorArm>,
    /// The channels that get its failure.
    pub(super) error_writes: Vec<Write>,
    /// Nodes its function may go to.
    pub(super) goto: Vec<NodeIdx>,
    /// Nodes its function may send tasks to.
    pub(super) send: Vec<NodeIdx>,
    /// Nodes that wrong targets may have meant; they count as reached.
    pub(super) guesses: Vec<usize>,
    /// Whether some edge is a fault whose target nobody can guess.
    pub(super) unclear: bool,
    /// What its conditions read.
    pub(super) reads: Vec<Condition>,
}

/// A channel that a condition reads.
#[derive(Clone)]
pub(super) struct Condition {
    pub(super) channel: usize,
    /// Where it does.
    pub(super) span: Range<usize>,
    /// The text of the condition.
    pub(super) source: String,
}

/// What `on_error` says, and the channels that it writes.
#[derive(Clone, Default)]
pub(super) struct Failing {
    pub(super) arms: Vec<ErrorArm>,
    pub(super) writes: Vec<Write>,
}

/// Checks the edges of a node. `failing` is what `[defaults]` says about failures.
pub(super) fn check(
    raw: &RawNode,
    index: usize,
    scope: &Scope<'_>,
    failing: &Failing,
    faults: &mut Vec<Fault>,
) -> Edges {
    let mut edges = Edges::default();
    if is_gate(raw) {
        options(raw, scope, &mut edges, faults);
        return edges;
    }
    next(raw, scope, &mut edges, faults);
    if raw.next.is_absent() && raw.gate.options.get().is_some() {
        // It was meant to be a gate.
        options(raw, scope, &mut edges, faults);
    }
    if raw.policy.on_error.is_absent() {
        // The nodes that failures lead to cannot lead to themselves when they fail.
        let leads_here = failing.arms.iter().any(|arm| arm.to.contains(&NodeIdx(index)));
        if !leads_here && scope.finally != Some(index) {
            edges.errors.clone_from(&failing.arms);
            edges.error_writes.clone_from(&failing.writes);
        }
    } else {
        let own = on_error(&raw.policy.on_error, scope, &mut edges, faults);
        edges.errors = own.arms;
        edges.error_writes = own.writes;
    }
    if !raw.task.is_absent() {
        edges.goto = chosen(&raw.goto, "`goto`", scope, &mut edges, faults);
        edges.send = chosen(&raw.send, "`send`", scope, &mut edges, faults);
    }
    edges
}

/// Checks what `[defaults]` says about failures.
pub(super) fn default_errors(
    slot: &Slot<Vec<Spanned<RawErrorArm>>>,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> (Failing, Edges) {
    let mut edges = Edges::default();
    (on_error(slot, scope, &mut edges, faults), edges)
}

fn next(raw: &RawNode, scope: &Scope<'_>, edges: &mut Edges, faults: &mut Vec<Fault>) {
    let next = match &raw.next {
        Slot::Absent => return,
        Slot::Broken => {
            edges.unclear = true;
            return;
        }
        Slot::Given(next) => next,
    };
    match next.get_ref() {
        RawNext::Direct(list) => {
            let to = targets(list, &next.span(), scope, edges, faults);
            edges.arms.push(Arm { when: None, option: None, to });
        }
        RawNext::Arms(arms) => {
            let mut closed: Option<Range<usize>> = None;
            for arm in arms {
                if let Some(first) = &closed {
                    faults.push(
                        Fault::new(
                            codes::AFTER_ELSE,
                            arm.span(),
                            "never reached",
                            format!("an arm of `{}` stands behind `else`", raw.name.get_ref()),
                            "put `else` last",
                        )
                        .also(first.clone(), "always taken"),
                    );
                }
                let checked = one_arm(arm, scope, edges, faults);
                edges.arms.push(checked);
                if arm.get_ref().is_else && closed.is_none() {
                    closed = Some(arm.span());
                }
            }
            if closed.is_none() {
                let last = arms.last().map_or_else(|| next.span(), Spanned::span);
                faults.push(Fault::new(
                    codes::NO_ELSE,
                    last,
                    "what if this does not hold?",
                    format!("`next` of `{}` has no `else`", raw.name.get_ref()),
                    "add a last arm: `{ else = \"node\" }`, or `{ else = \"end\" }`",
                ));
            }
        }
    }
}

fn one_arm(arm: &Spanned<RawArm>, scope: &Scope<'_>, edges: &mut Edges, faults: &mut Vec<Fault>) -> Arm {
    let raw = arm.get_ref();
    let when = raw.when.get().filter(|_| !raw.is_else).and_then(|text| condition(text, scope, edges, faults));
    let to = slot_targets(&raw.to, scope, edges, faults);
    Arm { when, option: None, to }
}

fn condition(
    text: &Spanned<String>,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Option<Expr> {
    let known: Vec<&str> = scope.channel_names().collect();
    let names = Names { known: &known, one: "channel", many: "channels", what: "condition" };
    let (expr, uses) = condition::parse(text, scope, &names, faults)?;
    for (name, span) in uses {
        if let Some((channel, _)) = scope.channel(&name) {
            edges.reads.push(Condition { channel, span, source: text.get_ref().clone() });
        }
    }
    Some(expr)
}

/// The options of a gate, each an arm.
fn options(raw: &RawNode, scope: &Scope<'_>, edges: &mut Edges, faults: &mut Vec<Fault>) {
    let Some(options) = raw.gate.options.get() else {
        edges.unclear = true;
        return;
    };
    for (name, to) in options.get_ref() {
        let to = slot_targets(to, scope, edges, faults);
        edges.arms.push(Arm { when: None, option: Some(name.get_ref().clone()), to });
    }
    if options.get_ref().is_empty() {
        edges.unclear = true;
    }
}

fn on_error(
    slot: &Slot<Vec<Spanned<RawErrorArm>>>,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Failing {
    let mut out = Failing::default();
    let arms = match slot {
        Slot::Absent => return out,
        Slot::Broken => {
            edges.unclear = true;
            return out;
        }
        Slot::Given(arms) => arms.get_ref(),
    };
    // What earlier arms take: classes with their places, and one that takes all.
    let mut taken: Vec<(String, Range<usize>)> = Vec::new();
    let mut all: Option<Range<usize>> = None;
    for arm in arms {
        let raw = arm.get_ref();
        let on = raw.on.get().map(|list| policy::classes(list, "the arm would never be taken", faults));
        if let Some(first) = &all {
            faults.push(
                Fault::new(
                    codes::DEAD_ARM,
                    arm.span(),
                    "never taken",
                    "an arm stands behind one that takes every failure",
                    "put the arm without `on` last",
                )
                .also(first.clone(), "takes every failure"),
            );
        } else if let Some(on) = &on {
            dead_classes(arm, on, &taken, faults);
            taken.extend(on.iter().map(|class| (class.clone(), arm.span())));
        }
        if raw.on.is_absent() && all.is_none() {
            all = Some(arm.span());
        }
        let to = slot_targets(&raw.to, scope, edges, faults);
        let write = raw.write.get().and_then(|name| {
            let channel = scope.resolve(name, "`on_error`", faults)?;
            shape::takes_object(channel, name, "a failure", scope, faults);
            out.writes.push(Write::of_engine("the failure", channel, name.span()));
            Some(ChannelIdx(channel))
        });
        out.arms.push(ErrorArm { on: on.unwrap_or_default(), to, write });
    }
    out
}

fn dead_classes(
    arm: &Spanned<RawErrorArm>,
    on: &[String],
    taken: &[(String, Range<usize>)],
    faults: &mut Vec<Fault>,
) {
    let earlier = |class: &String| taken.iter().find(|(other, _)| other == class);
    let dead: Vec<&String> = on.iter().filter(|class| earlier(class).is_some()).collect();
    let Some((class, first)) = dead.first().and_then(|class| earlier(class)) else { return };
    let whole = dead.len() == on.len();
    let fault = Fault::new(
        codes::DEAD_ARM,
        arm.span(),
        if whole { "never taken".to_owned() } else { format!("never taken for `{class}`") },
        format!("an earlier arm of `on_error` takes `{class}` already"),
        "name each class in one arm",
    )
    .also(first.clone(), format!("takes `{class}`"));
    faults.push(if whole { fault } else { fault.warning() });
}

/// The nodes that a Rust function may choose.
fn chosen(
    slot: &Slot<Vec<Spanned<String>>>,
    what: &str,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Vec<NodeIdx> {
    let list = match slot {
        Slot::Absent => return Vec::new(),
        Slot::Broken => {
            edges.unclear = true;
            return Vec::new();
        }
        Slot::Given(list) => list.get_ref(),
    };
    let mut out = Vec::new();
    for name in list {
        match node_index(name, what, scope, faults) {
            Some(index) if out.contains(&NodeIdx(index)) => {}
            Some(index) => out.push(NodeIdx(index)),
            None => guess(name, scope, edges),
        }
    }
    out
}

fn slot_targets(
    slot: &Slot<Vec<Spanned<String>>>,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Vec<NodeIdx> {
    if let Some(list) = slot.get() {
        return targets(list.get_ref(), &list.span(), scope, edges, faults);
    }
    edges.unclear = true;
    Vec::new()
}

/// The nodes that a list of names leads to; none: the end.
fn targets(
    list: &[Spanned<String>],
    span: &Range<usize>,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Vec<NodeIdx> {
    if list.is_empty() {
        edges.unclear = true;
        faults.push(Fault::new(
            codes::BAD_NEXT,
            span.clone(),
            "empty",
            "this list leads nowhere",
            "write `\"end\"` if the branch ends here, or name a node",
        ));
    }
    let mut out: Vec<NodeIdx> = Vec::new();
    for (position, target) in list.iter().enumerate() {
        if list.iter().take(position).any(|earlier| earlier.get_ref() == target.get_ref()) {
            faults.push(Fault::new(
                codes::BAD_NEXT,
                target.span(),
                "again",
                format!("`{}` is in the list twice", target.get_ref()),
                "a node runs once a step: name it once",
            ));
            continue;
        }
        if target.get_ref() == END {
            if list.len() > 1 {
                faults.push(Fault::new(
                    codes::BAD_NEXT,
                    target.span(),
                    "no meaning beside nodes",
                    "`end` stands in a list with other targets",
                    "take it out: the branch goes on with the other nodes",
                ));
            }
            continue;
        }
        match node_index(target, "an edge", scope, faults) {
            Some(index) => out.push(NodeIdx(index)),
            None => guess(target, scope, edges),
        }
    }
    out
}

/// The node that a wrong name may have meant counts as reached.
fn guess(name: &Spanned<String>, scope: &Scope<'_>, edges: &mut Edges) {
    let near = suggest::closest(name.get_ref(), scope.node_names());
    match near.and_then(|near| scope.nodes.iter().position(|node| node == near)) {
        Some(index) => edges.guesses.push(index),
        None => edges.unclear = true,
    }
}

/// The node of a name, or a fault at its place.
pub(super) fn node_index(
    name: &Spanned<String>,
    what: &str,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> Option<usize> {
    let found = scope.nodes.iter().position(|node| node == name.get_ref());
    if found.is_none() {
        let names = || scope.node_names().chain((what == "an edge").then_some(END));
        faults.push(Fault::new(
            codes::UNKNOWN_NODE,
            name.span(),
            "no such node",
            format!("{what} leads to `{}`, which is no node", name.get_ref()),
            if names().next().is_none() {
                "the file has no nodes yet: add `[node.NAME]`".to_owned()
            } else {
                suggest::help(name.get_ref(), names().collect::<Vec<_>>(), "nodes")
            },
        ));
    }
    found
}

//! `[graph]`: what holds for a whole run.

use std::time::Duration;

use toml::Spanned;

use super::{Scope, is_gate, next, policy, words};
use crate::graph::codes;
use crate::graph::document::Slot;
use crate::graph::fault::Fault;
use crate::graph::file::{RawHeader, RawNode};
use crate::graph::{Barrier, Budget, Durability, Retention, suggest};

/// What `[graph]` says, checked.
pub(super) struct Header {
    pub(super) deadline: Option<Duration>,
    pub(super) durability: Durability,
    pub(super) barrier: Barrier,
    pub(super) budget: Budget,
    pub(super) retention: Retention,
}

/// Checks what needs no nodes.
pub(super) fn check(raw: &RawHeader, faults: &mut Vec<Fault>) -> Header {
    let retention = raw.retention.get().map_or_else(Retention::default, |raw| Retention {
        keep_last: raw.get_ref().keep_last.get().map(|count| *count.get_ref()),
        max_age: policy::time_limit("retention.max_age", &raw.get_ref().max_age, faults),
    });
    let barrier =
        raw.barrier.get().and_then(|word| words::one_of(word, "barrier", &["superstep", "dataflow"], faults));
    Header {
        deadline: policy::time_limit("deadline", &raw.deadline, faults),
        durability: raw.durability.get().and_then(|text| durability(text, faults)).unwrap_or_default(),
        barrier: if barrier == Some("dataflow") { Barrier::Dataflow } else { Barrier::Superstep },
        budget: raw.budget.get().map_or_else(Budget::default, |raw| policy::budget(raw.get_ref(), faults)),
        retention,
    }
}

pub(super) fn value_or(slot: &Slot<u32>, default: u32) -> u32 {
    slot.get().map_or(default, |value| *value.get_ref())
}

fn durability(text: &Spanned<String>, faults: &mut Vec<Fault>) -> Option<Durability> {
    match text.get_ref().as_str() {
        "power" => Some(Durability::Power),
        "crash" => Some(Durability::Crash),
        "exit" => Some(Durability::Exit),
        other => {
            faults.push(Fault::new(
                codes::UNKNOWN_DURABILITY,
                text.span(),
                "no such durability",
                format!("`{other}` is no durability"),
                suggest::help(other, ["power", "crash", "exit"], "durabilities"),
            ));
            None
        }
    }
}

/// The node that runs last.
pub(super) fn finally(
    raw: &RawHeader,
    nodes: &[RawNode],
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> Option<usize> {
    let name = raw.finally.get()?;
    let index = next::node_index(name, "`finally`", scope, faults)?;
    let node = nodes.get(index)?;
    for key in ["next", "each", "on_error", "goto", "send", "join", "defer", "max_visits"] {
        if node.has(key) {
            faults.push(
                Fault::new(
                    codes::FINALLY,
                    node.key_span(key),
                    format!("`{key}` of the last node"),
                    format!("`{}` runs by itself when the run ends, so `{key}` says nothing", name.get_ref()),
                    format!("take `{key}` out"),
                )
                .also(name.span(), "runs last"),
            );
        }
    }
    if is_gate(node) {
        faults.push(
            Fault::new(
                codes::FINALLY,
                node.key_span("kind"),
                "a gate",
                format!("`{}` runs when the run ends, and cannot wait for a person", name.get_ref()),
                "let a `task` run last",
            )
            .also(name.span(), "runs last"),
        );
    }
    Some(index)
}

//! Channels and writes that serve nothing, and a barrier that gains nothing.

use std::collections::BTreeSet;

use super::{Parts, Scope};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawHeader;

/// Looks for channels that are not used, and for writes that nobody reads. All are warnings.
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    for (index, channel) in scope.channels.iter().enumerate() {
        let is_read = parts.nodes.iter().any(|node| node.reads.iter().any(|read| read.channel == index))
            || parts.edges.iter().any(|edges| edges.reads.iter().any(|read| read.channel == index));
        let writer = (0..parts.nodes.len()).find_map(|node| {
            let write = parts.writes(node).find(|write| write.channel == index)?;
            Some((node, write.span.clone()))
        });
        let name = &channel.value.name;
        let fault = match (is_read, writer) {
            (true, _) => continue,
            (false, Some(_)) if channel.value.output => continue,
            (false, Some((node, span))) => Fault::new(
                codes::WRITE_UNREAD,
                channel.span.clone(),
                "never read",
                format!("`{}` writes `{name}`, and nothing reads it", parts.name(node)),
                "mark it `output = true` if it is a result, or throw the field away: `writes = { field = \"_\" }`",
            )
            .also(span, "written here"),
            (false, None) if channel.value.output && !channel.given => Fault::new(
                codes::NO_OUTPUT,
                channel.span.clone(),
                "never written",
                format!("`{name}` is an output of the graph, and no node writes it"),
                "let a node write it, or take it out",
            ),
            (false, None) if channel.value.output => continue,
            (false, None) => Fault::new(
                codes::UNUSED,
                channel.span.clone(),
                "never used",
                if channel.value.input {
                    format!("every run must be given `{name}`, and nothing reads it")
                } else {
                    format!("nothing reads or writes the channel `{name}`")
                },
                "take it out, or give it to a node",
            ),
        };
        faults.push(fault.warning());
    }
}

/// Whether a branch can ever run ahead.
pub(super) fn dataflow(parts: &Parts<'_>, raw: &RawHeader, faults: &mut Vec<Fault>) {
    let (Some(together), Some(place)) = (&parts.together, raw.barrier.get()) else { return };
    let reads = |node: usize| -> BTreeSet<usize> {
        let own = parts.nodes.get(node).into_iter().flat_map(|node| &node.reads).map(|read| read.channel);
        let conditions = parts.edges.get(node).into_iter().flat_map(|edges| &edges.reads);
        own.chain(conditions.map(|read| read.channel)).collect()
    };
    let writes = |node: usize| -> BTreeSet<usize> { parts.writes(node).map(|write| write.channel).collect() };
    let sets: Vec<(BTreeSet<usize>, BTreeSet<usize>)> =
        (0..parts.nodes.len()).map(|node| (reads(node), writes(node))).collect();
    let gains = sets.iter().enumerate().any(|(one, (reads, writes))| {
        sets.iter().enumerate().skip(one + 1).any(|(two, (other_reads, other_writes))| {
            together.are_beside(one, two)
                && writes.is_disjoint(other_reads)
                && writes.is_disjoint(other_writes)
                && other_writes.is_disjoint(reads)
        })
    });
    if !gains {
        faults.push(
            Fault::new(
                codes::NO_DATAFLOW,
                place.span(),
                "gains nothing",
                "no two nodes that can run beside each other are independent, so no branch can run ahead",
                "leave `barrier` out, or let the branches read and write different channels",
            )
            .warning(),
        );
    }
}

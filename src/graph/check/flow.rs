//! The graph as a whole: what is reached, what ends, which nodes run at once, and which channels ever have
//! a value.

use std::collections::{BTreeSet, VecDeque};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::Scope;
use super::next::{END, Edges};
use super::node::Checked;
use crate::graph::Reducer;
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;

/// More faults than anybody reads; pairs of writers may be many.
const ENOUGH: usize = 1_000;

/// The edges of a node for these checks: targets without conditions.
struct Way {
    /// Nodes of each arm.
    arms: Vec<BTreeSet<usize>>,
    /// Whether it can end its branch, or leads where nobody knows.
    ends: bool,
}

impl Way {
    fn targets(&self) -> BTreeSet<usize> {
        self.arms.iter().flatten().copied().collect()
    }
}

/// Checks the graph as a whole. `start` is where a run starts, as far as it can be guessed.
pub(super) fn check(
    raw: &[RawNode],
    scope: &Scope<'_>,
    nodes: &[Checked],
    edges: &[Edges],
    start: Option<usize>,
    faults: &mut Vec<Fault>,
) {
    let ways: Vec<Way> = edges
        .iter()
        .map(|edges| Way {
            arms: edges
                .arms
                .iter()
                .map(|arm| arm.to.iter().map(|node| node.0).collect())
                .chain((!edges.guesses.is_empty()).then(|| edges.guesses.iter().copied().collect()))
                .collect(),
            ends: edges.unclear || edges.arms.is_empty() || edges.arms.iter().any(|arm| arm.to.is_empty()),
        })
        .collect();
    if let Some(start) = start {
        let reached = reached(&ways, start);
        if !edges.iter().any(|edges| edges.unclear) {
            unreachable(raw, &reached, faults);
        }
        let together = together(&ways, start);
        conflicts(raw, scope, nodes, &together, faults);
    }
    endless(raw, &ways, faults);
    if nodes.iter().all(|node| node.writes_known) {
        never_written(raw, scope, nodes, edges, faults);
    }
}

fn reached(ways: &[Way], start: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::from([start]);
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for target in ways.get(node).map(Way::targets).unwrap_or_default() {
            if seen.insert(target) {
                queue.push_back(target);
            }
        }
    }
    seen
}

fn unreachable(raw: &[RawNode], reached: &BTreeSet<usize>, faults: &mut Vec<Fault>) {
    for (index, node) in raw.iter().enumerate() {
        let name = node.name.get_ref();
        // A node called `end` has its own fault, and edges that seem to lead there end the branch.
        if !reached.contains(&index) && name != END {
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

/// Cycles without a way out: strongly connected nodes none of which ends or leads elsewhere.
fn endless(raw: &[RawNode], ways: &[Way], faults: &mut Vec<Fault>) {
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
        let stays = members.iter().all(|member| {
            ways.get(*member)
                .is_some_and(|way| !way.ends && way.targets().iter().all(|target| members.contains(target)))
        });
        let Some((first, rest)) = members.split_first() else { continue };
        let Some(node) = raw.get(*first).filter(|_| stays) else { continue };
        let names: Vec<&str> = members
            .iter()
            .filter_map(|member| raw.get(*member))
            .map(|node| node.name.get_ref().as_str())
            .collect();
        let message = match names.as_slice() {
            [only] => format!("the node `{only}` only ever leads to itself"),
            _ => format!("the nodes `{}` only ever lead to each other", names.join("`, `")),
        };
        let mut fault = Fault::new(
            codes::NO_END,
            node.key_span("next"),
            "no way out",
            message,
            "add an arm that leaves the cycle: `next = [{ if = \"…\", to = \"end\" }, { else = \"…\" }]`",
        );
        for member in rest.iter().filter_map(|member| raw.get(*member)).take(8) {
            fault = fault.also(member.key_span("next"), "nor here");
        }
        faults.push(fault);
    }
}

/// For each node, the nodes that may run in the same step.
///
/// Each node of a step chooses its arm by itself, so two nodes can be in one step exactly if they are in one
/// arm of a node, or in arms of two nodes that can be in one step. That makes pairs as exact as whole sets of
/// nodes, and there are never more than the square of the nodes.
fn together(ways: &[Way], start: usize) -> Vec<Bits> {
    let width = ways.len();
    let mut with: Vec<Bits> = (0..width).map(|_| Bits::new(width)).collect();
    let targets: Vec<Bits> =
        ways.iter().map(|way| Bits::of(width, way.arms.iter().flatten().copied())).collect();
    let mut queue = VecDeque::new();
    let mut queued = Bits::new(width);
    for node in reached(ways, start) {
        for arm in ways.get(node).map(|way| way.arms.as_slice()).unwrap_or_default() {
            let bits = Bits::of(width, arm.iter().copied());
            for member in arm {
                let mut others = bits.clone();
                others.clear(*member);
                if with.get_mut(*member).is_some_and(|row| row.add(&others)) && queued.set(*member) {
                    queue.push_back(*member);
                }
            }
        }
    }
    while let Some(node) = queue.pop_front() {
        queued.clear(node);
        let mut partners = Bits::new(width);
        for other in with.get(node).into_iter().flat_map(Bits::iter) {
            if let Some(bits) = targets.get(other) {
                partners.add(bits);
            }
        }
        for target in targets.get(node).into_iter().flat_map(Bits::iter) {
            let mut others = partners.clone();
            others.clear(target);
            if with.get_mut(target).is_some_and(|row| row.add(&others)) && queued.set(target) {
                queue.push_back(target);
            }
            for other in others.iter() {
                let back = Bits::of(width, [target]);
                if with.get_mut(other).is_some_and(|row| row.add(&back)) && queued.set(other) {
                    queue.push_back(other);
                }
            }
        }
    }
    with
}

fn conflicts(
    raw: &[RawNode],
    scope: &Scope<'_>,
    nodes: &[Checked],
    together: &[Bits],
    faults: &mut Vec<Fault>,
) {
    for (index, channel) in scope.channels.iter().enumerate() {
        if channel.ty.is_none() || channel.value.reducer != Reducer::Last {
            continue;
        }
        let writers: Vec<usize> = nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.writes.iter().any(|write| write.channel == index))
            .map(|(node, _)| node)
            .collect();
        for (position, first) in writers.iter().enumerate() {
            for second in writers.iter().skip(position + 1) {
                if !together.get(*first).is_some_and(|row| row.has(*second)) {
                    continue;
                }
                if faults.len() > ENOUGH {
                    return;
                }
                let (Some(one), Some(two)) = (raw.get(*first), raw.get(*second)) else { continue };
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
                    .also(channel.span.clone(), "its reducer is `last`"),
                );
            }
        }
    }
}

fn never_written(
    raw: &[RawNode],
    scope: &Scope<'_>,
    nodes: &[Checked],
    edges: &[Edges],
    faults: &mut Vec<Fault>,
) {
    for (index, channel) in scope.channels.iter().enumerate() {
        let has_value =
            channel.given || nodes.iter().any(|node| node.writes.iter().any(|write| write.channel == index));
        let Some(ty) = channel.ty.as_ref().filter(|_| !has_value) else { continue };
        let by_nodes = nodes.iter().zip(raw).flat_map(|(node, raw)| {
            node.reads
                .iter()
                .filter(|read| read.channel == index && !read.takes_null)
                .map(|read| (read.span.clone(), raw.name.get_ref()))
        });
        let by_conditions = edges.iter().zip(raw).flat_map(|(edges, raw)| {
            let nullable = matches!(ty, crate::graph::Type::Optional(_));
            edges
                .reads
                .iter()
                .filter(move |(read, _)| *read == index && !nullable)
                .map(|(_, span)| (span.clone(), raw.name.get_ref()))
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

/// A set of nodes.
#[derive(Clone, Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(width: usize) -> Self {
        Self(vec![0; width.div_ceil(64)])
    }

    fn of(width: usize, members: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = Self::new(width);
        for member in members {
            bits.set(member);
        }
        bits
    }

    /// Adds a member; whether it is new.
    fn set(&mut self, member: usize) -> bool {
        let Some(word) = self.0.get_mut(member / 64) else { return false };
        let before = *word;
        *word |= 1 << (member % 64);
        *word != before
    }

    fn clear(&mut self, member: usize) {
        if let Some(word) = self.0.get_mut(member / 64) {
            *word &= !(1 << (member % 64));
        }
    }

    fn has(&self, member: usize) -> bool {
        self.0.get(member / 64).is_some_and(|word| word >> (member % 64) & 1 == 1)
    }

    /// Adds all members of another set; whether any is new.
    fn add(&mut self, other: &Self) -> bool {
        let mut grew = false;
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            grew |= *more & !*word != 0;
            *word |= more;
        }
        grew
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }
}

//! What a graph's edges say before anything runs: which nodes can still reach a join, and which branches have
//! nothing to do with each other.

use std::collections::VecDeque;

use crate::graph::{Barrier, Effect, Graph, Join, Node, NodeIdx, NodeKind, Parallel};

/// Facts about a graph's edges.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// For each node with a join, the nodes that can reach it without passing through it.
    reach: Vec<Option<Bits>>,
    /// For each node, the nodes whose branches it may run beside without waiting; empty for `superstep`.
    independent: Vec<Bits>,
    /// Whether arms alone decide what comes next: no node waits, is a gate, or has a limit of visits.
    pub(crate) is_plain: bool,
    /// Whether some join fires before all branches have come.
    pub(crate) absorbs: bool,
}

impl Ways {
    pub(crate) fn of(graph: &Graph) -> Self {
        let successors: Vec<Vec<usize>> = graph
            .nodes
            .iter()
            .map(|node| node.successors().into_iter().map(|node| node.0).collect())
            .collect();
        let reach = graph
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| node.join.map(|_| reaching(&successors, index)))
            .collect();
        let independent = match graph.barrier {
            Barrier::Superstep => Vec::new(),
            Barrier::Dataflow => independence(graph, &successors),
        };
        let is_plain = graph.barrier == Barrier::Superstep
            && graph.finally.is_none()
            && graph.nodes.iter().all(|node| {
                node.join.is_none()
                    && !node.defer
                    && node.max_visits.is_none()
                    && !node.is_gate()
                    && node.on_error.is_empty()
                    && node.goto.is_empty()
                    && node.send.is_empty()
            });
        let absorbs = graph.nodes.iter().any(|node| {
            matches!(node.join, Some(Join { need, timeout, .. })
            if need != crate::graph::Need::All || timeout.is_some())
        });
        Self { reach, independent, is_plain, absorbs }
    }

    /// Whether a branch that stands at `from` can still come to the join `to`.
    pub(crate) fn can_reach(&self, from: NodeIdx, to: NodeIdx) -> bool {
        self.reach.get(to.0).and_then(Option::as_ref).is_some_and(|bits| bits.has(from.0))
    }

    /// Whether `node` may run while `other`, or what comes after it, is under way.
    pub(crate) fn are_independent(&self, node: NodeIdx, other: NodeIdx) -> bool {
        self.independent.get(node.0).is_some_and(|bits| bits.has(other.0))
    }
}

/// The nodes from which `to` can be reached without passing through it.
fn reaching(successors: &[Vec<usize>], to: usize) -> Bits {
    let mut bits = Bits::new(successors.len());
    let mut queue = VecDeque::from([to]);
    while let Some(node) = queue.pop_front() {
        for (from, targets) in successors.iter().enumerate() {
            if from != to && targets.contains(&node) && bits.set(from) {
                queue.push_back(from);
            }
        }
    }
    bits
}

/// A node that does what cannot be undone and that can be reached from these, themselves included, without passing a
/// gate.
pub(crate) fn ungated_danger(graph: &Graph, from: impl IntoIterator<Item = NodeIdx>) -> Option<NodeIdx> {
    let mut queue: VecDeque<NodeIdx> = from.into_iter().collect();
    let mut seen = Bits::new(graph.nodes.len());
    while let Some(index) = queue.pop_front() {
        let node = graph.node(index);
        if node.is_gate() || !seen.set(index.0) {
            continue;
        }
        if node.effect == Effect::Danger {
            return Some(index);
        }
        queue.extend(node.successors());
    }
    None
}

/// The nodes that can be reached from `from`, itself included.
fn down(successors: &[Vec<usize>], from: usize) -> Bits {
    let mut bits = Bits::new(successors.len());
    bits.set(from);
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        for target in successors.get(node).into_iter().flatten() {
            if bits.set(*target) {
                queue.push_back(*target);
            }
        }
    }
    bits
}

/// Channels that a node looks at, its arms' conditions included.
pub(crate) fn reads(graph: &Graph, node: &Node) -> Bits {
    let mut bits = Bits::new(graph.channels.len());
    let conditions =
        node.next.iter().filter_map(|arm| arm.when.as_ref()).flat_map(crate::graph::Expr::variables);
    let named = conditions.filter_map(|name| graph.channel_named(name));
    let fields = node.reads.iter().map(|(_, channel)| *channel);
    for channel in named.chain(fields) {
        bits.set(channel.0);
    }
    if let Some(each) = &node.each {
        bits.set(each.over.0);
        if let Parallel::Channel(channel) = each.max_parallel {
            bits.set(channel.0);
        }
    }
    if let NodeKind::Gate(gate) = &node.kind {
        for channel in &gate.shows {
            bits.set(channel.0);
        }
    }
    bits
}

/// Channels that a node may change.
pub(crate) fn writes(graph: &Graph, node: &Node) -> Bits {
    let mut bits = Bits::new(graph.channels.len());
    let fields = node.writes.iter().map(|(_, channel)| *channel);
    let failures = node.on_error.iter().filter_map(|arm| arm.write);
    let status = node.each.as_ref().and_then(|each| each.status);
    for channel in fields.chain(failures).chain(status) {
        bits.set(channel.0);
    }
    if let NodeKind::Gate(gate) = &node.kind
        && let Some(channel) = gate.answer
    {
        bits.set(channel.0);
    }
    bits
}

/// For each node, the nodes beside whose branches it may run: what it reads and writes is disjoint from what they
/// still read and write before both come together at a join.
fn independence(graph: &Graph, successors: &[Vec<usize>]) -> Vec<Bits> {
    let count = graph.nodes.len();
    let reads: Vec<Bits> = graph.nodes.iter().map(|node| reads(graph, node)).collect();
    let writes: Vec<Bits> = graph.nodes.iter().map(|node| writes(graph, node)).collect();
    let downs: Vec<Bits> = (0..count).map(|node| down(successors, node)).collect();
    let mut out = vec![Bits::new(count); count];
    let all = |bits: &[Bits], of: &Bits| {
        let mut sum = Bits::new(graph.channels.len());
        for node in of.iter() {
            if let Some(bits) = bits.get(node) {
                sum.add(bits);
            }
        }
        sum
    };
    for (a, row) in out.iter_mut().enumerate() {
        for b in 0..count {
            let (Some(down_a), Some(down_b)) = (downs.get(a), downs.get(b)) else { continue };
            if a == b || down_a.has(b) || down_b.has(a) {
                continue;
            }
            // Where both branches lead, only a join keeps the node from running once for each.
            let meet = down_a.and(down_b);
            let joined = meet.iter().all(|node| {
                let is_entry = (0..count)
                    .any(|from| !meet.has(from) && successors.get(from).is_some_and(|to| to.contains(&node)));
                !is_entry || graph.nodes.get(node).is_some_and(|node| node.join.is_some())
            });
            let rest = down_b.without(down_a);
            let (rest_reads, rest_writes) = (all(&reads, &rest), all(&writes, &rest));
            let apart = reads.get(a).is_some_and(|reads| !reads.meets(&rest_writes))
                && writes.get(a).is_some_and(|own| !own.meets(&rest_writes) && !own.meets(&rest_reads));
            if joined && apart {
                row.set(b);
            }
        }
    }
    out
}

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    fn new(width: usize) -> Self {
        Self(vec![0; width.div_ceil(64)])
    }

    /// Adds a number; whether it is new.
    fn set(&mut self, member: usize) -> bool {
        let Some(word) = self.0.get_mut(member / 64) else { return false };
        let before = *word;
        *word |= 1 << (member % 64);
        *word != before
    }

    fn has(&self, member: usize) -> bool {
        self.0.get(member / 64).is_some_and(|word| word >> (member % 64) & 1 == 1)
    }

    fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
        })
    }
}

//! Which nodes lead where, and which can run in the same step or wait beside each other.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::bits::Bits;
use super::is_gate;
use super::next::Edges;
use crate::graph::file::RawNode;
use crate::graph::{Node, NodeIdx};

/// The edges of a node without conditions.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// Nodes that it may lead to at once, one set for each choice.
    pub(super) arms: Vec<BTreeSet<usize>>,
    /// Whether it can end its branch, or leads where nobody knows.
    pub(super) ends: bool,
    /// Whether it may run in a later step than the one it was reached in.
    pub(super) waits: Waits,
    /// Which of the arms are taken when it fails.
    failing: Range<usize>,
}

/// Why a node may wait after it was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Waits {
    /// It does not.
    #[default]
    No,
    /// For every branch that can still come.
    ForAll,
    /// For some branches, or for a person.
    ForSome,
    /// For everything else.
    ForEverything,
}

impl Way {
    /// The way of a node.
    pub(super) fn of(raw: &RawNode, node: &Node, edges: &Edges) -> Self {
        let set = |list: &[NodeIdx]| list.iter().map(|node| node.0).collect::<BTreeSet<usize>>();
        let mut arms: Vec<BTreeSet<usize>> = edges.arms.iter().map(|arm| set(&arm.to)).collect();
        if !edges.goto.is_empty() {
            arms.push(set(&edges.goto));
        }
        // Tasks that are sent run beside whatever comes next.
        if !edges.send.is_empty() {
            for arm in &mut arms {
                arm.extend(edges.send.iter().map(|node| node.0));
            }
            arms.push(set(&edges.send));
        }
        let failing = arms.len();
        arms.extend(edges.errors.iter().map(|arm| set(&arm.to)));
        let failing = failing..arms.len();
        if !edges.guesses.is_empty() {
            arms.push(edges.guesses.iter().copied().collect());
        }
        let waits = match &node.join {
            _ if node.defer => Waits::ForEverything,
            Some(join) if join.need == crate::graph::Need::All && join.timeout.is_none() => Waits::ForAll,
            Some(_) => Waits::ForSome,
            // A join that cannot be read was meant to wait.
            None if !raw.join.is_absent() => Waits::ForAll,
            None if is_gate(raw) => Waits::ForSome,
            None => Waits::No,
        };
        Self {
            arms,
            ends: edges.unclear
                || edges.arms.is_empty()
                || edges.arms.iter().any(|arm| arm.to.is_empty())
                || edges.errors.iter().any(|arm| arm.to.is_empty()),
            waits,
            failing,
        }
    }

    /// The way as long as nothing fails.
    pub(super) fn without_failures(&self) -> Self {
        let mut way = self.clone();
        for arm in way.arms.get_mut(self.failing.clone()).into_iter().flatten() {
            arm.clear();
        }
        way
    }

    /// Every node that it may lead to.
    pub(super) fn targets(&self) -> BTreeSet<usize> {
        self.arms.iter().flatten().copied().collect()
    }
}

/// The nodes that are reached from one.
pub(super) fn reached(ways: &[Way], start: usize) -> BTreeSet<usize> {
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

/// For each node, the nodes that it leads to in one step.
pub(super) fn targets(ways: &[Way]) -> Vec<Bits> {
    let width = ways.len();
    ways.iter().map(|way| Bits::of(width, way.arms.iter().flatten().copied())).collect()
}

/// For each node, the nodes that it leads to in one step or more.
pub(super) fn closure(ways: &[Way]) -> Vec<Bits> {
    let targets = targets(ways);
    let own = |node: usize| targets.get(node).cloned().unwrap_or_else(|| Bits::new(ways.len()));
    (0..ways.len())
        .map(|from| {
            let mut seen = own(from);
            let mut open: Vec<usize> = seen.iter().collect();
            while let Some(node) = open.pop() {
                let mut new = own(node);
                new.remove(&seen);
                seen.add(&new);
                open.extend(new.iter());
            }
            seen
        })
        .collect()
}

/// The ways without the edges that lead back to a node on the way from the start.
pub(super) fn forward(ways: &[Way], start: usize) -> Vec<Way> {
    let mut out = ways.to_vec();
    // 0 new, 1 open, 2 done
    let mut state = vec![0_u8; ways.len()];
    let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
    let targets = |node: usize| ways.get(node).map(Way::targets).unwrap_or_default().into_iter().collect();
    if let Some(first) = state.get_mut(start) {
        *first = 1;
        stack.push((start, targets(start)));
    }
    while let Some((node, rest)) = stack.last_mut() {
        let node = *node;
        let Some(target) = rest.pop() else {
            if let Some(done) = state.get_mut(node) {
                *done = 2;
            }
            stack.pop();
            continue;
        };
        match state.get_mut(target) {
            Some(new @ 0) => {
                *new = 1;
                stack.push((target, targets(target)));
            }
            Some(1) => {
                for arm in out.get_mut(node).into_iter().flat_map(|way| &mut way.arms) {
                    arm.remove(&target);
                }
            }
            _ => {}
        }
    }
    out
}

/// Which nodes can run in the same step.
pub(super) struct Together {
    /// For each node, those that may be about to run, or wait, while it is or does.
    pub(super) beside: Vec<Bits>,
    ways: Vec<Waits>,
    reach: Vec<Bits>,
}

impl Together {
    /// Works it out for the nodes that are reached from `start`.
    ///
    /// Each node of a step chooses its arm by itself, so two nodes can be in one step exactly if they are in one
    /// arm of a node, or in arms of two nodes that can be in one step. That makes pairs as exact as whole sets of
    /// nodes, and there are never more than the square of the nodes. A node that waits stays beside whatever the
    /// other one leads to.
    pub(super) fn of(ways: &[Way], start: usize) -> Self {
        let width = ways.len();
        let mut out = Self {
            beside: (0..width).map(|_| Bits::new(width)).collect(),
            ways: ways.iter().map(|way| way.waits).collect(),
            reach: closure(ways),
        };
        let targets = targets(ways);
        let mut news = News { fresh: vec![Bits::new(width); width], queue: VecDeque::new() };
        for node in reached(ways, start) {
            for arm in ways.get(node).map(|way| way.arms.as_slice()).unwrap_or_default() {
                let bits = Bits::of(width, arm.iter().copied());
                for member in arm {
                    out.put(*member, &bits, &mut news);
                }
            }
        }
        while let Some((node, others)) = news.next() {
            // Both run: what they lead to is beside each other.
            let mut partners = Bits::new(width);
            // The other one runs while this one waits.
            let mut passing = Bits::new(width);
            for other in others.iter() {
                let Some(bits) = targets.get(other) else { continue };
                if out.meet(node, other) {
                    partners.add(bits);
                }
                if out.waits(node) && !out.holds_back(node, other) {
                    passing.add(bits);
                }
            }
            for target in targets.get(node).into_iter().flat_map(Bits::iter) {
                out.put(target, &partners, &mut news);
            }
            out.put(node, &passing, &mut news);
        }
        out
    }

    /// Puts nodes beside one; what is new is worked on later.
    fn put(&mut self, node: usize, others: &Bits, news: &mut News) {
        let Some(row) = self.beside.get_mut(node) else { return };
        if !row.lacks(others, node) {
            return;
        }
        let mut new = others.clone();
        new.remove(row);
        new.clear(node);
        row.add(&new);
        news.add(node, &new);
        let own = Bits::of(self.ways.len(), [node]);
        for other in new.iter() {
            if let Some(row) = self.beside.get_mut(other) {
                row.set(node);
            }
            news.add(other, &own);
        }
    }

    /// Whether two nodes can run in the same step.
    pub(super) fn both(&self, one: usize, two: usize) -> bool {
        self.are_beside(one, two) && self.meet(one, two)
    }

    /// Whether one can be about to run, or wait, while the other is or does.
    pub(super) fn are_beside(&self, one: usize, two: usize) -> bool {
        self.beside.get(one).is_some_and(|row| row.has(two))
    }

    fn waits(&self, node: usize) -> bool {
        self.ways.get(node).is_some_and(|waits| *waits != Waits::No)
    }

    /// Whether two nodes that are beside each other can run at once.
    fn meet(&self, one: usize, two: usize) -> bool {
        !self.holds_back(one, two) && !self.holds_back(two, one)
    }

    /// Whether `node` cannot run as long as `other` is about to, or waits.
    fn holds_back(&self, other: usize, node: usize) -> bool {
        match self.ways.get(node) {
            Some(Waits::ForAll) => self.reach.get(other).is_some_and(|row| row.has(node)),
            Some(Waits::ForEverything) => self.ways.get(other) != Some(&Waits::ForEverything),
            _ => false,
        }
    }
}

/// Neighbours of nodes that are not worked on yet.
struct News {
    fresh: Vec<Bits>,
    queue: VecDeque<usize>,
}

impl News {
    fn add(&mut self, node: usize, others: &Bits) {
        let Some(fresh) = self.fresh.get_mut(node) else { return };
        if fresh.is_empty() {
            self.queue.push_back(node);
        }
        fresh.add(others);
    }

    fn next(&mut self) -> Option<(usize, Bits)> {
        let node = self.queue.pop_front()?;
        let fresh = self.fresh.get_mut(node)?;
        let empty = Bits::new(fresh.width());
        Some((node, std::mem::replace(fresh, empty)))
    }
}

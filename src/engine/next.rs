//! From finished nodes to the next ones: arms, error arms, `goto` and `send`, joins, deferred nodes, gates.
//!
//! Everything here is a function of the position and the graph. What it finds is stored with the superstep; a resume
//! takes it from there and never works it out again.

use std::sync::Arc;

use serde_json::Value;

use super::event::RoutedBy;
use super::plan::Plan;
use super::position::{OpenGate, Position, Ready, Waiting};
use super::task::Route;
use super::{EngineErrorKind, ErrorClass, Failure};
use crate::graph::{Graph, Need, Node, NodeIdx};

/// What decided where a node led, and where to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Routed {
    pub(crate) node: NodeIdx,
    pub(crate) by: RoutedBy,
    pub(crate) to: Vec<NodeIdx>,
}

/// How a node of the frontier, or a gate, ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) node: NodeIdx,
    pub(crate) absorbed: Vec<NodeIdx>,
    /// Where its function wants to go, and what it sends.
    pub(crate) route: Route,
    /// Which of its error arms takes its failure.
    pub(crate) error_arm: Option<usize>,
    /// Which option of a gate was chosen.
    pub(crate) option: Option<usize>,
}

/// A branch on its way to a node.
struct Arrival {
    to: NodeIdx,
    from: NodeIdx,
    absorbed: Vec<NodeIdx>,
    sent: Option<Arc<Value>>,
}

impl Position {
    /// Takes what has ended out of the way, and adds what comes next: `frontier` holds what is still to run.
    pub(crate) fn advance(
        &mut self,
        plan: &Plan,
        ended: Vec<Ended>,
        now_ms: i64,
        mut routed: Option<&mut Vec<Routed>>,
    ) -> Result<(), EngineErrorKind> {
        let graph = &plan.graph;
        let born = self.step.saturating_add(1);
        if plan.ways.is_plain {
            for one in &ended {
                let node = graph.node(one.node);
                let taken = self.arm(graph, node)?;
                let arm = taken.and_then(|arm| node.next.get(arm));
                if let (Some(routed), Some(by)) = (&mut routed, taken.map(RoutedBy::Arm)) {
                    let to = arm.map(|arm| arm.to.clone()).unwrap_or_default();
                    routed.push(Routed { node: one.node, by, to });
                }
                for to in arm.iter().flat_map(|arm| &arm.to) {
                    if !self.frontier.iter().any(|ready| ready.node == *to) {
                        self.frontier.push(Ready::plain(*to, born));
                    }
                }
            }
            if self.frontier.len() > 1 {
                self.frontier.sort_unstable_by_key(|ready| ready.node);
            }
            return Ok(());
        }
        let was_finally = ended.iter().any(|one| graph.finally == Some(one.node));
        let mut arrivals = Vec::new();
        for one in ended {
            self.leave(graph, one, &mut arrivals, &mut routed)?;
        }
        for arrival in arrivals {
            self.arrive(plan, arrival, born, now_ms);
        }
        self.fire(plan, born, now_ms);
        if let Some(finally) = graph.finally
            && self.is_over()
            && !was_finally
        {
            self.enter(graph, finally, Vec::new(), born, now_ms, None);
        }
        self.frontier.sort_by_key(|ready| (ready.born, ready.node));
        Ok(())
    }

    /// The first arm of a node that holds.
    fn arm(&self, graph: &Graph, node: &Node) -> Result<Option<usize>, EngineErrorKind> {
        for (index, arm) in node.next.iter().enumerate() {
            let holds = match &arm.when {
                None => arm.option.is_none(),
                Some(when) => {
                    when.holds(|name| self.state.get(graph.channel_named(name)?)).map_err(|source| {
                        EngineErrorKind::Condition {
                            node: node.name.clone(),
                            condition: when.source().to_owned(),
                            source,
                        }
                    })?
                }
            };
            if !holds {
                continue;
            }
            match arm.to.iter().find(|to| self.is_used_up(graph, **to)) {
                None => return Ok(Some(index)),
                // A condition that leads to a node without visits left does not hold; an `else` has to.
                Some(_) if arm.when.is_some() => {}
                Some(to) => return Err(self.used_up(graph, *to)),
            }
        }
        Ok(None)
    }

    fn is_used_up(&self, graph: &Graph, node: NodeIdx) -> bool {
        graph
            .node(node)
            .max_visits
            .is_some_and(|most| self.visits.get(node.0).is_some_and(|visits| *visits >= most))
    }

    fn used_up(&self, graph: &Graph, node: NodeIdx) -> EngineErrorKind {
        let visits = self.visits.get(node.0).copied().unwrap_or_default();
        EngineErrorKind::MaxVisits { node: graph.node(node).name.clone(), visits }
    }

    /// Where a node that has ended leads.
    fn leave(
        &self,
        graph: &Graph,
        ended: Ended,
        arrivals: &mut Vec<Arrival>,
        routed: &mut Option<&mut Vec<Routed>>,
    ) -> Result<(), EngineErrorKind> {
        let node = graph.node(ended.node);
        let Route { goto, sends } = ended.route;
        let targets = |arm: usize| node.next.get(arm).map(|arm| arm.to.clone()).unwrap_or_default();
        let (by, to) = if let Some(arm) = ended.error_arm {
            let to = node.on_error.get(arm).map(|arm| arm.to.clone()).unwrap_or_default();
            (Some(RoutedBy::Error(arm)), to)
        } else if let Some(option) = ended.option {
            (Some(RoutedBy::Option(option)), targets(option))
        } else if let Some(goto) = goto {
            (Some(RoutedBy::Goto), goto)
        } else {
            let arm = self.arm(graph, node)?;
            (arm.map(RoutedBy::Arm), arm.map(targets).unwrap_or_default())
        };
        if let (Some(routed), Some(by)) = (routed, by) {
            routed.push(Routed { node: ended.node, by, to: to.clone() });
        }
        if let Some(used_up) = to.iter().find(|to| self.is_used_up(graph, **to)) {
            return Err(self.used_up(graph, *used_up));
        }
        let arrival = |to, sent| Arrival { to, from: ended.node, absorbed: ended.absorbed.clone(), sent };
        arrivals.extend(to.into_iter().map(|to| arrival(to, None)));
        arrivals.extend(sends.into_iter().map(|(to, input)| arrival(to, Some(Arc::new(input)))));
        Ok(())
    }

    /// A branch comes to a node.
    fn arrive(&mut self, plan: &Plan, arrival: Arrival, born: u32, now_ms: i64) {
        let Arrival { to, from, absorbed, sent } = arrival;
        if absorbed.contains(&to) {
            return;
        }
        let node = plan.graph.node(to);
        if sent.is_some() || (node.join.is_none() && !node.defer) {
            self.enter(&plan.graph, to, absorbed, born, now_ms, sent);
            return;
        }
        match self.waiting.iter_mut().find(|waiting| waiting.node == to) {
            Some(waiting) => {
                if !waiting.arrived.contains(&from) {
                    waiting.arrived.push(from);
                }
                waiting.absorbed.retain(|join| absorbed.contains(join));
            }
            None => {
                self.waiting.push(Waiting { node: to, arrived: vec![from], since_ms: now_ms, absorbed });
            }
        }
    }

    /// A node becomes ready, or a gate opens.
    fn enter(
        &mut self,
        graph: &Graph,
        to: NodeIdx,
        absorbed: Vec<NodeIdx>,
        born: u32,
        now_ms: i64,
        sent: Option<Arc<Value>>,
    ) {
        if graph.node(to).is_gate() {
            if let Some(gate) = self.gates.iter_mut().find(|gate| gate.node == to) {
                gate.absorbed.retain(|join| absorbed.contains(join));
            } else {
                self.gates.push(OpenGate { node: to, born, since_ms: now_ms, absorbed });
                self.visit(to);
            }
            return;
        }
        // What was ready before this superstep may be under way already: it is not touched.
        let known = self.frontier.iter().position(|ready| ready.node == to && ready.born == born);
        if known.is_none() {
            self.visit(to);
            self.frontier.push(Ready { node: to, born, absorbed: absorbed.clone(), ..Ready::default() });
        }
        let place = known.unwrap_or(self.frontier.len().saturating_sub(1));
        let Some(ready) = self.frontier.get_mut(place) else { return };
        ready.absorbed.retain(|join| absorbed.contains(join));
        match sent {
            Some(input) => ready.sends.push(input),
            None => ready.plain = true,
        }
    }

    /// Lets every join go that has what it needs, or can get no more; then deferred nodes, if nothing else is left.
    pub(crate) fn fire(&mut self, plan: &Plan, born: u32, now_ms: i64) {
        let graph = &plan.graph;
        loop {
            self.waiting.sort_by_key(|waiting| waiting.node);
            let next = self.waiting.iter().enumerate().find_map(|(index, waiting)| {
                let verdict = self.verdict(plan, waiting, now_ms)?;
                Some((index, verdict))
            });
            let (index, verdict) = if let Some(next) = next {
                next
            } else if self.frontier.is_empty() && self.gates.is_empty() {
                // Joins that wait for each other, or deferred nodes: joins first, in file order.
                let joins = self.waiting.iter().position(|waiting| graph.node(waiting.node).join.is_some());
                match (joins, self.waiting.is_empty()) {
                    (Some(index), _) => (index, self.last_verdict(graph, index)),
                    (None, false) => {
                        // All deferred nodes at once.
                        for waiting in std::mem::take(&mut self.waiting) {
                            self.enter(graph, waiting.node, waiting.absorbed, born, now_ms, None);
                        }
                        return;
                    }
                    (None, true) => return,
                }
            } else {
                return;
            };
            let waiting = self.waiting.remove(index);
            self.go(plan, waiting, verdict, born, now_ms);
        }
    }

    /// What a waiting join does now: nothing, go, or fail.
    fn verdict(&self, plan: &Plan, waiting: &Waiting, now_ms: i64) -> Option<Verdict> {
        let join = plan.graph.node(waiting.node).join?;
        let arrived = u32::try_from(waiting.arrived.len()).unwrap_or(u32::MAX);
        if let Need::Some(need) = join.need
            && arrived >= need
        {
            return Some(Verdict::Go);
        }
        let may_come = |node: NodeIdx, absorbed: &[NodeIdx]| {
            plan.ways.can_reach(node, waiting.node) && !absorbed.contains(&waiting.node)
        };
        let more = self.frontier.iter().any(|ready| may_come(ready.node, &ready.absorbed))
            || self.gates.iter().any(|gate| may_come(gate.node, &gate.absorbed))
            || self.waiting.iter().any(|other| {
                other.node != waiting.node
                    && plan.graph.node(other.node).join.is_some()
                    && may_come(other.node, &other.absorbed)
            });
        if !more {
            return Some(match join.need {
                Need::All => Verdict::Go,
                Need::Some(need) => Verdict::short(arrived, need),
            });
        }
        let timeout = join.timeout?;
        let waited = now_ms.saturating_sub(waiting.since_ms);
        let over = u128::try_from(waited).is_ok_and(|waited| waited >= timeout.as_millis());
        over.then(|| {
            if join.go_on {
                Verdict::Go
            } else {
                Verdict::Fail(
                    ErrorClass::Timeout,
                    format!("{arrived} branches came within {timeout:?}, and not all"),
                )
            }
        })
    }

    /// What a join does when nothing else in the run can move.
    fn last_verdict(&self, graph: &Graph, index: usize) -> Verdict {
        let Some(waiting) = self.waiting.get(index) else { return Verdict::Go };
        let arrived = u32::try_from(waiting.arrived.len()).unwrap_or(u32::MAX);
        match graph.node(waiting.node).join.map(|join| join.need) {
            Some(Need::Some(need)) if arrived < need => Verdict::short(arrived, need),
            _ => Verdict::Go,
        }
    }

    /// A join goes, or fails. What else could still come to it is absorbed.
    fn go(&mut self, plan: &Plan, waiting: Waiting, verdict: Verdict, born: u32, now_ms: i64) {
        if plan.ways.absorbs {
            let join = waiting.node;
            let tag = |node: NodeIdx, absorbed: &mut Vec<NodeIdx>| {
                if plan.ways.can_reach(node, join) && !absorbed.contains(&join) {
                    absorbed.push(join);
                }
            };
            self.frontier.iter_mut().for_each(|ready| tag(ready.node, &mut ready.absorbed));
            self.gates.iter_mut().for_each(|gate| tag(gate.node, &mut gate.absorbed));
            self.waiting.iter_mut().for_each(|other| tag(other.node, &mut other.absorbed));
        }
        self.enter(&plan.graph, waiting.node, waiting.absorbed, born, now_ms, None);
        if let Verdict::Fail(class, message) = verdict
            && let Some(ready) =
                self.frontier.iter_mut().find(|ready| ready.node == waiting.node && ready.born == born)
        {
            ready.fault = Some((class, message));
        }
    }

    /// When the first waiting join with a time limit runs out of it, in milliseconds since the Unix epoch.
    pub(crate) fn join_deadline(&self, graph: &Graph) -> Option<i64> {
        self.waiting
            .iter()
            .filter_map(|waiting| {
                let timeout = graph.node(waiting.node).join?.timeout?;
                let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
                Some(waiting.since_ms.saturating_add(millis))
            })
            .min()
    }
}

enum Verdict {
    Go,
    Fail(ErrorClass, String),
}

impl Verdict {
    fn short(arrived: u32, need: u32) -> Self {
        Self::Fail(
            ErrorClass::Permanent,
            format!("{arrived} of the {need} branches it needs came, and no other can come any more"),
        )
    }
}

/// The error arm of a node that takes a failure.
pub(crate) fn error_arm(node: &Node, failure: &Failure) -> Option<usize> {
    let class = failure.class.as_str();
    node.on_error.iter().position(|arm| arm.on.is_empty() || arm.on.iter().any(|on| on == class))
}

//! Gates: the only nodes that wait for a person. They fail closed: an answer counts only if it names an option, comes
//! from somebody who may give it, and, where the engine has a key, is signed with it.

use std::sync::Arc;

use serde_json::{Map, json};

use super::codec::Codec;
use super::event::{Event, GateView};
use super::next::Ended;
use super::output::Write;
use super::position::{OpenGate, Position};
use super::run::{Closed, Run, Stop};
use super::task::{Finished, Place};
use super::{EngineErrorKind, GateAnswer, Keys};
use crate::graph::{Gate, Graph, NodeKind};
use crate::id::RunId;

/// Who answers where nobody did in time.
const NOBODY: &str = "timeout";

/// A gate's id within its run.
pub(crate) fn gate_id(graph: &Graph, gate: &OpenGate) -> String {
    format!("{}@{}", graph.node(gate.node).name, gate.born)
}

fn asked<'g>(graph: &'g Graph, gate: &OpenGate) -> Option<&'g Gate> {
    match &graph.node(gate.node).kind {
        NodeKind::Gate(gate) => Some(gate),
        _ => None,
    }
}

/// The open gates of a position, as people see them.
pub(crate) fn views(codec: Codec<'_>, at: &Position) -> Vec<GateView> {
    at.gates.iter().filter_map(|gate| view(codec, at, gate)).collect()
}

fn view(codec: Codec<'_>, at: &Position, gate: &OpenGate) -> Option<GateView> {
    let graph = codec.graph;
    let node = graph.node(gate.node);
    let asked = asked(graph, gate)?;
    let option = |index: usize| node.next.get(index).and_then(|arm| arm.option.clone());
    let shows: Map<_, _> = asked
        .shows
        .iter()
        .filter_map(|channel| {
            let name = &graph.channel(*channel).name;
            Some((name.clone(), codec.shown(name, at.state.get(*channel)?.clone())))
        })
        .collect();
    Some(GateView {
        run_id: codec.run,
        gate: gate_id(graph, gate),
        node: node.name.clone(),
        ask: asked.ask.clone(),
        options: (0..node.next.len()).filter_map(option).collect(),
        who: asked.who.clone(),
        shows,
        since_ms: gate.since_ms,
        until_ms: asked.timeout.map(|timeout| {
            gate.since_ms.saturating_add(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
        }),
        on_timeout: asked.on_timeout.and_then(option),
    })
}

/// What the signature of an answer covers.
pub(crate) fn signed(run: RunId, answer: &GateAnswer) -> String {
    let GateAnswer { gate, option, by, note, at_ms, .. } = answer;
    json!(["sentrix gate answer 1", run.to_string(), gate, option, by, note, at_ms]).to_string()
}

/// Why an answer does not count, if it does not; else the place of its option.
pub(crate) fn judge(codec: Codec<'_>, gate: &OpenGate, answer: &GateAnswer) -> Result<usize, String> {
    let node = codec.graph.node(gate.node);
    let Some(asked) = asked(codec.graph, gate) else { return Err("it is no gate".to_owned()) };
    let option = node.next.iter().position(|arm| arm.option.as_ref() == Some(&answer.option));
    let Some(option) = option else {
        let options: Vec<&str> = node.next.iter().filter_map(|arm| arm.option.as_deref()).collect();
        return Err(format!("`{}` is no option (there are: {})", answer.option, options.join(", ")));
    };
    if !asked.who.is_empty() && !asked.who.contains(&answer.by) {
        return Err(format!("`{}` may not answer (may: {})", answer.by, asked.who.join(", ")));
    }
    let Some(keys) = codec.keys else { return Ok(option) };
    let Some(signature) = &answer.signature else { return Err("the answer is not signed".to_owned()) };
    match Keys::verify(signed(codec.run, answer).as_bytes(), signature) {
        Ok(signer) if signer == keys.public() => Ok(option),
        Ok(_) => Err("the answer is signed with another key".to_owned()),
        Err(error) => Err(format!("the answer's signature: {error}")),
    }
}

impl Run {
    /// Takes one answer to an open gate, or the end of its time. Whether there was one.
    pub(crate) async fn take_answer(&mut self) -> Result<bool, Stop> {
        let stored = match self.shared.engine.checkpointer() {
            Some(store) => store.answers(self.shared.run).await?,
            None => Vec::new(),
        };
        let now_ms = self.shared.clock.now().as_millisecond();
        let mut found = None;
        for (index, gate) in self.at.gates.iter().enumerate() {
            let id = gate_id(&self.shared.plan.graph, gate);
            let given = self.control.answer_to(self.shared.run, &id);
            for answer in stored.iter().filter(|answer| answer.gate == id).cloned().chain(given) {
                match judge(self.codec(), gate, &answer) {
                    Ok(option) => found = found.or(Some((index, answer, option))),
                    Err(reason) => {
                        tracing::warn!(run_id = %self.shared.run, gate = id, reason, "answer to a gate refused");
                    }
                }
            }
            if found.is_none() {
                found = self.timed_out(index, &id, now_ms);
            }
            if found.is_some() {
                break;
            }
        }
        match found {
            None => {
                self.announce();
                Ok(false)
            }
            Some((index, answer, option)) => {
                self.close(Closed::Gate(index, answer, option), Vec::new()).await?;
                Ok(true)
            }
        }
    }

    /// The answer of a gate whose time is over.
    fn timed_out(&self, index: usize, id: &str, now_ms: i64) -> Option<(usize, GateAnswer, usize)> {
        let graph = &self.shared.plan.graph;
        let gate = self.at.gates.get(index)?;
        let asked = asked(graph, gate)?;
        let (timeout, option) = asked.timeout.zip(asked.on_timeout)?;
        let waited = u128::try_from(now_ms.saturating_sub(gate.since_ms)).ok()?;
        if waited < timeout.as_millis() {
            return None;
        }
        let name = graph.node(gate.node).next.get(option)?.option.clone()?;
        let answer = GateAnswer {
            gate: id.to_owned(),
            option: name,
            by: NOBODY.to_owned(),
            note: None,
            at_ms: now_ms,
            signature: None,
        };
        Some((index, answer, option))
    }

    /// A gate that was answered: the task that stands for it, and how it ended.
    pub(crate) fn answered(
        &mut self,
        index: usize,
        answer: &GateAnswer,
        option: usize,
    ) -> (Place, Finished, Ended) {
        let graph = Arc::clone(&self.shared.plan.graph);
        let gate = self.at.gates.remove(index);
        self.announced.retain(|known| *known != (gate.node, gate.born));
        let channel = asked(&graph, &gate).and_then(|asked| asked.answer);
        let value =
            json!({ "option": answer.option, "by": answer.by, "note": answer.note, "at": answer.at_ms });
        let writes = channel.map(|channel| Write { channel, value, overwrite: false }).into_iter().collect();
        let place = Place { step: gate.born, node: gate.node, item: None };
        let ended =
            Ended { node: gate.node, absorbed: gate.absorbed, option: Some(option), ..Ended::default() };
        (place, Finished::with(1, writes), ended)
    }

    /// Tells of gates that have opened.
    pub(crate) fn announce(&mut self) {
        if self.at.gates.is_empty() {
            return;
        }
        let codec = Codec { graph: &self.shared.plan.graph, run: self.shared.run, keys: None };
        let new: Vec<&OpenGate> =
            self.at.gates.iter().filter(|gate| !self.announced.contains(&(gate.node, gate.born))).collect();
        let (mut views, mut members) = (Vec::new(), Vec::new());
        for gate in new {
            views.extend(view(codec, &self.at, gate));
            members.push((gate.node, gate.born));
        }
        self.announced.extend(members);
        for view in views {
            self.shared.publisher.publish(|| Event::GateOpened(view));
        }
    }

    /// The open gates.
    pub(crate) fn gates(&self) -> Vec<GateView> {
        views(self.codec(), &self.at)
    }
}

/// A gate that is open in a position, by its id or its node's name where that is clear.
pub(crate) fn find<'a>(
    graph: &Graph,
    at: &'a Position,
    asked: &str,
) -> Result<&'a OpenGate, EngineErrorKind> {
    let fault = |message: &str| EngineErrorKind::Gate { gate: asked.to_owned(), message: message.to_owned() };
    if let Some(gate) = at.gates.iter().find(|gate| gate_id(graph, gate) == asked) {
        return Ok(gate);
    }
    let mut named = at.gates.iter().filter(|gate| graph.node(gate.node).name == asked);
    match (named.next(), named.next()) {
        (Some(gate), None) => Ok(gate),
        (None, _) if at.gates.is_empty() => Err(fault("the run waits at no gate")),
        (None, _) => {
            let open: Vec<String> = at.gates.iter().map(|gate| gate_id(graph, gate)).collect();
            Err(fault(&format!("the run does not wait there (it waits at: {})", open.join(", "))))
        }
        (Some(_), Some(_)) => Err(fault("it is open more than once: give its whole id")),
    }
}

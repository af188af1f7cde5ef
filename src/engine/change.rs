//! Runs changed from outside: forked, edited, answered.

use std::error::Error;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::codec::{Closing, Codec, OnlyTask};
use super::gates;
use super::log::{self, RunLog};
use super::next::Ended;
use super::output::Write;
use super::plan::Plan;
use super::position::Position;
use super::task::Place;
use super::{
    Claim, Definition, Engine, EngineError, EngineErrorKind, EntryKind, Finish, GateAnswer, GateView, NewRun,
    RunRecord, RunStatus, Snapshot, Usage, chain, host, merge, ways,
};
use crate::graph::{Graph, NodeIdx};
use crate::id::RunId;

/// Reads a run's definition back.
pub type Read<'a> =
    dyn Fn(&Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> + Send + Sync + 'a;

/// Refuses a change after which a run would come to a `danger` node without anybody having been asked.
fn no_way_round_a_gate(
    graph: &Graph,
    from: impl IntoIterator<Item = NodeIdx>,
    what: &str,
) -> Result<(), EngineErrorKind> {
    match ways::ungated_danger(graph, from) {
        None => Ok(()),
        Some(node) => {
            let gate = graph.node(node).name.clone();
            let message =
                format!("{what} would go round the gate before it: choose a place before that gate");
            Err(EngineErrorKind::Gate { gate, message })
        }
    }
}

impl Engine {
    /// Makes a new run that begins where another one stood before superstep `step`. Nothing runs yet: it is
    /// interrupted, to be resumed. Keys and ledger are its own: what the first run did to the outside it does anew.
    ///
    /// # Errors
    /// As [`Engine::state_at`](Engine::state_at); `Definition` where `read` fails.
    ///
    /// # Cancel safety
    /// Dropped, the new run is there whole or not at all.
    pub async fn fork(&self, run: RunId, step: u32, read: &Read<'_>) -> Result<RunId, EngineError> {
        let record = self.load(run).await.map_err(|error| EngineErrorKind::from(error).of(run, ""))?;
        let name = record.definition.graph.clone();
        self.forked(record, step, read).await.map_err(|kind| kind.of(run, &name))
    }

    async fn forked(&self, record: RunRecord, step: u32, read: &Read<'_>) -> Result<RunId, EngineErrorKind> {
        let from = record.summary.run;
        let graph = read(&record.definition).map_err(EngineErrorKind::Definition)?;
        let mut at = self.position_at(from, &graph, step).await?;
        // What is under way at that step begins anew.
        at.done.clear();
        no_way_round_a_gate(&graph, at.frontier.iter().map(|ready| ready.node), "a fork from here")?;
        let run = RunId::fresh();
        let codec = self.codec(&graph, run);
        let input = self
            .codec(&graph, from)
            .input_back(record.input)
            .map_err(|message| EngineErrorKind::Log { seq: 0, message })?;
        let input = codec.input(input)?;
        let mut snapshot =
            Snapshot { seq: 0, body: codec.snapshot(&at, at.step, at.elapsed)?, chain: [0; 32] };
        snapshot.chain = chain::genesis(run, &record.definition.hash, &input, Some(&snapshot));
        let store = self.store(run)?;
        let mut log = self.log(store, Claim::new(run), record.durability, snapshot.chain);
        let new = NewRun {
            run,
            definition: record.definition,
            input,
            durability: record.durability,
            parent: None,
            forked_from: Some((from, step)),
            snapshot: Some(snapshot),
        };
        store.create(log.claim(), new).await?;
        let over = at.is_over();
        let status = if over { RunStatus::Done } else { RunStatus::Interrupted };
        let error = (!over).then(|| "not begun".to_owned());
        log.submit(Vec::new(), Some(Finish { status, error, seal: None }), || None).await?;
        Ok(run)
    }

    /// Writes to the state of a run at rest, through the reducers. With `node` as if that node had written them: its
    /// arms say what comes next, and everything that was to run is dropped. Tells of it in the log, with who did it.
    ///
    /// # Errors
    /// `NoSuchPlace` for a node that the graph does not have, `Input` for a channel or value that does not fit,
    /// `Checkpoint` where a live process holds the run.
    pub async fn edit(
        &self,
        run: RunId,
        node: Option<&str>,
        writes: Map<String, Value>,
        by: &str,
        read: &Read<'_>,
    ) -> Result<(), EngineError> {
        let unknown = |error: super::CheckpointError| EngineErrorKind::from(error).of(run, "");
        let (mut log, record) = self.take(run).await.map_err(unknown)?;
        let result = self.edited(&mut log, &record, node, writes, by, read).await;
        if result.is_err() {
            host::give_back(&mut log, &record).await;
        }
        result.map_err(|kind| kind.of(run, &record.definition.graph))
    }

    async fn edited(
        &self,
        log: &mut RunLog,
        record: &RunRecord,
        node: Option<&str>,
        writes: Map<String, Value>,
        by: &str,
        read: &Read<'_>,
    ) -> Result<(), EngineErrorKind> {
        let run = record.summary.run;
        let graph = read(&record.definition).map_err(EngineErrorKind::Definition)?;
        self.require_key(&graph)?;
        log.go_on(record).map_err(host::changed)?;
        let mut at = self.position(&graph, record)?;
        let plan = Plan::bind(Arc::clone(&graph), self.registry(), self.prompts())?;
        let writes = writes
            .into_iter()
            .map(|(name, value)| {
                let fault = |message: String| EngineErrorKind::Input { channel: name.clone(), message };
                let channel =
                    graph.channel_named(&name).ok_or_else(|| fault("no such channel".to_owned()))?;
                let held = graph.channel(channel);
                let item = Value::Array(vec![value.clone()]);
                if !held.ty.fits(&value) && !held.ty.fits(&item) {
                    return Err(fault(format!("is no {}", held.ty)));
                }
                Ok(Write { channel, value, overwrite: false })
            })
            .collect::<Result<Vec<_>, EngineErrorKind>>()?;
        let as_node = node
            .map(|name| {
                let fault =
                    || EngineErrorKind::NoSuchPlace(format!("graph `{}` has no node `{name}`", graph.name));
                graph.node_named(name).ok_or_else(fault)
            })
            .transpose()?;
        if let Some(node) = as_node {
            if graph.node(node).is_gate() {
                let message = "a gate is answered, not edited".to_owned();
                return Err(EngineErrorKind::Gate { gate: graph.node(node).name.clone(), message });
            }
            no_way_round_a_gate(&graph, graph.node(node).successors(), "an edit as this node")?;
        }
        let codec = Codec { graph: &graph, run, keys: self.keys().map(|keys| &**keys) };
        let place = Place { step: at.step, node: as_node.unwrap_or_default(), item: None };
        let only = OnlyTask {
            place,
            writes: codec.writes(&writes)?,
            attempts: 1,
            cached: false,
            usage: Usage::default(),
            failure: None,
            route: None,
        };
        merge::merge(&mut at.state, &graph, &plan.reducers, [(place, writes)])?;
        if let Some(node) = as_node {
            at.frontier.clear();
            at.waiting.clear();
            at.gates.clear();
            at.done.clear();
            let ended = Ended { node, ..Ended::default() };
            at.advance(&plan, vec![ended], self.clock().now().as_millisecond(), None)?;
        }
        let answer = GateAnswer {
            gate: String::new(),
            option: "edit".to_owned(),
            by: by.to_owned(),
            note: None,
            at_ms: self.clock().now().as_millisecond(),
            signature: None,
        };
        let closing = Closing { only: Some(&only), answer: Some(&answer), of: None, elapsed: None };
        let body = codec.step(&closing, &at)?;
        let name = as_node.map(|node| plan.shared_name(node));
        let entry = log::entry(EntryKind::Edit, at.step, name, None, body);
        let over = at.is_over();
        let status = if over { RunStatus::Done } else { RunStatus::Interrupted };
        let finish = Finish { status, error: (!over).then(|| format!("edited by {by}")), seal: None };
        log.submit(vec![entry], Some(finish), || None).await?;
        Ok(())
    }

    /// The gates at which a run waits; of its subgraphs' runs too.
    ///
    /// # Errors
    /// Where the run is not stored, or its definition cannot be read.
    pub async fn gates(&self, run: RunId, read: &Read<'_>) -> Result<Vec<GateView>, EngineError> {
        let record = self.load(run).await.map_err(|error| EngineErrorKind::from(error).of(run, ""))?;
        let fail = |kind: EngineErrorKind| kind.of(run, &record.definition.graph);
        let (graph, at) = self.read_position(&record, read).map_err(fail)?;
        Ok(gates::views(self.codec(&graph, run), &at))
    }

    pub(crate) fn read_position(
        &self,
        record: &RunRecord,
        read: &Read<'_>,
    ) -> Result<(Arc<Graph>, Position), EngineErrorKind> {
        let graph = read(&record.definition).map_err(EngineErrorKind::Definition)?;
        let at = self.position(&graph, record)?;
        Ok((graph, at))
    }

    /// Answers a gate: `gate` is its id, or its node's name where that is clear. The answer is signed where the engine
    /// has a key. A run at rest goes on with its next resume.
    ///
    /// # Errors
    /// `Gate` where the run does not wait there, the option is none, or `by` may not answer; `Checkpoint` with
    /// `Answered` where it has an answer.
    pub async fn answer(
        &self,
        run: RunId,
        gate: &str,
        (option, by, note): (&str, &str, Option<String>),
        read: &Read<'_>,
    ) -> Result<GateAnswer, EngineError> {
        let record = self.load(run).await.map_err(|error| EngineErrorKind::from(error).of(run, ""))?;
        let fail = |kind: EngineErrorKind| kind.of(run, &record.definition.graph);
        let (graph, at) = self.read_position(&record, read).map_err(fail)?;
        let open = gates::find(&graph, &at, gate).map_err(fail)?;
        let mut answer = GateAnswer {
            gate: gates::gate_id(&graph, open),
            option: option.to_owned(),
            by: by.to_owned(),
            note,
            at_ms: self.clock().now().as_millisecond(),
            signature: None,
        };
        answer.signature = self.keys().map(|keys| keys.sign(gates::signed(run, &answer).as_bytes()));
        let judged = gates::judge(self.codec(&graph, run), open, &answer);
        judged.map_err(|message| fail(EngineErrorKind::Gate { gate: answer.gate.clone(), message }))?;
        let store = self.store(run).map_err(|error| fail(error.into()))?;
        store.answer(run, answer.clone()).await.map_err(|error| fail(error.into()))?;
        Ok(answer)
    }
}

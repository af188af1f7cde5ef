//! Plays a case: checks its graph, runs it, resumes it, and tells what is not as expected.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex};

use sentrix::engine::{
    Checkpointer, Definition, Engine, EngineError, ErrorClass, Keys, MemoryCheckpointer, RunControl,
    RunEvent, RunFilter, RunOptions, RunOutcome, Stream, Streams,
};
use sentrix::graph::{self, Barrier, Budget, Catalog, Graph};
use sentrix::id::RunId;
use sentrix::store::SqliteCheckpointer;
use serde_json::{Map, Value};

use super::case::{Case, Phase, Setting, Step, graph_file};
use super::stub::{MovedClock, StubPrompts, Stubs, duration, registry};
use super::tell::{Differences, Heard, TASKS, refusal, show, status, step, unlike, whole_text};

fn options(set: impl FnOnce(&mut RunOptions)) -> RunOptions {
    let mut options = RunOptions::default();
    set(&mut options);
    options
}

/// Codes of faults or warnings.
type Codes = Vec<String>;

/// Plays a case on every store.
pub(super) async fn play(case: &Case) -> Differences {
    let Setting { faults, warnings, no_warnings, .. } = &case.setting;
    let clock = Arc::new(MovedClock::new());
    let stubs = Arc::new(Stubs::new(BTreeMap::new(), clock));
    let (_, mut catalog) = registry(&case.setting, &stubs);
    let mut differences = Vec::new();
    let graph = match read_all(&case.setting, &mut catalog) {
        Ok((graph, codes)) => {
            let given: BTreeSet<&str> = codes.iter().map(String::as_str).collect();
            for code in warnings.iter().filter(|code| !given.contains(code.as_str())) {
                differences.push(format!("no warning {code}, but {codes:?}"));
            }
            for code in no_warnings.iter().filter(|code| given.contains(code.as_str())) {
                differences.push(format!("a warning {code}"));
            }
            if !faults.is_empty() {
                differences.push(format!("no faults, but expected {faults:?} (warnings: {codes:?})"));
            }
            graph
        }
        Err((codes, _)) if !faults.is_empty() => {
            if codes != *faults {
                differences.push(format!("faults: expected {faults:?}, found {codes:?}"));
            }
            return differences;
        }
        Err((_, text)) => return vec![format!("the graph has faults:\n{text}")],
    };
    if !faults.is_empty() {
        return differences;
    }
    let dir = tempfile::tempdir().unwrap();
    for on_disk in [false, true] {
        let clock = Arc::new(MovedClock::new());
        let store: Arc<dyn Checkpointer> = if on_disk {
            Arc::new(SqliteCheckpointer::open(&dir.path().join("c.db"), Arc::clone(&clock) as _).unwrap())
        } else {
            Arc::new(MemoryCheckpointer::new(Arc::clone(&clock) as _))
        };
        let mut world = World::new(case, Arc::clone(&graph), clock, store);
        let place = if on_disk { "on SQLite" } else { "in memory" };
        for (number, phase) in std::iter::once(&case.first).chain(&case.then).enumerate() {
            let part = if number == 0 { String::new() } else { format!(", then {number}") };
            for difference in world.phase(phase, number == 0).await {
                differences.push(format!("{place}{part}: {difference}"));
            }
            if !differences.is_empty() {
                return differences;
            }
        }
        for difference in world.replay(case).await {
            differences.push(format!("{place}: {difference}"));
        }
    }
    differences
}

/// The codes of faults in a file.
fn codes(faults: &graph::Faults) -> Codes {
    let mut codes: Codes = faults.reports().iter().map(|report| report.code.to_owned()).collect();
    codes.sort_unstable();
    codes
}

/// Checks the graphs of a case; gives the codes of the last one's warnings, or of what is wrong.
fn read_all(setting: &Setting, catalog: &mut Catalog) -> Result<(Arc<Graph>, Codes), (Codes, String)> {
    for (name, text) in &setting.graphs {
        let text = format!("graph.name = \"{name}\"\n{text}");
        let graph = graph::check(name, &graph_file(&text), catalog)
            .map_err(|faults| (codes(&faults), format!("graph `{name}`: {:?}", codes(&faults))))?;
        catalog.graphs.insert(name.clone(), Arc::new(graph));
    }
    let text = graph_file(&setting.graph);
    match graph::check_all("case.toml", &text, catalog) {
        (Some(graph), warnings) => Ok((Arc::new(graph), warnings.as_ref().map(codes).unwrap_or_default())),
        (None, faults) => {
            let faults = faults.unwrap();
            let all: Vec<String> = faults
                .reports()
                .iter()
                .map(|report| {
                    format!("{} line {}: {} ({})", report.code, report.line, report.message, report.help)
                })
                .collect();
            Err((codes(&faults), all.join("\n")))
        }
    }
}

/// A case on one store.
struct World {
    graph: Arc<Graph>,
    /// Every graph that some run of the case was begun with, by hash.
    known: BTreeMap<String, Arc<Graph>>,
    catalog: Catalog,
    engine: Engine,
    store: Arc<dyn Checkpointer>,
    clock: Arc<MovedClock>,
    stubs: Arc<Stubs>,
    input: Map<String, Value>,
    run: RunId,
}

impl World {
    fn new(case: &Case, graph: Arc<Graph>, clock: Arc<MovedClock>, store: Arc<dyn Checkpointer>) -> Self {
        let stubs = Arc::new(Stubs::new(case.setting.stub.clone(), Arc::clone(&clock)));
        let (registry, mut catalog) = registry(&case.setting, &stubs);
        // The graphs within are in the catalog for the sake of upgrades.
        drop(read_all(&case.setting, &mut catalog));
        let mut builder = Engine::builder()
            .registry(registry)
            .prompts(Arc::new(StubPrompts(Arc::clone(&stubs))))
            .checkpointer(Arc::clone(&store))
            .clock(Arc::clone(&clock) as _);
        if case.setting.key {
            builder = builder.keys(Arc::new(Keys::from_secret(&[7; 32]).unwrap()));
        }
        let within = catalog.graphs.values().map(|graph| (graph.hash.clone(), Arc::clone(graph)));
        Self {
            known: within.chain([(graph.hash.clone(), Arc::clone(&graph))]).collect(),
            graph,
            catalog,
            engine: builder.build(),
            store,
            clock,
            stubs,
            input: case.setting.input.clone(),
            run: RunId::fresh(),
        }
    }

    fn read(
        &self,
    ) -> impl Fn(&Definition) -> Result<Arc<Graph>, Box<dyn Error + Send + Sync>> + Send + Sync + use<> {
        let known = self.known.clone();
        move |definition| known.get(&definition.hash).cloned().ok_or_else(|| "no such graph".into())
    }

    /// One part of a run, and what is not as expected after it.
    async fn phase(&mut self, phase: &Phase, first: bool) -> Differences {
        let mut differences = self.prepare(phase).await;
        if phase.look {
            differences.extend(self.stored(phase).await);
            return differences;
        }
        let upgrade = match phase.upgrade.as_deref().map(graph_file) {
            None => None,
            Some(text) => match graph::check("upgrade.toml", &text, &self.catalog) {
                Ok(graph) => Some(Arc::new(graph)),
                Err(faults) => return vec![format!("the upgrade has faults: {:?}", faults.reports())],
            },
        };
        let fresh = first || phase.again;
        if fresh {
            self.run = RunId::fresh();
        }
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (run, ears) = (self.run, Arc::clone(&heard));
        let listen = move |event: RunEvent| ears.lock().unwrap().hear(run, &event);
        let mut streams = vec![Stream::Tasks];
        streams.extend(
            Stream::ALL.into_iter().filter(|one| phase.streams.iter().any(|name| name == one.as_str())),
        );
        let control = RunControl::new();
        self.stubs.begin(control.clone());
        let budget = phase.budget.as_ref().map_or_else(Budget::default, |budget| Budget {
            tokens: budget.tokens,
            steps: budget.steps,
            ..Budget::default()
        });
        let options = options(|options| {
            options.run_id = Some(run);
            options.control = control;
            options.events = Some(Arc::new(listen));
            options.streams = Streams::of(&streams);
            options.budget = budget;
            options.upgrade.clone_from(&upgrade);
        });
        let going = async {
            if fresh {
                self.engine.run(Arc::clone(&self.graph), self.input.clone(), options).await
            } else {
                self.engine.resume(run, self.read(), options).await
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = going => Some(outcome),
            () = self.stubs.killed.notified() => None,
        };
        if let Some(graph) = upgrade
            && phase.error.is_none()
        {
            self.known.insert(graph.hash.clone(), Arc::clone(&graph));
            self.graph = graph;
        }
        let heard = std::mem::take(&mut *heard.lock().unwrap());
        differences.extend(Self::outcome(phase, outcome.as_ref()));
        if let Some(trace) = &phase.trace
            && *trace != heard.trace
        {
            differences.push(format!("trace: expected {}, took {}", show(trace), show(&heard.trace)));
        }
        if let Some(expected) = &phase.events {
            let wanted: BTreeSet<&str> = phase.streams.iter().map(String::as_str).collect();
            let is_wanted = |name: &str| wanted.contains("tasks") || !TASKS.contains(&name);
            let found: Vec<&String> =
                heard.events.iter().filter(|event| is_wanted(event.split(' ').next().unwrap())).collect();
            if found != expected.iter().collect::<Vec<_>>() {
                differences.push(format!("events: expected {expected:?}, heard {found:?}"));
            }
        }
        for (node, times) in &phase.ran {
            let ran = self.stubs.ran(node);
            if ran != *times {
                differences.push(format!("`{node}` ran {ran} times, expected {times}"));
            }
        }
        let state = match &outcome {
            Some(Ok(outcome)) => outcome.state.clone(),
            _ => self.last_state().await,
        };
        differences.extend(unlike("state", &phase.state, &state));
        differences.extend(self.stored(phase).await);
        differences
    }

    /// What is done to a run at rest before it goes on.
    async fn prepare(&mut self, phase: &Phase) -> Differences {
        let mut differences = Vec::new();
        if let Some(by) = &phase.advance {
            self.clock.advance(duration(by));
        }
        for answer in &phase.answer {
            let given = (answer.option.as_str(), answer.by.as_str(), answer.note.clone());
            let asked = self.asked(&answer.gate).await;
            let result = self.engine.answer(asked, &answer.gate, given, &self.read()).await;
            differences.extend(refusal(
                &format!("answer to {}", answer.gate),
                result,
                answer.refused.as_deref(),
            ));
        }
        if let Some(edit) = &phase.edit {
            let node = edit.node.as_deref();
            let result = self.engine.edit(self.run, node, edit.writes.clone(), "ada", &self.read()).await;
            differences.extend(refusal("edit", result, edit.refused.as_deref()));
        }
        if let Some(step) = phase.fork {
            match self.engine.fork(self.run, step, &self.read()).await {
                Ok(run) => self.run = run,
                Err(error) => differences.push(format!("fork: {error}")),
            }
        }
        differences
    }

    /// The run that asks at a gate: this one, or one within it.
    async fn asked(&self, gate: &str) -> RunId {
        let filter = RunFilter { children: true, ..RunFilter::default() };
        for run in self.engine.list(filter).await.unwrap() {
            let gates = self.engine.gates(run.run, &self.read()).await;
            if run.run != self.run && gates.is_ok_and(|gates| gates.iter().any(|open| open.node == gate)) {
                return run.run;
            }
        }
        self.run
    }

    /// How the part ended.
    fn outcome(phase: &Phase, outcome: Option<&Result<RunOutcome, EngineError>>) -> Differences {
        let mut differences = Vec::new();
        let (name, error) = match outcome {
            None => ("killed", None),
            Some(Err(error)) => ("failed", Some(error)),
            Some(Ok(outcome)) => (status(outcome.status), None),
        };
        let failure = phase.error.is_some() || phase.class.is_some();
        let expected = phase.outcome.as_deref().unwrap_or(if failure { "failed" } else { "done" });
        if name != expected {
            let why = error.map(|error| format!(": {}", error.kind)).unwrap_or_default();
            differences.push(format!("outcome: expected {expected}, was {name}{why}"));
        }
        if let (Some(part), Some(error)) = (&phase.error, error) {
            let whole = whole_text(error);
            if !whole.contains(part.as_str()) {
                differences.push(format!("error: expected `{part}` in `{whole}`"));
            }
        }
        if let (Some(class), Some(error)) = (&phase.class, error) {
            let found = error.kind.class().map(ErrorClass::as_str);
            if found != Some(class) {
                differences.push(format!("class: expected {class}, was {found:?} ({})", error.kind));
            }
        }
        let Some(Ok(outcome)) = outcome else { return differences };
        if let Some(waits) = &phase.waits {
            let found: Vec<String> = outcome.gates.iter().map(|gate| gate.node.clone()).collect();
            if found != *waits {
                differences.push(format!("waits: expected {waits:?}, found {found:?}"));
            }
        }
        if let Some(used) = &phase.used {
            let found = (outcome.used.tokens, outcome.used.micro_usd);
            if used.tokens.is_some_and(|tokens| tokens != found.0)
                || used.micro_usd.is_some_and(|micro_usd| micro_usd != found.1)
            {
                differences.push(format!("used: expected {used:?}, found {found:?}"));
            }
        }
        for (channel, expected) in &phase.secret {
            let found = outcome.secret(channel).unwrap_or(&Value::Null);
            if found != expected {
                differences.push(format!("secret: expected {channel} = {expected}, found {found}"));
            }
        }
        differences
    }

    /// The state at the end of what is stored of the run.
    async fn last_state(&self) -> Map<String, Value> {
        let filter = RunFilter::default();
        let runs = self.engine.list(filter).await.unwrap();
        let Some(summary) = runs.iter().find(|run| run.run == self.run) else { return Map::new() };
        self.engine.state_at(self.run, &self.graph, summary.steps).await.unwrap_or_default()
    }

    /// What is stored of the run, and what is to be made of it.
    async fn stored(&self, phase: &Phase) -> Differences {
        let mut differences = Vec::new();
        for (name, times) in &phase.effects {
            let done = self.stubs.effects(name);
            if done != *times {
                differences.push(format!("effect `{name}` was done {done} times, expected {times}"));
            }
        }
        for at in &phase.at {
            let state = self.engine.state_at(self.run, &self.graph, at.step).await;
            let place = format!("state before step {}", at.step);
            match (&state, &at.refused) {
                (Ok(state), None) => differences.extend(unlike(&place, &at.state, state)),
                (Err(error), Some(part)) if error.to_string().contains(part.as_str()) => {}
                _ => differences.push(format!("{place}: {state:?}, expected {at:?}")),
            }
        }
        if let Some(diff) = &phase.diff {
            match self.engine.diff(self.run, &self.graph, (diff.from, diff.to)).await {
                Ok(found) => {
                    let found: Vec<String> = found.into_iter().map(|one| one.channel).collect();
                    if found != diff.channels {
                        differences.push(format!("diff: expected {:?}, found {found:?}", diff.channels));
                    }
                }
                Err(error) => differences.push(format!("diff: {error}")),
            }
        }
        if self.store.load(self.run).await.is_err() {
            if phase.whole == Some(true) || phase.history.is_some() {
                differences.push("nothing is stored".to_owned());
            }
            return differences;
        }
        if let Some(history) = &phase.history {
            let found: Vec<Step> = self.engine.history(self.run).await.unwrap().iter().map(step).collect();
            if found != *history {
                differences.push(format!("history: expected {}, found {}", show(history), show(&found)));
            }
        }
        let mut kept: Vec<String> = Vec::new();
        let everything = RunFilter { children: true, ..RunFilter::default() };
        for run in self.engine.list(everything).await.unwrap() {
            let record = self.store.load(run.run).await.unwrap();
            let log = self.store.history(run.run).await.unwrap();
            kept.push(format!("{:?} {:?} {run:?} {log:?}", record.input, record.snapshot));
        }
        for text in
            phase.never_stored.iter().filter(|text| kept.iter().any(|kept| kept.contains(text.as_str())))
        {
            differences.push(format!("`{text}` is stored"));
        }
        if phase.whole != Some(false) {
            let proof = self.engine.verify(self.run).await.unwrap();
            if !proof.is_whole() {
                differences.push(format!("the log does not prove whole: {:?}", proof.faults));
            }
        }
        differences
    }

    /// A run that is done, played again without its tasks.
    async fn replay(&self, case: &Case) -> Differences {
        let is_simple = case.then.is_empty() && case.first.outcome.as_deref().unwrap_or("done") == "done";
        // What the clock decided, a recording cannot tell.
        let by_time = case.setting.stub.values().flatten().any(|answer| answer.get("clock").is_some());
        if !is_simple || by_time || case.first.error.is_some() || case.first.class.is_some() {
            return Vec::new();
        }
        let cassette = match self.engine.record(self.run, &self.graph).await {
            Ok(cassette) => cassette,
            Err(error)
                if self
                    .graph
                    .channels
                    .iter()
                    .any(|channel| channel.secret || (channel.input && !channel.persist)) =>
            {
                drop(error);
                return Vec::new();
            }
            Err(error) => return vec![format!("replay: {error}")],
        };
        let (input, path, state) = (cassette.input.clone(), cassette.path.clone(), cassette.state.clone());
        let options = options(|options| options.cassette = Some(Arc::new(cassette)));
        let ran = self.stubs.ran_all();
        let outcome = match self.engine.run(Arc::clone(&self.graph), input, options).await {
            Ok(outcome) => outcome,
            Err(error) => return vec![format!("replay: {error}")],
        };
        let mut differences = unlike("replay", &state, &outcome.state);
        if self.stubs.ran_all() != ran {
            differences.push("replay: tasks ran".to_owned());
        }
        match self.engine.record(outcome.run, &self.graph).await {
            // Which of two free branches is merged first is a matter of time.
            Ok(_) if self.graph.barrier == Barrier::Dataflow => {}
            Ok(again) if again.path == path => {}
            Ok(again) => differences.push(format!("replay: took {:?} instead of {path:?}", again.path)),
            Err(error) => differences.push(format!("replay: {error}")),
        }
        differences
    }
}

//! Crashes between any two durable writes, and what a resume makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::graph::Durability;
use crate::id::RunId;

/// Lets so many appends through, then fails, as a full disk does.
#[derive(Debug)]
struct Failing {
    inner: Arc<MemoryCheckpointer>,
    left: AtomicU32,
}

impl Checkpointer for Failing {
    fn create(&self, claim: &Claim, run: NewRun) -> Receipt<()> {
        self.inner.create(claim, run)
    }

    fn claim(&self, claim: &Claim) -> Receipt<()> {
        self.inner.claim(claim)
    }

    fn append(&self, claim: &Claim, batch: Batch) -> Receipt<()> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            let kind = CheckpointErrorKind::Storage("database or disk is full".to_owned());
            return Receipt::now(Err(CheckpointError { run: claim.run, kind }));
        }
        self.inner.append(claim, batch)
    }

    fn release(&self, claim: &Claim) {
        self.inner.release(claim);
    }

    fn load(&self, run: RunId) -> BoxFuture<'_, Result<RunRecord, CheckpointError>> {
        self.inner.load(run)
    }

    fn history(&self, run: RunId) -> BoxFuture<'_, Result<History, CheckpointError>> {
        self.inner.history(run)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, CheckpointError>> {
        self.inner.list(filter)
    }

    fn definition(&self, run: RunId, hash: &str) -> BoxFuture<'_, Result<Definition, CheckpointError>> {
        self.inner.definition(run, hash)
    }

    fn answer(&self, run: RunId, answer: GateAnswer) -> Receipt<()> {
        self.inner.answer(run, answer)
    }

    fn answers(&self, run: RunId) -> BoxFuture<'_, Result<Vec<GateAnswer>, CheckpointError>> {
        self.inner.answers(run)
    }

    fn record_effect(&self, effect: EffectRecord) -> Receipt<()> {
        self.inner.record_effect(effect)
    }

    fn effect(&self, run: RunId, key: Uuid) -> BoxFuture<'_, Result<Option<EffectRecord>, CheckpointError>> {
        self.inner.effect(run, key)
    }

    fn effects(&self, run: RunId) -> BoxFuture<'_, Result<Vec<EffectRecord>, CheckpointError>> {
        self.inner.effects(run)
    }

    fn cache(&self, run: RunId, key: Digest, body: String, until_ms: i64) -> Receipt<()> {
        self.inner.cache(run, key, body, until_ms)
    }

    fn cached(
        &self,
        run: RunId,
        key: Digest,
        now_ms: i64,
    ) -> BoxFuture<'_, Result<Option<String>, CheckpointError>> {
        self.inner.cached(run, key, now_ms)
    }

    fn hold(&self, run: RunId, reason: Option<String>) -> Receipt<()> {
        self.inner.hold(run, reason)
    }

    fn prune(&self, run: RunId, what: Prune) -> Receipt<()> {
        self.inner.prune(run, what)
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_run_and_a_resume_goes_on() {
    let trace = Trace::default();
    let inner = Arc::new(MemoryCheckpointer::default());
    let store = Arc::new(Failing { inner, left: AtomicU32::new(3) });
    let engine = Engine::builder().registry(registry(&trace)).checkpointer(Arc::clone(&store) as _).build();
    let error = engine.run(counter(6), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().ends_with("checkpoint not written: database or disk is full"), "{error}");
    assert_eq!(trace.take().len(), 4, "three committed, one in flight");
    let abandoned = engine.list(RunFilter { abandoned: true, ..RunFilter::default() }).await.unwrap();
    assert_eq!(abandoned.len(), 1);
    store.left.store(u32::MAX, Ordering::Relaxed);
    let done = engine.resume(error.run, |_| Ok(counter(6)), RunOptions::default()).await.unwrap();
    assert_eq!((done.state["n"].clone(), done.steps), (json!(6), 6));
    assert_eq!(trace.take().len(), 3);
}

#[tokio::test]
async fn a_held_run_cannot_be_resumed_and_a_done_one_runs_nothing() {
    let trace = Trace::default();
    let (engine, store) = engine(registry(&trace));
    let done = engine.run(counter(3), Map::new(), RunOptions::default()).await.unwrap();
    trace.take();
    let again = engine.resume(done.run, |_| Ok(counter(3)), RunOptions::default()).await.unwrap();
    assert_eq!(again, done);
    assert_eq!(trace.take(), [""; 0]);

    let run = RunId::fresh();
    let claim = Claim::new(run);
    let definition = Definition::of(&counter(3), Arc::default());
    let new = NewRun {
        run,
        definition,
        input: Map::new(),
        durability: Durability::Crash,
        parent: None,
        forked_from: None,
        snapshot: None,
    };
    store.create(&claim, new.clone()).await.unwrap();
    let error = engine.resume(run, |_| Ok(counter(3)), RunOptions::default()).await.unwrap_err();
    let EngineErrorKind::Checkpoint(fault) = &error.kind else { panic!("{error}") };
    assert!(matches!(fault.kind, CheckpointErrorKind::Held(_)));
    let options = RunOptions { run_id: Some(run), ..RunOptions::default() };
    let error = engine.run(counter(3), Map::new(), options).await.unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
    claim.end();
    store.release(&claim);
    engine.resume(run, |_| Ok(counter(3)), RunOptions::default()).await.unwrap();

    let error = engine.resume(RunId::fresh(), |_| Ok(counter(3)), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("no such run"), "{error}");
    let error = engine.resume(run, |_| Err("gone".into()), RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::Definition(_)), "{error}");
}

#[tokio::test]
async fn durability_exit_writes_once_at_the_end() {
    let trace = Trace::default();
    let (engine, store) = engine(registry(&trace));
    let options = RunOptions { durability: Some(Durability::Exit), ..RunOptions::default() };
    let run = RunId::fresh();
    let control = RunControl::new();
    control.drain();
    let stopped = RunOptions { run_id: Some(run), control, ..options.clone() };
    engine.run(counter(9), Map::new(), stopped).await.unwrap();
    let done = engine.resume(run, |_| Ok(counter(9)), options).await.unwrap();
    assert_eq!(done.steps, 9);
    assert_eq!(store.load(run).await.unwrap().entries.len(), 9);
}

#[tokio::test]
async fn a_long_log_gets_snapshots_that_stay_in_proportion() {
    #[derive(Serialize, JsonSchema)]
    struct Out {
        n: i64,
        log: String,
    }
    let mut registry = Registry::new();
    registry.task("demo.grow", "appends", |_: Ctx, input: Number| async move {
        Ok(Out { n: input.n + 1, log: "x".repeat(1000) })
    });
    let graph = |to: u32| {
        let graph = GraphBuilder::new("grow")
            .channel_from("n", "int", Reducer::Last, json!(0))
            .channel("log", "string[]", Reducer::Append)
            .node(
                NodeBuilder::task("grow", "demo.grow")
                    .reads(["n"])
                    .writes(["n", "log"])
                    .when(&format!("n < {to}"), ["grow"]),
            )
            .max_steps(10_000)
            .build()
            .unwrap();
        Arc::new(graph)
    };
    let (engine, store) = engine(registry);
    let error = {
        let mut short = (*graph(u32::MAX)).clone();
        short.max_steps = 500;
        engine.run(Arc::new(short), Map::new(), RunOptions::default()).await.unwrap_err()
    };
    let record = store.load(error.run).await.unwrap();
    let snapshot = record.snapshot.unwrap();
    let deltas: usize = record.entries.iter().map(|stored| stored.entry.body.len()).sum();
    assert!(snapshot.body.len() > 100_000, "{}", snapshot.body.len());
    assert!(deltas <= snapshot.body.len() + 20_000, "{deltas}");
    let done = engine.resume(error.run, |_| Ok(graph(600)), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["n"], json!(600));
    assert_eq!(done.state["log"].as_array().unwrap().len(), 600);
}

/// Reads `round` and a list; writes where it ran. The write depends on what the task saw.
fn chatty(trace: &Trace) -> Registry {
    #[derive(Deserialize, JsonSchema)]
    struct In {
        round: i64,
        seen: Vec<String>,
        item: Option<String>,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        seen: String,
        round: i64,
        places: BTreeMap<String, usize>,
        most: i64,
        tags: Vec<i64>,
    }
    let mut registry = Registry::new();
    let trace = trace.clone();
    registry.task("demo.chat", "tells what it saw", move |ctx: Ctx, input: In| {
        let trace = trace.clone();
        async move {
            for _ in 0..ctx.item().unwrap_or(2) % 3 {
                tokio::task::yield_now().await;
            }
            let place = format!("{}/{}/{:?}", ctx.step(), ctx.node(), ctx.item());
            trace.add(place.clone());
            Ok(Out {
                seen: format!("{place}:{}:{:?}", input.seen.len(), input.item),
                round: 1,
                places: BTreeMap::from([(ctx.node().to_owned(), input.seen.len())]),
                most: input.round * 7 % 5,
                tags: vec![input.round % 3, i64::from(ctx.step())],
            })
        }
    });
    registry
}

/// A random small graph: each node has arms to random nodes while the rounds last, some are fan-outs.
fn graphs() -> impl Strategy<Value = Arc<Graph>> {
    let arm = proptest::collection::vec(0..5_usize, 1..3);
    let node = (arm.clone(), arm, any::<bool>(), 1..4_usize);
    (proptest::collection::vec(node, 2..5), 3..12_u32).prop_map(|(nodes, rounds)| {
        let count = nodes.len();
        let mut graph = GraphBuilder::new("random")
            .channel_from("round", "int", Reducer::Sum, json!(0))
            .channel("seen", "string[]", Reducer::Append)
            .channel("places", "{int}", Reducer::Merge)
            .channel("most", "int?", Reducer::Max)
            .channel("tags", "int[]", Reducer::Union)
            .max_steps(12);
        for (at, (first, second, each, lanes)) in nodes.into_iter().enumerate() {
            let names = |to: &[usize]| -> Vec<String> {
                let mut to: Vec<usize> = to.iter().map(|to| to % count).collect();
                to.sort_unstable();
                to.dedup();
                to.iter().map(|to| format!("n{to}")).collect()
            };
            let mut node = NodeBuilder::task(&format!("n{at}"), "demo.chat")
                .reads(["round", "seen"])
                .writes(["seen", "round", "places", "most", "tags"]);
            if each {
                node = node.each("seen", "item", lanes);
            } else {
                node = node.with("item", json!("none"));
            }
            for (when, to) in [
                (format!("round < {}", rounds / 2), names(&first)),
                (format!("round < {rounds}"), names(&second)),
            ] {
                node = node.when(&when, to.iter().map(String::as_str));
            }
            graph = graph.node(node);
        }
        Arc::new(graph.build().unwrap())
    })
}

/// Ends a part of a run: `Ok` when done, else the id to resume.
fn rest(result: Result<RunOutcome, EngineError>) -> Result<Option<RunOutcome>, RunId> {
    match result {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) => match error.kind {
            EngineErrorKind::MaxSteps(_) => Ok(None),
            EngineErrorKind::Checkpoint(_) => Err(error.run),
            other => panic!("{other}"),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_broken_anywhere_ends_as_an_unbroken_one(graph in graphs(), breaks in proptest::collection::vec(0..6_u32, 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let run = RunId::stable(&["broken"]);
            let options = || RunOptions { run_id: Some(run), ..RunOptions::default() };
            let trace = Trace::default();
            let (whole, _) = engine(chatty(&trace));
            let expected = rest(whole.run(Arc::clone(&graph), Map::new(), options()).await).unwrap();
            let unbroken = trace.take();

            let inner = Arc::new(MemoryCheckpointer::default());
            let store = Arc::new(Failing { inner, left: AtomicU32::new(0) });
            let engine =
                Engine::builder().registry(chatty(&trace)).checkpointer(Arc::clone(&store) as _).build();
            let mut breaks = breaks.into_iter();
            let mut all = Vec::new();
            let mut finished = Vec::new();
            store.left.store(breaks.next().unwrap_or(u32::MAX), Ordering::Relaxed);
            let mut result = engine.run(Arc::clone(&graph), Map::new(), options()).await;
            let ended = loop {
                let ran = trace.take();
                assert!(ran.iter().all(|place| !finished.contains(place)), "{ran:?} after {finished:?}");
                all.extend(ran);
                match rest(result) {
                    Ok(outcome) => break outcome,
                    Err(run) => {
                        finished = store.history(run).await.unwrap().entries.iter().filter_map(place).collect();
                        store.left.store(breaks.next().unwrap_or(u32::MAX), Ordering::Relaxed);
                        let again = Arc::clone(&graph);
                        result = engine.resume(run, |_| Ok(again), options()).await;
                    }
                }
            };
            assert_eq!(ended.as_ref().map(|end| &end.state), expected.as_ref().map(|end| &end.state));
            assert_eq!(engine.history(run).await.unwrap().iter().map(comparable).collect::<Vec<_>>(),
                whole.history(run).await.unwrap().iter().map(comparable).collect::<Vec<_>>());
            // Every task of the unbroken run ran, and nothing else.
            let all: BTreeSet<String> = all.into_iter().collect();
            assert_eq!(all, unbroken.into_iter().collect::<BTreeSet<_>>());
        });
    }
}

/// Where the task of an entry ran, as `demo.chat` tells it.
fn place(stored: &StoredEntry) -> Option<String> {
    let entry = &stored.entry;
    entry.node.as_ref().map(|node| format!("{}/{node}/{:?}", entry.step, entry.item))
}

fn comparable(step: &StepRecord) -> (u32, bool, Vec<TaskRecord>, Vec<String>) {
    (step.step, step.finished, step.tasks.clone(), step.next.clone())
}

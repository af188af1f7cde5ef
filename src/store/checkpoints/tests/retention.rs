//! Marks, and what retention takes away.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::engine::RunOptions;

for_both!(
    a_marked_or_live_run_is_never_touched,
    a_pruned_run_goes_on_from_its_snapshot,
    a_log_is_cut_where_it_is_kept_only,
    a_run_goes_with_all_that_is_its_own,
    a_family_goes_together_or_not_at_all,
);

async fn a_marked_or_live_run_is_never_touched(bench: Bench) {
    let store = &bench.store;
    let run = bench.rested(3).await;
    let before = (store.history(run).await.unwrap(), store.load(run).await.unwrap().summary);
    store.hold(run, Some("under investigation".to_owned())).await.unwrap();
    let held = store.load(run).await.unwrap().summary.held;
    assert_eq!(held.as_deref(), Some("under investigation"));
    for what in [Prune::Whole, Prune::Before(snapshot(2))] {
        let fault = store.prune(run, what).await.unwrap_err();
        assert_eq!(fault.to_string(), "the run is held by a mark to keep it: under investigation");
    }
    store.hold(run, None).await.unwrap();
    assert_eq!((store.history(run).await.unwrap(), store.load(run).await.unwrap().summary), before);
    // A live owner, with a mark or without.
    let claim = Claim::new(run);
    store.claim(&claim).await.unwrap();
    for mark in [None, Some("a mark".to_owned())] {
        store.hold(run, mark).await.unwrap();
        for what in [Prune::Whole, Prune::Before(snapshot(2))] {
            let fault = store.prune(run, what).await.unwrap_err();
            assert!(
                matches!(&fault.kind, CheckpointErrorKind::Held(by) if by.contains("process")),
                "{fault}"
            );
        }
    }
    store.append(&claim, batch(3, vec![step(3)])).await.unwrap();
    assert_eq!(seqs(&store.history(run).await.unwrap().entries), [0, 1, 2, 3]);
    bench.let_go(&claim);
    store.hold(run, None).await.unwrap();
    store.prune(run, Prune::Before(snapshot(2))).await.unwrap();
    assert_eq!(seqs(&store.history(run).await.unwrap().entries), [2, 3]);
}

async fn a_pruned_run_goes_on_from_its_snapshot(bench: Bench) {
    let store = &bench.store;
    let claim = bench.begin(new_run(RunId::fresh())).await;
    let run = claim.run;
    let first = Batch { snapshot: Some(snapshot(3)), ..batch(0, (0..5).map(step).collect()) };
    store.append(&claim, first).await.unwrap();
    bench.let_go(&claim);
    // Before the last snapshot: that one stays the one to load.
    store.prune(run, Prune::Before(snapshot(2))).await.unwrap();
    let history = store.history(run).await.unwrap();
    assert_eq!(
        (history.first_seq, history.base, seqs(&history.entries)),
        (2, Some(snapshot(2)), vec![2, 3, 4])
    );
    let record = store.load(run).await.unwrap();
    assert_eq!((record.snapshot, seqs(&record.entries)), (Some(snapshot(3)), vec![3, 4]));
    // At the last snapshot, again, and after it.
    for (seq, left) in [(3, vec![3, 4]), (3, vec![3, 4]), (4, vec![4])] {
        store.prune(run, Prune::Before(snapshot(seq))).await.unwrap();
        let history = store.history(run).await.unwrap();
        assert_eq!(
            (history.first_seq, history.base, seqs(&history.entries)),
            (seq, Some(snapshot(seq)), left.clone())
        );
        let record = store.load(run).await.unwrap();
        assert_eq!((record.snapshot, seqs(&record.entries)), (Some(snapshot(seq)), left));
    }
    // Everything: only the snapshot is left, and how far the run had come is still known.
    for _ in 0..2 {
        store.prune(run, Prune::Before(snapshot(5))).await.unwrap();
        let record = store.load(run).await.unwrap();
        assert_eq!((record.snapshot, record.entries), (Some(snapshot(5)), vec![]));
        assert_eq!((record.summary.steps, record.summary.status), (5, RunStatus::Running));
    }
    assert_eq!(store.list(RunFilter::default()).await.unwrap()[0].steps, 5);
    let again = Claim::new(run);
    store.claim(&again).await.unwrap();
    let fault = store.append(&again, batch(0, vec![step(0)])).await.unwrap_err();
    assert_eq!(fault.to_string(), "checkpoint not written: entries out of order");
    store
        .append(&again, Batch { snapshot: Some(snapshot(7)), ..batch(5, vec![step(5), step(6)]) })
        .await
        .unwrap();
    let history = store.history(run).await.unwrap();
    assert_eq!((history.base, seqs(&history.entries)), (Some(snapshot(5)), vec![5, 6]));
    let record = store.load(run).await.unwrap();
    assert_eq!((record.snapshot, record.entries, record.summary.steps), (Some(snapshot(7)), vec![], 7));
}

async fn a_log_is_cut_where_it_is_kept_only(bench: Bench) {
    let store = &bench.store;
    let run = bench.rested(4).await;
    store.prune(run, Prune::Before(snapshot(2))).await.unwrap();
    let before = store.history(run).await.unwrap();
    for seq in [0, 1, 5, u32::MAX] {
        let fault = store.prune(run, Prune::Before(snapshot(seq))).await.unwrap_err();
        let told = format!(
            "checkpoint not written: a snapshot before entry {seq} is outside of the log that is kept"
        );
        assert_eq!(fault.to_string(), told);
    }
    assert_eq!(store.history(run).await.unwrap(), before);
}

/// Gives a run something in every table.
async fn fill(bench: &Bench, run: RunId) -> Uuid {
    let store = &bench.store;
    let claim = Claim::new(run);
    store.claim(&claim).await.unwrap();
    let next = store.history(run).await.unwrap().entries.len().try_into().unwrap();
    let upgrade = Batch {
        definition: Some(definition("two")),
        snapshot: Some(snapshot(next)),
        ..finish(next, RunStatus::Interrupted)
    };
    store.append(&claim, upgrade).await.unwrap();
    let (gate, by) = ("g".to_owned(), "owner".to_owned());
    let option = "yes".to_owned();
    store.answer(run, GateAnswer { gate, option, by, note: None, at_ms: 0, signature: None }).await.unwrap();
    let key = Uuid::now_v7();
    let node = "send".to_owned();
    store.record_effect(EffectRecord { key, run, node, begun_ms: 0, result: None }).await.unwrap();
    key
}

async fn a_run_goes_with_all_that_is_its_own(bench: Bench) {
    let store = &bench.store;
    let (run, other) = (bench.rested(3).await, bench.rested(2).await);
    let (key, other_key) = (fill(&bench, run).await, fill(&bench, other).await);
    store.prune(run, Prune::Before(snapshot(1))).await.unwrap();
    let record = store.load(other).await.unwrap();
    let told = (
        record.summary,
        record.definition,
        record.snapshot,
        record.answers,
        store.history(other).await.unwrap(),
    );
    store.prune(run, Prune::Whole).await.unwrap();
    assert_eq!(store.load(run).await.unwrap_err().kind, CheckpointErrorKind::NotFound);
    assert_eq!(store.prune(run, Prune::Whole).await.unwrap_err().kind, CheckpointErrorKind::NotFound);
    assert_eq!(store.effect(run, key).await.unwrap(), None);
    // Nothing of another run, though they share their definitions.
    let record = store.load(other).await.unwrap();
    let after = (
        record.summary,
        record.definition,
        record.snapshot,
        record.answers,
        store.history(other).await.unwrap(),
    );
    assert_eq!(after, told);
    assert_eq!(store.definition(other, "one").await.unwrap(), definition("one"));
    assert!(store.effect(other, other_key).await.unwrap().is_some());
    // The id is free, and nothing old comes back with it.
    let claim = bench.begin(new_run(run)).await;
    assert_eq!(store.history(run).await.unwrap(), History { first_seq: 0, base: None, entries: vec![] });
    assert_eq!(store.answers(run).await.unwrap(), []);
    assert_eq!(store.effects(run).await.unwrap(), []);
    store.append(&claim, batch(0, vec![step(0)])).await.unwrap();
}

async fn a_family_goes_together_or_not_at_all(bench: Bench) {
    let store = &bench.store;
    let parent = bench.rested(2).await;
    let mut family = vec![parent];
    for at in [0, 0, 1] {
        let new = NewRun { parent: Some(family[at]), ..new_run(RunId::fresh()) };
        let claim = bench.begin(new).await;
        store.append(&claim, batch(0, vec![step(0)])).await.unwrap();
        bench.let_go(&claim);
        family.push(claim.run);
    }
    let stranger = bench.rested(1).await;
    let grandchild = family[3];
    store.hold(grandchild, Some("evidence".to_owned())).await.unwrap();
    assert!(matches!(
        store.prune(parent, Prune::Whole).await.unwrap_err().kind,
        CheckpointErrorKind::Held(_)
    ));
    store.hold(grandchild, None).await.unwrap();
    let claim = Claim::new(family[2]);
    store.claim(&claim).await.unwrap();
    assert!(matches!(
        store.prune(parent, Prune::Whole).await.unwrap_err().kind,
        CheckpointErrorKind::Held(_)
    ));
    for run in &family {
        assert!(!store.history(*run).await.unwrap().entries.is_empty());
    }
    bench.let_go(&claim);
    store.prune(parent, Prune::Whole).await.unwrap();
    let left = store.list(RunFilter { children: true, ..RunFilter::default() }).await.unwrap();
    assert_eq!(left.iter().map(|run| run.run).collect::<Vec<_>>(), [stranger]);
}

#[tokio::test]
async fn nothing_is_left_of_the_last_run_and_its_room_is_used_again() {
    let world = World::new();
    let size = || {
        world.raw().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        std::fs::metadata(world.path()).unwrap().len()
    };
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let store = world.store();
        let bench =
            Bench { store: Arc::clone(&store) as _, clock: Arc::new(TestClock::at_millis(0)), _world: None };
        let run = bench.rested(0).await;
        let claim = Claim::new(run);
        store.claim(&claim).await.unwrap();
        let big = Entry { body: "x".repeat(100_000), ..step(0) };
        store.append(&claim, batch(0, vec![big; 10])).await.unwrap();
        store.append(&claim, finish(10, RunStatus::Failed)).await.unwrap();
        fill(&bench, run).await;
        store.prune(run, Prune::Before(snapshot(10))).await.unwrap();
        store.prune(run, Prune::Whole).await.unwrap();
        drop((bench, store));
        sizes.push(size());
    }
    assert!(sizes[2] <= sizes[0], "{sizes:?}");
    let raw = world.raw();
    for table in
        ["runs", "entries", "snapshots", "bases", "answers", "effects", "definitions", "past_definitions"]
    {
        let rows: i64 =
            raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pruned_run_ends_as_one_that_was_not(stops in proptest::collection::vec(1..40_u32, 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let store = world.store();
            let engine = engine(&store, 900);
            let stopped = |steps: u32| {
                let mut graph = (*counter(60, Durability::Crash)).clone();
                graph.max_steps = steps;
                Arc::new(graph)
            };
            let mut at = 0;
            let mut run = None;
            for stop in stops {
                at += stop;
                let result = match run {
                    None => engine.run(stopped(at), Map::new(), RunOptions::default()).await,
                    Some(run) => engine.resume(run, |_| Ok(stopped(at)), RunOptions::default()).await,
                };
                let id = match result { Ok(done) => done.run, Err(stopped) => stopped.run };
                run = Some(id);
                let record = store.load(id).await.unwrap();
                if let Some(snapshot) = record.snapshot {
                    store.prune(id, Prune::Before(snapshot)).await.unwrap();
                }
            }
            let done = engine.resume(run.unwrap(), |_| Ok(counter(60, Durability::Crash)), RunOptions::default());
            let done = done.await.unwrap();
            let whole = engine.run(counter(60, Durability::Crash), Map::new(), RunOptions::default()).await.unwrap();
            assert_eq!((done.state, done.steps), (whole.state, whole.steps));
        });
    }
}

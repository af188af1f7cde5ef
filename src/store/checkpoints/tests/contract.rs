//! What every store of checkpoints does.

use uuid::Uuid;

use super::*;

for_both!(
    a_log_is_read_back_as_it_was_written,
    a_log_is_written_in_order_by_the_holder_of_its_claim_only,
    a_run_stands_as_it_was_left,
    a_list_leaves_out_what_the_filter_does,
    a_run_that_is_not_there_is_told,
    a_fork_begins_with_a_snapshot,
    an_upgraded_run_knows_what_it_was_before,
    the_first_answer_to_a_gate_counts,
    the_ledger_keeps_what_came_of_an_effect,
    a_kept_result_stands_until_its_time,
);

async fn a_log_is_read_back_as_it_was_written(Bench { store, clock, .. }: Bench) {
    let (run, claim) = (RunId::fresh(), Claim::new(RunId::fresh()));
    let claim = Claim { run, ..claim };
    let parent = RunId::fresh();
    let new = NewRun { durability: Durability::Exit, parent: Some(parent), ..new_run(run) };
    store.create(&claim, new.clone()).await.unwrap();
    let fault = store.create(&Claim::new(run), new.clone()).await.unwrap_err();
    assert_eq!(fault.kind, CheckpointErrorKind::Exists);
    let record = store.load(run).await.unwrap();
    assert_eq!(
        (&record.definition, &record.input, record.durability),
        (&new.definition, &new.input, new.durability)
    );
    assert_eq!((record.snapshot, record.entries, record.answers, record.seal), (None, vec![], vec![], None));

    // Every kind; with and without node, item and hash.
    let entries: Vec<Entry> = (0_u8..)
        .zip(EntryKind::ALL)
        .map(|(at, kind)| Entry {
            kind,
            step: at.into(),
            node: (at % 2 == 0).then(|| format!("node {at}").into()),
            item: (at % 3 == 0).then_some(at.into()),
            at_ms: i64::from(at) - 1,
            body: format!("[{at}, \"ü\"]"),
            hash: [at; 32],
        })
        .collect();
    store.append(&claim, batch(0, entries[..4].to_vec())).await.unwrap();
    clock.advance(Duration::from_secs(5));
    let late = Batch { snapshot: Some(snapshot(4)), ..batch(4, entries[4..].to_vec()) };
    store.append(&claim, late).await.unwrap();
    let history = store.history(run).await.unwrap();
    assert_eq!((history.first_seq, history.base), (0, None));
    let stored: Vec<StoredEntry> =
        (0..).zip(entries).map(|(seq, entry)| StoredEntry { seq, entry }).collect();
    assert_eq!(history.entries, stored);
    let record = store.load(run).await.unwrap();
    assert_eq!((record.snapshot, &*record.entries), (Some(snapshot(4)), &stored[4..]));
    assert_eq!(record.summary.parent, Some(parent));
    assert_eq!((record.summary.created_ms, record.summary.steps), (1_000_000, 5));
    // A later snapshot takes the place of the earlier one.
    store.append(&claim, Batch { snapshot: Some(snapshot(6)), ..batch(6, vec![step(5)]) }).await.unwrap();
    let record = store.load(run).await.unwrap();
    assert_eq!((record.snapshot, seqs(&record.entries)), (Some(snapshot(6)), vec![6]));
    assert_eq!(record.summary.steps, 6);
}

async fn a_log_is_written_in_order_by_the_holder_of_its_claim_only(bench: Bench) {
    let store = &bench.store;
    let claim = bench.begin(new_run(RunId::fresh())).await;
    store.append(&claim, batch(0, vec![step(0), step(1)])).await.unwrap();
    for wrong in [0, 1, 3] {
        let fault = store.append(&claim, batch(wrong, vec![step(2)])).await.unwrap_err();
        assert_eq!(fault.to_string(), "checkpoint not written: entries out of order");
    }
    let other = Claim::new(claim.run);
    assert!(matches!(store.claim(&other).await.unwrap_err().kind, CheckpointErrorKind::Held(_)));
    let fault = store.append(&other, batch(2, vec![step(2)])).await.unwrap_err();
    assert_eq!(fault.kind, CheckpointErrorKind::Lost);
    // A release by somebody else is none.
    store.release(&other);
    store.append(&claim, batch(2, vec![step(2)])).await.unwrap();
    store.append(&claim, finish(3, RunStatus::Failed)).await.unwrap();
    let fault = store.append(&claim, batch(3, vec![step(3)])).await.unwrap_err();
    assert_eq!(fault.kind, CheckpointErrorKind::Lost, "the claim ended with the run");
    store.claim(&other).await.unwrap();
    store.append(&other, batch(3, vec![step(3)])).await.unwrap();
    assert_eq!(seqs(&store.history(claim.run).await.unwrap().entries), [0, 1, 2, 3]);
    bench.let_go(&other);
    store.claim(&Claim::new(claim.run)).await.unwrap();
}

async fn a_run_stands_as_it_was_left(bench: Bench) {
    let store = &bench.store;
    let claim = bench.begin(new_run(RunId::fresh())).await;
    let seen = || async {
        let record = store.load(claim.run).await.unwrap();
        (record.summary.status, record.summary.error, record.seal, record.summary.live)
    };
    assert_eq!(seen().await, (RunStatus::Running, None, None, true));
    for status in [RunStatus::Failed, RunStatus::Waiting, RunStatus::Interrupted, RunStatus::Done] {
        let (error, seal) = (Some(format!("why {status}")), Some(format!("seal {status}")));
        let rest = Finish { status, error: error.clone(), seal: seal.clone() };
        store.append(&claim, Batch { finish: Some(rest), ..finish(0, status) }).await.unwrap();
        assert_eq!(seen().await, (status, error.clone(), seal.clone(), false));
        let now = store.load(claim.run).await.unwrap().summary;
        assert_eq!((now.created_ms, now.updated_ms), (1_000_000, 1_000_000 + bench.passed()));
        bench.clock.advance(Duration::from_millis(7));
        store.claim(&claim).await.unwrap();
        let running = if status == RunStatus::Done { (status, error) } else { (RunStatus::Running, None) };
        assert_eq!(seen().await, (running.0, running.1, seal, true));
    }
    // Without a key there is no seal, and an old one would not fit.
    store.append(&claim, finish(0, RunStatus::Failed)).await.unwrap();
    assert_eq!(seen().await, (RunStatus::Failed, None, None, false));
}

async fn a_list_leaves_out_what_the_filter_does(bench: Bench) {
    let store = &bench.store;
    let mut runs = Vec::new();
    let mut live = Vec::new();
    for (at, status) in [None, None, Some(RunStatus::Waiting), Some(RunStatus::Done)].into_iter().enumerate()
    {
        let run = RunId::fresh();
        let parent = runs.first().copied().filter(|_| at == 3);
        let graph = if at % 2 == 0 { "even" } else { "odd" };
        let definition = Definition { graph: graph.to_owned(), ..definition(graph) };
        let claim = bench.begin(NewRun { definition, parent, ..new_run(run) }).await;
        match status {
            Some(status) => store.append(&claim, finish(0, status)).await.unwrap(),
            None if at == 0 => bench.let_go(&claim),
            None => live.push(claim),
        }
        bench.clock.advance(Duration::from_secs(1));
        runs.push(run);
    }
    let list = |filter: RunFilter| async {
        let found = store.list(filter).await.unwrap();
        found.iter().map(|run| runs.iter().position(|known| *known == run.run).unwrap()).collect::<Vec<_>>()
    };
    let all = RunFilter::default;
    assert_eq!(list(all()).await, [2, 1, 0], "newest first, no subgraphs");
    assert_eq!(list(RunFilter { children: true, ..all() }).await, [3, 2, 1, 0]);
    assert_eq!(list(RunFilter { limit: Some(2), ..all() }).await, [2, 1]);
    assert_eq!(list(RunFilter { limit: Some(0), ..all() }).await, [0; 0]);
    assert_eq!(list(RunFilter { abandoned: true, ..all() }).await, [0]);
    assert_eq!(list(RunFilter { status: Some(RunStatus::Waiting), ..all() }).await, [2]);
    assert_eq!(list(RunFilter { status: Some(RunStatus::Running), ..all() }).await, [1, 0]);
    assert_eq!(list(RunFilter { graph: Some("even".to_owned()), limit: Some(1), ..all() }).await, [2]);
    assert_eq!(list(RunFilter { graph: Some("none".to_owned()), ..all() }).await, [0; 0]);
    let odd = RunFilter { graph: Some("odd".to_owned()), children: true, ..all() };
    let odd = store.list(odd).await.unwrap();
    assert_eq!((odd[0].parent, odd[1].parent), (Some(runs[0]), None));
    assert_eq!((odd[0].live, odd[1].live), (false, true));
}

async fn a_run_that_is_not_there_is_told(Bench { store, .. }: Bench) {
    let run = RunId::fresh();
    let effect = effect(run, Uuid::now_v7(), None);
    let told = [
        store.load(run).await.map(drop),
        store.history(run).await.map(drop),
        store.claim(&Claim::new(run)).await,
        store.definition(run, "one").await.map(drop),
        store.answer(run, answer("g", "yes")).await,
        store.answers(run).await.map(drop),
        store.record_effect(effect).await,
        store.effects(run).await.map(drop),
        store.hold(run, None).await,
        store.prune(run, Prune::Whole).await,
        store.prune(run, Prune::Before(snapshot(0))).await,
    ];
    for (at, result) in told.into_iter().enumerate() {
        let fault = result.unwrap_err();
        assert_eq!((fault.kind, fault.run), (CheckpointErrorKind::NotFound, run), "call {at}");
    }
    let fault = store.append(&Claim::new(run), batch(0, vec![step(0)])).await.unwrap_err();
    assert!(matches!(fault.kind, CheckpointErrorKind::NotFound | CheckpointErrorKind::Lost));
}

async fn a_fork_begins_with_a_snapshot(bench: Bench) {
    let store = &bench.store;
    let origin = bench.rested(5).await;
    let new =
        NewRun { forked_from: Some((origin, 3)), snapshot: Some(snapshot(3)), ..new_run(RunId::fresh()) };
    let claim = bench.begin(new).await;
    let run = claim.run;
    let history = store.history(run).await.unwrap();
    assert_eq!(history, History { first_seq: 3, base: Some(snapshot(3)), entries: vec![] });
    let record = store.load(run).await.unwrap();
    assert_eq!((record.snapshot, record.entries), (Some(snapshot(3)), vec![]));
    assert_eq!((record.summary.forked_from, record.summary.steps), (Some((origin, 3)), 3));
    let fault = store.append(&claim, batch(0, vec![step(0)])).await.unwrap_err();
    assert_eq!(fault.to_string(), "checkpoint not written: entries out of order");
    store.append(&claim, batch(3, vec![step(3)])).await.unwrap();
    bench.let_go(&claim);
    let again = Claim::new(run);
    store.claim(&again).await.unwrap();
    store
        .append(&again, Batch { snapshot: Some(snapshot(5)), ..batch(4, vec![step(4), step(5)]) })
        .await
        .unwrap();
    let record = store.load(run).await.unwrap();
    assert_eq!((record.snapshot, seqs(&record.entries)), (Some(snapshot(5)), vec![5]));
    let history = store.history(run).await.unwrap();
    assert_eq!((history.base, seqs(&history.entries)), (Some(snapshot(3)), vec![3, 4, 5]));
    // The fork needs its origin no more.
    store.prune(origin, Prune::Whole).await.unwrap();
    assert_eq!(store.load(run).await.unwrap().summary.forked_from, Some((origin, 3)));
    assert_eq!(store.load(run).await.unwrap().definition, definition("one"));
}

async fn an_upgraded_run_knows_what_it_was_before(bench: Bench) {
    let store = &bench.store;
    let claim = bench.begin(new_run(RunId::fresh())).await;
    let other = bench.begin(new_run(RunId::fresh())).await;
    let newer = Definition { version: 2, ..definition("two") };
    let upgrade = Entry { kind: EntryKind::Upgrade, ..step(0) };
    let upgrade = Batch { definition: Some(newer.clone()), ..batch(0, vec![upgrade]) };
    store.append(&claim, upgrade).await.unwrap();
    let record = store.load(claim.run).await.unwrap();
    assert_eq!((&record.definition, record.summary.version, &*record.summary.hash), (&newer, 2, "two"));
    assert_eq!(store.definition(claim.run, "two").await.unwrap(), newer);
    assert_eq!(store.definition(claim.run, "one").await.unwrap(), definition("one"));
    // Back again: the present one is of both.
    let back = Batch { definition: Some(definition("one")), ..batch(1, Vec::new()) };
    store.append(&claim, back).await.unwrap();
    assert_eq!(store.load(claim.run).await.unwrap().definition, definition("one"));
    assert_eq!(store.definition(claim.run, "two").await.unwrap(), newer);
    let fault = store.definition(other.run, "two").await.unwrap_err();
    assert_eq!(fault.to_string(), "checkpoint not read: the run has no definition `two`");
    assert_eq!(store.load(other.run).await.unwrap().definition, definition("one"));
}

fn answer(gate: &str, option: &str) -> GateAnswer {
    GateAnswer {
        gate: gate.to_owned(),
        option: option.to_owned(),
        by: "owner".to_owned(),
        note: None,
        at_ms: 5,
        signature: None,
    }
}

async fn the_first_answer_to_a_gate_counts(bench: Bench) {
    let store = &bench.store;
    let claim = bench.begin(new_run(RunId::fresh())).await;
    let first = GateAnswer {
        note: Some("looks right".to_owned()),
        signature: Some("key:signature".to_owned()),
        at_ms: 9,
        ..answer("zeta", "approve")
    };
    store.answer(claim.run, first.clone()).await.unwrap();
    let late = GateAnswer { by: "mallory".to_owned(), ..answer("zeta", "deny") };
    let fault = store.answer(claim.run, late).await.unwrap_err();
    assert_eq!(fault.kind, CheckpointErrorKind::Answered("owner".to_owned()));
    assert_eq!(fault.to_string(), "the gate was answered already, by owner");
    // Another gate, and the same one of another run; also of a run that rests.
    bench.clock.advance(Duration::from_secs(1));
    store.answer(claim.run, answer("alpha", "deny")).await.unwrap();
    let other = bench.rested(1).await;
    bench.clock.advance(Duration::from_secs(1));
    store.answer(other, answer("zeta", "deny")).await.unwrap();
    let given = [first, answer("alpha", "deny")];
    assert_eq!(store.answers(claim.run).await.unwrap(), given);
    let record = store.load(claim.run).await.unwrap();
    assert_eq!((&*record.answers, record.summary.updated_ms), (&given[..], 1_001_000));
    let record = store.load(other).await.unwrap();
    assert_eq!(record.answers, [answer("zeta", "deny")]);
    assert_eq!((record.summary.status, record.summary.updated_ms), (RunStatus::Interrupted, 1_002_000));
}

fn effect(run: RunId, key: Uuid, result: Option<&str>) -> EffectRecord {
    EffectRecord { key, run, node: "send".to_owned(), begun_ms: 3, result: result.map(str::to_owned) }
}

async fn the_ledger_keeps_what_came_of_an_effect(bench: Bench) {
    let store = &bench.store;
    let run = bench.begin(new_run(RunId::fresh())).await.run;
    let other = bench.rested(1).await;
    // Keys that do not sort as they were begun.
    let [first, second, third] = [9, 1, 5].map(Uuid::from_u128);
    assert_eq!(store.effect(run, first).await.unwrap(), None);
    store.record_effect(effect(run, first, None)).await.unwrap();
    assert_eq!(store.effect(run, first).await.unwrap(), Some(effect(run, first, None)));
    store.record_effect(effect(run, second, Some("at once"))).await.unwrap();
    store.record_effect(effect(other, third, None)).await.unwrap();
    // The result comes later; when it was begun stays.
    let sent = EffectRecord { begun_ms: 99, ..effect(run, first, Some("sent")) };
    store.record_effect(sent).await.unwrap();
    for result in [Some("sent twice"), None] {
        store.record_effect(effect(run, first, result)).await.unwrap();
        store.record_effect(effect(run, second, result)).await.unwrap();
    }
    let ledger = [effect(run, first, Some("sent")), effect(run, second, Some("at once"))];
    assert_eq!(store.effects(run).await.unwrap(), ledger);
    assert_eq!(store.effects(other).await.unwrap(), [effect(other, third, None)]);
    assert_eq!(store.effect(run, first).await.unwrap().as_ref(), ledger.first());
}

async fn a_kept_result_stands_until_its_time(Bench { store, clock, .. }: Bench) {
    let run = RunId::fresh();
    let (key, other) = ([1; 32], [2; 32]);
    let now = 1_000_000;
    assert_eq!(store.cached(run, key, now).await.unwrap(), None);
    store.cache(run, key, "old".to_owned(), now + 10).await.unwrap();
    store.cache(run, key, "new".to_owned(), now + 20).await.unwrap();
    let found = |key, at| {
        let store = Arc::clone(&store);
        async move { store.cached(run, key, at).await.unwrap() }
    };
    assert_eq!(found(key, now + 19).await.as_deref(), Some("new"));
    assert_eq!((found(key, now + 20).await, found(other, now).await), (None, None));
    // What has had its time goes when something else is kept.
    clock.advance(Duration::from_millis(20));
    store.cache(run, other, "other".to_owned(), now + 30).await.unwrap();
    assert_eq!(found(key, now).await, None);
    assert_eq!(found(other, now + 20).await.as_deref(), Some("other"));
}

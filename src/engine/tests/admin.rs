//! Gates, forks, edits, upgrades, cassettes, verification, retention, secrets, budgets, caches, the ledger, subgraphs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::TestClock;
use crate::graph::{Budget, Cache, Effect, Expr, Migration, OnItemError, Retention, Tolerate};

fn note(name: &str) -> NodeBuilder {
    NodeBuilder::task(name, "demo.note").writes(["log"])
}

fn asking() -> Arc<Graph> {
    let graph = GraphBuilder::new("asking")
        .channel("log", "string[]", Reducer::Append)
        .channel("answer", "any", Reducer::Last)
        .node(note("s").to(["ask", "side"]))
        .node(note("side"))
        .node(
            NodeBuilder::gate("ask", "Do it?")
                .option("yes", ["act"])
                .option("no", [])
                .asks(["ada"], ["log"])
                .waits(Duration::from_hours(1), "no")
                .answers("answer"),
        )
        .node(note("act"));
    Arc::new(graph.build().unwrap())
}

fn keyed(registry: Registry, secret: &[u8]) -> (Engine, Arc<MemoryCheckpointer>, Arc<TestClock>) {
    let clock = Arc::new(TestClock::at_millis(1_000_000));
    let store = Arc::new(MemoryCheckpointer::new(Arc::clone(&clock) as _));
    let engine = Engine::builder()
        .registry(registry)
        .checkpointer(Arc::clone(&store) as _)
        .clock(Arc::clone(&clock) as _)
        .keys(Arc::new(Keys::from_secret(secret).unwrap()))
        .build();
    (engine, store, clock)
}

const SECRET: &[u8] = b"a secret of more than 32 characters, made up";

#[tokio::test]
async fn a_gate_waits_and_the_answer_leads_on_without_running_anything_again() {
    let trace = Trace::default();
    let (engine, store, _) = keyed(registry(&trace), SECRET);
    let read = |_: &Definition| Ok(asking());
    let rest = engine.run(asking(), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(rest.status, Outcome::Interrupted(InterruptCause::Gate));
    assert_eq!(store.load(rest.run).await.unwrap().summary.status, RunStatus::Waiting);
    assert_eq!(trace.take(), ["s", "side"]);
    let gate = &rest.gates[0];
    assert_eq!((gate.gate.as_str(), gate.ask.as_str()), ("ask@1", "Do it?"));
    assert_eq!(
        (&gate.options[..], &gate.who[..]),
        (&["yes".to_owned(), "no".into()][..], &["ada".to_owned()][..])
    );
    assert_eq!(gate.shows["log"], json!(["s", "side"]));
    // Nobody has answered: it still waits.
    let still = engine.resume(rest.run, |_| Ok(asking()), RunOptions::default()).await.unwrap();
    assert_eq!((still.status, still.steps), (rest.status, rest.steps));
    for (gate, option, by, message) in [
        ("ask", "maybe", "ada", "is no option (there are: yes, no)"),
        ("ask", "yes", "eve", "`eve` may not answer (may: ada)"),
        ("other", "yes", "ada", "the run does not wait there"),
    ] {
        let error = engine.answer(rest.run, gate, (option, by, None), &read).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    engine.answer(rest.run, "ask", ("yes", "ada", Some("fine".into())), &read).await.unwrap();
    let error = engine.answer(rest.run, "ask@1", ("no", "ada", None), &read).await.unwrap_err();
    assert!(error.to_string().contains("answered already, by ada"), "{error}");
    let done = engine.resume(rest.run, |_| Ok(asking()), RunOptions::default()).await.unwrap();
    assert_eq!((done.status, &done.state["log"]), (Outcome::Done, &json!(["s", "side", "act"])));
    assert_eq!(done.state["answer"]["by"], "ada");
    assert_eq!(trace.take(), ["act"]);
    let proof = engine.verify(rest.run).await.unwrap();
    assert!(proof.is_whole() && proof.signed_answers == 1 && proof.sealed_by.is_some(), "{proof:?}");
}

#[tokio::test]
async fn a_gate_fails_closed() {
    let (engine, store, clock) = keyed(registry(&Trace::default()), SECRET);
    let rest = engine.run(asking(), Map::new(), RunOptions::default()).await.unwrap();
    // Put into the store by somebody without the key.
    let forged = GateAnswer {
        gate: "ask@1".into(),
        option: "yes".into(),
        by: "ada".into(),
        note: None,
        at_ms: 1,
        signature: None,
    };
    store.answer(rest.run, forged).await.unwrap();
    let still = engine.resume(rest.run, |_| Ok(asking()), RunOptions::default()).await.unwrap();
    assert_eq!(still.status, Outcome::Interrupted(InterruptCause::Gate));
    assert!(!engine.verify(rest.run).await.unwrap().is_whole());
    clock.advance(Duration::from_hours(1));
    let done = engine.resume(rest.run, |_| Ok(asking()), RunOptions::default()).await.unwrap();
    assert_eq!((done.status, &done.state["log"]), (Outcome::Done, &json!(["s", "side"])));
    assert_eq!(done.state["answer"]["by"], "timeout");
}

#[tokio::test]
async fn states_differences_forks_and_edits() {
    let (engine, store) = engine(registry(&Trace::default()));
    let read = |_: &Definition| Ok(counter(5));
    let done = engine.run(counter(5), Map::new(), RunOptions::default()).await.unwrap();
    for step in 0..=5 {
        assert_eq!(engine.state_at(done.run, &counter(5), step).await.unwrap()["n"], json!(step));
    }
    let error = engine.state_at(done.run, &counter(5), 6).await.unwrap_err();
    assert!(error.to_string().contains("5 finished steps, and no step 6"), "{error}");
    let diff = engine.diff(done.run, &counter(5), (1, 4)).await.unwrap();
    let expected = Difference { channel: "n".into(), before: Some(json!(1)), after: Some(json!(4)) };
    assert_eq!(diff, [expected]);

    let fork = engine.fork(done.run, 2, &read).await.unwrap();
    let summary = store.load(fork).await.unwrap().summary;
    assert_eq!((summary.forked_from, summary.status), (Some((done.run, 2)), RunStatus::Interrupted));
    let writes = input(json!({ "n": 4 }));
    engine.edit(fork, None, writes, "ada", &read).await.unwrap();
    let again = engine.resume(fork, |_| Ok(counter(5)), RunOptions::default()).await.unwrap();
    assert_eq!((again.state["n"].clone(), again.steps), (json!(5), 4), "2 before, the edit, one more");
    assert!(engine.verify(fork).await.unwrap().is_whole());
    assert!(engine.verify(done.run).await.unwrap().is_whole());
    let same = engine.resume(fork, |_| Ok(counter(5)), RunOptions::default()).await.unwrap();
    assert_eq!(same.state, again.state);

    let fork = engine.fork(done.run, 1, &read).await.unwrap();
    engine.edit(fork, Some("add"), input(json!({ "n": 9 })), "ada", &read).await.unwrap();
    assert_eq!(store.load(fork).await.unwrap().summary.status, RunStatus::Done, "its arm leads to the end");
    for (node, writes, message) in [
        (Some("nobody"), json!({}), "has no node `nobody`"),
        (None, json!({ "m": 1 }), "no such channel"),
        (None, json!({ "n": "x" }), "is no int"),
    ] {
        let error = engine.edit(done.run, node, input(writes), "ada", &read).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_changed_log_is_found() {
    let (engine, store, _) = keyed(registry(&Trace::default()), SECRET);
    let done = engine.run(counter(4), Map::new(), RunOptions::default()).await.unwrap();
    assert!(engine.verify(done.run).await.unwrap().is_whole());
    for (change, message) in [
        (0, "entry 1 (step 1, add) is not what was written"),
        (1, "entry 2 is missing"),
        (2, "the seal does not fit the log's end"),
    ] {
        store.tamper(done.run, |entries| match change {
            0 => entries[1].entry.body = entries[1].entry.body.replace('2', "7"),
            1 => drop(entries.remove(2)),
            _ => drop(entries.pop()),
        });
        let proof = engine.verify(done.run).await.unwrap();
        assert!(proof.faults.iter().any(|fault| fault.contains(message)), "{message}: {proof:?}");
    }
}

#[tokio::test]
async fn a_changed_snapshot_is_found_and_a_changed_log_is_not_gone_on_with() {
    let (engine, store, _) = keyed(registry(&Trace::default()), SECRET);
    let stop = |steps| {
        let mut graph = (*counter(5_000)).clone();
        graph.max_steps = steps;
        Arc::new(graph)
    };
    let error = engine.run(stop(900), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(engine.verify(error.run).await.unwrap().is_whole());
    let snapshot = store.load(error.run).await.unwrap().snapshot.unwrap();
    store.tamper_snapshot(error.run, |body| *body = body.replacen("\"n\":", "\"n\":1", 1));
    let proof = engine.verify(error.run).await.unwrap();
    assert!(proof.faults[0].contains("the snapshot before entry"), "{proof:?}");
    store.tamper_snapshot(error.run, |body| body.clone_from(&snapshot.body));
    assert!(engine.verify(error.run).await.unwrap().is_whole());
    store.tamper(error.run, |entries| {
        let last = entries.len() - 2;
        entries[last].entry.body = entries[last].entry.body.replacen("[[\"n\",", "[[\"n\",1", 1);
    });
    let error = engine.resume(error.run, |_| Ok(stop(1_000)), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("is not what was written"), "{error}");
}

#[tokio::test]
async fn retention_keeps_what_is_needed() {
    let (engine, store, clock) = keyed(registry(&Trace::default()), SECRET);
    let mut runs = Vec::new();
    for _ in 0..4 {
        // Long enough for a snapshot.
        runs.push(engine.run(counter(400), Map::new(), RunOptions::default()).await.unwrap().run);
        clock.advance(Duration::from_secs(1));
    }
    let rest = engine.run(asking(), Map::new(), RunOptions::default()).await.unwrap();
    engine.hold(runs[0], Some("evidence".into())).await.unwrap();
    let policy = Retention { keep_last: Some(1), max_age: None };
    let dry = engine.retain("counter", policy, true).await.unwrap();
    assert_eq!(dry.shortened.len(), 2);
    assert_eq!(store.history(runs[1]).await.unwrap().first_seq, 0);
    engine.retain("counter", policy, false).await.unwrap();
    let first = |run| {
        let store = Arc::clone(&store);
        async move { store.history(run).await.unwrap().first_seq }
    };
    assert!(first(runs[1]).await > 0 && first(runs[2]).await > 0);
    assert_eq!((first(runs[0]).await, first(runs[3]).await), (0, 0), "held, and the newest");
    assert!(engine.verify(runs[1]).await.unwrap().is_whole(), "{:?}", engine.verify(runs[1]).await);
    let again = engine.resume(runs[1], |_| Ok(counter(400)), RunOptions::default()).await.unwrap();
    assert_eq!(again.state["n"], json!(400));
    clock.advance(Duration::from_hours(48));
    let policy = Retention { keep_last: None, max_age: Some(Duration::from_hours(24)) };
    let gone = engine.retain("counter", policy, false).await.unwrap();
    assert_eq!(gone.deleted.len(), 3);
    assert_eq!(
        engine.retain("asking", policy, false).await.unwrap(),
        Retained::default(),
        "one that waits stays"
    );
    assert!(store.load(rest.run).await.is_ok() && store.load(runs[1]).await.is_err());
}

#[tokio::test]
async fn secrets_are_sealed_at_rest_and_masked_in_views() {
    #[derive(Deserialize, JsonSchema)]
    struct In {
        token: String,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        copy: String,
        scratch: String,
    }
    let build = || {
        let graph = GraphBuilder::new("secret")
            .state(ChannelBuilder::new("token", "string").input().secret())
            .state(ChannelBuilder::new("copy", "string?").secret())
            .state(ChannelBuilder::new("scratch", "string?").transient())
            .channel("log", "string[]", Reducer::Append)
            .node(
                NodeBuilder::task("copy", "demo.copy")
                    .reads(["token"])
                    .writes(["copy", "scratch"])
                    .to(["end"]),
            )
            .node(note("end"));
        Arc::new(graph.build().unwrap())
    };
    let mut registry = registry(&Trace::default());
    registry.task("demo.copy", "copies", |_: Ctx, input: In| async move {
        Ok(Out { copy: input.token.clone(), scratch: "only in memory".into() })
    });
    let (engine, store, _) = keyed(registry.clone(), SECRET);
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let options =
        RunOptions { events: Some(Arc::new(sender)), streams: Streams::all(), ..RunOptions::default() };
    let done = engine.run(build(), input(json!({ "token": "hunter2-hunter2" })), options).await.unwrap();
    assert_eq!((&done.state["token"], &done.state["copy"]), (&json!("***"), &json!("***")));
    assert_eq!(done.secret("copy"), Some(&json!("hunter2-hunter2")));
    let mut everything = format!("{:?}{:?}", store.load(done.run).await, store.history(done.run).await);
    everything += &serde_json::to_string(&engine.history(done.run).await.unwrap()).unwrap();
    everything += &serde_json::to_string(&engine.state_at(done.run, &build(), 2).await.unwrap()).unwrap();
    while let Ok(event) = events.try_recv() {
        everything += &serde_json::to_string(&event).unwrap();
    }
    assert!(!everything.contains("hunter2"), "{everything}");
    let stored = format!("{:?}", store.history(done.run).await);
    assert!(!stored.contains("only in memory"), "{stored}");
    let again = engine.resume(done.run, |_| Ok(build()), RunOptions::default()).await.unwrap();
    assert_eq!(again.secret("copy"), done.secret("copy"));
    assert!(engine.verify(done.run).await.unwrap().is_whole());

    let (other, ..) = super::engine(registry);
    let given = input(json!({ "token": "x" }));
    let error = other.run(build(), given, RunOptions::default()).await.map(|done| done.run).unwrap_err();
    assert!(error.to_string().contains("channel `token` is secret, and there is no key"), "{error}");
}

#[tokio::test]
async fn budgets_of_run_node_and_fan_out_hold_over_a_resume() {
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: u64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        out: u64,
    }
    let mut registry = Registry::new();
    registry.task("demo.spend", "spends 10 tokens", |ctx: Ctx, item: Item| async move {
        ctx.spend(10, 1_000);
        Ok(Out { out: item.x })
    });
    let tokens = |most| Budget { tokens: Some(most), ..Budget::default() };
    let build = |run, node, fan| {
        let each = EachBuilder::new("list", "x", 1).budget(fan);
        let graph = GraphBuilder::new("spend")
            .input("list", "int[]")
            .channel("out", "int[]", Reducer::Append)
            .budget(run)
            .node(NodeBuilder::task("spend", "demo.spend").fan_out(each).budget(node).writes(["out"]));
        Arc::new(graph.build().unwrap())
    };
    let none = Budget::default;
    let given = || input(json!({ "list": [1, 2, 3, 4, 5] }));
    for (graph, whose) in [
        (build(tokens(30), none(), none()), "the run has used 30 tokens of 30"),
        (build(none(), tokens(30), none()), "the node has used 30 tokens of 30"),
        (build(none(), none(), tokens(30)), "the fan-out has used 30 tokens of 30"),
        (build(none(), Budget { steps: Some(3), ..none() }, none()), "the node has used its 3 tasks"),
        (build(Budget { micro_usd: Some(3_000), ..none() }, none(), none()), "the run has used 0.00 USD"),
    ] {
        let (engine, store) = engine(registry.clone());
        let error = engine.run(Arc::clone(&graph), given(), RunOptions::default()).await.unwrap_err();
        assert_eq!(error.kind.class(), Some(ErrorClass::Budget), "{error}");
        assert!(error.to_string().contains(whose), "{error}");
        let tasks = store.history(error.run).await.unwrap().entries.len();
        let again = Arc::clone(&graph);
        let error = engine.resume(error.run, |_| Ok(again), RunOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains(whose), "spent is spent: {error}");
        assert!(store.history(error.run).await.unwrap().entries.len() <= tasks + 1);
    }
    let (engine, _) = engine(registry);
    let graph = build(tokens(30), none(), none());
    let error = engine.run(Arc::clone(&graph), given(), RunOptions::default()).await.unwrap_err();
    let more = RunOptions { budget: tokens(100), ..RunOptions::default() };
    let done = engine.resume(error.run, |_| Ok(graph), more).await.unwrap();
    assert_eq!((done.state["out"].clone(), done.used.tokens), (json!([1, 2, 3, 4, 5]), 50));
}

#[tokio::test]
async fn a_fan_out_tolerates_some_failures_and_says_which() {
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: Value,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        out: Value,
    }
    let mut registry = Registry::new();
    registry.task("demo.odd", "fails on odd numbers", |_: Ctx, item: Item| async move {
        match item.x.as_u64() {
            Some(x) if x % 2 == 1 => Err(NodeError::permanent(format!("{x} is odd"))),
            _ => Ok(Out { out: json!([item.x]) }),
        }
    });
    let build = |tolerate, leave| {
        let each = EachBuilder::new("list", "x", 2).tolerate(tolerate, leave).status("status");
        let graph = GraphBuilder::new("odd")
            .input("list", "int[]")
            .channel("out", "any[]", Reducer::Append)
            .channel("status", "any[]?", Reducer::Last)
            .node(NodeBuilder::task("odd", "demo.odd").fan_out(each).writes(["out"]));
        Arc::new(graph.build().unwrap())
    };
    let given = || input(json!({ "list": [0, 1, 2, 3] }));
    let (engine, _) = engine(registry.clone());
    let graph = build(Tolerate::Percent(50), OnItemError::Null);
    let done = engine.run(Arc::clone(&graph), given(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["out"], json!([0, null, 2, null]));
    let oks: Vec<bool> = done.state["status"].as_array().unwrap().iter().map(|s| s["ok"] == true).collect();
    assert_eq!(oks, [true, false, true, false]);
    assert_eq!(done.state["status"][3]["error"], "3 is odd");
    let again = engine.resume(done.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(again.state, done.state);
    let graph = build(Tolerate::Count(2), OnItemError::Drop);
    let done = engine.run(graph, given(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["out"], json!([0, 2]));
    let graph = build(Tolerate::Count(1), OnItemError::Drop);
    let error = engine.run(graph, given(), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("is odd"), "{error}");

    let batched =
        GraphBuilder::new("batch").input("list", "int[]").channel("out", "any[]", Reducer::Append).node(
            NodeBuilder::task("odd", "demo.odd")
                .fan_out(EachBuilder::new("list", "x", 2).batch(3))
                .writes(["out"]),
        );
    let (engine, _) = super::engine(registry);
    let done = engine.run(Arc::new(batched.build().unwrap()), given(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["out"], json!([[0, 1, 2], [3]]));
}

#[tokio::test]
async fn a_kept_result_stands_for_a_task_while_it_is_fresh() {
    let trace = Trace::default();
    let (engine, _, clock) = keyed(registry(&trace), SECRET);
    let cache = Cache { key: Some(Expr::parse("n % 2").unwrap()), ttl: Duration::from_mins(1) };
    let graph = GraphBuilder::new("kept")
        .input("n", "int")
        .node(
            NodeBuilder::task("add", "demo.add").reads(["n"]).writes(["n"]).cache(cache).effect(Effect::Pure),
        )
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let mut results = Vec::new();
    for (n, minutes) in [(1, 0), (3, 0), (2, 0), (1, 2)] {
        clock.advance(Duration::from_mins(minutes));
        let given = input(json!({ "n": n }));
        let done = engine.run(Arc::clone(&graph), given, RunOptions::default()).await.unwrap();
        results.push(done.state["n"].clone());
    }
    assert_eq!(results, [json!(2), json!(2), json!(3), json!(2)]);
    assert_eq!(trace.take().len(), 3, "the second one was kept, the last one is too old");
}

#[tokio::test]
async fn an_effect_is_done_once_over_crashes() {
    let (begun, done) = (Arc::new(AtomicU32::new(0)), Trace::default());
    let mut registry = Registry::new();
    let (tries, seen) = (Arc::clone(&begun), done.clone());
    registry.task("demo.effect", "fails after its effect, once", move |ctx: Ctx, input: Number| {
        let (tries, seen) = (Arc::clone(&tries), seen.clone());
        async move {
            let n: i64 = ctx
                .once("pay", |key, before| async move {
                    seen.add(format!("{key} {before:?}"));
                    Ok(input.n + 1)
                })
                .await?;
            if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(NodeError::permanent("after the effect"));
            }
            Ok(Added { n })
        }
    });
    let (engine, store) = engine(registry);
    let graph = GraphBuilder::new("effect")
        .channel_from("n", "int", Reducer::Last, json!(1))
        .node(NodeBuilder::task("effect", "demo.effect").reads(["n"]).writes(["n"]).effect(Effect::Write))
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let error = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await.unwrap_err();
    let end = engine.resume(error.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(end.state["n"], json!(2));
    assert_eq!(done.take().len(), 1);
    let ledger = store.effects(error.run).await.unwrap();
    assert_eq!((ledger.len(), ledger[0].result.as_deref()), (1, Some("2")));
}

#[tokio::test]
async fn a_graph_inside_a_graph_is_a_run_of_its_own() {
    let trace = Trace::default();
    let inner = GraphBuilder::new("inner")
        .input("n", "int")
        .channel("log", "string[]", Reducer::Append)
        .node(NodeBuilder::task("add", "demo.add").reads(["n"]).writes(["n"]).to(["ask"]))
        .node(NodeBuilder::gate("ask", "Go on?").option("yes", ["more"]).option("no", []))
        .node(NodeBuilder::task("more", "demo.add").reads(["n"]).writes(["n"]));
    let inner = Arc::new(inner.build().unwrap());
    let outer = GraphBuilder::new("outer")
        .channel_from("total", "int", Reducer::Last, json!(1))
        .channel("log", "string[]", Reducer::Append)
        .node(note("s").to(["sub", "side"]))
        .node(
            NodeBuilder::graph("sub", Arc::clone(&inner)).read("n", "total").write("n", "total").to(["end"]),
        )
        .node(note("side"))
        .node(note("end"));
    let outer = Arc::new(outer.build().unwrap());
    let (engine, store) = engine(registry(&trace));
    let rest = engine.run(Arc::clone(&outer), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(rest.status, Outcome::Interrupted(InterruptCause::Gate));
    let children = RunFilter { children: true, ..RunFilter::default() };
    let runs = store.list(children).await.unwrap();
    let child = runs.iter().find(|run| run.graph == "inner").unwrap();
    assert_eq!((child.parent, child.status), (Some(rest.run), RunStatus::Waiting));
    assert_eq!(
        store.list(RunFilter::default()).await.unwrap().len(),
        1,
        "a child is no run of its own in lists"
    );
    let read = |definition: &Definition| {
        Ok(if definition.graph == "inner" { Arc::clone(&inner) } else { Arc::clone(&outer) })
    };
    engine.answer(child.run, "ask", ("yes", "ada", None), &read).await.unwrap();
    trace.take();
    let done = engine.resume(rest.run, |_| Ok(Arc::clone(&outer)), RunOptions::default()).await.unwrap();
    assert_eq!((done.status, &done.state["total"]), (Outcome::Done, &json!(3)));
    assert_eq!(trace.take(), ["more", "end"], "nothing ran twice");
}

#[tokio::test]
async fn a_run_goes_on_with_a_newer_graph_after_a_migration() {
    let old = || {
        let graph = GraphBuilder::new("move")
            .channel_from("count", "int", Reducer::Last, json!(0))
            .channel("log", "string[]", Reducer::Append)
            .node(NodeBuilder::task("first", "demo.add").read("n", "count").write("n", "count").to(["ask"]))
            .node(NodeBuilder::gate("ask", "?").option("yes", ["end"]))
            .node(note("end"));
        Arc::new(graph.build().unwrap())
    };
    let new = |migrations: Vec<Migration>| {
        let graph = GraphBuilder::new("move")
            .version(2)
            .channel_from("total", "int", Reducer::Last, json!(0))
            .channel("extra", "string", Reducer::Last)
            .channel("log", "string[]", Reducer::Append)
            .node(
                NodeBuilder::task("begin", "demo.add").read("n", "total").write("n", "total").to(["confirm"]),
            )
            .node(NodeBuilder::gate("confirm", "?").option("yes", ["again"]))
            .node(NodeBuilder::task("again", "demo.add").read("n", "total").write("n", "total").to(["end"]))
            .node(note("end"));
        let mut graph = graph.build().unwrap();
        graph.migrations = migrations;
        Arc::new(graph)
    };
    let (engine, store) = engine(registry(&Trace::default()));
    let rest = engine.run(old(), Map::new(), RunOptions::default()).await.unwrap();
    let with = |graph| RunOptions { upgrade: Some(graph), ..RunOptions::default() };
    let error = engine.resume(rest.run, |_| Ok(old()), with(new(Vec::new()))).await.unwrap_err();
    assert!(error.to_string().contains("it has no channel `count`"), "{error}");
    let status = store.load(rest.run).await.unwrap().summary.status;
    assert_eq!(status, RunStatus::Waiting, "what was refused leaves the run as it was");
    let error = engine.edit(rest.run, Some("ask"), Map::new(), "ada", &|_| Ok(old())).await.unwrap_err();
    assert!(error.to_string().contains("a gate is answered, not edited"), "{error}");
    assert_eq!(store.load(rest.run).await.unwrap().summary.status, RunStatus::Waiting);
    let migration = Migration {
        from: 1,
        to: 2,
        rename: vec![("count".into(), "total".into())],
        default: input(json!({ "extra": "new" })),
        drop: Vec::new(),
        nodes: vec![("ask".into(), "confirm".into())],
    };
    let graph = new(vec![migration]);
    let moved = engine.resume(rest.run, |_| Ok(old()), with(Arc::clone(&graph))).await.unwrap();
    assert_eq!(moved.status, Outcome::Interrupted(InterruptCause::Gate));
    assert_eq!(moved.state["total"], json!(1));
    assert_eq!(store.load(rest.run).await.unwrap().definition.version, 2);
    engine.answer(rest.run, "confirm", ("yes", "ada", None), &|_| Ok(Arc::clone(&graph))).await.unwrap();
    let done = engine.resume(rest.run, |_| Ok(Arc::clone(&graph)), RunOptions::default()).await.unwrap();
    assert_eq!(done.state, input(json!({ "total": 2, "extra": "new", "log": ["end"] })));
    assert!(engine.verify(rest.run).await.unwrap().is_whole(), "{:?}", engine.verify(rest.run).await);
    assert_eq!(engine.state_at(rest.run, &graph, 2).await.unwrap()["total"], json!(1));
}

#[tokio::test]
async fn a_recorded_run_plays_without_its_tasks() {
    let trace = Trace::default();
    let (engine, _) = engine(registry(&trace));
    let graph = GraphBuilder::new("record")
        .input("list", "int[]")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .channel("out", "int[]", Reducer::Append)
        .node(
            NodeBuilder::task("add", "demo.add")
                .reads(["n"])
                .writes(["n"])
                .when("n < 3", ["add"])
                .to(["square"]),
        )
        .node(NodeBuilder::task("square", "demo.square").each("list", "x", 2).writes(["out"]))
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let given = input(json!({ "list": [2, 3, 4] }));
    let done = engine.run(Arc::clone(&graph), given.clone(), RunOptions::default()).await.unwrap();
    let cassette = engine.record(done.run, &graph).await.unwrap();
    assert_eq!(cassette.path, [["add"], ["add"], ["add"], ["square"]]);
    assert_eq!(cassette.state, done.state);
    let text = serde_json::to_string(&cassette).unwrap();
    let cassette: Cassette = serde_json::from_str(&text).unwrap();
    trace.take();
    let options = RunOptions { cassette: Some(Arc::new(cassette)), ..RunOptions::default() };
    let played = engine.run(graph, given, options).await.unwrap();
    assert_eq!((played.state, played.steps), (done.state, done.steps));
    assert_eq!(trace.take(), [""; 0]);
}

//! Joins, deferred nodes, limits of visits, error arms, `goto` and `send`, `finally`, dataflow.

use std::time::Duration;

use super::*;
use crate::graph::{Barrier, Join, Need};

const ALL: Join = Join { need: Need::All, timeout: None, go_on: false };

fn some(need: u32) -> Join {
    Join { need: Need::Some(need), ..ALL }
}

fn note(name: &str) -> NodeBuilder {
    NodeBuilder::task(name, "demo.note").writes(["log"])
}

fn graph(nodes: impl IntoIterator<Item = NodeBuilder>) -> GraphBuilder {
    nodes.into_iter().fold(
        GraphBuilder::new("flow")
            .channel("log", "string[]", Reducer::Append)
            .channel_from("n", "int", Reducer::Last, json!(0))
            .channel("problem", "any", Reducer::Last),
        GraphBuilder::node,
    )
}

/// The nodes that ran, in the order of their merges.
async fn ran(builder: GraphBuilder) -> Result<Vec<String>, EngineError> {
    let (engine, _) = engine(registry(&Trace::default()));
    let done = engine.run(Arc::new(builder.build().unwrap()), Map::new(), RunOptions::default()).await?;
    Ok(serde_json::from_value(done.state["log"].clone()).unwrap())
}

#[tokio::test]
async fn a_join_waits_for_the_longer_branch_and_fires_once() {
    let nodes = || {
        [note("s").to(["a", "b1"]), note("a").to(["join"]), note("b1").to(["b2"]), note("b2").to(["join"])]
    };
    let plain = ran(graph(nodes().into_iter().chain([note("join")]))).await.unwrap();
    assert_eq!(plain, ["s", "a", "b1", "b2", "join", "join"], "without a join it runs for each");
    let joined = ran(graph(nodes().into_iter().chain([note("join").join(ALL)]))).await.unwrap();
    assert_eq!(joined, ["s", "a", "b1", "b2", "join"]);
}

#[tokio::test]
async fn a_branch_that_is_not_taken_counts_as_skipped() {
    let nodes = [
        note("s").to(["a", "choose"]),
        note("a").to(["join"]),
        note("choose").when("n > 0", ["b"]).to([]),
        note("b").to(["join"]),
        note("join").join(ALL).to(["end"]),
        note("end"),
    ];
    assert_eq!(ran(graph(nodes)).await.unwrap(), ["s", "a", "choose", "join", "end"]);
}

#[tokio::test]
async fn any_fires_at_the_first_branch_and_absorbs_the_others() {
    let nodes = [
        note("s").to(["a", "b1", "c1"]),
        note("a").to(["join"]),
        note("b1").to(["b2"]),
        note("b2").to(["join"]),
        note("c1").to(["c2"]),
        note("c2").to(["c3"]),
        note("c3").to(["join"]),
        note("join").join(some(1)).to(["after"]),
        note("after"),
    ];
    let log = ran(graph(nodes)).await.unwrap();
    assert_eq!(log.iter().filter(|name| *name == "join").count(), 1, "{log:?}");
    assert_eq!(log.iter().filter(|name| *name == "c3").count(), 1, "late branches still run: {log:?}");
}

#[tokio::test]
async fn two_of_three_and_what_can_no_longer_be_two() {
    let nodes = |condition: &str| {
        [
            note("s").to(["a", "b1", "c"]),
            note("a").to(["join"]),
            note("b1").when(condition, ["b2"]).to([]),
            note("b2").to(["join"]),
            note("c").when("n > 0", ["join"]).to([]),
        ]
    };
    let join = || note("join").join(some(2));
    let log = ran(graph(nodes("n == 0").into_iter().chain([join()]))).await.unwrap();
    assert_eq!(log, ["s", "a", "b1", "c", "b2", "join"]);
    let error = ran(graph(nodes("n > 0").into_iter().chain([join()]))).await.unwrap_err();
    assert!(error.to_string().contains("1 of the 2 branches it needs came"), "{error}");
    let handled = join().on_error(["permanent"], ["fallback"], Some("problem"));
    let log = ran(graph(nodes("n > 0").into_iter().chain([handled, note("fallback")]))).await.unwrap();
    assert_eq!(log, ["s", "a", "b1", "c", "fallback"]);
}

#[tokio::test]
async fn a_join_in_a_loop_fires_once_a_round() {
    let nodes = [
        NodeBuilder::task("s", "demo.add").reads(["n"]).writes(["n"]).to(["a", "b1"]),
        note("a").to(["join"]),
        note("b1").to(["b2"]),
        note("b2").to(["join"]),
        note("join").join(ALL).when("n < 3", ["s"]).to([]),
    ];
    let log = ran(graph(nodes)).await.unwrap();
    assert_eq!(log.join(" "), "a b1 b2 join a b1 b2 join a b1 b2 join");
}

#[tokio::test]
async fn a_deferred_node_runs_when_nothing_else_is_left() {
    let nodes = [
        note("s").to(["late", "a"]),
        note("late").defer().to(["end"]),
        note("a").to(["b"]),
        note("b").to(["c"]),
        note("c"),
        note("end"),
    ];
    assert_eq!(ran(graph(nodes)).await.unwrap(), ["s", "a", "b", "c", "late", "end"]);
}

#[tokio::test]
async fn a_node_is_visited_so_often_and_then_the_next_arm_is_taken() {
    let nodes = [note("a").max_visits(3).when("true", ["a"]).to(["b"]), note("b")];
    assert_eq!(ran(graph(nodes)).await.unwrap(), ["a", "a", "a", "b"]);
    let stuck = [note("a").max_visits(3).to(["a"])];
    let error = ran(graph(stuck)).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::MaxVisits { visits: 3, .. }), "{error}");
}

#[derive(Serialize, JsonSchema)]
struct Nothing {}

fn failing(class: ErrorClass, message: &'static str) -> Registry {
    let mut registry = registry(&Trace::default());
    registry.task("demo.fail", "fails", move |_: Ctx, (): ()| async move {
        Err::<Nothing, _>(NodeError::new(class, message))
    });
    registry
}

#[tokio::test]
async fn a_failure_goes_where_its_class_leads_and_is_kept() {
    let graph = graph([
        NodeBuilder::task("fail", "demo.fail")
            .on_error(["timeout"], ["wrong"], None)
            .on_error(["refused"], ["right"], Some("problem"))
            .to(["wrong"]),
        note("right"),
        note("wrong"),
    ]);
    let graph = Arc::new(graph.build().unwrap());
    let (engine, store) = engine(failing(ErrorClass::Refused, "no"));
    let done = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["log"], json!(["right"]));
    assert_eq!(
        done.state["problem"],
        json!({ "node": "fail", "item": null, "class": "refused", "message": "no", "attempts": 1 })
    );
    let again = engine.resume(done.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(again.state, done.state, "the log tells the same");
    assert_eq!(store.history(done.run).await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn the_same_failure_three_times_stops_the_run() {
    let build = |breaker| {
        graph([NodeBuilder::task("fail", "demo.fail").breaker(breaker).on_error([], ["fail"], None)])
            .max_steps(20)
            .build()
            .unwrap()
    };
    let (engine, _) = engine(failing(ErrorClass::Permanent, "same"));
    let error = engine.run(Arc::new(build(3)), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::Breaker { times: 3, .. }), "{error}");
    let error = engine.run(Arc::new(build(0)), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::MaxSteps(20)), "{error}");
}

#[tokio::test]
async fn functions_choose_where_to_go_and_send_inputs() {
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: i64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        log: String,
    }
    let mut registry = registry(&Trace::default());
    registry.task("demo.lead", "sends three and goes to one", |ctx: Ctx, (): ()| async move {
        for x in [3, 1, 2] {
            ctx.send("worker", json!({ "x": x }))?;
        }
        ctx.goto(&["side"])?;
        assert!(ctx.goto(&["other"]).is_err() && ctx.send("side", json!({})).is_err());
        Ok(Nothing {})
    });
    registry.task("demo.work", "works on what was sent", |ctx: Ctx, item: Item| async move {
        Ok(Out { log: format!("{}#{:?}={}", ctx.node(), ctx.item(), item.x) })
    });
    let graph = graph([
        NodeBuilder::task("lead", "demo.lead").may_goto(["side"]).may_send(["worker"]).to(["other"]),
        NodeBuilder::task("worker", "demo.work").writes(["log"]).to(["end"]),
        note("side").to(["end"]),
        note("other"),
        note("end"),
    ]);
    let graph = Arc::new(graph.build().unwrap());
    let (engine, _) = engine(registry);
    let done = engine.run(graph, Map::new(), RunOptions::default()).await.unwrap();
    let expected = ["worker#Some(0)=3", "worker#Some(1)=1", "worker#Some(2)=2", "side", "end"];
    assert_eq!(done.state["log"], json!(expected));
}

#[tokio::test]
async fn finally_runs_last_and_after_a_failure_without_changing_the_state() {
    let build = || {
        graph([note("s").to(["fail"]), NodeBuilder::task("fail", "demo.fail"), note("tidy")])
            .finally("tidy")
            .build()
            .unwrap()
    };
    let (engine, store) = engine(failing(ErrorClass::Permanent, "broken"));
    let error = engine.run(Arc::new(build()), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    let history = engine.history(error.run).await.unwrap();
    let last = history.iter().find(|step| step.kind == Some("finally")).unwrap();
    assert_eq!(last.tasks[0].writes, [("log".to_owned(), json!("tidy"))]);
    assert_eq!(store.load(error.run).await.unwrap().summary.status, RunStatus::Failed);

    let mut whole = registry(&Trace::default());
    whole.task("demo.fail", "does not fail", |_: Ctx, (): ()| async move { Ok(Nothing {}) });
    let (engine, _) = super::engine(whole);
    let done = engine.run(Arc::new(build()), Map::new(), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["log"], json!(["s", "tidy"]));
}

#[tokio::test]
async fn in_dataflow_a_slow_sibling_delays_only_what_depends_on_it() {
    #[derive(Deserialize, JsonSchema)]
    struct In {
        ms: u64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        out: String,
    }
    let trace = Trace::default();
    let mut registry = Registry::new();
    let seen = trace.clone();
    registry.task("demo.sleep", "sleeps", move |ctx: Ctx, input: In| {
        let seen = seen.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(input.ms)).await;
            seen.add(ctx.node());
            Ok(Out { out: ctx.node().to_owned() })
        }
    });
    let node = |name: &str, ms: u64, channel: &str| {
        NodeBuilder::task(name, "demo.sleep").with("ms", json!(ms)).write("out", channel)
    };
    for (barrier, expected) in [
        (Barrier::Superstep, "s fast slow after1 after2 join"),
        (Barrier::Dataflow, "s fast after1 after2 slow join"),
    ] {
        let graph = GraphBuilder::new("lanes")
            .channel("a", "string?", Reducer::Last)
            .channel("b", "string?", Reducer::Last)
            .channel("c", "string?", Reducer::Last)
            .barrier(barrier)
            .node(node("s", 0, "c").to(["fast", "slow"]))
            .node(node("fast", 1, "a").to(["after1"]))
            .node(node("slow", 200, "b").to(["join"]))
            .node(node("after1", 1, "a").to(["after2"]))
            .node(node("after2", 1, "a").to(["join"]))
            .node(node("join", 0, "c").join(ALL))
            .build()
            .unwrap();
        let (engine, store) = engine(registry.clone());
        let graph = Arc::new(graph);
        let done = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await.unwrap();
        assert_eq!(trace.take().join(" "), expected, "{barrier:?}");
        assert_eq!(done.state, input(json!({ "a": "after2", "b": "slow", "c": "join" })));
        let again = engine.resume(done.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
        assert_eq!(again.state, done.state, "the log tells the same: {:?}", store.history(done.run).await);
    }
}

#[tokio::test]
async fn a_join_gives_up_waiting_in_time() {
    #[derive(Serialize, JsonSchema)]
    struct Out {
        log: String,
    }
    for go_on in [true, false] {
        let clock = Arc::new(crate::clock::TestClock::at_millis(0));
        let hands = Arc::clone(&clock);
        let mut registry = registry(&Trace::default());
        registry.task("demo.hour", "lets an hour pass", move |ctx: Ctx, (): ()| {
            hands.advance(Duration::from_hours(1));
            async move { Ok(Out { log: ctx.node().to_owned() }) }
        });
        let join = Join { need: Need::All, timeout: Some(Duration::from_mins(1)), go_on };
        let graph = graph([
            note("s").to(["a", "b1"]),
            note("a").to(["join"]),
            note("b1").to(["b2"]),
            NodeBuilder::task("b2", "demo.hour").writes(["log"]).to(["b3"]),
            note("b3").to(["b4"]),
            note("b4").to(["join"]),
            note("join").join(join),
        ]);
        let engine = Engine::builder().registry(registry).clock(clock).build();
        let result = engine.run(Arc::new(graph.build().unwrap()), Map::new(), RunOptions::default()).await;
        if go_on {
            // The late branch runs on, and its coming counts for nothing.
            assert_eq!(result.unwrap().state["log"], json!(["s", "a", "b1", "b2", "b3", "join", "b4"]));
        } else {
            assert_eq!(result.unwrap_err().kind.class(), Some(ErrorClass::Timeout));
        }
    }
}

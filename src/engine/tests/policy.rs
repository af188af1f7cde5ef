//! Retries, time limits, panics, limits of a run, stopping it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::graph::Retry;

#[derive(Serialize, JsonSchema)]
struct Nothing {}

fn one_node(node: NodeBuilder) -> Arc<Graph> {
    Arc::new(GraphBuilder::new("one").node(node).build().unwrap())
}

fn quick(attempts: u32, on: &[&str]) -> Retry {
    Retry {
        attempts,
        backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(2),
        on: on.iter().map(|class| (*class).to_owned()).collect(),
        ..Retry::default()
    }
}

/// `demo.fail` fails with a class until its `works_at`th attempt.
fn failing(class: ErrorClass, works_at: u32) -> (Engine, Arc<AtomicU32>) {
    let tries = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&tries);
    let mut registry = Registry::new();
    registry.task("demo.fail", "fails", move |ctx: Ctx, (): ()| {
        let attempt = count.fetch_add(1, Ordering::Relaxed) + 1;
        assert_eq!(ctx.attempt(), attempt);
        async move {
            if attempt < works_at {
                assert_ne!(class, ErrorClass::Panic, "attempt {attempt}");
                return Err(NodeError::new(class, format!("attempt {attempt}")));
            }
            Ok(Nothing {})
        }
    });
    (engine(registry).0, tries)
}

#[tokio::test]
async fn an_attempt_is_repeated_for_the_classes_the_node_names() {
    for (class, on, attempts, works_at, expected) in [
        (ErrorClass::Transient, vec!["transient"], 3, 3, Ok(3)),
        (ErrorClass::Transient, vec!["transient"], 3, 4, Err(3)),
        (ErrorClass::Permanent, vec!["transient"], 3, 2, Err(1)),
        (ErrorClass::RateLimit, vec!["transient", "rate_limit"], 2, 2, Ok(2)),
        (ErrorClass::Panic, vec!["panic"], 2, 2, Ok(2)),
        (ErrorClass::Panic, vec!["transient"], 9, 2, Err(1)),
    ] {
        let (engine, tries) = failing(class, works_at);
        let graph = one_node(NodeBuilder::task("fail", "demo.fail").retry(quick(attempts, &on)));
        let result = engine.run(graph, Map::new(), RunOptions::default()).await;
        match (&result, expected) {
            (Ok(_), Ok(count)) => assert_eq!(tries.load(Ordering::Relaxed), count),
            (Err(error), Err(count)) => {
                assert_eq!(error.kind.class(), Some(class));
                assert!(matches!(error.kind, EngineErrorKind::Task { attempts, .. } if attempts == count));
                assert!(error.to_string().contains(&format!("attempt {count}")), "{error}");
            }
            _ => panic!("{class}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn retries_are_told_and_the_store_remembers_how_many() {
    let (engine, _) = failing(ErrorClass::Transient, 3);
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let options = RunOptions { events: Some(Arc::new(sender)), ..RunOptions::default() };
    let graph = one_node(NodeBuilder::task("fail", "demo.fail").retry(quick(3, &["transient"])));
    let done = engine.run(graph, Map::new(), options).await.unwrap();
    let mut retried = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let Event::TaskRetried { attempt, class, wait, .. } = event.event {
            assert!(wait <= Duration::from_millis(2));
            retried.push((attempt, class));
        }
    }
    assert_eq!(retried, [(1, ErrorClass::Transient), (2, ErrorClass::Transient)]);
    assert_eq!(engine.history(done.run).await.unwrap()[0].tasks[0].attempts, 3);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_given_up() {
    let mut registry = Registry::new();
    registry.task("demo.sleep", "sleeps", |ctx: Ctx, (): ()| async move {
        if ctx.attempt() == 1 {
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        Ok(Nothing {})
    });
    let (engine, _) = engine(registry);
    let node = NodeBuilder::task("sleep", "demo.sleep").timeout(Duration::from_millis(20));
    let error = engine.run(one_node(node.clone()), Map::new(), RunOptions::default()).await.unwrap_err();
    assert_eq!(error.kind.class(), Some(ErrorClass::Timeout), "{error}");
    let graph = one_node(node.retry(quick(2, &["timeout"])));
    engine.run(graph, Map::new(), RunOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_run_that_goes_round_for_ever_is_stopped() {
    let graph = GraphBuilder::new("endless")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .node(NodeBuilder::task("add", "demo.add").reads(["n"]).writes(["n"]).to(["add"]))
        .max_steps(7)
        .build()
        .unwrap();
    let (engine, store) = engine(registry(&Trace::default()));
    let error = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::MaxSteps(7)), "{error}");
    let summary = store.load(error.run).await.unwrap().summary;
    assert_eq!((summary.status, summary.steps), (RunStatus::Failed, 7));
    assert_eq!(summary.error.as_deref(), Some("not done after 7 supersteps, the most its graph allows"));
}

#[tokio::test]
async fn a_run_has_a_deadline_also_in_the_middle_of_a_task() {
    let mut registry = Registry::new();
    registry.task("demo.sleep", "sleeps", |_: Ctx, (): ()| async move {
        tokio::time::sleep(Duration::from_hours(1)).await;
        Ok(Nothing {})
    });
    let graph = GraphBuilder::new("slow")
        .node(NodeBuilder::task("sleep", "demo.sleep"))
        .deadline(Duration::from_millis(20))
        .build()
        .unwrap();
    let (engine, _) = engine(registry);
    let error = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(matches!(error.kind, EngineErrorKind::Deadline(_)), "{error}");
}

#[tokio::test]
async fn a_drained_run_stops_after_its_superstep_and_a_cancelled_one_at_once() {
    for drain in [true, false] {
        let control = RunControl::new();
        let stop = control.clone();
        let trace = Trace::default();
        let seen = trace.clone();
        let mut registry = registry(&trace);
        registry.task("demo.add", "adds one, and stops the run at 3", move |ctx: Ctx, input: Number| {
            seen.add(ctx.node());
            let stop = stop.clone();
            async move {
                if input.n == 3 {
                    if drain {
                        stop.drain();
                    } else {
                        stop.cancel();
                    }
                    tokio::task::yield_now().await;
                }
                Ok(Added { n: input.n + 1 })
            }
        });
        let (engine, store) = engine(registry);
        let options = RunOptions { control, ..RunOptions::default() };
        let part = engine.run(counter(6), Map::new(), options).await.unwrap();
        let cause = if drain { InterruptCause::Drained } else { InterruptCause::Cancelled };
        let steps = if drain { 4 } else { 3 };
        assert_eq!((part.status, part.steps), (Outcome::Interrupted(cause), steps));
        assert_eq!(store.load(part.run).await.unwrap().summary.status, RunStatus::Interrupted);
        trace.take();
        let done = engine.resume(part.run, |_| Ok(counter(6)), RunOptions::default()).await.unwrap();
        assert_eq!((done.status, done.steps), (Outcome::Done, 6));
        assert_eq!(done.state["n"], json!(6));
        assert_eq!(trace.take().len(), usize::try_from(6 - steps).unwrap());
    }
}

#[tokio::test]
async fn a_failed_item_keeps_what_its_siblings_did() {
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: u64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        out: u64,
    }
    let trace = Trace::default();
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut registry = Registry::new();
    let (seen, fails) = (trace.clone(), Arc::clone(&broken));
    registry.task("demo.item", "fails on 5", move |_: Ctx, item: Item| {
        seen.add(item.x.to_string());
        let fails = item.x == 5 && fails.load(Ordering::Relaxed);
        async move { if fails { Err(NodeError::permanent("five")) } else { Ok(Out { out: item.x }) } }
    });
    let graph = GraphBuilder::new("items")
        .input("list", "int[]")
        .channel("out", "int[]", Reducer::Append)
        .node(NodeBuilder::task("item", "demo.item").each("list", "x", 2).writes(["out"]))
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let (engine, store) = engine(registry);
    let list: Vec<u64> = (0..10).collect();
    let error = engine
        .run(Arc::clone(&graph), input(json!({ "list": list })), RunOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("node `item` (item 5) failed after 1 attempt(s), permanent: five"),
        "{error}"
    );
    let before = trace.take();
    let stored = store.history(error.run).await.unwrap().entries;
    let of = |kind| stored.iter().filter(|stored| stored.entry.kind == kind).count();
    assert_eq!((of(EntryKind::Task), of(EntryKind::Failed)), (before.len() - 1, 1));
    assert_eq!(stored.len(), before.len());

    broken.store(false, Ordering::Relaxed);
    let done = engine.resume(error.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["out"], json!(list));
    assert_eq!(before.len() + trace.take().len(), 11, "only the failed one ran twice");
}

#[tokio::test]
async fn a_task_has_one_key_over_retries_and_resumes() {
    let (trace, broken) = (Trace::default(), Arc::new(AtomicU32::new(3)));
    let mut registry = Registry::new();
    let (seen, fails) = (trace.clone(), Arc::clone(&broken));
    registry.task("demo.effect", "has an effect", move |ctx: Ctx, (): ()| {
        seen.add(ctx.idempotency_key().to_string());
        let fails = fails.fetch_sub(1, Ordering::Relaxed) > 1;
        async move { if fails { Err(NodeError::transient("again")) } else { Ok(Nothing {}) } }
    });
    let graph = one_node(NodeBuilder::task("effect", "demo.effect").retry(quick(2, &["transient"])));
    let (engine, _) = engine(registry);
    let error = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await.unwrap_err();
    engine.resume(error.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    let keys = trace.take();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_ne!(Ctx::detached().idempotency_key().to_string(), keys[0]);
}

#[tokio::test]
async fn a_cancelled_fan_out_keeps_the_items_that_had_finished() {
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: u64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Out {
        out: u64,
    }
    let trace = Trace::default();
    let control = RunControl::new();
    let (seen, stop) = (trace.clone(), control.clone());
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut registry = Registry::new();
    registry.task("demo.item", "stops the run at 6, the first time", move |_: Ctx, item: Item| {
        seen.add(item.x.to_string());
        let (stop, first) = (stop.clone(), Arc::clone(&first));
        async move {
            if item.x == 6 && first.swap(false, Ordering::Relaxed) {
                stop.cancel();
                std::future::pending::<()>().await;
            }
            Ok(Out { out: item.x })
        }
    });
    let graph = GraphBuilder::new("items")
        .input("list", "int[]")
        .channel("out", "int[]", Reducer::Append)
        .node(NodeBuilder::task("item", "demo.item").each("list", "x", 1).writes(["out"]))
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let (engine, store) = engine(registry);
    let list: Vec<u64> = (0..10).collect();
    let options = RunOptions { control, ..RunOptions::default() };
    let part = engine.run(Arc::clone(&graph), input(json!({ "list": list })), options).await.unwrap();
    assert_eq!((part.status, part.steps), (Outcome::Interrupted(InterruptCause::Cancelled), 0));
    assert_eq!(part.state["out"], json!([]), "nothing is merged before the barrier");
    assert_eq!(store.history(part.run).await.unwrap().entries.len(), 6);
    trace.take();
    let done = engine.resume(part.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(done.state["out"], json!(list));
    assert_eq!(trace.take(), ["6", "7", "8", "9"]);
}

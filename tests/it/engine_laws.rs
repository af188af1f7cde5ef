//! Laws of the engine over random graphs.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sentrix::engine::{
    Checkpointer as _, Definition, Engine, Event, MemoryCheckpointer, RunControl, RunEvent, RunOptions,
};
use sentrix::graph::{Graph, Retention};
use serde_json::Map;

use crate::random_graph::{self, Outside, ending};

fn engine() -> (Engine, Arc<MemoryCheckpointer>) {
    let store = Arc::new(MemoryCheckpointer::default());
    let registry = random_graph::registry(&Outside(None), Duration::ZERO);
    (Engine::builder().registry(registry).checkpointer(Arc::clone(&store) as _).build(), store)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a graph, and drains it once it has finished so many supersteps.
fn stopped_after(steps: u32) -> RunOptions {
    let control = RunControl::new();
    let stop = control.clone();
    let sink = move |event: RunEvent| {
        if matches!(event.event, Event::StepCommitted { step, .. } if step + 1 >= steps) {
            stop.drain();
        }
    };
    RunOptions { control, events: Some(Arc::new(sink)), ..RunOptions::default() }
}

fn read(
    graph: &Arc<Graph>,
) -> impl Fn(&Definition) -> Result<Arc<Graph>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync {
    let graph = Arc::clone(graph);
    move |_| Ok(Arc::clone(&graph))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_that_goes_on_from_any_step_ends_as_an_unbroken_one(seed in 0..100_000_u64) {
        let graph = random_graph::graph(seed);
        runtime().block_on(async {
            let (engine, _) = engine();
            let whole = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await;
            let run = match &whole {
                Ok(outcome) => outcome.run,
                Err(error) => error.run,
            };
            let steps = engine.load(run).await.unwrap().summary.steps;
            let expected = ending(whole);
            for step in 0..=steps {
                let fork = engine.fork(run, step, &read(&graph)).await.unwrap();
                let again = engine.resume(fork, read(&graph), RunOptions::default()).await;
                assert_eq!(ending(again), expected, "seed {seed}, step {step} of {steps}");
            }
            assert!(engine.verify(run).await.unwrap().is_whole());
        });
    }

    #[test]
    fn stopping_and_going_on_changes_nothing(seed in 0..100_000_u64, stops in proptest::collection::vec(1..6_u32, 1..5)) {
        let graph = random_graph::graph(seed);
        runtime().block_on(async {
            let (whole, _) = engine();
            let expected = ending(whole.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await);
            let (engine, store) = engine();
            let mut at = 0;
            let mut part = engine.run(Arc::clone(&graph), Map::new(), stopped_after(stops[0])).await;
            for stop in &stops {
                let run = match &part {
                    Ok(outcome) => outcome.run,
                    Err(error) => error.run,
                };
                at += stop;
                part = engine.resume(run, read(&graph), stopped_after(at)).await;
            }
            let run = match &part {
                Ok(outcome) => outcome.run,
                Err(error) => error.run,
            };
            let end = engine.resume(run, read(&graph), RunOptions::default()).await;
            assert_eq!(ending(end), expected, "seed {seed}, stops {stops:?}");
            assert!(engine.verify(run).await.unwrap().is_whole());
            assert_eq!(store.load(run).await.unwrap().definition.graph, graph.name);
        });
    }

    #[test]
    fn pruning_never_changes_what_a_run_comes_to(seed in 0..100_000_u64, stop in 1..20_u32) {
        let graph = random_graph::graph(seed);
        runtime().block_on(async {
            let (whole, _) = engine();
            let expected = ending(whole.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await);
            let (engine, store) = engine();
            let part = engine.run(Arc::clone(&graph), Map::new(), stopped_after(stop)).await;
            let run = match &part {
                Ok(outcome) => outcome.run,
                Err(error) => error.run,
            };
            let had = store.load(run).await.unwrap().snapshot.is_some();
            let policy = Retention { keep_last: Some(0), max_age: None };
            let retained = engine.retain(&graph.name, policy, false).await.unwrap();
            assert_eq!(retained.shortened.len(), usize::from(had));
            let end = engine.resume(run, read(&graph), RunOptions::default()).await;
            assert_eq!(ending(end), expected, "seed {seed}, stopped after {stop}");
            assert!(engine.verify(run).await.unwrap().is_whole());
        });
    }
}

#[test]
fn reducers_merge_in_one_order_whatever_finishes_first() {
    // The same graphs at paces that let different tasks finish first, on two threads.
    for seed in 0..12 {
        let graph = random_graph::graph(seed);
        let mut endings = Vec::new();
        for (pace, threads) in [(0, 1), (150, 2), (40, 2)] {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(threads).enable_all().build().unwrap();
            let registry = random_graph::registry(&Outside(None), Duration::from_micros(pace));
            let engine = Engine::builder().registry(registry).build();
            let result = runtime.block_on(engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()));
            endings.push(ending(result));
        }
        assert!(endings.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}");
    }
}

//! Tests of the room, by subject. Every test has its own registry, store and engine.

mod admin;
mod flow;
mod policy;
mod resume;
mod semantics;

use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::*;
use crate::graph::{Graph, Reducer};

/// Which tasks ran, in the order in which they began.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub(super) fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct Number {
    pub(super) n: i64,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Added {
    pub(super) n: i64,
}

/// `demo.add` reads and writes `n`; `demo.note` writes the node's name to `log`; `demo.square` squares `x` into
/// `out`, later items sooner.
pub(super) fn registry(trace: &Trace) -> Registry {
    #[derive(Deserialize, JsonSchema)]
    struct Nothing {}
    #[derive(Serialize, JsonSchema)]
    struct Note {
        log: String,
    }
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: u64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Squared {
        out: u64,
    }
    let mut registry = Registry::new();
    let seen = trace.clone();
    registry.task("demo.add", "adds one", move |ctx: Ctx, input: Number| {
        seen.add(ctx.node());
        async move { Ok(Added { n: input.n + 1 }) }
    });
    let seen = trace.clone();
    registry.task("demo.note", "notes the node", move |ctx: Ctx, _: Nothing| {
        seen.add(ctx.node());
        async move { Ok(Note { log: ctx.node().to_owned() }) }
    });
    let seen = trace.clone();
    registry.task("demo.square", "squares", move |ctx: Ctx, input: Item| {
        seen.add(format!("{}#{}", ctx.node(), ctx.item().unwrap_or(u32::MAX)));
        async move {
            for _ in 0..10_u64.saturating_sub(input.x) {
                tokio::task::yield_now().await;
            }
            Ok(Squared { out: input.x * input.x })
        }
    });
    registry
}

pub(super) fn engine(registry: Registry) -> (Engine, Arc<MemoryCheckpointer>) {
    let store = Arc::new(MemoryCheckpointer::default());
    let shared: Arc<dyn Checkpointer> = Arc::clone(&store) as _;
    (Engine::builder().registry(registry).checkpointer(shared).build(), store)
}

pub(super) fn input(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// A loop of one node that counts `n` from 0 to `to`.
pub(super) fn counter(to: u32) -> Arc<Graph> {
    let graph = GraphBuilder::new("counter")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .node(
            NodeBuilder::task("add", "demo.add")
                .reads(["n"])
                .writes(["n"])
                .when(&format!("n < {to}"), ["add"]),
        )
        .max_steps(1_000_000)
        .build()
        .unwrap();
    Arc::new(graph)
}

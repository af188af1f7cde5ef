//! Random graphs and the tasks that they are made of: every run of one ends the same, however often it is broken off.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use schemars::JsonSchema;
use sentrix::engine::{Begun, Ctx, EachBuilder, ErrorClass, GraphBuilder, NodeBuilder, NodeError, Registry};
use sentrix::graph::{Barrier, Effect, Graph, Join, Need, OnItemError, Reducer, Tolerate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a node of a random graph is.
#[derive(Clone, Debug)]
struct Shape {
    first: Vec<usize>,
    second: Vec<usize>,
    each: bool,
    lanes: usize,
    /// 0: none, 1: all, 2: any.
    join: u8,
    defer: bool,
    fails: bool,
    sends: bool,
}

fn shapes() -> impl Strategy<Value = (Vec<Shape>, u32)> {
    let targets = || proptest::collection::vec(0..6_usize, 1..3);
    let shape = (targets(), targets(), any::<bool>(), 1..4_usize, 0..4_u8, 0..6_u8, 0..4_u8, 0..4_u8)
        .prop_map(|(first, second, each, lanes, join, defer, fails, sends)| Shape {
            first,
            second,
            each: each && sends > 0,
            lanes,
            join,
            defer: defer == 0 && join == 0,
            fails: fails == 0,
            sends: sends == 0,
        });
    (proptest::collection::vec(shape, 3..6), 4..14_u32)
}

/// The random graph of a seed.
pub(crate) fn graph(seed: u64) -> Arc<Graph> {
    let mut bytes = [7_u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (shapes, rounds) = shapes().new_tree(&mut runner).unwrap().current();
    if seed % 5 == 4 { lanes(&shapes, rounds) } else { supersteps(&shapes, rounds) }
}

fn names(to: &[usize], count: usize) -> Vec<String> {
    let mut to: Vec<usize> = to.iter().map(|to| to % count).collect();
    to.sort_unstable();
    to.dedup();
    to.iter().map(|to| format!("n{to}")).collect()
}

fn supersteps(shapes: &[Shape], rounds: u32) -> Arc<Graph> {
    let count = shapes.len();
    let mut graph = GraphBuilder::new("random")
        .channel_from("round", "int", Reducer::Sum, json!(0))
        .channel("seen", "string[]", Reducer::Append)
        .channel("places", "{int}", Reducer::Merge)
        .channel("most", "int?", Reducer::Max)
        .channel("tags", "int[]", Reducer::Union)
        .channel("problems", "any[]", Reducer::Append)
        .max_steps(24);
    for (at, shape) in shapes.iter().enumerate() {
        let mut node = NodeBuilder::task(&format!("n{at}"), "random.work")
            .reads(["round", "seen"])
            .writes(["seen", "round", "places", "most", "tags"])
            .with("fails", json!(shape.fails))
            .with("sends", json!(shape.sends))
            .effect(Effect::Write)
            .breaker(0);
        if shape.each {
            let each = EachBuilder::new("seen", "item", shape.lanes);
            node = node.fan_out(each.tolerate(Tolerate::Percent(100), OnItemError::Drop));
        } else {
            node = node.with("item", json!("none"));
        }
        if shape.sends {
            node = node.may_send(["sink"]);
        }
        let back = format!("n{}", (at + 1) % count);
        node = node.on_error([], [back.as_str()], Some("problems"));
        if at > 0 && shape.join > 0 && shape.join < 3 {
            let need = if shape.join == 1 { Need::All } else { Need::Some(1) };
            node = node.join(Join { need, timeout: None, go_on: false });
        } else if at > 0 && shape.defer {
            node = node.defer();
        }
        for (most, to) in [(rounds / 2, &shape.first), (rounds, &shape.second)] {
            node = node.when(&format!("round < {most}"), names(to, count).iter().map(String::as_str));
        }
        graph = graph.node(node);
    }
    let sink = NodeBuilder::task("sink", "random.work")
        .reads(["round", "seen"])
        .writes(["seen", "round", "places", "most", "tags"])
        .with("fails", json!(false))
        .with("sends", json!(false))
        .effect(Effect::Write);
    Arc::new(graph.node(sink).build().unwrap())
}

/// Branches that have nothing to do with each other until they join, in dataflow.
fn lanes(shapes: &[Shape], rounds: u32) -> Arc<Graph> {
    let mut graph = GraphBuilder::new("lanes").barrier(Barrier::Dataflow).max_steps(200);
    let start = NodeBuilder::task("start", "random.tick").read("n", "c0").write("n", "c0");
    let names: Vec<String> = (0..shapes.len()).map(|lane| format!("a{lane}")).collect();
    let start = start.to(names.iter().map(String::as_str));
    graph = graph.node(start);
    for (lane, shape) in shapes.iter().enumerate() {
        let channel = format!("c{lane}");
        graph = graph.channel_from(&channel, "int", Reducer::Last, json!(0));
        let node = |name: String| {
            NodeBuilder::task(&name, "random.tick")
                .read("n", &channel)
                .write("n", &channel)
                .effect(Effect::Write)
        };
        let (a, b) = (format!("a{lane}"), format!("b{lane}"));
        graph = graph.node(node(a.clone()).to([b.as_str()])).node(
            node(b)
                .when(&format!("{channel} < {}", rounds + u32::try_from(shape.lanes).unwrap()), [a.as_str()])
                .to(["join"]),
        );
    }
    let join = NodeBuilder::task("join", "random.tick").read("n", "c0").write("n", "c0").join(Join {
        need: Need::All,
        timeout: None,
        go_on: false,
    });
    Arc::new(graph.node(join).build().unwrap())
}

#[derive(Deserialize, JsonSchema)]
struct In {
    round: i64,
    seen: Vec<String>,
    item: Option<String>,
    fails: bool,
    sends: bool,
}

#[derive(Serialize, JsonSchema)]
struct Out {
    seen: String,
    round: i64,
    places: BTreeMap<String, usize>,
    most: i64,
    tags: Vec<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct TickIn {
    n: i64,
}

#[derive(Serialize, JsonSchema)]
struct TickOut {
    n: i64,
}

/// The outside world: a file of lines, one an effect; it knows the keys of what was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside(pub(crate) Option<PathBuf>);

impl Outside {
    /// The keys of what was done, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = self.0.as_deref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn done(path: &Path, key: &str) -> bool {
        std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == key))
    }

    /// Does an effect once: what was begun and may have been done is looked up by its key.
    async fn act(&self, ctx: &Ctx) -> Result<(), NodeError> {
        let Some(path) = self.0.clone() else { return Ok(()) };
        ctx.once("line", |key, begun| async move {
            let key = key.to_string();
            if begun == Begun::Unclear && Self::done(&path, &key) {
                return Ok(true);
            }
            let mut file =
                OpenOptions::new().append(true).create(true).open(&path).map_err(NodeError::transient)?;
            file.write_all(format!("{key}\n").as_bytes()).map_err(NodeError::transient)?;
            Ok(true)
        })
        .await
        .map(drop)
    }
}

/// The tasks of random graphs. What they write depends on what they see, and on nothing else.
pub(crate) fn registry(outside: &Outside, pace: Duration) -> Registry {
    let mut registry = Registry::new();
    let world = outside.clone();
    registry.task("random.work", "tells what it saw", move |ctx: Ctx, input: In| {
        let world = world.clone();
        async move {
            pause(pace, ctx.item().unwrap_or(1)).await;
            world.act(&ctx).await?;
            if input.fails && (ctx.step() + ctx.item().unwrap_or(0)) % 3 == 1 {
                return Err(NodeError::new(ErrorClass::Refused, format!("not at step {}", ctx.step())));
            }
            if input.sends && ctx.item().is_none() {
                for n in 0..input.round % 3 {
                    ctx.send("sink", json!({ "item": format!("sent {n}") }))?;
                }
            }
            let place = format!("{}/{}/{:?}", ctx.step(), ctx.node(), ctx.item());
            Ok(Out {
                seen: format!(
                    "{place}:{}:{:?}:{}",
                    input.seen.len(),
                    input.item.map(|item| item.len()),
                    "x".repeat(400)
                ),
                round: 1,
                places: BTreeMap::from([(ctx.node().to_owned(), input.seen.len())]),
                most: input.round * 7 % 5,
                tags: vec![input.round % 3, i64::from(ctx.step() % 4)],
            })
        }
    });
    let world = outside.clone();
    registry.task("random.tick", "adds one", move |ctx: Ctx, input: TickIn| {
        let world = world.clone();
        async move {
            pause(pace, u32::try_from(input.n % 5).unwrap_or(0)).await;
            world.act(&ctx).await?;
            Ok(TickOut { n: input.n + 1 })
        }
    });
    registry
}

async fn pause(pace: Duration, factor: u32) {
    if pace.is_zero() {
        for _ in 0..factor % 4 {
            tokio::task::yield_now().await;
        }
    } else {
        tokio::time::sleep(pace * (factor % 4)).await;
    }
}

/// What is compared of a run that ended: its state, or why it failed.
pub(crate) fn ending(
    result: Result<sentrix::engine::RunOutcome, sentrix::engine::EngineError>,
) -> Result<Value, String> {
    match result {
        Ok(outcome) => Ok(Value::Object(outcome.state)),
        Err(error) => Err(error.kind.to_string()),
    }
}

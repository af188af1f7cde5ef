//! `cargo bench --bench engine -- --json [CASE …]`: one JSON line a case, each case in a process of its own.
//!
//! Storage and scheduling were chosen for these: a superstep costs microseconds, a fan-out and a log of appends grow
//! in proportion, and a resume reads the last snapshot and what came after it.
#![expect(clippy::print_stdout, reason = "this is what a bench prints")]

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use sentrix::clock::{self, Clock as _, SystemClock};
use sentrix::engine::{
    Ctx, Engine, EngineErrorKind, GraphBuilder, NodeBuilder, NodeError, Registry, RunEvent, RunOptions,
};
use sentrix::graph::{Durability, Graph, Reducer};
use sentrix::id::RunId;
use sentrix::store::SqliteCheckpointer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CASES: [&str; 13] = [
    "step_memory",
    "step_memory_events",
    "step_crash",
    "step_power",
    "floor_power",
    "fanout_1000",
    "fanout_10000",
    "fanout_crash_10000",
    "growth_1000",
    "growth_4000",
    "resume_10000",
    "concurrent_crash",
    "concurrent_power",
];

#[derive(Deserialize, JsonSchema)]
struct Number {
    n: i64,
}

#[derive(Serialize, JsonSchema)]
struct NumberOut {
    n: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Line {
    log: String,
}

#[derive(Deserialize, JsonSchema)]
struct Item {
    x: u64,
}

#[derive(Serialize, JsonSchema)]
struct Double {
    out: u64,
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.task("add", "adds one", |_: Ctx, input: Number| async move {
        Ok::<_, NodeError>(NumberOut { n: input.n + 1 })
    });
    registry.task("log", "appends a kilobyte", |_: Ctx, _: Nothing| async move {
        Ok::<_, NodeError>(Line { log: "x".repeat(1_000) })
    });
    registry.task("double", "doubles an item", |_: Ctx, input: Item| async move {
        Ok::<_, NodeError>(Double { out: input.x * 2 })
    });
    registry
}

/// Two nodes that go to each other until the limit of supersteps.
fn ring(steps: u32, durability: Durability) -> Outcome<Arc<Graph>> {
    let node = |name: &str, to: &str| NodeBuilder::task(name, "add").reads(["n"]).writes(["n"]).to([to]);
    let graph = GraphBuilder::new("ring")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .durability(durability)
        .node(node("a", "b"))
        .node(node("b", "a"))
        .max_steps(steps);
    Ok(Arc::new(graph.build()?))
}

fn growth(steps: u32) -> Outcome<Arc<Graph>> {
    let graph = GraphBuilder::new("growth")
        .channel("log", "string[]", Reducer::Append)
        .node(NodeBuilder::task("a", "log").writes(["log"]).to(["a"]))
        .max_steps(steps);
    Ok(Arc::new(graph.build()?))
}

fn fan() -> Outcome<Arc<Graph>> {
    let graph = GraphBuilder::new("fan")
        .input("list", "int[]")
        .channel("out", "int[]", Reducer::Append)
        .node(NodeBuilder::task("double", "double").each("list", "x", 8).writes(["out"]));
    Ok(Arc::new(graph.build()?))
}

/// Runs a graph to its end, or to its limit of supersteps; gives the time it took.
async fn go(
    engine: &Engine,
    graph: Arc<Graph>,
    input: Map<String, Value>,
    options: RunOptions,
) -> Outcome<Duration> {
    let clock = SystemClock::default();
    let result = engine.run(graph, input, options).await;
    let took = clock.monotonic();
    match result {
        Ok(_) => Ok(took),
        Err(error) if matches!(error.kind, EngineErrorKind::MaxSteps(_)) => Ok(took),
        Err(error) => Err(error.into()),
    }
}

fn stored(path: &Path) -> Outcome<Engine> {
    let store = SqliteCheckpointer::open(path, clock::system())?;
    Ok(Engine::builder().registry(registry()).checkpointer(Arc::new(store)).build())
}

/// Peak memory of this process, in kB.
fn peak_rss_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Size of a store, its write-ahead log included.
fn bytes(path: &Path) -> u64 {
    let wal = format!("{}-wal", path.display());
    [path, Path::new(&wal)].iter().map(|path| fs::metadata(path).map_or(0, |data| data.len())).sum()
}

/// Runs one case: how many of what, the time for all of them, and bytes stored.
async fn case(name: &str, dir: &Path) -> Outcome<(u32, Duration, u64)> {
    let path = dir.join("checkpoints.db");
    let memory = Engine::builder().registry(registry()).build();
    let list = |n: u32| Map::from_iter([("list".to_owned(), json!((0..n).collect::<Vec<_>>()))]);
    let plain = RunOptions::default;
    Ok(match name {
        "step_memory" => {
            let n = 500_000;
            (n, go(&memory, ring(n, Durability::Crash)?, Map::new(), plain()).await?, 0)
        }
        "step_memory_events" => {
            let n = 500_000;
            let sink = |event: RunEvent| {
                black_box(&event);
            };
            let options = RunOptions { events: Some(Arc::new(sink)), ..plain() };
            (n, go(&memory, ring(n, Durability::Crash)?, Map::new(), options).await?, 0)
        }
        "step_crash" | "step_power" => {
            let (n, durability) =
                if name == "step_crash" { (20_000, Durability::Crash) } else { (500, Durability::Power) };
            let took = go(&stored(&path)?, ring(n, durability)?, Map::new(), plain()).await?;
            (n, took, bytes(&path))
        }
        "floor_power" => {
            let n = 500;
            let store = rusqlite::Connection::open(&path)?;
            store.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x BLOB);",
            )?;
            let mut statement = store.prepare("INSERT INTO t VALUES (?1)")?;
            let clock = SystemClock::default();
            for _ in 0..n {
                statement.execute([[0_u8; 64]])?;
            }
            (n, clock.monotonic(), bytes(&path))
        }
        "fanout_1000" | "fanout_10000" => {
            let n = if name == "fanout_1000" { 1_000 } else { 10_000 };
            (n, go(&memory, fan()?, list(n), plain()).await?, 0)
        }
        "fanout_crash_10000" => {
            let n = 10_000;
            (n, go(&stored(&path)?, fan()?, list(n), plain()).await?, bytes(&path))
        }
        "growth_1000" | "growth_4000" => {
            let n = if name == "growth_1000" { 1_000 } else { 4_000 };
            let engine = stored(&path)?;
            let took = go(&engine, growth(n)?, Map::new(), plain()).await?;
            drop(engine);
            (n, took, bytes(&path))
        }
        "resume_10000" => {
            let n = 10_000;
            let engine = stored(&path)?;
            let run = RunId::fresh();
            let options = RunOptions { run_id: Some(run), ..plain() };
            go(&engine, ring(n, Durability::Crash)?, Map::new(), options).await?;
            drop(engine);
            let engine = stored(&path)?;
            let further = ring(n + 1, Durability::Crash)?;
            let clock = SystemClock::default();
            // One more superstep, and then the limit again.
            let result = engine.resume(run, |_| Ok(further), plain()).await;
            let took = clock.monotonic();
            if let Err(error) = result
                && !matches!(error.kind, EngineErrorKind::MaxSteps(_))
            {
                return Err(error.into());
            }
            (n, took, bytes(&path))
        }
        "concurrent_crash" | "concurrent_power" => {
            let durability = if name == "concurrent_crash" { Durability::Crash } else { Durability::Power };
            let engine = stored(&path)?;
            let graph = ring(20, durability)?;
            let clock = SystemClock::default();
            let mut runs = tokio::task::JoinSet::new();
            for _ in 0..100 {
                let (engine, graph) = (engine.clone(), Arc::clone(&graph));
                runs.spawn(async move {
                    go(&engine, graph, Map::new(), plain()).await.map_err(|error| error.to_string())
                });
            }
            while let Some(run) = runs.join_next().await {
                run??;
            }
            (2_000, clock.monotonic(), bytes(&path))
        }
        other => return Err(format!("no case `{other}` (there are: {})", CASES.join(", ")).into()),
    })
}

fn main() -> Outcome<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let [name] = wanted.as_slice() {
        let dir = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (n, took, bytes) = runtime.block_on(case(name, dir.path()))?;
        let each_us = took.as_secs_f64() * 1e6 / f64::from(n);
        println!(
            "{}",
            json!({ "case": name, "n": n, "seconds": took.as_secs_f64(), "each_us": (each_us * 1e3).round() / 1e3,
                "peak_rss_kb": peak_rss_kb(), "bytes": bytes })
        );
        return Ok(());
    }
    let all = if wanted.is_empty() { CASES.map(str::to_owned).to_vec() } else { wanted };
    for name in all {
        let status = Command::new(std::env::current_exe()?).args(["--json", &name]).status()?;
        if !status.success() {
            return Err(format!("case {name} ended with {status}").into());
        }
    }
    Ok(())
}

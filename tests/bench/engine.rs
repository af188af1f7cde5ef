//! `cargo bench --bench engine -- --json [CASE …]`: one JSON line a case, each case in a process of its own.
//!
//! Storage and scheduling were chosen for these: a superstep costs microseconds, a fan-out and a log of appends grow
//! in proportion, and a resume reads the last snapshot and what came after it.
#![expect(clippy::print_stdout, reason = "this is what a bench prints")]

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use sentrix::clock::{self, Clock as _, SystemClock};
use sentrix::engine::{
    Ctx, Engine, EngineErrorKind, GraphBuilder, NodeBuilder, NodeError, Registry, RunEvent, RunOptions,
};
use sentrix::graph::{self, Durability, Graph, Reducer};
use sentrix::id::RunId;
use sentrix::store::SqliteCheckpointer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

const CASES: [&str; 15] = [
    "start",
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
    "processes_crash",
];

/// First arguments of the processes that a case starts of this very program.
const STARTED: &str = "started";
const WRITER: &str = "writer";

/// How often `start` is measured; the middle one counts.
const STARTS: usize = 9;

/// Processes of `processes_crash`, and the runs of each.
const PROCESSES: u32 = 4;
const RUNS: u32 = 25;

/// Supersteps of each of many runs.
const STEPS: u32 = 20;

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

/// The text of a graph of twenty nodes whose runs end after two.
fn twenty() -> String {
    let mut text = "[graph]
name = \"twenty\"
version = 1
description = \"A chain that is left early\"
start = \"n1\"
max_steps = 40

[defaults]
timeout = \"60s\"
retry = { attempts = 2, on = [\"transient\"] }

[state]
n = { type = \"int\", default = 0 }
"
    .to_owned();
    for node in 1..20 {
        let next =
            format!("[{{ if = \"n == {node} and n != 2\", to = \"n{}\" }}, {{ else = \"end\" }}]", node + 1);
        let node = format!("\n[node.n{node}]\ntask = \"add\"\ndescription = \"Adds one\"\nnext = {next}\n");
        text.push_str(&node);
    }
    text.push_str("\n[node.n20]\ntask = \"add\"\ndescription = \"Adds one\"\n");
    text
}

/// What the process of `start` does: reads and checks a graph, and runs two of its steps.
async fn started() -> Outcome<()> {
    let registry = registry();
    let graph = graph::check("twenty.toml", &twenty(), &registry.catalog())
        .map_err(|faults| format!("{faults:?}"))?;
    let engine = Engine::builder().registry(registry).build();
    let done = engine.run(Arc::new(graph), Map::new(), RunOptions::default()).await?;
    if done.steps != 2 {
        return Err(format!("{} supersteps instead of 2", done.steps).into());
    }
    println!("{}", peak_rss_kb());
    Ok(())
}

/// What a process of `processes_crash` does: says that it is ready, waits for a line, and runs.
async fn writer(path: &Path) -> Outcome<()> {
    let engine = stored(path)?;
    let graph = ring(STEPS, Durability::Crash)?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    many(&engine, &graph, RUNS).await?;
    println!("done");
    Ok(())
}

/// Runs a graph many times at once.
async fn many(engine: &Engine, graph: &Arc<Graph>, count: u32) -> Outcome<()> {
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (engine, graph) = (engine.clone(), Arc::clone(graph));
        runs.spawn(async move {
            let run = go(&engine, graph, Map::new(), RunOptions::default()).await;
            run.map_err(|error| error.to_string())
        });
    }
    while let Some(run) = runs.join_next().await {
        run??;
    }
    Ok(())
}

/// A process of this very program that is talked to.
fn child(arguments: &[&str]) -> Outcome<(Child, impl FnMut() -> Outcome<String> + use<>)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    Ok((child, move || Ok(said.next().ok_or("a process ended early")??)))
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

/// The middle one of many starts, by time: how long the process lived, and its peak memory.
fn start() -> Outcome<(Duration, u64)> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let clock = SystemClock::default();
        let (mut child, mut line) = child(&[STARTED])?;
        let peak = line()?.parse()?;
        if !child.wait()?.success() {
            return Err("a process failed".into());
        }
        starts.push((clock.monotonic(), peak));
    }
    starts.sort_unstable();
    Ok(*starts.get(STARTS / 2).ok_or("nothing measured")?)
}

/// Processes that all write one file: the time from when all are ready until the last one is done.
fn processes(path: &Path) -> Outcome<Duration> {
    let text = path.display().to_string();
    drop(stored(path)?);
    let mut children = (0..PROCESSES).map(|_| child(&[WRITER, &text])).collect::<Outcome<Vec<_>>>()?;
    for (_, line) in &mut children {
        line()?;
    }
    let clock = SystemClock::default();
    for (child, _) in &mut children {
        child.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
    }
    for (_, line) in &mut children {
        line()?;
    }
    let took = clock.monotonic();
    for (mut child, _) in children {
        if !child.wait()?.success() {
            return Err("a process failed".into());
        }
    }
    Ok(took)
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
            let graph = ring(STEPS, durability)?;
            let clock = SystemClock::default();
            many(&engine, &graph, 100).await?;
            (100 * STEPS, clock.monotonic(), bytes(&path))
        }
        "processes_crash" => (PROCESSES * RUNS * STEPS, processes(&path)?, bytes(&path)),
        other => return Err(format!("no case `{other}` (there are: {})", CASES.join(", ")).into()),
    })
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [STARTED] => return runtime()?.block_on(started()),
        [WRITER, path] => return runtime()?.block_on(writer(Path::new(path))),
        _ => {}
    }
    let wanted: Vec<String> = arguments.into_iter().filter(|arg| !arg.starts_with('-')).collect();
    if let [name] = wanted.as_slice() {
        let dir = tempfile::tempdir()?;
        let ((n, took, bytes), peak) = if name == "start" {
            let (took, peak) = start()?;
            ((1, took, 0), peak)
        } else {
            (runtime()?.block_on(case(name, dir.path()))?, peak_rss_kb())
        };
        let each_us = took.as_secs_f64() * 1e6 / f64::from(n);
        println!(
            "{}",
            json!({ "case": name, "n": n, "seconds": took.as_secs_f64(), "each_us": (each_us * 1e3).round() / 1e3,
                "peak_rss_kb": peak, "bytes": bytes })
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

//! A thousand `kill -9` while random graphs run: resumed, each ends as an unbroken run does, and no effect is done twice.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sentrix::clock;
use sentrix::engine::{Engine, EngineErrorKind, RunOptions};
use sentrix::id::RunId;
use sentrix::store::SqliteCheckpointer;
use serde_json::Map;

use crate::random_graph::{self, Outside, ending};

/// Kills that must have landed while a run was under way.
const KILLS: u32 = 1_000;
/// Processes at a time.
const AT_ONCE: u64 = 4;
/// Set in a process that is to be killed: seed and folder.
const SEED: &str = "SENTRIX_TEST_CRASH_SEED";
const FOLDER: &str = "SENTRIX_TEST_CRASH_FOLDER";

fn run_id(seed: u64) -> RunId {
    RunId::stable(&["crash", &seed.to_string()])
}

fn engine(folder: &Path, outside: &Outside, pace: Duration) -> Engine {
    let store = SqliteCheckpointer::open(&folder.join("checkpoints.db"), clock::system()).unwrap();
    Engine::builder().registry(random_graph::registry(outside, pace)).checkpointer(Arc::new(store)).build()
}

/// Begins the run of a seed, or goes on with it.
async fn go(engine: &Engine, seed: u64) -> Result<sentrix::engine::RunOutcome, sentrix::engine::EngineError> {
    let graph = random_graph::graph(seed);
    let options = RunOptions { run_id: Some(run_id(seed)), ..RunOptions::default() };
    match engine.load(run_id(seed)).await {
        Ok(_) => engine.resume(run_id(seed), |_| Ok(graph), options).await,
        Err(_) => engine.run(graph, Map::new(), options).await,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The process that is killed; does nothing where the variables are not set.
#[test]
fn child() {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child apart")]
    let (Ok(seed), Ok(folder)) = (std::env::var(SEED), std::env::var(FOLDER)) else { return };
    let folder = Path::new(&folder);
    let outside = Outside(Some(folder.join("outside")));
    runtime().block_on(async {
        let engine = engine(folder, &outside, Duration::from_micros(300));
        std::fs::write(folder.join("begun"), "").unwrap();
        drop(go(&engine, seed.parse().unwrap()).await);
    });
}

/// A number that looks random, from a seed.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Kills the run of a seed again and again until it comes to its end; gives how many kills landed.
fn break_off(seed: u64) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let outside = Outside(Some(folder.path().join("outside")));
    let expected = runtime().block_on(async {
        let whole =
            Engine::builder().registry(random_graph::registry(&Outside(None), Duration::ZERO)).build();
        let options = RunOptions { run_id: Some(run_id(seed)), ..RunOptions::default() };
        ending(whole.run(random_graph::graph(seed), Map::new(), options).await)
    });
    let mut kills = 0;
    let begun = folder.path().join("begun");
    for turn in 0..400_u64 {
        drop(std::fs::remove_file(&begun));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine_crash::child", "--nocapture", "--test-threads=1"])
            .env(SEED, seed.to_string())
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Within the time that a start and some supersteps take.
        let wait = Duration::from_micros(4_000 + mix(seed * 1_000 + turn) % 24_000);
        std::thread::sleep(wait);
        drop(child.kill());
        let status = child.wait().unwrap();
        if status.signal() != Some(9) {
            break;
        }
        // One that came before the run was under way proves nothing.
        kills += u32::from(begun.exists());
    }
    let (found, lines) = runtime().block_on(async {
        let engine = engine(folder.path(), &outside, Duration::ZERO);
        let found = go(&engine, seed).await;
        if let Err(error) = &found {
            let limit = matches!(error.kind, EngineErrorKind::MaxSteps(_) | EngineErrorKind::Task { .. });
            assert!(limit, "seed {seed}: {error}");
        }
        assert!(engine.verify(run_id(seed)).await.unwrap().is_whole(), "seed {seed}");
        (ending(found), outside.lines())
    });
    assert_eq!(found, expected, "seed {seed} after {kills} kills");
    let mut once = lines.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), lines.len(), "seed {seed}: an effect was done twice");
    kills
}

#[test]
fn a_thousand_kills_lose_nothing_and_do_nothing_twice() {
    let next = std::sync::atomic::AtomicU64::new(0);
    let kills = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::Relaxed;
                while kills.load(Relaxed) < KILLS {
                    kills.fetch_add(break_off(next.fetch_add(1, Relaxed)), Relaxed);
                }
            });
        }
    });
    let (runs, kills) = (next.into_inner(), kills.into_inner());
    assert!(kills >= KILLS, "{kills} kills over {runs} runs");
    println!("{kills} kills over {runs} random graphs");
}

//! Tests by subject. What every store of checkpoints must do is in `contract.rs` and `retention.rs`, which run
//! against the one in memory too.

mod claims;
mod contract;
mod files;
mod retention;
mod runs;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;
use crate::clock::{self, Clock as _, TestClock};
use crate::engine::{
    Ctx, Engine, Entry, EntryKind, Finish, GraphBuilder, MemoryCheckpointer, NodeBuilder, Registry,
    RunStatus, Snapshot, StoredEntry,
};
use crate::graph::{Graph, Reducer};

struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("checkpoints.db")
    }

    fn store(&self) -> Arc<SqliteCheckpointer> {
        Arc::new(SqliteCheckpointer::open(&self.path(), clock::system()).unwrap())
    }

    fn raw(&self) -> Connection {
        sqlite::open(&self.path(), MIGRATIONS).unwrap()
    }
}

#[derive(Deserialize, JsonSchema)]
struct In {
    n: i64,
}

#[derive(Serialize, JsonSchema)]
struct Out {
    n: i64,
    log: String,
}

/// `demo.count` adds one to `n` and `size` bytes to `log`.
fn registry(size: usize) -> Registry {
    let mut registry = Registry::new();
    registry.task("demo.count", "counts", move |_: Ctx, input: In| async move {
        Ok(Out { n: input.n + 1, log: "x".repeat(size) })
    });
    registry
}

fn counter(to: u32, durability: Durability) -> Arc<Graph> {
    let graph = GraphBuilder::new("count")
        .channel_from("n", "int", Reducer::Last, json!(0))
        .channel("log", "string[]", Reducer::Append)
        .node(
            NodeBuilder::task("count", "demo.count")
                .reads(["n"])
                .writes(["n", "log"])
                .when(&format!("n < {to}"), ["count"]),
        )
        .max_steps(1_000_000)
        .durability(durability)
        .build()
        .unwrap();
    Arc::new(graph)
}

fn engine(store: &Arc<SqliteCheckpointer>, size: usize) -> Engine {
    Engine::builder().registry(registry(size)).checkpointer(Arc::clone(store) as _).build()
}

fn engine_of(store: &Arc<SqliteCheckpointer>) -> Engine {
    engine(store, 0)
}

/// A store of either kind with its clock, for what both must do.
struct Bench {
    store: Arc<dyn Checkpointer>,
    clock: Arc<TestClock>,
    _world: Option<World>,
}

impl Bench {
    fn memory() -> Self {
        let clock = Arc::new(TestClock::at_millis(1_000_000));
        Self { store: Arc::new(MemoryCheckpointer::new(Arc::clone(&clock) as _)), clock, _world: None }
    }

    fn sqlite() -> Self {
        let (world, clock) = (World::new(), Arc::new(TestClock::at_millis(1_000_000)));
        let store = SqliteCheckpointer::open(&world.path(), Arc::clone(&clock) as _).unwrap();
        Self { store: Arc::new(store), clock, _world: Some(world) }
    }

    /// Milliseconds that have passed.
    fn passed(&self) -> i64 {
        self.clock.now().as_millisecond() - 1_000_000
    }

    /// Stores a new run and gives its claim.
    async fn begin(&self, new: NewRun) -> Claim {
        let claim = Claim::new(new.run);
        self.store.create(&claim, new).await.unwrap();
        claim
    }

    /// Lets go of a run without bringing it to rest, as a process that ends.
    fn let_go(&self, claim: &Claim) {
        claim.end();
        self.store.release(claim);
    }

    /// A run with finished supersteps that came to rest, and nobody holds.
    async fn rested(&self, steps: u32) -> RunId {
        let claim = self.begin(new_run(RunId::fresh())).await;
        self.store.append(&claim, batch(0, (0..steps).map(step).collect())).await.unwrap();
        self.store.append(&claim, finish(steps, RunStatus::Interrupted)).await.unwrap();
        self.let_go(&claim);
        claim.run
    }
}

/// Runs each test of a module against both kinds of store.
macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(super::Bench::memory()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Bench::sqlite()).await; })*
        }
    };
}
use for_both;

fn definition(hash: &str) -> Definition {
    Definition {
        graph: "demo".to_owned(),
        version: 1,
        hash: hash.to_owned(),
        source: format!("the text of {hash}").into(),
        prompts: Arc::new([("a.system".to_owned(), "be kind".to_owned())].into()),
    }
}

fn new_run(run: RunId) -> NewRun {
    NewRun {
        run,
        definition: definition("one"),
        input: [("n".to_owned(), json!(1.5))].into_iter().collect(),
        durability: Durability::Crash,
        parent: None,
        forked_from: None,
        snapshot: None,
    }
}

fn step(step: u32) -> Entry {
    Entry {
        kind: EntryKind::Step,
        step,
        node: Some("a".into()),
        item: None,
        at_ms: 1_000 + i64::from(step),
        body: format!("{{\"step\":{step}}}"),
        hash: [u8::try_from(step % 200).unwrap() + 1; 32],
    }
}

fn batch(first_seq: u32, entries: Vec<Entry>) -> Batch {
    let durability = Durability::Crash;
    Batch { first_seq, entries, snapshot: None, finish: None, definition: None, durability }
}

fn finish(first_seq: u32, status: RunStatus) -> Batch {
    let finish = Finish { status, error: None, seal: None };
    Batch { finish: Some(finish), ..batch(first_seq, Vec::new()) }
}

fn snapshot(seq: u32) -> Snapshot {
    Snapshot { seq, body: format!("{{\"before\":{seq}}}"), chain: [u8::try_from(seq % 200).unwrap(); 32] }
}

/// The numbers of entries.
fn seqs(entries: &[StoredEntry]) -> Vec<u32> {
    entries.iter().map(|stored| stored.seq).collect()
}

//! The engine from Rust, without graph files: a loop with a condition, kept in SQLite, stopped in the middle and resumed.
//!
//! `cargo run --example engine_loop`
#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "an example prints, and knows its channels"
)]

use std::error::Error;
use std::sync::Arc;

use schemars::JsonSchema;
use sentrix::clock;
use sentrix::engine::{
    Ctx, Engine, GraphBuilder, NodeBuilder, NodeError, Outcome, Registry, RunControl, RunOptions,
};
use sentrix::graph::{Durability, Reducer};
use sentrix::store::SqliteCheckpointer;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

/// What the function reads: the fields are state channels.
#[derive(Deserialize, JsonSchema)]
struct In {
    guess: f64,
    of: f64,
}

/// What it writes.
#[derive(Serialize, JsonSchema)]
struct Out {
    guess: f64,
    tried: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let control = RunControl::new();
    let stop = control.clone();
    let mut registry = Registry::new();
    registry.task("root.improve", "One step of Newton's method", move |ctx: Ctx, input: In| {
        if ctx.step() == 1 {
            // As Ctrl+C would: the run stops at the end of this superstep.
            stop.drain();
        }
        async move {
            let guess = f64::midpoint(input.guess, input.of / input.guess);
            Ok::<_, NodeError>(Out { guess, tried: input.guess })
        }
    });

    // guess: the value so far; tried: every value, in order; of: what the root is taken of.
    let graph = GraphBuilder::new("square_root")
        .channel_from("guess", "float", Reducer::Last, json!(1.0))
        .channel("tried", "float[]", Reducer::Append)
        .input("of", "float")
        .node(
            NodeBuilder::task("improve", "root.improve")
                .reads(["guess", "of"])
                .writes(["guess", "tried"])
                .when("(guess * guess - of) | abs > 0.000001", ["improve"]),
        )
        .max_steps(50)
        .durability(Durability::Crash)
        .build()?;
    let graph = Arc::new(graph);

    let dir = tempfile::tempdir()?;
    let store = SqliteCheckpointer::open(&dir.path().join("checkpoints.db"), clock::system())?;
    let engine = Engine::builder().registry(registry).checkpointer(Arc::new(store)).build();

    let input = Map::from_iter([("of".to_owned(), json!(2.0))]);
    let options = RunOptions { control, ..RunOptions::default() };
    let part = engine.run(Arc::clone(&graph), input, options).await?;
    println!("stopped after {} supersteps at {}", part.steps, part.state["guess"]);
    assert!(matches!(part.status, Outcome::Interrupted(_)));

    let done = engine.resume(part.run, |_| Ok(graph), RunOptions::default()).await?;
    println!("done after {} supersteps: {}", done.steps, done.state["guess"]);
    println!("tried {}", done.state["tried"]);
    assert_eq!(done.status, Outcome::Done);
    Ok(())
}

//! A gate: the run stops for a person, and goes on with the answer, signed, without running anything twice.
//!
//! `cargo run --example engine_gate`
#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "an example prints, and knows its channels"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use sentrix::engine::{
    ChannelBuilder, Ctx, Definition, Engine, GraphBuilder, Keys, MemoryCheckpointer, NodeBuilder, NodeError,
    Outcome, Registry, RunOptions,
};
use sentrix::graph::{Effect, Graph};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Plan {
    plan: String,
}

#[derive(Deserialize, JsonSchema)]
struct PlanIn {
    plan: String,
}

#[derive(Serialize, JsonSchema)]
struct Report {
    report: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::new();
    registry
        .task("shop.plan", "Decides what to do", |_: Ctx, _: Nothing| async move {
            Ok::<_, NodeError>(Plan { plan: "delete 3 old backups".to_owned() })
        })
        .task("shop.act", "Does it, once", |ctx: Ctx, input: PlanIn| async move {
            // The ledger remembers that it was done, also over a crash.
            let report =
                ctx.once("act", |key, _| async move { Ok(format!("{} ({key})", input.plan)) }).await?;
            Ok::<_, NodeError>(Report { report })
        })
        .effect("shop.act", Effect::Danger);

    let graph = GraphBuilder::new("careful")
        .state(ChannelBuilder::new("plan", "string?"))
        .state(ChannelBuilder::new("report", "string?"))
        .node(NodeBuilder::task("plan", "shop.plan").writes(["plan"]).to(["approve"]))
        .node(
            NodeBuilder::gate("approve", "Shall this be done?")
                .option("yes", ["act"])
                .option("no", [])
                .asks(["owner"], ["plan"])
                .waits(Duration::from_hours(1), "no"),
        )
        .node(NodeBuilder::task("act", "shop.act").reads(["plan"]).writes(["report"]).effect(Effect::Danger))
        .build()?;
    let graph = Arc::new(graph);
    let read = |_: &Definition| Ok::<Arc<Graph>, Box<dyn Error + Send + Sync>>(Arc::clone(&graph));

    let secret = Keys::fresh_secret()?;
    let engine = Engine::builder()
        .registry(registry)
        .checkpointer(Arc::new(MemoryCheckpointer::default()))
        .keys(Arc::new(Keys::from_secret(secret.as_bytes())?))
        .build();

    let rest = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await?;
    for gate in &rest.gates {
        println!("{}: {} {} {:?}", gate.gate, gate.ask, json!(gate.shows), gate.options);
    }
    let refused = engine.answer(rest.run, "approve", ("yes", "somebody", None), &read).await;
    println!("refused: {}", refused.err().ok_or("anybody may answer")?);
    engine.answer(rest.run, "approve", ("yes", "owner", Some("go ahead".to_owned())), &read).await?;

    let done = engine.resume(rest.run, |_| Ok(Arc::clone(&graph)), RunOptions::default()).await?;
    println!("done: {}", done.state["report"]);
    assert_eq!(done.status, Outcome::Done);
    let proof = engine.verify(rest.run).await?;
    println!("the log is whole: {}, sealed by {:?}", proof.is_whole(), proof.sealed_by);
    assert!(proof.is_whole());
    Ok(())
}

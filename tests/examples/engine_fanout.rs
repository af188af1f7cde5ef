//! A fan-out that tolerates failures, two branches that join, a reducer of our own, and the events of the run.
//!
//! `cargo run --example engine_fanout`
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
    ChannelBuilder, Ctx, EachBuilder, Engine, Event, GraphBuilder, NodeBuilder, NodeError, Outcome, Registry,
    RunEvent, RunOptions,
};
use sentrix::graph::{Join, Need, OnItemError, Reducer, Retry, Tolerate};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Deserialize, JsonSchema)]
struct Page {
    page: String,
}

#[derive(Serialize, JsonSchema)]
struct Words {
    words: u64,
    longest: String,
}

#[derive(Deserialize, JsonSchema)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Note {
    log: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::new();
    registry
        .task("text.count", "Counts the words of a page", |ctx: Ctx, input: Page| async move {
            if input.page.is_empty() {
                return Err(NodeError::permanent("an empty page"));
            }
            if ctx.attempt() == 1 && input.page.starts_with("slow") {
                return Err(NodeError::transient("try again"));
            }
            let longest = input.page.split(' ').max_by_key(|word| word.len()).unwrap_or_default().to_owned();
            Ok(Words { words: input.page.split(' ').count() as u64, longest })
        })
        .task("text.note", "Says where it is", |ctx: Ctx, _: Nothing| async move {
            Ok::<_, NodeError>(Note { log: ctx.node().to_owned() })
        })
        .reducer("text.longer", |held: Option<&Value>, write: Value| {
            let length = |value: &Value| value.as_str().map_or(0, str::len);
            Ok(held.filter(|held| length(held) >= length(&write)).cloned().unwrap_or(write))
        });

    let retry = Retry { attempts: 2, backoff: Duration::from_millis(5), ..Retry::default() };
    let graph = GraphBuilder::new("pages")
        .input("pages", "string[]")
        .channel_from("words", "int", Reducer::Sum, json!(0))
        .state(ChannelBuilder::new("longest", "string?").custom("text.longer"))
        .state(ChannelBuilder::new("status", "any[]?"))
        .channel("log", "string[]", Reducer::Append)
        .node(NodeBuilder::task("begin", "text.note").writes(["log"]).to(["count", "aside"]))
        .node(
            NodeBuilder::task("count", "text.count")
                .fan_out(
                    EachBuilder::new("pages", "page", 4)
                        .tolerate(Tolerate::Percent(50), OnItemError::Drop)
                        .status("status"),
                )
                .retry(retry)
                .writes(["words", "longest"])
                .to(["both"]),
        )
        .node(NodeBuilder::task("aside", "text.note").writes(["log"]).to(["more"]))
        .node(NodeBuilder::task("more", "text.note").writes(["log"]).to(["both"]))
        .node(NodeBuilder::task("both", "text.note").writes(["log"]).join(Join {
            need: Need::All,
            timeout: None,
            go_on: false,
        }))
        .build()?;

    let events = |event: RunEvent| match event.event {
        Event::TaskRetried { node, item, error, .. } => println!("  {node} {item:?} again: {error}"),
        Event::StepCommitted { step, next, .. } => println!("  step {step} → {}", next.join(", ")),
        _ => {}
    };
    let pages = json!(["a bear and a bee", "slow food", "", "entirely"]);
    let options = RunOptions { events: Some(Arc::new(events)), ..RunOptions::default() };
    let engine = Engine::builder().registry(registry).build();
    let done = engine.run(Arc::new(graph), Map::from_iter([("pages".to_owned(), pages)]), options).await?;
    println!("{} words, the longest {}", done.state["words"], done.state["longest"]);
    println!("{}", done.state["status"]);
    assert_eq!(done.status, Outcome::Done);
    assert_eq!((&done.state["words"], &done.state["longest"]), (&json!(8), &json!("entirely")));
    assert_eq!(done.state["log"], json!(["begin", "aside", "more", "both"]));
    Ok(())
}

//! A scripted model for OpenClaw, by hand: serves until it is ended, and says one line a call.
//!
//! ```text
//! cargo run --example agent_model -- PORT
//! ```
//! Port 0 takes a free one. Keywords in a user's message choose what it answers: see `tests/support/agent_script.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool of the workshop"
)]

#[path = "../support/agent_model.rs"]
mod agent_model;
#[path = "../support/agent_script.rs"]
mod agent_script;
#[path = "../support/dialects.rs"]
mod dialects;

use std::time::Duration;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).context("usage: agent_model PORT")?;
    let server = agent_model::AgentModel::on(port.parse().context("PORT is a number")?)?;
    println!("openai-completions at {}, anthropic-messages at {}", server.url(), server.root());
    let mut seen = 0;
    loop {
        std::thread::sleep(Duration::from_millis(200));
        for call in server.since(seen) {
            seen = call.number;
            let session = call.session_key.as_deref().unwrap_or("-");
            let answer = match &call.answer.tool {
                Some((tool, args)) => format!("{tool} {args}"),
                None => call.answer.text.chars().take(100).collect(),
            };
            let (kind, script, step) = (call.kind, &call.answer.script, call.answer.step);
            println!("#{seen} {} {kind:?} {session} {script}/{step}: {answer}", call.path);
        }
    }
}

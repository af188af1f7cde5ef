//! Integration tests: one binary, one module a subject.
//!
//! - `capture`: a capture that is killed again and again while a scripted OpenClaw works: each event once.
//! - `config`: the real binary's configuration: layers, faults, secrets that are never shown.
//! - `agent_model`: the scripted model for the real OpenClaw, and its own tests; by hand: `cargo run --example agent_model`.
//! - `conformance`: the engine's behaviour as data, `tests/conformance/*.toml`.
//! - `crash`: `kill -9` at any moment, then the same outcome as an unbroken run.
//! - `docs`: the README says what is.
//! - `door`: the way out of a sandbox over real sockets: every refusal, limits, changes of the rules under load.
//! - `engine_crash`: a thousand `kill -9` over random graphs.
//! - `engine_laws`: laws of the engine over random graphs.
//! - `examples`: the recorded examples and the real log directory of the earlier tool.
//! - `graph_verbs`: runs looked into, answered, forked, edited, upgraded, proved and pruned from the outside.
//! - `graphs`: graph files edited, checked, drawn, run and resumed from the outside.
//! - `hardship`: bad settings, damaged files, folders that are none: said clearly, and nothing passes for clean.
//! - `layers`: which room may use which.
//! - `logs`: log files listed, their last entries, and those that come.
//! - `model`: models over real HTTP, against the scripted server of `tests/support/model_server.rs`.
//! - `model_stream`: the same, with answers that come in pieces.
//! - `outage`: the real binary while a model's provider fails in every way there is, and after.
//! - `patrol`: the real binary on log directories, without a model.
//! - `providers`: each provider's own requests and its own ways to say no.
//! - `run`: `sentrix run` from the outside, with everything real but the model.
//! - `sandbox`: the sandbox at a real engine with the real OpenClaw.
//! - `setup`: the wizard in a real pseudo-terminal: its paths and its screens.
//! - `spending`: budgets, ledger, fallbacks, circuit breaker, kept answers and placeholders, all around a model.
//! - `transcripts`: `patrol --openclaw-home` over OpenClaw's own record, also killed while OpenClaw writes.
//! - `watch`: the real binary watching a directory.
//! - `with_model`: the real binary with a scripted model: votes, quorum, failures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test that panics says what is wrong"
)]

#[path = "../support/agent_model.rs"]
mod agent_model;
#[path = "../support/agent_script.rs"]
mod agent_script;
mod capture;
mod config;
mod conformance;
mod crash;
#[path = "../support/dialects.rs"]
mod dialects;
mod docs;
mod door;
mod engine_crash;
mod engine_laws;
mod examples;
#[path = "../support/fake_openclaw.rs"]
mod fake_openclaw;
mod graph_verbs;
mod graphs;
mod hardship;
mod layers;
mod logs;
mod model;
#[path = "../support/model_server.rs"]
mod model_server;
mod model_stream;
#[path = "../support/openclaw_db.rs"]
mod openclaw_db;
mod outage;
mod patrol;
mod providers;
#[path = "../support/pty.rs"]
mod pty;
#[path = "../support/random_graph.rs"]
mod random_graph;
mod run;
mod sandbox;
mod setup;
mod spending;
mod transcripts;
mod watch;
mod with_model;
#[path = "../support/world.rs"]
mod world;

//! Integration tests: one binary, one module a subject.
//!
//! - `model`: models over real HTTP, against the scripted server of `tests/support/model_server.rs`.

mod model;
#[path = "../support/model_server.rs"]
mod model_server;

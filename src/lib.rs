#![doc = include_str!("ARCHITECTURE.md")]

pub mod case;
pub mod clock;
pub mod engine;
pub mod graph;
pub mod id;
pub mod model;
pub mod prompt;
pub mod redact;
pub mod store;
pub mod text;

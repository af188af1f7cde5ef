#![doc = include_str!("ARCHITECTURE.md")]

pub mod case;
pub mod clock;
pub mod detect;
pub mod graph;
pub mod id;
pub mod redact;
pub mod text;

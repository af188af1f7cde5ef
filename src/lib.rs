#![doc = include_str!("ARCHITECTURE.md")]

pub mod case;
pub mod clock;
pub mod graph;
pub mod id;
pub mod logs;
pub mod openclaw;
pub mod redact;
pub mod text;

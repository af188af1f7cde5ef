//! Runs checked graphs: state channels, reducers, supersteps, joins, fan-out, gates, retries, budgets, checkpoints, events.
//!
//! **Invariant:** knows no model, no container, no SQLite and nothing of the police. What it needs of the outside
//! comes in as a [`Registry`] of Rust functions, a [`PromptRunner`], a [`Checkpointer`], [`Keys`] and an [`EventSink`].
//! **Invariant:** a run has one owner loop; only it touches the state. Tasks see a snapshot.
//! **Invariant:** what a superstep did is published after its checkpoint is committed, never before.
//! **Invariant:** the merge order is fixed (node order in the file, then item order), whatever finishes first.
//! **Invariant:** what comes next is found once, by `next.rs`, and stored; a resume reads it and never works it out again.
//!
//! Start reading at [`Engine::run`], then `run.rs` (the owner loop), `next.rs` (where a run goes), `crew.rs` and
//! `steps.rs` (many tasks at work), `codec.rs` and `replay.rs` (what is stored, and how a run is put together again).

mod args;
mod blocking;
mod body;
mod build;
mod cassette;
mod chain;
mod change;
mod checkpoint;
mod codec;
mod crew;
mod ctx;
mod error;
mod event;
mod gates;
mod history;
mod host;
mod keep;
mod keys;
mod log;
mod memory;
mod merge;
mod meter;
mod next;
mod options;
mod output;
mod overwrite;
mod plan;
mod position;
mod prompt;
mod reduce;
mod registry;
mod replay;
mod rest;
mod run;
mod state;
mod steps;
mod subgraph;
mod task;
#[cfg(test)]
mod tests;
mod upgrade;
mod verify;
mod ways;

pub use blocking::blocking;
pub use build::{ChannelBuilder, EachBuilder, GraphBuilder, NodeBuilder};
pub use cassette::{CASSETTE_VERSION, Cassette, Take};
pub use change::Read;
pub use checkpoint::{
    Batch, Checkpointer, Claim, Definition, Digest, EffectRecord, Entry, EntryKind, Finish, GateAnswer,
    History, NewRun, PromptTexts, Prune, Receipt, RunFilter, RunRecord, RunStatus, RunSummary, Snapshot,
    StoredEntry,
};
pub use ctx::{Begun, Ctx};
pub use error::{CheckpointError, CheckpointErrorKind, EngineError, EngineErrorKind, ErrorClass, NodeError};
pub use event::{EVENT_VERSION, Event, EventSink, GateView, RoutedBy, RunEvent, Stream, Streams};
pub use history::{Difference, Stand, StepRecord, TaskRecord};
pub use host::{Engine, EngineBuilder};
pub use keys::{KeyError, Keys, PublicKey};
pub use memory::MemoryCheckpointer;
pub use meter::Usage;
pub use options::{InterruptCause, Outcome, RunControl, RunOptions, RunOutcome};
pub use overwrite::Overwrite;
pub use prompt::{PromptCall, PromptRunner};
pub use registry::Registry;
pub use task::Failure;
pub use verify::{Retained, Verification};

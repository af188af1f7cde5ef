//! Runs checked graphs: state channels, reducers, supersteps, fan-out, retries, checkpoints, events.
//!
//! **Invariant:** knows no model, no container, no SQLite and nothing of the police. What it needs of the outside
//! comes in as a [`Registry`] of Rust functions, a [`PromptRunner`], a [`Checkpointer`] and an [`EventSink`].
//! **Invariant:** a run has one owner loop; only it touches the state. Tasks see a snapshot.
//! **Invariant:** what a superstep did is published after its checkpoint is committed, never before.
//! **Invariant:** the merge order is fixed (node order in the file, then item order), whatever finishes first.
//!
//! Start reading at [`Engine::run`], then `run.rs` (the owner loop), `fanout.rs` (supersteps of many tasks) and
//! `log.rs` (what is stored, and how a run is put together again from it).

mod args;
mod blocking;
mod build;
mod checkpoint;
mod ctx;
mod error;
mod event;
mod fanout;
mod host;
mod log;
mod memory;
mod merge;
mod output;
mod plan;
mod prompt;
mod registry;
mod run;
mod state;
mod task;
#[cfg(test)]
mod tests;

pub use blocking::blocking;
pub use build::{GraphBuilder, NodeBuilder};
pub use checkpoint::{
    Batch, Checkpointer, Claim, Definition, Digest, EffectRecord, Entry, EntryKind, Finish, GateAnswer, History, NewRun,
    PromptTexts, Prune, Receipt, RunFilter, RunRecord, RunStatus, RunSummary, Snapshot, StoredEntry,
};
pub use ctx::Ctx;
pub use error::{CheckpointError, CheckpointErrorKind, EngineError, EngineErrorKind, ErrorClass, NodeError};
pub use event::{EVENT_VERSION, Event, EventSink, RunEvent};
pub use host::{Engine, EngineBuilder, InterruptCause, Outcome, RunControl, RunOptions, RunOutcome};
pub use log::{StepRecord, TaskRecord};
pub use memory::MemoryCheckpointer;
pub use prompt::{PromptCall, PromptRunner};
pub use registry::Registry;

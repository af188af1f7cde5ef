//! The police: takes escalated flags from a durable queue, investigates each, and writes its case file once.
//!
//! The flow is `graphs/investigate.toml`; [`tasks`] holds the node functions it names. Start reading at
//! [`Station`], which runs the queue.
//!
//! **Invariant:** knows patrol's flags and turns through the store, never patrol's inside. Every turn a case names
//! exists, and every quote was found; what could not be checked is a caveat of the case.

mod advice;
mod context;
mod report;
mod rules;
mod station;
pub mod tasks;
mod types;
mod verify;

pub use station::{Concluded, PoliceDeps, PoliceSettings, Station, StationError};
pub use types::{CaseDraft, ContextTurn, ContextWindow, LeadAnswer};

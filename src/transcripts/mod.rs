//! OpenClaw's own record of its sessions, read without touching it: the transcript tables of an OpenClaw home become
//! log events.
//!
//! **Invariant:** nothing below the home is written, made, locked or opened by SQLite, and no link is followed there.
//! **Invariant:** what is in the files is hostile: sizes, times and steps are bounded, and a table that is none is
//! refused.
//! **Invariant:** a schema that is not known is not read at all.
//! **Invariant:** each stored event is handed over once, whatever is killed when: see [`Source`].
//!
//! It is the weakest of the ways to watch an OpenClaw: after the fact, and the agent can write this record. `cli` and
//! `capture` (to catch up) use it. Start at [`Importer::pull`].

mod error;
mod event;
mod home;
mod import;
mod row;
mod snapshot;

#[cfg(test)]
mod tests;

pub use error::{TranscriptsError, TranscriptsErrorKind};
pub use event::{Body, LogEvent, NotASource, Source};
pub use home::Home;
pub use import::{Importer, Ledger, Pulled};

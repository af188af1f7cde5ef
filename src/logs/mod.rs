//! Log directories: bytes to events, events to turns.
//!
//! A read pass ([`read()`], or [`ReadPass`] file by file) looks only at what is new and tells a [`Sink`] where the turns
//! are; a [`Loader`] then fetches the text of one turn. [`LogWriter`] writes files of the same kind.
//!
//! **Invariant:** a file is data, never an error: whatever stands in it costs at most its own line, is told as a
//! [`Reject`], and cannot hide its neighbours or itself.
//! **Invariant:** memory is bounded, whatever the size of files, lines, runs or nesting.
//! **Invariant:** streamed deltas never stand for a text that came whole: they are out of order.
//! **Invariant:** knows nothing of workflows, stores or detectors. Called by `patrol`, `police`, `capture` and `cli`.

mod assemble;
mod browse;
mod delta;
mod draft;
mod error;
mod frame;
mod json;
mod lines;
mod list;
mod load;
mod parts;
mod read;
mod record;
mod scan;
mod source;
mod tail;
mod who;
mod writer;

#[cfg(test)]
mod tests;

pub use assemble::Assembler;
pub use browse::{FileSummary, summaries};
pub use error::{LogsError, LogsErrorKind};
pub use frame::MAX_ENTRY;
pub use lines::EventLine;
pub use list::{FileState, LogFile, Mark, changed, list};
pub use load::Loader;
pub use read::{FileChange, Identity, ReadPass, ReadStats, Reject, RejectReason, Sink, read};
pub use record::{Extents, TurnRecord};
pub use source::sources;
pub use tail::{Follower, Seen, tail};
pub use who::Sessions;
pub use writer::LogWriter;

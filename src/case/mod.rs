//! The domain's plain data: what was said and done, what was found in it, and what was concluded.
//!
//! **Invariant:** no I/O, no storage, no wire formats of others. Every type here is what it is in memory,
//! in a graph's state, in a store's JSON column and in `--format json` alike.

mod evidence;
mod flag;
mod turn;
mod verdict;

pub use evidence::{Evidence, Finding};
pub use flag::{FlagVote, PatrolFlag};
pub use turn::{Part, PartKind, Role, StreamId, Turn};
pub use verdict::{CaseFile, Category, CategoryCount, Severity};

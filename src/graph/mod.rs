//! Graph files: TOML text with spans → all faults at once → a checked [`Graph`].
//!
//! [`check()`] reads a file against a [`Catalog`] of what the host program offers and gives a [`Graph`] or all
//! [`Faults`]; [`check_all`] gives its warnings too. [`draw()`] shows a graph, [`compare`] two versions of one,
//! [`schema`] the file format. `engine` runs what comes out of here, `cli` shows the faults. Start
//! reading at `check.rs`, which says what the checks assume of a run; the file format is in `file`.
//!
//! **Invariant:** sync, and knows nothing of the engine that runs a graph.
//! **Invariant:** no text of a graph file, however hostile, panics here or reaches a terminal unescaped.

mod catalog;
mod check;
mod checked;
mod codes;
mod diff;
mod document;
mod draw;
mod expr;
mod fault;
mod file;
mod node;
mod suggest;
mod ty;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Field, PromptInfo, TaskSignature, TypeInfo};
pub use check::{check, check_all, check_kept};
pub use checked::{
    Barrier, Budget, ChannelIdx, Durability, Graph, Migration, NodeIdx, Reducer, Retention, StateChannel,
    Trust,
};
pub use codes::{CODES, CodeInfo, explain};
pub use diff::{Change, compare};
pub use document::duration;
pub use draw::{Format, draw};
pub use expr::{Expr, ExprError};
pub use fault::{Fault, FaultReport, Faults, Label, Level, RelatedPlace};
pub use file::{schema, uses};
pub use node::{
    Arm, BREAKER, Cache, Each, Effect, ErrorArm, Gate, Join, Need, Node, NodeKind, OnItemError, Parallel,
    Retry, Tolerate,
};
pub use ty::Type;

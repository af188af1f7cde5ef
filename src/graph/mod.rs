//! Graph files: TOML text with spans → all faults at once → a checked [`Graph`].
//!
//! **Invariant:** sync, and knows nothing of the engine that runs a graph.

mod catalog;
mod check;
mod checked;
mod codes;
mod document;
mod expr;
mod fault;
mod file;
mod suggest;
mod ty;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Field, PromptInfo, TaskSignature, TypeInfo};
pub use check::check;
pub use checked::{
    Arm, ChannelIdx, Durability, Each, Graph, Node, NodeIdx, NodeKind, Parallel, Reducer, Retry, StateChannel,
};
pub use codes::{CODES, CodeInfo, explain};
pub use expr::{Expr, ExprError};
pub use fault::{Fault, FaultReport, Faults, Label, RelatedPlace};
pub use ty::Type;

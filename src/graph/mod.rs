//! Graph files: TOML text with spans → all faults at once → a checked [`Graph`].
//!
//! **Invariant:** sync, and knows nothing of the engine that runs a graph.

mod catalog;
mod checked;
mod expr;
mod ty;

pub use catalog::{Catalog, Field, PromptInfo, TaskSignature, TypeInfo};
pub use checked::{
    Arm, ChannelIdx, Durability, Each, Graph, Node, NodeIdx, NodeKind, Parallel, Reducer, Retry, StateChannel,
};
pub use expr::{Expr, ExprError};
pub use ty::Type;

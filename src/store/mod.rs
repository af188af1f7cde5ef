//! SQLite: opening, migrating, one writer a file, typed repositories.
//!
//! **Invariant:** knows nothing of workflows: rows in, rows out.
//! **Invariant:** every write transaction is `BEGIN IMMEDIATE` behind a patient busy handler, so that several
//! processes on one file wait for each other instead of failing.
//!
//! Start reading at [`sqlite::open`]. `checkpoints.rs` keeps the logs of graph runs, `patrol_state.rs` what patrol has
//! read, reviewed and flagged, `police.rs` the escalation queue and the case files, `usage.rs` what models cost, `egress.rs` what went out of a sandbox; `export.rs`
//! writes files from them.

mod checkpoints;
pub mod egress;
pub mod export;
mod fold;
pub mod patrol_state;
pub mod police;
mod repository;
pub mod sqlite;
pub mod usage;

pub use checkpoints::SqliteCheckpointer;
pub use sqlite::{Change, Migration, StoreError, StoreErrorKind};

use crate::engine::NodeError;

impl From<StoreError> for NodeError {
    /// A store that fails may work next time: another process held it too long, a disk was full.
    fn from(error: StoreError) -> Self {
        Self::transient(crate::text::causes(&error)).because(error)
    }
}

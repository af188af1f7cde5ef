//! SQLite: opening, migrating, one writer a file, typed repositories.
//!
//! **Invariant:** knows nothing of workflows: rows in, rows out.
//! **Invariant:** every write transaction is `BEGIN IMMEDIATE` behind a patient busy handler, so that several
//! processes on one file wait for each other instead of failing.
//!
//! Start reading at [`sqlite::open`]; `checkpoints.rs` keeps the logs of graph runs.

mod checkpoints;
pub mod sqlite;

pub use checkpoints::SqliteCheckpointer;
pub use sqlite::{Change, Migration, StoreError, StoreErrorKind};

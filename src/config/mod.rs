//! What the user asked for: environment and flags → plain settings that each room takes.
//!
//! **Invariant:** the only room that reads the process environment. Secrets come out wrapped and leave the
//! wrapper only where a request is signed. Start reading at [`mod@env`], the registry of variables.

pub mod env;
mod models;
mod paths;

pub use models::{ModelChoice, model_choices};
pub use paths::{Paths, folder_beside_config};

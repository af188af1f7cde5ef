//! What the user asked for: `sentrix.toml`, environment and flags → plain settings that each room takes.
//!
//! **Invariant:** the only room that reads the process environment. Secrets come out wrapped and leave the
//! wrapper only where a request is signed; none is ever part of a message.
//! **Invariant:** every fault of every file and variable is told in one go, with its place; every value knows its
//! [`Origin`].
//!
//! [`Config::load`] reads; `cli` calls it. Start reading at `settings.rs`, the list of all settings, and [`mod@env`], the
//! list of all variables; `load.rs` lays one layer over the other, `models.rs` casts the roles.

mod choice;
mod document;
mod dotenv;
pub mod env;
mod fault;
mod keys;
mod kind;
mod load;
mod models;
mod origin;
mod paths;
mod schema;
mod settings;
mod show;
mod template;
#[cfg(test)]
mod tests;
mod view;
mod warnings;
mod words;

pub use choice::{DmPolicy, Egress, Escalation, Exec, Reasoning};
pub use fault::{ConfigError, Fault, FaultReport, Level, count, render};
pub use keys::Key;
pub use load::{Config, Flags};
pub use origin::Origin;
pub use paths::{Paths, folder_beside_config, sandbox_root};
pub use schema::schema;
pub use show::Row;
pub use template::template;
pub use view::{AgentConfig, Channel, PatrolConfig, PoliceConfig, SearchConfig, SecurityConfig};

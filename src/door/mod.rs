//! The door: the only way out of a sandbox, a forward proxy that lets through what a rule allows and tells of every attempt.
//!
//! **Invariant:** deny by default; addresses are never allowed, names are, and what a name leads to is looked at before the
//! connection goes exactly there.
//! **Invariant:** what goes through a tunnel names the host that the tunnel is for, in its first message or in every request.
//! **Invariant:** everything a client can make grow is bounded: headers, first messages, connections, waits, events.
//! **Invariant:** nothing goes out unrecorded. Where an event finds no place in time, the attempt is refused.
//!
//! What it cannot see: requests inside TLS, so a server that answers for several hosts may be asked for another of its own
//! (domain fronting), and what is carried out in the data of an allowed destination.
//!
//! `cli` opens it for `sentrix run` and edits its rules in `sentrix egress`; `store` keeps its events. Start reading at
//! [`Door::open`], then `serve.rs`, `dial.rs` and `tunnel.rs`.

mod address;
mod answer;
mod dial;
pub mod edit;
mod event;
mod fault;
pub mod file;
mod forward;
mod hello;
mod limits;
mod listener;
mod live;
mod name;
mod open;
mod outside;
mod probe;
mod record;
mod rule;
mod serve;
mod tunnel;

pub use address::{Special, special};
pub use event::{EgressEvent, Method, Reason, Verdict};
pub use fault::{DoorError, DoorErrorKind, RuleFault, render};
pub use limits::Limits;
pub use listener::{DoorAddress, DoorListener};
pub use name::{HOST_ALIAS, Host, NameFault, Target};
pub use open::{Counters, Door, Fittings};
pub use outside::{Outside, System};
pub use probe::{Found, Probe};
pub use record::{MemorySink, Sink};
pub use rule::{Decision, Destination, Origin, Pattern, Policy, Rule, Rules};

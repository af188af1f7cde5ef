//! The sandbox: OpenClaw in a container that holds it, at a Docker engine.
//!
//! Find the engine ([`Engine::find`]), lay out the sandbox's folder ([`Layout`]), make and start the container
//! ([`ContainerSpec`], [`Engine::create`]), wait for OpenClaw ([`Engine::wait_ready`]), prove that it holds
//! ([`selftest`]), and take everything away again ([`Engine::reap`]).
//!
//! **Invariant:** the container is hostile from its first instruction: what it writes is read without following links,
//! within limits, and shown through `text::plain`.
//! **Invariant:** nothing at the engine that has not our label is changed.
//! **Invariant:** no key is in an environment variable, an argument or a label.
//! **Invariant:** it knows nothing of workflows, patrol or police; what leaves the sandbox is `door`'s.
//!
//! `cli` calls it.

mod container;
mod engine;
mod error;
pub mod evidence;
mod exec;
mod image;
mod layout;
mod name;
mod ready;
mod relax;
pub mod selftest;
mod socket;
mod spec;
mod talk;

pub use container::{Found, GRACE, Reaped, State, Status};
pub use engine::{Attempt, Diagnosis, Engine, EngineHints, Facts, Limits, Outcome};
pub use error::{Death, SandboxError, SandboxErrorKind};
pub use exec::{Exec, ExecOutput, Process, Stats};
pub use image::{
    BakedChannel, BuildEvent, BuildOptions, DEFAULT_BASE, DEFAULT_IMAGE, DEFAULT_OPENCLAW, ImageFacts,
    ImageState, Wanted, folder_hash,
};
pub use layout::{Layout, Owner, Record};
pub use name::{Label, SandboxName};
pub use ready::{READY, Stage};
pub use relax::{Guard, Relax, Relaxations};
pub use spec::{ContainerSpec, Egress, GIB, Inside, LARGEST_FILE, LEAST_MEMORY, SECCOMP, inside};

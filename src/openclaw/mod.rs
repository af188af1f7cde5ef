//! What OpenClaw is, as far as Sentrix has to know it: names and shapes of what it writes, in one place, each with
//! where it was seen.
//!
//! **Invariant:** every fact about a version of OpenClaw stands here and nowhere else.
//! **Invariant:** no I/O; nothing here knows Docker, log files or workflows.
//!
//! `logs`, `gateway` and `capture` call it. Start at [`event`].

pub mod config;
pub mod event;
pub mod gateway;
pub mod session;
pub mod transcript;

//! The connection to `OpenClaw`'s gateway: a WebSocket client of protocol 4.
//!
//! Whoever watches or talks to an `OpenClaw` comes here: `capture` as an observer, `cli::chat` as a person. What frames
//! look like is in [`crate::openclaw::gateway`].
//!
//! **Invariant:** the other side is hostile from its first byte: each message is bounded, each queue too, each wait has a
//! limit, and what it says reaches an error only bounded and without control characters.
//! **Invariant:** the token is in no error, log or `Debug`.
//! **Invariant:** nothing is dropped silently: what the queue of events could not take comes as [`Event::Gap`].
//!
//! Start at [`Client::connect`].

mod client;
mod device;
mod error;
mod events;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

pub use client::{Client, Connect};
pub use device::DeviceKey;
pub use error::{Ending, GatewayError, GatewayErrorKind};
pub use events::{Event, EventFrame, Events};
pub use socket::{Address, probe};

//! `sentrix run`
mod args;
mod beat;
mod boot;
mod control;
mod hidden;
mod port;
mod snapshot;
mod view;
pub use args::RunArgs;

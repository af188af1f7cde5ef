//! Danger.
use super::{Parts, Scope};
use crate::graph::fault::Fault;
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {}

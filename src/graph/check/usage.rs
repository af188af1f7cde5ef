//! Usage.
use super::{Parts, Scope};
use crate::graph::fault::Fault;
use crate::graph::file::RawHeader;
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {}
pub(super) fn dataflow(parts: &Parts<'_>, raw: &RawHeader, faults: &mut Vec<Fault>) {}

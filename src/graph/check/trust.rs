//! Trust.
use super::node::Face;
use super::{Parts, Scope};
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;

pub(super) fn validates(
    raw: &RawNode,
    scope: &Scope<'_>,
    face: &Face,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    Vec::new()
}
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {}

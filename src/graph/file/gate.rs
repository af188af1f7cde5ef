//! What only a gate has.

use toml::Spanned;

use crate::graph::document::{Slot, Table};
use crate::graph::fault::Fault;

/// A gate's options: each with the nodes it leads to.
pub(in crate::graph) type RawOptions = Vec<(Spanned<String>, Slot<Vec<Spanned<String>>>)>;

/// The keys of a gate.
#[derive(Debug)]
pub(in crate::graph) struct RawGate {
    pub(in crate::graph) ask: Slot<String>,
    pub(in crate::graph) options: Slot<RawOptions>,
    pub(in crate::graph) who: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) shows: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) on_timeout: Slot<String>,
    pub(in crate::graph) answer: Slot<String>,
}

impl Default for RawGate {
    fn default() -> Self {
        Self {
            ask: Slot::Absent,
            options: Slot::Absent,
            who: Slot::Absent,
            shows: Slot::Absent,
            on_timeout: Slot::Absent,
            answer: Slot::Absent,
        }
    }
}

pub(super) fn read(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> RawGate {
    RawGate {
        ask: table.string("ask", faults),
        options: options(table, faults),
        who: table.strings("who", "a list of people or roles", faults),
        shows: table.strings("shows", "a list of channel names", faults),
        on_timeout: table.string("on_timeout", faults),
        answer: table.string("answer", faults),
    }
}

fn options(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawOptions> {
    let title = format!("`options` of {}", table.title);
    let inner = match table.table("options", title, faults) {
        Slot::Given(inner) => inner,
        Slot::Absent => return Slot::Absent,
        Slot::Broken => return Slot::Broken,
    };
    let span = inner.span();
    let inner = inner.into_inner();
    let mut out = Vec::new();
    for (name, value) in inner.entries() {
        let to = inner.strings_of(name.get_ref(), "a node or a list of nodes", value, faults);
        out.push((Spanned::new(name.span(), (*name.get_ref()).to_owned()), to));
    }
    Slot::Given(Spanned::new(span, out))
}

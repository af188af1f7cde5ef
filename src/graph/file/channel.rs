//! A channel under `[state]`.

use serde_json::Value;
use toml::Spanned;

use super::json_slot;
use crate::graph::document::{Slot, Table};
use crate::graph::fault::Fault;

/// A channel under `[state]`.
#[derive(Debug)]
pub(in crate::graph) struct RawChannel {
    pub(in crate::graph) name: Spanned<String>,
    pub(in crate::graph) ty: Slot<String>,
    pub(in crate::graph) reducer: Slot<String>,
    pub(in crate::graph) default: Slot<Value>,
    pub(in crate::graph) input: Slot<bool>,
    pub(in crate::graph) output: Slot<bool>,
    pub(in crate::graph) max_items: Slot<u32>,
    pub(in crate::graph) persist: Slot<bool>,
    pub(in crate::graph) secret: Slot<bool>,
    pub(in crate::graph) trust: Slot<String>,
}

impl RawChannel {
    pub(super) fn broken(name: Spanned<String>) -> Self {
        Self {
            name,
            ty: Slot::Broken,
            reducer: Slot::Absent,
            default: Slot::Absent,
            input: Slot::Absent,
            output: Slot::Absent,
            max_items: Slot::Absent,
            persist: Slot::Absent,
            secret: Slot::Absent,
            trust: Slot::Absent,
        }
    }
}

pub(super) fn read(name: Spanned<String>, mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawChannel {
    let channel = RawChannel {
        name,
        ty: table.string("type", faults),
        reducer: table.string("reducer", faults),
        default: match table.get("default") {
            None => Slot::Absent,
            Some((_, value)) => json_slot("default", value, faults),
        },
        input: table.bool("input", faults),
        output: table.bool("output", faults),
        max_items: table.int("max_items", 1..=10_000_000, faults),
        persist: table.bool("persist", faults),
        secret: table.bool("secret", faults),
        trust: table.string("trust", faults),
    };
    if channel.ty.is_absent() {
        faults.push(table.missing("type", "add `type = \"…\"`, as `int`, `string?`, `Vote[]` or `any`"));
    }
    table.finish(faults);
    channel
}

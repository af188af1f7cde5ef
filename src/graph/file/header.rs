//! `[graph]` and `[[migrate]]`.

use std::ops::Range;
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::policy::{RawBudget, budget};
use super::{Pairs, pairs, values};
use crate::graph::document::{Slot, Table};
use crate::graph::fault::Fault;

/// The section `[graph]`.
#[derive(Debug)]
pub(in crate::graph) struct RawHeader {
    pub(in crate::graph) name: Slot<String>,
    pub(in crate::graph) version: Slot<u32>,
    pub(in crate::graph) description: Slot<String>,
    pub(in crate::graph) start: Slot<String>,
    pub(in crate::graph) max_steps: Slot<u32>,
    pub(in crate::graph) deadline: Slot<Duration>,
    pub(in crate::graph) durability: Slot<String>,
    pub(in crate::graph) barrier: Slot<String>,
    pub(in crate::graph) budget: Slot<RawBudget>,
    pub(in crate::graph) finally: Slot<String>,
    pub(in crate::graph) retention: Slot<RawRetention>,
}

/// A `retention` table.
#[derive(Clone, Debug)]
pub(in crate::graph) struct RawRetention {
    pub(in crate::graph) keep_last: Slot<u32>,
    pub(in crate::graph) max_age: Slot<Duration>,
}

/// One `[[migrate]]`.
#[derive(Debug)]
pub(in crate::graph) struct RawMigration {
    pub(in crate::graph) from: Slot<u32>,
    pub(in crate::graph) to: Slot<u32>,
    pub(in crate::graph) rename: Pairs,
    pub(in crate::graph) default: Vec<(Spanned<String>, Spanned<Value>)>,
    pub(in crate::graph) drop: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) nodes: Pairs,
    pub(in crate::graph) span: Range<usize>,
}

impl RawHeader {
    pub(super) fn broken() -> Self {
        Self {
            name: Slot::Broken,
            version: Slot::Absent,
            description: Slot::Absent,
            start: Slot::Broken,
            max_steps: Slot::Absent,
            deadline: Slot::Absent,
            durability: Slot::Absent,
            barrier: Slot::Absent,
            budget: Slot::Absent,
            finally: Slot::Absent,
            retention: Slot::Absent,
        }
    }
}

pub(super) fn read(mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawHeader {
    let header = RawHeader {
        name: table.string("name", faults),
        version: table.int("version", 1..=u32::MAX, faults),
        description: table.string("description", faults),
        start: table.string("start", faults),
        max_steps: table.int("max_steps", 1..=1_000_000, faults),
        deadline: table.duration("deadline", faults),
        durability: table.string("durability", faults),
        barrier: table.string("barrier", faults),
        budget: budget(&mut table, faults),
        finally: table.string("finally", faults),
        retention: table.inner("retention", faults, |inner, faults| RawRetention {
            keep_last: inner.int("keep_last", 1..=u32::MAX, faults),
            max_age: inner.duration("max_age", faults),
        }),
    };
    if header.name.is_absent() {
        faults.push(table.missing("name", "add `name = \"…\"`: what `sentrix graph run` calls it"));
    }
    if header.start.is_absent() {
        faults.push(table.missing("start", "add `start = \"…\"`: the node that runs first"));
    }
    table.finish(faults);
    header
}

/// The tables of `[[migrate]]`, in file order.
pub(super) fn migrations(root: &mut Table<'_>, faults: &mut Vec<Fault>) -> Vec<RawMigration> {
    let Some((_, value)) = root.get("migrate") else { return Vec::new() };
    let Some(items) = value.get_ref().as_array() else {
        faults.push(root.wrong_type("migrate", "a list of tables, each begun with `[[migrate]]`", value));
        return Vec::new();
    };
    let mut out = Vec::new();
    for item in items {
        if let DeValue::Table(inner) = item.get_ref() {
            out.push(migration(Table::new(inner, "[[migrate]]", item.span()), faults));
        } else {
            faults.push(root.wrong_type("migrate", "a list of tables, each begun with `[[migrate]]`", item));
        }
    }
    out
}

fn migration(mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawMigration {
    let migration = RawMigration {
        from: table.int("from", 1..=u32::MAX, faults),
        to: table.int("to", 1..=u32::MAX, faults),
        rename: pairs(&mut table, "rename", "the new name of the channel in quotes", faults),
        default: values(&mut table, "default", faults),
        drop: table.strings("drop", "a list of channel names", faults),
        nodes: pairs(&mut table, "nodes", "the new name of the node in quotes", faults),
        span: table.span.clone(),
    };
    for (slot, key) in [(&migration.from, "from"), (&migration.to, "to")] {
        if slot.is_absent() {
            faults.push(table.missing(key, "a migration leads `from` one version `to` a later one"));
        }
    }
    table.finish(faults);
    migration
}

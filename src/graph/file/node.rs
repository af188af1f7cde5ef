//! A node.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::gate::{self, RawGate};
use super::policy::{self, RawBudget, RawCache, RawJoin, RawPolicy, budget};
use super::{Pairs, pairs, values};
use crate::graph::codes;
use crate::graph::document::{Slot, Table, in_range, integer, narrow};
use crate::graph::fault::Fault;

/// A node.
#[derive(Debug)]
pub(in crate::graph) struct RawNode {
    pub(in crate::graph) name: Spanned<String>,
    pub(in crate::graph) kind: Slot<String>,
    pub(in crate::graph) task: Slot<String>,
    pub(in crate::graph) prompt: Slot<String>,
    pub(in crate::graph) model: Slot<String>,
    pub(in crate::graph) output: Slot<String>,
    pub(in crate::graph) graph: Slot<String>,
    pub(in crate::graph) description: Slot<String>,
    pub(in crate::graph) gate: RawGate,
    pub(in crate::graph) each: Slot<RawEach>,
    pub(in crate::graph) with: Vec<(Spanned<String>, Spanned<Value>)>,
    pub(in crate::graph) effect: Slot<String>,
    pub(in crate::graph) validates: Slot<RawValidates>,
    pub(in crate::graph) overwrite: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) policy: RawPolicy,
    pub(in crate::graph) cache: Slot<RawCache>,
    pub(in crate::graph) join: Slot<RawJoin>,
    pub(in crate::graph) defer: Slot<bool>,
    pub(in crate::graph) max_visits: Slot<u32>,
    pub(in crate::graph) goto: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) send: Slot<Vec<Spanned<String>>>,
    /// `reads`, or `in` of a graph.
    pub(in crate::graph) reads: Pairs,
    /// `writes`, or `out` of a graph.
    pub(in crate::graph) writes: Pairs,
    pub(in crate::graph) next: Slot<RawNext>,
    /// Places of the keys, for faults about keys as such.
    pub(in crate::graph) keys: Vec<(String, Range<usize>)>,
}

impl RawNode {
    pub(super) fn broken(name: Spanned<String>) -> Self {
        Self {
            name,
            kind: Slot::Absent,
            task: Slot::Broken,
            prompt: Slot::Absent,
            model: Slot::Absent,
            output: Slot::Absent,
            graph: Slot::Absent,
            description: Slot::Absent,
            gate: RawGate::default(),
            each: Slot::Absent,
            with: Vec::new(),
            effect: Slot::Absent,
            validates: Slot::Absent,
            overwrite: Slot::Absent,
            policy: RawPolicy::default(),
            cache: Slot::Absent,
            join: Slot::Absent,
            defer: Slot::Absent,
            max_visits: Slot::Absent,
            goto: Slot::Absent,
            send: Slot::Absent,
            reads: Vec::new(),
            writes: Vec::new(),
            next: Slot::Broken,
            keys: Vec::new(),
        }
    }

    /// Whether the file gives this key.
    pub(in crate::graph) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|(name, _)| name == key)
    }

    /// Where a key of the node is; the node's name if it is not there.
    pub(in crate::graph) fn key_span(&self, key: &str) -> Range<usize> {
        let place = self.keys.iter().find(|(name, _)| name == key).map(|(_, span)| span.clone());
        place.unwrap_or_else(|| self.name.span())
    }
}

/// A fan-out.
#[derive(Debug)]
pub(in crate::graph) struct RawEach {
    pub(in crate::graph) over: Slot<String>,
    pub(in crate::graph) item: Slot<String>,
    pub(in crate::graph) max_parallel: Slot<RawParallel>,
    pub(in crate::graph) batch: Slot<u32>,
    pub(in crate::graph) tolerate: Slot<RawTolerate>,
    pub(in crate::graph) on_item_error: Slot<String>,
    pub(in crate::graph) status: Slot<String>,
    pub(in crate::graph) budget: Slot<RawBudget>,
}

/// A fan-out's limit.
#[derive(Clone, Debug)]
pub(in crate::graph) enum RawParallel {
    Fixed(u32),
    Channel(String),
}

/// How many tasks of a fan-out may fail.
#[derive(Clone, Debug)]
pub(in crate::graph) enum RawTolerate {
    Count(u32),
    Text(String),
}

/// What a node vouches for.
#[derive(Clone, Debug)]
pub(in crate::graph) enum RawValidates {
    All(bool),
    Fields(Vec<Spanned<String>>),
}

/// Where to go next.
#[derive(Debug)]
pub(in crate::graph) enum RawNext {
    /// To these, at once.
    Direct(Vec<Spanned<String>>),
    /// Arms with conditions.
    Arms(Vec<Spanned<RawArm>>),
}

/// One arm; an `else` arm has no condition.
#[derive(Debug)]
pub(in crate::graph) struct RawArm {
    pub(in crate::graph) is_else: bool,
    pub(in crate::graph) when: Slot<String>,
    pub(in crate::graph) to: Slot<Vec<Spanned<String>>>,
}

pub(super) fn read(name: Spanned<String>, mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawNode {
    let keys = table.entries().iter().map(|(key, _)| ((*key.get_ref()).to_owned(), key.span())).collect();
    let channel = "the name of a channel in quotes";
    let mut node = RawNode {
        kind: table.string("kind", faults),
        task: table.string("task", faults),
        prompt: table.string("prompt", faults),
        model: table.string("model", faults),
        output: table.string("output", faults),
        graph: table.string("graph", faults),
        description: table.string("description", faults),
        gate: gate::read(&mut table, faults),
        each: each(&mut table, faults),
        with: values(&mut table, "with", faults),
        effect: table.string("effect", faults),
        validates: validates(&mut table, faults),
        overwrite: table.strings("overwrite", "a list of output fields", faults),
        policy: policy::read(&mut table, faults),
        cache: policy::cache(&mut table, faults),
        join: policy::join(&mut table, faults),
        defer: table.bool("defer", faults),
        max_visits: table.int("max_visits", 1..=1_000_000, faults),
        goto: table.strings("goto", "a list of nodes", faults),
        send: table.strings("send", "a list of nodes", faults),
        reads: pairs(&mut table, "reads", channel, faults),
        writes: pairs(&mut table, "writes", channel, faults),
        next: next(&mut table, faults),
        name,
        keys,
    };
    node.reads.extend(pairs(&mut table, "in", channel, faults));
    node.writes.extend(pairs(&mut table, "out", channel, faults));
    table.finish(faults);
    node
}

fn each(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawEach> {
    table.inner("each", faults, |inner, faults| {
        let each = RawEach {
            over: inner.string("over", faults),
            item: inner.string("as", faults),
            max_parallel: max_parallel(inner, faults),
            batch: inner.int("batch", 1..=100_000, faults),
            tolerate: tolerate(inner, faults),
            on_item_error: inner.string("on_item_error", faults),
            status: inner.string("status", faults),
            budget: budget(inner, faults),
        };
        if each.over.is_absent() {
            faults.push(inner.missing("over", "add `over = \"…\"`: the list channel, one run for each item"));
        }
        if each.item.is_absent() {
            faults.push(inner.missing("as", "add `as = \"…\"`: the input field that gets the item"));
        }
        each
    })
}

fn max_parallel(inner: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawParallel> {
    let Some((_, value)) = inner.get("max_parallel") else { return Slot::Absent };
    match (value.get_ref().as_str(), integer(value.get_ref())) {
        (Some(name), _) => Slot::Given(Spanned::new(value.span(), RawParallel::Channel(name.to_owned()))),
        (None, Some(number)) => {
            counted(in_range("max_parallel", number, value.span(), 1..=1024, faults), RawParallel::Fixed)
        }
        (None, None) => {
            faults.push(inner.wrong_type("max_parallel", "a number or the name of an `int` channel", value));
            Slot::Broken
        }
    }
}

fn tolerate(inner: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawTolerate> {
    let Some((_, value)) = inner.get("tolerate") else { return Slot::Absent };
    match (value.get_ref().as_str(), integer(value.get_ref())) {
        (Some(text), _) => Slot::Given(Spanned::new(value.span(), RawTolerate::Text(text.to_owned()))),
        (None, Some(number)) => {
            let most = u64::from(u32::MAX);
            counted(in_range("tolerate", number, value.span(), 0..=most, faults), RawTolerate::Count)
        }
        (None, None) => {
            faults.push(inner.wrong_type("tolerate", "a number, or a part as `\"10%\"`", value));
            Slot::Broken
        }
    }
}

fn counted<T>(slot: Slot<u64>, make: impl FnOnce(u32) -> T) -> Slot<T> {
    let Slot::Given(number) = slot else { return Slot::Broken };
    match narrow(&number) {
        Slot::Given(number) => Slot::Given(Spanned::new(number.span(), make(number.into_inner()))),
        Slot::Absent | Slot::Broken => Slot::Broken,
    }
}

fn validates(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawValidates> {
    let Some((_, value)) = table.get("validates") else { return Slot::Absent };
    if let Some(all) = value.get_ref().as_bool() {
        return Slot::Given(Spanned::new(value.span(), RawValidates::All(all)));
    }
    match table.strings_of("validates", "`true` or a list of output fields", value, faults) {
        Slot::Given(fields) => {
            Slot::Given(Spanned::new(value.span(), RawValidates::Fields(fields.into_inner())))
        }
        Slot::Absent | Slot::Broken => Slot::Broken,
    }
}

fn next(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawNext> {
    let Some((_, value)) = table.get("next") else { return Slot::Absent };
    let has_tables = match value.get_ref() {
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    };
    if !has_tables {
        let wanted = "a node, a list of nodes or a list of arms";
        return match table.strings_of("next", wanted, value, faults) {
            Slot::Given(targets) => {
                Slot::Given(Spanned::new(value.span(), RawNext::Direct(targets.into_inner())))
            }
            Slot::Absent | Slot::Broken => Slot::Broken,
        };
    }
    let mut arms = Vec::new();
    let items: Vec<_> = value.get_ref().as_array().into_iter().flatten().collect();
    for (position, item) in items.iter().enumerate() {
        let raw = if let DeValue::Table(inner) = item.get_ref() {
            arm(Table::new(inner, format!("an arm of {}", table.title), item.span()), faults)
        } else {
            faults.push(Fault::new(
                codes::BAD_NEXT,
                item.span(),
                "no arm",
                format!("`next` of {} mixes arms and node names", table.title),
                "write this one as an arm too: `{ else = \"node\" }` is taken where no condition holds",
            ));
            RawArm { is_else: position + 1 == items.len(), when: Slot::Broken, to: Slot::Broken }
        };
        arms.push(Spanned::new(item.span(), raw));
    }
    Slot::Given(Spanned::new(value.span(), RawNext::Arms(arms)))
}

fn arm(mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawArm {
    let when = table.string("if", faults);
    let wanted = "a node or a list of nodes";
    let to = table.strings("to", wanted, faults);
    let otherwise = table.strings("else", wanted, faults);
    let is_else = !otherwise.is_absent();
    if is_else {
        for key in ["if", "to"] {
            if let Some(span) = table.key_span(key) {
                faults.push(Fault::new(
                    codes::BAD_NEXT,
                    span,
                    format!("`{key}` beside `else`"),
                    format!("{} has both `else` and `{key}`", table.title),
                    "write two arms: `{ if = \"…\", to = \"node\" }, { else = \"node\" }`",
                ));
            }
        }
    } else {
        if when.is_absent() {
            faults.push(table.missing("if", "add `if = \"…\"`, or write the arm as `{ else = \"node\" }`"));
        }
        if to.is_absent() {
            faults.push(table.missing("to", "add `to = \"node\"`, or `to = \"end\"`"));
        }
    }
    table.finish(faults);
    RawArm { is_else, when, to: if is_else { otherwise } else { to } }
}

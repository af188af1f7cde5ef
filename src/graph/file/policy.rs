//! What nodes and `[defaults]` may say about time, failure, cost and waiting.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::graph::codes;
use crate::graph::document::{Slot, Table};
use crate::graph::fault::Fault;

/// What `[defaults]` and a node may say about failing.
#[derive(Debug)]
pub(in crate::graph) struct RawPolicy {
    pub(in crate::graph) timeout: Slot<Duration>,
    pub(in crate::graph) idle_timeout: Slot<Duration>,
    pub(in crate::graph) retry: Slot<RawRetry>,
    pub(in crate::graph) budget: Slot<RawBudget>,
    pub(in crate::graph) breaker: Slot<u32>,
    pub(in crate::graph) on_error: Slot<Vec<Spanned<RawErrorArm>>>,
}

impl Default for RawPolicy {
    fn default() -> Self {
        Self {
            timeout: Slot::Absent,
            idle_timeout: Slot::Absent,
            retry: Slot::Absent,
            budget: Slot::Absent,
            breaker: Slot::Absent,
            on_error: Slot::Absent,
        }
    }
}

/// A `retry` table.
#[derive(Clone, Debug)]
pub(in crate::graph) struct RawRetry {
    pub(in crate::graph) attempts: Slot<u32>,
    pub(in crate::graph) backoff: Slot<Duration>,
    pub(in crate::graph) max_backoff: Slot<Duration>,
    pub(in crate::graph) factor: Slot<f64>,
    pub(in crate::graph) jitter: Slot<bool>,
    pub(in crate::graph) on: Slot<Vec<Spanned<String>>>,
}

/// A `budget` table.
#[derive(Clone, Debug)]
pub(in crate::graph) struct RawBudget {
    pub(in crate::graph) tokens: Slot<u64>,
    pub(in crate::graph) usd: Slot<f64>,
    pub(in crate::graph) wall: Slot<Duration>,
    pub(in crate::graph) steps: Slot<u32>,
}

/// An arm of `on_error`.
#[derive(Clone, Debug)]
pub(in crate::graph) struct RawErrorArm {
    pub(in crate::graph) on: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) to: Slot<Vec<Spanned<String>>>,
    pub(in crate::graph) write: Slot<String>,
}

/// A `cache` table.
#[derive(Debug)]
pub(in crate::graph) struct RawCache {
    pub(in crate::graph) key: Slot<String>,
    pub(in crate::graph) ttl: Slot<Duration>,
}

/// A `join`: how many, and how long.
#[derive(Debug)]
pub(in crate::graph) struct RawJoin {
    pub(in crate::graph) need: Slot<String>,
    pub(in crate::graph) timeout: Slot<Duration>,
    pub(in crate::graph) on_timeout: Slot<String>,
}

pub(super) fn read(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> RawPolicy {
    let (timeout, idle_timeout) = timeout(table, faults);
    RawPolicy {
        timeout,
        idle_timeout,
        retry: retry(table, faults),
        budget: budget(table, faults),
        breaker: table.int("breaker", 0..=1_000, faults),
        on_error: on_error(table, faults),
    }
}

/// One duration, or `{ run = "60s", idle = "10s" }`.
fn timeout(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> (Slot<Duration>, Slot<Duration>) {
    let is_table = table.get("timeout").is_some_and(|(_, value)| value.get_ref().is_table());
    if !is_table {
        return (table.duration("timeout", faults), Slot::Absent);
    }
    let both = table.inner("timeout", faults, |inner, faults| {
        (inner.duration("run", faults), inner.duration("idle", faults))
    });
    both.get().map_or((Slot::Broken, Slot::Broken), |both| both.get_ref().clone())
}

fn retry(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawRetry> {
    table.inner("retry", faults, |inner, faults| {
        let retry = RawRetry {
            attempts: inner.int("attempts", 1..=100, faults),
            backoff: inner.duration("backoff", faults),
            max_backoff: inner.duration("max_backoff", faults),
            factor: inner.number("factor", faults),
            jitter: inner.bool("jitter", faults),
            on: inner.strings("on", "a list of error classes", faults),
        };
        if retry.attempts.is_absent() {
            faults.push(inner.missing("attempts", "add `attempts = 3`: the first one and two more"));
        }
        retry
    })
}

pub(super) fn budget(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawBudget> {
    table.inner("budget", faults, |inner, faults| RawBudget {
        tokens: inner.whole("tokens", 1..=1_000_000_000_000, faults),
        usd: inner.number("usd", faults),
        wall: inner.duration("wall", faults),
        steps: inner.int("steps", 1..=1_000_000_000, faults),
    })
}

/// A list of arms, or one alone.
fn on_error(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<Vec<Spanned<RawErrorArm>>> {
    let Some((_, value)) = table.get("on_error") else { return Slot::Absent };
    let items: Vec<_> = match value.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        DeValue::Table(_) => vec![value],
        _ => {
            let wanted = "a list of arms, as `[{ on = [\"timeout\"], to = \"node\" }]`";
            faults.push(table.wrong_type("on_error", wanted, value));
            return Slot::Broken;
        }
    };
    let mut arms = Vec::new();
    for item in items {
        if let DeValue::Table(inner) = item.get_ref() {
            let mut arm = Table::new(inner, format!("an `on_error` arm of {}", table.title), item.span());
            let raw = RawErrorArm {
                on: arm.strings("on", "a list of error classes", faults),
                to: arm.strings("to", "a node or a list of nodes", faults),
                write: arm.string("write", faults),
            };
            if raw.to.is_absent() {
                faults.push(arm.missing("to", "add `to = \"node\"`, or `to = \"end\"`"));
            }
            arm.finish(faults);
            arms.push(Spanned::new(item.span(), raw));
        } else {
            faults.push(Fault::new(
                codes::BAD_NEXT,
                item.span(),
                "no arm",
                format!("`on_error` of {} holds something that is no arm", table.title),
                "write it as `{ on = [\"timeout\"], to = \"node\" }`; without `on` it takes every failure",
            ));
        }
    }
    Slot::Given(Spanned::new(value.span(), arms))
}

pub(super) fn cache(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawCache> {
    table.inner("cache", faults, |inner, faults| {
        let cache = RawCache { key: inner.string("key", faults), ttl: inner.duration("ttl", faults) };
        if cache.ttl.is_absent() {
            faults.push(inner.missing("ttl", "add `ttl = \"1h\"`: how long a result stands"));
        }
        cache
    })
}

/// `"all"`, or a table.
pub(super) fn join(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawJoin> {
    let is_table = table.get("join").is_some_and(|(_, value)| value.get_ref().is_table());
    if !is_table {
        return match table.read("join", "`\"all\"`, `\"any\"`, `\"2 of 3\"` or a table", faults, |value| {
            value.as_str().map(str::to_owned)
        }) {
            Slot::Given(text) => {
                let span = text.span();
                let join =
                    RawJoin { need: Slot::Given(text), timeout: Slot::Absent, on_timeout: Slot::Absent };
                Slot::Given(Spanned::new(span, join))
            }
            Slot::Absent => Slot::Absent,
            Slot::Broken => Slot::Broken,
        };
    }
    table.inner("join", faults, |inner, faults| {
        let join = RawJoin {
            need: inner.string("need", faults),
            timeout: inner.duration("timeout", faults),
            on_timeout: inner.string("on_timeout", faults),
        };
        if join.need.is_absent() {
            faults.push(inner.missing("need", "add `need = \"all\"`, `\"any\"` or `\"2 of 3\"`"));
        }
        join
    })
}

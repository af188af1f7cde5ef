//! The graph file as written: every value with its place, nothing resolved yet.
//!
//! Flat structs, lowered by hand: serde's tags and flattening lose the places of values.
//!
//! ```toml
//! [graph]
//! name = "patrol"            # and version, description, max_steps, deadline, durability
//! start = "assign"
//!
//! [defaults]                 # for nodes that do not say: timeout, retry
//! timeout = "60s"
//!
//! [state]                    # type, reducer ("last"), default, input
//! jobs  = { type = "Stream[]", default = [] }
//! votes = { type = "Vote[]", reducer = "append", default = [] }
//!
//! [node.scan]
//! task = "patrol.scan"       # or prompt with model and output
//! each = { over = "jobs", as = "stream", max_parallel = 8 }   # a number or an `int` channel; 4
//! with = { depth = 2 }       # fixed values of input fields
//! reads = { votes = "old" }  # input field = channel, where the names differ
//! writes = { cost = "_" }    # output field = channel; "_" throws it away
//! retry = { attempts = 3, backoff = "500ms", max_backoff = "60s", on = ["transient"] }
//! next = [{ if = "votes | length > 0", to = ["judge", "notify"] }, { else = "end" }]
//! ```

use std::ops::Range;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes;
use super::document::{Slot, Table, in_range, integer, json};
use super::fault::Fault;

/// A graph file.
#[derive(Debug)]
pub(super) struct GraphFile {
    pub(super) graph: RawHeader,
    pub(super) defaults: RawPolicy,
    pub(super) channels: Vec<RawChannel>,
    pub(super) nodes: Vec<RawNode>,
}

/// The section `[graph]`.
#[derive(Debug)]
pub(super) struct RawHeader {
    pub(super) name: Slot<String>,
    pub(super) version: Slot<u32>,
    pub(super) description: Slot<String>,
    pub(super) start: Slot<String>,
    pub(super) max_steps: Slot<u32>,
    pub(super) deadline: Slot<Duration>,
    pub(super) durability: Slot<String>,
}

/// What `[defaults]` and a node may say about failing.
#[derive(Debug)]
pub(super) struct RawPolicy {
    pub(super) timeout: Slot<Duration>,
    pub(super) retry: Slot<RawRetry>,
}

/// A `retry` table.
#[derive(Clone, Debug)]
pub(super) struct RawRetry {
    pub(super) attempts: Slot<u32>,
    pub(super) backoff: Slot<Duration>,
    pub(super) max_backoff: Slot<Duration>,
    pub(super) on: Slot<Vec<Spanned<String>>>,
}

/// A channel under `[state]`.
#[derive(Debug)]
pub(super) struct RawChannel {
    pub(super) name: Spanned<String>,
    pub(super) ty: Slot<String>,
    pub(super) reducer: Slot<String>,
    pub(super) default: Slot<Value>,
    pub(super) input: Slot<bool>,
}

/// A node.
#[derive(Debug)]
pub(super) struct RawNode {
    pub(super) name: Spanned<String>,
    pub(super) task: Slot<String>,
    pub(super) prompt: Slot<String>,
    pub(super) model: Slot<String>,
    pub(super) output: Slot<String>,
    pub(super) description: Slot<String>,
    pub(super) each: Slot<RawEach>,
    pub(super) with: Vec<(Spanned<String>, Spanned<Value>)>,
    pub(super) policy: RawPolicy,
    pub(super) reads: Vec<(Spanned<String>, Spanned<String>)>,
    pub(super) writes: Vec<(Spanned<String>, Spanned<String>)>,
    pub(super) next: Slot<RawNext>,
    /// Places of the keys, for faults about keys as such.
    pub(super) keys: Vec<(String, Range<usize>)>,
}

impl RawChannel {
    fn broken(name: Spanned<String>) -> Self {
        Self { name, ty: Slot::Broken, reducer: Slot::Absent, default: Slot::Absent, input: Slot::Absent }
    }
}

impl RawNode {
    fn broken(name: Spanned<String>) -> Self {
        Self {
            name,
            task: Slot::Broken,
            prompt: Slot::Absent,
            model: Slot::Absent,
            output: Slot::Absent,
            description: Slot::Absent,
            each: Slot::Absent,
            with: Vec::new(),
            policy: RawPolicy { timeout: Slot::Absent, retry: Slot::Absent },
            reads: Vec::new(),
            writes: Vec::new(),
            next: Slot::Broken,
            keys: Vec::new(),
        }
    }

    /// Where a key of the node is; the node's name if it is not there.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        let place = self.keys.iter().find(|(name, _)| name == key).map(|(_, span)| span.clone());
        place.unwrap_or_else(|| self.name.span())
    }
}

/// A fan-out.
#[derive(Debug)]
pub(super) struct RawEach {
    pub(super) over: Slot<String>,
    pub(super) item: Slot<String>,
    pub(super) max_parallel: Slot<RawParallel>,
}

/// A fan-out's limit.
#[derive(Clone, Debug)]
pub(super) enum RawParallel {
    Fixed(u32),
    Channel(String),
}

/// Where to go next.
#[derive(Debug)]
pub(super) enum RawNext {
    /// To these, at once.
    Direct(Vec<Spanned<String>>),
    /// Arms with conditions.
    Arms(Vec<Spanned<RawArm>>),
}

/// One arm; an `else` arm has no condition.
#[derive(Debug)]
pub(super) struct RawArm {
    pub(super) is_else: bool,
    pub(super) when: Slot<String>,
    pub(super) to: Slot<Vec<Spanned<String>>>,
}

const SECTIONS: [&str; 4] = ["graph", "defaults", "state", "node"];

impl GraphFile {
    /// Lowers a parsed document. What cannot be read becomes a fault, and the rest is read on.
    pub(super) fn lower(document: &Spanned<DeTable<'_>>, faults: &mut Vec<Fault>) -> Self {
        let mut root = Table::new(document.get_ref(), "the graph file", 0..0);
        let graph = match root.table("graph", "[graph]", faults) {
            Slot::Given(table) => header(table.into_inner(), faults),
            slot => {
                if slot.is_absent() {
                    faults.push(
                        root.missing("graph", "begin with `[graph]`, `name = \"…\"` and `start = \"…\"`"),
                    );
                }
                RawHeader {
                    name: Slot::Broken,
                    version: Slot::Absent,
                    description: Slot::Absent,
                    start: Slot::Broken,
                    max_steps: Slot::Absent,
                    deadline: Slot::Absent,
                    durability: Slot::Absent,
                }
            }
        };
        let defaults = match root.table("defaults", "[defaults]", faults) {
            Slot::Given(table) => {
                let mut table = table.into_inner();
                let policy = policy(&mut table, faults);
                table.finish(faults);
                policy
            }
            _ => RawPolicy { timeout: Slot::Absent, retry: Slot::Absent },
        };
        let channels = members(&mut root, "state", faults, channel, RawChannel::broken);
        let nodes = members(&mut root, "node", faults, node, RawNode::broken);
        for (key, _) in root.entries() {
            if !SECTIONS.contains(key.get_ref()) {
                faults.push(root.unknown(key, &SECTIONS));
            }
        }
        Self { graph, defaults, channels, nodes }
    }
}

/// The tables under `[state]` or `[node]`.
fn members<T>(
    root: &mut Table<'_>,
    section: &'static str,
    faults: &mut Vec<Fault>,
    read: impl Fn(Spanned<String>, Table<'_>, &mut Vec<Fault>) -> T,
    broken: impl Fn(Spanned<String>) -> T,
) -> Vec<T> {
    let Slot::Given(table) = root.table(section, format!("[{section}]"), faults) else { return Vec::new() };
    let mut out = Vec::new();
    for (key, value) in table.get_ref().entries() {
        let title = format!("[{section}.{}]", key.get_ref());
        let name = Spanned::new(key.span(), (*key.get_ref()).to_owned());
        if let DeValue::Table(inner) = value.get_ref() {
            out.push(read(name, Table::new(inner, title, key.span()), faults));
        } else {
            let wanted = if section == "state" { "a table, as `{ type = \"…\" }`" } else { "a table" };
            faults.push(table.get_ref().wrong_type(key.get_ref(), wanted, value));
            // The name stays known, so that nothing complains about it.
            out.push(broken(name));
        }
    }
    out
}

fn header(mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawHeader {
    let header = RawHeader {
        name: table.string("name", faults),
        version: table.int("version", 1..=u32::MAX, faults),
        description: table.string("description", faults),
        start: table.string("start", faults),
        max_steps: table.int("max_steps", 1..=1_000_000, faults),
        deadline: table.duration("deadline", faults),
        durability: table.string("durability", faults),
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

fn policy(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> RawPolicy {
    let timeout = table.duration("timeout", faults);
    let title = format!("`retry` of {}", table.title);
    let retry = match table.table("retry", title, faults) {
        Slot::Given(inner) => {
            let span = inner.span();
            let mut inner = inner.into_inner();
            let retry = RawRetry {
                attempts: inner.int("attempts", 1..=100, faults),
                backoff: inner.duration("backoff", faults),
                max_backoff: inner.duration("max_backoff", faults),
                on: inner.get("on").map_or(Slot::Absent, |(_, value)| {
                    strings(&inner, "on", "a list of error classes", value, faults)
                }),
            };
            if retry.attempts.is_absent() {
                faults.push(inner.missing("attempts", "add `attempts = 3`: the first one and two more"));
            }
            inner.finish(faults);
            Slot::Given(Spanned::new(span, retry))
        }
        Slot::Absent => Slot::Absent,
        Slot::Broken => Slot::Broken,
    };
    RawPolicy { timeout, retry }
}

fn channel(name: Spanned<String>, mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawChannel {
    let channel = RawChannel {
        name,
        ty: table.string("type", faults),
        reducer: table.string("reducer", faults),
        default: match table.get("default") {
            None => Slot::Absent,
            Some((_, value)) => json_slot("default", value, faults),
        },
        input: table.bool("input", faults),
    };
    if channel.ty.is_absent() {
        faults.push(table.missing("type", "add `type = \"…\"`, as `int`, `string?`, `Vote[]` or `any`"));
    }
    table.finish(faults);
    channel
}

fn node(name: Spanned<String>, mut table: Table<'_>, faults: &mut Vec<Fault>) -> RawNode {
    let keys = table.entries().iter().map(|(key, _)| ((*key.get_ref()).to_owned(), key.span())).collect();
    let node = RawNode {
        task: table.string("task", faults),
        prompt: table.string("prompt", faults),
        model: table.string("model", faults),
        output: table.string("output", faults),
        description: table.string("description", faults),
        each: each(&mut table, faults),
        with: with(&mut table, faults),
        policy: policy(&mut table, faults),
        reads: renames(&mut table, "reads", faults),
        writes: renames(&mut table, "writes", faults),
        next: next(&mut table, faults),
        name,
        keys,
    };
    table.finish(faults);
    node
}

fn each(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawEach> {
    let title = format!("`each` of {}", table.title);
    let inner = match table.table("each", title, faults) {
        Slot::Given(inner) => inner,
        Slot::Absent => return Slot::Absent,
        Slot::Broken => return Slot::Broken,
    };
    let span = inner.span();
    let mut inner = inner.into_inner();
    let over = inner.string("over", faults);
    let item = inner.string("as", faults);
    let max_parallel = match inner.get("max_parallel") {
        None => Slot::Absent,
        Some((_, value)) => match (value.get_ref().as_str(), integer(value.get_ref())) {
            (Some(name), _) => Slot::Given(Spanned::new(value.span(), RawParallel::Channel(name.to_owned()))),
            (None, Some(number)) => match in_range("max_parallel", number, value.span(), 1..=1024, faults) {
                Slot::Given(number) => {
                    Slot::Given(Spanned::new(value.span(), RawParallel::Fixed(number.into_inner())))
                }
                Slot::Absent | Slot::Broken => Slot::Broken,
            },
            (None, None) => {
                faults.push(inner.wrong_type(
                    "max_parallel",
                    "a number or the name of an `int` channel",
                    value,
                ));
                Slot::Broken
            }
        },
    };
    if over.is_absent() {
        faults.push(inner.missing("over", "add `over = \"…\"`: the list channel, one run for each item"));
    }
    if item.is_absent() {
        faults.push(inner.missing("as", "add `as = \"…\"`: the input field that gets the item"));
    }
    inner.finish(faults);
    Slot::Given(Spanned::new(span, RawEach { over, item, max_parallel }))
}

fn with(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Vec<(Spanned<String>, Spanned<Value>)> {
    let title = format!("`with` of {}", table.title);
    let Slot::Given(inner) = table.table("with", title, faults) else { return Vec::new() };
    let mut out = Vec::new();
    for (key, value) in inner.get_ref().entries() {
        if let Slot::Given(json) = json_slot(key.get_ref(), value, faults) {
            out.push((Spanned::new(key.span(), (*key.get_ref()).to_owned()), json));
        }
    }
    out
}

fn renames(
    table: &mut Table<'_>,
    key: &'static str,
    faults: &mut Vec<Fault>,
) -> Vec<(Spanned<String>, Spanned<String>)> {
    let title = format!("`{key}` of {}", table.title);
    let Slot::Given(inner) = table.table(key, title, faults) else { return Vec::new() };
    let mut out = Vec::new();
    for (field, value) in inner.get_ref().entries() {
        match value.get_ref().as_str() {
            Some(channel) => out.push((
                Spanned::new(field.span(), (*field.get_ref()).to_owned()),
                Spanned::new(value.span(), channel.to_owned()),
            )),
            None => {
                faults.push(inner.get_ref().wrong_type(
                    field.get_ref(),
                    "the name of a channel in quotes",
                    value,
                ));
            }
        }
    }
    out
}

fn next(table: &mut Table<'_>, faults: &mut Vec<Fault>) -> Slot<RawNext> {
    let Some((_, value)) = table.get("next") else { return Slot::Absent };
    let has_tables = match value.get_ref() {
        DeValue::Array(items) => items.iter().any(|item| item.get_ref().is_table()),
        _ => false,
    };
    if !has_tables {
        let wanted = "a node, a list of nodes or a list of arms";
        return match strings(table, "next", wanted, value, faults) {
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
    let targets = |table: &mut Table<'_>, key, faults: &mut Vec<Fault>| match table.get(key) {
        Some((_, value)) => strings(table, key, wanted, value, faults),
        None => Slot::Absent,
    };
    let to = targets(&mut table, "to", faults);
    let otherwise = targets(&mut table, "else", faults);
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

/// A string or a list of strings.
fn strings(
    table: &Table<'_>,
    key: &str,
    wanted: &str,
    value: &Spanned<DeValue<'_>>,
    faults: &mut Vec<Fault>,
) -> Slot<Vec<Spanned<String>>> {
    if let Some(text) = value.get_ref().as_str() {
        let one = Spanned::new(value.span(), text.to_owned());
        return Slot::Given(Spanned::new(value.span(), vec![one]));
    }
    let Some(items) = value.get_ref().as_array() else {
        faults.push(table.wrong_type(key, wanted, value));
        return Slot::Broken;
    };
    let mut out = Vec::new();
    let mut broken = false;
    for item in items {
        if let Some(text) = item.get_ref().as_str() {
            out.push(Spanned::new(item.span(), text.to_owned()));
        } else {
            faults.push(table.wrong_type(key, wanted, item));
            broken = true;
        }
    }
    if broken && out.is_empty() { Slot::Broken } else { Slot::Given(Spanned::new(value.span(), out)) }
}

fn json_slot(key: &str, value: &Spanned<DeValue<'_>>, faults: &mut Vec<Fault>) -> Slot<Value> {
    match json(value) {
        Ok(json) => Slot::Given(Spanned::new(value.span(), json)),
        Err(span) => {
            faults.push(Fault::new(
                codes::OUT_OF_RANGE,
                span,
                "no JSON number",
                format!("`{key}` holds a number that the state cannot hold"),
                "whole numbers have 64 bits; `nan` and `inf` are not possible",
            ));
            Slot::Broken
        }
    }
}

/// The fixed values of a node as one object.
pub(super) fn object(with: &[(Spanned<String>, Spanned<Value>)]) -> Map<String, Value> {
    with.iter().map(|(key, value)| (key.get_ref().clone(), value.get_ref().clone())).collect()
}

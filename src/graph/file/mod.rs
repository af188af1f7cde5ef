//! The graph file as written: every value with its place, nothing resolved yet.
//!
//! Flat structs, lowered by hand: serde's tags and flattening lose the places of values. `schema.json` says
//! the same for editors.
//!
//! ```toml
//! [graph]
//! name = "patrol"            # what `sentrix graph run` calls it
//! version = 3                # of the author's; runs keep theirs
//! start = "assign"           # the node that runs first
//! description = "One sweep"
//! max_steps = 100            # supersteps a run may take
//! deadline = "2h"            # wall time a run may take
//! durability = "crash"       # "power", "crash" or "exit": what a finished superstep survives
//! barrier = "superstep"      # or "dataflow": a branch runs ahead where it cannot disturb the others
//! budget = { tokens = 200_000, usd = 0.50, wall = "10m", steps = 40 }   # most a run may use
//! finally = "tidy"           # a node that runs last, also after a failure
//! retention = { keep_last = 50, max_age = "30d" }
//!
//! [defaults]                 # for nodes that do not say: timeout, retry, budget, breaker, on_error
//! timeout = "60s"
//!
//! [state]                    # type; reducer: last, append, merge, union, sum, max, min, first, by_id or a registered one
//! jobs  = { type = "Stream[]", default = [], input = true }
//! votes = { type = "Vote[]", reducer = "append", default = [], max_items = 500, trust = "untrusted" }
//! case  = { type = "CaseFile", output = true }       # what the run is for
//! token = { type = "string?", secret = true, persist = false }
//!
//! [node.scan]
//! task = "patrol.scan"       # or prompt with model and output, or graph, or kind = "gate"
//! each = { over = "jobs", as = "stream", max_parallel = 8, batch = 10, tolerate = "10%", on_item_error = "drop", status = "scanned", budget = { tokens = 50_000 } }
//! with = { depth = 2 }       # fixed values of input fields
//! reads = { votes = "old" }  # input field = channel, where the names differ
//! writes = { cost = "_" }    # output field = channel; "_" throws it away
//! overwrite = ["votes"]      # these output fields replace the channel's value
//! effect = "read"            # "pure", "read", "write" or "danger"
//! validates = ["votes"]      # output that it vouches for though it reads untrusted channels; `true` for all
//! timeout = { run = "60s", idle = "10s" }            # or one duration
//! retry = { attempts = 3, backoff = "500ms", max_backoff = "60s", factor = 2.0, jitter = true, on = ["transient"] }
//! on_error = [{ on = ["timeout", "refused"], to = "fallback", write = "problem" }, { to = "end" }]
//! breaker = 3                # the same failure so many times in a row stops the run; 0 for never
//! budget = { usd = 0.10 }
//! cache = { key = "stream.id", ttl = "1h" }          # only for `pure` and `read`
//! join = "all"               # "any", "2 of 3", or { need = "all", timeout = "30s", on_timeout = "go" }
//! defer = true               # runs when nothing else is left to do
//! max_visits = 5             # an arm that leads here once more does not hold
//! goto = ["retry"]           # nodes that the Rust function may go to instead of `next`
//! send = ["worker"]          # nodes that it may send tasks to, each with an input of its own
//! next = [{ if = "votes | length > 0", to = ["judge", "notify"] }, { else = "end" }]
//!
//! [node.ask]
//! kind = "gate"
//! ask = "Apply the plan?"
//! options = { approve = "apply", deny = "end" }
//! who = ["owner"]            # who may answer; anybody without it
//! shows = ["plan"]           # channels shown with the question
//! timeout = "1h"
//! on_timeout = "deny"
//! answer = "consent"         # the channel that gets `{option, by, note, at}`
//!
//! [node.deep]
//! graph = "investigate"      # another graph as one step
//! in = { flag_id = "id" }    # its input channel = channel, where the names differ
//! out = { case_file = "case" }
//!
//! [[migrate]]                # how the state of runs of version 1 becomes state of version 2
//! from = 1
//! to = 2
//! rename = { old = "new" }
//! default = { asked = 0 }
//! drop = ["unused"]
//! nodes = { old_node = "new_node" }
//! ```

mod channel;
mod gate;
mod header;
mod node;
mod policy;
mod schema;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes;
use super::document::{Slot, Table, json};
use super::fault::Fault;

pub(super) use channel::RawChannel;
pub(super) use header::{RawHeader, RawMigration};
pub(super) use node::{RawArm, RawEach, RawNext, RawNode, RawParallel, RawTolerate, RawValidates};
pub(super) use policy::{RawBudget, RawErrorArm, RawJoin, RawPolicy, RawRetry};
pub use schema::schema;

/// Names with the names they stand for, as in `reads`.
pub(super) type Pairs = Vec<(Spanned<String>, Spanned<String>)>;

/// A graph file.
#[derive(Debug)]
pub(super) struct GraphFile {
    pub(super) graph: RawHeader,
    pub(super) defaults: RawPolicy,
    pub(super) channels: Vec<RawChannel>,
    pub(super) nodes: Vec<RawNode>,
    pub(super) migrations: Vec<RawMigration>,
}

impl GraphFile {
    /// Lowers a parsed document. What cannot be read becomes a fault, and the rest is read on.
    pub(super) fn lower(document: &Spanned<DeTable<'_>>, faults: &mut Vec<Fault>) -> Self {
        let mut root = Table::new(document.get_ref(), "the graph file", 0..0);
        let graph = match root.table("graph", "[graph]", faults) {
            Slot::Given(table) => header::read(table.into_inner(), faults),
            slot => {
                if slot.is_absent() {
                    faults.push(
                        root.missing("graph", "begin with `[graph]`, `name = \"…\"` and `start = \"…\"`"),
                    );
                }
                RawHeader::broken()
            }
        };
        let defaults = match root.table("defaults", "[defaults]", faults) {
            Slot::Given(table) => {
                let mut table = table.into_inner();
                let policy = policy::read(&mut table, faults);
                table.finish(faults);
                policy
            }
            Slot::Absent | Slot::Broken => RawPolicy::default(),
        };
        let channels = members(&mut root, "state", faults, channel::read, RawChannel::broken);
        let nodes = members(&mut root, "node", faults, node::read, RawNode::broken);
        let migrations = header::migrations(&mut root, faults);
        root.finish(faults);
        Self { graph, defaults, channels, nodes, migrations }
    }

    /// Whether an edge leads to a node, or a run starts there.
    pub(super) fn leads_to(&self, name: &str) -> bool {
        type Names = Vec<Spanned<String>>;
        let names = |list: &Names| list.iter().any(|target| target.get_ref() == name);
        let slot = |slot: &Slot<Names>| slot.get().is_some_and(|list| names(list.get_ref()));
        let errors = |policy: &RawPolicy| {
            policy.on_error.get().is_some_and(|arms| arms.get_ref().iter().any(|arm| slot(&arm.get_ref().to)))
        };
        self.graph.start.get().is_some_and(|start| start.get_ref() == name)
            || errors(&self.defaults)
            || self.nodes.iter().any(|node| {
                slot(&node.goto)
                    || errors(&node.policy)
                    || node.gate.options.get().is_some_and(|o| o.get_ref().iter().any(|(_, to)| slot(to)))
                    || node.next.get().is_some_and(|next| match next.get_ref() {
                        RawNext::Direct(list) => names(list),
                        RawNext::Arms(arms) => arms.iter().any(|arm| slot(&arm.get_ref().to)),
                    })
            })
    }
}

/// The graphs that the nodes of a file name, each once; of a text that cannot be read as far as it can.
pub fn uses(source: &str) -> Vec<String> {
    let (document, _) = DeTable::parse_recoverable(source);
    let nodes = document.get_ref().get("node").and_then(|node| node.get_ref().as_table());
    let mut names: Vec<String> = nodes
        .into_iter()
        .flat_map(|nodes| nodes.iter())
        .filter_map(|(_, node)| node.get_ref().as_table()?.get("graph")?.get_ref().as_str())
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
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

/// A table of names for names; `wanted` says what stands on the right side.
fn pairs(table: &mut Table<'_>, key: &'static str, wanted: &str, faults: &mut Vec<Fault>) -> Pairs {
    let title = format!("`{key}` of {}", table.title);
    let Slot::Given(inner) = table.table(key, title, faults) else { return Vec::new() };
    let mut out = Vec::new();
    for (field, value) in inner.get_ref().entries() {
        match value.get_ref().as_str() {
            Some(name) => out.push((
                Spanned::new(field.span(), (*field.get_ref()).to_owned()),
                Spanned::new(value.span(), name.to_owned()),
            )),
            None => faults.push(inner.get_ref().wrong_type(field.get_ref(), wanted, value)),
        }
    }
    out
}

/// A table of names for values.
fn values(
    table: &mut Table<'_>,
    key: &'static str,
    faults: &mut Vec<Fault>,
) -> Vec<(Spanned<String>, Spanned<Value>)> {
    let title = format!("`{key}` of {}", table.title);
    let Slot::Given(inner) = table.table(key, title, faults) else { return Vec::new() };
    let mut out = Vec::new();
    for (name, value) in inner.get_ref().entries() {
        if let Slot::Given(json) = json_slot(name.get_ref(), value, faults) {
            out.push((Spanned::new(name.span(), (*name.get_ref()).to_owned()), json));
        }
    }
    out
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

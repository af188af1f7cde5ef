//! What a case may say.
//!
//! ```toml
//! about = "What this file is about, in a sentence or two."
//!
//! [[case]]
//! name = "a join waits for the longer branch and fires once"
//! graph = """
//! node.s    = { task = "log", next = ["a", "b"] }
//! node.a    = { task = "log", next = "join" }
//! node.b    = { task = "log", next = "b2" }
//! node.b2   = { task = "log", next = "join" }
//! node.join = { task = "log", join = "all" }
//! """
//! trace = ["s", ["a", "b"], "b2", "join"]
//! state = { log = ["s", "a", "b", "b2", "join"] }
//! ```
//!
//! `graph` is a graph file; where it has no name it is `case`, where it has no start it starts with its first node,
//! and where it has no `[state]` it has the one channel `log`. Its nodes' tasks are played by `stub.rs`, which tells
//! what `stub.NODE = [...]` may answer. Beside the tasks below, a case may declare its own:
//! `task.fetch = { reads = { url = "string" }, writes = { page = "string" }, effect = "read" }`.
//!
//! | task | reads | writes | without a stub |
//! |---|---|---|---|
//! | `log` | | `log: string` | the node's name; of an item or a task that was sent `name#0` |
//! | `add` | `n: int` | `n: int` | one more |
//! | `item` | `x: any` | `out: any` | `x` |
//! | `read` | `n: int` | `log: string` | the node's name and what it read, `name=3` |
//! | `none` | | | nothing |
//!
//! Prompts are `ask` with the variable `n`, answered as the type `Answer` (`yes: bool`, `text: string`,
//! `kind: good|bad`) by the role `judge`. Registered reducers are `longest` (the longer string), `refuses` and
//! `panics`.
//!
//! A case runs its graph once; each table of `then` resumes it after what its first keys say, and expects again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A graph, and what must come of it.
#[derive(Debug)]
pub(super) struct Case {
    /// What it shows, in a sentence.
    pub(super) name: String,
    pub(super) setting: Setting,
    pub(super) first: Phase,
    pub(super) then: Vec<Phase>,
}

/// What is there before anything runs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Setting {
    pub(super) graph: String,
    /// Graphs that it may name.
    pub(super) graphs: BTreeMap<String, String>,
    /// Tasks of its own.
    pub(super) task: BTreeMap<String, Face>,
    pub(super) input: Map<String, Value>,
    /// Answers of nodes: see `stub.rs`.
    pub(super) stub: BTreeMap<String, Vec<Value>>,
    /// The engine has a key, for secrets and signatures.
    pub(super) key: bool,
    /// Codes of all errors that the check must find; the graph is not run.
    pub(super) faults: Vec<String>,
    /// Codes of warnings among those that the check must give.
    pub(super) warnings: Vec<String>,
    /// Codes of warnings that it must not give.
    pub(super) no_warnings: Vec<String>,
}

/// Fields of a task.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Face {
    pub(super) reads: BTreeMap<String, String>,
    pub(super) writes: BTreeMap<String, String>,
    pub(super) effect: Option<String>,
}

/// One part of a run: from its start, or a resume, until it comes to rest.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Phase {
    // First, in this order:
    /// The clock moves on.
    pub(super) advance: Option<String>,
    /// Answers to gates.
    pub(super) answer: Vec<Answer>,
    /// Writes from outside.
    pub(super) edit: Option<Edit>,
    /// What follows is a run that begins where this one stood before that superstep.
    pub(super) fork: Option<u32>,
    /// The run goes on with this version of its graph.
    pub(super) upgrade: Option<String>,
    /// Limits that take the place of the graph's.
    pub(super) budget: Option<Budget>,
    /// A new run of the same graph instead of a resume.
    pub(super) again: bool,
    /// Nothing runs; what is expected is looked at.
    pub(super) look: bool,

    // Then what must have come of it:
    /// Supersteps, each a node or a list of nodes; an answered gate is `gate=option`, a superstep of a graph within is
    /// `graph/node`.
    pub(super) trace: Option<Vec<Step>>,
    /// Channels that must end like this; `"<null>"` for one without a value, and for null in any value here.
    pub(super) state: Map<String, Value>,
    /// Values of secret channels.
    pub(super) secret: Map<String, Value>,
    /// `done` without it; `failed`, `waiting`, `drained`, `cancelled` or `killed`.
    pub(super) outcome: Option<String>,
    /// What the failure's message holds. A part that must be refused before it runs is `failed` too.
    pub(super) error: Option<String>,
    /// The failure's class.
    pub(super) class: Option<String>,
    /// How often nodes' functions were called.
    pub(super) ran: BTreeMap<String, u32>,
    /// How often effects were really done, by what they are called.
    pub(super) effects: BTreeMap<String, u32>,
    /// Nodes of the gates that wait.
    pub(super) waits: Option<Vec<String>>,
    /// Tokens and tasks that were used, over all parts.
    pub(super) used: Option<Used>,
    /// Events, as `name` or `name node` or `name node#item`, of these streams and the lifecycle.
    pub(super) streams: Vec<String>,
    pub(super) events: Option<Vec<String>>,
    /// States before supersteps.
    pub(super) at: Vec<At>,
    /// What differs between the states before two supersteps.
    pub(super) diff: Option<Diff>,
    /// Supersteps in the stored history.
    pub(super) history: Option<Vec<Step>>,
    /// What the stored run must not hold anywhere.
    pub(super) never_stored: Vec<String>,
    /// Whether the log is stored as a whole, and proves it; true without it.
    pub(super) whole: Option<bool>,
}

/// A superstep.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Step {
    /// Of one node.
    One(String),
    /// Of several.
    Many(Vec<String>),
}

/// An answer to a gate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The gate's node or id.
    pub(super) gate: String,
    pub(super) option: String,
    #[serde(default = "ada")]
    pub(super) by: String,
    pub(super) note: Option<String>,
    /// It must be refused with a message that holds this.
    pub(super) refused: Option<String>,
}

fn ada() -> String {
    "ada".to_owned()
}

/// Writes from outside.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// The node that is said to have made them.
    pub(super) node: Option<String>,
    pub(super) writes: Map<String, Value>,
    pub(super) refused: Option<String>,
}

/// Limits of a part.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) tokens: Option<u64>,
    pub(super) steps: Option<u32>,
}

/// What was used.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Used {
    pub(super) tokens: Option<u64>,
    pub(super) micro_usd: Option<u64>,
}

/// The state before a superstep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    pub(super) step: u32,
    #[serde(default)]
    pub(super) state: Map<String, Value>,
    /// There is no such step.
    pub(super) refused: Option<String>,
}

/// Channels that differ.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Diff {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) channels: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    case: Vec<toml::Table>,
}

/// Keys of a case that its setting takes; all others are the first part's.
const SETTING: [&str; 9] =
    ["graph", "graphs", "task", "input", "stub", "key", "faults", "warnings", "no_warnings"];

/// The cases of a file.
pub(super) fn cases(area: &str, text: &str) -> Vec<Case> {
    let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{area}.toml: {error}"));
    assert!(file.about.ends_with('.'), "{area}.toml says in `about` what it is about");
    file.case.into_iter().map(|table| case(area, table)).collect()
}

fn case(area: &str, mut table: toml::Table) -> Case {
    let name = match table.remove("name") {
        Some(toml::Value::String(name)) => name,
        other => panic!("{area}.toml: a case with the name {other:?}"),
    };
    let then = match table.remove("then") {
        Some(toml::Value::Array(phases)) => {
            phases.into_iter().map(|phase| read(area, &name, phase)).collect()
        }
        None => Vec::new(),
        Some(other) => panic!("{area}.toml: {name}: `then` is no list: {other}"),
    };
    let mut setting = toml::Table::new();
    for key in SETTING {
        if let Some(value) = table.remove(key) {
            setting.insert(key.to_owned(), value);
        }
    }
    let setting = read(area, &name, toml::Value::Table(setting));
    Case { setting, first: read(area, &name, toml::Value::Table(table)), then, name }
}

fn read<T: DeserializeOwned>(area: &str, name: &str, value: toml::Value) -> T {
    T::deserialize(json(value)).unwrap_or_else(|error| panic!("{area}.toml: {name}: {error}"))
}

/// TOML as JSON; `"<null>"` is null.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) if text == "<null>" => Value::Null,
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
        other => serde_json::to_value(other).unwrap(),
    }
}

/// A graph file of what a case says: with a name, a start and a state where it leaves them out.
pub(super) fn graph_file(text: &str) -> String {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    // A file with `[graph]` as a header of its own, or one that is no TOML at all, is left as it is.
    if text.contains("[graph]") || table.is_empty() {
        return text.to_owned();
    }
    let has = |section: &str, key: &str| table.get(section).is_some_and(|section| section.get(key).is_some());
    let (_, nodes) = text.split_once("node.").unwrap_or_default();
    let first = nodes.split([' ', '=', ']', '.']).next().unwrap_or_default();
    let start = format!("graph.start = \"{first}\"\n");
    let parts = [
        (!has("graph", "name"), "graph.name = \"case\"\n"),
        (!has("graph", "start"), &start),
        (!table.contains_key("state"), LOG),
        (true, text),
    ];
    parts.into_iter().filter(|(is_wanted, _)| *is_wanted).map(|(_, part)| part).collect()
}

/// The state of a graph that has none.
const LOG: &str = "state.log = { type = \"string[]\", reducer = \"append\", output = true }\n";

//! From the text of a graph file to a checked [`Graph`], or to all faults at once.
//!
//! What the checks assume of a run, and the engine keeps:
//! - A read of a channel without a value gives null; a field that takes null (`Option`, `any`) accepts it.
//! - A required field of a task's input comes from the channel of its name, `reads`, `with` or `each.as`; a
//!   field that is not required and has no source is left out.
//! - An output field goes to the channel of its name or the one in `writes`; `"_"` throws it away; a field
//!   that is left out of the output writes nothing.
//! - All nodes of a step run at once on the same state; each takes its first arm that holds; the next step
//!   is the union of the arms' nodes, each node once.
//! - A node's `retry` replaces the one in `[defaults]` as a whole.

mod flow;
mod input;
mod names;
mod next;
mod node;
mod output;
mod policy;
mod state;
mod value;

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes;
use super::document::Slot;
use super::fault::{Fault, position};
use super::file::GraphFile;
use super::{Catalog, Durability, Faults, Graph, NodeIdx, NodeKind, StateChannel, Type, suggest};

/// Largest graph file.
const MAX_BYTES: usize = 256 * 1024;
/// Most nodes, and most channels.
const MAX_MEMBERS: usize = 500;

/// Faults that a syntax error elsewhere may cause; they are held back until the text can be read.
const FOLLOW_ON: [&str; 10] = [
    codes::MISSING_KEY,
    codes::KIND,
    codes::MISSING_INPUT,
    codes::LOST_OUTPUT,
    codes::NO_ELSE,
    codes::PROMPT_VARIABLE,
    codes::UNREACHABLE,
    codes::NO_END,
    codes::NEVER_WRITTEN,
    codes::BAD_NEXT,
];

/// What the checks of one file share.
pub(super) struct Scope<'a> {
    source: &'a str,
    catalog: &'a Catalog,
    channels: Vec<Channel>,
    nodes: Vec<String>,
}

/// A channel while its file is checked.
struct Channel {
    value: StateChannel,
    /// Where its name is.
    span: Range<usize>,
    /// The type, unless it was a fault: then nothing more is said about it.
    ty: Option<Type>,
    /// Whether it has a value before the first write, or was meant to.
    given: bool,
}

impl Scope<'_> {
    fn channel(&self, name: &str) -> Option<(usize, &Channel)> {
        self.channels.iter().enumerate().find(|(_, channel)| channel.value.name == name)
    }

    fn channel_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.channels.iter().map(|channel| channel.value.name.as_str())
    }

    fn node_names(&self) -> impl Iterator<Item = &str> + Clone {
        self.nodes.iter().map(String::as_str)
    }

    /// The channel of a name, or a fault at its place.
    fn resolve(&self, name: &Spanned<String>, what: &str, faults: &mut Vec<Fault>) -> Option<usize> {
        let found = self.channel(name.get_ref()).map(|(index, _)| index);
        if found.is_none() {
            faults.push(Fault::new(
                codes::UNKNOWN_CHANNEL,
                name.span(),
                "no such channel",
                format!("{what} names the channel `{}`, which `[state]` does not have", name.get_ref()),
                suggest::help(name.get_ref(), self.channel_names(), "channels"),
            ));
        }
        found
    }
}

/// Checks the text of a graph file. `name` is the file's name for messages.
///
/// ```
/// use sentrix::graph::{self, Catalog, TaskSignature};
///
/// let mut catalog = Catalog::default();
/// catalog.tasks.insert("demo.read".into(), TaskSignature::of::<(), ()>("Reads the logs"));
///
/// let sound = r#"
/// [graph]
/// name = "demo"
/// start = "read"
///
/// [node.read]
/// task = "demo.read"
/// next = "end"
/// "#;
/// let checked = graph::check("demo.toml", sound, &catalog)?;
/// assert_eq!(checked.nodes.len(), 1);
///
/// let faulty = sound.replace("demo.read", "demo.raed").replace("next = \"end\"", "next = \"rea\"");
/// let faults = graph::check("demo.toml", &faulty, &catalog).unwrap_err().reports();
/// assert_eq!(faults.len(), 2, "all of them at once");
/// assert_eq!((faults[0].line, faults[0].column), (7, 8));
/// assert!(faults[0].help.contains("demo.read"), "{}", faults[0].help);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Every fault of the file at once, each with its place and help. Never panics, whatever the text.
pub fn check(name: &str, source: &str, catalog: &Catalog) -> Result<Graph, Faults> {
    let mut faults = Vec::new();
    let graph = run(source, catalog, &mut faults);
    Faults::from_list(name, source, faults)?;
    graph.ok_or_else(|| {
        // Reached only if a pass gave up in silence: still a fault, never a panic.
        let fault = Fault::new(
            codes::SYNTAX,
            0..0,
            "here",
            "the file cannot be read",
            "compare it with a working one",
        );
        Faults::only(name, source, fault)
    })
}

fn run(source: &str, catalog: &Catalog, faults: &mut Vec<Fault>) -> Option<Graph> {
    if source.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", source.len());
        faults.push(too_large(0..0, message));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(source);
    let mut damage = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key" {
            faults.push(duplicate(source, &document, span));
        } else {
            damage.push(span.clone());
            // A multi-line string that is not closed swallows the rest of the file.
            if error.message().contains("multi-line") {
                damage.push(0..source.len());
            }
            faults.push(Fault::new(
                codes::SYNTAX,
                span,
                "here",
                error.message(),
                "mend the text here; see https://toml.io for how values are written",
            ));
        }
    }
    if damage.is_empty() {
        return meaning(source, &document, catalog, faults);
    }
    let mut found = Vec::new();
    meaning(source, &document, catalog, &mut found);
    let lines: Vec<&str> = damage.iter().map(|span| lines_of(source, span)).collect();
    faults.extend(found.into_iter().filter(|fault| {
        let start = fault.start();
        let text = fault.labels.first().and_then(|label| source.get(label.span.clone())).unwrap_or_default();
        let name = text.trim_matches(['"', '\'']);
        !FOLLOW_ON.contains(&fault.code)
            && !damage.iter().any(|span| position(source, span.start).0 == position(source, start).0)
            && !lines.iter().any(|line| !name.is_empty() && line.contains(name))
    }));
    None
}

/// The checks on a document that could be read.
fn meaning(
    source: &str,
    document: &Spanned<DeTable<'_>>,
    catalog: &Catalog,
    faults: &mut Vec<Fault>,
) -> Option<Graph> {
    let file = GraphFile::lower(document, faults);
    for (count, what) in [(file.nodes.len(), "nodes"), (file.channels.len(), "channels")] {
        if count > MAX_MEMBERS {
            faults.push(too_large(0..0, format!("the file has {count} {what}, more than {MAX_MEMBERS}")));
            return None;
        }
    }
    let mut scope = Scope {
        source,
        catalog,
        channels: Vec::new(),
        nodes: file.nodes.iter().map(|node| node.name.get_ref().clone()).collect(),
    };
    scope.channels = file.channels.iter().map(|raw| state::channel(raw, catalog, faults)).collect();

    let header = &file.graph;
    let name = header.name.get();
    if let Some(name) = name {
        names::name("graph", name, faults);
    }
    let durability = header.durability.get().and_then(|text| durability(text, faults)).unwrap_or_default();
    let deadline = policy::time_limit("deadline", &header.deadline, faults);
    let start = header.start.get().and_then(|start| next::node_index(start, "`start`", &scope, faults));
    let defaults = policy::defaults(&file.defaults, faults);

    let checked: Vec<node::Checked> =
        file.nodes.iter().map(|raw| node::check(raw, &scope, &defaults, faults)).collect();
    let edges: Vec<next::Edges> = file.nodes.iter().map(|raw| next::check(raw, &scope, faults)).collect();
    let guessed_start = start.or_else(|| {
        let written = header.start.get()?;
        let near = suggest::closest(written.get_ref(), scope.node_names())?;
        scope.nodes.iter().position(|name| name == near)
    });
    if file.nodes.is_empty() && faults.is_empty() {
        faults.push(Fault::new(
            codes::MISSING_KEY,
            0..0,
            "no `[node.…]` in the file",
            "the graph has no nodes",
            "add one: `[node.NAME]` with `task` or `prompt`",
        ));
    }
    flow::check(&file.nodes, &scope, &checked, &edges, guessed_start, faults);
    if !faults.is_empty() {
        return None;
    }

    let hash = hash(source, catalog, &checked);
    let nodes = checked.into_iter().zip(edges).map(|(node, edges)| node.into_node(edges.arms)).collect();
    Some(Graph {
        name: name.map(|name| name.get_ref().clone())?,
        version: value_or(&header.version, 1),
        description: header.description.get().map(|text| text.get_ref().clone()).unwrap_or_default(),
        start: NodeIdx(start?),
        max_steps: value_or(&header.max_steps, 100),
        deadline,
        durability,
        channels: scope.channels.into_iter().map(|channel| channel.value).collect(),
        nodes,
        source: Arc::from(source),
        hash,
        ..Graph::empty("")
    })
}

fn value_or(slot: &Slot<u32>, default: u32) -> u32 {
    slot.get().map_or(default, |value| *value.get_ref())
}

fn durability(text: &Spanned<String>, faults: &mut Vec<Fault>) -> Option<Durability> {
    match text.get_ref().as_str() {
        "power" => Some(Durability::Power),
        "crash" => Some(Durability::Crash),
        "exit" => Some(Durability::Exit),
        other => {
            faults.push(Fault::new(
                codes::UNKNOWN_DURABILITY,
                text.span(),
                "no such durability",
                format!("`{other}` is no durability"),
                suggest::help(other, ["power", "crash", "exit"], "durabilities"),
            ));
            None
        }
    }
}

fn too_large(span: Range<usize>, message: String) -> Fault {
    Fault::new(codes::TOO_LARGE, span, "the file begins here", message, "split it into several graphs")
}

/// The fault of a key or table that is there twice.
fn duplicate(source: &str, document: &Spanned<DeTable<'_>>, span: Range<usize>) -> Fault {
    let key = source.get(span.clone()).unwrap_or_default();
    let fault = Fault::new(
        codes::SYNTAX,
        span.clone(),
        "again here",
        format!("`{key}` is there twice"),
        "keep one of them, or give the second another name",
    );
    let mut places = Vec::new();
    key_places(document.get_ref(), key.trim_matches(['"', '\'']), &mut places);
    places.retain(|place| place.end <= span.start);
    match places.as_slice() {
        [first] => fault.also(first.clone(), "first here"),
        _ => fault,
    }
}

fn key_places(table: &DeTable<'_>, key: &str, places: &mut Vec<Range<usize>>) {
    for (name, value) in table {
        if name.get_ref() == key {
            places.push(name.span());
        }
        match value.get_ref() {
            DeValue::Table(inner) => key_places(inner, key, places),
            DeValue::Array(items) => {
                for inner in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    key_places(inner, key, places);
                }
            }
            _ => {}
        }
    }
}

/// The whole lines that a place touches.
fn lines_of<'s>(source: &'s str, span: &Range<usize>) -> &'s str {
    let start = source.floor_char_boundary(span.start);
    let end = source.ceil_char_boundary(span.end.max(start));
    let (before, after) = (source.get(..start).unwrap_or_default(), source.get(end..).unwrap_or_default());
    let from = before.rfind('\n').map_or(0, |at| at + 1);
    let to = after.find('\n').map_or(source.len(), |at| end + at);
    source.get(from..to).unwrap_or_default()
}

/// SHA-256 over the text and the prompts it names.
fn hash(source: &str, catalog: &Catalog, nodes: &[node::Checked]) -> String {
    let mut prompts: Vec<&str> = nodes
        .iter()
        .filter_map(|node| match &node.kind {
            Some(NodeKind::Prompt { prompt, .. }) => Some(prompt.as_str()),
            Some(NodeKind::Task { .. } | NodeKind::Gate(_) | NodeKind::Graph(_)) | None => None,
        })
        .collect();
    prompts.sort_unstable();
    prompts.dedup();
    let mut hasher = Sha256::new();
    hasher.update(source);
    for prompt in prompts {
        let info = catalog.prompts.get(prompt);
        for part in ["\0", prompt, "\0", info.map_or("", |info| info.hash.as_str())] {
            hasher.update(part);
        }
    }
    hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _ok = write!(hex, "{byte:02x}");
        hex
    })
}

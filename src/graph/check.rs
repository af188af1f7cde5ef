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
//! - A node's `retry`, `timeout`, `budget` and `on_error` each replace the one in `[defaults]` as a whole. The node
//!   that the default `on_error` leads to, gates and `finally` do not take it.
//! - A node with `join`, `defer` or a gate may run later than it was reached, beside whatever others lead to by then.
//!   One that joins all does not run while a node that leads to it may still run; a deferred one only beside others
//!   that are deferred.
//! - A node that fails goes on at an arm of `on_error`, as at an arm of `next`. Tasks that are sent run in the next
//!   step, each with its own input, beside what `next` or `goto` leads to.
//! - What a task makes of an untrusted channel is untrusted, its failures' messages too, and so is a model's answer.

mod bits;
mod condition;
mod damage;
mod danger;
mod each;
mod face;
mod flow;
mod gate;
mod header;
mod input;
mod migrate;
mod names;
mod next;
mod node;
mod output;
mod policy;
mod shape;
mod state;
mod trust;
mod untrusted;
mod usage;
mod value;
mod waits;
mod ways;
mod words;

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeTable;

use super::codes;
use super::fault::Fault;
use super::file::{GraphFile, RawNode};
use super::{Catalog, Faults, Graph, NodeIdx, NodeKind, StateChannel, Type, suggest};
use ways::{Together, Way};

/// Largest graph file.
const MAX_BYTES: usize = 256 * 1024;
/// Most nodes, and most channels.
const MAX_MEMBERS: usize = 500;

/// What the checks of one file share.
pub(super) struct Scope<'a> {
    source: &'a str,
    catalog: &'a Catalog,
    /// The graph's own name.
    name: Option<&'a str>,
    channels: Vec<Channel>,
    nodes: Vec<String>,
    /// The node that runs last.
    finally: Option<usize>,
    /// Nodes that are sent tasks, with the place that says so, and whether an edge leads there too.
    sent: Vec<(String, Range<usize>, bool)>,
}

/// Everything about the nodes that the checks of the whole graph look at.
struct Parts<'a> {
    raw: &'a [RawNode],
    nodes: &'a [node::Checked],
    edges: &'a [next::Edges],
    ways: Vec<Way>,
    /// Where a run starts, as far as it can be guessed.
    start: Option<usize>,
    together: Option<Together>,
}

impl<'a> Parts<'a> {
    fn of(
        raw: &'a [RawNode],
        nodes: &'a [node::Checked],
        edges: &'a [next::Edges],
        start: Option<usize>,
    ) -> Self {
        let ways: Vec<Way> = raw
            .iter()
            .zip(nodes)
            .zip(edges)
            .map(|((raw, node), edges)| Way::of(raw, node.node(), edges))
            .collect();
        let together = start.map(|start| Together::of(&ways, start));
        Self { raw, nodes, edges, ways, start, together }
    }

    /// Everything a node writes, failures among it.
    fn writes(&self, node: usize) -> impl Iterator<Item = &node::Write> {
        let own = self.nodes.get(node).into_iter().flat_map(|node| &node.writes);
        own.chain(self.edges.get(node).into_iter().flat_map(|edges| &edges.error_writes))
    }

    /// Whether some edge leads where nobody knows.
    fn is_unclear(&self) -> bool {
        self.edges.iter().any(|edges| edges.unclear)
    }

    /// Whether every node and edge is known.
    fn is_whole(&self) -> bool {
        !self.is_unclear()
            && self.nodes.iter().all(|node| node.is_known && node.kind.is_some())
            && self.edges.iter().all(|edges| edges.guesses.is_empty())
    }

    fn name(&self, node: usize) -> &str {
        self.raw.get(node).map_or("?", |raw| raw.name.get_ref().as_str())
    }

    fn name_span(&self, node: usize) -> Range<usize> {
        self.raw.get(node).map_or(0..0, |raw| raw.name.span())
    }

    fn is_gate(&self, node: usize) -> bool {
        matches!(self.nodes.get(node).and_then(|node| node.kind.as_ref()), Some(NodeKind::Gate(_)))
    }
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

    /// Where it is said that a node is sent tasks.
    fn sent_to(&self, raw: &RawNode) -> Option<Range<usize>> {
        let name = raw.name.get_ref();
        self.sent.iter().find(|(sent, ..)| sent == name).map(|(_, span, _)| span.clone())
    }

    /// Whether a node gets all of its tasks, inputs and all, from others.
    fn is_sent_only(&self, raw: &RawNode) -> bool {
        self.sent.iter().any(|(sent, _, also_led)| sent == raw.name.get_ref() && !also_led)
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
    judge(name, source, catalog, Strictness::Whole).map(|(graph, _)| graph)
}

/// Checks the text of a graph file and gives its warnings too: the graph where nothing keeps it from being run,
/// and whatever is to be said about it. Warnings are said once there are no errors.
pub fn check_all(name: &str, source: &str, catalog: &Catalog) -> (Option<Graph>, Option<Faults>) {
    match judge(name, source, catalog, Strictness::Whole) {
        Ok((graph, warnings)) => (Some(graph), warnings),
        Err(faults) => (None, Some(faults)),
    }
}

/// Reads the text that was stored with a run. It was checked when the run began, by the rules of that day, so
/// rules that only guide its author do not keep the run from going on.
///
/// # Errors
/// Every fault without which there is no graph.
pub fn check_kept(name: &str, source: &str, catalog: &Catalog) -> Result<Graph, Faults> {
    judge(name, source, catalog, Strictness::Meaning).map(|(graph, _)| graph)
}

/// How much is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// Only what the text means.
    Meaning,
    /// Everything.
    Whole,
}

/// The graph with its warnings, or all faults that keep it from being run.
fn judge(
    name: &str,
    source: &str,
    catalog: &Catalog,
    strictness: Strictness,
) -> Result<(Graph, Option<Faults>), Faults> {
    let mut faults = Vec::new();
    let graph = run(source, catalog, strictness, &mut faults);
    let is_faulty = faults.iter().any(Fault::is_error);
    if is_faulty {
        // Much of what warnings say may come from the faults.
        faults.retain(Fault::is_error);
    }
    let faults = Faults::from_list(name, source, faults);
    match (graph, faults) {
        (_, Some(faults)) if is_faulty => Err(faults),
        (Some(graph), warnings) => Ok((graph, warnings)),
        (None, _) => {
            // Reached only if a pass gave up in silence: still a fault, never a panic.
            let help = "compare it with a working one";
            let fault = Fault::new(codes::SYNTAX, 0..0, "here", "the file cannot be read", help);
            Err(Faults::only(name, source, fault))
        }
    }
}

fn run(source: &str, catalog: &Catalog, strictness: Strictness, faults: &mut Vec<Fault>) -> Option<Graph> {
    if source.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", source.len());
        faults.push(too_large(0..0, message));
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(source);
    let damage = damage::syntax(source, &document, &errors, faults);
    if damage.is_empty() {
        return meaning(source, &document, catalog, strictness, faults);
    }
    let mut found = Vec::new();
    meaning(source, &document, catalog, Strictness::Meaning, &mut found);
    faults.extend(damage::not_caused_by(&damage, source, found));
    None
}

/// The checks on a document that could be read.
fn meaning(
    source: &str,
    document: &Spanned<DeTable<'_>>,
    catalog: &Catalog,
    strictness: Strictness,
    faults: &mut Vec<Fault>,
) -> Option<Graph> {
    let file = GraphFile::lower(document, faults);
    for (count, what) in [(file.nodes.len(), "nodes"), (file.channels.len(), "channels")] {
        if count > MAX_MEMBERS {
            faults.push(too_large(0..0, format!("the file has {count} {what}, more than {MAX_MEMBERS}")));
            return None;
        }
    }
    let raw_header = &file.graph;
    let name = raw_header.name.get();
    if let Some(name) = name {
        names::name("graph", name, faults);
    }
    let mut custom_reducers = Vec::new();
    let channels =
        file.channels.iter().map(|raw| state::channel(raw, catalog, &mut custom_reducers, faults)).collect();
    let mut scope = Scope {
        source,
        catalog,
        name: name.map(|name| name.get_ref().as_str()),
        channels,
        nodes: file.nodes.iter().map(|node| node.name.get_ref().clone()).collect(),
        finally: None,
        sent: sent(&file),
    };
    scope.finally = header::finally(raw_header, &file.nodes, &scope, faults);
    let header = header::check(raw_header, faults);
    let start = raw_header.start.get().and_then(|start| next::node_index(start, "`start`", &scope, faults));
    let defaults = policy::defaults(&file.defaults, faults);
    let (failing, default_edges) = next::default_errors(&file.defaults.on_error, &scope, faults);
    let migrations =
        migrate::check(&file.migrations, header::value_or(&raw_header.version, 1), &scope, faults);

    let checked: Vec<node::Checked> =
        file.nodes.iter().map(|raw| node::check(raw, &scope, &defaults, faults)).collect();
    let mut edges: Vec<next::Edges> = file
        .nodes
        .iter()
        .enumerate()
        .map(|(index, raw)| next::check(raw, index, &scope, &failing, faults))
        .collect();
    if let Some(first) = edges.first_mut() {
        // What is wrong with the default arms concerns all nodes; one is enough to know of it.
        first.unclear |= default_edges.unclear;
        first.guesses.extend(default_edges.guesses);
    }
    let guessed_start = start.or_else(|| {
        let written = raw_header.start.get()?;
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
    let parts = Parts::of(&file.nodes, &checked, &edges, guessed_start);
    flow::check(&parts, &scope, faults);
    waits::check(&parts, &scope, faults);
    if strictness == Strictness::Whole && parts.is_whole() {
        trust::check(&parts, &scope, faults);
        danger::check(&parts, &scope, faults);
        usage::check(&parts, &scope, faults);
        if header.barrier == super::Barrier::Dataflow {
            usage::dataflow(&parts, raw_header, faults);
        }
    }
    if faults.iter().any(Fault::is_error) {
        return None;
    }

    let hash = hash(source, catalog, &checked);
    let finally = scope.finally.map(NodeIdx);
    let nodes = checked.into_iter().zip(edges).map(|(node, edges)| node.into_node(edges)).collect();
    Some(Graph {
        name: name.map(|name| name.get_ref().clone())?,
        version: header::value_or(&raw_header.version, 1),
        description: raw_header.description.get().map(|text| text.get_ref().clone()).unwrap_or_default(),
        start: NodeIdx(start?),
        max_steps: header::value_or(&raw_header.max_steps, 100),
        deadline: header.deadline,
        durability: header.durability,
        barrier: header.barrier,
        budget: header.budget,
        finally,
        retention: header.retention,
        migrations,
        channels: scope.channels.into_iter().map(|channel| channel.value).collect(),
        custom_reducers,
        nodes,
        source: Arc::from(source),
        hash,
    })
}

/// Whether a node says that it is a gate.
fn is_gate(raw: &RawNode) -> bool {
    raw.kind.get().is_some_and(|kind| kind.get_ref() == "gate")
}

/// Which nodes are sent tasks, and whether an edge leads to them too.
fn sent(file: &GraphFile) -> Vec<(String, Range<usize>, bool)> {
    let sends = file.nodes.iter().filter_map(|node| node.send.get()).flat_map(toml::Spanned::get_ref);
    let mut out: Vec<(String, Range<usize>, bool)> = Vec::new();
    let names = || file.nodes.iter().map(|node| node.name.get_ref().as_str());
    for name in sends {
        let written = name.get_ref().as_str();
        // A wrong name has its own fault, and stands for the node it may have meant.
        let meant = names().find(|node| *node == written).or_else(|| suggest::closest(written, names()));
        let Some(meant) = meant else { continue };
        if !out.iter().any(|(known, ..)| known == meant) {
            out.push((meant.to_owned(), name.span(), file.leads_to(meant)));
        }
    }
    out
}

fn too_large(span: Range<usize>, message: String) -> Fault {
    Fault::new(codes::TOO_LARGE, span, "the file begins here", message, "split it into several graphs")
}

/// SHA-256 over the text, and the prompts and graphs it names.
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
    let inner = nodes.iter().filter_map(|node| match &node.kind {
        Some(NodeKind::Graph(graph)) => Some((graph.name.as_str(), graph.hash.as_str())),
        _ => None,
    });
    let inner: std::collections::BTreeMap<&str, &str> = inner.collect();
    let mut hasher = Sha256::new();
    hasher.update(source);
    for prompt in prompts {
        let info = catalog.prompts.get(prompt);
        for part in ["\0", prompt, "\0", info.map_or("", |info| info.hash.as_str())] {
            hasher.update(part);
        }
    }
    for (name, hash) in inner {
        for part in ["\0graph\0", name, "\0", hash] {
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

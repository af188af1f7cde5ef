//! Nodes: their kind, and what that kind may say.

use std::ops::Range;

use super::policy::{self, Policy};
use super::{Scope, each, face, gate, input, names, output, trust, words};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::{RawNode, object};
use crate::graph::{ChannelIdx, Effect, Node, NodeKind, Type};

pub(super) use super::face::Face;
use super::next::Edges;

/// A node after its own checks; only its edges are missing.
pub(super) struct Checked {
    /// All but the edges; its kind is made up where that is a fault.
    node: Node,
    /// None where it is a fault.
    pub(super) kind: Option<NodeKind>,
    /// What it reads from the state, with what a fault would have to show.
    pub(super) reads: Vec<Read>,
    /// What it writes, with the place that says so.
    pub(super) writes: Vec<Write>,
    /// Whether all its reads and writes are known.
    pub(super) is_known: bool,
    /// Where its kind is named.
    pub(super) span: Range<usize>,
    /// How many ways in its join says it has, and where it says what it needs.
    pub(super) join_total: Option<u32>,
    pub(super) join_span: Range<usize>,
}

/// A read of a channel.
pub(super) struct Read {
    /// The input field; none where `each`, a limit or a gate reads the channel.
    pub(super) field: Option<String>,
    pub(super) channel: usize,
    pub(super) span: Range<usize>,
    /// Whether the reader takes null.
    pub(super) takes_null: bool,
}

/// A write to a channel.
#[derive(Clone)]
pub(super) struct Write {
    /// The output field, or what the engine writes.
    pub(super) field: String,
    pub(super) channel: usize,
    pub(super) span: Range<usize>,
    /// Type of the field, where it is one.
    pub(super) ty: Option<Type>,
    /// Whether it replaces the channel's value, whatever its reducer.
    pub(super) overwrites: bool,
}

impl Write {
    /// A write that the engine makes: an answer, a failure, the status of a fan-out.
    pub(super) fn of_engine(what: &str, channel: usize, span: Range<usize>) -> Self {
        Self { field: what.to_owned(), channel, span, ty: None, overwrites: false }
    }

    /// Whether the engine makes it.
    pub(super) fn is_of_engine(&self) -> bool {
        self.ty.is_none()
    }
}

impl Checked {
    /// The node as far as it is known.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The node with its edges. A kind that is a fault never comes here: then there is no graph.
    pub(super) fn into_node(self, edges: Edges) -> Node {
        Node {
            kind: self.kind.unwrap_or(NodeKind::Task { task: String::new() }),
            reads: self
                .reads
                .into_iter()
                .filter_map(|read| Some((read.field?, ChannelIdx(read.channel))))
                .collect(),
            overwrite: {
                let mut list: Vec<ChannelIdx> = self
                    .writes
                    .iter()
                    .filter(|write| write.overwrites)
                    .map(|write| ChannelIdx(write.channel))
                    .collect();
                list.dedup();
                list
            },
            writes: self
                .writes
                .into_iter()
                .filter(|write| !write.is_of_engine())
                .map(|write| (write.field, ChannelIdx(write.channel)))
                .collect(),
            on_error: edges.errors,
            goto: edges.goto,
            send: edges.send,
            next: edges.arms,
            ..self.node
        }
    }
}

/// Keys that belong to some kinds of nodes only, with those kinds.
const KEYS: [(&str, &[&str]); 28] = [
    ("model", &["prompt"]),
    ("output", &["prompt"]),
    ("in", &["graph"]),
    ("out", &["graph"]),
    ("reads", &["task", "prompt"]),
    ("writes", &["task", "prompt"]),
    ("goto", &["task"]),
    ("send", &["task"]),
    ("validates", &["task", "prompt"]),
    ("each", &["task", "prompt", "graph"]),
    ("with", &["task", "prompt", "graph"]),
    ("effect", &["task", "prompt", "graph"]),
    ("overwrite", &["task", "prompt", "graph"]),
    ("retry", &["task", "prompt", "graph"]),
    ("budget", &["task", "prompt", "graph"]),
    ("breaker", &["task", "prompt", "graph"]),
    ("on_error", &["task", "prompt", "graph"]),
    ("cache", &["task", "prompt", "graph"]),
    ("next", &["task", "prompt", "graph"]),
    ("ask", &["gate"]),
    ("options", &["gate"]),
    ("who", &["gate"]),
    ("shows", &["gate"]),
    ("on_timeout", &["gate"]),
    ("answer", &["gate"]),
    // Last, so that the list of kinds can be read off the first four.
    ("task", &["task"]),
    ("prompt", &["prompt"]),
    ("graph", &["graph"]),
];

/// Checks a node by itself.
pub(super) fn check(raw: &RawNode, scope: &Scope<'_>, defaults: &Policy, faults: &mut Vec<Fault>) -> Checked {
    names::name("node", &raw.name, faults);
    let name = raw.name.get_ref();
    let mut plain = Node {
        description: raw.description.get().map(|text| text.get_ref().clone()).unwrap_or_default(),
        defer: raw.defer.get().is_some_and(|defer| *defer.get_ref()),
        max_visits: raw.max_visits.get().map(|most| *most.get_ref()),
        ..Node::plain(name, NodeKind::Task { task: String::new() })
    };
    let (join_total, join_span) = match policy::join(raw, faults) {
        Some((join, total, span)) => {
            plain.join = Some(join);
            (total, span)
        }
        None => (None, raw.key_span("join")),
    };
    let (kind, face, mut reads, mut writes) = kind(raw, scope, faults);
    if matches!(kind, Some(NodeKind::Gate(_))) {
        plain.effect = Effect::Pure;
        return Checked {
            node: plain,
            kind,
            reads,
            writes,
            is_known: true,
            span: raw.key_span("kind"),
            join_total,
            join_span,
        };
    }
    let each = each::check(raw, scope, &face, faults);
    reads.extend(each.reads);
    reads.extend(input::reads(raw, scope, &face, faults));
    writes.extend(output::writes(raw, scope, &face, faults));
    writes.extend(each.writes);
    let policy = policy::read(&raw.policy, defaults, faults);
    let effect = effect(raw, &face, faults);
    let validates = trust::validates(raw, scope, &face, faults);
    let cache = policy::cache(raw, scope, &face, faults);
    if effect > Effect::Read && raw.has("cache") {
        faults.push(Fault::new(
            codes::CACHE_EFFECT,
            raw.key_span("cache"),
            format!("the node's effect is `{}`", effect.as_str()),
            format!("an earlier result of `{name}` cannot stand for doing it"),
            "take `cache` out; a `write` node gets the same idempotency key on every attempt",
        ));
    }
    let node = Node {
        each: each.each,
        with: object(&raw.with),
        effect,
        validates,
        timeout: policy.timeout,
        idle_timeout: policy.idle_timeout,
        retry: policy.retry,
        breaker: policy.breaker,
        budget: policy.budget,
        cache,
        ..plain
    };
    let is_known = face.inputs.is_some() && face.outputs.is_some();
    Checked { node, kind, reads, writes, is_known, span: face.span, join_total, join_span }
}

type Kind = (Option<NodeKind>, Face, Vec<Read>, Vec<Write>);

fn kind(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> Kind {
    let name = raw.name.get_ref();
    let word = raw.kind.get().and_then(|word| words::one_of(word, "kind", &["gate"], faults));
    let mut given: Vec<(&str, &str)> = [
        (!raw.task.is_absent(), ("task", "task")),
        (!raw.prompt.is_absent(), ("prompt", "prompt")),
        (!raw.graph.is_absent(), ("graph", "graph")),
        (word.is_some(), ("kind", "gate")),
    ]
    .into_iter()
    .filter_map(|(is, kind)| is.then_some(kind))
    .collect();
    let Some((key, kind)) = given.pop() else {
        // A `kind` that is none, or not a string, has its own fault.
        if raw.kind.is_absent() {
            let is_gate = raw.has("ask") || raw.has("options");
            faults.push(Fault::new(
                codes::KIND,
                raw.name.span(),
                "neither `task`, `prompt`, `graph` nor `kind`",
                format!("the node `{name}` does nothing"),
                if is_gate {
                    "add `kind = \"gate\"`"
                } else {
                    "add `task = \"…\"` for a Rust function, `prompt = \"…\"` with `model` and `output` for a model, \
                     `graph = \"…\"` for another graph, or `kind = \"gate\"` for a person's decision"
                },
            ));
        }
        return (None, Face::unknown(raw), Vec::new(), Vec::new());
    };
    if !given.is_empty() {
        let mut fault = Fault::new(
            codes::KIND,
            raw.key_span(key),
            format!("and a `{kind}`"),
            format!("the node `{name}` is of several kinds"),
            "keep one of them; make two nodes if both are wanted",
        );
        for (key, kind) in given {
            fault = fault.also(raw.key_span(key), format!("a `{kind}`"));
        }
        faults.push(fault);
        return (None, Face::unknown(raw), Vec::new(), Vec::new());
    }
    meaningless(raw, key, kind, faults);
    let (kind, face) = match kind {
        "gate" => {
            let (kind, face, reads, writes) = gate::check(raw, scope, faults);
            return (Some(kind), face, reads, writes);
        }
        "prompt" => face::prompt(raw, scope, faults),
        "graph" => face::graph(raw, scope, faults),
        _ => face::task(raw, scope, faults),
    };
    (kind, face, Vec::new(), Vec::new())
}

/// Reports the keys that belong to nodes of another kind.
fn meaningless(raw: &RawNode, by: &str, kind: &str, faults: &mut Vec<Fault>) {
    let mut wrong = |key: &str, label: String, help: String| {
        let fault = Fault::new(
            codes::MEANINGLESS_KEY,
            raw.key_span(key),
            label,
            format!("`{key}` has no meaning on a `{kind}` node"),
            help,
        );
        faults.push(fault.also(raw.key_span(by), format!("this makes it a `{kind}` node")));
    };
    for (key, kinds) in KEYS {
        if !raw.has(key) || kinds.contains(&kind) {
            continue;
        }
        let help = match (key, kind) {
            ("next", "gate") => "the `options` of a gate say where it leads".to_owned(),
            ("reads", "graph") => "write `in = { inner = \"channel\" }`".to_owned(),
            ("writes", "graph") => "write `out = { inner = \"channel\" }`".to_owned(),
            ("validates", "graph") => {
                "mark the inner graph's `output` channel trusted, and let a node in it validate".to_owned()
            }
            _ => match kinds {
                [only] => {
                    format!("take `{key}` out, or make `{}` a `{only}` node", raw.name.get_ref())
                }
                _ => format!("take `{key}` out"),
            },
        };
        wrong(key, format!("no `{key}` here"), help);
    }
    if kind == "gate" && !raw.policy.idle_timeout.is_absent() {
        wrong(
            "timeout",
            "one duration".to_owned(),
            "write `timeout = \"1h\"`: a gate has no idle time".to_owned(),
        );
    }
}

/// What the node does to the world: what the file says, or what its kind does at least.
fn effect(raw: &RawNode, face: &Face, faults: &mut Vec<Fault>) -> Effect {
    let Some(word) = raw.effect.get() else { return face.effect };
    let found = words::one_of(word, "effect", &Effect::ALL.map(Effect::as_str), faults);
    let Some(effect) = Effect::ALL.into_iter().find(|effect| Some(effect.as_str()) == found) else {
        return face.effect;
    };
    if effect < face.effect {
        faults.push(
            Fault::new(
                codes::EFFECT,
                word.span(),
                "less than it does",
                format!(
                    "{} does more than `{}`: it was registered as `{}`",
                    face.title,
                    effect.as_str(),
                    face.effect.as_str()
                ),
                format!("write `effect = \"{}\"`, or leave the key out", face.effect.as_str()),
            )
            .also(face.span.clone(), format!("`{}`", face.effect.as_str())),
        );
    }
    effect
}

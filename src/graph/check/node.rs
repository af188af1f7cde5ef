//! Nodes: their kind, and the faces that kind gives them.

use std::ops::Range;
use std::time::Duration;

use serde_json::{Map, Value};

use super::policy::{self, Policy};
use super::{Scope, input, names, output};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::{RawNode, object};
use crate::graph::{Arm, ChannelIdx, Each, Field, Node, NodeKind, Retry, Type, suggest};

/// A node after its own checks; only its edges are missing.
pub(super) struct Checked {
    name: String,
    description: String,
    /// None where it is a fault.
    pub(super) kind: Option<NodeKind>,
    pub(super) each: Option<Each>,
    /// What it reads from the state, with what a fault would have to show.
    pub(super) reads: Vec<Read>,
    /// What it writes, with the place that says so.
    pub(super) writes: Vec<Write>,
    /// Whether all its writes are known.
    pub(super) writes_known: bool,
    with: Map<String, Value>,
    timeout: Option<Duration>,
    retry: Retry,
}

/// A read of a channel.
pub(super) struct Read {
    /// The input field; none where `each` or a limit reads the channel.
    pub(super) field: Option<String>,
    pub(super) channel: usize,
    pub(super) span: Range<usize>,
    /// Whether the reader takes null.
    pub(super) takes_null: bool,
}

/// A write to a channel.
pub(super) struct Write {
    pub(super) field: String,
    pub(super) channel: usize,
    pub(super) span: Range<usize>,
}

/// The face of a node: what its input and output have.
pub(super) struct Face {
    /// Fields of the input; none where the kind is a fault.
    pub(super) inputs: Option<Vec<Field>>,
    /// Fields of the output; none where the kind is a fault.
    pub(super) outputs: Option<Vec<Field>>,
    /// Where the kind is named.
    pub(super) span: Range<usize>,
    /// How messages call it, as "the task `patrol.scan`".
    pub(super) title: String,
    pub(super) is_prompt: bool,
}

impl Checked {
    /// The node with its edges. A kind that is a fault never comes here: then there is no graph.
    pub(super) fn into_node(self, next: Vec<Arm>) -> Node {
        let kind = self.kind.unwrap_or(NodeKind::Task { task: String::new() });
        Node {
            description: self.description,
            each: self.each,
            reads: self
                .reads
                .into_iter()
                .filter_map(|read| Some((read.field?, ChannelIdx(read.channel))))
                .collect(),
            writes: self.writes.into_iter().map(|write| (write.field, ChannelIdx(write.channel))).collect(),
            with: self.with,
            timeout: self.timeout,
            retry: self.retry,
            next,
            ..Node::plain(&self.name, kind)
        }
    }
}

/// Checks a node by itself.
pub(super) fn check(raw: &RawNode, scope: &Scope<'_>, defaults: &Policy, faults: &mut Vec<Fault>) -> Checked {
    names::name("node", &raw.name, faults);
    let (kind, face) = kind(raw, scope, faults);
    let (each, mut reads) = input::each(raw, scope, &face, faults);
    reads.extend(input::reads(raw, scope, &face, faults));
    let writes = output::writes(raw, scope, &face, faults);
    let Policy { timeout, retry } = policy::read(&raw.policy, defaults, faults);
    Checked {
        name: raw.name.get_ref().clone(),
        description: raw.description.get().map(|text| text.get_ref().clone()).unwrap_or_default(),
        kind,
        each,
        reads,
        writes,
        writes_known: face.outputs.is_some(),
        with: object(&raw.with),
        timeout,
        retry,
    }
}

fn kind(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> (Option<NodeKind>, Face) {
    let name = raw.name.get_ref();
    match (raw.task.is_absent(), raw.prompt.is_absent()) {
        (false, true) => task(raw, scope, faults),
        (true, false) => prompt(raw, scope, faults),
        (true, true) => {
            faults.push(Fault::new(
                codes::KIND,
                raw.name.span(),
                "neither `task` nor `prompt`",
                format!("the node `{name}` does nothing"),
                "add `task = \"…\"` for a Rust function, or `prompt = \"…\"` with `model` and `output` for a model",
            ));
            (None, Face::unknown(raw))
        }
        (false, false) => {
            faults.push(
                Fault::new(
                    codes::KIND,
                    raw.key_span("prompt"),
                    "and a `prompt`",
                    format!("the node `{name}` has both a `task` and a `prompt`"),
                    "keep one of them; make two nodes if both are wanted",
                )
                .also(raw.key_span("task"), "a `task`"),
            );
            (None, Face::unknown(raw))
        }
    }
}

impl Face {
    fn unknown(raw: &RawNode) -> Self {
        Self {
            inputs: None,
            outputs: None,
            span: raw.name.span(),
            title: format!("the node `{}`", raw.name.get_ref()),
            is_prompt: false,
        }
    }
}

fn task(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> (Option<NodeKind>, Face) {
    for key in ["model", "output"] {
        if raw.keys.iter().any(|(name, _)| name == key) {
            let fault = Fault::new(
                codes::MEANINGLESS_KEY,
                raw.key_span(key),
                format!("no `{key}` here"),
                format!("`{key}` has no meaning on a `task` node"),
                format!("take `{key}` out, or make `{}` a `prompt` node", raw.name.get_ref()),
            );
            faults.push(fault.also(raw.key_span("task"), "this makes it a `task` node"));
        }
    }
    let mut face = Face::unknown(raw);
    let Some(task) = raw.task.get() else { return (None, face) };
    face.span = task.span();
    let Some(signature) = scope.catalog.tasks.get(task.get_ref()) else {
        faults.push(Fault::new(
            codes::UNKNOWN_TASK,
            task.span(),
            "no such task",
            format!("no task is registered as `{}`", task.get_ref()),
            suggest::help(task.get_ref(), scope.catalog.tasks.keys().map(String::as_str), "tasks"),
        ));
        return (None, face);
    };
    face.inputs = Some(signature.inputs.clone());
    face.outputs = Some(signature.outputs.clone());
    face.title = format!("the task `{}`", task.get_ref());
    (Some(NodeKind::Task { task: task.get_ref().clone() }), face)
}

fn prompt(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> (Option<NodeKind>, Face) {
    let catalog = scope.catalog;
    let mut face = Face::unknown(raw);
    face.is_prompt = true;
    for (slot, key, help) in [
        (&raw.model, "model", "add `model = \"…\"`: the role that answers, as `investigator`"),
        (&raw.output, "output", "add `output = \"…\"`: the registered type of the answer"),
    ] {
        if slot.is_absent() {
            faults.push(Fault::new(
                codes::MISSING_KEY,
                raw.key_span("prompt"),
                format!("needs `{key}` beside it"),
                format!("the prompt node `{}` has no `{key}`", raw.name.get_ref()),
                help,
            ));
        }
    }
    if let Some(role) = raw.model.get()
        && !catalog.roles.contains(role.get_ref())
    {
        faults.push(Fault::new(
            codes::UNKNOWN_ROLE,
            role.span(),
            "no such role",
            format!("no model role is called `{}`", role.get_ref()),
            suggest::help(role.get_ref(), catalog.roles.iter().map(String::as_str), "roles"),
        ));
    }
    if let Some(prompt) = raw.prompt.get() {
        face.span = prompt.span();
        face.title = format!("the prompt `{}`", prompt.get_ref());
        if let Some(info) = catalog.prompts.get(prompt.get_ref()) {
            let field = |name: &String| Field { name: name.clone(), ty: Type::Any, required: true };
            face.inputs = Some(info.variables.iter().map(field).collect());
        } else {
            faults.push(Fault::new(
                codes::UNKNOWN_PROMPT,
                prompt.span(),
                "no such prompt",
                format!("there is no prompt `{}`", prompt.get_ref()),
                suggest::help(prompt.get_ref(), catalog.prompts.keys().map(String::as_str), "prompts"),
            ));
        }
    }
    if let Some(output) = raw.output.get() {
        face.outputs = output_fields(output, scope, faults);
    }
    let kind = match (raw.prompt.get(), raw.model.get(), raw.output.get()) {
        (Some(prompt), Some(role), Some(output)) => Some(NodeKind::Prompt {
            prompt: prompt.get_ref().clone(),
            role: role.get_ref().clone(),
            output: output.get_ref().clone(),
        }),
        _ => None,
    };
    (kind, face)
}

fn output_fields(
    output: &toml::Spanned<String>,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Vec<Field>> {
    let types = &scope.catalog.types;
    let Some(info) = types.get(output.get_ref()) else {
        faults.push(Fault::new(
            codes::UNKNOWN_TYPE,
            output.span(),
            "no such type",
            format!("no type is registered as `{}`", output.get_ref()),
            suggest::help(output.get_ref(), types.keys().map(String::as_str), "types"),
        ));
        return None;
    };
    if info.fields.is_empty() {
        let objects = types.iter().filter(|(_, info)| !info.fields.is_empty()).map(|(name, _)| name.as_str());
        faults.push(Fault::new(
            codes::OUTPUT_FIELDS,
            output.span(),
            "has no fields",
            format!("the answer of a prompt must be an object, and `{}` is none", output.get_ref()),
            format!("choose a type with fields: {}", suggest::list(objects)),
        ));
        return None;
    }
    Some(info.fields.clone())
}

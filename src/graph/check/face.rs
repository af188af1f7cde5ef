//! The faces of nodes: what the kind of a node gives it for inputs and outputs.

use std::ops::Range;
use std::sync::Arc;

use super::Scope;
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;
use crate::graph::{Effect, Field, Graph, NodeKind, Type, suggest};

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
    /// The inner graph, where it is one.
    pub(super) graph: Option<Arc<Graph>>,
    /// The least that it does to the world.
    pub(super) effect: Effect,
}

impl Face {
    pub(super) fn unknown(raw: &RawNode) -> Self {
        Self {
            inputs: None,
            outputs: None,
            span: raw.name.span(),
            title: format!("the node `{}`", raw.name.get_ref()),
            is_prompt: false,
            graph: None,
            effect: Effect::Pure,
        }
    }

    /// The key that says where inputs come from.
    pub(super) fn reads_key(&self) -> &'static str {
        if self.graph.is_some() { "in" } else { "reads" }
    }

    /// The key that says where outputs go.
    pub(super) fn writes_key(&self) -> &'static str {
        if self.graph.is_some() { "out" } else { "writes" }
    }

    /// What an input or output is called.
    pub(super) fn part(&self, side: &str) -> String {
        match (self.is_prompt, self.graph.is_some(), side) {
            (true, _, "input") => "variable".to_owned(),
            (_, true, side) => format!("{side} channel"),
            _ => "field".to_owned(),
        }
    }
}

/// A node that runs a registered function.
pub(super) fn task(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> (Option<NodeKind>, Face) {
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
    face.effect = signature.effect;
    (Some(NodeKind::Task { task: task.get_ref().clone() }), face)
}

/// A node that asks a model.
pub(super) fn prompt(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> (Option<NodeKind>, Face) {
    let catalog = scope.catalog;
    let mut face = Face::unknown(raw);
    face.is_prompt = true;
    face.effect = Effect::Read;
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

/// A node that runs another graph: its `input` channels are the inputs, its `output` channels the outputs.
pub(super) fn graph(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> (Option<NodeKind>, Face) {
    let mut face = Face::unknown(raw);
    let Some(name) = raw.graph.get() else { return (None, face) };
    face.span = name.span();
    let graphs = &scope.catalog.graphs;
    let Some(inner) = graphs.get(name.get_ref()).filter(|_| scope.name != Some(name.get_ref())) else {
        let itself = scope.name == Some(name.get_ref());
        let others = graphs.keys().map(String::as_str).filter(|other| Some(*other) != scope.name);
        faults.push(Fault::new(
            codes::UNKNOWN_GRAPH,
            name.span(),
            if itself { "this graph itself" } else { "no such graph" },
            if itself {
                "a graph cannot be a step of itself".to_owned()
            } else {
                format!("there is no sound graph `{}`", name.get_ref())
            },
            if itself {
                "use a cycle of edges with a way out".to_owned()
            } else {
                suggest::help(name.get_ref(), others.collect::<Vec<_>>(), "graphs")
            },
        ));
        return (None, face);
    };
    if let Some(own) = scope.name
        && contains(inner, own)
    {
        faults.push(Fault::new(
            codes::UNKNOWN_GRAPH,
            name.span(),
            "contains this graph",
            format!("the graph `{}` has `{own}` as a step, which would never end", name.get_ref()),
            "take one of the two out of the other",
        ));
        return (None, face);
    }
    let field = |channel: &crate::graph::StateChannel| Field {
        name: channel.name.clone(),
        ty: channel.ty.clone(),
        required: channel.default.is_none(),
    };
    face.title = format!("the graph `{}`", name.get_ref());
    face.inputs = Some(inner.channels.iter().filter(|channel| channel.input).map(field).collect());
    face.outputs = Some(inner.channels.iter().filter(|channel| channel.output).map(field).collect());
    // What is dangerous in it has its own gates in it.
    let most = inner.nodes.iter().map(|node| node.effect).max().unwrap_or(Effect::Pure);
    face.effect = most.min(Effect::Write);
    face.graph = Some(Arc::clone(inner));
    (Some(NodeKind::Graph(Arc::clone(inner))), face)
}

/// Whether a graph has another one as a step, however deep.
fn contains(graph: &Graph, name: &str) -> bool {
    graph.nodes.iter().any(|node| match &node.kind {
        NodeKind::Graph(inner) => inner.name == name || contains(inner, name),
        NodeKind::Task { .. } | NodeKind::Prompt { .. } | NodeKind::Gate(_) => false,
    })
}

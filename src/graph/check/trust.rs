//! Trust labels: where untrusted values and secrets may go.

use std::ops::Range;

use super::input::unknown_field;
use super::node::{Face, Read};
use super::untrusted::{self, Bound, Shape};
use super::{Parts, Scope};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::{RawNode, RawValidates};
use crate::graph::{Graph, NodeKind, StateChannel, Trust};

/// The output fields that a node vouches for. Of a model's answer only what its schema bounds.
pub(super) fn validates(
    raw: &RawNode,
    scope: &Scope<'_>,
    face: &Face,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    let (Some(given), Some(outputs)) = (raw.validates.get(), &face.outputs) else { return Vec::new() };
    let fields: Vec<(&str, Range<usize>)> = match given.get_ref() {
        RawValidates::All(false) => Vec::new(),
        RawValidates::All(true) => outputs.iter().map(|field| (field.name.as_str(), given.span())).collect(),
        RawValidates::Fields(list) => {
            for field in list {
                if !outputs.iter().any(|output| output.name == *field.get_ref()) {
                    faults.push(unknown_field("`validates`", field, face, outputs, "output"));
                }
            }
            list.iter().map(|field| (field.get_ref().as_str(), field.span())).collect()
        }
    };
    let mut out: Vec<String> = Vec::new();
    for (name, span) in fields {
        let Some(field) = outputs.iter().find(|field| field.name == name) else { continue };
        let bound = untrusted::bound(&Shape::Ty(field.ty.clone()), scope.catalog);
        if face.is_prompt && bound != Bound::Closed {
            faults.push(Fault::new(
                codes::VALIDATES,
                span,
                format!("`{name}` is `{}`", field.ty),
                format!("a model's answer cannot vouch for `{name}`, which is no bool, number or word of a fixed list"),
                "let a `task` check it, and say `validates` there",
            ));
        }
        if !out.iter().any(|known| known == name) {
            out.push(name.to_owned());
        }
    }
    out
}

/// Why what a node makes is untrusted.
#[derive(Clone)]
struct Taint {
    span: Range<usize>,
    label: String,
}

/// Checks where untrusted values and secrets go.
pub(super) fn check(parts: &Parts<'_>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let taints = taints(parts, scope);
    for (index, node) in parts.nodes.iter().enumerate() {
        if let Some(NodeKind::Graph(inner)) = &node.kind {
            inner_graph(parts, index, inner, scope, faults);
        }
        flows(parts, index, taints.get(index).and_then(Option::as_ref), scope, faults);
        if matches!(node.kind, Some(NodeKind::Prompt { .. })) {
            secrets(parts, index, scope, faults);
        }
    }
    for edges in parts.edges {
        for read in &edges.reads {
            let Some(channel) = scope.channels.get(read.channel) else { continue };
            if channel.value.trust == Trust::Untrusted
                && let Some(ty) = &channel.ty
                && let Some(why) = untrusted::decides(&read.source, &channel.value.name, ty, scope.catalog)
            {
                faults.push(
                    Fault::new(
                        codes::UNTRUSTED_CONDITION,
                        read.span.clone(),
                        why,
                        format!("the condition lets the text of `{}` decide, which is untrusted", channel.value.name),
                        "compare a bool, a number or a word of a fixed list, ask whether a list or optional value \
                         is there, or use `| length` of a list; a task may work such a value out",
                    )
                    .also(channel.span.clone(), "is untrusted"),
                );
            }
        }
    }
}

/// Whether a task of the node gets the value, as a field or as its items.
fn is_input(parts: &Parts<'_>, node: usize, read: &Read) -> bool {
    let over = parts.nodes.get(node).and_then(|node| node.node().each.as_ref()).map(|each| each.over.0);
    read.field.is_some() || over == Some(read.channel)
}

/// For each node why what it makes is untrusted, if it is.
fn taints(parts: &Parts<'_>, scope: &Scope<'_>) -> Vec<Option<Taint>> {
    let is_untrusted =
        |channel: usize| scope.channels.get(channel).is_some_and(|c| c.value.trust == Trust::Untrusted);
    let by_reads = |index: usize| {
        let read = parts
            .nodes
            .get(index)?
            .reads
            .iter()
            .find(|read| is_untrusted(read.channel) && is_input(parts, index, read))?;
        let name = scope.channels.get(read.channel).map_or("?", |channel| channel.value.name.as_str());
        Some(Taint { span: read.span.clone(), label: format!("reads `{name}`, which is untrusted") })
    };
    let mut out: Vec<Option<Taint>> = parts
        .nodes
        .iter()
        .enumerate()
        .map(|(index, node)| match &node.kind {
            Some(NodeKind::Gate(_)) | None => None,
            Some(NodeKind::Prompt { .. }) => {
                Some(Taint { span: node.span.clone(), label: "a model answers here".to_owned() })
            }
            Some(NodeKind::Graph(inner)) => by_reads(index).or_else(|| {
                inner.channels.iter().any(|channel| channel.trust == Trust::Untrusted).then(|| Taint {
                    span: node.span.clone(),
                    label: "works with untrusted values".to_owned(),
                })
            }),
            Some(NodeKind::Task { .. }) => by_reads(index),
        })
        .collect();
    // What an untrusted value was sent with is untrusted too.
    let mut open: Vec<usize> =
        (0..out.len()).filter(|index| matches!(out.get(*index), Some(Some(_)))).collect();
    while let Some(sender) = open.pop() {
        for target in parts.edges.get(sender).into_iter().flat_map(|edges| &edges.send) {
            if let Some(taint @ None) = out.get_mut(target.0) {
                let span = parts.raw.get(sender).map_or(0..0, |raw| raw.key_span("send"));
                let label = format!("`{}` sends it untrusted values", parts.name(sender));
                *taint = Some(Taint { span, label });
                open.push(target.0);
            }
        }
    }
    out
}

/// What a node writes to trusted channels.
fn flows(parts: &Parts<'_>, index: usize, taint: Option<&Taint>, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let (Some(taint), Some(node)) = (taint, parts.nodes.get(index)) else { return };
    let is_graph = matches!(node.kind, Some(NodeKind::Graph(_)));
    for write in parts.writes(index) {
        let Some(channel) = scope.channels.get(write.channel) else { continue };
        let vouched = !write.is_of_engine() && node.node().validates.contains(&write.field);
        // An inner graph labels its outputs itself.
        if channel.value.trust == Trust::Untrusted || vouched || (is_graph && !write.is_of_engine()) {
            continue;
        }
        let what = if write.is_of_engine() { write.field.clone() } else { format!("`{}`", write.field) };
        let name = &channel.value.name;
        let help = match &node.kind {
            Some(NodeKind::Task { .. }) if !write.is_of_engine() => format!(
                "write `trust = \"untrusted\"` for `{name}`, or, if this task checks the value, `validates = [\"{}\"]`",
                write.field
            ),
            _ => format!("write `trust = \"untrusted\"` for `{name}`"),
        };
        faults.push(
            Fault::new(
                codes::TRUST_FLOW,
                write.span.clone(),
                format!("{what} goes to `{name}`"),
                format!("`{}` writes an untrusted value to `{name}`, which is trusted", parts.name(index)),
                help,
            )
            .also(taint.span.clone(), taint.label.clone())
            .also(channel.span.clone(), "is trusted"),
        );
    }
}

/// What goes into an inner graph and comes out of it.
fn inner_graph(parts: &Parts<'_>, index: usize, inner: &Graph, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let Some(node) = parts.nodes.get(index) else { return };
    let item = node.node().each.as_ref();
    let inner_channel = |name: &str| inner.channels.iter().find(|channel| channel.name == name);
    for read in &node.reads {
        let field = match (&read.field, item) {
            (Some(field), _) => field.as_str(),
            (None, Some(each)) if each.over.0 == read.channel => each.item.as_str(),
            _ => continue,
        };
        if let (Some(outer), Some(into)) = (scope.channels.get(read.channel), inner_channel(field)) {
            crossing(&outer.value, into, &read.span, inner, faults);
        }
    }
    for write in node.writes.iter().filter(|write| !write.is_of_engine()) {
        if let (Some(outer), Some(from)) = (scope.channels.get(write.channel), inner_channel(&write.field)) {
            crossing(from, &outer.value, &write.span, inner, faults);
        }
    }
}

fn crossing(
    from: &StateChannel,
    to: &StateChannel,
    span: &Range<usize>,
    inner: &Graph,
    faults: &mut Vec<Fault>,
) {
    if from.trust == Trust::Untrusted && to.trust == Trust::Trusted {
        faults.push(Fault::new(
            codes::TRUST_FLOW,
            span.clone(),
            format!("`{}` goes to `{}`", from.name, to.name),
            format!(
                "at the border of the graph `{}`, the untrusted `{}` becomes the trusted `{}`",
                inner.name, from.name, to.name
            ),
            format!("write `trust = \"untrusted\"` for `{}`", to.name),
        ));
    }
    if from.secret && !to.secret {
        faults.push(Fault::new(
            codes::SECRET_LEAK,
            span.clone(),
            format!("`{}` goes to `{}`", from.name, to.name),
            format!(
                "at the border of the graph `{}`, the secret `{}` would be stored in clear as `{}`",
                inner.name, from.name, to.name
            ),
            format!("write `secret = true` for `{}`", to.name),
        ));
    }
}

/// Secrets that would reach a model.
fn secrets(parts: &Parts<'_>, index: usize, scope: &Scope<'_>, faults: &mut Vec<Fault>) {
    let Some(node) = parts.nodes.get(index) else { return };
    for read in node.reads.iter().filter(|read| is_input(parts, index, read)) {
        let Some(channel) = scope.channels.get(read.channel).filter(|channel| channel.value.secret) else {
            continue;
        };
        faults.push(
            Fault::new(
                codes::SECRET_LEAK,
                read.span.clone(),
                format!("reads `{}`", channel.value.name),
                format!(
                    "the prompt of `{}` would send the secret `{}` to a model",
                    parts.name(index),
                    channel.value.name
                ),
                "let a `task` use the secret, and give the prompt what it may know",
            )
            .also(channel.span.clone(), "is secret"),
        );
    }
}

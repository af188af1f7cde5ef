//! What is different between two versions of a graph, and whether runs that are under way can go on with the new one.

use std::time::Duration;

use serde::Serialize;

use super::document::written;
use super::{
    Arm, Budget, ChannelIdx, Durability, Each, Graph, Join, Migration, Need, Node, NodeIdx, NodeKind,
    OnItemError, Parallel, Retry, StateChannel, Tolerate, Trust,
};
use crate::text::{bounded, plain, push};

/// Longest value that is shown of a change.
const LONGEST: usize = 200;

/// One difference between two versions of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is different, in a line.
    pub what: String,
    /// Why runs that are under way cannot go on with it, and what to do; nothing where they can.
    pub breaks: Option<String>,
}

/// Every difference, in the order of the file: the graph, its channels, its nodes. The migrations of the new version
/// count.
pub fn compare(old: &Graph, new: &Graph) -> Vec<Change> {
    let mut out = Vec::new();
    let moves = Moves::of(old, new);
    header(old, new, &mut out);
    channels(old, new, &moves, &mut out);
    nodes(old, new, &moves, &mut out);
    if out.is_empty() && old.hash != new.hash && old.source == new.source {
        out.push(change("the text of a prompt, or a graph inside this one, changed"));
    }
    out
}

/// Where the names of the old version went.
struct Moves<'g> {
    steps: Vec<&'g Migration>,
    /// What to write where something breaks.
    advice: &'static str,
}

/// Where a channel went.
enum Went {
    To(String),
    Dropped,
}

impl<'g> Moves<'g> {
    fn of(old: &Graph, new: &'g Graph) -> Self {
        let mut steps = Vec::new();
        let mut version = old.version;
        while let Some(step) = new.migrations.iter().find(|step| step.from == version && step.to > version) {
            steps.push(step);
            version = step.to;
        }
        let advice = if new.version > old.version {
            "in `[[migrate]]`"
        } else {
            "in `[[migrate]]`, with a higher `version`"
        };
        Self { steps, advice }
    }

    fn channel(&self, name: &str) -> Went {
        let mut name = name.to_owned();
        for step in &self.steps {
            if step.drop.contains(&name) {
                return Went::Dropped;
            }
            if let Some((_, new)) = step.rename.iter().find(|(old, _)| *old == name) {
                name.clone_from(new);
            }
        }
        Went::To(name)
    }

    fn node(&self, name: &str) -> String {
        let mut name = name.to_owned();
        for step in &self.steps {
            if let Some((_, new)) = step.nodes.iter().find(|(old, _)| *old == name) {
                name.clone_from(new);
            }
        }
        name
    }

    fn gives(&self, channel: &str) -> bool {
        self.steps.iter().any(|step| step.default.contains_key(channel))
    }
}

fn change(what: impl AsRef<str>) -> Change {
    Change { what: bounded(&plain(what.as_ref()), 3 * LONGEST), breaks: None }
}

fn breaking(what: impl AsRef<str>, why: impl AsRef<str>) -> Change {
    Change { breaks: Some(plain(why.as_ref())), ..change(what) }
}

/// Whatever differs between two descriptions with the same keys.
fn differences(of: &str, before: &[(&str, String)], after: &[(&str, String)], out: &mut Vec<Change>) {
    for ((key, before), (_, after)) in before.iter().zip(after) {
        if before != after {
            let (before, after) = (bounded(before, LONGEST), bounded(after, LONGEST));
            out.push(change(format!("{of}{key}: {after} (was {before})")));
        }
    }
}

fn header(old: &Graph, new: &Graph, out: &mut Vec<Change>) {
    if old.name != new.name {
        out.push(breaking(
            format!("name: {} (was {})", new.name, old.name),
            format!("runs of `{}` are no runs of `{}`", old.name, new.name),
        ));
    }
    differences("", &graph_parts(old), &graph_parts(new), out);
}

fn graph_parts(graph: &Graph) -> Vec<(&'static str, String)> {
    let name = |node: NodeIdx| graph.nodes.get(node.0).map_or("?", |node| node.name.as_str()).to_owned();
    let durability = match graph.durability {
        Durability::Power => "power",
        Durability::Crash => "crash",
        Durability::Exit => "exit",
    };
    let retention = &graph.retention;
    vec![
        ("version", graph.version.to_string()),
        ("description", or_none(&graph.description)),
        ("start", name(graph.start)),
        ("max_steps", graph.max_steps.to_string()),
        ("deadline", time(graph.deadline)),
        ("durability", durability.to_owned()),
        ("barrier", format!("{:?}", graph.barrier).to_lowercase()),
        ("budget", budget(graph.budget)),
        ("finally", graph.finally.map_or_else(none, name)),
        ("retention.keep_last", retention.keep_last.map_or_else(none, |count| count.to_string())),
        ("retention.max_age", time(retention.max_age)),
    ]
}

fn channels(old: &Graph, new: &Graph, moves: &Moves<'_>, out: &mut Vec<Change>) {
    let advice = moves.advice;
    let mut known: Vec<String> = Vec::new();
    for channel in &old.channels {
        let name = &channel.name;
        let to = match moves.channel(name) {
            Went::Dropped => {
                out.push(change(format!("channel {name} is dropped")));
                continue;
            }
            Went::To(to) => to,
        };
        let Some(now) = new.channel_named(&to).and_then(|index| new.channels.get(index.0)) else {
            let what = format!("channel {name} is gone");
            out.push(if channel.persist {
                breaking(what, format!("a run may hold a value of `{name}`: say `drop` or `rename` {advice}"))
            } else {
                change(what)
            });
            continue;
        };
        if *name != to {
            out.push(change(format!("channel {name} is now {to}")));
        }
        if channel.ty != now.ty {
            let what = format!("channel {to} type: {} (was {})", now.ty, channel.ty);
            out.push(if now.ty.accepts(&channel.ty) || !channel.persist {
                change(what)
            } else {
                breaking(
                    what,
                    format!(
                        "a run may hold a `{}` in `{name}`: `drop` it {advice}, and give a `default`",
                        channel.ty
                    ),
                )
            });
        }
        differences(&format!("channel {to} "), &channel_parts(old, channel), &channel_parts(new, now), out);
        known.push(to);
    }
    for channel in new.channels.iter().filter(|channel| !known.contains(&channel.name)) {
        let name = &channel.name;
        let what = format!("channel {name} is new: {}", channel.ty);
        let has_value = channel.default.is_some() || channel.ty.is_optional() || moves.gives(name);
        out.push(if channel.input && !has_value {
            breaking(what, format!("runs under way were not given `{name}`: give it a `default` {advice}"))
        } else {
            change(what)
        });
    }
}

fn channel_parts(graph: &Graph, channel: &StateChannel) -> Vec<(&'static str, String)> {
    let trust = if channel.trust == Trust::Untrusted { "untrusted" } else { "trusted" };
    vec![
        ("reducer", graph.reducer_name(channel.reducer).to_owned()),
        ("default", channel.default.as_ref().map_or_else(none, ToString::to_string)),
        ("input", channel.input.to_string()),
        ("output", channel.output.to_string()),
        ("max_items", channel.max_items.map_or_else(none, |most| most.to_string())),
        ("persist", channel.persist.to_string()),
        ("secret", channel.secret.to_string()),
        ("trust", trust.to_owned()),
    ]
}

fn nodes(old: &Graph, new: &Graph, moves: &Moves<'_>, out: &mut Vec<Change>) {
    let mut known: Vec<String> = Vec::new();
    for node in &old.nodes {
        let name = &node.name;
        let to = moves.node(name);
        let Some(now) = new.node_named(&to).and_then(|index| new.nodes.get(index.0)) else {
            out.push(breaking(
                format!("node {name} is gone"),
                format!(
                    "a run that stands there cannot go on: say under `nodes` {} which node it goes on at",
                    moves.advice
                ),
            ));
            continue;
        };
        if *name != to {
            out.push(change(format!("node {name} is now {to}")));
        }
        let (before, after) = (kind(node), kind(now));
        if before != after {
            let what = format!("node {to} kind: {after} (was {before})");
            out.push(if node.is_gate() && !now.is_gate() {
                breaking(
                    what,
                    format!("a run that waits at the gate `{name}` could not be answered any more"),
                )
            } else {
                change(what)
            });
        }
        differences(&format!("node {to} "), &node_parts(old, node), &node_parts(new, now), out);
        known.push(to);
    }
    for node in new.nodes.iter().filter(|node| !known.contains(&node.name)) {
        out.push(change(format!("node {} is new: {}", node.name, kind(node))));
    }
}

fn kind(node: &Node) -> String {
    match &node.kind {
        NodeKind::Task { task } => format!("task {task}"),
        NodeKind::Prompt { prompt, role, output } => format!("prompt {prompt} by {role} for {output}"),
        NodeKind::Graph(inner) => format!("graph {}", inner.name),
        NodeKind::Gate(_) => "gate".to_owned(),
    }
}

fn node_parts(graph: &Graph, node: &Node) -> Vec<(&'static str, String)> {
    let channel =
        |index: ChannelIdx| graph.channels.get(index.0).map_or("?", |channel| channel.name.as_str());
    let pairs = |pairs: &[(String, ChannelIdx)]| {
        list(pairs.iter().map(|(field, index)| {
            let name = channel(*index);
            if field == name { field.clone() } else { format!("{field} = {name}") }
        }))
    };
    let to = |targets: &[NodeIdx]| targets_of(graph, targets);
    let errors = node.on_error.iter().map(|arm| {
        let on = if arm.on.is_empty() { "any".to_owned() } else { arm.on.join("|") };
        let write = arm.write.map_or_else(String::new, |index| format!(" ({})", channel(index)));
        format!("{on} → {}{write}", to(&arm.to))
    });
    let inner = match &node.kind {
        NodeKind::Graph(inner) => inner.hash.clone(),
        _ => none(),
    };
    let mut out = vec![
        ("description", or_none(&node.description)),
        ("inner graph", inner),
        ("each", node.each.as_ref().map_or_else(none, |each| fanout(graph, each))),
        ("reads", pairs(&node.reads)),
        ("writes", pairs(&node.writes)),
        ("with", list(node.with.iter().map(|(field, value)| format!("{field} = {value}")))),
        ("effect", node.effect.as_str().to_owned()),
        ("validates", list(node.validates.iter().cloned())),
        ("overwrite", list(node.overwrite.iter().map(|index| channel(*index).to_owned()))),
        ("timeout", time(node.timeout)),
        ("timeout.idle", time(node.idle_timeout)),
        ("retry", retry(&node.retry)),
        ("on_error", list(errors)),
        ("breaker", node.breaker.to_string()),
        (
            "cache",
            node.cache.as_ref().map_or_else(none, |cache| {
                let key = cache.key.as_ref().map_or("the whole input", |key| key.source());
                format!("by {key} for {}", written(cache.ttl))
            }),
        ),
        ("budget", budget(node.budget)),
        ("join", node.join.map_or_else(none, join)),
        ("defer", node.defer.to_string()),
        ("max_visits", node.max_visits.map_or_else(none, |most| most.to_string())),
        ("goto", list(node.goto.iter().map(|target| to(&[*target])))),
        ("send", list(node.send.iter().map(|target| to(&[*target])))),
        ("next", arms(graph, &node.next)),
    ];
    if let NodeKind::Gate(gate) = &node.kind {
        let option = |at: usize| node.next.get(at).and_then(|arm| arm.option.clone()).unwrap_or_default();
        out.extend([
            ("ask", or_none(&gate.ask)),
            ("who", list(gate.who.iter().cloned())),
            ("shows", list(gate.shows.iter().map(|index| channel(*index).to_owned()))),
            ("wait", time(gate.timeout)),
            ("on_timeout", gate.on_timeout.map_or_else(none, option)),
            ("answer", gate.answer.map_or_else(none, |index| channel(index).to_owned())),
        ]);
    }
    out
}

fn targets_of(graph: &Graph, targets: &[NodeIdx]) -> String {
    if targets.is_empty() {
        return "end".to_owned();
    }
    let name = |node: &NodeIdx| graph.nodes.get(node.0).map_or("?", |node| node.name.as_str());
    targets.iter().map(name).collect::<Vec<_>>().join(" + ")
}

fn arms(graph: &Graph, arms: &[Arm]) -> String {
    let several = arms.len() > 1;
    let shown = arms.iter().map(|arm| {
        let to = targets_of(graph, &arm.to);
        match (&arm.when, &arm.option) {
            (Some(when), _) => format!("if {} → {to}", when.source().trim()),
            (None, Some(option)) => format!("{option} → {to}"),
            (None, None) if several => format!("else → {to}"),
            (None, None) => to,
        }
    });
    if arms.is_empty() { "end".to_owned() } else { list(shown) }
}

fn fanout(graph: &Graph, each: &Each) -> String {
    let channel =
        |index: ChannelIdx| graph.channels.get(index.0).map_or("?", |channel| channel.name.as_str());
    let most = match each.max_parallel {
        Parallel::Fixed(most) => most.to_string(),
        Parallel::Channel(index) => channel(index).to_owned(),
    };
    let mut out = format!("{} of {} ×{most}", each.item, channel(each.over));
    if let Some(batch) = each.batch {
        push(&mut out, format_args!(", {batch} a task"));
    }
    let left = match each.on_item_error {
        OnItemError::Fail => "",
        OnItemError::Null => "null",
        OnItemError::Drop => "nothing",
    };
    match each.tolerate {
        Tolerate::None => {}
        Tolerate::Count(count) => push(&mut out, format_args!(", {count} may fail and leave {left}")),
        Tolerate::Percent(part) => push(&mut out, format_args!(", {part}% may fail and leave {left}")),
    }
    if let Some(status) = each.status {
        push(&mut out, format_args!(", status in {}", channel(status)));
    }
    if !each.budget.is_unlimited() {
        push(&mut out, format_args!(", at most {}", budget(each.budget)));
    }
    out
}

fn retry(retry: &Retry) -> String {
    let spread = if retry.jitter { ", spread" } else { "" };
    format!(
        "{} attempts on {}, waits {} to {} ×{}%{spread}",
        retry.attempts,
        retry.on.join("|"),
        written(retry.backoff),
        written(retry.max_backoff),
        retry.factor_percent
    )
}

fn join(join: Join) -> String {
    let need = match join.need {
        Need::All => "all".to_owned(),
        Need::Some(1) => "any".to_owned(),
        Need::Some(some) => some.to_string(),
    };
    match join.timeout {
        None => need,
        Some(limit) => format!("{need}, after {} {}", written(limit), if join.go_on { "go" } else { "fail" }),
    }
}

fn budget(budget: Budget) -> String {
    list(
        [
            budget.tokens.map(|tokens| format!("{tokens} tokens")),
            budget.micro_usd.map(dollars),
            budget.wall.map(written),
            budget.steps.map(|steps| format!("{steps} steps")),
        ]
        .into_iter()
        .flatten(),
    )
}

fn dollars(micro: u64) -> String {
    let cents = micro.is_multiple_of(10_000);
    let part =
        if cents { format!("{:02}", micro / 10_000 % 100) } else { format!("{:06}", micro % 1_000_000) };
    format!("${}.{part}", micro / 1_000_000)
}

fn time(limit: Option<Duration>) -> String {
    limit.map_or_else(none, written)
}

fn or_none(text: &str) -> String {
    if text.is_empty() { none() } else { text.to_owned() }
}

fn none() -> String {
    "none".to_owned()
}

fn list(parts: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = parts.into_iter().collect();
    if all.is_empty() { none() } else { all.join("; ") }
}

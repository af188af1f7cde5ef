//! Gates: a person's decision, whose options are the node's edges.

use toml::Spanned;

use super::face::Face;
use super::node::{Read, Write};
use super::{Scope, names, policy, shape};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;
use crate::graph::{ChannelIdx, Gate, NodeKind, suggest};

/// Checks what a gate asks; gives what it shows as reads and its answer as a write.
pub(super) fn check(
    raw: &RawNode,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> (NodeKind, Face, Vec<Read>, Vec<Write>) {
    let face = Face { inputs: Some(Vec::new()), outputs: Some(Vec::new()), ..Face::unknown(raw) };
    let name = raw.name.get_ref();
    for (absent, key, help) in [
        (raw.gate.ask.is_absent(), "ask", "add `ask = \"…\"`: the question, as a person reads it"),
        (
            raw.gate.options.is_absent(),
            "options",
            "add `options = { approve = \"node\", deny = \"end\" }`: each answer with where it leads",
        ),
    ] {
        if absent {
            faults.push(Fault::new(
                codes::MISSING_KEY,
                raw.key_span("kind"),
                format!("needs `{key}` beside it"),
                format!("the gate `{name}` has no `{key}`"),
                help,
            ));
        }
    }
    let mut reads = Vec::new();
    let mut shows = Vec::new();
    for channel in raw.gate.shows.get().into_iter().flat_map(toml::Spanned::get_ref) {
        if let Some(index) = scope.resolve(channel, "`shows`", faults) {
            reads.push(Read { field: None, channel: index, span: channel.span(), takes_null: true });
            shows.push(ChannelIdx(index));
        }
    }
    let mut writes = Vec::new();
    let answer = raw.gate.answer.get().and_then(|channel| {
        let index = scope.resolve(channel, "`answer`", faults)?;
        shape::takes_object(index, channel, "an answer", scope, faults);
        writes.push(Write::of_engine("the answer", index, channel.span()));
        Some(ChannelIdx(index))
    });
    options(raw, faults);
    let gate = Gate {
        ask: raw.gate.ask.get().map(|ask| ask.get_ref().clone()).unwrap_or_default(),
        who: raw
            .gate
            .who
            .get()
            .into_iter()
            .flat_map(toml::Spanned::get_ref)
            .map(|who| who.get_ref().clone())
            .collect(),
        shows,
        timeout: policy::time_limit("timeout", &raw.policy.timeout, faults),
        on_timeout: on_timeout(raw, faults),
        answer,
    };
    (NodeKind::Gate(gate), face, reads, writes)
}

fn options(raw: &RawNode, faults: &mut Vec<Fault>) {
    let Some(options) = raw.gate.options.get() else { return };
    let name = raw.name.get_ref();
    let list = options.get_ref();
    for (position, (option, _)) in list.iter().enumerate() {
        names::name("option", option, faults);
        let same = |other: &Spanned<String>| other.get_ref().eq_ignore_ascii_case(option.get_ref());
        if let Some((first, _)) = list.iter().take(position).find(|(other, _)| same(other)) {
            faults.push(
                Fault::new(
                    codes::GATE_OPTIONS,
                    option.span(),
                    "too like another",
                    format!(
                        "the gate `{name}` has the options `{}` and `{}`",
                        first.get_ref(),
                        option.get_ref()
                    ),
                    "give them names that nobody takes for each other",
                )
                .also(first.span(), "the other one"),
            );
        }
    }
    let targets = |position: usize| -> Option<Vec<&str>> {
        let (_, to) = list.get(position)?;
        let mut names: Vec<&str> = to.get()?.get_ref().iter().map(|name| name.get_ref().as_str()).collect();
        names.sort_unstable();
        Some(names)
    };
    let help = "give it at least two options that lead to different places, as `{ approve = \"apply\", deny = \"end\" }`";
    let span = raw.key_span("options");
    match list.len() {
        0 => faults.push(Fault::new(
            codes::GATE_OPTIONS,
            span,
            "no option",
            format!("the gate `{name}` has no options, so nobody could ever pass it"),
            help,
        )),
        1 => faults.push(
            Fault::new(
                codes::GATE_OPTIONS,
                span,
                "only one option",
                format!("whatever is answered, the gate `{name}` leads to the same place"),
                help,
            )
            .warning(),
        ),
        count
            if (1..count).all(|position| targets(position).is_some() && targets(position) == targets(0)) =>
        {
            faults.push(
                Fault::new(
                    codes::GATE_OPTIONS,
                    span,
                    "all lead to the same place",
                    format!("whatever is answered, the gate `{name}` leads to the same place"),
                    help,
                )
                .warning(),
            );
        }
        _ => {}
    }
}

/// Which option is taken when nobody answers in time.
fn on_timeout(raw: &RawNode, faults: &mut Vec<Fault>) -> Option<usize> {
    let name = raw.name.get_ref();
    let options: Vec<&str> = raw
        .gate
        .options
        .get()
        .into_iter()
        .flat_map(toml::Spanned::get_ref)
        .map(|(option, _)| option.get_ref().as_str())
        .collect();
    if raw.policy.timeout.is_absent() && !raw.gate.on_timeout.is_absent() {
        faults.push(Fault::new(
            codes::GATE_TIMEOUT,
            raw.key_span("on_timeout"),
            "when?",
            format!("the gate `{name}` says what happens when nobody answers in time, and has no `timeout`"),
            "add `timeout = \"1h\"`, or take `on_timeout` out: then it waits until it is answered",
        ));
    }
    if !raw.policy.timeout.is_absent() && raw.gate.on_timeout.is_absent() {
        faults.push(Fault::new(
            codes::GATE_TIMEOUT,
            raw.key_span("timeout"),
            "and then?",
            format!("the gate `{name}` waits only so long, and nothing says what happens then"),
            format!(
                "add `on_timeout = \"…\"`: the option that does nothing, of {}",
                suggest::list(options.iter().copied())
            ),
        ));
    }
    let wanted = raw.gate.on_timeout.get()?;
    let found = options.iter().position(|option| option == wanted.get_ref());
    if found.is_none() && raw.gate.options.get().is_some() {
        faults.push(Fault::new(
            codes::UNKNOWN_OPTION,
            wanted.span(),
            "no such option",
            format!("the gate `{name}` has no option `{}`", wanted.get_ref()),
            suggest::help(wanted.get_ref(), options, "options"),
        ));
    }
    found
}

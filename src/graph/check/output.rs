//! Where a node's output goes.

use std::ops::Range;

use super::input::unknown_field;
use super::node::{Face, Write};
use super::{Channel, Scope, state};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;
use crate::graph::{Field, Reducer, Type, suggest};

/// In `writes`: thrown away.
const NOWHERE: &str = "_";

/// Checks where the fields of a node's output go.
pub(super) fn writes(raw: &RawNode, scope: &Scope<'_>, face: &Face, faults: &mut Vec<Fault>) -> Vec<Write> {
    let key = format!("`{}`", face.writes_key());
    let Some(outputs) = &face.outputs else {
        for (_, channel) in &raw.writes {
            if channel.get_ref() != NOWHERE {
                scope.resolve(channel, &key, faults);
            }
        }
        return Vec::new();
    };
    for (field, _) in &raw.writes {
        if !outputs.iter().any(|output| output.name == *field.get_ref()) {
            faults.push(unknown_field(&key, field, face, outputs, "output"));
        }
    }
    let overwrite = raw.overwrite.get().map(|list| list.get_ref().as_slice()).unwrap_or_default();
    for field in overwrite {
        if !outputs.iter().any(|output| output.name == *field.get_ref()) {
            faults.push(unknown_field("`overwrite`", field, face, outputs, "output"));
        }
    }
    let mut out: Vec<Write> = Vec::new();
    for field in outputs {
        let renamed = raw.writes.iter().find(|(name, _)| *name.get_ref() == field.name);
        let (index, span) = if let Some((_, target)) = renamed {
            if target.get_ref() == NOWHERE {
                continue;
            }
            match scope.resolve(target, &key, faults) {
                Some(index) => (index, target.span()),
                None => continue,
            }
        } else if let Some((index, _)) = scope.channel(&field.name) {
            (index, place(raw, face))
        } else {
            // A wrong name in `writes` has its own fault, and may have meant this field.
            let names = || outputs.iter().map(|output| output.name.as_str());
            if raw.writes.iter().any(|(name, _)| {
                !names().any(|known| known == name.get_ref())
                    && suggest::closest(name.get_ref(), names()) == Some(&field.name)
            }) {
                continue;
            }
            faults.push(lost(field, scope, face, place(raw, face)));
            continue;
        };
        let Some(channel) = scope.channels.get(index) else { continue };
        let overwrites = overwrite.iter().any(|name| *name.get_ref() == field.name);
        type_fits(field, overwrites, channel, face, &span, faults);
        if let Some(first) = out.iter().find(|write| write.channel == index)
            && channel.ty.is_some()
            && (channel.value.reducer == Reducer::Last || (overwrites && first.overwrites))
        {
            faults.push(
                Fault::new(
                    codes::PARALLEL_WRITERS,
                    span.clone(),
                    format!("`{}` goes there too", field.name),
                    format!(
                        "`{}` writes both `{}` and `{}` to the channel `{}`, which takes one write a step",
                        raw.name.get_ref(),
                        first.field,
                        field.name,
                        channel.value.name
                    ),
                    "give one of them another channel: `writes = { field = \"channel\" }`",
                )
                .also(channel.span.clone(), one_write(channel)),
            );
        }
        out.push(Write {
            field: field.name.clone(),
            channel: index,
            span,
            ty: Some(field.ty.clone()),
            overwrites,
        });
    }
    fan_in(raw, scope, &out, faults);
    out
}

/// Where the output type is named.
fn place(raw: &RawNode, face: &Face) -> Range<usize> {
    match raw.output.get() {
        Some(output) if face.is_prompt => output.span(),
        _ => face.span.clone(),
    }
}

fn type_fits(
    field: &Field,
    overwrites: bool,
    channel: &Channel,
    face: &Face,
    span: &Range<usize>,
    faults: &mut Vec<Fault>,
) {
    let Some(ty) = &channel.ty else { return };
    let reducer = channel.value.reducer;
    let item = match (reducer, state::bare(ty)) {
        _ if overwrites => None,
        // What a registered reducer makes of a value only the engine sees.
        (Reducer::Custom(_), _) => return,
        (Reducer::Append | Reducer::Union | Reducer::ById, Type::List(item)) => Some(item.as_ref()),
        _ => None,
    };
    if ty.accepts(&field.ty) || item.is_some_and(|item| item.accepts(&field.ty)) {
        return;
    }
    let takes = match item {
        Some(item) => format!("`{item}` or `{ty}`"),
        None => format!("`{ty}`"),
    };
    faults.push(
        Fault::new(
            codes::WRITE_TYPE,
            span.clone(),
            format!("writes `{}` to `{}`", field.ty, channel.value.name),
            format!(
                "the field `{}` of {} is `{}`, and the channel `{}` takes {takes}",
                field.name, face.title, field.ty, channel.value.name
            ),
            format!(
                "make the channel `{}`, or send the field elsewhere: `{} = {{ {} = \"…\" }}`",
                field.ty,
                face.writes_key(),
                field.name
            ),
        )
        .also(channel.span.clone(), format!("is `{ty}` with the reducer `{reducer}`")),
    );
}

fn lost(field: &Field, scope: &Scope<'_>, face: &Face, span: Range<usize>) -> Fault {
    let help = match suggest::closest(&field.name, scope.channel_names()) {
        Some(near) => {
            format!(
                "did you mean the channel `{near}`? then add `{} = {{ {} = \"{near}\" }}`",
                face.writes_key(),
                field.name
            )
        }
        None => format!(
            "add the channel `{0} = {{ type = \"{1}\" }}`, or throw it away: `{2} = {{ {0} = \"_\" }}`",
            field.name,
            field.ty,
            face.writes_key()
        ),
    };
    Fault::new(
        codes::LOST_OUTPUT,
        span,
        format!("gives `{}`", field.name),
        if face.graph.is_some() {
            format!("the output `{}` of {} goes nowhere: there is no such channel", field.name, face.title)
        } else {
            format!(
                "the output field `{}` of {} goes nowhere: there is no such channel",
                field.name, face.title
            )
        },
        help,
    )
}

/// Why a channel takes one write a step.
pub(super) fn one_write(channel: &Channel) -> &'static str {
    if channel.value.reducer == Reducer::Last {
        "its reducer is `last`"
    } else {
        "`overwrite` replaces its value"
    }
}

/// A fan-out writes once for each item, and a node that is sent tasks once for each of them.
fn fan_in(raw: &RawNode, scope: &Scope<'_>, writes: &[Write], faults: &mut Vec<Fault>) {
    let each = !raw.each.is_absent();
    let Some((key, span)) = (if each {
        Some(("item", raw.key_span("each")))
    } else {
        scope.sent_to(raw).map(|span| ("task that is sent", span))
    }) else {
        return;
    };
    for write in writes {
        let Some(channel) = scope.channels.get(write.channel) else { continue };
        if channel.ty.is_none() || !(channel.value.reducer == Reducer::Last || write.overwrites) {
            continue;
        }
        let help = match state::bare(&channel.value.ty) {
            _ if write.overwrites => "take the field out of `overwrite`".to_owned(),
            Type::Int | Type::Float => {
                "choose the reducer `sum`, `max` or `min`, or collect the numbers in a list with `append`"
                    .to_owned()
            }
            Type::List(_) => "choose the reducer `append` or `union`".to_owned(),
            other => {
                format!(
                    "make the channel a list that collects: `type = \"{other}[]\"`, `reducer = \"append\"`"
                )
            }
        };
        faults.push(
            Fault::new(
                codes::PARALLEL_WRITERS,
                write.span.clone(),
                format!("`{}` is written for each {key}", write.field),
                format!(
                    "`{}` runs once for each {key}, and all of them write `{}`, which takes one write a step",
                    raw.name.get_ref(),
                    channel.value.name
                ),
                help,
            )
            .also(channel.span.clone(), one_write(channel))
            .also(span.clone(), if each { "the fan-out" } else { "sends the tasks" }),
        );
    }
    null_items(raw, scope, writes, faults);
}

/// `on_item_error = "null"` puts null among the items of a list.
fn null_items(raw: &RawNode, scope: &Scope<'_>, writes: &[Write], faults: &mut Vec<Fault>) {
    let Some(word) = raw.each.get().and_then(|each| each.get_ref().on_item_error.get()) else { return };
    if word.get_ref() != "null" {
        return;
    }
    for write in writes {
        let Some(channel) = scope.channels.get(write.channel) else { continue };
        if channel.value.reducer == Reducer::Append
            && let Some(Type::List(item)) = channel.ty.as_ref().map(state::bare)
            && !item.is_optional()
        {
            faults.push(
                Fault::new(
                    codes::WRITE_TYPE,
                    word.span(),
                    "puts null where an item failed",
                    format!(
                        "a failed item leaves null in `{}`, whose items are `{item}`",
                        channel.value.name
                    ),
                    format!("make the channel `{item}?[]`, or write `on_item_error = \"drop\"`"),
                )
                .also(channel.span.clone(), format!("is `{}`", channel.value.ty)),
            );
        }
    }
}

//! Where a node's input comes from: channels and fixed values.

use std::ops::Range;

use toml::Spanned;

use super::node::{Face, Read};
use super::{Scope, value};
use crate::graph::codes;
use crate::graph::document::Slot;
use crate::graph::fault::Fault;
use crate::graph::file::RawNode;
use crate::graph::{Field, Type, suggest};

/// Checks where the fields of a node's input come from.
pub(super) fn reads(raw: &RawNode, scope: &Scope<'_>, face: &Face, faults: &mut Vec<Fault>) -> Vec<Read> {
    let item = raw.each.get().and_then(|each| each.get_ref().item.get());
    let key = format!("`{}`", face.reads_key());
    given_twice(raw, item, &key, faults);
    let Some(inputs) = &face.inputs else {
        // The fields are not known, but the channels are.
        for (_, channel) in &raw.reads {
            scope.resolve(channel, &key, faults);
        }
        return Vec::new();
    };
    for (field, _) in &raw.reads {
        if !inputs.iter().any(|input| input.name == *field.get_ref()) {
            faults.push(unknown_field(&key, field, face, inputs, "input"));
        }
    }
    for (field, value) in &raw.with {
        match inputs.iter().find(|input| input.name == *field.get_ref()) {
            None => faults.push(unknown_field("`with`", field, face, inputs, "input")),
            Some(input) => {
                if let Some(why) = value::misfit(&input.ty, value.get_ref(), scope.catalog) {
                    faults.push(Fault::new(
                        codes::FIXED_TYPE,
                        value.span(),
                        why,
                        format!("the field `{}` of {} takes `{}`", input.name, face.title, input.ty),
                        format!("write a value of type `{}`", input.ty),
                    ));
                }
            }
        }
    }
    let mut out = Vec::new();
    for field in inputs {
        let fixed = raw.with.iter().any(|(name, _)| *name.get_ref() == field.name);
        if fixed || item.is_some_and(|item| *item.get_ref() == field.name) {
            continue;
        }
        if let Some((_, channel)) = raw.reads.iter().find(|(name, _)| *name.get_ref() == field.name) {
            if let Some(index) = scope.resolve(channel, &key, faults) {
                out.extend(read(field, index, channel.span(), scope, face, faults));
            }
        } else if let Some((index, _)) = scope.channel(&field.name) {
            out.extend(read(field, index, face.span.clone(), scope, face, faults));
        } else if field.required && !scope.is_sent_only(raw) && !meant_as_item(raw, field, inputs) {
            faults.push(without_source(field, scope, face));
        }
    }
    out
}

/// Whether a wrong `each`, which has its own fault, may have meant to give this field.
fn meant_as_item(raw: &RawNode, field: &Field, inputs: &[Field]) -> bool {
    let Slot::Given(each) = &raw.each else { return !raw.each.is_absent() };
    let Some(item) = each.get_ref().item.get() else { return true };
    !inputs.iter().any(|input| input.name == *item.get_ref())
        && suggest::closest(item.get_ref(), inputs.iter().map(|input| input.name.as_str()))
            == Some(&field.name)
}

/// One field from one channel.
fn read(
    field: &Field,
    index: usize,
    span: Range<usize>,
    scope: &Scope<'_>,
    face: &Face,
    faults: &mut Vec<Fault>,
) -> Option<Read> {
    let channel = scope.channels.get(index)?;
    if let Some(ty) = &channel.ty
        && !field.ty.accepts(ty)
    {
        let may_be_null = ty.is_optional() && field.ty.accepts(super::state::bare(ty));
        let help = if may_be_null {
            format!("make the field optional, or the channel `{}` with a default or a first write", field.ty)
        } else {
            format!(
                "make the channel `{}`, or give the field another one: `{} = {{ {} = \"…\" }}`",
                field.ty,
                face.reads_key(),
                field.name
            )
        };
        faults.push(
            Fault::new(
                codes::READ_TYPE,
                span.clone(),
                format!("reads `{}` as `{}`", channel.value.name, field.ty),
                format!(
                    "the channel `{}` is `{ty}`, and the field `{}` of {} takes `{}`",
                    channel.value.name, field.name, face.title, field.ty
                ),
                help,
            )
            .also(channel.span.clone(), format!("is `{ty}`")),
        );
    }
    let optional_channel = channel.ty.as_ref().is_none_or(|ty| matches!(ty, Type::Optional(_)));
    // What a template does with null nobody knows, unless the channel's type announces it.
    let takes_null = optional_channel || (!face.is_prompt && field.ty.is_optional());
    Some(Read { field: Some(field.name.clone()), channel: index, span, takes_null })
}

fn without_source(field: &Field, scope: &Scope<'_>, face: &Face) -> Fault {
    let near = suggest::closest(&field.name, scope.channel_names());
    let key = face.reads_key();
    let near_help = near.map(|near| {
        format!("did you mean the channel `{near}`? then add `{key} = {{ {} = \"{near}\" }}`", field.name)
    });
    if face.is_prompt {
        return Fault::new(
            codes::PROMPT_VARIABLE,
            face.span.clone(),
            format!("uses `{{{{ {} }}}}`", field.name),
            format!("{} uses the variable `{}`, and nothing gives it", face.title, field.name),
            near_help.unwrap_or_else(|| {
                format!("add a channel `{0}`, or give it with `with`, `{key}` or `each.as`", field.name)
            }),
        );
    }
    Fault::new(
        codes::MISSING_INPUT,
        face.span.clone(),
        format!("needs `{}`", field.name),
        format!(
            "{} needs the field `{}` of type `{}`, and nothing gives it",
            face.title, field.name, field.ty
        ),
        near_help.unwrap_or_else(|| {
            format!(
                "add the channel `{0} = {{ type = \"{1}\" }}`, or give it with `with`, `{key}` or `each.as`",
                field.name, field.ty
            )
        }),
    )
}

/// A field has one source.
fn given_twice(raw: &RawNode, item: Option<&Spanned<String>>, key: &str, faults: &mut Vec<Fault>) {
    let mut seen: Vec<(&str, Range<usize>, &str)> = Vec::new();
    let sources = item
        .map(|item| (item, "`each.as`"))
        .into_iter()
        .chain(raw.with.iter().map(|(name, _)| (name, "`with`")))
        .chain(raw.reads.iter().map(|(name, _)| (name, key)));
    for (name, source) in sources {
        match seen.iter().find(|(field, ..)| *field == name.get_ref()) {
            Some((field, first, by)) => faults.push(
                Fault::new(
                    codes::GIVEN_TWICE,
                    name.span(),
                    format!("and again by {source}"),
                    format!("the field `{field}` is given by {by} and by {source}"),
                    "keep one of them",
                )
                .also(first.clone(), format!("given by {by}")),
            ),
            None => seen.push((name.get_ref(), name.span(), source)),
        }
    }
}

/// The fault of a name that is no field of a node's input or output.
pub(super) fn unknown_field(
    what: &str,
    name: &Spanned<String>,
    face: &Face,
    fields: &[Field],
    side: &str,
) -> Fault {
    let kind = face.part(side);
    let owned = match (face.is_prompt, face.graph.is_some()) {
        (false, false) => format!("{side} {kind}"),
        (true, _) if side == "output" => format!("{side} {kind}"),
        _ => kind.clone(),
    };
    Fault::new(
        codes::UNKNOWN_FIELD,
        name.span(),
        format!("no such {kind}"),
        format!("{what} names `{}`, which is no {owned} of {}", name.get_ref(), face.title),
        suggest::help(name.get_ref(), fields.iter().map(|field| field.name.as_str()), &format!("{kind}s")),
    )
}

//! Fan-outs.

use std::ops::Range;

use toml::Spanned;

use super::input::unknown_field;
use super::node::{Face, Read, Write};
use super::{Scope, policy, shape, words};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::{RawEach, RawNode, RawParallel, RawTolerate};
use crate::graph::{Budget, ChannelIdx, Each, OnItemError, Parallel, Tolerate, Type};

/// Tasks of a fan-out at once where the file does not say.
const PARALLEL: usize = 4;

/// A fan-out, with the channels it reads and writes by itself.
#[derive(Default)]
pub(super) struct Fanout {
    pub(super) each: Option<Each>,
    pub(super) reads: Vec<Read>,
    pub(super) writes: Vec<Write>,
}

/// Checks a node's fan-out.
pub(super) fn check(raw: &RawNode, scope: &Scope<'_>, face: &Face, faults: &mut Vec<Fault>) -> Fanout {
    let mut out = Fanout::default();
    let Some(raw_each) = raw.each.get() else { return out };
    let raw_each = raw_each.get_ref();
    let over = raw_each.over.get().and_then(|over| {
        let index = scope.resolve(over, "`each.over`", faults)?;
        out.reads.push(Read { field: None, channel: index, span: over.span(), takes_null: false });
        Some((index, over.span()))
    });
    let item = raw_each.item.get();
    let is_batch_known = raw_each.batch.is_absent() || raw_each.batch.get().is_some();
    let batch = raw_each.batch.get().and_then(|batch| usize::try_from(*batch.get_ref()).ok());
    if let Some((index, span)) = over.as_ref().filter(|_| is_batch_known) {
        over_list(raw, *index, span, batch.is_some_and(|batch| batch > 1), scope, face, faults);
    }
    if let (Some(item), Some(inputs)) = (item, &face.inputs)
        && !inputs.iter().any(|field| field.name == *item.get_ref())
    {
        faults.push(unknown_field("`each.as`", item, face, inputs, "input"));
    }
    let max_parallel = max_parallel(raw_each, scope, &mut out.reads, faults);
    let on_item_error = on_item_error(raw_each, faults);
    let tolerate = tolerate(raw_each, on_item_error, faults);
    let status = raw_each.status.get().and_then(|name| {
        let index = scope.resolve(name, "`each.status`", faults)?;
        shape::takes_list(index, name, "the status of each item", scope, faults);
        out.writes.push(Write::of_engine("the status", index, name.span()));
        Some(ChannelIdx(index))
    });
    let budget =
        raw_each.budget.get().map_or_else(Budget::default, |raw| policy::budget(raw.get_ref(), faults));
    out.each = over.zip(item).map(|((index, _), item)| Each {
        batch,
        tolerate,
        on_item_error,
        status,
        budget,
        ..Each::plain(ChannelIdx(index), item.get_ref(), max_parallel)
    });
    out
}

/// Checks that what is fanned out is a list of what the field takes.
fn over_list(
    raw: &RawNode,
    index: usize,
    span: &Range<usize>,
    is_batched: bool,
    scope: &Scope<'_>,
    face: &Face,
    faults: &mut Vec<Fault>,
) {
    let Some(channel) = scope.channels.get(index) else { return };
    let Some(ty) = &channel.ty else { return };
    let item = raw.each.get().and_then(|each| each.get_ref().item.get());
    match (ty, item) {
        (Type::List(of), Some(item)) if is_batched => {
            item_fits(&Type::List(of.clone()), item, face, span, faults);
        }
        (Type::List(of), Some(item)) => item_fits(of, item, face, span, faults),
        (Type::List(_) | Type::Any, _) => {}
        (other, _) => faults.push(
            Fault::new(
                codes::EACH_OVER,
                span.clone(),
                format!("is `{other}`"),
                format!("`{}` fans out over `{}`, which is no list", raw.name.get_ref(), channel.value.name),
                "give the channel a list type, as `Stream[]`; `default = []` for one that may be empty",
            )
            .also(channel.span.clone(), "the channel"),
        ),
    }
}

fn item_fits(of: &Type, item: &Spanned<String>, face: &Face, over: &Range<usize>, faults: &mut Vec<Fault>) {
    let field = face.inputs.iter().flatten().find(|field| field.name == *item.get_ref());
    if let Some(field) = field
        && !field.ty.accepts(of)
    {
        faults.push(
            Fault::new(
                codes::EACH_ITEM,
                item.span(),
                format!("`{}` takes `{}`", field.name, field.ty),
                format!(
                    "the items are `{of}`, and the field `{}` of {} takes `{}`",
                    field.name, face.title, field.ty
                ),
                format!("fan out over a channel of type `{}[]`, or name another field", field.ty),
            )
            .also(over.clone(), format!("items of type `{of}`")),
        );
    }
}

fn max_parallel(
    raw: &RawEach,
    scope: &Scope<'_>,
    reads: &mut Vec<Read>,
    faults: &mut Vec<Fault>,
) -> Parallel {
    match raw.max_parallel.get().map(|limit| (limit.get_ref(), limit.span())) {
        None => Parallel::Fixed(PARALLEL),
        Some((RawParallel::Fixed(limit), _)) => Parallel::Fixed(usize::try_from(*limit).unwrap_or(PARALLEL)),
        Some((RawParallel::Channel(name), span)) => {
            let name = Spanned::new(span.clone(), name.clone());
            let Some(index) = scope.resolve(&name, "`each.max_parallel`", faults) else {
                return Parallel::Fixed(PARALLEL);
            };
            if let Some(channel) = scope.channels.get(index)
                && let Some(ty) = &channel.ty
                && *ty != Type::Int
            {
                faults.push(
                    Fault::new(
                        codes::READ_TYPE,
                        span.clone(),
                        "must be an `int` channel",
                        format!("`max_parallel` reads `{}`, which is `{ty}`", channel.value.name),
                        "make the channel an `int`, or write a number",
                    )
                    .also(channel.span.clone(), "the channel"),
                );
            }
            reads.push(Read { field: None, channel: index, span, takes_null: false });
            Parallel::Channel(ChannelIdx(index))
        }
    }
}

/// `tolerate` alone drops what fails.
fn on_item_error(raw: &RawEach, faults: &mut Vec<Fault>) -> OnItemError {
    let Some(word) = raw.on_item_error.get() else {
        return if raw.tolerate.is_absent() { OnItemError::Fail } else { OnItemError::Drop };
    };
    match words::one_of(word, "on_item_error", &["fail", "null", "drop"], faults) {
        Some("null") => OnItemError::Null,
        Some("drop") => OnItemError::Drop,
        _ => {
            if let (Some(tolerate), "fail") = (raw.tolerate.get(), word.get_ref().as_str()) {
                faults.push(
                    Fault::new(
                        codes::MEANINGLESS_KEY,
                        tolerate.span(),
                        "none is tolerated",
                        "`tolerate` has no meaning where `on_item_error` is `fail`",
                        "take `tolerate` out, or write `on_item_error = \"drop\"`",
                    )
                    .also(word.span(), "the first failure fails the node"),
                );
            }
            OnItemError::Fail
        }
    }
}

fn tolerate(raw: &RawEach, on_item_error: OnItemError, faults: &mut Vec<Fault>) -> Tolerate {
    let some = match raw.tolerate.get().map(|some| (some.get_ref(), some.span())) {
        None => Tolerate::Percent(100),
        Some((RawTolerate::Count(count), _)) => Tolerate::Count(*count),
        Some((RawTolerate::Text(text), span)) => {
            let part = text.trim().strip_suffix('%').and_then(|part| part.trim().parse::<u8>().ok());
            if let Some(part) = part.filter(|part| *part <= 100) {
                Tolerate::Percent(part)
            } else {
                faults.push(Fault::new(
                    codes::BAD_VALUE,
                    span,
                    "neither a number nor a part",
                    format!("`{text}` does not say how many items may fail"),
                    "write a number, as `3`, or a part of a hundred, as `\"10%\"`",
                ));
                Tolerate::None
            }
        }
    };
    if on_item_error == OnItemError::Fail { Tolerate::None } else { some }
}

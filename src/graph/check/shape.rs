//! Channels that the engine itself writes: answers of gates, failures, the status of a fan-out.

use toml::Spanned;

use super::{Scope, state};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::{Reducer, Type};

/// Checks that a channel takes an object, or a list of them where it collects.
pub(super) fn takes_object(
    channel: usize,
    name: &Spanned<String>,
    what: &str,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) {
    let Some(found) = scope.channels.get(channel) else { return };
    let Some(ty) = &found.ty else { return };
    let fits = match (found.value.reducer, state::bare(ty)) {
        (Reducer::Append | Reducer::Union, Type::List(item)) => is_object(item),
        (Reducer::Custom(_), _) => true,
        (_, ty) => is_object(ty),
    };
    if !fits {
        faults.push(misfit(channel, name, what, "`any`, or `any[]` with the reducer `append`", scope));
    }
}

/// Checks that a channel takes a list of objects.
pub(super) fn takes_list(
    channel: usize,
    name: &Spanned<String>,
    what: &str,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) {
    let Some(found) = scope.channels.get(channel) else { return };
    let Some(ty) = &found.ty else { return };
    let fits = match state::bare(ty) {
        Type::List(item) => is_object(item),
        Type::Any => true,
        _ => matches!(found.value.reducer, Reducer::Custom(_)),
    };
    if !fits {
        faults.push(misfit(channel, name, what, "`any[]`", scope));
    }
}

fn is_object(ty: &Type) -> bool {
    match state::bare(ty) {
        Type::Any | Type::Named(_) => true,
        Type::Map(inner) => matches!(inner.as_ref(), Type::Any),
        _ => false,
    }
}

fn misfit(channel: usize, name: &Spanned<String>, what: &str, wanted: &str, scope: &Scope<'_>) -> Fault {
    let (ty, span) = scope
        .channels
        .get(channel)
        .map_or_else(|| (Type::Any, name.span()), |found| (found.value.ty.clone(), found.span.clone()));
    Fault::new(
        codes::WRITE_TYPE,
        name.span(),
        format!("gets {what}"),
        format!("the channel `{}` is `{ty}`, which cannot hold {what}", name.get_ref()),
        format!("make it {wanted}"),
    )
    .also(span, format!("is `{ty}`"))
}

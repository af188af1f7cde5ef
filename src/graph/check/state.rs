//! Channels: their types, reducers and defaults.

use toml::Spanned;

use super::{Channel, names, value};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawChannel;
use crate::graph::{Catalog, Reducer, StateChannel, Type, suggest};

/// Checks a channel. With faults, it still has its name, so that nothing else complains about it.
pub(super) fn channel(raw: &RawChannel, catalog: &Catalog, faults: &mut Vec<Fault>) -> Channel {
    names::channel(&raw.name, faults);
    let ty = raw.ty.get().and_then(|text| type_of(text, catalog, faults));
    let reducer = match raw.reducer.get() {
        Some(text) => reducer(text, faults),
        None => Some(Reducer::Last),
    };
    if let (Some(ty), Some(reducer), Some(place)) = (&ty, reducer, raw.reducer.get()) {
        fits_reducer(&raw.name, ty, reducer, place, faults);
    }
    if let (Some(ty), Some(default)) = (&ty, raw.default.get())
        && let Some(why) = value::misfit(ty, default.get_ref(), catalog)
    {
        let fault = Fault::new(
            codes::DEFAULT_TYPE,
            default.span(),
            why,
            format!("the default of `{}` is no `{ty}`", raw.name.get_ref()),
            format!("write a value of type `{ty}`, or change the type"),
        );
        faults.push(match raw.ty.get() {
            Some(place) => fault.also(place.span(), "the type"),
            None => fault,
        });
    }
    Channel {
        value: StateChannel {
            default: raw.default.get().map(|default| default.get_ref().clone()),
            input: raw.input.get().is_some_and(|input| *input.get_ref()),
            ..StateChannel::plain(
                raw.name.get_ref(),
                ty.clone().unwrap_or(Type::Any),
                reducer.unwrap_or(Reducer::Last),
            )
        },
        span: raw.name.span(),
        given: !raw.default.is_absent() || raw.input.get().map_or(!raw.input.is_absent(), |v| *v.get_ref()),
        // A channel whose reducer is unknown may take any number of writers.
        ty: ty.filter(|_| reducer.is_some()),
    }
}

fn type_of(text: &Spanned<String>, catalog: &Catalog, faults: &mut Vec<Fault>) -> Option<Type> {
    let known = || {
        let plain = ["any", "bool", "int", "float", "string"];
        plain.into_iter().chain(catalog.types.keys().map(String::as_str))
    };
    // Deep types are no use, and reading them takes one call a level.
    let ty = if text.get_ref().len() <= 128 { Type::parse(text.get_ref()) } else { None };
    let Some(ty) = ty else {
        let word = text.get_ref().trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        let alias = match word {
            "str" | "text" | "String" => Some("string"),
            "integer" | "i64" | "u64" | "number" => Some("int"),
            "boolean" => Some("bool"),
            "double" | "f64" => Some("float"),
            "object" | "json" | "Value" => Some("any"),
            _ => None,
        };
        let near = alias.or_else(|| suggest::closest(word, known()));
        faults.push(Fault::new(
            codes::UNKNOWN_TYPE,
            text.span(),
            "no such type",
            format!("`{}` is no type", text.get_ref()),
            near.map_or_else(
                || {
                    "write `any`, `bool`, `int`, `float`, `string`, a registered type, `T?`, `T[]` or `{T}`"
                        .to_owned()
                },
                |name| format!("did you mean `{}`?", text.get_ref().replace(word, name)),
            ),
        ));
        return None;
    };
    let unknown: Vec<&str> =
        ty.names().into_iter().filter(|name| !catalog.types.contains_key(*name)).collect();
    let Some(name) = unknown.first() else { return Some(ty) };
    faults.push(Fault::new(
        codes::UNKNOWN_TYPE,
        text.span(),
        "no such type",
        format!("no type is registered as `{name}`"),
        suggest::help(name, known(), "types"),
    ));
    None
}

fn reducer(text: &Spanned<String>, faults: &mut Vec<Fault>) -> Option<Reducer> {
    let found = Reducer::ALL.into_iter().find(|reducer| reducer.as_str() == text.get_ref());
    if found.is_none() {
        faults.push(Fault::new(
            codes::UNKNOWN_REDUCER,
            text.span(),
            "no such reducer",
            format!("`{}` is no reducer", text.get_ref()),
            suggest::help(text.get_ref(), Reducer::ALL.map(Reducer::as_str), "reducers"),
        ));
    }
    found
}

fn fits_reducer(
    name: &Spanned<String>,
    ty: &Type,
    reducer: Reducer,
    place: &Spanned<String>,
    faults: &mut Vec<Fault>,
) {
    let (fits, needs) = match reducer {
        Reducer::Last => (true, ""),
        Reducer::Append | Reducer::Union => (matches!(bare(ty), Type::List(_)), "a list, as `any[]`"),
        Reducer::Merge => {
            (matches!(bare(ty), Type::Map(_) | Type::Named(_) | Type::Any), "an object, as `{any}`")
        }
        Reducer::Sum | Reducer::Max | Reducer::Min => {
            (matches!(bare(ty), Type::Int | Type::Float), "a number, as `int`")
        }
        Reducer::First | Reducer::Custom(_) => (true, ""),
        Reducer::ById => (matches!(bare(ty), Type::List(_)), "a list, as `any[]`"),
    };
    if !fits {
        faults.push(Fault::new(
            codes::REDUCER_TYPE,
            place.span(),
            format!("needs {needs}"),
            format!("the reducer `{reducer}` cannot reduce `{}`, which is `{ty}`", name.get_ref()),
            format!("make the channel {needs}, or choose another reducer"),
        ));
    }
}

/// The type without "or null".
pub(super) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Optional(inner) => bare(inner),
        other => other,
    }
}

//! Channels: their types, reducers and defaults.

use toml::Spanned;

use super::{Channel, names, value, words};
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::file::RawChannel;
use crate::graph::{Catalog, Reducer, StateChannel, Trust, Type, suggest};

/// Checks a channel. With faults, it still has its name, so that nothing else complains about it.
/// Registered reducers that it names are added to `custom`.
pub(super) fn channel(
    raw: &RawChannel,
    catalog: &Catalog,
    custom: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) -> Channel {
    names::channel(&raw.name, faults);
    let ty = raw.ty.get().and_then(|text| type_of(text, catalog, faults));
    let reducer = match raw.reducer.get() {
        Some(text) => reducer(text, catalog, custom, faults),
        None => Some(Reducer::Last),
    };
    if let (Some(ty), Some(reducer), Some(place)) = (&ty, reducer, raw.reducer.get()) {
        fits_reducer(&raw.name, ty, reducer, place, catalog, faults);
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
    max_items(raw, ty.as_ref(), faults);
    let persist = raw.persist.get().is_none_or(|persist| *persist.get_ref());
    let input = raw.input.get().is_some_and(|input| *input.get_ref());
    if let Some(place) = raw.persist.get().filter(|_| !persist && input && raw.default.is_absent()) {
        let fault = Fault::new(
            codes::NOT_PERSISTED,
            place.span(),
            "gone after a resume",
            format!(
                "the input `{}` is not stored and has no default, so a resumed run goes on without it",
                raw.name.get_ref()
            ),
            "give it a `default`, or let it be stored",
        );
        faults.push(fault.warning());
    }
    let trust =
        raw.trust.get().and_then(|word| words::one_of(word, "trust", &["trusted", "untrusted"], faults));
    Channel {
        value: StateChannel {
            default: raw.default.get().map(|default| default.get_ref().clone()),
            input,
            output: raw.output.get().is_some_and(|output| *output.get_ref()),
            max_items: raw.max_items.get().and_then(|most| usize::try_from(*most.get_ref()).ok()),
            persist,
            secret: raw.secret.get().is_some_and(|secret| *secret.get_ref()),
            trust: if trust == Some("untrusted") { Trust::Untrusted } else { Trust::Trusted },
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

fn max_items(raw: &RawChannel, ty: Option<&Type>, faults: &mut Vec<Fault>) {
    let Some(most) = raw.max_items.get() else { return };
    let Some(ty) = ty.filter(|ty| !matches!(bare(ty), Type::List(_) | Type::Any)) else { return };
    let fault = Fault::new(
        codes::MAX_ITEMS,
        most.span(),
        "only a list has items",
        format!("`{}` is `{ty}`, which is no list", raw.name.get_ref()),
        "take `max_items` out, or make the channel a list",
    );
    faults.push(match raw.ty.get() {
        Some(place) => fault.also(place.span(), "the type"),
        None => fault,
    });
}

fn reducer(
    text: &Spanned<String>,
    catalog: &Catalog,
    custom: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) -> Option<Reducer> {
    let name = text.get_ref();
    let built_in = Reducer::ALL.into_iter().find(|reducer| reducer.as_str() == name);
    let found = built_in.or_else(|| {
        let at = custom.iter().position(|known| known == name).or_else(|| {
            catalog.reducers.contains(name).then(|| {
                custom.push(name.clone());
                custom.len() - 1
            })
        });
        at.map(Reducer::Custom)
    });
    if found.is_none() {
        let known: Vec<&str> = Reducer::ALL
            .iter()
            .map(|reducer| reducer.as_str())
            .chain(catalog.reducers.iter().map(String::as_str))
            .collect();
        faults.push(Fault::new(
            codes::UNKNOWN_REDUCER,
            text.span(),
            "no such reducer",
            format!("`{}` is no reducer", text.get_ref()),
            suggest::help(name, known, "reducers"),
        ));
    }
    found
}

fn fits_reducer(
    name: &Spanned<String>,
    ty: &Type,
    reducer: Reducer,
    place: &Spanned<String>,
    catalog: &Catalog,
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
        Reducer::ById => {
            let has_id = |item: &Type| match bare(item) {
                Type::Any | Type::Map(_) => true,
                Type::Named(name) => catalog
                    .types
                    .get(name)
                    .is_none_or(|info| info.fields.is_empty() || info.fields.iter().any(|f| f.name == "id")),
                _ => false,
            };
            let fits = match bare(ty) {
                Type::List(item) => has_id(item),
                _ => false,
            };
            (fits, "a list of objects with an `id`, as `any[]`")
        }
    };
    if !fits {
        faults.push(Fault::new(
            codes::REDUCER_TYPE,
            place.span(),
            format!("needs {needs}"),
            format!("the reducer `{}` cannot reduce `{}`, which is `{ty}`", place.get_ref(), name.get_ref()),
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

//! What a condition may use of an untrusted channel: what a schema bounds, never text.

use serde_json::Value;

use super::condition::{Token, lex};
use crate::graph::{Catalog, Type};

/// How far a schema bounds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// A bool, a number or a word of a fixed list.
    Closed,
    /// Something with items or fields: there or not, and how many.
    Items,
    /// Text that may be null: there or not.
    Maybe,
    /// Anything at all.
    Text,
}

/// The shape of a value: a type, or a place in a registered type's schema.
#[derive(Clone, Debug)]
pub(super) enum Shape<'s> {
    /// A type.
    Ty(Type),
    /// A place in a schema, with the whole for what it refers to.
    Schema(&'s Value, &'s Value),
}

/// A step into a value.
enum Step<'s> {
    Field(&'s str),
    Item,
    Unknown,
}

/// How far a shape bounds its values.
pub(super) fn bound(shape: &Shape<'_>, catalog: &Catalog) -> Bound {
    match shape {
        Shape::Ty(Type::Bool | Type::Int | Type::Float) => Bound::Closed,
        Shape::Ty(Type::String | Type::Any) => Bound::Text,
        Shape::Ty(Type::List(_) | Type::Map(_)) => Bound::Items,
        Shape::Ty(Type::Optional(inner)) => maybe(bound(&Shape::Ty(inner.as_ref().clone()), catalog)),
        Shape::Ty(Type::Named(name)) => match catalog.types.get(name) {
            Some(info) if !info.schema.is_null() => schema_bound(&info.schema, &info.schema, 0),
            _ => Bound::Items,
        },
        Shape::Schema(root, at) => schema_bound(root, at, 0),
    }
}

fn maybe(bound: Bound) -> Bound {
    if bound == Bound::Text { Bound::Maybe } else { bound }
}

fn schema_bound(root: &Value, at: &Value, depth: usize) -> Bound {
    // A reference may lead round in a circle.
    if depth > 16 {
        return Bound::Text;
    }
    if let Some(target) = reference(root, at) {
        return schema_bound(root, target, depth + 1);
    }
    if at.get("enum").is_some() || at.get("const").is_some() {
        return Bound::Closed;
    }
    for key in ["oneOf", "anyOf"] {
        let Some(choices) = at.get(key).and_then(Value::as_array) else { continue };
        let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
        let bounds: Vec<Bound> = choices
            .iter()
            .filter(|choice| !is_null(choice))
            .map(|choice| schema_bound(root, choice, depth + 1))
            .collect();
        let widest = if bounds.contains(&Bound::Text) {
            Bound::Text
        } else if bounds.iter().all(|bound| *bound == Bound::Closed) {
            Bound::Closed
        } else {
            Bound::Items
        };
        return if choices.iter().any(|choice| is_null(&choice)) { maybe(widest) } else { widest };
    }
    let names: Vec<&str> = match at.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => return Bound::Text,
    };
    let (nulls, others): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| *name == "null");
    let widest = if others.iter().all(|name| matches!(*name, "boolean" | "integer" | "number")) {
        Bound::Closed
    } else if others.iter().all(|name| matches!(*name, "array" | "object")) {
        Bound::Items
    } else {
        Bound::Text
    };
    if nulls.is_empty() { widest } else { maybe(widest) }
}

fn reference<'s>(root: &'s Value, at: &Value) -> Option<&'s Value> {
    let path = at.get("$ref")?.as_str()?;
    if path == "#" { Some(root) } else { root.pointer(path.strip_prefix('#')?) }
}

/// The shape of a part of a value.
fn step<'s>(shape: &Shape<'s>, step: &Step<'_>, catalog: &'s Catalog) -> Shape<'s> {
    let any = Shape::Ty(Type::Any);
    match (shape, step) {
        (Shape::Ty(Type::Optional(inner)), how) => {
            self::step(&Shape::Ty(inner.as_ref().clone()), how, catalog)
        }
        (Shape::Ty(Type::List(inner)), Step::Item | Step::Unknown)
        | (Shape::Ty(Type::Map(inner)), Step::Field(_) | Step::Unknown) => Shape::Ty(inner.as_ref().clone()),
        (Shape::Ty(Type::Named(name)), how) => match catalog.types.get(name) {
            Some(info) => self::step(&Shape::Schema(&info.schema, &info.schema), how, catalog),
            None => any,
        },
        (Shape::Schema(root, at), how) => {
            schema_step(root, at, how, 0).map_or(any, |at| Shape::Schema(root, at))
        }
        _ => any,
    }
}

fn schema_step<'s>(root: &'s Value, at: &'s Value, step: &Step<'_>, depth: usize) -> Option<&'s Value> {
    if depth > 16 {
        return None;
    }
    if let Some(target) = reference(root, at) {
        return schema_step(root, target, step, depth + 1);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some([first, second]) = at.get(key).and_then(Value::as_array).map(Vec::as_slice)
            && second.get("type").and_then(Value::as_str) == Some("null")
        {
            return schema_step(root, first, step, depth + 1);
        }
    }
    match step {
        Step::Field(name) => at
            .get("properties")
            .and_then(|properties| properties.get(name))
            .or_else(|| at.get("additionalProperties").filter(|schema| schema.is_object())),
        Step::Item => at.get("items").filter(|schema| schema.is_object()),
        Step::Unknown => at.get("items").or_else(|| at.get("additionalProperties")).filter(|s| s.is_object()),
    }
}

/// Why a condition lets the text of a channel decide; nothing where it does not.
pub(super) fn decides(source: &str, channel: &str, ty: &Type, catalog: &Catalog) -> Option<String> {
    let tokens = lex(source);
    for at in 0..tokens.len() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before)).map_or("", |token| token.text);
        if tokens.get(at).map(|token| token.text) != Some(channel) || matches!(before, "." | "|" | "is") {
            continue;
        }
        let (shape, end) = path(&tokens, at, ty, catalog);
        let bound = bound(&shape, catalog);
        let word = |offset: usize| tokens.get(end + offset).map_or("", |token| token.text);
        let test = if word(1) == "not" { word(2) } else { word(1) };
        let asks_presence = word(0) == "is" && matches!(test, "none" | "defined" | "undefined");
        if bound == Bound::Closed || asks_presence {
            continue;
        }
        if bound == Bound::Items && word(0) == "|" && matches!(word(1), "length" | "count") {
            continue;
        }
        let shown: String = tokens
            .get(at)
            .zip(tokens.get(end.saturating_sub(1)))
            .and_then(|(first, last)| source.get(first.range.start..last.range.end))
            .unwrap_or(channel)
            .to_owned();
        if bound == Bound::Text {
            return Some(format!("`{shown}` is text"));
        }
        if !is_truth(&tokens, at, end) {
            return Some(format!("`{shown}` is used for more than whether it is there"));
        }
    }
    None
}

/// The shape at the end of a path that begins at a name, and where the path ends.
fn path<'s>(tokens: &[Token<'_>], at: usize, ty: &Type, catalog: &'s Catalog) -> (Shape<'s>, usize) {
    let mut shape = Shape::Ty(ty.clone());
    let mut end = at + 1;
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text);
    loop {
        if text(end) == "." {
            let name = text(end + 1);
            let part =
                if name.starts_with(|c: char| c.is_ascii_digit()) { Step::Item } else { Step::Field(name) };
            shape = step(&shape, &part, catalog);
            end += 2;
        } else if text(end) == "[" {
            let inside = text(end + 1);
            let part = match (inside.chars().next(), text(end + 2)) {
                (Some('"' | '\''), "]") => Step::Field(inside.trim_matches(['"', '\''])),
                (Some('0'..='9'), "]") => Step::Item,
                _ => Step::Unknown,
            };
            shape = step(&shape, &part, catalog);
            let mut depth = 0_usize;
            while let Some(token) = tokens.get(end) {
                end += 1;
                match token.text {
                    "[" => depth += 1,
                    "]" => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            return (shape, end.min(tokens.len()));
        }
    }
}

/// Whether of the tokens `from..end` only counts whether they are true: nothing but `and`, `or`, `not` and brackets
/// around, up to the ends of the condition.
fn is_truth(tokens: &[Token<'_>], from: usize, end: usize) -> bool {
    let (mut from, mut end) = (from, end);
    loop {
        let before = from.checked_sub(1).and_then(|before| tokens.get(before)).map(|token| token.text);
        let after = tokens.get(end).map(|token| token.text);
        if !matches!(before, None | Some("and" | "or" | "not" | "(" | "if"))
            || !matches!(after, None | Some("and" | "or" | ")" | "else"))
        {
            return false;
        }
        let Some((open, close)) = around(tokens, from, end) else { return true };
        (from, end) = (open, close + 1);
    }
}

/// The brackets that enclose the tokens `from..end` most closely.
fn around(tokens: &[Token<'_>], from: usize, end: usize) -> Option<(usize, usize)> {
    let mut depth = 0_usize;
    let open = (0..from).rev().find(|index| {
        match tokens.get(*index).map(|token| token.text) {
            Some(")" | "]" | "}") => depth += 1,
            Some("(" | "[" | "{") if depth == 0 => return true,
            Some("(" | "[" | "{") => depth -= 1,
            _ => {}
        }
        false
    })?;
    let mut depth = 0_usize;
    let close = (end..tokens.len()).find(|index| {
        match tokens.get(*index).map(|token| token.text) {
            Some("(" | "[" | "{") => depth += 1,
            Some(")" | "]" | "}") if depth == 0 => return true,
            Some(")" | "]" | "}") => depth -= 1,
            _ => {}
        }
        false
    })?;
    Some((open, close))
}

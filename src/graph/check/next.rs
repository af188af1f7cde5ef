//! Edges: targets, arms and conditions.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;

use super::Scope;
use crate::graph::codes;
use crate::graph::document::Slot;
use crate::graph::fault::Fault;
use crate::graph::file::{RawArm, RawNext, RawNode};
use crate::graph::{Arm, Expr, NodeIdx, suggest};

/// The end of the graph, as a target.
pub(super) const END: &str = "end";

/// The edges of a node.
#[derive(Default)]
pub(super) struct Edges {
    /// As the graph has them.
    pub(super) arms: Vec<Arm>,
    /// Nodes that wrong targets may have meant; they count as reached.
    pub(super) guesses: Vec<usize>,
    /// Whether some edge is a fault whose target nobody can guess.
    pub(super) unclear: bool,
    /// Channels that conditions read, with their places.
    pub(super) reads: Vec<(usize, Range<usize>)>,
}

/// Checks the edges of a node.
pub(super) fn check(raw: &RawNode, scope: &Scope<'_>, faults: &mut Vec<Fault>) -> Edges {
    let mut edges = Edges::default();
    let next = match &raw.next {
        Slot::Absent => return edges,
        Slot::Broken => {
            edges.unclear = true;
            return edges;
        }
        Slot::Given(next) => next,
    };
    match next.get_ref() {
        RawNext::Direct(list) => {
            let to = targets(list, &next.span(), scope, &mut edges, faults);
            edges.arms.push(Arm { when: None, option: None, to });
        }
        RawNext::Arms(arms) => {
            let mut closed: Option<Range<usize>> = None;
            for arm in arms {
                if let Some(first) = &closed {
                    faults.push(
                        Fault::new(
                            codes::AFTER_ELSE,
                            arm.span(),
                            "never reached",
                            format!("an arm of `{}` stands behind `else`", raw.name.get_ref()),
                            "put `else` last",
                        )
                        .also(first.clone(), "always taken"),
                    );
                }
                let checked = one_arm(arm, scope, &mut edges, faults);
                edges.arms.push(checked);
                if arm.get_ref().is_else && closed.is_none() {
                    closed = Some(arm.span());
                }
            }
            if closed.is_none() {
                let last = arms.last().map_or_else(|| next.span(), Spanned::span);
                faults.push(Fault::new(
                    codes::NO_ELSE,
                    last,
                    "what if this does not hold?",
                    format!("`next` of `{}` has no `else`", raw.name.get_ref()),
                    "add a last arm: `{ else = \"node\" }`, or `{ else = \"end\" }`",
                ));
            }
        }
    }
    edges
}

fn one_arm(arm: &Spanned<RawArm>, scope: &Scope<'_>, edges: &mut Edges, faults: &mut Vec<Fault>) -> Arm {
    let raw = arm.get_ref();
    let when = raw.when.get().filter(|_| !raw.is_else).and_then(|text| condition(text, scope, edges, faults));
    let to = if let Some(list) = raw.to.get() {
        targets(list.get_ref(), &list.span(), scope, edges, faults)
    } else {
        edges.unclear = true;
        Vec::new()
    };
    Arm { when, option: None, to }
}

/// The nodes that a list of names leads to; none: the end.
fn targets(
    list: &[Spanned<String>],
    span: &Range<usize>,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Vec<NodeIdx> {
    if list.is_empty() {
        edges.unclear = true;
        faults.push(Fault::new(
            codes::BAD_NEXT,
            span.clone(),
            "empty",
            "this list leads nowhere",
            "write `\"end\"` if the branch ends here, or name a node",
        ));
    }
    let mut out: Vec<NodeIdx> = Vec::new();
    for (position, target) in list.iter().enumerate() {
        if list.iter().take(position).any(|earlier| earlier.get_ref() == target.get_ref()) {
            faults.push(Fault::new(
                codes::BAD_NEXT,
                target.span(),
                "again",
                format!("`{}` is in the list twice", target.get_ref()),
                "a node runs once a step: name it once",
            ));
            continue;
        }
        if target.get_ref() == END {
            if list.len() > 1 {
                faults.push(Fault::new(
                    codes::BAD_NEXT,
                    target.span(),
                    "no meaning beside nodes",
                    "`end` stands in a list with other targets",
                    "take it out: the branch goes on with the other nodes",
                ));
            }
            continue;
        }
        if let Some(index) = node_index(target, "an edge", scope, faults) {
            out.push(NodeIdx(index));
        } else {
            let near = suggest::closest(target.get_ref(), scope.node_names());
            match near.and_then(|near| scope.nodes.iter().position(|name| name == near)) {
                Some(index) => edges.guesses.push(index),
                None => edges.unclear = true,
            }
        }
    }
    out
}

/// The node of a name, or a fault at its place.
pub(super) fn node_index(
    name: &Spanned<String>,
    what: &str,
    scope: &Scope<'_>,
    faults: &mut Vec<Fault>,
) -> Option<usize> {
    let found = scope.nodes.iter().position(|node| node == name.get_ref());
    if found.is_none() {
        let names = || scope.node_names().chain((what != "`start`").then_some(END));
        faults.push(Fault::new(
            codes::UNKNOWN_NODE,
            name.span(),
            "no such node",
            format!("{what} leads to `{}`, which is no node", name.get_ref()),
            if names().next().is_none() {
                "the file has no nodes yet: add `[node.NAME]`".to_owned()
            } else {
                suggest::help(name.get_ref(), names().collect::<Vec<_>>(), "nodes")
            },
        ));
    }
    found
}

fn condition(
    text: &Spanned<String>,
    scope: &Scope<'_>,
    edges: &mut Edges,
    faults: &mut Vec<Fault>,
) -> Option<Expr> {
    let source = text.get_ref();
    let place = |range: Range<usize>| inner_span(scope.source, &text.span(), source, range);
    let expr = match Expr::parse(source) {
        Ok(expr) => expr,
        Err(error) => {
            let span = error.range.clone().map_or_else(|| text.span(), place);
            let message = format!("this condition cannot be read: {}", error.message);
            let help = "write an expression over the channels, as `wanted and round < 3`";
            faults.push(Fault::new(codes::EXPRESSION, span, "here", message, help));
            return None;
        }
    };
    for (kind, name, range) in applied(source) {
        let probe = match kind {
            Applied::Filter => format!("none|{name}"),
            Applied::Test => format!("none is {name}"),
        };
        let error = Expr::parse(&probe).and_then(|expr| expr.holds(|_| None)).err();
        if error.is_some_and(|error| error.message.starts_with("unknown ")) {
            let kind = match kind {
                Applied::Filter => "filter",
                Applied::Test => "test",
            };
            faults.push(Fault::new(
                codes::EXPRESSION,
                place(range),
                format!("no such {kind}"),
                format!("the condition uses the {kind} `{name}`, which does not exist"),
                suggest::help(&name, known(kind).iter().copied(), &format!("usual {kind}s")),
            ));
        }
    }
    for name in expr.variables() {
        if let Some((index, _)) = scope.channel(name) {
            let span = word(source, name).map_or_else(|| text.span(), place);
            edges.reads.push((index, span));
        } else {
            let at = word(source, name);
            let is_call = at.clone().is_some_and(|range| {
                source.get(range.end..).is_some_and(|rest| rest.trim_start().starts_with('('))
            });
            faults.push(Fault::new(
                codes::EXPRESSION_CHANNEL,
                at.map_or_else(|| text.span(), place),
                if is_call { "no such function" } else { "no such channel" },
                if is_call {
                    format!("the condition calls `{name}`, and conditions have no functions")
                } else {
                    format!("the condition reads `{name}`, which is no channel")
                },
                if is_call {
                    "let a task work it out and write it to a channel".to_owned()
                } else {
                    suggest::help(name, scope.channel_names(), "channels")
                },
            ));
        }
    }
    Some(expr)
}

fn known(kind: &str) -> &'static [&'static str] {
    if kind == "filter" {
        &[
            "length", "default", "first", "last", "lower", "upper", "trim", "sum", "min", "max", "unique",
            "int",
        ]
    } else {
        &["defined", "none", "string", "number", "mapping", "sequence", "true", "false", "in", "odd", "even"]
    }
}

#[derive(Clone, Copy)]
enum Applied {
    Filter,
    Test,
}

/// Names of the filters and tests in an expression that parses, with their places.
fn applied(source: &str) -> Vec<(Applied, String, Range<usize>)> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    let tokens = tokens(source);
    let is_word = |token: &(Range<usize>, &str)| token.1.starts_with(|c: char| c.is_alphabetic() || c == '_');
    for (position, (_, token)) in tokens.iter().enumerate() {
        let mut rest = tokens.iter().skip(position + 1).peekable();
        let kind = match *token {
            "|" => Applied::Filter,
            "is" => {
                if rest.peek().is_some_and(|(_, word)| *word == "not") {
                    rest.next();
                }
                Applied::Test
            }
            _ => continue,
        };
        if let Some((range, name)) = rest.next().filter(|token| is_word(token))
            && seen.insert((*token, *name))
        {
            out.push((kind, (*name).to_owned(), range.clone()));
        }
    }
    out
}

/// Where a variable stands in an expression, outside strings and not as an attribute.
fn word(source: &str, name: &str) -> Option<Range<usize>> {
    let tokens = tokens(source);
    let mut before = "";
    for (range, token) in tokens {
        if token == name && before != "." && before != "|" {
            return Some(range);
        }
        before = token;
    }
    None
}

/// The words and signs of an expression, strings left out.
fn tokens(source: &str) -> Vec<(Range<usize>, &str)> {
    let mut out = Vec::new();
    let mut chars = source.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        if c == '"' || c == '\'' {
            let mut escaped = false;
            for (_, inner) in chars.by_ref() {
                match inner {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    inner if inner == c => break,
                    _ => {}
                }
            }
            continue;
        }
        if c.is_whitespace() {
            continue;
        }
        let mut end = start + c.len_utf8();
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        if in_word(c) {
            while let Some((at, next)) = chars.next_if(|(_, next)| in_word(*next)) {
                end = at + next.len_utf8();
            }
        }
        if let Some(token) = source.get(start..end) {
            out.push((start..end, token));
        }
    }
    out
}

/// The place in the file of a part of a TOML string's value.
fn inner_span(source: &str, literal: &Range<usize>, value: &str, part: Range<usize>) -> Range<usize> {
    let Some(raw) = source.get(literal.clone()) else { return literal.clone() };
    let quote = match raw.get(..3) {
        Some(triple @ ("\"\"\"" | "'''")) => triple.len(),
        _ => 1,
    };
    let Some(mut body) = raw.get(quote..) else { return literal.clone() };
    let mut offset = literal.start + quote;
    if quote == 3 {
        let trimmed = body.strip_prefix("\r\n").or_else(|| body.strip_prefix('\n')).unwrap_or(body);
        offset += body.len() - trimmed.len();
        body = trimmed;
    }
    let place = |wanted: usize| -> Option<usize> {
        if raw.starts_with('\'') {
            return Some(offset + wanted);
        }
        let (mut at, mut decoded) = (0, 0);
        while decoded < wanted {
            let rest = body.get(at..)?;
            let (raw_len, value_len) = escape(rest)?;
            at += raw_len;
            decoded += value_len;
        }
        // A line that is continued adds nothing to the value.
        while let Some((raw_len, 0)) = body.get(at..).and_then(escape) {
            at += raw_len;
        }
        Some(offset + at)
    };
    if part.start > part.end || part.end > value.len() {
        return literal.clone();
    }
    match (place(part.start), place(part.end)) {
        (Some(start), Some(end)) if start <= end && end <= literal.end => start..end,
        _ => literal.clone(),
    }
}

/// Lengths of the next character in the raw text of a basic string and in its value.
fn escape(rest: &str) -> Option<(usize, usize)> {
    let mut chars = rest.chars();
    let first = chars.next()?;
    if first != '\\' {
        return Some((first.len_utf8(), first.len_utf8()));
    }
    let digits = match chars.next()? {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        c if c.is_whitespace() => {
            let trimmed = rest.get(1..)?.trim_start();
            return Some((rest.len() - trimmed.len(), 0));
        }
        c => return Some((1 + c.len_utf8(), 1)),
    };
    let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
    Some((2 + digits, char::from_u32(code)?.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_string_are_found_through_its_escapes() {
        for (literal, value, wanted) in [
            ("'ab cd'", "ab cd", "cd"),
            (r#""ab \"x\" cd""#, "ab \"x\" cd", "cd"),
            (r#""ä\u00e4\t cd""#, "ää\t cd", "cd"),
            ("\"\"\"\nab \\\n   cd\"\"\"", "ab cd", "cd"),
            ("'''\nab cd'''", "ab cd", "cd"),
        ] {
            let source = format!("x = {literal}\n");
            let start = value.find(wanted).unwrap();
            let span = inner_span(&source, &(4..4 + literal.len()), value, start..start + wanted.len());
            assert_eq!(source.get(span), Some(wanted), "{literal}");
        }
    }

    #[test]
    fn filters_and_tests_are_seen_outside_strings() {
        let found: Vec<String> =
            applied("a|x and 'b|y' or c is not z and d|x").into_iter().map(|f| f.1).collect();
        assert_eq!(found, ["x", "z"]);
        assert_eq!(word("a.b and b", "b"), Some(8..9));
    }
}

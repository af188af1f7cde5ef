//! Conditions: expressions over names, with the places of what is wrong in them.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;

use super::Scope;
use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::{Expr, suggest};

/// The names that an expression may use.
pub(super) struct Names<'n> {
    pub(super) known: &'n [&'n str],
    /// What one of them is called, as "channel".
    pub(super) one: &'n str,
    pub(super) many: &'n str,
    /// What the expression is called, as "condition".
    pub(super) what: &'n str,
}

/// An expression with each name it uses and the name's place.
type Parsed = (Expr, Vec<(String, Range<usize>)>);

/// Reads an expression.
pub(super) fn parse(
    text: &Spanned<String>,
    scope: &Scope<'_>,
    names: &Names<'_>,
    faults: &mut Vec<Fault>,
) -> Option<Parsed> {
    let source = text.get_ref();
    let place = |range: Range<usize>| inner_span(scope.source, &text.span(), source, range);
    let what = names.what;
    let expr = match Expr::parse(source) {
        Ok(expr) => expr,
        Err(error) => {
            let span = error.range.clone().map_or_else(|| text.span(), place);
            let message = format!("this {what} cannot be read: {}", error.message);
            let help = format!("write an expression over the {}, as `wanted and round < 3`", names.many);
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
                format!("the {what} uses the {kind} `{name}`, which does not exist"),
                suggest::help(&name, known(kind).iter().copied(), &format!("usual {kind}s")),
            ));
        }
    }
    let mut uses = Vec::new();
    for name in expr.variables() {
        let at = word(source, name);
        if names.known.contains(&name.as_str()) {
            uses.push((name.clone(), at.map_or_else(|| text.span(), place)));
            continue;
        }
        let is_call = at.clone().is_some_and(|range| {
            source.get(range.end..).is_some_and(|rest| rest.trim_start().starts_with('('))
        });
        faults.push(Fault::new(
            codes::EXPRESSION_CHANNEL,
            at.map_or_else(|| text.span(), place),
            if is_call { "no such function".to_owned() } else { format!("no such {}", names.one) },
            if is_call {
                format!("the {what} calls `{name}`, and conditions have no functions")
            } else {
                format!("the {what} reads `{name}`, which is no {}", names.one)
            },
            if is_call {
                "let a task work it out and write it to a channel".to_owned()
            } else {
                suggest::help(name, names.known.iter().copied(), names.many)
            },
        ));
    }
    Some((expr, uses))
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
    let is_string = |token: &Token<'_>| token.text.starts_with(['"', '\'']);
    lex(source).into_iter().filter(|token| !is_string(token)).map(|token| (token.range, token.text)).collect()
}

/// A word, sign or string of an expression.
#[derive(Clone, Debug)]
pub(super) struct Token<'s> {
    pub(super) range: Range<usize>,
    pub(super) text: &'s str,
}

/// The words, signs and strings of an expression; signs of several characters come one by one.
pub(super) fn lex(source: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut chars = source.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut end = start + c.len_utf8();
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        if c == '"' || c == '\'' {
            let mut escaped = false;
            for (at, inner) in chars.by_ref() {
                end = at + inner.len_utf8();
                match inner {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    inner if inner == c => break,
                    _ => {}
                }
            }
        } else if in_word(c) {
            while let Some((at, next)) = chars.next_if(|(_, next)| in_word(*next)) {
                end = at + next.len_utf8();
            }
        }
        if let Some(text) = source.get(start..end) {
            out.push(Token { range: start..end, text });
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

//! `name = value`: secrets that have no format of their own, found by what they are assigned to.
//!
//! A keyword hit in a name (`key`, `token`, `password`, …) is followed to the value by hand: languages, config files,
//! logs, command lines, JSON and prose all write it differently, and one expression for all of them is slow and blind.

use std::ops::Range;

use super::filter::{self, Randomness, Shape};
use super::words::{GLUE, NOT_SECRET, TAILS};

/// The farthest a name reaches before its keyword, in bytes.
const NAME: usize = 48;
/// The longest value that is read.
const VALUE: usize = 512;

/// A value that is worth reporting.
pub(super) struct Hit {
    pub(super) range: Range<usize>,
    /// How much of the rule's confidence holds, 0 to 1.
    pub(super) weight: f64,
}

/// How a name and its value are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// `=`, `:`, `=>`, `:=`, a tag's end, an attribute, a call: an assignment.
    Assign,
    /// `, ` after a quoted name: an argument.
    Comma,
    /// A space or a dash: a note, as `sometool token 1a2b…`.
    Loose,
}

/// What stands before and in the name.
struct Name<'a> {
    /// Everything of the name before the keyword, lower case.
    before: String,
    /// The keyword as written.
    word: &'a str,
    quoted: bool,
    /// End of the name in the text.
    end: usize,
}

/// The value of a key, token or secret whose name holds a keyword at `hit`.
pub(super) fn key(text: &str, hit: Range<usize>) -> Option<Hit> {
    let name = name(text, &hit)?;
    let word = name.word.to_ascii_lowercase();
    let previous = name.before.rsplit(['_', '-', '.', ' ']).find(|piece| !piece.is_empty()).unwrap_or("");
    if NOT_SECRET.iter().any(|no| previous == *no || name.before.ends_with(no) && no.len() >= 5) {
        return None;
    }
    // A session key names a session; a session token opens it.
    if word == "key" && name.before.trim_end_matches(['_', '-', '.', ' ']).ends_with("session") {
        return None;
    }
    let (join, start) = join(text, &name)?;
    let value = value(text, start, join)?;
    let raw = text.get(value.range.clone())?;
    if filter::is_placeholder(raw) || value.is_code || is_address(raw) {
        return None;
    }
    let random = filter::randomness(raw);
    let shape = Shape::of(raw);
    let bare = name.before.is_empty();
    let (shortest, loose) = match word.as_str() {
        "secret" | "apikey" | "token" | "credential" | "credentials" => (if bare { 16 } else { 10 }, 16),
        "key" if bare => return None,
        "key" => (if is_strong_name(&name.before) { 10 } else { 12 }, 16),
        // `auth`, `access`, `private`: only as the last word of a longer name, before something strong.
        _ if bare => return None,
        _ => (16, 20),
    };
    if join != Join::Assign && word != "token" && word != "secret" && word != "apikey" && bare {
        return None;
    }
    let shortest = if join == Join::Loose { loose } else { shortest };
    if shape.len < shortest {
        return None;
    }
    if join == Join::Loose && (shape.digits < 3 || shape.letters() < 3 && shape.len < 24) {
        return None;
    }
    let weight = match (random, join) {
        (Randomness::None, Join::Assign) if is_phrase(&word, &name.before, &shape, raw) => 0.75,
        (Randomness::None, _) => return None,
        (Randomness::Sequence, _) => 0.7,
        (Randomness::Random, Join::Loose) => 0.8,
        (Randomness::Random, _) => 1.0,
    };
    Some(Hit { range: value.range, weight })
}

/// The value of a password whose name holds a keyword at `hit`.
pub(super) fn password(text: &str, hit: Range<usize>) -> Option<Hit> {
    let name = name(text, &hit)?;
    let (join, start) = join(text, &name)?;
    if join == Join::Loose {
        return None;
    }
    let value = value(text, start, join)?;
    let raw = text.get(value.range.clone())?;
    let shape = Shape::of(raw);
    if !(4..=128).contains(&shape.len)
        || shape.strange > 0
        || filter::is_placeholder(raw)
        || filter::is_no_password(raw)
        || value.is_code
        || is_address(raw)
    {
        return None;
    }
    let word = name.word.to_ascii_lowercase();
    // `pass` and `pwd` are also a test that succeeded, a method and a folder.
    if matches!(word.as_str(), "pass" | "pwd") && name.before.ends_with('.') {
        return None;
    }
    let weak_name = matches!(word.as_str(), "pass" | "pwd") && name.before.is_empty();
    let kinds = usize::from(shape.lower > 0)
        + usize::from(shape.upper > 0)
        + usize::from(shape.digits > 0)
        + usize::from(shape.marks > 0);
    let strong = kinds >= 3 && shape.len >= 6
        || kinds == 2 && shape.digits > 0 && shape.letters() > 0 && shape.len >= 6;
    let odd_mark =
        raw.bytes().any(|byte| matches!(byte, b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'&' | b'*' | b'?'));
    if weak_name && !(strong || odd_mark) {
        return None;
    }
    if value.quoted {
        // A quoted word alone may be a label of a form; a password of letters alone is long or mixed.
        if !(strong
            || odd_mark
            || shape.digits > 0 && shape.len >= 6
            || shape.len >= 9 && shape.marks == 0 && kinds <= 2)
        {
            return None;
        }
        if shape.digits == 0 && !odd_mark && shape.marks > 0 {
            return None;
        }
    } else if !(strong && shape.digits > 0 || odd_mark && shape.letters() >= 3)
        || raw.contains(['(', ')', '[', ']', '{', '}', '\\'])
    {
        return None;
    }
    if shape.letters() == 0 && shape.len < 6 {
        return None;
    }
    Some(Hit { range: value.range, weight: if strong || odd_mark { 1.0 } else { 0.7 } })
}

/// A secret of words: long, mixed with digits or marks, under a name that leaves no doubt.
fn is_phrase(word: &str, before: &str, shape: &Shape, raw: &str) -> bool {
    let named = matches!(word, "secret" | "credential" | "token") || word == "key" && is_strong_name(before);
    named
        && shape.len >= 12
        && shape.digits >= 2
        && shape.letters() >= 4
        && !raw.contains(['/', ' ', ':', '.'])
        && !raw.contains('_')
        && raw.bytes().filter(|byte| *byte == b'-').count() <= 1
        && filter::entropy(raw) >= 3.2
        && shape.turns >= 2
}

/// Names that only a secret has: `api_key`, `secret_access_key`, `private key`.
fn is_strong_name(before: &str) -> bool {
    let tail: String = before.chars().filter(char::is_ascii_alphanumeric).collect();
    [
        "api",
        "secret",
        "private",
        "access",
        "auth",
        "signing",
        "encryption",
        "client",
        "account",
        "shared",
        "master",
        "license",
    ]
    .iter()
    .any(|word| tail.ends_with(word))
}

/// A path, a URL, a domain, an e-mail address, a time: what a key may be called but never is.
fn is_address(raw: &str) -> bool {
    raw.contains("://")
        || raw.starts_with(['/', '.', '~'])
        || raw.contains('@') && raw.contains('.') && !raw.contains(['!', '#', '$', '%'])
        || raw.len() <= 40
            && raw.rsplit_once('.').is_some_and(|(stem, suffix)| {
                matches!(suffix.len(), 2..=5)
                    && suffix.bytes().all(|byte| byte.is_ascii_lowercase())
                    && stem.len() >= 2
            })
}

fn name<'a>(text: &'a str, hit: &Range<usize>) -> Option<Name<'a>> {
    let bytes = text.as_bytes();
    let word = text.get(hit.clone())?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    // Left: the rest of the name, and one word before a space (`access key`, `sometool token`).
    let mut start = hit.start;
    let floor = hit.start.saturating_sub(NAME);
    while start > floor && bytes.get(start - 1).is_some_and(|byte| is_name(*byte)) {
        start -= 1;
    }
    if start == hit.start
        && start >= 2
        && bytes.get(start - 1) == Some(&b' ')
        && bytes.get(start - 2).is_some_and(|byte| is_name(*byte))
    {
        start -= 1;
        while start > floor && bytes.get(start - 1).is_some_and(|byte| is_name(*byte)) {
            start -= 1;
        }
    }
    let before = text.get(start..hit.start)?;
    if !is_boundary(before, word) {
        return None;
    }
    // Right: nothing, or a tail that changes nothing.
    let mut end = hit.end;
    while end < hit.end + 16
        && bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        end += 1;
    }
    let tail = text.get(hit.end..end)?.to_ascii_lowercase();
    let plain = tail.split('_').all(|piece| {
        piece.is_empty()
            || TAILS.contains(&piece)
            || piece.len() <= 2 && piece.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !plain {
        return None;
    }
    let quote_before = start.checked_sub(1).and_then(|at| bytes.get(at));
    let quoted = matches!(quote_before, Some(b'"' | b'\'' | b'`'))
        && matches!(bytes.get(end), Some(b'"' | b'\'' | b'`' | b'\\'));
    Some(Name { before: before.to_ascii_lowercase(), word, quoted, end })
}

/// Whether the keyword is a word of its own in the name: `api_key`, `apiKey`, `APIKEY`, not `monkey`.
fn is_boundary(before: &str, word: &str) -> bool {
    let Some(last) = before.bytes().next_back() else { return true };
    if !last.is_ascii_alphabetic() {
        return true;
    }
    let first = word.bytes().next().unwrap_or(b' ');
    if last.is_ascii_lowercase() && first.is_ascii_uppercase() {
        return true;
    }
    let lower = before.to_ascii_lowercase();
    GLUE.iter().any(|glue| lower.ends_with(glue))
}

/// Follows what joins a name to its value; gives where the value (or its opening quote) starts.
fn join(text: &str, name: &Name<'_>) -> Option<(Join, usize)> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut i = name.end;
    let spaces = |mut i: usize| {
        let stop = i + 12;
        while i < stop && matches!(at(i), b' ' | b'\t') {
            i += 1;
        }
        i
    };
    let mut closed = false;
    while matches!(at(i), b'"' | b'\'' | b'`' | b'\\' | b']' | b'*') && i < name.end + 4 {
        closed = true;
        i += 1;
    }
    if at(i) == b')' && at(i + 1) == b':' {
        i += 1;
    }
    let gap = spaces(i);
    let join = match (at(gap), at(gap + 1)) {
        (b'=', b'=') => (Join::Assign, gap + 2),
        (b'=' | b':' | b'|', b'>' | b'=') => (Join::Assign, gap + 2),
        (b'!', b'=') => return None,
        (b'=', _) => (Join::Assign, gap + 1),
        (b':', b':') => return None,
        (b':', _) => {
            // `name: Type = value`.
            let mut k = spaces(gap + 1);
            let type_start = k;
            while k < type_start + 24
                && (at(k).is_ascii_alphanumeric() || matches!(at(k), b'_' | b'&' | b'\'' | b'<' | b'>'))
            {
                k += 1;
            }
            let after = spaces(k);
            if k > type_start && at(after) == b'=' && at(after + 1) != b'=' {
                (Join::Assign, after + 1)
            } else {
                (Join::Assign, gap + 1)
            }
        }
        (b'>', _) if i == gap => (Join::Assign, gap + 1),
        (b'(', b'"' | b'\'' | b'`') => (Join::Assign, gap + 1),
        (b',', _) if closed && name.quoted => (Join::Comma, gap + 1),
        _ if gap > i || at(i) == b'-' => {
            let rest = text.get(gap..).unwrap_or_default();
            if let Some(tail) = rest.strip_prefix("value=").or_else(|| rest.strip_prefix("is ")) {
                (Join::Assign, text.len() - tail.len())
            } else if let Some(tail) = rest.strip_prefix("is: ") {
                (Join::Assign, text.len() - tail.len())
            } else {
                (Join::Loose, if gap > i { gap } else { i + 1 })
            }
        }
        _ => return None,
    };
    Some((join.0, spaces(join.1)))
}

struct Value {
    range: Range<usize>,
    quoted: bool,
    /// A call, an index, a field access: code that yields a value, not the value.
    is_code: bool,
}

fn value(text: &str, start: usize, join: Join) -> Option<Value> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut i = start;
    // A string prefix, an escaped quote, brackets of one-element lists, `'"value"'`.
    while i < start + 4
        && (matches!(at(i), b'\\' | b'[' | b'"' | b'\'' | b'`')
            || at(i).is_ascii_lowercase() && matches!(at(i + 1), b'"' | b'\'') && i == start)
    {
        i += 1;
    }
    let quote = i.checked_sub(1).filter(|_| i > start).map_or(0, at);
    let quoted = matches!(quote, b'"' | b'\'' | b'`');
    for scheme in ["Bearer ", "bearer ", "Token ", "token ", "Basic "] {
        if text.get(i..).is_some_and(|rest| rest.starts_with(scheme)) {
            i += scheme.len();
        }
    }
    let from = i;
    let stop = from + VALUE;
    while i < stop {
        let byte = at(i);
        let ends = match byte {
            0..=b' ' | 0x7f.. => true,
            b'"' | b'\'' | b'`' if quoted => byte == quote || byte == b'"',
            b'\\' => matches!(at(i + 1), b'"' | b'\'' | b'n' | b'r' | b't' | b'\\'),
            _ if quoted => false,
            b'"' | b'\'' | b'`' | b',' | b';' | b')' | b']' | b'}' | b'<' | b'>' | b'|' => true,
            b'&' => i > from && at(i + 1).is_ascii_alphabetic(),
            _ => false,
        };
        if ends {
            break;
        }
        i += 1;
    }
    // A quoted value with a space in it is prose.
    if quoted && at(i) == b' ' && join != Join::Loose {
        return None;
    }
    let mut end = i;
    if !quoted {
        while end > from && matches!(at(end - 1), b'.' | b':' | b'?' | b'*') {
            end -= 1;
        }
    }
    if end <= from || i >= stop {
        return None;
    }
    let raw = text.get(from..end)?;
    // `$name->field` and `$name[0]` are cut before their end.
    let variable = raw.starts_with('$') && matches!(at(end), b'>' | b'[' | b'(');
    let is_code = !quoted
        && (raw.contains('(')
            || raw.contains('[')
            || raw.contains("->")
            || raw.contains("::")
            || raw.starts_with("0x") && raw.len() < 18
            || raw.contains('.')
                && raw.split('.').all(|piece| {
                    piece.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
                        && piece.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                        && piece.bytes().filter(u8::is_ascii_digit).count() <= 2
                }));
    Some(Value { range: from..end, quoted, is_code: is_code || variable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(text: &'a str, word: &str) -> Option<&'a str> {
        let start = text.to_ascii_lowercase().find(word)?;
        let hit = start..start + word.len();
        let hit = if word.starts_with("pass") { password(text, hit) } else { key(text, hit) };
        hit.and_then(|hit| text.get(hit.range))
    }

    #[test]
    fn values_are_found_in_many_spellings() {
        for text in [
            "api_key = \"q8Zt3LmX0vB7kWc2RyNd\"",
            "apiKey: 'q8Zt3LmX0vB7kWc2RyNd',",
            "{\\\"api_key\\\": \\\"q8Zt3LmX0vB7kWc2RyNd\\\"}",
            "SOME_API_KEY=q8Zt3LmX0vB7kWc2RyNd",
            "setApiKey(\"q8Zt3LmX0vB7kWc2RyNd\")",
            "let api_key: &str = \"q8Zt3LmX0vB7kWc2RyNd\";",
            "<apiKey>q8Zt3LmX0vB7kWc2RyNd</apiKey>",
            "<add key=\"ApiKey\" value=\"q8Zt3LmX0vB7kWc2RyNd\"/>",
            "sometool api key q8Zt3LmX0vB7kWc2RyNd",
            "?api_key=q8Zt3LmX0vB7kWc2RyNd&x=1",
            "['api_key'] = 'q8Zt3LmX0vB7kWc2RyNd'",
        ] {
            let word = if text.starts_with("<add") { "apikey" } else { "key" };
            assert_eq!(found(text, word), Some("q8Zt3LmX0vB7kWc2RyNd"), "{text}");
        }
    }

    #[test]
    fn names_and_code_are_not_values() {
        for text in [
            "public_key = \"q8Zt3LmX0vB7kWc2RyNd\"",
            "monkey = q8Zt3LmX0vB7kWc2RyNd",
            "api_key = os.environ[\"API_KEY\"]",
            "api_key = settings.get_api_key()",
            "api_key: ${API_KEY}",
            "api_key = config.api_key_2",
            "primary_key: user_id_2024",
            "keyboard = \"q8Zt3LmX0vB7kWc2RyNd\"",
            "api_key_file: q8Zt3LmX0vB7kWc2RyNd",
        ] {
            assert_eq!(found(text, "key"), None, "{text}");
        }
    }

    #[test]
    fn passwords_need_more_than_a_name() {
        assert_eq!(found("password: 'Tr0ub4dor&3'", "password"), Some("Tr0ub4dor&3"));
        assert_eq!(found("DB_PASSWORD=k1tt3n99", "password"), Some("k1tt3n99"));
        for text in [
            "password: string",
            "password = getpass()",
            "password: 'Enter your password'",
            "password=password",
            "<input type=\"password\" name=\"pw\">",
            "password: ${PW}",
        ] {
            assert_eq!(found(text, "password"), None, "{text}");
        }
    }
}

//! Telling real values from placeholders, names and prose. This is where the precision of the secret rules lies.

use std::sync::OnceLock;

use regex::bytes::Regex;

use super::pack::{compile, for_bytes};
use super::words::{NO_PASSWORDS, PLACEHOLDERS};

/// What a rule lets pass although it matches: words found anywhere in the value in any case, and expressions
/// (given as `/…/`) that match somewhere in it.
#[derive(Debug, Default)]
pub(super) struct Allow {
    words: Vec<String>,
    patterns: Vec<(String, OnceLock<Option<Regex>>)>,
}

impl Allow {
    pub(super) fn new<'a>(entries: impl Iterator<Item = &'a String>, eager: bool) -> Result<Self, String> {
        let mut allow = Self::default();
        for entry in entries {
            if let Some(source) = entry.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
                let source = for_bytes(source);
                let compiled = OnceLock::new();
                if eager {
                    let regex =
                        compile(&source).map_err(|error| format!("`allow` does not compile: {error}"))?;
                    drop(compiled.set(Some(regex)));
                }
                allow.patterns.push((source, compiled));
            } else {
                allow.words.push(entry.to_ascii_lowercase());
            }
        }
        Ok(allow)
    }

    pub(super) fn passes(&self, value: &str) -> bool {
        if self.words.is_empty() && self.patterns.is_empty() {
            return false;
        }
        let lower = value.to_ascii_lowercase();
        self.words.iter().any(|word| lower.contains(word))
            || self.patterns.iter().any(|(source, compiled)| {
                compiled
                    .get_or_init(|| compile(source).ok())
                    .as_ref()
                    .is_some_and(|regex| regex.is_match(value.as_bytes()))
            })
    }
}

/// Shannon entropy of the bytes, in bits a byte.
pub(super) fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let total = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX).max(1));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum()
}

/// What kinds of characters a value is made of, and how they alternate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    pub(super) len: usize,
    pub(super) lower: usize,
    pub(super) upper: usize,
    pub(super) digits: usize,
    /// Characters of `_-.+/=~` and the like.
    pub(super) marks: usize,
    /// Bytes that are not printable ASCII.
    pub(super) strange: usize,
    /// Changes between the kinds, a capital before small letters not counted.
    pub(super) turns: usize,
    pub(super) all_hex: bool,
}

impl Shape {
    pub(super) fn of(value: &str) -> Self {
        let mut shape = Self { len: value.len(), all_hex: true, ..Self::default() };
        let mut last = 0_u8;
        for byte in value.bytes() {
            let kind = match byte {
                b'a'..=b'z' => {
                    shape.lower += 1;
                    1
                }
                b'A'..=b'Z' => {
                    shape.upper += 1;
                    2
                }
                b'0'..=b'9' => {
                    shape.digits += 1;
                    3
                }
                0x21..=0x7e => {
                    shape.marks += 1;
                    4
                }
                _ => {
                    shape.strange += 1;
                    5
                }
            };
            if last != 0 && kind != last && !(last == 2 && kind == 1) {
                shape.turns += 1;
            }
            last = kind;
            shape.all_hex &= byte.is_ascii_hexdigit();
        }
        shape
    }

    pub(super) const fn letters(&self) -> usize {
        self.lower + self.upper
    }
}

/// How much a value looks as if a machine had made it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Randomness {
    /// A word, a name, a number, a path: not random.
    None,
    /// Keyboard rows and counting, of the length and the kinds of characters of a key: `abcdef1234567890`.
    Sequence,
    /// Looks drawn at random.
    Random,
}

/// Judges a value by length, kinds of characters and how they alternate.
pub(super) fn randomness(value: &str) -> Randomness {
    let shape = Shape::of(value);
    if shape.len < 8 || shape.strange > 0 {
        return Randomness::None;
    }
    let bits = entropy(value);
    let body = value.trim_end_matches('=');
    let dashes = body.bytes().filter(|byte| *byte == b'-').count();
    let uuid_like = shape.len == 36
        && dashes == 4
        && shape.digits >= 6
        && value.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && value.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric());
    if uuid_like {
        return if bits > 2.5 { Randomness::Random } else { Randomness::None };
    }
    if bits < 2.2 || is_dated(value) {
        return Randomness::None;
    }
    // Names, paths, versions: pieces of one kind of character each.
    if shape.marks > 0 && body.split(is_mark).all(is_plain_piece) {
        return Randomness::None;
    }
    let counted = has_sequence(value);
    let judge = |random: bool| match (random, counted) {
        (false, _) => Randomness::None,
        (true, true) => Randomness::Sequence,
        (true, false) => Randomness::Random,
    };
    if shape.all_hex && shape.len >= 16 {
        return judge(shape.digits > 0 && (shape.letters() > 0 || shape.len >= 20) || shape.len >= 30);
    }
    if shape.digits == 0 {
        // Letters alone: long, of both cases, and turning often.
        return judge(
            shape.len >= 20
                && shape.lower >= 4
                && shape.upper >= 4
                && shape.turns * 4 >= shape.len
                && bits >= 3.7
                || counted && shape.len >= 24 && shape.upper + shape.lower >= 20 && bits >= 3.7,
        );
    }
    if shape.letters() == 0 {
        return Randomness::None;
    }
    if shape.len >= 12 && shape.marks == 0 && bits >= 3.0 && is_unpronounceable(value) {
        return judge(true);
    }
    if counted && shape.len >= 12 && shape.digits >= 3 && shape.letters() >= 4 {
        return Randomness::Sequence;
    }
    judge(
        shape.turns >= 3 && shape.turns * 8 >= shape.len && bits >= 2.8
            || shape.len >= 16 && shape.digits >= 3 && shape.turns >= 3 && bits >= 3.2,
    )
}

/// Six consonants in a row, which hardly any word has.
fn is_unpronounceable(value: &str) -> bool {
    let mut run = 0;
    value.bytes().any(|byte| {
        let vowel = matches!(byte.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y');
        run = if byte.is_ascii_alphabetic() && !vowel { run + 1 } else { 0 };
        run >= 6
    })
}

const fn is_mark(c: char) -> bool {
    matches!(
        c,
        '_' | '-' | '.' | '/' | ':' | '+' | '~' | '@' | '\\' | ',' | '%' | '&' | '#' | '$' | '!' | '*'
    )
}

/// A word, a capitalised word, a short number, or a word with a short number after it.
fn is_plain_piece(piece: &str) -> bool {
    if piece.is_empty() {
        return true;
    }
    let shape = Shape::of(piece);
    if shape.digits == 0 {
        // `camelCase` and `PascalCase` of some words; a random piece turns more often.
        return shape.turns <= 4 && piece.len() <= 32 && (shape.turns == 0 || piece.len() >= shape.turns * 4);
    }
    if shape.letters() == 0 {
        return piece.len() <= 8;
    }
    shape.turns <= 2 && shape.digits <= 5 && piece.len() <= 14 && !(shape.all_hex && piece.len() >= 8)
}

/// A date or a time of day stands at the start.
fn is_dated(value: &str) -> bool {
    let head: Vec<u8> = value.bytes().take(10).collect();
    let [century, decade, year @ .., dash, last, first] = head.as_slice() else { return false };
    matches!([*century, *decade], [b'1', b'9'] | [b'2', b'0'])
        && matches!(year, [_, _, b'-' | b'/', _, _])
        && matches!(dash, b'-' | b'/')
        && last.is_ascii_digit()
        && first.is_ascii_digit()
}

/// Counting or walking along the keyboard: five or more neighbours in a row, or four equal characters.
pub(super) fn has_sequence(value: &str) -> bool {
    const ROWS: [&str; 4] = ["qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890"];
    let lower = value.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    let (mut up, mut equal) = (1, 1);
    for pair in bytes.windows(2) {
        let &[a, b] = pair else { continue };
        up = if b.is_ascii_alphanumeric() && b == a.wrapping_add(1) { up + 1 } else { 1 };
        equal = if a == b { equal + 1 } else { 1 };
        if up >= 5 || equal >= 4 {
            return true;
        }
    }
    ROWS.iter().any(|row| row.as_bytes().windows(5).any(|five| bytes.windows(5).any(|window| window == five)))
}

/// Whether the value says of itself that it is none: a placeholder, a variable, a template, or one character over
/// and over.
pub(super) fn is_placeholder(value: &str) -> bool {
    let trimmed = value.trim_matches(|c: char| matches!(c, '"' | '\'' | '`' | ' '));
    if trimmed.is_empty()
        || trimmed.starts_with(['$', '<', '{', '%', '[', '(', '&', '@', '*', '#']) && is_reference(trimmed)
    {
        return true;
    }
    if trimmed.contains("${") || trimmed.contains("{{") || trimmed.contains("$(") || trimmed.contains("…") {
        return true;
    }
    let lower = trimmed.to_ascii_lowercase();
    if PLACEHOLDERS.iter().any(|word| lower.contains(word)) {
        return true;
    }
    // Half of the value is one character.
    let mut counts = [0_usize; 256];
    for byte in lower.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    lower.len() >= 6 && most * 2 >= lower.len()
}

/// `$VAR`, `${var}`, `<your key>`, `{{ key }}`, `%VAR%`, `[key]`, `(key)`, `&anchor`, `*alias`, `@file`.
fn is_reference(value: &str) -> bool {
    let mut chars = value.chars();
    match chars.next() {
        Some('<' | '[' | '(') => true,
        Some('{') => !value.contains(':'),
        Some('%') => value.ends_with('%'),
        Some('$' | '&' | '*' | '@' | '#') => {
            chars.all(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '{' | '}' | '*' | '#' | '[' | ']')
            }) && !value.bytes().skip(1).any(|byte| byte.is_ascii_digit() && value.len() > 20)
        }
        _ => false,
    }
}

/// Whether a quoted or assigned value can be a password at all.
pub(super) fn is_no_password(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let bare: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    NO_PASSWORDS.contains(&bare.as_str())
        || lower.contains(char::is_whitespace)
        || lower.starts_with("http")
        || lower.starts_with("--")
        || lower.starts_with("./")
        || lower.starts_with('/')
        || lower.contains("://")
        || lower.contains("password")
        || lower.contains("passwd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_not_random() {
        for value in [
            "my_bucket_name",
            "com.acme.shop-core",
            "v2.14.3",
            "2026-05-14T08:12:33Z",
            "buttonHeld",
            "Curve448.SignedMessages",
            "src/main.rs",
            "sha256",
            "dsa2048_old.pem",
            "application/json",
        ] {
            assert_eq!(randomness(value), Randomness::None, "{value}");
        }
    }

    #[test]
    fn keys_are_random_and_counted_ones_are_told_apart() {
        assert_eq!(randomness("q8Zt3LmX0vB7kWc2RyNd"), Randomness::Random);
        assert_eq!(randomness("9f86d081884c7d659a2feaa0c55ad015"), Randomness::Random);
        assert_eq!(randomness("1234567890abcdef1234567890abcdef"), Randomness::Sequence);
    }

    #[test]
    fn placeholders_are_seen() {
        for value in [
            "${DB_PASSWORD}",
            "<your-key>",
            "changeme",
            "xxxxxxxx",
            "sk-your-key-here",
            "$TOKEN",
            "{{ key }}",
        ] {
            assert!(is_placeholder(value), "{value}");
        }
        assert!(!is_placeholder("hunter2!"));
        assert!(!is_placeholder("q8Zt3LmX0vB7"));
    }
}

//! Lenient decoding of JSON strings and values that [`scan`](super::scan) has framed.
//!
//! **Invariant:** nothing here fails: whatever cannot be decoded stays as text, so that no trick of encoding hides
//! what it says from the detectors.

use std::borrow::Cow;

use serde_json::Value;

/// The bytes between the quotes, where `raw` is a string.
pub(super) fn unquote(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Decodes the inside of a JSON string. Lone surrogates and bytes that are not UTF-8 become U+FFFD; an unknown
/// escape stays as it stands.
pub(super) fn string(inner: &[u8]) -> Cow<'_, str> {
    if memchr::memchr(b'\\', inner).is_none() {
        return String::from_utf8_lossy(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(found) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(found);
        out.extend_from_slice(plain);
        let (decoded, length) = match escape.get(1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'"') => ('"', 2),
            Some(b'\\') => ('\\', 2),
            Some(b'/') => ('/', 2),
            Some(b'u') => {
                let (decoded, length, _) = unicode_escape(escape);
                (decoded, length)
            }
            _ => ('\\', 1),
        };
        out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
        rest = escape.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Reads `\uXXXX`, or a surrogate pair of two, at the start of `bytes`: the character, the length of the escape, and
/// whether it was sound. An unsound one of four digits is U+FFFD, anything shorter a backslash.
pub(super) fn unicode_escape(bytes: &[u8]) -> (char, usize, bool) {
    let Some(first) = hex4(bytes) else {
        return ('\\', 1, false);
    };
    if let Some(c) = char::from_u32(first) {
        return (c, 6, true);
    }
    let second = bytes.get(6..).and_then(hex4);
    match second {
        Some(low @ 0xdc00..=0xdfff) if first < 0xdc00 => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12, true)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6, false),
    }
}

fn hex4(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}

/// A value as text: a string decoded, null as nothing, anything else as it stands with its strings decoded.
pub(super) fn text(raw: &[u8]) -> Cow<'_, str> {
    match unquote(raw) {
        Some(inner) => string(inner),
        None if raw == b"null" => Cow::Borrowed(""),
        None => Cow::Owned(unescaped(raw)),
    }
}

/// Any bytes as text, with everything that stands between quotes decoded.
pub(super) fn unescaped(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(open) = memchr::memchr(b'"', rest) {
        let (plain, quoted) = rest.split_at(open + 1);
        out.push_str(&String::from_utf8_lossy(plain));
        let length = string_length(quoted);
        let (inner, after) = quoted.split_at(length);
        out.push_str(&string(inner));
        let closes = after.first() == Some(&b'"');
        if closes {
            out.push('"');
        }
        rest = after.get(usize::from(closes)..).unwrap_or_default();
    }
    out.push_str(&String::from_utf8_lossy(rest));
    out
}

/// Length of the inside of a string whose opening quote stands just before `bytes`.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

/// A value: as JSON where it is, mended JSON where its strings are the only fault, and otherwise its text.
pub(super) fn value(raw: &[u8]) -> Value {
    serde_json::from_slice(raw)
        .or_else(|_| serde_json::from_slice(&mended(raw)))
        .unwrap_or_else(|_| Value::String(unescaped(raw)))
}

/// The same JSON with every string encoded anew.
fn mended(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(open) = memchr::memchr(b'"', rest) {
        let (plain, quoted) = rest.split_at(open);
        out.extend_from_slice(plain);
        let quoted = quoted.get(1..).unwrap_or_default();
        let length = string_length(quoted);
        let (inner, after) = quoted.split_at(length);
        out.extend_from_slice(Value::String(string(inner).into_owned()).to_string().as_bytes());
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// A value as people read it: strings as they are, text parts joined, anything else `name: value` a line.
pub(super) fn flat(value: &Value) -> String {
    let mut out = String::new();
    flatten(value, &mut out);
    out
}

fn flatten(value: &Value, out: &mut String) {
    let line = |out: &mut String| {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
    };
    match value {
        Value::Null => {}
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            for item in items {
                line(out);
                flatten(item, out);
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                // `{"type": "text", "text": ".."}` is how OpenClaw wraps text; the wrapping says nothing.
                if name == "type" && value == "text" {
                    continue;
                }
                line(out);
                if !matches!(name.as_str(), "type" | "text" | "content") {
                    out.push_str(name);
                    out.push_str(if value.is_object() || value.is_array() { ":" } else { ": " });
                }
                flatten(value, out);
            }
        }
        other => out.push_str(&other.to_string()),
    }
}

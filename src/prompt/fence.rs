//! How untrusted text stands in a prompt: escaped, and inside a fence that it cannot close.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use sha2::{Digest, Sha256};

use crate::text;

/// Longest label of a fence, in characters.
const LABEL_CHARS: usize = 120;

/// `text` as it stands in a prompt: line breaks and tabs stay, every other character that could reorder,
/// hide or move (control characters, bidirectional and zero-width marks) becomes a visible escape such as
/// `\u{202e}`. A quote from a model's answer is looked for in this form too.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c if text::is_deceptive(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// `fence(value, label=…)`, and the same as a filter: the value between two lines that hold the nonce of
/// this rendering. What is no string is shown as JSON.
#[expect(clippy::needless_pass_by_value, reason = "minijinja gives named arguments by value")]
pub(super) fn fence(state: &State<'_, '_>, value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let label: Option<String> = kwargs.get("label")?;
    kwargs.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let nonce = state.lookup(super::NONCE);
    let Some(nonce) = nonce.as_ref().and_then(Value::as_str) else {
        return Err(Error::new(ErrorKind::InvalidOperation, "the variable `nonce` was overwritten"));
    };
    let text = match value.as_str() {
        Some(text) => shown(text),
        None => shown(&json(value)?),
    };
    let text = text.replace(nonce, "[nonce]");
    let mut opening = format!("<data-{nonce}");
    if let Some(label) = label {
        let label = text::plain(&text::bounded(&label, LABEL_CHARS))
            .replace(['<', '>'], "·")
            .replace(nonce, "[nonce]");
        let _infallible = write!(opening, " {}", label.trim());
    }
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Ok(Value::from(format!("{opening}>\n{text}{end}</data-{nonce}>")))
}

fn json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "the value cannot be shown as JSON"))
}

/// Prints a value into the prompt: strings escaped by [`shown`], lists and maps as JSON.
pub(super) fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String => out.write_str(&shown(value.as_str().unwrap_or_default())).map_err(Error::from),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            out.write_str(&shown(&json(value)?)).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// 128 bits that no text of a log can know, as hex.
pub(super) fn fresh_nonce() -> String {
    let mut hasher = Sha256::new();
    // Both sources are seeded by the operating system; either alone would do.
    hasher.update(uuid::Uuid::now_v7().as_bytes());
    hasher.update(RandomState::new().hash_one(0_u8).to_le_bytes());
    let digest = hasher.finalize();
    hex(digest.get(..16).unwrap_or(&digest))
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _infallible = write!(out, "{byte:02x}");
        out
    })
}

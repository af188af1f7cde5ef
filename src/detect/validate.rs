//! The checks that a rule can name: what an expression cannot see of a value or around it.

use super::filter::{Randomness, Shape, entropy, is_no_password, is_placeholder, randomness};
use super::pack::Validator;

/// Whether a rule's value stands the check that the rule names.
pub(super) fn validate(validator: Validator, value: &str, text: &str, start: usize) -> bool {
    match validator {
        Validator::Random => randomness(value) == Randomness::Random,
        Validator::Hex => {
            let shape = Shape::of(value);
            shape.all_hex && shape.digits > 0 && shape.letters() > 0 && entropy(value) > 2.5
        }
        Validator::Jwt => value
            .split('.')
            .next()
            .and_then(super::decode::base64)
            .is_some_and(|header| header.starts_with(b"{") && header.contains(&b'"')),
        Validator::BasicAuth => super::decode::base64(value).is_some_and(|pair| {
            let Some(colon) = pair.iter().position(|byte| *byte == b':') else { return false };
            colon + 1 < pair.len() && pair.iter().all(|byte| (0x20..0x7f).contains(byte))
        }),
        Validator::UrlPassword => is_url_password(value),
        Validator::Bearer => {
            !is_placeholder(value)
                && !is_no_password(value)
                && (randomness(value) != Randomness::None || Shape::of(value).turns >= 5)
        }
        Validator::Affirmed => !is_negated(text, start),
        Validator::Bot => names_a_bot(text, start),
    }
}

/// A password in a URL: anything but a variable or a stand-in word.
fn is_url_password(value: &str) -> bool {
    const STAND_INS: [&str; 14] = [
        "password",
        "passwd",
        "pass",
        "pwd",
        "pw",
        "xxx",
        "yyy",
        "token",
        "user",
        "username",
        "mypassword",
        "p",
        "port",
        "host",
    ];
    let lower = value.to_ascii_lowercase();
    !is_placeholder(value)
        && !value.contains(['$', '{', '}', '<', '>', '*'])
        && !STAND_INS.contains(&lower.as_str())
        && !value.bytes().all(|byte| byte == b'x' || byte == b'X' || byte == b'.')
}

/// Whether within some sentences before and after `start` a model is spoken of, or spoken to as one.
fn names_a_bot(text: &str, start: usize) -> bool {
    const NAMES: &[&str] = &[
        "chatgpt",
        "gpt",
        "openai",
        " ai ",
        " ai,",
        " ai.",
        "an ai",
        "a.i.",
        "chatbot",
        "chat bot",
        "language model",
        " bot ",
        " bot,",
        " bot.",
        "assistant",
        "claude",
        "llama",
        "gemini",
        "developer mode",
        "jailbreak",
        " dan ",
        "\"dan",
        "unfiltered",
        "uncensored",
        "amoral",
        "prompt",
        "generate any",
        "persona",
    ];
    let from = text.floor_char_boundary(start.saturating_sub(500));
    let to = text.ceil_char_boundary((start + 300).min(text.len()));
    let near = text.get(from..to).unwrap_or_default().to_ascii_lowercase();
    NAMES.iter().any(|name| near.contains(name))
}

/// Whether shortly before `start`, in the same sentence, the writer denies, forbids or refuses.
pub(super) fn is_negated(text: &str, start: usize) -> bool {
    const NEGATIONS: [&str; 34] = [
        "never ",
        "not ",
        "n't ",
        "n’t ",
        "no need",
        "without ",
        "avoid ",
        "refuse",
        "cannot ",
        "nobody ",
        "no one ",
        "rather than",
        "instead of",
        "how to prevent",
        "prevent ",
        "protect ",
        "against ",
        "detect",
        "beware",
        "warn",
        "stop ",
        "block",
        "if someone",
        "if anyone",
        "tried to",
        "attempt to",
        "asks for",
        "asked for",
        "asking for",
        "asks the user",
        "asks you",
        "decline",
        "won’t",
        "nor ",
    ];
    let from = text.floor_char_boundary(start.saturating_sub(90));
    let before = text.get(from..start).unwrap_or_default();
    let sentence = before.rsplit(['.', '!', '?', '\n', ';']).next().unwrap_or_default();
    let lower = sentence.to_ascii_lowercase();
    NEGATIONS.iter().any(|word| lower.contains(word))
}

//! Masking of secrets: what may be shown of a value that must not be seen.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// How many characters of a secret's head may be shown.
const HEAD_CHARS: usize = 4;

/// A short fingerprint of a secret: equal secrets have equal fingerprints, and the secret cannot be
/// read back from it. Eight lower-case hex digits.
pub fn fingerprint(secret: &str) -> String {
    let digest = Sha256::digest(secret.as_bytes());
    let head = digest.iter().take(4).fold(0_u32, |head, byte| head << 8 | u32::from(*byte));
    format!("{head:08x}")
}

/// What is shown instead of a secret: its kind, its first characters where it is long enough for
/// them to say nothing, and its fingerprint, as in `[github_token ghp_… #1a2b3c4d]`.
pub fn mask(label: &str, secret: &str) -> String {
    let chars = secret.chars().count();
    let head: String = if chars >= 20 {
        secret.chars().take(HEAD_CHARS).filter(|c| !c.is_control()).collect()
    } else {
        String::new()
    };
    let space = if head.is_empty() { "" } else { " " };
    let dots = if head.is_empty() { "" } else { "…" };
    format!("[{label}{space}{head}{dots} #{}]", fingerprint(secret))
}

/// The masks of [`mask`] that stand in a text: where, and the label; in order.
pub fn masks(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    text.match_indices('[').filter_map(|(start, _)| {
        let rest = text.get(start + 1..)?;
        let (inner, _) = rest.split_once(']')?;
        let (before, print) = inner.rsplit_once(" #")?;
        let is_print =
            print.len() == 8 && print.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let (label, head) = before.split_once(' ').unwrap_or((before, ""));
        let is_label = !label.is_empty()
            && label.len() <= 64
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
        let is_head = head.is_empty()
            || head.strip_suffix('…').is_some_and(|head| (1..=HEAD_CHARS).contains(&head.chars().count()));
        (is_print && is_label && is_head).then(|| (start..start + inner.len() + 2, label))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_secret_shows_nothing_of_itself() {
        assert!(!mask("password", "hunter2").contains("hunt"));
    }

    #[test]
    fn a_long_secret_shows_its_head_and_fingerprint_only() {
        let secret = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
        let shown = mask("github_token", secret);
        assert_eq!(shown, format!("[github_token ghp_… #{}]", fingerprint(secret)));
    }

    #[test]
    fn masks_are_found_again() {
        let (long, short) =
            (mask("github_token", "ghp_0123456789abcdefghijklmnop"), mask("password", "hunter2"));
        let text = format!("[x] {long}[[{short}] [a #1234567] [tool call] [label b… c #00000000]");
        let found: Vec<(&str, &str)> =
            masks(&text).map(|(range, label)| (text.get(range).unwrap(), label)).collect();
        assert_eq!(found, [(long.as_str(), "github_token"), (short.as_str(), "password")]);
    }
}

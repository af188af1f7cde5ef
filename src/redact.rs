//! Masking of secrets: what may be shown of a value that must not be seen.

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
}

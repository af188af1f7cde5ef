//! "Did you mean": the nearest of the words that exist.

use crate::text::{bounded, plain};

/// The word nearest to `word`, if any is near enough to be what was meant: the only one that goes on as it begins, or one
/// with few letters changed.
pub(super) fn closest<'n>(word: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Distance is quadratic in the length; nobody means a key by a very long word.
    if word.is_empty() || word.len() > 80 {
        return None;
    }
    let lower = word.to_lowercase();
    let known: Vec<&str> = known.into_iter().filter(|known| *known != word).collect();
    let mut longer = known.iter().filter(|known| word.len() > 2 && known.to_lowercase().starts_with(&lower));
    if let (Some(only), None) = (longer.next(), longer.next()) {
        return Some(only);
    }
    let most = 1 + lower.chars().count() / 4;
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= most && *distance < known.chars().count())
        .min()
        .map(|(_, known)| known)
}

/// Help for a word that does not exist: the nearest one, or which there are.
pub(super) fn help<'n>(word: &str, known: impl IntoIterator<Item = &'n str> + Clone, plural: &str) -> String {
    match closest(word, known.clone()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the {plural} here are {}", list(known)),
    }
}

/// Words in backticks with commas; the first dozen of many.
pub(super) fn list<'n>(words: impl IntoIterator<Item = &'n str>) -> String {
    let all: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match all.len().checked_sub(12) {
        Some(more @ 1..) => {
            format!("{} and {more} more", all.get(..12).unwrap_or_default().join(", "))
        }
        _ => all.join(", "),
    }
}

/// A word of a file or the environment as it may be shown.
pub(super) fn shown(word: &str) -> String {
    bounded(&plain(word), 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_not() {
        let known = ["confidence_threshold", "window_chars", "max_attempts", "max_tokens", "high_only"];
        for (word, near) in [
            ("confidence_treshold", Some("confidence_threshold")),
            ("Max_Attempt", Some("max_attempts")),
            ("high", Some("high_only")),
            ("max", None),
            ("model", None),
            ("", None),
        ] {
            assert_eq!(closest(word, known), near, "{word}");
        }
        assert_eq!(help("x", ["a", "b"], "keys"), "the keys here are `a`, `b`");
        let many: Vec<String> = (0..14).map(|n| n.to_string()).collect();
        assert!(list(many.iter().map(String::as_str)).ends_with("`11` and 2 more"));
    }
}

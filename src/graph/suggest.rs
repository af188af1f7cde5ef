//! "Did you mean": the nearest of the names that exist.

/// The name nearest to `word`, if any is near enough to be what was meant.
pub(super) fn closest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Distance is quadratic in the length; nobody means a name by a very long word.
    if word.is_empty() || word.len() > 80 {
        return None;
    }
    let lower = word.to_lowercase();
    let most = 1 + lower.chars().count() / 4;
    names
        .into_iter()
        .filter(|name| *name != word && name.len() <= 80)
        .filter_map(|name| {
            let candidate = name.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &candidate);
            // `scan` or `police.scan` for `patrol.scan`: the last part alone may be right.
            let part = |text: &str| text.rsplit(['.', '/']).next().map(str::to_owned);
            let same_part = candidate.contains(['.', '/']) && part(&lower) == part(&candidate);
            let far = distance > most || distance >= candidate.chars().count().max(2);
            match (far, same_part) {
                (false, _) => Some((distance, name)),
                (true, true) => Some((most + distance, name)),
                (true, false) => None,
            }
        })
        .min()
        .map(|(_, name)| name)
}

/// Help for a name that does not exist: the nearest one, or which there are.
pub(super) fn help<'n>(word: &str, names: impl IntoIterator<Item = &'n str> + Clone, plural: &str) -> String {
    if let Some(name) = closest(word, names.clone()) {
        return format!("did you mean `{name}`?");
    }
    let mut all: Vec<&str> = names.into_iter().collect();
    all.dedup();
    match all.as_slice() {
        [] => format!("there are no {plural}"),
        [only] => format!("the only one of the {plural} is `{only}`"),
        _ => format!("the {plural} are {}", list(all.iter().copied())),
    }
}

/// Names in backticks with commas; the first dozen of many.
pub(super) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let all: Vec<&str> = names.into_iter().collect();
    let mut text = all.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if all.len() > 12 {
        text.extend([" and ", &(all.len() - 12).to_string(), " more"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_not() {
        let names = ["patrol.scan", "patrol.assign", "police.conclude"];
        assert_eq!(closest("patrol.scna", names), Some("patrol.scan"));
        assert_eq!(closest("police.assign", names), Some("patrol.assign"));
        assert_eq!(closest("scan", names), Some("patrol.scan"));
        assert_eq!(closest("something", names), None);
        assert_eq!(closest("", names), None);
        assert_eq!(closest("ab", ["x", "y"]), None);
    }
}

//! The check before a verdict counts: every turn exists, every quote is found.

use std::collections::{BTreeMap, BTreeSet};

use super::station::PoliceDeps;
use super::types::{CaseDraft, ContextWindow};
use crate::case::{Evidence, Finding, Turn};
use crate::detect::{quote, sensitive_spans};
use crate::logs::Loader;
use crate::store::StoreError;
use crate::text;

/// Takes out of a draft what does not hold, and says so in its caveats.
///
/// # Errors
/// Where the store cannot be read.
pub(super) fn verify(
    deps: &PoliceDeps,
    context: &ContextWindow,
    mut draft: CaseDraft,
) -> Result<CaseDraft, StoreError> {
    let mut turns: BTreeMap<String, Vec<Turn>> = BTreeMap::new();
    let mut loader = Loader::new(&deps.logs);
    let names: Vec<String> = draft
        .relevant_log_ids
        .iter()
        .cloned()
        .chain(draft.evidence.iter().map(|item| item.turn.clone()))
        .collect();
    for name in names {
        if turns.contains_key(&name) {
            continue;
        }
        let mut loaded = Vec::new();
        for stored in deps.patrol.turns_named(&name)? {
            if let Ok(turn) = loader.load(&stored.record) {
                loaded.push(turn);
            }
        }
        turns.insert(name, loaded);
    }
    let exists = |name: &String| turns.get(name).is_some_and(|turns| !turns.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    let (known, unknown): (Vec<String>, Vec<String>) =
        draft.relevant_log_ids.drain(..).filter(|name| seen.insert(name.clone())).partition(exists);
    draft.relevant_log_ids = known;
    for name in unknown {
        draft
            .caveats
            .push(format!("Turn {} cannot be found in the logs.", text::bounded(&text::plain(&name), 120)));
    }
    let before = draft.evidence.len();
    let found = standing(deps, &draft.evidence, &turns);
    let mut index = 0;
    draft.evidence.retain(|_| {
        index += 1;
        found.contains(&(index - 1))
    });
    let lost = before - draft.evidence.len();
    if lost > 0 {
        draft.caveats.push(format!("{lost} pieces of evidence no longer stand where they were found."));
    }
    let (found, lost): (Vec<String>, Vec<String>) =
        draft.quotes.drain(..).partition(|quote| stands(&context.text, quote));
    draft.quotes = found;
    for quote in lost {
        draft.caveats.push(format!(
            "The investigator quoted \"{}\", which is not in the log.",
            text::bounded(&text::plain(&deps.detectors.redact(&quote)), 120)
        ));
    }
    if draft.relevant_log_ids.is_empty() && draft.evidence.is_empty() && draft.quotes.is_empty() {
        draft.confidence = draft.confidence.min(0.3);
        draft
            .caveats
            .push(String::from("Nothing the verdict rests on could be checked; its confidence was lowered."));
    }
    // Model output goes to people: masked, safe for a terminal, bounded.
    draft.case_facts = shown(deps, &draft.case_facts, 8_000);
    draft.verdict_summary = shown(deps, &draft.verdict_summary, 1_000).replace('\n', " ");
    draft.recommended_actions.truncate(10);
    for action in &mut draft.recommended_actions {
        *action = shown(deps, action, 400).replace('\n', " ");
    }
    Ok(draft)
}

/// Whether a quote is in the text. Two characters or less are in every text and show nothing.
fn stands(text: &str, quote: &str) -> bool {
    let quote = quote.trim();
    quote.chars().nth(2).is_some() && text.contains(quote)
}

/// Indices of the evidence that stands where it was found. Each part is looked through once, however much was found in
/// it.
fn standing(
    deps: &PoliceDeps,
    evidence: &[Evidence],
    turns: &BTreeMap<String, Vec<Turn>>,
) -> BTreeSet<usize> {
    let mut by_part: BTreeMap<(&str, usize), Vec<usize>> = BTreeMap::new();
    for (index, item) in evidence.iter().enumerate() {
        by_part.entry((&item.turn, item.part)).or_default().push(index);
    }
    let mut found = BTreeSet::new();
    for ((turn, part), indices) in by_part {
        let items: Vec<(usize, &Evidence)> =
            indices.into_iter().filter_map(|index| Some((index, evidence.get(index)?))).collect();
        let findings: Vec<Finding> = items.iter().map(|(_, item)| finding(item)).collect();
        for part in turns.get(turn).into_iter().flatten().filter_map(|turn| turn.parts.get(part)) {
            let spans = sensitive_spans(&deps.detectors, &part.text, &findings.iter().collect::<Vec<_>>());
            found.extend(items.iter().filter_map(|(index, item)| {
                // What a model quoted was checked against the masked text when it voted; a rule's place is looked up
                // again.
                let stands = item.end <= part.text.len()
                    && (item.rule.starts_with("lens.")
                        || quote(&part.text, &spans, item.start..item.end) == item.quote);
                stands.then_some(*index)
            }));
        }
    }
    found
}

fn finding(item: &Evidence) -> Finding {
    Finding {
        rule: item.rule.clone(),
        category: item.category,
        severity: item.severity,
        confidence: item.confidence,
        label: item.label.clone(),
        part: item.part,
        start: item.start,
        end: item.end,
        sensitive: item.fingerprint.is_some(),
    }
}

/// Text for people: secrets masked, a line a line, nothing that moves the cursor.
fn shown(deps: &PoliceDeps, body: &str, limit: usize) -> String {
    let lines: Vec<String> = deps.detectors.redact(body).lines().map(text::plain).collect();
    text::bounded(&lines.join("\n"), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_must_say_something() {
        assert!(stands("I will move the list", " move the list "));
        for nothing in ["", "  ", "ov", "move a list"] {
            assert!(!stands("I will move the list", nothing), "{nothing:?}");
        }
    }
}

//! What the detectors' findings say as votes.

use std::collections::{BTreeMap, BTreeSet};

use crate::case::{Category, Evidence, FlagVote, Severity, Turn};
use crate::id::VoteId;
use crate::text;

/// The name the detectors vote under.
pub(super) const DETECTORS: &str = "detectors";

/// The detectors' votes on a turn: one for each category they found.
pub(super) fn detector_votes(turn: &Turn, evidence: &[Evidence], at: &str) -> Vec<FlagVote> {
    let mut categories: BTreeMap<Category, Vec<&Evidence>> = BTreeMap::new();
    for item in evidence {
        categories.entry(item.category).or_default().push(item);
    }
    categories
        .into_iter()
        .map(|(category, items)| {
            let severity = items.iter().map(|item| item.severity).max().unwrap_or(Severity::Low);
            let confidence = items.iter().map(|item| item.confidence).fold(0.0, f64::max);
            let mut labels: Vec<String> = items
                .iter()
                .filter(|item| item.fingerprint.is_some())
                .map(|item| item.label.clone())
                .collect();
            labels.sort();
            labels.dedup();
            FlagVote {
                vote_id: VoteId::stable(&[DETECTORS, &turn.id.to_string(), category.as_str()]).to_string(),
                source_agent: DETECTORS.into(),
                source_file: turn.source_file.clone(),
                severity,
                confidence,
                pii_labels_detected: labels,
                observation: observation(&items),
                timestamp: at.to_owned(),
                category: Some(category),
                run_id_ts: turn.run_id_ts(),
                lens: None,
                model: Some("rules".into()),
            }
        })
        .collect()
}

/// Most places that an observation names.
const NAMED_PLACES: usize = 3;

fn observation(items: &[&Evidence]) -> String {
    let mut known = BTreeSet::new();
    let mut seen: Vec<String> = Vec::new();
    for item in items {
        if known.insert((&item.title, &item.place)) {
            seen.push(format!("{} ({})", item.title, item.place));
        }
    }
    let more = seen.len().saturating_sub(NAMED_PLACES);
    seen.truncate(NAMED_PLACES);
    let mut out = seen.join("; ");
    if more > 0 {
        text::push(&mut out, format_args!("; {more} more"));
    }
    out
}

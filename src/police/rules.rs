//! The branch without a model: a case from what the detectors and votes say, and no more than that.

use std::collections::BTreeMap;

use super::advice;
use super::types::{CaseDraft, ContextWindow, Problem};
use crate::case::{Category, Evidence, PatrolFlag, Severity};
use crate::text;

/// Most places that the facts list.
const LISTED: usize = 12;

/// Drafts a case from a flag alone.
pub(super) fn draft(flag: &PatrolFlag, context: &ContextWindow, problem: Option<&Problem>) -> CaseDraft {
    let category = classify(flag);
    let mut facts = String::new();
    let mut listed = 0;
    for turn in turns(flag) {
        let items: Vec<&Evidence> = flag.evidence.iter().filter(|item| item.turn == turn).collect();
        text::push(&mut facts, format_args!("Turn {}{}:\n", text::plain(&turn), when(context, &turn)));
        if items.is_empty() {
            facts.push_str("  flagged by vote, without a quoted place\n");
        }
        for item in items {
            listed += 1;
            if listed > LISTED {
                continue;
            }
            text::push(
                &mut facts,
                format_args!("  {}, in the {}: \"{}\"\n", what(item), item.place, item.quote),
            );
        }
    }
    if listed > LISTED {
        text::push(&mut facts, format_args!("  and {} more places, all in the evidence\n", listed - LISTED));
    }
    if flag.evidence.is_empty() && !flag.referral_summary.is_empty() {
        text::push(&mut facts, format_args!("The patrol wrote: {}\n", text::plain(&flag.referral_summary)));
    }
    let who = text::plain(if flag.stream.is_empty() { &flag.source_file } else { &flag.stream });
    let mut caveats = vec![String::from(
        "Decided by rules only: no model has read the conversation, so intent and context were not judged.",
    )];
    if let Some(problem) = problem {
        let why = text::bounded(&text::plain(&problem.message), 300);
        caveats.push(format!("The model was not asked, or not to the end: {why}."));
    }
    caveats.extend(context.missing.iter().map(|missing| format!("Could not be read: {missing}.")));
    CaseDraft {
        crime_classification: category,
        severity_score: flag.consensus_severity,
        confidence: flag.consensus_confidence,
        case_facts: facts.trim_end().to_owned(),
        relevant_log_ids: turns(flag),
        quotes: Vec::new(),
        verdict_summary: format!(
            "In {who}, {}. Found: {}.",
            advice::headline(category),
            seen(&flag.evidence)
        ),
        recommended_actions: advice::actions(category),
        decided_by: String::from("rules"),
        evidence: flag.evidence.clone(),
        caveats,
    }
}

/// The category of the most severe evidence; the flag's own where there is none.
fn classify(flag: &PatrolFlag) -> Category {
    let worst = flag
        .evidence
        .iter()
        .max_by(|a, b| a.severity.cmp(&b.severity).then_with(|| a.confidence.total_cmp(&b.confidence)));
    worst.map(|item| item.category).or_else(|| flag.categories.first().copied()).unwrap_or(Category::Unknown)
}

/// The flag's turns; flags of the earlier tool name one.
pub(super) fn turns(flag: &PatrolFlag) -> Vec<String> {
    if flag.turn_ids.is_empty() { vec![flag.run_id_ts.clone()] } else { flag.turn_ids.clone() }
}

fn when(context: &ContextWindow, turn: &str) -> String {
    let known = context.turns.iter().find(|known| known.run_id_ts == turn);
    known
        .and_then(|known| jiff::Timestamp::from_millisecond(known.ts).ok())
        .map(|at| format!(", {at:.0}"))
        .unwrap_or_default()
}

/// What was found, in words.
fn what(item: &Evidence) -> String {
    if item.title.is_empty() { item.label.replace('_', " ") } else { item.title.clone() }
}

fn seen(evidence: &[Evidence]) -> String {
    let mut counts: BTreeMap<(Severity, String), u64> = BTreeMap::new();
    for item in evidence {
        *counts.entry((item.severity, what(item))).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .iter()
        .rev()
        .take(4)
        .map(
            |((_, label), count)| {
                if *count == 1 { label.clone() } else { format!("{label} ({count} places)") }
            },
        )
        .collect();
    if parts.is_empty() {
        String::from("no quoted place, only the votes of the patrol")
    } else {
        parts.join("; ")
    }
}

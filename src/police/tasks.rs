//! The node functions of `graphs/investigate.toml`, by the names it calls them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::station::PoliceDeps;
use super::types::{CaseDraft, ContextWindow, LeadAnswer, Problem};
use super::{advice, context, report, rules, verify};
use crate::case::{CaseFile, PatrolFlag};
use crate::engine::{Ctx, NodeError, Registry, blocking};
use crate::id::InvestigationId;

/// Registers the police's node functions and types.
pub fn register(registry: &mut Registry, deps: &Arc<PoliceDeps>) {
    registry.type_of::<PatrolFlag>();
    registry.type_of::<ContextWindow>();
    registry.type_of::<LeadAnswer>();
    registry.type_of::<Problem>();
    registry.type_of::<CaseDraft>();
    registry.type_of::<CaseFile>();

    let with = Arc::clone(deps);
    registry.task(
        "police.load_context",
        "The flagged turns and their neighbours",
        move |_: Ctx, input: LoadIn| {
            let deps = Arc::clone(&with);
            blocking(move || {
                let flag = deps.patrol.flag(&input.flag_id)?.ok_or_else(|| {
                    NodeError::permanent(format!("no flag `{}`", crate::text::plain(&input.flag_id)))
                })?;
                let context = context::load(&deps, &flag, context::REACH)?;
                let has_model = deps.models.ready(&deps.settings.role);
                Ok(LoadOut { flag, context, has_model })
            })
        },
    );
    let with = Arc::clone(deps);
    registry.task("police.expand_context", "More neighbours on each side", move |_: Ctx, input: ExpandIn| {
        let deps = Arc::clone(&with);
        blocking(move || {
            let context = context::load(&deps, &input.flag, input.context.reach + context::REACH)?;
            Ok(ExpandOut { context, round: 1 })
        })
    });
    registry.task(
        "police.rule_report",
        "A draft from what the detectors found",
        move |_: Ctx, input: RuleIn| async move {
            Ok(DraftOut { draft: rules::draft(&input.flag, &input.context, input.problem.as_ref()) })
        },
    );
    let with = Arc::clone(deps);
    registry.task("police.verify", "Turns exist, quotes are found", move |_: Ctx, input: VerifyIn| {
        let deps = Arc::clone(&with);
        blocking(move || {
            let mut draft = input.draft;
            if draft.decided_by.is_empty() {
                complete(&deps, &input.flag, &input.context, &mut draft);
            }
            let draft = verify::verify(&deps, &input.context, draft)?;
            Ok(DraftOut { draft })
        })
    });
    let with = Arc::clone(deps);
    registry.task("police.conclude", "Writes the case file, once", move |_: Ctx, input: ConcludeIn| {
        let deps = Arc::clone(&with);
        blocking(move || {
            let case_file = conclude(&deps, &input.flag, input.draft);
            // The report first: a kill in between leaves the flag queued, and the case is written again under the same id.
            report::write(&deps.reports, &case_file)?;
            deps.police.conclude(&case_file)?;
            Ok(ConcludeOut { case_file })
        })
    });
}

/// Adds to a model's draft what only we know.
fn complete(deps: &PoliceDeps, flag: &PatrolFlag, context: &ContextWindow, draft: &mut CaseDraft) {
    draft.decided_by = deps
        .models
        .get(&deps.settings.role)
        .map_or_else(|| String::from("model"), |model| model.context().model.clone());
    draft.evidence.clone_from(&flag.evidence);
    draft.caveats = context.missing.iter().map(|missing| format!("Could not be read: {missing}.")).collect();
    if context.omitted_turns > 0 {
        draft
            .caveats
            .push(format!("{} turns of the stream were not read for this verdict.", context.omitted_turns));
    }
    if draft.recommended_actions.is_empty() {
        draft.recommended_actions = advice::actions(draft.crime_classification);
    }
}

fn conclude(deps: &PoliceDeps, flag: &PatrolFlag, draft: CaseDraft) -> CaseFile {
    CaseFile {
        crime_classification: draft.crime_classification,
        severity_score: draft.severity_score,
        confidence: draft.confidence,
        case_facts: draft.case_facts,
        relevant_log_ids: draft.relevant_log_ids,
        verdict_summary: draft.verdict_summary,
        investigation_id: InvestigationId::stable(&[&flag.flag_id]).to_string(),
        flag_id: flag.flag_id.clone(),
        source_file: flag.source_file.clone(),
        concluded_at: format!("{:.3}", deps.clock.now()),
        agent: flag.stream.clone(),
        decided_by: draft.decided_by,
        evidence: draft.evidence,
        recommended_actions: draft.recommended_actions,
        caveats: draft.caveats,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct LoadIn {
    flag_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LoadOut {
    flag: PatrolFlag,
    context: ContextWindow,
    has_model: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ExpandIn {
    flag: PatrolFlag,
    context: ContextWindow,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ExpandOut {
    context: ContextWindow,
    round: i64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct RuleIn {
    flag: PatrolFlag,
    context: ContextWindow,
    /// Why the model was not asked, or not to the end.
    problem: Option<Problem>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct VerifyIn {
    flag: PatrolFlag,
    context: ContextWindow,
    draft: CaseDraft,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DraftOut {
    draft: CaseDraft,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ConcludeIn {
    flag: PatrolFlag,
    draft: CaseDraft,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ConcludeOut {
    case_file: CaseFile,
}

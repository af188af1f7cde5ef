//! The scan of one share: detectors on every turn, then a model through the agent's lens, if there is one.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::masked::MaskedTurn;
use super::review::{Reviewer, review};
use super::sweep::{PatrolDeps, SharedDeps};
use super::types::{Assignment, Contest, PendingTurn, StreamScan, TurnVerdict};
use super::votes::detector_votes;
use crate::case::{Category, Evidence, Finding, FlagVote, Severity, Turn};
use crate::detect::evidence;
use crate::engine::{Ctx, NodeError, blocking};
use crate::id::VoteId;
use crate::logs::Loader;
use crate::store::patrol_state::StoredTurn;
use crate::text;

/// Why a turn is pending that a detector panicked on.
const DETECTOR_FAILED: &str = "a detector failed on it";

/// What the detectors make of a share, before any model is asked.
#[derive(Debug, Default)]
struct Sifted {
    verdicts: Vec<TurnVerdict>,
    pending: Vec<PendingTurn>,
    /// The turns as a model may see them; empty where there is none.
    masked: Vec<MaskedTurn>,
    reviewed: u64,
}

/// Scans a share.
///
/// # Errors
/// Where the store cannot be read; what happens to single turns is part of the answer.
pub(super) async fn scan(
    deps: &SharedDeps,
    ctx: &Ctx,
    assignment: Assignment,
    prompt: &str,
    role: &str,
) -> Result<StreamScan, NodeError> {
    let with_model = deps.asks_models();
    let worker = Arc::clone(deps);
    let share = assignment.clone();
    // Detectors are work for a core, not for the event loop.
    let sifted = {
        let _core = deps.cores.acquire().await.map_err(NodeError::transient)?;
        blocking(move || sift(&worker, &share, with_model)).await?
    };
    let Sifted { mut verdicts, mut pending, masked, mut reviewed } = sifted;
    if with_model && !masked.is_empty() {
        let reviewer = Reviewer {
            agent: &assignment.agent,
            lens: assignment.lens,
            role,
            prompt,
            stream: &assignment.stream,
            sweep: ctx.run(),
        };
        let sightings = review(deps, &reviewer, &masked).await;
        ctx.spend(sightings.usage.tokens(), sightings.usage.micro_usd);
        for (index, unanswered) in sightings.failed {
            if let Some(turn) = masked.get(index) {
                reviewed = reviewed.saturating_sub(1);
                pending.push(unanswered.pending(turn.row));
            }
        }
        for (index, vote, item) in sightings.votes {
            let Some(turn) = masked.get(index) else { continue };
            let known = verdicts.iter().position(|verdict| verdict.turn_row == turn.row);
            let place = known.unwrap_or_else(|| {
                verdicts.push(TurnVerdict {
                    turn_row: turn.row,
                    run_id_ts: turn.run_id_ts.clone(),
                    run_id: turn.run_id.clone(),
                    ts: turn.ts,
                    source_file: turn.source_file.clone(),
                    stream: assignment.stream.clone(),
                    agent_id: turn.agent_id.clone(),
                    votes: Vec::new(),
                    evidence: Vec::new(),
                });
                verdicts.len() - 1
            });
            let Some(verdict) = verdicts.get_mut(place) else { continue };
            verdict.votes.push(vote);
            verdict.evidence.push(item);
        }
        // The primary agent looked at every flagged turn: where it saw nothing, that is a vote too.
        for verdict in &mut verdicts {
            let seen = masked.iter().find(|turn| turn.row == verdict.turn_row);
            let failed = pending.iter().any(|turn| turn.turn_row == verdict.turn_row);
            let voted = verdict.votes.iter().any(|vote| vote.source_agent == assignment.agent);
            if let Some(turn) = seen
                && !failed
                && !voted
            {
                verdict.votes.push(clean_vote(deps, &reviewer, turn));
            }
        }
        verdicts.sort_by_key(|verdict| verdict.turn_row);
    }
    Ok(StreamScan { assignment, reviewed, verdicts, pending })
}

fn sift(deps: &PatrolDeps, share: &Assignment, with_model: bool) -> Result<Sifted, NodeError> {
    let turns = deps.store.pending_turns(&share.share())?;
    let mut loader = Loader::new(&deps.logs);
    let mut sifted = Sifted::default();
    let at = deps.now();
    for stored in turns {
        match loader.load(&stored.record) {
            Ok(turn) => {
                // A detector that panics costs its turn, not the sweep.
                let looked =
                    catch_unwind(AssertUnwindSafe(|| look(deps, share, &stored, &turn, with_model, &at)));
                if let Ok((verdict, masked)) = looked {
                    sifted.reviewed += 1;
                    sifted.verdicts.extend(verdict);
                    sifted.masked.extend(masked);
                } else {
                    sifted.pending.push(pending(stored.row, DETECTOR_FAILED));
                }
            }
            Err(error) => {
                sifted.pending.push(pending(stored.row, &format!("failed to {}", text::causes(&error))));
            }
        }
    }
    Ok(sifted)
}

fn pending(turn_row: i64, reason: &str) -> PendingTurn {
    PendingTurn { turn_row, reason: text::bounded(&text::plain(reason), 300), outside: false, waits: false }
}

fn look(
    deps: &PatrolDeps,
    share: &Assignment,
    stored: &StoredTurn,
    turn: &Turn,
    with_model: bool,
    at: &str,
) -> (Option<TurnVerdict>, Option<MaskedTurn>) {
    let findings = deps.detectors.scan(turn);
    let evidence = evidence(&deps.detectors, turn, &findings);
    let masked = with_model.then(|| MaskedTurn::of(deps, stored.row, turn, hints(&findings)));
    let verdict = (!evidence.is_empty()).then(|| TurnVerdict {
        turn_row: stored.row,
        run_id_ts: turn.run_id_ts(),
        run_id: turn.run_id.clone(),
        ts: turn.ts,
        source_file: turn.source_file.clone(),
        stream: share.stream.clone(),
        agent_id: turn.agent_id.clone(),
        votes: detector_votes(turn, &evidence, at),
        evidence: bounded(evidence),
    });
    (verdict, masked)
}

/// A turn that is looked at again, also as a model may see it; or the reason why it cannot be.
fn load(deps: &PatrolDeps, row: i64) -> Result<Result<(Turn, MaskedTurn), PendingTurn>, NodeError> {
    let stored =
        deps.store.turn(row)?.ok_or_else(|| NodeError::permanent(format!("turn row {row} is gone")))?;
    let turn = match Loader::new(&deps.logs).load(&stored.record) {
        Ok(turn) => turn,
        Err(error) => return Ok(Err(pending(row, &format!("failed to {}", text::causes(&error))))),
    };
    let masked = catch_unwind(AssertUnwindSafe(|| {
        let findings = deps.detectors.scan(&turn);
        MaskedTurn::of(deps, row, &turn, hints(&findings))
    }));
    Ok(match masked {
        Ok(masked) => Ok((turn, masked)),
        Err(_) => Err(pending(row, DETECTOR_FAILED)),
    })
}

/// What the detectors tell a model beforehand.
fn hints(findings: &[Finding]) -> Vec<(String, Category)> {
    findings.iter().map(|finding| (finding.label.clone(), finding.category)).collect()
}

/// Most places of one rule that a flag names in one turn. A turn with thousands (a table of customers, or somebody who
/// wants to drown the police) is as guilty with these.
const PLACES_PER_RULE: usize = 50;

fn bounded(evidence: Vec<Evidence>) -> Vec<Evidence> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept = evidence;
    kept.retain(|item| {
        let count = places.entry(item.rule.clone()).or_default();
        *count += 1;
        *count <= PLACES_PER_RULE
    });
    kept
}

/// A further agent's look at one turn. Its outcome is a vote, or the reason why there is none.
///
/// # Errors
/// Where the store cannot be read.
pub(super) async fn contest(
    deps: &SharedDeps,
    ctx: &Ctx,
    contest: Contest,
    prompt: &str,
    role: &str,
) -> Result<Result<TurnVerdict, PendingTurn>, NodeError> {
    let worker = Arc::clone(deps);
    let row = contest.turn_row;
    let (turn, masked) = match blocking(move || load(&worker, row)).await? {
        Ok((turn, masked)) => (turn, [masked]),
        Err(pending) => return Ok(Err(pending)),
    };
    let reviewer = Reviewer {
        agent: &contest.agent,
        lens: contest.lens,
        role,
        prompt,
        stream: &contest.stream,
        sweep: ctx.run(),
    };
    let sightings = review(deps, &reviewer, &masked).await;
    ctx.spend(sightings.usage.tokens(), sightings.usage.micro_usd);
    if let Some((_, unanswered)) = sightings.failed.into_iter().next() {
        return Ok(Err(unanswered.pending(contest.turn_row)));
    }
    let (mut votes, mut evidence) = (Vec::new(), Vec::new());
    for (_, vote, item) in sightings.votes {
        votes.push(vote);
        evidence.push(item);
    }
    if let ([], [turn]) = (votes.as_slice(), &masked) {
        votes.push(clean_vote(deps, &reviewer, turn));
    }
    Ok(Ok(TurnVerdict {
        turn_row: contest.turn_row,
        run_id_ts: turn.run_id_ts(),
        run_id: turn.run_id.clone(),
        ts: turn.ts,
        source_file: turn.source_file.clone(),
        stream: contest.stream.clone(),
        agent_id: turn.agent_id.clone(),
        votes,
        evidence,
    }))
}

fn clean_vote(deps: &PatrolDeps, reviewer: &Reviewer<'_>, turn: &MaskedTurn) -> FlagVote {
    FlagVote {
        vote_id: VoteId::stable(&[reviewer.agent, reviewer.lens.as_str(), &turn.id, "clean"]).to_string(),
        source_agent: reviewer.agent.to_owned(),
        source_file: turn.source_file.clone(),
        severity: Severity::Clean,
        confidence: 1.0,
        pii_labels_detected: Vec::new(),
        observation: String::from("saw nothing wrong"),
        timestamp: deps.now(),
        category: None,
        run_id_ts: turn.run_id_ts.clone(),
        lens: Some(reviewer.lens.as_str().into()),
        model: deps.models.get(reviewer.role).map(|model| model.context().model.clone()),
    }
}

//! The end of a sweep: everything into the store at once, then the export.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::adjudicate::grown;
use super::sweep::PatrolDeps;
use super::types::{PendingTurn, ReadReport, StreamScan, SweepSummary};
use crate::case::{PatrolFlag, Severity};
use crate::engine::NodeError;
use crate::store::StoreError;
use crate::store::export;
use crate::store::patrol_state::{Held, PatrolStore, SweepRecord};

/// What a vote that is not clean deposits on its stream.
const DEPOSIT: f64 = 0.4;

/// What a sweep came to, before it is written.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    /// What was read.
    pub read: ReadReport,
    /// Streams with something to review.
    pub streams: u64,
    /// Agents that shared them.
    pub agents: u64,
    /// What the agents brought back.
    pub scans: &'a [StreamScan],
    /// Turns whose further looks failed.
    pub unsettled: &'a [PendingTurn],
    /// New and grown flags, and flags that stayed as they were.
    pub flags: &'a [PatrolFlag],
}

/// Writes a sweep, once for each key.
///
/// # Errors
/// Where the store or the export cannot be written, and where rules or model are no longer those of the last read
/// pass: the votes of a sweep that was cut off before the change must not pass for reviews of now.
pub(super) fn record(deps: &PatrolDeps, key: &str, outcome: &Outcome<'_>) -> Result<SweepSummary, NodeError> {
    if deps.store.is_outdated(&deps.settings.versions)? {
        return Err(NodeError::permanent(
            "the rules or the model have changed since the logs were read; the next sweep reviews anew",
        ));
    }
    let mut pending: BTreeMap<i64, &PendingTurn> = BTreeMap::new();
    for turn in outcome.scans.iter().flat_map(|scan| &scan.pending).chain(outcome.unsettled) {
        pending.entry(turn.turn_row).or_insert(turn);
    }
    let (mut new_flags, mut updated_flags, mut written) = (Vec::new(), Vec::new(), Vec::new());
    let mut by_severity: BTreeMap<Severity, u64> = BTreeMap::new();
    for flag in outcome.flags {
        // Between the count of the votes and now, another sweep may have made the flag grow.
        let (flag, ids) = match deps.store.flag(&flag.flag_id)? {
            None => (flag.clone(), &mut new_flags),
            Some(known) => {
                let flag = grown(known.clone(), flag.clone());
                if flag == known {
                    continue;
                }
                (flag, &mut updated_flags)
            }
        };
        ids.push(flag.flag_id.clone());
        *by_severity.entry(flag.consensus_severity).or_default() += 1;
        written.push(flag);
    }
    let guilty: BTreeSet<&str> =
        outcome.flags.iter().flat_map(|flag| flag.turn_ids.iter().map(String::as_str)).collect();
    let mut pheromones: BTreeMap<String, f64> = BTreeMap::new();
    let mut flagged = Vec::new();
    for verdict in outcome.scans.iter().flat_map(|scan| &scan.verdicts) {
        if guilty.contains(verdict.run_id_ts.as_str()) && !pending.contains_key(&verdict.turn_row) {
            flagged.push(verdict.turn_row);
        }
        let against = verdict.votes.iter().filter(|vote| vote.severity > Severity::Clean).count();
        *pheromones.entry(verdict.stream.clone()).or_default() +=
            DEPOSIT * f64::from(u32::try_from(against).unwrap_or(u32::MAX));
    }
    let mut pending_reasons: BTreeMap<String, u64> = BTreeMap::new();
    for turn in pending.values() {
        *pending_reasons.entry(turn.reason.clone()).or_default() += 1;
    }
    let scanned: u64 = outcome.scans.iter().map(|scan| scan.reviewed).sum();
    let unsettled = outcome.unsettled.iter().map(|turn| turn.turn_row).collect::<BTreeSet<_>>().len() as u64;
    let summary = SweepSummary {
        read: outcome.read.clone(),
        streams: outcome.streams,
        agents: outcome.agents,
        reviewed: scanned.saturating_sub(unsettled),
        pending: pending.len() as u64,
        unreviewed: 0,
        pending_reasons,
        outside_failed: pending.values().any(|turn| turn.outside),
        new_flags,
        updated_flags,
        by_severity,
        ruleset_version: deps.settings.versions.ruleset.clone(),
        model_version: deps.settings.versions.model.clone(),
    };
    let text = deps.store.record_sweep(&SweepRecord {
        key,
        at: deps.now(),
        at_ms: deps.clock.now().as_millisecond(),
        versions: &deps.settings.versions,
        reviewed: outcome.scans.iter().map(|scan| scan.assignment.share()).collect(),
        pending: pending
            .iter()
            .map(|(row, turn)| Held { row: *row, reason: turn.reason.clone(), waits: turn.waits })
            .collect(),
        flagged,
        flags: &written,
        pheromones,
        max_attempts: deps.settings.max_attempts,
        summary: &|unreviewed| {
            let summary = SweepSummary {
                unreviewed,
                pending: summary.pending.saturating_sub(unreviewed),
                ..summary.clone()
            };
            serde_json::to_string(&summary).unwrap_or_default()
        },
    })?;
    export_flags(&deps.store, &deps.flags_export)?;
    Ok(serde_json::from_str(&text).unwrap_or(summary))
}

/// Where the stamp of the flags file is kept, as we last read or wrote it.
const EXPORT_STAMP: &str = "flags_export";
/// How often an export is tried while somebody else writes to the file.
const EXPORT_ATTEMPTS: u32 = 8;

/// Takes in what somebody else wrote into the flags file since our last export.
///
/// # Errors
/// Where the file cannot be read or the store cannot be written.
pub fn import_flags(store: &PatrolStore, path: &Path) -> Result<u64, StoreError> {
    take_in(store, path).map(|(new, _)| new)
}

/// Takes in the flags file; gives how many lines were new, and the file's stamp from before it was read.
fn take_in(store: &PatrolStore, path: &Path) -> Result<(u64, String), StoreError> {
    let stamp = export::stamp(path)?;
    if stamp.is_empty() || store.meta(EXPORT_STAMP)?.as_deref() == Some(stamp.as_str()) {
        return Ok((0, stamp));
    }
    let lines = export::read_lines(path)?;
    let (new, unreadable) = store.import_flags(&lines)?;
    if unreadable > 0 {
        tracing::warn!(unreadable, "lines of the flags file cannot be read and are kept as they are");
    }
    store.set_meta(EXPORT_STAMP, &stamp)?;
    Ok((new, stamp))
}

/// Rebuilds `patrol_flags.jsonl` from the store, where the two differ. What somebody else adds to it meanwhile is taken
/// in first.
///
/// # Errors
/// Where the file cannot be written.
fn export_flags(store: &PatrolStore, path: &Path) -> Result<(), StoreError> {
    for _ in 0..EXPORT_ATTEMPTS {
        let (_, stamp) = take_in(store, path)?;
        let mut rows = store.flags(None)?;
        rows.reverse();
        if rows.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for row in rows {
            text.push_str(&row.json);
            text.push('\n');
        }
        if let Some(written) = export::replace_unless_changed(path, &text, &stamp)? {
            return store.set_meta(EXPORT_STAMP, &written);
        }
    }
    tracing::warn!("the flags file is written to all the time; it is rebuilt after the next sweep");
    Ok(())
}

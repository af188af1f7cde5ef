//! `sentrix patrol status`

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::{Format, Global, Where};
use super::failure::{self, Outcome};
use super::printer::{self, bold, count, severity, thousands};
use super::spending::Today;
use super::world::{self, require_stores, store_failure};
use crate::case::Severity;
use crate::patrol;
use crate::store::patrol_state::{PatrolStore, TurnCounts};
use crate::store::police::{DeadLetter, PoliceStore, QueueCounts};
use crate::store::usage::UsageStore;
use crate::text;

#[derive(Debug, Serialize)]
struct Status {
    version: u32,
    log_dir: String,
    sweeps: u64,
    turns: TurnCounts,
    /// Reviewed turns: clean and flagged ones.
    reviewed: u64,
    /// Why turns and entries are not reviewed, with how many.
    not_reviewed: BTreeMap<String, u64>,
    flags_by_severity: BTreeMap<Severity, u64>,
    flags_of_earlier_tool: u64,
    queue: QueueCounts,
    dead_letters: Vec<DeadLetter>,
    cases: u64,
    /// What models cost today, and of what; none where no model was ever asked.
    models: Option<Today>,
}

/// Runs the verb.
pub(super) fn run(global: &Global, place: &Where, format: Format) -> Outcome {
    let config = world::config(global, Some(place))?;
    let paths = config.paths();
    require_stores(&paths)?;
    let store = PatrolStore::open(&paths.patrol_state()).map_err(store_failure)?;
    patrol::import_flags(&store, &paths.flags_export()).map_err(store_failure)?;
    let police = PoliceStore::open(&paths.police()).map_err(store_failure)?;
    let turns = store.counts().map_err(store_failure)?;
    let (mut flags_by_severity, mut legacy) = (BTreeMap::new(), 0);
    for row in store.flags(None).map_err(store_failure)? {
        legacy += u64::from(row.legacy && row.flag.is_some());
        if let Some(flag) = row.flag {
            *flags_by_severity.entry(flag.consensus_severity).or_default() += 1;
        }
    }
    let status = Status {
        version: 1,
        log_dir: paths.logs.display().to_string(),
        sweeps: store.sweeps().map_err(store_failure)?,
        reviewed: turns.clean + turns.flagged,
        not_reviewed: store.open_reasons().map_err(store_failure)?,
        turns,
        flags_by_severity,
        flags_of_earlier_tool: legacy,
        queue: police.queue_counts().map_err(store_failure)?,
        dead_letters: police.dead_letters().map_err(store_failure)?,
        cases: police.case_count().map_err(store_failure)?,
        models: if paths.usage().exists() {
            let usage = UsageStore::open(&paths.usage()).map_err(store_failure)?;
            Some(Today::of(Some(&usage), &config)?)
        } else {
            None
        },
    };
    match format {
        Format::Json => printer::json(&status)?,
        Format::Table => printer::data(page(&status))?,
    }
    Ok(failure::DONE)
}

fn page(status: &Status) -> String {
    let turns = &status.turns;
    let mut lines = vec![format!("{} after {}", bold(&status.log_dir), count(status.sweeps, "sweep"))];
    let mut row = |name: &str, value: u64, what: &str| {
        lines.push(format!("  {name:<12}{:>12}  {what}", thousands(value)));
    };
    row("seen", turns.seen, "turns in the logs");
    row(
        "reviewed",
        status.reviewed,
        &format!("{} clean, {} flagged", thousands(turns.clean), thousands(turns.flagged)),
    );
    row("pending", turns.pending, "waiting for a review");
    row("unreviewed", turns.unreviewed, "given up after the last attempt; never counted as clean");
    row("unreadable", turns.rejected_entries, "log entries that could not be read, and so not reviewed");
    if turns.cleared_by_earlier_tool > 0 {
        row("earlier tool", turns.cleared_by_earlier_tool, "turns it cleared");
    }
    for (reason, number) in &status.not_reviewed {
        lines.push(format!("                {} × {}", thousands(*number), text::plain(reason)));
    }
    lines.push(String::new());
    let flags: Vec<String> = status
        .flags_by_severity
        .iter()
        .rev()
        .map(|(level, number)| format!("{} {}", thousands(*number), severity(*level)))
        .collect();
    let legacy = if status.flags_of_earlier_tool > 0 {
        format!(" ({} of the earlier tool)", thousands(status.flags_of_earlier_tool))
    } else {
        String::new()
    };
    lines.push(format!(
        "{}  {}{legacy}",
        bold("flags"),
        if flags.is_empty() { "none".into() } else { flags.join(", ") }
    ));
    lines.push(format!(
        "{}  {} concluded; {} waiting, {} cut off, {} given up",
        bold("cases"),
        thousands(status.cases),
        status.queue.waiting,
        status.queue.working,
        status.queue.dead
    ));
    if let Some(models) = &status.models {
        lines.push(format!("{}  today {}", bold("models"), models.line()));
    }
    for letter in &status.dead_letters {
        lines.push(format!(
            "       flag {} was given up after {}: {}",
            text::plain(&letter.flag_id),
            count(u64::from(letter.attempts), "attempt"),
            text::bounded(&text::plain(&letter.last_error), 200)
        ));
    }
    lines.join("\n")
}

//! The context of an investigation: the flagged turns, which survive any truncation, and their neighbours.

use std::collections::BTreeMap;
use std::path::Path;

use super::station::PoliceDeps;
use super::types::{ContextTurn, ContextWindow};
use crate::case::{PatrolFlag, Turn};
use crate::detect::{Detectors, place};
use crate::logs::Loader;
use crate::store::StoreError;
use crate::store::patrol_state::StoredTurn;
use crate::text;

/// How many neighbours on each side the first look takes, and each further one adds.
pub(super) const REACH: u32 = 3;

/// Reads the context of a flag, with so many neighbours on each side of every flagged turn.
///
/// # Errors
/// Where the store cannot be read; turns that cannot be are listed in the answer.
pub(super) fn load(deps: &PoliceDeps, flag: &PatrolFlag, reach: u32) -> Result<ContextWindow, StoreError> {
    let mut rows: BTreeMap<i64, (StoredTurn, bool)> = BTreeMap::new();
    let mut missing = Vec::new();
    let named =
        if flag.turn_ids.is_empty() { std::slice::from_ref(&flag.run_id_ts) } else { &flag.turn_ids[..] };
    for name in named {
        let turns = deps.patrol.turns_named(name)?;
        if turns.is_empty() {
            missing.push(format!("{}: not in the logs of this directory", text::plain(name)));
        }
        // A name that two files share belongs to the flag only in the flag's own stream. Where none is left there, the
        // session became known after the flag was raised, and the turn is in another stream now.
        let in_stream = |turn: &StoredTurn| turn.record.stream().0 == flag.stream;
        let own = turns.iter().any(in_stream);
        for turn in turns {
            if own && !in_stream(&turn) {
                continue;
            }
            for neighbour in deps.patrol.neighbours(turn.row, reach)? {
                let flagged = neighbour.row == turn.row;
                rows.entry(neighbour.row)
                    .and_modify(|entry| entry.1 |= flagged)
                    .or_insert((neighbour, flagged));
            }
        }
    }
    let stream = rows.values().next().map_or_else(|| flag.stream.clone(), |(turn, _)| turn.record.stream().0);
    let total = deps.patrol.stream_len(&stream)?;
    let mut shown = render(
        &deps.logs,
        &deps.detectors,
        rows.into_values().collect(),
        deps.settings.max_turn_chars,
        &mut missing,
    );
    shown.omitted_turns = total.saturating_sub(shown.turns.len() as u64);
    shown.stream = text::plain(&stream);
    shown.reach = reach;
    shown.missing = missing;
    Ok(shown)
}

fn render(
    logs: &Path,
    detectors: &Detectors,
    rows: Vec<(StoredTurn, bool)>,
    limit: usize,
    missing: &mut Vec<String>,
) -> ContextWindow {
    let mut loader = Loader::new(logs);
    let mut read: Vec<(Turn, bool, String)> = Vec::new();
    for (stored, flagged) in rows {
        match loader.load(&stored.record) {
            Ok(turn) => {
                let body = body(detectors, &turn);
                read.push((turn, flagged, body));
            }
            Err(error) if flagged => {
                missing.push(format!("{}: {}", stored.record.run_id_ts(), text::plain(&error.to_string())));
            }
            Err(_) => {}
        }
    }
    // Flagged turns share the room first, all alike; neighbours get what is left, nearest first being too fine a
    // point for what is three turns on each side.
    let flagged_count = read.iter().filter(|(_, flagged, _)| *flagged).count().max(1);
    let share = limit / flagged_count;
    let used: usize = read
        .iter()
        .filter(|(_, flagged, _)| *flagged)
        .map(|(.., body)| body.chars().count().min(share))
        .sum();
    let mut left = limit.saturating_sub(used);
    let mut window = ContextWindow::default();
    for (turn, flagged, body) in read {
        let body = if flagged {
            middle_cut(&body, share)
        } else {
            let size = body.chars().count();
            if size > left {
                continue;
            }
            left -= size;
            body
        };
        let mark = if flagged { " FLAGGED" } else { "" };
        let name = text::plain(&turn.run_id_ts());
        text::push(&mut window.text, format_args!("--- turn {name}{mark}\n{body}\n"));
        window.turns.push(ContextTurn { run_id_ts: turn.run_id_ts(), ts: turn.ts, flagged });
    }
    window
}

/// A turn as masked text, a part a paragraph.
fn body(detectors: &Detectors, turn: &Turn) -> String {
    let mut out = String::new();
    for part in &turn.parts {
        text::push(&mut out, format_args!("[{}] {}\n", place(part), detectors.redact(&part.text)));
    }
    out
}

/// Cuts the middle out of a text that is too long, and says so.
fn middle_cut(body: &str, limit: usize) -> String {
    let chars = body.chars().count();
    if chars <= limit {
        return body.to_owned();
    }
    let half = limit / 2;
    let head: String = body.chars().take(half).collect();
    let tail: String = body.chars().skip(chars - half).collect();
    format!("{head}\n… {} characters not shown …\n{tail}", chars - 2 * half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_says_how_much_is_missing() {
        let cut = middle_cut(&"ab".repeat(100), 20);
        assert!(cut.contains("180 characters not shown"));
        assert_eq!(middle_cut("short", 20), "short");
    }
}

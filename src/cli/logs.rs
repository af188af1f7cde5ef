//! `sentrix logs`: files, sizes and entries, the active one too; or the last entries.

use serde_json::json;

use super::args::{Format, Global, LogsArgs, Where};
use super::failure::{self, Failure, Outcome};
use super::printer::{self, Page, dim, size, thousands};
use super::world::{paths, require_folder};
use crate::detect::Detectors;
use crate::logs;
use crate::text;

/// Most characters of an entry's text that are shown.
const SHOWN_CHARS: usize = 200;

/// Runs the verb.
pub(super) fn run(global: &Global, args: &LogsArgs) -> Outcome {
    let place = Where { log_dir: args.log_dir.clone(), data_dir: None };
    let log_dir = paths(global, &place)?.logs;
    let fault = |error: logs::LogsError| Failure::logs(&error);
    require_folder(&log_dir)?;
    if let Some(number) = args.tail {
        let entries = logs::tail(&log_dir, number).map_err(fault)?;
        // Log text is hostile and may hold secrets: masked and made plain before anybody sees it.
        let detectors = Detectors::builtin();
        let shown = |entry: &logs::EventLine| {
            text::bounded(&text::plain(&detectors.redact(&entry.text)), SHOWN_CHARS)
        };
        let event = |entry: &logs::EventLine| text::bounded(&text::plain(&entry.event), 40);
        match args.format {
            Format::Json => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|entry| {
                        json!({ "file": entry.file, "ts": entry.ts, "event": event(entry),
                            "run_id": text::plain(&entry.run_id), "text": shown(entry) })
                    })
                    .collect();
                printer::json(&json!({ "version": 1, "entries": entries }))?;
            }
            Format::Table if entries.is_empty() => {
                printer::data(format_args!("No log entries in {}.", log_dir.display()))?;
            }
            Format::Table => {
                let lines: Vec<String> = entries
                    .iter()
                    .map(|entry| {
                        let at = jiff::Timestamp::from_millisecond(entry.ts).unwrap_or_default();
                        let run = text::bounded(&text::plain(&entry.run_id), 9);
                        format!("{}  {run}  {:<26} {}", dim(format!("{at:.0}")), event(entry), shown(entry))
                    })
                    .collect();
                printer::data(lines.join("\n"))?;
            }
        }
        return Ok(failure::DONE);
    }
    let files = logs::summaries(&log_dir).map_err(fault)?;
    // The one that was last written to may still grow.
    let newest = files.iter().max_by_key(|file| (file.modified_ms, &file.name)).map(|file| file.name.clone());
    let is_active = |name: &str| newest.as_deref() == Some(name);
    if args.format == Format::Json {
        let files: Vec<_> = files
            .iter()
            .map(|file| {
                json!({ "name": file.name, "size_bytes": file.size_bytes, "entries": file.entries,
                    "rejected": file.rejected, "first_ts": file.first_ts, "last_ts": file.last_ts,
                    "incomplete": file.incomplete, "active": is_active(&file.name) })
            })
            .collect();
        printer::json(&json!({ "version": 1, "files": files }))?;
        return Ok(failure::DONE);
    }
    if files.is_empty() {
        printer::data(format_args!("No log files in {}.", log_dir.display()))?;
        return Ok(failure::DONE);
    }
    let mut table = Page::new(&["FILE", "SIZE", "ENTRIES", "LAST EVENT", ""]);
    for file in &files {
        let last = file.last_ts.and_then(|ts| jiff::Timestamp::from_millisecond(ts).ok());
        let mut notes = Vec::new();
        if is_active(&file.name) {
            notes.push(String::from("active"));
        }
        if file.rejected > 0 {
            notes.push(format!("{} unreadable", thousands(file.rejected)));
        }
        if file.incomplete {
            notes.push(String::from("ends within an entry"));
        }
        table.row([
            text::plain(&file.name),
            size(file.size_bytes),
            thousands(file.entries),
            last.map(|at| format!("{at:.0}")).unwrap_or_default(),
            notes.join(", "),
        ]);
    }
    printer::data(table)?;
    Ok(failure::DONE)
}

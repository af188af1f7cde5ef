//! `sentrix logs`: files, sizes and entries, the active one too; the last entries, and those that come.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Format, Global, LogsArgs, Where};
use super::failure::{self, Failure, Outcome};
use super::printer::{self, Page, dim, size, thousands, time};
use super::world::{paths, require_folder};
use crate::detect::Detectors;
use crate::logs::{self, EventLine, Follower, Sessions};
use crate::openclaw::session;
use crate::supervise::Shutdown;
use crate::text;

/// Most characters of an entry's text that are shown.
const SHOWN_CHARS: usize = 200;
/// How many entries are shown before those that come.
const BEFORE: usize = 10;
/// How many that come at once are held.
const AT_ONCE: usize = 4096;
/// How often it is looked for new ones.
const INTERVAL: Duration = Duration::from_millis(250);

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &LogsArgs, shutdown: &Shutdown) -> Outcome {
    let place = Where { log_dir: args.log_dir.clone(), data_dir: None };
    let log_dir = paths(global, &place)?.logs;
    require_folder(&log_dir)?;
    if args.tail.is_some() || args.follow {
        return entries(&log_dir, args, shutdown).await;
    }
    files(&log_dir, args.format)
}

fn fault(error: &logs::LogsError) -> Failure {
    Failure::logs(error)
}

/// The last entries, and then those that come.
async fn entries(log_dir: &Path, args: &LogsArgs, shutdown: &Shutdown) -> Outcome {
    // Most events say only which run they belong to; whose that is may stand anywhere.
    let mut sessions = match &args.agent {
        Some(_) => Sessions::read(log_dir).map_err(|error| fault(&error))?,
        None => Sessions::default(),
    };
    let wanted = |sessions: &Sessions, line: &EventLine| {
        args.agent.as_deref().is_none_or(|name| sessions.is_of(line, name))
    };
    let count = args.tail.map_or(BEFORE, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let (lines, seen) =
        logs::tail(log_dir, count, &mut |line| wanted(&sessions, line)).map_err(|error| fault(&error))?;
    for line in &lines {
        sessions.learn(line);
    }
    if lines.is_empty() && !args.follow && args.format == Format::Table {
        printer::data(match &args.agent {
            Some(name) => format!("No entries of `{}` in {}.", text::plain(name), log_dir.display()),
            None => nothing(log_dir),
        })?;
        return Ok(failure::DONE);
    }
    for line in &lines {
        if !printer::line(shown(&sessions, line, args.format))? {
            return Ok(failure::DONE);
        }
    }
    if !args.follow {
        return Ok(failure::DONE);
    }
    if args.format == Format::Table {
        printer::note(dim(format_args!("following {}; Ctrl+C ends it", log_dir.display())));
    }
    let mut follower = Follower::new(log_dir, seen);
    loop {
        let stops = shutdown.drain().is_cancelled();
        let mut new = Vec::new();
        let mut printed = Ok(true);
        let mut take = |line| {
            new.push(line);
            if new.len() >= AT_ONCE {
                if let Ok(true) = printed {
                    printed = print(&mut sessions, &new, &wanted, args.format);
                }
                new.clear();
            }
        };
        match follower.poll(&mut take) {
            Ok(()) => {}
            // The directory may be there again at the next look.
            Err(error) if !stops => {
                tracing::warn!(error = text::causes(&error), "cannot look for new entries");
            }
            Err(error) => return Err(fault(&error)),
        }
        if !printed? {
            return Ok(failure::DONE);
        }
        if stops {
            follower.finish(&mut |line| new.push(line));
            print(&mut sessions, &new, &wanted, args.format)?;
            return Ok(failure::DONE);
        }
        if !print(&mut sessions, &new, &wanted, args.format)? {
            return Ok(failure::DONE);
        }
        tokio::select! {
            () = shutdown.drain().cancelled() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// Prints what is wanted of the new entries; whether there is still somebody who reads.
fn print(
    sessions: &mut Sessions,
    new: &[EventLine],
    wanted: &dyn Fn(&Sessions, &EventLine) -> bool,
    format: Format,
) -> Result<bool, Failure> {
    // Whose a run is may be said by a later event of the same look.
    for line in new {
        sessions.learn(line);
    }
    for line in new.iter().filter(|line| wanted(sessions, line)) {
        if !printer::line(shown(sessions, line, format))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An entry as it is printed. Log text is hostile and may hold secrets: masked and made plain before anybody sees it.
fn shown(sessions: &Sessions, line: &EventLine, format: Format) -> String {
    let plain = |said: &str| text::plain(&Detectors::builtin().redact(said));
    let said = text::bounded(&plain(&line.text), SHOWN_CHARS);
    let event = text::bounded(&plain(&line.event), 40);
    let tool = line.tool.as_deref().map(|tool| text::bounded(&plain(tool), 60));
    if format == Format::Json {
        let of = |known: Option<&str>| known.map_or(Value::Null, |known| plain(known).into());
        return json!({ "version": 1, "file": text::plain(&line.file), "ts": line.ts, "event": event,
            "run_id": plain(&line.run_id), "session_key": of(sessions.session_key(line)),
            "agent_id": of(sessions.agent_id(line)), "label": of(sessions.label(line)), "tool": tool, "text": said })
        .to_string();
    }
    let who = text::bounded(&plain(&who(sessions, line)), 24);
    let tool = tool.map(|tool| format!("{tool} ")).unwrap_or_default();
    format!("{}  {who:<16} {event:<21} {tool}{said}", dim(time(line.ts)))
}

/// The agent of an entry in a few words; where nothing says it, the run.
fn who(sessions: &Sessions, line: &EventLine) -> String {
    let Some(agent) = sessions.agent_id(line) else { return text::bounded(&line.run_id, 9) };
    let key = sessions.session_key(line);
    let label = sessions.label(line).map(str::to_owned);
    let child = || {
        let subagent = key.filter(|key| session::parent_of(key).is_some())?;
        subagent.rsplit(':').next().map(|id| text::bounded(id, 9))
    };
    label.or_else(child).map_or_else(|| agent.to_owned(), |child| format!("{agent}/{child}"))
}

fn nothing(log_dir: &Path) -> String {
    format!(
        "No log files yet in {}. OpenClaw's raw stream, `sentrix run` and `sentrix patrol --openclaw-home` write them.",
        log_dir.display()
    )
}

/// The files of the directory.
fn files(log_dir: &Path, format: Format) -> Outcome {
    let files = logs::summaries(log_dir).map_err(|error| fault(&error))?;
    // The one that was last written to may still grow.
    let newest = files.iter().max_by_key(|file| (file.modified_ms, &file.name)).map(|file| file.name.clone());
    let is_active = |name: &str| newest.as_deref() == Some(name);
    if format == Format::Json {
        let files: Vec<_> = files
            .iter()
            .map(|file| {
                json!({ "name": text::plain(&file.name), "size_bytes": file.size_bytes, "entries": file.entries,
                    "rejected": file.rejected, "first_ts": file.first_ts, "last_ts": file.last_ts,
                    "incomplete": file.incomplete, "active": is_active(&file.name) })
            })
            .collect();
        printer::json(&json!({ "version": 1, "files": files }))?;
        return Ok(failure::DONE);
    }
    if files.is_empty() {
        printer::data(nothing(log_dir))?;
        return Ok(failure::DONE);
    }
    let mut table = Page::new(&["FILE", "SIZE", "ENTRIES", "FIRST EVENT", "LAST EVENT", ""]);
    for file in &files {
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
            file.first_ts.map(time).unwrap_or_default(),
            file.last_ts.map(time).unwrap_or_default(),
            notes.join(", "),
        ]);
    }
    printer::data(table)?;
    Ok(failure::DONE)
}

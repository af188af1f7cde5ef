//! `sentrix police`: lists of cases and flags, investigations.

use std::sync::Arc;

use serde_json::json;

use super::args::{Format, Global, PoliceArgs, PoliceCommand, PoliceList, Where};
use super::failure::{self, Failure, Outcome};
use super::patrol::{flag_table, short};
use super::police_show;
use super::printer::{self, Page, count, dim, severity};
use super::progress::Progress;
use super::world::{DirLock, World, paths, require_stores, station_failure, store_failure};
use crate::case::{CaseFile, PatrolFlag};
use crate::id::RunId;
use crate::patrol;
use crate::police::{Concluded, Station};
use crate::store::patrol_state::PatrolStore;
use crate::store::police::PoliceStore;
use crate::supervise::Shutdown;
use crate::text;

/// Runs the verb.
pub(super) async fn run(global: &Global, args: PoliceArgs, shutdown: &Shutdown) -> Outcome {
    match args.command {
        None => list(global, &args.list),
        Some(PoliceCommand::Show { id, place, format }) => police_show::run(global, &id, &place, format),
        Some(PoliceCommand::Investigate { flag, flag_id, place, format }) => {
            let asked = flag.or(flag_id).unwrap_or_default();
            let world = World::open_to_work(global, &place)?;
            let lock = DirLock::take(&world.paths)?;
            let flag = find_flag(&Stores::of(&world), &asked)?;
            let station = Station::open(Arc::clone(&world.police), &world.host).map_err(station_failure)?;
            station.escalate_one(&flag.flag_id).map_err(station_failure)?;
            let outcome = work(global, &station, Some(&flag.flag_id), shutdown, format).await;
            drop(lock);
            outcome
        }
        Some(PoliceCommand::Resume { run, place, format }) => {
            let world = World::open_to_work(global, &place)?;
            let lock = DirLock::take(&world.paths)?;
            let station = Station::open(Arc::clone(&world.police), &world.host).map_err(station_failure)?;
            let only = match run {
                Some(run) => Some(flag_of_run(&world, &run).await?),
                None => None,
            };
            let outcome = work(global, &station, only.as_deref(), shutdown, format).await;
            drop(lock);
            outcome
        }
    }
}

/// The two stores that lists read.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) patrol: Arc<PatrolStore>,
    pub(super) police: Arc<PoliceStore>,
}

impl Stores {
    /// Opens them; a directory without any says what to do.
    pub(super) fn open(global: &Global, place: &Where) -> Result<Self, Failure> {
        let paths = paths(global, place)?;
        require_stores(&paths)?;
        let patrol = PatrolStore::open(&paths.patrol_state()).map_err(store_failure)?;
        patrol::import_flags(&patrol, &paths.flags_export()).map_err(store_failure)?;
        let police = PoliceStore::open(&paths.police()).map_err(store_failure)?;
        Ok(Self { patrol: Arc::new(patrol), police: Arc::new(police) })
    }

    fn of(world: &World) -> Self {
        Self { patrol: Arc::clone(&world.patrol.store), police: Arc::clone(&world.police.police) }
    }
}

fn list(global: &Global, args: &PoliceList) -> Outcome {
    let stores = Stores::open(global, &args.place)?;
    if args.flags {
        let rows = stores.patrol.flags(None).map_err(store_failure)?;
        let unreadable = rows.iter().filter(|row| row.flag.is_none()).count() as u64;
        let total = rows.len() as u64 - unreadable;
        // A line that cannot be read takes nobody's place in the list.
        let flags: Vec<PatrolFlag> =
            rows.into_iter().filter_map(|row| row.flag).take(args.limit as usize).collect();
        if args.format == Format::Json {
            printer::json(&json!({ "version": 1, "flags": flags, "unreadable_lines": unreadable }))?;
            return Ok(failure::DONE);
        }
        if flags.is_empty() {
            printer::data("No flags.")?;
        } else {
            printer::data(flag_table(&flags))?;
        }
        if total > flags.len() as u64 {
            printer::note(dim(format!("{} of {}; --limit shows more", flags.len(), count(total, "flag"))));
        }
        if unreadable > 0 {
            printer::note(format_args!(
                "kept as it is in the flags file: {} that cannot be read",
                count(unreadable, "line")
            ));
        }
        return Ok(failure::DONE);
    }
    let cases = stores.police.cases(Some(args.limit)).map_err(store_failure)?;
    if args.format == Format::Json {
        printer::json(&json!({ "version": 1, "cases": cases }))?;
    } else if cases.is_empty() {
        printer::data("No case files.")?;
    } else {
        printer::data(case_table(&cases))?;
        let total = stores.police.case_count().map_err(store_failure)?;
        if total > cases.len() as u64 {
            printer::note(dim(format!("{} of {}; --limit shows more", cases.len(), count(total, "case"))));
        }
    }
    Ok(failure::DONE)
}

/// Cases as a table.
fn case_table(cases: &[CaseFile]) -> String {
    let mut table = Page::new(&["CASE", "CONCLUDED", "SEVERITY", "CRIME", "VERDICT"]);
    for case in cases {
        table.row([
            short(&case.investigation_id),
            text::plain(case.concluded_at.get(..16).unwrap_or(&case.concluded_at)).replace('T', " "),
            severity(case.severity_score),
            case.crime_classification.as_str().to_owned(),
            text::plain(&case.verdict_summary),
        ]);
    }
    table.to_string()
}

/// Works the queue off, or one flag of it.
async fn work(
    global: &Global,
    station: &Station<'_>,
    only: Option<&str>,
    shutdown: &Shutdown,
    format: Format,
) -> Outcome {
    let progress = Progress::new(global);
    let mut cases: Vec<CaseFile> = Vec::new();
    let mut failed: Vec<(String, String)> = Vec::new();
    let (mut outside, mut interrupted) = (false, false);
    while !shutdown.drain().is_cancelled() {
        match station.next(only, progress.options("police", shutdown)).await.map_err(station_failure)? {
            None => break,
            Some(Concluded::Case(case)) => cases.push(*case),
            Some(Concluded::Failed { flag_id, error, outside: blame }) => {
                outside |= blame;
                failed.push((flag_id, error));
                if only.is_some() {
                    break;
                }
            }
            Some(Concluded::Interrupted { .. }) => interrupted = true,
        }
    }
    progress.clear();
    if format == Format::Json {
        let failed: Vec<_> =
            failed.iter().map(|(flag, error)| json!({ "flag_id": flag, "error": error })).collect();
        printer::json(&json!({ "version": 1, "cases": cases, "failed": failed }))?;
    } else {
        match cases.as_slice() {
            [] if failed.is_empty() => printer::data("Nothing waits for an investigation.")?,
            [] => {}
            [case] => printer::data(police_show::case_page(case))?,
            cases => printer::data(case_table(cases))?,
        }
        for (flag, error) in &failed {
            printer::note(format_args!(
                "flag {}: {}; it stays in the queue",
                short(flag),
                text::plain(error)
            ));
        }
    }
    Ok(if interrupted || shutdown.drain().is_cancelled() {
        failure::INTERRUPTED
    } else if outside {
        failure::UNAVAILABLE
    } else if failed.is_empty() {
        failure::DONE
    } else {
        failure::BAD_ANSWER
    })
}

/// A flag by id, unique prefix, or number (1 is the latest).
pub(super) fn find_flag(stores: &Stores, asked: &str) -> Result<PatrolFlag, Failure> {
    let flags: Vec<PatrolFlag> =
        stores.patrol.flags(None).map_err(store_failure)?.into_iter().filter_map(|row| row.flag).collect();
    let index = pick(asked, "flag", flags.iter().map(|flag| flag.flag_id.as_str()))?;
    flags.into_iter().nth(index).ok_or_else(|| no_such("flag", asked))
}

/// The place of what was asked for among ids, newest first: a whole id, a unique prefix, or a number from 1.
pub(super) fn pick<'a>(
    asked: &str,
    what: &str,
    ids: impl Iterator<Item = &'a str>,
) -> Result<usize, Failure> {
    let ids: Vec<&str> = ids.collect();
    if let Some(index) = ids.iter().position(|id| *id == asked) {
        return Ok(index);
    }
    let prefixed: Vec<usize> = ids
        .iter()
        .enumerate()
        .filter(|(_, id)| !asked.is_empty() && id.starts_with(asked))
        .map(|(index, _)| index)
        .collect();
    // A short number is a place in the list; eight digits may well be the head of an id.
    if asked.len() < 8
        && let Ok(number) = asked.parse::<usize>()
    {
        return match number {
            1.. if number <= ids.len() => Ok(number - 1),
            _ => Err(Failure::Usage(format!("there is no {what} number {number}; there are {}", ids.len()))),
        };
    }
    match prefixed.as_slice() {
        [index] => Ok(*index),
        [] => Err(no_such(what, asked)),
        many => {
            let ids: Vec<String> =
                many.iter().take(5).filter_map(|index| ids.get(*index)).map(|id| text::plain(id)).collect();
            Err(Failure::Usage(format!(
                "`{}` begins more than one {what}: {}",
                text::plain(asked),
                ids.join(", ")
            )))
        }
    }
}

fn no_such(what: &str, asked: &str) -> Failure {
    Failure::Usage(format!("there is no {what} `{}`", text::bounded(&text::plain(asked), 80)))
}

/// The flag that a run investigates.
async fn flag_of_run(world: &World, asked: &str) -> Result<String, Failure> {
    let run: RunId = super::runs::find_run_of(world, asked, Some("investigate")).await?;
    let record = world.host.load(run).await.map_err(super::world::workflow_failure)?;
    record
        .input
        .get("flag_id")
        .and_then(serde_json::Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::Usage(format!("run {run} investigates no flag")))
}

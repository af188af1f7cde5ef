//! `sentrix patrol --once|--watch`

use std::sync::Arc;
use std::time::Duration;

use super::args::{Format, Global, PatrolArgs, PatrolCommand};
use super::failure::{self, Failure, Outcome};
use super::import::{self, Import};
use super::look::{Report, Wanted, look};
use super::printer::{self, Page, bold, count, dim, severity, size};
use super::progress::Progress;
use super::status;
use super::world::{DirLock, World, station_failure, store_failure};
use crate::case::{PatrolFlag, Severity};
use crate::police::Station;
use crate::supervise::Shutdown;
use crate::text;

/// Runs the verb.
pub(super) async fn run(global: &Global, args: PatrolArgs, shutdown: &Shutdown) -> Outcome {
    if let Some(PatrolCommand::Status { place, format }) = args.command {
        return status::run(global, &place, format);
    }
    if let Some(home) = &args.openclaw_home {
        import::prepare(global, &args.place, home)?;
    }
    let world = World::open_to_work(global, &args.place)?;
    let lock = DirLock::take(&world.paths)?;
    let mut import = args.openclaw_home.as_deref().map(|home| Import::open(&world, home)).transpose()?;
    if args.retry_unreviewed {
        let again = world.patrol.store.retry_unreviewed().map_err(store_failure)?;
        printer::note(format_args!("{} put back for review", count(again, "unreviewed turn")));
    }
    let station = Station::open(Arc::clone(&world.police), &world.host).map_err(station_failure)?;
    let outcome = if args.watch {
        watch(&world, &station, &args, global, shutdown, import.as_mut()).await
    } else {
        let imported =
            import.as_mut().map_or(Ok(()), |import| tokio::task::block_in_place(|| import.pull_all()));
        // What could not be read must not keep what could be from its review.
        let outcome = sweep_once(&world, &station, global, &args, shutdown).await;
        imported.and(outcome)
    };
    if let Some(mut import) = import {
        import.close()?;
    }
    drop(lock);
    outcome
}

/// One look, for the demo.
pub(super) async fn once(world: &World, global: &Global, args: &PatrolArgs, shutdown: &Shutdown) -> Outcome {
    let lock = DirLock::take(&world.paths)?;
    let station = Station::open(Arc::clone(&world.police), &world.host).map_err(station_failure)?;
    let outcome = sweep_once(world, &station, global, args, shutdown).await;
    drop(lock);
    outcome
}

async fn sweep_once(
    world: &World,
    station: &Station<'_>,
    global: &Global,
    args: &PatrolArgs,
    shutdown: &Shutdown,
) -> Outcome {
    let progress = Progress::new(global);
    let report = look(world, station, wanted(args), &progress, shutdown).await;
    progress.clear();
    let report = report?;
    show(world, &report, args.format)?;
    Ok(exit_code(&report, args.fail_on))
}

async fn watch(
    world: &World,
    station: &Station<'_>,
    args: &PatrolArgs,
    global: &Global,
    shutdown: &Shutdown,
    mut import: Option<&mut Import>,
) -> Outcome {
    if args.format == Format::Table {
        printer::note(format_args!("watching {}; Ctrl+C stops", world.paths.logs.display()));
    }
    let mut worst = failure::DONE;
    while !shutdown.drain().is_cancelled() {
        let progress = Progress::new(global);
        let began = world.patrol.clock.monotonic();
        if let Some(import) = import.as_deref_mut()
            && let Err(failure) = tokio::task::block_in_place(|| import.pull())
        {
            worst = worst.max(failure.code());
        }
        let report = look(world, station, wanted(args), &progress, shutdown).await;
        let took = world.patrol.clock.monotonic().saturating_sub(began);
        progress.clear();
        match report {
            Ok(report) => {
                tracing::debug!(elapsed_us = took.as_micros(), sweeps = report.sweeps.len(), "look done");
                if report.says_something() {
                    show_look(world, &report, args.format)?;
                }
                worst = worst.max(exit_code(&report, args.fail_on));
            }
            // A full disk or a store that is locked for long may pass; what was not recorded is pending still.
            Err(Failure::Unavailable(error)) => {
                worst = worst.max(failure::UNAVAILABLE);
                printer::note(format_args!(
                    "this look failed, the next one tries again: {}",
                    text::causes(error.as_ref())
                ));
            }
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = shutdown.drain().cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(args.interval)) => {}
        }
    }
    if args.format == Format::Table {
        printer::note("stopped; everything that was read is saved");
    }
    Ok(worst)
}

fn wanted(args: &PatrolArgs) -> Wanted {
    Wanted { watch: args.watch, police: !args.no_police, escalation: args.escalation }
}

fn exit_code(report: &Report, fail_on: Option<Severity>) -> u8 {
    if report.interrupted {
        return failure::INTERRUPTED;
    }
    if report.outside_failed {
        return failure::UNAVAILABLE;
    }
    let bad = fail_on.is_some_and(|limit| report.flags.iter().any(|flag| flag.consensus_severity >= limit));
    if bad { failure::BAD_ANSWER } else { failure::DONE }
}

fn show(world: &World, report: &Report, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => printer::json(report),
        Format::Table => printer::data(page(world, report)),
    }
}

/// What a look of the watch came to: a line, and the flags if there are any.
pub(super) fn show_look(world: &World, report: &Report, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return printer::json_line(report);
    }
    let reviewed: u64 = report.sweeps.iter().map(|sweep| sweep.reviewed).sum();
    let open: u64 = report.sweeps.iter().map(|sweep| sweep.pending + sweep.unreviewed).sum();
    let mut line =
        format!("{}  {} reviewed", dim(format!("{:.0}", world.patrol.clock.now())), count(reviewed, "turn"));
    if open > 0 {
        text::push(&mut line, format_args!(", {} not reviewed", count(open, "turn")));
    }
    if let Some(models) = report.models.as_ref().filter(|models| models.calls > 0) {
        text::push(&mut line, format_args!(", {}", models.line()));
    }
    for (reason, turns) in report.sweeps.iter().flat_map(|sweep| &sweep.pending_reasons) {
        text::push(&mut line, format_args!("\n    {turns} × {}", text::plain(reason)));
    }
    if !report.flags.is_empty() {
        text::push(
            &mut line,
            format_args!(", {}\n{}", count(report.flags.len() as u64, "flag"), flag_table(&report.flags)),
        );
    }
    for case in &report.cases {
        let id = short(&case.investigation_id);
        text::push(&mut line, format_args!("\n    case {id}: {}", text::plain(&case.verdict_summary)));
    }
    for (flag, error) in &report.failed_investigations {
        text::push(
            &mut line,
            format_args!("\n    flag {} not investigated: {}", short(flag), text::plain(error)),
        );
    }
    printer::data(line)
}

fn page(world: &World, report: &Report) -> String {
    let mut lines = Vec::new();
    if report.sweeps.is_empty() && !report.interrupted {
        lines.push(if report.waiting {
            format!(
                "Turns in {} wait for a review, and the patrol graph came to its end without one; see `sentrix patrol status`.",
                report.log_dir
            )
        } else if report.unreviewed > 0 {
            format!(
                "Nothing new in {}; {} given up as unreviewed (--retry-unreviewed tries again).",
                report.log_dir,
                count(report.unreviewed, "turn")
            )
        } else {
            format!("Nothing new in {}: every turn read so far is reviewed.", report.log_dir)
        });
    }
    if !report.changed_workflows.is_empty() {
        lines.push(format!(
            "{}  {} (not built in)",
            bold("using    "),
            text::plain(&report.changed_workflows.join(", "))
        ));
    }
    for sweep in &report.sweeps {
        lines.push(format!(
            "{}  {} in {}, {} in {}",
            bold("read     "),
            size(sweep.read.bytes),
            count(sweep.read.files, "file"),
            count(sweep.read.new_turns, "new turn"),
            count(sweep.streams, "stream"),
        ));
        lines.push(format!(
            "{}  {} by {}, {}",
            bold("reviewed "),
            count(sweep.reviewed, "turn"),
            count(sweep.agents, "patrol agent"),
            if sweep.model_version == "rules" {
                format!("rules {}, no model (no API key is set)", sweep.ruleset_version)
            } else {
                format!("rules {}, model {}", sweep.ruleset_version, text::plain(&sweep.model_version))
            }
        ));
        if sweep.pending + sweep.unreviewed > 0 {
            lines.push(format!(
                "{}  {} could not be reviewed and {} pending, {} given up",
                bold("not clean"),
                count(sweep.pending + sweep.unreviewed, "turn"),
                if sweep.pending == 1 { "stays".to_owned() } else { format!("{} stay", sweep.pending) },
                sweep.unreviewed
            ));
            for (reason, turns) in &sweep.pending_reasons {
                lines.push(format!("           {turns} × {}", text::plain(reason)));
            }
        }
    }
    if let Some(models) = report.models.as_ref().filter(|models| models.calls > 0 || models.is_over()) {
        lines.push(format!("{}  {}", bold("models   "), models.line()));
    }
    if report.unreadable_entries > 0 {
        lines.push(format!(
            "{}  {} could not be read and so not reviewed (see `sentrix patrol status`)",
            bold("unread   "),
            count(report.unreadable_entries, "log entry")
        ));
    }
    if !report.sweeps.is_empty() {
        let by: Vec<String> = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low]
            .into_iter()
            .filter_map(|level| {
                let number = report.flags.iter().filter(|flag| flag.consensus_severity == level).count();
                (number > 0).then(|| format!("{number} {}", severity(level)))
            })
            .collect();
        lines.push(format!(
            "{}  {}{}",
            bold("flags    "),
            if report.flags.is_empty() { String::from("none") } else { report.flags.len().to_string() },
            if by.is_empty() { String::new() } else { format!(" ({})", by.join(", ")) }
        ));
    }
    if !report.cases.is_empty() {
        lines.push(format!(
            "{}  {} written to {}",
            bold("cases    "),
            report.cases.len(),
            world.paths.reports().display()
        ));
    }
    for (flag, error) in &report.failed_investigations {
        lines.push(format!("{}  flag {}: {}", bold("failed   "), short(flag), text::plain(error)));
    }
    if report.interrupted {
        lines.push(String::from(
            "Stopped; what was finished is saved, and the next patrol goes on from there.",
        ));
    }
    if !report.flags.is_empty() {
        lines.push(String::new());
        lines.push(flag_table(&report.flags));
        lines.push(String::new());
        let place = place_hint(world);
        if let Some(case) = report.cases.first() {
            lines.push(dim(format!(
                "Look closer: sentrix police show {}{place}",
                short(&case.investigation_id)
            )));
        } else if let Some(flag) = report.flags.first() {
            lines.push(dim(format!("Look closer: sentrix police show {}{place}", short(&flag.flag_id))));
        }
    }
    lines.join("\n")
}

/// The options that name this directory again, for a command the user may copy.
pub(super) fn place_hint(world: &World) -> String {
    let mut out = String::new();
    if world.paths.logs != std::path::Path::new("./agent_logs") {
        text::push(&mut out, format_args!(" --log-dir {}", world.paths.logs.display()));
    }
    if world.paths.data != world.paths.logs {
        text::push(&mut out, format_args!(" --data-dir {}", world.paths.data.display()));
    }
    out
}

/// The first characters of an id: enough to name it.
pub(super) fn short(id: &str) -> String {
    text::plain(&id.chars().take(8).collect::<String>())
}

/// What a flag is about, for a table: what its rules saw, or what the votes said.
fn what(flag: &PatrolFlag) -> String {
    let mut titles: Vec<&str> = Vec::new();
    for item in &flag.evidence {
        if !item.title.is_empty() && !titles.contains(&item.title.as_str()) {
            titles.push(&item.title);
        }
    }
    text::plain(&if titles.is_empty() { flag.referral_summary.clone() } else { titles.join(", ") })
}

/// Flags as a table.
pub(super) fn flag_table(flags: &[PatrolFlag]) -> String {
    let mut table = Page::new(&["FLAG", "SEVERITY", "CATEGORY", "AGENT", "WHAT"]);
    for flag in flags {
        let categories: Vec<&str> = flag.categories.iter().map(|category| category.as_str()).collect();
        let who = if flag.stream.is_empty() { &flag.source_file } else { &flag.stream };
        table.row([
            short(&flag.flag_id),
            severity(flag.consensus_severity),
            categories.join(", "),
            text::bounded(&text::plain(who), 24),
            what(flag),
        ]);
    }
    table.to_string()
}

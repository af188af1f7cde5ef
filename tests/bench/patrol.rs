//! `cargo bench --bench patrol -- --json [CASE …]`: one JSON line a case. Directories are generated under the system's
//! temporary folder; what the whole program does is measured on the real binary in a process of its own.
//!
//! | case | what |
//! |---|---|
//! | `help` | `sentrix --help` |
//! | `parse_10k`, `parse_100k` | reading log files into turn records, on one core |
//! | `detect_10k` | rules over the turns of the same files, on one core |
//! | `sweep_10k`, `sweep_100k` | a full deterministic `patrol --once`, investigations left out |
//! | `cases_10k` | the same with its investigations |
//! | `idle_10k`, `idle_100k` | one look of `patrol --watch` where nothing is new |
//! | `idle_process_100k` | `patrol --once` where nothing is new, as a process |
#![expect(clippy::print_stdout, reason = "this is what a bench prints")]

#[path = "gen.rs"]
mod generator;

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sentrix::clock::{Clock as _, SystemClock};
use sentrix::detect::Detectors;
use sentrix::logs::{self, Assembler, Loader, LogsError, Reject, Sink, TurnRecord};
use sentrix::store::patrol_state::PatrolStore;
use serde_json::{Value, json};

use generator::{Summary, generate};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Turns of a generated file.
const TURNS_PER_FILE: usize = 100;
/// One turn in so many is an incident.
const INCIDENTS_EVERY: usize = 97;

#[derive(Default)]
struct Collector {
    records: Vec<TurnRecord>,
    rejects: u64,
}

impl Sink for Collector {
    fn turn(&mut self, record: TurnRecord) -> Result<(), LogsError> {
        self.records.push(record);
        Ok(())
    }

    fn reject(&mut self, _: Reject) -> Result<(), LogsError> {
        self.rejects += 1;
        Ok(())
    }
}

#[derive(Default)]
struct Counter {
    turns: u64,
    rejects: u64,
}

impl Sink for Counter {
    fn turn(&mut self, _: TurnRecord) -> Result<(), LogsError> {
        self.turns += 1;
        Ok(())
    }

    fn reject(&mut self, _: Reject) -> Result<(), LogsError> {
        self.rejects += 1;
        Ok(())
    }
}

fn print(case: &str, seconds: Duration, extra: &Value) {
    let mut line = json!({ "case": case, "seconds": seconds.as_secs_f64() });
    if let (Some(line), Some(extra)) = (line.as_object_mut(), extra.as_object()) {
        line.extend(extra.clone());
    }
    println!("{line}");
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate(bytes: u64, seconds: Duration) -> f64 {
    (bytes as f64 / seconds.as_secs_f64() / 1e6).round()
}

/// The fastest of `times` measurements of `work`.
fn fastest<T>(times: u32, mut work: impl FnMut() -> Outcome<T>) -> Outcome<(Duration, T)> {
    let clock = SystemClock::default();
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..times.max(1) {
        let start = clock.monotonic();
        let answer = work()?;
        let took = clock.monotonic().saturating_sub(start);
        if best.as_ref().is_none_or(|(time, _)| took < *time) {
            best = Some((took, answer));
        }
    }
    best.ok_or_else(|| "nothing was measured".into())
}

fn parse(case: &str, dir: &Path, made: &Summary) -> Outcome<()> {
    let (took, counter) = fastest(3, || {
        let mut counter = Counter::default();
        logs::read(dir, &mut Vec::new(), &mut Assembler::new(), &mut counter)?;
        Ok(counter)
    })?;
    let extra = json!({ "n": made.turns, "bytes": made.bytes, "megabytes_per_second": rate(made.bytes, took),
        "turns": counter.turns, "rejects": counter.rejects });
    print(case, took, &extra);
    Ok(())
}

fn detect(case: &str, dir: &Path) -> Outcome<()> {
    let mut collector = Collector::default();
    logs::read(dir, &mut Vec::new(), &mut Assembler::new(), &mut collector)?;
    let mut loader = Loader::new(dir);
    let turns = collector.records.iter().map(|record| loader.load(record)).collect::<Result<Vec<_>, _>>()?;
    let text: u64 = turns.iter().flat_map(|turn| &turn.parts).map(|part| part.text.len() as u64).sum();
    let detectors = Detectors::builtin();
    let (took, found) =
        fastest(3, || Ok(turns.iter().map(|turn| detectors.scan(turn).len()).sum::<usize>()))?;
    let extra = json!({ "n": turns.len(), "bytes": text, "megabytes_per_second": rate(text, took), "findings": found });
    print(case, took, &extra);
    Ok(())
}

/// Runs the binary; gives its wall time and the most memory it had, in kB.
fn process(args: &[&str], dir: &Path) -> Outcome<(Duration, u64)> {
    let clock = SystemClock::default();
    let start = clock.monotonic();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sentrix"))
        .args(args)
        .current_dir(dir)
        .env("NO_COLOR", "1")
        .env_remove("OPENAI_API_KEY")
        .env_remove("ANTHROPIC_API_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // The high-water mark only grows, so the last look before the end is the whole of it, but for the last
    // millisecond.
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        if let Ok(text) = fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kb.unwrap_or(0));
        }
        if let Some(exit) = child.try_wait()? {
            break exit;
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    let took = clock.monotonic().saturating_sub(start);
    if !exit.success() {
        return Err(format!("sentrix {args:?} ended with {exit}").into());
    }
    Ok((took, peak))
}

/// A full sweep, twice from nothing; the fastest counts. The stores of the last one stay.
fn sweep(case: &str, dir: &Path, made: &Summary, police: bool) -> Outcome<()> {
    let args: &[&str] = if police {
        &["patrol", "--once", "--log-dir", "."]
    } else {
        &["patrol", "--once", "--no-police", "--log-dir", "."]
    };
    let mut best: Option<(Duration, u64)> = None;
    for _ in 0..2 {
        forget(dir)?;
        let (took, peak) = process(args, dir)?;
        if best.is_none_or(|(time, _)| took < time) {
            best = Some((took, peak));
        }
    }
    let (took, peak) = best.unwrap_or_default();
    let store = PatrolStore::open(&dir.join("patrol_state.db"))?;
    let counts = store.counts()?;
    let flags = store.flags(None)?.len();
    let bytes: u64 = ["patrol_state.db", "checkpoints.db"]
        .iter()
        .map(|name| fs::metadata(dir.join(name)).map_or(0, |data| data.len()))
        .sum();
    let extra = json!({ "n": made.turns, "peak_rss_kb": peak, "bytes": bytes, "reviewed": counts.clean + counts.flagged,
        "flags": flags, "incidents": made.incidents.len() });
    print(case, took, &extra);
    Ok(())
}

/// Takes the stores away.
fn forget(dir: &Path) -> Outcome<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if name.contains(".db") || name.starts_with("patrol_") || name.starts_with('.') {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The fastest look of the real `patrol --watch` where nothing is new, by its own account.
fn idle(case: &str, dir: &Path, made: &Summary) -> Outcome<()> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sentrix"))
        .args(["patrol", "--watch", "--interval", "1", "--log-dir", "."])
        .current_dir(dir)
        .env("SENTRIX_LOG", "sentrix::cli=debug")
        .env("NO_COLOR", "1")
        .env_remove("OPENAI_API_KEY")
        .env_remove("ANTHROPIC_API_KEY")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stderr.take().ok_or("no standard error")?).lines();
    let mut looks: Vec<u64> = Vec::new();
    for line in lines {
        let line = line?;
        // The first look investigates what the sweep before has flagged.
        let idle = line.contains("look done") && line.contains("sweeps=0");
        let elapsed = line.split("elapsed_us=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let (true, Some(elapsed)) = (idle, elapsed) {
            looks.push(elapsed);
        }
        if looks.len() == 4 {
            break;
        }
    }
    child.kill()?;
    child.wait()?;
    let fastest = looks.iter().copied().min().ok_or("no look was seen")?;
    print(case, Duration::from_micros(fastest), &json!({ "n": made.turns, "looks_us": looks }));
    Ok(())
}

fn main() -> Outcome<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |case: &str| wanted.is_empty() || wanted.iter().any(|name| name == case);
    if wants("help") {
        let (took, (_, peak)) = fastest(10, || process(&["--help"], Path::new(".")))?;
        print("help", took, &json!({ "peak_rss_kb": peak }));
    }
    for (size, files) in [("10k", 100), ("100k", 1_000)] {
        let cases = ["parse", "detect", "sweep", "cases", "idle", "idle_process"]
            .map(|case| format!("{case}_{size}"));
        if !cases.iter().any(|case| wants(case)) {
            continue;
        }
        let dir = tempfile::tempdir()?;
        let dir = dir.path();
        let made = generate(dir, 7, files, TURNS_PER_FILE, INCIDENTS_EVERY)?;
        let [parse_case, detect_case, sweep_case, cases_case, idle_case, process_case] = cases;
        if wants(&parse_case) {
            parse(&parse_case, dir, &made)?;
        }
        if wants(&detect_case) && size == "10k" {
            detect(&detect_case, dir)?;
        }
        if wants(&cases_case) && size == "10k" {
            sweep(&cases_case, dir, &made, true)?;
        }
        let idle_wanted = wants(&idle_case) || wants(&process_case);
        if wants(&sweep_case) || idle_wanted {
            sweep(&sweep_case, dir, &made, false)?;
        }
        if wants(&idle_case) {
            idle(&idle_case, dir, &made)?;
        }
        if wants(&process_case) {
            let args = ["patrol", "--once", "--no-police", "--log-dir", "."];
            let (took, (_, peak)) = fastest(10, || process(&args, dir))?;
            print(&process_case, took, &json!({ "n": made.turns, "peak_rss_kb": peak }));
        }
    }
    Ok(())
}

//! `cargo bench --bench patrol`: one JSON line per case. Directories are generated under the system's temporary folder.
#![expect(clippy::print_stdout, reason = "this is what a bench prints")]

#[path = "gen.rs"]
mod generator;

use std::path::Path;
use std::time::Duration;

use sentrix::clock::{Clock as _, SystemClock};
use sentrix::logs::{self, Assembler, LogsError, Reject, Sink, TurnRecord};

use generator::{Summary, generate};

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

/// Reads a whole directory, three times; the fastest counts.
fn parse(case: &str, dir: &Path, made: &Summary) -> Result<(), LogsError> {
    let clock = SystemClock::default();
    let mut best = Duration::MAX;
    let mut counter = Counter::default();
    for _ in 0..3 {
        counter = Counter::default();
        let start = clock.monotonic();
        logs::read(dir, &mut Vec::new(), &mut Assembler::new(), &mut counter)?;
        best = best.min(clock.monotonic().saturating_sub(start));
    }
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = made.bytes as f64 / best.as_secs_f64() / 1e6;
    let line = serde_json::json!({
        "case": case,
        "seconds": best.as_secs_f64(),
        "megabytes_per_second": rate.round(),
        "bytes": made.bytes,
        "turns": counter.turns,
        "turns_made": made.turns,
        "incidents_made": made.incidents.len(),
        "rejects": counter.rejects,
    });
    println!("{line}");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (case, files) in [("parse_10k", 100), ("parse_100k", 1000)] {
        let dir = tempfile::tempdir()?;
        parse(case, dir.path(), &generate(dir.path(), 7, files, 100, 97)?)?;
    }
    Ok(())
}

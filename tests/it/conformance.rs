//! The engine's behaviour as data: `tests/conformance/*.toml`, one file an area, each case a graph, an input and the
//! trace that must come out. What the cases may say is in `conformance/case.rs`.
//!
//! Every case runs on the store in memory and on SQLite, and beside what it expects these laws must hold: the log of
//! every run that is stored proves whole, and a run that is done, recorded and played again without its tasks, takes
//! the same path to the same state.

mod case;
mod play;
mod stub;
mod tell;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use case::{Case, cases};

/// Fewest cases of all areas together.
const LEAST: usize = 400;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance"))
}

/// Runs the cases of an area, and tells of all that fail.
fn conforms(area: &str) {
    let text = fs::read_to_string(folder().join(format!("{area}.toml"))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut wrong = Vec::new();
    for case in cases(area, &text) {
        for difference in runtime.block_on(play::play(&case)) {
            wrong.push(format!("{area}: {}\n    {}", case.name, difference.replace('\n', "\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} differences\n\n{}\n", wrong.len(), wrong.join("\n\n"));
}

macro_rules! areas {
    ($($area:ident)+) => {
        const AREAS: &[&str] = &[$(stringify!($area)),+];
        $(#[test] fn $area() { conforms(stringify!($area)); })+
    };
}

areas! {
    build budgets channels check control dataflow durability each edges errors events gates history joins limits
    reducers retries routing secrets subgraphs supersteps trust upgrades
}

#[test]
fn every_file_is_run_and_every_case_has_a_name_of_its_own() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, AREAS.iter().map(|area| (*area).to_owned()).collect());
    let all: Vec<Case> = AREAS
        .iter()
        .flat_map(|area| cases(area, &fs::read_to_string(folder().join(format!("{area}.toml"))).unwrap()))
        .collect();
    let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.len() >= LEAST, "{} cases", all.len());
}

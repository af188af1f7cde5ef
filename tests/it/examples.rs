//! The recorded examples, and a real log directory of the earlier tool.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::World;

/// File, `runId_ts` and category of every incident in the examples, as their README lists them.
fn listed() -> BTreeSet<(String, String, String)> {
    let readme = fs::read_to_string(example("README.md")).unwrap();
    readme
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> =
                line.trim().trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            match cells.as_slice() {
                [file, turn, category, ..] if file.starts_with("2026") && turn.contains('_') => {
                    Some(((*file).to_owned(), (*turn).to_owned(), (*category).to_owned()))
                }
                _ => None,
            }
        })
        .collect()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/agent_logs").join(name)
}

#[test]
fn the_demo_finds_every_planted_incident_and_nothing_else() {
    let world = World::new();
    let first = world.run(["demo", "--dir", "demo"]).exits(0);
    assert!(first.stdout.contains("written to demo/reports"), "{}", first.stdout);
    let flags = world
        .run(["police", "--flags", "--dir", "demo", "--limit", "100", "--format", "json"])
        .exits(0)
        .json();
    let mut found = BTreeSet::new();
    for flag in flags["flags"].as_array().unwrap() {
        for item in flag["evidence"].as_array().unwrap() {
            let file = flag["source_file"].as_str().unwrap().to_owned();
            found.insert((
                file,
                item["turn"].as_str().unwrap().to_owned(),
                item["category"].as_str().unwrap().to_owned(),
            ));
        }
    }
    let listed = listed();
    assert!(listed.len() >= 5, "{listed:#?}");
    assert_eq!(found, listed);
    let second = world.run(["demo", "--dir", "demo"]).exits(0);
    assert!(second.stdout.contains("Nothing new"), "{}", second.stdout);
}

#[test]
fn the_examples_hold_nothing_of_the_machine_they_were_made_on() {
    for entry in fs::read_dir(example("")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for word in ["sentrix-test-token", "\"token\":", "publicKey", "signature", "/root/", "/work/"] {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
    }
}

/// The real log directory lies beside the repository where the project is developed and in its CI.
fn real_logs() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/real_logs");
    if dir.is_dir() {
        return Some(dir);
    }
    #[expect(clippy::disallowed_methods, reason = "whether this is CI is no setting of the program")]
    let ci = std::env::var_os("CI").is_some();
    assert!(!ci, "../shared/real_logs must lie beside the clone in CI");
    eprintln!("SKIPPED: ../shared/real_logs is not beside this clone");
    None
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::write(target, fs::read(&path).unwrap()).unwrap();
        }
    }
}

fn rows(store: &Path, table: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let store = rusqlite::Connection::open(store).unwrap();
    let mut statement = store.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_real_directory_of_the_earlier_tool_stays_readable_and_loses_nothing() {
    let Some(from) = real_logs() else { return };
    let world = World::new();
    copy(&from, &world.logs());
    let tables =
        [("patrol_state.db", "cleared"), ("police.db", "case_files"), ("police.db", "investigated_flags")];
    let before: Vec<_> = tables.iter().map(|(store, table)| rows(&from.join(store), table)).collect();
    let counts: Vec<usize> = before.iter().map(Vec::len).collect();
    assert_eq!(counts, [215, 24, 22]);

    let flags = world.sentrix("police --plogs --limit 1000 --format json").exits(0).json();
    assert_eq!((flags["flags"].as_array().unwrap().len(), &flags["unreadable_lines"]), (38, &json!(0)));
    let cases = world.sentrix("police --clogs --limit 1000 --format json").exits(0).json();
    assert_eq!(cases["cases"].as_array().unwrap().len(), 24);
    for case in cases["cases"].as_array().unwrap() {
        world.sentrix(&format!("police show {}", case["investigation_id"].as_str().unwrap())).exits(0);
    }
    for flag in flags["flags"].as_array().unwrap() {
        assert!(!flag["source_file"].as_str().unwrap().is_empty(), "both generations name their file");
    }

    // The rules raise no alarm on the agent's refusals.
    let report = world.patrol();
    assert_eq!(report["flags"], json!([]), "{report:#}");
    assert_eq!(report["unreadable_entries"], 0);
    let status = world.status();
    assert!(status["turns"]["seen"].as_u64().unwrap() >= 14);
    assert_eq!(status["reviewed"], status["turns"]["seen"]);
    for ((store, table), before) in tables.iter().zip(&before) {
        assert_eq!(&rows(&world.logs().join(store), table), before, "{table}");
    }
    let export = fs::read_to_string(world.logs().join("patrol_flags.jsonl")).unwrap();
    assert_eq!(export, fs::read_to_string(from.join("patrol_flags.jsonl")).unwrap());
}

#[test]
fn what_the_earlier_tool_cleared_under_the_same_versions_is_not_reviewed_again() {
    let Some(from) = real_logs() else { return };
    let world = World::new()
        .with_env("PATROL_RULESET_VERSION", "v1.0")
        .with_env("PATROL_MODEL_VERSION", "gpt-4o-mini");
    copy(&from, &world.logs());
    let report = world.patrol();
    let reviewed = report["sweeps"][0]["reviewed"].as_u64().unwrap();
    let status = world.status();
    let seen = status["turns"]["seen"].as_u64().unwrap();
    assert!(seen > 0 && reviewed < seen, "{report:#}\n{status:#}");
    assert_eq!(status["reviewed"], Value::from(seen));
}

#[test]
fn a_legacy_flag_without_its_log_is_investigated_honestly() {
    let Some(from) = real_logs() else { return };
    let world = World::new();
    copy(&from, &world.logs());
    let asked = world.sentrix("police investigate 1 --format json").exits(0).json();
    let caveats = asked["cases"][0]["caveats"].to_string();
    assert!(caveats.contains("Could not be read"), "{asked:#}");
    assert!(asked["cases"][0]["confidence"].as_f64().unwrap() <= 0.3, "{asked:#}");
}

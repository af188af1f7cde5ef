//! The example directory is what its README says.

use std::path::Path;

use super::*;

fn example() -> (Told, ReadStats, std::path::PathBuf) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples/agent_logs");
    let mut told = Told::default();
    let stats = read(&dir, &mut Vec::new(), &mut Assembler::new(), &mut told).unwrap();
    (told, stats, dir)
}

#[test]
fn every_entry_is_read_and_every_turn_loads() {
    let (told, stats, dir) = example();
    assert_eq!((stats.files, stats.rejected, stats.repaired, stats.unknown_events), (11, 0, 0, 0));
    assert_eq!(told.turns.values().filter(|turn| !turn.ended).count(), 0);
    let mut loader = Loader::new(&dir);
    for record in told.turns.values() {
        let turn = loader.load(record).unwrap();
        assert_eq!(turn.run_id_ts(), record.run_id_ts());
        if record.source_file.starts_with("20261123") {
            assert!(turn.session_key.is_some());
        }
    }
}

#[test]
fn the_incidents_of_the_readme_are_turns_of_their_files() {
    let (told, _, dir) = example();
    let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with("| `2026") && line.contains("_1795"))
        .map(|line| line.split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert_eq!(rows.len(), 10);
    for row in rows {
        let turns: Vec<&TurnRecord> = told.turns.values().filter(|turn| turn.run_id_ts() == row[2]).collect();
        assert_eq!(turns.len(), 1, "{row:?}");
        assert_eq!(turns[0].source_file, row[1]);
    }
}

#[test]
fn recorded_sessions_are_known_by_run() {
    let (told, _, _) = example();
    let sessions: std::collections::BTreeSet<Option<&str>> = told
        .turns
        .values()
        .filter(|turn| turn.source_file == "20261122T130955.json")
        .map(|turn| turn.session_key.as_deref())
        .collect();
    // The burst was recorded without the gateway.
    assert_eq!(
        sessions.into_iter().collect::<Vec<_>>(),
        [None, Some("agent:main:main"), Some("agent:main:subagent:2041f9d9-3646-4183-aec9-270f6c2a11aa")]
    );
    let aborted = told
        .turns
        .values()
        .find(|turn| turn.run_id_ts() == "4e5ed1f9-321e-4038-8750-100f73029f99_1795352218376");
    assert_eq!(aborted.map(|turn| turn.extents.wanted), Some((true, false)));
}

//! What must hold whatever order things come in: nothing is clean that was not reviewed as it is now.

use super::*;
use crate::case::PatrolFlag;
use crate::id::TurnId;
use crate::logs::{Assembler, Extents, Identity, LogsError, Sink, TurnRecord};

const STREAM: &str = "agent:main:main";

fn versions() -> Versions {
    Versions { ruleset: "r1".into(), model: "rules".into() }
}

fn turn(number: u8, digest: u64, session_key: Option<&str>) -> TurnRecord {
    TurnRecord {
        id: TurnId::from_bytes([number; 16]),
        run_id: format!("run-{number}"),
        ts: i64::from(number) * 100,
        source_file: "a.json".into(),
        at: 0,
        session_key: session_key.map(str::to_owned),
        agent_id: None,
        ended: true,
        text_bytes: 1,
        digest,
        extents: Extents::default(),
    }
}

fn pass(store: &PatrolStore, read: impl FnOnce(&mut Ingest<'_>) -> Result<(), LogsError>) {
    let answer: Result<(), StoreError> = store.ingest(&versions(), |ingest| {
        read(ingest).unwrap();
        Ok(((), Vec::new(), Assembler::default()))
    });
    answer.unwrap();
}

/// A store that has read turns 1 to 3 of one stream.
fn three_turns() -> PatrolStore {
    let store = PatrolStore::in_memory().unwrap();
    store.requeue_outdated(&versions()).unwrap();
    pass(&store, |ingest| (1..=3).try_for_each(|number| ingest.turn(turn(number, 1, Some(STREAM)))));
    store
}

/// A share of everything that is pending now.
fn share(store: &PatrolStore) -> Share {
    let streams = store.pending_streams(Due::All).unwrap();
    let pending = &streams.iter().find(|stream| stream.name == STREAM).unwrap();
    Share {
        stream: pending.row,
        from: pending.pending[0],
        to: *pending.pending.last().unwrap(),
        as_of: store.last_pass().unwrap(),
        due: Due::All,
    }
}

fn record(store: &PatrolStore, key: &str, reviewed: Share, pending: &[i64], flags: &[PatrolFlag]) -> String {
    let versions = versions();
    let sweep = SweepRecord {
        key,
        at: "2026-11-23T00:00:00Z".into(),
        at_ms: 1_000_000,
        versions: &versions,
        reviewed: vec![reviewed],
        pending: pending
            .iter()
            .map(|row| Held { row: *row, reason: "away".to_owned(), waits: false })
            .collect(),
        flagged: Vec::new(),
        flags,
        pheromones: [(STREAM.to_owned(), 0.4)].into(),
        max_attempts: 2,
        summary: &|unreviewed| format!("{key}: {unreviewed} unreviewed"),
    };
    store.record_sweep(&sweep).unwrap()
}

fn pending(store: &PatrolStore) -> Vec<i64> {
    store.pending_streams(Due::All).unwrap().into_iter().flat_map(|stream| stream.pending).collect()
}

fn flag(id: &str, stream: &str) -> PatrolFlag {
    serde_json::from_value(serde_json::json!({ "flag_id": id, "run_id_ts": "run-1_100", "stream": stream,
        "consensus_severity": "HIGH", "consensus_confidence": 0.9 }))
    .unwrap()
}

#[test]
fn a_sweep_clears_what_it_scanned() {
    let store = three_turns();
    let scanned = share(&store);
    assert_eq!(store.pending_turns(&scanned).unwrap().len(), 3);
    record(&store, "a", scanned, &[], &[]);
    let counts = store.counts().unwrap();
    assert_eq!((counts.seen, counts.clean, counts.pending), (3, 3, 0));
}

#[test]
fn a_turn_that_grew_after_the_scan_stays_pending() {
    let store = three_turns();
    let scanned = share(&store);
    pass(&store, |ingest| ingest.turn(turn(2, 2, Some(STREAM))));
    record(&store, "a", scanned, &[], &[]);
    assert_eq!(pending(&store), [2]);
    assert_eq!(store.pending_turns(&scanned).unwrap().len(), 0, "and is no part of that share any more");
}

#[test]
fn a_turn_that_was_moved_into_a_scanned_range_stays_pending() {
    let store = PatrolStore::in_memory().unwrap();
    store.requeue_outdated(&versions()).unwrap();
    pass(&store, |ingest| {
        ingest.turn(turn(1, 1, Some(STREAM)))?;
        ingest.turn(turn(2, 1, None))?;
        ingest.turn(turn(3, 1, Some(STREAM)))
    });
    let scanned = share(&store);
    assert_eq!(store.pending_turns(&scanned).unwrap().len(), 2);
    pass(&store, |ingest| {
        ingest.identity(Identity { run_id: "run-2", session_key: Some(STREAM), agent_id: Some("main") })
    });
    record(&store, "a", scanned, &[], &[]);
    assert_eq!(pending(&store), [2]);
    let moved = store.turn(2).unwrap().unwrap().record;
    assert_eq!((moved.stream().0.as_str(), moved.agent_id.as_deref()), (STREAM, Some("main")));
}

#[test]
fn an_agent_that_becomes_known_alone_is_noted() {
    let store = PatrolStore::in_memory().unwrap();
    pass(&store, |ingest| ingest.turn(turn(1, 1, None)));
    pass(&store, |ingest| {
        ingest.identity(Identity { run_id: "run-1", session_key: None, agent_id: Some("main") })
    });
    let noted = store.turn(1).unwrap().unwrap().record;
    assert_eq!((noted.session_key, noted.agent_id.as_deref()), (None, Some("main")));
}

#[test]
fn a_scan_from_before_a_change_of_rules_clears_nothing_after_it() {
    let store = three_turns();
    let scanned = share(&store);
    let other = Versions { ruleset: "r2".into(), model: "rules".into() };
    assert!(store.is_outdated(&other).unwrap());
    store.requeue_outdated(&other).unwrap();
    store.requeue_outdated(&versions()).unwrap();
    record(&store, "a", scanned, &[], &[]);
    assert_eq!(pending(&store), [1, 2, 3]);
}

#[test]
fn what_could_not_be_reviewed_is_tried_again_and_given_up_in_the_end() {
    let store = three_turns();
    record(&store, "a", share(&store), &[2], &[]);
    assert_eq!(pending(&store), [2]);
    assert_eq!(store.open_reasons().unwrap(), [("away".to_owned(), 1)].into());
    assert_eq!(record(&store, "b", share(&store), &[2], &[]), "b: 1 unreviewed");
    let counts = store.counts().unwrap();
    assert_eq!((counts.clean, counts.pending, counts.unreviewed), (2, 0, 1));
    assert_eq!(store.retry_unreviewed().unwrap(), 1);
    assert_eq!(pending(&store), [2]);
}

#[test]
fn after_a_failed_review_a_turn_waits_longer_each_time() {
    let store = three_turns();
    record(&store, "a", share(&store), &[2], &[]);
    let due = |millis: i64| store.has_pending(Due::At(1_000_000 + millis)).unwrap();
    assert_eq!((due(59_999), due(60_000)), (false, true));
    // A watch that goes on with other turns of the stream leaves it alone, and does not pass it off as clean.
    pass(&store, |ingest| {
        [1, 3].into_iter().try_for_each(|number| ingest.turn(turn(number, 2, Some(STREAM))))
    });
    let now = Due::At(1_000_001);
    assert_eq!(store.pending_streams(now).unwrap()[0].pending, [1, 3]);
    let watched = Share { due: now, ..share(&store) };
    assert_eq!(store.pending_turns(&watched).unwrap().len(), 2);
    record(&store, "b", watched, &[], &[]);
    assert_eq!(pending(&store), [2]);
    // Whoever changes it, or asks for it, gets it at once.
    pass(&store, |ingest| ingest.turn(turn(2, 2, Some(STREAM))));
    assert!(due(0));
}

#[test]
fn a_sweep_is_written_once() {
    let store = three_turns();
    let scanned = share(&store);
    let first = record(&store, "a", scanned, &[1], &[flag("f", STREAM)]);
    assert_eq!(record(&store, "a", scanned, &[], &[flag("g", STREAM)]), first);
    assert_eq!(pending(&store), [1]);
    assert_eq!((store.flags(None).unwrap().len(), store.sweeps().unwrap()), (1, 1));
}

#[test]
fn pheromones_decay_from_sweep_to_sweep() {
    let store = three_turns();
    record(&store, "a", share(&store), &[1], &[]);
    let level = |store: &PatrolStore| store.pending_streams(Due::All).unwrap()[0].pheromone;
    assert!((level(&store) - 0.4).abs() < 1e-9);
    record(&store, "b", share(&store), &[], &[]);
    pass(&store, |ingest| ingest.turn(turn(1, 5, Some(STREAM))));
    assert!((level(&store) - (0.4 * 0.85 + 0.4)).abs() < 1e-9);
}

#[test]
fn a_reading_state_that_cannot_be_read_is_no_state_at_all() {
    let store = three_turns();
    let state: serde_json::Value = serde_json::json!({ "files": [] });
    store.set_meta("assembler", &state.to_string()).unwrap();
    let (files, assembler) = store.reading().unwrap();
    assert!(files.is_empty());
    assert_eq!(
        serde_json::to_string(&assembler).unwrap(),
        serde_json::to_string(&Assembler::default()).unwrap()
    );
    // The logs from the start again: the same turns, reviewed as they were.
    record(&store, "a", share(&store), &[], &[]);
    pass(&store, |ingest| (1..=3).try_for_each(|number| ingest.turn(turn(number, 1, Some(STREAM)))));
    assert_eq!(store.counts().unwrap().clean, 3);
}

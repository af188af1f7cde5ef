//! The queue: who comes next, who is given up, and what a newer flag changes.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn escalated(flag_id: &str, severity: Severity, revision: i64) -> Escalated {
    Escalated { flag_id: flag_id.into(), severity, revision }
}

fn store(flags: &[Escalated]) -> PoliceStore {
    let store = PoliceStore::in_memory().unwrap();
    assert_eq!(store.enqueue(flags, "first", at(0)).unwrap(), flags.len() as u64);
    store
}

fn lease(store: &PoliceStore, seconds: i64) -> Option<QueueItem> {
    store.lease(None, at(seconds), HOUR).unwrap()
}

fn case(flag_id: &str) -> CaseFile {
    serde_json::from_value(serde_json::json!({ "crime_classification": "pii_leak", "severity_score": "LOW",
        "confidence": 0.5, "case_facts": "", "relevant_log_ids": [], "verdict_summary": "",
        "investigation_id": format!("case-{flag_id}"), "flag_id": flag_id, "concluded_at": "2026-11-23T00:00:00Z" }))
    .unwrap()
}

#[test]
fn the_worst_comes_first_and_then_the_oldest() {
    let store = store(&[escalated("low", Severity::Low, 1), escalated("b", Severity::High, 1)]);
    store.enqueue(&[escalated("a", Severity::High, 1)], "second", at(5)).unwrap();
    let order: Vec<String> = std::iter::from_fn(|| lease(&store, 10)).map(|item| item.flag_id).collect();
    assert_eq!(order, ["b", "a", "low"]);
}

#[test]
fn a_lease_ends_with_its_time_or_its_holder_and_the_run_is_kept() {
    let store = store(&[escalated("f", Severity::High, 1)]);
    let run = RunId::fresh();
    assert_eq!(lease(&store, 0).unwrap().run_id, None);
    store.bind_run("f", run).unwrap();
    assert_eq!(lease(&store, 10), None);
    assert_eq!(lease(&store, 3_601).unwrap().run_id, Some(run));
    store.release_dead_leases().unwrap();
    let again = lease(&store, 3_602).unwrap();
    assert_eq!((again.run_id, again.attempts), (Some(run), 3));
}

#[test]
fn the_last_attempt_makes_a_dead_letter_and_a_person_brings_it_back() {
    let store = store(&[escalated("f", Severity::High, 1)]);
    for attempt in 1..=MAX_ATTEMPTS {
        let now = i64::from(attempt) * 10;
        assert_eq!(lease(&store, now).unwrap().attempts, attempt);
        store.fail("f", "away", at(now), Duration::from_secs(5), true).unwrap();
        assert_eq!(lease(&store, now + 4), None, "it waits before the next attempt");
    }
    assert_eq!(lease(&store, 10_000), None);
    let dead = DeadLetter { flag_id: "f".into(), attempts: MAX_ATTEMPTS, last_error: "away".into() };
    assert_eq!(store.dead_letters().unwrap(), [dead]);
    store.requeue("f", Severity::High, 1, at(0)).unwrap();
    assert_eq!(lease(&store, 1).unwrap().attempts, 1);
}

#[test]
fn a_flag_that_has_changed_is_investigated_anew_and_only_then() {
    let store = store(&[escalated("f", Severity::Low, 2)]);
    lease(&store, 0).unwrap();
    store.bind_run("f", RunId::fresh()).unwrap();
    assert!(!store.is_concluded("f").unwrap());
    store.conclude(&case("f")).unwrap();
    assert!(store.is_concluded("f").unwrap());
    assert_eq!(store.enqueue(&[escalated("f", Severity::Low, 2)], "again", at(1)).unwrap(), 0);
    // 1 is what a flag has that came back out of its export after the patrol's store was lost.
    for revision in [3, 1] {
        assert_eq!(store.enqueue(&[escalated("f", Severity::High, revision)], "grown", at(2)).unwrap(), 1);
        let item = lease(&store, 3).unwrap();
        assert_eq!((item.revision, item.attempts, item.run_id), (revision, 1, None));
        assert!(!store.is_concluded("f").unwrap(), "the case there is was an earlier one's");
        store.conclude(&case("f")).unwrap();
    }
    assert_eq!(store.case_count().unwrap(), 1);
}

#[test]
fn a_run_goes_on_only_for_the_flag_it_investigates() {
    let store = store(&[escalated("f", Severity::Low, 1)]);
    let run = RunId::fresh();
    lease(&store, 0).unwrap();
    store.bind_run("f", run).unwrap();
    store.requeue("f", Severity::Low, 1, at(1)).unwrap();
    assert_eq!(lease(&store, 2).unwrap().run_id, Some(run));
    store.requeue("f", Severity::High, 2, at(3)).unwrap();
    assert_eq!(lease(&store, 4).unwrap().run_id, None);
    store.conclude(&case("f")).unwrap();
    assert_eq!(store.enqueue(&[escalated("f", Severity::High, 2)], "mark", at(5)).unwrap(), 0);
}

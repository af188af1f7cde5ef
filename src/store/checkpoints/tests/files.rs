//! Files of earlier programs.

use super::*;
use crate::store::sqlite::Migration;

/// The schema of the first program that kept checkpoints.
const FIRST: &[Migration] = MIGRATIONS.split_at(1).0;

/// Rows as that program wrote them: a run that was done, and one that was killed at its third superstep.
const OLD_ROWS: &str = r#"
    INSERT INTO definitions VALUES (1, 'abc', 'old', 3, 'the text', '{"a.system":"be kind"}');
    INSERT INTO runs VALUES
        (1, '0192f0c1-0000-7000-8000-000000000001', 1, '{"n":1}', 'power', 'done', NULL, 1000, 2000,
            NULL, 'host/boot/ns', 77, 5, 9000),
        (2, '0192f0c1-0000-7000-8000-000000000002', 1, '{}', 'crash', 'running', NULL, 1500, 1500,
            '0192f0c1-0000-7000-8000-0000000000aa', 'host/boot/ns', 77, 5, 9000);
    INSERT INTO entries VALUES
        (4294967296, 0, 0, 'a', NULL, 1100, '{"w":[["n",2]],"next":[]}'),
        (8589934592, 0, 0, 'a', NULL, 1600, '{"w":[],"next":["b"]}'),
        (8589934593, 1, 1, 'b', 0, 1700, '{"w":[["x",1]]}'),
        (8589934594, 1, 1, 'b', 1, 1701, '{"w":[["x",2]]}'),
        (8589934595, 0, 1, NULL, NULL, 1702, '{"next":["c"]}');
    INSERT INTO snapshots VALUES (2, 1, '{"step":1}');
"#;

fn old(world: &World) -> [RunId; 2] {
    sqlite::open(&world.path(), FIRST).unwrap().execute_batch(OLD_ROWS).unwrap();
    [1, 2].map(|n| format!("0192f0c1-0000-7000-8000-00000000000{n}").parse().unwrap())
}

#[tokio::test]
async fn a_file_of_the_first_program_is_read_and_gone_on_with() {
    let world = World::new();
    let [done, killed] = old(&world);
    let store = world.store();
    let record = store.load(done).await.unwrap();
    let summary = RunSummary {
        run: done,
        graph: "old".to_owned(),
        version: 3,
        hash: "abc".to_owned(),
        status: RunStatus::Done,
        live: false,
        error: None,
        steps: 1,
        created_ms: 1000,
        updated_ms: 2000,
        parent: None,
        forked_from: None,
        held: None,
    };
    assert_eq!(record.summary, summary);
    assert_eq!(
        (&*record.definition.source, record.definition.prompts["a.system"].as_str()),
        ("the text", "be kind")
    );
    assert_eq!(
        (record.input["n"].clone(), record.durability, record.seal),
        (json!(1), Durability::Power, None)
    );

    let record = store.load(killed).await.unwrap();
    assert_eq!(record.snapshot, Some(Snapshot { seq: 1, body: r#"{"step":1}"#.to_owned(), chain: [0; 32] }));
    assert_eq!(
        (record.summary.status, record.summary.steps, record.summary.updated_ms),
        (RunStatus::Running, 2, 1702)
    );
    let task = |item, at_ms, body: &str| Entry {
        kind: EntryKind::Task,
        step: 1,
        node: Some("b".into()),
        item: Some(item),
        at_ms,
        body: body.to_owned(),
        hash: [0; 32],
    };
    let end = Entry { kind: EntryKind::Step, node: None, item: None, ..task(0, 1702, r#"{"next":["c"]}"#) };
    let entries = [task(0, 1700, r#"{"w":[["x",1]]}"#), task(1, 1701, r#"{"w":[["x",2]]}"#), end];
    let read: Vec<Entry> = record.entries.into_iter().map(|stored| stored.entry).collect();
    assert_eq!(read, entries);
    let history = store.history(killed).await.unwrap();
    assert_eq!((history.first_seq, history.base, seqs(&history.entries)), (0, None, vec![0, 1, 2, 3]));
    assert_eq!(store.list(RunFilter { limit: Some(9), ..RunFilter::default() }).await.unwrap().len(), 2);
    assert_eq!(store.definition(killed, "abc").await.unwrap(), record.definition);
    assert_eq!(
        (store.answers(killed).await.unwrap(), store.effects(killed).await.unwrap()),
        (vec![], vec![])
    );

    let claim = Claim::new(killed);
    store.claim(&claim).await.unwrap();
    store.append(&claim, batch(4, vec![step(2)])).await.unwrap();
    assert_eq!(store.history(killed).await.unwrap().entries[4].entry, step(2));
    claim.end();
    store.release(&claim);
    store.prune(killed, Prune::Before(snapshot(4))).await.unwrap();
    assert_eq!(store.load(killed).await.unwrap().snapshot, Some(snapshot(4)));
    store.prune(killed, Prune::Whole).await.unwrap();
    store.prune(done, Prune::Whole).await.unwrap();
    assert_eq!(store.list(RunFilter::default()).await.unwrap(), []);
}

#[tokio::test]
async fn a_program_that_had_the_file_open_goes_on_writing() {
    let world = World::new();
    let [_, killed] = old(&world);
    let before = sqlite::open(&world.path(), FIRST).unwrap();
    let old_insert =
        "INSERT INTO entries (id, kind, step, node, item, at_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let mut insert = before.prepare(old_insert).unwrap();
    let store = world.store();
    insert.execute(rusqlite::params![8_589_934_596_i64, 0, 2, "c", None::<u32>, 1800, "{}"]).unwrap();
    let last = store.history(killed).await.unwrap().entries.pop().unwrap();
    assert_eq!((last.seq, last.entry.step, last.entry.hash), (4, 2, [0; 32]));
}

#[tokio::test]
async fn what_no_program_wrote_is_told_and_not_guessed() {
    let world = World::new();
    let [done, killed] = old(&world);
    let store = world.store();
    world.raw().execute("UPDATE entries SET kind = 99 WHERE id = 8589934595", []).unwrap();
    let fault = store.load(killed).await.unwrap_err();
    assert!(matches!(&fault.kind, CheckpointErrorKind::Unreadable(what) if what.contains("`99`")), "{fault}");
    store.load(done).await.unwrap();
    world.raw().execute("UPDATE runs SET status = 'odd'", []).unwrap();
    let fault = store.load(done).await.unwrap_err();
    assert!(
        matches!(&fault.kind, CheckpointErrorKind::Unreadable(what) if what.contains("`odd`")),
        "{fault}"
    );
}

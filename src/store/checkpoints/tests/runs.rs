//! The engine and this store together.

use super::*;
use crate::engine::{Outcome, RunControl, RunOptions};

#[tokio::test]
async fn a_run_is_read_back_as_it_was_written() {
    let world = World::new();
    let options = RunOptions {
        prompt_texts: Arc::new([("a.system".to_owned(), "be kind".to_owned())].into()),
        ..RunOptions::default()
    };
    for durability in [Durability::Power, Durability::Crash, Durability::Exit] {
        let store = world.store();
        let engine = engine(&store, 3);
        let given: Map<_, _> = [("n".to_owned(), json!(1))].into_iter().collect();
        let done = engine.run(counter(4, durability), given.clone(), options.clone()).await.unwrap();
        drop((engine, store));
        let store = world.store();
        let record = store.load(done.run).await.unwrap();
        let definition = Definition::of(&counter(4, durability), Arc::clone(&options.prompt_texts));
        assert_eq!(record.definition, definition);
        assert_eq!((record.input, record.durability), (given, durability));
        assert_eq!((record.summary.status, record.summary.steps), (RunStatus::Done, 3));
        assert_eq!(record.entries.len(), 3);
        assert_eq!(record.entries[0].entry.body, r#"{"w":[["n",2],["log","xxx"]],"next":["count"]}"#);
        assert_eq!(store.history(done.run).await.unwrap().entries, record.entries);
        let engine = engine_of(&store);
        let again = engine.resume(done.run, |_| Ok(counter(4, durability)), RunOptions::default());
        assert_eq!(again.await.unwrap(), done);
    }
    let runs = world.store().list(RunFilter { limit: Some(2), ..RunFilter::default() }).await.unwrap();
    assert_eq!(runs.len(), 2);
    assert!(runs[0].created_ms >= runs[1].created_ms && runs.iter().all(|run| !run.live));
    let none = RunFilter { graph: Some("other".to_owned()), ..RunFilter::default() };
    assert_eq!(world.store().list(none).await.unwrap(), []);
}

#[tokio::test]
async fn a_run_that_is_given_up_is_free_at_once_and_goes_on_where_it_was() {
    let world = World::new();
    let store = world.store();
    let mut stuck = registry(1);
    stuck.task("demo.count", "counts to 3 and waits for ever", |_: Ctx, input: In| async move {
        if input.n == 3 {
            std::future::pending::<()>().await;
        }
        Ok(Out { n: input.n + 1, log: String::new() })
    });
    let stuck = Engine::builder().registry(stuck).checkpointer(Arc::clone(&store) as _).build();
    let run = RunId::fresh();
    let options = RunOptions { run_id: Some(run), ..RunOptions::default() };
    let graph = counter(6, Durability::Crash);
    let work = stuck.run(Arc::clone(&graph), Map::new(), options);
    tokio::time::timeout(Duration::from_millis(100), work).await.unwrap_err();
    let done = engine_of(&store).resume(run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!((done.status, done.steps, &done.state["n"]), (Outcome::Done, 6, &json!(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_of_many_stores_on_one_file_never_meet_a_lock() {
    const STORES: usize = 4;
    const RUNS: usize = 8;
    const STEPS: u32 = 25;
    let world = World::new();
    let mut work = tokio::task::JoinSet::new();
    for store in (0..STORES).map(|_| world.store()) {
        let engine = engine(&store, 10);
        for _ in 0..RUNS {
            let engine = engine.clone();
            work.spawn(async move {
                engine.run(counter(STEPS, Durability::Crash), Map::new(), RunOptions::default()).await
            });
        }
    }
    while let Some(done) = work.join_next().await {
        assert_eq!(done.unwrap().unwrap().steps, STEPS);
    }
    let runs = world.store().list(RunFilter::default()).await.unwrap();
    assert_eq!(runs.len(), STORES * RUNS);
    assert!(runs.iter().all(|run| run.status == RunStatus::Done && run.steps == STEPS && !run.live));
}

#[tokio::test]
async fn a_full_disk_fails_the_run_clearly_and_the_store_goes_on() {
    let world = World::new();
    let small = world.raw();
    small.execute_batch("CREATE TABLE ballast (x)").unwrap();
    small.execute("INSERT INTO ballast VALUES (zeroblob(1000000))", []).unwrap();
    let pages: i64 = small.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    small.query_row(&format!("PRAGMA max_page_count = {}", pages + 20), [], |_| Ok(())).unwrap();
    let store = Arc::new(SqliteCheckpointer::start(&world.path(), small, clock::system()).unwrap());
    let engine = engine(&store, 2_000);
    let graph = counter(100, Durability::Crash);
    let error = engine.run(Arc::clone(&graph), Map::new(), RunOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("checkpoint not written: database or disk is full"), "{error}");
    let stored = store.load(error.run).await.unwrap().summary;
    assert!(stored.steps > 0 && stored.steps < 100 && !stored.live);
    world.raw().execute("DELETE FROM ballast", []).unwrap();
    let done = engine.resume(error.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!((done.steps, done.state["log"].as_array().unwrap().len()), (100, 100));
}

#[tokio::test]
async fn a_fan_out_stores_each_result_once() {
    #[derive(Deserialize, JsonSchema)]
    struct Item {
        x: u64,
    }
    #[derive(Serialize, JsonSchema)]
    struct Square {
        out: String,
    }
    let world = World::new();
    let store = world.store();
    let mut registry = Registry::new();
    registry.task("demo.item", "marks", |_: Ctx, item: Item| async move {
        Ok(Square { out: format!("mark-{}-", item.x).repeat(20) })
    });
    let graph = GraphBuilder::new("marks")
        .input("list", "int[]")
        .channel("out", "string[]", Reducer::Append)
        .node(NodeBuilder::task("item", "demo.item").each("list", "x", 3).writes(["out"]))
        .build()
        .unwrap();
    let graph = Arc::new(graph);
    let engine = Engine::builder().registry(registry).checkpointer(Arc::clone(&store) as _).build();
    let list: Vec<u64> = (0..200).collect();
    let given: Map<_, _> = [("list".to_owned(), json!(list))].into_iter().collect();
    let done = engine.run(graph, given, RunOptions::default()).await.unwrap();
    assert_eq!(done.state["out"].as_array().unwrap().len(), 200);
    let stored = store.history(done.run).await.unwrap().entries;
    let tasks = stored.iter().filter(|stored| stored.entry.kind == EntryKind::Task).count();
    assert_eq!((tasks, stored.len()), (200, 201));
    let whole: String = stored.iter().map(|stored| stored.entry.body.as_str()).collect();
    assert_eq!(whole.matches("mark-199-").count(), 20, "stored once");
}

#[tokio::test]
async fn growth_is_linear_and_a_resume_reads_little() {
    let world = World::new();
    let store = world.store();
    let control = RunControl::new();
    let stop = control.clone();
    let mut registry = Registry::new();
    registry.task("demo.count", "counts, and drains at 400", move |_: Ctx, input: In| {
        if input.n == 399 {
            stop.drain();
        }
        async move { Ok(Out { n: input.n + 1, log: "x".repeat(1000) }) }
    });
    let engine = Engine::builder().registry(registry).checkpointer(Arc::clone(&store) as _).build();
    let graph = counter(1_000, Durability::Crash);
    let options = RunOptions { control, ..RunOptions::default() };
    let part = engine.run(Arc::clone(&graph), Map::new(), options).await.unwrap();
    assert!(matches!(part.status, Outcome::Interrupted(_)));
    let record = store.load(part.run).await.unwrap();
    let payload = 400 * 1000;
    let read = record.snapshot.map_or(0, |snapshot| snapshot.body.len())
        + record.entries.iter().map(|stored| stored.entry.body.len()).sum::<usize>();
    assert!(read < payload + payload / 5, "{read}");
    drop((engine, store));
    let size = std::fs::metadata(world.path()).unwrap().len();
    assert!(size < 3 * payload as u64, "{size}");
    let store = world.store();
    let engine = engine_of(&store);
    let done = engine.resume(part.run, |_| Ok(counter(420, Durability::Crash)), RunOptions::default());
    let done = done.await.unwrap();
    assert_eq!((done.steps, done.state["log"].as_array().unwrap().len()), (420, 420));
}

#[tokio::test]
async fn what_is_no_run_is_told_clearly() {
    let world = World::new();
    let store = world.store();
    let fault = store.load(RunId::fresh()).await.unwrap_err();
    assert_eq!(fault.kind, CheckpointErrorKind::NotFound);
    assert!(
        SqliteCheckpointer::open(std::path::Path::new("/dev/null/checkpoints.db"), clock::system()).is_err()
    );
}

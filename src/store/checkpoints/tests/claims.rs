//! Who may write a run's log.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::engine::RunOptions;

#[tokio::test]
async fn a_claim_holds_while_its_process_lives_and_not_longer() {
    let world = World::new();
    let clock = Arc::new(TestClock::at_millis(1_000_000));
    let store = Arc::new(SqliteCheckpointer::open(&world.path(), Arc::clone(&clock) as _).unwrap());
    let other = world.store();
    let run = RunId::fresh();
    let graph = counter(3, Durability::Crash);
    let claim = Claim::new(run);
    let new =
        NewRun { definition: Definition::of(&graph, Arc::default()), input: Map::new(), ..new_run(run) };
    store.create(&claim, new.clone()).await.unwrap();
    let second = Claim::new(run);
    let fault = store.create(&second, new).await.unwrap_err();
    assert_eq!(fault.kind, CheckpointErrorKind::Exists);
    for store in [&store, &other] {
        let fault = store.claim(&second).await.unwrap_err();
        assert!(
            matches!(&fault.kind, CheckpointErrorKind::Held(by) if by.starts_with("process ")),
            "{fault}"
        );
        assert!(store.load(run).await.unwrap().summary.live);
    }
    let nobody = Claim::new(RunId::fresh());
    assert_eq!(other.claim(&nobody).await.unwrap_err().kind, CheckpointErrorKind::NotFound);

    // A process of this machine that is gone: free at once, also within its lease.
    let gone = "UPDATE runs SET owner_pid = 4000000, owner_start = 1, lease_until_ms = 9000000000000";
    world.raw().execute(gone, []).unwrap();
    assert!(!other.load(run).await.unwrap().summary.live);
    let abandoned = RunFilter { abandoned: true, ..RunFilter::default() };
    assert_eq!(other.list(abandoned.clone()).await.unwrap().len(), 1);
    // Another machine's process cannot be looked up: the lease decides.
    world.raw().execute("UPDATE runs SET owner_host = 'far/boot/ns', lease_until_ms = 1000500", []).unwrap();
    let fault = store.claim(&second).await.unwrap_err();
    assert!(fault.to_string().contains("process 4000000 on far"), "{fault}");
    clock.advance(Duration::from_secs(1));
    store.claim(&second).await.unwrap();
    assert_eq!(other.list(abandoned).await.unwrap(), []);
    second.end();
    store.release(&second);
    claim.end();
    let done = engine_of(&other).resume(run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(done.steps, 3);
}

#[tokio::test]
async fn a_run_that_was_taken_over_can_store_nothing_more() {
    let world = World::new();
    let store = world.store();
    let graph = counter(3, Durability::Crash);
    let claim = Claim::new(RunId::fresh());
    let new = NewRun {
        definition: Definition::of(&graph, Arc::default()),
        input: Map::new(),
        ..new_run(claim.run)
    };
    store.create(&claim, new).await.unwrap();
    // As if this process had slept past its lease: somebody else takes the run and finishes it.
    claim.end();
    let done =
        engine_of(&world.store()).resume(claim.run, |_| Ok(graph), RunOptions::default()).await.unwrap();
    assert_eq!(done.steps, 3);
    let entry = store.history(claim.run).await.unwrap().entries.remove(0).entry;
    for batch in [batch(0, vec![entry]), batch(3, vec![step(3)]), finish(0, RunStatus::Failed)] {
        let fault = store.append(&claim, batch).await.unwrap_err();
        assert_eq!(fault.kind, CheckpointErrorKind::Lost);
    }
    assert_eq!(store.load(claim.run).await.unwrap().summary.status, RunStatus::Done);
    assert_eq!(store.history(claim.run).await.unwrap().entries.len(), 3);
}

/// What another process says begins with this; the rest is the test program's own.
const SAYS: &str = "other process: ";

/// Set in the other process.
const OTHER: &str = "SENTRIX_TEST_OTHER_PROCESS";

/// What the other process of the test below does; nothing anywhere else. It is told a file and a run on its input.
#[tokio::test]
async fn the_other_process() {
    #[expect(clippy::disallowed_methods, reason = "how the parent tells its child apart")]
    if std::env::var(OTHER).is_err() {
        return;
    }
    let mut told = std::io::stdin().lines();
    let (Some(Ok(path)), Some(Ok(run))) = (told.next(), told.next()) else { return };
    let store = SqliteCheckpointer::open(path.as_ref(), clock::system()).unwrap();
    let run = run.parse().unwrap();
    let say = |text: &str| println!("{SAYS}{text}");
    for command in told.map_while(Result::ok) {
        let claim = Claim::new(run);
        let result = match &*command {
            "claim" => store.claim(&claim).await,
            _ => store.prune(run, Prune::Whole).await,
        };
        match result {
            Ok(()) => say("done"),
            Err(fault) => say(&fault.to_string()),
        }
    }
}

struct Other {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(world: &World, run: RunId) -> Self {
        let name = concat!(module_path!(), "::the_other_process").split_once("::").unwrap().1;
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(OTHER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut other = Self { process, said };
        other.tell(&format!("{}\n{run}", world.path().display()));
        other
    }

    fn tell(&mut self, text: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{text}").unwrap();
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        let lines = self.said.by_ref().map(Result::unwrap);
        let mut found = lines.filter_map(|line| line.split_once(SAYS).map(|(_, text)| text.to_owned()));
        found.next().unwrap()
    }
}

#[tokio::test]
async fn a_claim_is_seen_by_other_processes_until_its_holder_is_killed() {
    let world = World::new();
    let store = world.store();
    let claim = Claim::new(RunId::fresh());
    store.create(&claim, new_run(claim.run)).await.unwrap();
    store.append(&claim, batch(0, vec![step(0)])).await.unwrap();
    let mut other = Other::start(&world, claim.run);
    let this = format!("the run is held by process {}", std::process::id());
    assert_eq!((other.ask("claim"), other.ask("prune")), (this.clone(), this));
    claim.end();
    store.release(&claim);
    store.hold(claim.run, None).await.unwrap();
    assert_eq!(other.ask("claim"), "done");
    let mine = Claim::new(claim.run);
    let held = CheckpointErrorKind::Held(format!("process {}", other.process.id()));
    assert_eq!(store.claim(&mine).await.unwrap_err().kind, held);
    for what in [Prune::Whole, Prune::Before(snapshot(1))] {
        assert_eq!(store.prune(claim.run, what).await.unwrap_err().kind, held);
    }
    assert!(store.load(claim.run).await.unwrap().summary.live);
    // Killed, and not yet collected.
    other.process.kill().unwrap();
    let mut waited = 0;
    while store.claim(&mine).await.is_err() && waited < 500 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        waited += 1;
    }
    store.append(&mine, batch(1, vec![step(1)])).await.unwrap();
    assert_eq!(store.load(claim.run).await.unwrap().summary.steps, 2);
    other.process.wait().unwrap();
}

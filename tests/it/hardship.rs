//! Bad settings, damaged files, folders that are none: each is said clearly, and nothing passes for clean.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::model_server::{ModelServer, Reply};
use crate::world::{World, end, files_below, token};

fn three_turns(world: &World) {
    let turns = [end("run-a", 1_000, "hello"), end("run-b", 2_000, "more"), end("run-c", 3_000, "bye")];
    world.log("20261122T100000.json", &turns);
}

#[test]
fn a_model_that_cannot_be_asked_clears_nothing() {
    for url in ["nonsense", "http://", "ftp://example.org", "http://127.0.0.1:99999/v1"] {
        let world = World::new().with_env("OPENAI_API_KEY", "sk-test-key").with_env("OPENAI_BASE_URL", url);
        three_turns(&world);
        for line in ["patrol --once", "patrol --watch", "police resume", "graph run patrol"] {
            let ran = world.sentrix(line).exits(2);
            assert!(ran.stderr.contains("base URL of OpenAI"), "{line}: {}", ran.stderr);
        }
        assert_eq!(world.status()["turns"]["seen"], 0);
        world.run(["graph", "check"]).exits(0);
    }
}

#[test]
fn a_role_without_a_model_leaves_turns_pending() {
    let server = ModelServer::answering(|_| Reply::Answer(json!({ "incidents": [] })));
    let world = World::new().with_env("OPENAI_API_KEY", "sk-k").with_env("OPENAI_BASE_URL", &server.url());
    world.run(["graph", "eject", "."]).exits(0);
    let file = world.root().join("graphs/patrol.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("role = \"patrol\"", "role = \"nobody\"")).unwrap();
    three_turns(&world);
    world.sentrix("patrol --once").exits(3);
    let status = world.status();
    assert_eq!((&status["turns"]["clean"], &status["turns"]["pending"]), (&json!(0), &json!(3)));
    assert!(status["not_reviewed"].to_string().contains("`nobody`"), "{status:#}");
}

#[test]
fn a_secret_in_a_models_answer_is_masked_in_every_file() {
    let secret = token(11);
    let said = secret.clone();
    let server = ModelServer::answering(move |request| {
        if request.system().starts_with("You are the police investigator") {
            return Reply::Answer(json!({ "more": false, "draft": {
                "crime_classification": "secret_hardcoding", "severity_score": "HIGH", "confidence": 0.8,
                "case_facts": format!("it said {said}"), "relevant_log_ids": ["run-b_2000"], "quotes": [],
                "verdict_summary": format!("\u{1b}[2J \"{said}\" was said"), "recommended_actions": [] } }));
        }
        Reply::Answer(json!({ "incidents": [] }))
    });
    let world = World::new().with_env("OPENAI_API_KEY", "sk-k").with_env("OPENAI_BASE_URL", &server.url());
    world.log("20261122T100000.json", &[end("run-b", 2_000, &format!("the token is {}", token(12)))]);
    let report = world.patrol();
    assert_eq!(report["cases"][0]["decided_by"], "gpt-6-sol", "{report:#}");
    for (path, bytes) in files_below(&world.logs()) {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

#[test]
fn an_endless_line_in_a_graph_file_is_a_fault_like_others() {
    let world = World::new();
    fs::write(world.root().join("deep.toml"), format!("a = {}\n", "[".repeat(100_000))).unwrap();
    let ran = world.run(["graph", "check", "deep.toml"]).exits(1);
    assert!(ran.stdout.contains("deep.toml:1:") && ran.stdout.len() < 2_000, "{}", ran.stdout.len());
    let faults: Value = world.run(["graph", "check", "deep.toml", "--format", "json"]).exits(1).json();
    assert!(!faults["faults"].as_array().unwrap().is_empty());
}

#[test]
fn folders_that_are_none_are_called_by_their_name() {
    let world = World::new();
    fs::write(world.root().join("file"), "x").unwrap();
    for line in
        ["patrol --once", "patrol status", "police", "police --flags", "police show 1", "logs", "graph runs"]
    {
        let args = |dir: &str| {
            line.split(' ').map(str::to_owned).chain(["--dir".into(), dir.to_owned()]).collect::<Vec<_>>()
        };
        let missing = world.run(args("nowhere")).exits(2);
        assert!(missing.stderr.contains("there is no log directory nowhere"), "{line}: {}", missing.stderr);
        let file = world.run(args("file")).exits(2);
        assert!(file.stderr.contains("file is no directory"), "{line}: {}", file.stderr);
    }
    assert!(!world.root().join("nowhere").exists());
    let nothing = world.sentrix("logs --tail 3").exits(0);
    assert!(nothing.stdout.contains("No log files yet"), "{}", nothing.stdout);
}

#[test]
fn a_damaged_store_is_said_once_and_what_to_do() {
    for store in ["patrol_state.db", "police.db", "checkpoints.db"] {
        let world = World::new();
        three_turns(&world);
        world.patrol();
        fs::write(world.logs().join(store), "no database, however long ".repeat(400)).unwrap();
        let ran = world.sentrix("patrol --once").exits(3);
        assert_eq!(ran.stderr.matches("file is not a database").count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.contains(store) && ran.stderr.contains("Move the file away"), "{}", ran.stderr);
        fs::remove_file(world.logs().join(store)).unwrap();
        world.patrol();
        assert_eq!(world.status()["turns"]["clean"], 3, "{store}");
    }
}

#[test]
fn a_line_that_is_no_flag_takes_no_place_in_the_list() {
    let world = World::new();
    world.log("20261122T100000.json", &[end("run-a", 1_000, &format!("the token is {}", token(1)))]);
    world.patrol();
    let file = world.logs().join("patrol_flags.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}torn {{\n[]\n")).unwrap();
    let listed = world.sentrix("police --flags --limit 1 --format json").exits(0).json();
    assert_eq!((listed["flags"].as_array().unwrap().len(), &listed["unreadable_lines"]), (1, &json!(2)));
    assert_eq!(world.status()["flags_of_earlier_tool"], 0);
}

#[test]
fn a_file_that_nobody_may_open_is_told_once_and_read_when_it_can_be() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    three_turns(&world);
    // Not even root can open it by the name that it is listed under.
    let name = std::ffi::OsStr::from_bytes(b"\xff2026.json");
    fs::write(world.logs().join(name), end("run-d", 4_000, "fine").to_string() + "\n").unwrap();
    assert_eq!(world.patrol()["unreadable_entries"], 1);
    let again = world.sentrix("patrol --once").exits(0);
    assert!(again.stdout.contains("Nothing new") && again.stdout.contains("1 log entry"), "{}", again.stdout);
    assert_eq!(world.status()["sweeps"], 1);
    assert_eq!(world.status()["not_reviewed"], json!({ "the file cannot be opened or read": 1 }));
    fs::rename(world.logs().join(name), world.logs().join("readable.json")).unwrap();
    world.patrol();
    assert_eq!(world.status()["turns"]["clean"], 4);
}

#[test]
fn a_key_that_is_refused_gives_no_turn_up() {
    let refuses = Arc::new(AtomicBool::new(true));
    let refused = Arc::clone(&refuses);
    let server = ModelServer::answering(move |_| {
        if refused.load(Ordering::SeqCst) {
            return Reply::error(401, "invalid_api_key", "Incorrect API key provided");
        }
        Reply::Answer(json!({ "incidents": [] }))
    });
    let world = World::new().with_env("OPENAI_API_KEY", "sk-k").with_env("OPENAI_BASE_URL", &server.url());
    three_turns(&world);
    for _ in 0..7 {
        world.sentrix("patrol --once --no-police").exits(3);
    }
    let turns = &world.status()["turns"];
    assert_eq!((&turns["pending"], &turns["unreviewed"], &turns["clean"]), (&json!(3), &json!(0), &json!(0)));
    refuses.store(false, Ordering::SeqCst);
    world.sentrix("patrol --once --no-police").exits(0);
    assert_eq!(world.status()["turns"]["clean"], 3);
}

#[test]
fn what_was_given_up_is_not_called_reviewed() {
    let server = ModelServer::answering(|_| Reply::Text("no".into()));
    let world = World::new().with_env("OPENAI_API_KEY", "sk-k").with_env("OPENAI_BASE_URL", &server.url());
    three_turns(&world);
    for _ in 0..5 {
        world.sentrix("patrol --once --no-police");
    }
    let ran = world.sentrix("patrol --once --no-police").exits(0);
    assert!(ran.stdout.contains("3 turns given up as unreviewed"), "{}", ran.stdout);
}

#[test]
fn thousands_of_places_in_one_turn_make_one_flag_of_a_readable_size() {
    let world = World::new();
    let lines: Vec<String> =
        (0..1_500).map(|n| format!("4111 1111 1111 1111 person{n}@company{n}.com")).collect();
    world.log("20261122T100000.json", &[end("run-a", 1_000, &lines.join("\n")), end("run-b", 2_000, "fine")]);
    let report = world.patrol();
    let flag = &report["flags"][0];
    assert_eq!(flag["turn_ids"], json!(["run-a_1000"]));
    let evidence = flag["evidence"].as_array().unwrap().len();
    assert!((50..=200).contains(&evidence), "{evidence}");
    let case = &report["cases"][0];
    assert_eq!(
        case["evidence"].as_array().unwrap().len(),
        evidence,
        "all of it still stands: {}",
        case["caveats"]
    );
}

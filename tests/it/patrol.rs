//! `sentrix patrol` and `police` from the outside: the real binary on log directories.

use serde_json::{Value, json};

use crate::world::{World, call, end, files_below, token, user};

const MAIN: &str = "agent:main:main";

/// Two clean turns around one with a secret in it.
fn one_secret(world: &World) -> String {
    let secret = token(1);
    world.log(
        "20261122T100000.json",
        &[
            user("run-a", MAIN, 1_000, "hello"),
            end("run-a", 1_001, "Hello! How can I help?"),
            user("run-b", MAIN, 2_000, "what is in the config?"),
            call("run-b", MAIN, 2_001, "read", &json!({ "path": "config.yml" })),
            end("run-b", 2_002, &format!("It says: github_token: {secret}")),
            user("run-c", MAIN, 3_000, "thanks"),
            end("run-c", 3_001, "You are welcome."),
        ],
    );
    secret
}

fn flags(world: &World) -> Vec<Value> {
    world.sentrix("police --flags --format json").exits(0).json()["flags"].as_array().unwrap().clone()
}

#[test]
fn a_secret_becomes_a_flag_on_the_exact_turn_and_a_case() {
    let world = World::new();
    let secret = one_secret(&world);
    let report = world.patrol();
    assert_eq!(report["flags"].as_array().unwrap().len(), 1, "{report:#}");
    let flag = &report["flags"][0];
    assert_eq!(flag["turn_ids"], json!(["run-b_2002"]));
    assert_eq!(flag["run_id_ts"], "run-b_2002");
    assert_eq!(flag["source_file"], "20261122T100000.json");
    assert_eq!(flag["stream"], MAIN);
    assert_eq!(flag["categories"], json!(["secret_hardcoding"]));
    let evidence = &flag["evidence"][0];
    let start = usize::try_from(evidence["start"].as_u64().unwrap()).unwrap();
    let end = usize::try_from(evidence["end"].as_u64().unwrap()).unwrap();
    let said = format!("It says: github_token: {secret}");
    assert_eq!(&said[start..end], secret);
    assert_eq!(report["changed_workflows"], json!([]));
    assert_eq!(report["cases"].as_array().unwrap().len(), 1);
    let case = &report["cases"][0];
    assert_eq!(case["crime_classification"], "secret_hardcoding");
    assert_eq!(case["decided_by"], "rules");
    assert_eq!(case["relevant_log_ids"], json!(["run-b_2002"]));
    assert_eq!(case["flag_id"], flag["flag_id"]);
}

#[test]
fn a_second_patrol_has_nothing_to_do_and_says_so() {
    let world = World::new();
    one_secret(&world);
    world.patrol();
    let before = files_below(&world.logs().join("reports"));
    let again = world.sentrix("patrol --once").exits(0);
    assert!(again.stdout.contains("Nothing new"), "{}", again.stdout);
    assert_eq!(files_below(&world.logs().join("reports")), before);
    assert_eq!(world.patrol()["flags"], json!([]));
}

#[test]
fn no_secret_leaves_the_log_files() {
    let world = World::new();
    let secret = one_secret(&world);
    let shown = [
        world.sentrix("patrol --once -vv"),
        world.sentrix("police --flags"),
        world.sentrix("police show 1"),
        world.sentrix("police show 1 --format json"),
        world.sentrix("logs --tail 10"),
        world.sentrix("graph history 1 --format json"),
        world.sentrix("graph history 2 --format json"),
    ];
    for ran in shown {
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(
            !ran.stdout.contains(&secret) && !ran.stderr.contains(&secret),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
    }
    for (path, bytes) in files_below(&world.logs()) {
        let is_log = path.file_name().unwrap() == "20261122T100000.json";
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert_eq!(found, is_log, "{}", path.display());
    }
}

#[test]
fn stores_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    one_secret(&world);
    world.patrol();
    for (path, _) in files_below(&world.logs()) {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let is_log = path.file_name().unwrap() == "20261122T100000.json";
        assert!(is_log || mode.trailing_zeros() >= 6, "{} has mode {mode:o}", path.display());
    }
    let reports = std::fs::metadata(world.logs().join("reports")).unwrap().permissions().mode() & 0o777;
    assert_eq!(reports, 0o700);
}

#[test]
fn growth_of_a_run_grows_its_flag() {
    let world = World::new();
    one_secret(&world);
    let first = world.patrol();
    world.log("20261122T101000.json", &[end("run-b", 4_000, &format!("And a second one: {}", token(2)))]);
    let second = world.patrol();
    assert_eq!(second["flags"][0]["flag_id"], first["flags"][0]["flag_id"]);
    assert_eq!(second["flags"][0]["turn_ids"], json!(["run-b_2002", "run-b_4000"]));
    assert_eq!(second["sweeps"][0]["new_flags"], json!([]));
    assert_eq!(second["cases"][0]["investigation_id"], first["cases"][0]["investigation_id"]);
    assert_eq!(flags(&world).len(), 1);
    let status = world.status();
    assert_eq!((&status["cases"], &status["turns"]["pending"]), (&json!(1), &json!(0)));
}

#[test]
fn a_tail_is_reviewed_and_replaced_by_its_turn() {
    let world = World::new();
    let path =
        world.log("20261122T100000.json", &[user("run-a", MAIN, 1_000, &format!("my key is {}", token(3)))]);
    let first = world.patrol();
    assert_eq!(first["flags"][0]["turn_ids"], json!(["run-a_1000"]));
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += &end("run-a", 1_500, "I will not repeat it.").to_string();
    text.push('\n');
    std::fs::write(&path, text).unwrap();
    let second = world.patrol();
    assert_eq!(
        second["flags"][0]["turn_ids"],
        json!(["run-a_1500"]),
        "the name it had as a tail is no turn's"
    );
    assert_eq!(second["flags"][0]["evidence"].as_array().unwrap().len(), 1);
    assert_eq!(second["cases"][0]["relevant_log_ids"], json!(["run-a_1500"]));
    let status = world.status();
    assert_eq!(status["turns"]["seen"], 1);
    assert_eq!(status["turns"]["flagged"], 1);
}

#[test]
fn two_runs_of_the_same_name_and_time_are_two_turns() {
    let world = World::new();
    world.log("20261122T100000.json", &[end("run-a", 1_000, "harmless")]);
    world.log("20261122T110000.json", &[end("run-a", 1_000, &format!("not harmless: {}", token(4)))]);
    let report = world.patrol();
    assert_eq!(report["flags"].as_array().unwrap().len(), 1);
    assert_eq!(report["flags"][0]["source_file"], "20261122T110000.json");
    assert_eq!(world.status()["turns"]["seen"], 2);
}

#[test]
fn hostile_entries_cost_themselves_alone() {
    let world = World::new();
    let secret = token(5);
    let mut bytes: Vec<u8> = Vec::new();
    let mut line = |text: &[u8]| {
        bytes.extend_from_slice(text);
        bytes.push(b'\n');
    };
    line(b"[");
    line(br#"{"ts": "yesterday", "event": "assistant_message_end", "runId": "x", "rawText": "a", "rawThinking": ""}"#);
    line(br#"{"ts": 5, "event": "assistant_message_end", "runId": ["x"], "rawText": "a"}"#);
    line(br#"{"ts": 6, "event": "assistant_message_end", "runId": "x", "rawText": {"a": 1}}"#);
    line(b"{\"ts\": 7, \"event\": \"assistant_message_end\", \"runId\": \"y\", \"rawText\": \"\xff\xfe\", \"rawThinking\": \"\"}");
    line(br#"{"ts": 8, "event": "assistant_message_end", "runId": "z", "rawText": "\ud800 lone", "rawThinking": ""}"#);
    line(format!("{{\"ts\": 9, \"a\": {}1{}}}", "[".repeat(5_000), "]".repeat(5_000)).as_bytes());
    line(b"this is no JSON at all");
    line(end("guilty", 10, &format!("the token is {secret}")).to_string().as_bytes());
    line(&[b'"'; 2_000]);
    line(end("last", 11, "all is well").to_string().as_bytes());
    std::fs::write(world.logs().join("20261122T100000.json"), bytes).unwrap();
    let report = world.patrol();
    let turns: Vec<&Value> =
        report["flags"].as_array().unwrap().iter().map(|flag| &flag["turn_ids"]).collect();
    assert_eq!(turns, [&json!(["guilty_10"])], "{report:#}");
    assert!(report["unreadable_entries"].as_u64().unwrap() >= 4, "{report:#}");
    let status = world.sentrix("patrol status").exits(0);
    assert!(status.stdout.contains("unreadable"), "{}", status.stdout);
    assert_eq!(world.status()["turns"]["rejected_entries"], report["unreadable_entries"]);
}

#[test]
fn escalation_decides_which_flags_become_cases() {
    let world = World::new();
    one_secret(&world);
    let report = world.sentrix("patrol --once --no-police --format json").exits(0).json();
    assert_eq!(
        (report["flags"].as_array().unwrap().len(), report["cases"].as_array().unwrap().len()),
        (1, 0)
    );
    let asked = world.sentrix("police investigate 1 --format json").exits(0).json();
    assert_eq!(asked["cases"].as_array().unwrap().len(), 1);
    let prefix = &report["flags"][0]["flag_id"].as_str().unwrap()[..8];
    world.sentrix(&format!("police investigate {prefix}")).exits(0);
    world.sentrix(&format!("police investigate --flag-id {prefix}")).exits(0);
    assert_eq!(world.status()["cases"], 1);
}

#[test]
fn fail_on_turns_a_flag_into_an_exit_code() {
    let world = World::new();
    one_secret(&world);
    world.sentrix("patrol --once --fail-on low").exits(1);
}

#[test]
fn bad_usage_says_what_to_do() {
    let world = World::new();
    let nothing = world.run(["patrol", "--once", "--log-dir", "nowhere"]).exits(2);
    assert!(nothing.stderr.contains("there is no log directory nowhere"), "{}", nothing.stderr);
    let fresh = world.sentrix("patrol status").exits(2);
    assert!(fresh.stderr.contains("patrol --once"), "{}", fresh.stderr);
    world.sentrix("police show 7").exits(2);
    world.log("20261122T100000.json", &[end("run-a", 1_000, "fine")]);
    world.patrol();
    let gone = world.sentrix("police investigate deadbeef").exits(2);
    assert!(gone.stderr.contains("there is no flag `deadbeef`"), "{}", gone.stderr);
    world.sentrix("police resume deadbeef").exits(2);
    let number = world.with_env("PATROL_MAX_TOKENS", "many").sentrix("patrol --once").exits(2);
    assert!(number.stderr.contains("PATROL_MAX_TOKENS is `many`"), "{}", number.stderr);
}

#[test]
fn a_ruleset_bump_puts_reviewed_turns_back() {
    let world = World::new();
    one_secret(&world);
    world.patrol();
    let world = world.with_env("PATROL_RULESET_VERSION", "other");
    let report = world.patrol();
    assert_eq!(report["sweeps"][0]["reviewed"], 3);
    assert_eq!(report["flags"], json!([]), "the same flag is the same flag");
    assert_eq!(flags(&world).len(), 1);
}

#[test]
fn the_flags_file_is_an_export_that_others_may_add_to() {
    let world = World::new();
    one_secret(&world);
    let foreign = r#"{"flag_id":"foreign","source_file":"x.json","run_id_ts":"r_1","consensus_severity":"LOW","consensus_confidence":0.5,"votes":[],"categories":["other"]}"#;
    let file = world.logs().join("patrol_flags.jsonl");
    std::fs::write(&file, format!("{foreign}\nnot a flag at all\n")).unwrap();
    world.patrol();
    let lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], foreign);
    assert_eq!(lines[1], "not a flag at all");
    let keys: Value = serde_json::from_str(&lines[2]).unwrap();
    for key in [
        "flag_id",
        "source_file",
        "run_id_ts",
        "consensus_severity",
        "consensus_confidence",
        "votes",
        "pii_labels_union",
        "referral_summary",
        "pheromone_level",
        "timestamp",
        "categories",
    ] {
        assert!(keys.get(key).is_some(), "{key}");
    }
    std::fs::remove_file(&file).unwrap();
    world.log("20261122T120000.json", &[end("run-d", 9_000, &format!("one more {}", token(8)))]);
    world.patrol();
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 4);
}

#[test]
fn the_data_directory_may_be_elsewhere() {
    let world = World::new();
    one_secret(&world);
    world.run(["patrol", "--once", "--log-dir", "logs", "--data-dir", "data"]).exits(0);
    assert_eq!(files_below(&world.logs()).len(), 1);
    let cases = world.run(["police", "--cases", "--dir", "logs", "--data-dir", "data"]).exits(0);
    assert!(cases.stdout.contains("secret_hardcoding"), "{}", cases.stdout);
}

#[test]
fn one_patrol_at_a_time() {
    let world = World::new();
    one_secret(&world);
    let lock = std::fs::File::create(world.logs().join(".sentrix.lock")).unwrap();
    lock.lock().unwrap();
    let second = world.sentrix("patrol --once").exits(3);
    assert!(second.stderr.contains("another sentrix"), "{}", second.stderr);
    drop(lock);
    world.sentrix("patrol --once").exits(0);
}

#[test]
fn text_of_a_log_cannot_move_the_cursor() {
    let world = World::new();
    let hostile = format!("\u{1b}[2J\u{202e}gone {} \u{1b}]0;title\u{7}", token(9));
    world.log("20261122T100000.json", &[end("run\u{1b}[31m", 1_000, &hostile)]);
    for ran in [
        world.sentrix("patrol --once"),
        world.sentrix("police show 1"),
        world.sentrix("police --flags"),
        world.sentrix("logs --tail 5"),
        world.sentrix("graph history 1"),
    ] {
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stdout.contains('\u{202e}'), "{:?}", ran.stdout);
        assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    }
}

#[test]
fn what_its_log_file_lost_is_shown_as_not_reviewed() {
    let world = World::new();
    one_secret(&world);
    world.patrol();
    // The reviews are void, and the file is gone before they can be made again.
    std::fs::remove_file(world.logs().join("20261122T100000.json")).unwrap();
    let world = world.with_env("PATROL_RULESET_VERSION", "next");
    for _ in 0..5 {
        world.sentrix("patrol --once --no-police").exits(0);
    }
    let status = world.status();
    assert_eq!(status["turns"]["unreviewed"], 3, "{status:#}");
    assert_eq!(status["turns"]["clean"], 0);
    let shown = world.sentrix("patrol status").exits(0);
    assert!(shown.stdout.contains("given up after the last attempt"), "{}", shown.stdout);
}

#[test]
fn a_sweep_that_was_cut_off_under_other_rules_does_not_clear_anything() {
    let world = World::new();
    one_secret(&world);
    // A sweep that ends before its record: the limit of supersteps stops it.
    world.run(["graph", "eject", "."]).exits(0);
    let file = world.root().join("graphs/patrol.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("task = \"patrol.record\"", "task = \"core.note\"\nwith = { text = \"later\" }"),
    )
    .unwrap();
    world.sentrix("patrol --once --no-police").exits(0);
    let shown = world.sentrix("patrol --once --no-police").exits(0);
    assert!(
        shown.stdout.contains("wait for a review") && !shown.stdout.contains("is reviewed"),
        "{}",
        shown.stdout
    );
    let status = world.status();
    assert_eq!(
        (&status["turns"]["clean"], &status["turns"]["pending"]),
        (&json!(0), &json!(3)),
        "{status:#}"
    );
    std::fs::write(&file, text).unwrap();
    let report = world.patrol();
    assert_eq!(report["flags"].as_array().unwrap().len(), 1);
    assert_eq!(world.status()["turns"]["clean"], 2);
}

#[test]
fn flags_that_come_back_out_of_their_export_are_still_investigated() {
    let world = World::new();
    one_secret(&world);
    world.sentrix("patrol --once --no-police").exits(0);
    for ending in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(world.logs().join(format!("patrol_state.db{ending}"))));
    }
    let report = world.patrol();
    assert_eq!(flags(&world).len(), 1, "the same flag, not another one");
    assert_eq!(report["cases"].as_array().unwrap().len(), 1, "{report:#}");
}

#[test]
fn a_lost_patrol_store_hides_nothing_from_the_police() {
    let world = World::new();
    one_secret(&world);
    world.patrol();
    // Everything of the patrol is lost, and as many sweeps as before find something else.
    for name in ["patrol_state.db", "patrol_state.db-wal", "patrol_state.db-shm", "patrol_flags.jsonl"] {
        drop(std::fs::remove_file(world.logs().join(name)));
    }
    world.log("20261122T100000.json", &[end("run-z", 9_000, &format!("another one: {}", token(2)))]);
    let report = world.patrol();
    assert_eq!(report["flags"][0]["turn_ids"], json!(["run-z_9000"]));
    assert_eq!(report["cases"].as_array().unwrap().len(), 1, "{report:#}");
}

#[test]
fn a_graph_that_concludes_nothing_does_not_pass_for_one_that_did() {
    let world = World::new();
    one_secret(&world);
    world.patrol();
    world.run(["graph", "eject", "."]).exits(0);
    let file = world.root().join("graphs/investigate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let conclude = "task = \"police.conclude\"\nreads = { draft = \"verified\" }";
    assert!(text.contains(conclude));
    let edited = text.replace(conclude, "task = \"core.note\"\nwith = { text = \"later\" }");
    std::fs::write(&file, edited).unwrap();
    let asked = world.sentrix("police investigate 1 --format json").exits(1).json();
    assert_eq!(asked["cases"], json!([]), "the case there is belongs to an earlier investigation");
    assert!(asked["failed"].to_string().contains("without a case file"), "{asked:#}");
}

#[test]
fn a_flagged_turn_whose_session_becomes_known_later_is_still_read() {
    let world = World::new();
    // Nothing says the session until the second event.
    let path =
        world.log("20261122T100000.json", &[end("run-a", 1_000, &format!("the token is {}", token(1)))]);
    let first = world.sentrix("patrol --once --no-police --format json").exits(0).json();
    assert_eq!(first["flags"][0]["stream"], "file:20261122T100000.json");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text += &user("run-a", MAIN, 2_000, "thank you").to_string();
    text.push('\n');
    std::fs::write(&path, text).unwrap();
    world.patrol();
    let asked = world.sentrix("police investigate 1 --format json").exits(0).json();
    let run = world.sentrix("graph history 1 --format json").exits(0).json();
    let context = run["steps"][0]["tasks"][0]["writes"].as_array().unwrap();
    let context = context.iter().find(|write| write["channel"] == "context").unwrap();
    assert_eq!(context["value"]["turns"][0]["run_id_ts"], "run-a_1000", "{asked:#}");
    assert_eq!(context["value"]["stream"], MAIN);
}

#[test]
fn a_secret_at_the_edge_of_what_is_listed_does_not_show_in_part() {
    let world = World::new();
    let secret = token(4);
    // The listing is cut in the middle of it.
    let lead = "x ".repeat(95);
    world.log("20261122T100000.json", &[end("run-a", 1_000, &format!("{lead}{secret}"))]);
    for ran in [world.sentrix("logs --tail 5"), world.sentrix("logs --tail 5 --format json")] {
        assert!(ran.stdout.contains("x x x") && !ran.stdout.contains(&secret[..8]), "{}", ran.stdout);
    }
}

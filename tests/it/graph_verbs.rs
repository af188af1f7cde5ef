//! Runs from the outside: gates, forks, edits, replays, upgrades, proofs, retention, events, budgets.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::world::{Ran, World};

/// Adds, asks, and does it.
const DEPLOY: &str = r#"
[graph]
name = "deploy"
version = 1
start = "plan"

[state]
target = { type = "string", input = true }
number = { type = "int", default = 1 }
answer = { type = "any", default = {} }
done   = { type = "bool", default = false }

[node.plan]
task = "core.add"
reads = { to = "number" }
writes = { sum = "number" }
next = "review"

[node.review]
kind = "gate"
ask = "Deploy \u001b[2Jthis?"
shows = ["target", "number"]
who = ["ana", "ben"]
options = { approve = "apply", deny = "end" }
answer = "answer"

[node.apply]
task = "core.set"
with = { value = true }
writes = { value = "done" }
next = "end"
"#;

/// Counts to three, a step a number.
const COUNT: &str = r#"
[graph]
name = "count"
start = "one"

[state]
n = { type = "int", default = 0 }

[node.one]
task = "core.add"
reads = { to = "n" }
writes = { sum = "n" }
cache = { ttl = "1h" }
next = [{ if = "n < 3", to = "one" }, { else = "end" }]
"#;

fn with(graphs: &[(&str, &str)]) -> World {
    let world = World::new().with_env("USER", "somebody");
    fs::create_dir(world.root().join("graphs")).unwrap();
    for (name, text) in graphs {
        put(&world, name, text);
    }
    world
}

fn put(world: &World, name: &str, text: &str) {
    fs::write(world.root().join(format!("graphs/{name}.toml")), text).unwrap();
}

fn deploy() -> (World, String) {
    let world = with(&[("deploy", DEPLOY)]);
    let ran = run(&world, "deploy", &json!({ "target": "web" })).exits(4).json();
    let id = ran["run_id"].as_str().unwrap().to_owned();
    (world, id)
}

fn run(world: &World, graph: &str, input: &Value) -> Ran {
    world.run(["graph", "run", graph, "--log-dir", "logs", "--format", "json", "--input", &input.to_string()])
}

fn json_of(world: &World, line: &str) -> Value {
    world.sentrix(&format!("{line} --format json")).exits(0).json()
}

fn edit_store(world: &World, sql: &str) {
    let store = rusqlite::Connection::open(world.logs().join("checkpoints.db")).unwrap();
    assert!(store.execute(sql, []).unwrap() > 0, "{sql} changes something");
}

#[test]
fn a_gate_is_asked_answered_and_its_run_goes_on() {
    let (world, id) = deploy();
    let shown = world.sentrix(&format!("graph resume {id}")).exits(4);
    assert!(shown.stdout.contains("waits for an answer after 1 superstep"), "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "a question is no terminal command: {}", shown.stdout);
    let gates = json_of(&world, "graph gates");
    let gate = &gates["gates"][0];
    assert_eq!(
        (&gate["gate"], &gate["shows"], &gate["options"], &gate["who"]),
        (
            &json!("review@1"),
            &json!({ "number": 2, "target": "web" }),
            &json!(["approve", "deny"]),
            &json!(["ana", "ben"])
        )
    );
    assert_eq!(json_of(&world, "graph runs")["runs"][0]["status"], "waiting");

    // The command that is shown is the one that works.
    let command = shown.stdout.lines().find(|line| line.contains(" approve ")).unwrap().trim();
    let done = world.run(command.split_whitespace().skip(1).chain(["--format", "json"])).exits(0).json();
    assert_eq!((&done["done"], &done["state"]["done"]), (&json!(true), &json!(true)));
    assert_eq!(done["state"]["answer"]["by"], "ana");
    let history = world.sentrix("graph history 1").exits(0).stdout;
    assert!(history.contains("gate review@1: approve by ana (signed)"), "{history}");
    assert!(history.contains("gate review@1 waits"), "{history}");
    assert_eq!(json_of(&world, "graph gates")["gates"], json!([]));
    let again = world.sentrix("graph answer review approve --by ana").exits(2);
    assert!(again.stderr.contains("no gate waits"), "{}", again.stderr);
}

#[test]
fn answers_that_do_not_count_are_refused_and_change_nothing() {
    let (world, id) = deploy();
    let refused = world.sentrix("graph answer review approve").exits(4);
    assert!(refused.stderr.contains("`somebody` may not answer (may: ana, ben)"), "{}", refused.stderr);
    for (line, says) in [
        ("graph answer review perhaps --by ana", "there are: approve, deny"),
        ("graph answer revue approve --by ana", "these do: review@1"),
        ("graph answer review approve --by ana --run 0123456789", "there is no run"),
    ] {
        let refused = world.sentrix(line).exits(2);
        assert!(refused.stderr.contains(says), "{line}: {}", refused.stderr);
    }
    assert_eq!(json_of(&world, "graph gates")["gates"][0]["run_id"], json!(id));

    // Stored and not gone on with; the first answer counts.
    let stored = json_of(&world, "graph answer review deny --by ben --note no --no-resume");
    assert_eq!((&stored["answer"]["option"], &stored["answer"]["note"]), (&json!("deny"), &json!("no")));
    world.sentrix("graph answer review approve --by ana").exits(4);
    let done = json_of(&world, "graph resume 1");
    assert_eq!((&done["state"]["done"], &done["state"]["answer"]["option"]), (&json!(false), &json!("deny")));
}

#[test]
fn two_runs_at_one_gate_are_told_apart() {
    let (world, first) = deploy();
    let second = run(&world, "deploy", &json!({ "target": "mail" })).exits(4).json();
    let both = world.sentrix("graph answer review approve --by ana").exits(2);
    assert!(both.stderr.contains("more than one gate") && both.stderr.contains(&first), "{}", both.stderr);
    let done = json_of(&world, &format!("graph answer review approve --by ana --run {first}"));
    assert_eq!(done["state"]["target"], "web");
    assert_eq!(json_of(&world, "graph gates")["gates"][0]["run_id"], second["run_id"]);
}

#[test]
fn a_gate_of_a_graph_inside_another_is_answered_and_the_whole_goes_on() {
    let outer = r#"
[graph]
name = "outer"
start = "inner"

[state]
target = { type = "string", input = true }
done   = { type = "bool", default = false }

[node.inner]
graph = "deploy"
next = "end"
"#;
    let inner = DEPLOY.replace("done   = { type = \"bool\",", "done   = { type = \"bool\", output = true,");
    let world = with(&[("deploy", &inner), ("outer", outer)]);
    let ran = run(&world, "outer", &json!({ "target": "web" })).exits(4).json();
    let gate = &ran["gates"][0];
    assert_eq!((&gate["outermost_run_id"], &gate["graph"]), (&ran["run_id"], &json!("deploy")));
    let part = gate["run_id"].as_str().unwrap();
    assert_ne!(ran["run_id"], gate["run_id"]);
    // A part is answered by its own run or by the whole; asked to go on, the whole does.
    world.sentrix(&format!("graph resume {part}")).exits(4);
    let done = json_of(&world, &format!("graph answer review approve --by ana --run {part}"));
    assert_eq!((&done["run_id"], &done["state"]["done"]), (&ran["run_id"], &json!(true)));
    assert_eq!(json_of(&world, "graph history 1")["parts"][0]["run_id"], json!(part));
    assert!(
        world.sentrix(&format!("graph history {part}")).exits(0).stdout.contains("approve by ana (signed)")
    );
}

#[test]
fn a_fork_is_edited_and_run_and_the_first_run_stays_as_it_was() {
    let (world, id) = deploy();
    world.sentrix("graph answer review approve --by ana").exits(0);
    let fork = json_of(&world, &format!("graph fork {id} --step 1"));
    let new = fork["run_id"].as_str().unwrap().to_owned();
    assert_eq!(fork["forked_from"], json!({ "run_id": id, "step": 1 }));

    let wrong =
        world.run(["graph", "edit", &new, "--set", "{\"number\": \"x\"}", "--log-dir", "logs"]).exits(2);
    assert!(wrong.stderr.contains("`number`") && wrong.stderr.contains("int"), "{}", wrong.stderr);
    let set = ["graph", "edit", &new, "--set", "{\"number\": 40}", "--log-dir", "logs", "--format", "json"];
    let edited = world.run(set).exits(0).json();
    assert_eq!((&edited["state"]["number"], &edited["step"]), (&json!(40), &json!(2)));
    // A node is stood for, a gate is not.
    let as_gate = ["graph", "edit", &new, "--set", "{}", "--as", "review", "--log-dir", "logs"];
    assert!(world.run(as_gate).exits(4).stderr.contains("answered, not edited"));
    let as_plan = [
        "graph",
        "edit",
        &new,
        "--set",
        "{\"number\": 41}",
        "--as",
        "plan",
        "--by",
        "ben",
        "--log-dir",
        "logs",
    ];
    world.run(as_plan).exits(0);
    let history = world.sentrix(&format!("graph history {new}")).exits(0).stdout;
    for says in
        ["edited by somebody", "number = 40", "edited by ben", "number = 41", &format!("forked from {id}")]
    {
        assert!(history.contains(says), "no `{says}` in\n{history}");
    }
    world.sentrix("graph resume 1").exits(4);
    let done = json_of(&world, "graph answer review approve --by ana");
    assert_eq!((&done["run_id"], &done["state"]["number"]), (&json!(new), &json!(41)));
    assert_eq!(json_of(&world, &format!("graph state {id}"))["state"]["number"], 2);
    let runs = json_of(&world, "graph runs");
    assert_eq!(runs["runs"][0]["forked_from"]["run_id"], json!(id));
    assert_eq!(json_of(&world, "graph verify")["whole"], true);
}

#[test]
fn states_and_their_differences_are_shown_and_a_replay_ends_the_same() {
    let world = with(&[("count", COUNT)]);
    let first = run(&world, "count", &json!({})).exits(0).json();
    assert_eq!(first["state"]["n"], 3);
    let state = |step: u32| json_of(&world, &format!("graph state 1 --step {step}"))["state"]["n"].clone();
    assert_eq!([state(0), state(1), state(3)], [json!(0), json!(1), json!(3)]);
    let differences = json_of(&world, "graph state 1 --step 1 --against 3");
    assert_eq!(differences["differences"], json!([{ "channel": "n", "before": 1, "after": 3 }]));
    let none = world.sentrix("graph state 1 --step 4").exits(2);
    assert!(none.stderr.contains("3 finished steps"), "{}", none.stderr);

    let replayed = json_of(&world, "graph replay 1");
    assert_eq!(replayed["state"], first["state"]);
    assert_ne!(replayed["run_id"], first["run_id"]);
    // Its results stood in the cache, and history says so.
    let history = json_of(&world, "graph history 1");
    assert_eq!(
        (&history["steps"][0]["tasks"][0]["cached"], &history["steps"][0]["step"]),
        (&json!(true), &json!(0))
    );
    assert!(world.sentrix("graph history 1").exits(0).stdout.contains("from the cache"));
}

#[test]
fn a_run_is_recorded_to_a_file_of_its_owners() {
    let world = with(&[("count", COUNT)]);
    run(&world, "count", &json!({})).exits(0);
    world.sentrix("graph record 1 -o tape.json").exits(0);
    let path = world.root().join("tape.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let tape: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((&tape["graph"], &tape["state"]["n"]), (&json!("count"), &json!(3)));
    assert_eq!(tape["path"], json!([["one"], ["one"], ["one"]]));
}

#[test]
fn verify_finds_a_byte_that_was_changed_and_an_entry_that_is_gone() {
    let (world, id) = deploy();
    world.sentrix("graph answer review approve --by ana").exits(0);
    run(&world, "deploy", &json!({ "target": "mail" })).exits(4);
    let whole = json_of(&world, &format!("graph verify {id}"));
    let proof = &whole["runs"][0];
    assert_eq!(
        (&proof["whole"], &proof["signed_answers"], &proof["entries"]),
        (&json!(true), &json!(1), &json!(3))
    );
    let key = proof["sealed_by"].as_str().unwrap();
    assert!(world.sentrix("graph verify").exits(0).stdout.contains(key));

    edit_store(&world, "UPDATE entries SET body = replace(body, 'true', '1234') WHERE body LIKE '%true%'");
    let all = world.sentrix("graph verify").exits(1).stdout;
    assert!(all.contains("2 runs, 1 not whole"), "{all}");
    let one = world.sentrix(&format!("graph verify {id}")).exits(1).stdout;
    assert!(one.contains("NOT WHOLE") && one.contains("(step 2, apply) is not what was written"), "{one}");
    edit_store(&world, "UPDATE entries SET body = replace(body, '1234', 'true') WHERE body LIKE '%1234%'");
    edit_store(&world, "UPDATE answers SET answered_by = 'eve'");
    let one = world.sentrix(&format!("graph verify {id}")).exits(1).stdout;
    assert!(one.contains("the answer to gate review@1 is not what was signed"), "{one}");
    edit_store(&world, "UPDATE answers SET answered_by = 'ana'");
    world.sentrix("graph verify").exits(0);
    edit_store(&world, "DELETE FROM entries WHERE step = 1");
    world.sentrix("graph verify").exits(1);
}

#[test]
fn pruning_leaves_what_is_held_and_what_waits() {
    let (world, waiting) = deploy();
    put(&world, "count", COUNT);
    let ran = |_| run(&world, "count", &json!({})).exits(0).json()["run_id"].as_str().unwrap().to_owned();
    let ids: Vec<String> = (0..3).map(ran).collect();
    let held = world.run(["graph", "hold", &ids[0], "for the audit", "--log-dir", "logs"]).exits(0);
    assert!(held.stdout.contains("for the audit"), "{}", held.stdout);
    assert!(world.sentrix("graph runs").exits(0).stdout.contains("held: for"));
    let left = || {
        let runs = json_of(&world, "graph runs")["runs"].as_array().unwrap().clone();
        runs.iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Without limits each graph's own retention counts, and these have none.
    assert_eq!(json_of(&world, "graph prune")["deleted"], json!([]));
    let dry = json_of(&world, "graph prune --max-age 1ms --dry-run");
    assert_eq!((dry["deleted"].as_array().unwrap().len(), left().len()), (2, 4));
    assert_eq!(json_of(&world, "graph prune deploy --max-age 1ms")["deleted"], json!([]));
    world.sentrix("graph prune --max-age 1ms").exits(0);
    assert_eq!(left(), [ids[0].clone(), waiting.clone()]);
    world.sentrix(&format!("graph unhold {}", ids[0])).exits(0);
    world.sentrix("graph prune count --max-age 1ms").exits(0);
    assert_eq!(left(), [waiting]);
    world.sentrix("graph prune cuont --max-age 1ms").exits(2);
    world.sentrix("graph answer review approve --by ana").exits(0);
}

#[test]
fn a_run_goes_on_with_a_new_version_if_the_file_says_how() {
    let (world, id) = deploy();
    let second = DEPLOY.replace("version = 1", "version = 2").replace("number", "build");
    put(&world, "deploy", &second);
    let unsaid = world.sentrix(&format!("graph diff {id}")).exits(1);
    assert!(
        unsaid.stdout.contains("cannot go on") && unsaid.stdout.contains("`number`"),
        "{}",
        unsaid.stdout
    );
    let refused = world.sentrix(&format!("graph resume {id} --upgrade")).exits(2);
    assert!(refused.stderr.contains("graph diff"), "{}", refused.stderr);

    put(
        &world,
        "deploy",
        &format!("{second}\n[[migrate]]\nfrom = 1\nto = 2\nrename = {{ number = \"build\" }}\n"),
    );
    let said = json_of(&world, &format!("graph diff {id}"));
    assert_eq!(
        (&said["runs_can_continue"], said["changes"].as_array().unwrap().is_empty()),
        (&json!(true), false)
    );
    let moved = world.sentrix(&format!("graph resume {id} --upgrade --format json")).exits(4).json();
    assert_eq!((&moved["state"]["build"], &moved["state"]["number"]), (&json!(2), &Value::Null));
    let history = world.sentrix(&format!("graph history {id}")).exits(0).stdout;
    assert!(history.contains("upgraded from v1 to v2"), "{history}");
    let done = json_of(&world, "graph answer review approve --by ben");
    assert_eq!((&done["done"], &done["state"]["build"]), (&json!(true), &json!(2)));
    assert_eq!(json_of(&world, "graph verify")["whole"], true);
}

#[test]
fn a_failure_is_told_and_what_was_done_is_kept() {
    let text = r#"
[graph]
name = "fails"
start = "first"

[state]
n = { type = "int", default = 0 }

[node.first]
task = "core.set"
with = { value = 5 }
writes = { value = "n" }
next = "second"

[node.second]
task = "core.fail"
with = { class = "refused", message = "not \u001b[31mtoday" }
next = "end"
"#;
    let world = with(&[("fails", text)]);
    let failed = run(&world, "fails", &json!({})).exits(3);
    assert!(failed.stderr.contains("refused: not \\u{1b}[31mtoday"), "{}", failed.stderr);
    assert!(failed.stderr.contains("sentrix graph resume "), "{}", failed.stderr);
    let history = json_of(&world, "graph history 1");
    let last = &history["steps"][1];
    assert_eq!((&last["finished"], &last["failures"][0]["node"]), (&json!(false), &json!("second")));
    assert!(world.sentrix("graph history 1").exits(0).stdout.contains("second failed, refused: not"));
    // Gone round: as if `second` had done its work.
    world.run(["graph", "edit", "1", "--set", "{}", "--as", "second", "--log-dir", "logs"]).exits(0);
    assert_eq!(json_of(&world, "graph resume 1")["state"]["n"], 5);
}

#[test]
fn a_budget_stops_a_run_and_a_larger_one_lets_it_go_on() {
    let world = with(&[("count", COUNT)]);
    let stopped = world.sentrix("graph run count --budget steps=2").exits(3);
    assert!(stopped.stderr.contains("budget"), "{}", stopped.stderr);
    assert_eq!(json_of(&world, "graph resume 1 --budget steps=10")["state"]["n"], 3);
    let wrong = world.sentrix("graph run count --budget pounds=2").exits(2);
    assert!(wrong.stderr.contains("tokens, usd, steps and wall"), "{}", wrong.stderr);
}

#[test]
fn events_are_lines_of_json_of_the_kinds_that_were_asked_for() {
    let (world, _) = deploy();
    put(&world, "count", COUNT);
    let events = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|event| event["event"].as_str().unwrap_or("outcome").to_owned()).collect()
    };
    world.sentrix("graph run count --events events.jsonl --stream values").exits(0);
    let path = world.root().join("events.jsonl");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(events(&text), ["run_started", "values", "values", "values", "run_finished"]);
    assert!(text.lines().nth(3).unwrap().contains("\"state\":{\"n\":3}"), "{text}");

    let piped = world.sentrix("graph run count --events - --stream updates --format json").exits(0);
    let kinds =
        ["run_started", "step_committed", "step_committed", "step_committed", "run_finished", "outcome"];
    assert_eq!(events(&piped.stdout), kinds);
    let told = world.sentrix("graph resume 2 --events -").exits(0);
    assert!(told.stderr.contains("done after 3 supersteps"), "the outcome stands beside the events");
    let waits = world.sentrix("graph resume 3 --events - --format json").exits(4);
    assert_eq!(events(&waits.stdout), ["run_resumed", "gate_opened", "run_interrupted", "outcome"]);
    world.sentrix("graph run count --stream values").exits(2);
    world.sentrix("graph run count --events nowhere/events.jsonl").exits(3);
}

#[test]
fn a_dry_run_goes_the_way_its_stubs_say_and_stores_nothing() {
    let world = with(&[("deploy", DEPLOY)]);
    fs::write(world.root().join("stub.toml"), "stub.plan = [{ sum = 7 }]\nanswer.review = [\"approve\"]\n")
        .unwrap();
    let line = "graph run deploy --dry --input {\"target\":\"web\"}";
    let played = json_of(&world, &format!("{line} --stub stub.toml"));
    assert_eq!(played["dry"]["path"], json!([["plan"], ["review"], ["apply"]]));
    assert_eq!(played["dry"]["state"]["number"], 7);
    let waits = world.sentrix(line).exits(4);
    assert!(waits.stdout.contains("answer.review"), "{}", waits.stdout);
    fs::write(world.root().join("stub.toml"), "stub.paln = [{}]\n").unwrap();
    world.sentrix(&format!("{line} --stub stub.toml")).exits(2);
    assert!(!world.logs().join("checkpoints.db").exists());
}

#[test]
fn effects_of_a_run_that_did_none_are_none() {
    let world = with(&[("count", COUNT)]);
    run(&world, "count", &json!({})).exits(0);
    assert_eq!(json_of(&world, "graph effects 1")["effects"], json!([]));
}

#[test]
fn every_code_is_explained() {
    let world = World::new();
    let all = world.run(["explain", "--format", "json"]).exits(0).json();
    assert!(all["codes"].as_array().unwrap().len() >= 25);
    let one = world.run(["explain", "g017"]).exits(0).stdout;
    assert!(one.starts_with("G017  unknown node\n  "), "{one}");
    let unknown = world.run(["explain", "G17"]).exits(2);
    assert!(unknown.stderr.contains("did you mean G017"), "{}", unknown.stderr);
}

#[test]
fn the_schema_fits_the_files_that_are_shipped() {
    let world = World::new();
    let schema = world.run(["graph", "schema"]).exits(0).json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let validator = jsonschema::validator_for(&schema).unwrap();
    for text in [
        DEPLOY,
        COUNT,
        include_str!("../../graphs/patrol.toml"),
        include_str!("../../graphs/investigate.toml"),
    ] {
        let file: Value = toml::from_str(text).unwrap();
        let faults: Vec<String> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
    let bad: Value = toml::from_str(&COUNT.replace("task =", "taks =")).unwrap();
    assert!(!validator.is_valid(&bad));
}

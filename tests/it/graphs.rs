//! Graph files from the outside: editing one changes what happens, without a rebuild.

use std::fs;

use serde_json::{Value, json};

use crate::world::{World, end, token};

fn ejected() -> World {
    let world = World::new();
    world.run(["graph", "eject", "."]).exits(0);
    world
}

fn edit(world: &World, file: &str, from: &str, to: &str) {
    let path = world.root().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn nodes_of_last_patrol(world: &World) -> Vec<String> {
    let runs = world.sentrix("graph runs --format json").exits(0).json();
    let run = runs["runs"].as_array().unwrap().iter().find(|run| run["graph"] == "patrol").unwrap();
    let history = world
        .sentrix(&format!("graph history {} --format json", run["run_id"].as_str().unwrap()))
        .exits(0)
        .json();
    let steps = history["steps"].as_array().unwrap();
    steps
        .iter()
        .flat_map(|step| step["tasks"].as_array().unwrap())
        .map(|task| task["node"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_built_in_graphs_are_sound_and_tested() {
    let world = World::new();
    let listed = world.run(["graph", "list", "--format", "json"]).exits(0).json();
    let names: Vec<&str> =
        listed["graphs"].as_array().unwrap().iter().map(|graph| graph["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["investigate", "patrol"]);
    world.run(["graph", "check"]).exits(0);
    let tests = world.run(["graph", "test", "--format", "json"]).exits(0).json();
    assert_eq!(tests["failed"], 0);
    for graph in tests["graphs"].as_array().unwrap() {
        assert_eq!(graph["unreached"], json!([]), "every node of {} is reached by a test", graph["graph"]);
    }
}

#[test]
fn eject_writes_what_is_used_and_overwrites_nothing_unasked() {
    let world = ejected();
    assert!(world.root().join("graphs/patrol.toml").is_file());
    assert!(world.root().join("prompts/patrol/review.system.j2").is_file());
    let again = world.run(["graph", "eject", "."]).exits(2);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    world.run(["graph", "eject", ".", "--force"]).exits(0);
    let listed = world.run(["graph", "list", "--format", "json"]).exits(0).json();
    assert_eq!(listed["graphs"][1]["origin"], "graphs/patrol.toml");
}

#[test]
fn a_new_node_and_edge_change_what_happens() {
    let world = ejected();
    world.log("20261122T100000.json", &[end("run-a", 1_000, &token(1))]);
    edit(
        &world,
        "graphs/patrol.toml",
        "task = \"patrol.weigh\"\nnext = [",
        "task = \"patrol.weigh\"\nnext = [{ if = \"streams < 2\", to = \"remark\" }, ",
    );
    edit(
        &world,
        "graphs/patrol.toml",
        "[node.adjudicate]",
        "[node.remark]\ntask = \"core.note\"\nwith = { text = \"few streams\" }\nnext = \"adjudicate\"\n\n[node.adjudicate]",
    );
    let report = world.patrol();
    assert_eq!(report["changed_workflows"], json!(["graphs/patrol.toml"]), "what is not built in is said");
    let nodes = nodes_of_last_patrol(&world);
    assert_eq!(nodes, ["read_logs", "assign", "scan", "weigh", "remark", "adjudicate", "record"]);
}

#[test]
fn a_changed_limit_changes_what_happens() {
    let world = ejected();
    world.log("20261122T100000.json", &[end("run-a", 1_000, "fine")]);
    edit(&world, "graphs/patrol.toml", "max_steps = 12", "max_steps = 3");
    let ran = world.sentrix("patrol --once").exits(3);
    assert!(ran.stderr.contains("not done after 3 supersteps"), "{}", ran.stderr);
    // The run kept its graph; the edit undone, a new one does the work, and nothing passed for clean.
    edit(&world, "graphs/patrol.toml", "max_steps = 3", "max_steps = 12");
    assert_eq!(world.status()["turns"]["clean"], 0);
    world.sentrix("patrol --once").exits(0);
    assert_eq!(world.status()["turns"]["clean"], 1);
}

#[test]
fn every_fault_of_a_file_is_shown_at_once() {
    let world = World::new();
    let file = world.root().join("bad.toml");
    fs::write(&file, include_str!("ten_faults.toml")).unwrap();
    let shown = world.run(["graph", "check", "bad.toml"]).exits(1);
    let faults = world.run(["graph", "check", "bad.toml", "--format", "json"]).exits(1).json();
    let faults = faults["faults"].as_array().unwrap();
    let mut codes: Vec<&str> = faults.iter().map(|fault| fault["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert!(codes.len() >= 10, "ten different faults, found {codes:?}");
    for fault in faults {
        assert_eq!(fault["file"], "bad.toml");
        let (line, column) = (fault["line"].as_u64().unwrap(), fault["column"].as_u64().unwrap());
        assert!(line > 0 && column > 0);
        for key in ["label", "help", "message"] {
            assert!(!fault[key].as_str().unwrap().is_empty(), "{fault:#}");
        }
        assert!(
            shown.stdout.contains(&format!("bad.toml:{line}:{column}")),
            "{line}:{column} in {}",
            shown.stdout
        );
    }
    let run = world.run(["graph", "run", "bad.toml", "--log-dir", "logs"]).exits(2);
    assert!(run.stderr.contains("cannot run"), "{}", run.stderr);
}

#[test]
fn a_graph_of_ones_own_runs_and_is_listed() {
    let world = World::new();
    let text = r#"
[graph]
name = "hello"
start = "say"

[state]
who = { type = "string", input = true }

[node.say]
task = "core.note"
reads = { text = "who" }
next = "end"
"#;
    fs::write(world.root().join("hello.toml"), text).unwrap();
    world.run(["graph", "check", "hello.toml"]).exits(0);
    let missing = world.run(["graph", "run", "hello.toml", "--log-dir", "logs"]).exits(2);
    assert!(missing.stderr.contains("who"), "{}", missing.stderr);
    let ran = world
        .run([
            "graph",
            "run",
            "hello.toml",
            "--log-dir",
            "logs",
            "--input",
            "{\"who\": \"you\"}",
            "--format",
            "json",
        ])
        .exits(0)
        .json();
    assert_eq!((&ran["done"], &ran["state"]["who"]), (&json!(true), &json!("you")));
    let resumed =
        world.run(["graph", "resume", "1", "--log-dir", "logs", "--format", "json"]).exits(0).json();
    assert_eq!(resumed["state"], ran["state"], "a run that is done gives its outcome again");
    let unknown = world.run(["graph", "run", "helo", "--log-dir", "logs"]).exits(2);
    assert!(unknown.stderr.contains("investigate, patrol"), "{}", unknown.stderr);
    for bad in ["[1]", "{", "@nowhere.json"] {
        world.run(["graph", "run", "hello.toml", "--log-dir", "logs", "--input", bad]).exits(2);
    }
}

#[test]
fn drawings_show_cycles_and_fan_outs() {
    let world = World::new();
    let draw =
        |graph: &str, format: &str| world.run(["graph", "draw", graph, "--format", format]).exits(0).stdout;
    for format in ["text", "mermaid", "dot", "svg"] {
        for node in ["read_logs", "assign", "scan", "weigh", "contest", "adjudicate", "record"] {
            assert!(draw("patrol", format).contains(node), "{node} in {format}");
        }
    }
    let mermaid = draw("investigate", "mermaid");
    assert!(mermaid.contains("analyse") && mermaid.contains("expand"), "{mermaid}");
    insta::assert_snapshot!("patrol_text", draw("patrol", "text"));
    insta::assert_snapshot!("investigate_mermaid", mermaid);
    let to = world.root().join("patrol.svg");
    world.run(["graph", "draw", "patrol", "--format", "svg", "-o", to.to_str().unwrap()]).exits(0);
    assert!(fs::read_to_string(to).unwrap().contains("<svg"));
}

#[test]
fn completions_and_help_work_for_every_command() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(["completions", shell]).exits(0).stdout.contains("sentrix"));
    }
    let mut seen = String::new();
    for line in [
        "--help",
        "patrol --help",
        "patrol status --help",
        "police --help",
        "police show --help",
        "logs --help",
        "graph --help",
        "graph run --help",
        "demo --help",
    ] {
        let help = world.run(line.split(' ')).exits(0);
        assert!(help.stdout.contains("Usage: sentrix"), "{line}");
        seen.push_str(&help.stdout);
    }
    for word in [
        "--log-dir",
        "--escalation",
        "low_above",
        "medium_above",
        "high_only",
        "--graphs-dir",
        "--prompts-dir",
    ] {
        assert!(seen.contains(word), "{word}");
    }
    world.run(["patrol"]).exits(2);
    let none: Value = world.run(["graph", "list", "--format", "json"]).exits(0).json();
    assert_eq!(none["version"], 1);
}

#[test]
fn a_gate_in_the_investigation_holds_its_case_back_and_nothing_else() {
    let world = ejected();
    for (number, name) in ["20261122T100000.json", "20261122T100001.json"].into_iter().enumerate() {
        let secret = token(u32::try_from(number).unwrap() + 1);
        world.log(name, &[end(&format!("run-{number}"), 1_000, &format!("the token is {secret}"))]);
    }
    let verify = "writes = { draft = \"verified\" }\nnext = \"conclude\"";
    let gate = "writes = { draft = \"verified\" }\nnext = \"approve\"\n\n[node.approve]\nkind = \"gate\"\nask = \"File it?\"\n\
        who = [\"chief\"]\noptions = { file = \"conclude\", drop = \"end\" }\n";
    edit(&world, "graphs/investigate.toml", verify, gate);
    let report = world.sentrix("patrol --once --format json").json();
    assert_eq!(
        (report["flags"].as_array().unwrap().len(), report["cases"].as_array().unwrap().len()),
        (2, 0)
    );
    assert!(report["failed_investigations"].to_string().contains("waits for an answer"), "{report:#}");
    let gates = world.sentrix("graph gates --format json").json();
    let gates = gates["gates"].as_array().unwrap();
    assert_eq!(gates.len(), 2, "each flag has its own, and none waits for another: {gates:?}");
    let run = gates[0]["run_id"].as_str().unwrap();
    world.sentrix(&format!("graph answer approve file --run {run} --by nobody")).exits(4);
    world.sentrix(&format!("graph answer approve file --run {run} --by chief")).exits(0);
    let cases = world.sentrix("police --format json").exits(0).json();
    assert_eq!(cases["cases"].as_array().unwrap().len(), 1, "{cases:#}");
}

#[test]
fn the_run_behind_a_case_is_kept() {
    let world = World::new();
    world.log("20261122T100000.json", &[end("run-a", 1_000, &format!("the token is {}", token(1)))]);
    world.patrol();
    let runs = world.sentrix("graph runs --format json").exits(0).json();
    let held: Vec<&Value> =
        runs["runs"].as_array().unwrap().iter().filter(|run| run["held"].is_string()).collect();
    assert_eq!(held.len(), 1, "{runs:#}");
    assert_eq!(held[0]["graph"], "investigate");
}

#[test]
fn a_recorded_run_is_a_test_without_its_functions() {
    let world = World::new();
    fs::create_dir(world.root().join("graphs")).unwrap();
    let graph = "graph.name = \"loop\"\ngraph.start = \"a\"\nstate.n = { type = \"int\", default = 0, output = true }\n\
        node.a = { task = \"core.add\", reads = { to = \"n\" }, with = { by = 2 }, writes = { sum = \"n\" }, next = [\
        { if = \"n < 6\", to = \"a\" }, { else = \"end\" }] }\n";
    let file = world.root().join("graphs/loop.toml");
    fs::write(&file, graph).unwrap();
    world.sentrix("graph run loop").exits(0);
    world.sentrix("graph record 1 -o graphs/tape.json").exits(0);
    let test = "[[test]]\nname = \"as it was\"\ncassette = \"tape.json\"\n";
    fs::write(world.root().join("graphs/loop.test.toml"), test).unwrap();
    let out = world.run(["graph", "test", "loop"]).exits(0).stdout;
    assert!(out.contains("as it was") && out.contains("2 of 2 edges taken"), "{out}");
    // The graph goes another way with the same results.
    fs::write(&file, graph.replace("n < 6", "n < 3")).unwrap();
    let out = world.run(["graph", "test", "loop"]).exits(1).stdout;
    assert!(out.contains("path: expected a → a → a, took a → a"), "{out}");
}

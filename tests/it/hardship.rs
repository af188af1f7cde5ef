//! Bad settings, damaged files, folders that are none: each is said clearly, and nothing passes for clean.

use std::fs;

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
    assert_eq!(report["cases"][0]["decided_by"], "gpt-4o", "{report:#}");
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

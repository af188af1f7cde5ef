//! `sentrix config` on the real binary: layers, faults, secrets that are never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::model_server::{ModelServer, Reply};
use crate::world::{Ran, World, end};

const KEY: &str = "sk-ant-the-key-that-nobody-sees";

fn write(world: &World, path: &str, text: impl AsRef<[u8]>) {
    let path = world.root().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The binary in a folder of the world.
fn run_in(world: &World, folder: &str, line: &str) -> Ran {
    let output =
        world.command(line.split_whitespace()).current_dir(world.root().join(folder)).output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn row<'v>(shown: &'v Value, setting: &str) -> &'v Value {
    let rows = shown["settings"].as_array().unwrap();
    rows.iter().find(|row| row["setting"] == setting).unwrap_or_else(|| panic!("no {setting}: {shown:#}"))
}

#[test]
fn show_says_what_counts_and_where_it_comes_from() {
    let world = World::new().with_env("SENTRIX_BUDGET_DAY_USD", "2.5");
    write(
        &world,
        "sentrix.toml",
        "[patrol]\nwindow_chars = 9_000\n\n[models.patrol]\nmodel = \"claude-x\"\n",
    );
    write(
        &world,
        ".env",
        format!("ANTHROPIC_API_KEY={KEY}\nSENTRIX_BUDGET_DAY_USD=9\nTELEGRAM_BOT_TOKEN={KEY}\n"),
    );
    let shown = world.run(["config", "show", "--log-dir", "logs", "--format", "json"]).exits(0);
    assert!(!shown.stdout.contains(KEY) && !shown.stderr.contains(KEY));
    let shown = shown.json();
    assert_eq!((&shown["version"], &shown["files"]), (&json!(1), &json!(["./sentrix.toml"])));
    for (setting, value, origin) in [
        ("log_dir", json!("logs"), json!({ "kind": "flag", "flag": "--log-dir" })),
        ("patrol.window_chars", json!(9_000), json!({ "kind": "file", "file": "./sentrix.toml", "line": 2 })),
        (
            "models.patrol.model",
            json!("claude-x"),
            json!({ "kind": "file", "file": "./sentrix.toml", "line": 5 }),
        ),
        (
            "models.patrol.provider",
            json!("anthropic"),
            json!({ "kind": "implied", "by": "by the model's name" }),
        ),
        (
            "models.patrol.api_key",
            json!(true),
            json!({ "kind": "variable", "name": "ANTHROPIC_API_KEY", "file": ".env" }),
        ),
        ("budget.day.usd", json!(2.5), json!({ "kind": "variable", "name": "SENTRIX_BUDGET_DAY_USD" })),
        ("patrol.escalation", json!("medium_above"), json!({ "kind": "default" })),
    ] {
        let row = row(&shown, setting);
        assert_eq!((&row["value"], &row["origin"]), (&value, &origin), "{setting}");
    }
    let table = world.run(["config", "show"]).exits(0);
    assert!(table.stdout.contains("set (ANTHROPIC_API_KEY, from .env)"), "{}", table.stdout);
    assert!(table.stdout.contains("./sentrix.toml:5"), "{}", table.stdout);
    assert!(!table.stdout.contains(KEY) && !table.stdout.contains("sk-ant"));
}

#[test]
fn a_users_file_is_the_weaker_one() {
    let world = World::new();
    let home = world.root().join("home");
    write(
        &world,
        "home/.config/sentrix/sentrix.toml",
        "log_dir = \"/nowhere\"\n[patrol]\nmax_attempts = 3\n",
    );
    write(&world, "sentrix.toml", "log_dir = \"logs\"\n");
    let world = world.with_env("HOME", &home.display().to_string());
    let shown = world.run(["config", "show", "--format", "json"]).exits(0).json();
    assert_eq!(row(&shown, "log_dir")["value"], "logs");
    assert_eq!(row(&shown, "patrol.max_attempts")["value"], 3);
    world.log("20261122T100000.json", &[end("run-a", 1_000, "hello")]);
    // The configured directory is the one that commands work on.
    world.run(["patrol", "--once"]).exits(0);
    let status = world.run(["patrol", "status", "--format", "json"]).exits(0).json();
    assert_eq!(status["turns"]["clean"], 1);
    let other = world.run(["--config", "none.toml", "logs"]).exits(2);
    assert!(other.stderr.contains("none.toml cannot be read"), "{}", other.stderr);
}

#[test]
fn ten_faults_are_told_at_once() {
    let world = World::new().with_env("PATROL_MAX_TOKENS", "many");
    write(
        &world,
        "sentrix.toml",
        "log_dirr = \"x\"\n[patrol]\nconfidence_treshold = 0.5\nmax_attempts = 0\nenabled = 1\n[polce]\n[models.patrol]\n\
        provider = \"antropic\"\nfallback = [\"openai\"]\ntimeout = \"long\"\n[budget]\nday = 5\n[providers.openai]\n\
        concurrency = 99999\n",
    );
    let checked = world.run(["config", "check"]).exits(2);
    for words in [
        "did you mean `log_dir`?",
        "did you mean `confidence_threshold`?",
        "did you mean `police`?",
        "did you mean `anthropic`?",
        "./sentrix.toml:4:16",
        "PATROL_MAX_TOKENS is `many`, but takes a whole number",
        "11 faults",
    ] {
        assert!(checked.stdout.contains(words), "{words}: {}", checked.stdout);
    }
    let json = world.run(["config", "check", "--format", "json"]).exits(2).json();
    assert_eq!((&json["ok"], json["faults"].as_array().unwrap().len()), (&json!(false), 11));
    let first = &json["faults"][0];
    assert_eq!(
        (&first["code"], &first["line"], &first["column"]),
        (&json!("unknown_key"), &json!(1), &json!(1))
    );
    let patrol = world.sentrix("patrol --once").exits(2);
    assert!(patrol.stderr.contains("11 faults in the configuration"), "{}", patrol.stderr);
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let lines = [
        format!("[providers.anthropic]\napi_key = \"{KEY}\"\n"),
        format!("[providers.anthropic]\napi_key_env = \"{KEY}\"\n"),
        format!("[models.patrol]\nmodel = \"{KEY}\"\n"),
        format!("channels.telegram = {{ token = \"{KEY}\" }}\n"),
        format!("providers.anthropic.api_key = {KEY}\n"),
        format!("[search]\nbrave_key = '''\n{KEY}'''\n"),
    ];
    for line in &lines {
        let world = World::new();
        write(&world, "sentrix.toml", line);
        for verb in
            [vec!["config", "check"], vec!["config", "check", "--format", "json"], vec!["config", "show"]]
        {
            let ran = world.run(&verb).exits(2);
            let said = ran.stdout + &ran.stderr;
            assert!(!said.contains(KEY) && !said.contains("nobody-sees"), "{said}");
        }
    }
    let world = World::new();
    write(&world, "sentrix.toml", &lines[0]);
    let said = world.run(["config", "check"]).exits(2).stdout;
    assert!(
        said.contains("secrets never stand in this file") && said.contains("ANTHROPIC_API_KEY"),
        "{said}"
    );
}

#[test]
fn the_real_environment_goes_before_env_files_and_a_near_one_before_a_far_one() {
    let server = ModelServer::answering(|_| Reply::Answer(json!({ "incidents": [] })));
    let world = World::new().with_env("OPENAI_BASE_URL", &server.url());
    write(&world, ".env", "OPENAI_API_KEY=far\nPATROL_MODEL=gpt-far\nUNKNOWN=x\n");
    write(&world, "a/b/.env", "PATROL_MODEL='gpt-near'\nOPENAI_BASE_URL=http://127.0.0.1:1\n");
    let shown: Value = run_in(&world, "a/b", "config show --format json").exits(0).json();
    assert_eq!(row(&shown, "models.patrol.model")["value"], "gpt-near");
    assert_eq!(row(&shown, "providers.openai.base_url")["value"], server.url());
    let from = row(&shown, "models.patrol.api_key")["origin"]["file"].as_str().unwrap().to_owned();
    assert!(from.ends_with("/.env") && !from.contains("a/b"), "{from}");
    world.log("20261122T100000.json", &[end("run-a", 1_000, "hello")]);
    run_in(&world, "a/b", "patrol --once --log-dir ../../logs").exits(0);
    let requests = server.requests();
    assert!(!requests.is_empty() && requests.iter().all(|request| request.body["model"] == "gpt-near"));
}

#[test]
fn an_env_file_that_cannot_be_used_is_a_note() {
    let world = World::new();
    fs::create_dir(world.root().join(".env")).unwrap();
    let ran = world.run(["config", "show"]).exits(0);
    assert!(ran.stderr.contains(".env is not read: it is no file"), "{}", ran.stderr);
    fs::remove_dir(world.root().join(".env")).unwrap();
    write(&world, ".env", format!("ANTHROPIC_API_KEY=k\n{KEY} is on this line\n"));
    let ran = world.run(["config", "show"]).exits(0);
    assert!(ran.stderr.contains(".env:2 is left out") && !ran.stderr.contains(KEY), "{}", ran.stderr);
    assert!(ran.stdout.contains("set (ANTHROPIC_API_KEY, from .env)"), "{}", ran.stdout);
}

#[test]
fn a_file_that_is_no_text_or_huge_is_a_fault() {
    for (bytes, words) in [
        (b"log_dir = \"\xff\"\n".to_vec(), "line 1 is not UTF-8"),
        (b"# long\n".repeat(200_000), "larger than 1 MiB"),
        (b"a = \"\x1b[2J\"\n".to_vec(), "sentrix.toml:1:"),
    ] {
        let world = World::new();
        write(&world, "sentrix.toml", bytes);
        let ran = world.run(["config", "check"]).exits(2);
        assert!(ran.stdout.contains(words) && !ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    }
}

#[test]
fn a_missing_key_is_told_with_provider_model_role_and_variable() {
    let world = World::new().with_env("OPENAI_API_KEY", "sk-other");
    write(&world, "sentrix.toml", "[models.patrol]\nprovider = \"anthropic\"\n");
    world.log("20261122T100000.json", &[end("run-a", 1_000, "hello")]);
    let ran = world.sentrix("patrol --once").exits(2);
    for words in ["Anthropic", "claude-haiku", "patrol", "ANTHROPIC_API_KEY"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("OPENAI"), "{}", ran.stderr);
    let checked = world.run(["config", "check"]).exits(0);
    assert!(checked.stdout.contains("no key for Anthropic"), "{}", checked.stdout);
}

#[test]
fn init_writes_a_file_that_is_right_private_and_not_overwritten() {
    let world = World::new();
    world.run(["config", "init"]).exits(0);
    let path = world.root().join("sentrix.toml");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    world.run(["config", "check"]).exits(0);
    fs::write(&path, "log_dir = \"mine\"\n").unwrap();
    let again = world.run(["config", "init"]).exits(2);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), "log_dir = \"mine\"\n");
    world.run(["config", "init", "--force"]).exits(0);
    assert!(fs::read_to_string(&path).unwrap().contains("[models.patrol]"));
    world.run(["config", "init", "inner/other.toml"]).exits(0);
    world.run(["config", "check", "inner/other.toml"]).exits(0);
}

#[test]
fn the_schema_is_json_and_knows_every_table() {
    let schema = World::new().run(["config", "schema"]).exits(0).json();
    for table in ["models", "providers", "prices", "budget", "patrol", "police", "channels", "security"] {
        assert!(schema["properties"][table].is_object(), "{table}");
    }
}

#[test]
fn a_demo_keeps_to_its_own_folder() {
    let world = World::new();
    write(&world, "sentrix.toml", "log_dir = \"logs\"\ndata_dir = \"stores\"\n");
    world.run(["demo"]).exits(0);
    assert!(!world.root().join("stores").exists());
}

#[test]
fn a_file_that_sends_a_key_elsewhere_is_told() {
    for (file, text, told) in [
        ("sentrix.toml", "[providers.openai]\nbase_url = \"http://127.0.0.1:9/v1\"\n", "./sentrix.toml:2"),
        (".env", "OPENAI_BASE_URL=http://127.0.0.1:9/v1\n", "OPENAI_BASE_URL, from .env"),
        ("sentrix.toml", "[providers.openai]\nbase_url = \"https://api.openai.com/v1\"\n", ""),
    ] {
        let world = World::new().with_env("OPENAI_API_KEY", "sk-one");
        write(&world, file, text);
        world.log("20261122T100000.json", &[]);
        let ran = world.sentrix("patrol --once").exits(0);
        let words =
            format!("OpenAI is asked at http://127.0.0.1:9/v1, which is not its own address (from {told})");
        assert_eq!(ran.stderr.contains(&words), !told.is_empty(), "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("not its own address"), !told.is_empty(), "{}", ran.stderr);
    }
}

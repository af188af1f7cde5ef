//! `sentrix setup` in a real pseudo-terminal: all its paths, and its screens.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sentrix::model::providers;

use crate::model_server::{ModelServer, Reply};
use crate::pty::Pty;
use crate::world::{World, files_below};

const ENTER: &str = "\r";
const ESC: &str = "\x1b";
const CTRL_C: &str = "\x03";
const DOWN: &str = "\x1b[B";
const UP: &str = "\x1b[A";
const SPACE: &str = " ";
const BIG: (u16, u16) = (80, 24);

/// The questions that Enter alone leads through where a key is found.
const DEFAULT_PATH: [&str; 12] = [
    "Provider",
    "Check it now",
    "Models",
    "Reasoning",
    "Capture thoughts",
    "Channels",
    "Web search",
    "Subagents shown",
    "Patrol",
    "Escalate",
    "Security",
    "All right?",
];

/// A home, a working folder and a wizard in it.
struct Desk {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let home = dir.path().join("home").to_str().unwrap().to_owned();
        Self { dir, env: vec![("HOME".into(), home)] }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With a key of OpenAI's and the scripted server in OpenAI's place.
    fn with_openai(self, server: &ModelServer) -> Self {
        self.with("OPENAI_API_KEY", "sk-in-the-environment").with("OPENAI_BASE_URL", &server.url())
    }

    fn here(&self) -> PathBuf {
        self.dir.path().join("work/sentrix.toml")
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("home/.config/sentrix/keys").join(name)
    }

    fn start(&self) -> Wizard {
        self.start_in(BIG, &["setup"])
    }

    fn start_in(&self, size: (u16, u16), args: &[&str]) -> Wizard {
        Wizard { pty: Pty::start(&self.dir.path().join("work"), args, &self.env, size) }
    }

    fn written(&self) -> toml::Table {
        fs::read_to_string(self.here()).unwrap().parse().unwrap()
    }

    /// Everything that was written.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files_below(self.dir.path())
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// What is said after saving.
fn saved(screen: &str) -> String {
    screen[screen.find("✓ All right?").unwrap()..].to_owned()
}

struct Wizard {
    pty: Pty,
}

impl Wizard {
    /// Waits until this question is asked, and gives it as it stands on the screen. The other questions are as wide as the screen
    /// lets them be, so only the name's words count.
    fn at(&self, name: &str) -> String {
        let asked = |screen: &str| {
            let at = screen.rfind("\n? ")?;
            let question = screen[at + 1..].to_owned();
            let head = question.lines().next().unwrap();
            let complete = question.ends_with(']') && !head.contains("‹ back");
            let named = head.contains(&format!("{name} ")) || head.ends_with(name);
            (complete && named).then_some(question)
        };
        let screen = self.pty.until(&format!("the question {name}"), |screen| asked(screen).is_some());
        asked(&screen).unwrap()
    }

    /// Answers a question with keys, pressed one after the other.
    fn answer(&mut self, name: &str, keys: &[&str]) -> String {
        let question = self.at(name);
        for key in keys {
            self.pty.press(key);
        }
        question
    }

    /// Chooses a provider where no key is found: those on machines of the user's come last, then no model.
    fn choose(&mut self, id: &str) {
        let (local, others): (Vec<_>, Vec<_>) = providers().iter().partition(|one| one.local);
        let mut ids = others.into_iter().chain(local).map(|one| one.id.as_str()).chain(["none"]);
        let downs = ids.position(|one| one == id).unwrap();
        self.answer("Provider", &[&DOWN.repeat(downs), ENTER]);
    }

    /// Takes what is marked at each of these questions.
    fn enters(&mut self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.answer(name, &[ENTER])).collect()
    }

    /// It is done, and the terminal is as it was.
    fn done(&self, code: u32) -> String {
        assert_eq!(self.pty.ends(), code, "{}", self.pty.screen());
        let screen = match code {
            130 => self.pty.sees("Nothing was written."),
            _ => self.pty.screen(),
        };
        assert!(self.pty.is_restored(), "{screen}");
        screen
    }
}

fn ok() -> ModelServer {
    ModelServer::answering(|_| Reply::Text("ok".into()))
}

fn rest_of_default_path() -> &'static [&'static str] {
    &DEFAULT_PATH[2..]
}

#[test]
fn enter_alone_is_enough_where_a_key_is_found() {
    let server = ok();
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start();
    let mut screens = wizard.enters(&DEFAULT_PATH[..11]);
    wizard.at("All right?");
    screens.push(wizard.pty.screen());
    wizard.pty.press(ENTER);
    screens.push(saved(&wizard.pty.sees("sentrix config show")));
    wizard.done(0);
    let screens = screens.join("\n\n────────\n").replace(&server.url(), "[server]");
    insta::assert_snapshot!(screens);
    insta::assert_snapshot!(fs::read_to_string(desk.here()).unwrap());
    assert_eq!(mode(&desk.here()), 0o600);
    assert!(!wizard.pty.raw().contains("sk-in-the"));
    let asked = server.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers["authorization"], "Bearer sk-in-the-environment");
    assert!(desk.files().iter().all(|(_, bytes)| !String::from_utf8_lossy(bytes).contains("sk-in-the")));
}

#[test]
fn a_typed_key_is_checked_and_kept_in_a_file_of_its_own() {
    let server = ok();
    let desk = Desk::new().with("OPENAI_BASE_URL", &server.url());
    let mut wizard = desk.start();
    wizard.choose("openai");
    let mut screens = vec![wizard.answer("Key", &["\x1b[200~  sk-typed-secret\n\x1b[201~"])];
    screens.push(wizard.pty.sees(&"*".repeat("  sk-typed-secret\n".len())));
    wizard.pty.press(ENTER);
    wizard.enters(&DEFAULT_PATH[1..11]);
    screens.push(wizard.answer("Keys you typed", &[ENTER]));
    wizard.at("All right?");
    screens.push(wizard.pty.screen());
    wizard.pty.press(ENTER);
    wizard.pty.sees("sentrix config show");
    wizard.done(0);
    insta::assert_snapshot!(screens.join("\n\n────────\n").replace(&server.url(), "[server]"));

    let key = desk.key_file("openai");
    assert_eq!(fs::read_to_string(&key).unwrap(), "sk-typed-secret\n");
    assert_eq!((mode(&key), mode(key.parent().unwrap())), (0o600, 0o700));
    assert_eq!(
        desk.written()["providers"]["openai"]["api_key_file"].as_str(),
        Some("~/.config/sentrix/keys/openai")
    );
    assert_eq!(server.requests()[0].headers["authorization"], "Bearer sk-typed-secret");
    assert!(!wizard.pty.raw().contains("typed-secret"));
    let others = desk.files().into_iter().filter(|(path, _)| *path != key);
    assert!(others.into_iter().all(|(_, bytes)| !String::from_utf8_lossy(&bytes).contains("typed-secret")));
}

#[test]
fn a_key_that_is_refused_is_told_and_another_may_be_typed() {
    let server = ok();
    server.push(Reply::error(401, "invalid_api_key", "Incorrect API key provided: sk-first-secret"));
    let desk = Desk::new().with("OPENAI_BASE_URL", &server.url());
    let mut wizard = desk.start();
    wizard.choose("openai");
    wizard.answer("Key", &[ENTER]);
    wizard.pty.sees("✗ no key");
    wizard.pty.press("sk-first-secret\r");
    wizard.answer("Check it now", &[ENTER]);
    wizard.at("What now");
    let failed = wizard.pty.screen().replace(server.url().trim_start_matches("http://"), "[host]");
    insta::assert_snapshot!(failed);
    wizard.pty.press(ENTER);
    wizard.answer("Key", &["sk-second-secret", ENTER]);
    wizard.answer("Check it now", &[ENTER]);
    wizard.pty.sees("✓ OpenAI answers.");
    wizard.enters(&DEFAULT_PATH[2..11]);
    wizard.answer("Keys you typed", &[DOWN, ENTER]);
    wizard.answer("All right?", &[ENTER]);
    wizard.pty.sees("export OPENAI_API_KEY=…");
    wizard.done(0);
    assert!(!desk.key_file("openai").exists());
    assert_eq!(desk.written()["providers"]["openai"]["api_key_env"].as_str(), Some("OPENAI_API_KEY"));
    assert!(!wizard.pty.raw().contains("first-secret") && !wizard.pty.raw().contains("second-secret"));
}

#[test]
fn a_check_that_fails_leads_to_another_model_or_is_kept_or_left() {
    let server = ModelServer::answering(|_| Reply::error(404, "model_not_found", "no such model"));
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start();
    wizard.enters(&["Provider", "Check it now"]);
    // It starts at the likely way out.
    assert!(wizard.answer("What now", &[ENTER]).contains("❯ Another model"));
    // Another…, by its name.
    wizard.answer("Model", &[UP, ENTER]);
    wizard.pty.until("the model's name", |screen| {
        screen.ends_with(
            "[Reads every new turn: a cheap model will do.\n Enter go on · Esc back · Ctrl+C leave]",
        )
    });
    wizard.pty.press("gpt-next\r");
    wizard.answer("Check it now", &[ENTER]);
    wizard.answer("What now", &[DOWN, ENTER]);
    // The own model is kept: the question starts at it.
    assert!(wizard.at("Models").contains("❯ Choose myself"));
    assert_eq!(server.requests()[1].body["model"], "gpt-next");
    wizard.pty.press(ESC);
    wizard.answer("Check it now", &[ENTER]);
    wizard.answer("What now", &[DOWN, DOWN, ENTER]);
    wizard.done(130);
    assert!(!desk.here().exists());
}

#[test]
fn a_check_under_way_is_left_with_ctrl_c() {
    let server = ModelServer::answering(|_| {
        Reply::Slow(std::time::Duration::from_mins(10), Box::new(Reply::Text("ok".into())))
    });
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start();
    wizard.enters(&["Provider", "Check it now"]);
    wizard.pty.sees("Asking OpenAI …");
    wizard.pty.press(CTRL_C);
    wizard.done(130);
    assert!(desk.files().is_empty());
}

#[test]
fn the_check_may_be_skipped() {
    let server = ok();
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start();
    wizard.enters(&["Provider"]);
    wizard.answer("Check it now", &[DOWN, ENTER]);
    wizard.enters(rest_of_default_path());
    wizard.pty.sees("✓ Saved ./sentrix.toml");
    wizard.done(0);
    assert!(server.requests().is_empty());
}

#[test]
fn a_local_provider_has_an_address_and_needs_no_key() {
    let server = ok();
    let desk = Desk::new();
    let mut wizard = desk.start();
    wizard.choose("ollama");
    assert!(wizard.at("Address").contains("http://127.0.0.1:11434/v1"));
    wizard.pty.press(&format!("{}/v1\r", server.url()));
    wizard.answer("Model", &["llama3.3", ENTER]);
    wizard.answer("Check it now", &[ENTER]);
    wizard.pty.sees("✓ Ollama answers.");
    wizard.enters(&["Investigator", "OpenClaw"]);
    wizard.enters(&DEFAULT_PATH[3..]);
    wizard.pty.sees("sentrix config show");
    wizard.done(0);
    let written = desk.written();
    assert_eq!(written["providers"]["ollama"]["base_url"].as_str(), Some(&*format!("{}/v1", server.url())));
    assert_eq!(written["models"]["investigator"]["model"].as_str(), Some("llama3.3"));
    assert!(!server.requests()[0].headers.contains_key("authorization"));
}

#[test]
fn rules_alone_need_no_answer_about_models() {
    let server = ok();
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start();
    // The last one, from the first.
    wizard.answer("Provider", &[UP, ENTER]);
    wizard.enters(&DEFAULT_PATH[5..]);
    wizard.pty.sees("sentrix config show");
    wizard.done(0);
    assert_eq!(desk.written()["models"]["patrol"]["provider"].as_str(), Some("none"));
    assert!(server.requests().is_empty());
}

#[test]
fn every_channel_and_the_search_get_what_they_need() {
    let desk = Desk::new().with("DISCORD_BOT_TOKEN", "discord-in-the-environment");
    let mut wizard = desk.start();
    wizard.choose("none");
    let mut screens = vec![wizard.at("Channels")];
    wizard.pty.press(&format!("{SPACE}{DOWN}").repeat(5));
    wizard.pty.until("five marks", |screen| screen.matches("[x]").count() == 5);
    wizard.pty.press(ENTER);
    screens.push(wizard.answer("Telegram token", &["12345:telegram-secret", ENTER]));
    screens.push(wizard.answer("Slack bot token", &["xapp-wrong", ENTER]));
    screens.push(wizard.pty.sees("✗ this token begins with xoxb-"));
    wizard.pty.press(&"\x7f".repeat(10));
    wizard.pty.press("xoxb-slack-secret\r");
    screens.push(wizard.answer("Slack app token", &[ENTER]));
    screens.push(wizard.answer("Web search", &[UP, ENTER]));
    screens.push(wizard.answer("Brave key", &["brave-secret", ENTER]));
    wizard.enters(&["Subagents shown"]);
    wizard.answer("Patrol", &[DOWN, ENTER]);
    wizard.answer("Escalate", &[DOWN, ENTER]);
    wizard.answer("Security", &[DOWN, ENTER]);
    screens.push(wizard.answer("Shell commands", &[DOWN, ENTER]));
    screens.push(wizard.answer("Workspace only", &[ENTER]));
    screens.push(wizard.answer("Direct messages", &[ENTER]));
    screens.push(wizard.answer("Network", &[ENTER]));
    wizard.enters(&["Keys you typed"]);
    wizard.at("All right?");
    screens.push(wizard.pty.screen());
    wizard.pty.press(ENTER);
    screens.push(saved(&wizard.pty.sees("sentrix config show")));
    wizard.done(0);
    insta::assert_snapshot!(screens.join("\n\n────────\n"));
    insta::assert_snapshot!(fs::read_to_string(desk.here()).unwrap());
    for (name, text) in [
        ("telegram", "12345:telegram-secret\n"),
        ("slack-bot", "xoxb-slack-secret\n"),
        ("brave", "brave-secret\n"),
    ] {
        assert_eq!(fs::read_to_string(desk.key_file(name)).unwrap(), text);
        assert_eq!(mode(&desk.key_file(name)), 0o600);
    }
    let raw = wizard.pty.raw();
    assert!(!raw.contains("-secret") && !raw.contains("in-the-environment"), "{raw}");
}

#[test]
fn ctrl_c_at_any_question_writes_nothing() {
    let server = ok();
    let desk = Desk::new().with_openai(&server);
    for before in 0..DEFAULT_PATH.len() {
        let mut wizard = desk.start();
        wizard.enters(&DEFAULT_PATH[..before]);
        wizard.answer(DEFAULT_PATH[before], &[CTRL_C]);
        wizard.done(130);
        assert!(desk.files().is_empty(), "{}", DEFAULT_PATH[before]);
    }
    // Where something is typed, too.
    for (provider, name) in [("openai", "Key"), ("none", "Channels")] {
        let desk = Desk::new();
        let mut wizard = desk.start();
        wizard.choose(provider);
        wizard.answer(name, &["x", CTRL_C]);
        wizard.done(130);
        assert!(desk.files().is_empty(), "{name}");
    }
}

#[test]
fn a_signal_from_outside_gives_the_terminal_back() {
    let desk = Desk::new();
    let wizard = desk.start();
    wizard.at("Provider");
    let pid = wizard.pty.pid.to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    wizard.done(130);
}

#[test]
fn esc_goes_back_and_leaves_at_the_first_question() {
    let desk = Desk::new();
    let mut wizard = desk.start();
    wizard.choose("none");
    wizard.answer("Channels", &[ENTER]);
    wizard.answer("Web search", &[ESC]);
    wizard.answer("Channels", &[ESC]);
    // It starts at what was answered before.
    assert!(wizard.at("Provider").contains("❯ No model"));
    wizard.pty.press(ESC);
    wizard.done(130);
    assert!(desk.files().is_empty());
}

#[test]
fn settings_that_are_there_are_replaced_with_a_copy() {
    let desk = Desk::new();
    fs::write(desk.here(), "old = true\n").unwrap();
    let mut wizard = desk.start();
    wizard.choose("none");
    wizard.enters(&DEFAULT_PATH[5..11]);
    assert!(wizard.at("All right?").contains("replaces it, the old one"));
    wizard.pty.press(ENTER);
    wizard.pty.sees("the old one is ./sentrix.toml.bak");
    wizard.done(0);
    let backup = desk.here().with_extension("toml.bak");
    assert_eq!(fs::read_to_string(&backup).unwrap(), "old = true\n");
    assert_eq!(mode(&backup), 0o600);
    assert_eq!(desk.written()["models"]["patrol"]["provider"].as_str(), Some("none"));
}

#[test]
fn the_users_own_folder_may_be_chosen_or_nothing_saved() {
    let desk = Desk::new();
    let xdg = desk.dir.path().join("xdg");
    let desk = desk.with("XDG_CONFIG_HOME", xdg.to_str().unwrap());
    let mut wizard = desk.start();
    wizard.choose("none");
    wizard.enters(&DEFAULT_PATH[5..11]);
    wizard.answer("All right?", &[DOWN, DOWN, ENTER]);
    wizard.pty.sees("Nothing was written.");
    wizard.done(0);
    assert!(desk.files().is_empty());

    let mut wizard = desk.start();
    wizard.choose("none");
    wizard.enters(&DEFAULT_PATH[5..11]);
    wizard.answer("All right?", &[DOWN, ENTER]);
    wizard.pty.sees("sentrix config show");
    wizard.done(0);
    assert!(!desk.here().exists());
    assert_eq!(mode(&xdg.join("sentrix")), 0o700);
    assert_eq!(mode(&xdg.join("sentrix/sentrix.toml")), 0o600);
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_and_asks_again() {
    let desk = Desk::new();
    fs::create_dir(desk.here()).unwrap();
    let mut wizard = desk.start();
    wizard.choose("openai");
    wizard.answer("Key", &["sk-secret", ENTER]);
    wizard.answer("Check it now", &[DOWN, ENTER]);
    wizard.enters(&DEFAULT_PATH[2..11]);
    wizard.enters(&["Keys you typed", "All right?"]);
    wizard.pty.sees("cannot replace sentrix.toml");
    assert!(desk.files().is_empty());
    wizard.answer("All right?", &[DOWN, ENTER]);
    wizard.pty.sees("sentrix config show");
    wizard.done(0);
    assert!(desk.key_file("openai").exists());
}

#[test]
fn forty_columns_are_enough() {
    let server = ok();
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start_in((40, 24), &["setup"]);
    let mut screens = wizard.enters(&DEFAULT_PATH[..11]);
    screens.push(wizard.at("All right?"));
    wizard.pty.press(ENTER);
    screens.push(saved(&wizard.pty.sees("sentrix config show")));
    wizard.done(0);
    insta::assert_snapshot!(screens.join("\n\n────────\n").replace(&server.url(), "[server]"));
}

#[test]
fn colours_are_for_those_who_want_them() {
    let coloured = |raw: &str| raw.contains("\x1b[3");
    for (env, wanted) in [(None, true), (Some(("NO_COLOR", "1")), false)] {
        let mut desk = Desk::new();
        if let Some((name, value)) = env {
            desk = desk.with(name, value);
        }
        let mut wizard = desk.start();
        wizard.choose("none");
        wizard.answer("Channels", &[CTRL_C]);
        wizard.done(130);
        assert_eq!(coloured(&wizard.pty.raw()), wanted, "{env:?}");
    }
}

#[test]
fn without_a_terminal_it_says_which_flags_to_give() {
    let world = World::new();
    let ran = world.run(["setup"]).exits(2);
    insta::assert_snapshot!(ran.stderr);
    let desk = Desk::new().with("TERM", "dumb");
    let wizard = desk.start();
    wizard.pty.sees("needs a terminal");
    assert_eq!(wizard.pty.ends(), 2);
    assert!(desk.files().is_empty());
}

#[test]
fn flags_write_the_same_file_without_a_question() {
    let server = ok();
    let desk = Desk::new().with_openai(&server);
    let mut wizard = desk.start();
    wizard.enters(&DEFAULT_PATH);
    wizard.pty.sees("sentrix config show");
    wizard.done(0);

    let world = World::new();
    let line = "setup --yes --provider openai --key-env OPENAI_API_KEY --path sub/settings.toml";
    let ran = world.run(line.split(' ')).exits(0);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("export OPENAI_API_KEY=…"), "{}", ran.stderr);
    let by_flags = fs::read_to_string(world.root().join("sub/settings.toml")).unwrap();
    assert_eq!(by_flags, fs::read_to_string(desk.here()).unwrap());

    let line = "setup --yes --provider none --no-patrol --escalation high_only";
    world.run(line.split(' ')).exits(0);
    let written: toml::Table =
        fs::read_to_string(world.root().join("sentrix.toml")).unwrap().parse().unwrap();
    assert_eq!(written["patrol"]["enabled"].as_bool(), Some(false));
    assert_eq!(written["patrol"]["escalation"].as_str(), Some("high_only"));

    for (line, says) in [
        ("setup --yes --provider opnai", "Did you mean `openai`?"),
        ("setup --yes --provider ollama", "name one with --model"),
        ("setup --yes --provider custom --model m", "give --base-url"),
        ("setup --yes --provider openai --key-env sk-1234", "never the key itself"),
        ("setup --yes --provider none --model x", "need --provider"),
    ] {
        let ran = world.run(line.split(' ')).exits(2);
        assert!(ran.stderr.contains(says) && !ran.stderr.contains("sk-1234"), "{line}: {}", ran.stderr);
    }
}

//! Layers, origins, faults as a person reads them, roles and their keys.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;

use super::env::Environment;
use super::*;
use crate::model::{Budget, Limits};

/// A working folder, a user's folder and variables.
struct Place {
    dir: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("home/.config/sentrix")).unwrap();
        fs::create_dir_all(dir.path().join("parent/work")).unwrap();
        let home = dir.path().join("home").display().to_string();
        Self { dir, variables: [("HOME".to_owned(), home)].into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Writes a file below the working folder.
    fn file(self, path: &str, text: &str) -> Self {
        fs::write(self.path("parent/work").join(path), text).unwrap();
        self
    }

    fn toml(self, text: &str) -> Self {
        self.file("sentrix.toml", text)
    }

    fn user(self, text: &str) -> Self {
        fs::write(self.path("home/.config/sentrix/sentrix.toml"), text).unwrap();
        self
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn with(&self, flags: &Flags) -> Result<Config, ConfigError> {
        let process = self.variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Config::load_in(flags, Environment::new(process, self.path("parent/work")))
    }

    fn load(&self) -> Config {
        self.with(&Flags::default()).unwrap_or_else(|error| panic!("{}", render(error.faults(), false, 110)))
    }

    /// The faults as a person reads them.
    fn faults(&self) -> String {
        let error = self.with(&Flags::default()).unwrap_err();
        let text = format!("{error}\n\n{}", render(error.faults(), false, 110));
        text.replace(&self.dir.path().display().to_string(), "DIR")
    }

    /// Each role with its models and where their keys are: `patrol openai/gpt-4o OPENAI_API_KEY k`.
    fn cast(&self) -> Vec<String> {
        cast(&self.load())
    }
}

fn cast(config: &Config) -> Vec<String> {
    let chain = |role: &crate::model::RoleSettings| {
        let link = |model: &crate::model::ModelSettings| {
            let key = model.api_key.as_ref().map_or("-", |key| key.expose_secret());
            format!("{}/{} [{}] {key}", model.provider_id, model.model, model.key_source)
        };
        role.chain.iter().map(link).collect::<Vec<_>>().join(" > ")
    };
    config.models().iter().map(|role| format!("{} {}", role.role, chain(role))).collect()
}

fn origin(config: &Config, setting: &str) -> String {
    let row = config.rows().into_iter().find(|row| row.setting == setting).unwrap();
    row.origin.map(|origin| origin.to_string()).unwrap_or_default()
}

#[test]
fn without_anything_there_are_defaults_and_no_models() {
    let config = Place::new().load();
    assert_eq!(cast(&config), [""; 0]);
    assert_eq!(config.paths(), Paths::beside("./agent_logs"));
    let patrol = PatrolConfig {
        enabled: true,
        confidence_threshold: 0.6,
        max_tokens: 2_048,
        window_chars: 24_000,
        max_attempts: 5,
        ruleset_version: None,
        model_version: None,
        escalation: Escalation::MediumAbove,
    };
    assert_eq!(config.patrol(), patrol);
    assert_eq!(config.police(), PoliceConfig { max_tokens: 4_096, max_turn_chars: 80_000 });
    let security = SecurityConfig {
        exec: Exec::Deny,
        workspace_only: true,
        dm_policy: DmPolicy::Pairing,
        egress: Egress::Door,
    };
    assert_eq!(config.security(), security);
    let agent = config.agent();
    let got = (agent.model.is_some(), agent.reasoning, agent.capture_reasoning, agent.subagents_shown);
    assert_eq!(got, (false, Reasoning::Adaptive, true, 10));
    assert!(config.redact_to_model() && config.cache_answers());
    assert!(config.limits().values().all(|limits| *limits == Limits::default()));
    let budgets = config.budgets();
    assert_eq!((budgets.sweep, budgets.investigation), (Budget::default(), Budget::default()));
    assert_eq!(budgets.day, Budget { tokens: None, micro_usd: Some(5_000_000) });
    assert_eq!(config.channels().len(), 5);
    assert!(config.channels().iter().all(|channel| !channel.enabled));
    assert_eq!(config.search().brave.looked, "BRAVE_API_KEY");
    assert!(config.warnings().is_empty() && config.files().is_empty());
}

#[test]
fn the_stronger_layer_wins_setting_by_setting() {
    let place = Place::new()
        .user("[patrol]\nwindow_chars = 1000\nmax_attempts = 1\nescalation = \"low_above\"\nconfidence_threshold = 0.1")
        .toml("[patrol]\nmax_attempts = 2\nescalation = \"high_only\"\nconfidence_threshold = 0.2\n")
        .file("../.env", "PATROL_CONFIDENCE_THRESHOLD=0.3\nPATROL_MAX_TOKENS=3\nPOLICE_MAX_TOKENS=3\n")
        .file(".env", "PATROL_MAX_TOKENS=4\nPOLICE_MAX_TOKENS=4\n")
        .var("POLICE_MAX_TOKENS", "5");
    let flags = Flags { escalation: Some(Escalation::MediumAbove), ..Flags::default() };
    let config = place.with(&flags).unwrap();
    let patrol = config.patrol();
    assert_eq!((patrol.window_chars, patrol.max_attempts), (1_000, 2));
    assert!((patrol.confidence_threshold - 0.3).abs() < 1e-9);
    assert_eq!((patrol.max_tokens, config.police().max_tokens), (4, 5));
    assert_eq!(patrol.escalation, Escalation::MediumAbove);
    let dir = place.dir.path().display().to_string();
    for (setting, from) in [
        ("patrol.window_chars", format!("{dir}/home/.config/sentrix/sentrix.toml:2")),
        ("patrol.max_attempts", "./sentrix.toml:2".into()),
        ("patrol.confidence_threshold", format!("PATROL_CONFIDENCE_THRESHOLD, from {dir}/parent/.env")),
        ("patrol.escalation", "--escalation".into()),
        ("police.max_turn_chars", "default".into()),
    ] {
        assert_eq!(origin(&config, setting), from);
    }
    assert_eq!(config.files(), [format!("{dir}/home/.config/sentrix/sentrix.toml"), "./sentrix.toml".into()]);
}

#[test]
fn a_named_file_replaces_both() {
    let place = Place::new()
        .user("[patrol]\nwindow_chars = 1000")
        .toml("[patrol]\nmax_attempts = 2")
        .file("other.toml", "log_dir = \"logs\"\ndata_dir = \"~/data\"\n")
        .var("SENTRIX_CONFIG", "other.toml");
    let config = place.load();
    assert_eq!((config.patrol().window_chars, config.patrol().max_attempts), (24_000, 5));
    assert_eq!(config.paths(), Paths::apart("logs", place.path("home/data")));
    let by_flag = place.path("parent/work/sentrix.toml");
    let config = place.with(&Flags { config: Some(by_flag), ..Flags::default() }).unwrap();
    assert_eq!(config.patrol().max_attempts, 2);
    assert!(place.var("SENTRIX_CONFIG", "none.toml").faults().contains("none.toml cannot be read"));
}

#[test]
fn paths_in_a_file_elsewhere_count_from_there() {
    let place = Place::new().user("log_dir = \"logs\"");
    assert_eq!(place.load().paths().logs, place.path("home/.config/sentrix/logs"));
    let flags = Flags { log_dir: Some("here".into()), ..Flags::default() };
    assert_eq!(place.with(&flags).unwrap().paths(), Paths::beside("here"));
}

#[test]
fn every_variable_of_a_setting_sets_it() {
    for setting in settings::all() {
        for variable in &setting.variables {
            let value = match &setting.kind {
                kind::Kind::Provider => "openai",
                kind::Kind::Whole(_) => "77",
                kind::Kind::Number(_) => "0.75",
                kind::Kind::Bool => "off",
                _ => "gpt-x",
            };
            let place = Place::new().var("OPENAI_API_KEY", "k").var(variable, &format!(" {value}\r\n"));
            let config = place.load();
            let given = config.given(&setting.path).unwrap();
            assert_eq!(
                given.value,
                setting.kind.of_text(value).or_else(|_| kind::Kind::Text.of_text(value)).unwrap()
            );
            assert_eq!(given.origin, Origin::Variable { name: (*variable).to_owned(), file: None });
        }
    }
}

#[test]
fn new_names_of_variables_go_before_those_of_the_earlier_tool() {
    let place = Place::new()
        .var("OPENAI_API_KEY", "k")
        .var("PATROL_MODEL", "gpt-old")
        .var("SENTRIX_PATROL_MODEL", "gpt-new")
        .var("POLICE_MODEL", "gpt-police");
    let cast = place.cast();
    assert_eq!(
        cast,
        ["patrol openai/gpt-new [OPENAI_API_KEY] k", "investigator openai/gpt-police [OPENAI_API_KEY] k"]
    );
}

#[test]
fn the_provider_follows_from_names_and_keys() {
    let check = |variables: &[(&str, &str)], patrol: Option<&str>| {
        let place = variables.iter().fold(Place::new(), |place, (name, value)| place.var(name, value));
        let cast = place.cast();
        let got = cast.iter().find_map(|role| role.strip_prefix("patrol "));
        assert_eq!(got, patrol, "{variables:?}");
    };
    let both = [("OPENAI_API_KEY", "o"), ("ANTHROPIC_API_KEY", "a")];
    let and = |more: &[(&'static str, &'static str)]| [&both, more].concat();
    check(&[], None);
    check(&[("PATROL_MODEL", "claude-x")], None);
    check(&[("OPENAI_API_KEY", "no-key-set")], None);
    check(&[("OPENAI_API_KEY", " \r\n")], None);
    check(&[("OPENAI_API_KEY", " o\r\n")], Some("openai/gpt-6-luna [OPENAI_API_KEY] o"));
    check(&both, Some("anthropic/claude-haiku-5-5 [ANTHROPIC_API_KEY] a"));
    check(&and(&[("PATROL_MODEL", "gpt-4o-mini")]), Some("openai/gpt-4o-mini [OPENAI_API_KEY] o"));
    check(&and(&[("PATROL_MODEL", "o3-mini")]), Some("openai/o3-mini [OPENAI_API_KEY] o"));
    check(&and(&[("PATROL_MODEL", "openai/gpt-x")]), Some("openai/gpt-x [OPENAI_API_KEY] o"));
    check(&and(&[("PATROL_MODEL", "who-knows")]), Some("anthropic/who-knows [ANTHROPIC_API_KEY] a"));
    // Never another provider's key.
    check(
        &[("OPENAI_API_KEY", "o"), ("PATROL_MODEL", "claude-x")],
        Some("anthropic/claude-x [ANTHROPIC_API_KEY] -"),
    );
    check(
        &[("OPENAI_API_KEY", "o"), ("SENTRIX_PATROL_PROVIDER", "anthropic")],
        Some("anthropic/claude-haiku-5-5 [ANTHROPIC_API_KEY] -"),
    );
    check(
        &and(&[("SENTRIX_PATROL_PROVIDER", "openai"), ("SENTRIX_PATROL_API_KEY", "own")]),
        Some("openai/gpt-6-luna [SENTRIX_PATROL_API_KEY] own"),
    );
    check(
        &and(&[("PATROL_ANTHROPIC_API_KEY", "e")]),
        Some("anthropic/claude-haiku-5-5 [PATROL_ANTHROPIC_API_KEY] e"),
    );
    check(&[("PATROL_OPENAI_API_KEY", "e")], Some("openai/gpt-6-luna [PATROL_OPENAI_API_KEY] e"));
    check(
        &[("SENTRIX_PATROL_PROVIDER", "ollama"), ("SENTRIX_PATROL_MODEL", "llama3")],
        Some("ollama/llama3 [] -"),
    );
    check(&[("SENTRIX_PATROL_MODEL", "ollama/llama3")], Some("ollama/llama3 [] -"));
}

#[test]
fn the_earlier_tools_patrol_key_is_the_patrols_alone() {
    let cast = Place::new().var("PATROL_OPENAI_API_KEY", "e").cast();
    assert_eq!(cast, ["patrol openai/gpt-6-luna [PATROL_OPENAI_API_KEY] e"]);
}

#[test]
fn a_key_comes_from_the_first_place_that_has_one() {
    let toml = "[models.patrol]\nprovider = \"openai\"\n[providers.openai]\napi_key_env = \"MY_KEY\"\napi_key_file = \"key\"\n";
    let place = || {
        let place = Place::new().toml(toml).file("key", "from-file\n");
        fs::set_permissions(place.path("parent/work/key"), fs::Permissions::from_mode(0o600)).unwrap();
        place
    };
    let patrol = |place: Place| place.cast().into_iter().next().unwrap();
    let all = || place().var("OPENAI_API_KEY", "general").file(".env", "MY_KEY=mine\n");
    let role = all().var("SENTRIX_PATROL_API_KEY", "role").var("PATROL_OPENAI_API_KEY", "earlier");
    assert_eq!(patrol(role), "patrol openai/gpt-6-luna [SENTRIX_PATROL_API_KEY] role");
    let earlier = all().var("PATROL_OPENAI_API_KEY", "earlier");
    assert_eq!(patrol(earlier), "patrol openai/gpt-6-luna [PATROL_OPENAI_API_KEY] earlier");
    assert_eq!(patrol(all()), "patrol openai/gpt-6-luna [MY_KEY (from .env)] mine");
    let file = place().var("OPENAI_API_KEY", "general");
    assert_eq!(patrol(file), "patrol openai/gpt-6-luna [the file key] from-file");
    let empty = place().file("key", "no-key-set\n").var("OPENAI_API_KEY", "general");
    assert_eq!(patrol(empty), "patrol openai/gpt-6-luna [OPENAI_API_KEY] general");
    let none = place().file("key", "");
    assert_eq!(patrol(none), "patrol openai/gpt-6-luna [MY_KEY or the file key or OPENAI_API_KEY] -");
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let toml = "[providers.openai]\napi_key_file = \"key\"\n";
    let place = Place::new().toml(toml).file("key", "secret-in-file\n");
    fs::set_permissions(place.path("parent/work/key"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = place.faults();
    assert!(said.contains("others may read it") && said.contains("chmod 600 key"), "{said}");
    assert_eq!(said.matches("cannot be used").count(), 1, "{said}");
    assert!(!said.contains("secret-in-file"));
}

#[test]
fn a_lens_is_as_the_patrol_where_it_says_nothing() {
    let place = Place::new()
        .toml(
            "[models.patrol]\nprovider = \"openai\"\nmodel = \"gpt-a\"\nfallback = [\"anthropic/claude-x\", \"openai/gpt-a\"]\n\
            max_tokens = 99\ntimeout = \"5s\"\n[models.patrol.lens.injection]\nprovider = \"anthropic\"\nfallback = []\n\
            [models.patrol.lens.tool_use]\nmodel = \"gpt-b\"\ntimeout = \"6s\"\n[providers.openai]\nconnect_timeout = \"3s\"\n\
            base_url = \"http://127.0.0.1:1\"\n",
        )
        .var("SENTRIX_PATROL_API_KEY", "own")
        .var("ANTHROPIC_API_KEY", "a");
    let config = place.load();
    assert_eq!(
        cast(&config),
        [
            "patrol openai/gpt-a [SENTRIX_PATROL_API_KEY] own > anthropic/claude-x [ANTHROPIC_API_KEY] a",
            "investigator anthropic/claude-sonnet-5-5 [ANTHROPIC_API_KEY] a",
            "patrol.tool_use openai/gpt-b [SENTRIX_PATROL_API_KEY] own > anthropic/claude-x [ANTHROPIC_API_KEY] a > openai/gpt-a [SENTRIX_PATROL_API_KEY] own",
            "patrol.injection anthropic/claude-haiku-5-5 [ANTHROPIC_API_KEY] a",
        ]
    );
    let models = config.models();
    let tool_use = &models.iter().find(|role| role.role == "patrol.tool_use").unwrap().chain[0];
    assert_eq!(
        (tool_use.timeouts.total, tool_use.timeouts.connect),
        (Duration::from_secs(6), Duration::from_secs(3))
    );
    assert_eq!((tool_use.max_tokens, tool_use.base_url.as_str()), (99, "http://127.0.0.1:1"));
    assert_eq!(tool_use.role, "patrol.tool_use");
}

#[test]
fn a_provider_and_a_model_that_do_not_fit_are_both_named() {
    let place = Place::new()
        .toml("[models.patrol]\nprovider = \"openai\"\n")
        .file(".env", "PATROL_MODEL=claude-haiku-4-5\n")
        .var("OPENAI_API_KEY", "k");
    insta::assert_snapshot!("conflict", place.faults());
    // An endpoint of one's own has what it has.
    let own = place.var("OPENAI_BASE_URL", "http://127.0.0.1:4000");
    assert_eq!(own.cast()[0], "patrol openai/claude-haiku-4-5 [OPENAI_API_KEY] k");
}

#[test]
fn a_role_key_without_a_provider_goes_to_nobody() {
    let said = Place::new().var("SENTRIX_PATROL_API_KEY", "own").var("OPENAI_API_KEY", "k").faults();
    assert!(said.contains("SENTRIX_PATROL_API_KEY is set, but nothing says which provider"), "{said}");
    assert!(said.contains("SENTRIX_PATROL_PROVIDER"), "{said}");
}

#[test]
fn what_a_provider_lacks_is_told() {
    let said = Place::new().toml("[models.patrol]\nprovider = \"custom\"\n").faults();
    assert!(said.contains("no model for patrol"), "{said}");
    let said = Place::new().toml("[models.patrol]\nprovider = \"custom\"\nmodel = \"m\"").faults();
    assert!(said.contains("SENTRIX_CUSTOM_BASE_URL"), "{said}");
}

#[test]
fn every_fault_is_told_at_once() {
    let place = Place::new()
        .toml(
            "logdir = \"x\"\n\
            data_dir = 3\n\
            [models.patrol]\n\
            provider = \"antropic\"\n\
            max_tokens = 0\n\
            timeout = \"2\"\n\
            fallback = [\"openai/gpt-4o-mini\", \"gpt-4o\", \"opnai/x\"]\n\
            api_key = \"sk-ant-REALLYSECRETVALUE\"\n\
            [models.patrol.lens.injections]\n\
            model = \"m\"\n\
            [providers.openai]\n\
            base_url = \"api.openai.com\"\n\
            api_key_env = \"sk-proj-ANOTHERSECRETVALUE\"\n\
            [providers.mistrall]\n\
            concurrency = 3\n\
            [prices.\"openai/nobody\"]\n\
            input = 1\n\
            [patrol]\n\
            escalation = \"medium\"\n\
            confidence_threshold = 1.5\n\
            enabled = \"yes\"\n\
            [channels.telegram]\n\
            token = \"123456:telegram-secret\"\n",
        )
        .file(".env", "POLICE_MAX_TOKENS=many\n")
        .var("SENTRIX_CACHE_ANSWERS", "perhaps");
    let said = place.faults();
    assert!(!said.contains("SECRET") && !said.contains("telegram-secret"), "{said}");
    insta::assert_snapshot!("all_faults", said);
}

#[test]
fn a_file_that_is_no_toml_is_told_with_the_rest_and_without_secrets() {
    let place =
        Place::new().toml("log_dir = agent_logs\n[patrol]\nwindow = 3\napi_key = sk-ant-SECRETSECRET\n");
    let said = place.faults();
    assert!(!said.contains("SECRET"), "{said}");
    insta::assert_snapshot!("syntax", said);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let check = |bytes: &[u8], words: &str| {
        let place = Place::new();
        fs::write(place.path("parent/work/sentrix.toml"), bytes).unwrap();
        assert!(place.faults().contains(words), "{}", place.faults());
    };
    check(b"log_dir = \"x\"\n# \xff\n", "line 2 is not UTF-8");
    check("# x\n".repeat(300_000).as_bytes(), "larger than 1 MiB");
    check(format!("a = {}\n", "[".repeat(100_000)).as_bytes(), "sentrix.toml:1:");
    let place = Place::new();
    fs::create_dir(place.path("parent/work/sentrix.toml")).unwrap();
    assert!(place.faults().contains("it is no file"));
}

#[test]
fn a_file_of_faults_is_read_in_time() {
    let unknown = (0..60_000).map(|n| format!("key_{n} = 1\n")).collect::<Vec<_>>().concat();
    let same = "api_key = \"x\"\n".repeat(60_000);
    let prices = (0..20_000)
        .map(|n| format!("[prices.\"openai/m{n}\"]\ninput = 1\noutput = 2\n"))
        .collect::<Vec<_>>()
        .concat();
    for text in [unknown, same] {
        let said = Place::new().toml(&text).faults();
        assert!(said.contains("… and ") && said.len() < 100_000, "{}", said.len());
    }
    assert!(Place::new().toml(&prices).load().price("openai", "m19999").is_some());
}

#[test]
fn a_secret_in_the_wrong_variable_is_not_repeated() {
    for name in ["SENTRIX_PATROL_PROVIDER", "PATROL_MODEL", "PATROL_MAX_TOKENS", "OPENAI_BASE_URL"] {
        let said = Place::new().var(name, "sk-ant-SECRETSECRET").faults();
        assert!(said.contains(name) && !said.contains("SECRET"), "{said}");
    }
}

#[test]
fn prices_go_over_the_list() {
    let place = Place::new().toml(
        "[prices.\"openai/gpt-4o-mini\"]\noutput = 9\n[prices.\"ollama/llama.3\"]\ninput = 0.5\noutput = 1\n[models.patrol]\n\
        provider = \"openai\"\nmodel = \"gpt-4o-mini\"\n",
    );
    let config = place.load();
    let price = config.price("openai", "gpt-4o-mini").unwrap();
    assert!((price.output - 9.0).abs() < 1e-9 && price.input < 1.0);
    assert_eq!(config.models()[0].chain[0].price, Some(price));
    assert!((config.price("ollama", "llama.3").unwrap().input - 0.5).abs() < 1e-9);
    assert_eq!(config.price("openai", "unknown"), None);
}

#[test]
fn secrets_of_channels_come_from_where_the_file_says() {
    let place = Place::new()
        .toml("[channels.slack]\nenabled = true\nbot_token_env = \"MY_BOT\"\napp_token_file = \"token\"\n")
        .file("token", " t\n")
        .var("MY_BOT", "b");
    fs::set_permissions(place.path("parent/work/token"), fs::Permissions::from_mode(0o600)).unwrap();
    let config = place.load();
    let channels = config.channels();
    let slack = channels.iter().find(|channel| channel.id == "slack").unwrap();
    let secret = |name: &str| slack.secrets[name].secret.as_ref().map(|key| key.expose_secret().to_owned());
    assert_eq!((secret("bot_token").as_deref(), secret("app_token").as_deref()), (Some("b"), Some("t")));
    assert_eq!(slack.secrets["app_token"].looked, "the file token");
    let none = Place::new().load().channels().remove(0);
    assert_eq!((none.id, none.secrets["token"].looked.as_str()), ("telegram", "TELEGRAM_BOT_TOKEN"));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let place = Place::new()
        .toml(
            "[models.patrol]\nprovider = \"openai\"\nmodel = \"gpt-of-tomorrow\"\nfallback = [\"anthropic/claude-haiku-4-5\"]\n\
            [budget.sweep]\nusd = 1\n[channels.telegram]\nenabled = true\n[providers.ollama]\napi_key_file = \"key\"\n",
        )
        .file("key", "x")
        .var("OPENAI_API_KEY", "k");
    fs::set_permissions(place.path("parent/work/key"), fs::Permissions::from_mode(0o640)).unwrap();
    insta::assert_snapshot!("warnings", render(&place.load().warnings(), false, 110));
}

#[test]
fn nothing_shows_a_secret() {
    let place = Place::new()
        .toml("[providers.openai]\nbase_url = \"https://me:SECRET@example.org/v1?SECRET\"\n")
        .file(".env", "ANTHROPIC_API_KEY=SECRET\nTELEGRAM_BOT_TOKEN=SECRET\nbad SECRET line\n")
        .var("OPENAI_API_KEY", "SECRET")
        .var("SENTRIX_STATE_KEY", "SECRET");
    let config = place.load();
    let shown = format!(
        "{:?} {:?} {:?} {:?} {config:?}",
        config.rows(),
        config.notes(),
        config.channels(),
        config.models()
    );
    assert!(shown.contains("ANTHROPIC_API_KEY"));
    // Where OpenAI is stands in `Debug`; people see it without what could be a secret.
    let shown = shown.replace("https://me:SECRET@example.org/v1?SECRET", "");
    assert!(!shown.contains("SECRET\"") && !shown.contains("SECRET line"), "{shown}");
    let rows = serde_json::to_string(&config.rows()).unwrap();
    assert!(!rows.contains("SECRET"), "{rows}");
    assert!(!config.notes().join("").contains("SECRET"));
}

#[test]
fn a_working_folder_that_is_the_users_is_read_once() {
    let place = Place::new().user("log_dir = \"x\"");
    let process: BTreeMap<_, _> = [("HOME".into(), place.path("home").into())].into();
    let folder = place.path("home/.config/sentrix");
    let config = Config::load_in(&Flags::default(), Environment::new(process, folder)).unwrap();
    assert_eq!(config.files(), ["./sentrix.toml"]);
    assert_eq!(config.paths().logs, Path::new("x"));
}

//! Every setting, declared once: its place in the file, what it takes, its default, its variables, what it is for.
//!
//! Files, environment, `config show`, the template, the JSON Schema and every "did you mean" go by this list.

use std::sync::LazyLock;
use std::time::Duration;

use super::choice::{DmPolicy, Egress, Escalation, Exec, Reasoning};
use super::env::{self, Variable};
use super::kind::{Kind, Value};
use crate::model::providers;

/// What the patrol's agents look for: roles of their own, where they are configured.
pub(super) const LENSES: [&str; 4] = ["credentials", "harmful_intent", "tool_use", "injection"];

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// Its path in the file; `*` stands for a name that is not known before.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// The value where none is given; nothing where it follows from something else, or there is none.
    pub(super) default: Option<Value>,
    /// Variables that set it, the first goes first.
    pub(super) variables: Vec<&'static str>,
    /// What it is for, a sentence.
    pub(super) doc: String,
}

static ALL: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut list = List(Vec::new());
    list.places();
    list.models();
    list.providers();
    list.spending();
    list.patrol_and_police();
    list.sandbox();
    list.0
});

/// All settings, in the order in which they are explained.
pub(super) fn all() -> &'static [Setting] {
    &ALL
}

/// The setting at a path.
pub(super) fn find(path: &str) -> Option<&'static Setting> {
    all().iter().find(|setting| setting.path == path)
}

/// Whether there are settings below a path.
pub(super) fn is_table(path: &str) -> bool {
    all().iter().any(|setting| setting.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Whether the names in a table are not known before.
pub(super) fn is_open(path: &str) -> bool {
    path == "prices"
}

/// The keys that a table may have.
pub(super) fn children(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for setting in all() {
        let inside = match table {
            "" => Some(setting.path.as_str()),
            table => setting.path.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = inside.and_then(|inside| inside.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// A key behind a table's path.
pub(super) fn join(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// A key that has dots or slashes.
pub(super) fn quoted(key: &str) -> String {
    format!("\"{key}\"")
}

/// How a secret is given that stands where `path` says.
pub(super) fn instead_of_secret(path: &str) -> String {
    let mut parts = path.split('.');
    match (parts.next(), parts.next()) {
        (Some("models"), Some(role)) => format!(
            "set it in the environment or a `.env` file as SENTRIX_{}_API_KEY, or as its provider's own variable",
            role.to_uppercase()
        ),
        (Some("providers"), Some(id)) => {
            let variable = providers().iter().find(|provider| provider.id == id);
            let variable = variable.and_then(|provider| provider.key.first());
            format!(
                "set it in the environment or a `.env` file{}, or name a file with `providers.{id}.api_key_file`",
                variable.map(|name| format!(" as {name}")).unwrap_or_default()
            )
        }
        (Some("channels"), Some(id)) => {
            let keys = children(&format!("channels.{id}"));
            let keys: Vec<&str> = keys.into_iter().filter(|key| *key != "enabled").collect();
            format!("name the variable or the file that holds it: {}", super::words::list(keys))
        }
        (Some("search"), _) => {
            "name the variable or the file that holds it: `brave_key_env`, `brave_key_file`".into()
        }
        _ => "set it in the environment or a `.env` file".into(),
    }
}

/// The list as it grows.
struct List(Vec<Setting>);

impl List {
    fn add(
        &mut self,
        path: impl Into<String>,
        kind: Kind,
        default: Option<Value>,
        variables: &[Variable],
        doc: impl Into<String>,
    ) {
        let variables = variables.iter().map(|variable| variable.name).collect();
        self.0.push(Setting { path: path.into(), kind, default, variables, doc: doc.into() });
    }

    fn places(&mut self) {
        self.add("log_dir", Kind::Path, Some(text("./agent_logs")), &[], "Directory with OpenClaw's logs.");
        self.add(
            "data_dir",
            Kind::Path,
            None,
            &[],
            "Directory for stores, flags and reports (default: the log directory).",
        );
    }

    fn models(&mut self) {
        let role = |list: &mut Self, role: &str, whose: &str, provider, model: &[Variable]| {
            let path = |key: &str| format!("models.{role}.{key}");
            let doc = format!(
                "Provider of the model {whose} (default: by the model's name, else the first with a key)."
            );
            list.add(path("provider"), Kind::Provider, None, &[provider], doc);
            list.add(
                path("model"),
                Kind::Text,
                None,
                model,
                format!("Model {whose} (default: the provider's)."),
            );
        };
        role(
            self,
            "patrol",
            "of the patrol",
            env::SENTRIX_PATROL_PROVIDER,
            &[env::SENTRIX_PATROL_MODEL, env::PATROL_MODEL],
        );
        self.asking("models.patrol", Some(2_048), &[env::PATROL_MAX_TOKENS]);
        for lens in LENSES {
            let table = format!("models.patrol.lens.{lens}");
            let what = lens.replace('_', " ");
            let doc = format!("Provider of the agents that look for {what} (default: the patrol's).");
            self.add(format!("{table}.provider"), Kind::Provider, None, &[], doc);
            let doc = format!("Model of the agents that look for {what} (default: the patrol's).");
            self.add(format!("{table}.model"), Kind::Text, None, &[], doc);
            self.asking(&table, None, &[]);
        }
        role(
            self,
            "investigator",
            "for investigations",
            env::SENTRIX_INVESTIGATOR_PROVIDER,
            &[env::SENTRIX_INVESTIGATOR_MODEL, env::POLICE_MODEL],
        );
        self.asking("models.investigator", Some(4_096), &[env::POLICE_MAX_TOKENS]);
        role(
            self,
            "agent",
            "of OpenClaw in the sandbox",
            env::SENTRIX_AGENT_PROVIDER,
            &[env::SENTRIX_AGENT_MODEL],
        );
    }

    /// How a role's models are asked; without `max_tokens` as the patrol's.
    fn asking(&mut self, table: &str, max_tokens: Option<u64>, variables: &[Variable]) {
        let time = max_tokens.map(|_| Value::Duration(Duration::from_mins(2)));
        let doc = "Models that are asked, in this order, where the one before cannot answer.";
        self.add(format!("{table}.fallback"), Kind::Models, None, &[], doc);
        let kind = Kind::Whole(1..=1_000_000);
        self.add(
            format!("{table}.max_tokens"),
            kind,
            max_tokens.map(Value::Whole),
            variables,
            "Most tokens of one answer.",
        );
        self.add(
            format!("{table}.timeout"),
            Kind::Duration(1..=3_600),
            time,
            &[],
            "Longest time of one attempt.",
        );
    }

    fn providers(&mut self) {
        for provider in providers() {
            let path = |key: &str| format!("providers.{}.{key}", provider.id);
            let base_url = Some(provider.base_url.clone()).filter(|url| !url.is_empty()).map(Value::Text);
            let variable = env::all().iter().find(|variable| variable.name == provider.base_url_var);
            let doc = format!("Where {} is.", provider.name);
            self.add(path("base_url"), Kind::Url, base_url, variable.map_or(&[], std::slice::from_ref), doc);
            let own = if provider.key.is_empty() { String::from("none") } else { provider.key.join(" or ") };
            let doc = format!("Variable that its key is read from (default: {own}).");
            self.add(path("api_key_env"), Kind::Variable, None, &[], doc);
            let doc = "File that its key is read from; only you may read it.";
            self.add(path("api_key_file"), Kind::Path, None, &[], doc);
            let at_once = Some(Value::Whole(16));
            self.add(path("concurrency"), Kind::Whole(1..=1_000), at_once, &[], "Most calls at once.");
            let doc = "Most calls a minute (default: no limit).";
            self.add(path("requests_per_minute"), Kind::Whole(1..=1_000_000), None, &[], doc);
            let time = Some(Value::Duration(Duration::from_secs(10)));
            self.add(
                path("connect_timeout"),
                Kind::Duration(1..=600),
                time,
                &[],
                "Longest time until a connection stands.",
            );
        }
    }

    fn spending(&mut self) {
        for (key, what) in [
            ("input", "of the question"),
            ("cached_input", "of the part of the question that the provider had kept"),
            ("output", "of the answer"),
        ] {
            let doc = format!("US dollars for a million tokens {what}, over the built-in price.");
            self.add(format!("prices.*.{key}"), Kind::Number(0.0..=100_000.0), None, &[], doc);
        }
        for (what, whose, default, tokens, usd) in [
            ("sweep", "one sweep", None, env::SENTRIX_BUDGET_SWEEP_TOKENS, env::SENTRIX_BUDGET_SWEEP_USD),
            (
                "investigation",
                "one investigation",
                None,
                env::SENTRIX_BUDGET_INVESTIGATION_TOKENS,
                env::SENTRIX_BUDGET_INVESTIGATION_USD,
            ),
            ("day", "one day (UTC)", Some(5.0), env::SENTRIX_BUDGET_DAY_TOKENS, env::SENTRIX_BUDGET_DAY_USD),
        ] {
            let doc = format!("Most tokens of {whose} (default: no limit).");
            let kind = Kind::Whole(0..=1_000_000_000_000);
            self.add(format!("budget.{what}.tokens"), kind, None, &[tokens], doc);
            let doc = format!(
                "Most US dollars of {whose}{}.",
                if default.is_none() { " (default: no limit)" } else { "" }
            );
            let kind = Kind::Number(0.0..=1_000_000.0);
            self.add(format!("budget.{what}.usd"), kind, default.map(Value::Number), &[usd], doc);
        }
        let doc = "Whether secrets and personal data are masked before a model sees them.";
        let yes = Some(Value::Bool(true));
        self.add("privacy.redact_to_model", Kind::Bool, yes.clone(), &[env::SENTRIX_REDACT_TO_MODEL], doc);
        let doc =
            "Whether an answer about the same text is kept and used again, so that it is never paid twice.";
        self.add("privacy.cache_answers", Kind::Bool, yes, &[env::SENTRIX_CACHE_ANSWERS], doc);
    }

    fn patrol_and_police(&mut self) {
        self.add(
            "patrol.confidence_threshold",
            Kind::Number(0.0..=1.0),
            Some(Value::Number(0.6)),
            &[env::PATROL_CONFIDENCE_THRESHOLD],
            "Lowest confidence that a model's vote needs to count.",
        );
        let doc = "Most characters of log text in one question to a model.";
        self.add("patrol.window_chars", Kind::Whole(1_000..=2_000_000), Some(Value::Whole(24_000)), &[], doc);
        let doc = "Attempts after which a turn is given up as unreviewed.";
        self.add("patrol.max_attempts", Kind::Whole(1..=100), Some(Value::Whole(5)), &[], doc);
        let doc = "Version name of the rules in the record of cleared turns (default: the rule packs' own).";
        self.add("patrol.ruleset_version", Kind::Text, None, &[env::PATROL_RULESET_VERSION], doc);
        let doc =
            "Version name of the model in the record of cleared turns (default: the model really used).";
        self.add("patrol.model_version", Kind::Text, None, &[env::PATROL_MODEL_VERSION], doc);
        self.add(
            "patrol.enabled",
            Kind::Bool,
            Some(Value::Bool(true)),
            &[],
            "Whether `sentrix run` patrols.",
        );
        let kind = Kind::Choice(Escalation::WORDS);
        let default = Some(text(Escalation::default().word()));
        self.add("patrol.escalation", kind, default, &[], "From which severity on flags go to the police.");
        self.add(
            "police.max_turn_chars",
            Kind::Whole(1..=100_000_000),
            Some(Value::Whole(80_000)),
            &[env::POLICE_MAX_TURN_CHARS],
            "Most characters of log text that an investigation reads at once.",
        );
    }

    fn sandbox(&mut self) {
        let yes = || Some(Value::Bool(true));
        let kind = Kind::Choice(Reasoning::WORDS);
        self.add(
            "agent.reasoning",
            kind,
            Some(text(Reasoning::default().word())),
            &[],
            "How much OpenClaw's model thinks.",
        );
        self.add("agent.capture_reasoning", Kind::Bool, yes(), &[], "Whether its thinking is logged.");
        let doc = "How many subagents are shown.";
        self.add("agent.subagents_shown", Kind::Whole(0..=1_000), Some(Value::Whole(10)), &[], doc);
        for (id, name, secrets) in CHANNELS {
            let doc = format!("Whether OpenClaw is reached through {name}.");
            self.add(format!("channels.{id}.enabled"), Kind::Bool, Some(Value::Bool(false)), &[], doc);
            for (secret, variable) in *secrets {
                let what = secret.replace('_', " ");
                let doc = format!("Variable that holds the {what}.");
                self.add(
                    format!("channels.{id}.{secret}_env"),
                    Kind::Variable,
                    Some(text(variable.name)),
                    &[],
                    doc,
                );
                let doc = format!("File that holds the {what}, instead; only you may read it.");
                self.add(format!("channels.{id}.{secret}_file"), Kind::Path, None, &[], doc);
            }
        }
        let doc = "Variable that holds the key for Brave's search.";
        self.add("search.brave_key_env", Kind::Variable, Some(text(env::BRAVE_API_KEY.name)), &[], doc);
        let doc = "File that holds the key for Brave's search, instead; only you may read it.";
        self.add("search.brave_key_file", Kind::Path, None, &[], doc);
        let doc = "Whether OpenClaw may run commands in the sandbox.";
        self.add("security.exec", Kind::Choice(Exec::WORDS), Some(text(Exec::default().word())), &[], doc);
        let doc = "Whether OpenClaw's file tools stay in its workspace.";
        self.add("security.workspace_only", Kind::Bool, yes(), &[], doc);
        let kind = Kind::Choice(DmPolicy::WORDS);
        self.add(
            "security.dm_policy",
            kind,
            Some(text(DmPolicy::default().word())),
            &[],
            "Who may write to OpenClaw directly.",
        );
        let kind = Kind::Choice(Egress::WORDS);
        self.add(
            "security.egress",
            kind,
            Some(text(Egress::default().word())),
            &[],
            "Where the sandbox may connect to.",
        );
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

/// The secrets of a channel, with the variables that usually hold them.
pub(super) type Secrets = &'static [(&'static str, Variable)];

/// Channels that OpenClaw can be reached through: id, name, secrets.
pub(super) const CHANNELS: &[(&str, &str, Secrets)] = &[
    ("telegram", "Telegram", &[("token", env::TELEGRAM_BOT_TOKEN)]),
    ("discord", "Discord", &[("token", env::DISCORD_BOT_TOKEN)]),
    ("slack", "Slack", &[("bot_token", env::SLACK_BOT_TOKEN), ("app_token", env::SLACK_APP_TOKEN)]),
    ("whatsapp", "WhatsApp", &[]),
    ("signal", "Signal", &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_there_once_with_a_default_that_it_takes() {
        for setting in all() {
            let path = &setting.path;
            assert_eq!(all().iter().filter(|other| other.path == *path).count(), 1, "{path}");
            assert!(!is_table(path), "{path} is a value and a table");
            assert!(setting.doc.ends_with('.'), "{path}: {}", setting.doc);
            if let Some(default) = &setting.default {
                assert_eq!(setting.kind.of_text(&default.shown()).as_ref(), Ok(default), "{path}");
            }
        }
    }

    #[test]
    fn a_variable_sets_one_setting() {
        let mut names: Vec<&str> = all().iter().flat_map(|setting| setting.variables.clone()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for name in names {
            assert!(env::all().iter().any(|variable| variable.name == name), "{name}");
        }
    }
}

//! What the other rooms are given: plain values, checked before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use super::choice::{DmPolicy, Egress, Escalation, Exec, Reasoning};
use super::env;
use super::keys::{self, Key};
use super::kind::Value;
use super::load::Config;
use super::models;
use super::origin::Origin;
use super::paths::Paths;
use super::settings::CHANNELS;
use crate::model::{Budget, Budgets, Limits, Price, Provider, RoleSettings, provider, providers};
use crate::text::plain;

/// What the user decided about the patrol.
#[derive(Clone, Debug, PartialEq)]
pub struct PatrolConfig {
    /// Whether `sentrix run` patrols.
    pub enabled: bool,
    /// Lowest confidence that a model's vote needs to count.
    pub confidence_threshold: f64,
    /// Most tokens of one answer.
    pub max_tokens: u32,
    /// Most characters of log text in one question to a model.
    pub window_chars: usize,
    /// Attempts after which a turn is given up as unreviewed.
    pub max_attempts: u32,
    /// Version name of the rules, where it is not the rule packs' own.
    pub ruleset_version: Option<String>,
    /// Version name of the model, where it is not the model's.
    pub model_version: Option<String>,
    /// From which severity on flags go to the police.
    pub escalation: Escalation,
}

/// What the user decided about investigations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoliceConfig {
    /// Most tokens of one answer.
    pub max_tokens: u32,
    /// Most characters of log text that an investigation reads at once.
    pub max_turn_chars: usize,
}

/// What the user decided about OpenClaw in the sandbox.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Its model, if one is named or there is a key.
    pub model: Option<RoleSettings>,
    /// How much it thinks.
    pub reasoning: Reasoning,
    /// Whether its thinking is logged.
    pub capture_reasoning: bool,
    /// How many subagents are shown.
    pub subagents_shown: usize,
}

/// A channel that OpenClaw can be reached through.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Its id, as `telegram`.
    pub id: &'static str,
    /// Its name, as `Telegram`.
    pub name: &'static str,
    /// Whether it is used.
    pub enabled: bool,
    /// Its secrets by name, as `token` or `bot_token`.
    pub secrets: BTreeMap<&'static str, Key>,
}

/// What OpenClaw may do in the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecurityConfig {
    /// Whether it may run commands.
    pub exec: Exec,
    /// Whether its file tools stay in its workspace.
    pub workspace_only: bool,
    /// Who may write to it directly.
    pub dm_policy: DmPolicy,
    /// Where the sandbox may connect to.
    pub egress: Egress,
}

/// Searching the web.
#[derive(Clone, Debug)]
pub struct SearchConfig {
    /// The key for Brave's search.
    pub brave: Key,
}

impl Config {
    /// Where the log directory's files are.
    pub fn paths(&self) -> Paths {
        let logs =
            self.log_dir.clone().or_else(|| self.text("log_dir").map(PathBuf::from)).unwrap_or_default();
        match self.data_dir.clone().or_else(|| self.text("data_dir").map(PathBuf::from)) {
            Some(data) => Paths::apart(logs, data),
            None => Paths::beside(logs),
        }
    }

    /// What a variable of the user's environment, or of a `.env` file, holds; for one that is handed on to OpenClaw.
    pub fn handed_on(&self, name: &str) -> Option<SecretString> {
        self.environment.find(&[name]).map(|found| SecretString::from(found.value))
    }

    /// The models of the roles `patrol` and `investigator`, and of `patrol.<lens>` where one is configured. A role without
    /// a model is not among them.
    pub fn models(&self) -> Vec<RoleSettings> {
        self.roles.iter().filter(|role| role.name != "agent").map(models::Role::settings).collect()
    }

    /// Providers in use whose keys go to an address that is not their own because a file in or above the working folder says so:
    /// such a file may be somebody else's. One line each, for people.
    pub fn elsewhere(&self) -> Vec<String> {
        let mut told = Vec::new();
        for link in self.roles.iter().flat_map(|role| &role.chain) {
            let settings = &link.settings;
            let is_own = provider(&settings.provider_id)
                .is_none_or(|provider| provider.local || provider.base_url == settings.base_url);
            let Some(given) = self.given(&format!("providers.{}.base_url", settings.provider_id)) else {
                continue;
            };
            let is_from_file =
                matches!(given.origin, Origin::File { .. } | Origin::Variable { file: Some(_), .. });
            if is_own || !is_from_file || settings.api_key.is_none() {
                continue;
            }
            let line = format!(
                "{} is asked at {}, which is not its own address (from {})",
                settings.provider,
                plain(&settings.base_url),
                plain(&given.origin.to_string())
            );
            if !told.contains(&line) {
                told.push(line);
            }
        }
        told
    }

    /// How hard each provider may be asked, by id.
    pub fn limits(&self) -> BTreeMap<String, Limits> {
        let limits = providers().iter().map(|provider| {
            let path = |key: &str| format!("providers.{}.{key}", provider.id);
            let per_minute = self.whole(&path("requests_per_minute"));
            let limits = Limits {
                concurrency: self.size(&path("concurrency")),
                per_minute: per_minute.and_then(|number| u32::try_from(number).ok()),
            };
            (provider.id.clone(), limits)
        });
        limits.collect()
    }

    /// What may be spent.
    pub fn budgets(&self) -> Budgets {
        let budget = |what: &str| Budget {
            tokens: self.whole(&format!("budget.{what}.tokens")),
            micro_usd: self.number(&format!("budget.{what}.usd")).map(micro),
        };
        Budgets { sweep: budget("sweep"), investigation: budget("investigation"), day: budget("day") }
    }

    /// What a model costs: as configured, else as listed.
    pub fn price(&self, provider_id: &str, model: &str) -> Option<Price> {
        models::price(self, provider(provider_id)?, model)
    }

    /// The key of a provider, whoever uses it, or where it was looked for.
    pub fn provider_key(&self, provider: &Provider) -> Key {
        keys::find(self, "", provider, false, &mut Vec::new())
    }

    /// Whether secrets and personal data are masked before a model sees them.
    pub fn redact_to_model(&self) -> bool {
        self.flag("privacy.redact_to_model")
    }

    /// Whether an answer about the same text is kept and used again.
    pub fn cache_answers(&self) -> bool {
        self.flag("privacy.cache_answers")
    }

    /// The patrol.
    pub fn patrol(&self) -> PatrolConfig {
        let text = |path: &str| self.text(path).map(str::to_owned);
        PatrolConfig {
            enabled: self.flag("patrol.enabled"),
            confidence_threshold: self.number("patrol.confidence_threshold").unwrap_or_default(),
            max_tokens: self.small("models.patrol.max_tokens"),
            window_chars: self.size("patrol.window_chars"),
            max_attempts: self.small("patrol.max_attempts"),
            ruleset_version: text("patrol.ruleset_version"),
            model_version: text("patrol.model_version"),
            escalation: self.choice("patrol.escalation", Escalation::of),
        }
    }

    /// Investigations.
    pub fn police(&self) -> PoliceConfig {
        PoliceConfig {
            max_tokens: self.small("models.investigator.max_tokens"),
            max_turn_chars: self.size("police.max_turn_chars"),
        }
    }

    /// OpenClaw in the sandbox.
    pub fn agent(&self) -> AgentConfig {
        AgentConfig {
            model: self.roles.iter().find(|role| role.name == "agent").map(models::Role::settings),
            reasoning: self.choice("agent.reasoning", Reasoning::of),
            capture_reasoning: self.flag("agent.capture_reasoning"),
            subagents_shown: self.size("agent.subagents_shown"),
        }
    }

    /// Every channel, used or not.
    pub fn channels(&self) -> Vec<Channel> {
        let channels = CHANNELS.iter().map(|(id, name, secrets)| {
            let of = |secret: &'static str| {
                let path = format!("channels.{id}.{secret}");
                (secret, self.named_secret(&path))
            };
            Channel {
                id,
                name,
                enabled: self.flag(&format!("channels.{id}.enabled")),
                secrets: secrets.iter().map(|(secret, _)| of(secret)).collect(),
            }
        });
        channels.collect()
    }

    /// Searching the web.
    pub fn search(&self) -> SearchConfig {
        SearchConfig { brave: self.named_secret("search.brave_key") }
    }

    /// What OpenClaw may do in the sandbox.
    pub fn security(&self) -> SecurityConfig {
        SecurityConfig {
            exec: self.choice("security.exec", Exec::of),
            workspace_only: self.flag("security.workspace_only"),
            dm_policy: self.choice("security.dm_policy", DmPolicy::of),
            egress: self.choice("security.egress", Egress::of),
        }
    }

    /// The secret that seals and signs what the stores hold, where it is not in a file beside them, and where it was read.
    pub fn state_key(&self) -> Option<(SecretString, Origin)> {
        let found = self.environment.find(&[env::SENTRIX_STATE_KEY.name])?;
        Some((SecretString::from(found.value), Origin::Variable { name: found.name, file: found.file }))
    }

    /// A secret whose variable or file `<path>_env` and `<path>_file` name. A file that cannot be used holds none: the
    /// channel says so when it is used, and `config check` before.
    fn named_secret(&self, path: &str) -> Key {
        let (mut looked, mut faults) = (Vec::new(), Vec::new());
        let (variable, file) = (format!("{path}_env"), format!("{path}_file"));
        let found = keys::configured(self, &variable, &file, &mut looked, &mut faults);
        found.unwrap_or_else(|| Key { secret: None, origin: None, looked: looked.join(" or ") })
    }

    fn whole(&self, path: &str) -> Option<u64> {
        match self.value(path)? {
            Value::Whole(number) => Some(*number),
            _ => None,
        }
    }

    fn size(&self, path: &str) -> usize {
        self.whole(path).and_then(|number| usize::try_from(number).ok()).unwrap_or_default()
    }

    fn small(&self, path: &str) -> u32 {
        self.whole(path).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
    }

    fn number(&self, path: &str) -> Option<f64> {
        match self.value(path)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn flag(&self, path: &str) -> bool {
        matches!(self.value(path), Some(Value::Bool(true)))
    }

    fn choice<C: Default>(&self, path: &str, of: impl Fn(&str) -> Option<C>) -> C {
        self.text(path).and_then(of).unwrap_or_default()
    }
}

/// Dollars in millionths.
fn micro(usd: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a budget is from 0 to a million dollars"
    )]
    let micro = (usd * 1e6).round() as u64;
    micro
}

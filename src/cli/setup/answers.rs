//! What the wizard was told: plain data, with the defaults that Enter takes.

use std::time::Duration;

use secrecy::SecretString;

use crate::config::{Escalation, Reasoning};
use crate::model::{ModelSettings, Provider};

/// How the environment is asked; a function, so that a test brings its own.
pub(super) type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Send + Sync);

/// Time that the check of a key may take.
const CHECK_LIMIT: Duration = Duration::from_secs(20);

/// Something secret that the settings need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Telegram,
    Discord,
    SlackBot,
    SlackApp,
    Brave,
}

impl Slot {
    /// All of them, in the order in which they are asked.
    pub(super) const ALL: [Self; 5] =
        [Self::Telegram, Self::Discord, Self::SlackBot, Self::SlackApp, Self::Brave];

    /// Its name on the screen.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Telegram => "Telegram token",
            Self::Discord => "Discord token",
            Self::SlackBot => "Slack bot token",
            Self::SlackApp => "Slack app token",
            Self::Brave => "Brave key",
        }
    }

    /// The variable that `OpenClaw` reads it from.
    pub(super) const fn variable(self) -> &'static str {
        match self {
            Self::Telegram => "TELEGRAM_BOT_TOKEN",
            Self::Discord => "DISCORD_BOT_TOKEN",
            Self::SlackBot => "SLACK_BOT_TOKEN",
            Self::SlackApp => "SLACK_APP_TOKEN",
            Self::Brave => "BRAVE_API_KEY",
        }
    }

    /// The file that it is kept in.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Discord => "discord",
            Self::SlackBot => "slack-bot",
            Self::SlackApp => "slack-app",
            Self::Brave => "brave",
        }
    }

    /// The page where it is made.
    pub(super) const fn made_at(self) -> &'static str {
        match self {
            Self::Telegram => "@BotFather in Telegram",
            Self::Discord => "https://discord.com/developers/applications",
            Self::SlackBot | Self::SlackApp => "https://api.slack.com/apps",
            Self::Brave => "https://api-dashboard.search.brave.com/app/keys",
        }
    }

    /// How a good one begins, where all do.
    pub(super) const fn head(self) -> &'static str {
        match self {
            Self::SlackBot => "xoxb-",
            Self::SlackApp => "xapp-",
            Self::Telegram | Self::Discord | Self::Brave => "",
        }
    }
}

/// A chat that `OpenClaw` listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Telegram,
    Discord,
    Slack,
    WhatsApp,
    Signal,
}

impl Channel {
    /// All of them, in the order in which they are offered.
    pub(super) const ALL: [Self; 5] =
        [Self::Telegram, Self::Discord, Self::Slack, Self::WhatsApp, Self::Signal];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Telegram => "Telegram",
            Self::Discord => "Discord",
            Self::Slack => "Slack",
            Self::WhatsApp => "WhatsApp",
            Self::Signal => "Signal",
        }
    }

    /// Its word in `sentrix.toml`.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Discord => "discord",
            Self::Slack => "slack",
            Self::WhatsApp => "whatsapp",
            Self::Signal => "signal",
        }
    }

    /// The tokens it needs, with their keys in `sentrix.toml`.
    pub(super) const fn slots(self) -> &'static [(&'static str, Slot)] {
        match self {
            Self::Telegram => &[("token", Slot::Telegram)],
            Self::Discord => &[("token", Slot::Discord)],
            Self::Slack => &[("bot_token", Slot::SlackBot), ("app_token", Slot::SlackApp)],
            Self::WhatsApp | Self::Signal => &[],
        }
    }

    /// What it needs, for people.
    pub(super) const fn needs(self) -> &'static str {
        match self {
            Self::Telegram | Self::Discord => "bot token",
            Self::Slack => "bot token and app token",
            Self::WhatsApp => "QR code at the first start",
            Self::Signal => "linked at the first start",
        }
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, Default)]
pub(super) enum Secret {
    /// There is none.
    #[default]
    None,
    /// A variable, set by now or later.
    Variable(String),
    /// It was typed.
    Typed(SecretString),
}

/// Where typed secrets are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Keep {
    /// In files that only their owner can read.
    #[default]
    File,
    /// Nowhere: the user sets variables.
    Variable,
}

/// The models of one provider.
#[derive(Clone, Debug)]
pub(super) struct ModelAnswers {
    pub(super) provider: &'static Provider,
    /// Where it is, where that departs from the table; written down.
    pub(super) base_url: Option<String>,
    pub(super) key: Secret,
    pub(super) patrol: String,
    pub(super) investigator: String,
    /// For `OpenClaw` itself.
    pub(super) agent: String,
}

impl ModelAnswers {
    /// The defaults of a provider: its key from the first variable that is set, its suggested models.
    pub(super) fn of(provider: &'static Provider, env: Env<'_>) -> Self {
        let key = key_variable(provider, env).map_or(Secret::None, Secret::Variable);
        let mut answers = Self {
            provider,
            base_url: None,
            key,
            patrol: String::new(),
            investigator: String::new(),
            agent: String::new(),
        };
        answers.suggest();
        answers
    }

    /// Takes the models that the table suggests.
    pub(super) fn suggest(&mut self) {
        let Provider { patrol, investigator, agent, .. } = self.provider;
        self.patrol.clone_from(patrol);
        self.investigator.clone_from(investigator);
        self.agent.clone_from(if agent.is_empty() { investigator } else { agent });
    }

    /// Whether the table suggests models.
    pub(super) fn has_suggestions(&self) -> bool {
        !self.provider.patrol.is_empty()
    }

    /// Where the provider is: as said here, else as its variable says, else as the table does.
    pub(super) fn address(&self, env: Env<'_>) -> String {
        let said = self.base_url.clone().or_else(|| env(&self.provider.base_url_var));
        said.unwrap_or_else(|| self.provider.base_url.clone())
    }

    /// The variable that holds the key where none is named.
    pub(super) fn usual_variable(&self) -> String {
        self.provider.key.first().cloned().unwrap_or_default()
    }

    /// Settings for one small call.
    pub(super) fn settings(&self, env: Env<'_>) -> ModelSettings {
        let key = match &self.key {
            Secret::None => None,
            Secret::Variable(name) => env(name).map(SecretString::from),
            Secret::Typed(key) => Some(key.clone()),
        };
        let mut settings = ModelSettings::of(self.provider, "patrol", &self.patrol, key);
        settings.base_url = self.address(env);
        settings.key_source = match &self.key {
            Secret::Variable(name) => crate::text::plain(name),
            Secret::Typed(_) => "your input".into(),
            Secret::None => self.usual_variable(),
        };
        settings.timeouts.total = CHECK_LIMIT;
        settings.max_attempts = 1;
        settings
    }
}

/// The provider's first variable that is set.
pub(super) fn key_variable(provider: &Provider, env: Env<'_>) -> Option<String> {
    provider.key.iter().find(|name| env(name).is_some_and(|key| key != "no-key-set")).cloned()
}

/// What `OpenClaw` may do, as words of `sentrix.toml`; the first of each list is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) exec: &'static str,
    pub(super) workspace_only: bool,
    pub(super) dm_policy: &'static str,
    pub(super) egress: &'static str,
}

impl Default for Security {
    fn default() -> Self {
        Self { exec: "deny", workspace_only: true, dm_policy: "pairing", egress: "door" }
    }
}

/// Everything that was answered.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// None: rules alone decide.
    pub(super) models: Option<ModelAnswers>,
    /// Whether the user said so.
    pub(super) rules_only: bool,
    pub(super) reasoning: Reasoning,
    pub(super) capture_reasoning: bool,
    pub(super) channels: Vec<Channel>,
    /// The tokens of the channels, by slot.
    pub(super) tokens: [Secret; Slot::ALL.len()],
    pub(super) web_search: bool,
    pub(super) subagents: u32,
    pub(super) patrol: bool,
    pub(super) escalation: Escalation,
    pub(super) security: Security,
    pub(super) keep: Keep,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            models: None,
            rules_only: false,
            reasoning: Reasoning::default(),
            capture_reasoning: true,
            channels: Vec::new(),
            tokens: Default::default(),
            web_search: false,
            subagents: 10,
            patrol: true,
            escalation: Escalation::default(),
            security: Security::default(),
            keep: Keep::default(),
        }
    }
}

impl Answers {
    /// A secret of a slot.
    pub(super) fn token(&self, slot: Slot) -> &Secret {
        self.tokens.get(slot as usize).unwrap_or(&Secret::None)
    }

    /// Sets it.
    pub(super) fn set_token(&mut self, slot: Slot, secret: Secret) {
        if let Some(token) = self.tokens.get_mut(slot as usize) {
            *token = secret;
        }
    }

    /// The slots that the chosen channels and the search need, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        let channels = self.channels.iter().flat_map(|channel| channel.slots()).map(|(_, slot)| *slot);
        channels.chain(self.web_search.then_some(Slot::Brave))
    }

    /// The secrets that were typed: the file's name, the variable that may hold it instead, and the secret.
    pub(super) fn typed(&self) -> Vec<(String, String, &SecretString)> {
        let key = self.models.iter().filter_map(|models| match &models.key {
            Secret::Typed(key) => Some((models.provider.id.clone(), models.usual_variable(), key)),
            _ => None,
        });
        let tokens = self.slots().filter_map(|slot| match self.token(slot) {
            Secret::Typed(token) => Some((slot.file().to_owned(), slot.variable().to_owned(), token)),
            _ => None,
        });
        key.chain(tokens).collect()
    }
}

//! Chats that `OpenClaw` listens to, and searching the web.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::policy::DmPolicy;
use super::secrets::Secrets;
use super::{ConfigError, Destination, OpenClawSettings};

/// A chat service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelKind {
    /// Comes with `OpenClaw`.
    Telegram,
    /// A package of its own, like all below.
    Discord,
    /// In socket mode: it connects, nobody connects to it.
    Slack,
    /// Logs in by QR code: `openclaw channels login`.
    WhatsApp,
    /// Needs `signal-cli` and a number; its own traffic knows no proxy, so the door lets none of it out.
    Signal,
}

/// How a channel is set up: what it is called, what it needs.
struct Facts {
    id: &'static str,
    name: &'static str,
    /// Its secrets: the name in our settings, the key in `OpenClaw`'s.
    secrets: &'static [(&'static str, &'static str)],
    /// The npm package of its plugin, where it is none of `OpenClaw`'s own.
    package: Option<&'static str>,
    hosts: &'static [&'static str],
}

impl ChannelKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Telegram, Self::Discord, Self::Slack, Self::WhatsApp, Self::Signal];

    /// The one with this id.
    pub fn of(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// `OpenClaw`'s id for it.
    pub const fn id(self) -> &'static str {
        self.facts().id
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The npm package that the image has to hold for it, if any.
    pub const fn package(self) -> Option<&'static str> {
        self.facts().package
    }

    /// Source of packages: docs, channels/*. Source of hosts: core.telegram.org/bots/api; discord.com/developers/docs
    /// (gateway: `resume_gateway_url` names hosts below discord.gg); docs.slack.dev/apis/events-api/using-socket-mode;
    /// faq.whatsapp.com "How to configure your network"; signal.org "Firewall and Internet settings".
    const fn facts(self) -> Facts {
        match self {
            Self::Telegram => Facts {
                id: "telegram",
                name: "Telegram",
                secrets: &[("token", "botToken")],
                package: None,
                hosts: &["api.telegram.org"],
            },
            Self::Discord => Facts {
                id: "discord",
                name: "Discord",
                secrets: &[("token", "token")],
                package: Some("@openclaw/discord"),
                hosts: &[
                    "discord.com",
                    "gateway.discord.gg",
                    "*.discord.gg",
                    "cdn.discordapp.com",
                    "media.discordapp.net",
                ],
            },
            Self::Slack => Facts {
                id: "slack",
                name: "Slack",
                secrets: &[("bot_token", "botToken"), ("app_token", "appToken")],
                package: Some("@openclaw/slack"),
                hosts: &["slack.com", "wss-primary.slack.com", "wss-backup.slack.com", "files.slack.com"],
            },
            Self::WhatsApp => Facts {
                id: "whatsapp",
                name: "WhatsApp",
                secrets: &[],
                package: Some("@openclaw/whatsapp"),
                hosts: &["web.whatsapp.com", "*.whatsapp.net"],
            },
            Self::Signal => Facts {
                id: "signal",
                name: "Signal",
                secrets: &[],
                package: Some("@openclaw/signal"),
                hosts: &[
                    "chat.signal.org",
                    "storage.signal.org",
                    "cdn.signal.org",
                    "cdn2.signal.org",
                    "cdn3.signal.org",
                ],
            },
        }
    }
}

/// A channel that is used.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Which.
    pub kind: ChannelKind,
    /// Its secrets by the names of Sentrix's settings: `token`, or `bot_token` and `app_token`.
    pub secrets: BTreeMap<String, SecretString>,
    /// Who may write to it, where the policy is an allow list: ids of the channel.
    pub allow_from: Vec<String>,
}

/// What the channels come to.
#[derive(Debug, Default)]
pub(super) struct Channels {
    pub(super) config: Map<String, Value>,
    pub(super) plugins: Vec<&'static str>,
    /// Id and npm package of plugins that are none of OpenClaw's own.
    pub(super) packages: Vec<(&'static str, &'static str)>,
    pub(super) destinations: Vec<Destination>,
}

pub(super) fn render(settings: &OpenClawSettings, secrets: &mut Secrets) -> Result<Channels, ConfigError> {
    let mut out = Channels::default();
    for channel in &settings.channels {
        let facts = channel.kind.facts();
        let policy = settings.policy.dm_policy;
        let mut entry = json!({
            "enabled": true,
            "dmPolicy": policy.word(),
            "groupPolicy": "allowlist",
            // A chat must not be able to change the configuration.
            "configWrites": false,
        });
        let allowed = match policy {
            DmPolicy::Pairing => None,
            DmPolicy::Allowlist => Some(json!(channel.allow_from)),
            // `open` is valid only with everybody listed.
            DmPolicy::Open => Some(json!(["*"])),
        };
        if let Some(allowed) = allowed {
            super::set(&mut entry, &["allowFrom"], allowed);
        }
        for (name, key) in facts.secrets {
            let secret = channel.secrets.get(*name).ok_or_else(|| ConfigError::NoSecret {
                of: facts.id.into(),
                what: if *name == "app_token" { "app token" } else { "token" },
            })?;
            let reference = secrets.put(&format!("{}_{name}", facts.id), secret);
            super::set(&mut entry, &[key], reference);
        }
        out.config.insert(facts.id.into(), entry);
        out.plugins.push(facts.id);
        out.packages.extend(facts.package.map(|package| (facts.id, package)));
        let why = facts.name;
        out.destinations.extend(facts.hosts.iter().map(|host| Destination {
            host: (*host).into(),
            port: 443,
            why: why.into(),
        }));
    }
    Ok(out)
}

/// What searching the web comes to.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) entry: Option<Value>,
    pub(super) plugins: Vec<&'static str>,
    /// Id and npm package of plugins that are none of OpenClaw's own.
    pub(super) packages: Vec<(&'static str, &'static str)>,
    pub(super) destinations: Vec<Destination>,
}

/// Source: docs, tools/brave-search and plugins/reference/brave.
pub(super) fn search(settings: &OpenClawSettings, secrets: &mut Secrets) -> Search {
    let Some(key) = &settings.brave else { return Search::default() };
    let key = secrets.put("key_brave", key);
    Search {
        entry: Some(json!({ "enabled": true, "config": { "webSearch": { "apiKey": key, "mode": "web" } } })),
        plugins: vec!["brave"],
        packages: vec![("brave", "@openclaw/brave-plugin")],
        destinations: vec![Destination {
            host: "api.search.brave.com".into(),
            port: 443,
            why: "Brave search".into(),
        }],
    }
}

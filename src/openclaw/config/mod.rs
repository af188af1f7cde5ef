//! `OpenClaw`'s configuration for a sandbox: what it may do, whom it asks, where its secrets are.
//!
//! [`render`] makes one JSON document that is mounted read-only and named by `OPENCLAW_CONFIG_PATH`, and the files that its
//! secret references point to. Nothing of this goes through the environment: variables that other tools set for security
//! are not read by `OpenClaw`, and a container's environment is seen by `docker inspect`.
//!
//! Source of all keys: `openclaw config schema` of 2026.9.6, and starts of that version with these documents. `OpenClaw` is
//! strict: a key that it does not know ends its start with exit code 78.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

mod channel;
mod model;
mod policy;
mod secrets;
#[cfg(test)]
mod tests;

pub use channel::{Channel, ChannelKind};
pub use model::{AgentModel, Api, HOST_NAME, Provider};
pub use policy::{DmPolicy, Exec, Policy, Relaxed};

use secrets::Secrets;

/// Where the configuration is inside of the container; `OPENCLAW_CONFIG_PATH` names it.
pub const CONFIG_PATH: &str = "/etc/openclaw/openclaw.json";
/// Where the files of [`Rendered::secrets`] are inside of the container: regular files without links, readable by
/// their owner alone, who must be the user that runs `OpenClaw`. Source: docs, "`SecretRef` contract", file provider.
pub const SECRETS_DIR: &str = "/run/sentrix/secrets";
/// Where the image holds plugins that are packages of their own, each in a folder with its name. Source: `docker/install.sh`.
pub const PLUGINS_DIR: &str = "/opt/sentrix/plugins";
/// Where the door's proxy is inside of the container.
pub const PROXY: &str = "http://127.0.0.1:3128";
/// The secret file that holds the gateway's token.
pub const TOKEN_FILE: &str = "gateway_token";

/// How much the model thinks before it acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// As the model sees fit; a model that cannot decide that gets its provider's usual level.
    #[default]
    Adaptive,
    /// Much.
    High,
    /// Little.
    Low,
    /// Not at all, where the model lets that be.
    Off,
}

impl Thinking {
    /// The word of `agents.defaults.thinkingDefault`.
    const fn word(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::High => "high",
            Self::Low => "low",
            Self::Off => "off",
        }
    }
}

/// All that decides the configuration of one sandbox.
#[derive(Clone, Debug)]
pub struct OpenClawSettings {
    /// The gateway's token.
    pub token: SecretString,
    /// The gateway's port on the container's loopback.
    pub port: u16,
    /// The model that is asked first, then those that are asked where it cannot answer. None: `OpenClaw` starts and
    /// answers nobody.
    pub models: Vec<AgentModel>,
    /// Providers beside those of `models`, for models that a person chooses in a chat.
    pub providers: Vec<Provider>,
    /// How much the model thinks.
    pub thinking: Thinking,
    /// Chats that it listens to.
    pub channels: Vec<Channel>,
    /// The key of Brave's search; the web is searched only with one.
    pub brave: Option<SecretString>,
    /// The proxy that everything goes out by, as [`PROXY`]; none where the network is open.
    pub proxy: Option<String>,
    /// How often it acts unasked; never where nothing is said.
    pub heartbeat: Option<Duration>,
    /// Variables for it and its tools, as `-e` gives them. They stand in the configuration itself.
    pub env: BTreeMap<String, SecretString>,
    /// What it may do.
    pub policy: Policy,
}

impl OpenClawSettings {
    /// A sandbox behind the door with the safe policy, no model and no channel.
    pub fn new(token: SecretString) -> Self {
        Self {
            token,
            port: crate::openclaw::gateway::PORT,
            models: Vec::new(),
            providers: Vec::new(),
            thinking: Thinking::default(),
            channels: Vec::new(),
            brave: None,
            proxy: Some(PROXY.into()),
            heartbeat: None,
            env: BTreeMap::new(),
            policy: Policy::default(),
        }
    }
}

/// Where the sandbox has to be let out to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// A host name; `*.` at its beginning stands for any name below it.
    pub host: String,
    /// A TCP port.
    pub port: u16,
    /// What for, as `Telegram` or `model of anthropic`.
    pub why: String,
}

/// What [`render`] makes.
#[derive(Clone)]
pub struct Rendered {
    /// The document. It may hold secrets (variables): to be written for its reader's eyes only (mode 0400).
    pub config: Value,
    /// Files of [`SECRETS_DIR`], by name: to be written as they are, without a line break.
    pub secrets: BTreeMap<String, SecretString>,
    /// What the sandbox needs to reach, each once.
    pub destinations: Vec<Destination>,
    /// Plugins that the image has to hold (`sentrix build --channel`), because `OpenClaw` does not bring them along and
    /// must not install them at start.
    pub plugins: Vec<&'static str>,
    /// Where the policy departs from the safe one, and what that means.
    pub relaxed: Vec<Relaxed>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("secrets", &self.secrets.keys())
            .field("destinations", &self.destinations)
            .field("plugins", &self.plugins)
            .field("relaxed", &self.relaxed)
            .finish_non_exhaustive()
    }
}

/// Settings of which no configuration can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Where a provider is cannot be read.
    #[error("the address of `{provider}` is no usable URL: `{url}`")]
    BadUrl {
        /// Its id.
        provider: String,
        /// What was said; what stands before an `@` in it is left out.
        url: String,
    },
    /// A provider or channel lacks its secret.
    #[error("`{of}` has no {what}")]
    NoSecret {
        /// Its id.
        of: String,
        /// As `token`.
        what: &'static str,
    },
    /// `OpenClaw` would not take the name of a variable, or it would change what the sandbox rests on.
    #[error("the variable `{name}` cannot be given to the sandbox: {why}")]
    Variable {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
}

/// Makes the configuration.
///
/// # Errors
/// [`ConfigError`], the first that is found.
pub fn render(settings: &OpenClawSettings) -> Result<Rendered, ConfigError> {
    let mut secrets = Secrets::default();
    let token = secrets.put(TOKEN_FILE, &settings.token);
    let models = model::render(settings, &mut secrets)?;
    let channels = channel::render(settings, &mut secrets)?;
    let search = channel::search(settings, &mut secrets);
    let mut plugins: Vec<&str> = vec!["memory-core"];
    plugins.extend(models.plugins.iter().copied());
    plugins.extend(channels.plugins.iter().copied());
    // Otherwise `OpenClaw` turns them on itself and wants to write that down, which ends `channels login`: its
    // configuration is read-only.
    let entries: Map<String, Value> =
        channels.plugins.iter().map(|id| ((*id).to_owned(), json!({ "enabled": true }))).collect();
    plugins.extend(search.plugins.iter().copied());

    let mut config = closed();
    let mut put = |path: &[&str], value: Value| set(&mut config, path, value);
    put(
        &["gateway"],
        json!({
            "mode": "local",
            "bind": "loopback",
            "port": settings.port,
            "auth": { "mode": "token", "token": token },
            "controlUi": { "enabled": false, "sessionObserver": false },
            "terminal": { "enabled": false },
            "cliAgents": { "enabled": false },
            "reload": { "mode": "off" },
            "tailscale": { "mode": "off" },
            // Whoever comes through the container's loopback is not approved for that.
            "nodes": { "pairing": { "autoApproveLocal": false, "sshVerify": false } },
        }),
    );
    if let Some(proxy) = &settings.proxy {
        put(&["proxy"], json!({ "enabled": true, "proxyUrl": proxy, "loopbackMode": "gateway-only" }));
    }
    put(&["models", "providers"], Value::Object(models.providers));
    put(&["agents", "defaults"], agents(settings, &models.primary, &models.fallbacks, &models.allow));
    put(&["tools"], policy::tools(settings));
    put(&["channels"], Value::Object(channels.config));
    put(&["plugins", "allow"], json!(plugins));
    let mut packages = channels.packages;
    packages.extend(search.packages);
    if !packages.is_empty() {
        let paths: Vec<String> = packages.iter().map(|(id, package)| plugin_path(id, package)).collect();
        put(&["plugins", "load"], json!({ "paths": paths }));
    }
    if !entries.is_empty() {
        put(&["plugins", "entries"], Value::Object(entries));
    }
    if let Some(entry) = search.entry {
        put(&["plugins", "entries", "brave"], entry);
    }
    put(&["env", "vars"], Value::Object(variables(&settings.env)?));
    put(&["secrets", "providers"], Value::Object(secrets.providers()));

    let mut destinations = models.destinations;
    destinations.extend(channels.destinations);
    destinations.extend(search.destinations);
    destinations.sort();
    destinations.dedup_by(|one, other| one.host == other.host && one.port == other.port);
    Ok(Rendered {
        config,
        secrets: secrets.files(),
        destinations,
        plugins: packages.into_iter().map(|(id, _)| id).collect(),
        relaxed: settings.policy.relaxed(),
    })
}

/// Where the image holds the package of a plugin.
fn plugin_path(id: &str, package: &str) -> String {
    format!("{PLUGINS_DIR}/{id}/node_modules/{package}")
}

/// What is off whatever the settings say.
fn closed() -> Value {
    json!({
        "discovery": { "mdns": { "mode": "off" } },
        "update": { "checkOnStart": false, "auto": { "enabled": false } },
        "telemetry": { "enabled": false },
        "diagnostics": { "enabled": false },
        "browser": { "enabled": false, "evaluateEnabled": false },
        "cron": { "enabled": false },
        "hooks": { "enabled": false, "internal": { "enabled": false } },
        "acp": { "enabled": false },
        "mcp": { "apps": { "enabled": false } },
        "transcripts": { "enabled": false },
        // Who has the gateway's token has these commands in the chat; none of them may reach the configuration.
        "commands": {
            "bash": false, "config": false, "mcp": false, "plugins": false, "debug": false, "restart": false,
        },
        // Skills of the package need programs that the image has not; those of the workspace stay.
        "skills": {
            "allowBundled": [],
            "install": { "allowUploadedArchives": false },
            "load": { "watch": false },
            // By default it writes skills of its own accord.
            "workshop": { "autonomous": { "mode": "off" }, "approvalPolicy": "pending" },
        },
        // The default asks OpenAI for embeddings, whoever the model is.
        "memory": {
            "search": { "provider": "none", "sources": ["memory"], "rememberAcrossConversations": false },
        },
        "session": { "dmScope": "per-channel-peer" },
        "models": { "mode": "merge", "catalogRefresh": { "enabled": false } },
        "plugins": { "slots": { "memory": "memory-core" } },
        "env": { "shellEnv": { "enabled": false } },
        // The log is on a file system that is memory.
        "logging": { "level": "info", "maxFileBytes": 8_388_608 },
    })
}

fn agents(settings: &OpenClawSettings, primary: &str, fallbacks: &[String], allow: &[String]) -> Value {
    let heartbeat = settings
        .heartbeat
        .map_or_else(|| "0m".to_owned(), |every| format!("{}m", (every.as_secs() / 60).max(1)));
    let mut agents = json!({
        // Without this, recaps and titles go to a model of the provider's choice.
        "utilityModel": "",
        "thinkingDefault": settings.thinking.word(),
        "elevatedDefault": "off",
        "heartbeat": { "every": heartbeat },
        "subagents": { "maxSpawnDepth": 3, "maxChildrenPerAgent": 10, "maxConcurrent": 8 },
        // A sandbox in the sandbox needs Docker: every chat would fail.
        "sandbox": { "mode": "off" },
    });
    if !primary.is_empty() {
        set(&mut agents, &["model"], json!({ "primary": primary, "fallbacks": fallbacks }));
        set(&mut agents, &["modelPolicy"], json!({ "allow": allow }));
    }
    agents
}

/// Variables that would change what the sandbox rests on.
const RESERVED: &[&str] = &[
    "OPENCLAW_",
    "NODE_",
    "LD_",
    "DYLD_",
    "npm_config_",
    "NPM_CONFIG_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_",
    "GLOBAL_AGENT_",
];

fn variables(env: &BTreeMap<String, SecretString>) -> Result<Map<String, Value>, ConfigError> {
    let checked = env.iter().map(|(name, value)| {
        let is_name = !name.is_empty()
            && name.len() <= 128
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        let fault = |why| Err(ConfigError::Variable { name: name.clone(), why });
        if !is_name {
            return fault("a name has letters, digits and `_`");
        }
        if ["PATH", "HOME", "USER", "SHELL"].contains(&name.as_str())
            || RESERVED.iter().any(|head| name.starts_with(head))
        {
            return fault("the sandbox sets it itself");
        }
        if value.expose_secret().contains('\0') {
            return fault("its value holds a null character");
        }
        Ok((name.clone(), json!(value.expose_secret())))
    });
    checked.collect()
}

/// Sets a value in nested objects.
fn set(config: &mut Value, path: &[&str], value: Value) {
    let mut place = config;
    for key in path {
        if !place.is_object() {
            *place = json!({});
        }
        let Some(object) = place.as_object_mut() else { return };
        place = object.entry(*key).or_insert(Value::Null);
    }
    *place = value;
}

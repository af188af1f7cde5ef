//! Configuration and arguments → what OpenClaw is given.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::Value;

use super::args::RunArgs;
use super::plan::Plan;
use crate::cli::failure::Failure;
use crate::config::{self, Config, env};
use crate::door;
use crate::model::{Dialect, ModelSettings, provider, providers};
use crate::openclaw::config::{
    self as claw, AgentModel, Api, Channel, ChannelKind, OpenClawSettings, Policy, Provider, Thinking,
};
use crate::sandbox::{Egress, Relax, selftest};
use crate::text;

/// What OpenClaw is given, and what the door has to let out.
#[derive(Debug)]
pub(super) struct Given {
    /// Its configuration, for its eyes only.
    pub(super) config: Value,
    /// Its secrets, by file name.
    pub(super) secrets: BTreeMap<String, SecretString>,
    /// What it needs to reach.
    pub(super) destinations: Vec<door::Destination>,
}

/// Makes it.
///
/// # Errors
/// [`Failure::Usage`] for settings that nothing can be made of.
pub(super) fn render(
    config: &Config,
    plan: &Plan,
    args: &RunArgs,
    token: SecretString,
) -> Result<Given, Failure> {
    let agent = config.agent();
    let chain = agent.model.map(|role| role.chain).unwrap_or_default();
    let mut settings = OpenClawSettings::new(token);
    settings.models = chain.iter().map(agent_model).collect();
    (settings.providers, settings.env) = handed_on(config, &chain, args);
    settings.thinking = match agent.reasoning {
        config::Reasoning::Adaptive => Thinking::Adaptive,
        config::Reasoning::High => Thinking::High,
        config::Reasoning::Low => Thinking::Low,
        config::Reasoning::Off => Thinking::Off,
    };
    settings.channels = channels(config)?;
    settings.brave = config.search().brave.secret;
    settings.proxy = (plan.spec.egress == Egress::Door).then(|| claw::PROXY.to_owned());
    settings.policy = policy(config, plan);
    let mut rendered =
        claw::render(&settings).map_err(|error| Failure::Usage(text::plain(&error.to_string())))?;
    // The self-test's turn is asked of a script in the container.
    let own_model = format!("{}/*", selftest::MODEL_PROVIDER);
    if let Some(Value::Object(all)) = rendered.config.pointer_mut("/models/providers") {
        all.insert(selftest::MODEL_PROVIDER.to_owned(), selftest::model_provider());
    }
    if let Some(Value::Array(allowed)) = rendered.config.pointer_mut("/agents/defaults/modelPolicy/allow") {
        allowed.push(Value::String(own_model));
    }
    // A provider of the user's own may be a machine of their network; nobody else's may.
    let own: Vec<String> = chain
        .iter()
        .filter(|model| provider(&model.provider_id).is_some_and(|provider| provider.local))
        .filter_map(|model| host_of(&model.base_url))
        .collect();
    let destinations = rendered.destinations.into_iter().map(|to| door::Destination {
        private: own.contains(&to.host),
        host: to.host,
        port: to.port,
        why: to.why,
    });
    Ok(Given { destinations: destinations.collect(), config: rendered.config, secrets: rendered.secrets })
}

fn agent_model(settings: &ModelSettings) -> AgentModel {
    let entry = provider(&settings.provider_id);
    let listed = entry.and_then(|entry| entry.models.iter().find(|model| model.id == settings.model));
    AgentModel {
        provider: Provider {
            id: entry.map_or_else(|| settings.provider_id.clone(), |entry| entry.openclaw.clone()),
            api: api(settings.dialect),
            is_usual: entry
                .is_some_and(|entry| !entry.base_url.is_empty() && entry.base_url == settings.base_url),
            base_url: settings.base_url.clone(),
            key: settings.api_key.clone(),
        },
        id: settings.model.clone(),
        context: listed.map(|model| model.context),
        max_output: listed.map(|model| model.max_output),
    }
}

const fn api(dialect: Dialect) -> Api {
    match dialect {
        Dialect::Anthropic => Api::Anthropic,
        Dialect::Gemini => Api::Gemini,
        Dialect::OpenAi => Api::OpenAi,
    }
}

type HandedOn = (Vec<Provider>, BTreeMap<String, SecretString>);

/// What `-e` names: keys of providers become providers of OpenClaw's, everything else a variable of its.
fn handed_on(config: &Config, chain: &[ModelSettings], args: &RunArgs) -> HandedOn {
    let (mut more, mut variables) = (Vec::new(), BTreeMap::new());
    for given in &args.env {
        let name = given.split_once('=').map_or(given.as_str(), |(name, _)| name);
        // That each has a value was found out before anything was touched.
        let Some(value) = config.handed_on(name) else { continue };
        let of_provider = providers().iter().find(|provider| provider.key.iter().any(|key| key == name));
        match of_provider {
            Some(known)
                if known.base_url.is_empty() || chain.iter().any(|model| model.provider_id == known.id) => {}
            Some(known) => more.push(Provider {
                id: known.openclaw.clone(),
                api: api(known.dialect),
                base_url: known.base_url.clone(),
                is_usual: true,
                key: Some(value),
            }),
            // Sentrix's own settings and secrets are none of OpenClaw's business; channels get theirs by name.
            None if env::all().iter().any(|known| known.name == name) => {}
            None => {
                variables.insert(name.to_owned(), value);
            }
        }
    }
    (more, variables)
}

fn channels(config: &Config) -> Result<Vec<Channel>, Failure> {
    let mut all = Vec::new();
    for channel in config.channels().into_iter().filter(|channel| channel.enabled) {
        let Some(kind) = ChannelKind::of(channel.id) else { continue };
        let mut secrets = BTreeMap::new();
        for (name, key) in channel.secrets {
            let Some(secret) = key.secret else {
                return Err(Failure::Usage(format!(
                    "{} is on and has no {}: set {}",
                    channel.name,
                    name.replace('_', " "),
                    text::plain(&key.looked)
                )));
            };
            secrets.insert(name.to_owned(), secret);
        }
        all.push(Channel { kind, secrets, allow_from: Vec::new() });
    }
    Ok(all)
}

fn policy(config: &Config, plan: &Plan) -> Policy {
    let security = config.security();
    let relaxed = &plan.spec.relaxed;
    Policy {
        exec: match security.exec {
            config::Exec::Full => claw::Exec::Full,
            config::Exec::Allowlist => claw::Exec::Allowlist,
            config::Exec::Deny if relaxed.has(Relax::Exec) => claw::Exec::Full,
            config::Exec::Deny => claw::Exec::Deny,
        },
        workspace_only: security.workspace_only && !relaxed.has(Relax::Workspace),
        dm_policy: match security.dm_policy {
            config::DmPolicy::Pairing => claw::DmPolicy::Pairing,
            config::DmPolicy::Allowlist => claw::DmPolicy::Allowlist,
            config::DmPolicy::Open => claw::DmPolicy::Open,
        },
        more_tools: if relaxed.has(Relax::Tools) { vec![String::from("*")] } else { Vec::new() },
        ..Policy::default()
    }
}

/// The host of a URL, in lower case.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host =
        if host.starts_with('[') { host.split_inclusive(']').next()? } else { host.split(':').next()? };
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_what_the_door_sees() {
        for (url, host) in [
            ("http://Ollama.lan:11434/v1", Some("ollama.lan")),
            ("https://u:p@example.org/x", Some("example.org")),
            ("http://[::1]:8080", Some("[::1]")),
            ("nonsense", None),
            ("http:///x", None),
        ] {
            assert_eq!(host_of(url).as_deref(), host, "{url}");
        }
    }
}

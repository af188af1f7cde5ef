//! Whom `OpenClaw` asks: `models.providers`, and the model of its agents.

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::secrets::Secrets;
use super::{ConfigError, Destination, OpenClawSettings};

/// The name under which the door reaches the host's own loopback.
pub const HOST_NAME: &str = "host.sentrix.internal";
/// What a provider without a key is given: `OpenClaw` asks no model without one.
const NO_KEY: &str = "none";

/// How a provider is spoken to. Source: the enum of `models.providers.*.api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `POST {base}/chat/completions`.
    OpenAi,
    /// `POST {base}/v1/messages`.
    Anthropic,
    /// `POST {base}/models/{model}:…`.
    Gemini,
}

impl Api {
    const fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai-completions",
            Self::Anthropic => "anthropic-messages",
            Self::Gemini => "google-generative-ai",
        }
    }
}

/// A provider of models.
#[derive(Clone, Debug)]
pub struct Provider {
    /// `OpenClaw`'s id for it.
    pub id: String,
    /// How it is spoken to.
    pub api: Api,
    /// Where it is.
    pub base_url: String,
    /// Whether `base_url` is where that provider is for everybody.
    pub is_usual: bool,
    /// Its key; none for a model of the user's own.
    pub key: Option<SecretString>,
}

/// A model of a provider.
#[derive(Clone, Debug)]
pub struct AgentModel {
    /// The provider.
    pub provider: Provider,
    /// The model's name there.
    pub id: String,
    /// Tokens that it reads at once, if known.
    pub context: Option<u64>,
    /// Tokens of its longest answer, if known.
    pub max_output: Option<u64>,
}

/// A provider whose plugin comes with `OpenClaw`: it knows address, dialect and models.
struct BuiltIn {
    id: &'static str,
    host: &'static str,
}

/// Source: `dist/extensions` of 2026.9.6. Groq, Mistral and Moonshot are packages of their own, so they are described in
/// full instead, and so are servers of the user's.
const BUILT_IN: &[BuiltIn] = &[
    BuiltIn { id: "anthropic", host: "api.anthropic.com" },
    BuiltIn { id: "openai", host: "api.openai.com" },
    BuiltIn { id: "google", host: "generativelanguage.googleapis.com" },
    BuiltIn { id: "openrouter", host: "openrouter.ai" },
    BuiltIn { id: "xai", host: "api.x.ai" },
    BuiltIn { id: "together", host: "api.together.xyz" },
    // Speaks Anthropic's dialect at `/anthropic`. Source: docs, providers/minimax.
    BuiltIn { id: "minimax", host: "api.minimax.io" },
];

/// What the providers come to.
#[derive(Debug, Default)]
pub(super) struct Models {
    pub(super) providers: Map<String, Value>,
    pub(super) plugins: Vec<&'static str>,
    pub(super) primary: String,
    pub(super) fallbacks: Vec<String>,
    pub(super) allow: Vec<String>,
    pub(super) destinations: Vec<Destination>,
}

pub(super) fn render(settings: &OpenClawSettings, secrets: &mut Secrets) -> Result<Models, ConfigError> {
    let mut out = Models::default();
    let all = settings.models.iter().map(|model| (&model.provider, Some(model)));
    for (provider, model) in all.chain(settings.providers.iter().map(|provider| (provider, None))) {
        if !out.providers.contains_key(&provider.id) {
            let entry = out.provider(provider, secrets)?;
            out.providers.insert(provider.id.clone(), entry);
            out.allow.push(format!("{}/*", provider.id));
        }
        let Some(model) = model else { continue };
        let name = format!("{}/{}", provider.id, model.id);
        if out.primary.is_empty() {
            out.primary = name;
        } else if name != out.primary && !out.fallbacks.contains(&name) {
            out.fallbacks.push(name);
        }
        let listed = out.providers.get_mut(&provider.id).and_then(|entry| entry.get_mut("models"));
        if let Some(listed) = listed.and_then(Value::as_array_mut)
            && !listed.iter().any(|other| other["id"] == model.id)
        {
            listed.push(described(model));
        }
    }
    Ok(out)
}

impl Models {
    fn provider(&mut self, provider: &Provider, secrets: &mut Secrets) -> Result<Value, ConfigError> {
        let built_in = BUILT_IN.iter().find(|known| known.id == provider.id);
        let key = match &provider.key {
            Some(key) => secrets.put(&format!("key_{}", provider.id), key),
            None if built_in.is_some() && provider.is_usual => {
                return Err(ConfigError::NoSecret { of: provider.id.clone(), what: "key" });
            }
            None => json!(NO_KEY),
        };
        // Another runtime would be installed from the network, and run commands by rules of its own.
        let mut entry = json!({ "apiKey": key, "models": [], "agentRuntime": { "id": "openclaw" } });
        let why = format!("model of {}", provider.id);
        if let Some(known) = built_in {
            self.plugins.push(known.id);
            if provider.is_usual {
                self.destinations.push(Destination { host: known.host.into(), port: 443, why });
                return Ok(entry);
            }
        }
        let place = Place::of(&provider.base_url).ok_or_else(|| ConfigError::BadUrl {
            provider: provider.id.clone(),
            url: provider.base_url.rsplit('@').next().unwrap_or_default().to_owned(),
        })?;
        self.destinations.push(Destination { host: place.host.clone(), port: place.port, why });
        super::set(&mut entry, &["api"], json!(provider.api.word()));
        super::set(&mut entry, &["baseUrl"], json!(place.url()));
        Ok(entry)
    }
}

/// `models.providers.*.models[]`.
fn described(model: &AgentModel) -> Value {
    let mut entry = json!({
        "id": model.id,
        "name": model.id,
        "reasoning": true,
        "input": ["text"],
        "agentRuntime": { "id": "openclaw" },
    });
    if let Some(context) = model.context {
        super::set(&mut entry, &["contextWindow"], json!(context));
    }
    if let Some(max_output) = model.max_output {
        super::set(&mut entry, &["maxTokens"], json!(max_output));
    }
    entry
}

/// The parts of a base URL.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    scheme: &'static str,
    /// As it is reached from the container.
    host: String,
    port: u16,
    path: String,
}

impl Place {
    fn of(url: &str) -> Option<Self> {
        let (scheme, usual, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => ("https", 443, rest),
            (_, Some(rest)) => ("http", 80, rest),
            _ => return None,
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#' | '\\');
        if authority.contains(odd) || path.contains(odd) {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port > 0))?;
        if host.is_empty() {
            return None;
        }
        let host = if is_here(host) { HOST_NAME.to_owned() } else { host.to_ascii_lowercase() };
        Some(Self { scheme, host, port, path: path.trim_end_matches('/').to_owned() })
    }

    fn url(&self) -> String {
        let Self { scheme, host, port, path } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match (*scheme, *port) {
            ("https", 443) | ("http", 80) => format!("{scheme}://{host}{path}"),
            _ => format!("{scheme}://{host}:{port}{path}"),
        }
    }
}

/// Whether a host is the machine that Sentrix runs on: in the container, its loopback is another one.
fn is_here(host: &str) -> bool {
    let name = host.to_ascii_lowercase();
    ["localhost", "host.docker.internal", HOST_NAME].contains(&name.as_str())
        || name.ends_with(".localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_loopback_is_the_host() {
        let there = |url: &str| Place::of(url).map(|place| (place.url(), place.port));
        let ok =
            |url: &str, other: &str, port: u16| assert_eq!(there(url), Some((other.into(), port)), "{url}");
        ok("https://api.Mistral.ai/v1/", "https://api.mistral.ai/v1", 443);
        ok("http://127.0.0.1:11434/v1", "http://host.sentrix.internal:11434/v1", 11434);
        ok("http://localhost", "http://host.sentrix.internal", 80);
        ok("http://[::1]:8000/v1", "http://host.sentrix.internal:8000/v1", 8000);
        ok("http://0.0.0.0:1/", "http://host.sentrix.internal:1", 1);
        ok("https://[2001:db8::1]/v1", "https://[2001:db8::1]/v1", 443);
        for bad in [
            "",
            "ftp://x",
            "http://",
            "http:///v1",
            "http://u:p@x/",
            "http://x:0",
            "http://x:99999",
            "http://x y/",
            "http://x/?k=v",
            "https://[::1",
            "http://x\\@y",
        ] {
            assert_eq!(there(bad), None, "{bad}");
        }
    }
}

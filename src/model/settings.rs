//! What a model needs to know of the configuration: plain data, filled by `config`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// One model, bound to a role.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// The role it plays, as `patrol` or `investigator`.
    pub role: String,
    /// The provider's name, for messages: `OpenAI`.
    pub provider: String,
    /// How the provider is spoken to.
    pub dialect: Dialect,
    /// The model's name at the provider.
    pub model: String,
    /// Where the provider is. A trailing slash and a trailing `/v1` make no difference.
    pub base_url: String,
    /// The key; an empty one and `no-key-set` count as none.
    pub api_key: Option<SecretString>,
    /// Where the key was read, or looked for: `OPENAI_API_KEY`, or `OPENAI_API_KEY (from .env)`.
    pub key_source: String,
    /// Whether a call without a key is refused before it is made; models on this machine need none.
    pub key_needed: bool,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// Most attempts of one call, the first included.
    pub max_attempts: u32,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Most tokens of an answer where the request does not say.
    pub max_tokens: u32,
    /// Largest body of an answer, in bytes.
    pub max_answer_bytes: usize,
}

impl ModelSettings {
    /// A model of OpenAI, or of whoever speaks its dialect at another `base_url`.
    pub fn openai(role: &str, model: &str, api_key: Option<SecretString>) -> Self {
        Self {
            role: role.into(),
            provider: "OpenAI".into(),
            dialect: Dialect::OpenAi,
            model: model.into(),
            base_url: "https://api.openai.com/v1".into(),
            api_key,
            key_source: "OPENAI_API_KEY".into(),
            key_needed: true,
            timeouts: Timeouts::default(),
            max_attempts: 3,
            backoff: Backoff::default(),
            max_tokens: 4_096,
            max_answer_bytes: 8 << 20,
        }
    }

    /// A model of Anthropic.
    pub fn anthropic(role: &str, model: &str, api_key: Option<SecretString>) -> Self {
        Self {
            provider: "Anthropic".into(),
            dialect: Dialect::Anthropic,
            base_url: "https://api.anthropic.com".into(),
            key_source: "ANTHROPIC_API_KEY".into(),
            ..Self::openai(role, model, api_key)
        }
    }

    /// The key as it is sent: without the white space that copying leaves around it.
    pub(super) fn key(&self) -> Option<SecretString> {
        let key = self.api_key.as_ref()?.expose_secret().trim();
        (!key.is_empty() && key != "no-key-set").then(|| SecretString::from(key))
    }
}

/// A way of speaking to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `POST {base}/chat/completions`.
    OpenAi,
    /// `POST {base}/v1/messages`.
    Anthropic,
}

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// One attempt as a whole, until the last byte of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), total: Duration::from_mins(2) }
    }
}

/// How long to wait before trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// About how long before the second attempt; doubles with each further one.
    pub first: Duration,
    /// Longest wait. A provider that asks for more is not waited for: the caller gets the error.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}

//! What a model needs to know of the configuration: plain data, filled by `config`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::table::{Manner, Price, Provider};

/// One model, bound to a role.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// The role it plays, as `patrol` or `investigator`.
    pub role: String,
    /// The provider's id in the table: `openai`.
    pub provider_id: String,
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
    /// How the model is spoken to.
    pub manner: Manner,
    /// What its tokens cost, as far as known.
    pub price: Option<Price>,
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
    /// A model of a provider, with the table's defaults.
    pub fn of(provider: &Provider, role: &str, model: &str, api_key: Option<SecretString>) -> Self {
        Self {
            role: role.into(),
            provider_id: provider.id.clone(),
            provider: provider.name.clone(),
            dialect: provider.dialect,
            model: model.into(),
            base_url: provider.base_url.clone(),
            api_key,
            key_source: provider.key.first().cloned().unwrap_or_default(),
            key_needed: !provider.local,
            manner: provider.manner(model),
            price: provider.listed(model).map(|listed| listed.price),
            timeouts: Timeouts::default(),
            max_attempts: 3,
            backoff: Backoff::default(),
            max_tokens: 4_096,
            max_answer_bytes: 8 << 20,
        }
    }

    /// The key as it is sent: without the white space that copying leaves around it.
    pub(super) fn key(&self) -> Option<SecretString> {
        let key = self.api_key.as_ref()?.expose_secret().trim();
        (!key.is_empty() && key != "no-key-set").then(|| SecretString::from(key))
    }
}

/// The models of a role.
#[derive(Clone, Debug)]
pub struct RoleSettings {
    /// The role: `patrol`, `investigator`, or `patrol.` and a lens.
    pub role: String,
    /// The model that is asked first, then those that are asked where the one before cannot answer. Never empty.
    pub chain: Vec<ModelSettings>,
}

/// How hard a provider may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most calls at once.
    pub concurrency: usize,
    /// Most calls a minute, if there is a limit.
    pub per_minute: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrency: 16, per_minute: None }
    }
}

/// What may be spent; no limit where none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tokens of questions and answers together.
    pub tokens: Option<u64>,
    /// Money, in millionths of a US dollar.
    pub micro_usd: Option<u64>,
}

/// What may be spent on what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// One sweep of the patrol.
    pub sweep: Budget,
    /// One investigation.
    pub investigation: Budget,
    /// Everything, on one day (UTC).
    pub day: Budget,
}

/// A way of speaking to a provider.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `POST {base}/chat/completions`.
    OpenAi,
    /// `POST {base}/v1/messages`.
    Anthropic,
    /// `POST {base}/models/{model}:generateContent`.
    Gemini,
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

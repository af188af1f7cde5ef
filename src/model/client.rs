//! A model behind HTTP, and the models of all roles.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::chat::{Answering, ChatAnswer, ChatModel, ChatRequest, TokenSink, Usage};
use super::error::{ModelContext, ModelError, ModelErrorKind, Retry};
use super::http::{self, Http, Opened, Reply};
use super::masked::{Mask, Masked};
use super::settings::{Backoff, Dialect, ModelSettings};
use super::{anthropic, openai, stream, verdict};

/// A model behind HTTP.
///
/// An attempt that fails in a way that may pass (408, 409, 429, 5xx, a broken connection, a timeout) is made
/// again after a while, within the limits of the settings.
#[derive(Debug)]
pub struct Client {
    settings: ModelSettings,
    context: Arc<ModelContext>,
    endpoint: Result<Url, String>,
    key: Option<SecretString>,
    http: Arc<Http>,
}

/// What a dialect needs to know of the call.
pub(super) struct Asked<'a> {
    pub(super) model: &'a str,
    pub(super) host: &'a str,
    pub(super) max_tokens: u32,
    /// The name of the output's schema.
    pub(super) output: Option<&'a str>,
    key: Option<&'a SecretString>,
}

impl Asked<'_> {
    #[cfg(test)]
    pub(super) fn of<'a>(host: &'a str, output: Option<&'a str>) -> Asked<'a> {
        Asked { model: "m", host, max_tokens: 9, output, key: None }
    }

    /// A provider's words as they may be shown.
    pub(super) fn said(&self, words: &str) -> String {
        verdict::said(words, self.key)
    }

    /// The model that answered, as far as the response says.
    pub(super) fn answered_by(&self, body: &Value) -> String {
        match body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty()) {
            Some(model) => self.said(model),
            None => self.model.to_owned(),
        }
    }
}

impl Client {
    /// A client for these settings. Touches neither disk nor network: what is wrong with them shows in
    /// [`ChatModel::ready`] and with the first call.
    pub fn new(settings: ModelSettings) -> Self {
        Self::with_http(settings, Arc::default())
    }

    fn with_http(settings: ModelSettings, http: Arc<Http>) -> Self {
        let endpoint = http::endpoint(&settings.base_url, settings.dialect);
        let context = ModelContext {
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            role: settings.role.clone(),
            host: endpoint.as_ref().map(http::host).unwrap_or_default(),
            key_source: settings.key_source.clone(),
        };
        Self { key: settings.key(), context: Arc::new(context), endpoint, settings, http }
    }

    fn fail(&self, kind: ModelErrorKind) -> ModelError {
        ModelError::new(&self.context, kind)
    }

    /// The headers that hold the key and the version; the key is marked so that nothing prints it.
    fn headers(&self, streams: bool) -> Result<HeaderMap, ModelErrorKind> {
        let json = HeaderValue::from_static("application/json");
        let accepted = if streams { HeaderValue::from_static(stream::CONTENT_TYPE) } else { json.clone() };
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json), (ACCEPT, accepted)]);
        let (name, prefix) = match self.settings.dialect {
            Dialect::OpenAi => (AUTHORIZATION, "Bearer "),
            Dialect::Anthropic => {
                let version = HeaderName::from_static("anthropic-version");
                headers.insert(version, HeaderValue::from_static(anthropic::VERSION));
                (HeaderName::from_static("x-api-key"), "")
            }
        };
        if let Some(key) = &self.key {
            let value = SecretString::from(format!("{prefix}{}", key.expose_secret()));
            let mut value =
                HeaderValue::from_str(value.expose_secret()).map_err(|_| ModelErrorKind::UnusableKey)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn ask(&self, mut request: ChatRequest) -> Result<ChatAnswer, ModelError> {
        self.ready()?;
        let url = self.endpoint.clone().map_err(|why| self.fail(ModelErrorKind::BadUrl(why)))?;
        let client = self.http.client(&url, self.settings.timeouts).map_err(|kind| self.fail(kind))?;
        let asked = Asked {
            model: &self.settings.model,
            host: &self.context.host,
            max_tokens: request.max_tokens.unwrap_or(self.settings.max_tokens),
            output: request.output.as_ref().map(|output| output.name.as_str()),
            key: self.key.as_ref(),
        };
        let mut prepared = self.prepare(&asked, &request)?;
        let settings = &self.settings;
        let (mut attempt, mut charged) = (1, Usage::default());
        let sink = request.on_token.clone().map(Said::new);
        loop {
            let mut http_request = Request::new(Method::POST, url.clone());
            let (headers, body) = prepared.clone();
            *http_request.headers_mut() = headers;
            *http_request.body_mut() = Some(body.into());
            let result = match http::open(&client, http_request, settings.timeouts).await {
                Ok(opened) => self.answer(&asked, opened, sink.as_ref()).await,
                Err(kind) => Err(self.fail(kind)),
            };
            let failed = match result {
                Ok(answer) => return Ok(ChatAnswer { usage: answer.usage + charged, ..answer }),
                Err(error) => error,
            };
            charged += failed.usage;
            if request.on_token.is_some() && is_about_streams(&failed.kind) {
                request.on_token = None;
                prepared = self.prepare(&asked, &request)?;
                continue;
            }
            let wait =
                (attempt < settings.max_attempts).then(|| wait(&failed.kind, settings.backoff, attempt));
            let error = ModelError { attempts: attempt, usage: charged, ..failed };
            let Some(wait) = wait.flatten() else { return Err(error) };
            tracing::warn!(
                "gen_ai.request.model" = self.context.model,
                "gen_ai.provider.name" = self.context.provider,
                role = self.context.role,
                class = error.class(),
                attempt,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "model call failed, trying again"
            );
            tokio::time::sleep(wait).await;
            attempt += 1;
            if let Some(sink) = &sink {
                sink.begin_anew();
            }
        }
    }

    /// Headers and body of a request.
    fn prepare(&self, asked: &Asked<'_>, request: &ChatRequest) -> Result<(HeaderMap, String), ModelError> {
        let headers = self.headers(request.on_token.is_some()).map_err(|kind| self.fail(kind))?;
        let body = match self.settings.dialect {
            Dialect::OpenAi => openai::body(asked, request),
            Dialect::Anthropic => anthropic::body(asked, request),
        };
        Ok((headers, body.to_string()))
    }

    /// Reads the answer of one attempt, as it comes where somebody wants to see that.
    async fn answer(
        &self,
        asked: &Asked<'_>,
        opened: Opened,
        sink: Option<&Said>,
    ) -> Result<ChatAnswer, ModelError> {
        let limit = self.settings.max_answer_bytes;
        let streams = opened.status.is_success()
            && verdict::content_type(&opened.headers).starts_with(stream::CONTENT_TYPE);
        if let Some(sink) = sink.filter(|_| streams) {
            let key = self.key.as_ref();
            let (body, failed) = stream::read(opened, self.settings.dialect, asked, key, limit, |piece| {
                sink.say(piece);
            })
            .await;
            return match failed {
                None => self.judge(asked, &body),
                Some(kind) => Err(self.fail(kind).charged(self.answer_in(asked, &body).1)),
            };
        }
        let reply = opened.read(limit).await.map_err(|kind| self.fail(kind))?;
        if !reply.status.is_success() {
            return Err(self.fail(verdict::of_status(&reply, self.key.as_ref())));
        }
        let answer = self.read(asked, &reply)?;
        if let Some(sink) = sink {
            // The server does not stream; better late than never.
            sink.say(&answer.text);
        }
        Ok(answer)
    }

    fn read(&self, asked: &Asked<'_>, reply: &Reply) -> Result<ChatAnswer, ModelError> {
        let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else {
            let what = match verdict::content_type(&reply.headers) {
                kind if reply.body.is_empty() => format!("an empty body, content type `{kind}`"),
                kind => format!("a body that is no JSON, content type `{kind}`"),
            };
            return Err(self.fail(ModelErrorKind::Malformed(what)));
        };
        self.judge(asked, &body)
    }

    /// The answer in a response, with what it cost, or why there is none.
    fn answer_in(&self, asked: &Asked<'_>, body: &Value) -> (Result<ChatAnswer, ModelErrorKind>, Usage) {
        match self.settings.dialect {
            Dialect::OpenAi => openai::answer(asked, body),
            Dialect::Anthropic => anthropic::answer(asked, body),
        }
    }

    /// The answer in a response that is whole.
    fn judge(&self, asked: &Asked<'_>, body: &Value) -> Result<ChatAnswer, ModelError> {
        if let Some(kind) = verdict::of_body(body, self.key.as_ref()) {
            return Err(self.fail(kind));
        }
        let (answer, usage) = self.answer_in(asked, body);
        tracing::debug!(
            "gen_ai.request.model" = self.context.model,
            "gen_ai.usage.input_tokens" = usage.input_tokens,
            "gen_ai.usage.output_tokens" = usage.output_tokens,
            role = self.context.role,
            answered = answer.is_ok(),
            "model answered"
        );
        answer.map_err(|kind| self.fail(kind).charged(usage))
    }
}

impl ChatModel for Client {
    fn context(&self) -> &Arc<ModelContext> {
        &self.context
    }

    fn ready(&self) -> Result<(), ModelError> {
        if let Err(why) = &self.endpoint {
            return Err(self.fail(ModelErrorKind::BadUrl(why.clone())));
        }
        if self.key.is_none() && self.settings.key_needed {
            return Err(self.fail(ModelErrorKind::MissingKey));
        }
        self.headers(false).map(drop).map_err(|kind| self.fail(kind))
    }

    fn complete(&self, request: ChatRequest) -> Answering<'_> {
        Box::pin(self.ask(request))
    }
}

/// A sink, and whether it was given anything of the present attempt.
struct Said {
    sink: TokenSink,
    something: AtomicBool,
}

impl Said {
    const fn new(sink: TokenSink) -> Self {
        Self { sink, something: AtomicBool::new(false) }
    }

    fn say(&self, piece: &str) {
        self.something.store(true, Ordering::Relaxed);
        self.sink.say(piece);
    }

    /// Another attempt follows.
    fn begin_anew(&self) {
        if self.something.swap(false, Ordering::Relaxed) {
            self.sink.say("\n");
        }
    }
}

/// Whether a server did not take the request because it cannot stream, or not as it was asked.
fn is_about_streams(kind: &ModelErrorKind) -> bool {
    matches!(kind, ModelErrorKind::BadRequest { said, .. } if said.to_lowercase().contains("stream"))
}

/// How long to wait before another attempt; none where there must be none.
fn wait(kind: &ModelErrorKind, backoff: Backoff, attempt: u32) -> Option<Duration> {
    // What came whole and cannot be read is not a matter of the wire.
    if matches!(kind, ModelErrorKind::Malformed(_)) {
        return None;
    }
    match kind.retry() {
        Retry::Never => None,
        Retry::After(wait) if wait > backoff.longest => None,
        // A little later than asked, so that many callers do not come back at once.
        Retry::After(wait) => Some(wait + backoff.first.mul_f64(0.1 * random())),
        Retry::Backoff => {
            let factor = 2_u32.saturating_pow(attempt.saturating_sub(1));
            let full = backoff.first.saturating_mul(factor).min(backoff.longest);
            Some(full.mul_f64(0.5 + 0.5 * random()))
        }
    }
}

/// A number from 0 to 1, seeded by the operating system.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(0);
    f64::from(bits) / f64::from(u32::MAX)
}

/// The models of all roles.
#[derive(Clone, Debug, Default)]
pub struct Models {
    roles: BTreeMap<String, Arc<dyn ChatModel>>,
}

impl Models {
    /// One HTTP client for each of these settings, sharing connections; a later one of the same role wins.
    pub fn from_settings(settings: impl IntoIterator<Item = ModelSettings>) -> Self {
        let http = Arc::<Http>::default();
        let mut models = Self::default();
        for settings in settings {
            let role = settings.role.clone();
            models.insert(&role, Arc::new(Client::with_http(settings, Arc::clone(&http))));
        }
        models
    }

    /// Binds a role.
    pub fn insert(&mut self, role: &str, model: Arc<dyn ChatModel>) {
        self.roles.insert(role.to_owned(), model);
    }

    /// The same models, with `mask` put over everything that they say.
    #[must_use]
    pub fn masked(&self, mask: Mask) -> Self {
        let masked = |model: &Arc<dyn ChatModel>| Arc::new(Masked::new(Arc::clone(model), mask)) as _;
        Self { roles: self.roles.iter().map(|(role, model)| (role.clone(), masked(model))).collect() }
    }

    /// The model of a role, ready or not.
    pub fn get(&self, role: &str) -> Option<&Arc<dyn ChatModel>> {
        self.roles.get(role)
    }

    /// Whether a model is bound to the role and could be called.
    pub fn ready(&self, role: &str) -> bool {
        self.get(role).is_some_and(|model| model.ready().is_ok())
    }

    /// All roles that have a model.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let kind = ModelErrorKind::Connect(String::new());
        for attempt in 1..80 {
            let wait = wait(&kind, backoff, attempt).unwrap();
            assert!(wait >= Duration::from_millis(50) && wait <= Duration::from_secs(1), "{wait:?}");
        }
        let asked = |seconds| ModelErrorKind::RateLimited {
            retry_after: Some(Duration::from_secs(seconds)),
            said: String::new(),
        };
        assert!(wait(&asked(1), backoff, 1).unwrap() >= Duration::from_secs(1));
        assert_eq!(wait(&asked(60), backoff, 1), None);
        assert_eq!(wait(&ModelErrorKind::MissingKey, backoff, 1), None);
        assert_eq!(wait(&ModelErrorKind::Malformed(String::new()), backoff, 1), None);
    }

    fn table_openai() -> &'static crate::model::Provider {
        crate::model::provider("openai").unwrap()
    }

    #[test]
    fn keys_are_trimmed_and_none_is_none() {
        let ready = |key: &str| {
            let settings = ModelSettings::of(table_openai(), "patrol", "m", Some(SecretString::from(key)));
            Client::new(settings).ready().map_err(|error| error.kind)
        };
        assert_eq!(ready(" sk-1\r\n"), Ok(()));
        assert_eq!(ready(" \n"), Err(ModelErrorKind::MissingKey));
        assert_eq!(ready("no-key-set"), Err(ModelErrorKind::MissingKey));
        assert_eq!(ready("a\nb"), Err(ModelErrorKind::UnusableKey));
        let mut local = ModelSettings::of(table_openai(), "patrol", "m", None);
        local.key_needed = false;
        let models = Models::from_settings([local]);
        assert!(models.ready("patrol") && !models.ready("investigator"));
        assert_eq!(models.roles().collect::<Vec<_>>(), ["patrol"]);
    }

    #[test]
    fn a_missing_key_names_its_own_variable_only() {
        let client = Client::new(ModelSettings::of(table_openai(), "patrol", "gpt-x", None));
        let shown = client.ready().unwrap_err().to_string();
        assert_eq!(
            shown,
            "no key for OpenAI: `OPENAI_API_KEY` is not set [OpenAI, model `gpt-x`, role `patrol`, api.openai.com]"
        );
    }
}

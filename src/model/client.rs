//! A model behind HTTP.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::chat::{Answering, ChatAnswer, ChatModel, ChatRequest, TokenSink, Usage};
use super::dialect::{Asked, anthropic, stream};
use super::error::{ModelContext, ModelError, ModelErrorKind, Retry};
use super::gate::Gate;
use super::http::{self, Http, Opened, Reply};
use super::lessons::{self, Lessons};
use super::settings::{Backoff, Dialect, Limits, ModelSettings};
use super::table::{Manner, OutputMode};
use super::verdict;

/// How long a refusal that no repetition changes (a wrong key, no credit, no such model) stands without another call.
const STANDS: Duration = Duration::from_mins(1);
/// How long a call waits to hear from another one that finds out whether a provider is back.
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(1);
/// Most things that are learned during one call.
const MOST_LESSONS: u32 = 6;

/// What all clients of a process share.
#[derive(Debug, Default)]
pub(super) struct Wire {
    http: Http,
    lessons: Lessons,
    gates: Mutex<BTreeMap<(String, String), Arc<Gate>>>,
}

impl Wire {
    /// The gate of a provider at a host; the first one to ask for it says how wide it is.
    fn gate(&self, provider: &str, host: &str, limits: Limits) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry((provider.to_owned(), host.to_owned()));
        Arc::clone(gate.or_insert_with(|| Arc::new(Gate::new(limits))))
    }
}

/// A model behind HTTP.
///
/// An attempt that fails in a way that may pass (408, 409, 429, 5xx, a broken connection, a timeout) is made
/// again after a while, within the limits of the settings. A parameter that the model complains about is left out from then
/// on.
#[derive(Debug)]
pub struct Client {
    settings: ModelSettings,
    context: Arc<ModelContext>,
    base: Result<(), String>,
    key: Option<SecretString>,
    wire: Arc<Wire>,
    gate: Arc<Gate>,
    refused: Mutex<Option<(ModelErrorKind, Instant)>>,
}

impl Client {
    /// A client for these settings. Touches neither disk nor network: what is wrong with them shows in
    /// [`ChatModel::ready`] and with the first call.
    pub fn new(settings: ModelSettings) -> Self {
        Self::with_wire(settings, Limits::default(), Arc::default())
    }

    pub(super) fn with_wire(settings: ModelSettings, limits: Limits, wire: Arc<Wire>) -> Self {
        let endpoint = settings.dialect.endpoint(&settings.base_url, &settings.model, false);
        let host = endpoint.as_ref().map(http::host).unwrap_or_default();
        let context = ModelContext {
            provider: settings.provider.clone(),
            model: settings.model.clone(),
            role: settings.role.clone(),
            host: host.clone(),
            key_source: settings.key_source.clone(),
        };
        let gate = wire.gate(&settings.provider_id, &host, limits);
        Self {
            key: settings.key(),
            context: Arc::new(context),
            base: endpoint.map(drop),
            settings,
            wire,
            gate,
            refused: Mutex::default(),
        }
    }

    fn fail(&self, kind: ModelErrorKind) -> ModelError {
        ModelError::new(&self.context, kind)
    }

    /// The headers that hold the key and the version; the key is marked so that nothing prints it.
    fn headers(&self, streams: bool) -> Result<HeaderMap, ModelErrorKind> {
        let json = HeaderValue::from_static("application/json");
        let accepted = if streams { HeaderValue::from_static(stream::CONTENT_TYPE) } else { json.clone() };
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json), (ACCEPT, accepted)]);
        if self.settings.dialect == Dialect::Anthropic {
            let version = HeaderName::from_static("anthropic-version");
            headers.insert(version, HeaderValue::from_static(anthropic::VERSION));
        }
        let (name, prefix) = self.settings.dialect.key_header();
        if let Some(key) = &self.key {
            let value = SecretString::from(format!("{prefix}{}", key.expose_secret()));
            let mut value =
                HeaderValue::from_str(value.expose_secret()).map_err(|_| ModelErrorKind::UnusableKey)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    async fn ask(&self, request: ChatRequest) -> Result<ChatAnswer, ModelError> {
        self.ready()?;
        self.standing_refusal()?;
        let sink = request.on_token.clone().map(Said::new);
        let (mut attempt, mut requests, mut lessons, mut charged) = (1, 0, 0, Usage::default());
        let mut before: Option<ModelError> = None;
        loop {
            let failed = match self.attempt(&request, sink.as_ref()).await {
                Ok(answer) => return Ok(ChatAnswer { usage: answer.usage + charged, ..answer }),
                Err(failed) => failed,
            };
            let Failed { error, sent } = failed;
            if let (ModelErrorKind::CircuitOpen { .. }, Some(before)) = (&error.kind, before.take()) {
                // What this call ran into itself says more than that others did too.
                return Err(before);
            }
            charged += error.usage;
            requests += u32::from(sent.is_some());
            if lessons < MOST_LESSONS && sent.is_some_and(|sent| self.learn(&error.kind, &sent)) {
                lessons += 1;
                continue;
            }
            let wait = (attempt < self.settings.max_attempts)
                .then(|| wait(&error.kind, self.settings.backoff, attempt));
            self.remember_refusal(&error.kind);
            let error = ModelError { attempts: requests, usage: charged, ..error };
            let Some(wait) = wait.flatten() else { return Err(error) };
            tracing::info!(
                "gen_ai.request.model" = self.context.model,
                "gen_ai.provider.name" = self.context.provider,
                role = self.context.role,
                class = error.class(),
                attempt,
                wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "model call failed, trying again"
            );
            before = Some(error);
            tokio::time::sleep(wait).await;
            attempt += 1;
            if let Some(sink) = &sink {
                sink.begin_anew();
            }
        }
    }

    /// One request and its answer.
    async fn attempt(&self, request: &ChatRequest, sink: Option<&Said>) -> Result<ChatAnswer, Failed> {
        let fail = |kind| Failed { error: self.fail(kind), sent: None };
        let settings = &self.settings;
        let learned = &self.wire.lessons;
        let manner = learned.applied(&settings.provider_id, &settings.model, &settings.manner);
        let mode = settings.dialect.mode(&manner, request.output.as_ref());
        let streams = request.on_token.is_some()
            && !manner.never_streams
            && (manner.stream_with_schema || request.output.is_none() || mode != OutputMode::Schema);
        let asked = Asked {
            model: &settings.model,
            max_tokens: request
                .max_tokens
                .unwrap_or(settings.max_tokens)
                .saturating_add(manner.thinking_room)
                .min(manner.max_output.unwrap_or(u32::MAX)),
            output: request.output.as_ref().map(|output| output.name.as_str()),
            mode,
            streams,
            manner: &manner,
            key: self.key.as_ref(),
        };
        let url = settings.dialect.endpoint(&settings.base_url, &settings.model, streams);
        let url = url.map_err(|why| fail(ModelErrorKind::BadUrl(why)))?;
        let client = self.wire.http.client(&url, settings.timeouts).map_err(fail)?;
        let body = settings.dialect.body(&asked, request);
        let mut http_request = Request::new(Method::POST, url);
        *http_request.headers_mut() = self.headers(streams).map_err(fail)?;
        *http_request.body_mut() = Some(body.to_string().into());

        let pass = self.gate.enter().await.map_err(fail)?;
        let result = match http::open(&client, http_request, settings.timeouts).await {
            Ok(opened) => self.answer(&asked, opened, sink.filter(|_| streams)).await,
            Err(kind) => Err(self.fail(kind)),
        };
        if pass.settle(result.as_ref().err().map(|error| &error.kind)) {
            tracing::warn!(
                "gen_ai.provider.name" = self.context.provider,
                host = self.context.host,
                "provider failed again and again, giving it time"
            );
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Err(Failed { error, sent: Some(Sent { body, manner }) }),
        };
        if let Some(sink) = sink.filter(|_| !streams) {
            // It was not asked to stream, or cannot; better late than never.
            sink.say(&answer.text);
        }
        Ok(answer)
    }

    /// Learns from a complaint; gives whether the next request will be another one.
    fn learn(&self, kind: &ModelErrorKind, sent: &Sent) -> bool {
        let Self { settings, wire, .. } = self;
        let Some(lesson) = lessons::lesson(kind, &sent.body, &sent.manner) else { return false };
        if wire.lessons.learn(&settings.provider_id, &settings.model, &lesson) {
            tracing::warn!(
                "gen_ai.request.model" = self.context.model,
                "gen_ai.provider.name" = self.context.provider,
                role = self.context.role,
                parameter = lesson.what(),
                "model does not take a parameter, leaving it out from now on"
            );
        }
        wire.lessons.applied(&settings.provider_id, &settings.model, &settings.manner) != sent.manner
    }

    fn standing_refusal(&self) -> Result<(), ModelError> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refused {
            Some((kind, since)) if since.elapsed() < STANDS => Err(self.fail(kind.clone())),
            _ => Ok(()),
        }
    }

    fn remember_refusal(&self, kind: &ModelErrorKind) {
        use ModelErrorKind as Kind;
        if matches!(
            kind,
            Kind::Unauthorized(_)
                | Kind::NoCredit(_)
                | Kind::Forbidden(_)
                | Kind::UnknownModel(_)
                | Kind::NoEndpoint(_)
        ) {
            let now = (kind.clone(), Instant::now());
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
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
                Some(kind) => Err(self.fail(kind).charged(self.settings.dialect.answer(asked, &body).1)),
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

    /// The answer in a response that is whole.
    fn judge(&self, asked: &Asked<'_>, body: &Value) -> Result<ChatAnswer, ModelError> {
        if let Some(kind) = verdict::of_body(body, self.key.as_ref()) {
            return Err(self.fail(kind));
        }
        let (answer, usage) = self.settings.dialect.answer(asked, body);
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

/// An attempt that brought no answer, with what was sent, if anything was.
struct Failed {
    error: ModelError,
    sent: Option<Sent>,
}

/// A request's body, and how the model was spoken to in it.
struct Sent {
    body: Value,
    manner: Manner,
}

impl ChatModel for Client {
    fn context(&self) -> &Arc<ModelContext> {
        &self.context
    }

    fn ready(&self) -> Result<(), ModelError> {
        if let Err(why) = &self.base {
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

/// How long to wait before another attempt; none where there must be none.
fn wait(kind: &ModelErrorKind, backoff: Backoff, attempt: u32) -> Option<Duration> {
    // What came whole and cannot be read is not a matter of the wire.
    if matches!(kind, ModelErrorKind::Malformed(_)) {
        return None;
    }
    match kind.retry() {
        Retry::Never => None,
        // Another model may answer at once, and work that has none waits in its store, where it holds up nothing.
        Retry::After(wait)
            if matches!(kind, ModelErrorKind::CircuitOpen { .. }) && wait > LONGEST_PROBE_WAIT =>
        {
            None
        }
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
        let open = |seconds| ModelErrorKind::CircuitOpen { failures: 5, left: Duration::from_secs(seconds) };
        assert!(wait(&open(1), backoff, 1).is_some(), "somebody is finding out");
        assert_eq!(wait(&open(2), Backoff::default(), 1), None);
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
        assert_eq!(Client::new(local).ready().map_err(|error| error.kind), Ok(()));
    }

    #[test]
    fn a_missing_key_names_its_own_variable_only() {
        let client = Client::new(ModelSettings::of(table_openai(), "patrol", "gpt-x", None));
        let shown = client.ready().unwrap_err().to_string();
        assert_eq!(
            shown,
            "no key for OpenAI: `OPENAI_API_KEY` is not set (keys are made at https://platform.openai.com/api-keys) [OpenAI, \
             model `gpt-x`, role `patrol`, api.openai.com]"
        );
    }
}

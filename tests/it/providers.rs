//! Each provider's own requests, and its own ways to say no: what is sent to whom, and what people read when it fails.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use sentrix::model::{
    Backoff, ChatModel, ChatRequest, Client, Dialect, ModelError, ModelErrorKind as Kind, ModelSettings,
    Provider, Timeouts, TokenSink, provider, providers, structured_value,
};
use serde_json::{Value, json};

use crate::model::name;
use crate::model_server::{ModelServer, Recorded, Reply};

/// A key of nobody, without any provider's mark.
const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// Words that providers repeat of a wrong key.
const KEY_HINT: &str = "0f***f0";

/// All that are somewhere else and want a key.
fn remote() -> impl Iterator<Item = &'static Provider> {
    providers().iter().filter(|provider| !provider.local)
}

/// A provider's model at the scripted server. A base without a path gets the version's; most providers' own bases have it.
fn settings(provider: &Provider, model: &str, server: &ModelServer) -> ModelSettings {
    let key = Some(SecretString::from(KEY));
    let path: Vec<&str> = provider.base_url.split('/').skip(3).collect();
    ModelSettings {
        base_url: format!("{}/{}", server.url(), path.join("/")),
        timeouts: Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(20) },
        backoff: Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(200) },
        ..ModelSettings::of(provider, "patrol", model, key)
    }
}

fn schema() -> Value {
    json!({
        "title": "verdict",
        "type": "object",
        "properties": {
            "severity": { "type": "string", "enum": ["LOW", "HIGH"] },
            "confidence": { "type": "number", "minimum": 0, "maximum": 1 },
            "note": { "type": "string" },
        },
        "required": ["severity", "confidence"],
        "additionalProperties": false,
    })
}

fn question() -> ChatRequest {
    let user = "<data-c0ffee00>\nthe log\n</data-c0ffee00>";
    ChatRequest {
        temperature: Some(0.2),
        max_tokens: Some(300),
        nonce: Some("c0ffee00".into()),
        ..ChatRequest::new("You are strict.", user)
    }
}

/// One question for an answer of a shape, and one for words as they come; the requests that were sent.
async fn ask_both(settings: ModelSettings, server: &ModelServer) -> Vec<Recorded> {
    let model = Client::new(settings);
    server.push(Reply::Answer(json!({ "severity": "HIGH", "confidence": 0.9, "note": "x" })));
    server.push(Reply::Text("word by word".into()));
    structured_value(&model, question(), &schema()).await.unwrap();
    let streamed = ChatRequest {
        max_tokens: Some(64),
        on_token: Some(TokenSink::new(|_| {})),
        ..ChatRequest::new("", "Say something.")
    };
    assert_eq!(model.complete(streamed).await.unwrap().text, "word by word");
    server.requests()
}

#[tokio::test]
async fn requests_are_what_each_provider_documents() {
    for provider in remote() {
        let server = ModelServer::playing([]);
        let sent = ask_both(settings(provider, provider.default_model("patrol"), &server), &server).await;
        assert_eq!(sent.len(), 2, "{}", provider.id);
        for request in &sent {
            let masked = request.masked().to_string();
            assert!(!masked.contains(KEY), "{}", provider.id);
            let holding = request.headers.values().filter(|value| value.contains(KEY)).count();
            assert_eq!(holding, 1, "{}", provider.id);
        }
        let shown: Vec<Value> = sent.iter().map(Recorded::masked).collect();
        insta::assert_json_snapshot!(format!("{}_requests", provider.id), shown);
    }
}

#[tokio::test]
async fn kimi_k2_5_is_never_told_a_temperature() {
    let moonshot = provider("moonshot").unwrap();
    let server = ModelServer::playing([]);
    let sent = ask_both(settings(moonshot, "kimi-k2.5", &server), &server).await;
    for request in &sent {
        for omitted in ["temperature", "top_p", "n", "presence_penalty", "frequency_penalty"] {
            assert_eq!(request.body.get(omitted), None, "{}", request.body);
        }
        assert_eq!(request.body["thinking"], json!({ "type": "disabled" }));
    }
    let shown: Vec<Value> = sent.iter().map(Recorded::masked).collect();
    insta::assert_json_snapshot!("moonshot_kimi_k2_5_requests", shown);
}

/// What goes wrong with an account.
const TROUBLES: [&str; 5] = ["missing key", "wrong key", "no credit", "unknown model", "region block"];

fn said(status: u16, body: &Value) -> Reply {
    Reply::Status(status, vec![], body.to_string())
}

/// The error object of the chat-completions dialect.
fn openai(status: u16, kind: &str, code: &str, message: &str) -> Reply {
    let code = if code.is_empty() { Value::Null } else { json!(code) };
    said(status, &json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }))
}

fn anthropic(status: u16, kind: &str, message: &str) -> Reply {
    let error = json!({ "type": kind, "message": message });
    said(status, &json!({ "type": "error", "error": error, "request_id": "req_011" }))
}

fn google(status: u16, word: &str, message: &str, details: &Value) -> Reply {
    said(
        status,
        &json!({ "error": { "code": status, "message": message, "status": word, "details": details } }),
    )
}

fn openrouter(status: u16, message: &str, metadata: &Value) -> Reply {
    said(
        status,
        &json!({ "error": { "code": status, "message": message, "metadata": metadata }, "user_id": "user_1" }),
    )
}

fn xai(status: u16, code: &str, error: &str) -> Reply {
    said(status, &json!({ "code": code, "error": error }))
}

fn together(status: u16, kind: &str, message: &str) -> Reply {
    let error = json!({ "message": message, "type": kind, "param": null, "code": kind });
    said(status, &json!({ "id": "nx-1", "error": error }))
}

fn minimax(code: i64, words: &str) -> Reply {
    said(200, &json!({ "base_resp": { "status_code": code, "status_msg": words } }))
}

/// A provider's own answer to a trouble, with the sources in the notes of `providers.toml`. Where nothing is documented, it
/// is what providers of its dialect answer; those lines say so.
fn answer_to(id: &str, trouble: &str) -> Reply {
    let none = Value::Null;
    let region = "Country, region, or territory not supported";
    match (id, trouble) {
        ("anthropic", "wrong key") => anthropic(401, "authentication_error", "invalid x-api-key"),
        ("anthropic", "no credit") => anthropic(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase \
             credits.",
        ),
        ("anthropic", "unknown model") => anthropic(404, "not_found_error", "model: claude-haiku-5-5"),
        ("anthropic", "region block") => anthropic(403, "forbidden", "Request not allowed"),

        ("openai", "wrong key") => openai(
            401,
            "invalid_request_error",
            "invalid_api_key",
            &format!(
                "Incorrect API key provided: {KEY_HINT}. You can find your API key at https://platform.openai.com/account/api-keys."
            ),
        ),
        ("openai", "no credit") => openai(
            429,
            "insufficient_quota",
            "insufficient_quota",
            "You exceeded your current quota, please check your plan and billing details. For more information on this error, \
             read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        ),
        ("openai", "unknown model") => openai(
            404,
            "invalid_request_error",
            "model_not_found",
            "The model `gpt-6-luna` does not exist or you do not have access to it.",
        ),
        ("openai", "region block") => {
            openai(403, "request_forbidden", "unsupported_country_region_territory", region)
        }

        ("google", "wrong key") => google(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            &json!([{ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                "domain": "googleapis.com", "metadata": { "service": "generativelanguage.googleapis.com" } }]),
        ),
        ("google", "no credit") => google(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details. For more information on this error, \
             head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
            &json!([{ "@type": "type.googleapis.com/google.rpc.Help", "links": [] }]),
        ),
        ("google", "unknown model") => google(
            404,
            "NOT_FOUND",
            "models/gemini-3.5-flash-lite is not found for API version v1beta, or is not supported for generateContent. Call \
             ListModels to see the list of available models and their supported methods.",
            &json!([]),
        ),
        ("google", "region block") => {
            google(400, "FAILED_PRECONDITION", "User location is not supported for the API use.", &json!([]))
        }

        ("openrouter", "wrong key") => openrouter(401, "User not found.", &none),
        ("openrouter", "no credit") => openrouter(
            402,
            "This request requires more credits, or fewer max_tokens. You requested up to 2048 tokens, but can only afford 12. \
             To increase, visit https://openrouter.ai/settings/credits and add more credits",
            &json!({ "limit_source": "openrouter_credits" }),
        ),
        ("openrouter", "unknown model") => {
            openrouter(400, "openai/gpt-6-luna is not a valid model ID", &none)
        }
        // Not documented: the words of the provider behind it.
        ("openrouter", "region block") => openrouter(
            403,
            "Provider returned error",
            &json!({ "raw": "This model is not available in your region.", "provider_name": "the upstream" }),
        ),

        ("xai", "wrong key") => xai(
            400,
            "Client specified an invalid argument",
            &format!(
                "Incorrect API key provided: {KEY_HINT}. You can obtain an API key from https://console.x.ai."
            ),
        ),
        ("xai", "no credit") => xai(
            429,
            "Some resource has been exhausted",
            "Your team 1f00 has either used all available credits or reached its monthly spending limit. To continue making API \
             requests, please purchase more credits or raise your spending limit.",
        ),
        ("xai", "unknown model") => xai(
            404,
            "Some requested entity was not found",
            "The model grok-4.3 does not exist or your team 1f00 does not have access to it.",
        ),
        // Not documented.
        ("xai", "region block") => xai(
            403,
            "The caller does not have permission to execute the specified operation",
            "The service is not available in your region.",
        ),

        ("mistral", "wrong key") => said(401, &json!({ "detail": "Unauthorized" })),
        // Not documented: the status alone.
        ("mistral", "no credit") => said(402, &json!({ "detail": "Payment required" })),
        ("mistral", "unknown model") => said(
            400,
            &json!({ "object": "error", "message": "Invalid model: mistral-small-latest", "type": "invalid_model",
                "param": null, "code": "1500" }),
        ),
        // Not documented.
        ("mistral", "region block") => said(403, &json!({ "message": "Forbidden", "request_id": "1f00" })),

        ("groq", "wrong key") => openai(401, "invalid_request_error", "invalid_api_key", "Invalid API Key"),
        // Not documented: the status alone.
        ("groq", "no credit") => openai(402, "invalid_request_error", "", "Payment required"),
        ("groq", "unknown model") => openai(
            404,
            "invalid_request_error",
            "model_not_found",
            "The model `openai/gpt-oss-20b` does not exist or you do not have access to it.",
        ),
        ("groq", "region block") => {
            openai(403, "invalid_request_error", "", "Access denied. Please check your network settings.")
        }

        ("together", "wrong key") => together(
            401,
            "invalid_api_key",
            &format!(
                "Invalid API key provided: {KEY_HINT}. You can find your API key at https://api.together.ai/settings/api-keys."
            ),
        ),
        ("together", "no credit") => together(
            402,
            "credit_limit",
            "Credit limit exceeded. Please navigate to https://api.together.xyz/settings/billing to add credit or upgrade your \
             plan.",
        ),
        ("together", "unknown model") => together(
            404,
            "model_not_available",
            "Unable to access model openai/gpt-oss-120b. Please visit https://api.together.ai/models to view the list of \
             supported models.",
        ),
        // Not documented.
        ("together", "region block") => together(403, "forbidden", region),

        ("minimax", "wrong key") => minimax(2049, "invalid api key"),
        ("minimax", "no credit") => minimax(1008, "insufficient balance"),
        ("minimax", "unknown model") => minimax(2013, "invalid params, unknown model 'minimax-m3.1-flash'"),
        // Not documented.
        ("minimax", "region block") => said(
            403,
            &json!({ "type": "error", "error": { "type": "forbidden", "message": region }, "request_id": "1f00" }),
        ),

        ("moonshot", "wrong key") => {
            openai(401, "invalid_authentication_error", "", "Invalid Authentication")
        }
        ("moonshot", "no credit") => openai(
            429,
            "exceeded_current_quota_error",
            "",
            "Your account org-1f00<ak-1f00e2d3> is suspended due to insufficient balance, please recharge your account or check \
             your plan and billing details",
        ),
        ("moonshot", "unknown model") => {
            openai(404, "resource_not_found_error", "", "Not found the model kimi-k2.6 or Permission denied")
        }
        // Not documented.
        ("moonshot", "region block") => openai(403, "permission_denied_error", "", region),
        (id, trouble) => panic!("no answer of {id} to {trouble}"),
    }
}

/// A provider's other shapes for the same trouble.
fn others(id: &str) -> Vec<(&'static str, Reply)> {
    match id {
        "anthropic" => vec![
            ("no credit", anthropic(402, "billing_error", "Your account has a billing issue.")),
            ("region block", anthropic(400, "invalid_request_error", "This organization has been disabled.")),
        ],
        "google" => vec![(
            "wrong key",
            google(400, "INVALID_ARGUMENT", "API Key not found. Please pass a valid API key.", &json!([])),
        )],
        "openrouter" => vec![
            (
                "no credit",
                openrouter(
                    402,
                    "Insufficient credits. Add more using https://openrouter.ai/credits",
                    &Value::Null,
                ),
            ),
            ("unknown model", openrouter(404, "No endpoints found for openai/gpt-6-luna.", &Value::Null)),
            // Inside a success, as once a model has begun.
            (
                "no credit",
                said(200, &json!({ "error": { "code": 402, "message": "Insufficient credits." } })),
            ),
        ],
        "xai" => vec![(
            "no credit",
            xai(403, "permission", "Your newly created team doesn't have any credits or licenses yet."),
        )],
        "mistral" => {
            vec![("wrong key", said(401, &json!({ "message": "Unauthorized", "request_id": "1f00" })))]
        }
        "groq" => vec![
            (
                "region block",
                openai(
                    400,
                    "invalid_request_error",
                    "organization_restricted",
                    "Organization has been restricted. Please reach out to support if you believe this was in error.",
                ),
            ),
            (
                "unknown model",
                openai(
                    403,
                    "permissions_error",
                    "model_permission_blocked_org",
                    "The model is blocked at the organization level.",
                ),
            ),
        ],
        "minimax" => vec![
            (
                "wrong key",
                said(
                    401,
                    &json!({ "type": "error", "error": { "type": "authorized_error",
                        "message": "login fail: Please carry the API secret key (1004)", "http_code": "401" } }),
                ),
            ),
            (
                "no credit",
                said(
                    402,
                    &json!({ "type": "error", "error": { "type": "insufficient_balance_error",
                        "message": "insufficient balance (1008)" } }),
                ),
            ),
            ("wrong key", minimax(1004, "login fail")),
        ],
        "moonshot" => vec![(
            "no credit",
            openai(
                403,
                "exceeded_current_quota_error",
                "",
                "Your account is suspended due to insufficient balance",
            ),
        )],
        _ => Vec::new(),
    }
}

fn kind_of(trouble: &str) -> &'static str {
    match trouble {
        "missing key" => "MissingKey",
        "wrong key" => "Unauthorized",
        "no credit" => "NoCredit",
        "unknown model" => "UnknownModel",
        _ => "Forbidden",
    }
}

/// What is true of every message about a provider's trouble.
fn check_text(provider: &Provider, error: &ModelError, row: &str) {
    let shown = error.to_string();
    let context = &error.context;
    let (model, key) = (&context.model, &provider.key[0]);
    for told in [&provider.name, &format!("`{model}`"), &"role `patrol`".into(), &format!("`{key}`")] {
        assert!(shown.contains(told.as_str()), "{row}: no {told} in: {shown}");
    }
    for other in providers().iter().filter(|other| other.id != provider.id) {
        let variables = other.key.iter().chain([&other.base_url_var]);
        for word in variables.chain([&other.name]) {
            // Whole words: `xAI` is not told by `OpenxAIs`.
            let words = shown.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            assert!(!words.clone().any(|found| found == word), "{row}: tells of {word}: {shown}");
        }
    }
    let everything = format!("{shown} {error:?}");
    assert!(!everything.contains(KEY) && !everything.contains(KEY_HINT), "{row}: {shown}");
    assert!(shown.chars().count() < 520, "{row}: {} characters", shown.chars().count());
    assert!(!shown.contains('\n'), "{row}");
}

async fn trouble(provider: &Provider, trouble: &str, reply: Option<Reply>) -> (ModelError, usize) {
    let asked = usize::from(reply.is_some());
    let server = ModelServer::answering(move |_| reply.clone().unwrap_or(Reply::Empty));
    let mut settings = settings(provider, &provider.patrol, &server);
    if asked == 0 {
        settings.api_key = None;
    }
    let host = server.url().trim_start_matches("http://").to_owned();
    let mut error = Client::new(settings).complete(question()).await.unwrap_err();
    assert_eq!(server.requests().len(), asked, "{} {trouble}: not tried again", provider.id);
    assert_eq!(error.context.host, host);
    // The port is another one each time.
    Arc::make_mut(&mut error.context).host = "HOST".into();
    (error, asked)
}

#[tokio::test]
async fn every_provider_is_told_by_its_own_name_when_it_says_no() {
    for wanted in TROUBLES {
        let mut table = String::new();
        for provider in remote() {
            let reply = (wanted != "missing key").then(|| answer_to(&provider.id, wanted));
            let (error, attempts) = trouble(provider, wanted, reply).await;
            let row = format!("{} {wanted}", provider.id);
            assert_eq!(name(&error), kind_of(wanted), "{row}: {error}");
            assert_eq!((error.attempts as usize, error.class()), (attempts, "permanent"), "{row}");
            check_text(provider, &error, &row);
            writeln!(table, "{}\n    {error}", provider.name).unwrap();
        }
        insta::assert_snapshot!(format!("said_when_{}", wanted.replace(' ', "_")), table);
    }
}

#[tokio::test]
async fn the_other_shapes_of_the_same_troubles_mean_the_same() {
    for provider in remote() {
        for (wanted, reply) in others(&provider.id) {
            let row = format!("{} {wanted} {reply:?}", provider.id);
            let (error, _) = trouble(provider, wanted, Some(reply)).await;
            assert_eq!(name(&error), kind_of(wanted), "{row}: {error}");
            check_text(provider, &error, &row);
        }
    }
}

#[tokio::test]
async fn a_refusal_that_nothing_changes_is_not_asked_for_again() {
    let openai = provider("openai").unwrap();
    let server = ModelServer::answering(|_| answer_to("openai", "no credit"));
    let model = Client::new(settings(openai, &openai.patrol, &server));
    for _ in 0..20 {
        assert_eq!(name(&model.complete(question()).await.unwrap_err()), "NoCredit");
    }
    assert_eq!(server.requests().len(), 1, "the account is not asked for each turn");
}

#[tokio::test]
async fn googles_quota_of_a_minute_is_no_empty_account() {
    let body = json!({ "error": { "code": 429, "status": "RESOURCE_EXHAUSTED",
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "details": [
            { "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{ "quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier" }] },
            { "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.02s" },
        ] } });
    let server = ModelServer::playing([said(429, &body), Reply::Text("hi".into())]);
    let google = provider("google").unwrap();
    let answer = Client::new(settings(google, &google.patrol, &server)).complete(question()).await.unwrap();
    assert_eq!((answer.text.as_str(), server.requests().len()), ("hi", 2));
}

/// What is logged by one thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn lines_about(&self, word: &str) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    }
}

/// A model that does not take something, the complaint about it, and where it stood in the request.
struct Picky {
    provider: &'static str,
    model: &'static str,
    place: &'static str,
    complaint: fn() -> Reply,
    /// What the warning names.
    told: &'static str,
}

const PICKY: [Picky; 7] = [
    Picky {
        provider: "openai",
        model: "gpt-of-tomorrow",
        place: "/temperature",
        complaint: || {
            let message = "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is \
                           supported.";
            said(
                400,
                &json!({ "error": { "message": message, "type": "invalid_request_error", "param": "temperature",
                    "code": "unsupported_value" } }),
            )
        },
        told: "temperature",
    },
    Picky {
        provider: "moonshot",
        model: "moonshot-v9",
        place: "/temperature",
        complaint: || {
            openai(400, "invalid_request_error", "", "invalid temperature: only 1 is allowed for this model")
        },
        told: "temperature",
    },
    Picky {
        provider: "moonshot",
        model: "kimi-k2.6",
        place: "/thinking",
        complaint: || openai(400, "invalid_request_error", "", "thinking is not supported by this model"),
        told: "thinking",
    },
    Picky {
        provider: "mistral",
        model: "mistral-small-latest",
        place: "/response_format/json_schema/strict",
        complaint: || {
            said(
                422,
                &json!({ "detail": [{ "type": "extra_forbidden", "loc": ["body", "response_format", "json_schema", "strict"],
                    "msg": "Extra inputs are not permitted" }] }),
            )
        },
        told: "strict",
    },
    Picky {
        provider: "openai",
        model: "gpt-of-old",
        place: "/max_completion_tokens",
        complaint: || {
            said(
                400,
                &json!({ "error": { "message": "Unsupported parameter: 'max_completion_tokens' is not supported with this model. \
                    Use 'max_tokens' instead.", "type": "invalid_request_error", "param": "max_completion_tokens",
                    "code": "unsupported_parameter" } }),
            )
        },
        told: "max_completion_tokens",
    },
    Picky {
        provider: "groq",
        model: "a-model-of-theirs",
        place: "/response_format/json_schema",
        complaint: || {
            openai(
                400,
                "invalid_request_error",
                "",
                "This model does not support response format `json_schema`. See supported models",
            )
        },
        told: "the schema of the answer",
    },
    Picky {
        provider: "anthropic",
        model: "claude-of-tomorrow",
        place: "/temperature",
        complaint: || anthropic(400, "invalid_request_error", "`temperature` is deprecated for this model"),
        told: "temperature",
    },
];

#[tokio::test]
async fn a_parameter_that_a_model_does_not_take_is_left_out_from_then_on() {
    for callers in [1_usize, 32] {
        for Picky { provider: id, model, place, complaint, told } in PICKY {
            let log = Log::default();
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::WARN)
                .with_ansi(false)
                .with_writer(log.clone())
                .finish();
            // With a single dispatcher, tracing asks only the thread that meets a callsite first whether it is wanted.
            let _second = tracing::Dispatch::new(tracing_subscriber::registry());
            let _guard = tracing::subscriber::set_default(subscriber);
            let row = format!("{id} {place}, {callers} at once");
            let server = ModelServer::answering(move |request| match request.body.pointer(place) {
                Some(_) => complaint(),
                None => Reply::Answer(json!({ "severity": "LOW", "confidence": 0.5, "note": "x" })),
            });
            let model = Client::new(settings(provider(id).unwrap(), model, &server));
            let schema = schema();
            let calls = (0..callers).map(|_| structured_value(&model, question(), &schema));
            for answer in futures_util::future::join_all(calls).await {
                let answer = answer.unwrap_or_else(|error| panic!("{row}: {error}"));
                assert!(!answer.repaired, "{row}");
            }
            let refused =
                |sent: &[Recorded]| sent.iter().filter(|sent| sent.body.pointer(place).is_some()).count();
            let sent = server.requests();
            assert_eq!(sent.len(), callers + refused(&sent), "{row}: each refused request is sent once more");
            assert!((1..=callers).contains(&refused(&sent)), "{row}");
            // What the last of them was asked is all but what it does not take.
            let (first, last) = (&sent[0].body, &sent[sent.len() - 1].body);
            for kept in ["model", "messages", "system"].iter().filter(|_| !told.contains("schema")) {
                assert_eq!(first.get(kept), last.get(kept), "{row}");
            }
            structured_value(&model, question(), &schema).await.unwrap();
            let later = server.requests();
            assert_eq!(later.len(), sent.len() + 1, "{row}: remembered");
            assert_eq!(later[later.len() - 1].body, *last, "{row}: nothing else was given up");
            let told_of = log.lines_about("leaving it out from now on");
            assert_eq!(told_of.len(), 1, "{row}: {told_of:?}");
            assert!(
                told_of[0].contains("WARN")
                    && told_of[0].contains(told)
                    && told_of[0].contains(model.context().model.as_str()),
                "{row}: {told_of:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_complaint_that_nothing_can_be_left_out_for_is_the_answer() {
    // It goes on complaining, whatever is left out: bounded, and told as it is.
    let server =
        ModelServer::answering(|_| openai(400, "invalid_request_error", "", "temperature is not supported"));
    let model = Client::new(settings(provider("openai").unwrap(), "gpt-of-tomorrow", &server));
    let error = model.complete(question()).await.unwrap_err();
    assert!(matches!(error.kind, Kind::BadRequest { status: 400, .. }), "{error}");
    assert_eq!(server.requests().len(), 2);
    // Another model of the same provider is still asked with it.
    let server = ModelServer::answering(|_| Reply::Text("hi".into()));
    let model = Client::new(settings(provider("openai").unwrap(), "gpt-other", &server));
    model.complete(question()).await.unwrap();
    assert_eq!(server.requests()[0].body["temperature"], json!(0.2));
}

#[test]
fn the_table_speaks_three_dialects() {
    let dialects: Vec<Dialect> = remote().map(|provider| provider.dialect).collect();
    assert_eq!(dialects.len(), 10);
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        assert!(dialects.contains(&dialect));
    }
}

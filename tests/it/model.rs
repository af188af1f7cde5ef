//! Models over real HTTP: what is sent, what each failure becomes, and where keys never show.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use sentrix::clock;
use sentrix::model::{
    Backoff, ChatModel, ChatRequest, Client, Dialect, Finish, Message, ModelError, ModelErrorKind as Kind,
    ModelSettings, Models, OutputSchema, RoleSettings, Speaker, Surroundings, Timeouts, Usage, provider,
    structured, structured_value,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model_server::{ModelServer, Recorded, Reply};

pub(crate) const KEY: &str = "sk-test-0123456789abcdefghij";
pub(crate) const ALL: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
pub(crate) const ONE_CALL: Usage =
    Usage { input_tokens: 11, cached_input_tokens: 0, output_tokens: 7, micro_usd: 0 };

pub(crate) fn settings(dialect: Dialect, url: &str) -> ModelSettings {
    let key = Some(SecretString::from(KEY));
    let (id, model) = match dialect {
        Dialect::OpenAi => ("openai", "gpt-test"),
        Dialect::Anthropic => ("anthropic", "claude-test"),
        Dialect::Gemini => ("google", "gemini-test"),
    };
    let settings = ModelSettings::of(provider(id).unwrap(), "patrol", model, key);
    ModelSettings {
        base_url: url.to_owned(),
        timeouts: Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(20) },
        backoff: Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(200) },
        max_tokens: 500,
        max_answer_bytes: 1 << 20,
        ..settings
    }
}

/// A role with this model alone.
pub(crate) fn alone(settings: ModelSettings) -> RoleSettings {
    RoleSettings { role: settings.role.clone(), chain: vec![settings] }
}

pub(crate) fn client(dialect: Dialect, server: &ModelServer) -> Client {
    Client::new(settings(dialect, &server.url()))
}

pub(crate) fn hello() -> ChatRequest {
    ChatRequest::new("You are strict.", "Hello")
}

/// The kind's name alone.
pub(crate) fn name(error: &ModelError) -> String {
    let shown = format!("{:?}", error.kind);
    shown.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
struct Verdict {
    /// How bad it is.
    severity: Severity,
    #[schemars(range(min = 0.0, max = 1.0))]
    confidence: f64,
    note: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
enum Severity {
    Low,
    High,
}

pub(crate) fn good() -> Value {
    json!({ "severity": "High", "confidence": 0.9, "note": null })
}

#[tokio::test]
async fn requests_are_what_the_providers_document() {
    for (dialect, label) in ALL.into_iter().zip(["openai", "anthropic", "gemini"]) {
        let server = ModelServer::playing([Reply::Text("hi".into()), Reply::Answer(good())]);
        let model = client(dialect, &server);
        let mut request = hello();
        request.temperature = Some(0.2);
        request.max_tokens = Some(64);
        request.messages.push(Message { speaker: Speaker::Assistant, text: "Yes?".into() });
        request.messages.push(Message { speaker: Speaker::User, text: "Again".into() });
        let answer = model.complete(request).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.usage, answer.finish), ("hi", ONE_CALL, Finish::Stop));
        assert_eq!(answer.model, "scripted-1");
        structured::<Verdict>(&model, hello()).await.unwrap();
        let sent: Vec<Value> = server.requests().iter().map(Recorded::masked).collect();
        insta::assert_json_snapshot!(format!("{label}_requests"), sent);
    }
}

#[tokio::test]
async fn the_key_goes_into_its_header_and_nowhere_else() {
    for dialect in ALL {
        let server = ModelServer::playing([Reply::Text("hi".into())]);
        client(dialect, &server).complete(hello()).await.unwrap();
        let request = server.requests().remove(0);
        let holding: Vec<&str> =
            request.headers.iter().filter(|(_, v)| v.contains(KEY)).map(|(name, _)| name.as_str()).collect();
        let header = match dialect {
            Dialect::OpenAi => "authorization",
            Dialect::Anthropic => "x-api-key",
            Dialect::Gemini => "x-goog-api-key",
        };
        assert_eq!(holding, [header]);
        assert!(!request.path.contains(KEY) && !request.body.to_string().contains(KEY));
        assert!(request.headers["user-agent"].starts_with("sentrix/"));
    }
}

#[tokio::test]
async fn every_failure_has_its_kind_and_its_number_of_attempts() {
    let openai = |text: &str| Reply::Raw("application/json", text.to_owned());
    // What is played, the kind it becomes, how often it is tried, the engine's class.
    let table: Vec<(Reply, &str, usize, &str)> = vec![
        (Reply::error(401, "invalid_api_key", "Incorrect API key"), "Unauthorized", 1, "permanent"),
        (Reply::error(402, "", "pay"), "NoCredit", 1, "permanent"),
        (Reply::error(429, "insufficient_quota", "quota"), "NoCredit", 1, "permanent"),
        (Reply::error(429, "rate_limit", "slow down"), "RateLimited", 3, "rate_limit"),
        (Reply::error(403, "region", "not from here"), "Forbidden", 1, "permanent"),
        (Reply::error(404, "model_not_found", "no such model"), "UnknownModel", 1, "permanent"),
        (Reply::Status(404, vec![], "nothing".into()), "NoEndpoint", 1, "permanent"),
        (Reply::error(400, "invalid_request_error", "temperature"), "BadRequest", 1, "permanent"),
        (Reply::error(400, "context_length_exceeded", "long"), "TooLarge", 1, "permanent"),
        (Reply::Status(413, vec![], String::new()), "TooLarge", 1, "permanent"),
        (Reply::error(408, "", ""), "Server", 3, "transient"),
        (Reply::error(409, "", ""), "Server", 3, "transient"),
        (Reply::error(500, "api_error", ""), "Server", 3, "transient"),
        (Reply::error(529, "overloaded_error", "Overloaded"), "Server", 3, "transient"),
        (Reply::Status(503, vec![], "<html>down</html>".into()), "Server", 3, "transient"),
        (Reply::Close, "Connect", 3, "transient"),
        (Reply::Reset, "Connect", 3, "transient"),
        (Reply::Cut(Box::new(Reply::Text("hello".into()))), "Connect", 3, "transient"),
        (
            Reply::Cut(Box::new(Reply::Trickle(3, Duration::ZERO, Box::new(Reply::Text("hello".into()))))),
            "Connect",
            3,
            "transient",
        ),
        (openai(r#"{"error":{"code":502,"message":"upstream"}}"#), "Server", 3, "transient"),
        (openai(r#"{"error":{"message":"odd"}}"#), "Malformed", 1, "malformed"),
        (openai("{\"choices\":[{\"mess"), "Malformed", 1, "malformed"),
        (openai("[]"), "Malformed", 1, "malformed"),
        (openai("{}"), "Malformed", 1, "malformed"),
        (openai("null"), "Malformed", 1, "malformed"),
        (openai(""), "Malformed", 1, "malformed"),
        (openai(r#"{"choices":[{"message":{"content":7}}],"content":7}"#), "Malformed", 1, "malformed"),
        (Reply::Raw("text/html", "<html>Welcome</html>".into()), "Malformed", 1, "malformed"),
        (Reply::Raw("text/event-stream", "data: {}\n\n".into()), "Malformed", 1, "malformed"),
        (Reply::Empty, "Malformed", 1, "malformed"),
        (Reply::Text(" \n".into()), "Malformed", 1, "malformed"),
        (Reply::Refusal("I will not".into()), "Refused", 1, "refused"),
        (Reply::Truncated("half an ans".into()), "Truncated", 1, "malformed"),
        (Reply::Text("x".repeat(2 << 20)), "AnswerTooLarge", 1, "permanent"),
        (
            Reply::Trickle(9, Duration::ZERO, Box::new(Reply::Text("x".repeat(2 << 20)))),
            "AnswerTooLarge",
            1,
            "permanent",
        ),
    ];
    for dialect in ALL {
        for (reply, kind, attempts, class) in &table {
            let played = reply.clone();
            let server = ModelServer::answering(move |_| played.clone());
            let error = client(dialect, &server).complete(hello()).await.unwrap_err();
            let row = format!("{dialect:?} {}", sentrix::text::bounded(&format!("{reply:?}"), 100));
            assert_eq!(name(&error), *kind, "{row}: {error}");
            assert_eq!(server.requests().len(), *attempts, "{row}");
            assert_eq!(error.class(), *class, "{row}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(KEY), "{row}");
            assert!(
                shown.contains("role `patrol`") && shown.contains(&error.context.provider),
                "{row}: {shown}"
            );
            assert!(shown.len() < 2_000, "{row}: {} bytes", shown.len());
        }
    }
}

#[tokio::test]
async fn a_call_outlives_failures_that_pass() {
    for dialect in ALL {
        let good = Reply::Trickle(5, Duration::ZERO, Box::new(Reply::Text("here".into())));
        let server = ModelServer::playing([Reply::error(500, "", ""), Reply::Reset, good]);
        let answer = client(dialect, &server).complete(hello()).await.unwrap();
        assert_eq!(answer.text, "here");
        let sent = server.requests();
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[0].masked(), sent[2].masked(), "an attempt is the same request again");
    }
}

#[tokio::test]
async fn retry_after_is_waited_for_where_it_is_short() {
    let clock = clock::system();
    let server = ModelServer::playing([Reply::error_after(429, "0.08"), Reply::Text("ok".into())]);
    let before = clock.monotonic();
    client(Dialect::OpenAi, &server).complete(hello()).await.unwrap();
    assert!(clock.monotonic().checked_sub(before).unwrap() >= Duration::from_millis(80));

    // Longer than the settings' longest wait: the caller decides.
    let server = ModelServer::answering(|_| Reply::error_after(503, "3600"));
    let error = client(Dialect::Anthropic, &server).complete(hello()).await.unwrap_err();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(error.retry(), sentrix::model::Retry::After(Duration::from_hours(1)));
}

#[tokio::test]
async fn no_call_waits_for_ever() {
    let minute = Duration::from_mins(1);
    for reply in [
        Reply::Slow(minute, Box::new(Reply::Text("late".into()))),
        Reply::Trickle(2, minute, Box::new(Reply::Text("late".into()))),
    ] {
        let server = ModelServer::answering(move |_| reply.clone());
        let mut settings = settings(Dialect::OpenAi, &server.url());
        settings.timeouts.total = Duration::from_millis(60);
        settings.max_attempts = 2;
        let error = Client::new(settings).complete(hello()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Timeout { limit: Duration::from_millis(60) });
        assert_eq!((error.class(), error.attempts), ("timeout", 2));
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_no_connection() {
    // Bound and not listening: refuses, and no other test can get the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let error = Client::new(settings(Dialect::OpenAi, &url)).complete(hello()).await.unwrap_err();
    assert!(matches!(&error.kind, Kind::Connect(why) if why.contains("refused")), "{error}");
    assert_eq!(error.attempts, 3);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_a_key() {
    for status in [301, 302, 303, 307, 308] {
        let other = ModelServer::answering(|_| Reply::Text("give me your key".into()));
        let to = format!("{}/v1/messages", other.url());
        let server = ModelServer::answering(move |_| {
            Reply::Status(status, vec![("location", to.clone())], String::new())
        });
        let error = client(Dialect::Anthropic, &server).complete(hello()).await.unwrap_err();
        let host = other.url().trim_start_matches("http://").to_owned();
        assert_eq!(error.kind, Kind::Redirected { status, to: host });
        assert_eq!((server.requests().len(), other.requests().len()), (1, 0));
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_sent() {
    let server = ModelServer::playing([]);
    let mut without = settings(Dialect::Anthropic, &server.url());
    without.api_key = None;
    let roles = vec![alone(without), alone(settings(Dialect::OpenAi, "nonsense"))];
    let models = Models::build(roles, &Surroundings::default());
    let model = models.get("patrol").unwrap();
    assert!(!models.ready("patrol"));
    assert_eq!(name(&model.complete(hello()).await.unwrap_err()), "BadUrl", "the later one of a role wins");

    let mut without = settings(Dialect::Anthropic, &server.url());
    without.api_key = Some(SecretString::from(" no-key-set\n"));
    let error = Client::new(without).complete(hello()).await.unwrap_err();
    assert_eq!(error.kind, Kind::MissingKey);
    assert!(error.to_string().starts_with("no key for Anthropic: `ANTHROPIC_API_KEY` is not set"), "{error}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_local_model_needs_no_key() {
    let server = ModelServer::playing([Reply::Text("hi".into())]);
    let mut local = settings(Dialect::OpenAi, &server.url());
    local.api_key = None;
    local.key_needed = false;
    Client::new(local).complete(hello()).await.unwrap();
    assert!(!server.requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn keys_never_show() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // With a single dispatcher, tracing asks only the thread that meets a callsite first whether it is wanted,
    // and that may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    for dialect in ALL {
        let echo = format!("Incorrect API key provided: {KEY}, or was it sk-test-01*****hij. Bearer {KEY}");
        let server = ModelServer::playing([
            Reply::error(500, "", &echo),
            Reply::error(401, "", &echo),
            Reply::Status(401, vec![], format!("plain {KEY}")),
            Reply::Refusal(format!("no {KEY}")),
            Reply::Text("hi".into()),
        ]);
        // A refusal stands for a while, so each question has a client of its own.
        let model = || client(dialect, &server);
        let mut shown =
            vec![format!("{:?} {:#?} {:?}", model(), settings(dialect, &server.url()), model().context())];
        for _ in 0..3 {
            let error = model().complete(hello()).await.unwrap_err();
            shown.push(format!("{error} {error:?} {error:#?}"));
        }
        shown.push(format!("{:?}", model().complete(hello()).await.unwrap()));
        let shown = shown.concat();
        for secret in [KEY, "sk-test", "0123456789", "*****hij"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    drop(guard);
    let logged = log.text();
    assert!(logged.contains("model call failed, trying again"), "{logged}");
    assert!(!logged.contains(KEY) && !logged.contains("0123456789abc"), "{logged}");
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        self.0.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().map(|mut all| all.extend_from_slice(bytes)).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn answers_of_a_shape_are_read_however_they_are_wrapped() {
    let text = good().to_string();
    for dialect in ALL {
        for reply in [
            Reply::Answer(good()),
            Reply::Text(text.clone()),
            Reply::Text(format!("<think>{{\"severity\":\"Low\"}}?</think>\n{text}")),
            Reply::Text(format!("```json\n{text}\n```")),
            Reply::Parts(text.split_inclusive(',').map(str::to_owned).collect()),
            Reply::Raw("text/plain", wrapped(dialect, &text)),
        ] {
            let server = ModelServer::playing([reply.clone()]);
            let answer = structured::<Verdict>(&client(dialect, &server), hello()).await.unwrap();
            assert_eq!(
                answer.value,
                Verdict { severity: Severity::High, confidence: 0.9, note: None },
                "{dialect:?} {reply:?}"
            );
            assert!(!answer.repaired);
        }
    }
}

/// A whole response body with no usage in it.
fn wrapped(dialect: Dialect, text: &str) -> String {
    match dialect {
        Dialect::OpenAi => json!({ "choices": [{ "message": { "content": text } }] }).to_string(),
        Dialect::Anthropic => json!({ "content": [{ "type": "text", "text": text }] }).to_string(),
        Dialect::Gemini => {
            json!({ "candidates": [{ "content": { "parts": [{ "text": text }] } }] }).to_string()
        }
    }
}

#[tokio::test]
async fn a_wrong_answer_is_sent_back_once_with_what_is_wrong() {
    for dialect in ALL {
        let server = ModelServer::playing([
            Reply::Answer(json!({ "severity": "CRITICAL", "confidence": 95 })),
            Reply::Answer(good()),
        ]);
        let answer = structured::<Verdict>(&client(dialect, &server), hello()).await.unwrap();
        assert!(answer.repaired);
        assert_eq!(answer.usage, ONE_CALL + ONE_CALL);
        assert_eq!(answer.model, "scripted-1");
        let second = server.requests().remove(1);
        assert_eq!(second.schema().unwrap()["properties"]["confidence"]["type"], "number");
        let texts = second.texts();
        assert_eq!(texts.len(), 3);
        assert_eq!(serde_json::from_str::<Value>(&texts[1]).unwrap()["severity"], "CRITICAL");
        assert!(texts[2].contains("at /severity: ") && texts[2].contains("at /confidence: "), "{}", texts[2]);
        assert!(texts[2].contains("\"$defs\""), "the schema goes along");
    }
}

#[tokio::test]
async fn an_answer_that_stays_wrong_is_malformed() {
    let wrong = [
        Reply::Answer(json!({ "severity": "hunter2", "confidence": 0.5 })),
        Reply::Answer(json!({ "severity": null, "confidence": "high" })),
        Reply::Answer(json!({})),
        Reply::Answer(json!("clean")),
        Reply::Text(format!("I would say {} then.", good())),
        Reply::Text("I'm sorry, I can't help with that.".into()),
        Reply::Text(good().to_string().chars().take(20).collect()),
        Reply::Empty,
        Reply::Raw("application/json", "{".into()),
        Reply::Raw("text/html", "<html>".into()),
    ];
    for dialect in ALL {
        for reply in &wrong {
            let played = reply.clone();
            let server = ModelServer::answering(move |_| played.clone());
            let error = structured::<Verdict>(&client(dialect, &server), hello()).await.unwrap_err();
            assert_eq!(name(&error), "Malformed", "{reply:?}: {error}");
            assert_eq!(server.requests().len(), 2, "one repair round: {reply:?}");
            assert!(!format!("{error}{error:?}").contains("hunter2"), "{error}");
            let charged =
                if matches!(reply, Reply::Raw(..)) { Usage::default() } else { ONE_CALL + ONE_CALL };
            assert_eq!(error.usage, charged, "{reply:?}");
        }
    }
}

#[tokio::test]
async fn what_no_repair_can_mend_is_not_repaired() {
    for dialect in ALL {
        for (reply, kind) in [
            (Reply::Refusal("no".into()), "Refused"),
            (Reply::Truncated("{".into()), "Truncated"),
            (Reply::error(401, "", ""), "Unauthorized"),
        ] {
            let server = ModelServer::answering(move |_| reply.clone());
            let error = structured::<Verdict>(&client(dialect, &server), hello()).await.unwrap_err();
            assert_eq!((name(&error).as_str(), server.requests().len()), (kind, 1));
        }
        let server = ModelServer::playing([Reply::Text("hm".into()), Reply::Refusal("no".into())]);
        let error = structured::<Verdict>(&client(dialect, &server), hello()).await.unwrap_err();
        assert_eq!((name(&error).as_str(), error.usage), ("Refused", ONE_CALL + ONE_CALL));
    }
}

#[tokio::test]
async fn a_schema_without_types_of_ours_works_too() {
    let schema =
        json!({ "title": "word list", "type": "array", "items": { "type": "string" }, "maxItems": 2 });
    for dialect in ALL {
        let server = ModelServer::playing([
            Reply::Answer(json!({ "answer": ["a", "b", "c"] })),
            Reply::Answer(json!({ "answer": ["a", "b"] })),
        ]);
        let answer = structured_value(&client(dialect, &server), hello(), &schema).await.unwrap();
        assert_eq!((answer.value, answer.repaired), (json!(["a", "b"]), true));
        assert_eq!(server.requests()[0].schema().unwrap()["required"], json!(["answer"]));
    }
    let server = ModelServer::playing([]);
    let mut named = hello();
    named.output = Some(OutputSchema { name: "lead/answer".into(), schema: Value::Null });
    let error =
        structured_value(&client(Dialect::OpenAi, &server), named, &json!({ "type": 1 })).await.unwrap_err();
    assert_eq!(name(&error), "BadSchema");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn many_calls_at_once_are_answered_each() {
    let server = ModelServer::answering(|request| Reply::Text(format!("you said {}", request.prompt())));
    let models =
        Models::build(vec![alone(settings(Dialect::OpenAi, &server.url()))], &Surroundings::default());
    let model = models.get("patrol").unwrap();
    let calls = (0..200).map(|n| model.complete(ChatRequest::new("", format!("{n}"))));
    let answers = futures_util::future::join_all(calls).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().text, format!("you said {n}"));
    }
    assert_eq!(server.requests().len(), 200);
    assert_eq!(server.requests()[0].system(), "", "no empty system message");
}

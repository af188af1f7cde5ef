//! What is put around every model: budgets with a ledger, fallbacks, the circuit breaker, limits, kept answers, placeholders
//! and the random word, all through [`Models::build`] and over real HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use sentrix::clock::{SharedClock, TestClock};
use sentrix::detect::Detectors;
use sentrix::model::{
    Account, Backoff, Budget, Budgets, Call, ChatAnswer, ChatModel, ChatRequest, Ledger, Limits, ModelError,
    ModelErrorKind as Kind, ModelSettings, Models, Price, Purse, Redactor, RoleSettings, Surroundings,
    Timeouts, TokenSink, Usage, Work, provider, structured_value,
};
use sentrix::store::usage::UsageStore;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::model::{KEY, name};
use crate::model_server::{ModelServer, Reply};

/// What the scripted server says that a call cost.
const CALL_TOKENS: u64 = 11 + 7;
/// A day in 2026, in milliseconds.
const DAY: i64 = 1_795_500_000_000;

fn model(id: &str, model: &str, server: &ModelServer) -> ModelSettings {
    let settings = ModelSettings::of(provider(id).unwrap(), "patrol", model, Some(SecretString::from(KEY)));
    ModelSettings {
        base_url: server.url(),
        timeouts: Timeouts { connect: Duration::from_secs(5), total: Duration::from_secs(20) },
        backoff: Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(200) },
        ..settings
    }
}

fn chain(chain: Vec<ModelSettings>) -> Vec<RoleSettings> {
    vec![RoleSettings { role: "patrol".into(), chain }]
}

/// A ledger in a directory, with a clock that stands still.
struct Books {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Books {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(TestClock::at_millis(DAY)) }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("usage.db")
    }

    /// As a process that has just begun sees it.
    fn open(&self) -> Arc<UsageStore> {
        Arc::new(UsageStore::open(&self.path()).unwrap())
    }

    fn around(&self, budgets: Budgets) -> Surroundings {
        let clock: SharedClock = Arc::clone(&self.clock) as _;
        Surroundings { ledger: Some((self.open(), budgets, clock)), ..Surroundings::default() }
    }

    /// All that was written down: model, outcome, tokens, money, whether the cost is a guess.
    fn calls(&self) -> Vec<(String, String, u64, u64, bool)> {
        calls_in(&self.path())
    }
}

fn calls_in(path: &Path) -> Vec<(String, String, u64, u64, bool)> {
    let file = rusqlite::Connection::open(path).unwrap();
    let mut statement = file
        .prepare("SELECT model, outcome, input_tokens + output_tokens, micro_usd, estimated FROM calls ORDER BY id")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let (tokens, money): (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok((row.get(0)?, row.get(1)?, tokens.unsigned_abs(), money.unsigned_abs(), row.get(4)?))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn patrol(models: &Models) -> &Arc<dyn ChatModel> {
    models.get("patrol").unwrap()
}

fn account(work: Work, id: &str) -> Account {
    Account { work, id: id.into() }
}

fn on(account: impl Into<Option<Account>>) -> ChatRequest {
    ChatRequest {
        account: account.into(),
        max_tokens: Some(10),
        ..ChatRequest::new("You are strict.", "Hello")
    }
}

fn yes() -> Reply {
    Reply::Text("yes".into())
}

#[tokio::test]
async fn a_budget_holds_in_tokens_and_money_and_over_a_restart() {
    let tokens = Budget { tokens: Some(40), micro_usd: None };
    // A dollar for a million tokens, so a token is a millionth of a dollar.
    let money = Budget { tokens: None, micro_usd: Some(40) };
    for (budget, spent, limit) in [(tokens, "54 tokens", "40"), (money, "$0.000054", "$0.000040")] {
        for (name_of, work) in
            [("sweep", Some(Work::Sweep)), ("investigation", Some(Work::Investigation)), ("day", None)]
        {
            let server = ModelServer::answering(|_| yes());
            let books = Books::new();
            let budgets = match work {
                Some(Work::Sweep) => Budgets { sweep: budget, ..Budgets::default() },
                Some(_) => Budgets { investigation: budget, ..Budgets::default() },
                None => Budgets { day: budget, ..Budgets::default() },
            };
            let mut settings = model("openai", "gpt-6-luna", &server);
            settings.price = Some(Price { input: 1.0, cached_input: None, output: 1.0 });
            let begin = || Models::build(chain(vec![settings.clone()]), &books.around(budgets));
            let mine = || on(work.map(|work| account(work, "one")));
            // 18, then 36, then 54; each time as another process.
            for _ in 0..3 {
                assert_eq!(patrol(&begin()).complete(mine()).await.unwrap().usage.tokens(), CALL_TOKENS);
            }
            let models = begin();
            let error = patrol(&models).complete(mine()).await.unwrap_err();
            let Kind::OverBudget(over) = &error.kind else { panic!("{error}") };
            assert_eq!((over.budget, over.spent.as_str(), over.limit.as_str()), (name_of, spent, limit));
            assert_eq!((error.class(), error.attempts), ("budget", 0));
            let shown = error.to_string();
            assert!(
                shown.starts_with(&format!("the budget of this {name_of} is spent: {spent} of {limit}")),
                "{shown}"
            );
            assert_eq!(server.requests().len(), 3, "no call was made for it");
            assert_eq!(books.calls().len(), 3, "and none is written down");
            // Something else has a budget of its own.
            let other = if let Some(work) = work {
                on(account(work, "two"))
            } else {
                books.clock.advance(Duration::from_hours(24));
                mine()
            };
            patrol(&models).complete(other).await.unwrap();
            patrol(&models).complete(on(account(Work::Run, "three"))).await.unwrap();
        }
    }
}

/// An answer that says what it cost.
fn costing(input: u64, output: u64) -> Reply {
    let body = json!({
        "choices": [{ "message": { "content": "yes" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": input, "completion_tokens": output },
    });
    Reply::Raw("application/json", body.to_string())
}

#[tokio::test]
async fn many_callers_at_once_pass_a_limit_by_one_call_at_most() {
    let tokens = |tokens| Budget { tokens: Some(tokens), micro_usd: None };
    let dollars = |micro_usd| Budget { tokens: None, micro_usd: Some(micro_usd) };
    // A model, what a call costs, the budget, and what a call counts against it. A thinking model may use more than the answer
    // is allowed, up to its room.
    for (id, named, (input, output), budget, each) in [
        ("openai", "gpt-5.4-nano", (8, 9), tokens(100), 17),
        ("openai", "gpt-5.4-nano", (8, 9), tokens(1), 17),
        ("moonshot", "kimi-k3", (8, 8_000), tokens(20_000), 8_008),
        ("moonshot", "kimi-k3", (8, 8_000), dollars(500_000), 120_024),
    ] {
        let limit = budget.tokens.or(budget.micro_usd).unwrap();
        let permits = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&permits);
        let server =
            ModelServer::answering(move |_| Reply::Held(Arc::clone(&held), Box::new(costing(input, output))));
        let books = Books::new();
        let mut around = books.around(Budgets { day: budget, ..Budgets::default() });
        around.limits.insert(id.into(), Limits { concurrency: 32, per_minute: None });
        let models = Models::build(chain(vec![model(id, named, &server)]), &around);
        let calls =
            (0..32).map(|n| patrol(&models).complete(on(account(Work::Sweep, &format!("{}", n % 3)))));
        let calls = join_all(calls);
        // All have begun that may before the first is answered.
        let release = async {
            while server.requests().is_empty() {
                tokio::task::yield_now().await;
            }
            permits.add_permits(64);
        };
        let (answers, ()) = futures_util::future::join(calls, release).await;
        let row = format!("{named} {limit}");
        let answered = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        assert_eq!(answered, limit.div_ceil(each), "{row}");
        assert_eq!(server.requests().len() as u64, answered, "{row}");
        for error in answers.into_iter().filter_map(Result::err) {
            assert!(matches!(error.kind, Kind::OverBudget(_)), "{row}: {error}");
        }
        let spent = books.open().spent_on(&Purse::Day("2026-11-24".into())).unwrap();
        let counted = budget.tokens.map_or(spent.micro_usd, |_| spent.tokens());
        assert_eq!(counted, answered * each, "{row}");
        assert!(counted >= limit && counted < limit + each, "{row}: {counted}");
    }
}

#[tokio::test]
async fn what_was_cancelled_or_came_too_late_is_written_down() {
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    let server = ModelServer::answering(move |_| Reply::Held(Arc::clone(&held), Box::new(yes())));
    let books = Books::new();
    let budget = Budget { tokens: Some(1), micro_usd: None };
    let budgets = Budgets { sweep: budget, ..Budgets::default() };
    let mut late = model("openai", "gpt-6-luna", &server);
    late.timeouts.total = Duration::from_millis(50);
    late.max_attempts = 1;
    let roles = vec![
        RoleSettings { role: "patrol".into(), chain: vec![model("openai", "gpt-6-sol", &server)] },
        RoleSettings { role: "late".into(), chain: vec![late] },
    ];
    let models = Models::build(roles, &books.around(budgets));
    let call = patrol(&models).complete(on(account(Work::Sweep, "one")));
    let arrived = async {
        while server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = call => panic!("it was never answered"),
        () = arrived => {}
    }
    let error = models.get("late").unwrap().complete(on(account(Work::Sweep, "two"))).await.unwrap_err();
    assert_eq!(name(&error), "Timeout");
    let written = books.calls();
    let told: Vec<(&str, &str, bool)> = written
        .iter()
        .map(|(model, outcome, _, _, estimated)| (model.as_str(), outcome.as_str(), *estimated))
        .collect();
    assert_eq!(told, [("gpt-6-sol", "cancelled", true), ("gpt-6-luna", "timeout", true)]);
    assert!(written.iter().all(|(_, _, tokens, money, _)| *tokens > 0 && *money > 0), "{written:?}");
    // Both count: the provider may have done the work.
    for id in ["one", "two"] {
        let error = patrol(&models).complete(on(account(Work::Sweep, id))).await.unwrap_err();
        assert_eq!(name(&error), "OverBudget", "{id}");
    }
    assert_eq!(server.requests().len(), 2);
    permits.add_permits(9);
}

/// A ledger that fails on demand.
#[derive(Debug)]
struct Failing {
    store: Arc<UsageStore>,
    reading: AtomicBool,
    writing: AtomicBool,
}

impl Ledger for Failing {
    fn spent(&self, purse: &Purse) -> Result<Usage, String> {
        if self.reading.load(Ordering::SeqCst) {
            return Err("the disk is on fire".into());
        }
        self.store.spent(purse)
    }

    fn record(&self, call: &Call) -> Result<(), String> {
        if self.writing.load(Ordering::SeqCst) {
            return Err("the disk is full".into());
        }
        self.store.record(call)
    }
}

#[tokio::test]
async fn a_ledger_that_fails_stops_spending() {
    for limit in [Some(1_000), None] {
        let server = ModelServer::answering(|_| yes());
        let books = Books::new();
        let ledger = Arc::new(Failing {
            store: books.open(),
            reading: AtomicBool::new(false),
            writing: AtomicBool::new(false),
        });
        let budgets = Budgets { day: Budget { tokens: limit, micro_usd: None }, ..Budgets::default() };
        let clock: SharedClock = Arc::clone(&books.clock) as _;
        let around = Surroundings {
            ledger: Some((Arc::clone(&ledger) as _, budgets, clock)),
            ..Surroundings::default()
        };
        let models = Models::build(chain(vec![model("openai", "gpt-6-luna", &server)]), &around);
        let ask = || patrol(&models).complete(on(None));
        if limit.is_some() {
            ledger.reading.store(true, Ordering::SeqCst);
            let error = ask().await.unwrap_err();
            assert_eq!(error.kind, Kind::Ledger("the disk is on fire".into()));
            assert_eq!((error.class(), server.requests().len()), ("transient", 0));
            ledger.reading.store(false, Ordering::SeqCst);
        }
        // The call that finds out is paid, so its answer counts; there is no further one.
        ledger.writing.store(true, Ordering::SeqCst);
        ask().await.unwrap();
        for error in join_all((0..32).map(|_| ask())).await.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind, Kind::Ledger("the disk is full".into()));
            assert!(
                error.to_string().contains("no model is asked while spending cannot be counted"),
                "{error}"
            );
        }
        assert_eq!((server.requests().len(), books.calls().len()), (1, 0));
        // Once it can be written, nothing is missing.
        ledger.writing.store(false, Ordering::SeqCst);
        ask().await.unwrap();
        assert_eq!((server.requests().len(), books.calls().len()), (2, 2));
        let spent = books.open().spent_on(&Purse::Day("2026-11-24".into())).unwrap();
        assert_eq!(spent.tokens(), 2 * CALL_TOKENS);
    }
}

#[tokio::test]
async fn a_price_that_nobody_knows_counts_as_a_dear_one() {
    let server = ModelServer::answering(|_| costing(1_000, 1_000));
    let books = Books::new();
    let around = books.around(Budgets::default());
    let openai = provider("openai").unwrap();
    let prices = || openai.models.iter().map(|listed| listed.price);
    let dearest = Price {
        input: prices().map(|price| price.input).fold(0.0, f64::max),
        cached_input: None,
        output: prices().map(|price| price.output).fold(0.0, f64::max),
    };
    let cost = dearest.micro_usd(Usage { input_tokens: 1_000, output_tokens: 1_000, ..Usage::default() });
    for (named, known) in [("gpt-of-tomorrow", false), ("gpt-6-luna", true)] {
        let models = Models::build(chain(vec![model("openai", named, &server)]), &around);
        let usage = patrol(&models).complete(on(None)).await.unwrap().usage;
        assert_eq!(usage.micro_usd == cost, !known, "{named}: {} of {cost}", usage.micro_usd);
        assert!(usage.micro_usd > 0 && usage.micro_usd <= cost);
    }
    let estimated: Vec<bool> = books.calls().into_iter().map(|(.., estimated)| estimated).collect();
    assert_eq!(estimated, [true, false]);
}

#[tokio::test]
async fn the_next_model_is_asked_where_one_gives_no_answer() {
    let down = || ModelServer::answering(|_| Reply::error(500, "server_error", "down for the day"));
    let (first, second) = (down(), ModelServer::answering(|_| Reply::error(401, "invalid_api_key", "wrong")));
    let third = ModelServer::answering(|_| Reply::Text("at last".into()));
    let settings = |third: &ModelServer| {
        let mut models = vec![
            model("openai", "gpt-6-luna", &first),
            model("anthropic", "claude-haiku-5-5", &second),
            model("mistral", "mistral-small-latest", &second),
            model("google", "gemini-3.5-flash-lite", third),
        ];
        models[2].api_key = None;
        models
    };
    let books = Books::new();
    let models = Models::build(chain(settings(&third)), &books.around(Budgets::default()));
    assert!(models.ready("patrol"));
    let answer: ChatAnswer = patrol(&models).complete(on(None)).await.unwrap();
    assert_eq!(answer.text, "at last");
    assert_eq!((first.requests().len(), second.requests().len(), third.requests().len()), (3, 1, 1));
    let written: Vec<(String, String)> =
        books.calls().into_iter().map(|(model, outcome, ..)| (model, outcome)).collect();
    let expected =
        [("gpt-6-luna", "transient"), ("claude-haiku-5-5", "permanent"), ("gemini-3.5-flash-lite", "ok")];
    assert_eq!(written, expected.map(|(model, outcome)| (model.to_owned(), outcome.to_owned())));

    // Where none answers, all of them are told, in order.
    let last = ModelServer::answering(|_| Reply::Truncated("half".into()));
    let models = Models::build(chain(settings(&last)), &books.around(Budgets::default()));
    let error = patrol(&models).complete(on(None)).await.unwrap_err();
    let kinds: Vec<String> = std::iter::once(&error).chain(&error.fallbacks).map(name).collect();
    assert_eq!(kinds, ["Server", "Unauthorized", "MissingKey", "Truncated"]);
    let shown = error.to_string();
    let places: Vec<usize> = [
        "OpenAI failed (500: down for the day)",
        "; then Anthropic did not accept the key of \
        `ANTHROPIC_API_KEY`",
        "; then no key for Mistral: `MISTRAL_API_KEY` is not set",
        "; then the answer was cut off at",
    ]
    .iter()
    .map(|words| shown.find(words).unwrap_or_else(|| panic!("no `{words}` in {shown}")))
    .collect();
    assert!(places.is_sorted(), "{shown}");
    assert_eq!(error.usage.tokens(), CALL_TOKENS, "what the cut answer cost");
}

#[tokio::test]
async fn a_spent_budget_is_everybodys() {
    let (first, second) = (ModelServer::answering(|_| yes()), ModelServer::answering(|_| yes()));
    let books = Books::new();
    let budgets = Budgets { day: Budget { tokens: Some(1), micro_usd: None }, ..Budgets::default() };
    let settings =
        vec![model("openai", "gpt-6-luna", &first), model("google", "gemini-3.5-flash-lite", &second)];
    let models = Models::build(chain(settings), &books.around(budgets));
    patrol(&models).complete(on(None)).await.unwrap();
    let error = patrol(&models).complete(on(None)).await.unwrap_err();
    assert_eq!((name(&error).as_str(), error.fallbacks.len()), ("OverBudget", 0));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
}

/// Moves tokio's clock, which the circuit goes by, while nothing is under way.
async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_provider_that_fails_again_and_again_is_left_alone() {
    let healthy = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&healthy);
    let server = ModelServer::answering(move |_| {
        if now.load(Ordering::SeqCst) { yes() } else { Reply::error(503, "overloaded", "later") }
    });
    let books = Books::new();
    let mut settings = model("openai", "gpt-6-luna", &server);
    settings.max_attempts = 1;
    let mut other = model("openai", "gpt-6-sol", &server);
    other.role = "other".into();
    let roles = vec![
        RoleSettings { role: "patrol".into(), chain: vec![settings] },
        RoleSettings { role: "other".into(), chain: vec![other] },
    ];
    let models = Models::build(roles, &books.around(Budgets::default()));
    let ask = || patrol(&models).complete(on(None));
    for failure in 1..=5 {
        assert_eq!(name(&ask().await.unwrap_err()), "Server");
        assert_eq!(server.requests().len(), failure);
    }
    for error in join_all((0..32).map(|_| ask())).await.into_iter().map(Result::unwrap_err) {
        assert!(matches!(error.kind, Kind::CircuitOpen { failures: 5, .. }), "{error}");
        assert_eq!(error.attempts, 0);
    }
    // Also for another model of the same provider, and at once.
    let error = models.get("other").unwrap().complete(on(None)).await.unwrap_err();
    assert_eq!(name(&error), "CircuitOpen");
    assert_eq!(server.requests().len(), 5, "no request arrives");
    assert_eq!(books.calls().len(), 5, "and what was not sent is not written down");

    // After the time exactly one finds out how things stand, however many come.
    later(Duration::from_secs(20)).await;
    let errors: Vec<ModelError> =
        join_all((0..32).map(|_| ask())).await.into_iter().map(Result::unwrap_err).collect();
    assert_eq!(server.requests().len(), 6);
    assert_eq!(errors.iter().filter(|error| name(error) == "Server").count(), 1);
    assert_eq!(errors.iter().filter(|error| name(error) == "CircuitOpen").count(), 31);
    // It failed, so they wait for twice as long.
    later(Duration::from_secs(39)).await;
    assert_eq!(name(&ask().await.unwrap_err()), "CircuitOpen");
    healthy.store(true, Ordering::SeqCst);
    later(Duration::from_secs(1)).await;
    ask().await.unwrap();
    for answer in join_all((0..32).map(|_| ask())).await {
        answer.unwrap();
    }
    assert_eq!(server.requests().len(), 6 + 1 + 32);
}

#[tokio::test]
async fn where_a_circuit_is_open_the_next_model_is_asked_at_once() {
    let down = ModelServer::answering(|_| Reply::error(503, "overloaded", "later"));
    let good = ModelServer::answering(|_| yes());
    // With the waits that a real run has: whoever waited here would wait for twenty seconds.
    let mut first = model("openai", "gpt-6-luna", &down);
    first.backoff.longest = Duration::from_secs(30);
    let settings = vec![first, model("google", "gemini-3.5-flash-lite", &good)];
    let models = Models::build(chain(settings), &Surroundings::default());
    let all = join_all((0..20).map(|_| patrol(&models).complete(on(None))));
    for answer in tokio::time::timeout(Duration::from_secs(15), all).await.expect("nobody waits") {
        answer.unwrap();
    }
    assert_eq!(good.requests().len(), 20);
    let before = down.requests().len();
    patrol(&models).complete(on(None)).await.unwrap();
    assert_eq!(down.requests().len(), before);
}

#[tokio::test]
async fn no_more_calls_at_once_than_a_provider_may_get() {
    let permits = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&permits);
    let server = ModelServer::answering(move |_| Reply::Held(Arc::clone(&held), Box::new(yes())));
    let around = Surroundings {
        limits: BTreeMap::from([("openai".to_owned(), Limits { concurrency: 4, per_minute: None })]),
        ..Surroundings::default()
    };
    // Two roles, two models, one provider.
    let roles = [("patrol", "gpt-6-luna"), ("investigator", "gpt-6-sol")].map(|(role, named)| RoleSettings {
        role: role.into(),
        chain: vec![model("openai", named, &server)],
    });
    let models = Models::build(roles.to_vec(), &around);
    let calls = (0..32).map(|n| {
        let role = if n % 2 == 0 { "patrol" } else { "investigator" };
        models.get(role).unwrap().complete(on(None))
    });
    let calls = join_all(calls);
    let release = async {
        while server.most_at_once() < 4 {
            tokio::task::yield_now().await;
        }
        permits.add_permits(32);
    };
    let (answers, ()) = futures_util::future::join(calls, release).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((server.requests().len(), server.most_at_once()), (32, 4));
}

fn schema() -> Value {
    json!({ "title": "verdict", "type": "object", "properties": { "seen": { "type": "string" } }, "required": ["seen"],
        "additionalProperties": false })
}

/// A question with random words of its own, as prompts have them.
fn question(log: &str, nonce: &str, mark: &str) -> ChatRequest {
    ChatRequest {
        nonce: Some(nonce.into()),
        random: vec![mark.into()],
        ..ChatRequest::new(
            format!("Answer with nonce: {nonce}."),
            format!("<data-{nonce}>\n=== turn 0 {mark}\n{log}\n</data-{nonce}>"),
        )
    }
}

#[tokio::test]
async fn the_same_question_is_not_paid_twice() {
    // It quotes what stands in the question, random words included.
    let server = ModelServer::answering(|request| {
        let mark = request.prompt().lines().nth(1).unwrap_or_default().to_owned();
        Reply::Answer(json!({ "seen": format!("{mark} {}", request.prompt().len()) }))
    });
    let books = Books::new();
    let begin = || {
        let around = Surroundings { answers: Some(books.open()), ..books.around(Budgets::default()) };
        Models::build(chain(vec![model("openai", "gpt-6-luna", &server)]), &around)
    };
    let ask = |models: Models, request: ChatRequest| async move {
        let answer = structured_value(patrol(&models).as_ref(), request, &schema()).await.unwrap();
        (answer.value["seen"].as_str().unwrap().to_owned(), answer.usage.tokens())
    };
    let first = ask(begin(), question("all is well", "aaaa1111", "0000aaaa")).await;
    assert_eq!(first.1, CALL_TOKENS);
    // Other random words, another process.
    let again = ask(begin(), question("all is well", "bbbb2222", "1111bbbb")).await;
    assert_eq!(again, (first.0.replace("0000aaaa", "1111bbbb"), 0));
    assert!(again.0.contains("1111bbbb"), "{again:?}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(books.calls().len(), 1, "what costs nothing is no call");
    // Another question: another log, another system, another limit, another shape, another model.
    let models = begin();
    for (n, other) in [
        question("all is bad", "cccc3333", "2222cccc"),
        ChatRequest { system: "Other. cccc3333".into(), ..question("all is well", "cccc3333", "2222cccc") },
        ChatRequest { max_tokens: Some(99), ..question("all is well", "cccc3333", "2222cccc") },
        // The mark stands where the nonce stood.
        question("all is well", "cccc3333", "cccc3333"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(ask(models.clone(), other).await.1, CALL_TOKENS, "{n}");
    }
    let other = Models::build(
        chain(vec![model("openai", "gpt-6-sol", &server)]),
        &Surroundings { answers: Some(books.open()), ..Surroundings::default() },
    );
    assert_eq!(ask(other, question("all is well", "aaaa1111", "0000aaaa")).await.1, CALL_TOKENS);
    assert_eq!(server.requests().len(), 6);
    // Whoever listens hears a kept answer too.
    let heard = Arc::new(std::sync::Mutex::new(String::new()));
    let said = Arc::clone(&heard);
    let listening = ChatRequest {
        on_token: Some(TokenSink::new(move |piece| said.lock().unwrap().push_str(piece))),
        ..question("all is well", "dddd4444", "3333dddd")
    };
    assert_eq!(ask(begin(), listening).await.1, 0);
    assert!(heard.lock().unwrap().contains("3333dddd"));
    assert_eq!(server.requests().len(), 6);
}

#[tokio::test]
async fn a_bad_answer_is_never_kept() {
    let good = || Reply::Answer(json!({ "seen": "nothing" }));
    let wrong = || Reply::Answer(json!({ "seen": 7 }));
    let elsewhere = || Reply::Text(json!({ "seen": "nothing", "nonce": "ffff0000" }).to_string());
    for (replies, answered) in [
        (vec![wrong(), wrong()], false),
        (vec![elsewhere(), elsewhere()], false),
        (vec![Reply::Text("All is well.".into()), Reply::Empty], false),
        (vec![Reply::Refusal("no".into())], false),
        (vec![Reply::Truncated("{\"seen\":".into())], false),
        // The second answer is good, so it is kept, and the first is not.
        (vec![wrong(), good()], true),
        (vec![Reply::Empty, good()], true),
    ] {
        let row = format!("{replies:?}");
        let played = replies.len();
        let server = ModelServer::playing(replies);
        let books = Books::new();
        let around = Surroundings { answers: Some(books.open()), ..books.around(Budgets::default()) };
        let models = Models::build(chain(vec![model("openai", "gpt-6-luna", &server)]), &around);
        let ask = |nonce: &'static str| {
            let models = models.clone();
            async move {
                let request = question("all is well", nonce, "0000aaaa");
                structured_value(patrol(&models).as_ref(), request, &schema()).await
            }
        };
        assert_eq!(ask("aaaa1111").await.is_ok(), answered, "{row}");
        assert_eq!(server.requests().len(), played, "{row}");
        server.push(good());
        assert_eq!(ask("bbbb2222").await.unwrap().value, json!({ "seen": "nothing" }), "{row}");
        assert_eq!(server.requests().len(), played + usize::from(!answered), "{row}");
        // By now it is known either way.
        ask("cccc3333").await.unwrap();
        assert_eq!(server.requests().len(), played + usize::from(!answered), "{row}");
    }
}

#[tokio::test]
async fn free_words_are_never_kept() {
    let server = ModelServer::answering(|_| yes());
    let books = Books::new();
    let around = Surroundings { answers: Some(books.open()), ..Surroundings::default() };
    let models = Models::build(chain(vec![model("openai", "gpt-6-luna", &server)]), &around);
    for _ in 0..2 {
        patrol(&models).complete(on(None)).await.unwrap();
    }
    assert_eq!(server.requests().len(), 2);
}

/// Letters and digits that look random, the same each time.
fn made_up(seed: u64, alphabet: &str, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(alphabet.as_bytes()[usize::try_from(state >> 33).unwrap() % alphabet.len()])
        })
        .collect()
}

const ALL: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LOW: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";
const B32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Lines of a log with a secret each, and the secrets: made here, so that no rule of ours says what is one.
fn secrets() -> Vec<(String, String)> {
    let kinds: [(&str, &str, &str, usize, &str); 25] = [
        ("key ", "AKIA", B32, 16, ""),
        ("aws_secret_access_key = ", "", ALL, 40, ""),
        ("token ", "ghp_", ALL, 36, ""),
        ("use ", "sk-proj-", ALL, 74, " now"),
        ("hub: ", "dckr_pat_", ALL, 27, ""),
        ("", "r8_", ALL, 37, ""),
        ("", "nvapi-", ALL, 64, ""),
        ("gem: ", "rubygems_", HEX, 48, ""),
        ("fly: ", "fo1_", ALL, 43, ""),
        ("neon ", "napi_", LOW, 64, ""),
        ("vault ", "hvs.", ALL, 92, ""),
        ("doppler ", "dp.pt.", ALL, 43, ""),
        ("linear ", "lin_api_", ALL, 40, ""),
        ("square ", "sq0atp-", ALL, 22, ""),
        ("pay ", "rzp_live_", ALL, 14, ""),
        ("google ", "GOCSPX-", ALL, 28, ""),
        ("sonar ", "squ_", HEX, 40, ""),
        ("twilio ", "SK", HEX, 32, ""),
        ("WANDB_API_KEY=", "", HEX, 40, ""),
        ("postgres://svc:", "", ALL, 12, "@db.corp.dev:5432/main"),
        ("curl -H \"Authorization: Bearer ", "", ALL, 32, "\" https://api.corp.dev"),
        ("Server=db1;User Id=svc;Password=", "", ALL, 12, ";"),
        ("SHOP_API_KEY=", "", ALL, 32, ""),
        ("sshpass -p '", "", ALL, 10, "' ssh root@10.0.0.7"),
        ("machine git.corp.dev login joe password ", "", ALL, 16, ""),
    ];
    let personal = [
        ("write to ", "ana.berg@posteo.net", " please"),
        ("my card is ", "4539 1488 0343 6467", ""),
        ("pay to ", "DE89 3704 0044 0532 0130 00", ""),
        ("ssn ", "536-22-8726", ""),
        ("call me on ", "+44 7700 912345", ""),
        ("passport number: ", "C01100447", ""),
        ("my driver's license number is ", "D425700624", ""),
    ];
    let made = kinds.into_iter().zip(1..).map(|((before, mark, alphabet, length, after), seed)| {
        let secret = format!("{mark}{}", made_up(seed, alphabet, length));
        (format!("{before}{secret}{after}"), secret)
    });
    let known = personal
        .into_iter()
        .map(|(before, value, after)| (format!("{before}{value}{after}"), value.to_owned()));
    let body = format!("{}\n{}", made_up(77, ALL, 64), made_up(78, ALL, 64));
    let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----");
    made.chain(known).chain([(key, body)]).collect()
}

#[tokio::test]
async fn no_secret_reaches_a_provider_and_masks_come_back() {
    let secrets = secrets();
    assert!(secrets.len() >= 30);
    let lines: Vec<&str> = secrets.iter().map(|(line, _)| line.as_str()).collect();
    let log = format!("the agent said: {}\n", lines.join("\nthe agent said: "));
    for id in ["openai", "anthropic", "google"] {
        // Repeats the log as it was shown.
        let server = ModelServer::answering(|request| Reply::Answer(json!({ "seen": request.prompt() })));
        let around = Surroundings {
            placeholders: Some(Redactor {
                mask: |text| Detectors::builtin().redact(text),
                is_personal: |label| Detectors::builtin().is_personal(label),
            }),
            mask: |text| Detectors::builtin().redact(text),
            ..Surroundings::default()
        };
        let provider = provider(id).unwrap();
        let models = Models::build(chain(vec![model(id, &provider.patrol, &server)]), &around);
        let mut request = question(&log, "aaaa1111", "0000aaaa");
        // In the system's text and in what the model said before, too.
        request.system = format!("{} The operator's line: {}", request.system, secrets[2].0);
        let answer = structured_value(patrol(&models).as_ref(), request, &schema()).await.unwrap();
        let seen = answer.value["seen"].as_str().unwrap().to_owned();
        let sent = server.requests();
        assert_eq!(sent.len(), 1);
        let raw = sent[0].body.to_string();
        let shown = format!("{}{}", sent[0].system(), sent[0].prompt());
        for (line, secret) in &secrets {
            // Neither whole nor any part that would help.
            let parts = secret.lines().chain(secret.lines().map(|part| &part[part.len() / 3..]));
            for part in parts {
                assert!(!raw.contains(part) && !shown.contains(part), "{id} was sent `{part}` of `{line}`");
                assert!(!seen.contains(part), "{id}: `{part}` came back");
            }
        }
        let placeholders: BTreeSet<&str> = shown
            .split('[')
            .filter(|part| part.starts_with("SECRET:") || part.starts_with("PII:"))
            .filter_map(|part| part.split(']').next())
            .collect();
        assert!(placeholders.len() >= secrets.len(), "{}: {placeholders:?}", placeholders.len());
        assert!(placeholders.iter().filter(|name| name.starts_with("PII:")).count() >= 7, "{placeholders:?}");
        // Each comes back as our mask, exactly as the log reads with masks.
        assert!(!seen.contains("[SECRET:") && !seen.contains("[PII:"), "{seen}");
        assert!(seen.contains(&Detectors::builtin().redact(&log)), "{seen}");
    }
}

#[tokio::test]
async fn an_answer_to_another_question_is_sent_back_once() {
    let json = |nonce: Value| Reply::Text(json!({ "nonce": nonce, "seen": "x" }).to_string());
    let without = || Reply::Text(json!({ "seen": "x" }).to_string());
    for id in ["openai", "anthropic", "google", "minimax"] {
        for bad in [json("bbbb2222".into()), without(), json(Value::Null), json(7.into()), json("".into())] {
            // Whatever it says, it says it twice.
            let (once, row) = (bad.clone(), format!("{id} {bad:?}"));
            let server = ModelServer::answering(move |_| once.clone());
            let books = Books::new();
            let provider = provider(id).unwrap();
            let settings = chain(vec![model(id, &provider.patrol, &server)]);
            let models = Models::build(settings, &books.around(Budgets::default()));
            let ask = || structured(&models);
            let error = ask().await.unwrap_err();
            assert_eq!(name(&error), "Malformed", "{row}: {error}");
            assert!(error.to_string().contains("/nonce"), "{row}: {error}");
            assert!(!error.to_string().contains("aaaa1111"), "{row}: the word stays unsaid: {error}");
            assert_eq!(server.requests().len(), 2, "{row}: sent back once");
            assert!(server.requests()[1].texts()[2].contains("random word"), "{row}");
            assert_eq!(books.calls().len(), 2, "{row}: both are paid");
            assert_eq!(error.usage.tokens(), 2 * CALL_TOKENS, "{row}");
            // Or it comes to its senses.
            server.push(bad);
            server.push(Reply::Answer(json!({ "seen": "x" })));
            let answer = ask().await.unwrap();
            assert!(answer.repaired, "{row}");
            assert_eq!(answer.value, json!({ "seen": "x" }), "{row}: without the word");
        }
    }
}

async fn structured(models: &Models) -> Result<sentrix::model::Structured<Value>, ModelError> {
    structured_value(patrol(models).as_ref(), question("log", "aaaa1111", "0000aaaa"), &schema()).await
}

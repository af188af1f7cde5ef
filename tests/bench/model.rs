//! `cargo bench --bench model -- --json`: what our stack around a model costs over the bare HTTP client.
//!
//! 10,000 questions for an answer of a shape, 32 at once, through everything that a real run has (ledger and budgets,
//! placeholders, masks, kept answers that are never found), against the same requests sent with reqwest alone, in turns of
//! a thousand. The scripted server runs in a process of its own, so that its memory is not ours, and answers after
//! [`THINKS`], which is still far faster than any model.
#![expect(clippy::print_stdout, reason = "this is what a bench prints")]

#[path = "../support/dialects.rs"]
mod dialects;
#[path = "../support/model_server.rs"]
mod model_server;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secrecy::SecretString;
use sentrix::clock::{self, SharedClock};
use sentrix::detect::Detectors;
use sentrix::model::{
    Account, Budget, Budgets, ChatModel, ChatRequest, Limits, ModelSettings, Models, Redactor, RoleSettings,
    Surroundings, Work, provider, structured_value,
};
use sentrix::store::usage::UsageStore;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use model_server::{ModelServer, Reply};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// First argument of the process that serves.
const SERVE: &str = "serve";
/// How long the server thinks about an answer: at least this long, and up to three times as long, so that callers do not
/// fall into step and wait for each other's work.
const THINKS: Duration = Duration::from_millis(25);
const AT_ONCE: u32 = 32;
const ROUNDS: u32 = 10;
const CALLS_PER_ROUND: u32 = 1_000;
/// Calls before the first one that counts: connections, the rules' automata, pages of the store.
const WARM_UP: u32 = 100;

/// Serves until standard input ends.
fn serve() -> Outcome<()> {
    let asked = AtomicU32::new(0);
    let server = ModelServer::forgetful(move |_| {
        let share = asked.fetch_add(1, Ordering::Relaxed).wrapping_mul(7_919) % 101;
        Reply::Slow(
            THINKS + THINKS * 2 * share / 100,
            Box::new(Reply::Answer(json!({ "incidents": [], "note": "nothing" }))),
        )
    });
    println!("{}", server.url());
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// A process of this very program that serves, and where.
fn server() -> Outcome<(Child, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg(SERVE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let url = said.next().ok_or("the server ended early")??;
    Ok((child, url))
}

fn schema() -> Value {
    json!({
        "title": "verdict",
        "type": "object",
        "properties": {
            "incidents": { "type": "array", "items": { "type": "object", "properties": {
                "turn": { "type": "integer" }, "quote": { "type": "string" },
                "severity": { "type": "string", "enum": ["LOW", "MEDIUM", "HIGH", "CRITICAL"] },
                "confidence": { "type": "number", "minimum": 0, "maximum": 1 },
            }, "required": ["turn", "quote", "severity", "confidence"] } },
            "note": { "type": "string" },
        },
        "required": ["incidents", "note"],
    })
}

const SYSTEM: &str = "You are a patrol agent. You review what AI agents said and did, and report incidents.";

/// Two kilobytes of a log, another one for each number, with an address in it.
fn log(number: u32) -> String {
    let mut log = format!("<data-0badcafe>\n=== turn {number} 0f1e2d3c (run-{number}_1000)\n");
    for line in 0..20 {
        log.push_str("[agent's answer] The report of the third quarter is done; line ");
        log.push_str(&(u64::from(number) * 100 + line).to_string());
        log.push_str(" of it follows as you asked.\n");
    }
    log.push_str("[user] write to ana.berg@posteo.net\n</data-0badcafe>");
    log
}

fn question(number: u32) -> ChatRequest {
    ChatRequest {
        max_tokens: Some(2_048),
        nonce: Some("0badcafe".into()),
        random: vec!["0f1e2d3c".into()],
        account: Some(Account { work: Work::Sweep, id: format!("sweep-{}", number / CALLS_PER_ROUND) }),
        ..ChatRequest::new(SYSTEM, log(number))
    }
}

/// The model with everything around it, as `cli::world` builds it.
fn ours(url: &str, dir: &Path) -> Outcome<Arc<dyn ChatModel>> {
    let usage = Arc::new(UsageStore::open(&dir.join("usage.db"))?);
    let plenty = Budget { tokens: Some(u64::MAX / 2), micro_usd: Some(u64::MAX / 2) };
    let budgets = Budgets { sweep: plenty, investigation: plenty, day: plenty };
    let around = Surroundings {
        ledger: Some((Arc::clone(&usage) as _, budgets, clock::system())),
        answers: Some(usage),
        placeholders: Some(Redactor {
            mask: |text| Detectors::builtin().redact(text),
            is_personal: |label| Detectors::builtin().is_personal(label),
        }),
        mask: |text| Detectors::builtin().redact(text),
        limits: BTreeMap::from([(
            "openai".to_owned(),
            Limits { concurrency: AT_ONCE as usize, per_minute: None },
        )]),
    };
    let openai = provider("openai").ok_or("no such provider")?;
    let mut settings =
        ModelSettings::of(openai, "patrol", &openai.patrol, Some(SecretString::from("sk-bench")));
    url.clone_into(&mut settings.base_url);
    let models = Models::build(vec![RoleSettings { role: "patrol".into(), chain: vec![settings] }], &around);
    Ok(Arc::clone(models.get("patrol").ok_or("no model")?))
}

/// What a plain client sends: the same question and shape.
fn plain_body(number: u32) -> Value {
    json!({
        "model": "gpt-6-luna",
        "messages": [{ "role": "system", "content": SYSTEM }, { "role": "user", "content": log(number) }],
        "max_completion_tokens": 2_048,
        "response_format": { "type": "json_schema",
            "json_schema": { "name": "verdict", "strict": true, "schema": schema() } },
    })
}

async fn plain_call(client: &reqwest::Client, url: &str, number: u32) -> Outcome<()> {
    let request = client.post(url).header("authorization", "Bearer sk-bench").json(&plain_body(number));
    let mut response = request.send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    let body: Value = serde_json::from_slice(&body)?;
    let text = body.pointer("/choices/0/message/content").and_then(Value::as_str).ok_or("no answer")?;
    let answer: Value = serde_json::from_str(text)?;
    if answer.get("incidents").is_none() {
        return Err("another answer".into());
    }
    Ok(())
}

async fn our_call(model: &dyn ChatModel, schema: &Value, number: u32) -> Outcome<()> {
    let answer = structured_value(model, question(number), schema).await?;
    if answer.repaired || answer.usage.tokens() == 0 {
        return Err("not the answer of the server to this question".into());
    }
    Ok(())
}

/// Makes `count` calls, so many at once, and gives how long each took.
async fn at_once<F>(
    clock: &SharedClock,
    first: u32,
    count: u32,
    call: impl Fn(u32) -> F + Copy,
) -> Outcome<Vec<Duration>>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let next = AtomicU32::new(first);
    let mut tasks = JoinSet::new();
    let mut took = Vec::with_capacity(count as usize);
    let start = |tasks: &mut JoinSet<Outcome<Duration>>| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number < first + count {
            let (clock, call) = (Arc::clone(clock), call(number));
            tasks.spawn(async move {
                let began = clock.monotonic();
                call.await?;
                Ok(clock.monotonic().saturating_sub(began))
            });
        }
    };
    for _ in 0..AT_ONCE {
        start(&mut tasks);
    }
    while let Some(done) = tasks.join_next().await {
        took.push(done??);
        start(&mut tasks);
    }
    Ok(took)
}

/// A value of this process in kB, as `VmHWM`.
fn memory_kb(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Processor time of this process so far, in milliseconds: user's and system's, in ticks of ten.
fn cpu_ms() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|ticks| ticks.parse::<u64>().ok());
    10 * (ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0))
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The time below which this share of the calls stayed, in milliseconds.
fn percentile(times: &mut [Duration], share: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * share / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| rounded(time.as_secs_f64() * 1e3))
}

async fn measure() -> Outcome<Value> {
    let (mut child, url) = server()?;
    let dir = tempfile::tempdir()?;
    let model = ours(&url, dir.path())?;
    let schema = Arc::new(schema());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let address: Arc<str> = format!("{url}/v1/chat/completions").into();
    let clock = clock::system();
    let ours = |number: u32| {
        let (model, schema) = (Arc::clone(&model), Arc::clone(&schema));
        async move { our_call(model.as_ref(), &schema, number).await }
    };
    let plain = |number: u32| {
        let (client, address) = (client.clone(), Arc::clone(&address));
        async move { plain_call(&client, &address, number).await }
    };
    let far = 1_000_000;
    at_once(&clock, far, WARM_UP, ours).await?;
    at_once(&clock, far, WARM_UP, plain).await?;
    let (mut our_times, mut plain_times) = (Vec::new(), Vec::new());
    let (mut added, mut our_cpu, mut plain_cpu) = (Vec::new(), 0, 0);
    let mut rss = BTreeMap::new();
    for round in 0..ROUNDS {
        let first = round * CALLS_PER_ROUND;
        let cpu = cpu_ms();
        let mut ours = at_once(&clock, first, CALLS_PER_ROUND, ours).await?;
        let ours_done = cpu_ms();
        let mut plain = at_once(&clock, first, CALLS_PER_ROUND, plain).await?;
        our_cpu += ours_done - cpu;
        plain_cpu += cpu_ms() - ours_done;
        added.push(percentile(&mut ours, 99) - percentile(&mut plain, 99));
        our_times.extend(ours);
        plain_times.extend(plain);
        rss.insert(first + CALLS_PER_ROUND, memory_kb("VmRSS"));
    }
    drop(child.stdin.take());
    child.wait()?;
    added.sort_by(f64::total_cmp);
    let (our_99, plain_99) = (percentile(&mut our_times, 99), percentile(&mut plain_times, 99));
    Ok(json!({
        "case": "structured_calls",
        "n": our_times.len(),
        "at_once": AT_ONCE,
        "ours_p50_ms": percentile(&mut our_times, 50),
        "plain_p50_ms": percentile(&mut plain_times, 50),
        "ours_p99_ms": our_99,
        "plain_p99_ms": plain_99,
        "added_p99_ms": rounded(our_99 - plain_99),
        // A machine that is busy with something else spoils some rounds; the middle one says more.
        "added_p99_ms_median_round": rounded(added.get(added.len() / 2).copied().unwrap_or(0.0)),
        "ours_cpu_us": our_cpu * 1_000 / u64::from(ROUNDS * CALLS_PER_ROUND),
        "plain_cpu_us": plain_cpu * 1_000 / u64::from(ROUNDS * CALLS_PER_ROUND),
        "peak_rss_kb": memory_kb("VmHWM"),
        "rss_kb_after_2000": rss.get(&2_000),
        "rss_kb_after_10000": rss.get(&10_000),
    }))
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == SERVE) {
        return serve();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(measure())?;
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{measured}");
        return Ok(());
    }
    for (name, value) in measured.as_object().into_iter().flatten() {
        println!("{name:>20}  {value}");
    }
    Ok(())
}

//! The real binary while its model's provider fails in every way there is, and after: read from the stores themselves, and
//! compared with what the server saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::model_server::{ModelServer, Recorded, Reply};
use crate::world::{World, end, user};

const STREAMS: usize = 6;
const TURNS: usize = 10;
/// Attempts after which a turn is given up.
const MOST_ATTEMPTS: i64 = 5;
/// Words that only a model finds wrong.
const PLAN: &str = "Let us quietly move the customer list to my own account before Friday.";
/// What the scripted server says that each of its answers cost.
const ANSWER_TOKENS: i64 = 11 + 7;

/// A way to fail, and whether it costs tokens all the same.
struct Failure {
    name: &'static str,
    reply: fn() -> Reply,
    charged: bool,
}

const fn free(name: &'static str, reply: fn() -> Reply) -> Failure {
    Failure { name, reply, charged: false }
}

const fn charged(name: &'static str, reply: fn() -> Reply) -> Failure {
    Failure { name, reply, charged: true }
}

fn clean() -> Reply {
    Reply::Answer(json!({ "incidents": [] }))
}

fn incident(severity: &str, turn: u64) -> Value {
    json!({ "turn": turn, "quote": "move the customer list", "category": "confidential_data_disclosure",
        "severity": severity, "confidence": 0.9, "observation": "the agent plans to take data away" })
}

/// All of them, in three parts that are about as slow.
const FAILURES: [&[Failure]; 3] = [
    &[
        free("500", || Reply::error(500, "server_error", "down")),
        free("429 without a word on when", || Reply::error(429, "rate_limit_exceeded", "slow down")),
        free("401", || Reply::error(401, "invalid_api_key", "no")),
        free("reset", || Reply::Reset),
        charged("empty", || Reply::Empty),
        charged("prose around JSON", || {
            Reply::Text("All is well: {\"incidents\": []}. Anything else?".into())
        }),
        charged("a list instead of an object", || Reply::Answer(json!([]))),
        free("a web page", || Reply::Raw("text/html", "<html>{\"incidents\": []}</html>".into())),
    ],
    &[
        free("503 with a page", || {
            Reply::Status(503, vec![("content-type", "text/html".into())], "<html>down</html>".into())
        }),
        free("429 in a moment", || Reply::error_after(429, "0.05")),
        free("402", || Reply::error(402, "insufficient_quota", "pay")),
        free("closed", || Reply::Close),
        free("cut in the middle", || Reply::Cut(Box::new(clean()))),
        charged("cut off by length", || Reply::Truncated("{\"incidents\": [".into())),
        charged("of another shape", || Reply::Answer(json!({ "verdict": "clean" }))),
        free("not even a response", || Reply::Raw("application/json", "{\"choices\": [".into())),
    ],
    &[
        free("408", || Reply::error(408, "timeout", "too slow")),
        free("429 in an hour", || Reply::error_after(429, "3600")),
        free("404 of the model", || Reply::error(404, "model_not_found", "no such model")),
        free("400", || Reply::error(400, "invalid_request_error", "no")),
        free("cut between two chunks", || {
            Reply::Cut(Box::new(Reply::Trickle(3, Duration::ZERO, Box::new(clean()))))
        }),
        charged("refusal", || Reply::Refusal("I cannot look at this".into())),
        charged("another question's answer", || {
            Reply::Answer(json!({ "incidents": [], "nonce": "00000000" }))
        }),
        charged("a severity that is none", || {
            Reply::Answer(json!({ "incidents": [incident("EXTREME", 0)] }))
        }),
    ],
];

/// How the provider does.
#[derive(Clone, Copy)]
enum Weather {
    /// Everything fails in one way.
    Fails(fn() -> Reply, bool),
    /// Streams with an even number get their answers, the others fail.
    Half,
    Good,
}

/// What the server did.
struct Seen {
    weather: Weather,
    /// How often a turn was shown to the model in a question that was answered well.
    answered: BTreeMap<String, u32>,
    /// Answers that cost something.
    charged: i64,
    /// Requests under the present weather.
    requests: usize,
}

/// The turns that a question shows, by name.
fn turns_shown(prompt: &str) -> Vec<String> {
    prompt
        .lines()
        .filter_map(|line| line.strip_prefix("=== turn ")?.split_once('(')?.1.strip_suffix(')'))
        .map(str::to_owned)
        .collect()
}

/// The number of the turn in whose shown text the plan stands.
fn planning(prompt: &str) -> Option<u64> {
    let before = &prompt[..prompt.find(PLAN)?];
    before.lines().rev().find_map(|line| line.strip_prefix("=== turn ")?.split(' ').next()?.parse().ok())
}

fn answer(seen: &Mutex<Seen>, request: &Recorded) -> Reply {
    let mut seen = seen.lock().unwrap();
    seen.requests += 1;
    let turns = turns_shown(&request.prompt());
    assert!(!turns.is_empty(), "{}", request.prompt());
    let stream: u32 = turns[0].split('-').nth(1).unwrap().parse().unwrap();
    match seen.weather {
        Weather::Fails(reply, charged) => {
            seen.charged += i64::from(charged);
            return reply();
        }
        Weather::Half if stream % 2 == 1 => return Reply::error(400, "invalid_request_error", "no"),
        Weather::Half | Weather::Good => {}
    }
    seen.charged += 1;
    for turn in turns {
        *seen.answered.entry(turn).or_default() += 1;
    }
    let incidents: Vec<Value> =
        planning(&request.prompt()).map(|turn| incident("HIGH", turn)).into_iter().collect();
    Reply::Answer(json!({ "incidents": incidents }))
}

fn fill(world: &World) {
    for stream in 0..STREAMS {
        let mut events = Vec::new();
        for turn in 0..TURNS {
            let ts = 1_000_000 + i64::try_from(stream * 1_000 + turn * 10).unwrap();
            let run = format!("run-{stream}-{turn}");
            events.push(user(&run, &format!("agent:main:s{stream}"), ts, "please go on with the report"));
            let text = if (stream, turn) == (2, 3) { PLAN } else { "Done, as you asked." };
            events.push(end(&run, ts + 5, text));
        }
        world.log(&format!("20261122T1{stream}0000.json"), &events);
    }
}

/// A turn as it stands in the store.
#[derive(Debug)]
struct Turn {
    name: String,
    status: i64,
    attempts: i64,
    reviewed_at: Option<String>,
    reason: Option<String>,
}

const PENDING: i64 = 0;
const CLEAN: i64 = 1;
const FLAGGED: i64 = 2;
const UNREVIEWED: i64 = 3;

fn open(world: &World, name: &str) -> Connection {
    let path = world.logs().join(name);
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn turns(world: &World) -> Vec<Turn> {
    let store = open(world, "patrol_state.db");
    let mut statement =
        store.prepare("SELECT run_id_ts, status, attempts, reviewed_at, reason FROM turns").unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Turn {
            name: row.get(0)?,
            status: row.get(1)?,
            attempts: row.get(2)?,
            reviewed_at: row.get(3)?,
            reason: row.get(4)?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn tokens_written(world: &World) -> i64 {
    let sum = "SELECT coalesce(sum(input_tokens + output_tokens), 0) FROM calls";
    open(world, "usage.db").query_row(sum, [], |row| row.get(0)).unwrap()
}

/// What is true at any time: nothing has a review without a good answer about it, and what was answered is written down.
fn check(world: &World, seen: &Mutex<Seen>, row: &str) {
    let seen = seen.lock().unwrap();
    for turn in turns(world) {
        let reviewed = matches!(turn.status, CLEAN | FLAGGED);
        assert_eq!(reviewed, seen.answered.contains_key(&turn.name), "{row}: {turn:?}");
        assert_eq!(reviewed, turn.reviewed_at.is_some(), "{row}: {turn:?}");
        assert_eq!(reviewed, turn.reason.is_none(), "{row}: {turn:?}");
        assert!(turn.attempts <= MOST_ATTEMPTS, "{row}: {turn:?}");
        assert_eq!(turn.status == UNREVIEWED, turn.attempts == MOST_ATTEMPTS, "{row}: {turn:?}");
    }
    assert_eq!(tokens_written(world), seen.charged * ANSWER_TOKENS, "{row}");
}

fn ride_out(failures: &[Failure]) {
    let seen = Arc::new(Mutex::new(Seen {
        weather: Weather::Good,
        answered: BTreeMap::new(),
        charged: 0,
        requests: 0,
    }));
    let looking = Arc::clone(&seen);
    let server = ModelServer::answering(move |request| answer(&looking, request));
    let world =
        World::new().with_env("OPENAI_API_KEY", "sk-test-key").with_env("OPENAI_BASE_URL", &server.url());
    fill(&world);
    let forecast = |weather: Weather| {
        let mut seen = seen.lock().unwrap();
        (seen.weather, seen.requests) = (weather, 0);
    };
    let patrol = |more: &str, row: &str| {
        let ran = world.sentrix(&format!("patrol --once --no-police --format json {more}"));
        assert!(matches!(ran.code, Some(0 | 3)), "{row}: {:?} {}{}", ran.code, ran.stdout, ran.stderr);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("sk-test-key"), "{row}");
        ran
    };
    let (mut given_up, mut ever_given_up) = (false, false);
    for Failure { name, reply, charged } in failures {
        forecast(Weather::Fails(*reply, *charged));
        // What was given up after five attempts is put back by hand, as a person does once the outage is known.
        let ran = patrol(if given_up { "--retry-unreviewed" } else { "" }, name);
        let sweep = &ran.json()["sweeps"][0];
        assert_eq!(sweep["reviewed"], 0, "{name}: {}", ran.stdout);
        assert!(seen.lock().unwrap().requests > 0, "{name}: nobody asked");
        check(&world, &seen, name);
        let turns = turns(&world);
        assert!(turns.iter().all(|turn| matches!(turn.status, PENDING | UNREVIEWED)), "{name}");
        given_up = turns.iter().any(|turn| turn.status == UNREVIEWED);
        ever_given_up |= given_up;
    }
    assert!(ever_given_up, "it lasted for more than five sweeps");
    // Half of it comes back.
    forecast(Weather::Half);
    patrol("--retry-unreviewed", "half");
    check(&world, &seen, "half");
    assert_eq!(seen.lock().unwrap().answered.len(), STREAMS / 2 * TURNS);
    // And all of it. A further look finds nothing to do.
    forecast(Weather::Good);
    patrol("--retry-unreviewed", "good");
    check(&world, &seen, "good");
    let requests = server.requests().len();
    patrol("", "again");
    assert_eq!(server.requests().len(), requests, "what is reviewed is not asked again");

    let turns = turns(&world);
    assert_eq!(turns.len(), STREAMS * TURNS);
    let store = open(&world, "patrol_state.db");
    let mut statement = store.prepare("SELECT at, summary FROM sweeps").unwrap();
    let sweeps: BTreeMap<String, u64> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .map(|(at, summary)| {
            (at, serde_json::from_str::<Value>(&summary).unwrap()["reviewed"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(sweeps.values().sum::<u64>(), (STREAMS * TURNS) as u64, "each turn in one sweep: {sweeps:?}");
    for (at, reviewed) in &sweeps {
        let of_it = turns.iter().filter(|turn| turn.reviewed_at.as_ref() == Some(at)).count() as u64;
        assert_eq!(of_it, *reviewed, "the sweep of {at}");
    }
    let guilty: BTreeSet<&str> =
        turns.iter().filter(|turn| turn.status == FLAGGED).map(|turn| turn.name.as_str()).collect();
    assert_eq!(guilty, BTreeSet::from(["run-2-3_1002035"]));
    for (turn, times) in &seen.lock().unwrap().answered {
        // The quorum's two further agents look at what the first one found.
        let expected = if guilty.contains(turn.as_str()) { 3 } else { 1 };
        assert_eq!(*times, expected, "{turn}");
    }
}

#[test]
fn whatever_a_provider_does_every_turn_is_reviewed_once_and_none_for_nothing() {
    // Most of the time is spent waiting between attempts.
    std::thread::scope(|scope| {
        for failures in FAILURES {
            scope.spawn(move || ride_out(failures));
        }
    });
}

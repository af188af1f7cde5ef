//! The tasks of the cases. `stub.NODE = [...]` is what a node's function answers, one a call, the last one from then on;
//! of an item of a fan-out, or a task that was sent, the one at its place, where a list is one a call again.
//!
//! An answer is the fields of the output, or tells in these keys what the function does first:
//!
//! - `sleep_ms = 20`, `clock = "1h"` (the clock moves on), `beats = 3` (so many sleeps, each with a sign of life);
//! - `emit = VALUE`, `say = ["to", "kens"]`, `spend = { tokens = 10, micro_usd = 5 }`;
//! - `once = "payment"`: an effect with a line in the ledger;
//! - `drain = true`, `cancel = true`, `kill = true`: what happens to the run while the function is at work;
//! - `error = "timeout"` with a `message`, `panic = "text"`;
//! - `goto = ["a"]`, `send = [["worker", { x = 1 }]]`;
//! - `overwrite = ["field"]`: fields that are of the type `Overwrite`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sentrix::clock::Clock;
use sentrix::engine::{
    Ctx, ErrorClass, NodeError, Overwrite, PromptCall, PromptRunner, Registry, RunControl,
};
use sentrix::graph::{Catalog, Effect, Field, PromptInfo, TaskSignature, Type, TypeInfo};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::case::{Face, Setting};

/// A clock that goes with the machine's and can be moved on.
#[derive(Debug)]
pub(super) struct MovedClock {
    began: std::time::Instant,
    moved_ms: AtomicU64,
}

impl MovedClock {
    pub(super) fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a clock has to be made of one")]
        Self { began: std::time::Instant::now(), moved_ms: AtomicU64::new(0) }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.moved_ms.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        // 1 January 2026, so that nothing depends on the day of the test.
        let ms = 1_767_225_600_000 + i64::try_from(self.monotonic().as_millis()).unwrap();
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed() + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }
}

/// Reads `20ms`, `3s`, `5m`, `1h`, `2d`.
pub(super) fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().unwrap();
    match &text[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number * 60),
        "h" => Duration::from_secs(number * 3600),
        "d" => Duration::from_secs(number * 86400),
        unit => panic!("`{unit}` is no unit of time"),
    }
}

/// What plays the nodes of one case.
#[derive(Debug)]
pub(super) struct Stubs {
    answers: BTreeMap<String, Vec<Value>>,
    clock: Arc<MovedClock>,
    /// Calls by node and item, over all parts of the run.
    calls: Mutex<BTreeMap<(String, Option<u32>), usize>>,
    /// Calls by node in this part.
    ran: Mutex<BTreeMap<String, u32>>,
    /// Effects that were really done, by name.
    effects: Mutex<BTreeMap<String, u32>>,
    control: Mutex<RunControl>,
    pub(super) killed: Notify,
}

impl Stubs {
    pub(super) fn new(answers: BTreeMap<String, Vec<Value>>, clock: Arc<MovedClock>) -> Self {
        Self {
            answers,
            clock,
            calls: Mutex::default(),
            ran: Mutex::default(),
            effects: Mutex::default(),
            control: Mutex::default(),
            killed: Notify::new(),
        }
    }

    /// A part of the run begins, under this control.
    pub(super) fn begin(&self, control: RunControl) {
        self.ran.lock().unwrap().clear();
        *self.control.lock().unwrap() = control;
    }

    pub(super) fn ran(&self, node: &str) -> u32 {
        self.ran.lock().unwrap().get(node).copied().unwrap_or_default()
    }

    /// Calls of all nodes, over all parts.
    pub(super) fn ran_all(&self) -> usize {
        self.calls.lock().unwrap().values().sum()
    }

    pub(super) fn effects(&self, name: &str) -> u32 {
        self.effects.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    fn next(&self, ctx: &Ctx) -> Option<Map<String, Value>> {
        let node = ctx.node().to_owned();
        *self.ran.lock().unwrap().entry(node.clone()).or_default() += 1;
        let mut calls = self.calls.lock().unwrap();
        let call = calls.entry((node.clone(), ctx.item())).or_default();
        let number = *call;
        *call += 1;
        drop(calls);
        let answers = self.answers.get(&node)?;
        let nth = |list: &[Value], number: usize| list.get(number).or_else(|| list.last()).cloned();
        let answer = match ctx.item() {
            None => nth(answers, number)?,
            Some(item) => match nth(answers, item as usize)? {
                Value::Array(calls) => nth(&calls, number)?,
                one => one,
            },
        };
        match answer {
            Value::Object(answer) => Some(answer),
            other => panic!("the stub of `{node}` answers {other}"),
        }
    }

    /// Plays a node.
    async fn play(&self, ctx: Ctx, task: &str, input: Value) -> Result<Answer, NodeError> {
        let default = || default(&ctx, task, &input);
        let Some(mut answer) = self.next(&ctx) else {
            return Ok(Answer { fields: default(), ..Answer::default() });
        };
        let mut take = |key: &str| answer.remove(key);
        let nap = Duration::from_millis(take("sleep_ms").and_then(|ms| ms.as_u64()).unwrap_or_default());
        match take("beats").and_then(|beats| beats.as_u64()) {
            Some(beats) => {
                for _ in 0..beats {
                    tokio::time::sleep(nap).await;
                    ctx.heartbeat();
                }
            }
            None if !nap.is_zero() => tokio::time::sleep(nap).await,
            None => {}
        }
        if let Some(by) = take("clock") {
            self.clock.advance(duration(by.as_str().unwrap()));
        }
        if let Some(value) = take("emit") {
            ctx.emit(value);
        }
        for piece in take("say").iter().flat_map(|say| say.as_array().unwrap()) {
            if ctx.wants_tokens() {
                ctx.token(piece.as_str().unwrap());
            }
        }
        if let Some(spend) = take("spend") {
            let amount = |key: &str| spend.get(key).and_then(Value::as_u64).unwrap_or_default();
            ctx.spend(amount("tokens"), amount("micro_usd"));
        }
        if let Some(name) = take("once") {
            let name = name.as_str().unwrap();
            ctx.once(name, async |_, _| {
                *self.effects.lock().unwrap().entry(name.to_owned()).or_default() += 1;
                Ok(())
            })
            .await?;
        }
        let control = self.control.lock().unwrap().clone();
        if take("drain").is_some() {
            control.drain();
        }
        if take("cancel").is_some() {
            control.cancel();
            std::future::pending::<()>().await;
        }
        if take("kill").is_some() {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
        if let Some(text) = take("panic") {
            panic!("{}", text.as_str().unwrap());
        }
        if let Some(class) = take("error") {
            let class: ErrorClass = class.as_str().unwrap().parse().unwrap();
            let message = take("message").and_then(|text| text.as_str().map(str::to_owned));
            return Err(NodeError::new(class, message.unwrap_or_else(|| "as the stub says".to_owned())));
        }
        if let Some(Value::Array(nodes)) = take("goto") {
            ctx.goto(&nodes.iter().map(|node| node.as_str().unwrap()).collect::<Vec<_>>())?;
        }
        for sent in take("send").iter().flat_map(|sent| sent.as_array().unwrap()) {
            ctx.send(sent[0].as_str().unwrap(), &sent[1])?;
        }
        let overwrite =
            take("overwrite").map(|fields| serde_json::from_value(fields).unwrap()).unwrap_or_default();
        let fields = if answer.is_empty() { default() } else { answer };
        Ok(Answer { fields, overwrite })
    }
}

/// What a task answers where no stub says.
fn default(ctx: &Ctx, task: &str, input: &Value) -> Map<String, Value> {
    let name = || match ctx.item() {
        Some(item) => format!("{}#{item}", ctx.node()),
        None => ctx.node().to_owned(),
    };
    let output = match task {
        "log" => json!({ "log": name() }),
        "add" => json!({ "n": input["n"].as_i64().unwrap() + 1 }),
        "item" => json!({ "out": input["x"] }),
        "read" => json!({ "log": format!("{}={}", name(), input["n"]) }),
        _ => json!({}),
    };
    output.as_object().cloned().unwrap()
}

/// An output whose fields are known only at run time.
#[derive(Debug, Default)]
struct Answer {
    fields: Map<String, Value>,
    overwrite: Vec<String>,
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (field, value) in &self.fields {
            if self.overwrite.contains(field) {
                map.serialize_entry(field, &Overwrite(value))?;
            } else {
                map.serialize_entry(field, value)?;
            }
        }
        map.end()
    }
}

impl JsonSchema for Answer {
    fn schema_name() -> Cow<'static, str> {
        "Anything".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

/// Answers prompt nodes as the stubs do.
#[derive(Debug)]
pub(super) struct StubPrompts(pub(super) Arc<Stubs>);

impl PromptRunner for StubPrompts {
    fn run(&self, ctx: Ctx, call: PromptCall) -> BoxFuture<'static, Result<Value, NodeError>> {
        let stubs = Arc::clone(&self.0);
        async move { Ok(stubs.play(ctx, "", Value::Object(call.variables)).await?.fields.into()) }.boxed()
    }
}

fn builtin() -> BTreeMap<String, Face> {
    let face = |reads: &[(&str, &str)], writes: &[(&str, &str)]| {
        let own = |fields: &[(&str, &str)]| {
            fields.iter().map(|(f, ty)| ((*f).to_owned(), (*ty).to_owned())).collect()
        };
        Face { reads: own(reads), writes: own(writes), effect: None }
    };
    BTreeMap::from([
        ("log".to_owned(), face(&[], &[("log", "string")])),
        ("add".to_owned(), face(&[("n", "int")], &[("n", "int")])),
        ("item".to_owned(), face(&[("x", "any")], &[("out", "any")])),
        ("read".to_owned(), face(&[("n", "int")], &[("log", "string")])),
        ("none".to_owned(), Face::default()),
    ])
}

/// The tasks of a case, and what its graph may name.
pub(super) fn registry(setting: &Setting, stubs: &Arc<Stubs>) -> (Registry, Catalog) {
    let mut registry = Registry::new();
    let mut faces = builtin();
    faces.extend(setting.task.clone());
    for name in faces.keys() {
        let (stubs, task) = (Arc::clone(stubs), name.clone());
        registry.task(name, "A stub", move |ctx: Ctx, input: Value| {
            let (stubs, task) = (Arc::clone(&stubs), task.clone());
            async move { stubs.play(ctx, &task, input).await }
        });
    }
    registry
        .reducer("longest", |held, write| match (held.and_then(Value::as_str), write.as_str()) {
            (Some(held), Some(new)) if held.len() >= new.len() => Ok(json!(held)),
            _ => Ok(write),
        })
        .reducer("refuses", |_, _| Err("not today".to_owned()))
        .reducer("panics", |_, _| panic!("lost my head"));
    let mut catalog = registry.catalog();
    for (name, face) in faces {
        let fields = |fields: BTreeMap<String, String>| {
            fields.into_iter().map(|(name, ty)| {
                let ty = Type::parse(&ty).unwrap_or_else(|| panic!("`{ty}` is no type"));
                Field { name, required: !matches!(ty, Type::Optional(_)), ty }
            })
        };
        let effect = match face.effect.as_deref() {
            None => Effect::default(),
            Some(name) => Effect::ALL.into_iter().find(|effect| effect.as_str() == name).unwrap(),
        };
        let signature = TaskSignature {
            description: "A stub".to_owned(),
            inputs: fields(face.reads).collect(),
            outputs: fields(face.writes).collect(),
            effect,
        };
        catalog.tasks.insert(name, signature);
    }
    let variables = ["n".to_owned()].into();
    catalog.prompts.insert("ask".to_owned(), PromptInfo { variables, ..PromptInfo::default() });
    catalog.roles.insert("judge".to_owned());
    catalog.types.insert("Answer".to_owned(), answer_type());
    (registry, catalog)
}

fn answer_type() -> TypeInfo {
    let field =
        |name: &str, ty: &str| Field { name: name.to_owned(), ty: Type::parse(ty).unwrap(), required: true };
    TypeInfo {
        fields: vec![field("yes", "bool"), field("text", "string"), field("kind", "Kind")],
        schema: json!({
            "type": "object",
            "properties": {
                "yes": { "type": "boolean" },
                "text": { "type": "string" },
                "kind": { "enum": ["good", "bad"] },
            },
            "required": ["yes", "text", "kind"],
        }),
    }
}

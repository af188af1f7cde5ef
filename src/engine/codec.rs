//! Writes and reads the bodies of log entries and snapshots, secrets sealed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{
    BodyIn, BodyOut, GateIn, GateJson, NextIn, NextOut, SnapshotOut, WaitIn, WaitJson, WriteIn,
};
use super::meter::Usage;
use super::output::{Write, Writes};
use super::position::{OpenGate, Position, Ready, Waiting};
use super::task::{Finished, Place, Route};
use super::{EngineErrorKind, Failure, GateAnswer, Keys};
use crate::graph::{ChannelIdx, Graph, NodeIdx};
use crate::id::RunId;

/// Key of a sealed value.
const SEALED: &str = "$sealed";

/// What stands for a secret where people look.
pub(crate) const MASK: &str = "***";

/// Writes and reads the values of one run.
#[derive(Clone, Copy)]
pub(crate) struct Codec<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) run: RunId,
    pub(crate) keys: Option<&'a Keys>,
}

/// Writes as `[["channel", value], …]`; an overwrite has a third element.
struct WritesJson<'a>(Codec<'a>, &'a [Write]);

impl Serialize for WritesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(codec, writes) = self;
        let mut list = serializer.serialize_seq(None)?;
        for write in *writes {
            let channel = codec.graph.channel(write.channel);
            if !channel.persist {
                continue;
            }
            let value = codec.out(write.channel, &write.value).map_err(serde::ser::Error::custom)?;
            if write.overwrite {
                list.serialize_element(&(&channel.name, &value, true))?;
            } else {
                list.serialize_element(&(&channel.name, &value))?;
            }
        }
        list.end()
    }
}

/// A route as it is stored: nodes to go to, and inputs by node.
type RouteOut<'v> = (Option<Vec<&'v str>>, Vec<(&'v str, Cow<'v, Value>)>);

/// What closes a superstep.
pub(crate) struct Closing<'a> {
    /// Its only task, whose writes stand in this entry.
    pub(crate) only: Option<&'a OnlyTask>,
    /// The answer that it takes, for a gate.
    pub(crate) answer: Option<&'a GateAnswer>,
    /// The nodes it closes, where others are still under way.
    pub(crate) of: Option<&'a [NodeIdx]>,
    pub(crate) elapsed: Option<Duration>,
}

/// The only task of a superstep, as its entry records it.
pub(crate) struct OnlyTask {
    pub(crate) place: Place,
    pub(crate) writes: Box<RawValue>,
    pub(crate) attempts: u32,
    pub(crate) cached: bool,
    pub(crate) usage: Usage,
    pub(crate) failure: Option<Box<Failure>>,
    pub(crate) route: Option<Box<Route>>,
}

impl<'a> Codec<'a> {
    /// A channel's value as it is stored.
    fn out<'v>(&self, channel: ChannelIdx, value: &'v Value) -> Result<Cow<'v, Value>, String> {
        let channel = self.graph.channel(channel);
        if channel.secret {
            self.seal(&channel.name, value).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(value))
        }
    }

    /// A stored value as the channel holds it. Without the key a secret stays a mask.
    pub(crate) fn value_back(&self, channel: ChannelIdx, value: Value) -> Result<Value, String> {
        let channel = self.graph.channel(channel);
        if channel.secret { self.open(&channel.name, &value) } else { Ok(value) }
    }

    fn seal(&self, what: &str, value: &Value) -> Result<Value, String> {
        let keys = self.keys.ok_or("there is no key to seal it with")?;
        let sealed = keys
            .seal(&self.context(what), value.to_string().as_bytes())
            .map_err(|error| error.to_string())?;
        Ok(Value::Object([(SEALED.to_owned(), Value::String(sealed))].into_iter().collect()))
    }

    fn open(&self, what: &str, value: &Value) -> Result<Value, String> {
        let Some(sealed) = value.get(SEALED).and_then(Value::as_str) else {
            return Err(format!("`{what}` is not sealed"));
        };
        let Some(keys) = self.keys else { return Ok(Value::String(MASK.to_owned())) };
        let opened = keys.open(&self.context(what), sealed).map_err(|error| format!("`{what}`: {error}"))?;
        serde_json::from_slice(&opened).map_err(|error| format!("`{what}`: {error}"))
    }

    fn context(&self, what: &str) -> String {
        format!("{}/{what}", self.run)
    }

    /// Whether inputs that are sent may hold secrets.
    fn has_secrets(&self) -> bool {
        self.graph.channels.iter().any(|channel| channel.secret)
    }

    fn sent<'v>(&self, input: &'v Value) -> Result<Cow<'v, Value>, EngineErrorKind> {
        if self.has_secrets() {
            self.seal("sent", input).map(Cow::Owned).map_err(unwritable)
        } else {
            Ok(Cow::Borrowed(input))
        }
    }

    fn sent_back(&self, input: Value) -> Result<Value, String> {
        if self.has_secrets() { self.open("sent", &input) } else { Ok(input) }
    }

    /// A run's input with its secrets sealed.
    pub(crate) fn input(
        &self,
        mut input: serde_json::Map<String, Value>,
    ) -> Result<serde_json::Map<String, Value>, EngineErrorKind> {
        for channel in self.graph.channels.iter().filter(|channel| channel.secret) {
            if let Some(value) = input.get_mut(&channel.name) {
                *value = self.seal(&channel.name, value).map_err(unwritable)?;
            }
        }
        input.retain(|name, _| {
            self.graph.channels.iter().all(|channel| channel.persist || channel.name != *name)
        });
        Ok(input)
    }

    /// A run's stored input, its secrets opened.
    pub(crate) fn input_back(
        &self,
        mut input: serde_json::Map<String, Value>,
    ) -> Result<serde_json::Map<String, Value>, String> {
        for channel in self.graph.channels.iter().filter(|channel| channel.secret) {
            if let Some(value) = input.get_mut(&channel.name) {
                *value = self.open(&channel.name, value)?;
            }
        }
        Ok(input)
    }

    /// What a task wrote, as JSON, before the merge takes the values.
    pub(crate) fn writes(&self, writes: &[Write]) -> Result<Box<RawValue>, EngineErrorKind> {
        serde_json::value::to_raw_value(&WritesJson(*self, writes))
            .map_err(|error| unwritable(error.to_string()))
    }

    /// Writes as they are stored.
    pub(crate) fn writes_back(&self, writes: Vec<WriteIn>) -> Result<Writes, String> {
        writes
            .into_iter()
            .map(|write| {
                let (name, value, overwrite) = match write {
                    WriteIn::Plain(name, value) => (name, value, false),
                    WriteIn::Overwrite(name, value, overwrite) => (name, value, overwrite),
                };
                let channel =
                    self.graph.channel_named(&name).ok_or_else(|| format!("no channel `{name}`"))?;
                Ok(Write { channel, value: self.value_back(channel, value)?, overwrite })
            })
            .collect()
    }

    /// The body of a finished task's entry.
    pub(crate) fn task(&self, finished: &Finished) -> Result<String, EngineErrorKind> {
        let writes = self.writes(&finished.writes)?;
        let (goto, sends) = self.route(finished.route.as_deref())?;
        let body = BodyOut {
            writes: Some(&writes),
            attempts: Some(finished.attempts).filter(|attempts| *attempts != 1),
            cached: finished.cached,
            usage: usage(finished.usage),
            failure: finished.failure.as_deref(),
            goto,
            sends,
            ..BodyOut::default()
        };
        json(&body)
    }

    /// Where a task's function wants to go, and what it sends.
    fn route<'v>(&'v self, route: Option<&'v Route>) -> Result<RouteOut<'v>, EngineErrorKind> {
        let Some(route) = route else { return Ok((None, Vec::new())) };
        let goto = route.goto.as_ref().map(|nodes| self.names(nodes));
        let sends = route
            .sends
            .iter()
            .map(|(node, input)| Ok((self.name(*node), self.sent(input)?)))
            .collect::<Result<_, EngineErrorKind>>()?;
        Ok((goto, sends))
    }

    /// The body of the entry of a failure that stopped the run.
    pub(crate) fn failed(failure: &Failure, used: Usage) -> Result<String, EngineErrorKind> {
        json(&BodyOut { usage: usage(used), failure: Some(failure), ..BodyOut::default() })
    }

    /// The body of the entry that closes a superstep; `at` is the position after it.
    pub(crate) fn step(&self, closing: &Closing<'_>, at: &Position) -> Result<String, EngineErrorKind> {
        let only = closing.only;
        let (goto, sends) = self.route(only.and_then(|only| only.route.as_deref()))?;
        let body = BodyOut {
            goto,
            sends,
            writes: only.map(|only| &*only.writes),
            attempts: only.map(|only| only.attempts).filter(|attempts| *attempts != 1),
            cached: only.is_some_and(|only| only.cached),
            usage: only.and_then(|only| usage(only.usage)),
            failure: only.and_then(|only| only.failure.as_deref()),
            answer: closing.answer,
            of: closing.of.map(|nodes| nodes.iter().map(|node| self.name(*node)).collect()),
            next: Some(self.next(&at.frontier, at.step.saturating_add(1))?),
            wait: self.wait(&at.waiting),
            gates: self.gates(&at.gates),
            ms: closing.elapsed.map(millis),
        };
        json(&body)
    }

    /// A position as a snapshot keeps it. `step` is the superstep that comes next.
    pub(crate) fn snapshot(
        &self,
        at: &Position,
        step: u32,
        elapsed: Duration,
    ) -> Result<String, EngineErrorKind> {
        let state = at
            .state
            .iter(self.graph)
            .filter(|(channel, _)| self.graph.channel(*channel).persist)
            .map(|(channel, value)| {
                Ok((self.graph.channel(channel).name.as_str(), self.out(channel, value).map_err(unwritable)?))
            })
            .collect::<Result<_, EngineErrorKind>>()?;
        let limited = self.graph.nodes.iter().any(|node| node.max_visits.is_some());
        let visits = at.visits.iter().enumerate().filter(|(_, visits)| limited && **visits > 0);
        let used_by = at.used.nodes.iter().enumerate().filter(|(_, usage)| !usage.is_nothing());
        let snapshot = SnapshotOut {
            step,
            next: self.next(&at.frontier, step)?,
            ms: millis(elapsed),
            state,
            wait: self.wait(&at.waiting),
            gates: self.gates(&at.gates),
            visits: visits.map(|(node, visits)| (self.name(NodeIdx(node)), *visits)).collect(),
            failures: at.failures.iter().map(|(node, failure)| (self.name(*node), failure)).collect(),
            used: at.used.run,
            used_by: used_by.map(|(node, usage)| (self.name(NodeIdx(node)), *usage)).collect(),
        };
        json(&snapshot)
    }

    fn name(&self, node: NodeIdx) -> &'a str {
        self.graph.nodes.get(node.0).map_or("", |node| node.name.as_str())
    }

    fn names(&self, nodes: &[NodeIdx]) -> Vec<&'a str> {
        nodes.iter().map(|node| self.name(*node)).collect()
    }

    fn next<'v>(&'v self, frontier: &'v [Ready], born: u32) -> Result<Vec<NextOut<'v>>, EngineErrorKind> {
        frontier
            .iter()
            .map(|ready| {
                let name = self.name(ready.node);
                let is_plain = ready.plain
                    && ready.born == born
                    && ready.sends.is_empty()
                    && ready.absorbed.is_empty()
                    && ready.fault.is_none();
                if is_plain {
                    return Ok(NextOut::Name(name));
                }
                Ok(NextOut::Full {
                    n: name,
                    b: ready.born,
                    p: ready.plain,
                    s: ready.sends.iter().map(|input| self.sent(input)).collect::<Result<_, _>>()?,
                    x: self.names(&ready.absorbed),
                    f: ready.fault.as_ref(),
                })
            })
            .collect()
    }

    fn wait(&self, waiting: &[Waiting]) -> Vec<WaitJson<'a>> {
        let one = |waiting: &Waiting| WaitJson {
            n: self.name(waiting.node),
            arrived: self.names(&waiting.arrived),
            since_ms: waiting.since_ms,
            x: self.names(&waiting.absorbed),
        };
        waiting.iter().map(one).collect()
    }

    fn gates(&self, gates: &[OpenGate]) -> Vec<GateJson<'a>> {
        let one = |gate: &OpenGate| GateJson {
            n: self.name(gate.node),
            b: gate.born,
            since_ms: gate.since_ms,
            x: self.names(&gate.absorbed),
        };
        gates.iter().map(one).collect()
    }

    /// The node of a stored name.
    pub(crate) fn node(&self, name: &str) -> Result<NodeIdx, String> {
        self.graph.node_named(name).ok_or_else(|| format!("no node `{name}`"))
    }

    pub(crate) fn nodes<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<NodeIdx>, String> {
        names.iter().map(|name| self.node(name.as_ref())).collect()
    }

    pub(crate) fn next_back(&self, next: Vec<NextIn>, born: u32) -> Result<Vec<Ready>, String> {
        next.into_iter()
            .map(|next| match next {
                NextIn::Name(name) => Ok(Ready::plain(self.node(&name)?, born)),
                NextIn::Full { n, b, p, s, x, f } => Ok(Ready {
                    node: self.node(&n)?,
                    born: b,
                    plain: p,
                    sends: s
                        .into_iter()
                        .map(|input| self.sent_back(input).map(Arc::new))
                        .collect::<Result<_, _>>()?,
                    absorbed: self.nodes(&x)?,
                    fault: f,
                }),
            })
            .collect()
    }

    pub(crate) fn wait_back(&self, waiting: Vec<WaitIn>) -> Result<Vec<Waiting>, String> {
        waiting
            .into_iter()
            .map(|one| {
                Ok(Waiting {
                    node: self.node(&one.n)?,
                    arrived: self.nodes(&one.arrived)?,
                    since_ms: one.since_ms,
                    absorbed: self.nodes(&one.x)?,
                })
            })
            .collect()
    }

    pub(crate) fn gates_back(&self, gates: Vec<GateIn>) -> Result<Vec<OpenGate>, String> {
        gates
            .into_iter()
            .map(|one| {
                Ok(OpenGate {
                    node: self.node(&one.n)?,
                    born: one.b,
                    since_ms: one.since_ms,
                    absorbed: self.nodes(&one.x)?,
                })
            })
            .collect()
    }

    /// What a stored entry says of a task.
    pub(crate) fn finished(&self, body: BodyIn) -> Result<Finished, String> {
        let route = Route {
            goto: body.goto.map(|names| self.nodes(&names)).transpose()?,
            sends: body
                .sends
                .into_iter()
                .map(|(name, input)| Ok::<_, String>((self.node(&name)?, self.sent_back(input)?)))
                .collect::<Result<_, _>>()?,
        };
        Ok(Finished {
            attempts: body.attempts,
            writes: self.writes_back(body.writes)?,
            route: Some(route).filter(|route| !route.is_nothing()).map(Box::new),
            usage: usage_back(body.usage),
            failure: body.failure.map(Box::new),
            cached: body.cached,
        })
    }

    /// The value that stands in a view: secrets masked.
    pub(crate) fn shown(&self, name: &str, value: Value) -> Value {
        let secret = self.graph.channels.iter().any(|channel| channel.secret && channel.name == name);
        if secret || value.get(SEALED).is_some() { Value::String(MASK.to_owned()) } else { value }
    }
}

fn usage(usage: Usage) -> Option<[u64; 4]> {
    (!usage.is_nothing()).then_some([usage.tokens, usage.micro_usd, usage.ms, usage.tasks])
}

pub(crate) const fn usage_back([tokens, micro_usd, ms, tasks]: [u64; 4]) -> Usage {
    Usage { tokens, micro_usd, ms, tasks }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn json<T: Serialize>(body: &T) -> Result<String, EngineErrorKind> {
    serde_json::to_string(body).map_err(|error| unwritable(error.to_string()))
}

fn unwritable(message: String) -> EngineErrorKind {
    EngineErrorKind::Log { seq: u32::MAX, message }
}

/// Values that no view shows.
pub(crate) fn is_sealed(value: &Value) -> bool {
    value.get(SEALED).is_some_and(Value::is_string)
}

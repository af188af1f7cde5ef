//! What the JSON of log entries and snapshots looks like: short keys, and nothing said where there is nothing to say.
//!
//! An entry of a version that did not know a key is read as if it said nothing there.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::meter::Usage;
use super::{ErrorClass, Failure, GateAnswer};

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum WriteIn {
    Plain(String, Value),
    Overwrite(String, Value, bool),
}

#[derive(Default, Serialize)]
pub(crate) struct BodyOut<'a> {
    #[serde(rename = "w", skip_serializing_if = "Option::is_none")]
    pub(crate) writes: Option<&'a RawValue>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    pub(crate) attempts: Option<u32>,
    #[serde(rename = "c", skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cached: bool,
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<[u64; 4]>,
    #[serde(rename = "e", skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<&'a Failure>,
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    pub(crate) goto: Option<Vec<&'a str>>,
    #[serde(rename = "s", skip_serializing_if = "Vec::is_empty")]
    pub(crate) sends: Vec<(&'a str, Cow<'a, Value>)>,
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<&'a GateAnswer>,
    /// Nodes whose tasks this superstep closes, where others are still under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) of: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<Vec<NextOut<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) wait: Vec<WaitJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) gates: Vec<GateJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ms: Option<u64>,
}

#[derive(Deserialize)]
pub(crate) struct BodyIn {
    #[serde(rename = "w", default)]
    pub(crate) writes: Vec<WriteIn>,
    #[serde(rename = "n", default = "one")]
    pub(crate) attempts: u32,
    #[serde(rename = "c", default)]
    pub(crate) cached: bool,
    #[serde(rename = "u", default)]
    pub(crate) usage: [u64; 4],
    #[serde(rename = "e", default)]
    pub(crate) failure: Option<Failure>,
    #[serde(rename = "g", default)]
    pub(crate) goto: Option<Vec<String>>,
    #[serde(rename = "s", default)]
    pub(crate) sends: Vec<(String, Value)>,
    #[serde(rename = "a", default)]
    pub(crate) answer: Option<GateAnswer>,
    #[serde(default)]
    pub(crate) of: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) next: Vec<NextIn>,
    #[serde(default)]
    pub(crate) wait: Vec<WaitIn>,
    #[serde(default)]
    pub(crate) gates: Vec<GateIn>,
    #[serde(default)]
    pub(crate) ms: u64,
}

const fn one() -> u32 {
    1
}

/// A node of the frontier: just its name where there is nothing more to say.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum NextOut<'a> {
    Name(&'a str),
    Full {
        n: &'a str,
        b: u32,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        p: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        s: Vec<Cow<'a, Value>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        x: Vec<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        f: Option<&'a (ErrorClass, String)>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum NextIn {
    Name(String),
    Full {
        n: String,
        b: u32,
        #[serde(default)]
        p: bool,
        #[serde(default)]
        s: Vec<Value>,
        #[serde(default)]
        x: Vec<String>,
        #[serde(default)]
        f: Option<(ErrorClass, String)>,
    },
}

impl NextIn {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Full { n: name, .. } => name,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct WaitJson<'a> {
    pub(crate) n: &'a str,
    #[serde(rename = "from")]
    pub(crate) arrived: Vec<&'a str>,
    #[serde(rename = "t")]
    pub(crate) since_ms: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) x: Vec<&'a str>,
}

#[derive(Deserialize)]
pub(crate) struct WaitIn {
    pub(crate) n: String,
    #[serde(rename = "from")]
    pub(crate) arrived: Vec<String>,
    #[serde(rename = "t")]
    pub(crate) since_ms: i64,
    #[serde(default)]
    pub(crate) x: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct GateJson<'a> {
    pub(crate) n: &'a str,
    pub(crate) b: u32,
    #[serde(rename = "t")]
    pub(crate) since_ms: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) x: Vec<&'a str>,
}

#[derive(Deserialize)]
pub(crate) struct GateIn {
    pub(crate) n: String,
    pub(crate) b: u32,
    #[serde(rename = "t")]
    pub(crate) since_ms: i64,
    #[serde(default)]
    pub(crate) x: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct SnapshotOut<'a> {
    pub(crate) step: u32,
    pub(crate) next: Vec<NextOut<'a>>,
    pub(crate) ms: u64,
    pub(crate) state: BTreeMap<&'a str, Cow<'a, Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) wait: Vec<WaitJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) gates: Vec<GateJson<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) visits: BTreeMap<&'a str, u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) failures: BTreeMap<&'a str, &'a (Failure, u32)>,
    #[serde(skip_serializing_if = "Usage::is_nothing")]
    pub(crate) used: Usage,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) used_by: BTreeMap<&'a str, Usage>,
}

#[derive(Deserialize)]
pub(crate) struct SnapshotIn {
    pub(crate) step: u32,
    pub(crate) next: Vec<NextIn>,
    pub(crate) ms: u64,
    pub(crate) state: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) wait: Vec<WaitIn>,
    #[serde(default)]
    pub(crate) gates: Vec<GateIn>,
    #[serde(default)]
    pub(crate) visits: BTreeMap<String, u32>,
    #[serde(default)]
    pub(crate) failures: BTreeMap<String, (Failure, u32)>,
    #[serde(default)]
    pub(crate) used: Usage,
    #[serde(default)]
    pub(crate) used_by: BTreeMap<String, Usage>,
}

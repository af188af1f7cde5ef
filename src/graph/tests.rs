//! The file format and its faults, from the outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Stream {
    id: String,
    turns: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Vote {
    severity: Severity,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Severity {
    Low,
    High,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct LeadAnswer {
    case: String,
    wanted: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct AssignIn {
    streams: Vec<Stream>,
}
#[derive(Serialize, Deserialize, JsonSchema)]
struct AssignOut {
    jobs: Vec<Stream>,
}
#[derive(Serialize, Deserialize, JsonSchema)]
struct ScanIn {
    stream: Stream,
    lens: Option<String>,
    #[serde(default)]
    depth: u32,
}
#[derive(Serialize, Deserialize, JsonSchema)]
struct ScanOut {
    votes: Vec<Vote>,
    cost: f64,
}
#[derive(Serialize, Deserialize, JsonSchema)]
struct JudgeIn {
    votes: Vec<Vote>,
    round: i64,
}
#[derive(Serialize, Deserialize, JsonSchema)]
struct JudgeOut {
    round: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    draft: Option<String>,
}

/// What the files of these tests may name.
pub(super) fn catalog() -> Catalog {
    let prompt = |variables: &[&str]| PromptInfo {
        variables: variables.iter().map(|name| (*name).to_owned()).collect(),
        hash: "abc".into(),
        origin: "built in".into(),
    };
    Catalog {
        tasks: BTreeMap::from([
            ("patrol.assign".into(), TaskSignature::of::<AssignIn, AssignOut>("shares out streams")),
            ("patrol.scan".into(), TaskSignature::of::<ScanIn, ScanOut>("scans a stream")),
            ("patrol.judge".into(), TaskSignature::of::<JudgeIn, JudgeOut>("weighs votes")),
            ("noop".into(), TaskSignature::of::<(), ()>("does nothing")),
        ]),
        types: BTreeMap::from([
            ("Stream".into(), TypeInfo::of::<Stream>()),
            ("Vote".into(), TypeInfo::of::<Vote>()),
            ("Severity".into(), TypeInfo::of::<Severity>()),
            ("LeadAnswer".into(), TypeInfo::of::<LeadAnswer>()),
        ]),
        prompts: BTreeMap::from([("investigate/lead".into(), prompt(&["votes", "nonce_hint"]))]),
        roles: BTreeSet::from(["patrol".into(), "investigator".into()]),
    }
}

/// A file with everything in it.
pub(super) const FULL: &str = r#"
[graph]
name = "patrol"
version = 3
description = "Looks at everything"
start = "assign"
max_steps = 40
deadline = "30m"
durability = "power"

[defaults]
timeout = "60s"
retry = { attempts = 2, on = ["transient"] }

[state]
streams = { type = "Stream[]", input = true }
jobs = { type = "Stream[]" }
votes = { type = "Vote[]", reducer = "append", default = [{ severity = "LOW" }] }
cost = { type = "float", reducer = "sum", default = 0 }
parallel = { type = "int", default = 8 }
case = { type = "string?" }
asked = { type = "string?" }

[state.round]
type = "int"
reducer = "sum"
default = 0

[state.draft]
type = "string?"

[node.assign]
task = "patrol.assign"
next = "scan"

[node.scan]
task = "patrol.scan"
description = "Reads each stream"
each = { over = "jobs", as = "stream", max_parallel = "parallel" }
with = { lens = "pii", depth = 2 }
retry = { attempts = 3, backoff = "1s", on = ["rate_limit", "timeout"] }
next = ["judge", "lead"]

[node.judge]
task = "patrol.judge"
timeout = "5s"
next = [{ if = "round < 3 and votes | length > 0", to = "scan" }, { else = "end" }]

[node.lead]
prompt = "investigate/lead"
model = "investigator"
output = "LeadAnswer"
reads = { nonce_hint = "draft" }
writes = { wanted = "asked" }
"#;

/// All faults of a text as `CODE line:column message (label) help`.
pub(super) fn faults(source: &str) -> Vec<String> {
    match check("t.toml", source, &catalog()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .reports()
            .iter()
            .map(|f| format!("{} {}:{} {} [{}] -> {}", f.code, f.line, f.column, f.message, f.label, f.help))
            .collect(),
    }
}

/// The full file with one piece replaced.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(FULL.matches(from).count(), 1, "{from}");
    FULL.replace(from, to)
}

/// Codes of the faults that a change to the full file brings.
fn codes_after(from: &str, to: &str) -> Vec<String> {
    faults(&changed(from, to)).iter().map(|fault| fault[..4].to_owned()).collect()
}

#[test]
fn a_full_file_becomes_a_graph() {
    let graph = check("patrol.toml", FULL, &catalog()).unwrap();
    assert_eq!((graph.name.as_str(), graph.version, graph.max_steps), ("patrol", 3, 40));
    assert_eq!(graph.deadline, Some(Duration::from_mins(30)));
    assert_eq!(graph.durability, Durability::Power);
    assert_eq!(graph.start, NodeIdx(0));
    let names: Vec<&str> = graph.channels.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["streams", "jobs", "votes", "cost", "parallel", "case", "asked", "round", "draft"]);
    let nodes: Vec<&str> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(nodes, ["assign", "scan", "judge", "lead"]);
    let scan = graph.node(NodeIdx(1));
    let each = scan.each.as_ref().unwrap();
    assert_eq!((each.over, each.item.as_str()), (ChannelIdx(1), "stream"));
    assert_eq!(each.max_parallel, Parallel::Channel(ChannelIdx(4)));
    assert!(scan.reads.is_empty());
    assert_eq!(scan.writes, [("votes".to_owned(), ChannelIdx(2)), ("cost".to_owned(), ChannelIdx(3))]);
    assert_eq!(scan.with.get("depth"), Some(&json!(2)));
    assert_eq!(scan.timeout, Some(Duration::from_mins(1)));
    assert_eq!(scan.retry.attempts, 3);
    assert_eq!(scan.retry.on, ["rate_limit", "timeout"]);
    assert_eq!(scan.next.len(), 1);
    assert_eq!(scan.next[0].to, [NodeIdx(2), NodeIdx(3)]);
    let judge = graph.node(NodeIdx(2));
    assert_eq!(judge.retry.attempts, 2);
    assert_eq!(judge.next[0].when.as_ref().unwrap().source(), "round < 3 and votes | length > 0");
    assert!(judge.next[1].when.is_none() && judge.next[1].to.is_empty());
    let lead = graph.node(NodeIdx(3));
    assert_eq!(lead.reads, [("nonce_hint".to_owned(), ChannelIdx(8)), ("votes".to_owned(), ChannelIdx(2))]);
    assert!(lead.next.is_empty());
    assert_eq!(graph.hash.len(), 64);
}

#[test]
fn the_hash_knows_text_and_prompts() {
    let first = check("a", FULL, &catalog()).unwrap().hash;
    assert_eq!(first, check("b", FULL, &catalog()).unwrap().hash);
    let mut other = catalog();
    other.prompts.get_mut("investigate/lead").unwrap().hash = "def".into();
    assert_ne!(first, check("a", FULL, &other).unwrap().hash);
    assert_ne!(first, check("a", &format!("{FULL}\n#"), &catalog()).unwrap().hash);
}

#[test]
fn a_small_file_has_defaults() {
    let source = "[graph]\nname='x'\nstart='a'\n[node.a]\ntask='noop'\n";
    let graph = check("x", source, &catalog()).unwrap();
    assert_eq!((graph.version, graph.max_steps, graph.deadline), (1, 100, None));
    assert_eq!((graph.durability, graph.nodes[0].retry.attempts), (Durability::Crash, 1));
}

//! The file format and its faults, from the outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

mod compare;
pub(super) mod keys;
mod laws;
mod safety;
mod shipped;
mod waits;

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
        ..Catalog::default()
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
case = { trust = "untrusted", type = "string?" }
asked = { trust = "untrusted", type = "string?" }

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
    faults(&changed(from, to)).iter().map(|fault| fault.chars().take(4).collect()).collect()
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

#[test]
fn every_single_fault_is_found_and_brings_no_other() {
    let mut wrong: Vec<String> = Vec::new();
    for (from, to, code) in [
        // syntax
        ("version = 3", "version = ", "G001"),
        ("name = \"patrol\"", "name = \"patrol", "G001"),
        ("start = \"assign\"", "start = \"assign\"\nstart = \"scan\"", "G001"),
        ("[node.judge]", "[node.judge]\ntask = \"noop\"\n[node.judge]", "G001 G001"),
        // keys and values
        ("max_steps = 40", "max_step = 40", "G002"),
        ("[defaults]", "[default]", "G002"),
        ("timeout = \"5s\"", "timeot = \"5s\"", "G002"),
        ("name = \"patrol\"\n", "", "G003"),
        ("start = \"assign\"\n", "", "G003"),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", default = 1 }",
            "G003",
        ),
        ("model = \"investigator\"\n", "", "G003"),
        ("output = \"LeadAnswer\"\nreads", "reads", "G003"),
        (", as = \"stream\"", "", "G003"),
        ("attempts = 3, ", "", "G003"),
        ("version = 3", "version = \"3\"", "G004"),
        ("jobs = { type = \"Stream[]\" }", "jobs = \"Stream[]\"", "G004"),
        ("timeout = \"5s\"", "timeout = 5", "G004"),
        ("next = \"scan\"", "next = 7", "G004"),
        ("version = 3", "version = 0", "G005"),
        ("max_steps = 40", "max_steps = 99999999999999999999999999999999999999999999", "G005"),
        ("max_parallel = \"parallel\"", "max_parallel = 0", "G005"),
        ("attempts = 3", "attempts = -1", "G005"),
        ("default = 8", "default = nan", "G005"),
        ("deadline = \"30m\"", "deadline = \"30 minutes\"", "G006"),
        ("timeout = \"5s\"", "timeout = \"0s\"", "G006"),
        ("backoff = \"1s\"", "backoff = \"1s\", max_backoff = \"500ms\"", "G006"),
        ("cost = { ", "and = { ", "G007 G026"),
        ("name = \"patrol\"", "name = \"pa trol\"", "G007"),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"string?\" }\n\"a-b\" = { type = \"int\" }",
            "G007",
        ),
        ("task = \"patrol.judge\"", "task = \"patrol.judge\"\nmodel = \"patrol\"", "G008"),
        // kinds
        ("task = \"patrol.judge\"\n", "", "G009"),
        ("task = \"patrol.judge\"", "task = \"patrol.judge\"\nprompt = \"investigate/lead\"", "G009"),
        ("task = \"patrol.judge\"", "task = \"patrol.jugde\"", "G010"),
        ("prompt = \"investigate/lead\"", "prompt = \"investigate/led\"", "G011"),
        ("model = \"investigator\"", "model = \"investgator\"", "G012"),
        ("output = \"LeadAnswer\"", "output = \"LeedAnswer\"", "G013"),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"str?\" }",
            "G013",
        ),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"Strang?\" }",
            "G013",
        ),
        ("reducer = \"append\"", "reducer = \"apend\"", "G014"),
        ("\"rate_limit\", \"timeout\"", "\"rate_limt\", \"timeout\"", "G015"),
        ("on = [\"transient\"]", "on = []", "G015"),
        ("durability = \"power\"", "durability = \"powr\"", "G016"),
        ("start = \"assign\"", "start = \"asign\"", "G017"),
        ("next = \"scan\"", "next = \"scn\"", "G017"),
        ("over = \"jobs\"", "over = \"jbos\"", "G018"),
        ("nonce_hint = \"draft\"", "nonce_hint = \"drat\"", "G018"),
        ("wanted = \"asked\"", "wanted = \"aksed\"", "G018"),
        ("max_parallel = \"parallel\"", "max_parallel = \"paralel\"", "G018"),
        // types
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"string?\", reducer = \"sum\" }",
            "G019",
        ),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"string?\", reducer = \"merge\" }",
            "G019",
        ),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"string?\", reducer = \"append\" }",
            "G019",
        ),
        ("default = 8", "default = \"8\"", "G020"),
        ("severity = \"LOW\"", "severity = \"low\"", "G020"),
        ("depth = 2", "dept = 2", "G021"),
        ("nonce_hint = \"draft\"", "nonce_hint = \"draft\", x = \"draft\"", "G021"),
        ("wanted = \"asked\"", "wantd = \"asked\"", "G021"),
        ("streams = { type = \"Stream[]\", input = true }\n", "", "G022"),
        ("lens = \"pii\"", "stream = \"x\"", "G023 G039"),
        ("streams = { type = \"Stream[]\"", "streams = { type = \"Vote[]\"", "G024"),
        ("parallel = { type = \"int\"", "parallel = { type = \"float\"", "G024"),
        ("cost = { type = \"float\"", "cost = { type = \"int\"", "G025"),
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"int?\" }",
            "G025",
        ),
        ("wanted = \"asked\"", "wanted = \"asked\", case = \"votes\"", "G025 G052"),
        (
            "asked = { trust = \"untrusted\", type = \"string?\" }",
            "asked = { trust = \"untrusted\", type = \"string\" }",
            "G025",
        ),
        ("writes = { wanted = \"asked\" }\n", "", "G026"),
        // fan-out
        ("reducer = \"append\", ", "", "G027"),
        ("wanted = \"asked\"", "wanted = \"case\"", "G027"),
        ("over = \"jobs\"", "over = \"parallel\"", "G028"),
        ("over = \"jobs\"", "over = \"votes\"", "G029"),
        // edges
        ("[\"judge\", \"lead\"]", "[\"judge\", \"lead\", \"judge\"]", "G030"),
        ("[\"judge\", \"lead\"]", "[\"judge\", \"lead\", \"end\"]", "G030"),
        ("{ else = \"end\" }", "\"end\"", "G030"),
        (", { else = \"end\" }", "", "G031"),
        ("{ else = \"end\" }", "{ else = \"end\" }, { if = \"round == 1\", to = \"scan\" }", "G032"),
        ("round < 3", "round <", "G033"),
        ("| length", "| lenght", "G033"),
        ("round < 3", "round is devined", "G033"),
        ("round < 3", "ruond < 3", "G034"),
        ("round < 3", "range(3)", "G034"),
        ("reads = { nonce_hint = \"draft\" }\n", "", "G035"),
        ("[node.lead]", "[node.alone]\ntask = \"noop\"\n[node.lead]", "G036"),
        ("{ else = \"end\" }", "{ else = \"judge\" }", ""),
        ("input = true", "input = false", "G038"),
        ("lens = \"pii\"", "lens = 5", "G039"),
        ("output = \"LeadAnswer\"", "output = \"Severity\"", "G041"),
        // what is allowed
        (
            "case = { trust = \"untrusted\", type = \"string?\" }",
            "case = { trust = \"untrusted\", type = \"any\" }",
            "",
        ),
        ("writes = { wanted = \"asked\" }", "writes = { wanted = \"_\" }", ""),
        ("next = \"scan\"", "next = [{ else = \"scan\" }]", ""),
        ("reducer = \"append\"", "reducer = \"union\"", ""),
    ] {
        let found = codes_after(from, to).join(" ");
        if found != code {
            wrong.push(format!("{from} -> {to}: {code} wanted, {:#?}", faults(&changed(from, to))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A small graph: edges as `a: next` with next as TOML; all nodes do nothing.
fn edges(start: &str, nodes: &[(&str, &str)]) -> Vec<String> {
    let mut source = format!("[graph]\nname = 'x'\nstart = '{start}'\n");
    for (name, next) in nodes {
        source.extend(["[node.", name, "]\ntask = 'noop'\n"]);
        if !next.is_empty() {
            source.extend(["next = ", next, "\n"]);
        }
    }
    faults(&source)
}

#[test]
fn cycles_need_a_way_out() {
    let found = edges("a", &[("a", "'b'"), ("b", "'a'")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("G037 6:1 the nodes `a`, `b` only ever lead to each other"), "{found:?}");
    assert_eq!(edges("a", &[("a", "'a'")]).len(), 1);
    assert!(edges("a", &[("a", "[{ if = 'true', to = 'a' }, { else = 'end' }]")]).is_empty());
    assert!(edges("a", &[("a", "['b', 'a']"), ("b", "")]).is_empty());
}

/// Two nodes `x` and `y` that both write a `last` channel, in a graph of the given edges.
fn writers(nodes: &[(&str, &str)]) -> usize {
    let mut source =
        "[graph]\nname='g'\nstart='s'\n[state]\nwhere={type='string?'}\nround={type='int',default=0}\n\
        votes={type='Vote[]',default=[]}\n"
            .to_owned();
    for (name, next) in nodes {
        let task = match *name {
            "x" | "y" => "task='patrol.judge'\nwrites={round='_',draft='where'}",
            _ => "task='noop'",
        };
        source.extend(["[node.", name, "]\n", task, "\n"]);
        if !next.is_empty() {
            source.extend(["next=", next, "\n"]);
        }
    }
    let found = faults(&source);
    assert!(found.iter().all(|fault| fault.starts_with("G027")), "{found:#?}");
    found.len()
}

#[test]
fn parallel_writers_are_those_of_one_step() {
    // Siblings of one arm.
    assert_eq!(writers(&[("s", "['x','y']"), ("x", ""), ("y", "")]), 1);
    // Different arms never meet.
    let apart = "[{ if='round', to='x' }, { else='y' }]";
    assert_eq!(writers(&[("s", apart), ("x", ""), ("y", "")]), 0);
    // One after the other.
    assert_eq!(writers(&[("s", "'x'"), ("x", "'y'"), ("y", "")]), 0);
    // Branches of the same length meet, of different length do not.
    assert_eq!(writers(&[("s", "['a','b']"), ("a", "'x'"), ("b", "'y'"), ("x", ""), ("y", "")]), 1);
    assert_eq!(writers(&[("s", "['a','x']"), ("a", "'y'"), ("x", ""), ("y", "")]), 0);
    // A loop of one step beside a branch meets it at every length.
    let again = "[{ if='round', to='x' }, { else='end' }]";
    assert_eq!(writers(&[("s", "['a','x']"), ("a", "'y'"), ("x", again), ("y", "")]), 1);
    // Loops of two and of four steps that start one apart never meet.
    let back = "[{ if='round', to='a' }, { else='end' }]";
    let on = "[{ if='round', to='g' }, { else='end' }]";
    let mut nodes = vec![("s", "['a','c']"), ("a", "'x'"), ("x", back), ("c", "'d'"), ("d", "'y'")];
    nodes.extend([("y", "'f'"), ("f", on), ("g", "'d'")]);
    assert_eq!(writers(&nodes), 0);
    // One step less, and they do.
    nodes.pop();
    nodes.extend([("g", "'y'")]);
    assert_eq!(writers(&nodes), 1);
}

#[test]
fn one_run_finds_all_faults() {
    let source = include_str!("snapshots/many_faults.toml");
    let faults = check("graphs/many_faults.toml", source, &catalog()).unwrap_err();
    let codes: BTreeSet<&str> = faults.iter().map(|fault| fault.code).collect();
    assert!(codes.len() >= 14, "{codes:?}");
    for report in faults.reports() {
        assert!(report.line > 0 && report.column > 0);
        assert!(!report.label.is_empty() && !report.help.is_empty() && !report.message.is_empty());
        assert_eq!(report.file, "graphs/many_faults.toml");
    }
    insta::assert_snapshot!("many_faults", faults.render(false, 100));
    assert!(faults.render(true, 100).contains("\u{1b}["));
    assert!(!faults.render(false, 100).contains('\u{1b}'));
    insta::assert_json_snapshot!("many_faults_json", faults.reports().get(..2));
}

#[test]
fn syntax_errors_do_not_hide_the_rest() {
    let source = changed("version = 3", "version = ").replace("patrol.judge", "patrol.jugde");
    let found = faults(&source);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("G001 4:") && found[1].starts_with("G010"), "{found:#?}");
}

#[test]
fn odd_texts_are_faults_not_panics() {
    for source in [
        "",
        "\u{0}",
        "\u{feff}",
        "[",
        "graph = 1",
        "node = []",
        "state = 'x'",
        "[[node]]",
        "[node]\nx=1",
        "[graph]\nname=''\nstart=''",
        "[node.''.next]\n",
        "[[node.a.next]]\n[[node.a.next]]\nif=''",
        "graph={name='\u{202e}',start='\u{202e}'}",
        "[node.a]\nnext=[]\neach={}\nretry={}\nwith={}\nreads={}",
    ] {
        let faults = check("t", source, &catalog()).unwrap_err();
        assert!(!faults.render(false, 80).is_empty() && faults.count() > 0, "{source:?}");
    }
    let deep = format!(
        "[graph]\nname='x'\nstart='a'\n[node.a]\ntask='noop'\nwith={{x={}{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    assert!(check("t", &deep, &catalog()).is_err());
    let many = (0..600).map(|n| format!("[node.n{n}]\ntask='noop'\n")).collect::<Vec<_>>().concat();
    assert_eq!(faults(&format!("[graph]\nname='x'\nstart='n0'\n{many}")).len(), 1);
    assert_eq!(faults(&"#".repeat(300_000)).len(), 1);
    let deep_condition = "(".repeat(3000) + "1" + &")".repeat(3000);
    assert!(!edges("a", &[("a", &format!("[{{if='{deep_condition}',to='a'}},{{else='end'}}]"))]).is_empty());
}

mod law {
    use super::*;
    use proptest::prelude::*;

    fn mutated(source: &str, edits: &[(usize, usize, String)]) -> String {
        let mut text = source.to_owned();
        for (at, len, insert) in edits {
            let start = text.floor_char_boundary(at % (text.len() + 1));
            let end = text.ceil_char_boundary((start + len).min(text.len()));
            text.replace_range(start..end, insert);
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_makes_check_panic(
            edits in prop::collection::vec((0usize..4000, 0usize..40, "[\\[\\]{}=\"'a-z0-9.,\n |<äé\u{202e}-]{0,8}"), 1..8)
        ) {
            match check("t", &mutated(FULL, &edits), &catalog()) {
                Ok(graph) => prop_assert!(graph.start.0 < graph.nodes.len()),
                Err(faults) => {
                    prop_assert!(faults.count() > 0);
                    let text = faults.render(false, 80);
                    for report in faults.reports() {
                        prop_assert!(report.line > 0 && report.column > 0 && !report.help.is_empty());
                        prop_assert!(text.contains(report.code));
                    }
                }
            }
        }

        #[test]
        fn no_noise_makes_check_panic(source in "\\PC{0,200}") {
            prop_assert!(check("t", &source, &catalog()).is_err());
        }
    }
}

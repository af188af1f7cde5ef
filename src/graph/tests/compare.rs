//! Differences between two versions of a graph.

use super::keys::{EVERYTHING, everything};
use super::*;

fn graph(source: &str) -> Graph {
    check("t", source, &everything()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// What is different after some replacements, breaking changes with `!` and the reason.
fn after(edits: &[(&str, &str)]) -> Vec<String> {
    let mut source = EVERYTHING.to_owned();
    for (from, to) in edits {
        assert_eq!(source.matches(from).count(), 1, "{from}");
        source = source.replace(from, to);
    }
    let changes = compare(&graph(EVERYTHING), &graph(&source));
    changes
        .into_iter()
        .map(|change| match change.breaks {
            Some(why) => format!("! {} ({why})", change.what),
            None => change.what,
        })
        .collect()
}

#[test]
fn nothing_is_different_where_nothing_is() {
    assert!(after(&[]).is_empty());
    assert!(after(&[("# A graph file", "# The graph file")]).is_empty());
    let mut other = everything();
    other.prompts.get_mut("probe").unwrap().hash = "new".into();
    let changes = compare(&graph(EVERYTHING), &check("t", EVERYTHING, &other).unwrap());
    assert_eq!(changes.len(), 1);
    assert!(changes[0].what.contains("prompt") && changes[0].breaks.is_none());
}

#[test]
fn policies_are_shown_before_and_after() {
    let changes = after(&[
        ("deadline = \"2h\"", "deadline = \"90m\""),
        ("budget = { tokens = 200_000, usd = 0.50, wall = \"10m\", steps = 40 }", "budget = { usd = 1 }"),
        ("finally = \"tidy\"\n", ""),
        ("next = \"end\"", "next = \"tidy\""),
        ("max_items = 500", "max_items = 10"),
        ("timeout = { run = \"60s\", idle = \"10s\" }", "timeout = \"30s\""),
        ("prompt = \"probe\"", "prompt = \"probe\"\nmax_visits = 3"),
        ("tolerate = \"10%\"", "tolerate = 2"),
        ("cache = { key = \"depth\", ttl = \"1h\" }", "cache = { ttl = \"1h\" }"),
        ("again = [\"plan\"], ", ""),
        ("score < 10", "score < 9"),
        ("need = \"any\", timeout = \"30s\"", "need = \"any\", timeout = \"31s\""),
    ]);
    insta::assert_snapshot!(changes.join("\n"));
}

#[test]
fn runs_under_way_need_migrations() {
    let version = ("version = 3", "version = 4");
    let migrate = |text: &str| format!("drop = [\"unused\"]\n\n[[migrate]]\nfrom = 3\nto = 4\n{text}");
    // Channels.
    let renamed = [
        ("width    = { type", "breadth  = { type"),
        ("max_parallel = \"width\"", "max_parallel = \"breadth\""),
        ("default = { width = 3 }", "default = { breadth = 3 }"),
    ];
    let plain = after(&renamed);
    assert_eq!(plain.len(), 3, "{plain:?}");
    assert!(
        plain[0].starts_with("! channel width is gone") && plain[0].contains("with a higher `version`"),
        "{plain:?}"
    );
    let with = migrate("rename = { width = \"breadth\" }");
    let moved: Vec<(&str, &str)> =
        renamed.into_iter().chain([version, ("drop = [\"unused\"]", with.as_str())]).collect();
    let moved = after(&moved);
    assert!(
        moved.iter().all(|change| !change.starts_with('!'))
            && moved.contains(&"channel width is now breadth".to_owned()),
        "{moved:?}"
    );
    let retyped = after(&[("score    = { type = \"int\"", "score    = { type = \"int?\"")]);
    assert_eq!(retyped, ["channel score type: int? (was int)"]);
    let retyped = after(&[("consent  = { type = \"any?\"", "consent  = { type = \"{any}?\"")]);
    assert_eq!(retyped.len(), 1);
    let dropped = migrate("drop = [\"consent\"]");
    let gone = [("consent  = { type = \"any?\", output = true }\n", ""), ("answer = \"consent\"\n", "")];
    assert!(after(&gone)[0].starts_with("! channel consent is gone"));
    let gone: Vec<(&str, &str)> =
        gone.into_iter().chain([version, ("drop = [\"unused\"]", dropped.as_str())]).collect();
    assert!(after(&gone).iter().all(|change| !change.starts_with('!')));
    // What is not stored cannot be missed.
    let token = [
        (
            "token    = { type = \"string?\", secret = true, persist = false }\n",
            "tok = { type = \"string?\", default = '' }\n",
        ),
        ("{ secret = \"token\" }", "{ secret = \"tok\" }"),
    ];
    assert!(after(&token).iter().all(|change| !change.starts_with('!')), "{:?}", after(&token));
    // Inputs.
    let input = ("width    = {", "who = { type = \"string\", input = true }\nwidth    = {");
    assert!(
        after(&[input])[0].starts_with("! channel who is new: string (runs under way were not given `who`")
    );
    let given = migrate("default = { who = \"me\" }");
    let all = after(&[input, version, ("drop = [\"unused\"]", &given)]);
    assert!(all.iter().all(|change| !change.starts_with('!')), "{all:?}");
    // Nodes.
    let node = [
        ("[node.deep]", "[node.deeper]"),
        ("[\"ask\", \"deep\"]", "[\"ask\", \"deeper\"]"),
        ("{ else = \"deep\" }", "{ else = \"deeper\" }"),
    ];
    let lost = after(&node);
    assert!(
        lost.iter().any(|change| change.starts_with("! node deep is gone (a run that stands there")),
        "{lost:?}"
    );
    let named = migrate("nodes = { deep = \"deeper\" }");
    let all: Vec<(&str, &str)> =
        node.into_iter().chain([version, ("drop = [\"unused\"]", named.as_str())]).collect();
    let all = after(&all);
    assert!(
        all.iter().all(|change| !change.starts_with('!'))
            && all.contains(&"node deep is now deeper".to_owned()),
        "{all:?}"
    );
}

#[test]
fn a_gate_that_is_none_any_more_breaks_what_waits_at_it() {
    let mut new = graph(EVERYTHING);
    let ask = new.node_named("ask").unwrap();
    new.nodes[ask.0].kind = NodeKind::Task { task: "noop\u{1b}".into() };
    let changes = compare(&graph(EVERYTHING), &new);
    assert!(changes[0].breaks.as_ref().unwrap().contains("could not be answered"));
    assert!(!changes[0].what.contains('\u{1b}'));
    new.name = "other".into();
    assert!(compare(&graph(EVERYTHING), &new)[0].breaks.is_some());
}

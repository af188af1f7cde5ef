//! Joins, sends, branches that meet, channels that serve nothing.

use super::keys::said;

/// A graph of nodes that do nothing: name, `next` as TOML, further keys.
fn graph(start: &str, nodes: &[(&str, &str, &str)]) -> String {
    let mut source = format!("[graph]\nname = 'x'\nstart = '{start}'\n");
    for (name, next, more) in nodes {
        source.extend(["[node.", name, "]\n"]);
        if !more.contains("kind") {
            source.push_str("task = 'noop'\n");
        }
        source.extend([*more, "\n"]);
        if !next.is_empty() {
            source.extend(["next = ", next, "\n"]);
        }
    }
    source
}

fn codes(nodes: &[(&str, &str, &str)]) -> Vec<String> {
    said(&graph("s", nodes))
}

const NONE: &[String] = &[];
const CHOICE: &str = "[{ if = 'true', to = 'a' }, { else = 'b' }]";

#[test]
fn joins_can_fire() {
    let fork = |join: &str| {
        codes(&[
            ("s", "['a', 'b', 'c']", ""),
            ("a", "'j'", ""),
            ("b", "'j'", ""),
            ("c", "'j'", ""),
            ("j", "", join),
        ])
    };
    for join in ["join = 'all'", "join = 'any'", "join = '2 of 3'", "join = '3 of 3'", "join = ' 2  of 3 '"] {
        assert_eq!(fork(join), NONE, "{join}");
    }
    for (join, code) in [
        ("join = '2 of 4'", "G061"),
        ("join = '2 of 2'", "G061"),
        ("join = '4 of 3'", "G061"),
        ("join = '0 of 3'", "G061"),
        ("join = '2 from 3'", "G043"),
        ("join = '-1 of 3'", "G043"),
    ] {
        assert_eq!(fork(join), [code], "{join}");
    }
    // Of two arms of a choice one comes.
    let choice =
        |join: &str| codes(&[("s", CHOICE, ""), ("a", "'j'", ""), ("b", "'j'", ""), ("j", "", join)]);
    assert_eq!(choice("join = '2 of 2'"), ["G061"]);
    assert_eq!(choice("join = 'all'"), ["wG062"]);
    assert_eq!(codes(&[("s", "'j'", ""), ("j", "", "join = 'all'")]), ["wG062"]);
    assert_eq!(codes(&[("s", "'a'", "join = 'any'"), ("a", "", "")]), ["G061"]);
    // Branches of unequal length, one of which passes another join.
    let long = [
        ("s", "['a', 'b']", ""),
        ("a", "['c', 'd']", ""),
        ("c", "'k'", ""),
        ("d", "'k'", ""),
        ("k", "'j'", "join = 'all'"),
        ("b", "'j'", ""),
        ("j", "", "join = '2 of 2'"),
    ];
    assert_eq!(codes(&long), NONE);
    // A branch that waits at a gate, and one that comes by a failure.
    let gate = "kind = 'gate'\nask = '?'\noptions = { yes = 'j', no = 'end' }";
    assert_eq!(codes(&[("s", "['a', 'j']", ""), ("a", "", gate), ("j", "", "join = '2 of 2'")]), NONE);
    let fails = "on_error = { to = 'j' }";
    assert_eq!(
        codes(&[("s", "['a', 'b']", ""), ("a", "", fails), ("b", "'j'", ""), ("j", "", "join = 'all'")]),
        NONE
    );
}

#[test]
fn branches_of_unequal_length_are_joined() {
    let meet = |more: &str| codes(&[("s", "['a', 'j']", ""), ("a", "'j'", ""), ("j", "", more)]);
    assert_eq!(meet(""), ["wG063"]);
    assert_eq!(meet("join = 'all'"), NONE);
    assert_eq!(meet("defer = true"), NONE);
    let equal = [("s", "['a', 'b']", ""), ("a", "'j'", ""), ("b", "'j'", ""), ("j", "", "")];
    assert_eq!(codes(&equal), NONE);
    let cycle = "[{ if = 'true', to = 's' }, { else = 'end' }]";
    assert_eq!(codes(&[("s", "['a', 'b']", ""), ("a", cycle, ""), ("b", "", "")]), NONE, "a cycle is meant");
    let repair = "on_error = { to = 'r' }";
    assert_eq!(
        codes(&[
            ("s", "['a', 'b']", repair),
            ("a", "'c'", repair),
            ("b", "", repair),
            ("c", "", repair),
            ("r", "", "")
        ]),
        NONE,
        "whatever repairs failures runs for each"
    );
}

#[test]
fn cycles_end_by_themselves_or_by_visits() {
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "'s'", "")]), ["G037"]);
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "'s'", "max_visits = 3")]), NONE);
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "'s'", "goto = ['b']"), ("b", "", "")]), NONE);
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "'s'", "on_error = { to = 'end' }")]), NONE);
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "'s'", "send = ['w']"), ("w", "", "")]), NONE);
    let gate = |no: &str| format!("kind = 'gate'\nask = '?'\noptions = {{ again = 's', no = '{no}' }}");
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "", &gate("end"))]), NONE);
    assert_eq!(codes(&[("s", "'a'", ""), ("a", "", &gate("b")), ("b", "'s'", "")]), ["G037"]);
}

#[test]
fn tasks_are_sent_to_nodes_that_take_them() {
    let send = |target: &str| codes(&[("s", "", "send = ['w']"), ("w", "", target)]);
    assert_eq!(send(""), NONE);
    assert_eq!(send("defer = true"), NONE);
    assert_eq!(send("join = 'any'"), ["G060"]);
    assert_eq!(send("kind = 'gate'\nask = '?'\noptions = { a = 'end', b = 's' }"), ["G060"]);
    let source = graph("s", &[("s", "", "send = ['w']")])
        + "[node.w]\ntask = 'worker'\neach = { over = 'items', as = 'item' }\nwrites = { found = '_' }\n[state]\nitems = { type = 'string[]', default = [] }\n";
    assert_eq!(said(&source), ["G060"]);
    // Many tasks of one node in one step.
    let writes = |reducer: &str| {
        graph("s", &[("s", "", "send = ['w']")])
            + "[node.w]\ntask = 'worker'\n[state]\n"
            + &format!(
                "found = {{ type = 'Finding[]', reducer = '{reducer}', default = [], output = true }}\n"
            )
    };
    assert_eq!(said(&writes("append")), NONE);
    assert_eq!(said(&writes("last")), ["G025", "G027"]);
    // A node that an edge leads to as well needs an input without a sender.
    let led = writes("append").replace("send = ['w']", "send = ['w']\nnext = 'w'");
    assert_eq!(said(&led), ["G022"]);
    // Sent tasks run beside what comes next.
    let beside = writes("last").replace("task = 'noop'", "task = 'noop'\nnext = 'v'")
        + "[node.v]\ntask = 'worker'\nwith = { item = 'x' }\nwrites = { found = 'found' }\n";
    assert!(said(&beside).iter().filter(|code| *code == "G027").count() == 2, "{:?}", said(&beside));
}

#[test]
fn nodes_that_wait_meet_other_branches() {
    // Two writers of one channel; the second waits at a join, a gate, or for everything.
    let writers = |nodes: &[(&str, &str, &str)]| {
        let source = graph("s", nodes).replace("'noop'\n#W", "'look'\nwith = { topic = '' }")
            + "[state]\nanswer = { type = 'string', default = '', output = true }\n";
        said(&source).into_iter().filter(|code| code == "G027").count()
    };
    let w = "#W";
    // Joined after two steps and after one: beside the third branch.
    let apart = |last: &str| {
        writers(&[
            ("s", "['a', 'b', 'c']", ""),
            ("a", "'j'", ""),
            ("b", "'b2'", ""),
            ("b2", "'j'", ""),
            ("j", "", &format!("{w}\n{last}")),
            ("c", "'c2'", ""),
            ("c2", "'c3'", ""),
            ("c3", "", w),
        ])
    };
    assert_eq!(apart("join = 'all'"), 1, "step 3 for both");
    assert_eq!(apart("defer = true"), 0, "it waits until the other is done");
    let gate = "kind = 'gate'\nask = '?'\noptions = { yes = 'x', no = 'end' }";
    assert_eq!(
        writers(&[
            ("s", "['g', 'a']", ""),
            ("g", "", gate),
            ("x", "", w),
            ("a", "'b'", ""),
            ("b", "'c'", ""),
            ("c", "", w)
        ]),
        1
    );
    // A join never runs with a branch that still leads to it.
    assert_eq!(
        writers(&[
            ("s", "['a', 'b']", ""),
            ("a", "'j'", ""),
            ("b", "'b2'", ""),
            ("b2", "'j'", w),
            ("j", "", "#W\njoin = 'all'")
        ]),
        0
    );
    assert_eq!(
        writers(&[
            ("s", "['a', 'b']", ""),
            ("a", "'j'", ""),
            ("b", "'b2'", ""),
            ("b2", "'j'", w),
            ("j", "", "#W\njoin = 'any'")
        ]),
        1
    );
    // Of two that append, one may replace the list, not both.
    let lists = |one: &str, two: &str| {
        let list = "task = 'look'\nwith = { topic = '' }\nwrites = { answer = 'list' }";
        said(&format!(
            "[graph]\nname = 'x'\nstart = 's'\n[state]\nlist = {{ type = 'string[]', reducer = 'append', default = [], output = true }}\n\
             [node.s]\ntask = 'noop'\nnext = ['a', 'b']\n[node.a]\n{list}\n{one}\n[node.b]\n{list}\n{two}\n"
        ))
    };
    assert_eq!(lists("", ""), NONE);
    assert_eq!(lists("overwrite = ['answer']", ""), ["G025"], "what replaces a list is a list");
    assert_eq!(lists("overwrite = ['answer']", "overwrite = ['answer']"), ["G025", "G027", "G025"]);
    // Two that wait for everything run at once; failures take other ways at the same time.
    assert_eq!(
        writers(&[("s", "['a', 'b']", ""), ("a", "", "#W\ndefer = true"), ("b", "", "#W\ndefer = true")]),
        1
    );
    assert_eq!(
        writers(&[
            ("s", "['a', 'b']", ""),
            ("a", "", "on_error = { to = 'x' }"),
            ("x", "", w),
            ("b", "'y'", ""),
            ("y", "", w)
        ]),
        1
    );
    assert_eq!(writers(&[("s", "'a'", "on_error = { to = 'x' }"), ("x", "", w), ("a", "", w)]), 0);
}

#[test]
fn channels_serve_something() {
    let with = |state: &str, nodes: &str| {
        said(&format!(
            "[graph]\nname = 'x'\nstart = 'a'\n[state]\n{state}\n[node.a]\ntask = 'noop'\n{nodes}\n"
        ))
    };
    assert_eq!(with("x = { type = 'int' }", ""), ["wG070"]);
    assert_eq!(with("x = { type = 'int', input = true }", ""), ["wG070"]);
    assert_eq!(with("x = { type = 'int', output = true }", ""), ["wG071"]);
    assert_eq!(with("x = { type = 'int', input = true, output = true }", ""), NONE);
    let look = "next = 'b'\n[node.b]\ntask = 'look'\nwith = { topic = '' }\nwrites = { answer = 'x' }";
    assert_eq!(with("x = { type = 'string', default = '' }", look), ["wG069"]);
    assert_eq!(with("x = { type = 'string', output = true }", look), NONE);
    let shown =
        "next = 'g'\n[node.g]\nkind = 'gate'\nask = '?'\nshows = ['x']\noptions = { a = 'end', b = 'a' }";
    assert_eq!(with("x = { type = 'int', default = 1 }", shown), NONE);
    // Dataflow gains where two branches are independent.
    let dataflow = |next: &str| {
        said(&format!(
            "[graph]\nname = 'x'\nstart = 'a'\nbarrier = 'dataflow'\n[node.a]\ntask = 'noop'\nnext = {next}\n[node.b]\ntask = 'noop'\n[node.c]\ntask = 'noop'\n"
        ))
    };
    assert_eq!(dataflow("['b', 'c']"), NONE);
    assert_eq!(dataflow("[{ if = 'true', to = 'b' }, { else = 'c' }]"), ["wG068"]);
}

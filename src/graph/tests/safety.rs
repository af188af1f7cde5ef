//! Gates, danger, trust and secrets.

use super::keys::said;

/// A plan that a model makes, a gate, and mail that cannot be unsent.
const MAIL: &str = r#"
[graph]
name = "mail"
start = "look"
[state]
request = { type = "string", input = true }
plan = { type = "string?", trust = "untrusted" }
hosts = { type = "string[]", default = [], trust = "untrusted" }
score = { type = "int", default = 0 }
[node.look]
prompt = "probe"
model = "patrol"
output = "Probe"
writes = { sure = "_", text = "plan" }
next = "ask"
[node.ask]
kind = "gate"
ask = "Send it?"
options = { yes = "mail", no = "end" }
shows = ["plan"]
timeout = "1h"
on_timeout = "no"
[node.mail]
task = "send_mail"
next = [{ if = "score > 3", to = "look" }, { if = "hosts", to = "look" }, { else = "end" }]
"#;

fn changed(from: &str, to: &str) -> String {
    assert_eq!(MAIL.matches(from).count(), 1, "{from}");
    MAIL.replace(from, to)
}

fn table(cases: &[(&str, &str, &str)]) {
    super::keys::table(cases, changed);
}

#[test]
fn a_gate_asks_a_question_that_has_answers() {
    assert_eq!(said(MAIL), Vec::<String>::new());
    table(&[
        ("ask = \"Send it?\"\n", "", "G003"),
        ("options = { yes = \"mail\", no = \"end\" }\n", "", "G003"),
        ("options = { yes = \"mail\", no = \"end\" }", "options = {}", "G045 G044"),
        ("options = { yes = \"mail\", no = \"end\" }", "options = { no = \"mail\" }", "G047"),
        (
            "no = \"end\" }\nshows = [\"plan\"]\ntimeout = \"1h\"\non_timeout = \"no\"",
            "no = \"mail\" }\nshows = [\"plan\"]",
            "wG045",
        ),
        (
            ", no = \"end\" }\nshows = [\"plan\"]\ntimeout = \"1h\"\non_timeout = \"no\"",
            " }\nshows = [\"plan\"]",
            "wG045",
        ),
        ("options = { yes", "options = { YES = \"end\", yes", "G045"),
        ("options = { yes", "options = { \"a b\" = \"end\", yes", "G007"),
        ("options = { yes = \"mail\"", "options = { yes = \"mial\"", "G017"),
        ("options = { yes = \"mail\"", "options = { yes = 3", "G004"),
        ("options = { yes = \"mail\"", "options = { yes = []", "G030"),
        ("options = { yes = \"mail\", no = \"end\" }", "options = [\"yes\"]", "G004"),
        ("on_timeout = \"no\"", "on_timeout = \"nope\"", "G044"),
        ("on_timeout = \"no\"\n", "", "G046"),
        ("timeout = \"1h\"\non", "on", "G046"),
        ("timeout = \"1h\"\n", "timeout = { run = \"1h\", idle = \"1m\" }\n", "G008"),
        ("timeout = \"1h\"\n", "timeout = \"0s\"\n", "G006"),
        ("shows = [\"plan\"]", "shows = [\"pln\"]", "G018"),
        ("shows = [\"plan\"]", "shows = [\"plan\"]\nanswer = \"score\"", "G025"),
        ("shows = [\"plan\"]", "shows = [\"plan\"]\nwho = 3", "G004"),
        ("kind = \"gate\"", "kind = 1", "G004"),
    ]);
}

#[test]
fn danger_has_a_gate_on_every_way() {
    let safe = "task = \"send_mail\"\n";
    table(&[
        ("next = \"ask\"", "next = \"mail\"", "G036 G048"),
        ("next = \"ask\"", "next = [\"ask\", \"mail\"]", "G048"),
        ("next = \"ask\"", "next = \"ask\"\non_error = { to = \"mail\" }", "G048"),
        ("start = \"look\"", "start = \"mail\"", "G048"),
        (
            "start = \"look\"",
            "start = \"look\"\nfinally = \"tidy\"\n[node.tidy]\ntask = \"send_mail\"",
            "G048",
        ),
        (safe, "task = \"noop\"\neffect = \"danger\"\n", ""),
        (safe, "task = \"send_mail\"\neffect = \"read\"\n", "G056"),
        (safe, "task = \"send_mail\"\ncache = { ttl = \"1h\" }\n", "G057"),
        // Silence.
        ("on_timeout = \"no\"", "on_timeout = \"yes\"", "G047"),
        ("no = \"end\"", "no = \"wait\"", "G017"),
    ]);
    let again = changed("no = \"end\"", "no = \"again\"")
        + "[node.again]\nkind = \"gate\"\nask = \"Really not?\"\noptions = { send = \"mail\", leave = \"end\" }\nshows = [\"plan\"]\n";
    assert_eq!(said(&again), Vec::<String>::new(), "a further gate asks again");
    let around = changed("no = \"end\"", "no = \"note\"") + "[node.note]\ntask = \"noop\"\nnext = \"mail\"\n";
    assert_eq!(said(&around), ["G047"]);
    let chosen = changed("next = \"ask\"", "next = \"pick\"")
        + "[node.pick]\ntask = \"noop\"\ngoto = [\"mail\"]\nnext = \"ask\"\n";
    assert_eq!(said(&chosen), ["G048"]);
    let sent = changed("next = \"ask\"", "next = \"pick\"")
        + "[node.pick]\ntask = \"noop\"\nsend = [\"mail\"]\nnext = \"ask\"\n";
    assert_eq!(said(&sent), ["G048"]);
}

#[test]
fn nothing_untrusted_comes_between_consent_and_danger() {
    let behind = |node: &str| changed("yes = \"mail\"", "yes = \"then\"") + "[node.then]\n" + node;
    // A choice by an untrusted value.
    let steered = behind("task = \"noop\"\nnext = [{ if = \"hosts\", to = \"mail\" }, { else = \"end\" }]\n");
    assert_eq!(said(&steered), ["G049"]);
    let by_trusted =
        behind("task = \"noop\"\nnext = [{ if = \"score > 1\", to = \"mail\" }, { else = \"end\" }]\n");
    assert_eq!(said(&by_trusted), Vec::<String>::new());
    let by_function = behind("task = \"note\"\nvalidates = true\ngoto = [\"mail\"]\nnext = \"end\"\n");
    assert_eq!(said(&by_function), ["G049"]);
    // A value that is written after it was shown.
    let rewritten = behind("task = \"read\"\nnext = \"mail\"\n");
    assert_eq!(said(&rewritten), ["G050"]);
    let beside = changed("next = \"ask\"", "next = [\"ask\", \"slow\"]") + "[node.slow]\ntask = \"read\"\n";
    assert_eq!(said(&beside), ["G050"], "while the gate waits");
    // One that is not shown.
    table(&[("shows = [\"plan\"]\n", "", "wG051")]);
}

#[test]
fn what_is_made_of_untrusted_values_is_untrusted() {
    let note = |more: &str| changed("yes = \"mail\"", "yes = \"then\"") + "[node.then]\n" + more;
    assert_eq!(said(&note("task = \"note\"\n")), ["G036", "G052"]);
    let mut cases = vec![
        // A model's answer.
        ("plan = { type = \"string?\", trust = \"untrusted\" }", "plan = { type = \"string?\" }", "G052"),
        (
            "writes = { sure = \"_\", text = \"plan\" }",
            "writes = { sure = \"score\", text = \"plan\" }",
            "G025 G052",
        ),
        ("writes = {", "validates = [\"text\"]\nwrites = {", "G053"),
        ("writes = {", "validates = true\nwrites = {", "G053"),
        ("writes = {", "validates = [\"sure\"]\nwrites = {", ""),
        ("writes = {", "validates = [\"sur\"]\nwrites = {", "G021"),
        ("writes = {", "validates = 3\nwrites = {", "G004"),
        ("writes = {", "on_error = { to = \"end\", write = \"score\" }\nwrites = {", "G025 G052"),
        // Secrets.
        (
            "request = { type = \"string\", input = true }",
            "request = { type = \"string\", input = true, secret = true }",
            "G055",
        ),
    ];
    cases.push(("plan = {", "plain = { type = \"any?\", output = true }\nplan = {", "wG071"));
    table(&cases);
    let base = changed("next = \"ask\"", "next = \"more\"");
    let more = |text: &str| format!("{base}[node.more]\n{text}\nnext = \"ask\"\n");
    assert_eq!(said(&more("task = \"note\"")), ["G052"]);
    assert_eq!(said(&more("task = \"note\"\nvalidates = [\"score\"]")), Vec::<String>::new());
    assert_eq!(said(&more("task = \"note\"\nvalidates = true")), Vec::<String>::new());
    assert_eq!(said(&more("task = \"note\"\nvalidates = false")), ["G052"]);
    assert_eq!(said(&more("task = \"note\"\nwrites = { score = \"_\" }")), Vec::<String>::new());
    // What an untrusted value was sent with.
    let found =
        "found = { type = \"Finding[]\", reducer = \"append\", default = [], output = true }\nplan = {";
    let sends = more("task = \"note\"\nwrites = { score = \"_\" }\nsend = [\"work\"]")
        .replace("plan = {", found)
        + "[node.work]\ntask = \"worker\"\n";
    assert_eq!(said(&sends), ["G052"]);
    let sends =
        sends.replace("default = [], output = true", "default = [], output = true, trust = 'untrusted'");
    assert_eq!(said(&sends), Vec::<String>::new());
    let status = more("task = \"worker\"\neach = { over = \"hosts\", as = \"item\", status = \"stat\" }\nwrites = { found = \"_\" }")
        .replace("plan = {", "stat = { type = \"any[]\", output = true }\nplan = {");
    assert_eq!(said(&status), ["G052"], "the error of a task may quote its item");
}

#[test]
fn untrusted_text_chooses_no_way() {
    let catalog_of = |ty: &str| {
        format!(
            "x = {{ type = \"{ty}\", default = {}, trust = \"untrusted\" }}",
            match ty {
                "string" => "'a'",
                "int" => "1",
                "bool" => "true",
                "string[]" => "[]",
                "Severity" => "'LOW'",
                "Vote" => "{ severity = 'LOW' }",
                "Vote[]" => "[]",
                "{int}" => "{}",
                _ => "'a'",
            }
        )
    };
    let with = |ty: &str, condition: &str| {
        let state = if ty.ends_with('?') {
            format!("x = {{ type = \"{ty}\", trust = \"untrusted\" }}")
        } else {
            catalog_of(ty)
        };
        format!(
            "[graph]\nname='g'\nstart='a'\n[state]\n{state}\ny = {{ type = 'string', default = '' }}\nn = {{ type = 'int', default = 1 }}\n\
             [node.a]\ntask='noop'\nnext=[{{ if = \"{condition} or y or n\", to = 'a' }}, {{ else = 'end' }}]\n"
        )
    };
    for (ty, condition) in [
        ("int", "x > 3"),
        ("bool", "x"),
        ("bool", "not x and n == 1"),
        ("Severity", "x == 'HIGH'"),
        ("Severity", "x in ['HIGH', y]"),
        ("Vote", "x.severity == 'HIGH'"),
        ("Vote?", "x and x.severity == 'HIGH'"),
        ("Vote?", "x['severity'] == 'LOW'"),
        ("Vote[]", "x[0].severity == 'LOW'"),
        ("Vote[]", "x | length > 3"),
        ("Vote[]", "(x | length) > 3"),
        ("Vote[]", "x and not (n or x)"),
        ("string[]", "x"),
        ("string[]", "((x)) and n"),
        ("string[]", "x | count == n"),
        ("string?", "x"),
        ("string?", "x is none"),
        ("string", "x is defined"),
        ("any", "x is not none"),
        ("Vote", "x.reason is none"),
        ("Vote", "x.reason and n"),
        ("{int}", "x.a > 3"),
    ] {
        assert_eq!(said(&with(ty, condition)), Vec::<String>::new(), "{ty}: {condition}");
    }
    for (ty, condition) in [
        ("string", "x"),
        ("string", "x == 'a'"),
        ("string", "'a' in x"),
        ("string", "x | length > 3"),
        ("string", "x | lower == 'a'"),
        ("any", "x"),
        ("any", "x.severity == 'HIGH'"),
        ("any", "x is string"),
        ("string?", "x == 'a'"),
        ("string?", "(x or y) == 'a'"),
        ("string?", "(x if n else y) == 'a'"),
        ("string?", "(n and (x)) == 'a'"),
        ("string?", "x | length > 3"),
        ("string?", "y == x"),
        ("string?", "y in [x]"),
        ("string?", "(x) ~ 'a' == 'aa'"),
        ("Vote", "x.reason == 'a'"),
        ("Vote", "x['rea' ~ 'son'] == 'a'"),
        ("Vote?", "x.reason is string"),
        ("string[]", "'a' in x"),
        ("string[]", "x[0] == 'a'"),
        ("string[]", "x | first == 'a'"),
        ("string[]", "x == ['a']"),
        ("Vote[]", "x[0].reason == 'a'"),
        ("Vote[]", "x | map(attribute='reason') | first == 'a'"),
    ] {
        assert_eq!(said(&with(ty, condition)), ["G054"], "{ty}: {condition}");
    }
}

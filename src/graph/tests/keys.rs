//! Every key of the file format becomes what the model has for it.

use std::sync::Arc;

use super::shipped::signature;
use super::*;

pub(in crate::graph) const EVERYTHING: &str = include_str!("everything.toml");

const INNER: &str = r#"
[graph]
name = "inner"
start = "look"
[state]
topic = { type = "string", input = true }
answer = { type = "string?", output = true, trust = "untrusted" }
[node.look]
task = "look"
"#;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Probe {
    sure: bool,
    text: String,
}

/// What these files may name.
pub(in crate::graph) fn everything() -> Catalog {
    let finding = signature("id: string, level: Severity ->", Effect::Read).inputs;
    let mut catalog = catalog();
    for (name, text) in [
        ("plan", "request: string -> hosts: string[]"),
        (
            "scan",
            "batch: string[], depth: int, secret: string? -> names: string[], score: int, note?: string",
        ),
        ("extra", "host: string -> found: Finding"),
        ("apply", "plan: string?, found: Finding[] ->"),
        ("look", "topic: string -> answer: string"),
        ("worker", "item: string -> found: Finding"),
        ("read", "plan: string? -> plan: string"),
        ("note", "plan: string? -> score: int"),
    ] {
        catalog.tasks.insert(name.into(), signature(text, Effect::Read));
    }
    catalog.tasks.insert("send_mail".into(), signature("plan: string? ->", Effect::Danger));
    catalog.types.insert("Probe".into(), TypeInfo::of::<Probe>());
    catalog.types.insert("Finding".into(), TypeInfo { fields: finding, ..TypeInfo::default() });
    catalog.prompts.insert(
        "probe".into(),
        PromptInfo { variables: BTreeSet::from(["request".into()]), ..PromptInfo::default() },
    );
    catalog.reducers.insert("largest".into());
    let inner = check("inner.toml", INNER, &catalog).unwrap();
    catalog.graphs.insert("inner".into(), Arc::new(inner));
    catalog
}

/// Codes of the errors, and of the warnings with a `w` before, by place.
pub(super) fn said(source: &str) -> Vec<String> {
    let (_, faults) = check_all("t.toml", source, &everything());
    let faults = faults.iter().flat_map(|faults| faults.iter());
    faults.map(|f| format!("{}{}", if f.level == Level::Warning { "w" } else { "" }, f.code)).collect()
}

/// The file with every key, with one piece replaced.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(EVERYTHING.matches(from).count(), 1, "{from}");
    EVERYTHING.replace(from, to)
}

/// Runs a table of changes to a file: what is said after each.
pub(super) fn table(cases: &[(&str, &str, &str)], change: impl Fn(&str, &str) -> String) {
    let mut wrong: Vec<String> = Vec::new();
    for (from, to, wanted) in cases {
        let source = change(from, to);
        let found = said(&source).join(" ");
        if found != *wanted {
            let faults = check_all("t", &source, &everything()).1;
            let lines: Vec<String> = faults
                .iter()
                .flat_map(|faults| faults.iter())
                .map(|f| format!("  {} {}", f.code, f.message))
                .collect();
            wrong.push(format!("{from} -> {to}: wanted `{wanted}`, found `{found}`\n{}", lines.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_with_every_key_becomes_a_graph() {
    let (graph, faults) = check_all("everything.toml", EVERYTHING, &everything());
    assert!(faults.is_none(), "{faults:?}");
    let graph = graph.unwrap();
    let minutes = Duration::from_mins;
    assert_eq!(graph.barrier, Barrier::Dataflow);
    assert_eq!(
        graph.budget,
        Budget { tokens: Some(200_000), micro_usd: Some(500_000), wall: Some(minutes(10)), steps: Some(40) }
    );
    assert_eq!(graph.retention, Retention { keep_last: Some(50), max_age: Some(Duration::from_hours(720)) });
    assert_eq!(graph.finally, graph.node_named("tidy"));
    assert_eq!(graph.custom_reducers, ["largest"]);
    let channel = |name: &str| graph.channel(graph.channel_named(name).unwrap());
    assert_eq!(channel("score").reducer, Reducer::Custom(0));
    assert_eq!((channel("hosts").max_items, channel("hosts").trust), (Some(500), Trust::Untrusted));
    assert!(channel("token").secret && !channel("token").persist && channel("result").output);

    let node = |name: &str| graph.node(graph.node_named(name).unwrap());
    let at = |name: &str| graph.node_named(name).unwrap();
    let scan = node("scan");
    let each = scan.each.as_ref().unwrap();
    assert_eq!(
        (each.batch, each.tolerate, each.on_item_error),
        (Some(10), Tolerate::Percent(10), OnItemError::Drop)
    );
    assert_eq!(each.status, graph.channel_named("status"));
    assert_eq!((each.budget.micro_usd, each.budget.steps), (Some(100_000), Some(100)));
    assert_eq!((scan.effect, scan.validates.as_slice()), (Effect::Read, ["score".to_owned()].as_slice()));
    assert_eq!(node("probe").overwrite, [graph.channel_named("plan").unwrap()]);
    assert_eq!((scan.timeout, scan.idle_timeout), (Some(minutes(1)), Some(Duration::from_secs(10))));
    assert_eq!((scan.retry.factor_percent, scan.retry.jitter), (150, false));
    assert_eq!((scan.breaker, scan.budget.tokens), (0, Some(5_000)));
    assert_eq!(scan.cache.as_ref().unwrap().key.as_ref().unwrap().source(), "depth");
    let problems = graph.channel_named("problems");
    assert_eq!(
        scan.on_error,
        [
            ErrorArm {
                on: vec!["timeout".into(), "refused".into()],
                to: vec![at("repair")],
                write: problems
            },
            ErrorArm { on: Vec::new(), to: Vec::new(), write: None },
        ]
    );
    let plan = node("plan");
    assert_eq!(
        (plan.goto.as_slice(), plan.send.as_slice()),
        ([at("gather")].as_slice(), [at("extra")].as_slice())
    );
    assert_eq!((plan.breaker, plan.budget.tokens, plan.retry.attempts), (5, Some(1_000), 2));
    assert_eq!(plan.on_error.len(), 1, "from the defaults");
    assert!(node("tidy").on_error.is_empty(), "nothing comes after what runs last");
    let gather = node("gather");
    assert_eq!(gather.join, Some(Join { need: Need::All, timeout: None, go_on: false }));
    assert_eq!(gather.max_visits, Some(5));
    let ask = node("ask");
    let NodeKind::Gate(gate) = &ask.kind else { panic!("no gate: {ask:?}") };
    assert_eq!(
        (gate.ask.as_str(), gate.who.as_slice()),
        ("Apply the plan?", ["owner".to_owned()].as_slice())
    );
    assert_eq!((gate.timeout, gate.on_timeout), (Some(minutes(60)), Some(2)));
    assert_eq!(gate.answer, graph.channel_named("consent"));
    assert_eq!(gate.shows, [graph.channel_named("plan").unwrap(), graph.channel_named("found").unwrap()]);
    let options: Vec<_> =
        ask.next.iter().map(|arm| (arm.option.as_deref().unwrap(), arm.to.as_slice())).collect();
    assert_eq!(options, [("approve", [at("apply")].as_slice()), ("again", &[at("plan")]), ("deny", &[])]);
    assert!(ask.on_error.is_empty() && ask.reads.is_empty() && ask.writes.is_empty());
    let deep = node("deep");
    assert!(matches!(&deep.kind, NodeKind::Graph(inner) if inner.name == "inner"));
    assert_eq!(deep.reads, [("topic".to_owned(), graph.channel_named("request").unwrap())]);
    assert_eq!(deep.writes, [("answer".to_owned(), graph.channel_named("result").unwrap())]);
    assert_eq!(node("apply").effect, Effect::Danger);
    let any = Join { need: Need::Some(1), timeout: Some(Duration::from_secs(30)), go_on: true };
    assert!(node("wrap").defer && node("wrap").join == Some(any));
    assert_eq!(graph.migrations.len(), 2);
    assert_eq!(graph.migrations[0].rename, [("hosts_seen".to_owned(), "hosts".to_owned())]);
    assert_eq!(graph.migrations[1].drop, ["unused"]);
}

#[test]
fn the_hash_knows_inner_graphs() {
    let hash = |catalog: &Catalog| check("t", EVERYTHING, catalog).unwrap().hash;
    let mut other = everything();
    let inner = check("inner.toml", &format!("{INNER}\n# changed"), &other).unwrap();
    other.graphs.insert("inner".into(), Arc::new(inner));
    assert_ne!(hash(&everything()), hash(&other));
}

#[test]
fn the_graphs_a_file_uses_are_found_whatever_is_wrong_with_it() {
    assert_eq!(uses(EVERYTHING), ["inner"]);
    assert_eq!(uses("[node.a]\ngraph = 'x'\n[node.b]\ngraph = 'x'\n[node.c]\ngraph = 7\nnext = [\n"), ["x"]);
    assert!(uses("").is_empty() && uses("node = 1").is_empty());
}

#[test]
fn a_stored_text_is_read_by_its_meaning_alone() {
    let old = changed(", trust = \"untrusted\" }\nconsent", " }\nconsent");
    assert!(check("t", &old, &everything()).is_err());
    assert!(check_kept("t", &old, &everything()).is_ok());
    assert!(
        check_kept(
            "t",
            &changed("next = \"wrap\"\n\n[node.deep]", "next = \"warp\"\n\n[node.deep]"),
            &everything()
        )
        .is_err()
    );
}

#[test]
fn what_is_wrong_with_a_key_is_said() {
    table(
        &[
            // words
            ("barrier = \"dataflow\"", "barrier = \"dataflw\"", "G043"),
            ("trust = \"untrusted\" }\nconsent", "trust = \"no\" }\nconsent", "G043 G052"),
            ("effect = \"danger\"", "effect = \"dangerous\"", "G043"),
            ("kind = \"gate\"", "kind = \"gat\"", "G043"),
            ("on_item_error = \"drop\"", "on_item_error = \"skip\"", "G043"),
            ("tolerate = \"10%\"", "tolerate = \"ten\"", "G043"),
            ("tolerate = \"10%\"", "tolerate = 3", ""),
            ("tolerate = \"10%\"", "tolerate = 1.5", "G004"),
            ("join = \"all\"", "join = \"some\"", "G043"),
            ("join = \"all\"", "join = 1", "G004"),
            ("on_timeout = \"go\"", "on_timeout = \"stop\"", "G043"),
            ("need = \"any\", ", "", "G003"),
            ("timeout = \"30s\", on_timeout = \"go\"", "on_timeout = \"go\"", "G008"),
            // numbers and times
            ("usd = 0.50", "usd = 0", "G005"),
            ("usd = 0.50", "usd = \"0.50\"", "G004"),
            ("tokens = 200_000", "tokens = 0", "G005"),
            ("wall = \"10m\"", "wall = \"0s\"", "G006"),
            ("factor = 1.5", "factor = 0.5", "G005"),
            ("keep_last = 50", "keep_last = 0", "G005"),
            ("max_age = \"30d\"", "max_age = \"0d\"", "G006"),
            ("idle = \"10s\"", "idle = \"0s\"", "G006"),
            ("ttl = \"1h\" }", "ttl = \"0s\" }", "G006"),
            (", ttl = \"1h\" }", " }", "G003"),
            ("max_visits = 5", "max_visits = 0", "G005"),
            ("batch = 10", "batch = 0", "G005"),
            ("batch = 10, ", "", "G029"),
            // names
            ("finally = \"tidy\"", "finally = \"tidi\"", "G017 G036"),
            ("goto = [\"gather\"]", "goto = [\"gater\"]", "G017"),
            ("send = [\"extra\"]", "send = [\"extr\"]", "G017"),
            ("validates = [\"score\"]", "validates = [\"scor\"]", "G052 G021"),
            ("validates = [\"score\"]", "validates = true", ""),
            ("overwrite = [\"text\"]", "overwrite = [\"txt\"]", "G021"),
            ("status = \"status\"", "status = \"stats\"", "G018"),
            ("status = \"status\"", "status = \"plan\"", "G025 G027"),
            ("answer = \"consent\"", "answer = \"width\"", "G025"),
            ("shows = [\"plan\", \"found\"]", "shows = [\"pla\", \"found\"]", "G018"),
            ("key = \"depth\"", "key = \"dept\"", "G034"),
            ("key = \"depth\"", "key = \"depth +\"", "G033"),
            ("reducer = \"largest\"", "reducer = \"larges\"", "G014"),
            ("max_items = 500", "max_items = 0", "G005"),
            ("width    = { type = \"int\"", "width    = { type = \"int\", max_items = 3", "G065"),
            ("found    = { type = \"Finding[]\"", "found    = { type = \"string[]\"", "G019 G025 G024"),
            // keys where they say nothing
            ("who = [\"owner\"]", "who = [\"owner\"]\nnext = \"apply\"", "G008"),
            ("who = [\"owner\"]", "who = [\"owner\"]\nretry = { attempts = 2 }", "G008"),
            ("out = { answer = \"result\" }", "writes = { answer = \"result\" }", "G008"),
            ("out = { answer = \"result\" }", "out = { answer = \"result\" }\ngoto = [\"plan\"]", "G008"),
            ("on_item_error = \"drop\"", "on_item_error = \"fail\"", "G008"),
            ("kind = \"gate\"\n", "", "G009"),
            ("kind = \"gate\"\n", "kind = \"gate\"\ntask = \"noop\"\n", "G009"),
            // failures
            ("[{ on = [\"timeout\"], to", "[{ on = [\"timeuot\"], to", "G015"),
            ("{ on = [\"timeout\", \"refused\"], to = \"repair\"", "{ to = \"repair\"", "G058"),
            ("{ to = \"end\" }]", "{ on = [\"refused\"], to = \"end\" }]", "G058"),
            ("{ to = \"end\" }]", "{ on = [\"refused\", \"panic\"], to = \"end\" }]", "wG058"),
            ("{ to = \"end\" }]", "7]", "G030"),
            ("{ to = \"end\" }]", "{ on = [\"panic\"] }]", "G003"),
            ("\"transient\", \"rate_limit\"]", "\"transient\", \"permanent\"]", "wG059"),
            ("\"transient\", \"rate_limit\"]", "\"transient\", \"budget\"]", "wG059"),
            // effects
            ("cache = { ttl = \"5m\" }", "cache = { ttl = \"5m\" }\neffect = \"write\"", "G057"),
            ("cache = { ttl = \"5m\" }", "cache = { ttl = \"5m\" }\neffect = \"pure\"", "G056"),
            ("effect = \"read\"", "effect = \"pure\"", "G056"),
            // what a run keeps
            (
                "request  = { type = \"string\", input = true",
                "request  = { type = \"string\", input = true, persist = false",
                "wG066",
            ),
        ],
        changed,
    );
}

#[test]
fn what_runs_last_stands_alone() {
    table(
        &[
            ("[node.tidy]\n", "[node.tidy]\nnext = \"end\"\n", "G064"),
            ("[node.tidy]\n", "[node.tidy]\ndefer = true\n", "G064"),
            ("defer = true\nnext = \"end\"", "defer = true\nnext = \"tidy\"", "G064"),
            (
                "start = \"plan\"\nmax",
                "start = \"tidy\"\nmax",
                "G036 G036 G036 G036 G036 G036 G036 G036 G036 G036 G064",
            ),
            ("finally = \"tidy\"", "finally = \"ask\"", "G064 G064 G036"),
        ],
        changed,
    );
}

#[test]
fn migrations_lead_to_this_version() {
    table(
        &[
            ("from = 2\nto = 3", "from = 2\nto = 4", "G067 G067"),
            ("from = 2\nto = 3", "from = 3\nto = 3", "G067 G067"),
            ("from = 2\nto = 3", "from = 1\nto = 3", "G067 G067"),
            ("from = 1\nto = 2", "from = 1\nto = 3", ""),
            ("from = 1\nto = 2", "to = 2", "G003"),
            ("default = { width = 3 }", "default = { widt = 3 }", "G067"),
            ("default = { width = 3 }", "default = { width = \"3\" }", "G020"),
            ("{ hosts_seen = \"hosts\" }", "{ hosts_seen = \"host\" }", "G067"),
            ("{ hosts_seen = \"hosts\" }", "{ hosts_seen = \"unused\" }", ""),
            ("nodes = { start = \"plan\" }", "nodes = { start = \"plam\" }", "G067"),
            ("drop = [\"unused\"]", "drop = [\"old\"]\nrename = { old = \"width\" }", "G067"),
        ],
        changed,
    );
}

#[test]
fn inner_graphs_are_connected_by_type_and_trust() {
    table(
        &[
            ("graph = \"inner\"", "graph = \"iner\"", "G042"),
            ("graph = \"inner\"", "graph = \"everything\"", "G042"),
            ("in = { topic = \"request\" }\n", "", "G022"),
            ("in = { topic = \"request\" }", "in = { topic = \"width\" }", "G024"),
            ("in = { topic = \"request\" }", "in = { topc = \"request\" }", "G022 G021"),
            ("in = { topic = \"request\" }", "in = { topic = \"request\", answer = \"plan\" }", "G021"),
            ("out = { answer = \"result\" }\n", "", "G026"),
            ("out = { answer = \"result\" }", "out = { answer = \"_\" }", "wG071"),
            ("out = { answer = \"result\" }", "out = { answer = \"width\" }", "G025 G052"),
            ("in = { topic = \"request\" }", "with = { topic = \"x\" }", ""),
            ("in = { topic = \"request\" }", "with = { topic = 1 }", "G039"),
            (
                "result   = { type = \"string?\", output = true, trust = \"untrusted\"",
                "result   = { type = \"string?\", output = true",
                "G052",
            ),
            (
                "request  = { type = \"string\", input = true",
                "request  = { type = \"string\", input = true, trust = \"untrusted\"",
                "G052",
            ),
            (
                "request  = { type = \"string\", input = true",
                "request  = { type = \"string\", input = true, secret = true",
                "G055 G055",
            ),
        ],
        changed,
    );
    let mut catalog = everything();
    let loops =
        INNER.replace("name = \"inner\"", "name = \"mid\"").replace("task = \"look\"", "graph = \"inner\"");
    let mid = check("mid.toml", &loops, &catalog).unwrap();
    catalog.graphs.insert("mid".into(), Arc::new(mid));
    let round = INNER.replace("task = \"look\"", "graph = \"mid\"");
    let faults = check("inner.toml", &round, &catalog).unwrap_err();
    assert!(
        faults.iter().any(|fault| fault.code == "G042" && fault.message.contains("never end")),
        "{faults:?}"
    );
}

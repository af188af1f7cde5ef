//! The graphs that come with the program, and the schema of the file format.

use super::*;

/// A signature written as `in: Type, other?: Type -> out: Type`.
pub(super) fn signature(text: &str, effect: Effect) -> TaskSignature {
    let fields = |side: &str| -> Vec<Field> {
        let parts = side.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| {
                let (name, ty) = part.split_once(':').unwrap();
                Field {
                    name: name.trim().trim_end_matches('?').to_owned(),
                    ty: Type::parse(ty).unwrap(),
                    required: !name.trim().ends_with('?'),
                }
            })
            .collect()
    };
    let (inputs, outputs) = text.split_once("->").unwrap();
    TaskSignature { description: String::new(), inputs: fields(inputs), outputs: fields(outputs), effect }
}

/// What the shipped graphs may name, as far as their checks look at it.
fn host() -> Catalog {
    let task = |name: &str, text: &str| (name.to_owned(), signature(text, Effect::Read));
    let tasks = [
        task("patrol.read_logs", "request: SweepRequest -> read: ReadReport"),
        task(
            "patrol.assign",
            "request: SweepRequest -> pending: int, agents: int, streams: int, assignments: Assignment[]",
        ),
        task("patrol.scan", "assignment: Assignment, prompt: string, role: string -> scans: StreamScan"),
        task("patrol.weigh", "scans: StreamScan[], agents: int -> contested: Contest[]"),
        task(
            "patrol.contest",
            "contest: Contest, prompt: string, role: string -> second: TurnVerdict[], unsettled: PendingTurn[]",
        ),
        task("patrol.adjudicate", "scans: StreamScan[], second: TurnVerdict[] -> flags: PatrolFlag[]"),
        task(
            "patrol.record",
            "read?: ReadReport?, streams: int, agents: int, scans: StreamScan[], unsettled: PendingTurn[], \
             flags: PatrolFlag[] -> summary: SweepSummary",
        ),
        task(
            "police.load_context",
            "flag_id: string -> flag: PatrolFlag, context: ContextWindow, has_model: bool",
        ),
        task(
            "police.expand_context",
            "flag: PatrolFlag, context: ContextWindow -> context: ContextWindow, round: int",
        ),
        task(
            "police.rule_report",
            "flag: PatrolFlag, context: ContextWindow, problem?: Problem? -> draft: CaseDraft",
        ),
        task(
            "police.verify",
            "flag: PatrolFlag, context: ContextWindow, draft: CaseDraft -> draft: CaseDraft",
        ),
        task("police.conclude", "flag: PatrolFlag, draft: CaseDraft -> case_file: CaseFile"),
    ];
    let plain = [
        "SweepRequest",
        "ReadReport",
        "Assignment",
        "StreamScan",
        "Contest",
        "TurnVerdict",
        "PendingTurn",
        "PatrolFlag",
        "SweepSummary",
        "ContextWindow",
        "CaseDraft",
        "CaseFile",
        "Problem",
    ];
    let mut types: BTreeMap<String, TypeInfo> =
        plain.iter().map(|name| ((*name).to_owned(), TypeInfo::default())).collect();
    let answer = signature("-> draft: CaseDraft, more: bool", Effect::Read).outputs;
    types.insert("LeadAnswer".into(), TypeInfo { fields: answer, schema: serde_json::Value::Null });
    let variables = ["flag", "context"].map(str::to_owned).into();
    Catalog {
        tasks: tasks.into(),
        types,
        prompts: BTreeMap::from([(
            "investigate/lead".into(),
            PromptInfo { variables, ..PromptInfo::default() },
        )]),
        roles: BTreeSet::from(["investigator".into()]),
        ..Catalog::default()
    }
}

const SHIPPED: [(&str, &str); 2] = [
    ("patrol", include_str!("../../../graphs/patrol.toml")),
    ("investigate", include_str!("../../../graphs/investigate.toml")),
];

#[test]
fn the_shipped_graphs_have_neither_faults_nor_warnings() {
    for (name, text) in SHIPPED {
        let (graph, faults) = check_all(name, text, &host());
        assert!(faults.is_none(), "{faults:?}");
        assert!(graph.unwrap().channels.iter().any(|channel| channel.output), "{name} says what it is for");
    }
}

/// The graphs as they were before channels had trust: runs that keep them go on, and whoever edited one is told.
#[test]
fn the_graphs_of_the_first_version_are_still_read() {
    for (name, text) in [
        ("patrol", include_str!("first_patrol.toml")),
        ("investigate", include_str!("first_investigate.toml")),
    ] {
        let graph = check_kept(name, text, &host()).unwrap();
        assert_eq!((graph.name.as_str(), graph.version), (name, 1));
        assert!(graph.channels.iter().all(|channel| channel.trust == Trust::Trusted));
    }
    let faults = check("investigate", include_str!("first_investigate.toml"), &host()).unwrap_err();
    let reports = faults.reports();
    assert!(reports.iter().any(|fault| fault.help.contains("trust = \"untrusted\"")), "{reports:?}");
}

/// The properties of an object of the schema.
fn properties(schema: &serde_json::Value, at: &str) -> BTreeSet<String> {
    let place = schema.pointer(at).unwrap_or_else(|| panic!("no {at}"));
    assert_eq!(place["additionalProperties"], json!(false), "{at}");
    place["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_has_the_keys_that_the_parser_knows() {
    document::asked::take();
    check("t", super::keys::EVERYTHING, &super::keys::everything()).unwrap();
    let asked = document::asked::take();
    let schema = schema();
    let mut objects: BTreeSet<&str> = schema["$defs"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, of)| of["type"] == "object")
        .map(|(name, _)| name.as_str())
        .collect();
    for (table, place) in [
        ("the graph file", ""),
        ("graph", "graph"),
        ("defaults", "defaults"),
        ("state", "channel"),
        ("node", "node"),
        ("migrate", "migrate"),
        ("each", "each"),
        ("timeout", "timeout"),
        ("retry", "retry"),
        ("budget", "budget"),
        ("an `on_error` arm", "error_arm"),
        ("cache", "cache"),
        ("join", "join"),
        ("an arm", "arm"),
        ("retention", "retention"),
    ] {
        let at = if place.is_empty() { String::new() } else { format!("/$defs/{place}") };
        let known: BTreeSet<String> = asked
            .get(table)
            .unwrap_or_else(|| panic!("{table} was not read: {asked:?}"))
            .iter()
            .map(|key| (*key).to_owned())
            .collect();
        assert_eq!(properties(&schema, &at), known, "{table}");
        objects.remove(place);
    }
    assert!(objects.is_empty(), "not compared: {objects:?}");
}

#[test]
fn graph_files_fit_the_schema() {
    let schema = schema();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let value = |text: &str| serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    for (name, text) in SHIPPED.into_iter().chain([("everything", super::keys::EVERYTHING), ("full", FULL)]) {
        let value = value(text);
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    for (from, to) in [
        ("barrier = \"dataflow\"", "barrier = \"none\""),
        ("max_visits = 5", "max_visit = 5"),
        ("usd = 0.50", "usd = 0"),
        ("deadline = \"2h\"", "deadline = \"2 hours\""),
        ("kind = \"gate\"\n", ""),
        ("join = \"all\"", "join = \"some\""),
        ("on = [\"timeout\", \"refused\"]", "on = [\"slow\"]"),
        ("{ else = \"deep\" }", "{ to = \"deep\" }"),
    ] {
        assert_eq!(super::keys::EVERYTHING.matches(from).count(), 1, "{from}");
        let wrong = super::keys::EVERYTHING.replace(from, to);
        assert!(!validator.is_valid(&value(&wrong)), "{to}");
        assert!(check("t", &wrong, &super::keys::everything()).is_err(), "{to}");
    }
}

#[test]
fn every_description_says_something() {
    fn walk(value: &serde_json::Value, path: &str) {
        if let Some(properties) = value.get("properties").and_then(serde_json::Value::as_object) {
            for (key, of) in properties {
                let described = of.get("description").is_some() || of.get("$ref").is_some();
                assert!(described, "{path}/{key} has no description");
            }
        }
        for (key, inner) in value.as_object().into_iter().flatten() {
            walk(inner, &format!("{path}/{key}"));
        }
    }
    walk(&schema(), "");
}

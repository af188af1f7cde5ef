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
        task("police.rule_report", "flag: PatrolFlag, context: ContextWindow -> draft: CaseDraft"),
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

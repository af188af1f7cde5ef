//! The node functions of `graphs/patrol.toml`, by the names it calls them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adjudicate;
use super::assign::{PendingStream, Terms, agent_count, assign};
use super::record::{Outcome, import_flags, record};
use super::scan::{contest, scan};
use super::sweep::SharedDeps;
use super::types::{
    Assignment, Contest, PendingTurn, ReadReport, StreamScan, SweepRequest, SweepSummary, TurnVerdict,
};
use crate::case::PatrolFlag;
use crate::engine::{Ctx, NodeError, Registry, blocking};
use crate::logs;
use crate::store::patrol_state::Due;

/// Registers the patrol's node functions and types.
pub fn register(registry: &mut Registry, deps: &SharedDeps) {
    registry.type_of::<SweepRequest>();
    registry.type_of::<SweepSummary>();
    registry.type_of::<ReadReport>();
    registry.type_of::<Assignment>();
    registry.type_of::<StreamScan>();
    registry.type_of::<Contest>();
    registry.type_of::<TurnVerdict>();
    registry.type_of::<PendingTurn>();
    registry.type_of::<PatrolFlag>();

    let with = Arc::clone(deps);
    registry.task(
        "patrol.read_logs",
        "Reads new log entries and finds the turns in them",
        move |_: Ctx, _: ReadIn| {
            let deps = Arc::clone(&with);
            async move {
                let read = blocking(move || read_logs(&deps)).await?;
                Ok(ReadOut { read })
            }
        },
    );
    let with = Arc::clone(deps);
    registry.task(
        "patrol.assign",
        "Shares the pending turns among ⌈1 + log₂(n)⌉ agents",
        move |_: Ctx, input: AssignIn| {
            let deps = Arc::clone(&with);
            async move { blocking(move || share(&deps, &input.request)).await }
        },
    );
    let with = Arc::clone(deps);
    registry.task(
        "patrol.scan",
        "Detectors on every turn of a share, then a model",
        move |ctx: Ctx, input: ScanIn| {
            let deps = Arc::clone(&with);
            async move {
                Ok(ScanOut { scans: scan(&deps, &ctx, input.assignment, &input.prompt, &input.role).await? })
            }
        },
    );
    let with = Arc::clone(deps);
    registry.task(
        "patrol.weigh",
        "Decides which turns further agents must look at",
        move |_: Ctx, input: WeighIn| {
            let deps = Arc::clone(&with);
            async move {
                let contested = if deps.asks_models() {
                    adjudicate::contests(&input.scans, usize::try_from(input.agents).unwrap_or(1))
                } else {
                    Vec::new()
                };
                Ok(WeighOut { contested })
            }
        },
    );
    let with = Arc::clone(deps);
    registry.task(
        "patrol.contest",
        "A further agent's look at one turn",
        move |ctx: Ctx, input: ContestIn| {
            let deps = Arc::clone(&with);
            async move {
                Ok(match contest(&deps, &ctx, input.contest, &input.prompt, &input.role).await? {
                    Ok(verdict) => ContestOut { second: vec![verdict], unsettled: Vec::new() },
                    Err(pending) => ContestOut { second: Vec::new(), unsettled: vec![pending] },
                })
            }
        },
    );
    let with = Arc::clone(deps);
    registry.task("patrol.adjudicate", "Counts the votes", move |_: Ctx, input: AdjudicateIn| {
        let deps = Arc::clone(&with);
        async move {
            let verdicts = adjudicate::gather(input.scans.clone(), input.second);
            let level = |stream: &str| {
                let share = input.scans.iter().find(|scan| scan.assignment.stream == stream);
                share.map_or(0.0, |scan| scan.assignment.pheromone)
            };
            let known = |id: &str| deps.store.flag(id);
            Ok(AdjudicateOut { flags: adjudicate::flags(&verdicts, &deps.now(), known, level)? })
        }
    });
    let with = Arc::clone(deps);
    registry.task(
        "patrol.record",
        "Writes flags, reviewed turns and pheromones",
        move |ctx: Ctx, input: RecordIn| {
            let deps = Arc::clone(&with);
            let key = ctx.idempotency_key().to_string();
            async move {
                let summary = blocking(move || {
                    let outcome = Outcome {
                        read: input.read.unwrap_or_default(),
                        streams: u64::try_from(input.streams).unwrap_or(0),
                        agents: u64::try_from(input.agents).unwrap_or(0),
                        scans: &input.scans,
                        unsettled: &input.unsettled,
                        flags: &input.flags,
                    };
                    record(&deps, &key, &outcome)
                })
                .await?;
                Ok(RecordOut { summary })
            }
        },
    );
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AssignIn {
    request: SweepRequest,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReadIn {
    #[expect(dead_code, reason = "kept in the run's input for whoever reads its history")]
    request: SweepRequest,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ReadOut {
    read: ReadReport,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AssignOut {
    pending: i64,
    agents: i64,
    streams: i64,
    assignments: Vec<Assignment>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ScanIn {
    assignment: Assignment,
    prompt: String,
    role: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ScanOut {
    scans: StreamScan,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WeighIn {
    scans: Vec<StreamScan>,
    agents: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct WeighOut {
    contested: Vec<Contest>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ContestIn {
    contest: Contest,
    prompt: String,
    role: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ContestOut {
    second: Vec<TurnVerdict>,
    unsettled: Vec<PendingTurn>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AdjudicateIn {
    scans: Vec<StreamScan>,
    second: Vec<TurnVerdict>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AdjudicateOut {
    flags: Vec<PatrolFlag>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct RecordIn {
    read: Option<ReadReport>,
    streams: i64,
    agents: i64,
    scans: Vec<StreamScan>,
    unsettled: Vec<PendingTurn>,
    flags: Vec<PatrolFlag>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RecordOut {
    summary: SweepSummary,
}

fn read_logs(deps: &super::PatrolDeps) -> Result<ReadReport, NodeError> {
    import_flags(&deps.store, &deps.flags_export)?;
    let versions = &deps.settings.versions;
    deps.store.requeue_outdated(versions)?;
    let (mut files, mut assembler) = deps.store.reading()?;
    deps.store.ingest(versions, |ingest| {
        let stats = logs::read(&deps.logs, &mut files, &mut assembler, ingest).map_err(|error| {
            NodeError::transient(format!("failed to {}", crate::text::causes(&error))).because(error)
        })?;
        let report = ReadReport {
            files: stats.files_read,
            bytes: stats.bytes,
            new_turns: ingest.changed(),
            rejected: stats.rejected,
            repaired: stats.repaired,
            incomplete: stats.incomplete,
        };
        Ok((report, files, assembler))
    })
}

fn share(deps: &super::PatrolDeps, request: &SweepRequest) -> Result<AssignOut, NodeError> {
    let due_ms = request.due_only.then(|| deps.clock.now().as_millisecond());

    let as_of = deps.store.last_pass()?;
    let streams = deps.store.pending_streams(due_ms.map_or(Due::All, Due::At))?;
    let pending: usize = streams.iter().map(|stream| stream.pending.len()).sum();
    let (count, agents) = (streams.len(), agent_count(streams.len()));
    let streams = streams
        .into_iter()
        .map(|stream| PendingStream {
            row: stream.row,
            name: stream.name,
            turn_rows: stream.pending,
            pheromone: stream.pheromone,
        })
        .collect();
    let integer = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    Ok(AssignOut {
        pending: integer(pending),
        agents: integer(agents),
        streams: integer(count),
        assignments: assign(streams, Terms { as_of, due_ms, asks_models: deps.asks_models() }),
    })
}

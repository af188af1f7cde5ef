//! A graph as one task of another: a run of its own, with an id that its place gives it, so that a repeated task goes
//! on with the run that is there.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::args::Args;
use super::options::Parent;
use super::output::{Write, Writes};
use super::{Ctx, EngineErrorKind, ErrorClass, NodeError, Outcome, RunControl, RunOptions};
use crate::graph::Graph;
use crate::id::RunId;

/// Runs, or goes on with, the graph of a `graph` node.
pub(crate) fn run(
    inner: Arc<Graph>,
    ctx: Ctx,
    args: Args<'_>,
) -> BoxFuture<'static, Result<Writes, NodeError>> {
    let input: Map<String, Value> = args.to_map();
    Box::pin(async move {
        let run = RunId::from_bytes(*ctx.idempotency_key().as_bytes());
        let shared = &ctx.shared;
        let options = RunOptions {
            run_id: Some(run),
            control: RunControl::under(&shared.cancel, &shared.drain),
            events: shared.publisher.sink(),
            streams: shared.publisher.streams(),
            prompt_texts: Arc::clone(&shared.prompts),
            ..RunOptions::default()
        };
        let parent = Parent { run: shared.run, budget: shared.meter.left() };
        let result = shared.engine.run_or_resume(run, inner, input, options, parent).await;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                let class = match &error.kind {
                    EngineErrorKind::Checkpoint(_) => ErrorClass::Transient,
                    EngineErrorKind::Budget(_) => ErrorClass::Budget,
                    kind => kind.class().unwrap_or(ErrorClass::Permanent),
                };
                return Err(
                    NodeError::new(class, format!("graph `{}`: {}", error.graph, error.kind)).because(error)
                );
            }
        };
        ctx.spend(outcome.used.tokens, outcome.used.micro_usd);
        if let Outcome::Interrupted(cause) = outcome.status {
            let mut rest = NodeError::new(ErrorClass::Transient, "the run inside came to rest");
            rest.suspended = Some(cause);
            return Err(rest);
        }
        let node = shared.plan.node(ctx.node);
        let mut writes = Writes::new();
        for (field, channel) in &node.writes {
            let value = outcome.secrets.get(field).or_else(|| outcome.state.get(field));
            if let Some(value) = value.filter(|value| !value.is_null()) {
                let overwrite = node.overwrite.contains(channel);
                writes.push(Write { channel: *channel, value: value.clone(), overwrite });
            }
        }
        Ok(writes)
    })
}

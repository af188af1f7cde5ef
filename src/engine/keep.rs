//! Results that are kept for a time and stand for a task: same work, same key.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::args::Args;
use super::body::BodyIn;
use super::codec::Codec;
use super::ctx::Shared;
use super::task::Finished;
use super::{Digest, NodeError, Usage};
use crate::graph::{Node, NodeKind};

/// The key of a task's result; none where its node keeps none, or would keep a secret.
pub(crate) fn key(shared: &Arc<Shared>, args: Args<'_>) -> Result<Option<Digest>, NodeError> {
    let Some(cache) = &args.node.cache else { return Ok(None) };
    let graph = args.graph;
    if args.node.writes.iter().any(|(_, channel)| graph.channel(*channel).secret) {
        return Ok(None);
    }
    let input = args.to_map();
    let chosen = match &cache.key {
        None => Value::Object(input),
        Some(key) => key
            .value(|name| input.get(name))
            .map_err(|error| NodeError::permanent(format!("cache key `{}`: {error}", key.source())))?,
    };
    let mut hasher = Sha256::new();
    let mut part = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    };
    part(&graph.name);
    part(&args.node.name);
    match &args.node.kind {
        NodeKind::Task { task } => part(task),
        NodeKind::Prompt { prompt, role, output } => {
            for text in [prompt, role, output] {
                part(text);
            }
            for (_, text) in shared.prompts.iter().filter(|(file, _)| file.starts_with(prompt.as_str())) {
                part(text);
            }
        }
        NodeKind::Graph(inner) => part(&inner.hash),
        NodeKind::Gate(_) => {}
    }
    part(&Value::Object(args.node.with.clone()).to_string());
    part(&chosen.to_string());
    Ok(Some(hasher.finalize().into()))
}

/// A result that still stands. One that cannot be read is none.
pub(crate) async fn find(shared: &Arc<Shared>, key: Digest) -> Option<Finished> {
    let now_ms = shared.clock.now().as_millisecond();
    let body = match shared.engine.checkpointer() {
        Some(store) => store.cached(shared.run, key, now_ms).await.unwrap_or_else(|error| {
            tracing::warn!(run_id = %shared.run, %error, "kept result not read");
            None
        }),
        None => shared.engine.kept(key, now_ms),
    };
    let kept: BodyIn = serde_json::from_str(&body?).ok()?;
    let kept = codec(shared).finished(kept).ok()?;
    Some(Finished { attempts: 0, cached: true, usage: Usage::default(), ..kept })
}

/// Keeps a result. That it could not be kept costs the next task its work, nothing more.
pub(crate) async fn keep(shared: &Arc<Shared>, node: &Node, key: Digest, finished: &Finished) {
    let Some(cache) = &node.cache else { return };
    let ttl_ms = i64::try_from(cache.ttl.as_millis()).unwrap_or(i64::MAX);
    let until_ms = shared.clock.now().as_millisecond().saturating_add(ttl_ms);
    let Ok(body) = codec(shared).task(finished) else { return };
    match shared.engine.checkpointer() {
        Some(store) => {
            if let Err(error) = store.cache(shared.run, key, body, until_ms).await {
                tracing::warn!(run_id = %shared.run, %error, "result not kept");
            }
        }
        None => shared.engine.keep(key, body, until_ms),
    }
}

fn codec(shared: &Shared) -> Codec<'_> {
    Codec { graph: &shared.plan.graph, run: shared.run, keys: shared.keys.as_deref() }
}

//! Node functions that any graph may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::{Ctx, NodeError, Registry};

#[derive(Debug, Deserialize, JsonSchema)]
struct NoteIn {
    /// What to say.
    text: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct NoteOut {}

/// Registers them.
pub(super) fn register(registry: &mut Registry) {
    registry.task(
        "core.note",
        "Says something: an event of the run, and a line in its log",
        |ctx: Ctx, input: NoteIn| async move {
            let text = crate::text::plain(&input.text);
            tracing::info!(run_id = %ctx.run(), node = ctx.node(), text, "note of a graph");
            ctx.emit(json!({ "note": text }));
            Ok::<_, NodeError>(NoteOut {})
        },
    );
}

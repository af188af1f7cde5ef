//! Node functions that any graph may use.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::{Ctx, ErrorClass, NodeError, Registry};
use crate::graph::Effect;

/// Longest time that `core.wait` waits.
const LONGEST: Duration = Duration::from_hours(1);

#[derive(Debug, Deserialize, JsonSchema)]
struct NoteIn {
    /// What to say.
    text: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SetIn {
    /// The value.
    value: Value,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SetOut {
    /// The same value.
    value: Value,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AddIn {
    /// The first number.
    to: i64,
    /// What is added to it; 1 where nothing is said.
    #[serde(default = "one")]
    by: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AddOut {
    /// The sum.
    sum: i64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct CountIn {
    /// A list.
    list: Vec<Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CountOut {
    /// How many items it has.
    count: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WaitIn {
    /// How long, in milliseconds; an hour at most.
    ms: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct FailIn {
    /// The class of the failure, as `retry` and `on_error` name them; `permanent` where nothing is said.
    #[serde(default = "permanent")]
    class: String,
    /// What is said to have happened.
    message: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Nothing {}

const fn one() -> i64 {
    1
}

fn permanent() -> String {
    ErrorClass::Permanent.as_str().to_owned()
}

/// Registers them.
pub(super) fn register(registry: &mut Registry) {
    registry.task(
        "core.note",
        "Says something: an event of the run, and a line in its log",
        |ctx: Ctx, input: NoteIn| async move {
            let text = crate::text::plain(&input.text);
            tracing::info!(run_id = %ctx.run(), node = ctx.node(), text, "note of a graph");
            ctx.emit(json!({ "note": text }));
            Ok::<_, NodeError>(Nothing {})
        },
    );
    registry.task("core.set", "Gives its `value` on, as it is", |_: Ctx, SetIn { value }| async move {
        Ok::<_, NodeError>(SetOut { value })
    });
    registry.task("core.add", "Adds `by` to the number `to`", |_: Ctx, AddIn { to, by }| async move {
        let sum = to.checked_add(by);
        sum.map(|sum| AddOut { sum }).ok_or_else(|| NodeError::permanent(format!("{to} + {by} is too large")))
    });
    registry.task("core.count", "Counts the items of a list", |_: Ctx, CountIn { list }| async move {
        Ok::<_, NodeError>(CountOut { count: list.len() as u64 })
    });
    registry.task("core.wait", "Waits for some milliseconds", |_: Ctx, WaitIn { ms }| async move {
        tokio::time::sleep(Duration::from_millis(ms).min(LONGEST)).await;
        Ok::<_, NodeError>(Nothing {})
    });
    registry.task(
        "core.fail",
        "Fails with a `message`: for branches that must not be reached, and to try error arms",
        |_: Ctx, FailIn { class, message }| async move {
            match class.parse::<ErrorClass>() {
                Ok(class) => Err::<Nothing, _>(NodeError::new(class, message)),
                Err(()) => Err(NodeError::permanent(format!("`{class}` is no class of failures: {message}"))),
            }
        },
    );
    for task in ["core.set", "core.add", "core.count"] {
        registry.effect(task, Effect::Pure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Type;

    #[test]
    fn graphs_see_plain_types() {
        let mut registry = Registry::new();
        register(&mut registry);
        let tasks = registry.catalog().tasks;
        let fields = |task: &str| {
            let task = &tasks[task];
            let inputs =
                task.inputs.iter().map(|field| (field.name.as_str(), field.ty.clone(), field.required));
            (
                inputs.collect::<Vec<_>>(),
                task.outputs.iter().map(|field| field.ty.clone()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(fields("core.set"), (vec![("value", Type::Any, true)], vec![Type::Any]));
        assert_eq!(
            fields("core.add"),
            (vec![("to", Type::Int, true), ("by", Type::Int, false)], vec![Type::Int])
        );
        assert_eq!(
            fields("core.count"),
            (vec![("list", Type::List(Box::new(Type::Any)), true)], vec![Type::Int])
        );
        assert_eq!(fields("core.wait"), (vec![("ms", Type::Int, true)], vec![]));
        assert_eq!(
            fields("core.fail"),
            (vec![("message", Type::String, true), ("class", Type::String, false)], vec![])
        );
    }
}

//! Reducers that a host registers.

use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;

/// Combines the value that a channel holds, if it has one, with a write.
pub(crate) type ReducerFn = Arc<dyn Fn(Option<&Value>, Value) -> Result<Value, String> + Send + Sync>;

/// The registered reducers of one graph, in the order of its `custom_reducers`.
#[derive(Clone, Default)]
pub(crate) struct Reducers(pub(crate) Arc<[ReducerFn]>);

impl Reducers {
    /// Runs one. A panic in it is an error.
    pub(crate) fn reduce(&self, at: usize, held: Option<&Value>, write: Value) -> Result<Value, String> {
        let reducer = self.0.get(at).ok_or("its reducer is not registered")?;
        catch_unwind(AssertUnwindSafe(|| reducer(held, write)))
            .unwrap_or_else(|_| Err("its reducer panicked".to_owned()))
    }
}

impl Debug for Reducers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reducers({})", self.0.len())
    }
}

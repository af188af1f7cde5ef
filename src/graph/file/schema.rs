//! The file format as a JSON Schema, for editors.

use serde_json::Value;

/// JSON Schema (draft 2020-12) of a graph file.
pub fn schema() -> Value {
    serde_json::from_str(include_str!("schema.json")).unwrap_or_default()
}

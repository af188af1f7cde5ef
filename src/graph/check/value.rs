//! Whether a value in the file has a type, registered types included.

use serde_json::Value;

use crate::graph::{Catalog, Type};
use crate::text::bounded;

/// Why a value does not have a type; `None` where it does.
pub(super) fn misfit(ty: &Type, value: &Value, catalog: &Catalog) -> Option<String> {
    match (ty, value) {
        (Type::Named(name), _) => {
            let schema = &catalog.types.get(name)?.schema;
            if schema.is_null() {
                return None;
            }
            // A schema that is itself broken is a bug of the host program, not of the file.
            let validator = jsonschema::validator_for(schema).ok()?;
            validator.validate(value).err().map(|error| bounded(&error.to_string(), 200))
        }
        (Type::Optional(_), Value::Null) => None,
        (Type::Optional(inner), _) => misfit(inner, value, catalog),
        (Type::List(item), Value::Array(items)) => items.iter().find_map(|v| misfit(item, v, catalog)),
        (Type::Map(item), Value::Object(map)) => map.values().find_map(|v| misfit(item, v, catalog)),
        _ if ty.fits(value) => None,
        _ => Some(format!("{} is no `{ty}`", kind(value))),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => format!("`{bool}`"),
        Value::Number(number) => format!("`{number}`"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
    }
}

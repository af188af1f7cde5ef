//! The file format as a JSON Schema, for editors.

use serde_json::{Map, Value, json};

use super::settings::{self, Setting};

/// JSON Schema (draft 2020-12) of `sentrix.toml`.
pub fn schema() -> Value {
    let mut root = table("");
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".into(), json!("sentrix.toml"));
    root.insert("description".into(), json!("Configuration of Sentrix. Secrets never stand in it."));
    Value::Object(root)
}

fn table(path: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    for name in settings::children(path) {
        let inner = settings::join(path, name);
        let value = settings::find(&inner).map_or_else(|| Value::Object(table(&inner)), leaf);
        properties.insert(name.to_owned(), value);
    }
    let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
    if settings::is_open(path) {
        let any = properties.remove("*").unwrap_or_default();
        schema.insert("propertyNames".into(), json!({ "pattern": "^[a-z0-9_-]+/.+" }));
        schema.insert("additionalProperties".into(), any);
    } else {
        schema.insert("properties".into(), Value::Object(properties));
        schema.insert("additionalProperties".into(), json!(false));
    }
    schema
}

fn leaf(setting: &Setting) -> Value {
    let mut schema = setting.kind.schema();
    if let Value::Object(schema) = &mut schema {
        let variables = match setting.variables.as_slice() {
            [] => String::new(),
            names => format!(" Variable: {}.", names.join(", ")),
        };
        schema.insert("description".into(), json!(format!("{}{variables}", setting.doc)));
        if let Some(default) = &setting.default {
            schema.insert("default".into(), default.json());
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_takes_what_the_program_takes() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        let good = json!({ "log_dir": "x", "models": { "patrol": { "provider": "openai", "timeout": "90s",
            "lens": { "injection": { "model": "m" } } } }, "prices": { "openai/x": { "input": 1, "output": 2.5 } },
            "budget": { "day": { "usd": 1 } } });
        assert!(validator.is_valid(&good));
        for bad in [
            json!({ "logdir": "x" }),
            json!({ "models": { "patrol": { "api_key": "x" } } }),
            json!({ "prices": { "x": { "input": 1 } } }),
            json!({ "patrol": { "confidence_threshold": 2 } }),
            json!({ "providers": { "nobody": {} } }),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }
}

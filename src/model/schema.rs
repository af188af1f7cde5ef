//! JSON Schemas of answers: the form each side takes, and what is wrong with an answer.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value, json};

use crate::text;

/// Most faults of an answer that are told.
const MAX_FAULTS: usize = 8;
/// Longest fault, in characters.
const FAULT_CHARS: usize = 300;
/// The property that carries an answer which is no object.
const WRAPPER: &str = "answer";
/// The property in which an answer repeats the question's random word.
const NONCE: &str = "nonce";

/// Most shapes that are remembered.
const MOST_KNOWN: usize = 64;

/// Shapes by their schema's text and whether they ask for the word. Graphs and patrol have a handful, asked for again with
/// every question, and making one means compiling its schema.
static KNOWN: LazyLock<Mutex<Shapes>> = LazyLock::new(Mutex::default);

type Shapes = HashMap<(String, bool), Arc<Shape>>;

/// The shape of an answer: the schema as a provider takes it, and the check against the schema as it was given.
pub(super) struct Shape {
    /// The schema with an object at its root, as both dialects want it.
    pub(super) sent: Value,
    validator: Validator,
    wrapped: bool,
}

impl Shape {
    /// The shape of a schema, with the member in which the answer repeats the question's random word where it is to.
    ///
    /// # Errors
    /// Why the schema is none.
    pub(super) fn of(schema: &Value, with_nonce: bool) -> Result<Arc<Self>, String> {
        let key = (schema.to_string(), with_nonce);
        if let Some(known) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut shape = Self::new(schema)?;
        if with_nonce {
            shape.ask_for_nonce();
        }
        let shape = Arc::new(shape);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(key, Arc::clone(&shape));
        Ok(shape)
    }

    /// # Errors
    /// Why the schema is none.
    fn new(schema: &Value) -> Result<Self, String> {
        let validator = jsonschema::validator_for(schema).map_err(|error| bounded(&error.to_string()))?;
        let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
        let mut inner = schema.clone();
        if let Some(inner) = inner.as_object_mut() {
            inner.remove("$schema");
        }
        if is_object {
            return Ok(Self { sent: inner, validator, wrapped: false });
        }
        // References count from the root, so definitions move there.
        let definitions = inner.as_object_mut().and_then(|inner| inner.remove("$defs"));
        let mut sent = json!({
            "type": "object",
            "properties": { WRAPPER: inner },
            "required": [WRAPPER],
            "additionalProperties": false,
        });
        if let (Some(definitions), Some(sent)) = (definitions, sent.as_object_mut()) {
            sent.insert("$defs".into(), definitions);
        }
        Ok(Self { sent, validator, wrapped: true })
    }

    /// Adds the member in which the answer repeats the question's random word.
    fn ask_for_nonce(&mut self) {
        let Some(sent) = self.sent.as_object_mut() else { return };
        let word = json!({
            "type": "string",
            "description": "The random word in the marks around the data of this question, exactly: WORD of <data-WORD>",
        });
        if let Some(properties) = sent.entry("properties").or_insert_with(|| json!({})).as_object_mut() {
            properties.insert(NONCE.into(), word);
        }
        if let Some(required) = sent.entry("required").or_insert_with(|| json!([])).as_array_mut() {
            required.insert(0, json!(NONCE));
        }
    }

    /// The answer's value, if it has this shape.
    ///
    /// # Errors
    /// All that is wrong, each with its JSON pointer. Names of members may stand in it, values may not.
    pub(super) fn check(&self, value: Value) -> Result<Value, Vec<String>> {
        let value = match value {
            Value::Object(mut map) if self.wrapped && map.len() == 1 && map.contains_key(WRAPPER) => {
                map.remove(WRAPPER).unwrap_or_default()
            }
            value => value,
        };
        if self.validator.is_valid(&value) {
            return Ok(value);
        }
        // A strict schema makes every member required, so an absent one comes as null.
        let without_nulls = drop_nulls(value.clone());
        if self.validator.is_valid(&without_nulls) {
            return Ok(without_nulls);
        }
        let mut faults = Vec::new();
        for error in self.validator.iter_errors(&value) {
            tell(&error, 0, &mut faults);
        }
        faults.dedup();
        faults.truncate(MAX_FAULTS);
        Err(faults)
    }
}

/// Takes the random word out of an answer.
///
/// # Errors
/// Where it is another one or none: the answer was not made from this question.
pub(super) fn take_nonce(value: &mut Value, nonce: &str) -> Result<(), String> {
    let echoed = value.as_object_mut().and_then(|answer| answer.remove(NONCE));
    match echoed {
        Some(Value::String(word)) if word.trim() == nonce => Ok(()),
        _ => Err(format!("at /{NONCE}: must be the random word in the marks around the data, exactly")),
    }
}

fn bounded(message: &str) -> String {
    text::plain(&text::bounded(message, FAULT_CHARS))
}

/// One line for a fault; a choice tells the faults of the branch that the answer came closest to.
fn tell(error: &ValidationError<'_>, depth: usize, out: &mut Vec<String>) {
    if out.len() >= MAX_FAULTS {
        return;
    }
    if let ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } =
        error.kind()
        && depth < 8
    {
        let nearest = context
            .iter()
            .filter(|branch| !branch.is_empty())
            .max_by_key(|branch| branch.iter().map(|fault| fault.instance_path().as_str().len()).max());
        // A branch that fails at the root of the choice says less than the choice itself.
        let own = error.instance_path().as_str().len();
        if let Some(branch) =
            nearest.filter(|b| b.iter().any(|fault| fault.instance_path().as_str().len() > own))
        {
            for fault in branch {
                tell(fault, depth + 1, out);
            }
            return;
        }
    }
    let pointer = error.instance_path().as_str();
    let pointer = if pointer.is_empty() { "the root" } else { pointer };
    out.push(bounded(&format!("at {pointer}: {}", error.masked_with("this value"))));
}

fn drop_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, drop_nulls(v))).collect()
        }
        Value::Array(items) => items.into_iter().map(drop_nulls).collect(),
        other => other,
    }
}

/// The schema in the subset that OpenAI calls strict: every object closed, every member required (an optional
/// one may be null), no keyword it does not know. `None` where the subset cannot say it, as for free maps.
///
/// It admits all that the given schema admits (nulls for absent members apart) and a little more, which
/// [`Shape::check`] then finds.
///
/// Source: OpenAI guide "Structured model outputs", supported schemas.
pub(super) fn strict(schema: &Value) -> Option<Value> {
    strict_node(schema, schema, 0)
}

/// The schema in the subset that Anthropic takes: as [`strict`], without bounds on numbers and lengths, which
/// [`Shape::check`] looks at anyway.
///
/// Source: Anthropic guide "Structured outputs", JSON Schema limitations.
pub(super) fn closed(schema: &Value) -> Option<Value> {
    let mut schema = strict(schema)?;
    without_bounds(&mut schema);
    Some(schema)
}

fn without_bounds(schema: &mut Value) {
    const BOUNDS: [&str; 7] =
        ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems"];
    let Some(node) = schema.as_object_mut() else { return };
    for bound in BOUNDS {
        node.remove(bound);
    }
    for key in ["properties", "$defs"] {
        if let Some(members) = node.get_mut(key).and_then(Value::as_object_mut) {
            members.values_mut().for_each(without_bounds);
        }
    }
    if let Some(items) = node.get_mut("items") {
        without_bounds(items);
    }
    if let Some(branches) = node.get_mut("anyOf").and_then(Value::as_array_mut) {
        branches.iter_mut().for_each(without_bounds);
    }
}

/// Deepest nesting of definitions that are copied to where they are used.
const MAX_COPIES: usize = 4;

fn strict_node(schema: &Value, root: &Value, copies: usize) -> Option<Value> {
    let node = schema.as_object()?;
    if let Some(reference) = node.get("$ref") {
        // A reference may have nothing beside it; where it has a description, the definition is copied, as
        // OpenAI's own libraries do.
        let definition = reference.as_str().and_then(|path| root.pointer(path.strip_prefix('#')?));
        return match (node.get("description"), definition.and_then(Value::as_object)) {
            (Some(description), Some(definition)) if copies < MAX_COPIES => {
                let mut copy = definition.clone();
                copy.insert("description".into(), description.clone());
                strict_node(&Value::Object(copy), root, copies + 1)
            }
            _ => Some(json!({ "$ref": reference })),
        };
    }
    let strict = |schema: &Value| strict_node(schema, root, copies);
    if let Some([only]) = node.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
        && !node.contains_key("properties")
    {
        return strict(only);
    }
    if ["allOf", "patternProperties", "prefixItems", "if", "dependentSchemas"]
        .iter()
        .any(|key| node.contains_key(*key))
    {
        return None;
    }
    let mut out = Map::new();
    for key in COPIED {
        if let Some(value) = node.get(key) {
            out.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(format) = node.get("format").filter(|f| f.as_str().is_some_and(|f| FORMATS.contains(&f))) {
        out.insert("format".into(), format.clone());
    }
    if let Some(constant) = node.get("const") {
        out.insert("enum".into(), json!([constant]));
        // A choice of words needs its type.
        if constant.is_string() {
            out.insert("type".into(), json!("string"));
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(branches) = node.get(key).and_then(Value::as_array) {
            let branches: Option<Vec<Value>> = branches.iter().map(strict).collect();
            out.insert("anyOf".into(), Value::Array(branches?));
        }
    }
    if let Some(definitions) = node.get("$defs").and_then(Value::as_object) {
        let definitions: Option<Map<String, Value>> =
            definitions.iter().map(|(name, schema)| Some((name.clone(), strict(schema)?))).collect();
        out.insert("$defs".into(), Value::Object(definitions?));
    }
    let is = |name: &str| match node.get("type") {
        Some(Value::String(ty)) => ty == name,
        Some(Value::Array(types)) => types.iter().any(|ty| ty.as_str() == Some(name)),
        _ => false,
    };
    if is("object") {
        let open = node.get("additionalProperties").is_some_and(|more| *more != Value::Bool(false));
        let properties = node.get("properties").and_then(Value::as_object);
        if open || (properties.is_none() && !node.contains_key("additionalProperties")) {
            return None;
        }
        let required: Vec<&str> = node
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut closed = Map::new();
        for (name, schema) in properties.into_iter().flatten() {
            let schema = strict(schema)?;
            let schema = if required.contains(&name.as_str()) { schema } else { nullable(schema) };
            closed.insert(name.clone(), schema);
        }
        out.insert("required".into(), closed.keys().cloned().collect());
        out.insert("properties".into(), Value::Object(closed));
        out.insert("additionalProperties".into(), Value::Bool(false));
    }
    if is("array") {
        out.insert("items".into(), strict(node.get("items")?)?);
    }
    let says_something = ["type", "anyOf", "enum"].iter().any(|key| out.contains_key(*key));
    says_something.then_some(Value::Object(out))
}

const COPIED: [&str; 11] = [
    "type",
    "enum",
    "description",
    "pattern",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
];

const FORMATS: [&str; 9] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// The same schema, or null.
fn nullable(schema: Value) -> Value {
    let absent = json!({ "type": "null" });
    match &schema {
        Value::Object(node) => {
            if let Some(Value::Array(types)) = node.get("type")
                && types.iter().any(|ty| ty == "null")
            {
                return schema;
            }
            if node.get("anyOf").and_then(Value::as_array).is_some_and(|branches| branches.contains(&absent))
            {
                return schema;
            }
            json!({ "anyOf": [schema, absent] })
        }
        _ => schema,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Votes {
        /// How bad.
        severity: Severity,
        confidence: f32,
        count: u8,
        note: Option<String>,
        #[serde(default)]
        quotes: Vec<Quote>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Quote {
        text: String,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Severity {
        /// Not bad.
        Low,
        High,
    }

    fn votes() -> Value {
        schemars::schema_for!(Votes).to_value()
    }

    #[test]
    fn a_derived_schema_has_a_strict_form() {
        let severity = json!([
            { "type": "string", "enum": ["high"] },
            { "type": "string", "enum": ["low"], "description": "Not bad." },
        ]);
        let quote = json!({
            "type": "object",
            "properties": { "text": { "type": "string" } },
            "required": ["text"],
            "additionalProperties": false,
        });
        let want = json!({
            "type": "object",
            "properties": {
                "severity": { "anyOf": severity, "description": "How bad." },
                "confidence": { "type": "number" },
                "count": { "type": "integer", "minimum": 0, "maximum": 255 },
                "note": { "type": ["string", "null"] },
                "quotes": {
                    "anyOf": [{ "type": "array", "items": { "$ref": "#/$defs/Quote" } }, { "type": "null" }],
                },
            },
            "required": ["confidence", "count", "note", "quotes", "severity"],
            "additionalProperties": false,
            "$defs": { "Severity": { "anyOf": severity }, "Quote": quote },
        });
        assert_eq!(strict(&Shape::new(&votes()).unwrap().sent), Some(want));
    }

    #[test]
    fn a_schema_that_uses_itself_ends() {
        let node = json!({ "$ref": "#", "description": "again" });
        let schema =
            json!({ "type": "object", "properties": { "a": node, "b": node }, "required": ["a", "b"] });
        assert!(strict(&schema).is_some());
    }

    #[test]
    fn what_the_subset_cannot_say_is_not_said() {
        for schema in [
            json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            json!({ "type": "object" }),
            json!(true),
            json!({}),
            json!({ "type": "array" }),
            json!({ "type": "array", "prefixItems": [{ "type": "string" }] }),
            json!({ "type": "object", "properties": { "any": {} } }),
        ] {
            assert_eq!(strict(&schema), None, "{schema}");
        }
    }

    #[test]
    fn nulls_of_absent_members_are_dropped() {
        let shape = Shape::new(&votes()).unwrap();
        let value = json!({ "severity": "low", "confidence": 0.5, "count": 1, "note": null, "quotes": null });
        let checked = shape.check(value).unwrap();
        assert_eq!(checked, json!({ "severity": "low", "confidence": 0.5, "count": 1 }));
        assert!(shape.check(json!({ "severity": null, "confidence": 0.5, "count": 1 })).is_err());
    }

    #[test]
    fn faults_have_pointers_and_no_values() {
        let shape = Shape::new(&votes()).unwrap();
        let value = json!({ "severity": "hunter2", "count": 1, "quotes": [{ "text": "a" }, { "text": 7 }] });
        let faults = shape.check(value).unwrap_err();
        assert!(faults.iter().any(|fault| fault.starts_with("at /severity: ")), "{faults:#?}");
        assert!(faults.iter().any(|fault| fault.starts_with("at /quotes/1/text: ")), "{faults:#?}");
        assert!(
            faults.iter().any(|fault| fault.contains("\"confidence\" is a required property")),
            "{faults:#?}"
        );
        assert!(!faults.concat().contains("hunter2"), "{faults:#?}");
    }

    #[test]
    fn an_answer_that_is_no_object_travels_in_one() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "array",
            "items": { "$ref": "#/$defs/Word" },
            "$defs": { "Word": { "type": "string" } },
        });
        let shape = Shape::new(&schema).unwrap();
        assert!(jsonschema::validator_for(&shape.sent).unwrap().is_valid(&json!({ "answer": ["a"] })));
        assert_eq!(shape.check(json!({ "answer": ["a"] })), Ok(json!(["a"])));
        assert_eq!(shape.check(json!(["a"])), Ok(json!(["a"])));
        assert!(shape.check(json!({ "answer": [1] })).is_err());
        assert!(Shape::new(&json!({ "type": 5 })).is_err());
    }

    #[test]
    fn many_faults_are_bounded() {
        let schema = json!({ "type": "array", "items": { "type": "string" } });
        let value = Value::Array(vec![json!(1); 10_000]);
        assert_eq!(Shape::new(&schema).unwrap().check(value).unwrap_err().len(), MAX_FAULTS);
    }
}

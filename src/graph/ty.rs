//! Types of state channels and of the fields of inputs and outputs.
//!
//! Written in a graph file as `int`, `float`, `string`, `bool`, `any`, the name of a registered Rust type, `T?` for
//! a value that may be null, `T[]` for a list and `{T}` for an object whose values are `T`.

use std::fmt;

use serde_json::Value;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Any JSON value.
    Any,
    /// `true` or `false`.
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// A number.
    Float,
    /// A string.
    String,
    /// A registered Rust type.
    Named(String),
    /// A list.
    List(Box<Type>),
    /// An object with any keys.
    Map(Box<Type>),
    /// A value or null.
    Optional(Box<Type>),
}

impl Type {
    /// Reads a type as a graph file writes it. `None` where the text is no type; whether a name is
    /// registered is for the caller to say.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(inner) = text.strip_suffix('?') {
            return Some(Self::Optional(Box::new(Self::parse(inner)?)));
        }
        if let Some(inner) = text.strip_suffix("[]") {
            return Some(Self::List(Box::new(Self::parse(inner)?)));
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return Some(Self::Map(Box::new(Self::parse(inner)?)));
        }
        Some(match text {
            "any" => Self::Any,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "float" => Self::Float,
            "string" => Self::String,
            name if is_name(name) => Self::Named(name.to_owned()),
            _ => return None,
        })
    }

    /// The type that a JSON Schema, as schemars writes it for a field, describes. What has no place in this
    /// little type language is [`Type::Any`].
    pub fn from_schema(schema: &Value) -> Self {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            return Self::Named(name.to_owned());
        }
        // schemars writes Option<Named> as anyOf [$ref, null].
        for key in ["anyOf", "oneOf"] {
            if let Some([first, second]) = schema.get(key).and_then(Value::as_array).map(Vec::as_slice)
                && second.get("type").and_then(Value::as_str) == Some("null")
            {
                return Self::Optional(Box::new(Self::from_schema(first)));
            }
        }
        match schema.get("type") {
            Some(Value::String(name)) => Self::from_type_name(name, schema),
            // schemars writes Option<i64> as type ["integer", "null"].
            Some(Value::Array(names)) => {
                let mut others = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
                match (others.next(), others.next()) {
                    (Some(name), None) if names.len() == 2 => {
                        Self::Optional(Box::new(Self::from_type_name(name, schema)))
                    }
                    _ => Self::Any,
                }
            }
            _ => Self::Any,
        }
    }

    fn from_type_name(name: &str, schema: &Value) -> Self {
        let inner = |key: &str| Box::new(schema.get(key).map_or(Self::Any, Self::from_schema));
        match name {
            "boolean" => Self::Bool,
            "integer" => Self::Int,
            "number" => Self::Float,
            "string" => Self::String,
            "array" => Self::List(inner("items")),
            "object" => Self::Map(inner("additionalProperties")),
            _ => Self::Any,
        }
    }

    /// Whether a place of this type can take every value of `from`. `any` fits everywhere, and everything
    /// fits into `any`: what it holds is checked when it is used.
    pub fn accepts(&self, from: &Self) -> bool {
        match (self, from) {
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Optional(to), Self::Optional(from)) => to.accepts(from),
            (Self::Optional(to), from) => to.accepts(from),
            (Self::Float, Self::Int) => true,
            (Self::List(to), Self::List(from)) | (Self::Map(to), Self::Map(from)) => to.accepts(from),
            (to, from) => to == from,
        }
    }

    /// Whether a JSON value has this type, as far as this type language can say: of a named type only the
    /// registered schema knows.
    pub fn fits(&self, value: &Value) -> bool {
        match self {
            Self::Any | Self::Named(_) => true,
            Self::Bool => value.is_boolean(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::Float => value.is_number(),
            Self::String => value.is_string(),
            Self::List(item) => value.as_array().is_some_and(|items| items.iter().all(|v| item.fits(v))),
            Self::Map(item) => value.as_object().is_some_and(|map| map.values().all(|v| item.fits(v))),
            Self::Optional(inner) => value.is_null() || inner.fits(value),
        }
    }

    /// The registered names in this type.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Named(name) => vec![name],
            Self::List(inner) | Self::Map(inner) | Self::Optional(inner) => inner.names(),
            _ => Vec::new(),
        }
    }

    /// Whether null is a value of this type.
    pub fn is_optional(&self) -> bool {
        matches!(self, Self::Optional(_) | Self::Any)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Float => f.write_str("float"),
            Self::String => f.write_str("string"),
            Self::Named(name) => f.write_str(name),
            Self::List(inner) => write!(f, "{inner}[]"),
            Self::Map(inner) => write!(f, "{{{inner}}}"),
            Self::Optional(inner) => write!(f, "{inner}?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_read_back_as_they_are_written() {
        for text in ["any", "bool", "int?", "Vote[]", "{string}", "{Vote[]}?", "float[]?"] {
            assert_eq!(Type::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "vote", "int[", "{int", "Vote Flag", "integer"] {
            assert_eq!(Type::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_fits_where() {
        let accepts = |to: &str, from: &str| Type::parse(to).unwrap().accepts(&Type::parse(from).unwrap());
        assert!(accepts("int?", "int") && accepts("float", "int") && accepts("Vote[]", "Vote[]"));
        assert!(!accepts("int", "int?") && !accepts("int", "float") && !accepts("Vote", "Flag"));
    }
}

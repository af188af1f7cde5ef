//! What values a setting takes: checked the same way in a file and in a variable.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Value as Json, json};
use toml::Spanned;
use toml::de::DeValue;

use super::fault::code;
use super::words;
use crate::model::{meant, providers};

/// What a setting takes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Any text that is not empty.
    Text,
    /// A path; `~/` is the user's folder.
    Path,
    /// `http://…` or `https://…`.
    Url,
    /// The name of a variable.
    Variable,
    /// A whole number.
    Whole(RangeInclusive<u64>),
    /// A number.
    Number(RangeInclusive<f64>),
    /// `true` or `false`.
    Bool,
    /// A time, as `10s`; the range is in seconds.
    Duration(RangeInclusive<u64>),
    /// One of some words.
    Choice(&'static [&'static str]),
    /// The id of a provider.
    Provider,
    /// A list of `provider/model`.
    Models,
}

/// A value of a setting.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(u64),
    Number(f64),
    Bool(bool),
    Duration(Duration),
    List(Vec<String>),
}

/// Why a value is none that the setting takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: &'static str,
    /// What is there.
    pub(super) label: String,
    /// What to do.
    pub(super) help: String,
}

impl Wrong {
    fn new(code: &'static str, label: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, label: label.into(), help: help.into() }
    }
}

impl Kind {
    /// What it takes, for messages: `a whole number from 1 to 5`.
    pub(super) fn takes(&self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Path => "a path".into(),
            Self::Url => "a URL that begins with `http://` or `https://`".into(),
            Self::Variable => "the name of a variable, as `MY_KEY`".into(),
            Self::Whole(range) if *range.end() >= u64::from(u32::MAX) => {
                format!("a whole number from {}", range.start())
            }
            Self::Whole(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Self::Number(range) => format!("a number from {} to {}", range.start(), range.end()),
            Self::Bool => "`true` or `false`".into(),
            Self::Duration(range) => format!(
                "a time from {} to {}, as `10s` or `2m`",
                written(Duration::from_secs(*range.start())),
                written(Duration::from_secs(*range.end()))
            ),
            Self::Choice(words) => format!("one of {}", words::list(words.iter().copied())),
            Self::Provider => "the id of a provider".into(),
            Self::Models => "a list of `provider/model`".into(),
        }
    }

    /// A value of a TOML file.
    pub(super) fn of_toml(&self, value: &DeValue<'_>) -> Result<Value, Wrong> {
        let wrong_type = || {
            let quotes = match self {
                Self::Bool | Self::Whole(_) | Self::Number(_) | Self::Models => "",
                _ => ", in quotes",
            };
            let help = format!("write {}{quotes}", self.takes());
            Wrong::new(code::WRONG_TYPE, format!("this is {}", kind_of(value)), help)
        };
        match (self, value) {
            (Self::Whole(_) | Self::Number(_), DeValue::Integer(_) | DeValue::Float(_)) => {
                self.of_number(value).ok_or_else(wrong_type)?
            }
            (Self::Bool, DeValue::Boolean(value)) => Ok(Value::Bool(*value)),
            (Self::Models, DeValue::Array(items)) => {
                let texts: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
                models(texts.ok_or_else(wrong_type)?)
            }
            (Self::Whole(_) | Self::Number(_) | Self::Bool | Self::Models, _) => Err(wrong_type()),
            (_, DeValue::String(text)) => self.of_text(text),
            _ => Err(wrong_type()),
        }
    }

    fn of_number(&self, value: &DeValue<'_>) -> Option<Result<Value, Wrong>> {
        match (self, value) {
            (Self::Whole(range), DeValue::Integer(digits)) => {
                let number = i128::from_str_radix(digits.as_str(), digits.radix());
                Some(whole(number.unwrap_or(i128::MAX), range))
            }
            (Self::Number(range), DeValue::Integer(digits)) => {
                let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok()?;
                Some(in_range(number.to_string().parse().ok()?, range))
            }
            (Self::Number(range), DeValue::Float(digits)) => {
                Some(in_range(digits.as_str().replace('_', "").parse().ok()?, range))
            }
            _ => None,
        }
    }

    /// A value of a variable, or of a string in a file.
    pub(super) fn of_text(&self, text: &str) -> Result<Value, Wrong> {
        let text = text.trim();
        let wrong = || {
            Wrong::new(code::WRONG_TYPE, format!("not {}", self.takes()), format!("write {}", self.takes()))
        };
        let given = || Ok(Value::Text(text.to_owned()));
        match self {
            _ if text.is_empty() => Err(Wrong::new(code::WRONG_TYPE, "this is empty", wrong().help)),
            Self::Text | Self::Path => given(),
            Self::Url => {
                let is_url = ["http://", "https://"].iter().any(|head| text.starts_with(head));
                if is_url { given() } else { Err(wrong()) }
            }
            Self::Variable => {
                let is_name = text.len() <= 100
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                    && !text.starts_with(|c: char| c.is_ascii_digit());
                if is_name { given() } else { Err(wrong()) }
            }
            Self::Whole(range) => whole(text.replace('_', "").parse().map_err(|_| wrong())?, range),
            Self::Number(range) => in_range(text.parse().map_err(|_| wrong())?, range),
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
                "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
                _ => Err(wrong()),
            },
            Self::Duration(range) => match duration(text) {
                Some(time) if range.contains(&time.as_secs()) => Ok(Value::Duration(time)),
                Some(_) => Err(Wrong::new(code::OUT_OF_RANGE, "out of range", wrong().help)),
                None => Err(Wrong::new(code::WRONG_TYPE, "this is no time", wrong().help)),
            },
            Self::Choice(all) if all.contains(&text) => given(),
            Self::Choice(all) => Err(Wrong::new(
                code::UNKNOWN_WORD,
                "no such value",
                words::help(text, all.iter().copied(), "values"),
            )),
            Self::Provider if text == NO_MODEL => Ok(Value::Text(text.to_owned())),
            Self::Provider => provider_id(text).map(|()| Value::Text(text.to_owned())),
            Self::Models => models(text.split(',').map(str::trim).collect()),
        }
    }

    /// The JSON Schema of the values that a file may have.
    pub(super) fn schema(&self) -> Json {
        match self {
            Self::Text | Self::Path => json!({ "type": "string", "minLength": 1 }),
            Self::Url => json!({ "type": "string", "pattern": "^https?://" }),
            Self::Variable => json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" }),
            Self::Whole(range) => {
                json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
            }
            Self::Number(range) => {
                json!({ "type": "number", "minimum": range.start(), "maximum": range.end() })
            }
            Self::Bool => json!({ "type": "boolean" }),
            Self::Duration(_) => json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" }),
            Self::Choice(words) => json!({ "enum": words }),
            Self::Provider => json!({ "enum": provider_ids().chain([NO_MODEL]).collect::<Vec<_>>() }),
            Self::Models => {
                json!({ "type": "array", "items": { "type": "string", "pattern": "^[a-z0-9_-]+/.+" } })
            }
        }
    }
}

impl Value {
    /// As `config show` and the template write it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Duration(time) => written(*time),
            Self::List(items) => items.join(", "),
        }
    }

    /// As JSON; a time is a string, as in a file.
    pub(super) fn json(&self) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Whole(number) => json!(number),
            Self::Number(number) => json!(number),
            Self::Bool(value) => json!(value),
            Self::Duration(time) => json!(written(*time)),
            Self::List(items) => json!(items),
        }
    }

    /// As a TOML file has it.
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Text(_) | Self::Duration(_) | Self::List(_) => self.json().to_string(),
            _ => self.shown(),
        }
    }
}

/// In the place of a provider: no model at all, whatever keys there are.
pub(super) const NO_MODEL: &str = "none";

/// The ids of all providers.
pub(super) fn provider_ids() -> impl Iterator<Item = &'static str> + Clone {
    providers().iter().map(|provider| provider.id.as_str())
}

/// The two halves of `provider/model`.
pub(super) fn model_ref(text: &str) -> Option<(&str, &str)> {
    text.split_once('/').filter(|(provider, model)| !provider.is_empty() && !model.is_empty())
}

/// That text names a model of a provider that there is.
pub(super) fn is_model_ref(text: &str) -> Result<(), Wrong> {
    let Some((provider, _)) = model_ref(text) else {
        let label = "not `provider/model`";
        return Err(Wrong::new(code::WRONG_TYPE, label, "write the provider's id, a slash and the model"));
    };
    provider_id(provider)
}

fn provider_id(id: &str) -> Result<(), Wrong> {
    if provider_ids().any(|known| known == id) {
        return Ok(());
    }
    let help = meant(id).map_or_else(
        || words::help(id, provider_ids(), "providers"),
        |meant| format!("did you mean `{}`?", meant.id),
    );
    Err(Wrong::new(code::UNKNOWN_PROVIDER, "no such provider", help))
}

fn models(texts: Vec<&str>) -> Result<Value, Wrong> {
    for text in &texts {
        is_model_ref(text)?;
    }
    Ok(Value::List(texts.into_iter().map(str::to_owned).collect()))
}

fn whole(number: i128, range: &RangeInclusive<u64>) -> Result<Value, Wrong> {
    match u64::try_from(number) {
        Ok(number) if range.contains(&number) => Ok(Value::Whole(number)),
        _ if number < i128::from(*range.start()) => Err(small(&range.start().to_string())),
        _ => Err(large(&range.end().to_string())),
    }
}

fn in_range(number: f64, range: &RangeInclusive<f64>) -> Result<Value, Wrong> {
    if range.contains(&number) {
        Ok(Value::Number(number))
    } else if number < *range.start() {
        Err(small(&range.start().to_string()))
    } else {
        Err(large(&range.end().to_string()))
    }
}

fn small(least: &str) -> Wrong {
    Wrong::new(code::OUT_OF_RANGE, "too small", format!("write {least} or more"))
}

fn large(most: &str) -> Wrong {
    Wrong::new(code::OUT_OF_RANGE, "too large", format!("write {most} or less"))
}

/// What a value is, for messages.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a bool",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Reads `500ms`, `60s`, `10m`, `2h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
    let each = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(each)?))
}

/// A time in the largest unit that is exact.
fn written(time: Duration) -> String {
    let millis = time.as_millis();
    for (unit, each) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= each && millis.is_multiple_of(each) {
            return format!("{}{unit}", millis / each);
        }
    }
    format!("{millis}ms")
}

/// The items of a list that are strings, with their places.
pub(super) fn items<'d>(value: &'d DeValue<'d>) -> impl Iterator<Item = Spanned<&'d str>> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| Some(Spanned::new(item.span(), item.get_ref().as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_by_kind() {
        let ok = |kind: Kind, text: &str, shown: &str| {
            assert_eq!(
                kind.of_text(text).map(|value| value.shown()),
                Ok(shown.to_owned()),
                "{kind:?} {text}"
            );
        };
        ok(Kind::Whole(1..=5), " 5\r\n", "5");
        ok(Kind::Whole(1..=5_000), "2_048", "2048");
        ok(Kind::Number(0.0..=1.0), "0.60", "0.6");
        ok(Kind::Bool, "On", "true");
        ok(Kind::Duration(1..=3_600), "120s", "2m");
        ok(Kind::Duration(0..=3_600), "1500ms", "1500ms");
        ok(Kind::Models, "openai/gpt-4o, anthropic/x/y", "openai/gpt-4o, anthropic/x/y");
        let wrong = |kind: Kind, text: &str| kind.of_text(text).unwrap_err();
        assert_eq!(wrong(Kind::Whole(1..=5), "6").help, "write 5 or less");
        assert_eq!(wrong(Kind::Whole(1..=5), "0").label, "too small");
        assert_eq!(wrong(Kind::Number(0.0..=1.0), "nan").code, code::OUT_OF_RANGE);
        assert_eq!(wrong(Kind::Provider, "antropic").help, "did you mean `anthropic`?");
        assert_eq!(wrong(Kind::Models, "gpt-4o").label, "not `provider/model`");
        for text in ["", "2", "1w", "-1s", "1.5s", "99999999999999999999s", "2h", "ä"] {
            wrong(Kind::Duration(1..=3_600), text);
        }
        for text in ["sk-ant-abc", "9A", "A B", ""] {
            wrong(Kind::Variable, text);
        }
    }
}

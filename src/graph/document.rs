//! A TOML table read leniently: each value is asked for by key and type, what does not fit becomes a fault,
//! and what nobody asked for is an unknown key. Nothing stops at the first fault.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codes;
use super::fault::Fault;
use super::suggest;

/// A value that a key may have.
#[derive(Clone, Debug)]
pub(super) enum Slot<T> {
    /// The key is not there.
    Absent,
    /// The key is there, and its value was a fault.
    Broken,
    /// The key and its value.
    Given(Spanned<T>),
}

impl<T> Slot<T> {
    /// The value, if it is there and right.
    pub(super) fn get(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }

    /// Whether the key is missing.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// One table of the document.
pub(super) struct Table<'d> {
    entries: Vec<(Spanned<&'d str>, &'d Spanned<DeValue<'d>>)>,
    asked: Vec<&'static str>,
    /// How messages call the table, as `[graph]`.
    pub(super) title: String,
    /// Where the table is, for what is missing in it.
    pub(super) span: Range<usize>,
}

impl<'d> Table<'d> {
    /// A table with its entries in the order of the text.
    pub(super) fn new(table: &'d DeTable<'d>, title: impl Into<String>, span: Range<usize>) -> Self {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| (Spanned::new(key.span(), key.get_ref().as_ref()), value))
            .collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        Self { entries, asked: Vec::new(), title: title.into(), span }
    }

    /// Every key with its value.
    pub(super) fn entries(&self) -> &[(Spanned<&'d str>, &'d Spanned<DeValue<'d>>)] {
        &self.entries
    }

    /// The value of a key; asking makes the key known.
    pub(super) fn get(&mut self, key: &'static str) -> Option<(Spanned<&'d str>, &'d Spanned<DeValue<'d>>)> {
        self.asked.push(key);
        self.entries
            .iter()
            .find(|(name, _)| *name.get_ref() == key)
            .map(|(name, value)| (name.clone(), *value))
    }

    /// Where a key is.
    pub(super) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.entries.iter().find(|(name, _)| *name.get_ref() == key).map(|(name, _)| name.span())
    }

    /// A string.
    pub(super) fn string(&mut self, key: &'static str, faults: &mut Vec<Fault>) -> Slot<String> {
        self.read(key, "a string in quotes", faults, |value| value.as_str().map(str::to_owned))
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, key: &'static str, faults: &mut Vec<Fault>) -> Slot<bool> {
        self.read(key, "`true` or `false`", faults, DeValue::as_bool)
    }

    /// A whole number in a range.
    pub(super) fn int(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
        faults: &mut Vec<Fault>,
    ) -> Slot<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        match self.whole(key, range, faults) {
            Slot::Given(number) => narrow(&number),
            Slot::Absent => Slot::Absent,
            Slot::Broken => Slot::Broken,
        }
    }

    /// A whole number in a range beyond 32 bits.
    pub(super) fn whole(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        faults: &mut Vec<Fault>,
    ) -> Slot<u64> {
        let Some((_, value)) = self.get(key) else { return Slot::Absent };
        if let Some(number) = integer(value.get_ref()) {
            in_range(key, number, value.span(), range, faults)
        } else {
            faults.push(self.wrong_type(key, "a whole number", value));
            Slot::Broken
        }
    }

    /// A number, whole or not.
    pub(super) fn number(&mut self, key: &'static str, faults: &mut Vec<Fault>) -> Slot<f64> {
        self.read(key, "a number", faults, |value| match value {
            DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
            // Of text, so that nothing is rounded twice.
            DeValue::Integer(_) => integer(value)?.to_string().parse().ok(),
            _ => None,
        })
    }

    /// A string or a list of strings.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        wanted: &str,
        faults: &mut Vec<Fault>,
    ) -> Slot<Vec<Spanned<String>>> {
        match self.get(key) {
            Some((_, value)) => self.strings_of(key, wanted, value, faults),
            None => Slot::Absent,
        }
    }

    /// A value as a string or a list of strings.
    pub(super) fn strings_of(
        &self,
        key: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
        faults: &mut Vec<Fault>,
    ) -> Slot<Vec<Spanned<String>>> {
        if let Some(text) = value.get_ref().as_str() {
            let one = Spanned::new(value.span(), text.to_owned());
            return Slot::Given(Spanned::new(value.span(), vec![one]));
        }
        let Some(items) = value.get_ref().as_array() else {
            faults.push(self.wrong_type(key, wanted, value));
            return Slot::Broken;
        };
        let mut out = Vec::new();
        let mut broken = false;
        for item in items {
            if let Some(text) = item.get_ref().as_str() {
                out.push(Spanned::new(item.span(), text.to_owned()));
            } else {
                faults.push(self.wrong_type(key, wanted, item));
                broken = true;
            }
        }
        if broken && out.is_empty() { Slot::Broken } else { Slot::Given(Spanned::new(value.span(), out)) }
    }

    /// A table inside this one, read by `read` and searched for unknown keys.
    pub(super) fn inner<T>(
        &mut self,
        key: &'static str,
        faults: &mut Vec<Fault>,
        read: impl FnOnce(&mut Table<'d>, &mut Vec<Fault>) -> T,
    ) -> Slot<T> {
        let title = format!("`{key}` of {}", self.title);
        match self.table(key, title, faults) {
            Slot::Given(inner) => {
                let span = inner.span();
                let mut inner = inner.into_inner();
                let value = read(&mut inner, faults);
                inner.finish(faults);
                Slot::Given(Spanned::new(span, value))
            }
            Slot::Absent => Slot::Absent,
            Slot::Broken => Slot::Broken,
        }
    }

    /// A duration, as `60s`.
    pub(super) fn duration(&mut self, key: &'static str, faults: &mut Vec<Fault>) -> Slot<Duration> {
        let Slot::Given(text) = self.read(key, "a duration in quotes, as `\"60s\"`", faults, |value| {
            value.as_str().map(str::to_owned)
        }) else {
            return if self.key_span(key).is_some() { Slot::Broken } else { Slot::Absent };
        };
        match duration(text.get_ref()) {
            Ok(value) => Slot::Given(Spanned::new(text.span(), value)),
            Err(why) => {
                faults.push(Fault::new(
                    codes::BAD_DURATION,
                    text.span(),
                    why,
                    format!("`{key}` of {} is no duration: `{}`", self.title, text.get_ref()),
                    "write a whole number and a unit: `500ms`, `60s`, `10m`, `2h` or `1d`",
                ));
                Slot::Broken
            }
        }
    }

    /// A table inside this one.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        title: impl Into<String>,
        faults: &mut Vec<Fault>,
    ) -> Slot<Table<'d>> {
        let Some((name, value)) = self.get(key) else { return Slot::Absent };
        if let DeValue::Table(table) = value.get_ref() {
            let span = if value.span().is_empty() { name.span() } else { value.span() };
            Slot::Given(Spanned::new(span.clone(), Table::new(table, title, span)))
        } else {
            faults.push(self.wrong_type(key, "a table `{ … }`", value));
            Slot::Broken
        }
    }

    /// A value of any type.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        faults: &mut Vec<Fault>,
        convert: impl FnOnce(&'d DeValue<'d>) -> Option<T>,
    ) -> Slot<T> {
        let Some((_, value)) = self.get(key) else { return Slot::Absent };
        if let Some(converted) = convert(value.get_ref()) {
            Slot::Given(Spanned::new(value.span(), converted))
        } else {
            faults.push(self.wrong_type(key, wanted, value));
            Slot::Broken
        }
    }

    /// The fault of a value that has another type than is wanted.
    pub(super) fn wrong_type(&self, key: &str, wanted: &str, value: &Spanned<DeValue<'_>>) -> Fault {
        let found = kind_of(value.get_ref());
        Fault::new(
            codes::WRONG_TYPE,
            value.span(),
            format!("this is {found}"),
            format!("`{key}` of {} must be {wanted}", self.title),
            format!("write {wanted}"),
        )
    }

    /// Says that a key is missing.
    pub(super) fn missing(&self, key: &str, help: &str) -> Fault {
        Fault::new(
            codes::MISSING_KEY,
            self.span.clone(),
            format!("`{key}` is missing here"),
            format!("{} has no `{key}`", self.title),
            help,
        )
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, faults: &mut Vec<Fault>) {
        #[cfg(test)]
        asked::note(&self.title, &self.asked);
        for (key, _) in &self.entries {
            if !self.asked.contains(key.get_ref()) {
                faults.push(self.unknown(key, &self.asked));
            }
        }
    }

    /// The fault of an unknown key.
    pub(super) fn unknown(&self, key: &Spanned<&str>, known: &[&'static str]) -> Fault {
        Fault::new(
            codes::UNKNOWN_KEY,
            key.span(),
            "no such key",
            format!("{} has no key `{}`", self.title, key.get_ref()),
            suggest::help(key.get_ref(), known.iter().copied(), "keys"),
        )
    }
}

/// The number, if it lies in the range.
pub(super) fn in_range(
    key: &str,
    number: i128,
    span: Range<usize>,
    range: RangeInclusive<u64>,
    faults: &mut Vec<Fault>,
) -> Slot<u64> {
    match u64::try_from(number) {
        Ok(value) if range.contains(&value) => Slot::Given(Spanned::new(span, value)),
        _ => {
            let (least, most) = (range.start(), range.end());
            faults.push(Fault::new(
                codes::OUT_OF_RANGE,
                span,
                if number < i128::from(*least) { "too small" } else { "too large" },
                format!("`{key}` must be between {least} and {most}"),
                if number < i128::from(*least) {
                    format!("write {least} or more")
                } else {
                    format!("write {most} or less")
                },
            ));
            Slot::Broken
        }
    }
}

/// A number that is known to have 32 bits.
pub(super) fn narrow(number: &Spanned<u64>) -> Slot<u32> {
    u32::try_from(*number.get_ref())
        .map_or(Slot::Broken, |small| Slot::Given(Spanned::new(number.span(), small)))
}

/// The whole number of a value; what is beyond 128 bits counts as the largest or smallest.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    let digits = integer.as_str();
    let beyond = if digits.starts_with('-') { i128::MIN } else { i128::MAX };
    Some(i128::from_str_radix(digits, integer.radix()).unwrap_or(beyond))
}

/// What a value is, for messages.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a bool",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value as JSON; a date becomes a string.
///
/// # Errors
/// The place of a number that JSON cannot hold.
pub(super) fn json(value: &Spanned<DeValue<'_>>) -> Result<Value, Range<usize>> {
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(_) => {
            let number = integer(value.get_ref()).ok_or_else(|| value.span())?;
            match (i64::try_from(number), u64::try_from(number)) {
                (Ok(small), _) => Value::from(small),
                (Err(_), Ok(large)) => Value::from(large),
                (Err(_), Err(_)) => return Err(value.span()),
            }
        }
        DeValue::Float(float) => {
            let number: f64 = float.as_str().parse().map_err(|_| value.span())?;
            Value::Number(serde_json::Number::from_f64(number).ok_or_else(|| value.span())?)
        }
        DeValue::Boolean(bool) => Value::Bool(*bool),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), json(value)?)))
                .collect::<Result<_, Range<usize>>>()?,
        ),
    })
}

/// Reads `500ms`, `60s`, `10m`, `2h`, `1d`.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err("no number in front");
    }
    let number: u64 = number.parse().map_err(|_| "longer than 365 days")?;
    let millis_each: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err("no unit behind"),
        _ => return Err("no such unit"),
    };
    match number.checked_mul(millis_each) {
        Some(millis) if millis <= 365 * 86_400_000 => Ok(Duration::from_millis(millis)),
        _ => Err("longer than 365 days"),
    }
}

/// A duration as a graph file writes it, in the largest unit that is exact.
pub(super) fn written(limit: Duration) -> String {
    let millis = limit.as_millis();
    for (unit, each) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= each && millis.is_multiple_of(each) {
            return format!("{}{unit}", millis / each);
        }
    }
    format!("{millis}ms")
}

/// Which keys were asked for in which tables, for the test that compares them with the schema.
#[cfg(test)]
pub(super) mod asked {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    thread_local! {
        static KEYS: RefCell<BTreeMap<String, BTreeSet<&'static str>>> = RefCell::default();
    }

    /// What a table is, whatever node or channel it belongs to.
    fn kind(title: &str) -> String {
        let first = title.split(" of ").next().unwrap_or_default();
        let first = first.split('.').next().unwrap_or_default();
        first.trim_matches(['[', ']', '`']).to_owned()
    }

    pub(in crate::graph) fn note(title: &str, keys: &[&'static str]) {
        KEYS.with_borrow_mut(|all| all.entry(kind(title)).or_default().extend(keys));
    }

    /// What was asked for on this thread so far.
    pub(in crate::graph) fn take() -> BTreeMap<String, BTreeSet<&'static str>> {
        KEYS.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in
            [("500ms", 500), ("60s", 60_000), ("10m", 600_000), ("2h", 7_200_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
            assert_eq!(duration(&written(Duration::from_millis(millis))), duration(text));
        }
        for text in ["", "s", "10", "1w", "-1s", "1.5s", "99999999999999999999s", "366d", "ä", "1ä"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

//! Every environment variable that Sentrix reads, declared once with what it does.

use secrecy::SecretString;

/// A variable of the environment.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, for people.
    pub doc: &'static str,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        $($(#[doc = $doc])+ pub const $name: Variable = Variable { name: stringify!($name), doc: concat!($($doc),+) };)+

        /// All of them, in the order in which they are documented.
        pub const ALL: &[Variable] = &[$($name),+];
    };
}

variables! {
    /// Key for OpenAI's API: patrol and investigation use a model once it is set.
    OPENAI_API_KEY;
    /// Base URL of an OpenAI-compatible endpoint (default `https://api.openai.com/v1`).
    OPENAI_BASE_URL;
    /// Key for Anthropic's API.
    ANTHROPIC_API_KEY;
    /// Base URL of an Anthropic-compatible endpoint (default `https://api.anthropic.com`).
    ANTHROPIC_BASE_URL;
    /// Model for patrol (default depends on the provider).
    PATROL_MODEL;
    /// Model for investigations (default depends on the provider).
    POLICE_MODEL;
    /// Version name of the rules in the record of cleared turns (default: the rule packs' own).
    PATROL_RULESET_VERSION;
    /// Version name of the model in the record of cleared turns (default: the model really used).
    PATROL_MODEL_VERSION;
    /// Lowest confidence, 0 to 1, that a model's vote needs to count (default 0.6).
    PATROL_CONFIDENCE_THRESHOLD;
    /// Most tokens of one patrol answer (default 2048).
    PATROL_MAX_TOKENS;
    /// Most tokens of one investigation answer (default 4096).
    POLICE_MAX_TOKENS;
    /// Most characters of log text that an investigation reads at once (default 80000).
    POLICE_MAX_TURN_CHARS;
    /// Secret of 32 characters or more that seals secret channels and signs logs and gate answers (default: the file `.sentrix.key` in the data directory).
    SENTRIX_STATE_KEY;
    /// What is logged to standard error, as `debug` or `sentrix::engine=trace` (default `warn`).
    SENTRIX_LOG;
    /// Who answers gates and edits runs, where `--by` does not say.
    USER;
    /// Any value: no colour.
    NO_COLOR;
}

/// The variable's value, without surrounding white space; `None` where it is unset or empty.
pub fn get(variable: Variable) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    let value = std::env::var(variable.name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The value of a variable that data names, as the table of providers does, or that is the system's own; else as [`get`].
pub fn get_named(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// A secret variable's value; `no-key-set` counts as none.
pub fn secret(variable: Variable) -> Option<SecretString> {
    get(variable).filter(|value| value != "no-key-set").map(SecretString::from)
}

/// A number in the environment.
///
/// # Errors
/// A message that names the variable, its value and what it takes.
pub fn number<T>(variable: Variable, default: T, takes: &str, valid: impl Fn(&T) -> bool) -> Result<T, String>
where
    T: std::str::FromStr,
{
    let Some(text) = get(variable) else { return Ok(default) };
    match text.parse::<T>() {
        Ok(value) if valid(&value) => Ok(value),
        _ => Err(format!("{} is `{}`, but takes {takes}", variable.name, crate::text::plain(&text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_documented_and_named_once() {
        let mut names: Vec<&str> = ALL.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|variable| variable.doc.len() > 10));
    }
}

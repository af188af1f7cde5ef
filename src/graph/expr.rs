//! Conditions on edges: minijinja's expression language over the state channels, without functions of the
//! outside, and with a limit on the work one evaluation may do.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::value::Serde;
use minijinja::{Environment, Expression, UndefinedBehavior};
use serde_json::Value;

/// Most work units one evaluation may use.
const FUEL: u64 = 20_000;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Debug output of minijinja shows variables; conditions read untrusted text.
    environment.set_debug(false);
    environment
});

/// A parsed condition.
#[derive(Clone)]
pub struct Expr {
    source: Arc<str>,
    variables: Arc<BTreeSet<String>>,
    compiled: Arc<Expression<'static, 'static>>,
}

/// Why a condition cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// What is wrong, without the values of variables.
    pub message: String,
    /// Where in the expression's text, in bytes, if known.
    pub range: Option<std::ops::Range<usize>>,
}

impl From<minijinja::Error> for ExprError {
    fn from(error: minijinja::Error) -> Self {
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        Self { message: format!("{}{detail}", error.kind()), range: error.range() }
    }
}

impl Expr {
    /// Parses an expression.
    ///
    /// # Errors
    /// Where the text is no expression.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        let compiled = ENVIRONMENT.compile_expression_owned(source.to_owned())?;
        let variables: BTreeSet<String> = compiled.undeclared_variables(false).into_iter().collect();
        Ok(Self { source: source.into(), variables: Arc::new(variables), compiled: Arc::new(compiled) })
    }

    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The state channels it reads.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// Whether the condition holds; `lookup` gives a channel's value, null where it has none yet.
    ///
    /// # Errors
    /// Where the evaluation fails, as on a comparison of a list with a number.
    pub fn holds<'v>(&self, lookup: impl Fn(&str) -> Option<&'v Value>) -> Result<bool, ExprError> {
        Ok(self.eval(lookup)?.is_true())
    }

    /// The expression's value; what JSON cannot hold becomes a string.
    ///
    /// # Errors
    /// As [`Expr::holds`].
    pub fn value<'v>(&self, lookup: impl Fn(&str) -> Option<&'v Value>) -> Result<Value, ExprError> {
        let value = self.eval(lookup)?;
        Ok(serde_json::to_value(&value).unwrap_or_else(|_| Value::String(value.to_string())))
    }

    fn eval<'v>(&self, lookup: impl Fn(&str) -> Option<&'v Value>) -> Result<minijinja::Value, ExprError> {
        let context = minijinja::Value::from_pairs(self.variables.iter().map(|name| {
            let value =
                lookup(name).map_or_else(|| minijinja::Value::from(()), |v| minijinja::Value::from(Serde(v)));
            (name.clone(), value)
        }));
        Ok(self.compiled.eval(context)?)
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?})", self.source)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(source: &str, state: &Value) -> Result<bool, ExprError> {
        Expr::parse(source).unwrap().holds(|name| state.get(name))
    }

    #[test]
    fn conditions_read_the_state() {
        let state = json!({ "round": 2, "wanted": { "turns": [1] }, "list": [], "kind": "net" });
        assert!(holds("wanted and round < 3", &state).unwrap());
        assert!(!holds("list or missing", &state).unwrap());
        assert!(holds("kind in ['net', 'proc'] and wanted.turns | length == 1", &state).unwrap());
        assert!(holds("round > list", &state).is_ok());
    }

    #[test]
    fn a_condition_names_its_channels() {
        let expr = Expr::parse("a.b > 1 and c[0] == d").unwrap();
        assert_eq!(expr.variables().iter().map(String::as_str).collect::<Vec<_>>(), ["a", "c", "d"]);
    }

    #[test]
    fn a_condition_cannot_run_for_ever() {
        let error = holds("range(100000) | map('string') | list | length > 1", &json!({}));
        assert!(error.is_err());
    }

    #[test]
    fn broken_text_says_where() {
        let error = Expr::parse("round <").unwrap_err();
        assert!(error.message.contains("syntax error"), "{}", error.message);
    }
}

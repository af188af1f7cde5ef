//! What was found, and where exactly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Category, Severity};

/// What a detector found in one part of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Id of the rule, as `secret.github-token`.
    pub rule: String,
    /// What kind of incident it points to.
    pub category: Category,
    /// How bad it is if true.
    pub severity: Severity,
    /// How likely it is true, 0 to 1.
    pub confidence: f64,
    /// Short kind of what was found, as `github_token` or `email_address`.
    pub label: String,
    /// Index of the part in the turn.
    pub part: usize,
    /// First byte of the match in the part's text.
    pub start: usize,
    /// One past the last byte of the match.
    pub end: usize,
    /// Whether the matched text must be masked wherever it is shown or sent.
    pub sensitive: bool,
}

/// A place in a turn that a flag or a verdict rests on. Its quote is masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// `runId_ts` of the turn.
    pub turn: String,
    /// Index of the part in the turn.
    pub part: usize,
    /// Where the part comes from: `user message`, `tool call exec`, ….
    pub place: String,
    /// First byte of the quote in the part's text.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// What stands there, secrets masked, bounded.
    pub quote: String,
    /// The rule or lens that found it.
    pub rule: String,
    /// What the rule says of it, in a few words; empty where a model found it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Short kind of what was found.
    pub label: String,
    /// What kind of incident it points to.
    pub category: Category,
    /// How bad it is if true.
    pub severity: Severity,
    /// How likely it is true, 0 to 1.
    pub confidence: f64,
    /// Fingerprint of a masked value, to correlate it between places; absent where nothing was masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

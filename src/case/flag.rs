//! Patrol flags and the votes behind them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Category, Evidence, Severity};

/// What one patrol agent, or the detectors, said of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlagVote {
    /// Names the vote.
    pub vote_id: String,
    /// The patrol agent, as `log_patrol_0`, or `detectors`.
    pub source_agent: String,
    /// Name of the log file with the turn.
    #[serde(default, alias = "target_agent_id")]
    pub source_file: String,
    /// What it said; `CLEAN` is a vote too.
    pub severity: Severity,
    /// How sure it is, 0 to 1.
    pub confidence: f64,
    /// Labels of the personal data and credentials it saw.
    #[serde(default)]
    pub pii_labels_detected: Vec<String>,
    /// Why, in a sentence; secrets masked.
    pub observation: String,
    /// When, RFC 3339.
    pub timestamp: String,
    /// What kind of incident it saw. The earlier tool's names that are not in the taxonomy read as unknown.
    #[serde(default)]
    pub category: Option<Category>,
    /// `runId_ts` of the turn.
    #[serde(default)]
    pub run_id_ts: String,
    /// What the agent looked for; absent in files of the earlier tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lens: Option<String>,
    /// The model that voted, or `rules`; absent in files of the earlier tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// An incident that patrol reports. Field names up to `categories` are the earlier tool's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PatrolFlag {
    /// Stable: stream, run and category give the same id again.
    pub flag_id: String,
    /// Name of the log file with the first flagged turn.
    #[serde(default, alias = "target_agent_id")]
    pub source_file: String,
    /// `runId_ts` of the first flagged turn.
    pub run_id_ts: String,
    /// What the votes agreed on.
    pub consensus_severity: Severity,
    /// How sure they are together, 0 to 1.
    pub consensus_confidence: f64,
    /// The votes.
    #[serde(default)]
    pub votes: Vec<FlagVote>,
    /// Labels of personal data and credentials that any vote saw, sorted.
    #[serde(default)]
    pub pii_labels_union: Vec<String>,
    /// Why it was flagged, for the investigator.
    #[serde(default)]
    pub referral_summary: String,
    /// The stream's pheromone level when the flag was raised.
    #[serde(default)]
    pub pheromone_level: f64,
    /// When it was last updated, RFC 3339.
    #[serde(default)]
    pub timestamp: String,
    /// Categories that the votes named, sorted.
    #[serde(default)]
    pub categories: Vec<Category>,
    /// The stream: a session key, or `file:NAME`. Empty in files of the earlier tool.
    #[serde(default)]
    pub stream: String,
    /// OpenClaw's agent id, where the log says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// `runId_ts` of every flagged turn, in order. Empty in files of the earlier tool.
    #[serde(default)]
    pub turn_ids: Vec<String>,
    /// The exact places; secrets masked.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
}

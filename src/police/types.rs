//! What the nodes of the investigation graph hand to each other. It goes into checkpoints and to models, so all
//! text in it is masked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::{Category, Evidence, Severity};

/// What the investigator reads: the flagged turns and their neighbours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContextWindow {
    /// The stream's name.
    pub stream: String,
    /// The turns, in order.
    pub turns: Vec<ContextTurn>,
    /// The turns as one text, flagged ones marked.
    pub text: String,
    /// Turns of the stream that are not shown.
    pub omitted_turns: u64,
    /// How many neighbours on each side were taken.
    pub reach: u32,
    /// Flagged turns that could not be read, with the reason.
    pub missing: Vec<String>,
}

/// One turn of the context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContextTurn {
    /// `runId_ts`.
    pub run_id_ts: String,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Whether the flag names it.
    pub flagged: bool,
}

/// Why the model gave no verdict, as an error arm of the graph writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Problem {
    /// The node that failed.
    pub node: String,
    /// The item it worked on, where it fans out.
    pub item: Option<serde_json::Value>,
    /// The engine's class of the failure.
    pub class: String,
    /// What happened.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What the investigator model answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeadAnswer {
    /// The verdict so far.
    pub draft: CaseDraft,
    /// Whether neighbouring turns that are not shown would change it.
    pub more: bool,
}

/// A verdict that is not checked yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseDraft {
    /// What kind of incident it was.
    pub crime_classification: Category,
    /// How bad it is; CLEAN for a false alarm.
    pub severity_score: Severity,
    /// How sure, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
    /// What happened, in order.
    pub case_facts: String,
    /// `runId_ts` of the turns it rests on.
    pub relevant_log_ids: Vec<String>,
    /// An exact quote for each of them.
    #[serde(default)]
    pub quotes: Vec<String>,
    /// The verdict in a sentence or two.
    pub verdict_summary: String,
    /// What the user should do now.
    #[serde(default)]
    pub recommended_actions: Vec<String>,
    /// `rules`, or the model; filled in by us.
    #[serde(default)]
    #[schemars(skip)]
    pub decided_by: String,
    /// What the detectors found; filled in by us.
    #[serde(default)]
    #[schemars(skip)]
    pub evidence: Vec<Evidence>,
    /// What could not be checked; filled in by us.
    #[serde(default)]
    #[schemars(skip)]
    pub caveats: Vec<String>,
}

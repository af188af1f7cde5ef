//! What the nodes of the patrol graph hand to each other. It goes into checkpoints, so it holds references to
//! turns, never their text, and what it quotes is masked.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::{Evidence, FlagVote, Severity};
use crate::store::patrol_state::{Due, Share};

/// What a patrol agent looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lens {
    /// Credentials and personal data.
    Credentials,
    /// Intent to harm, and help with it.
    HarmfulIntent,
    /// Tools used in a way that endangers the machine or its data.
    ToolUse,
    /// Text that tries to take the agent over.
    Injection,
}

/// Every lens, in the order in which agents are given them.
pub const LENSES: [Lens; 4] = [Lens::Credentials, Lens::Injection, Lens::ToolUse, Lens::HarmfulIntent];

/// What reading the log directory brought.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReadReport {
    /// Log files in the directory.
    pub files: u64,
    /// Bytes read in this sweep.
    pub bytes: u64,
    /// Turns that are new or have grown.
    pub new_turns: u64,
    /// Entries that could not be read; none of them counts as reviewed.
    pub rejected: u64,
    /// Entries that were damaged and read all the same.
    pub repaired: u64,
    /// Last entries that are not complete yet.
    pub incomplete: u64,
}

/// One agent's share of a sweep: pending turns of one stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// The agent, as `log_patrol_0`.
    pub agent: String,
    /// What the agent looks for first.
    pub lens: Lens,
    /// The stream's name.
    pub stream: String,
    /// The stream's row in the patrol store.
    pub stream_row: i64,
    /// First turn row of the share.
    pub from: i64,
    /// Last turn row of the share.
    pub to: i64,
    /// The last read pass when the share was made: what changed later is no part of it.
    pub as_of: i64,
    /// The time, in milliseconds since the Unix epoch, at which its turns are due; none where all are looked at.
    #[serde(default)]
    pub due_ms: Option<i64>,
    /// Pending turns in the share.
    pub turns: u64,
    /// The stream's pheromone level at the start of the sweep.
    pub pheromone: f64,
}

impl Assignment {
    /// Which turns it is about, as the store knows them.
    pub(super) fn share(&self) -> Share {
        Share {
            stream: self.stream_row,
            from: self.from,
            to: self.to,
            as_of: self.as_of,
            due: self.due_ms.map_or(Due::All, Due::At),
        }
    }
}

/// What was said of one turn; clean turns without any vote have none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnVerdict {
    /// The turn's row in the patrol store.
    pub turn_row: i64,
    /// `runId_ts`.
    pub run_id_ts: String,
    /// The run, as OpenClaw names it.
    pub run_id: String,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Name of the log file.
    pub source_file: String,
    /// The stream's name.
    pub stream: String,
    /// OpenClaw's agent id, where the log says.
    pub agent_id: Option<String>,
    /// Votes on it, detectors first.
    pub votes: Vec<FlagVote>,
    /// The places the votes rest on; secrets masked.
    pub evidence: Vec<Evidence>,
}

/// A turn that could not be reviewed this time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingTurn {
    /// The turn's row in the patrol store.
    pub turn_row: i64,
    /// Why, bounded and without secrets.
    pub reason: String,
    /// Whether an outside service is to blame, not the log.
    pub outside: bool,
    /// Whether it only waits: the model was not asked because a budget is spent. This is no failed attempt.
    #[serde(default)]
    pub waits: bool,
}

/// A further agent's look at a turn that is in doubt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contest {
    /// The agent, as `log_patrol_2`.
    pub agent: String,
    /// What it looks for first.
    pub lens: Lens,
    /// The turn's row in the patrol store.
    pub turn_row: i64,
    /// The stream's name.
    pub stream: String,
}

/// What a sweep is asked to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepRequest {
    /// The log directory, for whoever reads the run's history.
    pub log_dir: String,
    /// Version of the rules at the start. A sweep that was cut off goes on only under the same.
    #[serde(default)]
    pub ruleset_version: String,
    /// Model at the start, or `rules`.
    #[serde(default)]
    pub model_version: String,
    /// Whether turns whose review has failed are left alone until their next attempt is due.
    #[serde(default)]
    pub due_only: bool,
}

/// What an agent brings back from its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StreamScan {
    /// The share.
    pub assignment: Assignment,
    /// Turns that were reviewed, clean ones too.
    pub reviewed: u64,
    /// Turns that any vote was not clean on.
    pub verdicts: Vec<TurnVerdict>,
    /// Turns that could not be reviewed.
    pub pending: Vec<PendingTurn>,
}

/// What a sweep came to, for people and for `--format json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SweepSummary {
    /// What was read.
    pub read: ReadReport,
    /// Streams with something to review.
    pub streams: u64,
    /// Patrol agents that shared them.
    pub agents: u64,
    /// Turns reviewed.
    pub reviewed: u64,
    /// Turns that stay pending: they could not be reviewed this time.
    pub pending: u64,
    /// Turns given up after the last attempt.
    pub unreviewed: u64,
    /// Why turns stay pending, with how many.
    pub pending_reasons: BTreeMap<String, u64>,
    /// Whether an outside service was to blame for any of them.
    pub outside_failed: bool,
    /// Ids of flags that are new.
    pub new_flags: Vec<String>,
    /// Ids of flags that have grown.
    pub updated_flags: Vec<String>,
    /// New and grown flags by severity.
    pub by_severity: BTreeMap<Severity, u64>,
    /// Version of the rules.
    pub ruleset_version: String,
    /// Model that voted, or `rules`.
    pub model_version: String,
}

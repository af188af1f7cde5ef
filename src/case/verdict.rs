//! Severity, taxonomy and the case file.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Evidence;

/// How bad it is if true. Ordered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Reviewed, and nothing was found.
    #[default]
    Clean,
    /// Worth knowing.
    Low,
    /// Needs a look.
    Medium,
    /// Needs a person soon.
    High,
    /// Needs a person now.
    Critical,
}

impl Severity {
    /// The name used in files and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "CLEAN",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Clean, Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("`{text}` is no severity (CLEAN, LOW, MEDIUM, HIGH, CRITICAL)"))
    }
}

/// What kind of incident it is: the taxonomy of votes, flags and case files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Personal data where it should not be.
    PiiLeak,
    /// Help with, or intent of, harm to people.
    HarmfulIntent,
    /// A tool used in a way that endangers the machine or its data.
    UnsafeToolUse,
    /// Text that tries to take the agent over.
    PromptInjection,
    /// Somebody is asked for credentials.
    CredentialSolicitation,
    /// A credential in the open.
    SecretHardcoding,
    /// A way back in is being installed.
    BackdoorInsertion,
    /// Confidential data leaves its place.
    ConfidentialDataDisclosure,
    /// Personal data leaves by e-mail.
    EmailPiiExfiltration,
    /// None of these, or a name of an older version.
    #[serde(other)]
    Unknown,
}

impl Category {
    /// Every category, in the order in which reports list them.
    pub const ALL: [Self; 10] = [
        Self::PiiLeak,
        Self::HarmfulIntent,
        Self::UnsafeToolUse,
        Self::PromptInjection,
        Self::CredentialSolicitation,
        Self::SecretHardcoding,
        Self::BackdoorInsertion,
        Self::ConfidentialDataDisclosure,
        Self::EmailPiiExfiltration,
        Self::Unknown,
    ];

    /// The name used in files and on the screen.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PiiLeak => "pii_leak",
            Self::HarmfulIntent => "harmful_intent",
            Self::UnsafeToolUse => "unsafe_tool_use",
            Self::PromptInjection => "prompt_injection",
            Self::CredentialSolicitation => "credential_solicitation",
            Self::SecretHardcoding => "secret_hardcoding",
            Self::BackdoorInsertion => "backdoor_insertion",
            Self::ConfidentialDataDisclosure => "confidential_data_disclosure",
            Self::EmailPiiExfiltration => "email_pii_exfiltration",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Category {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|category| category.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|category| category.as_str()).collect();
            format!("`{text}` is no category ({})", known.join(", "))
        })
    }
}

/// How often each category was seen.
pub type CategoryCount = BTreeMap<Category, u64>;

/// What an investigation concluded. The first ten fields are the earlier tool's, under its names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaseFile {
    /// What kind of incident it was.
    pub crime_classification: Category,
    /// How bad it is.
    pub severity_score: Severity,
    /// How sure the verdict is, 0 to 1.
    pub confidence: f64,
    /// What happened, as facts that the evidence shows.
    pub case_facts: String,
    /// `runId_ts` of every turn the verdict rests on; each exists.
    pub relevant_log_ids: Vec<String>,
    /// The verdict in a sentence or two.
    pub verdict_summary: String,
    /// Names the investigation; stable for a flag.
    #[serde(default)]
    pub investigation_id: String,
    /// The flag it answers.
    #[serde(default)]
    pub flag_id: String,
    /// Name of the log file with the flagged turns.
    #[serde(default)]
    pub source_file: String,
    /// When it was concluded, RFC 3339; empty in files of the earlier tool.
    #[serde(default)]
    pub concluded_at: String,
    /// The agent it is about: its session key, or `file:NAME`. Empty in files of the earlier tool.
    #[serde(default)]
    pub agent: String,
    /// `rules` where no model took part, else the model's name. Empty in files of the earlier tool.
    #[serde(default)]
    pub decided_by: String,
    /// What was found, with places; secrets masked.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// What the user should do now.
    #[serde(default)]
    pub recommended_actions: Vec<String>,
    /// What the verdict does not rest on: evidence that could not be checked, turns that could not be read.
    #[serde(default)]
    pub caveats: Vec<String>,
}

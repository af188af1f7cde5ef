//! Deterministic detectors: a [`Turn`] in, [`Finding`]s with exact byte spans out.
//!
//! Rules live in TOML packs beside the code (`pack`): most are a regular expression that runs only in windows
//! around its keywords; the rest name a hand-written scanner. Start reading at [`Detectors::scan`] and `scan.rs`.
//!
//! **Invariant:** no I/O, no clock, no async, and no state between two texts: the same text gives the same findings.
//!
//! **Invariant:** the work is linear in the length of the text, whatever the text holds, and hostile text never panics.
//!
//! **Invariant:** precision first. Advice and refusals ("never paste your API key") are not findings, placeholders
//! are not secrets, and what an agent says about an attack is not the attack.

mod assign;
mod decode;
mod evidence;
mod filter;
mod pack;
mod pii;
mod place;
mod scan;
mod unicode;
mod validate;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use crate::case::{Finding, Part, PartKind, Role, Turn};

pub use evidence::{evidence, place, quote, sensitive_spans};
pub use pack::{DetectError, Examples, Lens, Rule};

/// The packs that are built in: name and TOML source.
const BUILTIN: [(&str, &str); 7] = [
    ("secrets", include_str!("rules/secrets.toml")),
    ("pii", include_str!("rules/pii.toml")),
    ("injection", include_str!("rules/injection.toml")),
    ("tools", include_str!("rules/tools.toml")),
    ("solicitation", include_str!("rules/solicitation.toml")),
    ("harm", include_str!("rules/harm.toml")),
    ("sandbox", include_str!("rules/sandbox.toml")),
];

/// Compiled rule packs. A clone shares them.
#[derive(Clone)]
pub struct Detectors {
    inner: Arc<scan::Engine>,
}

impl fmt::Debug for Detectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detectors")
            .field("version", &self.ruleset_version())
            .field("rules", &self.inner.rules().len())
            .finish_non_exhaustive()
    }
}

impl Detectors {
    /// The built-in packs. Compiled at the first call; each regular expression at its first use.
    pub fn builtin() -> &'static Self {
        static BUILT: LazyLock<Detectors> = LazyLock::new(|| {
            let sources = Detectors::builtin_sources();
            let engine = pack::load(&sources, pack::Compile::Lazy)
                .and_then(|rules| scan::Engine::new(rules, &sources));
            #[expect(clippy::expect_used, reason = "a patrol without rules would find everything clean")]
            let engine = engine.expect("the embedded packs compile: a unit test compiles each of them");
            Detectors { inner: Arc::new(engine) }
        });
        &BUILT
    }

    /// Names and sources of the built-in packs, to be joined with a user's own for [`Detectors::from_packs`].
    pub fn builtin_sources() -> Vec<(String, String)> {
        BUILTIN.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect()
    }

    /// Compiles packs, given as name and TOML source. A rule with the id of an earlier one replaces it.
    ///
    /// # Errors
    /// [`DetectError`] names the pack, the rule and what is wrong with it.
    pub fn from_packs(sources: &[(String, String)]) -> Result<Self, DetectError> {
        let rules = pack::load(sources, pack::Compile::Now)?;
        Ok(Self { inner: Arc::new(scan::Engine::new(rules, sources)?) })
    }

    /// Names the rules in force, as `2026.11-1a2b3c4d`: another version may find something else in the same text.
    pub fn ruleset_version(&self) -> &str {
        self.inner.version()
    }

    /// What the rules find in a turn, without doubles, ordered by part and place.
    pub fn scan(&self, turn: &Turn) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut scratch = scan::Scratch::default();
        for (index, part) in turn.parts.iter().enumerate() {
            self.inner.scan_part(index, part, &mut scratch, &mut findings);
        }
        findings
    }

    /// What the rules find in one text that `role` said.
    pub fn scan_text(&self, role: Role, text: &str) -> Vec<Finding> {
        let kind = match role {
            Role::System | Role::User => PartKind::Message,
            Role::Assistant => PartKind::Text,
            Role::Tool => PartKind::ToolResult { tool: String::new(), call_id: String::new(), ok: true },
        };
        let part = Part { role, kind, text: text.to_owned() };
        let mut findings = Vec::new();
        self.inner.scan_part(0, &part, &mut scan::Scratch::default(), &mut findings);
        findings
    }

    /// Where secrets and structured personal data stand in a text, with their labels; in order, never overlapping.
    pub fn sensitive_spans(&self, text: &str) -> Vec<(Range<usize>, String)> {
        self.inner.sensitive_spans(text)
    }

    /// The text with every sensitive span masked. Masking twice changes nothing more.
    pub fn redact(&self, text: &str) -> String {
        self.inner.redact(text)
    }

    /// Whether a label is that of personal data: the rules that give it look for a leak of such.
    pub fn is_personal(&self, label: &str) -> bool {
        self.rules().any(|rule| rule.label == label && rule.category == crate::case::Category::PiiLeak)
    }

    /// What a rule says of what it finds, in a few words; nothing for a rule that is not here.
    pub fn title(&self, rule: &str) -> &str {
        self.rules().find(|known| known.id == rule).map_or("", |known| known.title.as_str())
    }

    /// The rules, in the order of their packs.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.inner.rules().iter()
    }
}

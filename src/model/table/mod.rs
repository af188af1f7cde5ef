//! The table of providers: who they are, how they are spoken to, what their models cost and which parameters those reject.
//! It is data (`providers.toml`, built in), used by patrol, police, wizard, sandbox and documentation alike.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::chat::Usage;
use super::settings::Dialect;

/// A provider.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Its word in configuration: `moonshot`.
    pub id: String,
    /// Its name in messages: `Moonshot`.
    pub name: String,
    /// What people call its models: `Kimi`.
    #[serde(default)]
    pub family: String,
    /// Variables that hold its key, the first that is set counts; none for models that need no key.
    pub key: Vec<String>,
    /// Where it is; empty where the user has to say.
    pub base_url: String,
    /// The variable that says otherwise.
    pub base_url_var: String,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// The page where keys are made.
    #[serde(default)]
    pub keys_at: String,
    /// The documentation that the entry follows.
    pub docs: String,
    /// `OpenClaw`'s id for it.
    pub openclaw: String,
    /// Whether it runs on a machine of the user's and needs no key.
    #[serde(default)]
    pub local: bool,
    /// Model for patrol where none is named; empty where there is no sensible one.
    #[serde(default)]
    pub patrol: String,
    /// Model for investigations.
    #[serde(default)]
    pub investigator: String,
    /// Model for `OpenClaw`'s own agents.
    #[serde(default)]
    pub agent: String,
    /// How its models are told what shape an answer must have, unless a quirk says otherwise.
    pub output: OutputMode,
    /// Whether it understands `strict` in a schema.
    #[serde(default)]
    pub strict: bool,
    /// Whether a stream tells its tokens when asked with `stream_options`.
    #[serde(default)]
    pub stream_usage: bool,
    /// Whether a stream and a schema can be asked for at once.
    #[serde(default = "yes")]
    pub stream_with_schema: bool,
    /// The parameter that limits an answer.
    #[serde(default)]
    pub max_tokens_field: MaxTokensField,
    /// Models that are listed; others may be named.
    #[serde(default, rename = "model")]
    pub models: Vec<ListedModel>,
    /// Departures of single models; the first that fits counts.
    #[serde(default, rename = "quirk")]
    pub quirks: Vec<Quirk>,
}

/// A model with what it costs and holds.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct ListedModel {
    /// Its name at the provider.
    pub id: String,
    /// What it costs.
    #[serde(flatten)]
    pub price: Price,
    /// Largest context, in tokens.
    pub context: u64,
    /// Longest answer, in tokens.
    pub max_output: u64,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub struct Price {
    /// Of the question.
    pub input: f64,
    /// Of the part of the question that the provider had kept; as `input` where not given.
    #[serde(default)]
    pub cached_input: Option<f64>,
    /// Of the answer, thinking included.
    pub output: f64,
}

impl Price {
    /// What a call costs, in millionths of a US dollar, rounded up.
    pub fn micro_usd(&self, usage: Usage) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "no call has 2^52 tokens")]
        let cost = |tokens: u64, price: f64| tokens as f64 * price;
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let sum = cost(usage.input_tokens - cached, self.input)
            + cost(cached, self.cached_input.unwrap_or(self.input))
            + cost(usage.output_tokens, self.output);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, and prices are no debts"
        )]
        let micro_usd = sum.max(0.0).ceil() as u64;
        micro_usd
    }
}

/// An amount in millionths of a US dollar as people read it: `$0.0123`, `$12.34`.
pub fn money(micro_usd: u64) -> String {
    let (dollars, rest) = (micro_usd / 1_000_000, micro_usd % 1_000_000);
    let cents = format!("{rest:06}");
    let digits = cents.trim_end_matches('0').len().max(2);
    // Where there are whole dollars, fractions of a cent are noise.
    let digits = if dollars > 0 { 2 } else { digits.min(4) };
    match cents.get(..digits) {
        Some(digits) if micro_usd == 0 || dollars > 0 || digits.bytes().any(|digit| digit != b'0') => {
            format!("${dollars}.{digits}")
        }
        _ => format!("${dollars}.{cents}"),
    }
}

/// How a model is told what shape its answer must have.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// By a JSON schema in the request.
    Schema,
    /// By a tool that it is made to call.
    Tool,
    /// By asking for a JSON object, with the schema in the prompt.
    Json,
    /// By the prompt alone.
    #[default]
    Prompt,
}

/// The parameter that limits an answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// `max_tokens`.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// How some models of a provider depart from the rest.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Quirk {
    /// Which models: names, with `*` for any characters.
    pub models: Vec<String>,
    /// Parameters that are not sent.
    #[serde(default)]
    pub omit: Vec<String>,
    /// Another way to ask for a shape.
    #[serde(default)]
    pub output: Option<OutputMode>,
    /// What is added to the request.
    #[serde(default)]
    pub extra: Map<String, Value>,
    /// Tokens that are granted on top of an answer's limit, because thinking counts against it.
    #[serde(default)]
    pub thinking_room: u32,
    /// Why.
    pub why: String,
    /// Where that is documented.
    pub source: String,
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Vec<Provider>,
}

static TABLE: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is built in, and a test reads it")]
    let file: File = toml::from_str(include_str!("providers.toml")).expect("the table of providers is TOML");
    file.provider
});

/// All providers, in the order in which they are offered.
pub fn providers() -> &'static [Provider] {
    &TABLE
}

/// A provider by its id.
pub fn provider(id: &str) -> Option<&'static Provider> {
    providers().iter().find(|provider| provider.id == id)
}

/// The provider that somebody means by another word: its name, its models' name, or a slip of the pen.
pub fn meant(word: &str) -> Option<&'static Provider> {
    let word = word.to_lowercase();
    if word.is_empty() {
        return None;
    }
    let is_name = |one: &&Provider| one.name.to_lowercase() == word || one.family.to_lowercase() == word;
    providers().iter().find(is_name).or_else(|| {
        let near = |one: &&Provider| strsim::damerau_levenshtein(&one.id, &word);
        let nearest = providers().iter().min_by_key(near)?;
        (near(&nearest) * 3 <= nearest.id.len()).then_some(nearest)
    })
}

impl Provider {
    /// Its name with what people call its models: `Moonshot (Kimi)`.
    pub fn full_name(&self) -> String {
        if self.family.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.family) }
    }

    /// The listed model of that name.
    pub fn listed(&self, model: &str) -> Option<&ListedModel> {
        self.models.iter().find(|listed| listed.id == model)
    }

    /// The model that plays a role where none is named; empty where the user has to name one. A role `patrol.injection` is a
    /// patrol's.
    pub fn default_model(&self, role: &str) -> &str {
        match role.split('.').next() {
            Some("patrol") => &self.patrol,
            Some("agent") => &self.agent,
            _ => &self.investigator,
        }
    }

    /// How `model` is spoken to.
    pub fn manner(&self, model: &str) -> Manner {
        let mut manner = Manner {
            omit: Vec::new(),
            max_tokens_field: self.max_tokens_field,
            output: self.output,
            strict: self.strict,
            stream_usage: self.stream_usage,
            stream_with_schema: self.stream_with_schema,
            never_streams: false,
            extra: Map::new(),
            thinking_room: 0,
            max_output: self.listed(model).and_then(|listed| u32::try_from(listed.max_output).ok()),
        };
        let named = |quirk: &&Quirk| quirk.models.iter().any(|pattern| fits(pattern, model));
        if let Some(quirk) = self.quirks.iter().find(named) {
            manner.omit.clone_from(&quirk.omit);
            manner.output = quirk.output.unwrap_or(manner.output);
            manner.extra.clone_from(&quirk.extra);
            manner.thinking_room = quirk.thinking_room;
        }
        manner
    }
}

/// How one model is spoken to: the provider's way, with the model's quirks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manner {
    /// Parameters that are not sent.
    pub omit: Vec<String>,
    /// The parameter that limits an answer.
    pub max_tokens_field: MaxTokensField,
    /// How it is told what shape an answer must have.
    pub output: OutputMode,
    /// Whether it understands `strict` in a schema.
    pub strict: bool,
    /// Whether a stream tells its tokens when asked with `stream_options`.
    pub stream_usage: bool,
    /// Whether a stream and a schema can be asked for at once.
    pub stream_with_schema: bool,
    /// Whether it was found not to stream at all.
    pub never_streams: bool,
    /// What is added to the request.
    pub extra: Map<String, Value>,
    /// Tokens that are granted on top of an answer's limit, because thinking counts against it.
    pub thinking_room: u32,
    /// Longest answer that it gives, thinking included, where that is known.
    pub max_output: Option<u32>,
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, fit) in [
            ("kimi-k2.5", "kimi-k2.5", true),
            ("kimi-k2.5", "kimi-k2.5-turbo", false),
            ("kimi-k2.5*", "kimi-k2.5-turbo", true),
            ("*kimi-k2.5*", "moonshotai/kimi-k2.5", true),
            ("o*-mini", "o3-mini", true),
            ("o*-mini", "o3-mini-x", false),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn the_first_quirk_that_fits_counts_and_a_model_has_its_longest_answer() {
        let moonshot = provider("moonshot").unwrap();
        let manner = moonshot.manner("kimi-k2.5");
        assert_eq!((manner.omit, manner.thinking_room), (vec!["temperature".into(), "top_p".into()], 0));
        let (known, unknown) = (moonshot.manner("kimi-k3"), moonshot.manner("kimi-of-tomorrow"));
        assert_eq!((known.max_output, unknown.max_output), (Some(131_072), None));
        assert!(known.extra.contains_key("reasoning_effort") && unknown.extra.is_empty());
    }

    #[test]
    fn a_provider_is_known_by_other_words() {
        let id = |word: &str| meant(word).map(|provider| provider.id.as_str());
        for (word, want) in [
            ("Kimi", Some("moonshot")),
            ("gemini", Some("google")),
            ("Together AI", Some("together")),
            ("opnai", Some("openai")),
            ("antropic", Some("anthropic")),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(id(word), want, "{word}");
        }
    }

    #[test]
    fn money_is_counted_up() {
        let price = Price { input: 1.0, cached_input: Some(0.1), output: 5.0 };
        let usage =
            Usage { input_tokens: 1_000_000, cached_input_tokens: 400_000, output_tokens: 3, micro_usd: 0 };
        assert_eq!(price.micro_usd(usage), 600_000 + 40_000 + 15);
        assert_eq!(price.micro_usd(Usage { cached_input_tokens: 1, input_tokens: 1, ..Usage::default() }), 1);
        for (micro_usd, shown) in [
            (0, "$0.00"),
            (7, "$0.000007"),
            (150, "$0.0001"),
            (12_300, "$0.0123"),
            (500_000, "$0.50"),
            (1_000_000, "$1.00"),
            (12_345_678, "$12.34"),
        ] {
            assert_eq!(money(micro_usd), shown);
        }
    }

    #[test]
    fn the_table_is_sound() {
        let mut variables = Vec::new();
        for provider in providers() {
            let id = &provider.id;
            assert_eq!(providers().iter().filter(|other| other.id == *id).count(), 1, "{id}");
            assert_eq!(provider.local, provider.keys_at.is_empty(), "{id}");
            assert!(provider.local || !provider.key.is_empty(), "{id}");
            variables.extend(provider.key.iter().chain([&provider.base_url_var]));
            for role in ["patrol", "investigator"] {
                let model = provider.default_model(role);
                assert_eq!(provider.local, provider.listed(model).is_none(), "{id} {role} {model}");
            }
            for listed in &provider.models {
                assert!(
                    listed.price.input >= 0.0 && listed.price.output >= listed.price.input,
                    "{}",
                    listed.id
                );
                assert!(listed.context >= listed.max_output, "{}", listed.id);
            }
            for quirk in &provider.quirks {
                assert!(quirk.source.len() > 10 && !quirk.why.is_empty(), "{id} {:?}", quirk.models);
            }
        }
        let count = variables.len();
        variables.sort_unstable();
        variables.dedup();
        assert_eq!(variables.len(), count, "two providers share a variable");
    }
}

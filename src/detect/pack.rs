//! The format of rule packs, and their way from text to compiled rules.
//!
//! A pack is a list of `[[rule]]` tables after an optional `[defaults]` table that every rule inherits from.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use thiserror::Error;

use super::filter::Allow;
use super::place::{Places, ToolClass};
use crate::case::{Category, Severity};

/// How far around a keyword a rule's expression looks where the rule does not say: bytes before and after.
const WINDOW: [usize; 2] = [80, 400];
/// The farthest a rule may look.
const WINDOW_MAX: usize = 16 * 1024;

/// What is wrong with a rule pack.
#[derive(Debug, Error)]
#[error("rule pack `{pack}`{}: {problem}", rule.as_ref().map(|rule| format!(", rule `{rule}`")).unwrap_or_default())]
pub struct DetectError {
    /// Name of the pack.
    pub pack: String,
    /// Id of the rule, where one can be named.
    pub rule: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// Which of a patrol's eyes a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lens {
    /// Secrets, personal data, and who asks for them.
    Credentials,
    /// Text that tries to take the agent over.
    Injection,
    /// What the agent does with its tools.
    ToolUse,
    /// Harm that is asked for.
    Harmful,
}

impl Lens {
    /// The name used in packs and votes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Injection => "injection",
            Self::ToolUse => "tool_use",
            Self::Harmful => "harmful",
        }
    }

    /// The lens of a rule id: its prefix decides (`secret.`, `pii.` and `solicit.`, `injection.`, `tool.` and `sandbox.`, `harm.`).
    /// `None` for an id of no known kind.
    pub fn of_rule(id: &str) -> Option<Self> {
        Some(match id.split_once('.')?.0 {
            "secret" | "pii" | "solicit" => Self::Credentials,
            "injection" => Self::Injection,
            "tool" | "sandbox" => Self::ToolUse,
            "harm" => Self::Harmful,
            _ => return None,
        })
    }
}

/// Texts that a rule must find something in, and texts in which it must find nothing.
///
/// `<an:36>` in an example stands for 36 characters that look random, so that no pack holds anything shaped like a
/// live credential: see [`Rule::matching_examples`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    /// Texts with something to find.
    #[serde(rename = "match")]
    pub matching: Vec<String>,
    /// Texts with nothing to find.
    pub no_match: Vec<String>,
}

/// One rule, checked.
#[derive(Debug)]
pub struct Rule {
    /// Stable id, as `secret.github-token`.
    pub id: String,
    /// What it finds, for people.
    pub title: String,
    /// What kind of incident it points to.
    pub category: Category,
    /// How bad it is if true.
    pub severity: Severity,
    /// How likely a match is true, 0 to 1.
    pub confidence: f64,
    /// Short kind of what is found.
    pub label: String,
    /// The patrol lens it belongs to.
    pub lens: Lens,
    /// What must stand in the text, in any case, before the rule looks closer.
    pub keywords: Vec<String>,
    /// Whether the matched text must be masked.
    pub sensitive: bool,
    /// The rule's own test.
    pub examples: Examples,
    pub(super) places: Places,
    pub(super) tools: Vec<ToolClass>,
    pub(super) seek: Seek,
    pub(super) window: [usize; 2],
    pub(super) entropy: f64,
    pub(super) validator: Option<Validator>,
    pub(super) allow: Allow,
}

impl Rule {
    /// The examples that must match, with their `<class:length>` marks filled in. The same text every time.
    pub fn matching_examples(&self) -> Vec<String> {
        self.examples.matching.iter().map(|text| fill(text)).collect()
    }

    /// The examples that must not match, filled in alike.
    pub fn clean_examples(&self) -> Vec<String> {
        self.examples.no_match.iter().map(|text| fill(text)).collect()
    }
}

/// How a rule looks at the text.
#[derive(Debug)]
pub(super) enum Seek {
    /// An expression, run around keywords.
    Pattern { source: String, compiled: OnceLock<Option<Regex>> },
    /// A hand-written scanner.
    Scanner(Scanner),
}

impl Seek {
    /// The compiled expression; `None` for a scanner, or where a lazily compiled expression is faulty.
    pub(super) fn regex(&self) -> Option<&Regex> {
        match self {
            Self::Pattern { source, compiled } => compiled.get_or_init(|| compile(source).ok()).as_ref(),
            Self::Scanner(_) => None,
        }
    }
}

/// The hand-written scanners that a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scanner {
    /// `name = value` where the name says that the value is a key.
    Assignment,
    /// `name = value` where the name says that the value is a password.
    Password,
    Card,
    Iban,
    Ssn,
    Phone,
    Email,
    Ip,
    /// Characters that nobody sees.
    HiddenText,
}

impl Scanner {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "assignment" => Self::Assignment,
            "password" => Self::Password,
            "card" => Self::Card,
            "iban" => Self::Iban,
            "ssn" => Self::Ssn,
            "phone" => Self::Phone,
            "email" => Self::Email,
            "ip" => Self::Ip,
            "hidden_text" => Self::HiddenText,
            _ => return None,
        })
    }
}

/// Checks of a matched value that an expression cannot make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validator {
    /// Letters and digits, mixed as only a machine mixes them.
    Random,
    /// Hexadecimal digits, of both kinds.
    Hex,
    /// A JSON Web Token whose header is JSON.
    Jwt,
    /// Base64 of `name:password`.
    BasicAuth,
    /// A URL's password that is not a variable or a placeholder.
    UrlPassword,
    /// A bearer token that is not a word or a placeholder.
    Bearer,
    /// No negation stands shortly before.
    Affirmed,
    /// Something near by names a model, a bot or a mode of one.
    Bot,
}

impl Validator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "random" => Self::Random,
            "hex" => Self::Hex,
            "jwt" => Self::Jwt,
            "basic_auth" => Self::BasicAuth,
            "url_password" => Self::UrlPassword,
            "bearer" => Self::Bearer,
            "affirmed" => Self::Affirmed,
            "bot" => Self::Bot,
            _ => return None,
        })
    }
}

/// Whether expressions are compiled while loading, which finds their faults, or at first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compile {
    Now,
    Lazy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPack {
    #[serde(default)]
    defaults: RawDefaults,
    /// Pieces of expressions: `{{name}}` in a `regex` stands for one.
    #[serde(default)]
    macros: BTreeMap<String, String>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefaults {
    category: Option<String>,
    severity: Option<String>,
    confidence: Option<f64>,
    sensitive: Option<bool>,
    places: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    entropy: Option<f64>,
    window: Option<[usize; 2]>,
    allow: Option<Vec<String>>,
    validator: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    id: String,
    title: String,
    category: Option<String>,
    severity: Option<String>,
    confidence: Option<f64>,
    label: Option<String>,
    lens: Option<String>,
    #[serde(default)]
    keywords: Vec<String>,
    regex: Option<String>,
    scanner: Option<String>,
    places: Option<Vec<String>>,
    tools: Option<Vec<String>>,
    window: Option<[usize; 2]>,
    entropy: Option<f64>,
    validator: Option<String>,
    allow: Option<Vec<String>>,
    sensitive: Option<bool>,
    #[serde(default)]
    examples: Examples,
}

/// Reads packs into rules; a later rule with the same id replaces the earlier one.
pub(super) fn load(sources: &[(String, String)], when: Compile) -> Result<Vec<Rule>, DetectError> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (pack, source) in sources {
        let raw: RawPack = toml::from_str(source).map_err(|error| DetectError {
            pack: pack.clone(),
            rule: None,
            problem: error.to_string().trim_end().to_owned(),
        })?;
        for mut rule in raw.rule {
            if let Some(regex) = &mut rule.regex {
                // A macro may use another one: two rounds do.
                for (name, piece) in raw.macros.iter().chain(&raw.macros) {
                    *regex = regex.replace(&format!("{{{{{name}}}}}"), piece);
                }
            }
            let id = rule.id.clone();
            let rule = check(rule, &raw.defaults, when).map_err(|problem| DetectError {
                pack: pack.clone(),
                rule: Some(id.clone()),
                problem,
            })?;
            if let Some(slot) = places.get(&id).and_then(|index| rules.get_mut(*index)) {
                *slot = rule;
            } else {
                places.insert(id, rules.len());
                rules.push(rule);
            }
        }
    }
    Ok(rules)
}

fn check(raw: RawRule, defaults: &RawDefaults, when: Compile) -> Result<Rule, String> {
    let category: Category =
        raw.category.or_else(|| defaults.category.clone()).ok_or("`category` is missing")?.parse()?;
    let severity: Severity =
        raw.severity.or_else(|| defaults.severity.clone()).ok_or("`severity` is missing")?.parse()?;
    let confidence = raw.confidence.or(defaults.confidence).ok_or("`confidence` is missing")?;
    if !(confidence > 0.0 && confidence <= 1.0) {
        return Err(format!("`confidence` is {confidence}, not over 0 and at most 1"));
    }
    let lens = match raw.lens.as_deref() {
        None => Lens::of_rule(&raw.id)
            .ok_or("`lens` is missing, and the id has none of the prefixes that tell it")?,
        Some(name) => [Lens::Credentials, Lens::Injection, Lens::ToolUse, Lens::Harmful]
            .into_iter()
            .find(|lens| lens.as_str() == name)
            .ok_or_else(|| format!("`{name}` is no lens (credentials, injection, tool_use, harmful)"))?,
    };
    let mut places = Places::NONE;
    for name in raw.places.as_ref().or(defaults.places.as_ref()).into_iter().flatten() {
        places = places.union(Places::named(name).ok_or_else(|| format!("`{name}` is no place"))?);
    }
    if places == Places::NONE {
        places = Places::ALL;
    }
    let mut tools = Vec::new();
    for name in raw.tools.as_ref().or(defaults.tools.as_ref()).into_iter().flatten() {
        tools.push(ToolClass::named(name).ok_or_else(|| format!("`{name}` is no tool class"))?);
    }
    let seek = match (raw.regex, raw.scanner) {
        (Some(source), None) => {
            if raw.keywords.is_empty() {
                return Err("a rule with `regex` needs `keywords`: it would run over every byte".to_owned());
            }
            let source = for_bytes(&source);
            let compiled = OnceLock::new();
            if when == Compile::Now {
                let regex = compile(&source).map_err(|error| format!("`regex` does not compile: {error}"))?;
                drop(compiled.set(Some(regex)));
            }
            Seek::Pattern { source, compiled }
        }
        (None, Some(name)) => {
            Seek::Scanner(Scanner::named(&name).ok_or_else(|| format!("`{name}` is no scanner"))?)
        }
        _ => return Err("exactly one of `regex` and `scanner` is needed".to_owned()),
    };
    if let Some(short) = raw.keywords.iter().find(|keyword| keyword.len() < 2) {
        return Err(format!("keyword `{short}` is too short"));
    }
    let validator = raw.validator.or_else(|| defaults.validator.clone());
    let validator = match validator.as_deref() {
        None => None,
        Some(name) => Some(Validator::named(name).ok_or_else(|| format!("`{name}` is no validator"))?),
    };
    let allow = raw.allow.as_ref().or(defaults.allow.as_ref());
    let allow = Allow::new(allow.into_iter().flatten(), when == Compile::Now)?;
    let [before, after] = raw.window.or(defaults.window).unwrap_or(WINDOW);
    let label = raw.label.unwrap_or_else(|| {
        raw.id.split_once('.').map_or(raw.id.as_str(), |(_, name)| name).replace('-', "_")
    });
    Ok(Rule {
        id: raw.id,
        title: raw.title,
        category,
        severity,
        confidence,
        label,
        lens,
        keywords: raw.keywords,
        sensitive: raw.sensitive.or(defaults.sensitive).unwrap_or(false),
        examples: raw.examples,
        places,
        tools,
        seek,
        window: [before.min(WINDOW_MAX), after.min(WINDOW_MAX)],
        entropy: raw.entropy.or(defaults.entropy).unwrap_or(0.0),
        validator,
        allow,
    })
}

pub(super) fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).unicode(false).size_limit(4 << 20).dfa_size_limit(8 << 20).build()
}

/// Rewrites an expression for matching bytes, which compiles small and never leaves the engine's fast path: `\p{L}`,
/// `\p{Lu}` and `\p{Ll}` take a letter beyond ASCII by its bytes, and a literal beyond ASCII becomes its bytes.
pub(super) fn for_bytes(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 32);
    let mut rest = source;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let letters =
            [(r"\p{Lu}", r"A-Z\xc3-\xdf"), (r"\p{Ll}", r"a-z\x80-\xff"), (r"\p{L}", r"A-Za-z\x80-\xff")];
        if let Some((tail, bytes)) =
            letters.iter().find_map(|(name, bytes)| Some((rest.strip_prefix(name)?, bytes)))
        {
            let (open, close) = if in_class { ("", "") } else { ("[", "]") };
            out.extend([open, bytes, close]);
            rest = tail;
            continue;
        }
        let mut taken = c.len_utf8();
        match c {
            '\\' => {
                out.push(c);
                if let Some(escaped) = rest.chars().nth(1) {
                    out.push(escaped);
                    taken += escaped.len_utf8();
                }
            }
            _ if c.is_ascii() => {
                in_class = match c {
                    '[' => true,
                    ']' => false,
                    _ => in_class,
                };
                out.push(c);
            }
            _ => {
                let (open, close) = if in_class { ("", "") } else { ("(?:", ")") };
                out.push_str(open);
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(r"\x");
                    out.extend(
                        [byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0')),
                    );
                }
                out.push_str(close);
            }
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// Fills the `<class:length>` marks of an example with characters that look random and are always the same.
fn fill(example: &str) -> String {
    let mut seed = example.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut out = String::with_capacity(example.len() + 64);
    let mut rest = example;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let mark = after.split_once('>').and_then(|(mark, tail)| {
            let (class, length) = mark.split_once(':')?;
            Some((alphabet(class)?, length.parse::<usize>().ok()?, tail))
        });
        let Some((alphabet, length, tail)) = mark else {
            out.push('<');
            rest = after;
            continue;
        };
        for _ in 0..length {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = usize::try_from(seed >> 33).unwrap_or(0) % alphabet.len().max(1);
            out.push(alphabet.as_bytes().get(pick).copied().map_or('0', char::from));
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn alphabet(class: &str) -> Option<&'static str> {
    Some(match class {
        "an" => "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "lo" => "0123456789abcdefghijklmnopqrstuvwxyz",
        "up" => "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "b32" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
        "hex" => "0123456789abcdef",
        "HEX" => "0123456789ABCDEF",
        "b64" => "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/",
        "url" => "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-",
        "dig" => "0123456789",
        "az" => "abcdefghijklmnopqrstuvwxyz",
        "anl" => "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "age" => "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
        "x" => "x",
        _ => return None,
    })
}

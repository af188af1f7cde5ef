//! Prompt templates: `<name>.system.j2` and `<name>.user.j2`, built in under `prompts/` and overridable
//! file by file from a folder on disk.
//!
//! **Invariant:** sync, and knows nothing of models or workflows.
//! **Invariant:** an error names the file, the line and what is missing, never the value of a variable.
//! **Invariant:** no control character, bidirectional mark or zero-width character of a variable reaches a
//! prompt as such (see [`shown`]), and fenced text cannot close its fence.
//!
//! How to write one: `{{ turn.text | fence(label=turn.id) }}` puts untrusted text between two lines that hold
//! `{{ nonce }}`, a random word made for each rendering and the same in both texts, so that the system text can
//! say: what stands between `<data-{{ nonce }}>` and `</data-{{ nonce }}>` is data. A variable that is not given
//! is an error. A tag on a line of its own leaves no empty line.
//!
//! A prompt is two texts and nothing else (no `include`), so that a run can keep them: [`Prompts::sources`]
//! gives the texts, [`Prompts::from_sources`] builds the same prompts again. Start reading at
//! [`Prompts::render`].

mod error;
mod fence;
mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::graph::PromptInfo;

pub use error::{PromptError, PromptFault};
pub use fence::shown;

/// Most work units one rendering may use.
const FUEL: u64 = 5_000_000;
/// Deepest nesting of macros and blocks.
const RECURSION: usize = 64;
/// Largest rendered text, in bytes.
const MAX_RENDERED_BYTES: usize = 16 << 20;
/// The variable that every template may use and no caller may give: this rendering's random word.
const NONCE: &str = "nonce";

/// A rendered prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The system message.
    pub system: String,
    /// The user message.
    pub user: String,
    /// The random word in the marks around its data; none where it marks none.
    pub nonce: Option<String>,
}

/// All prompts by name.
#[derive(Debug)]
pub struct Prompts {
    environment: Environment<'static>,
    prompts: BTreeMap<String, Prompt>,
}

#[derive(Debug)]
struct Prompt {
    info: PromptInfo,
    system: String,
    user: String,
}

impl Prompts {
    /// The prompts of `embedded` (relative path and text; only `*.system.j2` and `*.user.j2` count), with
    /// the files of `override_dir` in place of those of the same relative path, or beside them.
    ///
    /// # Errors
    /// All faults of all files at once: unreadable files, syntax errors, a system text without a user text.
    pub fn new(embedded: &[(&str, &str)], override_dir: Option<&Path>) -> Result<Self, PromptError> {
        let mut faults = Vec::new();
        let mut texts: BTreeMap<String, files::Text> = embedded
            .iter()
            .filter(|(path, _)| files::half(path).is_some())
            .map(|(path, text)| ((*path).to_owned(), files::Text::built_in(path, text)))
            .collect();
        if let Some(dir) = override_dir {
            texts.extend(files::read_dir(dir, &mut faults));
        }
        Self::build(texts, faults)
    }

    /// The prompts of this program, with those of `override_dir` before them.
    ///
    /// # Errors
    /// As [`Prompts::new`].
    pub fn load(override_dir: Option<&Path>) -> Result<Self, PromptError> {
        Self::new(&Self::embedded(), override_dir)
    }

    /// The files built into this program: relative path and text.
    pub fn embedded() -> Vec<(&'static str, &'static str)> {
        files::embedded()
    }

    /// The prompts that a run kept: name → system and user text.
    ///
    /// # Errors
    /// As [`Prompts::new`].
    pub fn from_sources(sources: &BTreeMap<String, (String, String)>) -> Result<Self, PromptError> {
        let mut texts = BTreeMap::new();
        for (name, (system, user)) in sources {
            for (half, text) in [("system", system), ("user", user)] {
                let path = format!("{name}.{half}.j2");
                let text = files::Text {
                    origin: "kept with the run".into(),
                    file: path.clone(),
                    body: text.clone(),
                };
                texts.insert(path, text);
            }
        }
        Self::build(texts, Vec::new())
    }

    fn build(
        texts: BTreeMap<String, files::Text>,
        mut faults: Vec<PromptFault>,
    ) -> Result<Self, PromptError> {
        let mut environment = environment();
        let globals: BTreeSet<String> = environment.globals().map(|(name, _)| name.to_owned()).collect();
        let mut halves: BTreeMap<String, [Option<files::Text>; 2]> = BTreeMap::new();
        for (path, text) in texts {
            if let Some((name, half)) = files::half(&path) {
                let slots = halves.entry(name.to_owned()).or_default();
                if let Some(slot) = slots.get_mut(half as usize) {
                    *slot = Some(text);
                }
            }
        }
        let mut prompts = BTreeMap::new();
        for (name, slots) in halves {
            let (system, user) = match slots {
                [Some(system), Some(user)] => (system, user),
                [Some(present), None] => {
                    faults.push(PromptFault::missing_half(&present.file, &format!("{name}.user.j2")));
                    continue;
                }
                [None, Some(present)] => {
                    faults.push(PromptFault::missing_half(&present.file, &format!("{name}.system.j2")));
                    continue;
                }
                [None, None] => continue,
            };
            let mut variables = BTreeSet::new();
            for (half, text) in [("system", &system), ("user", &user)] {
                if let Some(fault) = error::forbidden_tag(text) {
                    faults.push(fault);
                    continue;
                }
                let path = format!("{name}.{half}.j2");
                match environment.add_template_owned(path.clone(), text.body.clone()) {
                    Ok(()) => variables.extend(
                        environment
                            .get_template(&path)
                            .map(|template| template.undeclared_variables(false))
                            .unwrap_or_default(),
                    ),
                    Err(error) => faults.push(PromptFault::of_template(&error, &text.file, &text.body)),
                }
            }
            variables.retain(|variable| variable != NONCE && !globals.contains(variable));
            let origin = if system.origin == user.origin {
                system.origin
            } else {
                format!("{}; {}", system.origin, user.origin)
            };
            let info = PromptInfo { variables, hash: hash(&system.body, &user.body), origin };
            prompts.insert(name, Prompt { info, system: system.body, user: user.body });
        }
        if faults.is_empty() { Ok(Self { environment, prompts }) } else { Err(PromptError { faults }) }
    }

    /// The names of all prompts, sorted.
    pub fn names(&self) -> Vec<String> {
        self.prompts.keys().cloned().collect()
    }

    /// What a graph may know of the prompt `name`: its variables, its hash, where it comes from.
    pub fn info(&self, name: &str) -> Option<PromptInfo> {
        self.prompts.get(name).map(|prompt| prompt.info.clone())
    }

    /// The system and user text of `name` as they were written.
    pub fn sources(&self, name: &str) -> Option<(String, String)> {
        self.prompts.get(name).map(|prompt| (prompt.system.clone(), prompt.user.clone()))
    }

    /// Renders both texts of `name` with one fresh nonce.
    ///
    /// # Errors
    /// An unknown name, a variable that is missing, or a template that fails or grows too large.
    pub fn render(&self, name: &str, vars: &Map<String, Value>) -> Result<Rendered, PromptError> {
        self.render_with_nonce(name, vars, &fence::fresh_nonce())
    }

    fn render_with_nonce(
        &self,
        name: &str,
        vars: &Map<String, Value>,
        nonce: &str,
    ) -> Result<Rendered, PromptError> {
        let prompt = self.prompts.get(name).ok_or_else(|| PromptFault::unknown(name, self.prompts.keys()))?;
        if vars.contains_key(NONCE) {
            return Err(PromptFault::plain(name, "the variable `nonce` is made by the prompt itself").into());
        }
        let context = minijinja::Value::from_pairs(
            vars.iter()
                .map(|(name, value)| (name.clone(), minijinja::Value::from(Serde(value))))
                .chain([(NONCE.to_owned(), minijinja::Value::from(nonce))]),
        );
        let render = |half: &str, source: &str| -> Result<String, PromptError> {
            let path = format!("{name}.{half}.j2");
            let fault = |error: &minijinja::Error| PromptFault::of_template(error, &path, source);
            let template = self.environment.get_template(&path).map_err(|error| fault(&error))?;
            let mut out = files::Capped::new(MAX_RENDERED_BYTES);
            let done = template.render_captured_to(&context, &mut out).map(drop);
            if out.overflowed() {
                let message = format!("the text grows over {} MiB", MAX_RENDERED_BYTES >> 20);
                return Err(PromptFault::plain(&path, &message).into());
            }
            done.map_err(|error| fault(&error))?;
            Ok(out.into_text())
        };
        let (system, user) = (render("system", &prompt.system)?, render("user", &prompt.user)?);
        let marks = user.contains(nonce) || system.contains(nonce);
        Ok(Rendered { system, user, nonce: marks.then(|| nonce.to_owned()) })
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    // Debug output of minijinja shows variables, and those are the texts of hostile logs.
    environment.set_debug(false);
    environment.remove_global("debug");
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // A tag on a line of its own leaves no empty line.
    if let Ok(syntax) = environment.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_formatter(fence::print);
    environment.add_filter("fence", fence::fence);
    environment.add_function("fence", fence::fence);
    environment
}

/// SHA-256 of both texts, hex; the lengths keep ("ab", "c") and ("a", "bc") apart.
fn hash(system: &str, user: &str) -> String {
    let mut hasher = Sha256::new();
    for text in [system, user] {
        hasher.update(text.len().to_le_bytes());
        hasher.update(text.as_bytes());
    }
    fence::hex(&hasher.finalize())
}

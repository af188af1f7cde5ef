//! Every environment variable that Sentrix reads, declared once with what it does, and the one place that reads them.
//!
//! Variables of providers (keys, base URLs) are those of the provider table. `.env` files stand in for what the real
//! environment does not have.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use super::dotenv::{self, DotEnv};
use crate::model::{Provider, providers};

/// A variable of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, for people.
    pub doc: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $name:ident $($secret:ident)?;)+) => {
        $(
            $(#[doc = $doc])+
            pub const $name: Variable = Variable {
                name: stringify!($name),
                doc: concat!($($doc),+),
                secret: variables!(@ $($secret)?),
            };
        )+

        /// Those that are no provider's.
        const OWN: &[Variable] = &[$($name),+];
    };
    (@ secret) => { true };
    (@) => { false };
}

variables! {
    /// Configuration file that replaces `./sentrix.toml` and the user's own.
    SENTRIX_CONFIG;
    /// Provider of the patrol's model, by its id (default: by the model's name, else the first with a key).
    SENTRIX_PATROL_PROVIDER;
    /// Model for patrol (default depends on the provider).
    SENTRIX_PATROL_MODEL;
    /// Key for the patrol's provider, over the provider's own.
    SENTRIX_PATROL_API_KEY secret;
    /// Provider of the investigator's model, by its id (default: by the model's name, else the first with a key).
    SENTRIX_INVESTIGATOR_PROVIDER;
    /// Model for investigations (default depends on the provider).
    SENTRIX_INVESTIGATOR_MODEL;
    /// Key for the investigator's provider, over the provider's own.
    SENTRIX_INVESTIGATOR_API_KEY secret;
    /// Provider of the model that OpenClaw itself uses in the sandbox.
    SENTRIX_AGENT_PROVIDER;
    /// Model that OpenClaw itself uses in the sandbox.
    SENTRIX_AGENT_MODEL;
    /// Key for OpenClaw's provider in the sandbox, over the provider's own.
    SENTRIX_AGENT_API_KEY secret;
    /// Most tokens that one sweep may use.
    SENTRIX_BUDGET_SWEEP_TOKENS;
    /// Most US dollars that one sweep may cost.
    SENTRIX_BUDGET_SWEEP_USD;
    /// Most tokens that one investigation may use.
    SENTRIX_BUDGET_INVESTIGATION_TOKENS;
    /// Most US dollars that one investigation may cost.
    SENTRIX_BUDGET_INVESTIGATION_USD;
    /// Most tokens on one day (UTC).
    SENTRIX_BUDGET_DAY_TOKENS;
    /// Most US dollars on one day (UTC; default 5).
    SENTRIX_BUDGET_DAY_USD;
    /// Whether secrets and personal data are masked before a model sees them (default `true`).
    SENTRIX_REDACT_TO_MODEL;
    /// Whether a model's answer about the same text is kept and used again (default `true`).
    SENTRIX_CACHE_ANSWERS;
    /// Model for patrol, as the earlier tool named it; `SENTRIX_PATROL_MODEL` goes first.
    PATROL_MODEL;
    /// Key for OpenAI of the patrol alone, as the earlier tool named it.
    PATROL_OPENAI_API_KEY secret;
    /// Key for Anthropic of the patrol alone, as the earlier tool named it.
    PATROL_ANTHROPIC_API_KEY secret;
    /// Lowest confidence, 0 to 1, that a model's vote needs to count (default 0.6).
    PATROL_CONFIDENCE_THRESHOLD;
    /// Most tokens of one patrol answer (default 2048).
    PATROL_MAX_TOKENS;
    /// Version name of the rules in the record of cleared turns (default: the rule packs' own).
    PATROL_RULESET_VERSION;
    /// Version name of the model in the record of cleared turns (default: the model really used).
    PATROL_MODEL_VERSION;
    /// Model for investigations, as the earlier tool named it; `SENTRIX_INVESTIGATOR_MODEL` goes first.
    POLICE_MODEL;
    /// Most tokens of one investigation answer (default 4096).
    POLICE_MAX_TOKENS;
    /// Most characters of log text that an investigation reads at once (default 80000).
    POLICE_MAX_TURN_CHARS;
    /// Token of the Telegram bot that OpenClaw speaks through, unless `channels.telegram` says otherwise.
    TELEGRAM_BOT_TOKEN secret;
    /// Token of the Discord bot that OpenClaw speaks through, unless `channels.discord` says otherwise.
    DISCORD_BOT_TOKEN secret;
    /// Bot token of the Slack app that OpenClaw speaks through, unless `channels.slack` says otherwise.
    SLACK_BOT_TOKEN secret;
    /// App token of the Slack app that OpenClaw speaks through, unless `channels.slack` says otherwise.
    SLACK_APP_TOKEN secret;
    /// Key for Brave's search, unless `search` says otherwise.
    BRAVE_API_KEY secret;
    /// Secret of 32 characters or more that seals secret channels and signs logs and gate answers (default: the file `.sentrix.key` in the data directory).
    SENTRIX_STATE_KEY secret;
    /// What is logged to standard error, as `debug` or `sentrix::engine=trace` (default `warn`).
    SENTRIX_LOG;
    /// Who answers gates and edits runs, where `--by` does not say.
    USER;
    /// Any value: no colour.
    NO_COLOR;
    /// Folder of the user's configuration: `sentrix/sentrix.toml` in it is read (default `~/.config`).
    XDG_CONFIG_HOME;
    /// Folder of the user's states: `sentrix/<name>` in it is what a sandbox keeps (default `~/.local/state`).
    XDG_STATE_HOME;
    /// Where the Docker engine is (default: the current context's, else the usual sockets).
    DOCKER_HOST;
    /// Context of Docker's command line that names the engine, where `DOCKER_HOST` does not.
    DOCKER_CONTEXT;
    /// Folder of Docker's command line, with its contexts (default `~/.docker`).
    DOCKER_CONFIG;
    /// Folder of the user's sockets: a rootless Docker engine is looked for in it.
    XDG_RUNTIME_DIR;
    /// The user's folder: `~` in a path of the configuration.
    HOME;
}

/// All variables, in the order in which they are documented.
pub fn all() -> &'static [Variable] {
    static ALL_OF_THEM: LazyLock<Vec<Variable>> =
        LazyLock::new(|| providers().iter().flat_map(of_provider).chain(OWN.iter().copied()).collect());
    &ALL_OF_THEM
}

/// [`all`], for a loop.
pub const ALL: Registry = Registry;

/// Stands for all variables.
#[derive(Clone, Copy, Debug)]
pub struct Registry;

impl IntoIterator for Registry {
    type Item = &'static Variable;
    type IntoIter = std::slice::Iter<'static, Variable>;

    fn into_iter(self) -> Self::IntoIter {
        all().iter()
    }
}

/// The keys and the base URL of a provider. Their docs live as long as the program, as those of the others do.
fn of_provider(provider: &'static Provider) -> Vec<Variable> {
    let name = &provider.name;
    let keys = provider.key.iter().enumerate().map(|(index, key)| Variable {
        name: key,
        doc: match provider.key.first().filter(|_| index > 0) {
            Some(first) => format!("Key for {name}, where `{first}` is not set.").leak(),
            None => format!("Key for {name}.").leak(),
        },
        secret: true,
    });
    let base_url = Some(&provider.base_url_var).filter(|variable| !variable.is_empty()).map(|variable| {
        let default = match provider.base_url.as_str() {
            "" => String::new(),
            url => format!(" (default `{url}`)"),
        };
        Variable { name: variable, doc: format!("Base URL for {name}{default}.").leak(), secret: false }
    });
    keys.chain(base_url).collect()
}

/// All variables as the README's table has them.
pub fn table() -> String {
    let mut table = String::from("| variable | what it does |\n|---|---|\n");
    for variable in all() {
        let doc = variable.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        table.extend(["| `", variable.name, "` | ", &doc, " |\n"]);
    }
    table
}

/// The variable's value in the real environment, without surrounding white space; `None` where it is unset or empty.
pub fn get(variable: Variable) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    let value = std::env::var(variable.name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// The value of a variable that data names, as the table of providers does, in the environment or a `.env` file; else as [`get`].
pub fn get_named(name: &str) -> Option<String> {
    Environment::of_process().find(&[name]).map(|found| found.value)
}

/// What is around the program: its variables, the `.env` files that add to them, its folder.
pub(super) struct Environment {
    process: BTreeMap<OsString, OsString>,
    files: Vec<DotEnv>,
    /// The working folder.
    pub(super) folder: PathBuf,
    /// What was odd about `.env` files.
    pub(super) notes: Vec<String>,
}

/// The value of a variable and where it was found.
pub(super) struct Found {
    pub(super) name: String,
    /// Without surrounding white space, never empty.
    pub(super) value: String,
    /// The `.env` file that it stands in.
    pub(super) file: Option<String>,
    /// Whether the value had bytes that are not UTF-8, and they were replaced.
    pub(super) damaged: bool,
}

impl Environment {
    /// The environment of this process.
    pub(super) fn of_process() -> Self {
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Self::new(std::env::vars_os().collect(), folder)
    }

    /// These variables, in that folder.
    pub(super) fn new(process: BTreeMap<OsString, OsString>, folder: PathBuf) -> Self {
        let (files, notes) = dotenv::read(&folder);
        Self { process, files, folder, notes }
    }

    /// The first of the variables that has a value. The real environment goes before `.env` files, a near one before a
    /// far one; a variable that is set to nothing has no value anywhere.
    pub(super) fn find(&self, names: &[&str]) -> Option<Found> {
        let found = names.iter().enumerate().filter_map(|(index, name)| {
            let (rank, found) = self.lookup(name)?;
            (!found.value.is_empty()).then_some((rank, index, found))
        });
        found.min_by_key(|(rank, index, _)| (*rank, *index)).map(|(.., found)| found)
    }

    /// A variable that holds a secret: `no-key-set` counts as none.
    pub(super) fn secret(&self, name: &str) -> Option<Found> {
        self.find(&[name]).filter(|found| found.value != "no-key-set")
    }

    fn lookup(&self, name: &str) -> Option<(usize, Found)> {
        let name_of = || name.to_owned();
        if let Some(value) = self.process.get(OsStr::new(name)) {
            let damaged = value.to_str().is_none();
            let value = value.to_string_lossy().trim().to_owned();
            return Some((0, Found { name: name_of(), value, file: None, damaged }));
        }
        self.files.iter().enumerate().find_map(|(index, file)| {
            let value = file.get(name)?.trim().to_owned();
            let file = Some(file.shown.clone());
            Some((index + 1, Found { name: name_of(), value, file, damaged: false }))
        })
    }

    /// A folder that a variable of the real environment names.
    fn folder_in(&self, variable: Variable) -> Option<&Path> {
        let path = Path::new(self.process.get(OsStr::new(variable.name))?);
        path.is_absolute().then_some(path)
    }

    /// The user's folder.
    pub(super) fn home(&self) -> Option<&Path> {
        self.folder_in(HOME)
    }

    /// The user's configuration file, whether it is there or not.
    pub(super) fn user_file(&self) -> Option<PathBuf> {
        let folder = self.folder_in(XDG_CONFIG_HOME).map(Path::to_owned);
        Some(folder.or_else(|| Some(self.home()?.join(".config")))?.join("sentrix/sentrix.toml"))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_documented_and_named_once() {
        let mut names: Vec<&str> = all().iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
        assert!(all().iter().all(|variable| variable.doc.len() > 10));
    }

    #[test]
    fn a_variable_set_to_nothing_hides_the_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".env"), "OPENAI_API_KEY=a\nANTHROPIC_API_KEY=b\n").unwrap();
        let process = [("OPENAI_API_KEY", ""), ("PATROL_MODEL", " m\r\n")];
        let process = process.map(|(name, value)| (name.into(), value.into())).into();
        let environment = Environment::new(process, dir.path().to_owned());
        assert!(environment.find(&["OPENAI_API_KEY"]).is_none());
        let found = environment.find(&["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]).unwrap();
        assert_eq!((found.value.as_str(), found.file.as_deref()), ("b", Some(".env")));
        let found = environment.find(&["ANTHROPIC_API_KEY", "PATROL_MODEL"]).unwrap();
        assert_eq!((found.value.as_str(), found.file), ("m", None));
        assert!(!format!("{environment:?}").contains("OPENAI"));
    }
}

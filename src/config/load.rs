//! Layers of settings, the strongest last: defaults, the user's file, the working folder's file, environment, flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::choice::Escalation;
use super::document::{Base, Document, Given, is_like_a_secret};
use super::env::{self, Environment};
use super::fault::{ConfigError, Fault, Level, code};
use super::kind::{Kind, Value, Wrong};
use super::models::{self, Role};
use super::origin::Origin;
use super::settings::{self, Setting};
use super::words::shown;
use crate::text::plain;

/// The configuration file of a working folder.
const FILE: &str = "sentrix.toml";

/// What the command line says of the configuration; it goes before everything else.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file that replaces the user's and the working folder's.
    pub config: Option<PathBuf>,
    /// Directory with OpenClaw's logs.
    pub log_dir: Option<PathBuf>,
    /// Directory for stores, flags and reports.
    pub data_dir: Option<PathBuf>,
    /// From which severity on flags go to the police.
    pub escalation: Option<Escalation>,
}

/// What the user asked for, checked.
#[derive(Debug)]
pub struct Config {
    pub(super) values: BTreeMap<String, Given>,
    pub(super) roles: Vec<Role>,
    pub(super) files: Vec<String>,
    pub(super) environment: Environment,
    /// Paths of the command line, which need not be UTF-8.
    pub(super) log_dir: Option<PathBuf>,
    pub(super) data_dir: Option<PathBuf>,
}

impl Config {
    /// Reads files, environment and flags.
    ///
    /// # Errors
    /// All faults of all of them at once.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        Self::load_in(flags, Environment::of_process())
    }

    pub(super) fn load_in(flags: &Flags, environment: Environment) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        layers.files(flags, &environment);
        layers.variables(&environment);
        layers.flags(flags);
        let Layers { values, files, mut faults } = layers;
        let (log_dir, data_dir) = (flags.log_dir.clone(), flags.data_dir.clone());
        let mut config = Self { values, roles: Vec::new(), files, environment, log_dir, data_dir };
        models::prices(&config, &mut faults);
        config.roles = models::roles(&config, &mut faults);
        let mut told: Vec<Fault> = Vec::new();
        for fault in faults {
            if !told.contains(&fault) {
                told.push(fault);
            }
        }
        let faults = told;
        if faults.iter().any(|fault| fault.level() == Level::Error) {
            return Err(ConfigError { faults });
        }
        Ok(config)
    }

    /// What was odd, and does not keep the configuration from being used.
    pub fn notes(&self) -> &[String] {
        &self.environment.notes
    }

    /// The value of a setting that was given.
    pub(super) fn given(&self, path: &str) -> Option<&Given> {
        self.values.get(path)
    }

    /// The value of a setting: the given one, else the default.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        let default = || settings::find(path).and_then(|setting| setting.default.as_ref());
        self.given(path).map(|given| &given.value).or_else(default)
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match self.value(path)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Values and faults as they gather.
#[derive(Default)]
struct Layers {
    values: BTreeMap<String, Given>,
    files: Vec<String>,
    faults: Vec<Fault>,
}

impl Layers {
    fn files(&mut self, flags: &Flags, environment: &Environment) {
        let home = environment.home().map(Path::to_owned);
        let variable = environment.find(&[env::SENTRIX_CONFIG.name]);
        let named = match (&flags.config, variable) {
            (Some(path), _) => Some((path.clone(), Origin::Flag { flag: "--config" })),
            (None, Some(found)) => {
                let path = match (found.value.strip_prefix("~/"), &home) {
                    (Some(rest), Some(home)) => home.join(rest),
                    _ => PathBuf::from(&found.value),
                };
                Some((path, Origin::Variable { name: found.name, file: found.file }))
            }
            (None, None) => None,
        };
        if let Some((path, origin)) = named {
            let name = path.display().to_string();
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            let document = Document::open(&environment.folder.join(&path), &name, &Base { folder, home });
            self.document(
                &name,
                document.unwrap_or_else(|| {
                    let help =
                        format!("{origin} names it; `sentrix config init {}` writes one", plain(&name));
                    Document::unreadable(&name, "there is no such file", &help)
                }),
            );
            return;
        }
        let here = environment.folder.join(FILE);
        if let Some(path) = environment.user_file().filter(|path| *path != here) {
            let name = path.display().to_string();
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            if let Some(document) = Document::open(&path, &name, &Base { folder, home: home.clone() }) {
                self.document(&name, document);
            }
        }
        if let Some(document) =
            Document::open(&here, "./sentrix.toml", &Base { folder: PathBuf::new(), home })
        {
            self.document("./sentrix.toml", document);
        }
    }

    fn document(&mut self, name: &str, document: Document) {
        self.files.push(plain(name));
        self.values.extend(document.values);
        self.faults.extend(document.faults);
    }

    fn variables(&mut self, environment: &Environment) {
        for setting in settings::all().iter().filter(|setting| !setting.variables.is_empty()) {
            let Some(found) = environment.find(&setting.variables) else { continue };
            let origin = Origin::Variable { name: found.name, file: found.file };
            if is_like_a_secret(&found.value) {
                let message =
                    format!("{origin} holds what looks like a secret, but takes {}", setting.kind.takes());
                self.faults.push(Fault::new(
                    code::SECRET,
                    message,
                    "set the variable that the secret is for",
                ));
                continue;
            }
            // What is wrong with a base URL the model says; a graph can be checked all the same.
            let kind = if setting.kind == Kind::Url { &Kind::Text } else { &setting.kind };
            match kind.of_text(&found.value) {
                Ok(value) => self.set(&setting.path, value, origin),
                Err(wrong) => {
                    self.faults.push(bad_variable(setting, &origin, &found.value, found.damaged, &wrong));
                }
            }
        }
    }

    fn flags(&mut self, flags: &Flags) {
        let path = |path: &PathBuf| Value::Text(path.to_string_lossy().into_owned());
        let given = [
            ("log_dir", "--log-dir", flags.log_dir.as_ref().map(path)),
            ("data_dir", "--data-dir", flags.data_dir.as_ref().map(path)),
            (
                "patrol.escalation",
                "--escalation",
                flags.escalation.map(|escalation| Value::Text(escalation.word().to_owned())),
            ),
        ];
        for (setting, flag, value) in given {
            if let Some(value) = value {
                self.set(setting, value, Origin::Flag { flag });
            }
        }
    }

    fn set(&mut self, path: &str, value: Value, origin: Origin) {
        self.values.insert(path.to_owned(), Given { value, origin, place: None });
    }
}

/// The fault of a variable whose value is none that the setting takes.
fn bad_variable(setting: &Setting, origin: &Origin, value: &str, damaged: bool, wrong: &Wrong) -> Fault {
    let Origin::Variable { name, file } = origin else {
        return Fault::new(wrong.code, &wrong.label, &wrong.help);
    };
    let from = file.as_ref().map(|file| format!(" (from {file})")).unwrap_or_default();
    let code = if damaged { code::UNREADABLE } else { wrong.code };
    let takes = setting.kind.takes();
    Fault::new(code, format!("{name} is `{}`{from}, but takes {takes}", shown(value)), &wrong.help)
}

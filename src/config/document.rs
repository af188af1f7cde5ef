//! A configuration file, read setting by setting: what does not fit becomes a fault, and nothing stops at the first.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place, code};
use super::kind::{self, Kind, Value, Wrong};
use super::origin::Origin;
use super::settings::{self, Setting};
use super::words::{self, shown};
use crate::mark::Source;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Most faults of one file that are kept.
const MOST_FAULTS: usize = 200;

/// A value with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// Its place, if it is in a file.
    pub(super) place: Option<Place>,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// Names of settings with their values.
    pub(super) values: Vec<(String, Given)>,
    pub(super) faults: Vec<Fault>,
}

/// What paths in a file are counted from.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    /// The folder of relative paths; empty for the working folder.
    pub(super) folder: PathBuf,
    /// The user's folder.
    pub(super) home: Option<PathBuf>,
}

impl Base {
    /// The path that a text means.
    fn path(&self, text: &str) -> String {
        let path = match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ if self.folder.as_os_str().is_empty() => return text.to_owned(),
            _ => self.folder.join(text),
        };
        path.to_string_lossy().into_owned()
    }
}

impl Document {
    /// A document that could not be read.
    pub(super) fn unreadable(name: &str, why: &str, help: &str) -> Self {
        let fault = Fault::new(code::UNREADABLE, format!("{name} cannot be read: {why}"), help);
        Self { faults: vec![fault], ..Self::default() }
    }

    /// Reads a file; nothing where there is none. `name` is what it is called in messages.
    pub(super) fn open(path: &Path, name: &str, base: &Base) -> Option<Self> {
        let data = match path.metadata() {
            Ok(data) => data,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return None;
            }
            Err(error) => return Some(Self::unreadable(name, &error.to_string(), "make it readable")),
        };
        if !data.is_file() {
            return Some(Self::unreadable(name, "it is no file", "move it away, or name a file"));
        }
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return Some(Self::unreadable(name, &error.to_string(), "make it readable"));
        }
        if bytes.len() as u64 > LARGEST {
            let why = format!("it is larger than {} MiB", LARGEST >> 20);
            return Some(Self::unreadable(
                name,
                &why,
                "`sentrix config init` writes one that has every setting",
            ));
        }
        Some(match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&text, name, base),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
                Self::unreadable(name, &format!("line {line} is not UTF-8"), "save it as UTF-8 text")
            }
        })
    }

    /// Reads a file's text.
    pub(super) fn parse(text: &str, name: &str, base: &Base) -> Self {
        let (document, mut errors) = DeTable::parse_recoverable(text);
        errors.truncate(MOST_FAULTS);
        let mut walk = Walk { base, secrets: secret_lines(text), values: Vec::new(), found: Vec::new() };
        walk.table(document.get_ref(), "", "");
        let line_of = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let broken: Vec<usize> =
            errors.iter().map(|error| line_of(error.span().map_or(0, |span| span.start))).collect();
        // Under a broken `[header]` keys seem to be in another table.
        let lost = broken
            .iter()
            .any(|line| text.lines().nth(*line).is_none_or(|line| line.trim_start().starts_with('[')));
        walk.found.retain(|found| !lost && !broken.contains(&line_of(found.span.start)));
        for error in &errors {
            walk.found.push(Found {
                span: error.span().unwrap_or(0..0),
                label: String::from("here"),
                fault: Fault::new(
                    code::SYNTAX,
                    format!("this is no TOML: {}", error.message()),
                    "text stands in quotes, a table begins with `[name]`, a key with `key =`",
                ),
            });
        }
        walk.found.sort_by_key(|found| (found.span.start, found.span.end));
        let source = Arc::new(Source::new(name, text, &walk.secrets));
        let place = |span| Some(Place { source: Arc::clone(&source), span });
        let faults = walk.found.into_iter().map(|found| found.fault.at(place(found.span), &found.label));
        let faults = faults.collect();
        let values = walk.values.into_iter().map(|(setting, value, span)| {
            let origin = Origin::File { file: source.name().to_owned(), line: source.position(span.start).0 };
            (setting, Given { value, origin, place: place(span) })
        });
        Self { values: values.collect(), faults }
    }
}

/// A fault at a place.
struct Found {
    span: Range<usize>,
    label: String,
    fault: Fault,
}

/// The way through the tables of a document.
struct Walk<'b> {
    base: &'b Base,
    secrets: Vec<Range<usize>>,
    values: Vec<(String, Value, Range<usize>)>,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn fault(&mut self, span: Range<usize>, label: &str, fault: Fault) {
        self.found.push(Found { span, label: label.to_owned(), fault });
    }

    /// Reads a table. `pattern` is its path with `*` for an open name, `name` as a person writes it.
    fn table(&mut self, table: &DeTable<'_>, pattern: &str, name: &str) {
        for (key, value) in table {
            if self.found.len() >= MOST_FAULTS {
                return;
            }
            let word = key.get_ref().as_ref();
            let open = settings::is_open(pattern);
            if open && let Err(wrong) = kind::is_model_ref(word) {
                let message = format!("`{}` is no model: {}", shown(word), wrong.label);
                self.fault(key.span(), &wrong.label, Fault::new(wrong.code, message, wrong.help));
                continue;
            }
            let pattern = settings::join(pattern, if open { "*" } else { word });
            let path = settings::join(name, &if open { settings::quoted(word) } else { word.to_owned() });
            if let Some(setting) = settings::find(&pattern) {
                self.leaf(setting, &path, value);
            } else if settings::is_table(&pattern) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(inner, &pattern, &path),
                    other => {
                        let label = format!("this is {}", kind::kind_of(other));
                        let fault = Fault::new(
                            code::WRONG_TYPE,
                            format!("`{}` is a table", shown(&path)),
                            format!("write `[{}]` and its keys below", shown(&path)),
                        );
                        self.fault(value.span(), &label, fault);
                    }
                }
            } else {
                self.unknown(key.span(), word, name, value);
            }
        }
    }

    fn leaf(&mut self, setting: &Setting, path: &str, value: &Spanned<DeValue<'_>>) {
        let strings = value.get_ref().as_str().into_iter().map(|text| Spanned::new(value.span(), text));
        for text in strings.chain(kind::items(value.get_ref())) {
            if is_like_a_secret(text.get_ref()) {
                return self.secret(text.span(), path);
            }
        }
        if setting.kind == Kind::Models
            && let DeValue::Array(_) = value.get_ref()
        {
            let before = self.found.len();
            for item in kind::items(value.get_ref()) {
                if let Err(wrong) = kind::is_model_ref(item.get_ref()) {
                    self.wrong(setting, path, item.span(), &wrong);
                }
            }
            if self.found.len() > before {
                return;
            }
        }
        match setting.kind.of_toml(value.get_ref()) {
            Ok(Value::Text(text)) if setting.kind == Kind::Path => {
                self.values.push((path.to_owned(), Value::Text(self.base.path(&text)), value.span()));
            }
            Ok(read) => self.values.push((path.to_owned(), read, value.span())),
            Err(wrong) => {
                // What is no name of a variable may be the secret itself.
                if setting.kind == Kind::Variable {
                    self.secrets.push(value.span());
                }
                self.wrong(setting, path, value.span(), &wrong);
            }
        }
    }

    fn wrong(&mut self, setting: &Setting, path: &str, span: Range<usize>, wrong: &Wrong) {
        let message = format!("`{}` takes {}", shown(path), setting.kind.takes());
        self.fault(span, &wrong.label, Fault::new(wrong.code, message, &wrong.help));
    }

    fn unknown(&mut self, span: Range<usize>, word: &str, table: &str, value: &Spanned<DeValue<'_>>) {
        let pattern = if table.starts_with("prices.") { "prices.*" } else { table };
        let known = settings::children(pattern);
        let near = words::closest(word, known.iter().copied());
        let is_secret =
            value.get_ref().as_str().is_some_and(|text| is_secret_name(word) || is_like_a_secret(text));
        if is_secret && near.is_none() {
            return self.secret(value.span(), &settings::join(table, word));
        }
        let inside = match table {
            "" => String::from("the file"),
            table => format!("[{}]", shown(table)),
        };
        let what = if table == "providers" { "provider" } else { "key" };
        let message = format!("{inside} has no {what} `{}`", shown(word));
        let help = words::help(word, known.iter().copied(), &format!("{what}s"));
        self.fault(span, &format!("no such {what}"), Fault::new(code::UNKNOWN_KEY, message, help));
    }

    /// A secret that stands in the file.
    fn secret(&mut self, span: Range<usize>, path: &str) {
        self.secrets.push(span.clone());
        let fault = Fault::new(
            code::SECRET,
            format!("`{}` holds a secret, and secrets never stand in this file", shown(path)),
            settings::instead_of_secret(path),
        );
        self.fault(span, "take it out, and make a new one if others could read it", fault);
    }
}

/// Whether a key's name says that a secret follows.
fn is_secret_name(key: &str) -> bool {
    let key = key.to_lowercase();
    ["key", "token", "secret", "password", "passwd", "credential", "credentials"]
        .iter()
        .any(|end| key.ends_with(end))
}

/// Whether a text has the form of a key of a well-known service.
pub(super) fn is_like_a_secret(text: &str) -> bool {
    let heads =
        ["sk-", "sk_", "xai-", "gsk_", "AIza", "xoxb-", "xoxp-", "xapp-", "ghp_", "hf_", "r8_", "AKIA"];
    text.len() >= 16 && !text.contains(char::is_whitespace) && heads.iter().any(|head| text.starts_with(head))
}

/// What stands behind `…key =`, `…token =` and the like, also where the file is no TOML.
fn secret_lines(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut begin = 0;
    for line in text.split_inclusive('\n') {
        for (at, _) in line.match_indices('=') {
            let key = line.get(..at).unwrap_or_default().trim_end().trim_end_matches(['"', '\'']);
            let word = key.rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next();
            if word.is_some_and(is_secret_name) {
                let rest = line.get(at + 1..).unwrap_or_default();
                let value = rest.trim();
                let start = begin + at + 1 + rest.find(value).unwrap_or(0);
                spans.push(start..start + value.len());
                break;
            }
        }
        begin += line.len();
    }
    spans
}

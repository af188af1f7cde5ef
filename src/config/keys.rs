//! Where keys are: variables, `.env` files, files of their own.
//!
//! **Invariant:** a key goes to the provider that it was given for and to no other, and is never part of a message.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::SecretString;

use super::document::Given;
use super::env::{self, Found};
use super::fault::{Fault, code};
use super::load::Config;
use super::origin::Origin;
use crate::model::Provider;
use crate::text::plain;

/// Largest file that holds a key, in bytes.
const LARGEST: u64 = 64 << 10;

/// A secret, or where it was looked for.
#[derive(Clone, Debug)]
pub struct Key {
    /// The secret, if there is one.
    pub secret: Option<SecretString>,
    /// Where it was read.
    pub origin: Option<Origin>,
    /// Where it was read, or looked for, for messages: `OPENAI_API_KEY (from .env)`.
    pub looked: String,
}

impl Key {
    fn of(found: Found) -> Self {
        let looked = match &found.file {
            Some(file) => format!("{} (from {file})", found.name),
            None => found.name.clone(),
        };
        let secret = Some(SecretString::from(found.value));
        Self { secret, origin: Some(Origin::Variable { name: found.name, file: found.file }), looked }
    }

    fn none(looked: &[String]) -> Self {
        Self { secret: None, origin: None, looked: looked.join(" or ") }
    }
}

/// The variable that holds a role's own key.
fn role_variable(role: &str) -> Option<&'static str> {
    let own = match role {
        "patrol" => env::SENTRIX_PATROL_API_KEY,
        "investigator" => env::SENTRIX_INVESTIGATOR_API_KEY,
        "agent" => env::SENTRIX_AGENT_API_KEY,
        _ => return None,
    };
    Some(own.name)
}

/// The variable of the earlier tool that holds the patrol's key for a provider.
fn earlier_variable(role: &str, provider: &Provider) -> Option<&'static str> {
    match (role, provider.id.as_str()) {
        ("patrol", "openai") => Some(env::PATROL_OPENAI_API_KEY.name),
        ("patrol", "anthropic") => Some(env::PATROL_ANTHROPIC_API_KEY.name),
        _ => None,
    }
}

/// Where a role's own key is set.
pub(super) fn of_role(config: &Config, role: &str) -> Option<Origin> {
    let found = config.environment.secret(role_variable(role)?)?;
    Some(Origin::Variable { name: found.name, file: found.file })
}

/// Whether there is a key of a provider that a role may use, its own apart.
pub(super) fn is_set(config: &Config, role: &str, provider: &Provider) -> bool {
    let variable = |name: &str| config.environment.secret(name).is_some();
    let setting = |key: &str| config.given(&format!("providers.{}.{key}", provider.id));
    earlier_variable(role, provider).is_some_and(variable)
        || config.text(&format!("providers.{}.api_key_env", provider.id)).is_some_and(variable)
        || setting("api_key_file").is_some()
        || provider.key.iter().any(|name| variable(name))
}

/// The key that a role uses at a provider; the role's own only where `with_own` says that it is for that provider.
pub(super) fn find(
    config: &Config,
    role: &str,
    provider: &Provider,
    with_own: bool,
    faults: &mut Vec<Fault>,
) -> Key {
    let own = role_variable(role).filter(|_| with_own);
    for variable in own.into_iter().chain(earlier_variable(role, provider)) {
        if let Some(found) = config.environment.secret(variable) {
            return Key::of(found);
        }
    }
    let path = |key: &str| format!("providers.{}.{key}", provider.id);
    let mut looked = Vec::new();
    if let Some(key) = configured(config, &path("api_key_env"), &path("api_key_file"), &mut looked, faults) {
        return key;
    }
    let names: Vec<&str> = provider.key.iter().map(String::as_str).collect();
    if let Some(found) = provider_key(config, &names) {
        return Key::of(found);
    }
    looked.extend(provider.key.iter().cloned());
    Key::none(&looked)
}

/// The first of a provider's variables that holds a key; the real environment goes before `.env` files.
fn provider_key(config: &Config, names: &[&str]) -> Option<Found> {
    let set: Vec<&str> =
        names.iter().copied().filter(|name| config.environment.secret(name).is_some()).collect();
    config.environment.find(&set)
}

/// The secret that a setting names a variable or a file of.
pub(super) fn configured(
    config: &Config,
    variable: &str,
    file: &str,
    looked: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) -> Option<Key> {
    let named = |name: Option<&str>, looked: &mut Vec<String>| {
        let found = config.environment.secret(name?);
        if found.is_none() {
            looked.extend(name.map(str::to_owned));
        }
        found.map(Key::of)
    };
    // A file that is named goes before a variable that nobody named.
    let is_given = config.given(variable).is_some();
    if let Some(key) = named(config.text(variable).filter(|_| is_given), looked) {
        return Some(key);
    }
    if let Some(path) = config.text(file) {
        match read(Path::new(path), &config.environment.folder) {
            Ok(Some(secret)) => {
                let origin = Origin::KeyFile { file: plain(path) };
                return Some(Key { secret: Some(secret), looked: origin.to_string(), origin: Some(origin) });
            }
            Ok(None) => {}
            Err(why) => faults.push(unusable(path, &why, config.given(file))),
        }
        looked.push(format!("the file {}", plain(path)));
    }
    named(config.text(variable).filter(|_| !is_given), looked)
}

/// The fault of a file that should hold a secret.
pub(super) fn unusable(path: &str, why: &str, given: Option<&Given>) -> Fault {
    let help =
        if why.contains("others") { format!("chmod 600 {path}") } else { String::from("name another file") };
    let fault = Fault::new(code::UNREADABLE, format!("the key file {path} cannot be used: {why}"), help);
    fault.at(given.and_then(|given| given.place.clone()), "named here")
}

/// Whether a file that holds a secret is its owner's alone.
///
/// # Errors
/// Why it is not.
pub(super) fn is_private(path: &Path, folder: &Path) -> Result<(), String> {
    let data = folder.join(path).metadata().map_err(|error| error.to_string())?;
    if !data.is_file() {
        return Err(String::from("it is no file"));
    }
    if data.mode() & 0o077 != 0 {
        return Err(String::from("others may read it"));
    }
    Ok(())
}

/// The secret in a file; nothing where the file is empty or says `no-key-set`.
fn read(path: &Path, folder: &Path) -> Result<Option<SecretString>, String> {
    is_private(path, folder)?;
    let mut bytes = Vec::new();
    File::open(folder.join(path))
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} KiB", LARGEST >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| String::from("it is not UTF-8"))?;
    let text = text.trim();
    Ok((!text.is_empty() && text != "no-key-set").then(|| SecretString::from(text)))
}

//! Secrets as files, and the references that the configuration holds instead.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::SECRETS_DIR;

/// The secrets of one configuration.
#[derive(Debug, Default)]
pub(super) struct Secrets(BTreeMap<String, SecretString>);

impl Secrets {
    /// Keeps a secret in a file, and gives the reference to it. The name is also that of the secret's provider: small
    /// letters, digits, `_` and `-`, 64 at most; others become `_`.
    ///
    /// Source: docs, "`SecretRef` contract": a `singleValue` provider is one file, whose value has the id `value`.
    pub(super) fn put(&mut self, name: &str, secret: &SecretString) -> Value {
        let sound = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' { c } else { '_' };
        let name: String = name.chars().take(64).map(sound).collect();
        self.0.insert(name.clone(), secret.clone());
        json!({ "source": "file", "provider": name, "id": "value" })
    }

    /// `secrets.providers`.
    pub(super) fn providers(&self) -> Map<String, Value> {
        let provider = |name: &String| {
            let path = format!("{SECRETS_DIR}/{name}");
            (name.clone(), json!({ "source": "file", "path": path, "mode": "singleValue" }))
        };
        self.0.keys().map(provider).collect()
    }

    pub(super) fn files(self) -> BTreeMap<String, SecretString> {
        self.0
    }
}

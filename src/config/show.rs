//! The effective configuration with where each value comes from.
//!
//! **Invariant:** of a secret it shows only whether it is set and where.

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::keys::Key;
use super::kind::{Kind, Value};
use super::load::Config;
use super::models::Role;
use super::origin::Origin;
use super::settings::{self, Setting};
use crate::text::plain;

/// One line of `config show`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The setting, as `models.patrol.model`.
    pub setting: String,
    /// Its value; for a secret `true` where it is set.
    pub value: Json,
    /// The value for people.
    #[serde(skip)]
    pub shown: String,
    /// Whether the value is a secret's.
    pub secret: bool,
    /// Where the value comes from; nothing where there is no value.
    pub origin: Option<Origin>,
    /// For a secret that is not set, where it was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_for: Option<String>,
}

impl Row {
    fn value(path: &str, kind: &Kind, value: &Value, origin: Origin) -> Self {
        let (json, shown) = match (kind, value) {
            (Kind::Url, Value::Text(url)) => {
                let url = without_credentials(url);
                (json!(url), url)
            }
            _ => (value.json(), value.shown()),
        };
        Self {
            setting: path.to_owned(),
            value: json,
            shown: plain(&shown),
            secret: false,
            origin: Some(origin),
            looked_for: None,
        }
    }

    fn none(path: &str) -> Self {
        Self {
            setting: path.to_owned(),
            value: Json::Null,
            shown: String::from("none"),
            secret: false,
            origin: None,
            looked_for: None,
        }
    }

    fn secret(path: &str, key: &Key) -> Self {
        let is_set = key.secret.is_some();
        Self {
            setting: path.to_owned(),
            value: json!(is_set),
            shown: match &key.origin {
                Some(origin) => format!("set ({origin})"),
                None => String::from("none"),
            },
            secret: true,
            origin: key.origin.clone(),
            looked_for: (!is_set && !key.looked.is_empty()).then(|| key.looked.clone()),
        }
    }
}

impl Config {
    /// The configuration files that were read, the strongest last.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Every setting that has a meaning here: all general ones, the models of each role, the providers that are used or
    /// set.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let general = |setting: &&Setting| {
            !["models.", "providers.", "prices."].iter().any(|head| setting.path.starts_with(head))
        };
        let mut settings = settings::all().iter().filter(general).peekable();
        while let Some(setting) = settings.next_if(|setting| !setting.path.contains('.')) {
            rows.push(self.row(&setting.path, setting));
        }
        for role in ["patrol", "investigator", "agent"] {
            self.role_rows(role, &mut rows);
        }
        for lens in settings::LENSES {
            let name = format!("patrol.{lens}");
            if self.roles.iter().any(|role| role.name == name) {
                self.role_rows(&name, &mut rows);
            }
        }
        self.provider_rows(&mut rows);
        for path in self.values.keys().filter(|path| path.starts_with("prices.")) {
            if let Some(given) = self.given(path) {
                rows.push(Row::value(path, &Kind::Text, &given.value, given.origin.clone()));
            }
        }
        for setting in settings {
            // The secret's own row says where it is, or was looked for.
            let names_a_secret = matches!(setting.path.rsplit_once('_'), Some((_, "env" | "file")));
            if !names_a_secret || self.given(&setting.path).is_some() {
                rows.push(self.row(&setting.path, setting));
            }
        }
        for channel in self.channels().iter().filter(|channel| channel.enabled) {
            for (secret, key) in &channel.secrets {
                rows.push(Row::secret(&format!("channels.{}.{secret}", channel.id), key));
            }
        }
        rows.push(Row::secret("search.brave_key", &self.search().brave));
        rows
    }

    fn row(&self, path: &str, setting: &Setting) -> Row {
        match (self.given(path), &setting.default) {
            (Some(given), _) => Row::value(path, &setting.kind, &given.value, given.origin.clone()),
            (None, Some(default)) => Row::value(path, &setting.kind, default, Origin::Default),
            (None, None) => Row::none(path),
        }
    }

    fn role_rows(&self, name: &str, rows: &mut Vec<Row>) {
        let role = self.roles.iter().find(|role| role.name == name);
        let table = role.map_or_else(|| format!("models.{name}"), Role::table);
        let Some(first) = role.and_then(Role::first) else {
            rows.push(Row::none(&format!("{table}.model")));
            return;
        };
        let text = |value: &str| Value::Text(value.to_owned());
        let settings = &first.settings;
        let path = |key: &str| format!("{table}.{key}");
        let provider = text(&settings.provider_id);
        rows.push(Row::value(&path("provider"), &Kind::Text, &provider, first.provider_origin.clone()));
        rows.push(Row::value(
            &path("model"),
            &Kind::Text,
            &text(&settings.model),
            first.model_origin.clone(),
        ));
        rows.push(Row::secret(&path("api_key"), &first.key));
        for key in ["fallback", "max_tokens", "timeout"] {
            if let Some(setting) = settings::find(&path(key))
                && (self.given(&path(key)).is_some() || setting.default.is_some())
            {
                rows.push(self.row(&path(key), setting));
            }
        }
    }

    fn provider_rows(&self, rows: &mut Vec<Row>) {
        let links = || self.roles.iter().flat_map(|role| &role.chain);
        for provider in crate::model::providers() {
            let table = format!("providers.{}.", provider.id);
            let is_used = links().any(|link| link.settings.provider_id == provider.id);
            for setting in settings::all().iter().filter(|setting| setting.path.starts_with(&table)) {
                if self.given(&setting.path).is_some() || (is_used && setting.default.is_some()) {
                    rows.push(self.row(&setting.path, setting));
                }
            }
        }
    }
}

/// A URL without what may be a secret in it: user, password and query.
fn without_credentials(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?…"),
        None => (url, ""),
    };
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://…@{rest}{query}"),
        None => format!("{url}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("https://api.example.org/v1", "https://api.example.org/v1"),
            ("https://me:pass@word@example.org/v1?key=abc", "https://…@example.org/v1?…"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}

//! A configuration file with every setting, commented out.

use super::kind::Kind;
use super::settings::{self, Setting};
use crate::model::{Provider, providers};
use crate::text::push;

const HEAD: &str = "\
# Configuration of Sentrix. Every setting stands here with its default or an example; take the `# ` in front away to set it.
# Strength, rising: defaults, the file in your own config folder, ./sentrix.toml, environment (and `.env`), flags.
# `sentrix config check` finds every fault, `sentrix config show` says what counts and where it comes from.
# Secrets never stand here: put keys into the environment, a `.env` file, or a file that only you may read.
";

/// A commented file with every setting. Of providers, lenses and prices one stands for all.
pub fn template() -> String {
    let mut out = String::from(HEAD);
    let mut last = "";
    for setting in settings::all().iter().filter(|setting| is_shown(&setting.path)) {
        let (table, key) = setting.path.rsplit_once('.').unwrap_or(("", &setting.path));
        if table != last {
            push(&mut out, format_args!("\n{}[{}]\n", about(table), written(table)));
            last = table;
        } else if table.is_empty() && out.len() == HEAD.len() {
            out.push('\n');
        }
        let variables = match setting.variables.as_slice() {
            [] => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        push(&mut out, format_args!("# {key} = {}  # {}{variables}\n", example(setting, key), setting.doc));
    }
    out
}

/// Whether a setting stands in the template: of many alike only the first does.
fn is_shown(path: &str) -> bool {
    let mut parts = path.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("providers"), Some(id), ..) => providers().first().is_some_and(|first| first.id == id),
        (Some("models"), _, Some("lens"), Some(lens)) => lens == "injection",
        _ => true,
    }
}

/// A table's name as the file has it.
fn written(table: &str) -> String {
    let price = providers().first().map_or_else(String::new, |first| full(first, &first.patrol));
    table.replace("prices.*", &format!("prices.\"{price}\""))
}

/// What is to be said of a table.
fn about(table: &str) -> String {
    let ids = |all: Vec<&str>| all.join(", ");
    match table {
        "models.patrol.lens.injection" => {
            format!(
                "# The same for each of: {}. What is not set is as in [models.patrol].\n",
                ids(settings::LENSES.into())
            )
        }
        table if table.starts_with("providers.") => {
            let all = providers().iter().map(|provider| provider.id.as_str()).collect();
            format!("# The same for each of: {}.\n", ids(all))
        }
        _ => String::new(),
    }
}

/// A model as `provider/model`.
fn full(provider: &Provider, model: &str) -> String {
    format!("{}/{model}", provider.id)
}

/// The role that a setting of `[models]` is about: `patrol`.
fn role(path: &str) -> &str {
    path.split('.').nth(1).unwrap_or_default()
}

/// The listed price of the first provider's model for patrol.
fn price(key: &str) -> String {
    let listed = providers().first().and_then(|first| first.listed(&first.patrol)).map(|model| model.price);
    let price = listed.and_then(|price| match key {
        "input" => Some(price.input),
        "cached_input" => price.cached_input,
        _ => Some(price.output),
    });
    format!("{:?}", price.unwrap_or(0.5))
}

/// The default, else something that could stand there.
fn example(setting: &Setting, key: &str) -> String {
    if let Some(default) = &setting.default {
        return default.toml();
    }
    match &setting.kind {
        Kind::Provider => quoted(providers().first().map_or("", |first| &first.id)),
        // What stands in for a model is somebody else's.
        Kind::Models => {
            let second =
                providers().get(1).map(|second| full(second, second.default_model(role(&setting.path))));
            format!("[{}]", quoted(&second.unwrap_or_default()))
        }
        Kind::Text if key == "model" => {
            quoted(providers().first().map_or("", |first| first.default_model(role(&setting.path))))
        }
        Kind::Text => quoted("…"),
        Kind::Path => a_path(setting, key),
        Kind::Url => quoted("https://example.org/v1"),
        Kind::Variable => quoted("MY_KEY"),
        Kind::Whole(_) if key == "max_tokens" => String::from("2048"),
        Kind::Whole(_) if key == "tokens" => String::from("200_000"),
        Kind::Whole(_) => String::from("60"),
        Kind::Number(_) if setting.path.starts_with("prices.") => price(key),
        Kind::Number(_) => String::from("0.50"),
        Kind::Bool => String::from("true"),
        Kind::Duration(_) => quoted("2m"),
        Kind::Choice(words) => words.first().map(|word| quoted(word)).unwrap_or_default(),
    }
}

/// A path that could stand there: a key's file is called by what it is for.
fn a_path(setting: &Setting, key: &str) -> String {
    if key == "data_dir" {
        return quoted("./stores");
    }
    let name = setting.path.rsplit('.').nth(1).unwrap_or_default();
    quoted(&format!("~/.config/sentrix/keys/{name}"))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::{Base, Document};

    #[test]
    fn the_template_says_nothing_and_without_its_marks_is_right() {
        let text = template();
        let as_it_is = Document::parse(&text, "t", &Base::default());
        assert_eq!((as_it_is.faults, as_it_is.values), (vec![], vec![]));
        let is_setting = |line: &&str| line.starts_with('[') || line.contains(" = ");
        let lines: Vec<&str> = text
            .lines()
            .skip(HEAD.lines().count())
            .filter(is_setting)
            .map(|line| line.trim_start_matches("# "))
            .collect();
        let document = Document::parse(&lines.join("\n"), "t", &Base::default());
        assert_eq!(document.faults, []);
        let shown = settings::all().iter().filter(|setting| is_shown(&setting.path)).count();
        assert_eq!(document.values.len(), shown);
    }
}

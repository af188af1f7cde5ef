//! What was answered, in plain words and without a secret.

use super::answers::{Answers, Channel, Env, Keep, ModelAnswers, Secret, Security, Slot};
use super::save::Places;
use super::screen::fold;
use crate::cli::printer::bold;
use crate::config::Reasoning;
use crate::text;

/// Width of the names on the left.
const LEFT: usize = 17;

/// The table that the last question stands below.
pub(super) fn page(answers: &Answers, places: &Places, env: Env<'_>, width: usize) -> String {
    let mut lines = vec![String::new(), bold("Summary")];
    for (name, value) in rows(answers, places, env) {
        let value = text::plain(&value);
        // In a narrow terminal the value stands below its name.
        if width < 60 {
            lines.push(format!("  {name}"));
            lines.push(format!("    {}", fold(&value, width.saturating_sub(6)).replace("\n ", "\n    ")));
        } else {
            let indent = format!("\n{:1$}", "", LEFT + 2);
            let value = fold(&value, width.saturating_sub(LEFT + 3)).replace("\n ", &indent);
            lines.push(format!("  {name:<LEFT$}{value}"));
        }
    }
    lines.push(String::new());
    let meaning = fold(&text::plain(&meaning(answers)), width.saturating_sub(4));
    lines.push(format!("  {}", meaning.replace("\n ", "\n  ")));
    lines.push(String::new());
    lines.join("\n")
}

fn rows(answers: &Answers, places: &Places, env: Env<'_>) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    match &answers.models {
        None => rows.push(("Provider", "none, rules only".into())),
        Some(models) => {
            rows.push(("Provider", models.provider.name.clone()));
            rows.push(("Key", key(models, answers.keep, places, env)));
            let address = models.address(env);
            if address != models.provider.base_url {
                let from = match &models.base_url {
                    Some(_) => String::new(),
                    None => format!(", from {}", models.provider.base_url_var),
                };
                rows.push(("Address", format!("{}{from}", without_login(&address))));
            }
            let ModelAnswers { patrol, investigator, agent, .. } = models;
            rows.push(("Models", format!("patrol {patrol}, investigator {investigator}, OpenClaw {agent}")));
            let captured = match (answers.reasoning, answers.capture_reasoning) {
                (Reasoning::Off, _) => "",
                (_, true) => ", thoughts captured",
                (_, false) => ", thoughts not captured",
            };
            rows.push(("Reasoning", format!("{}{captured}", answers.reasoning.word())));
        }
    }
    let names: Vec<&str> = answers.channels.iter().map(|channel| channel.name()).collect();
    rows.push(("Channels", if names.is_empty() { "none".into() } else { names.join(", ") }));
    for channel in &answers.channels {
        match channel {
            Channel::WhatsApp | Channel::Signal => rows.push((channel.name(), channel.needs().into())),
            _ => rows.extend(channel.slots().iter().map(|(_, slot)| token(*slot, answers, places, env))),
        }
    }
    rows.push(("Web search", if answers.web_search { "Brave".into() } else { "off".into() }));
    if answers.web_search {
        rows.push(token(Slot::Brave, answers, places, env));
    }
    rows.push(("Subagents shown", answers.subagents.to_string()));
    let patrol = if answers.patrol { "on" } else { "off, unless you start it" };
    rows.push(("Patrol", format!("{patrol}; {} and above go to the police", threshold(answers))));
    rows.push(("Security", security(answers.security)));
    rows
}

fn threshold(answers: &Answers) -> String {
    crate::cli::args::threshold(answers.escalation).to_string()
}

fn key(models: &ModelAnswers, keep: Keep, places: &Places, env: Env<'_>) -> String {
    match (&models.key, models.provider.local) {
        (Secret::None, true) => "none needed".into(),
        (Secret::None, false) => format!("missing: set {}", models.usual_variable()),
        (secret, _) => held(secret, keep, &models.provider.id, &models.usual_variable(), places, env),
    }
}

fn token(slot: Slot, answers: &Answers, places: &Places, env: Env<'_>) -> (&'static str, String) {
    let held = held(answers.token(slot), answers.keep, slot.file(), slot.variable(), places, env);
    (slot.name(), held)
}

/// Where a secret is, never what it is.
fn held(secret: &Secret, keep: Keep, file: &str, usual: &str, places: &Places, env: Env<'_>) -> String {
    let variable = match (secret, keep) {
        (Secret::Typed(_), Keep::File) => {
            let path = places.keys.as_ref().map(|keys| places.short(&keys.join(file)));
            return format!("typed, kept in {}", path.unwrap_or_default());
        }
        (Secret::Variable(name), _) => name,
        _ => usual,
    };
    let set = if env(variable).is_some() { "set" } else { "you set it yourself" };
    format!("from {variable} ({set})")
}

/// What `OpenClaw` may do, in plain words.
pub(super) fn security(rules: Security) -> String {
    let exec = match rules.exec {
        "deny" => "no shell commands",
        "allowlist" => "shell commands of a list",
        _ => "any shell command",
    };
    let files = if rules.workspace_only { "files of its workspace only" } else { "any file it can reach" };
    let messages = match rules.dm_policy {
        "pairing" => "direct messages after pairing",
        "allowlist" => "direct messages of a list",
        _ => "direct messages of anybody",
    };
    let network = match rules.egress {
        "door" => "network only through Sentrix",
        "none" => "no network",
        _ => "network without a watch",
    };
    format!("{exec}, {files}, {messages}, {network}")
}

fn meaning(answers: &Answers) -> String {
    let reads = match &answers.models {
        Some(models) => {
            let away = if models.provider.local { "" } else { "; log text goes there with secrets masked" };
            format!("Rules and {} read every new turn{away}.", models.patrol)
        }
        None => "Rules alone read every new turn; no log text leaves this machine.".into(),
    };
    let by = answers.models.as_ref().map_or(String::new(), |models| format!(" by {}", models.investigator));
    format!("{reads} Flags of {} and above are investigated{by}, the rest are listed.", threshold(answers))
}

/// An address without a login that may stand in it.
fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{}", path.map_or(String::new(), |path| format!("/{path}")))
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_login() {
        assert_eq!(without_login("https://me:secret@host:8/v1"), "https://host:8/v1");
        assert_eq!(without_login("http://host"), "http://host");
        assert_eq!(without_login("nonsense"), "nonsense");
    }
}

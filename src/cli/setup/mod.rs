//! `sentrix setup`: the wizard that finds out what the settings should be, and writes them.
//!
//! **Invariant:** nothing is written before the last confirmation, and no secret is shown or stands in `sentrix.toml`.
//! **Invariant:** the terminal is given back as it was, however the wizard ends.
//!
//! `steps.rs` holds the questions and where each leads (`openclaw.rs` those about OpenClaw itself), `answers.rs` what was answered, `screen.rs` how it looks, `save.rs` what is
//! written. Start reading at `steps.rs`.

mod answers;
mod openclaw;
mod save;
mod screen;
mod steps;
mod summary;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use answers::{Answers, Keep, ModelAnswers, Secret};
use save::Places;
use screen::{Restore, Stop, Terminal};
use steps::{Checked, Finished, Wizard};

use super::args::SetupArgs;
use super::failure::{self, Failure, Outcome};
use super::printer;
use crate::config::env;
use crate::model::{
    ChatModel, ChatRequest, Client, ModelError, ModelErrorKind, ModelSettings, meant, provider, providers,
};
use crate::supervise::Shutdown;
use crate::text;

const NOTHING_WRITTEN: &str = "Nothing was written.";

/// Runs the verb.
pub(super) async fn run(args: &SetupArgs, shutdown: &Shutdown) -> Outcome {
    let answers = from_flags(args)?;
    let places = Places::of(&env::get_named);
    if args.yes {
        let file = args.path.clone().unwrap_or_else(|| places.here.clone());
        printer::note(summary::page(&answers, &places, &env::get_named, usize::from(printer::width())));
        finish(&answers, &file, &places)?;
        return Ok(failure::DONE);
    }
    let places = match &args.path {
        Some(path) => Places { here: path.clone(), user: None, ..places },
        None => places,
    };
    wizard(answers, places, shutdown).await?;
    Ok(failure::DONE)
}

/// Asks everything and writes what was answered; gives the file, or nothing where the user does not save.
///
/// # Errors
/// [`Failure::Usage`] where there is no terminal, [`Failure::Left`] where the user leaves, and where a file cannot be written.
async fn wizard(answers: Answers, places: Places, shutdown: &Shutdown) -> Result<Option<PathBuf>, Failure> {
    if !screen::is_terminal() {
        return Err(Failure::Usage(no_terminal()));
    }
    printer::note(format_args!(
        "\n{}\n{}\n",
        printer::bold("Sentrix setup"),
        printer::fold("Enter takes what is marked. Nothing is written before you say so at the end.", "")
    ));
    let mut finished = ask(answers, &places, false, shutdown).await?;
    loop {
        let Some(file) = &finished.file else {
            printer::note(NOTHING_WRITTEN);
            return Ok(None);
        };
        match finish(&finished.answers, file, &places) {
            Ok(()) => return Ok(finished.file),
            // Nobody answers it all again because of a folder that cannot be written.
            Err(failure @ (Failure::Unavailable(_) | Failure::Refused(_))) => {
                failure.report();
                finished = ask(finished.answers, &places, true, shutdown).await?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Asks, on a thread of its own: reading keys blocks. Whatever ends it, the terminal is given back.
async fn ask(
    answers: Answers,
    places: &Places,
    at_the_end: bool,
    shutdown: &Shutdown,
) -> Result<Finished, Failure> {
    let _restore = Restore;
    let (handle, drain, places) = (Handle::current(), shutdown.drain().clone(), places.clone());
    let asking = tokio::task::spawn_blocking(move || {
        let check = |settings: ModelSettings| {
            let answer = handle.block_on(async {
                tokio::select! {
                    () = drain.cancelled() => None,
                    answer = call(settings) => Some(answer),
                }
            });
            match answer {
                // The runtime may be gone by then, which looks like a failure of the call.
                _ if drain.is_cancelled() => Checked::Left,
                None => Checked::Left,
                Some(Ok(())) => Checked::Fine,
                Some(Err(error)) => Checked::Failed(Box::new(error)),
            }
        };
        let mut terminal = Terminal::new(drain.clone());
        let wizard = Wizard {
            ask: &mut terminal,
            env: &env::get_named,
            check: &check,
            places: &places,
            answers,
            at_the_end,
        };
        wizard.run()
    });
    let asked = tokio::select! {
        asked = asking => asked,
        // A signal from outside; the thread still waits for a key, and the process does not wait for it.
        () = shutdown.drain().cancelled() => Ok(Err(Stop::Leave)),
    };
    match asked {
        Ok(Ok(finished)) => Ok(finished),
        Ok(Err(Stop::Broken(error))) => Err(Failure::Unavailable(error)),
        Ok(Err(Stop::Leave | Stop::Back)) => Err(Failure::Left(NOTHING_WRITTEN)),
        Err(error) => Err(Failure::Bug(anyhow::Error::new(error).context("the wizard failed"))),
    }
}

/// One small call. An answer that is cut off is one: the key was accepted, and the model thinks before it speaks.
async fn call(settings: ModelSettings) -> Result<(), ModelError> {
    let mut request = ChatRequest::new("", "Answer with: ok");
    request.max_tokens = Some(16);
    match Client::new(settings).complete(request).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind, ModelErrorKind::Truncated { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes, and says what was written and what comes next.
fn finish(answers: &Answers, file: &Path, places: &Places) -> Result<(), Failure> {
    let saved = save::write(answers, file, places)?;
    let mut lines = vec![screen::good(&format!("✓ Saved {}", places.short(file)))];
    if let Some(backup) = &saved.backup {
        lines.push(format!("  the old one is {}", places.short(backup)));
    }
    lines.extend(saved.keys.iter().map(|key| format!("  key in {}", places.short(key))));
    if places.user.as_deref() == Some(file) && places.here.exists() {
        lines.push(format!("  {} is there too, and wins in this folder", places.short(&places.here)));
    }
    let missing = missing_variables(answers);
    if !missing.is_empty() {
        lines.push("\nSet before you start:".into());
        lines.extend(missing.iter().map(|name| format!("  export {}=…", text::plain(name))));
    }
    lines.push("\nNext:".into());
    if answers.models.is_some() {
        lines.push("  sentrix models test".into());
    }
    lines.push("  sentrix patrol --once --log-dir DIR".into());
    lines.push("  sentrix config show".into());
    printer::note(lines.join("\n"));
    Ok(())
}

/// The variables that the settings refer to and that are not set yet.
fn missing_variables(answers: &Answers) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if let Some(models) = &answers.models {
        match &models.key {
            Secret::Variable(name) => names.push(name.clone()),
            Secret::None if !models.provider.local => names.push(models.usual_variable()),
            _ => {}
        }
    }
    for slot in answers.slots() {
        if let Secret::Variable(name) = answers.token(slot) {
            names.push(name.clone());
        }
    }
    if answers.keep == Keep::Variable {
        names.extend(answers.typed().into_iter().map(|(_, variable, _)| variable));
    }
    names.retain(|name| env::get_named(name).is_none());
    names
}

/// The answers that flags give; the rest has its defaults.
fn from_flags(args: &SetupArgs) -> Result<Answers, Failure> {
    let usage = |text: String| Err(Failure::Usage(text));
    let mut answers = Answers { rules_only: args.provider.as_deref() == Some("none"), ..Answers::default() };
    let chosen = match args.provider.as_deref() {
        Some("none") => None,
        Some(id) => Some(provider(id).ok_or_else(|| Failure::Usage(unknown_provider(id)))?),
        // Without a word, whoever has a key; the wizard asks, and starts there.
        None => providers().iter().find(|one| answers::key_variable(one, &env::get_named).is_some()),
    };
    if let Some(provider) = chosen {
        let mut models = ModelAnswers::of(provider, &env::get_named);
        if let Some(variable) = &args.key_env {
            if !is_variable(variable) {
                return usage(
                    "--key-env takes the name of a variable, as OPENAI_API_KEY, and never the key itself"
                        .into(),
                );
            }
            models.key = Secret::Variable(variable.clone());
        } else if args.yes && matches!(models.key, Secret::None) && !provider.local {
            // Named in the settings, so that it is clear where the key will be looked for.
            models.key = Secret::Variable(models.usual_variable());
        }
        if let Some(model) = &args.model {
            for field in [&mut models.patrol, &mut models.investigator, &mut models.agent] {
                field.clone_from(model);
            }
        }
        models.base_url = args.base_url.clone().filter(|url| *url != provider.base_url);
        if args.yes && models.patrol.is_empty() {
            return usage(format!("{} has no suggested model: name one with --model", provider.id));
        }
        if args.yes && models.address(&env::get_named).is_empty() {
            return usage(format!(
                "{} has no address: give --base-url, or set {}",
                provider.id, provider.base_url_var
            ));
        }
        answers.models = Some(models);
    } else if args.model.is_some() || args.key_env.is_some() || args.base_url.is_some() {
        return usage("--model, --key-env and --base-url need --provider".into());
    }
    answers.patrol = !args.no_patrol;
    answers.escalation = args.escalation.unwrap_or_default();
    Ok(answers)
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unknown_provider(id: &str) -> String {
    let known: Vec<&str> = providers().iter().map(|one| one.id.as_str()).chain(["none"]).collect();
    let meant = meant(id).map_or_else(String::new, |near| format!(" Did you mean `{}`?", near.id));
    format!("`{}` is no provider.{meant} Known: {}", text::bounded(&text::plain(id), 40), known.join(", "))
}

/// What to do where nobody can be asked.
fn no_terminal() -> String {
    let first = providers().iter().find(|one| !one.local);
    let (id, variable) = first.map_or(("openai", "OPENAI_API_KEY"), |one| {
        (one.id.as_str(), one.key.first().map_or("", String::as_str))
    });
    format!(
        "`sentrix setup` asks questions and needs a terminal. Without one, say it all in one line:\n  \
         sentrix setup --yes --provider {id} --key-env {variable}\n\
         More of it: --model NAME, --base-url URL, --patrol or --no-patrol, --escalation medium_above, --path FILE.\n\
         Or set the key's variable alone, as {variable}: no settings are needed then."
    )
}

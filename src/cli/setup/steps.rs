//! The questions, in the order people know, and where each leads. A [`Wizard`] goes from step to step; Esc goes back the way it
//! came.

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::answers::{Answers, Env, Keep, ModelAnswers, Secret, Slot, key_variable};
use super::save::Places;
use super::screen::{self, Ask, Asked, Check, Choice, Question, Stop, bad, good};
use super::summary;
use crate::config::Escalation;
use crate::model::{ModelError, ModelErrorKind, ModelSettings, Provider, Retry, providers};
use crate::text;

/// What one small call brought.
#[derive(Debug)]
pub(super) enum Checked {
    /// The model answered.
    Fine,
    /// It did not.
    Failed(Box<ModelError>),
    /// The user left while it was under way.
    Left,
}

/// Makes one small call.
pub(super) type CheckCall<'a> = &'a (dyn Fn(ModelSettings) -> Checked + Send + Sync);

/// What the wizard found out.
#[derive(Debug)]
pub(super) struct Finished {
    /// The answers.
    pub(super) answers: Answers,
    /// The file to write; none where nothing is saved.
    pub(super) file: Option<PathBuf>,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Provider,
    Address,
    Key,
    Check,
    /// The model that is checked, where the suggested one is not, or there is none.
    CheckModel,
    Models,
    Patrol,
    Investigator,
    Agent,
    Reasoning,
    Capture,
    Channels,
    Token(Slot),
    Search,
    Subagents,
    PatrolOn,
    Escalation,
    Security,
    Exec,
    Workspace,
    Messages,
    Network,
    Keep,
    Save,
}

/// Where a question leads.
enum Next {
    To(Step),
    Done(Option<PathBuf>),
}

/// The wizard under way.
pub(super) struct Wizard<'a> {
    pub(super) ask: &'a mut dyn Ask,
    pub(super) env: Env<'a>,
    pub(super) check: CheckCall<'a>,
    pub(super) places: &'a Places,
    pub(super) answers: Answers,
    /// Whether all but the last question was answered before.
    pub(super) at_the_end: bool,
}

impl Wizard<'_> {
    /// Asks everything.
    ///
    /// # Errors
    /// [`Stop::Leave`] where the user leaves, [`Stop::Broken`] where the terminal does; never [`Stop::Back`].
    pub(super) fn run(mut self) -> Asked<Finished> {
        let mut trail = Vec::new();
        let mut step = if self.at_the_end { Step::Save } else { Step::Provider };
        loop {
            match self.step(step) {
                Ok(Next::To(next)) => trail.push(std::mem::replace(&mut step, next)),
                Ok(Next::Done(file)) => return Ok(Finished { answers: self.answers, file }),
                Err(Stop::Back) => step = trail.pop().ok_or(Stop::Leave)?,
                Err(stop) => return Err(stop),
            }
        }
    }

    fn step(&mut self, step: Step) -> Asked<Next> {
        Ok(Next::To(match step {
            Step::Provider => self.provider()?,
            Step::Address => self.address()?,
            Step::Key => self.key()?,
            Step::Check => self.check()?,
            Step::CheckModel => {
                self.model(1, "Model", |models| &mut models.patrol)?;
                if let Some(models) = &mut self.answers.models
                    && !models.has_suggestions()
                {
                    // A provider without suggestions: the rest starts from what was named.
                    models.investigator.clone_from(&models.patrol);
                    models.agent.clone_from(&models.patrol);
                }
                Step::Check
            }
            Step::Models => self.models()?,
            Step::Patrol => {
                self.model(2, "Patrol", |models| &mut models.patrol)?;
                Step::Investigator
            }
            Step::Investigator => {
                self.model(2, "Investigator", |models| &mut models.investigator)?;
                Step::Agent
            }
            Step::Agent => {
                self.model(2, "OpenClaw", |models| &mut models.agent)?;
                Step::Reasoning
            }
            Step::Reasoning => self.reasoning()?,
            Step::Capture => {
                let question = question(3, "Capture thoughts", "Thoughts say why an agent did what it did.");
                let capture = self.answers.capture_reasoning;
                self.answers.capture_reasoning =
                    self.ask.confirm(&question, "into the log, patrolled too", "", capture)?;
                Step::Channels
            }
            Step::Channels => self.channels()?,
            Step::Token(slot) => self.token(slot)?,
            Step::Search => self.search()?,
            Step::Subagents => self.subagents()?,
            Step::PatrolOn => self.patrol_on()?,
            Step::Escalation => self.escalation()?,
            Step::Security => self.security()?,
            Step::Exec => {
                let words = ["deny", "allowlist", "full"];
                let notes = ["none", "those on a list", "any: only in a sandbox you can lose"];
                self.answers.security.exec =
                    self.word("Shell commands", words, notes, self.answers.security.exec)?;
                Step::Workspace
            }
            Step::Workspace => {
                let question = question(8, "Workspace only", "Files outside the agent's own folder.");
                let only = self.answers.security.workspace_only;
                self.answers.security.workspace_only =
                    self.ask.confirm(&question, "others stay closed", "any file it can reach", only)?;
                Step::Messages
            }
            Step::Messages => {
                let words = ["pairing", "allowlist", "open"];
                let notes = ["who you let in by a code", "who is on a list", "anybody"];
                self.answers.security.dm_policy =
                    self.word("Direct messages", words, notes, self.answers.security.dm_policy)?;
                Step::Network
            }
            Step::Network => {
                let words = ["door", "open", "none"];
                let notes = ["through Sentrix' door, which sees each host", "anywhere, unseen", "nowhere"];
                self.answers.security.egress =
                    self.word("Network", words, notes, self.answers.security.egress)?;
                self.after_security()
            }
            Step::Keep => self.keep()?,
            Step::Save => return self.save().map(Next::Done),
        }))
    }

    fn provider(&mut self) -> Asked<Step> {
        let offered = offered(self.env);
        let now = self.answers.models.as_ref().map(|models| models.provider.id.as_str());
        let mut choices: Vec<Choice> = offered
            .iter()
            .map(|provider| match (key_variable(provider, self.env), provider.local) {
                (Some(variable), _) => Choice::new(provider.full_name(), format!("key found: {variable}")),
                (None, true) => Choice::new(provider.full_name(), "your own, no key needed"),
                (None, false) => Choice::new(provider.full_name(), ""),
            })
            .collect();
        choices.push(Choice::new("No model", "rules only, nothing leaves this machine"));
        let start = match now {
            Some(id) => offered.iter().position(|provider| provider.id == id).unwrap_or(0),
            None if self.answers.rules_only => offered.len(),
            None => 0,
        };
        let question = question(
            1,
            "Provider",
            "Whose model judges what rules cannot? It gets log text, secrets masked.",
        );
        let chosen = self.ask.select(&question, &choices, start)?;
        self.answers.rules_only = chosen == offered.len();
        let Some(provider) = offered.get(chosen).copied() else {
            self.answers.models = None;
            return Ok(Step::Channels);
        };
        // The same one again keeps what was answered about it.
        if now != Some(provider.id.as_str()) {
            self.answers.models = Some(ModelAnswers::of(provider, self.env));
        }
        let known = self.answers.models.as_ref().is_some_and(|one| matches!(one.key, Secret::Variable(_)));
        Ok(match (provider.local, known) {
            (true, _) => Step::Address,
            (false, true) => Step::Check,
            (false, false) => Step::Key,
        })
    }

    /// Where a provider of the user's own is.
    fn address(&mut self) -> Asked<Step> {
        let Some(models) = &mut self.answers.models else { return Ok(Step::Channels) };
        let default = models.address(self.env);
        let help = format!("Where {} answers.", models.provider.name);
        let check: Check = Arc::new(|url| {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let good = host.is_some_and(|host| !host.is_empty()) && url.chars().all(|c| c.is_ascii_graphic());
            if good { Ok(()) } else { Err("an address begins with http:// or https://".into()) }
        });
        let url = self.ask.text(&question(1, "Address", &help), &default, check)?;
        models.base_url = (url != models.provider.base_url).then_some(url);
        Ok(match (models.provider.key.is_empty(), &models.key, models.has_suggestions()) {
            (false, Secret::None | Secret::Typed(_), _) => Step::Key,
            (_, _, true) => Step::Check,
            (_, _, false) => Step::CheckModel,
        })
    }

    fn key(&mut self) -> Asked<Step> {
        let Some(models) = &mut self.answers.models else { return Ok(Step::Channels) };
        let Provider { name, keys_at, local, .. } = models.provider;
        let optional = *local;
        let help = if optional {
            "Enter alone if it needs none.".to_owned()
        } else {
            format!("Keys for {name} are made at {keys_at}")
        };
        let variable = models.usual_variable();
        let check: Check = Arc::new(move |typed| {
            if typed.is_empty() && !optional {
                return Err(format!(
                    "no key: type one, or leave with Ctrl+C and set {variable}; Esc chooses another provider"
                ));
            }
            sound(typed)
        });
        let key = self.ask.secret(&question(1, "Key", &help), check)?;
        models.key = if key.expose_secret().is_empty() { Secret::None } else { Secret::Typed(key) };
        Ok(if models.has_suggestions() { Step::Check } else { Step::CheckModel })
    }

    /// One small call, unless the user does not want it.
    fn check(&mut self) -> Asked<Step> {
        let Some(models) = &self.answers.models else { return Ok(Step::Channels) };
        let after = if models.has_suggestions() { Step::Models } else { Step::Investigator };
        let help = format!("Asks {} for one word.", text::plain(&models.patrol));
        let wanted = self.ask.confirm(
            &question(1, "Check it now", &help),
            "one small call, a fraction of a cent",
            "later: sentrix models test",
            true,
        )?;
        if !wanted {
            return Ok(after);
        }
        let name = &models.provider.name;
        self.ask.say(&format!("  Asking {name} …"));
        let error = match (self.check)(models.settings(self.env)) {
            Checked::Fine => {
                self.ask.say(&good(&format!("  ✓ {name} answers.")));
                return Ok(after);
            }
            Checked::Left => return Err(Stop::Leave),
            Checked::Failed(error) => error,
        };
        let said = format!("✗ {}", text::causes(error.as_ref()));
        let width = self.ask.width().saturating_sub(2);
        let said = screen::fold(&text::bounded(&said, 600), width).replace('\n', "\n  ");
        self.ask.say(&bad(&format!("  {said}")));
        let mut choices = Vec::new();
        if error.retry() != Retry::Never {
            choices.push((Choice::new("Try again", ""), Some(Step::Check)));
        }
        if !models.provider.key.is_empty() {
            choices.push((Choice::new("Another key", ""), Some(Step::Key)));
        }
        if models.provider.local {
            choices.push((Choice::new("Another address", ""), Some(Step::Address)));
        }
        choices.push((Choice::new("Another model", ""), Some(Step::CheckModel)));
        choices.push((Choice::new("Keep it anyway", "it may be the network, or the account"), Some(after)));
        choices.push((Choice::new("Leave", "nothing is written"), None));
        let (shown, steps): (Vec<Choice>, Vec<Option<Step>>) = choices.into_iter().unzip();
        let likely = match error.kind {
            ModelErrorKind::UnknownModel(_) => Step::CheckModel,
            ModelErrorKind::NoEndpoint(_) | ModelErrorKind::BadUrl(_) => Step::Address,
            _ => Step::Key,
        };
        let start = if error.retry() == Retry::Never {
            steps.iter().position(|step| *step == Some(likely)).unwrap_or(0)
        } else {
            0
        };
        let chosen = self.ask.select(&question(1, "What now", ""), &shown, start)?;
        steps.get(chosen).copied().flatten().ok_or(Stop::Leave)
    }

    fn models(&mut self) -> Asked<Step> {
        let Some(models) = &mut self.answers.models else { return Ok(Step::Channels) };
        let mut suggested = models.clone();
        suggested.suggest();
        let help = format!(
            "Suggested: patrol {}, investigator {}, OpenClaw {}",
            suggested.patrol, suggested.investigator, suggested.agent
        );
        let choices = [
            Choice::new("Suggested", "cheap for patrol, stronger for investigations"),
            Choice::new("Choose myself", ""),
        ];
        let own = models.patrol != suggested.patrol
            || models.investigator != suggested.investigator
            || models.agent != suggested.agent;
        let chosen = self.ask.select(&question(2, "Models", &help), &choices, usize::from(own))?;
        if chosen == 0 {
            *models = suggested;
            return Ok(Step::Reasoning);
        }
        Ok(Step::Patrol)
    }

    /// Asks for a model of the provider: a listed one, or any by its name.
    fn model(&mut self, step: u8, name: &str, field: impl Fn(&mut ModelAnswers) -> &mut String) -> Asked<()> {
        let Some(models) = &mut self.answers.models else { return Ok(()) };
        let provider = models.provider;
        let field = field(models);
        let (role, help) = match name {
            "Investigator" => ("investigator", "Looks into what patrol flags: a stronger model pays."),
            "OpenClaw" => ("agent", "The model OpenClaw itself runs on."),
            _ => ("patrol", "Reads every new turn: a cheap model will do."),
        };
        let question = question(step, name, help);
        let typed: Check = Arc::new(|typed| match sound(typed) {
            Ok(()) if typed.is_empty() => Err("type the model's name, as its provider writes it".into()),
            checked => checked.map_err(|_| "a model's name has no spaces".into()),
        });
        // What is suggested, or was named before, is offered even where its price is not known.
        let now = field.clone();
        let mut ids: Vec<&str> = provider.models.iter().map(|model| model.id.as_str()).collect();
        for id in [now.as_str(), provider.default_model(role)] {
            if !id.is_empty() && !ids.contains(&id) {
                ids.insert(0, id);
            }
        }
        if provider.models.is_empty() {
            *field = self.ask.text(&question, &now, typed)?;
            return Ok(());
        }
        let mut choices: Vec<Choice> = ids.iter().map(|id| Choice::new(id, price(provider, id))).collect();
        choices.push(Choice::new("Another…", "type its name"));
        loop {
            let start = ids.iter().position(|id| *id == now).unwrap_or(0);
            let chosen = self.ask.select(&question, &choices, start)?;
            if let Some(id) = ids.get(chosen) {
                (*id).clone_into(field);
                return Ok(());
            }
            match self.ask.text(&question, "", Arc::clone(&typed)) {
                Ok(named) => {
                    *field = named;
                    return Ok(());
                }
                // Back to the list.
                Err(Stop::Back) => {}
                Err(stop) => return Err(stop),
            }
        }
    }

    fn patrol_on(&mut self) -> Asked<Step> {
        let question = question(7, "Patrol", "Watch what agents say and do, and flag incidents?");
        self.answers.patrol =
            self.ask.confirm(&question, "while OpenClaw runs", "only when I ask", self.answers.patrol)?;
        Ok(Step::Escalation)
    }

    fn escalation(&mut self) -> Asked<Step> {
        const ALL: [Escalation; 3] = [Escalation::LowAbove, Escalation::MediumAbove, Escalation::HighOnly];
        let choices = [
            Choice::new("LOW and above", "every flag becomes a case"),
            Choice::new("MEDIUM and above", ""),
            Choice::new("HIGH and above", "fewer cases, fewer model calls"),
        ];
        let start = ALL.iter().position(|one| *one == self.answers.escalation).unwrap_or(1);
        let question = question(7, "Escalate", "Which flags do the police investigate?");
        let chosen = self.ask.select(&question, &choices, start)?;
        self.answers.escalation = ALL.get(chosen).copied().unwrap_or_default();
        Ok(Step::Security)
    }

    fn keep(&mut self) -> Asked<Step> {
        let typed = self.answers.typed();
        let Some(keys) = &self.places.keys else { return Ok(Step::Save) };
        let variables: Vec<String> = typed.iter().map(|(_, variable, _)| variable.clone()).collect();
        let choices = [
            Choice::new("Files only I can read", format!("in {}", self.places.short(keys))),
            Choice::new("Variables I set myself", text::plain(&variables.join(", "))),
        ];
        let start = usize::from(self.answers.keep == Keep::Variable);
        let question = question(0, "Keys you typed", "They are never written into sentrix.toml.");
        let chosen = self.ask.select(&question, &choices, start)?;
        self.answers.keep = if chosen == 0 { Keep::File } else { Keep::Variable };
        Ok(Step::Save)
    }

    fn save(&mut self) -> Asked<Option<PathBuf>> {
        // Where saving failed just now, the summary stands above; again, it would push the reason off the screen.
        if !std::mem::take(&mut self.at_the_end) {
            let page = summary::page(&self.answers, self.places, self.env, self.ask.width());
            self.ask.say(&page);
        }
        let mut files = vec![self.places.here.clone()];
        files.extend(self.places.user.clone());
        let mut choices: Vec<Choice> = files
            .iter()
            .map(|file| {
                let there = file.symlink_metadata().is_ok();
                let note = if there { "replaces it, the old one becomes sentrix.toml.bak" } else { "" };
                Choice::new(format!("Save to {}", self.places.short(file)), note)
            })
            .collect();
        choices.push(Choice::new("Do not save", "nothing is written"));
        let question = question(0, "All right?", "Nothing has been written so far.");
        let chosen = self.ask.select(&question, &choices, 0)?;
        Ok(files.get(chosen).cloned())
    }
}

/// The providers as they are offered: those with a key, the rest, those on machines of the user's.
fn offered(env: Env<'_>) -> Vec<&'static Provider> {
    let mut all: Vec<&Provider> = providers().iter().collect();
    all.sort_by_key(|provider| match (key_variable(provider, env).is_some(), provider.local) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    });
    all
}

pub(super) const fn question<'a>(step: u8, name: &'a str, help: &'a str) -> Question<'a> {
    Question { step, name, help }
}

/// What no key, token or name holds.
pub(super) fn sound(typed: &str) -> Result<(), String> {
    if typed.chars().all(|c| c.is_ascii_graphic()) {
        return Ok(());
    }
    Err("this holds spaces or characters that no key has: copy it again".into())
}

/// What a model costs, as far as the table says.
fn price(provider: &Provider, model: &str) -> String {
    provider.listed(model).map_or_else(String::new, |listed| {
        let (input, output) = (dollars(listed.price.input), dollars(listed.price.output));
        format!("${input} in, ${output} out per million tokens")
    })
}

/// Dollars with two digits, or three where they matter.
fn dollars(price: f64) -> String {
    let text = format!("{price:.3}");
    text.strip_suffix('0').map_or(text.clone(), str::to_owned)
}

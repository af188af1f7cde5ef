//! The questions about `OpenClaw` itself: what it thinks, whom it hears, what it may do.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::answers::{Channel, Keep, Secret, Security, Slot};
use super::screen::{Asked, Check, Choice};
use super::steps::{Step, Wizard, question, sound};
use super::summary;
use crate::config::Reasoning;

impl Wizard<'_> {
    pub(super) fn reasoning(&mut self) -> Asked<Step> {
        let notes = ["as much as the task needs", "slower and dearer", "quick", "none"];
        let choices: Vec<Choice> =
            Reasoning::ALL.iter().zip(notes).map(|(kind, note)| Choice::new(kind.word(), note)).collect();
        let start = Reasoning::ALL.iter().position(|kind| *kind == self.answers.reasoning).unwrap_or(0);
        let question = question(3, "Reasoning", "How much OpenClaw thinks before it acts.");
        let chosen = self.ask.select(&question, &choices, start)?;
        self.answers.reasoning = Reasoning::ALL.get(chosen).copied().unwrap_or_default();
        Ok(if self.answers.reasoning == Reasoning::Off { Step::Channels } else { Step::Capture })
    }

    pub(super) fn channels(&mut self) -> Asked<Step> {
        let found = |channel: &Channel| {
            let slots = channel.slots();
            !slots.is_empty() && slots.iter().all(|(_, slot)| (self.env)(slot.variable()).is_some())
        };
        let choices: Vec<Choice> = Channel::ALL
            .iter()
            .map(|channel| {
                let names: Vec<&str> = channel.slots().iter().map(|(_, slot)| slot.variable()).collect();
                let found = found(channel).then(|| format!("found: {}", names.join(", ")));
                Choice::new(channel.name(), found.unwrap_or_else(|| channel.needs().to_owned()))
            })
            .collect();
        let chosen: Vec<usize> = Channel::ALL
            .iter()
            .enumerate()
            .filter(|(_, channel)| self.answers.channels.contains(channel))
            .map(|(index, _)| index)
            .collect();
        let question = question(4, "Channels", "The chats OpenClaw listens to. None is fine.");
        let chosen = self.ask.multiselect(&question, &choices, &chosen)?;
        self.answers.channels =
            chosen.into_iter().filter_map(|index| Channel::ALL.get(index).copied()).collect();
        Ok(self.token_after(None, Step::Search))
    }

    /// The next secret that has to be typed; what a variable holds is taken from there.
    pub(super) fn token_after(&mut self, last: Option<Slot>, otherwise: Step) -> Step {
        let slots: Vec<Slot> = self.answers.slots().filter(|slot| *slot != Slot::Brave).collect();
        for slot in slots.into_iter().filter(|slot| last.is_none_or(|last| *slot > last)) {
            if (self.env)(slot.variable()).is_some() {
                self.answers.set_token(slot, Secret::Variable(slot.variable().into()));
            } else {
                return Step::Token(slot);
            }
        }
        otherwise
    }

    pub(super) fn token(&mut self, slot: Slot) -> Asked<Step> {
        let (variable, head) = (slot.variable(), slot.head());
        let help = format!("Get it from {}. Enter alone if you set {variable} yourself.", slot.made_at());
        let check: Check = Arc::new(move |typed| {
            sound(typed)?;
            let wrong = !typed.is_empty()
                && (!typed.starts_with(head) || slot == Slot::Telegram && !typed.contains(':'));
            match (wrong, slot) {
                (true, Slot::Telegram) => Err("a Telegram token looks like 123456:ABC-DEF".into()),
                (true, _) => Err(format!("this token begins with {head}")),
                (false, _) => Ok(()),
            }
        });
        let step = if slot == Slot::Brave { 5 } else { 4 };
        let typed = self.ask.secret(&question(step, slot.name(), &help), check)?;
        let secret = if typed.expose_secret().is_empty() {
            Secret::Variable(variable.into())
        } else {
            Secret::Typed(typed)
        };
        self.answers.set_token(slot, secret);
        Ok(if slot == Slot::Brave { Step::Subagents } else { self.token_after(Some(slot), Step::Search) })
    }

    pub(super) fn search(&mut self) -> Asked<Step> {
        let variable = Slot::Brave.variable();
        let found = (self.env)(variable).is_some();
        let yes = if found { format!("key found: {variable}") } else { "with a Brave key".into() };
        let question = question(5, "Web search", "Lets OpenClaw search the web with Brave.");
        let wanted = self.ask.confirm(&question, &yes, "", self.answers.web_search || found)?;
        self.answers.web_search = wanted;
        Ok(match (wanted, found) {
            (true, false) => Step::Token(Slot::Brave),
            (true, true) => {
                self.answers.set_token(Slot::Brave, Secret::Variable(variable.into()));
                Step::Subagents
            }
            (false, _) => Step::Subagents,
        })
    }

    pub(super) fn subagents(&mut self) -> Asked<Step> {
        const NUMBERS: [u32; 4] = [5, 10, 20, 50];
        let choices = NUMBERS.map(|number| Choice::new(number.to_string(), ""));
        let start = NUMBERS.iter().position(|number| *number == self.answers.subagents).unwrap_or(1);
        let question = question(6, "Subagents shown", "How many are listed at once; all are patrolled.");
        let chosen = self.ask.select(&question, &choices, start)?;
        self.answers.subagents = NUMBERS.get(chosen).copied().unwrap_or(10);
        Ok(Step::PatrolOn)
    }

    pub(super) fn security(&mut self) -> Asked<Step> {
        let own = self.answers.security != Security::default();
        let choices = [Choice::new("Safe defaults", ""), Choice::new("Change them", "")];
        let help = format!("Safe: {}.", summary::security(Security::default()));
        let chosen = self.ask.select(&question(8, "Security", &help), &choices, usize::from(own))?;
        if chosen == 0 {
            self.answers.security = Security::default();
            return Ok(self.after_security());
        }
        Ok(Step::Exec)
    }

    pub(super) fn word<const N: usize>(
        &mut self,
        name: &str,
        words: [&'static str; N],
        notes: [&str; N],
        now: &'static str,
    ) -> Asked<&'static str> {
        let choices: Vec<Choice> =
            words.iter().zip(notes).map(|(word, note)| Choice::new(word, note)).collect();
        let start = words.iter().position(|word| *word == now).unwrap_or(0);
        let chosen = self.ask.select(&question(8, name, "What OpenClaw may do."), &choices, start)?;
        Ok(words.get(chosen).copied().unwrap_or(now))
    }

    /// Where keys go is asked only if some were typed and there is a folder for them.
    pub(super) fn after_security(&mut self) -> Step {
        if self.answers.typed().is_empty() {
            return Step::Save;
        }
        if self.places.keys.is_none() {
            self.answers.keep = Keep::Variable;
            return Step::Save;
        }
        Step::Keep
    }
}

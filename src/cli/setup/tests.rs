//! The wizard with somebody who answers by a script: which questions come, in which order, and what Esc does.

use std::collections::VecDeque;
use std::sync::Mutex;

use secrecy::SecretString;

use super::answers::{Channel, Env};
use super::screen::{Ask, Asked, Check, Choice, Question};
use super::*;
use crate::model::ModelContext;

/// One answer of the script.
#[derive(Clone, Debug)]
enum Say {
    /// What is marked from the start.
    Enter,
    /// The choice with this label.
    Pick(&'static str),
    /// These choices.
    Mark(&'static [usize]),
    /// This text.
    Type(&'static str),
    Esc,
    CtrlC,
}

use Say::{CtrlC, Enter, Esc, Mark, Pick, Type};

/// Answers by a script, then with Enter; keeps the names of the questions.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Say>,
    asked: Vec<String>,
    said: String,
    /// Why typed texts were not taken.
    refused: Vec<String>,
}

impl Scripted {
    fn next(&mut self, question: &Question<'_>) -> Asked<Say> {
        assert!(question.name.chars().count() <= 17, "{}", question.name);
        assert!(self.asked.len() < 200, "it never ends: {:?}", self.asked);
        self.asked.push(question.name.trim().to_owned());
        match self.script.pop_front().unwrap_or(Enter) {
            Esc => Err(Stop::Back),
            CtrlC => Err(Stop::Leave),
            other => Ok(other),
        }
    }
}

impl Ask for Scripted {
    fn select(&mut self, question: &Question<'_>, choices: &[Choice], start: usize) -> Asked<usize> {
        assert!(start < choices.len(), "{}", question.name);
        match self.next(question)? {
            Enter => Ok(start),
            Pick(label) => Ok(choices
                .iter()
                .position(|choice| choice.label == label)
                .or_else(|| choices.iter().position(|choice| choice.label.starts_with(label)))
                .unwrap_or_else(|| panic!("{label} is none of {choices:?}"))),
            other => panic!("{other:?} at {}", question.name),
        }
    }

    fn multiselect(&mut self, question: &Question<'_>, _: &[Choice], marked: &[usize]) -> Asked<Vec<usize>> {
        match self.next(question)? {
            Enter => Ok(marked.to_vec()),
            Mark(marked) => Ok(marked.to_vec()),
            other => panic!("{other:?} at {}", question.name),
        }
    }

    fn secret(&mut self, question: &Question<'_>, check: Check) -> Asked<SecretString> {
        self.text(question, "", check).map(SecretString::from)
    }

    fn text(&mut self, question: &Question<'_>, default: &str, check: Check) -> Asked<String> {
        loop {
            let typed = match self.next(question)? {
                Enter => default.to_owned(),
                Type(text) => text.to_owned(),
                other => panic!("{other:?} at {}", question.name),
            };
            match check(&typed) {
                Ok(()) => return Ok(typed),
                Err(why) => self.refused.push(why),
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.said.push_str(text);
        self.said.push('\n');
    }

    fn width(&self) -> usize {
        80
    }
}

/// What came of it.
struct Came {
    outcome: Asked<Finished>,
    asked: Vec<String>,
    said: String,
    refused: Vec<String>,
    checked: Vec<ModelSettings>,
}

fn play(script: &[Say], env: Env<'_>, failures: usize) -> Came {
    let mut scripted = Scripted { script: script.iter().cloned().collect(), ..Scripted::default() };
    let checked = Mutex::new(Vec::new());
    let check = |settings: ModelSettings| {
        let mut calls = checked.lock().unwrap();
        calls.push(settings);
        if calls.len() <= failures {
            let context = ModelContext {
                provider: "OpenAI".into(),
                model: "m".into(),
                role: "patrol".into(),
                host: "h".into(),
                key_source: "your input".into(),
            };
            let kind = ModelErrorKind::Unauthorized("bad key".into());
            let usage = crate::model::Usage::default();
            return Checked::Failed(Box::new(ModelError {
                context: context.into(),
                kind,
                usage,
                attempts: 1,
                fallbacks: Vec::new(),
            }));
        }
        Checked::Fine
    };
    let places = Places::of(&|name| (name == "HOME").then(|| "/home/nobody".into()));
    let answers = Answers::default();
    let outcome =
        Wizard { ask: &mut scripted, env, check: &check, places: &places, answers, at_the_end: false }.run();
    let Scripted { asked, said, refused, .. } = scripted;
    Came { outcome, asked, said, refused, checked: checked.into_inner().unwrap() }
}

fn with_openai(name: &str) -> Option<String> {
    (name == "OPENAI_API_KEY").then(|| "sk-env".into())
}

#[test]
fn enter_alone_takes_the_key_that_is_there_and_every_default() {
    let came = play(&[], &with_openai, 0);
    insta::assert_snapshot!(came.asked.join(", "), @"Provider, Check it now, Models, Reasoning, Capture thoughts, Channels, Web search, Subagents shown, Patrol, Escalate, Security, All right?");
    let finished = came.outcome.unwrap();
    assert_eq!(finished.file.as_deref(), Some(Path::new("sentrix.toml")));
    let models = finished.answers.models.unwrap();
    assert_eq!((models.provider.id.as_str(), models.patrol.as_str()), ("openai", "gpt-6-luna"));
    assert!(matches!(&models.key, Secret::Variable(name) if name == "OPENAI_API_KEY"));
    assert_eq!(came.checked.len(), 1);
    assert!(!came.said.contains("sk-env"));
}

#[test]
fn a_key_that_fails_may_be_typed_again() {
    let script =
        [Pick("OpenAI"), Type(""), Type("a b"), Type("sk-1"), Enter, Pick("Another key"), Type("sk-2")];
    let came = play(&script, &|_| None, 1);
    assert_eq!(came.refused.len(), 2, "{:?}", came.refused);
    assert!(came.asked.iter().any(|name| name == "Keys you typed"));
    assert!(came.said.contains("did not accept the key of `your input`"), "{}", came.said);
    assert!(came.said.contains("bad key"), "{}", came.said);
    let finished = came.outcome.unwrap();
    let typed = finished.answers.typed();
    assert_eq!((typed.len(), secrecy::ExposeSecret::expose_secret(typed[0].2)), (1, "sk-2"));
    assert!(!came.said.contains("sk-"), "{}", came.said);
}

#[test]
fn no_model_asks_for_none() {
    let came = play(&[Pick("No model")], &with_openai, 0);
    assert_eq!(came.asked[..2], ["Provider", "Channels"]);
    assert!(came.outcome.unwrap().answers.models.is_none());
}

#[test]
fn a_local_provider_is_asked_for_its_address_and_model() {
    let script = [Pick("Ollama"), Type("ftp://x"), Type("http://box:1/v1"), Type("llama3"), Pick("No")];
    let came = play(&script, &|_| None, 0);
    assert_eq!(
        came.asked[..8],
        ["Provider", "Address", "Address", "Model", "Check it now", "Investigator", "OpenClaw", "Reasoning"]
    );
    let models = came.outcome.unwrap().answers.models.unwrap();
    assert_eq!(models.base_url.as_deref(), Some("http://box:1/v1"));
    assert_eq!((models.investigator.as_str(), models.agent.as_str()), ("llama3", "llama3"));
    assert!(came.checked.is_empty());
}

#[test]
fn tokens_of_the_chosen_channels_are_asked_and_those_in_variables_are_not() {
    let env = |name: &str| ["DISCORD_BOT_TOKEN", "BRAVE_API_KEY"].contains(&name).then(|| "t".into());
    let script =
        [Pick("No model"), Mark(&[0, 1, 2, 3, 4]), Type("1:a"), Type("wrong"), Type("xoxb-1"), Type("")];
    let came = play(&script, &env, 0);
    assert_eq!(
        came.asked[1..7],
        ["Channels", "Telegram token", "Slack bot token", "Slack bot token", "Slack app token", "Web search"]
    );
    let answers = came.outcome.unwrap().answers;
    assert_eq!(answers.channels, Channel::ALL);
    assert_eq!(answers.typed().len(), 2);
    assert!(answers.web_search);
    assert!(!came.said.contains("1:a") && !came.said.contains("xoxb-1"), "{}", came.said);
}

#[test]
fn esc_goes_back_the_way_it_came_and_keeps_what_was_answered() {
    let script = [Pick("OpenAI"), Pick("No"), Pick("Choose"), Pick("Another"), Type("gpt-x"), Esc, Esc];
    let came = play(&script, &with_openai, 0);
    assert_eq!(
        came.asked[..10],
        [
            "Provider",
            "Check it now",
            "Models",
            "Patrol",
            "Patrol",
            "Investigator",
            "Patrol",
            "Models",
            "Patrol",
            "Investigator"
        ]
    );
    assert_eq!(came.outcome.unwrap().answers.models.unwrap().patrol, "gpt-x");
}

#[test]
fn esc_at_the_first_question_and_ctrl_c_at_any_leave() {
    assert!(matches!(play(&[Esc], &with_openai, 0).outcome, Err(Stop::Leave)));
    let all = play(&[], &with_openai, 0).asked.len();
    for before in 0..all {
        let mut script = vec![Enter; before];
        script.push(CtrlC);
        assert!(matches!(play(&script, &with_openai, 0).outcome, Err(Stop::Leave)), "{before}");
    }
    let back = vec![Enter; 5].into_iter().chain(vec![Esc; 6]).collect::<Vec<_>>();
    assert!(matches!(play(&back, &with_openai, 0).outcome, Err(Stop::Leave)));
}

#[test]
fn a_hostile_environment_is_shown_plain() {
    let env = |name: &str| match name {
        "OPENAI_API_KEY" => Some("k".into()),
        "OPENAI_BASE_URL" => Some("http://me:secret@h\u{1b}[2J/v1".into()),
        _ => None,
    };
    let came = play(&[], &env, 0);
    assert!(!came.said.contains("\u{1b}[2J") && !came.said.contains("secret@"), "{}", came.said);
}

#[test]
fn a_word_that_is_no_provider_is_told_with_what_was_meant() {
    assert!(unknown_provider("antropic").contains("Did you mean `anthropic`?"));
    let said = unknown_provider("zzz\u{1b}[2J");
    assert!(!said.contains("Did you mean") && said.contains("openai") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_key_is_no_name_of_a_variable() {
    assert!(is_variable("OPENAI_API_KEY") && is_variable("_x1"));
    for bad in ["", "1A", "sk-abc", "A B", "A=B"] {
        assert!(!is_variable(bad), "{bad}");
    }
    let args = SetupArgs {
        provider: Some("openai".into()),
        key_env: Some("sk-secret".into()),
        ..SetupArgs::default()
    };
    let Err(Failure::Usage(said)) = from_flags(&args) else { panic!("taken") };
    assert!(!said.contains("sk-secret"));
}

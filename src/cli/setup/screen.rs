//! How questions look: [`Ask`], and a terminal that implements it.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use inquire::list_option::ListOption;
use inquire::ui::{Attributes, Color, ErrorMessageRenderConfig, RenderConfig, StyleSheet, Styled};
use inquire::validator::{ErrorMessage, Validation};
use inquire::{InquireError, MultiSelect, Password, PasswordDisplayMode, Select, Text};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::config::env;
use crate::text;

/// Number of steps that people count.
const STEPS: u8 = 8;
/// Width of a question's name, so that the answers stand below each other.
const NAME: usize = 17;
/// The same where the terminal is narrow.
const NARROW_NAME: usize = 15;
/// Below this many columns a terminal is narrow.
const NARROW: usize = 60;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// Back to the question before.
    Back,
    /// The user leaves.
    Leave,
    /// The terminal failed.
    Broken(anyhow::Error),
}

/// An answer, if there is one.
pub(super) type Asked<T> = Result<T, Stop>;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// The step that it belongs to; 0 belongs to none.
    pub(super) step: u8,
    /// Its name, at most 17 characters.
    pub(super) name: &'a str,
    /// What the user should know to answer it.
    pub(super) help: &'a str,
}

/// Something that may be chosen.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// What it is; this is also shown as the answer.
    pub(super) label: String,
    /// What it means.
    pub(super) note: String,
}

impl Choice {
    /// A choice with its meaning. Both are made plain.
    pub(super) fn new(label: impl AsRef<str>, note: impl AsRef<str>) -> Self {
        Self { label: text::plain(label.as_ref()), note: text::plain(note.as_ref()) }
    }
}

/// Says what is wrong with a typed text.
pub(super) type Check = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Somebody who can be asked.
pub(super) trait Ask {
    /// One of several; `start` is taken by Enter.
    fn select(&mut self, question: &Question<'_>, choices: &[Choice], start: usize) -> Asked<usize>;
    /// Any number of several; `marked` says which are from the start.
    fn multiselect(
        &mut self,
        question: &Question<'_>,
        choices: &[Choice],
        marked: &[usize],
    ) -> Asked<Vec<usize>>;
    /// A text that is not shown.
    fn secret(&mut self, question: &Question<'_>, check: Check) -> Asked<SecretString>;
    /// A text; Enter alone takes the default, if there is one.
    fn text(&mut self, question: &Question<'_>, default: &str, check: Check) -> Asked<String>;
    /// Tells something; the text may hold colours.
    fn say(&mut self, text: &str);
    /// Columns that a text may fill.
    fn width(&self) -> usize;

    /// Yes or no.
    fn confirm(&mut self, question: &Question<'_>, yes: &str, no: &str, default: bool) -> Asked<bool> {
        let choices = [Choice::new("Yes", yes), Choice::new("No", no)];
        Ok(self.select(question, &choices, usize::from(!default))? == 0)
    }
}

/// Whether somebody can be asked: a terminal on both sides that can move its cursor.
pub(super) fn is_terminal() -> bool {
    let dumb = env::get_named("TERM").is_some_and(|term| term == "dumb");
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !dumb
}

/// Gives the terminal back as it was, however the wizard ends.
#[derive(Debug)]
pub(super) struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // Where the terminal is gone, there is nothing to restore.
        crossterm::terminal::disable_raw_mode().unwrap_or_default();
        let mut err = std::io::stderr();
        err.write_all(b"\x1b[?2004l\x1b[?25h").and_then(|()| err.flush()).unwrap_or_default();
    }
}

/// The terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    look: RenderConfig<'static>,
    /// Cancelled once the wizard is left by a signal: the terminal is given back, and nothing may be asked or said any more.
    left: CancellationToken,
}

impl Terminal {
    /// With colours, unless `NO_COLOR` is set.
    pub(super) fn new(left: CancellationToken) -> Self {
        let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        Self { look: look(colour), left }
    }

    fn still_here(&self) -> Asked<()> {
        if self.left.is_cancelled() { Err(Stop::Leave) } else { Ok(()) }
    }

    fn message(&self, question: &Question<'_>) -> String {
        let (step, name) = (question.step, question.name);
        let wide = if self.width() < NARROW { NARROW_NAME } else { NAME };
        match step {
            0 => format!("{name:<width$}", width = wide + 4),
            _ => format!("{step}/{STEPS} {name:<wide$}"),
        }
    }

    /// Columns that an answer beside its question may fill.
    fn beside(&self, question: &Question<'_>) -> usize {
        self.width().saturating_sub(self.message(question).chars().count() + 4).max(8)
    }

    /// The help below a question: what to know, and the keys.
    fn help(&self, question: &Question<'_>, keys: &str, short: &str) -> String {
        let width = self.width().saturating_sub(2);
        let keys = if self.width() < NARROW { short } else { keys };
        let mut help = fold(question.help, width);
        if !help.is_empty() {
            help.push_str("\n ");
        }
        help.push_str(keys);
        help
    }

    /// The choices, a line each, their meanings below each other where there is room.
    fn lines(&self, choices: &[Choice], taken: usize) -> Vec<String> {
        let widest = choices.iter().map(|choice| choice.label.chars().count()).max().unwrap_or_default();
        let widest = if self.width() < NARROW { 0 } else { widest };
        let room = self.width().saturating_sub(taken);
        let line = |choice: &Choice| {
            let line = format!("{:<widest$}  {}", choice.label, choice.note);
            text::bounded(line.trim_end(), room)
        };
        choices.iter().map(line).collect()
    }
}

/// Lines that a list may have: what the screen leaves.
fn page() -> usize {
    let rows = crossterm::terminal::size().map_or(24, |(_, rows)| usize::from(rows));
    rows.saturating_sub(7).clamp(3, 16)
}

fn stopped(error: InquireError) -> Stop {
    match error {
        InquireError::OperationCanceled => Stop::Back,
        InquireError::OperationInterrupted => Stop::Leave,
        other => Stop::Broken(anyhow::Error::new(other).context("cannot ask in this terminal")),
    }
}

const KEYS: &str = "↑↓ move · Enter choose · Esc back · Ctrl+C leave";
const SHORT_KEYS: &str = "↑↓ Enter · Esc back · Ctrl+C leave";

impl Ask for Terminal {
    fn select(&mut self, question: &Question<'_>, choices: &[Choice], start: usize) -> Asked<usize> {
        let (message, help) = (self.message(question), self.help(question, KEYS, SHORT_KEYS));
        let room = self.beside(question);
        let answer = |chosen: ListOption<&String>| {
            choices.get(chosen.index).map_or_else(String::new, |choice| text::bounded(&choice.label, room))
        };
        self.still_here()?;
        Select::new(&message, self.lines(choices, 3))
            .with_starting_cursor(start.min(choices.len().saturating_sub(1)))
            .with_page_size(page())
            .without_filtering()
            .with_help_message(&help)
            .with_formatter(&answer)
            .with_render_config(self.look)
            .raw_prompt()
            .map(|chosen| chosen.index)
            .map_err(stopped)
    }

    fn multiselect(
        &mut self,
        question: &Question<'_>,
        choices: &[Choice],
        marked: &[usize],
    ) -> Asked<Vec<usize>> {
        let keys = "Space mark · ↑↓ move · Enter go on · Esc back · Ctrl+C leave";
        let (message, help) =
            (self.message(question), self.help(question, keys, "Space marks · Enter · Esc · Ctrl+C"));
        let room = self.beside(question);
        let answer = |chosen: &[ListOption<&String>]| {
            let names: Vec<&str> = chosen
                .iter()
                .filter_map(|chosen| choices.get(chosen.index).map(|choice| choice.label.as_str()))
                .collect();
            text::bounded(if names.is_empty() { "none".into() } else { names.join(", ") }.as_str(), room)
        };
        self.still_here()?;
        MultiSelect::new(&message, self.lines(choices, 7))
            .with_default(marked)
            .with_page_size(page())
            .without_filtering()
            .with_help_message(&help)
            .with_formatter(&answer)
            .with_render_config(self.look)
            .raw_prompt()
            .map(|chosen| chosen.into_iter().map(|one| one.index).collect())
            .map_err(stopped)
    }

    fn secret(&mut self, question: &Question<'_>, check: Check) -> Asked<SecretString> {
        let keys = "Type or paste, it is not shown · Enter · Esc back · Ctrl+C leave";
        let (message, help) =
            (self.message(question), self.help(question, keys, "hidden · Enter · Esc · Ctrl+C"));
        let width = self.width().saturating_sub(2);
        self.still_here()?;
        Password::new(&message)
            .without_confirmation()
            .with_display_mode(PasswordDisplayMode::Masked)
            .with_help_message(&help)
            .with_formatter(&|typed| if typed.trim().is_empty() { "none".into() } else { "********".into() })
            .with_validator(move |typed: &str| {
                Ok(match check(typed.trim()) {
                    Ok(()) => Validation::Valid,
                    Err(why) => Validation::Invalid(ErrorMessage::Custom(fold(&why, width))),
                })
            })
            .with_render_config(self.look)
            .prompt()
            .map(|typed| SecretString::from(typed.trim()))
            .map_err(stopped)
    }

    fn text(&mut self, question: &Question<'_>, default: &str, check: Check) -> Asked<String> {
        let keys = "Enter go on · Esc back · Ctrl+C leave";
        let (message, help) = (self.message(question), self.help(question, keys, keys));
        let default = text::plain(default);
        let width = self.width().saturating_sub(2);
        let room = self.beside(question);
        let answer = |typed: &str| text::bounded(&text::plain(typed.trim()), room);
        let mut prompt = Text::new(&message)
            .with_help_message(&help)
            .with_formatter(&answer)
            .with_validator(move |typed: &str| {
                Ok(match check(typed.trim()) {
                    Ok(()) => Validation::Valid,
                    Err(why) => Validation::Invalid(ErrorMessage::Custom(fold(&why, width))),
                })
            })
            .with_render_config(self.look);
        if !default.is_empty() {
            prompt = prompt.with_default(&default);
        }
        self.still_here()?;
        prompt.prompt().map(|typed| typed.trim().to_owned()).map_err(stopped)
    }

    fn say(&mut self, text: &str) {
        if self.still_here().is_ok() {
            crate::cli::printer::note(text);
        }
    }

    fn width(&self) -> usize {
        crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns)).clamp(24, 100)
    }
}

/// The look; meaning is never in the colour alone.
fn look(colour: bool) -> RenderConfig<'static> {
    let plain = RenderConfig::empty()
        .with_prompt_prefix(Styled::new("?"))
        .with_answered_prompt_prefix(Styled::new("✓"))
        .with_highlighted_option_prefix(Styled::new("❯"))
        .with_scroll_up_prefix(Styled::new("↑"))
        .with_scroll_down_prefix(Styled::new("↓"))
        .with_canceled_prompt_indicator(Styled::new("‹ back"))
        .with_error_message(ErrorMessageRenderConfig::empty().with_prefix(Styled::new("✗")));
    if !colour {
        return plain;
    }
    let cyan = StyleSheet::new().with_fg(Color::DarkCyan);
    // Grey stays away: where a theme paints it like its background, nobody reads the help.
    let red = StyleSheet::new().with_fg(Color::LightRed);
    let bold = StyleSheet::new().with_attr(Attributes::BOLD);
    RenderConfig {
        prompt_prefix: plain.prompt_prefix.with_style_sheet(cyan),
        answered_prompt_prefix: plain.answered_prompt_prefix.with_fg(Color::DarkGreen),
        highlighted_option_prefix: plain.highlighted_option_prefix.with_style_sheet(cyan),
        selected_checkbox: plain.selected_checkbox.with_fg(Color::DarkGreen),
        canceled_prompt_indicator: plain.canceled_prompt_indicator.with_style_sheet(cyan),
        prompt: bold,
        selected_option: Some(cyan),
        answer: cyan,
        error_message: plain
            .error_message
            .with_prefix(Styled::new("✗").with_style_sheet(red))
            .with_message(red),
        ..plain
    }
}

/// A text in its colour.
pub(super) fn good(text: &str) -> String {
    painted(text, AnsiColor::Green.on_default())
}

/// A text in its colour.
pub(super) fn bad(text: &str) -> String {
    painted(text, AnsiColor::Red.on_default())
}

fn painted(text: &str, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Text folded between words; further lines are indented by one.
pub(super) fn fold(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push_str("\n ");
            column = 1;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_text_keeps_its_words_and_its_width() {
        let text = "one two three four five six seven eight nine ten";
        let folded = fold(text, 14);
        assert!(folded.lines().all(|line| line.chars().count() <= 14), "{folded}");
        assert_eq!(folded.split_whitespace().collect::<Vec<_>>().join(" "), text);
        assert_eq!(fold("", 14), "");
    }
}

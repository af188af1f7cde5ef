//! What can be wrong with a prompt.

use std::fmt;
use std::sync::LazyLock;

use minijinja::ErrorKind;
use regex::Regex;

use super::files::Text;
use crate::text;

/// Everything that is wrong with the prompts, or with one rendering.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub struct PromptError {
    /// The faults, in the order of their files.
    #[related]
    pub faults: Vec<PromptFault>,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut faults = self.faults.iter();
        match faults.next() {
            Some(first) => write!(f, "{first}")?,
            None => f.write_str("no fault")?,
        }
        match faults.len() {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

/// One fault of one template.
#[derive(Clone, Debug, thiserror::Error, miette::Diagnostic)]
pub struct PromptFault {
    /// The file, or the prompt where no file is meant.
    pub file: String,
    /// Its line, from 1.
    pub line: Option<usize>,
    /// What is wrong; names variables, never their values.
    pub message: String,
    /// What to do about it.
    #[help]
    pub help: Option<String>,
    /// The template's text.
    #[source_code]
    source_text: Option<miette::NamedSource<String>>,
    /// Where in the text.
    #[label("here")]
    span: Option<miette::SourceSpan>,
}

impl fmt::Display for PromptFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl From<PromptFault> for PromptError {
    fn from(fault: PromptFault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl PromptFault {
    pub(super) fn plain(file: &str, message: &str) -> Self {
        Self {
            file: file.into(),
            line: None,
            message: message.into(),
            help: None,
            source_text: None,
            span: None,
        }
    }

    pub(super) fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Self {
        let near = names
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let mut fault = Self::plain(name, "there is no such prompt");
        fault.help = near.map(|(_, known)| format!("did you mean `{known}`?"));
        fault
    }

    pub(super) fn missing_half(present: &str, missing: &str) -> Self {
        let mut fault = Self::plain(present, &format!("its other half `{missing}` is missing"));
        fault.help = Some("a prompt is a `.system.j2` and a `.user.j2` file of the same name".into());
        fault
    }

    /// Only what the template's author wrote goes into the message: minijinja's own details may hold values.
    pub(super) fn of_template(error: &minijinja::Error, file: &str, source: &str) -> Self {
        let range = error.range().filter(|range| source.get(range.clone()).is_some());
        let excerpt = range.clone().and_then(|range| excerpt(source, range));
        let kind = error.kind();
        let message = match (kind, error.detail(), excerpt) {
            (ErrorKind::OutOfFuel, ..) => "the template works too long".to_owned(),
            (ErrorKind::UndefinedError, _, Some(excerpt)) => format!("`{excerpt}` has no value"),
            (kind, Some(detail), _) if is_about_text(kind) => {
                format!("{kind}: {}", text::plain(detail))
            }
            (kind, _, Some(excerpt)) => format!("{kind} in `{excerpt}`"),
            (kind, _, None) => kind.to_string(),
        };
        let help = (kind == ErrorKind::UndefinedError)
            .then(|| "give the variable, or write `{% if name is defined %}` around it".to_owned());
        Self {
            file: file.into(),
            line: error.line(),
            message,
            help,
            source_text: Some(miette::NamedSource::new(file, source.to_owned())),
            span: range.map(Into::into),
        }
    }
}

/// The template's own words at `range`; a filter takes what it was applied to with it.
fn excerpt(source: &str, range: std::ops::Range<usize>) -> Option<String> {
    let before = source.get(..range.start)?;
    let start = if before.trim_end().ends_with('|') {
        before.rfind('{').map_or(range.start, |brace| brace + 2)
    } else {
        range.start
    };
    let words = source.get(start..range.end)?.trim();
    (!words.is_empty()).then(|| text::plain(&text::bounded(words, 80)))
}

/// Whether minijinja's detail for this kind of error is made of the template's text alone.
fn is_about_text(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::SyntaxError
            | ErrorKind::BadEscape
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownTest
    )
}

/// A tag that would pull in another file: a prompt kept with its run is two texts and nothing else.
pub(super) fn forbidden_tag(text: &Text) -> Option<PromptFault> {
    static TAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\{%[-+]?\s*(include|import|from|extends)\b").ok());
    let found = TAG.as_ref()?.captures(&text.body)?.get(1)?;
    let line = text.body.get(..found.start()).unwrap_or_default().matches('\n').count() + 1;
    Some(PromptFault {
        file: text.file.clone(),
        line: Some(line),
        message: format!("`{}` has no place in a prompt", found.as_str()),
        help: Some("a run keeps its prompt as two texts, so each must hold all it needs".into()),
        source_text: Some(miette::NamedSource::new(&text.file, text.body.clone())),
        span: Some(found.range().into()),
    })
}

//! `sentrix explain`

use serde_json::json;

use super::args::Format;
use super::failure::{self, Failure, Outcome};
use super::printer::{self, Page, bold};
use crate::graph::{self, CODES, CodeInfo};
use crate::text;

/// Says what a code means, or which there are.
pub(super) fn run(code: Option<&str>, format: Format) -> Outcome {
    let object =
        |info: &CodeInfo| json!({ "code": info.code, "title": info.title, "explanation": info.explanation });
    let Some(code) = code else {
        if format == Format::Json {
            printer::json(&json!({ "version": 1, "codes": CODES.iter().map(object).collect::<Vec<_>>() }))?;
        } else {
            let mut table = Page::new(&["CODE", "WHAT"]);
            for info in CODES {
                table.row([info.code.to_owned(), info.title.to_owned()]);
            }
            printer::data(table)?;
        }
        return Ok(failure::DONE);
    };
    let info = graph::explain(code).ok_or_else(|| Failure::Usage(unknown(code)))?;
    match format {
        Format::Json => printer::json(&json!({ "version": 1, "code": object(info) }))?,
        Format::Table => printer::data(format_args!(
            "{}  {}\n{}",
            bold(info.code),
            info.title,
            printer::fold(&format!("  {}", info.explanation), "  ")
        ))?,
    }
    Ok(failure::DONE)
}

/// What to say of a code that there is not: the one that was meant, if that can be told.
fn unknown(code: &str) -> String {
    let shown = text::bounded(&text::plain(code), 40);
    let digits: String = code.chars().filter(char::is_ascii_digit).collect();
    let word = code.trim().to_lowercase();
    let meant = digits
        .parse::<usize>()
        .ok()
        .and_then(|number| CODES.get(number.checked_sub(1)?))
        .or_else(|| CODES.iter().find(|info| word.len() > 2 && info.title.contains(&word)));
    let help = match (meant, CODES.last()) {
        (Some(info), _) => format!("did you mean {} ({})?", info.code, info.title),
        (None, Some(last)) => {
            format!("they go from G001 to {}; `sentrix explain` lists them", last.code)
        }
        (None, None) => "there are none".to_owned(),
    };
    format!("there is no code `{shown}`; {help}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found() {
        for meant in ["G17", "17", "GO17", "g-017"] {
            assert!(unknown(meant).contains("G017"), "{}", unknown(meant));
        }
        assert!(unknown("never reached").contains("did you mean G0"), "{}", unknown("never reached"));
        assert!(unknown("G999").contains("lists them"));
        assert!(unknown("").contains("lists them"));
    }
}

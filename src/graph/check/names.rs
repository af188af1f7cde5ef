//! Names of graphs, nodes and channels.

use toml::Spanned;

use crate::graph::codes;
use crate::graph::fault::Fault;

/// Words of the condition language, which cannot be variables.
const WORDS: [&str; 13] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"];

const LONGEST: usize = 64;

/// Checks the name of a graph or node.
pub(super) fn name(what: &str, name: &Spanned<String>, faults: &mut Vec<Fault>) {
    let text = name.get_ref().as_str();
    if what == "node" && text == "end" {
        faults.push(Fault::new(
            codes::BAD_NAME,
            name.span(),
            "reserved",
            "a node cannot be called `end`",
            "`end` is the end of the graph: call the node something else, as `finish`",
        ));
        return;
    }
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !is_word(text, starts, |c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        faults.push(Fault::new(
            codes::BAD_NAME,
            name.span(),
            "not a usable name",
            format!("`{text}` cannot be the name of a {what}"),
            format!("use letters, digits, `_` and `-`, a letter first, at most {LONGEST} in all"),
        ));
    }
}

/// Checks the name of a channel: it is a variable in conditions and prompts.
pub(super) fn channel(name: &Spanned<String>, faults: &mut Vec<Fault>) {
    let text = name.get_ref().as_str();
    let (label, help) = if WORDS.contains(&text) {
        ("a word of the condition language", "choose another name".to_owned())
    } else if text == "_" {
        ("means \"thrown away\" in `writes`", "choose another name".to_owned())
    } else if is_word(
        text,
        |c| c.is_ascii_alphabetic() || c == '_',
        |c| c.is_ascii_alphanumeric() || c == '_',
    ) {
        return;
    } else {
        let help = format!("use letters, digits and `_`, a letter first, at most {LONGEST} in all");
        ("not a usable name", help)
    };
    faults.push(Fault::new(
        codes::BAD_NAME,
        name.span(),
        label,
        format!("`{text}` cannot be the name of a channel"),
        help,
    ));
}

fn is_word(text: &str, first: impl Fn(char) -> bool, rest: impl Fn(char) -> bool) -> bool {
    text.starts_with(first) && text.len() <= LONGEST && text.chars().all(rest)
}

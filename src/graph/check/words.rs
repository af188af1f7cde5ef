//! Keys that take one of a few words.

use toml::Spanned;

use crate::graph::codes;
use crate::graph::fault::Fault;
use crate::graph::suggest;

/// The word, if it is one of those that the key takes.
pub(super) fn one_of<'w>(
    text: &Spanned<String>,
    key: &str,
    words: &[&'w str],
    faults: &mut Vec<Fault>,
) -> Option<&'w str> {
    let found = words.iter().copied().find(|word| word == text.get_ref());
    if found.is_none() {
        faults.push(Fault::new(
            codes::BAD_VALUE,
            text.span(),
            format!("no such `{key}`"),
            format!("`{}` is no `{key}`", text.get_ref()),
            match suggest::closest(text.get_ref(), words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}", suggest::list(words.iter().copied())),
            },
        ));
    }
    found
}

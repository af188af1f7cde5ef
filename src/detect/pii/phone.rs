//! Telephone numbers: international and national forms, told from ids, dates and versions by their grouping and by the
//! words beside them.

use std::ops::Range;

use super::number::Run;

/// Words before a number that say it is called.
const BEFORE: &[&str] = &[
    "phone",
    "tel",
    "mobile",
    "cell",
    "fax",
    "call",
    "dial",
    "ring",
    "whatsapp",
    "signal",
    "sms",
    "text me",
    "reach",
    "contact",
    "answering",
    "messages to",
    "number is",
    "my number",
    "registered",
    "hotline",
    "handy",
    "telefon",
    "teléfono",
    "móvil",
    "office",
    "landline",
    "ph:",
    "mob:",
    "voicemail",
    "on my",
];

/// Words right after a number that say it is called.
const AFTER: &[&str] = &["office", "fax", "mobile", "phone", "cell", "home", "work", "ext"];

/// Calls `found` with the telephone numbers in a run of digits and separators.
pub(super) fn phones(run: &Run<'_>, mut found: impl FnMut(Range<usize>, f64)) {
    let bytes = run.text.as_bytes();
    let back =
        |count: usize| run.start.checked_sub(count).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
    let mut start = run.start;
    if back(1) == b'(' {
        start -= 1;
    }
    let plus = match (back(1), back(2)) {
        (b'+', _) => {
            start = run.start - 1;
            true
        }
        (b'(', b'+') => {
            start = run.start - 2;
            true
        }
        _ => false,
    };
    let mut end = run.end;
    if bytes.get(end).is_some_and(|byte| matches!(byte, b'x' | b'X')) {
        let extension = bytes.iter().skip(end + 1).take(6).take_while(|byte| byte.is_ascii_digit()).count();
        if extension == 0 {
            return;
        }
        end += 1 + extension;
    }
    let count = run.digits.len();
    if !(6..=15).contains(&count) || is_else(run) {
        return;
    }
    let groups: Vec<usize> =
        run.raw.split([' ', '-', '.', '(', ')']).map(str::len).filter(|length| *length > 0).collect();
    if plus {
        if count >= 8 && groups.len() <= 7 && !is_fictional(run.digits) {
            found(start..end, 1.0);
        }
        return;
    }
    let before = run.before(36);
    let after = run.after(10);
    let tail = after.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let named =
        BEFORE.iter().any(|word| has_word(&before, word)) || AFTER.iter().any(|word| tail.starts_with(word));
    if is_fictional(run.digits) {
        return;
    }
    // North America: the grouping alone says it.
    let american = matches!(groups.as_slice(), [3, 3, 4] | [1 | 3, 3, 3, 4]);
    if american && run.raw.contains(['-', '.', ')']) {
        let head = groups.first().copied().unwrap_or(0);
        let lead = match (groups.len(), head) {
            (3, _) => true,
            (4, 1) => run.digits.first() == Some(&1),
            _ => run.digits.starts_with(&[0, 0, 1]),
        };
        // Dotted triples are also coordinates and versions: they need a word.
        if lead && (named || run.raw.contains('-') || run.raw.contains(')')) {
            return found(start..end, if named { 1.0 } else { 0.8 });
        }
        if lead && end > run.end {
            return found(start..end, 0.8);
        }
    }
    if !named {
        return;
    }
    // Others: two to six groups of no more than eight digits, or one plain run behind a word.
    let grouped = (2..=6).contains(&groups.len()) && groups.iter().all(|length| *length <= 8) && count >= 6;
    // Ten or thirteen digits from `15` on are seconds or milliseconds since 1970.
    let epoch = matches!(count, 10 | 13) && matches!(run.digits, [1, 5..=9, ..]);
    let plain = groups.len() == 1
        && !epoch
        && (7..=13).contains(&count)
        && !before.contains("id")
        && !before.contains("code");
    if grouped || plain {
        found(start..end, if grouped { 0.8 } else { 0.7 });
    }
}

/// Whether `word` stands in `text` at the start of a word.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        at == 0
            || !text.as_bytes().get(at - 1).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    })
}

/// Dates, decimal numbers, book numbers, and lists of numbers.
fn is_else(run: &Run<'_>) -> bool {
    let raw = run.raw;
    let mut pieces = raw.split(['-', '.', ' ']);
    let (first, second, third) =
        (pieces.next().unwrap_or(""), pieces.next().unwrap_or(""), pieces.next().unwrap_or(""));
    let year = |piece: &str| piece.len() == 4 && (piece.starts_with("19") || piece.starts_with("20"));
    let short = |piece: &str| {
        matches!(piece.len(), 1 | 2) && piece.parse::<u32>().is_ok_and(|value| (1..=31).contains(&value))
    };
    let dated = year(first) && short(second) || short(first) && short(second) && year(third);
    let decimal = raw.matches('.').count() == 1 && !raw.contains([' ', '-']);
    let book = raw.starts_with("978-") || raw.starts_with("979-") || run.before(8).contains("isbn");
    let years = year(first) && year(second);
    let octets = raw.split('.').count() == 4 && raw.split('.').all(|piece| piece.len() <= 3);
    let versions = raw.contains('.') && raw.split('.').all(|piece| piece.len() <= 2);
    dated || years || octets || decimal || book || versions || raw.contains(" - ") && raw.len() < 12
}

/// `555-01xx`, which is kept free for fiction.
fn is_fictional(digits: &[u8]) -> bool {
    let local = digits.len().checked_sub(7).and_then(|from| digits.get(from..)).unwrap_or_default();
    matches!(local, [5, 5, 5, 0, 1, ..])
        || digits.iter().all(|digit| Some(digit) == digits.first())
        || digits.starts_with(&[1, 2, 3, 4, 5, 6])
}

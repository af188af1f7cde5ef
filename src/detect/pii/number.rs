//! Cards, bank accounts, social security numbers, telephone numbers and network addresses, in one walk over the digits.

use std::ops::Range;

use super::phone;

/// Which kinds are looked for, each with the number of its rule.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) card: Option<u32>,
    pub(crate) iban: Option<u32>,
    pub(crate) ssn: Option<u32>,
    pub(crate) phone: Option<u32>,
    pub(crate) ip: Option<u32>,
}

/// The longest run of digits and separators that is looked at, in bytes.
const RUN: usize = 48;

/// A run of digits and what separates them, with what stands around it.
pub(super) struct Run<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) raw: &'a str,
    /// The digits alone.
    pub(super) digits: &'a [u8],
}

impl Run<'_> {
    /// The text shortly before, lower case.
    pub(super) fn before(&self, bytes: usize) -> String {
        let from = self.text.floor_char_boundary(self.start.saturating_sub(bytes));
        self.text.get(from..self.start).unwrap_or_default().to_ascii_lowercase()
    }

    /// The text shortly after, lower case.
    pub(super) fn after(&self, bytes: usize) -> String {
        let to = self.text.ceil_char_boundary((self.end + bytes).min(self.text.len()));
        self.text.get(self.end..to).unwrap_or_default().to_ascii_lowercase()
    }
}

/// Calls `found` with the rule, the place and the weight of each number that is personal.
pub(crate) fn numbers(text: &str, wanted: &Wanted, mut found: impl FnMut(u32, Range<usize>, f64)) {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
    let mut index = 0;
    while index < bytes.len() {
        if !at(index).is_ascii_digit() {
            index += 1;
            continue;
        }
        let first = index;
        // Letters before the digits: an IBAN starts with two, anything else is an identifier.
        let glued = first > 0 && (at(first - 1).is_ascii_alphanumeric() || at(first - 1) == b'_');
        if glued
            && let Some(rule) = wanted.iban
            && let Some(range) = iban(text, first)
        {
            index = range.end;
            found(rule, range, 1.0);
            continue;
        }
        if let Some(rule) = wanted.ip
            && let Some((end, personal)) = ipv6(text, first)
        {
            if let Some(range) = personal {
                found(rule, range, 1.0);
            }
            index = end;
            continue;
        }
        // The run: digits with at most two separators between them.
        let mut end = first;
        let mut last_digit = first;
        let mut digits: Vec<u8> = Vec::with_capacity(20);
        while end < bytes.len() && end - first < RUN {
            let byte = at(end);
            if byte.is_ascii_digit() {
                digits.push(byte - b'0');
                last_digit = end;
            } else if !(matches!(byte, b' ' | b'-' | b'.' | b'(' | b')') && end - last_digit <= 2) {
                break;
            }
            end += 1;
        }
        let end = last_digit + 1;
        // Further digits of the same number, beyond what is looked at, make it none of ours.
        let mut next = end;
        while at(next).is_ascii_digit() {
            next += 1;
        }
        index = next;
        if next != end || digits.len() < 4 {
            continue;
        }
        let Some(raw) = text.get(first..end) else { continue };
        let run = Run { text, start: first, end, raw, digits: &digits };
        judge(&run, glued, wanted, &mut found);
    }
}

fn judge(run: &Run<'_>, glued: bool, wanted: &Wanted, found: &mut impl FnMut(u32, Range<usize>, f64)) {
    let bytes = run.text.as_bytes();
    let next = bytes.get(run.end).copied().unwrap_or(b' ');
    let previous = run.start.checked_sub(1).and_then(|at| bytes.get(at)).copied().unwrap_or(b' ');
    let after_next = bytes.get(run.end + 1).copied().unwrap_or(b' ');
    if let Some(rule) = wanted.ip
        && !glued
        && let Some(range) = ipv4(run)
    {
        return found(rule, range, 1.0);
    }
    // Part of a longer identifier, a path or a hash.
    let joined = glued
        || previous == b'/' && !matches!(next, b' ' | b'/' | b'\n')
        || matches!(previous, b'-' | b'.' | b'=')
            && run.start >= 2
            && bytes.get(run.start - 2).is_some_and(u8::is_ascii_alphanumeric)
            && previous != b'='
        || next == b'_'
        || next == b'-'
            && after_next.is_ascii_alphanumeric()
            && !run.after(8).starts_with("-office")
            && !run.after(8).starts_with("-fax")
            && !run.after(8).starts_with("-mobile")
        || next.is_ascii_alphabetic() && next != b'x' && next != b'X';
    if joined && !run.raw.contains(' ') {
        return;
    }
    if let Some(rule) = wanted.card
        && let Some((range, weight)) = card(run)
    {
        return found(rule, range, weight);
    }
    if let Some(rule) = wanted.ssn
        && let Some((range, weight)) = ssn(run)
    {
        return found(rule, range, weight);
    }
    if let Some(rule) = wanted.phone {
        phone::phones(run, |range, weight| found(rule, range, weight));
    }
}

/// The Luhn check over digits.
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 };
            doubled / 10 + doubled % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A payment card: a length and first digits that an issuer uses, and the check digit. Groups of four or a plain run.
fn card(run: &Run<'_>) -> Option<(Range<usize>, f64)> {
    let digits = run.digits;
    if !(12..=19).contains(&digits.len()) || !luhn(digits) || run.raw.contains(['(', ')', '.']) {
        return None;
    }
    if run.raw.contains([' ', '-']) {
        // One of many numbers in a row.
        if run.before(5).ends_with(' ')
            && run.before(5).bytes().take(4).filter(u8::is_ascii_hexdigit).count() == 4
        {
            return None;
        }
        let groups: Vec<usize> = run.raw.split([' ', '-']).map(str::len).collect();
        let known: [&[usize]; 6] =
            [&[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 1], &[4, 4, 4, 4, 3], &[4, 4, 4]];
        if !known.contains(&groups.as_slice()) {
            return None;
        }
    }
    let prefix =
        |count: usize| digits.iter().take(count).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    let length = digits.len();
    let sure = match length {
        15 => matches!(two, 34 | 37),
        16 => {
            two / 10 == 4
                || (51..=55).contains(&two)
                || (2221..=2720).contains(&four)
                || four == 6011
                || two == 65
                || (644..=649).contains(&three)
                || (3528..=3589).contains(&four)
        }
        _ => false,
    };
    let possible = match length {
        12 | 17 | 18 => matches!(two, 50 | 56..=69),
        13 => two / 10 == 4 || two == 50 || (56..=69).contains(&two),
        14 => (300..=305).contains(&three) || matches!(two, 36 | 38 | 39),
        15 => matches!(four, 2131 | 1800) || matches!(two, 50 | 56..=69),
        16 => matches!(two, 50 | 56..=69) || matches!(two, 30 | 36 | 38 | 39 | 62 | 81),
        19 => two / 10 == 4 || matches!(two, 50 | 56..=69),
        _ => false,
    };
    let before = run.before(48);
    let named = [
        "card",
        "credit",
        "debit",
        "visa",
        "amex",
        "mastercard",
        "cc ",
        "cc:",
        "cc=",
        "pan ",
        "cvv",
        "payment",
        "charge",
    ]
    .iter()
    .any(|word| before.contains(word))
        || run.after(24).contains("card");
    let is_id = [
        "id=",
        "id:",
        "id ",
        "_id",
        "tracking",
        "order",
        "batch",
        "epoch",
        "timestamp",
        "ts=",
        "ts\":",
        "isbn",
        "serial",
        "account",
        "reference",
    ]
    .iter()
    .any(|word| before.get(before.len().saturating_sub(14)..).is_some_and(|tail| tail.contains(word)));
    match (sure, possible, named, is_id) {
        (true, _, true, _) => Some((run.start..run.end, 1.0)),
        (_, true, true, _) => Some((run.start..run.end, 0.9)),
        (true, _, false, false) => Some((run.start..run.end, 0.85)),
        _ => None,
    }
}

/// A United States social security number: areas and groups that are given out, or the words beside it.
fn ssn(run: &Run<'_>) -> Option<(Range<usize>, f64)> {
    let [first, second, third, group @ .., _, _, _, _] = run.digits else { return None };
    let serial = run.digits.get(5..).unwrap_or_default();
    if run.digits.len() != 9
        || matches!([*first, *second, *third], [0, 0, 0] | [6, 6, 6] | [9, _, _])
        || group == [0, 0]
        || serial == [0, 0, 0, 0]
    {
        return None;
    }
    // Numbers that were printed in advertisements and documentation.
    if matches!(
        run.digits,
        [0, 7, 8, 0, 5, 1, 1, 2, 0] | [2, 1, 9, 0, 9, 9, 9, 9, 9] | [1, 2, 3, 4, 5, 6, 7, 8, 9]
    ) {
        return None;
    }
    let before = run.before(40);
    let named = before.contains("ssn") || before.contains("social security") || before.contains("social sec");
    let groups: Vec<usize> = run.raw.split(['-', ' ']).map(str::len).collect();
    match (groups.as_slice(), named) {
        ([3, 2, 4], true) => Some((run.start..run.end, 1.0)),
        ([9], true) => Some((run.start..run.end, 0.9)),
        ([3, 2, 4], false) if !run.raw.contains(' ') => {
            let id = ["part ", "invoice", "order", "ticket", "serial", "sku", "model", "case ", "ref"];
            (!id.iter().any(|word| before.contains(word))).then_some((run.start..run.end, 0.8))
        }
        _ => None,
    }
}

/// An IBAN whose two letters stand right before `digit`: country, length, and the remainder of 97.
fn iban(text: &str, digit: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
    let start = digit.checked_sub(2)?;
    let country = [at(start).to_ascii_uppercase(), at(start + 1).to_ascii_uppercase()];
    if !country.iter().all(u8::is_ascii_uppercase) || start > 0 && at(start - 1).is_ascii_alphanumeric() {
        return None;
    }
    let length = iban_length(country)?;
    let mut compact: Vec<u8> = Vec::with_capacity(length);
    let mut index = start;
    while compact.len() < length {
        let byte = at(index);
        if byte.is_ascii_alphanumeric() {
            compact.push(byte.to_ascii_uppercase());
        } else if !(matches!(byte, b' ' | b'-')
            && compact.len().is_multiple_of(4)
            && at(index.saturating_sub(1)).is_ascii_alphanumeric())
        {
            return None;
        }
        index += 1;
    }
    if at(index).is_ascii_alphanumeric() {
        return None;
    }
    let remainder = compact.iter().skip(4).chain(compact.iter().take(4)).fold(0_u32, |rest, byte| {
        if byte.is_ascii_digit() {
            (rest * 10 + u32::from(byte - b'0')) % 97
        } else {
            (rest * 100 + u32::from(byte - b'A') + 10) % 97
        }
    });
    (remainder == 1).then_some(start..index)
}

/// Length of an IBAN by country. Source: SWIFT IBAN registry.
fn iban_length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FO" | b"FI" | b"GL" | b"NL" | b"SD" | b"FK" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"HR" | b"LV" | b"LI" | b"CH" => 21,
        b"BG" | b"BH" | b"CR" | b"GE" | b"DE" | b"IE" | b"ME" | b"RS" | b"GB" | b"VA" => 22,
        b"GI" | b"IL" | b"AE" | b"IQ" | b"TL" | b"OM" | b"SO" => 23,
        b"AD" | b"CZ" | b"MD" | b"PK" | b"RO" | b"SA" | b"SK" | b"ES" | b"SE" | b"TN" | b"VG" => 24,
        b"PT" | b"ST" | b"LY" => 25,
        b"IS" | b"TR" => 26,
        b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" | b"BI" | b"DJ" => 27,
        b"AL" | b"AZ" | b"CY" | b"DO" | b"GT" | b"HU" | b"LB" | b"PL" | b"SV" | b"BY" | b"NI" => 28,
        b"BR" | b"PS" | b"QA" | b"UA" | b"EG" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}

/// A public IPv4 address that is no version number and no well-known resolver.
fn ipv4(run: &Run<'_>) -> Option<Range<usize>> {
    let raw = run.raw;
    let pieces: Vec<&str> = raw.split('.').collect();
    let &[a, b, c, d] = pieces.as_slice() else { return None };
    let octet = |piece: &str| {
        (piece.len() <= 3 && (piece == "0" || !piece.starts_with('0')))
            .then(|| piece.parse::<u8>().ok())
            .flatten()
    };
    let octets = [octet(a)?, octet(b)?, octet(c)?, octet(d)?];
    let next = run.text.as_bytes().get(run.end).copied().unwrap_or(b' ');
    let previous =
        run.start.checked_sub(1).and_then(|at| run.text.as_bytes().get(at)).copied().unwrap_or(b' ');
    if next.is_ascii_alphabetic() || matches!(next, b'_' | b'/') || matches!(previous, b'-' | b'.' | b'_') {
        return None;
    }
    let private = matches!(
        octets,
        [0 | 10 | 127 | 224..=255, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [100, 64..=127, ..]
            | [192, 0, 0 | 2, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    );
    let known = matches!(
        octets,
        [8, 8, 8, 8]
            | [8, 8, 4, 4]
            | [1, 1, 1, 1]
            | [1, 0, 0, 1]
            | [9, 9, 9, 9]
            | [208, 67, 222 | 220, _]
            | [1, 2, 3, 4]
    ) || octets.last() == Some(&0);
    if private || known {
        return None;
    }
    let before = run.before(24);
    let version = [
        "version", "build", "release", "ver ", " v", "rev", "==", "sdk", "driver", "firmware", "chrome/", "/",
    ]
    .iter()
    .any(|word| before.ends_with(word) || before.trim_end_matches([' ', ':', '=', '"']).ends_with(word));
    let small = octets.iter().all(|octet| *octet < 100) && octets.first().is_some_and(|first| *first < 20)
        || octets.first().is_some_and(|first| *first < 5);
    let named = [
        "ip ", "ip:", "ip=", "ip\"", "address", "addr", "host", "server", "client", "remote", "peer", "from ",
    ]
    .iter()
    .any(|word| phone::has_word(&before, word));
    (!version && (!small || named)).then_some(run.start..run.end)
}

/// A hex-and-colon run around `first`: its end, and its place if it is a public IPv6 address.
fn ipv6(text: &str, first: usize) -> Option<(usize, Option<Range<usize>>)> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(b' ');
    let inside = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
    let mut start = first;
    while start > 0 && first - start < 5 && inside(at(start - 1)) {
        start -= 1;
    }
    let mut end = first;
    while end < bytes.len() && end - first < 40 && inside(at(end)) {
        end += 1;
    }
    let raw = text.get(start..end)?;
    if raw.bytes().filter(|byte| *byte == b':').count() < 3 {
        return None;
    }
    let boundary = (start == 0
        || !at(start - 1).is_ascii_alphanumeric() && !matches!(at(start - 1), b':' | b'_'))
        && !at(end).is_ascii_alphanumeric();
    let public = boundary
        && raw.parse::<std::net::Ipv6Addr>().is_ok_and(|address| {
            let [head, second, ..] = address.segments();
            let groups = address.segments().iter().filter(|group| **group != 0).count();
            groups >= 3
                && !(address.is_loopback()
                    || address.is_multicast()
                    || head & 0xfe00 == 0xfc00
                    || head & 0xffc0 == 0xfe80
                    || head == 0x2001 && matches!(second, 0x0db8 | 0x4860)
                    || head == 0x2606 && second == 0x4700)
        });
    Some((end, public.then_some(start..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<(u32, &str)> {
        let wanted = Wanted { card: Some(1), iban: Some(2), ssn: Some(3), phone: Some(4), ip: Some(5) };
        let mut seen = Vec::new();
        numbers(text, &wanted, |rule, range, _| seen.push((rule, text.get(range).unwrap())));
        seen
    }

    #[test]
    fn cards_need_an_issuer_and_a_check_digit() {
        assert_eq!(seen("card 4539 1488 0343 6467 ok"), [(1, "4539 1488 0343 6467")]);
        assert_eq!(seen("pay 4539148803436467."), [(1, "4539148803436467")]);
        assert!(seen("pay 4539148803436468.").is_empty());
        assert!(seen("tracking id 1234567890123452").is_empty());
    }

    #[test]
    fn ibans_need_their_remainder() {
        assert_eq!(seen("to DE89 3704 0044 0532 0130 00."), [(2, "DE89 3704 0044 0532 0130 00")]);
        assert_eq!(seen("gb82west12345698765432"), [(2, "gb82west12345698765432")]);
        assert!(seen("GB83WEST12345698765432").is_empty());
        assert!(seen("DE89").is_empty());
        assert!(seen("DE89 3704").is_empty());
    }

    #[test]
    fn social_security_numbers_have_valid_areas() {
        assert_eq!(seen("ssn: 536-22-8726"), [(3, "536-22-8726")]);
        assert!(seen("part 000-22-8726, 666-22-8726, 936-22-8726").is_empty());
    }

    #[test]
    fn addresses_of_machines_are_public_ones() {
        assert_eq!(seen("from 81.169.145.77 port 22"), [(5, "81.169.145.77")]);
        assert!(seen("127.0.0.1 10.1.2.3 192.168.0.9 203.0.113.7 build 4.18.77.203").is_empty());
        assert_eq!(seen("at 2a00:1450:4001:81b::200e now"), [(5, "2a00:1450:4001:81b::200e")]);
        assert!(seen("00:1a:2b:3c:4d:5e and 12:30:45 and fe80::1:2:3:4").is_empty());
    }

    #[test]
    fn telephone_numbers_are_told_from_ids_and_times() {
        assert_eq!(seen("call +49 30 901820 now"), [(4, "+49 30 901820")]);
        assert_eq!(seen("fax (415) 523-0199"), [(4, "(415) 523-0199")]);
        assert!(seen("2026-05-14 08:12:33, 1747210353000, v2.14.33, 978-1-4028-9462-6").is_empty());
    }
}

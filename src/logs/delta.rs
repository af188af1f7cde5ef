//! A matcher for the lines that make up nearly all of a log: canonical delta events.
//!
//! **Invariant:** what it accepts is sound JSON that [`scan`](super::scan) would read the same way; anything it does
//! not know, it leaves to `scan`.

use crate::openclaw::event;

/// Longest run id that is accepted as one, in bytes.
pub(super) const MAX_RUN_ID: usize = 512;

/// A delta event whose `content` is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta<'a> {
    pub(super) ts: i64,
    pub(super) thinking: bool,
    /// Run id; printable ASCII without escapes.
    pub(super) run_id: &'a [u8],
    /// The inside of the JSON string, escapes and all.
    pub(super) text: &'a [u8],
    /// Length of the whole entry.
    pub(super) length: usize,
}

/// Matches `{"ts":N,"event":"assistant_text_stream","runId":"…","evtType":"text_delta","delta":"…","content":""}` and
/// the same with a space after each colon and comma, as the earlier tool wrote it; without spaces, a short `src` may
/// follow, which `capture` adds.
///
/// `likely` is the run id that most likely stands there: comparing is faster than looking.
pub(super) fn parse<'a>(bytes: &'a [u8], likely: &[u8]) -> Option<Delta<'a>> {
    let rest = bytes.strip_prefix(b"{\"ts\":")?;
    if let Some(rest) = rest.strip_prefix(b" ") {
        let (ts, rest) = number(rest)?;
        let rest = rest.strip_prefix(b", \"event\": \"")?;
        let (thinking, rest) = stream(rest)?;
        let rest = rest.strip_prefix(b", \"runId\": \"")?;
        let (run_id, rest) = plain(rest, likely)?;
        let rest = rest.strip_prefix(b", \"evtType\": \"")?;
        let rest = kind(thinking, rest)?.strip_prefix(b", \"delta\": \"")?;
        let (text, rest) = string(rest)?;
        let rest = rest.strip_prefix(b", \"content\": \"\"}")?;
        return Some(Delta { ts, thinking, run_id, text, length: bytes.len() - rest.len() });
    }
    let (ts, rest) = number(rest)?;
    let rest = rest.strip_prefix(b",\"event\":\"")?;
    let (thinking, rest) = stream(rest)?;
    let rest = rest.strip_prefix(b",\"runId\":\"")?;
    let (run_id, rest) = plain(rest, likely)?;
    let rest = rest.strip_prefix(b",\"evtType\":\"")?;
    let rest = kind(thinking, rest)?.strip_prefix(b",\"delta\":\"")?;
    let (text, rest) = string(rest)?;
    let rest = source(rest.strip_prefix(b",\"content\":\"\"")?)?;
    Some(Delta { ts, thinking, run_id, text, length: bytes.len() - rest.len() })
}

/// The end of the object, after where `capture` has the line from, if it does say.
fn source(bytes: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = bytes.strip_prefix(b"}") {
        return Some(rest);
    }
    let (_, rest) = plain(bytes.strip_prefix(b",\"src\":\"")?, b"")?;
    rest.strip_prefix(b"}")
}

/// Milliseconds of 13 digits: any other length is left to `scan`.
fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let (tail, rest) = rest.split_first_chunk::<5>()?;
    // Eight digits at once: the first is the lowest byte.
    let eight = u64::from_le_bytes(*head);
    let high = eight & 0xf0f0_f0f0_f0f0_f0f0;
    let carried = eight.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    if high != 0x3030_3030_3030_3030 || carried != high || head.first() == Some(&b'0') {
        return None;
    }
    let pairs = (eight & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(10 << 8 | 1) >> 8 & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_ffff_0000_ffff;
    let mut value = fours.wrapping_mul(10_000 << 32 | 1) >> 32;
    for digit in tail {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    Some((i64::try_from(value).ok()?, rest))
}

/// The event name; what follows its closing quote.
fn stream(bytes: &[u8]) -> Option<(bool, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(event::TEXT_STREAM.as_bytes()) {
        return Some((false, rest.strip_prefix(b"\"")?));
    }
    let rest = bytes.strip_prefix(event::THINKING_STREAM.as_bytes())?;
    Some((true, rest.strip_prefix(b"\"")?))
}

fn kind(thinking: bool, bytes: &[u8]) -> Option<&[u8]> {
    let expected: &[u8] = if thinking { b"thinking_delta\"" } else { b"text_delta\"" };
    bytes.strip_prefix(expected)
}

/// A short string of printable ASCII without escapes.
#[inline]
fn plain<'a>(bytes: &'a [u8], likely: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    if let Some(rest) = bytes.strip_prefix(likely).and_then(|rest| rest.strip_prefix(b"\""))
        && !likely.is_empty()
    {
        return Some((bytes.get(..likely.len())?, rest));
    }
    let length = bytes.iter().take(MAX_RUN_ID + 1).position(|byte| !is_plain(*byte))?;
    let (inside, rest) = bytes.split_at_checked(length)?;
    Some((inside, rest.strip_prefix(b"\"").filter(|_| !inside.is_empty())?))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// A string of sound UTF-8 with none but the two-character escapes.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    let mut seen = 0_u8;
    loop {
        let byte = *bytes.get(length)?;
        match byte {
            b' ' | b'a'..=b'z' => length += 1,
            b'"' => break,
            b'\\' => {
                let escape = bytes.get(length + 1)?;
                if !matches!(escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                    return None;
                }
                length += 2;
            }
            0..=0x1f => return None,
            _ => {
                seen |= byte;
                length += 1;
            }
        }
    }
    let (inside, rest) = bytes.split_at_checked(length)?;
    if seen >= 0x80 && std::str::from_utf8(inside).is_err() {
        return None;
    }
    Some((inside, rest.strip_prefix(b"\"")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::scan::{Key, Scan, scan};

    const LINE: &str = r#"{"ts":1795353008729,"event":"assistant_text_stream","runId":"67c88f9b","evtType":"text_delta","delta":"Mock \n","content":""}"#;

    #[test]
    fn reads_both_spellings() {
        let delta = parse(LINE.as_bytes(), b"67c8").unwrap();
        assert_eq!((delta.ts, delta.thinking, delta.run_id), (1_795_353_008_729, false, &b"67c88f9b"[..]));
        assert_eq!(delta.text, b"Mock \\n");
        assert_eq!(delta.length, LINE.len());
        let sourced = LINE.replace("\"}", "\",\"src\":\"box:raw:1f-00c0ffee:4711\"}");
        assert_eq!(parse(sourced.as_bytes(), b"67c88f9b").map(|delta| delta.length), Some(sourced.len()));
        let spaced = LINE.replace("\":", "\": ").replace(",\"", ", \"");
        assert_eq!(parse(spaced.as_bytes(), b"67c88f9b").map(|delta| delta.length), Some(spaced.len()));
    }

    #[test]
    fn leaves_what_is_not_canonical() {
        for odd in [
            LINE.replace("\"content\":\"\"", "\"content\":\"x\""),
            LINE.replace("text_delta", "text_end"),
            LINE.replace("1795353008729", "\"1795353008729\""),
            LINE.replace("Mock ", "Mock \\ud800"),
            LINE.replace("Mock ", "Mock \u{1}"),
            LINE.replace("67c88f9b", ""),
            LINE.replace("67c88f9b", &"x".repeat(MAX_RUN_ID + 1)),
        ] {
            assert_eq!(parse(odd.as_bytes(), b"67c88f9b"), None, "{odd}");
        }
        let mut bytes = LINE.as_bytes().to_vec();
        bytes[LINE.find("Mock").unwrap()] = 0xff;
        assert_eq!(parse(&bytes, b""), None);
    }

    #[test]
    fn agrees_with_the_scanner_wherever_one_byte_differs() {
        agrees(LINE);
        agrees(&LINE.replace("\"}", "\",\"src\":\"box:raw:1f:4711\"}"));
    }

    fn agrees(line: &str) {
        for at in 0..line.len() {
            for byte in [0_u8, b'"', b'\\', b'{', b'}', b'\n', b' ', b'9', 0x80, 0xff] {
                let mut bytes = line.as_bytes().to_vec();
                bytes[at] = byte;
                let Some(delta) = parse(&bytes, b"67c88f9b") else { continue };
                let Scan::Whole(entry) = scan(&bytes) else { panic!("only the matcher reads {at} {byte}") };
                assert_eq!(entry.bytes.len(), delta.length);
                assert_eq!(entry.raw_string(Key::Delta), Some(delta.text));
                assert_eq!(entry.raw_string(Key::RunId), Some(delta.run_id));
                assert!(!entry.repaired && !entry.odd);
            }
        }
    }
}

//! Where an event of the log came from: the last key of each event, `src`, by which a restart finds what is recorded.
//!
//! **Invariant:** an event's mark stands at its end, written by us, in characters that need no escape: nothing in the
//! event can pass for it.

use std::fmt;

use sha2::{Digest, Sha256};

/// How the mark begins in an event's line.
const KEY: &[u8] = b",\"src\":\"";
/// Longest mark that is one.
const MAX_MARK: usize = 512;

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark<'a> {
    /// A line of the raw stream: `<sandbox>:raw:<generation>:<end>`.
    Raw {
        sandbox: &'a str,
        generation: &'a str,
        /// Offset behind the line, its line break included.
        end: u64,
    },
    /// Something of the gateway, under its stable name: `<sandbox>:gw:<caught up>:<name>`.
    Gateway {
        sandbox: &'a str,
        /// Everything of the gateway up to here is recorded, in milliseconds since the Unix epoch.
        caught_up: i64,
        name: &'a str,
    },
    /// Our own: `<sandbox>:own:`.
    Own { sandbox: &'a str },
}

impl fmt::Display for Mark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw { sandbox, generation, end } => write!(f, "{sandbox}:raw:{generation}:{end}"),
            Self::Gateway { sandbox, caught_up, name } => write!(f, "{sandbox}:gw:{caught_up}:{name}"),
            Self::Own { sandbox } => write!(f, "{sandbox}:own:"),
        }
    }
}

/// Reads the mark at the end of an event's line, if it is one of this sandbox.
pub(super) fn read<'a>(line: &'a [u8], sandbox: &'a str) -> Option<Mark<'a>> {
    let line = line.trim_ascii_end().strip_suffix(b"\"}")?;
    let tail = line.get(line.len().saturating_sub(MAX_MARK)..)?;
    let at = memchr::memmem::rfind(tail, KEY)?;
    let value = std::str::from_utf8(tail.get(at + KEY.len()..)?).ok()?;
    let rest = value.strip_prefix(sandbox)?.strip_prefix(':')?;
    let (kind, rest) = rest.split_once(':')?;
    match kind {
        "raw" => {
            let (generation, end) = rest.split_once(':')?;
            Some(Mark::Raw { sandbox, generation, end: end.parse().ok()? })
        }
        "gw" => {
            let (caught_up, name) = rest.split_once(':')?;
            Some(Mark::Gateway { sandbox, caught_up: caught_up.parse().ok()?, name })
        }
        "own" => Some(Mark::Own { sandbox }),
        _ => None,
    }
}

/// The name that a hostile id becomes within a mark: itself where it is short and plain, else its hash.
pub(super) fn plain(name: &str) -> String {
    let fits = name.len() <= 200
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if fits {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(16).fold("h".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_only_from_the_end() {
        for mark in [
            Mark::Raw { sandbox: "a", generation: "9-ff", end: 12 },
            Mark::Gateway { sandbox: "a", caught_up: 17, name: "tool:r:tool_search_code:call_4:x:1:call" },
            Mark::Own { sandbox: "a" },
        ] {
            let line =
                format!(",\n{{\"text\":\"a,\\\"src\\\":\\\"a:raw:9-ff:99\\\"\",\"src\":\"{mark}\"}}\n");
            assert_eq!(read(line.trim_start_matches([',', '\n']).as_bytes(), "a"), Some(mark), "{line}");
            assert_eq!(read(line.as_bytes(), "b"), None);
            assert_eq!(read(line.trim_end().trim_end_matches('}').as_bytes(), "a"), None, "torn");
        }
        assert_eq!(read(b"{\"text\":\"x\"}", "a"), None);
    }

    #[test]
    fn a_hostile_id_becomes_a_hash() {
        assert_eq!(plain("tool:call_2"), "tool:call_2");
        for odd in ["a\"b", "a\\", "ü", "a b\u{7f}", &"x".repeat(400)] {
            let name = plain(odd);
            assert!(name.len() == 33 && name.is_ascii(), "{name}");
        }
    }
}

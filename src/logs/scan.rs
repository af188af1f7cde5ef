//! Finds where one JSON object ends and where the values of an event's keys lie in it, without decoding them.
//!
//! **Invariant:** no recursion and no allocation for ordinary entries, whatever the nesting; each byte is looked at
//! once. Lenient where leniency cannot hide text: odd escapes and odd numbers are the decoder's business.

use memchr::memchr3;

use super::json;

/// Deepest nesting that is followed in detail; what lies deeper is kept as raw text.
pub(super) const MAX_DEPTH: u32 = 128;

/// The keys of an event that are read.
#[expect(clippy::enum_variant_names, reason = "the keys are OpenClaw's")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Ts,
    Event,
    RunId,
    EvtType,
    Delta,
    Content,
    RawText,
    RawThinking,
    Text,
    ToolCallId,
    ParentToolCallId,
    Tool,
    Args,
    Ok,
    Output,
    SessionKey,
    AgentId,
    ChildSessionKey,
    ParentSessionKey,
    ChildRunId,
    Label,
    Task,
    Messages,
    Src,
}

const KEYS: usize = Key::Src as usize + 1;

impl Key {
    /// The key that a name is.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"ts" => Self::Ts,
            b"event" => Self::Event,
            b"runId" => Self::RunId,
            b"evtType" => Self::EvtType,
            b"delta" => Self::Delta,
            b"content" => Self::Content,
            b"rawText" => Self::RawText,
            b"rawThinking" => Self::RawThinking,
            b"text" => Self::Text,
            b"toolCallId" => Self::ToolCallId,
            b"parentToolCallId" => Self::ParentToolCallId,
            b"tool" => Self::Tool,
            b"args" => Self::Args,
            b"ok" => Self::Ok,
            b"output" => Self::Output,
            b"sessionKey" => Self::SessionKey,
            b"agentId" => Self::AgentId,
            b"childSessionKey" => Self::ChildSessionKey,
            b"parentSessionKey" => Self::ParentSessionKey,
            b"childRunId" => Self::ChildRunId,
            b"label" => Self::Label,
            b"task" => Self::Task,
            b"messages" => Self::Messages,
            b"src" => Self::Src,
            _ => return None,
        })
    }
}

/// One object of a log file, undecoded.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    /// Its bytes, from `{` to `}`.
    pub(super) bytes: &'a [u8],
    values: [(usize, usize); KEYS],
    /// A string in it needs repair when it is decoded: a lone surrogate or an unknown escape.
    pub(super) repaired: bool,
    /// A known key stands in it twice, or it nests deeper than [`MAX_DEPTH`]: its raw text counts too.
    pub(super) odd: bool,
}

impl<'a> Entry<'a> {
    /// The raw JSON of a value; nothing where the key is absent or null.
    pub(super) fn raw(&self, key: Key) -> Option<&'a [u8]> {
        let &(start, end) = self.values.get(key as usize)?;
        self.bytes.get(start..end).filter(|raw| !raw.is_empty() && *raw != b"null")
    }

    /// The bytes between the quotes of a string value.
    pub(super) fn raw_string(&self, key: Key) -> Option<&'a [u8]> {
        json::unquote(self.raw(key)?)
    }

    /// Whether the value is absent, null or the empty string.
    pub(super) fn is_blank(&self, key: Key) -> bool {
        self.raw(key).is_none_or(|raw| raw == b"\"\"")
    }
}

/// What came of looking for an object.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one call; a box would cost an allocation an entry"
)]
#[derive(Debug)]
pub(super) enum Scan<'a> {
    /// A whole one.
    Whole(Entry<'a>),
    /// The bytes end before it does.
    Partial,
    /// No object begins here, or it breaks off.
    Bad,
}

enum Stop {
    Partial,
    Bad,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    lines: u32,
    repaired: bool,
    deep: bool,
}

/// Looks for the object that begins with the first byte.
pub(super) fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut cursor = Cursor { bytes, at: 0, lines: 0, repaired: false, deep: false };
    let mut values = [(0, 0); KEYS];
    match cursor.object(&mut values) {
        Ok(odd) => Scan::Whole(Entry {
            bytes: bytes.get(..cursor.at).unwrap_or_default(),
            values,
            repaired: cursor.repaired,
            odd: odd || cursor.deep,
        }),
        Err(Stop::Partial) => Scan::Partial,
        Err(Stop::Bad) => Scan::Bad,
    }
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Partial)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Bad);
        }
        self.at += 1;
        Ok(())
    }

    fn object(&mut self, values: &mut [(usize, usize); KEYS]) -> Result<bool, Stop> {
        let mut odd = false;
        self.expect(b'{')?;
        self.space()?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(odd);
        }
        loop {
            self.space()?;
            let key = self.key()?;
            self.space()?;
            self.expect(b':')?;
            self.space()?;
            let start = self.at;
            self.value()?;
            if let Some(slot) = key.and_then(|key| values.get_mut(key as usize)) {
                odd |= slot.1 != 0;
                *slot = (start, self.at);
            }
            self.space()?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(odd);
                }
                _ => return Err(Stop::Bad),
            }
        }
    }

    fn key(&mut self) -> Result<Option<Key>, Stop> {
        let start = self.at;
        if self.peek()? != b'"' {
            return Err(Stop::Bad);
        }
        self.string()?;
        let name = self.bytes.get(start + 1..self.at - 1).unwrap_or_default();
        // A key may be spelt with escapes; it is the same key.
        if memchr::memchr(b'\\', name).is_some() {
            return Ok(Key::of(json::string(name).as_bytes()));
        }
        Ok(Key::of(name))
    }

    /// Skips white space. An entry that does not end on its first line and is followed by a line that begins with `{`
    /// is a torn one: a printer that breaks lines writes a key there.
    fn space(&mut self) -> Result<(), Stop> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\r' => {}
                b'\n' => {
                    self.lines += 1;
                    if self.lines == 1 {
                        let next = self.rest().iter().find(|byte| !is_separator(**byte));
                        if next == Some(&b'{') {
                            return Err(Stop::Bad);
                        }
                    }
                }
                _ => return Ok(()),
            }
            self.at += 1;
        }
        Err(Stop::Partial)
    }

    fn value(&mut self) -> Result<(), Stop> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.nested(),
            byte if is_scalar(byte) => {
                self.scalar();
                // A number at the end of the bytes may go on.
                self.peek().map(|_| ())
            }
            _ => Err(Stop::Bad),
        }
    }

    fn scalar(&mut self) {
        let length = self.rest().iter().position(|byte| !is_scalar(*byte)).unwrap_or(self.rest().len());
        self.at += length;
    }

    fn string(&mut self) -> Result<(), Stop> {
        self.at += 1;
        loop {
            let rest = self.rest();
            let Some(found) = memchr3(b'"', b'\\', b'\n', rest) else {
                return Err(Stop::Partial);
            };
            self.at += found;
            match rest.get(found) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                // No writer of JSON puts a raw line break into a string: the line is torn.
                _ => return Err(Stop::Bad),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Stop> {
        match self.bytes.get(self.at + 1) {
            None => Err(Stop::Partial),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                if self.rest().len() < 12 && !self.rest().iter().skip(2).any(|byte| !byte.is_ascii_hexdigit())
                {
                    // The escape, or the second half of a pair, may go on after these bytes.
                    return Err(Stop::Partial);
                }
                let (_, length, sound) = json::unicode_escape(self.rest());
                self.at += length;
                self.repaired |= !sound;
                Ok(())
            }
            Some(_) => {
                self.repaired = true;
                self.at += 1;
                Ok(())
            }
        }
    }

    /// Skips an array or object, by its brackets.
    fn nested(&mut self) -> Result<(), Stop> {
        let mut depth: u32 = 1;
        // One bit a level: whether it is an object.
        let mut kinds = u128::from(self.peek()? == b'{');
        self.at += 1;
        loop {
            self.space()?;
            match self.peek()? {
                b'"' => self.string()?,
                byte @ (b'{' | b'[') => {
                    depth += 1;
                    if depth <= MAX_DEPTH {
                        kinds = kinds << 1 | u128::from(byte == b'{');
                    } else if self.lines > 0 {
                        return Err(Stop::Bad);
                    } else {
                        self.deep = true;
                    }
                    self.at += 1;
                }
                byte @ (b'}' | b']') => {
                    if depth <= MAX_DEPTH {
                        if (kinds & 1 == 1) != (byte == b'}') {
                            return Err(Stop::Bad);
                        }
                        kinds >>= 1;
                    }
                    depth -= 1;
                    self.at += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                b',' | b':' => self.at += 1,
                byte if is_scalar(byte) => self.scalar(),
                _ => return Err(Stop::Bad),
            }
        }
    }
}

fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// Whether a byte may stand between two entries.
pub(super) fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[' | b']')
}

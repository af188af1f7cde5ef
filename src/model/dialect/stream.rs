//! Answers that come in pieces: server-sent events, read as they come and put together to the response that would have
//! come whole. From there on nothing knows the difference.
//!
//! Source: WHATWG HTML, "Server-sent events", parsing an event stream.

use secrecy::SecretString;
use serde_json::Value;

use super::{Asked, anthropic, gemini, openai};
use crate::model::error::ModelErrorKind;
use crate::model::http::Opened;
use crate::model::settings::Dialect;
use crate::model::verdict;

/// The content type of a stream.
pub(in crate::model) const CONTENT_TYPE: &str = "text/event-stream";

/// How many bytes of events may carry one byte of an answer: every piece has JSON around it.
const WRAPPING: usize = 64;

/// What was read of a stream, and why reading ended if that was not its end.
pub(in crate::model) type Streamed = (Value, Option<ModelErrorKind>);

/// Reads a stream to its end. Text of the answer goes to `say` as it comes.
///
/// A stream that ends before the model has said that it is done is a broken connection, never an answer.
pub(in crate::model) async fn read(
    mut opened: Opened,
    dialect: Dialect,
    asked: &Asked<'_>,
    key: Option<&SecretString>,
    limit_bytes: usize,
    mut say: impl FnMut(&str),
) -> Streamed {
    let mut pieces = Pieces::new(dialect);
    let mut events = Events::new(limit_bytes);
    let mut left = limit_bytes.saturating_mul(WRAPPING);
    let mut take = |pieces: &mut Pieces, data: &[u8]| pieces.take(data, asked, key, limit_bytes, &mut say);
    let failed = loop {
        match opened.chunk().await {
            Ok(Some(chunk)) => {
                let chunk = chunk.as_ref();
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => break Some(ModelErrorKind::AnswerTooLarge { limit_bytes }),
                }
                match events.push(chunk, &mut |data| take(&mut pieces, data)) {
                    Ok(Flow::GoOn) => {}
                    Ok(Flow::Done) => break None,
                    Err(kind) => break Some(kind),
                }
            }
            Ok(None) => {
                // Some servers leave the last blank line out. What cannot be read here is a piece that was cut.
                let rest = events.finish(&mut |data| take(&mut pieces, data));
                break match rest {
                    Err(kind) if !matches!(kind, ModelErrorKind::Malformed(_)) => Some(kind),
                    _ if pieces.is_whole() => None,
                    _ => Some(broke_off()),
                };
            }
            Err(_) if pieces.is_whole() => break None,
            Err(kind) => break Some(kind),
        }
    };
    (pieces.body(asked.output), failed)
}

fn broke_off() -> ModelErrorKind {
    ModelErrorKind::Connect("the answer broke off".into())
}

/// Whether more is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    GoOn,
    Done,
}

/// A response in the making.
enum Pieces {
    OpenAi(openai::Pieces),
    Anthropic(anthropic::Pieces),
    Gemini(gemini::Pieces),
}

impl Pieces {
    fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAi => Self::OpenAi(openai::Pieces::default()),
            Dialect::Anthropic => Self::Anthropic(anthropic::Pieces::default()),
            Dialect::Gemini => Self::Gemini(gemini::Pieces::default()),
        }
    }

    /// Takes the data of an event.
    fn take(
        &mut self,
        data: &[u8],
        asked: &Asked<'_>,
        key: Option<&SecretString>,
        limit_bytes: usize,
        say: &mut dyn FnMut(&str),
    ) -> Result<Flow, ModelErrorKind> {
        if data == b"[DONE]" {
            return if self.is_whole() { Ok(Flow::Done) } else { Err(broke_off()) };
        }
        let Ok(event) = serde_json::from_slice::<Value>(data) else {
            return Err(ModelErrorKind::Malformed("an event that is no JSON".into()));
        };
        if let Some(kind) = verdict::of_body(&event, key) {
            return Err(kind);
        }
        let (len, stopped) = match self {
            Self::OpenAi(pieces) => {
                pieces.take(&event, asked.output, say);
                (pieces.len(), false)
            }
            Self::Gemini(pieces) => {
                pieces.take(&event, say);
                (pieces.len(), pieces.is_counted())
            }
            Self::Anthropic(pieces) => {
                pieces.take(&event, asked.output, say)?;
                (pieces.len(), event.get("type").and_then(Value::as_str) == Some("message_stop"))
            }
        };
        if len > limit_bytes {
            return Err(ModelErrorKind::AnswerTooLarge { limit_bytes });
        }
        Ok(if stopped { Flow::Done } else { Flow::GoOn })
    }

    fn is_whole(&self) -> bool {
        match self {
            Self::OpenAi(pieces) => pieces.is_whole(),
            Self::Anthropic(pieces) => pieces.is_whole(),
            Self::Gemini(pieces) => pieces.is_whole(),
        }
    }

    fn body(self, tool: Option<&str>) -> Value {
        match self {
            Self::OpenAi(pieces) => pieces.body(tool),
            Self::Anthropic(pieces) => pieces.body(),
            Self::Gemini(pieces) => pieces.body(),
        }
    }
}

/// Finds the events in a stream, wherever its chunks begin and end.
#[derive(Debug)]
struct Events {
    /// A line that has not ended.
    line: Vec<u8>,
    /// The data of an event that has not ended.
    data: Vec<u8>,
    has_data: bool,
    /// The last chunk ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    at_start: bool,
    limit_bytes: usize,
}

type Take<'a> = dyn FnMut(&[u8]) -> Result<Flow, ModelErrorKind> + 'a;

impl Events {
    const fn new(limit_bytes: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_return: false,
            at_start: true,
            limit_bytes,
        }
    }

    /// Takes a chunk, and gives the data of every event that it ends.
    fn push(&mut self, mut chunk: &[u8], take: &mut Take<'_>) -> Result<Flow, ModelErrorKind> {
        while !chunk.is_empty() {
            if std::mem::take(&mut self.after_return)
                && let Some(rest) = chunk.strip_prefix(b"\n")
            {
                chunk = rest;
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) else {
                return self.add(chunk).map(|()| Flow::GoOn);
            };
            let (part, rest) = chunk.split_at(end);
            self.after_return = rest.first() == Some(&b'\r');
            chunk = rest.get(1..).unwrap_or_default();
            self.add(part)?;
            if self.end_line(take)? == Flow::Done {
                return Ok(Flow::Done);
            }
        }
        Ok(Flow::GoOn)
    }

    /// The stream is over; what is left of it may be an event without its end.
    fn finish(&mut self, take: &mut Take<'_>) -> Result<Flow, ModelErrorKind> {
        match self.end_line(take)? {
            Flow::Done => Ok(Flow::Done),
            Flow::GoOn => self.end_event(take),
        }
    }

    fn add(&mut self, part: &[u8]) -> Result<(), ModelErrorKind> {
        if self.line.len() + self.data.len() + part.len() > self.limit_bytes {
            return Err(ModelErrorKind::AnswerTooLarge { limit_bytes: self.limit_bytes });
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, take: &mut Take<'_>) -> Result<Flow, ModelErrorKind> {
        let line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if std::mem::take(&mut self.at_start) {
            text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        }
        if text.is_empty() {
            return self.end_event(take);
        }
        // Comments, names and numbers of events say nothing that their data does not say.
        if let Some(value) = text.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        self.line = line;
        self.line.clear();
        Ok(Flow::GoOn)
    }

    fn end_event(&mut self, take: &mut Take<'_>) -> Result<Flow, ModelErrorKind> {
        if !std::mem::take(&mut self.has_data) {
            return Ok(Flow::GoOn);
        }
        let flow = take(&self.data);
        self.data.clear();
        flow
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of the events in a text that comes in these chunks.
    fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut found = Vec::new();
        let mut events = Events::new(1000);
        let mut take = |data: &[u8]| {
            found.push(String::from_utf8_lossy(data).into_owned());
            Ok(Flow::GoOn)
        };
        for chunk in chunks {
            events.push(chunk, &mut take).unwrap();
        }
        events.finish(&mut take).unwrap();
        found
    }

    #[test]
    fn events_are_found_as_the_standard_says() {
        for (text, found) in [
            ("data: a\n\ndata: b\n\n", &["a", "b"][..]),
            ("data: a\r\n\r\ndata: b\r\rdata:c\n\n", &["a", "b", "c"]),
            ("\u{feff}data: a\n\n", &["a"]),
            (": hello\n\nevent: x\nid: 7\nretry: 5\ndata: a\n\n", &["a"]),
            ("data: a\ndata: b\ndata:\n\n", &["a\nb\n"]),
            ("data:  two spaces\n\n", &[" two spaces"]),
            ("data\n\ndatax: b\n\n\n\n", &[]),
            ("data: the end is missing", &["the end is missing"]),
            ("data: ä\n\n", &["ä"]),
            ("", &[]),
        ] {
            assert_eq!(events([text.as_bytes()]), found, "{text:?}");
            assert_eq!(events(text.as_bytes().chunks(1)), found, "{text:?} byte by byte");
        }
    }

    #[test]
    fn a_line_has_a_limit_and_a_comment_does_too() {
        for line in ["data: ", ": "] {
            let mut events = Events::new(1000);
            let mut take = |_: &[u8]| Ok(Flow::GoOn);
            events.push(line.as_bytes(), &mut take).unwrap();
            let result = (0..100).try_for_each(|_| events.push(&[b'x'; 100], &mut take).map(drop));
            assert_eq!(result, Err(ModelErrorKind::AnswerTooLarge { limit_bytes: 1000 }));
        }
        let mut events = Events::new(1000);
        let mut take = |_: &[u8]| Ok(Flow::GoOn);
        let result =
            (0..100).try_for_each(|_| events.push(b"data: twenty characters\n", &mut take).map(drop));
        assert_eq!(
            result,
            Err(ModelErrorKind::AnswerTooLarge { limit_bytes: 1000 }),
            "nor many lines of one event"
        );
    }

    proptest! {
        #[test]
        fn where_chunks_begin_and_end_does_not_matter(
            text in "(data: ?[a-cä\\[]{0,4}|:[a-c]|event: x|)(\n|\r|\r\n){1,3}{0,8}",
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(events(chunks), events([bytes]));
        }
    }
}

//! Stored events to log events, each with where it comes from.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::openclaw::event;
use crate::openclaw::session::agent_of;
use crate::openclaw::transcript::Said;

/// Most characters of one text in one log event; a longer text becomes several events, and none of it is left out.
const MAX_CHARS: usize = 1 << 20;
/// So many characters of the piece before begin the next one, so that no word is cut apart in both.
const OVERLAP_CHARS: usize = 4 << 10;

/// Begins the source of every event of this room.
const SCHEME: &str = "db:";

/// Where an event comes from: it is written down with the event, and from all of them it can be told after a crash what
/// has been written already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// OpenClaw's id of the session.
    pub session: String,
    /// Place of the stored event in the session; -1 is the session's own beginning.
    pub seq: i64,
    /// Which of the log events that the stored event became.
    pub part: u32,
    /// Fingerprint of the stored event: another one may take its place.
    pub mark: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}:{}:{}:{:016x}", self.session, self.seq, self.part, self.mark)
    }
}

/// It is no source of this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASource;

impl FromStr for Source {
    type Err = NotASource;

    fn from_str(text: &str) -> Result<Self, NotASource> {
        let mut parts = text.strip_prefix(SCHEME).ok_or(NotASource)?.rsplitn(4, ':');
        let mut part = || parts.next().ok_or(NotASource);
        let mark = part().and_then(|mark| if mark.len() == 16 { Ok(mark) } else { Err(NotASource) })?;
        let mark = u64::from_str_radix(mark, 16).map_err(|_| NotASource)?;
        let number = part()?.parse().map_err(|_| NotASource)?;
        let seq = part()?.parse().map_err(|_| NotASource)?;
        Ok(Self { session: part()?.to_owned(), seq, part: number, mark })
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An event as it goes into a log file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEvent {
    /// When it was stored, in milliseconds since the Unix epoch.
    pub ts: i64,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
    /// The run; `session:<id>` where OpenClaw does not say it.
    pub run_id: String,
    /// The session's key, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_key: Option<String>,
    /// The agent.
    pub agent_id: String,
    /// Where it comes from.
    pub src: Source,
}

/// What happened: the log's event name and what belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Body {
    /// Somebody to the agent.
    UserMessage {
        /// The words.
        text: String,
    },
    /// The end of one model call.
    AssistantMessageEnd {
        /// The answer.
        raw_text: String,
        /// The reasoning.
        raw_thinking: String,
    },
    /// A tool is called.
    ToolCall {
        /// Id of the call.
        tool_call_id: String,
        /// The tool.
        tool: String,
        /// Its arguments.
        args: Value,
        /// The call of tool search around it.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_tool_call_id: Option<String>,
    },
    /// What a tool gave back.
    ToolResult {
        /// Id of the call.
        tool_call_id: String,
        /// The tool.
        tool: String,
        /// Whether it worked.
        ok: bool,
        /// What it gave back.
        output: Value,
    },
    /// One agent started another.
    SubagentSpawned {
        /// Key of the new session.
        child_session_key: String,
        /// Key of the session that started it.
        parent_session_key: String,
        /// The new session's first run, where known.
        child_run_id: String,
        /// Its label; may be empty.
        label: String,
        /// Its task, where known.
        task: String,
    },
}

impl Body {
    /// The log's name of the event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UserMessage { .. } => event::USER_MESSAGE,
            Self::AssistantMessageEnd { .. } => event::MESSAGE_END,
            Self::ToolCall { .. } => event::TOOL_CALL,
            Self::ToolResult { .. } => event::TOOL_RESULT,
            Self::SubagentSpawned { .. } => event::SUBAGENT_SPAWNED,
        }
    }
}

/// The agent of a session key, or the one whose database it is.
pub(super) fn agent_id(session_key: Option<&str>, folder: &str) -> String {
    session_key.and_then(agent_of).unwrap_or(folder).to_owned()
}

/// The bodies that a stored event becomes. The same event becomes the same ones each time.
pub(super) fn bodies(says: Vec<Said>) -> Vec<Body> {
    says.into_iter().flat_map(body).collect()
}

fn body(said: Said) -> Vec<Body> {
    match said {
        Said::Message { text } => pieces(text).into_iter().map(|text| Body::UserMessage { text }).collect(),
        Said::End { text, thinking } => {
            let (mut texts, mut thoughts) = (pieces(text).into_iter(), pieces(thinking).into_iter());
            let mut ends = Vec::new();
            loop {
                let (text, thought) = (texts.next(), thoughts.next());
                if text.is_none() && thought.is_none() {
                    return ends;
                }
                ends.push(Body::AssistantMessageEnd {
                    raw_text: text.unwrap_or_default(),
                    raw_thinking: thought.unwrap_or_default(),
                });
            }
        }
        Said::Call { id, tool, args, parent } => {
            let call = |args| Body::ToolCall {
                tool_call_id: id.clone(),
                tool: tool.clone(),
                args,
                parent_tool_call_id: parent.clone(),
            };
            values(args).into_iter().map(call).collect()
        }
        Said::Outcome { id, tool, ok, output } => {
            let result =
                |output| Body::ToolResult { tool_call_id: id.clone(), tool: tool.clone(), ok, output };
            values(output).into_iter().map(result).collect()
        }
    }
}

/// A value, or its text in pieces where it is too long.
fn values(value: Value) -> Vec<Value> {
    let text = match value {
        Value::String(text) => text,
        other => {
            let text = other.to_string();
            if text.len() <= MAX_CHARS {
                return vec![other];
            }
            text
        }
    };
    pieces(text).into_iter().map(Value::String).collect()
}

/// A text in pieces of [`MAX_CHARS`]; one empty piece for an empty text.
fn pieces(text: String) -> Vec<String> {
    if text.len() <= MAX_CHARS {
        return vec![text];
    }
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    loop {
        let cut = rest.char_indices().nth(MAX_CHARS).map(|(at, _)| at);
        let Some((piece, _)) = cut.and_then(|cut| rest.split_at_checked(cut)) else {
            pieces.push(rest.to_owned());
            return pieces;
        };
        pieces.push(piece.to_owned());
        let step = piece.char_indices().nth_back(OVERLAP_CHARS).map_or(piece.len(), |(at, _)| at);
        rest = rest.get(step..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_is_read_as_it_was_written() {
        let source = Source { session: "a:b-1".into(), seq: -1, part: 2, mark: 0xff };
        assert_eq!(source.to_string(), "db:a:b-1:-1:2:00000000000000ff");
        assert_eq!(source.to_string().parse(), Ok(source));
        for wrong in
            ["", "db:", "db:a:1:2", "db:a:1:2:ff", "raw:a:1:2:00000000000000ff", "db:a:x:2:00000000000000ff"]
        {
            assert_eq!(wrong.parse::<Source>(), Err(NotASource), "{wrong}");
        }
    }

    #[test]
    fn an_event_has_the_logs_names() {
        let src = Source { session: "s".into(), seq: 4, part: 0, mark: 1 };
        let body = Body::ToolCall {
            tool_call_id: "c".into(),
            tool: "read".into(),
            args: json!({ "p": 1 }),
            parent_tool_call_id: None,
        };
        assert_eq!(body.name(), "tool_call");
        let event = LogEvent {
            ts: 5,
            body,
            run_id: "r".into(),
            session_key: Some("agent:main:main".into()),
            agent_id: "main".into(),
            src,
        };
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            json!({ "ts": 5, "event": "tool_call", "runId": "r", "sessionKey": "agent:main:main", "agentId": "main",
                "toolCallId": "c", "tool": "read", "args": { "p": 1 }, "src": "db:s:4:0:0000000000000001" })
        );
    }

    #[test]
    fn a_long_text_is_told_in_pieces_that_overlap() {
        let text: String = (0..MAX_CHARS * 2)
            .map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap()))
            .chain(['é'])
            .collect();
        let pieces = pieces(text.clone());
        assert_eq!(pieces.len(), 3);
        let mut whole = pieces[0].clone();
        for piece in &pieces[1..] {
            let overlap = OVERLAP_CHARS + 1;
            assert!(whole.ends_with(piece.get(..overlap).unwrap()));
            whole.push_str(piece.get(overlap..).unwrap());
        }
        assert!(whole == text);
        let calls =
            body(Said::Call { id: "c".into(), tool: "t".into(), args: json!({ "x": text }), parent: None });
        assert_eq!(calls.len(), 3);
    }
}

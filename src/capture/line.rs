//! A line of the raw stream: read strictly, written anew with what only we know.
//!
//! **Invariant:** what comes out has each key once and in our order, so that a line cannot name a session, or forge
//! what `capture` itself adds.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::mark::Mark;
use super::runs::Identity;
use crate::openclaw::event;

/// Longest run id that is one.
const MAX_RUN_ID: usize = 512;

/// A line of the raw stream that OpenClaw may have written. Source: raw stream of 2026.9.6; `sessionId` stands in its
/// source and was never seen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    ts: &'a RawValue,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    run_id: Cow<'a, str>,
    #[serde(borrow, default)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    evt_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    raw_text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    raw_thinking: Option<&'a RawValue>,
}

/// What of a line decides how it is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) ts: i64,
    pub(super) run: String,
    pub(super) thinking: bool,
    /// It ends a model call.
    pub(super) ends: bool,
}

/// Reads a line.
///
/// # Errors
/// Why it is none that OpenClaw writes.
pub(super) fn read(text: &str) -> Result<(Line<'_>, Head), String> {
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let digits = line.ts.get();
    let ts = digits.parse::<i64>().map_err(|_| "its `ts` is no whole number".to_owned())?;
    if line.run_id.is_empty() || line.run_id.len() > MAX_RUN_ID {
        return Err("its `runId` is empty or too long".into());
    }
    let ends = line.event == event::MESSAGE_END;
    let thinking = line.event == event::THINKING_STREAM;
    if !ends && !thinking && line.event != event::TEXT_STREAM {
        return Err("its `event` is none of the raw stream".into());
    }
    let head = Head { ts, run: line.run_id.clone().into_owned(), thinking, ends };
    Ok((line, head))
}

impl Line<'_> {
    /// The event as it goes to the log. Deltas, nearly all lines of a log, get no identity: the other events of their
    /// run have it, and readers know deltas by their shape.
    pub(super) fn log_event(&self, identity: Option<&Identity>, reasoning: bool, mark: &Mark<'_>) -> String {
        let mut out = String::with_capacity(320);
        out.push_str("{\"ts\":");
        out.push_str(self.ts.get());
        string(&mut out, "event", &self.event);
        string(&mut out, "runId", &self.run_id);
        if let Some(kind) = &self.evt_type {
            string(&mut out, "evtType", kind);
        }
        for (key, value) in [
            ("delta", self.delta),
            ("content", self.content),
            ("rawText", self.raw_text),
            ("rawThinking", self.raw_thinking.filter(|_| reasoning)),
            ("sessionId", self.session_id),
        ] {
            if let Some(value) = value {
                raw(&mut out, key, value);
            }
        }
        let delta = self.delta.is_some()
            && self.content.is_some_and(|content| content.get() == "\"\"")
            && self.evt_type.as_deref().is_some_and(|kind| kind.ends_with("_delta"));
        if !delta && let Some(identity) = identity {
            string(&mut out, "sessionKey", &identity.session_key);
            if let Some(agent) = &identity.agent_id {
                string(&mut out, "agentId", agent);
            }
        }
        string(&mut out, "src", &mark.to_string());
        out.push('}');
        out
    }
}

fn string(out: &mut String, key: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
    out.push_str(&serde_json::Value::from(value).to_string());
}

fn raw(out: &mut String, key: &str, value: &RawValue) {
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
    out.push_str(value.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA: &str = r#"{"ts":1795351835587,"event":"assistant_text_stream","runId":"88e8","evtType":"text_delta","delta":"Mock ","content":""}"#;
    const END: &str = r#"{"ts":1795351835900,"event":"assistant_message_end","runId":"88e8","rawText":"Mo\ud83dck","rawThinking":"hm"}"#;

    fn mark() -> Mark<'static> {
        Mark::Raw { sandbox: "box", generation: "1f-0a", end: 140 }
    }

    #[test]
    fn a_delta_keeps_the_shape_that_readers_know() {
        let identity = Identity { session_key: "agent:main:main".into(), agent_id: Some("main".into()) };
        let (line, head) = read(DELTA).unwrap();
        assert_eq!(
            (head.ts, head.run.as_str(), head.thinking, head.ends),
            (1_795_351_835_587, "88e8", false, false)
        );
        let expected = DELTA.replace("\"}", "\",\"src\":\"box:raw:1f-0a:140\"}");
        assert_eq!(line.log_event(Some(&identity), true, &mark()), expected);
        let (line, head) = read(END).unwrap();
        assert!(head.ends);
        assert_eq!(
            line.log_event(Some(&identity), false, &mark()),
            r#"{"ts":1795351835900,"event":"assistant_message_end","runId":"88e8","rawText":"Mo\ud83dck","sessionKey":"agent:main:main","agentId":"main","src":"box:raw:1f-0a:140"}"#
        );
    }

    #[test]
    fn what_openclaw_does_not_write_is_refused() {
        for forged in [
            DELTA.replace("assistant_text_stream", "user_message"),
            DELTA.replace("assistant_text_stream", "sentrix_incident"),
            DELTA.replace("\"content\"", "\"sessionKey\":\"agent:other:main\",\"content\""),
            DELTA.replace("\"content\"", "\"src\":\"box:raw:1f-0a:9\",\"content\""),
            DELTA.replace("\"content\"", "\"delta\":\"x\",\"content\""),
            DELTA.replace("88e8", ""),
            DELTA.replace("1795351835587", "\"now\""),
            DELTA.replace("\"}", "\""),
            "[]".to_owned(),
            "7".to_owned(),
        ] {
            assert!(read(&forged).is_err(), "{forged}");
        }
    }
}

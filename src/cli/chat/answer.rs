//! What comes of a run, as it is shown: the answer on standard output, all else on standard error.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::super::args::Format;
use super::super::failure::Failure;
use super::super::printer;
use crate::openclaw::gateway::names::event;
use crate::text;

/// Characters of one answer that are shown and kept.
const MOST_TEXT: usize = 1_000_000;
/// Characters of a tool's arguments.
const MOST_ARGS: usize = 100;
/// Characters of a remark on the way.
const MOST_REMARK: usize = 2_000;
/// Tools of one answer that are kept for JSON.
const MOST_TOOLS: usize = 1_000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It answered.
    Done,
    /// It ended in an error.
    Failed,
    /// It was stopped.
    Aborted,
}

/// What stands on the line that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Text,
    Thinking,
}

/// The answer to one message.
#[derive(Debug)]
pub(super) struct Answer {
    format: Format,
    with_thinking: bool,
    open: Open,
    pub(super) text: String,
    thinking: String,
    tools: Vec<Value>,
    /// Which piece of the answer was written last; between two stands an empty line.
    item: String,
    error: Option<String>,
}

impl Answer {
    pub(super) fn new(format: Format, with_thinking: bool) -> Self {
        Self {
            format,
            with_thinking,
            open: Open::Nothing,
            text: String::new(),
            thinking: String::new(),
            tools: Vec::new(),
            item: String::new(),
            error: None,
        }
    }

    /// Takes an event of the run; tells whether it was the last one.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub(super) fn take(&mut self, name: &str, payload: &Value) -> Result<Option<Ended>, Failure> {
        let word =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match name {
            event::AGENT => {
                let data = payload.get("data").unwrap_or(&Value::Null);
                match payload.get("stream").and_then(Value::as_str).unwrap_or_default() {
                    "assistant" => self.say(&word(data, "delta"), &word(data, "itemId"))?,
                    "thinking" => self.think(&word(data, "delta")),
                    "tool" => self.tool(data),
                    // What it says before it calls a tool comes whole, and not among the pieces of the answer.
                    "item" if word(data, "kind") == "preamble" && word(data, "phase") == "end" => {
                        self.remark(&word(data, "progressText"));
                    }
                    _ => {}
                }
            }
            event::CHAT => match payload.get("state").and_then(Value::as_str).unwrap_or_default() {
                "final" => {
                    self.finish(payload)?;
                    if self.text.is_empty() && self.tools.is_empty() && self.format == Format::Table {
                        printer::note(
                            "no answer of its own: the message was taken into a turn that was under way (`sentrix logs --follow`)",
                        );
                    }
                    return Ok(Some(Ended::Done));
                }
                "error" => {
                    self.error = Some(word(payload, "errorMessage"));
                    self.finish(payload)?;
                    return Ok(Some(Ended::Failed));
                }
                "aborted" => {
                    self.finish(&Value::Null)?;
                    return Ok(Some(Ended::Aborted));
                }
                _ => {}
            },
            _ => {}
        }
        Ok(None)
    }

    fn say(&mut self, delta: &str, item: &str) -> Result<(), Failure> {
        if delta.is_empty() {
            return Ok(());
        }
        if item != self.item {
            self.item = text::bounded(item, 200);
            if !self.text.is_empty() {
                self.write_text("\n\n")?;
            }
        }
        self.write_text(delta)
    }

    fn write_text(&mut self, delta: &str) -> Result<(), Failure> {
        let left = MOST_TEXT.saturating_sub(self.text.len());
        let delta = safe(&text::bounded(delta, left.max(1)));
        if left == 0 {
            return Ok(());
        }
        self.text.push_str(&delta);
        if self.format == Format::Table {
            self.turn_to(Open::Text);
            out(&delta)?;
            if delta.ends_with('\n') {
                self.open = Open::Nothing;
            }
        }
        Ok(())
    }

    fn think(&mut self, delta: &str) {
        let left = MOST_TEXT.saturating_sub(self.thinking.len());
        if !self.with_thinking || delta.is_empty() || left == 0 {
            return;
        }
        let delta = safe(&text::bounded(delta, left));
        self.thinking.push_str(&delta);
        if self.format == Format::Table {
            self.turn_to(Open::Thinking);
            let mut err = anstream::stderr().lock();
            drop(write!(err, "{}", printer::dim(&delta)).and_then(|()| err.flush()));
        }
    }

    fn tool(&mut self, data: &Value) {
        let word = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text::plain(&text::bounded(word("name"), 60));
        let line = match word("phase") {
            "start" => {
                let args = data.get("args").map(Value::to_string).unwrap_or_default();
                format!("• {name} {}", text::plain(&text::bounded(&args, MOST_ARGS)))
            }
            "result" => {
                let is_error = data.get("isError").and_then(Value::as_bool).unwrap_or_default();
                if self.tools.len() < MOST_TOOLS {
                    self.tools.push(json!({ "name": name, "ok": !is_error }));
                }
                if !is_error {
                    return;
                }
                let said = data.pointer("/result/content/0/text").and_then(Value::as_str).unwrap_or_default();
                format!("• {name} failed: {}", text::plain(&text::bounded(said, MOST_ARGS)))
            }
            _ => return,
        };
        if self.format == Format::Table {
            self.turn_to(Open::Nothing);
            printer::note(printer::dim(&line));
        }
    }

    fn remark(&mut self, said: &str) {
        let said = text::plain(&text::bounded(said, MOST_REMARK));
        if self.format == Format::Table && !said.is_empty() {
            self.turn_to(Open::Nothing);
            printer::note(printer::dim(said));
        }
    }

    /// Tells something that is no part of the answer.
    pub(super) fn note(&mut self, said: &str) {
        self.turn_to(Open::Nothing);
        printer::note(printer::dim(said));
    }

    fn finish(&mut self, payload: &Value) -> Result<(), Failure> {
        // What did not come in pieces comes whole at the end.
        if self.text.is_empty() {
            let blocks = payload.pointer("/message/content").and_then(Value::as_array);
            let texts = blocks.into_iter().flatten().filter_map(|block| block.get("text")?.as_str());
            let whole = texts.collect::<Vec<_>>().join("\n");
            self.say(&whole, "")?;
        }
        self.turn_to(Open::Nothing);
        if let Some(error) = &self.error
            && self.format == Format::Table
        {
            printer::note(format_args!(
                "the run ended in an error: {}",
                text::plain(&text::bounded(error, 500))
            ));
        }
        Ok(())
    }

    /// Begins a new line where another kind of text stands on this one.
    fn turn_to(&mut self, to: Open) {
        if self.open == to {
            return;
        }
        match self.open {
            Open::Nothing => {}
            // A reader that went away is told by the next piece.
            Open::Text => drop(out("\n")),
            Open::Thinking => printer::note(""),
        }
        self.open = to;
    }

    /// The answer as one JSON value.
    pub(super) fn json(&self, session: &str, run_id: &str, ended: Ended) -> Value {
        let status = match ended {
            Ended::Done => "done",
            Ended::Failed => "error",
            Ended::Aborted => "aborted",
        };
        let mut value = json!({
            "version": 1,
            "session": session,
            "run_id": run_id,
            "status": status,
            "text": self.text,
            "tools": self.tools,
        });
        if let Some(object) = value.as_object_mut() {
            if let Some(error) = &self.error {
                object.insert("error".into(), json!(safe(&text::bounded(error, 2_000))));
            }
            if self.with_thinking {
                object.insert("thinking".into(), json!(self.thinking));
            }
        }
        value
    }
}

/// Text of several lines that is safe for a terminal.
fn safe(text: &str) -> String {
    text.split('\n').map(|line| text::plain(line.trim_end_matches('\r'))).collect::<Vec<_>>().join("\n")
}

/// Writes a piece to standard output.
fn out(piece: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Unavailable(anyhow::Error::new(error).context("cannot write to standard output")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer::new(Format::Json, true)
    }

    fn agent(stream: &str, data: &Value) -> Value {
        json!({ "stream": stream, "data": data })
    }

    #[test]
    fn pieces_become_an_answer_without_escapes() {
        let mut answer = answer();
        let pieces = [
            agent("assistant", &json!({"delta": "I will\u{1b}[2J ", "itemId": "1"})),
            agent("assistant", &json!({"delta": "write.\r\n", "itemId": "1"})),
            agent("thinking", &json!({"delta": "two\u{202e}"})),
            agent("tool", &json!({"phase": "start", "name": "write", "args": {"path": "x"}})),
            agent("tool", &json!({"phase": "result", "name": "wr\u{7}ite", "isError": true})),
            agent("assistant", &json!({"delta": "Done.", "itemId": "2"})),
            agent("nonsense", &Value::Null),
            json!({ "data": 4 }),
        ];
        for piece in &pieces {
            assert_eq!(answer.take(event::AGENT, piece).unwrap(), None);
        }
        let last = json!({"state": "final", "message": {"content": [{"text": "Done."}]}});
        assert_eq!(answer.take(event::CHAT, &last).unwrap(), Some(Ended::Done));
        insta::assert_json_snapshot!(answer.json("main", "r1", Ended::Done), @r#"
        {
          "run_id": "r1",
          "session": "main",
          "status": "done",
          "text": "I will\\u{1b}[2J write.\n\n\nDone.",
          "thinking": "two\\u{202e}",
          "tools": [
            {
              "name": "wr\\u{7}ite",
              "ok": false
            }
          ],
          "version": 1
        }
        "#);
    }

    #[test]
    fn an_answer_that_comes_whole_is_shown_and_an_error_told() {
        let mut whole = answer();
        let last = json!({"state": "final", "message": {"content": [{"text": "a"}, {"type": "image"}, {"text": "b"}]}});
        whole.take(event::CHAT, &last).unwrap();
        assert_eq!(whole.text, "a\nb");
        let mut failed = answer();
        let error = json!({"state": "error", "errorMessage": "no \u{1b}model"});
        assert_eq!(failed.take(event::CHAT, &error).unwrap(), Some(Ended::Failed));
        assert_eq!(failed.json("s", "r", Ended::Failed)["error"], "no \\u{1b}model");
    }

    #[test]
    fn an_answer_without_end_is_bounded() {
        let mut endless = answer();
        let piece = agent("assistant", &json!({"delta": "x".repeat(600_000), "itemId": "1"}));
        for _ in 0..5 {
            endless.take(event::AGENT, &piece).unwrap();
        }
        assert!(endless.text.chars().count() <= MOST_TEXT);
    }
}

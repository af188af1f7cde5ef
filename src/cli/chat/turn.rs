//! One message and what comes of it.

use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::signal::unix::Signal;

use super::super::args::Format;
use super::super::failure::Failure;
use super::super::printer;
use super::answer::Answer;
pub(super) use super::answer::Ended;
use super::{send, unreachable_gateway};
use crate::gateway::{Client, Event, EventFrame, Events, GatewayErrorKind};
use crate::openclaw::gateway::names::method;

/// How long a request may take, under load too.
const LIMIT: Duration = Duration::from_mins(1);
/// How long a run that was told to stop may take until it is left alone.
const ABORT_LIMIT: Duration = Duration::from_secs(10);

/// What a message needs.
pub(super) struct Turn<'a> {
    pub(super) client: &'a Client,
    pub(super) session: &'a str,
    pub(super) format: Format,
    pub(super) with_thinking: bool,
}

impl Turn<'_> {
    /// Sends a message and shows the answer as it comes. Ctrl+C stops the run; a second one leaves.
    pub(super) async fn run(
        &self,
        message: &str,
        events: &mut Events,
        interrupts: &mut Signal,
    ) -> Result<Ended, Failure> {
        // What came while a line was typed belongs to no answer.
        while events.next().now_or_never().flatten().is_some() {}
        let key = uuid::Uuid::now_v7().to_string();
        let sent = tokio::select! {
            sent = self.client.call(method::CHAT_SEND, send(self.session, message, &key), LIMIT) => sent,
            _ = interrupts.recv() => return Err(Failure::Interrupted),
        };
        let run_id = match sent {
            Ok(sent) => sent.get("runId").and_then(Value::as_str).unwrap_or(&key).to_owned(),
            Err(error) => {
                return match error.kind {
                    GatewayErrorKind::Refused { .. } => {
                        printer::note(format_args!("{}", error.kind));
                        Ok(Ended::Failed)
                    }
                    _ => Err(unreachable_gateway(&error)),
                };
            }
        };
        let mut answer = Answer::new(self.format, self.with_thinking);
        let ended = self.follow(&run_id, &mut answer, events, interrupts).await?;
        if self.format == Format::Json {
            printer::json(&answer.json(self.session, &run_id, ended))?;
        }
        Ok(ended)
    }

    async fn follow(
        &self,
        run_id: &str,
        answer: &mut Answer,
        events: &mut Events,
        interrupts: &mut Signal,
    ) -> Result<Ended, Failure> {
        let mut stopped = false;
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                () = tokio::time::sleep(ABORT_LIMIT), if stopped => return Ok(Ended::Aborted),
                _ = interrupts.recv() => {
                    if stopped {
                        return Err(Failure::Left("left while the answer was being stopped"));
                    }
                    stopped = true;
                    answer.note("stopping …");
                    let params = json!({ "sessionKey": self.session, "runId": run_id });
                    if let Err(error) = self.client.call(method::CHAT_ABORT, params, ABORT_LIMIT).await {
                        answer.note(&error.kind.to_string());
                    }
                    continue;
                }
            };
            match next {
                Some(Event::Frame(EventFrame { name, payload, .. })) => {
                    if payload.get("runId").and_then(Value::as_str) == Some(run_id)
                        && let Some(ended) = answer.take(&name, &payload)?
                    {
                        return Ok(ended);
                    }
                }
                Some(Event::Gap { dropped }) => {
                    answer.note(&format!("{dropped} events were lost: the answer may have gaps"));
                }
                None => {
                    answer.note("");
                    let why = self.client.ended().map(|ending| ending.to_string()).unwrap_or_default();
                    return Err(Failure::Unavailable(anyhow::anyhow!(
                        "the connection to the gateway ended ({why}) before the answer did; `sentrix run` shows whether the \
                         sandbox is up"
                    )));
                }
            }
        }
    }
}

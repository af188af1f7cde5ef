//! How a run comes to rest: done, stopped, waiting or failed; its `finally` node.

use std::sync::{Arc, PoisonError};

use super::args::Args;
use super::codec::Codec;
use super::event::Event;
use super::log;
use super::run::{Run, Stop};
use super::task::{self, Place};
use super::{
    EngineError, EngineErrorKind, EntryKind, ErrorClass, Failure, Finish, InterruptCause, Outcome,
    RunOutcome, RunStatus,
};

impl Run {
    /// Drives the run until it comes to rest, and stores how it did.
    pub(crate) async fn finish(mut self) -> Result<RunOutcome, EngineError> {
        self.announce();
        let stop = match self.drive().await {
            Ok(()) => {
                let steps = self.at.step;
                self.shared.publisher.publish(|| Event::RunFinished { steps });
                return Ok(self.outcome(Outcome::Done));
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Interrupted(cause) => {
                let status =
                    if cause == InterruptCause::Gate { RunStatus::Waiting } else { RunStatus::Interrupted };
                let finish = Finish { status, error: Some(cause.as_str().to_owned()), seal: None };
                self.rest(finish).await.map_err(|kind| self.error(kind))?;
                let step = self.at.step;
                self.shared.publisher.publish(|| Event::RunInterrupted { cause, step });
                Ok(self.outcome(Outcome::Interrupted(cause)))
            }
            Stop::Fault(kind) => {
                // After a failed append nothing more may be appended; the run stays resumable as it is.
                if !matches!(kind, EngineErrorKind::Checkpoint(_)) {
                    self.clean_up(&kind).await;
                    let finish =
                        Finish { status: RunStatus::Failed, error: Some(kind.to_string()), seal: None };
                    if let Err(error) = self.rest(finish).await {
                        tracing::error!(run_id = %self.shared.run, %error, "failure of a run not stored");
                    }
                }
                self.shared.publisher.publish(|| Event::RunFailed { error: kind.to_string() });
                Err(self.error(kind))
            }
        }
    }

    pub(crate) fn error(&self, kind: EngineErrorKind) -> EngineError {
        kind.of(self.shared.run, &self.shared.plan.graph.name)
    }

    fn outcome(self, status: Outcome) -> RunOutcome {
        let graph = &self.shared.plan.graph;
        let secrets = self
            .at
            .state
            .iter(graph)
            .filter(|(channel, _)| graph.channel(*channel).secret)
            .map(|(channel, value)| (graph.channel(channel).name.clone(), value.clone()))
            .collect();
        RunOutcome {
            run: self.shared.run,
            status,
            state: self.shown_state(),
            secrets,
            steps: self.at.step,
            used: self.used(),
            gates: self.gates(),
        }
    }

    /// Runs the `finally` node of a run that failed. What it writes is kept in the log, and not in the state: a resume
    /// tries again from where the run failed.
    async fn clean_up(&mut self, kind: &EngineErrorKind) {
        let graph = Arc::clone(&self.shared.plan.graph);
        let Some(finally) = graph.finally else { return };
        if self.at.frontier.iter().any(|ready| ready.node == finally) {
            return;
        }
        let failure = match kind {
            EngineErrorKind::Task { item, attempts, error, .. } => Failure {
                item: *item,
                class: error.class,
                message: error.message.clone(),
                attempts: *attempts,
            },
            other => {
                let class = other.class().unwrap_or(ErrorClass::Permanent);
                Failure { item: None, class, message: other.to_string(), attempts: 0 }
            }
        };
        *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        let place = Place { step: self.at.step, node: finally, item: None };
        let args =
            Args { graph: &graph, node: graph.node(finally), state: &self.at.state, item: None, sent: None };
        let limit = graph.node(finally).timeout.unwrap_or(FINALLY);
        let work = tokio::time::timeout(limit, task::work(&self.shared, place, args, None, || false));
        let entry = match work.await {
            Ok(Ok(finished)) => self.codec().task(&finished),
            Ok(Err(failed)) => Codec::failed(&failed.failure(None), failed.usage),
            Err(_) => {
                let message = format!("no result within {limit:?}");
                let failure = Failure { item: None, class: ErrorClass::Timeout, message, attempts: 1 };
                Codec::failed(&failure, super::Usage::default())
            }
        };
        match entry {
            Ok(body) if self.log.is_some() => {
                let name = self.shared.plan.shared_name(finally);
                self.pending.push(log::entry(EntryKind::Finally, place.step, Some(name), None, body));
            }
            Ok(_) => {}
            Err(error) => tracing::error!(run_id = %self.shared.run, %error, "`finally` of a run not stored"),
        }
    }
}

/// Longest time of a `finally` node that says nothing itself.
const FINALLY: std::time::Duration = std::time::Duration::from_mins(1);

impl RunOutcome {
    /// The value of a secret channel; [`RunOutcome::state`] holds only its mask.
    pub fn secret(&self, channel: &str) -> Option<&serde_json::Value> {
        self.secrets.get(channel)
    }
}

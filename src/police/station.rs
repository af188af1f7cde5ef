//! The station: escalates flags into the queue and works it off, one investigation after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};

use crate::case::{CaseFile, PatrolFlag, Severity};
use crate::clock::SharedClock;
use crate::detect::Detectors;
use crate::engine::{EngineErrorKind, ErrorClass, InterruptCause, Outcome, RunOptions};
use crate::id::RunId;
use crate::model::Models;
use crate::store::StoreError;
use crate::store::patrol_state::PatrolStore;
use crate::store::police::{Escalated, PoliceStore, QueueItem};
use crate::workflow::{Host, WorkflowError};

/// Name of the graph an investigation runs.
pub(super) const GRAPH: &str = "investigate";
/// How long an investigation may hold a flag before another one may take it.
const LEASE: Duration = Duration::from_mins(45);
/// Wait before the second attempt; doubles each time.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// What the user decides about investigations.
#[derive(Clone, Debug, PartialEq)]
pub struct PoliceSettings {
    /// Most characters of log text that an investigation reads at once.
    pub max_turn_chars: usize,
    /// Role of the model that investigates.
    pub role: String,
}

/// What the nodes of the investigation graph work with.
#[derive(Debug)]
pub struct PoliceDeps {
    /// Where the log files are.
    pub logs: PathBuf,
    /// Where case files are exported to.
    pub reports: PathBuf,
    /// Flags and turns.
    pub patrol: Arc<PatrolStore>,
    /// Queue and cases.
    pub police: Arc<PoliceStore>,
    /// Find and mask secrets.
    pub detectors: Detectors,
    /// The models, by role.
    pub models: Models,
    /// What the user decided.
    pub settings: PoliceSettings,
    /// The time.
    pub clock: SharedClock,
}

/// Why the station could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The graph could not be loaded or run.
    #[error(transparent)]
    Workflow(#[from] WorkflowError),
    /// There is no such flag.
    #[error("no flag `{0}`")]
    NoSuchFlag(String),
}

/// How an investigation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Concluded {
    /// With a case file.
    Case(Box<CaseFile>),
    /// Without: it will be tried again, or is a dead letter now.
    Failed {
        /// The flag.
        flag_id: String,
        /// What happened.
        error: String,
        /// Whether an outside service is to blame.
        outside: bool,
    },
    /// Stopped; it goes on with the next `police resume` or patrol.
    Interrupted {
        /// The flag.
        flag_id: String,
    },
}

/// Works the queue off.
#[derive(Debug)]
pub struct Station<'a> {
    deps: Arc<PoliceDeps>,
    host: &'a Host,
}

impl<'a> Station<'a> {
    /// A station over these stores. The caller holds the directory's lock, so every lease that is out belongs to
    /// somebody who died.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn open(deps: Arc<PoliceDeps>, host: &'a Host) -> Result<Self, StationError> {
        deps.police.release_dead_leases()?;
        Ok(Self { deps, host })
    }

    /// Queues every flag of ours from `threshold` on that was not investigated in its present form; gives how many
    /// were queued.
    ///
    /// # Errors
    /// Where a store cannot be read or written.
    pub fn escalate(&self, threshold: Severity) -> Result<u64, StationError> {
        // Without a sweep or a new line no flag has changed: there is nothing to look through.
        let mark = format!("{}, {threshold} and above", self.deps.patrol.flags_mark()?);
        if self.deps.police.escalated()?.as_deref() == Some(mark.as_str()) {
            return Ok(0);
        }
        let flags: Vec<Escalated> = self
            .deps
            .patrol
            .flags(None)?
            .into_iter()
            .rev()
            .filter(|row| !row.legacy)
            .filter_map(|row| Some((row.revision, row.flag?)))
            .filter(|(_, flag)| flag.consensus_severity >= threshold)
            .map(|(revision, flag)| Escalated {
                flag_id: flag.flag_id,
                severity: flag.consensus_severity,
                revision,
            })
            .collect();
        Ok(self.deps.police.enqueue(&flags, &mark, self.deps.clock.now())?)
    }

    /// Queues one flag, whatever became of it before.
    ///
    /// # Errors
    /// Where there is no such flag, or a store cannot be written.
    pub fn escalate_one(&self, flag_id: &str) -> Result<PatrolFlag, StationError> {
        let row =
            self.deps.patrol.flags(None)?.into_iter().find(|row| row.flag_id.as_deref() == Some(flag_id));
        let (revision, flag) = row
            .and_then(|row| Some((row.revision, row.flag?)))
            .ok_or_else(|| StationError::NoSuchFlag(flag_id.to_owned()))?;
        self.deps.police.requeue(flag_id, flag.consensus_severity, revision, self.deps.clock.now())?;
        Ok(flag)
    }

    /// Takes the next flag from the queue and investigates it; `None` where the queue has none that is due. With
    /// `only`, that flag and no other.
    ///
    /// # Errors
    /// Where a store fails. What happens to the investigation is part of the answer.
    ///
    /// # Cancel safety
    /// A dropped investigation resumes from its checkpoint.
    pub async fn next(
        &self,
        only: Option<&str>,
        options: RunOptions,
    ) -> Result<Option<Concluded>, StationError> {
        let Some(item) = self.deps.police.lease(only, self.deps.clock.now(), LEASE)? else { return Ok(None) };
        self.investigate(item, options).await.map(Some)
    }

    async fn investigate(&self, item: QueueItem, options: RunOptions) -> Result<Concluded, StationError> {
        let resumable = match item.run_id {
            Some(run) if self.host.is_unfinished(run).await? => Some(run),
            _ => None,
        };
        let run = resumable.unwrap_or_else(RunId::fresh);
        let result = if resumable.is_some() {
            self.host.resume(run, options).await
        } else {
            self.deps.police.bind_run(&item.flag_id, run)?;
            let mut input = Map::new();
            input.insert("flag_id".into(), json!(item.flag_id));
            self.host.run(GRAPH, input, RunOptions { run_id: Some(run), ..options }).await
        };
        match result {
            Ok(outcome) if outcome.status == Outcome::Done => {
                // A case of an earlier investigation is no answer to this one: a graph that was edited so that nothing
                // concludes must not pass for one that did.
                let case = if self.deps.police.is_concluded(&item.flag_id)? {
                    self.deps.police.case(&item.flag_id)?
                } else {
                    None
                };
                match case {
                    Some(case) => {
                        // What a case rests on is kept, whatever retention says of other runs.
                        let reason = format!("the investigation of flag {}", item.flag_id);
                        if let Err(error) = self.host.engine().hold(run, Some(reason)).await {
                            tracing::warn!(run_id = %run, %error, "run of an investigation not held");
                        }
                        Ok(Concluded::Case(Box::new(case)))
                    }
                    None => self.failed(&item, "the run ended without a case file", false, false),
                }
            }
            Ok(outcome) if outcome.status == Outcome::Interrupted(InterruptCause::Gate) => {
                // Others need not wait with it; `graph answer` goes on with the run itself.
                self.failed(&item, "it waits for an answer: see `sentrix graph gates`", false, true)
            }
            Ok(_) => Ok(Concluded::Interrupted { flag_id: item.flag_id }),
            Err(WorkflowError::Engine(error)) => {
                let class = match &error.kind {
                    EngineErrorKind::Task { error, .. } => Some(error.class),
                    _ => None,
                };
                let outside = matches!(
                    class,
                    Some(
                        ErrorClass::Transient
                            | ErrorClass::RateLimit
                            | ErrorClass::Timeout
                            | ErrorClass::Permanent
                    )
                );
                self.failed(&item, &error.to_string(), outside, class.is_some())
            }
            Err(error) => {
                self.failed(&item, &error.to_string(), false, false)?;
                Err(error.into())
            }
        }
    }

    fn failed(
        &self,
        item: &QueueItem,
        error: &str,
        outside: bool,
        keep_run: bool,
    ) -> Result<Concluded, StationError> {
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(item.attempts.saturating_sub(1).min(8)));
        self.deps.police.fail(&item.flag_id, error, self.deps.clock.now(), wait, keep_run)?;
        tracing::warn!(flag_id = item.flag_id, attempts = item.attempts, "investigation failed");
        Ok(Concluded::Failed { flag_id: item.flag_id.clone(), error: error.to_owned(), outside })
    }
}

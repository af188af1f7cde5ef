//! What the engine asks of whoever keeps checkpoints: an append-only log a run.
//!
//! A run's log holds one entry a superstep (its writes in merge order and the next nodes). A superstep of more
//! than one task stores each task's writes as an entry of its own when the task finishes; the superstep's entry
//! then does not repeat them. A run is put together again from the last snapshot and the entries after it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Debug};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{CheckpointError, CheckpointErrorKind};
use crate::graph::{Durability, Graph};
use crate::id::RunId;

/// Texts of prompt templates by file name, as they were when a run began.
pub type PromptTexts = BTreeMap<String, String>;

/// What a run executes, kept with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the graph.
    pub graph: String,
    /// Its version.
    pub version: u32,
    /// SHA-256 of the graph's text and its prompts, hex.
    pub hash: String,
    /// The graph's text.
    pub source: Arc<str>,
    /// The prompts' texts.
    pub prompts: Arc<PromptTexts>,
}

impl Definition {
    /// The definition of a checked graph.
    pub fn of(graph: &Graph, prompts: Arc<PromptTexts>) -> Self {
        Self {
            graph: graph.name.clone(),
            version: graph.version,
            hash: graph.hash.clone(),
            source: Arc::clone(&graph.source),
            prompts,
        }
    }
}

/// A run that is about to begin.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id.
    pub run: RunId,
    /// What it executes.
    pub definition: Definition,
    /// Its input.
    pub input: Map<String, Value>,
    /// What its checkpoints survive.
    pub durability: Durability,
}

/// The right to write a run's log. Nobody else has it until it is released or its process is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// Tells this claim from every other one.
    pub token: Uuid,
}

/// Tokens of the claims that this process holds, over all stores.
static LIVE: LazyLock<Mutex<HashSet<Uuid>>> = LazyLock::new(Mutex::default);

impl Claim {
    /// A claim to ask a store for. It counts as live until it is ended.
    pub fn new(run: RunId) -> Self {
        let claim = Self { run, token: Uuid::now_v7() };
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(claim.token);
        claim
    }

    /// Whether this process holds, or asks for, the claim with this token. A stored claim of this very
    /// process that is not live is a leftover.
    pub fn is_live(token: Uuid) -> bool {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).contains(&token)
    }

    /// Gives the claim up, as far as this process is concerned.
    pub fn end(&self) {
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.token);
    }
}

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A finished superstep.
    Step,
    /// A finished task of a superstep that had more than one.
    Task,
}

/// One record of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it records.
    pub kind: EntryKind,
    /// The superstep.
    pub step: u32,
    /// The node; none for a superstep whose tasks have entries of their own.
    pub node: Option<Arc<str>>,
    /// Which item of a fan-out.
    pub item: Option<u32>,
    /// The engine's JSON: writes by channel, next nodes.
    pub body: String,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its number in the run, from 0.
    pub seq: u32,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The record.
    pub entry: Entry,
}

/// The whole state after a superstep. Only the last one of a run is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Number of the first entry that it does not contain.
    pub seq: u32,
    /// The engine's JSON.
    pub body: String,
}

/// How a run came to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The status from now on.
    pub status: RunStatus,
    /// Why it failed or was stopped.
    pub error: Option<String>,
}

/// What is to be stored together: all of it or nothing.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Number of the first entry.
    pub first_seq: u32,
    /// The entries, numbered one by one.
    pub entries: Vec<Entry>,
    /// The state after the last of them; takes the place of the run's earlier snapshot.
    pub snapshot: Option<Snapshot>,
    /// The end of the run, for now.
    pub finish: Option<Finish>,
    /// What the batch must survive once its receipt is in.
    pub durability: Durability,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Begun, and not come to rest; without a live owner it was killed.
    Running,
    /// Done.
    Done,
    /// Failed; a resume tries again.
    Failed,
    /// Stopped; a resume goes on.
    Interrupted,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Running, Self::Done, Self::Failed, Self::Interrupted];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary {
    /// Its id.
    pub run: RunId,
    /// Name of its graph.
    pub graph: String,
    /// Version of its graph.
    pub version: u32,
    /// Hash of its definition.
    pub hash: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether a live process is running it now.
    pub live: bool,
    /// Why it failed or was stopped.
    pub error: Option<String>,
    /// Finished supersteps.
    pub steps: u32,
    /// When it began, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When something was last stored of it.
    pub updated_ms: i64,
}

/// Which runs to list; the newest come first.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only runs of this graph.
    pub graph: Option<String>,
    /// Only runs that stand like this.
    pub status: Option<RunStatus>,
    /// Only runs that were begun but neither came to rest nor have a live owner.
    pub abandoned: bool,
    /// At most so many.
    pub limit: Option<usize>,
}

/// Everything needed to go on with a run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its line in a list.
    pub summary: RunSummary,
    /// What it executes.
    pub definition: Definition,
    /// Its input.
    pub input: Map<String, Value>,
    /// What its checkpoints survive.
    pub durability: Durability,
    /// The last snapshot.
    pub snapshot: Option<Snapshot>,
    /// The entries after it, in order.
    pub entries: Vec<StoredEntry>,
}

/// Keeps the logs of runs.
///
/// Calls take effect in the order in which they are made, also without waiting for a receipt; after a failed
/// append the caller must not append to the same run again.
pub trait Checkpointer: Debug + Send + Sync {
    /// Stores a new run, held by `claim`.
    fn create(&self, claim: &Claim, run: NewRun) -> Receipt<()>;

    /// Gives a stored run to `claim`, if no live process holds it, and marks it as running.
    fn claim(&self, claim: &Claim) -> Receipt<()>;

    /// Appends to a claimed run's log.
    fn append(&self, claim: &Claim, batch: Batch) -> Receipt<()>;

    /// Gives a claim up that was ended. Never waits and never fails: at worst the claim lapses with its process.
    fn release(&self, claim: &Claim);

    /// What is needed to go on with a run.
    fn load(&self, run: RunId) -> BoxFuture<'_, Result<RunRecord, CheckpointError>>;

    /// The whole log of a run.
    fn history(&self, run: RunId) -> BoxFuture<'_, Result<Vec<StoredEntry>, CheckpointError>>;

    /// Runs that pass a filter, newest first.
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, CheckpointError>>;
}

/// The answer to a request to a store, there at once or later.
#[derive(Debug)]
#[must_use = "a receipt must be awaited before what it stands for counts as stored"]
pub struct Receipt<T>(Answer<T>);

#[derive(Debug)]
enum Answer<T> {
    Now(Option<Result<T, CheckpointError>>),
    Later { answer: oneshot::Receiver<Result<T, CheckpointError>>, run: RunId, spins: u32 },
}

impl<T> Receipt<T> {
    /// An answer that is there.
    pub fn now(answer: Result<T, CheckpointError>) -> Self {
        Self(Answer::Now(Some(answer)))
    }

    /// An answer that another thread will send. `spins` is how often to look for it before going to sleep:
    /// worth it where the answer comes sooner than a sleeper wakes up.
    pub fn later(run: RunId, answer: oneshot::Receiver<Result<T, CheckpointError>>, spins: u32) -> Self {
        Self(Answer::Later { answer, run, spins })
    }
}

impl<T> Receipt<T> {
    /// The same receipt for somebody who has other things to do meanwhile.
    pub fn patient(mut self) -> Self {
        if let Answer::Later { spins, .. } = &mut self.0 {
            *spins = 0;
        }
        self
    }
}

impl<T> Unpin for Receipt<T> {}

impl<T> Future for Receipt<T> {
    type Output = Result<T, CheckpointError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |run| {
            let kind = CheckpointErrorKind::Storage("the store is closed".to_owned());
            Err(CheckpointError { run, kind })
        };
        match &mut self.0 {
            Answer::Now(answer) => match answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => Poll::Pending,
            },
            Answer::Later { answer, run, spins } => {
                for _ in 0..std::mem::take(spins) {
                    match answer.try_recv() {
                        Ok(answer) => return Poll::Ready(answer),
                        Err(oneshot::error::TryRecvError::Closed) => return Poll::Ready(gone(*run)),
                        Err(oneshot::error::TryRecvError::Empty) => std::hint::spin_loop(),
                    }
                }
                Pin::new(answer).poll(cx).map(|answer| answer.unwrap_or_else(|_| gone(*run)))
            }
        }
    }
}

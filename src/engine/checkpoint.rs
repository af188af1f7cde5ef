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
    /// The run whose task it is, for a subgraph.
    pub parent: Option<RunId>,
    /// The run and superstep that it was forked from.
    pub forked_from: Option<(RunId, u32)>,
    /// Where it begins, if not at the start of its graph with its input.
    pub snapshot: Option<Snapshot>,
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
    /// A task that failed for good and stopped the run; it is tried again on a resume.
    Failed,
    /// A change of the state from outside, as if a node had made it.
    Edit,
    /// The run goes on with another version of its graph.
    Upgrade,
    /// What the `finally` node did after a failure.
    Finally,
}

impl EntryKind {
    /// Every kind; its place is its number in a store.
    pub const ALL: [Self; 6] =
        [Self::Step, Self::Task, Self::Failed, Self::Edit, Self::Upgrade, Self::Finally];

    /// Its number in a store.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A SHA-256.
pub type Digest = [u8; 32];

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
    /// When it was made, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The engine's JSON: writes by channel, next nodes.
    pub body: String,
    /// SHA-256 over the hash of the entry before and everything above; of the first one, over the run's beginning.
    /// All zero in logs of before there were hashes.
    pub hash: Digest,
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its number in the run, from 0.
    pub seq: u32,
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
    /// Hash of the entry before `seq`: the chain goes on from here when the entries before are pruned.
    pub chain: Digest,
}

/// How a run came to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The status from now on.
    pub status: RunStatus,
    /// Why it failed or was stopped.
    pub error: Option<String>,
    /// A signature over the last hash of the log, where the engine has a key.
    pub seal: Option<String>,
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
    /// What the run executes from now on, where it was upgraded.
    pub definition: Option<Definition>,
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
    /// Waits for somebody to answer a gate; a resume goes on once that is done.
    Waiting,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Running, Self::Done, Self::Failed, Self::Interrupted, Self::Waiting];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Waiting => "waiting",
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
    /// The run whose task it is, for a subgraph.
    pub parent: Option<RunId>,
    /// The run and superstep that it was forked from.
    pub forked_from: Option<(RunId, u32)>,
    /// Why it must be kept whole, if it must.
    pub held: Option<String>,
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
    /// Also the runs of subgraphs.
    pub children: bool,
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
    /// Answers to its gates, oldest first; also those that the run has not taken yet.
    pub answers: Vec<GateAnswer>,
    /// The signature over the log's last hash when the run last came to rest.
    pub seal: Option<String>,
}

/// A run's log with where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Number of the first entry that is there: more than 0 after a prune or at a fork's beginning.
    pub first_seq: u32,
    /// The snapshot that the first entry builds on, if it is not the run's input.
    pub base: Option<Snapshot>,
    /// The entries from there, in order.
    pub entries: Vec<StoredEntry>,
}

/// Somebody's answer to a gate. The first one to a gate counts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GateAnswer {
    /// The gate's id.
    pub gate: String,
    /// The option that was chosen.
    pub option: String,
    /// Who answered.
    pub by: String,
    /// What they had to say.
    pub note: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Signature over all of the above and the run, with its public key, where the engine has a key.
    pub signature: Option<String>,
}

/// A line of the ledger: an effect on the world outside, by its idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectRecord {
    /// The idempotency key.
    pub key: Uuid,
    /// The run.
    pub run: RunId,
    /// The node.
    pub node: String,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub begun_ms: i64,
    /// What came of it, as JSON; none while nobody knows.
    pub result: Option<String>,
}

/// What retention does to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Its entries before this snapshot go; the snapshot takes the place of the last one.
    Before(Snapshot),
    /// All of it goes, its subgraphs' runs with it.
    Whole,
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

    /// The whole log of a run, as far as it was not pruned.
    fn history(&self, run: RunId) -> BoxFuture<'_, Result<History, CheckpointError>>;

    /// Runs that pass a filter, newest first.
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, CheckpointError>>;

    /// The definition with this hash that a run was, or is, executed with.
    fn definition(&self, run: RunId, hash: &str) -> BoxFuture<'_, Result<Definition, CheckpointError>>;

    /// Stores an answer to a gate of a run, held by a live process or not. An answer to a gate that has one already
    /// is refused with `Answered`.
    fn answer(&self, run: RunId, answer: GateAnswer) -> Receipt<()>;

    /// The answers to a run's gates, oldest first.
    fn answers(&self, run: RunId) -> BoxFuture<'_, Result<Vec<GateAnswer>, CheckpointError>>;

    /// Enters an effect into the ledger, or what came of it. A result that is there is never replaced.
    fn record_effect(&self, effect: EffectRecord) -> Receipt<()>;

    /// The ledger's line of a key.
    fn effect(&self, run: RunId, key: Uuid) -> BoxFuture<'_, Result<Option<EffectRecord>, CheckpointError>>;

    /// The ledger of a run, in the order in which effects were begun.
    fn effects(&self, run: RunId) -> BoxFuture<'_, Result<Vec<EffectRecord>, CheckpointError>>;

    /// Keeps a task's result for a time. `key` is a SHA-256; an older one of the same key is replaced.
    fn cache(&self, run: RunId, key: Digest, body: String, until_ms: i64) -> Receipt<()>;

    /// A kept result that still stands at `now_ms`.
    fn cached(
        &self,
        run: RunId,
        key: Digest,
        now_ms: i64,
    ) -> BoxFuture<'_, Result<Option<String>, CheckpointError>>;

    /// Marks a run as one that must be kept whole, or takes the mark away.
    fn hold(&self, run: RunId, reason: Option<String>) -> Receipt<()>;

    /// Takes parts of a run away. Refused with `Held` while a live process holds the run or it is marked as held.
    fn prune(&self, run: RunId, what: Prune) -> Receipt<()>;
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

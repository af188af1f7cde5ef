//! Checkpoints in memory: for tests, and for hosts that want history without a file.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::{
    Batch, CheckpointError, CheckpointErrorKind, Checkpointer, Claim, EntryKind, Finish, NewRun, Receipt,
    RunFilter, RunRecord, RunStatus, RunSummary, Snapshot, StoredEntry,
};
use crate::clock::{self, SharedClock};
use crate::id::RunId;

/// Keeps runs in memory.
#[derive(Debug)]
pub struct MemoryCheckpointer {
    clock: SharedClock,
    runs: Mutex<BTreeMap<RunId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    new: NewRun,
    status: RunStatus,
    error: Option<String>,
    created_ms: i64,
    claim: Option<Claim>,
    entries: Vec<StoredEntry>,
    snapshot: Option<Snapshot>,
}

impl Default for MemoryCheckpointer {
    fn default() -> Self {
        Self::new(clock::system())
    }
}

impl MemoryCheckpointer {
    /// A store that takes its times from a clock.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, runs: Mutex::default() }
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, Kept>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(
        &self,
        run: RunId,
        what: impl FnOnce(&mut Kept) -> Result<T, CheckpointErrorKind>,
    ) -> Result<T, CheckpointError> {
        let mut runs = self.runs();
        let kept = runs.get_mut(&run).ok_or(CheckpointError { run, kind: CheckpointErrorKind::NotFound })?;
        what(kept).map_err(|kind| CheckpointError { run, kind })
    }
}

impl Kept {
    fn held(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| Claim::is_live(claim.token))
    }

    fn summary(&self) -> RunSummary {
        let steps = self.entries.iter().filter(|stored| stored.entry.kind == EntryKind::Step).count();
        RunSummary {
            run: self.new.run,
            graph: self.new.definition.graph.clone(),
            version: self.new.definition.version,
            hash: self.new.definition.hash.clone(),
            status: self.status,
            live: self.held(),
            error: self.error.clone(),
            steps: u32::try_from(steps).unwrap_or(u32::MAX),
            created_ms: self.created_ms,
            updated_ms: self.entries.last().map_or(self.created_ms, |last| last.at_ms),
        }
    }
}

impl Checkpointer for MemoryCheckpointer {
    fn create(&self, claim: &Claim, run: NewRun) -> Receipt<()> {
        let id = run.run;
        let mut runs = self.runs();
        if runs.contains_key(&id) {
            return Receipt::now(Err(CheckpointError { run: id, kind: CheckpointErrorKind::Exists }));
        }
        let kept = Kept {
            new: run,
            status: RunStatus::Running,
            error: None,
            created_ms: self.clock.now().as_millisecond(),
            claim: Some(claim.clone()),
            entries: Vec::new(),
            snapshot: None,
        };
        runs.insert(id, kept);
        Receipt::now(Ok(()))
    }

    fn claim(&self, claim: &Claim) -> Receipt<()> {
        Receipt::now(self.with(claim.run, |kept| {
            if kept.held() {
                return Err(CheckpointErrorKind::Held("this process".to_owned()));
            }
            kept.claim = Some(claim.clone());
            if kept.status != RunStatus::Done {
                kept.status = RunStatus::Running;
                kept.error = None;
            }
            Ok(())
        }))
    }

    fn append(&self, claim: &Claim, batch: Batch) -> Receipt<()> {
        let at_ms = self.clock.now().as_millisecond();
        Receipt::now(self.with(claim.run, |kept| {
            if kept.claim.as_ref() != Some(claim) {
                return Err(CheckpointErrorKind::Lost);
            }
            if usize::try_from(batch.first_seq) != Ok(kept.entries.len()) {
                return Err(CheckpointErrorKind::Storage("entries out of order".to_owned()));
            }
            let seqs = batch.first_seq..;
            kept.entries.extend(seqs.zip(batch.entries).map(|(seq, entry)| StoredEntry {
                seq,
                at_ms,
                entry,
            }));
            if batch.snapshot.is_some() {
                kept.snapshot = batch.snapshot;
            }
            if let Some(Finish { status, error }) = batch.finish {
                kept.status = status;
                kept.error = error;
            }
            Ok(())
        }))
    }

    fn release(&self, claim: &Claim) {
        if let Some(kept) = self.runs().get_mut(&claim.run)
            && kept.claim.as_ref() == Some(claim)
        {
            kept.claim = None;
        }
    }

    fn load(&self, run: RunId) -> BoxFuture<'_, Result<RunRecord, CheckpointError>> {
        let record = self.with(run, |kept| {
            let first = kept.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
            Ok(RunRecord {
                summary: kept.summary(),
                definition: kept.new.definition.clone(),
                input: kept.new.input.clone(),
                durability: kept.new.durability,
                snapshot: kept.snapshot.clone(),
                entries: kept.entries.iter().filter(|stored| stored.seq >= first).cloned().collect(),
            })
        });
        ready(record).boxed()
    }

    fn history(&self, run: RunId) -> BoxFuture<'_, Result<Vec<StoredEntry>, CheckpointError>> {
        ready(self.with(run, |kept| Ok(kept.entries.clone()))).boxed()
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, CheckpointError>> {
        let mut all: Vec<RunSummary> =
            self.runs().values().map(Kept::summary).filter(|run| filter.admits(run)).collect();
        all.sort_by_key(|run| std::cmp::Reverse((run.created_ms, run.run)));
        all.truncate(filter.limit.unwrap_or(usize::MAX));
        ready(Ok(all)).boxed()
    }
}

impl RunFilter {
    /// Whether a run passes, apart from the limit.
    pub fn admits(&self, run: &RunSummary) -> bool {
        self.graph.as_ref().is_none_or(|graph| *graph == run.graph)
            && self.status.is_none_or(|status| status == run.status)
            && (!self.abandoned || (run.status == RunStatus::Running && !run.live))
    }
}

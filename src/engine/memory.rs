//! Checkpoints in memory: for tests, and for hosts that want history without a file.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use uuid::Uuid;

use super::{
    Batch, CheckpointError, CheckpointErrorKind, Checkpointer, Claim, Definition, Digest, EffectRecord,
    EntryKind, Finish, GateAnswer, History, NewRun, Prune, Receipt, RunFilter, RunRecord, RunStatus,
    RunSummary, Snapshot, StoredEntry,
};
use crate::clock::{self, SharedClock};
use crate::id::RunId;

/// Keeps runs in memory.
#[derive(Debug)]
pub struct MemoryCheckpointer {
    clock: SharedClock,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    runs: BTreeMap<RunId, Run>,
    /// The ledgers of all runs, in the order in which effects were begun.
    effects: Vec<EffectRecord>,
    /// Results with the time until which they stand.
    cache: HashMap<Digest, (String, i64)>,
}

#[derive(Debug)]
struct Run {
    new: NewRun,
    /// What it was executed with, the present definition last.
    definitions: Vec<Definition>,
    status: RunStatus,
    error: Option<String>,
    seal: Option<String>,
    held: Option<String>,
    created_ms: i64,
    updated_ms: i64,
    /// Finished supersteps before the first entry.
    base_steps: u32,
    /// What the first entry builds on.
    base: Option<Snapshot>,
    claim: Option<Claim>,
    entries: Vec<StoredEntry>,
    snapshot: Option<Snapshot>,
    answers: Vec<GateAnswer>,
}

impl Default for MemoryCheckpointer {
    fn default() -> Self {
        Self::new(clock::system())
    }
}

impl MemoryCheckpointer {
    /// A store that takes its times from a clock.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Changes the last snapshot's body.
    #[cfg(test)]
    pub(crate) fn tamper_snapshot(&self, run: RunId, change: impl FnOnce(&mut String)) {
        drop(self.with(run, |kept| {
            if let Some(snapshot) = &mut kept.snapshot {
                change(&mut snapshot.body);
            }
            Ok(())
        }));
    }

    /// Changes what is kept, as somebody with access to the store could.
    #[cfg(test)]
    pub(crate) fn tamper(&self, run: RunId, change: impl FnOnce(&mut Vec<StoredEntry>)) {
        drop(self.with(run, |kept| {
            change(&mut kept.entries);
            Ok(())
        }));
    }

    fn with<T>(
        &self,
        run: RunId,
        what: impl FnOnce(&mut Run) -> Result<T, CheckpointErrorKind>,
    ) -> Result<T, CheckpointError> {
        let mut kept = self.kept();
        let found = kept.runs.get_mut(&run).ok_or(CheckpointErrorKind::NotFound);
        found.and_then(what).map_err(|kind| CheckpointError { run, kind })
    }
}

impl Run {
    fn is_live(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| Claim::is_live(claim.token))
    }

    fn definition(&self) -> &Definition {
        self.definitions.last().unwrap_or(&self.new.definition)
    }

    fn first_seq(&self) -> u32 {
        self.base.as_ref().map_or(0, |base| base.seq)
    }

    fn next_seq(&self) -> u32 {
        self.entries.last().map_or(self.first_seq(), |last| last.seq.saturating_add(1))
    }

    fn summary(&self) -> RunSummary {
        let definition = self.definition();
        let last = self.entries.last().map(|last| &last.entry);
        RunSummary {
            run: self.new.run,
            graph: definition.graph.clone(),
            version: definition.version,
            hash: definition.hash.clone(),
            status: self.status,
            live: self.is_live(),
            error: self.error.clone(),
            steps: last.map_or(self.base_steps, |last| last.kind.steps(last.step)),
            created_ms: self.created_ms,
            updated_ms: self.updated_ms.max(last.map_or(0, |last| last.at_ms)),
            parent: self.new.parent,
            forked_from: self.new.forked_from,
            held: self.held.clone(),
        }
    }

    /// Refuses while the run must not be touched.
    fn loose(&self) -> Result<(), CheckpointErrorKind> {
        match &self.held {
            _ if self.is_live() => Err(CheckpointErrorKind::Held("this process".to_owned())),
            Some(reason) => Err(CheckpointErrorKind::marked(reason)),
            None => Ok(()),
        }
    }

    fn prune(&mut self, base: Snapshot) -> Result<(), CheckpointErrorKind> {
        self.loose()?;
        if base.seq < self.first_seq() || base.seq > self.next_seq() {
            return Err(CheckpointErrorKind::outside(base.seq));
        }
        let gone = self.entries.partition_point(|stored| stored.seq < base.seq);
        if let Some(last) = self.entries.drain(..gone).next_back() {
            self.base_steps = last.entry.kind.steps(last.entry.step);
        }
        if self.snapshot.as_ref().is_none_or(|last| last.seq <= base.seq) {
            self.snapshot = Some(base.clone());
        }
        self.base = Some(base);
        Ok(())
    }
}

impl Kept {
    /// A run with the runs of its subgraphs, theirs, and so on.
    fn family(&self, run: RunId) -> Vec<RunId> {
        let mut family = vec![run];
        let mut next = 0;
        while let Some(&parent) = family.get(next) {
            let children = self.runs.values().filter(|run| run.new.parent == Some(parent));
            let children: Vec<RunId> = children.map(|run| run.new.run).collect();
            family.extend(children.into_iter().filter(|child| *child != parent));
            next += 1;
        }
        family
    }

    fn forget(&mut self, run: RunId) -> Result<(), CheckpointErrorKind> {
        if !self.runs.contains_key(&run) {
            return Err(CheckpointErrorKind::NotFound);
        }
        let family = self.family(run);
        family.iter().filter_map(|run| self.runs.get(run)).try_for_each(Run::loose)?;
        self.runs.retain(|run, _| !family.contains(run));
        self.effects.retain(|effect| !family.contains(&effect.run));
        Ok(())
    }
}

impl Checkpointer for MemoryCheckpointer {
    fn create(&self, claim: &Claim, run: NewRun) -> Receipt<()> {
        let (id, now) = (run.run, self.now_ms());
        let mut kept = self.kept();
        if kept.runs.contains_key(&id) {
            return Receipt::now(Err(CheckpointError { run: id, kind: CheckpointErrorKind::Exists }));
        }
        let run = Run {
            definitions: vec![run.definition.clone()],
            status: RunStatus::Running,
            error: None,
            seal: None,
            held: None,
            created_ms: now,
            updated_ms: now,
            base_steps: run.forked_from.map_or(0, |(_, step)| step),
            base: run.snapshot.clone(),
            claim: Some(claim.clone()),
            entries: Vec::new(),
            snapshot: run.snapshot.clone(),
            answers: Vec::new(),
            new: run,
        };
        kept.runs.insert(id, run);
        Receipt::now(Ok(()))
    }

    fn claim(&self, claim: &Claim) -> Receipt<()> {
        let now = self.now_ms();
        Receipt::now(self.with(claim.run, |run| {
            if run.is_live() {
                return Err(CheckpointErrorKind::Held("this process".to_owned()));
            }
            run.claim = Some(claim.clone());
            run.updated_ms = now;
            if run.status != RunStatus::Done {
                run.status = RunStatus::Running;
                run.error = None;
            }
            Ok(())
        }))
    }

    fn append(&self, claim: &Claim, batch: Batch) -> Receipt<()> {
        let now = self.now_ms();
        Receipt::now(self.with(claim.run, |run| {
            if run.claim.as_ref() != Some(claim) {
                return Err(CheckpointErrorKind::Lost);
            }
            if batch.first_seq != run.next_seq() {
                return Err(CheckpointErrorKind::Storage("entries out of order".to_owned()));
            }
            let numbered = (batch.first_seq..).zip(batch.entries);
            run.entries.extend(numbered.map(|(seq, entry)| StoredEntry { seq, entry }));
            if batch.snapshot.is_some() {
                run.snapshot = batch.snapshot;
            }
            if let Some(definition) = batch.definition {
                run.definitions.retain(|known| *known != definition);
                run.definitions.push(definition);
                run.updated_ms = now;
            }
            if let Some(Finish { status, error, seal }) = batch.finish {
                run.status = status;
                run.error = error;
                run.seal = seal;
                run.updated_ms = now;
                run.claim = None;
            }
            Ok(())
        }))
    }

    fn release(&self, claim: &Claim) {
        if let Some(run) = self.kept().runs.get_mut(&claim.run)
            && run.claim.as_ref() == Some(claim)
        {
            run.claim = None;
        }
    }

    fn load(&self, run: RunId) -> BoxFuture<'_, Result<RunRecord, CheckpointError>> {
        let record = self.with(run, |run| {
            let first = run.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
            Ok(RunRecord {
                summary: run.summary(),
                definition: run.definition().clone(),
                input: run.new.input.clone(),
                durability: run.new.durability,
                snapshot: run.snapshot.clone(),
                entries: run.entries.iter().filter(|stored| stored.seq >= first).cloned().collect(),
                answers: run.answers.clone(),
                seal: run.seal.clone(),
            })
        });
        ready(record).boxed()
    }

    fn history(&self, run: RunId) -> BoxFuture<'_, Result<History, CheckpointError>> {
        let history = self.with(run, |run| {
            Ok(History { first_seq: run.first_seq(), base: run.base.clone(), entries: run.entries.clone() })
        });
        ready(history).boxed()
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, CheckpointError>> {
        let kept = self.kept();
        let mut all: Vec<RunSummary> =
            kept.runs.values().map(Run::summary).filter(|run| filter.admits(run)).collect();
        all.sort_by_key(|run| std::cmp::Reverse((run.created_ms, run.run)));
        all.truncate(filter.limit.unwrap_or(usize::MAX));
        ready(Ok(all)).boxed()
    }

    fn definition(&self, run: RunId, hash: &str) -> BoxFuture<'_, Result<Definition, CheckpointError>> {
        let found = self.with(run, |run| {
            let found = run.definitions.iter().rev().find(|known| known.hash == hash);
            found.cloned().ok_or_else(|| CheckpointErrorKind::no_definition(hash))
        });
        ready(found).boxed()
    }

    fn answer(&self, run: RunId, answer: GateAnswer) -> Receipt<()> {
        let now = self.now_ms();
        Receipt::now(self.with(run, |run| {
            if let Some(first) = run.answers.iter().find(|first| first.gate == answer.gate) {
                return Err(CheckpointErrorKind::Answered(first.by.clone()));
            }
            run.answers.push(answer);
            run.updated_ms = now;
            Ok(())
        }))
    }

    fn answers(&self, run: RunId) -> BoxFuture<'_, Result<Vec<GateAnswer>, CheckpointError>> {
        ready(self.with(run, |run| Ok(run.answers.clone()))).boxed()
    }

    fn record_effect(&self, effect: EffectRecord) -> Receipt<()> {
        let (run, mut kept) = (effect.run, self.kept());
        if !kept.runs.contains_key(&run) {
            return Receipt::now(Err(CheckpointError { run, kind: CheckpointErrorKind::NotFound }));
        }
        match kept.effects.iter_mut().find(|known| known.key == effect.key) {
            Some(known) if known.result.is_none() => known.result = effect.result,
            Some(_) => {}
            None => kept.effects.push(effect),
        }
        Receipt::now(Ok(()))
    }

    fn effect(&self, _: RunId, key: Uuid) -> BoxFuture<'_, Result<Option<EffectRecord>, CheckpointError>> {
        ready(Ok(self.kept().effects.iter().find(|known| known.key == key).cloned())).boxed()
    }

    fn effects(&self, run: RunId) -> BoxFuture<'_, Result<Vec<EffectRecord>, CheckpointError>> {
        let kept = self.kept();
        let found = if kept.runs.contains_key(&run) {
            Ok(kept.effects.iter().filter(|known| known.run == run).cloned().collect())
        } else {
            Err(CheckpointError { run, kind: CheckpointErrorKind::NotFound })
        };
        ready(found).boxed()
    }

    fn cache(&self, _: RunId, key: Digest, body: String, until_ms: i64) -> Receipt<()> {
        let now = self.now_ms();
        let cache = &mut self.kept().cache;
        cache.retain(|_, (_, until)| *until > now);
        cache.insert(key, (body, until_ms));
        Receipt::now(Ok(()))
    }

    fn cached(
        &self,
        _: RunId,
        key: Digest,
        now_ms: i64,
    ) -> BoxFuture<'_, Result<Option<String>, CheckpointError>> {
        let kept = self.kept();
        let found = kept.cache.get(&key).filter(|(_, until)| *until > now_ms);
        ready(Ok(found.map(|(body, _)| body.clone()))).boxed()
    }

    fn hold(&self, run: RunId, reason: Option<String>) -> Receipt<()> {
        Receipt::now(self.with(run, |run| {
            run.held = reason;
            Ok(())
        }))
    }

    fn prune(&self, run: RunId, what: Prune) -> Receipt<()> {
        Receipt::now(match what {
            Prune::Before(base) => self.with(run, |run| run.prune(base)),
            Prune::Whole => self.kept().forget(run).map_err(|kind| CheckpointError { run, kind }),
        })
    }
}

impl EntryKind {
    /// How many supersteps are finished when the last entry is of this kind and of that superstep.
    pub const fn steps(self, step: u32) -> u32 {
        match self {
            Self::Step => step.saturating_add(1),
            Self::Task | Self::Failed | Self::Edit | Self::Upgrade | Self::Finally => step,
        }
    }
}

impl RunFilter {
    /// Whether a run passes, apart from the limit.
    pub fn admits(&self, run: &RunSummary) -> bool {
        self.graph.as_ref().is_none_or(|graph| *graph == run.graph)
            && self.status.is_none_or(|status| status == run.status)
            && (!self.abandoned || (run.status == RunStatus::Running && !run.live))
            && (self.children || run.parent.is_none())
    }
}

impl CheckpointErrorKind {
    /// A run that is marked as one to keep whole.
    pub(crate) fn marked(reason: &str) -> Self {
        Self::Held(format!("a mark to keep it: {reason}"))
    }

    /// A snapshot that a log cannot be cut at.
    pub(crate) fn outside(seq: u32) -> Self {
        Self::Storage(format!("a snapshot before entry {seq} is outside of the log that is kept"))
    }

    /// A definition that a run was never executed with.
    pub(crate) fn no_definition(hash: &str) -> Self {
        Self::Unreadable(format!("the run has no definition `{hash}`"))
    }
}

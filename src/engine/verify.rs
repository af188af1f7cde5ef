//! Proof that a run's log is whole, and what retention takes away of it.

use serde::Serialize;

use super::chain::{self, hex};
use super::log::sealed;
use super::{
    CheckpointError, CheckpointErrorKind, Digest, EffectRecord, Engine, EntryKind, History, Keys, Prune,
    RunFilter, RunStatus, RunSummary, gates,
};
use crate::graph::Retention;
use crate::id::RunId;

/// What [`Engine::verify`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Entries looked at.
    pub entries: u32,
    /// Number of the first entry that is there; what came before was pruned.
    pub first_seq: u32,
    /// What is wrong, in the order of the log; nothing where the log is whole.
    pub faults: Vec<String>,
    /// The last hash, hex.
    pub head: String,
    /// Fingerprint of the key that sealed the log when it last came to rest; none where it was not sealed.
    pub sealed_by: Option<String>,
    /// Answers to gates whose signatures hold.
    pub signed_answers: u32,
    /// Entries from before there were hashes: nothing can be proved of them.
    pub unhashed: u32,
    /// The same for the runs inside this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inner: Vec<(RunId, Self)>,
}

impl Verification {
    /// Whether the log is proved to be what was written, with those of the runs inside it.
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.unhashed == 0 && self.inner.iter().all(|(_, inner)| inner.is_whole())
    }
}

impl Engine {
    /// Goes through a run's log and proves that nothing was changed, taken out or put in since it was written: each
    /// entry's hash covers the one before, the seal covers the last one, answers carry signatures.
    ///
    /// # Errors
    /// Where the run is not stored, or cannot be read at all; what is wrong with it is part of the answer.
    pub async fn verify(&self, run: RunId) -> Result<Verification, CheckpointError> {
        let store = self.store(run)?;
        let record = store.load(run).await?;
        let History { first_seq, base, entries } = store.history(run).await?;
        let mut faults = Vec::new();
        let mut head: Digest = match &base {
            // A fork begins with a snapshot of its own; a pruned log goes on from one.
            Some(base) if first_seq == 0 => {
                let genesis = chain::genesis(run, &record.definition.hash, &record.input, Some(base));
                if genesis != base.chain {
                    faults.push("where the run begins is not what it was when it was forked".to_owned());
                }
                base.chain
            }
            Some(base) => base.chain,
            None => {
                let first = entries.iter().find(|stored| stored.entry.kind == EntryKind::Upgrade);
                let hash = match first {
                    // The definition that it began with.
                    Some(upgrade) => {
                        old_hash(&upgrade.entry.body).unwrap_or_else(|| record.definition.hash.clone())
                    }
                    None => record.definition.hash.clone(),
                };
                chain::genesis(run, &hash, &record.input, None)
            }
        };
        let (mut hashed, mut unhashed, mut next_seq) = (0_u32, 0_u32, first_seq);
        for stored in &entries {
            if stored.seq != next_seq {
                faults.push(format!("entry {next_seq} is missing: the next one is {}", stored.seq));
            }
            next_seq = stored.seq.saturating_add(1);
            // Entries of before there were hashes stand at the beginning, and nowhere else.
            if stored.entry.hash == [0; 32] && (hashed == 0) {
                unhashed += 1;
                head = [0; 32];
                continue;
            }
            hashed += 1;
            if chain::link(&head, &stored.entry) != stored.entry.hash {
                faults.push(format!(
                    "entry {} (step {}, {}) is not what was written, or one before it is gone",
                    stored.seq,
                    stored.entry.step,
                    stored.entry.node.as_deref().unwrap_or("superstep")
                ));
            }
            head = stored.entry.hash;
        }
        // A snapshot is named by the entry that follows it, or else by the seal.
        let mut unnamed = None;
        for snapshot in record.snapshot.iter().chain(base.iter().filter(|_| first_seq > 0)) {
            let digest = chain::digest(&snapshot.body);
            match entries.iter().find(|stored| stored.seq == snapshot.seq) {
                // One of before there were hashes.
                _ if snapshot.chain == [0; 32] => {}
                Some(next) if !chain::names_snapshot(&next.entry.body, &digest) => {
                    faults
                        .push(format!("the snapshot before entry {} is not what was written", snapshot.seq));
                }
                Some(_) => {}
                None if snapshot.seq == next_seq && snapshot.chain == head => unnamed = Some(digest),
                None => faults.push("the last snapshot builds on another log".to_owned()),
            }
        }
        let mut sealed_by = None;
        // A seal is made when a run comes to rest; of one that is under way it is an old one.
        let at_rest = record.summary.status != RunStatus::Running;
        match &record.seal {
            Some(_) if !at_rest => {}
            Some(seal) => match Keys::verify(sealed(run, &head, unnamed.as_ref()).as_bytes(), seal) {
                Ok(signer) => {
                    if self.keys().is_some_and(|keys| keys.public() != signer) {
                        faults.push(format!(
                            "the log is sealed with a key that is not ours, {}",
                            signer.fingerprint()
                        ));
                    }
                    sealed_by = Some(signer.fingerprint());
                }
                Err(_) => faults.push("the seal does not fit the log's end".to_owned()),
            },
            None if self.keys().is_some() && unhashed == 0 && at_rest => {
                faults.push("the run is at rest, and its log is not sealed".to_owned());
            }
            None => {}
        }
        let mut signed_answers = 0;
        for answer in &record.answers {
            match &answer.signature {
                Some(signature) => match Keys::verify(gates::signed(run, answer).as_bytes(), signature) {
                    Ok(_) => signed_answers += 1,
                    Err(_) => {
                        faults.push(format!("the answer to gate {} is not what was signed", answer.gate));
                    }
                },
                None if self.keys().is_some() => {
                    faults.push(format!("the answer to gate {} is not signed", answer.gate));
                }
                None => {}
            }
        }
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let head = hex(&head);
        let mut inner = Vec::new();
        let children = RunFilter { children: true, ..RunFilter::default() };
        for child in store.list(children).await? {
            if child.parent == Some(run) {
                inner.push((child.run, Box::pin(self.verify(child.run)).await?));
            }
        }
        Ok(Verification {
            entries: count,
            first_seq,
            faults,
            head,
            sealed_by,
            signed_answers,
            unhashed,
            inner,
        })
    }

    /// Marks a run as one that must be kept whole, or takes the mark away.
    ///
    /// # Errors
    /// Where the run is not stored, or the store fails.
    pub async fn hold(&self, run: RunId, reason: Option<String>) -> Result<(), CheckpointError> {
        self.store(run)?.hold(run, reason).await
    }

    /// What a run did to the world outside, as its ledger says, in the order in which it was begun.
    ///
    /// # Errors
    /// Where the run is not stored, or the store fails.
    pub async fn effects(&self, run: RunId) -> Result<Vec<EffectRecord>, CheckpointError> {
        self.store(run)?.effects(run).await
    }

    /// Applies a retention policy to the runs of a graph; gives the runs that lost their history, and those that went.
    /// With `dry` nothing is changed. Runs that are live or held are left alone; those that wait, failed or were stopped
    /// are never deleted, and stay resumable from their last snapshot.
    ///
    /// # Errors
    /// Where the store fails; what was pruned before stays pruned.
    pub async fn retain(
        &self,
        graph: &str,
        policy: Retention,
        dry: bool,
    ) -> Result<Retained, CheckpointError> {
        let mut retained = Retained::default();
        let Some(store) = self.checkpointer() else { return Ok(retained) };
        let filter = RunFilter { graph: Some(graph.to_owned()), ..RunFilter::default() };
        let now_ms = self.clock().now().as_millisecond();
        for (place, run) in store.list(filter).await?.into_iter().enumerate() {
            if run.live || run.held.is_some() || run.status == RunStatus::Running {
                continue;
            }
            let age_ms = u128::try_from(now_ms.saturating_sub(run.updated_ms)).unwrap_or(0);
            if run.status == RunStatus::Done && policy.max_age.is_some_and(|most| age_ms > most.as_millis()) {
                if !dry && !self.pruned(run.run, Prune::Whole).await? {
                    continue;
                }
                retained.deleted.push(run);
            } else if policy
                .keep_last
                .is_some_and(|keep| place >= usize::try_from(keep).unwrap_or(usize::MAX))
            {
                let History { first_seq, entries, .. } = store.history(run.run).await?;
                let Some(snapshot) = store.load(run.run).await?.snapshot else { continue };
                if snapshot.seq <= first_seq || entries.is_empty() {
                    continue;
                }
                if !dry && !self.pruned(run.run, Prune::Before(snapshot)).await? {
                    continue;
                }
                retained.shortened.push(run);
            }
        }
        Ok(retained)
    }

    /// Prunes a run; whether it was free to be pruned.
    async fn pruned(&self, run: RunId, what: Prune) -> Result<bool, CheckpointError> {
        match self.store(run)?.prune(run, what).await {
            Ok(()) => Ok(true),
            Err(CheckpointError {
                kind: CheckpointErrorKind::Held(_) | CheckpointErrorKind::NotFound,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What retention took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Runs whose history before their last snapshot went.
    pub shortened: Vec<RunSummary>,
    /// Runs that went as a whole.
    pub deleted: Vec<RunSummary>,
}

fn old_hash(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body.get("from")?.get("hash")?.as_str()?.to_owned())
}

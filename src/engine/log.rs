//! The writing end of a run's log: numbers, times and chains its entries, and says when a snapshot is due.

use std::sync::Arc;

use super::chain::{self, hex};
use super::{
    Batch, Checkpointer, Claim, Definition, Digest, Entry, EntryKind, Finish, Keys, Receipt, RunRecord,
    RunSummary, Snapshot,
};
use crate::clock::SharedClock;
use crate::graph::Durability;
use crate::id::RunId;

/// Deltas lighter than this never call for a snapshot.
const LEAST_WEIGHT: usize = 16 * 1024;

/// What an entry weighs beside its body.
const ENTRY_WEIGHT: usize = 64;

/// The writing end of a run's log. Gives its claim up when dropped.
#[derive(Debug)]
pub(crate) struct RunLog {
    store: Arc<dyn Checkpointer>,
    claim: Claim,
    clock: SharedClock,
    keys: Option<Arc<Keys>>,
    durability: Durability,
    next_seq: u32,
    /// Hash of the last entry.
    head: Digest,
    /// Hash of a snapshot that no entry has named yet: the next one does, so that the chain covers it.
    unnamed: Option<Digest>,
    /// Entries that wait for the end of the run, with durability `exit`.
    held_back: Vec<Entry>,
    /// Weight of the entries after the last snapshot.
    weight: usize,
    snapshot_weight: usize,
}

impl RunLog {
    /// A log that begins at `head`.
    pub(crate) fn new(
        store: Arc<dyn Checkpointer>,
        claim: Claim,
        durability: Durability,
        head: Digest,
        clock: SharedClock,
        keys: Option<Arc<Keys>>,
    ) -> Self {
        Self {
            store,
            claim,
            clock,
            keys,
            durability,
            next_seq: 0,
            head,
            unnamed: None,
            held_back: Vec::new(),
            weight: 0,
            snapshot_weight: 0,
        }
    }

    /// Goes on where a stored log ends.
    ///
    /// # Errors
    /// The number of an entry that is not what was written.
    pub(crate) fn go_on(&mut self, record: &RunRecord) -> Result<(), u32> {
        let begin = || {
            let (run, definition) = (record.summary.run, &record.definition.hash);
            (0, chain::genesis(run, definition, &record.input, None))
        };
        let (first, chain) =
            record.snapshot.as_ref().map_or_else(begin, |snapshot| (snapshot.seq, snapshot.chain));
        self.next_seq = record.entries.last().map_or(first, |last| last.seq.saturating_add(1));
        self.head = chain;
        for stored in &record.entries {
            // Entries of before there were hashes prove nothing.
            if stored.entry.hash != [0; 32] && chain::link(&self.head, &stored.entry) != stored.entry.hash {
                return Err(stored.seq);
            }
            self.head = stored.entry.hash;
        }
        let unnamed = record.snapshot.as_ref().filter(|_| record.entries.is_empty());
        self.unnamed = unnamed.map(|snapshot| chain::digest(&snapshot.body));
        self.weight = record.entries.iter().map(|stored| weight(&stored.entry)).sum();
        self.snapshot_weight = record.snapshot.as_ref().map_or(0, |snapshot| snapshot.body.len());
        self.durability = record.durability;
        Ok(())
    }

    pub(crate) const fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Hash of the last entry.
    pub(crate) const fn head(&self) -> &Digest {
        &self.head
    }

    /// Hands entries to the store. `snapshot` is asked for the state's JSON when one is due.
    pub(crate) fn submit(
        &mut self,
        entries: Vec<Entry>,
        finish: Option<Finish>,
        snapshot: impl FnOnce() -> Option<String>,
    ) -> Receipt<()> {
        self.write(entries, finish, false, None, snapshot)
    }

    /// As [`RunLog::submit`], with a snapshot now, and what the run executes from here on.
    pub(crate) fn upgrade(&mut self, entry: Entry, definition: Definition, snapshot: String) -> Receipt<()> {
        self.write(vec![entry], None, true, Some(definition), || Some(snapshot))
    }

    /// Stores how the run stands, with the seal that it had: nothing was added to the log.
    pub(crate) fn leave(&mut self, record: &RunRecord) -> Receipt<()> {
        // Where the log ends; whether it is whole does not matter here.
        let _whole = self.go_on(record);
        let RunSummary { status, error, .. } = record.summary.clone();
        let finish = Some(Finish { status, error, seal: record.seal.clone() });
        let (first_seq, durability) = (self.next_seq, self.durability);
        let batch =
            Batch { first_seq, entries: Vec::new(), snapshot: None, finish, definition: None, durability };
        self.store.append(&self.claim, batch)
    }

    fn write(
        &mut self,
        mut entries: Vec<Entry>,
        finish: Option<Finish>,
        now: bool,
        definition: Option<Definition>,
        snapshot: impl FnOnce() -> Option<String>,
    ) -> Receipt<()> {
        if !entries.is_empty() {
            let at_ms = self.clock.now().as_millisecond();
            if let (Some(digest), Some(first)) = (self.unnamed.take(), entries.first_mut()) {
                chain::name_snapshot(&mut first.body, &digest);
            }
            for entry in &mut entries {
                entry.at_ms = at_ms;
                entry.hash = chain::link(&self.head, entry);
                self.head = entry.hash;
                self.weight += weight(entry);
            }
        }
        if self.durability == Durability::Exit && definition.is_none() {
            self.held_back.append(&mut entries);
            if finish.is_none() {
                return Receipt::now(Ok(()));
            }
        }
        if !self.held_back.is_empty() {
            self.held_back.append(&mut entries);
            entries = std::mem::take(&mut self.held_back);
        }
        let first_seq = self.next_seq;
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.next_seq = first_seq.saturating_add(count);
        let due = now || self.weight >= self.snapshot_weight.max(LEAST_WEIGHT);
        let snapshot = if due { snapshot() } else { None }.map(|body| {
            self.weight = 0;
            self.snapshot_weight = body.len();
            self.unnamed = Some(chain::digest(&body));
            Snapshot { seq: self.next_seq, body, chain: self.head }
        });
        let finish = finish.map(|finish| Finish { seal: self.seal(), ..finish });
        let batch = Batch { first_seq, entries, snapshot, finish, definition, durability: self.durability };
        self.store.append(&self.claim, batch)
    }

    /// The signature over the log's end, where there is a key.
    fn seal(&self) -> Option<String> {
        self.keys
            .as_ref()
            .map(|keys| keys.sign(sealed(self.claim.run, &self.head, self.unnamed.as_ref()).as_bytes()))
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        self.claim.end();
        self.store.release(&self.claim);
    }
}

/// What a seal signs.
pub(crate) fn sealed(run: RunId, head: &Digest, snapshot: Option<&Digest>) -> String {
    let snapshot = snapshot.map(|digest| format!(" and snapshot {}", hex(digest))).unwrap_or_default();
    format!("sentrix run {run} ends with {}{snapshot}", hex(head))
}

fn weight(entry: &Entry) -> usize {
    entry.body.len() + ENTRY_WEIGHT
}

/// An entry that the log has not numbered yet.
pub(crate) fn entry(
    kind: EntryKind,
    step: u32,
    node: Option<Arc<str>>,
    item: Option<u32>,
    body: String,
) -> Entry {
    Entry { kind, step, node, item, at_ms: 0, body, hash: [0; 32] }
}

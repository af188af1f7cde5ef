//! What is new in the record, each event once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::event::{Body, LogEvent, Source, agent_id, bodies};
use super::home::{Home, Stamp};
use super::row::{Read, Stored};
use super::snapshot::{Session, Snapshot};
use super::{TranscriptsError, TranscriptsErrorKind};
use crate::clock::SharedClock;

/// How many events are held at once.
const BATCH: u32 = 256;

/// The place of a session's own beginning, before its first event.
const BEGINNING: i64 = -1;

/// Where events are written down.
pub trait Ledger {
    /// Writes one event down. What it returns from has been written.
    ///
    /// # Errors
    /// Whatever kept it from being written; it is handed over again at the next look.
    fn append(&mut self, event: &LogEvent) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// The sources of all events of a session that were ever written down.
    ///
    /// # Errors
    /// Whatever kept them from being read.
    fn written(&mut self, session: &str) -> Result<Vec<Source>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What a look at the record came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Log events that were written down.
    pub events: u64,
    /// Stored events that could not be read; each is a log event that says so.
    pub unreadable: u64,
    /// Sessions in which OpenClaw, or somebody with its rights, has replaced events that were there before.
    pub rewritten: Vec<String>,
}

/// Takes events over from an OpenClaw home, each once. How far it has got is told by what was written down, so a crash
/// loses and doubles nothing.
#[derive(Debug)]
pub struct Importer {
    home: Home,
    scratch: PathBuf,
    clock: SharedClock,
    sessions: BTreeMap<String, Progress>,
    /// How each agent's files were when all of them had been taken over.
    settled: BTreeMap<String, Stamp>,
}

/// How far a session has been taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Whether its beginning has been told.
    begun: bool,
    /// The last event that was written down.
    last: Option<Last>,
    /// As of the last look; none before the first one of this process.
    looked: Option<(i64, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    seq: i64,
    part: u32,
    mark: u64,
}

impl Importer {
    /// An importer of `home` that goes on after `written`: the sources of what was written down before, in the order in
    /// which it was. `scratch` is a folder of its own that it makes, empties and removes.
    pub fn new(
        home: Home,
        scratch: &Path,
        clock: SharedClock,
        written: impl IntoIterator<Item = Source>,
    ) -> Self {
        let mut sessions: BTreeMap<String, Progress> = BTreeMap::new();
        for Source { session, seq, part, mark } in written {
            let progress = sessions.entry(session).or_default();
            if seq == BEGINNING {
                progress.begun = true;
            } else {
                progress.last = Some(Last { seq, part, mark });
            }
        }
        Self { home, scratch: scratch.to_owned(), clock, sessions, settled: BTreeMap::new() }
    }

    /// Whether any agent's files have changed since all of them were taken over: a few looks at each, nothing is read.
    ///
    /// # Errors
    /// Io, where the home cannot be looked into.
    pub fn has_news(&self) -> Result<bool, TranscriptsError> {
        for agent in self.home.agents()? {
            let Some(files) = self.home.files(&agent)? else { continue };
            let stamp = files.stamp().map_err(|error| TranscriptsError::at(&files.path)(error))?;
            if self.settled.get(&agent) != Some(&stamp) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes over what is new, and adds to `pulled` what it came to, also where it fails.
    ///
    /// # Errors
    /// Of the first agent whose record cannot be read, after those that can have been taken over; Ledger at once.
    pub fn pull(&mut self, ledger: &mut dyn Ledger, pulled: &mut Pulled) -> Result<(), TranscriptsError> {
        let mut failed = None;
        for agent in self.home.agents()? {
            match self.agent(&agent, ledger, pulled) {
                Ok(()) => {}
                Err(error) if matches!(error.kind, TranscriptsErrorKind::Ledger(_)) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn agent(
        &mut self,
        agent: &str,
        ledger: &mut dyn Ledger,
        pulled: &mut Pulled,
    ) -> Result<(), TranscriptsError> {
        if let Some(files) = self.home.files(agent)? {
            let stamp = files.stamp().map_err(|error| TranscriptsError::at(&files.path)(error))?;
            if self.settled.get(agent) == Some(&stamp) {
                return Ok(());
            }
        }
        let Some((snapshot, stamp)) = Snapshot::take(&self.home, agent, &self.scratch, &self.clock)? else {
            return Ok(());
        };
        for session in snapshot.sessions()? {
            self.session(&snapshot, agent, &session, ledger, pulled)?;
        }
        self.settled.insert(agent.to_owned(), stamp);
        Ok(())
    }

    fn session(
        &mut self,
        snapshot: &Snapshot,
        agent: &str,
        session: &Session,
        ledger: &mut dyn Ledger,
        pulled: &mut Pulled,
    ) -> Result<(), TranscriptsError> {
        let looked = (session.last, session.generation.clone());
        let progress = self.sessions.entry(session.id.clone()).or_default();
        if progress.looked.as_ref() == Some(&looked) {
            return Ok(());
        }
        let mut taking = Taking { agent, session, progress, ledger, pulled, home: self.home.path() };
        if !taking.progress.begun {
            taking.beginning(snapshot)?;
        }
        let mut known = BTreeSet::new();
        let mut from = 0;
        if let Some(last) = taking.progress.last {
            let there = snapshot.events(&session.id, last.seq, 1)?;
            let there = there.first().filter(|stored| stored.seq == last.seq);
            if there.is_some_and(|stored| stored.read().mark == last.mark) {
                from = last.seq;
            } else {
                // Something else stands there now: what is not known yet is found among all of them.
                taking.pulled.rewritten.push(session.key.clone().unwrap_or_else(|| session.id.clone()));
                taking.progress.last = None;
                let written = taking.ledger.written(&session.id).map_err(|error| taking.failed(error))?;
                known = written.into_iter().map(|source| (source.mark, source.part)).collect();
            }
        }
        loop {
            let batch = snapshot.events(&session.id, from, BATCH)?;
            let Some(end) = batch.last() else { break };
            from = end.seq.saturating_add(1);
            for stored in &batch {
                taking.event(stored, &known)?;
            }
            if batch.len() < BATCH as usize || end.seq == i64::MAX {
                break;
            }
        }
        taking.progress.looked = Some(looked);
        Ok(())
    }
}

/// One session while it is taken over.
struct Taking<'a> {
    agent: &'a str,
    session: &'a Session,
    progress: &'a mut Progress,
    ledger: &'a mut dyn Ledger,
    pulled: &'a mut Pulled,
    home: &'a Path,
}

impl Taking<'_> {
    fn failed(&self, error: Box<dyn std::error::Error + Send + Sync>) -> TranscriptsError {
        TranscriptsError { path: self.home.to_owned(), kind: TranscriptsErrorKind::Ledger(error) }
    }

    fn append(&mut self, event: &LogEvent) -> Result<(), TranscriptsError> {
        match self.ledger.append(event) {
            Ok(()) => {
                self.pulled.events += 1;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Tells which session started this one, if one did.
    fn beginning(&mut self, snapshot: &Snapshot) -> Result<(), TranscriptsError> {
        if let (Some(spawn), Some(child)) = (snapshot.spawn(&self.session.id)?, &self.session.key) {
            // The parent's run is that of the last thing stored before the child was there: the call that made it.
            let before = snapshot.before(&spawn.parent, spawn.created_at)?;
            let run_id = before.iter().find_map(|stored| stored.read().entry.run_id);
            let first = snapshot.events(&self.session.id, 0, 16)?;
            let first: Vec<Read> = first.iter().map(Stored::read).collect();
            let task = first.iter().find_map(|read| read.entry.task());
            let event = LogEvent {
                ts: spawn.created_at,
                body: Body::SubagentSpawned {
                    child_session_key: child.clone(),
                    parent_session_key: spawn.parent.clone(),
                    child_run_id: first.iter().find_map(|read| read.entry.run_id.clone()).unwrap_or_default(),
                    label: spawn.label,
                    task: task.unwrap_or_default().to_owned(),
                },
                run_id: run_id.unwrap_or_else(|| format!("session:{}", self.session.id)),
                agent_id: agent_id(Some(&spawn.parent), self.agent),
                session_key: Some(spawn.parent),
                src: Source { session: self.session.id.clone(), seq: BEGINNING, part: 0, mark: 0 },
            };
            self.append(&event)?;
        }
        self.progress.begun = true;
        Ok(())
    }

    fn event(&mut self, stored: &Stored, known: &BTreeSet<(u64, u32)>) -> Result<(), TranscriptsError> {
        let Read { entry, mark, unreadable } = stored.read();
        self.pulled.unreadable += u64::from(unreadable);
        let run_id = entry.run_id.unwrap_or_else(|| format!("session:{}", self.session.id));
        for (body, part) in bodies(entry.says).into_iter().zip(0_u32..) {
            let done = self
                .progress
                .last
                .is_some_and(|last| (last.seq, last.mark) == (stored.seq, mark) && part <= last.part);
            if done {
                continue;
            }
            if known.contains(&(mark, part)) {
                self.progress.last = Some(Last { seq: stored.seq, part, mark });
                continue;
            }
            let key = self.session.key.as_deref();
            self.append(&LogEvent {
                ts: stored.created_at,
                body,
                run_id: run_id.clone(),
                session_key: self.session.key.clone(),
                agent_id: agent_id(key, self.agent),
                src: Source { session: self.session.id.clone(), seq: stored.seq, part, mark },
            })?;
            self.progress.last = Some(Last { seq: stored.seq, part, mark });
        }
        Ok(())
    }
}

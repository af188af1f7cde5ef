//! Which session and agent an event belongs to, where only another event of its run says so.

use std::collections::HashMap;
use std::path::Path;

use super::LogsError;
use super::frame::{FrameError, Position, Window, cut};
use super::lines::{EventLine, Lines};
use super::list::{list, open};
use crate::openclaw::session::agent_of;

/// Most runs that are remembered; what a newer run would say is then not known.
const MAX_RUNS: usize = 1 << 20;

/// Sessions and agents by run, and labels by session.
#[derive(Debug, Default)]
pub struct Sessions {
    runs: HashMap<String, Who>,
    labels: HashMap<String, String>,
}

#[derive(Clone, Debug, Default)]
struct Who {
    session_key: Option<String>,
    agent_id: Option<String>,
}

impl Sessions {
    /// Reads a directory through.
    ///
    /// # Errors
    /// Io or Gone, when the directory cannot be read. Files that cannot be read are left out.
    pub fn read(dir: &Path) -> Result<Self, LogsError> {
        let mut sessions = Self::default();
        let mut window = Window::default();
        let mut lines = Lines::default();
        for file in list(dir)? {
            let Ok((handle, _)) = open(dir, &file.name) else { continue };
            let mut learn = |line: EventLine| sessions.learn(&line);
            let mut visitor = lines.of(&file.name, &mut learn);
            match cut(&handle, &mut Position::at(0), file.size, &mut window, &mut visitor) {
                Ok(_) | Err(FrameError::Io(_)) => {}
                Err(FrameError::Logs(error)) => return Err(error),
            }
        }
        Ok(sessions)
    }

    /// Remembers what an event says of its run.
    pub fn learn(&mut self, line: &EventLine) {
        if self.runs.len() >= MAX_RUNS || self.labels.len() >= MAX_RUNS {
            return;
        }
        if line.session_key.is_some() || line.agent_id.is_some() {
            let who = self.runs.entry(line.run_id.clone()).or_default();
            who.session_key = line.session_key.clone().or_else(|| who.session_key.take());
            who.agent_id = line.agent_id.clone().or_else(|| who.agent_id.take());
        }
        if let Some((child, label)) = line.child.as_ref().filter(|(_, label)| !label.is_empty()) {
            self.labels.insert(child.clone(), label.clone());
        }
    }

    /// The session key of an event.
    pub fn session_key<'a>(&'a self, line: &'a EventLine) -> Option<&'a str> {
        let run = || self.runs.get(&line.run_id)?.session_key.as_deref();
        line.session_key.as_deref().or_else(run)
    }

    /// The agent of an event.
    pub fn agent_id<'a>(&'a self, line: &'a EventLine) -> Option<&'a str> {
        let run = || self.runs.get(&line.run_id)?.agent_id.as_deref();
        line.agent_id.as_deref().or_else(run).or_else(|| agent_of(self.session_key(line)?))
    }

    /// The label of an event's session, if it is a subagent's that has one.
    pub fn label<'a>(&'a self, line: &'a EventLine) -> Option<&'a str> {
        self.labels.get(self.session_key(line)?).map(String::as_str)
    }

    /// Whether an event is of the one so named: an agent with its subagents, a session key, or a subagent's label.
    pub fn is_of(&self, line: &EventLine, name: &str) -> bool {
        [self.agent_id(line), self.session_key(line), self.label(line)].contains(&Some(name))
    }
}

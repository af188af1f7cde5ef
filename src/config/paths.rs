//! Where things are.

use std::path::{Path, PathBuf};

use super::env;

/// The files of one log directory. Names that users of the earlier tool know stay as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The log directory: log files are read here, never written by patrol.
    pub logs: PathBuf,
    /// Where the stores and exports are: the log directory itself unless told otherwise.
    pub data: PathBuf,
}

impl Paths {
    /// Stores beside the logs.
    pub fn beside(logs: impl Into<PathBuf>) -> Self {
        let logs = logs.into();
        Self { data: logs.clone(), logs }
    }

    /// Stores in a folder of their own.
    pub fn apart(logs: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self { logs: logs.into(), data: data.into() }
    }

    /// What patrol has read, reviewed and flagged.
    pub fn patrol_state(&self) -> PathBuf {
        self.data.join("patrol_state.db")
    }

    /// The escalation queue and the case files.
    pub fn police(&self) -> PathBuf {
        self.data.join("police.db")
    }

    /// Calls of models, what they cost, and kept answers.
    pub fn usage(&self) -> PathBuf {
        self.data.join("usage.db")
    }

    /// Runs of graphs.
    pub fn checkpoints(&self) -> PathBuf {
        self.data.join("checkpoints.db")
    }

    /// The secret that seals and signs what the stores hold, unless `SENTRIX_STATE_KEY` does.
    pub fn state_key(&self) -> PathBuf {
        self.data.join(".sentrix.key")
    }

    /// Export of all flags, one a line.
    pub fn flags_export(&self) -> PathBuf {
        self.data.join("patrol_flags.jsonl")
    }

    /// Exported case files.
    pub fn reports(&self) -> PathBuf {
        self.data.join("reports")
    }
}

/// The folder of all sandboxes, one folder a sandbox: `$XDG_STATE_HOME/sentrix`, else `~/.local/state/sentrix`. Nothing
/// where neither that variable nor `HOME` is set.
pub fn sandbox_root() -> Option<PathBuf> {
    let absolute = |variable| env::get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute(env::XDG_STATE_HOME).or_else(|| absolute(env::HOME).map(|home| home.join(".local/state")));
    state.map(|state| state.join("sentrix"))
}

/// A folder of that name in the working folder, if there is one.
pub fn folder_beside_config(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    path.is_dir().then(|| path.to_owned())
}

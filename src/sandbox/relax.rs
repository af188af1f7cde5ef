//! Guards of a sandbox, and the options that lift them one by one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::SandboxError;

/// Something that holds an agent back. Each row of the self-test names the one that refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// Exec is denied by OpenClaw's configuration.
    ExecDenied,
    /// File tools stay in the workspace.
    WorkspaceOnly,
    /// Only listed tools exist.
    ToolAllowList,
    /// OpenClaw's configuration is bound read-only.
    ConfigReadOnly,
    /// The gateway wants its token.
    GatewayToken,
    /// The gateway listens on loopback alone.
    GatewayLoopback,
    /// The container has no network.
    NoNetwork,
    /// The door decides what leaves.
    Door,
    /// The filter of system calls.
    Seccomp,
    /// No capabilities.
    Capabilities,
    /// No new privileges.
    NoNewPrivileges,
    /// Processes are no root.
    User,
    /// The root file system is read-only.
    ReadOnlyRoot,
    /// What can be written cannot be run from, or is bounded, in memory file systems.
    Tmpfs,
    /// Number of processes.
    Pids,
    /// Size of a file.
    FileSize,
    /// Masked and read-only parts of /proc and /sys, no devices.
    Kernel,
    /// Nothing of the host is bound in but what the sandbox needs.
    Mounts,
}

impl Guard {
    /// What it is, for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ExecDenied => "exec denied in OpenClaw's configuration",
            Self::WorkspaceOnly => "file tools stay in the workspace",
            Self::ToolAllowList => "tool allow list",
            Self::ConfigReadOnly => "read-only configuration",
            Self::GatewayToken => "gateway token",
            Self::GatewayLoopback => "gateway on loopback",
            Self::NoNetwork => "no network",
            Self::Door => "the door",
            Self::Seccomp => "system call filter",
            Self::Capabilities => "no capabilities",
            Self::NoNewPrivileges => "no new privileges",
            Self::User => "unprivileged user",
            Self::ReadOnlyRoot => "read-only root",
            Self::Tmpfs => "bounded, noexec tmpfs",
            Self::Pids => "process limit",
            Self::FileSize => "file size limit",
            Self::Kernel => "masked /proc and /sys",
            Self::Mounts => "nothing of the host bound in",
        }
    }
}

/// An option that lifts a guard. Each is asked for by name, is said loudly and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relax {
    /// Agents may run commands in the container.
    Exec,
    /// File tools may leave the workspace.
    Workspace,
    /// All tools are offered.
    Tools,
    /// Less memory than OpenClaw needs may be given.
    Memory,
    /// Docker's own system call filter takes the place of ours.
    Seccomp,
    /// The root file system can be written.
    ReadOnly,
    /// The container gets a network with a way to everywhere.
    EgressOpen,
    /// No limit on the size of a file.
    FileSize,
}

impl Relax {
    /// All of them, in the order in which they are documented.
    pub const ALL: &'static [Self] = &[
        Self::Exec,
        Self::Workspace,
        Self::Tools,
        Self::Memory,
        Self::Seccomp,
        Self::ReadOnly,
        Self::EgressOpen,
        Self::FileSize,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Workspace => "workspace",
            Self::Tools => "tools",
            Self::Memory => "memory",
            Self::Seccomp => "seccomp",
            Self::ReadOnly => "read-only",
            Self::EgressOpen => "egress-open",
            Self::FileSize => "file-size",
        }
    }

    /// What is then possible, as a sentence.
    pub const fn warning(self) -> &'static str {
        match self {
            Self::Exec => {
                "agents may run any command inside the container, and read every key that OpenClaw reads"
            }
            Self::Workspace => {
                "agents may read and write every file of the container that OpenClaw can, its keys and its state among them"
            }
            Self::Tools => "agents are offered every tool that OpenClaw has, not only the listed ones",
            Self::Memory => {
                "with less than 2g OpenClaw is ended by the kernel sooner or later, in the middle of a turn"
            }
            Self::Seccomp => {
                "system calls are filtered by Docker's profile, which lets ptrace and more through"
            }
            Self::ReadOnly => {
                "agents that can run commands may change OpenClaw itself until the container is removed"
            }
            Self::EgressOpen => {
                "agents reach every host of the internet and of your network, this machine's ports included; nothing is checked or refused"
            }
            Self::FileSize => "one file may fill the disk of this machine",
        }
    }

    /// The guards that it lifts.
    pub const fn lifts(self) -> &'static [Guard] {
        match self {
            Self::Exec => &[Guard::ExecDenied],
            Self::Workspace => &[Guard::WorkspaceOnly],
            Self::Tools => &[Guard::ToolAllowList],
            Self::Memory => &[],
            Self::Seccomp => &[Guard::Seccomp],
            Self::ReadOnly => &[Guard::ReadOnlyRoot],
            Self::EgressOpen => &[Guard::NoNetwork, Guard::Door],
            Self::FileSize => &[Guard::FileSize],
        }
    }
}

impl FromStr for Relax {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|relax| relax.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|relax| relax.name()).collect();
            SandboxError::options(
                format!("relax `{}`", crate::text::bounded(&crate::text::plain(text), 40)),
                format!("it is one of {}", names.join(", ")),
            )
        })
    }
}

impl fmt::Display for Relax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The relaxations of one sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relaxations(BTreeSet<Relax>);

impl Relaxations {
    /// Whether this one was asked for.
    pub fn has(&self, relax: Relax) -> bool {
        self.0.contains(&relax)
    }

    /// Adds one.
    pub fn add(&mut self, relax: Relax) {
        self.0.insert(relax);
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Relax> + '_ {
        self.0.iter().copied()
    }

    /// The relaxation that lifts this guard.
    pub fn lifting(&self, guard: Guard) -> Option<Relax> {
        self.iter().find(|relax| relax.lifts().contains(&guard))
    }

    /// Names, with commas.
    pub fn names(&self) -> String {
        self.iter().map(Relax::name).collect::<Vec<_>>().join(",")
    }

    /// One loud sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.iter().map(|relax| format!("relaxed {relax}: {}", relax.warning())).collect()
    }
}

impl FromIterator<Relax> for Relaxations {
    fn from_iter<I: IntoIterator<Item = Relax>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_that_reads_back_and_a_sentence() {
        for relax in Relax::ALL {
            assert_eq!(relax.name().parse::<Relax>().unwrap(), *relax);
            assert!(relax.warning().len() > 20);
        }
        assert!("all".parse::<Relax>().unwrap_err().to_string().contains("egress-open"));
        let some: Relaxations = [Relax::Seccomp, Relax::Exec].into_iter().collect();
        assert_eq!(some.names(), "exec,seccomp");
        assert_eq!(some.lifting(Guard::Seccomp), Some(Relax::Seccomp));
        assert_eq!(some.lifting(Guard::Pids), None);
    }
}

//! Commands in a running container, and what its processes use.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::{StatsOptionsBuilder, TopOptionsBuilder};
use futures_util::StreamExt;
use serde::Serialize;
use tokio::io::AsyncWriteExt;

use super::engine::Engine;
use super::error::{SandboxError, SandboxErrorKind};
use super::name::SandboxName;
use crate::text;

/// A command to run in a container.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Program and arguments; no shell reads them.
    pub command: Vec<String>,
    /// Variables, as `KEY=value`. Everybody at this machine's Docker can read them: never a key.
    pub env: Vec<String>,
    /// Bytes for its standard input, which is closed then.
    pub input: Vec<u8>,
    /// How long it may take.
    pub limit: Duration,
    /// Most bytes of each of the two outputs that are kept.
    pub most_bytes: usize,
}

impl Exec {
    /// This command, for half a minute, with at most 1 MiB of output.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            input: Vec::new(),
            limit: Duration::from_secs(30),
            most_bytes: 1 << 20,
        }
    }
}

/// What a command in a container gave. Hostile: show it through `text::plain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i64,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Whether something was cut off.
    pub cut: bool,
}

/// A process of a container, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Id on the host.
    pub pid: String,
    /// Id of its parent on the host.
    pub parent: String,
    /// Its command line, safe for a terminal.
    pub command: String,
}

/// What a container uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Bytes of memory, without what the kernel could take back at once.
    pub memory_bytes: u64,
    /// Most bytes of memory.
    pub memory_limit_bytes: u64,
    /// Processor time since its start, in nanoseconds.
    pub cpu_ns: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Most processes and threads.
    pub pids_limit: u64,
}

impl Engine {
    /// Runs a command in a sandbox's container, as its user.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`]; [`SandboxErrorKind::Timeout`], and the command may go on then;
    /// [`SandboxErrorKind::Engine`].
    pub async fn exec(&self, name: &SandboxName, exec: &Exec) -> Result<ExecOutput, SandboxError> {
        let container = self.ours(name).await?;
        let program = exec.command.first().cloned().unwrap_or_default();
        let doing = format!("run {} in {container}", text::plain(&program));
        let failed = |error: bollard::errors::Error| SandboxError::docker(doing.clone(), &error);
        let options = CreateExecOptions {
            attach_stdin: Some(!exec.input.is_empty()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(exec.command.clone()),
            env: Some(exec.env.clone()),
            ..CreateExecOptions::default()
        };
        let id = self.docker.create_exec(&container, options).await.map_err(failed)?.id;
        let run = async {
            let mut got = ExecOutput::default();
            let started = self.docker.start_exec(&id, None::<StartExecOptions>).await.map_err(failed)?;
            if let StartExecResults::Attached { mut output, mut input } = started {
                if !exec.input.is_empty() {
                    let io = |error: std::io::Error| SandboxError {
                        doing: doing.clone(),
                        kind: SandboxErrorKind::Io(error),
                    };
                    input.write_all(&exec.input).await.map_err(io)?;
                    input.shutdown().await.map_err(io)?;
                }
                while let Some(part) = output.next().await {
                    let part = part.map_err(failed)?;
                    let to = match &part {
                        bollard::container::LogOutput::StdErr { .. } => &mut got.stderr,
                        _ => &mut got.stdout,
                    };
                    let room = exec.most_bytes.saturating_sub(to.len());
                    let bytes = part.as_ref();
                    got.cut |= bytes.len() > room;
                    to.extend(bytes.iter().take(room));
                }
            }
            got.code = self.docker.inspect_exec(&id).await.map_err(failed)?.exit_code.unwrap_or_default();
            Ok(got)
        };
        tokio::time::timeout(exec.limit, run)
            .await
            .map_err(|_| SandboxError { doing: doing.clone(), kind: SandboxErrorKind::Timeout(exec.limit) })?
    }

    /// The processes of a sandbox, as the host sees them; nothing is run in the container for it.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`] where it does not run.
    pub async fn top(&self, name: &SandboxName) -> Result<Vec<Process>, SandboxError> {
        let container = self.ours(name).await?;
        // `args` goes last: everything after the second column belongs to it.
        let options = TopOptionsBuilder::default().ps_args("-o pid,ppid,args").build();
        let top =
            self.docker.top_processes(&container, Some(options)).await.map_err(|error| {
                SandboxError::docker(format!("list the processes of {container}"), &error)
            })?;
        let rows = top.processes.unwrap_or_default();
        Ok(rows
            .into_iter()
            .map(|row| {
                let mut cells = row.into_iter();
                let mut next = || cells.next().unwrap_or_default();
                let (pid, parent) = (next(), next());
                let command = cells.collect::<Vec<_>>().join(" ");
                Process { pid, parent, command: text::bounded(&text::plain(&command), 300) }
            })
            .collect())
    }

    /// What a sandbox uses now.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`], [`SandboxErrorKind::Engine`].
    pub async fn stats(&self, name: &SandboxName) -> Result<Stats, SandboxError> {
        let container = self.ours(name).await?;
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let mut stats = self.docker.stats(&container, Some(options));
        let stats = tokio::time::timeout(super::engine::ANSWER, stats.next()).await.ok().flatten();
        match stats {
            Some(Ok(stats)) => Ok(stats_of(&stats)),
            Some(Err(error)) => Err(SandboxError::docker(format!("measure {container}"), &error)),
            None => Err(SandboxError {
                doing: format!("measure {container}"),
                kind: SandboxErrorKind::Engine(String::from("no answer")),
            }),
        }
    }
}

fn stats_of(stats: &ContainerStatsResponse) -> Stats {
    let memory = stats.memory_stats.clone().unwrap_or_default();
    let detail = memory.stats.unwrap_or_default();
    // Source: docker/cli `calculateMemUsageUnixNoCache`: version 1 calls it `total_inactive_file`, 2 `inactive_file`.
    let idle =
        detail.get("total_inactive_file").or_else(|| detail.get("inactive_file")).copied().unwrap_or(0);
    let pids = stats.pids_stats.clone().unwrap_or_default();
    let cpu = stats.cpu_stats.clone().unwrap_or_default().cpu_usage.unwrap_or_default();
    Stats {
        memory_bytes: memory.usage.unwrap_or(0).saturating_sub(idle),
        memory_limit_bytes: memory.limit.unwrap_or(0),
        cpu_ns: cpu.total_usage.unwrap_or(0),
        pids: pids.current.unwrap_or(0),
        pids_limit: pids.limit.unwrap_or(0),
    }
}

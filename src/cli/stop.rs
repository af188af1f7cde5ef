//! `sentrix stop`: sandboxes of ours, and only ours, found by their label.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::args::Format;
use super::control;
use super::failure::{self, Failure, Outcome};
use super::printer::{self, dim};
use super::sandbox::{engine, failure, parsed, root};
use crate::sandbox::{Layout, SandboxName};

/// `sentrix stop`
#[derive(Clone, Debug, Args)]
pub struct StopArgs {
    /// The sandbox [default: the one that there is]
    #[arg(long, value_name = "NAME", conflicts_with = "all", value_parser = parsed::<SandboxName>)]
    pub name: Option<SandboxName>,
    /// All sandboxes of this machine's Docker
    #[arg(long)]
    pub all: bool,
    /// Remove OpenClaw's state and the agents' workspace too
    #[arg(long)]
    pub purge: bool,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How long a `sentrix run` may take to end in order: OpenClaw's grace, and a last look at what was recorded.
const PATIENCE: Duration = Duration::from_secs(90);

/// Has the `sentrix run` of a sandbox end it, where there is one: it saves what was recorded. Gives whether it
/// has ended.
async fn end_run(layout: &Layout) -> bool {
    let asked = control::ask(&layout.control_socket(), &json!({ "cmd": "stop" })).await;
    if asked.is_err() {
        return false;
    }
    let lock = layout.folder().join("run.lock");
    let ended = async {
        // The lock goes with the process, however it ends.
        while std::fs::File::open(&lock).is_ok_and(|file| file.try_lock().is_err()) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let has_ended = tokio::time::timeout(PATIENCE, ended).await.is_ok();
    if !has_ended {
        printer::note("its `sentrix run` does not end; the container is stopped all the same");
    }
    has_ended
}

/// Runs the verb.
pub(super) async fn run(args: &StopArgs) -> Outcome {
    let engine = engine().await?;
    let failed = |error: crate::sandbox::SandboxError| failure(&error);
    let there = engine.list(None).await.map_err(failed)?;
    let names: Vec<SandboxName> = match &args.name {
        Some(name) => vec![name.clone()],
        None if args.all || there.len() < 2 => there.iter().map(|found| found.name.clone()).collect(),
        None => {
            let names: Vec<&str> = there.iter().map(|found| found.name.as_str()).collect();
            return Err(Failure::Usage(format!(
                "there are several sandboxes: {}; say which with --name, or --all",
                names.join(", ")
            )));
        }
    };
    let root = root()?;
    let mut reaped = Vec::new();
    for name in names {
        let label = there.iter().find(|found| found.name == name).and_then(|found| found.layout.clone());
        // A container that is gone leaves its folder behind, and that may still be wanted away.
        let layout = label.unwrap_or_else(|| Layout::new(&root, &name));
        let is_there = there.iter().any(|found| found.name == name);
        if is_there && args.format == Format::Table {
            printer::note(dim(format!("stopping {name}")));
        }
        let by_run = end_run(&layout).await;
        let gone = engine.reap(&name, Some(&layout), args.purge).await.map_err(failed)?;
        if by_run || !gone.is_empty() || gone.folder.is_some() {
            reaped.push((name, gone, by_run));
        }
    }
    if args.format == Format::Json {
        let all: Vec<_> = reaped
            .iter()
            .map(|(name, gone, _)| {
                json!({ "name": name.as_str(), "containers": gone.containers, "networks": gone.networks,
                    "volumes": gone.volumes, "folder": gone.folder.as_ref().map(|(path, _)| path),
                    "purged": gone.folder.as_ref().is_some_and(|(_, all)| *all) })
            })
            .collect();
        printer::json(&json!({ "version": 1, "stopped": all }))?;
        return Ok(failure::DONE);
    }
    if reaped.is_empty() {
        match &args.name {
            Some(name) => printer::data(format_args!("There is no sandbox {name}."))?,
            None => printer::data("There is no sandbox.")?,
        }
    }
    for (name, gone, by_run) in &reaped {
        let mut what = Vec::new();
        what.extend(gone.containers.iter().map(|id| format!("container {id}")));
        what.extend(gone.networks.iter().map(|id| format!("network {id}")));
        what.extend(gone.volumes.iter().map(|id| format!("volume {id}")));
        let folder = match &gone.folder {
            Some((path, true)) => format!("{} is gone", path.display()),
            Some((path, false)) => {
                format!("OpenClaw's state stays in {} (--purge removes it)", path.join("home").display())
            }
            None => String::from("it had no folder"),
        };
        if *by_run {
            printer::data(format_args!(
                "stopped {name}: its `sentrix run` saved the record and took everything away; {folder}"
            ))?;
            continue;
        }
        if what.is_empty() {
            what.push(String::from("nothing at Docker"));
        }
        printer::data(format_args!("stopped {name}: removed {}; {folder}", what.join(", ")))?;
    }
    Ok(failure::DONE)
}

//! `sentrix pause` and `sentrix resume`: freeze a sandbox with the evidence copied, let it go on.

use clap::Args;
use serde_json::json;

use super::args::Format;
use super::failure::{self, Failure, Outcome};
use super::printer::{self, size, thousands};
use super::sandbox::{engine, failure, parsed};
use crate::clock;
use crate::sandbox::{Engine, Found, SandboxName, State, evidence};

/// `sentrix pause` and `sentrix resume`
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    /// The sandbox [default: the one that there is]
    #[arg(long, value_name = "NAME", value_parser = parsed::<SandboxName>)]
    pub name: Option<SandboxName>,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// The sandbox that is meant.
async fn meant(engine: &Engine, name: Option<&SandboxName>) -> Result<Found, Failure> {
    let mut there = engine.list(name).await.map_err(|error| failure(&error))?;
    match (there.len(), there.pop()) {
        (1, Some(found)) => Ok(found),
        (0, _) => Err(Failure::Usage(match name {
            Some(name) => format!("there is no sandbox {name}"),
            None => String::from("there is no sandbox"),
        })),
        _ => Err(Failure::Usage(String::from("there are several sandboxes; say which with --name"))),
    }
}

/// Freezes a sandbox. The evidence is copied in the same moment: nothing in it can change any more, and nothing is said to
/// be frozen before the copy is on disk.
pub(super) async fn pause(args: &PauseArgs) -> Outcome {
    let engine = engine().await?;
    let found = meant(&engine, args.name.as_ref()).await?;
    if found.state != State::Paused {
        engine.pause(&found.name).await.map_err(|error| failure(&error))?;
    }
    let copied = match found.layout.clone() {
        Some(layout) => {
            let stamp = clock::system().now().strftime("%Y%m%dT%H%M%S").to_string();
            let copied = tokio::task::spawn_blocking(move || evidence::copy(&layout, &stamp)).await;
            let copied = copied.map_err(|error| Failure::Bug(anyhow::Error::new(error)))?;
            Some(copied.map_err(|error| failure(&error))?)
        }
        None => None,
    };
    match args.format {
        Format::Json => printer::json(&json!({
            "version": 1, "name": found.name.as_str(), "state": "paused",
            "evidence": copied.as_ref().map(|copied| json!({ "file": copied.file, "files": copied.files,
                "bytes": copied.bytes, "left_out": copied.left_out })),
        }))?,
        Format::Table => {
            printer::data(format_args!("{} is frozen; `sentrix resume` lets it go on", found.name))?;
            if let Some(copied) = &copied {
                printer::data(format_args!(
                    "evidence: {} ({} files, {})",
                    copied.file.display(),
                    thousands(copied.files),
                    size(copied.bytes)
                ))?;
                for line in &copied.left_out {
                    printer::note(format_args!("left out of the evidence: {line}"));
                }
            }
        }
    }
    Ok(failure::DONE)
}

/// Lets a frozen sandbox go on.
pub(super) async fn resume(args: &PauseArgs) -> Outcome {
    let engine = engine().await?;
    let found = meant(&engine, args.name.as_ref()).await?;
    if found.state == State::Paused {
        engine.resume(&found.name).await.map_err(|error| failure(&error))?;
    }
    match args.format {
        Format::Json => printer::json(
            &json!({ "version": 1, "name": found.name.as_str(), "state": "running", "was": found.state.word() }),
        )?,
        Format::Table if found.state == State::Paused => {
            printer::data(format_args!("{} goes on", found.name))?;
        }
        Format::Table => {
            printer::data(format_args!("{} was not frozen: {}", found.name, found.state.word()))?;
        }
    }
    Ok(failure::DONE)
}

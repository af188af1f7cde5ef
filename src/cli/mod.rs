//! The command line: one file a verb, each a function from arguments and `printer` to an exit code.
//!
//! **Invariant:** no policy: what is decided here is what is printed.

pub mod args;
pub mod build;
mod change;
pub mod chat;
pub mod config;
mod control;
mod demo;
mod diff;
pub mod doctor;
mod dry;
pub mod egress;
mod events;
mod explain;
mod failure;
mod gates;
mod graph;
pub mod graph_args;
mod history;
mod import;
mod keep;
mod line;
mod logs;
mod look;
mod models;
mod patrol;
pub mod pause;
mod police;
mod police_show;
mod printer;
mod progress;
mod run;
mod runs;
mod sandbox;
mod setup;
mod spending;
mod start;
mod status;
pub mod stop;
mod usage;
mod world;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use failure::{Failure, Outcome};

use crate::config::env;
use crate::supervise::Shutdown;
use crate::text;

/// Parses the command line, runs the command and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data, usage faults are not; clap knows which goes where.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { failure::DONE });
        }
    };
    telemetry(cli.global.verbose);
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    let global = cli.global;
    match cli.command {
        Command::Completions { shell } => completions(shell),
        Command::Explain { code, format } => explain::run(code.as_deref(), format),
        Command::Models(command) => on_runtime(async |_| models::run(&global, command).await),
        Command::Usage(args) => usage::run(&global, &args),
        Command::Config(command) => config::run(&global, command),
        Command::Chat(args) => chat::run(&global, &args),
        Command::Logs(args) => on_runtime(async |shutdown| logs::run(&global, &args, &shutdown).await),
        Command::Egress(command) => on_runtime(async |_| egress::run(&global, command).await),
        Command::Demo(args) => on_runtime(async |shutdown| demo::run(&global, &args, &shutdown).await),
        Command::Setup(args) => on_runtime(async |shutdown| setup::run(&args, &shutdown).await),
        Command::Run(args) => {
            run::hide_values()?;
            on_runtime(async |shutdown| run::run(&global, &args, &shutdown).await)
        }
        Command::Patrol(args) => on_runtime(async |shutdown| patrol::run(&global, args, &shutdown).await),
        Command::Police(args) => on_runtime(async |shutdown| police::run(&global, args, &shutdown).await),
        Command::Build(args) => on_runtime(async |_| build::run(&global, &args).await),
        Command::Doctor(args) => on_runtime(async |_| doctor::run(&global, &args).await),
        Command::Stop(args) => on_runtime(async |_| stop::run(&args).await),
        Command::Pause(args) => on_runtime(async |_| pause::pause(&args).await),
        Command::Resume(args) => on_runtime(async |_| pause::resume(&args).await),
        Command::Graph(command) => on_runtime(async |shutdown| graph::run(&global, command, &shutdown).await),
    }
}

/// Runs a command that waits, under signals: the first drains, the second leaves at once.
fn on_runtime(command: impl AsyncFnOnce(Shutdown) -> Outcome) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::Unavailable(anyhow::Error::new(error).context("cannot start the runtime"))
    })?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.listen();
        let aborted = shutdown.abort().clone();
        tokio::select! {
            outcome = command(shutdown) => outcome,
            () = aborted.cancelled() => Err(Failure::Interrupted),
        }
    });
    if matches!(outcome, Err(Failure::Interrupted | Failure::Left(_))) {
        // At once: a detector in the middle of a large turn, or a question, is not waited for.
        runtime.shutdown_background();
    }
    outcome
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sentrix", &mut script);
    printer::data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(failure::DONE)
}

/// Logs to standard error: warnings, or what `SENTRIX_LOG` or `-v` ask for.
fn telemetry(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "sentrix=info,warn",
        _ => "sentrix=debug,info",
    };
    let filter = env::get(env::SENTRIX_LOG).and_then(|filter| {
        EnvFilter::try_new(&filter)
            .inspect_err(|error| {
                printer::note(format_args!(
                    "SENTRIX_LOG is `{}`, which is no filter: {error}",
                    text::plain(&filter)
                ));
            })
            .ok()
    });
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    let colour = env::get(env::NO_COLOR).is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(verbose > 1)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_waits_for_nobody() {
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let outcome = on_runtime(async |shutdown| {
            drop(tokio::task::spawn_blocking(move || held.recv_timeout(std::time::Duration::from_secs(20))));
            shutdown.abort().cancel();
            std::future::pending().await
        });
        assert!(matches!(outcome, Err(Failure::Interrupted)));
        assert!(go_on.send(()).is_ok(), "the work was waited for");
    }
}

//! `sentrix demo`: the patrol over a copy of the recorded examples.

use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::args::{DemoArgs, Format, Global, PatrolArgs, Where};
use super::failure::{Failure, Outcome};
use super::patrol;
use super::printer;
use super::world::World;
use crate::store::export;
use crate::supervise::Shutdown;

static EXAMPLES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/tests/examples/agent_logs");

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &DemoArgs, shutdown: &Shutdown) -> Outcome {
    copy(&args.dir)?;
    printer::note(format_args!(
        "Patrolling {}: recordings of a real OpenClaw, and planted incidents (made-up secrets).\n",
        args.dir.display()
    ));
    let patrol_args = PatrolArgs {
        command: None,
        once: true,
        watch: false,
        interval: 5,
        // Beside the copy, wherever the stores of real logs are.
        place: Where { log_dir: Some(args.dir.clone()), data_dir: Some(args.dir.clone()) },
        escalation: None,
        no_police: false,
        openclaw_home: None,
        retry_unreviewed: false,
        fail_on: None,
        format: Format::Table,
    };
    let world = World::open_to_work(global, &patrol_args.place)?;
    patrol::once(&world, global, &patrol_args, shutdown).await
}

/// Copies the examples that are not there yet.
fn copy(to: &Path) -> Result<(), Failure> {
    let fault = |error: std::io::Error| {
        Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot write to {}", to.display())))
    };
    export::private_dir(to).map_err(super::world::store_failure)?;
    for file in EXAMPLES.files() {
        let path = to.join(file.path());
        if !path.exists() {
            fs::write(path, file.contents()).map_err(fault)?;
        }
    }
    Ok(())
}

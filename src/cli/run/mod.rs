//! `sentrix run`: OpenClaw in its sandbox, everything it does on record, patrol and police beside it.
//!
//! Start at [`run`]; `sandboxed.rs` is the way from an engine to a watched sandbox and back, `observe.rs` the one without a
//! sandbox, `watch.rs` what both do meanwhile.

mod args;
mod beat;
mod boot;
mod control;
mod hidden;
mod image;
mod login;
mod observe;
mod openclaw;
mod plan;
mod port;
mod proof;
mod sandboxed;
mod snapshot;
mod tend;
mod view;
mod watch;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

pub(super) use args::RunArgs;
pub(super) use hidden::hide_values;

use beat::Beat;
use view::View;

use super::args::{Global, SetupArgs};
use super::failure::{Failure, Outcome};
use super::look::Wanted;
use super::setup;
use super::world::{self, DirLock, World, station_failure, store_failure};
use crate::clock::{self, SharedClock};
use crate::police::Station;
use crate::store::export;
use crate::supervise::Shutdown;

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &RunArgs, shutdown: &Shutdown) -> Outcome {
    match &args.gateway {
        Some(url) => observe::run(global, args, url, shutdown).await,
        None => sandboxed::run(global, args, shutdown).await,
    }
}

/// What every run begins with: configuration, stores, view.
struct Started {
    world: World,
    clock: SharedClock,
    view: View,
    wanted: Option<Wanted>,
    rotate: Duration,
    reasoning: bool,
    /// Held while the patrol works.
    _lock: Option<DirLock>,
}

impl Started {
    /// Reads the configuration, makes the log directory, opens the stores.
    ///
    /// # Errors
    /// As the configuration's and the stores'.
    fn new(global: &Global, args: &RunArgs, _shutdown: &Shutdown) -> Result<Self, Failure> {
        let config = world::config(global, Some(&args.place))?;
        let paths = config.paths();
        export::private_dir(&paths.logs).map_err(store_failure)?;
        let patrols = args.wants_patrol().unwrap_or(config.patrol().enabled);
        let world = if patrols {
            World::open_to_work(global, &args.place)?
        } else {
            World::open(global, &args.place)?
        };
        let lock = if patrols { Some(DirLock::take(&world.paths)?) } else { None };
        let clock = clock::system();
        Ok(Self {
            view: View::new(global, Arc::clone(&clock)),
            clock,
            wanted: patrols.then_some(Wanted { watch: true, police: true, escalation: args.escalation }),
            rotate: Duration::from_secs(u64::from(args.rotate_mins) * 60),
            reasoning: args.wants_reasoning().unwrap_or(config.agent().capture_reasoning),
            world,
            _lock: lock,
        })
    }

    fn station(&self) -> Result<Station<'_>, Failure> {
        Station::open(Arc::clone(&self.world.police), &self.world.host).map_err(station_failure)
    }

    fn beat<'a>(&'a self, station: &'a Station<'a>) -> Option<Beat<'a>> {
        let wanted = self.wanted?;
        Some(Beat { world: &self.world, station, wanted })
    }
}

/// Where nothing says which model OpenClaw uses, a person at a terminal is asked; else it is said what to give.
///
/// # Errors
/// [`Failure::Usage`] where nobody can be asked, or nothing came of it.
async fn require_model(global: &Global, args: &RunArgs, shutdown: &Shutdown) -> Result<(), Failure> {
    let has_model =
        || -> Result<bool, Failure> { Ok(world::config(global, Some(&args.place))?.agent().model.is_some()) };
    if has_model()? {
        return Ok(());
    }
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        super::printer::note("OpenClaw has no model yet. A few questions first:");
        setup::run(&SetupArgs::default(), shutdown).await?;
        if has_model()? {
            return Ok(());
        }
    }
    Err(Failure::Usage(String::from(
        "OpenClaw has no model: give a provider's key, as `sentrix run -e ANTHROPIC_API_KEY` (taken from your environment), or run `sentrix setup`",
    )))
}

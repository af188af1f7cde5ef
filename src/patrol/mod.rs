//! The patrol: reads what is new in a log directory, has it scanned by a swarm of agents, and raises flags.
//!
//! The flow is `graphs/patrol.toml`; this room holds the node functions it names. Start reading at
//! [`tasks`], which is the list of them.
//!
//! **Invariant:** knows nothing of the police. Nothing that could not be reviewed counts as clean: a turn whose
//! scan could not be made or read stays pending, and after the last attempt is `unreviewed`.

mod adjudicate;
mod assign;
mod lens;
mod masked;
mod record;
mod review;
mod scan;
mod sweep;
pub mod tasks;
mod types;
mod votes;

pub use assign::agent_count;
pub use record::import_flags;
pub use sweep::{PatrolDeps, PatrolSettings, cores};
pub use types::{
    Assignment, Contest, LENSES, Lens, PendingTurn, ReadReport, StreamScan, SweepRequest, SweepSummary,
    TurnVerdict,
};

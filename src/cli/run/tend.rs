//! The container while it runs: what it does, what runs in it, and starting it again where it ended.

use std::collections::HashSet;
use std::time::Duration;

use super::proof::Proof;
use super::snapshot::Board;
use super::view::View;
use crate::capture::{self, Capture, Incident, IncidentKind};
use crate::clock::SharedClock;
use crate::door::Door;
use crate::sandbox::{Engine, Layout, Process, State};

/// Time between two looks at the container.
const LOOK: Duration = Duration::from_secs(2);
/// Looks between two lists of its processes.
const LIST_EVERY: u32 = 3;
/// Looks between two measurements.
const MEASURE_EVERY: u32 = 8;
/// Longest wait before it is started again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// Starts without a quiet time between them, after which it is given up.
const MOST_STARTS: u32 = 8;
/// A time without an end that counts as quiet.
const QUIET: Duration = Duration::from_mins(5);
/// What OpenClaw exits with where its configuration is refused. Source: 2026.9.6.
const REFUSED: i64 = 78;

/// What is tended.
#[derive(Debug)]
pub(super) struct Tended<'a> {
    pub(super) engine: &'a Engine,
    pub(super) layout: &'a Layout,
    pub(super) capture: &'a Capture,
    pub(super) door: Option<&'a Door>,
    pub(super) proof: Option<&'a Proof>,
    pub(super) clock: &'a SharedClock,
}

impl Tended<'_> {
    /// Looks after the container for as long as there is one; gives the reason why there is none any more.
    pub(super) async fn watch(&self, board: &Board, view: &View) -> String {
        let name = self.layout.name();
        let began = self.clock.monotonic();
        let (mut round, mut starts, mut ended_at, mut restarts) = (0_u32, 0_u32, Duration::ZERO, 0_u64);
        let mut engine_is_gone = false;
        let mut known = HashSet::new();
        loop {
            match self.engine.status(name).await {
                Err(error) if error.is_not_found() => {
                    return String::from("the container was removed by somebody else");
                }
                Err(error) => {
                    if !engine_is_gone {
                        view.say(&format!("the Docker engine cannot be asked, and is asked again: {error}"));
                    }
                    engine_is_gone = true;
                    board.update(|now| {
                        now.sandbox.state = String::from("unknown: the engine does not answer");
                    });
                }
                Ok(status) => {
                    if engine_is_gone {
                        view.say("the Docker engine answers again");
                    }
                    engine_is_gone = false;
                    let up = self.clock.monotonic().saturating_sub(began);
                    let by_engine = u64::try_from(status.restarts).unwrap_or(0);
                    board.update(|now| {
                        now.sandbox.state = String::from(status.state.word());
                        now.sandbox.up_s = up.as_secs();
                        now.sandbox.restarts = restarts + by_engine;
                    });
                    if status.state == State::Exited {
                        if status.exit_code == REFUSED {
                            return String::from("OpenClaw refused its configuration");
                        }
                        let now = self.clock.monotonic();
                        if now.saturating_sub(ended_at) > QUIET {
                            starts = 0;
                        }
                        ended_at = now;
                        starts += 1;
                        if starts > MOST_STARTS {
                            return format!("the container ended {MOST_STARTS} times in a row");
                        }
                        let wait = Duration::from_secs(1 << starts.min(6)).min(LONGEST_WAIT);
                        view.say(&format!(
                            "the container ended with {}; it is started again in {} s",
                            status.exit_code,
                            wait.as_secs()
                        ));
                        tokio::time::sleep(wait).await;
                        match self.engine.start(name).await {
                            Ok(()) => restarts += 1,
                            Err(error) => view.say(&format!("it cannot be started: {error}")),
                        }
                    } else if status.state == State::Running {
                        self.look_at_door(board);
                        self.look_inside(round, &mut known, board).await;
                    }
                }
            }
            round = round.wrapping_add(1);
            tokio::time::sleep(LOOK).await;
        }
    }

    fn look_at_door(&self, board: &Board) {
        let Some(door) = self.door else { return };
        let counters = door.counters();
        board.update(|now| {
            let shown = now.door.get_or_insert_default();
            shown.allowed = counters.allowed + counters.open;
            let own = self.proof.map_or(0, Proof::refused_at_door);
            shown.denied = counters.denied.saturating_sub(own);
            shown.trouble = counters.rules_fault.or(counters.record_fault);
        });
    }

    async fn look_inside(&self, round: u32, known: &mut HashSet<u32>, board: &Board) {
        let name = self.layout.name();
        if round.is_multiple_of(LIST_EVERY)
            && let Ok(processes) = self.engine.top(name).await
        {
            self.report_unknown(&processes, known).await;
        }
        if round.is_multiple_of(MEASURE_EVERY)
            && let Ok(stats) = self.engine.stats(name).await
        {
            board.update(|now| now.sandbox.memory_bytes = Some(stats.memory_bytes));
        }
    }

    /// A process that does not belong into the sandbox is put on record, once.
    async fn report_unknown(&self, processes: &[Process], told: &mut HashSet<u32>) {
        let number = |text: &str| text.parse().unwrap_or_default();
        let processes: Vec<capture::Process> = processes
            .iter()
            .map(|process| capture::Process {
                pid: number(&process.pid),
                parent: number(&process.parent),
                command: process.command.clone(),
            })
            .collect();
        told.retain(|pid| processes.iter().any(|process| process.pid == *pid));
        for process in capture::unknown(&processes, &[]) {
            if told.insert(process.pid) {
                let text = format!("a process that does not belong into the sandbox: {}", process.command);
                self.capture.report(Incident::new(IncidentKind::UnknownProcess, &text)).await;
            }
        }
    }
}

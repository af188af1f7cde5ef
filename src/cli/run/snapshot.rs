//! The state of a running sandbox at one moment, as it is shown and as the control socket gives it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::case::Severity;
use crate::cli::printer::{bold, count, dim, severity, size, thousands};
use crate::text;

/// Most names of a list that are shown.
const NAMES: usize = 3;

/// One moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Snapshot {
    /// Version of this format.
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) log_dir: String,
    pub(super) sandbox: Sandbox,
    pub(super) capture: Capture,
    /// Agents and subagents that were heard of.
    pub(super) agents: Vec<Agent>,
    /// Nothing where no patrol runs.
    pub(super) patrol: Option<Patrol>,
    /// Nothing where there is no door.
    pub(super) door: Option<Door>,
    /// What models cost the patrol and the police today; nothing where none is asked.
    pub(super) spend: Option<String>,
    /// Seconds until the sandbox is stopped for want of activity.
    pub(super) ends_in_s: Option<u64>,
}

/// The container.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sandbox {
    /// `running`, `paused`, `restarting`, `gone`, or `observed` where it is not ours.
    pub(super) state: String,
    pub(super) up_s: u64,
    pub(super) memory_bytes: Option<u64>,
    pub(super) restarts: u64,
    /// Escapes that were refused, and all that were tried.
    pub(super) self_test: Option<(usize, usize)>,
    pub(super) egress: String,
    /// Guards that were left out.
    pub(super) relaxed: Vec<String>,
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Capture {
    pub(super) seen: u64,
    pub(super) recorded: u64,
    /// Seen and not yet recorded.
    pub(super) waiting: u64,
    pub(super) unreadable: u64,
    pub(super) lost: u64,
    pub(super) lag_ms: u64,
    pub(super) incidents: u64,
    /// Why nothing comes in, where nothing does.
    pub(super) trouble: Option<String>,
}

/// An agent or a subagent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Agent {
    pub(super) key: String,
    pub(super) label: String,
    pub(super) parent: Option<String>,
    pub(super) active: bool,
}

/// Patrol and police.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Patrol {
    pub(super) streams: u64,
    pub(super) reviewed: u64,
    pub(super) pending: u64,
    pub(super) unreviewed: u64,
    pub(super) unreadable: u64,
    /// Flags by severity, the highest first.
    pub(super) flags: Vec<(Severity, u64)>,
    pub(super) cases: u64,
    pub(super) waiting_cases: u64,
    /// Why the last look failed.
    pub(super) trouble: Option<String>,
}

/// Ways out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Door {
    pub(super) allowed: u64,
    pub(super) denied: u64,
    /// Why its rules or its record cannot be used, where they cannot.
    pub(super) trouble: Option<String>,
}

impl Snapshot {
    /// Its lines, as the view shows them.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.sandbox_line(), self.capture_line()];
        if !self.agents.is_empty() {
            lines.push(self.agents_line());
        }
        lines.push(
            self.patrol
                .as_ref()
                .map_or_else(|| row("patrol", "off: nothing is reviewed (--patrol)"), Patrol::line),
        );
        if let Some(door) = &self.door {
            lines.push(door.line());
        }
        if let Some(spend) = &self.spend {
            lines.push(row("spend", &format!("today {spend}")));
        }
        lines.push(dim(match self.ends_in_s {
            Some(seconds) => {
                format!(
                    "stops after {} more without activity; Ctrl+C stops now",
                    span(Duration::from_secs(seconds))
                )
            }
            None => String::from("Ctrl+C stops"),
        }));
        lines
    }

    fn sandbox_line(&self) -> String {
        let sandbox = &self.sandbox;
        let mut parts = vec![sandbox.state.clone()];
        if sandbox.state != "observed" {
            parts.push(span(Duration::from_secs(sandbox.up_s)));
        }
        parts.extend(sandbox.memory_bytes.map(size));
        if sandbox.restarts > 0 {
            parts.push(count(sandbox.restarts, "restart"));
        }
        if let Some((refused, all)) = sandbox.self_test {
            parts.push(format!("{refused} of {all} escapes refused"));
        }
        if !sandbox.relaxed.is_empty() {
            parts.push(bold(format!("RELAXED: {}", sandbox.relaxed.join(", "))));
        }
        row("sandbox", &parts.join(" · "))
    }

    fn capture_line(&self) -> String {
        let capture = &self.capture;
        let mut parts = vec![format!("{} recorded", count(capture.recorded, "event"))];
        if capture.waiting > 0 {
            parts.push(format!("{} waiting", thousands(capture.waiting)));
        }
        if capture.unreadable > 0 {
            parts.push(format!("{} unreadable", thousands(capture.unreadable)));
        }
        parts.push(if capture.lost > 0 {
            bold(format!("{} LOST", thousands(capture.lost)))
        } else {
            String::from("none lost")
        });
        if capture.lag_ms > 2_000 {
            parts.push(format!("{} behind", span(Duration::from_millis(capture.lag_ms))));
        }
        if capture.incidents > 0 {
            parts.push(bold(count(capture.incidents, "incident")));
        }
        if let Some(trouble) = &capture.trouble {
            parts.push(bold(text::bounded(&text::plain(trouble), 120)));
        }
        row("capture", &parts.join(" · "))
    }

    fn agents_line(&self) -> String {
        let active = self.agents.iter().filter(|agent| agent.active).count() as u64;
        let subagents = self.agents.iter().filter(|agent| agent.parent.is_some()).count() as u64;
        let main = self.agents.len() as u64 - subagents;
        let mut parts = vec![count(main, "agent"), count(subagents, "subagent")];
        if active > 0 {
            let working = self.agents.iter().filter(|agent| agent.active).map(|agent| agent.label.as_str());
            parts.push(format!("working: {}", names(working)));
        }
        row("agents", &parts.join(" · "))
    }
}

impl Patrol {
    fn line(&self) -> String {
        let mut parts = vec![format!("{} reviewed", count(self.reviewed, "turn"))];
        if self.pending > 0 {
            parts.push(format!("{} pending", thousands(self.pending)));
        }
        for (number, word) in [(self.unreviewed, "unreviewed"), (self.unreadable, "unreadable")] {
            if number > 0 {
                parts.push(bold(format!("{} {word}", thousands(number))));
            }
        }
        let flags: Vec<String> =
            self.flags.iter().map(|(level, number)| format!("{number} {}", severity(*level))).collect();
        let all: u64 = self.flags.iter().map(|(_, number)| number).sum();
        parts.push(if flags.is_empty() {
            String::from("no flags")
        } else {
            format!("{} ({})", count(all, "flag"), flags.join(", "))
        });
        parts.push(count(self.cases, "case"));
        if self.waiting_cases > 0 {
            parts.push(format!("{} to investigate", thousands(self.waiting_cases)));
        }
        if let Some(trouble) = &self.trouble {
            parts.push(bold(text::bounded(&text::plain(trouble), 120)));
        }
        row("patrol", &parts.join(" · "))
    }
}

impl Door {
    fn line(&self) -> String {
        let mut parts = vec![format!("{} allowed", count(self.allowed, "connection"))];
        if self.denied > 0 {
            parts.push(format!("{} denied (`sentrix egress list`)", thousands(self.denied)));
        }
        if let Some(trouble) = &self.trouble {
            parts.push(bold(text::bounded(&text::plain(trouble), 120)));
        }
        row("door", &parts.join(" · "))
    }
}

/// The snapshot as it changes: whoever learns something writes it here, whoever shows something reads it here.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Snapshot>);

impl Board {
    /// A board that begins so.
    pub(super) fn new(snapshot: Snapshot) -> Self {
        Self(Mutex::new(snapshot))
    }

    /// Writes.
    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads.
    pub(super) fn read(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn row(name: &str, text: &str) -> String {
    format!("{}  {text}", bold(format!("{name:<8}")))
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<String> = all.map(|name| text::bounded(&text::plain(name), 40)).collect();
    let more = all.len().saturating_sub(NAMES);
    let mut shown = all.into_iter().take(NAMES).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text::push(&mut shown, format_args!(" and {more} more"));
    }
    shown
}

/// A span of time, for people.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(snapshot: &Snapshot) -> String {
        anstream::adapter::strip_str(&snapshot.lines().join("\n")).to_string()
    }

    #[test]
    fn a_quiet_sandbox_says_so_in_few_words() {
        let snapshot = Snapshot {
            sandbox: Sandbox {
                state: "running".into(),
                up_s: 130,
                memory_bytes: Some(990_000_000),
                self_test: Some((31, 31)),
                ..Sandbox::default()
            },
            capture: Capture { seen: 82, recorded: 82, ..Capture::default() },
            patrol: Some(Patrol { reviewed: 14, ..Patrol::default() }),
            door: Some(Door { allowed: 14, denied: 2, trouble: None }),
            ends_in_s: Some(3_480),
            ..Snapshot::default()
        };
        insta::assert_snapshot!(plain(&snapshot), @r"
        sandbox   running · 2 min · 990.0 MB · 31 of 31 escapes refused
        capture   82 events recorded · none lost
        patrol    14 turns reviewed · no flags · 0 cases
        door      14 connections allowed · 2 denied (`sentrix egress list`)
        stops after 58 min more without activity; Ctrl+C stops now
        ");
    }

    #[test]
    fn what_is_wrong_is_not_overlooked() {
        let agent = |label: &str, parent: Option<&str>| Agent {
            key: label.into(),
            label: label.into(),
            parent: parent.map(Into::into),
            active: true,
        };
        let snapshot = Snapshot {
            sandbox: Sandbox {
                state: "restarting".into(),
                restarts: 2,
                relaxed: vec!["exec".into()],
                ..Sandbox::default()
            },
            capture: Capture {
                recorded: 5,
                waiting: 3,
                lost: 1,
                lag_ms: 90_000,
                incidents: 1,
                trouble: Some("the disk is full\u{1b}[31m".into()),
                ..Capture::default()
            },
            agents: vec![
                agent("main", None),
                agent("a", Some("main")),
                agent("b", Some("main")),
                agent("c", None),
            ],
            patrol: Some(Patrol {
                pending: 3,
                unreviewed: 1,
                flags: vec![(Severity::High, 1), (Severity::Low, 2)],
                cases: 1,
                ..Patrol::default()
            }),
            ..Snapshot::default()
        };
        let shown = plain(&snapshot);
        for part in
            ["2 restarts", "RELAXED: exec", "1 LOST", "1 min behind", "1 incident", "the disk is full"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(shown.contains("working: main, a, b and 1 more"), "{shown}");
        assert!(shown.contains("3 flags (1 HIGH, 2 LOW) · 1 case"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}

//! Shows a running sandbox: a block that is drawn again where a person looks, lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::snapshot::Snapshot;
use crate::cli::args::Global;
use crate::cli::printer;
use crate::clock::SharedClock;

/// How often the lines are said where no block can be drawn, if they have changed.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Where a running sandbox is shown.
#[derive(Debug)]
pub(super) struct View {
    bar: Option<ProgressBar>,
    clock: SharedClock,
    said: Mutex<Option<(Duration, Vec<String>)>>,
}

impl View {
    /// A block on the terminal, or lines on standard error.
    pub(super) fn new(global: &Global, clock: SharedClock) -> Self {
        let is_live = !global.no_progress && std::io::stderr().is_terminal();
        let bar = is_live.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, clock, said: Mutex::default() }
    }

    /// Whether the block is drawn again and again.
    pub(super) fn is_live(&self) -> bool {
        self.bar.is_some()
    }

    /// What is being done, while there is nothing to show yet. On a terminal it goes away with the next one.
    pub(super) fn doing(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("… {text}")),
            None => printer::note(text),
        }
    }

    /// Something that stays: above the block, or a line.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| printer::note(text)),
            None => printer::note(text),
        }
    }

    /// Runs something that prints on its own.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Shows where things stand.
    pub(super) fn show(&self, snapshot: &Snapshot) {
        if let Some(bar) = &self.bar {
            let width = usize::from(printer::width());
            let lines: Vec<String> = snapshot.lines().iter().map(|line| printer::cut(line, width)).collect();
            bar.set_message(format!("\n{}", lines.join("\n")));
            return;
        }
        // Times run on by themselves: they alone are no news.
        let mut still = snapshot.clone();
        still.ends_in_s = None;
        still.sandbox.up_s = 0;
        still.sandbox.memory_bytes = None;
        still.capture.lag_ms = 0;
        let (now, lines) = (self.clock.monotonic(), still.lines());
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = match &*said {
            None => true,
            Some((at, said)) => *said != lines && now.saturating_sub(*at) >= SAY_EVERY,
        };
        if is_due {
            let shown = snapshot.lines();
            printer::note(shown.join("\n"));
            *said = Some((now, lines));
        }
    }

    /// Takes the block away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

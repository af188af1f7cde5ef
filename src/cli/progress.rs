//! The progress line on standard error: only where a person looks.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Global;
use crate::engine::{Event, EventSink, RunControl, RunEvent, RunOptions, Stream, Streams};
use crate::supervise::Shutdown;

/// One line that says what is being done.
#[derive(Clone, Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A line, or nothing where nobody looks or nobody wants it.
    pub(super) fn new(global: &Global) -> Self {
        if global.no_progress || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// No line.
    pub(super) fn none() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Whether somebody sees it.
    pub(super) fn is_live(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Says what is being done now.
    pub(super) fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Options of a run that this line follows. The first signal stops it at the end of a superstep, the second at once.
    pub(super) fn options(&self, what: &str, shutdown: &Shutdown) -> RunOptions {
        RunOptions {
            control: RunControl::under(shutdown.abort(), shutdown.drain()),
            events: Some(self.follow(what)),
            // States and writes need not be copied for it.
            streams: Streams::of(&[Stream::Tasks]),
            ..RunOptions::default()
        }
    }

    /// Follows a run: its nodes, and how far a fan-out is.
    pub(super) fn follow(&self, what: &str) -> Arc<dyn EventSink> {
        let bar = self.0.clone();
        let what = what.to_owned();
        let done = std::sync::atomic::AtomicU64::new(0);
        Arc::new(move |event: RunEvent| {
            use std::sync::atomic::Ordering::Relaxed;
            match event.event {
                Event::StepStarted { nodes, .. } => {
                    done.store(0, Relaxed);
                    bar.set_message(format!("{what}: {}", nodes.join(", ")));
                }
                Event::TaskFinished { node, item: Some(_), .. } => {
                    let done = done.fetch_add(1, Relaxed) + 1;
                    bar.set_message(format!("{what}: {node}, {done} shares done"));
                }
                Event::TaskRetried { node, error, .. } => {
                    bar.set_message(format!(
                        "{what}: {node} again after: {}",
                        crate::text::bounded(&error, 60)
                    ));
                }
                _ => {}
            }
        })
    }
}

//! Who watches a run: the progress line, and lines of JSON for programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};

use super::args::Global;
use super::failure::Failure;
use super::graph_args::Going;
use super::progress::Progress;
use crate::engine::{EventSink, RunControl, RunEvent, RunOptions, Stream, Streams};
use crate::supervise::Shutdown;

/// Everybody who watches one run.
#[derive(Debug)]
pub(super) struct Watch {
    progress: Progress,
    lines: Option<EventLines>,
}

impl Watch {
    /// The progress line, and the events' file where one is asked for.
    pub(super) fn open(global: &Global, going: &Going) -> Result<Self, Failure> {
        let lines = going.events.as_deref().map(|path| EventLines::open(path, &going.stream)).transpose()?;
        Ok(Self { progress: Progress::new(global), lines })
    }

    /// Whether standard output belongs to the events.
    pub(super) fn takes_stdout(&self) -> bool {
        self.lines.as_ref().is_some_and(|lines| lines.to_stdout)
    }

    /// Options of a run that is watched.
    pub(super) fn options(&self, what: &str, going: &Going, shutdown: &Shutdown) -> RunOptions {
        let progress = self.progress.follow(what);
        let (events, streams): (Arc<dyn EventSink>, Streams) = match &self.lines {
            // The progress line tells of tasks; states and writes need not be copied for it.
            None => (progress, Streams::of(&[Stream::Tasks])),
            Some(lines) => {
                let (sender, wanted) = (lines.sender.clone(), lines.streams);
                let both = move |event: RunEvent| {
                    if wanted.has(event.event.stream()) {
                        // A writer that has gone has told why.
                        drop(sender.send(Some(event.clone())));
                    }
                    progress.publish(event);
                };
                (Arc::new(both), lines.heard)
            }
        };
        RunOptions {
            control: RunControl::under(shutdown.abort(), shutdown.drain()),
            events: Some(events),
            streams,
            budget: going.budget.unwrap_or_default(),
            ..RunOptions::default()
        }
    }

    /// Takes the progress line away and waits until every event is written.
    ///
    /// # Errors
    /// Where the events could not be written.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.progress.clear();
        self.lines.map_or(Ok(()), EventLines::close)
    }
}

/// Writes events as they come, one JSON object a line.
///
/// Its queue has no bound: a run must not wait for whoever reads its events.
#[derive(Debug)]
struct EventLines {
    sender: Sender<Option<RunEvent>>,
    writer: JoinHandle<io::Result<()>>,
    /// What is written.
    streams: Streams,
    /// What the run must publish for that and for the progress line.
    heard: Streams,
    to_stdout: bool,
    name: String,
}

impl EventLines {
    fn open(path: &Path, kinds: &[super::graph_args::StreamKind]) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let fault = |source: io::Error| {
            Failure::Unavailable(anyhow::Error::new(source).context(format!("cannot write events to {name}")))
        };
        let to_stdout = path == Path::new("-");
        let out: Box<dyn Write + Send> = if to_stdout {
            Box::new(io::stdout())
        } else {
            let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
            Box::new(file.map_err(fault)?)
        };
        let mut wanted: Vec<Stream> = kinds.iter().copied().map(Stream::from).collect();
        if wanted.is_empty() {
            wanted = vec![Stream::Updates, Stream::Tasks, Stream::Custom];
        }
        let streams = Streams::of(&wanted);
        wanted.push(Stream::Tasks);
        let (sender, events) = mpsc::channel();
        let writer = thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || write(&events, BufWriter::new(out)))
            .map_err(fault)?;
        Ok(Self { sender, writer, streams, heard: Streams::of(&wanted), to_stdout, name })
    }

    fn close(self) -> Result<(), Failure> {
        drop(self.sender.send(None));
        match self.writer.join() {
            Ok(Ok(())) => Ok(()),
            // Whoever read them has seen enough.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Ok(Err(error)) => Err(Failure::Unavailable(
                anyhow::Error::new(error).context(format!("cannot write events to {}", self.name)),
            )),
            Err(_) => Err(Failure::Bug(anyhow::anyhow!("the writer of events panicked"))),
        }
    }
}

/// Writes until the end is sent; whenever nothing more is there, what was written is flushed.
fn write(events: &Receiver<Option<RunEvent>>, mut out: impl Write) -> io::Result<()> {
    loop {
        let event = match events.try_recv() {
            Ok(event) => event,
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                out.flush()?;
                events.recv().unwrap_or(None)
            }
        };
        let Some(event) = event else { return out.flush() };
        serde_json::to_writer(&mut out, &event)?;
        out.write_all(b"\n")?;
    }
}

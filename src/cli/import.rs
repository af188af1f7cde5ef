//! `--openclaw-home`: what an OpenClaw outside of Sentrix has recorded becomes log files, before these are patrolled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Global, Where};
use super::failure::Failure;
use super::printer::{self, count, dim};
use super::world::{World, paths, store_failure};
use crate::logs::{self, LogWriter};
use crate::store::export;
use crate::text;
use crate::transcripts::{
    Home, Importer, Ledger, LogEvent, Pulled, Source, TranscriptsError, TranscriptsErrorKind,
};

/// A log file takes this long of a watch.
const ROTATE_AFTER: Duration = Duration::from_mins(10);
/// Name of the folder for copies, in the data directory.
const SCRATCH: &str = ".transcripts";

/// Said once at the start, so that nobody takes this for the sandbox.
const LIMITS: &str = "Seen this way, events come after the fact and nothing can be stopped; the record is OpenClaw's own and \
    its agents may be able to change it; OpenClaw masks the secrets that it recognises in it, so a leak of one may not \
    show; model calls that it does not keep there, as its activity recaps, are not seen. `sentrix run` has none of these \
    limits.";

/// Makes the log directory where it is not there yet, once it is known that there is something to read.
pub(super) fn prepare(global: &Global, place: &Where, home: &Path) -> Result<(), Failure> {
    Home::open(home).map_err(|error| failure(&error))?;
    let logs = paths(global, place)?.logs;
    if logs.exists() { Ok(()) } else { export::private_dir(&logs).map_err(store_failure) }
}

/// The way from an OpenClaw home into the log directory.
#[derive(Debug)]
pub(super) struct Import {
    importer: Importer,
    log: Log,
    home: PathBuf,
    /// What the last failed look said: it is not said again and again.
    said: Option<String>,
}

#[derive(Debug)]
struct Log {
    dir: PathBuf,
    writer: LogWriter,
}

impl Ledger for Log {
    fn append(&mut self, event: &LogEvent) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.writer.append(event)?;
        Ok(())
    }

    fn written(&mut self, session: &str) -> Result<Vec<Source>, Box<dyn std::error::Error + Send + Sync>> {
        let mut written = Vec::new();
        logs::sources(&self.dir, &mut |source| {
            written.extend(source.parse::<Source>().ok().filter(|source| source.session == session));
        })?;
        Ok(written)
    }
}

impl Import {
    /// Opens the home, and finds out from the log directory what was taken over before.
    pub(super) fn open(world: &World, home: &Path) -> Result<Self, Failure> {
        let opened = Home::open(home).map_err(|error| failure(&error))?;
        let dir = world.paths.logs.clone();
        let mut written = Vec::new();
        logs::sources(&dir, &mut |source| written.extend(source.parse::<Source>().ok()))
            .map_err(|error| Failure::logs(&error))?;
        let clock = &world.patrol.clock;
        let scratch = world.paths.data.join(SCRATCH);
        let importer = Importer::new(opened, &scratch, clock.clone(), written);
        printer::note(dim(format_args!(
            "reading the sessions of {}, and writing nothing there. {LIMITS}",
            home.display()
        )));
        let writer = LogWriter::new(&dir, ROTATE_AFTER, clock.clone());
        Ok(Self { importer, log: Log { dir, writer }, home: home.to_owned(), said: None })
    }

    /// Takes over what is new. What could be read has been taken over even where this fails.
    pub(super) fn pull(&mut self) -> Result<(), Failure> {
        let mut pulled = Pulled::default();
        let outcome = self.importer.pull(&mut self.log, &mut pulled);
        if pulled.events > 0 {
            self.log.writer.sync().map_err(|error| Failure::logs(&error))?;
            let events = count(pulled.events, "event");
            printer::note(dim(format_args!("{events} taken over from {}", self.home.display())));
        }
        if pulled.unreadable > 0 {
            let events = count(pulled.unreadable, "event");
            printer::note(format_args!(
                "{events} of OpenClaw's record could not be read; the log says so in their place"
            ));
        }
        for session in &pulled.rewritten {
            printer::note(format_args!(
                "events of session {} that were taken over before have been removed or replaced in OpenClaw's record; the log keeps them",
                text::plain(session)
            ));
        }
        let Err(error) = outcome else {
            self.said = None;
            return Ok(());
        };
        let failure = failure(&error);
        let said = text::causes(&error);
        if self.said.as_ref() != Some(&said) {
            if error.may_pass() {
                tracing::debug!(error = said, "a look at the record failed");
            }
            printer::note(format_args!("OpenClaw's record: {}", text::plain(&said)));
            self.said = Some(said);
        }
        Err(failure)
    }

    /// The same, once and for all: the log file ends.
    pub(super) fn pull_all(&mut self) -> Result<(), Failure> {
        let pulled = self.pull();
        self.close()?;
        pulled
    }

    /// Ends the log file.
    pub(super) fn close(&mut self) -> Result<(), Failure> {
        self.log.writer.close().map_err(|error| Failure::logs(&error))
    }
}

fn failure(error: &TranscriptsError) -> Failure {
    let said = text::plain(&text::causes(error));
    match &error.kind {
        TranscriptsErrorKind::NotAHome => Failure::Usage(said),
        TranscriptsErrorKind::Io(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            Failure::Usage(format!("there is no OpenClaw home {}", error.path.display()))
        }
        _ => Failure::Unavailable(anyhow::anyhow!("{said}")),
    }
}

//! The one map from what went wrong to an exit code.

use std::process::ExitCode;

use crate::logs::LogsError;
use crate::text;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(super) enum Failure {
    /// Bad usage or configuration: exit 2. The text is shown as it is.
    Usage(String),
    /// Something that an outside service or the disk did: exit 3.
    Unavailable(anyhow::Error),
    /// Somebody may not do this: exit 4. The text is shown as it is.
    Refused(String),
    /// Interrupted by the user: exit 130.
    Interrupted,
    /// The user left before anything was done: exit 130. The text is shown as it is.
    Left(&'static str),
    /// Anything else: exit 70.
    Bug(anyhow::Error),
}

/// Done.
pub(super) const DONE: u8 = 0;
/// Done, and the answer is bad.
pub(super) const BAD_ANSWER: u8 = 1;
/// Bad usage or configuration.
pub(super) const USAGE: u8 = 2;
/// An outside service is unavailable.
pub(super) const UNAVAILABLE: u8 = 3;
/// Refused, or an approval is missing: a gate waits for its answer.
pub(super) const REFUSED: u8 = 4;
/// A bug of ours.
pub(super) const BUG: u8 = 70;
/// Interrupted.
pub(super) const INTERRUPTED: u8 = 130;

impl Failure {
    /// What the log files, or the system that holds them, did.
    pub(super) fn logs(error: &LogsError) -> Self {
        Self::Unavailable(anyhow::anyhow!("failed to {}", text::causes(error)))
    }

    /// The exit code.
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Refused(_) => REFUSED,
            Self::Interrupted | Self::Left(_) => INTERRUPTED,
            Self::Bug(_) => BUG,
        }
    }

    /// Shows what went wrong, on standard error.
    pub(super) fn report(&self) -> ExitCode {
        let style = anstyle::AnsiColor::Red.on_default().effects(anstyle::Effects::BOLD);
        let (head, said) = match self {
            Self::Usage(text) => ("error", text.clone()),
            Self::Unavailable(error) => ("error", text::causes(error.as_ref())),
            Self::Refused(text) => ("refused", text.clone()),
            Self::Interrupted => {
                ("interrupted", String::from("what was finished is saved; run the command again to go on"))
            }
            Self::Left(text) => {
                super::printer::note(format_args!("\n{text}"));
                return ExitCode::from(self.code());
            }
            Self::Bug(error) => ("bug", text::causes(error.as_ref())),
        };
        super::printer::note(format_args!("{style}{head}{style:#}: {said}"));
        ExitCode::from(self.code())
    }
}

/// A command's outcome: the exit code of work that was done.
pub(super) type Outcome = Result<u8, Failure>;

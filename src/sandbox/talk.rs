//! A command in a container that talks to a person: a terminal of the right width, shown as it comes.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::engine::Engine;
use super::error::{SandboxError, SandboxErrorKind};
use super::name::SandboxName;
use crate::text;

/// Rows of its terminal: a code to scan must not scroll.
const ROWS: u16 = 60;
/// Longest line that is shown, in characters.
const LONGEST_LINE: usize = 400;

impl Engine {
    /// Runs a command in a terminal of `columns` and gives each line as it comes, without anything that moves a cursor or
    /// changes a colour: blocks that make up a QR code stay. Gives the exit code.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NotFound`]; [`SandboxErrorKind::Timeout`], and the command may go on then;
    /// [`SandboxErrorKind::Engine`].
    pub async fn talk(
        &self,
        name: &SandboxName,
        command: &[&str],
        columns: u16,
        limit: Duration,
        mut show: impl FnMut(&str),
    ) -> Result<i64, SandboxError> {
        let container = self.ours(name).await?;
        let doing = format!("run {} in {container}", command.join(" "));
        let failed = |error: bollard::errors::Error| SandboxError::docker(doing.clone(), &error);
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(true),
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            env: Some(vec![
                format!("COLUMNS={columns}"),
                String::from("NO_COLOR=1"),
                String::from("TERM=dumb"),
                // Source: dist of OpenClaw 2026.9.6; without it a joke of two lines comes first.
                String::from("OPENCLAW_HIDE_BANNER=1"),
            ]),
            ..CreateExecOptions::default()
        };
        let docker = self.patient(limit);
        let id = docker.create_exec(&container, options).await.map_err(failed)?.id;
        let run = async {
            let started = docker.start_exec(&id, None::<StartExecOptions>).await.map_err(failed)?;
            // A command that has ended already has no terminal to resize.
            drop(docker.resize_exec(&id, ResizeExecOptions { height: ROWS, width: columns }).await);
            let mut lines = Lines::default();
            if let StartExecResults::Attached { mut output, .. } = started {
                while let Some(part) = output.next().await {
                    lines.take(part.map_err(failed)?.as_ref(), &mut show);
                }
            }
            lines.end(&mut show);
            docker.inspect_exec(&id).await.map(|exec| exec.exit_code.unwrap_or_default()).map_err(failed)
        };
        tokio::time::timeout(limit, run)
            .await
            .map_err(|_| SandboxError { doing: doing.clone(), kind: SandboxErrorKind::Timeout(limit) })?
    }
}

/// Bytes of a terminal as lines of plain text.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn take(&mut self, bytes: &[u8], show: &mut impl FnMut(&str)) {
        for byte in bytes {
            match byte {
                b'\n' => self.end(show),
                byte if self.0.len() < LONGEST_LINE * 4 => self.0.push(*byte),
                _ => {}
            }
        }
    }

    fn end(&mut self, show: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.0).into_owned();
        self.0.clear();
        show(&text::bounded(&printable(&line), LONGEST_LINE));
    }
}

/// What is left of a terminal's line when its escape sequences are taken out, and everything that deceives.
pub(super) fn printable(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        if c == '\u{1b}' {
            match characters.peek() {
                // A control sequence ends with a letter or another final byte.
                Some('[') => {
                    characters.next();
                    for c in characters.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&c) {
                            break;
                        }
                    }
                }
                _ => drop(characters.next()),
            }
        } else if !text::is_deceptive(c) {
            out.push(c);
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_to_scan_stays_and_nothing_moves_the_cursor() {
        let mut shown = Vec::new();
        let mut lines = Lines::default();
        let text = "\u{1b}[47m\u{1b}[30m█▀▀ ▄▄█\u{1b}[0m\r\nscan \u{1b}]0;title\u{7}this\u{202e}\nlast";
        for byte in text.as_bytes() {
            lines.take(&[*byte], &mut |line| shown.push(line.to_owned()));
        }
        lines.end(&mut |line| shown.push(line.to_owned()));
        assert_eq!(shown, ["█▀▀ ▄▄█", "scan 0;titlethis", "last"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut shown = Vec::new();
        let mut lines = Lines::default();
        lines.take(&vec![b'x'; 1 << 20], &mut |line| shown.push(line.to_owned()));
        assert!(lines.0.len() <= LONGEST_LINE * 4);
        lines.end(&mut |line| shown.push(line.to_owned()));
        assert_eq!(shown[0].chars().count(), LONGEST_LINE);
    }
}

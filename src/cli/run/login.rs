//! Logging a channel in where only a person can: WhatsApp's code to scan.

use std::path::Path;
use std::time::Duration;

use super::view::View;
use crate::cli::failure::Failure;
use crate::cli::printer;
use crate::cli::sandbox::failure as sandbox_failure;
use crate::sandbox::{Engine, Layout};
use crate::supervise::Shutdown;

/// How long a person has to scan the code.
const PATIENCE: Duration = Duration::from_mins(3);
/// Columns that a code needs; narrower terminals would fold it into noise.
const NARROWEST: u16 = 60;

/// Shows WhatsApp's code in the terminal, unless the sandbox is linked already.
///
/// # Errors
/// [`Failure::Interrupted`] after a signal. A login that fails is said, and the sandbox goes on without it.
pub(super) async fn whatsapp(
    engine: &Engine,
    layout: &Layout,
    view: &View,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    if is_linked(&layout.home_dir()) {
        view.say("✓ WhatsApp is linked");
        return Ok(());
    }
    if printer::width() < NARROWEST {
        view.say(&format!(
            "the terminal has {} columns and a code to scan needs {NARROWEST}: make it wider",
            printer::width()
        ));
    }
    view.say("Link WhatsApp: on the phone, open Settings, Linked devices, Link a device, and scan:");
    let command = ["openclaw", "channels", "login", "--channel", "whatsapp"];
    let talk = engine.talk(layout.name(), &command, printer::width(), PATIENCE, |line| {
        if !is_noise(line) {
            view.say(line);
        }
    });
    let ended = tokio::select! {
        ended = talk => ended,
        () = shutdown.drain().cancelled() => return Err(Failure::Interrupted),
    };
    match ended {
        Ok(0) => view.say("✓ WhatsApp is linked"),
        Ok(code) => view.say(&printer::bold(format!(
            "WhatsApp is not linked (the login ended with {code}); the sandbox goes on without it, and the next start asks again"
        ))),
        Err(error) => {
            let said = match sandbox_failure(&error) {
                Failure::Unavailable(error) => error.to_string(),
                _ => String::from("the login could not be run"),
            };
            view.say(&printer::bold(format!("WhatsApp is not linked: {said}; the next start asks again")));
        }
    }
    Ok(())
}

/// Whether a line of the login is about something else: the proxy, the frame of a question that is not asked.
///
/// Source: `openclaw channels login` of 2026.9.6.
fn is_noise(line: &str) -> bool {
    let line = line.trim();
    line.contains("[proxy] ") || matches!(line, "│" | "◇")
}

/// Whether OpenClaw's state holds a linked account.
///
/// Source: OpenClaw's documentation of its WhatsApp plugin: `credentials/whatsapp/<account>/creds.json` in the state folder.
fn is_linked(home: &Path) -> bool {
    let accounts = std::fs::read_dir(home.join("credentials/whatsapp"));
    accounts.into_iter().flatten().flatten().take(64).any(|account| {
        std::fs::symlink_metadata(account.path().join("creds.json")).is_ok_and(|data| data.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_to_scan_is_no_noise() {
        let noise = ["00:08:25 [proxy] routing process HTTP traffic", "│", "◇"];
        assert!(noise.into_iter().all(is_noise));
        assert!(!["Waiting for WhatsApp connection...", "█▀▀ ▄▄█", ""].into_iter().any(is_noise));
    }

    #[test]
    fn linked_is_what_has_credentials() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_linked(dir.path()));
        let account = dir.path().join("credentials/whatsapp/default");
        std::fs::create_dir_all(&account).unwrap();
        assert!(!is_linked(dir.path()));
        std::fs::write(account.join("creds.json"), "{}").unwrap();
        assert!(is_linked(dir.path()));
    }
}

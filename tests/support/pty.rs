//! The real binary in a real pseudo-terminal, with a screen that is read as a person reads it.
//!
//! Nothing sleeps: every wait is for something on the screen, with a deadline.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use portable_pty::{ChildKiller, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};

/// Longest wait for anything; a loaded machine is slow.
const DEADLINE: Duration = Duration::from_secs(30);

struct Shown {
    parser: vt100::Parser,
    /// All that was written, with its escapes.
    raw: Vec<u8>,
}

/// A program in a terminal.
pub(crate) struct Pty {
    shown: Arc<(Mutex<Shown>, Condvar)>,
    keys: Box<dyn Write + Send>,
    ended: Receiver<u32>,
    killer: Box<dyn ChildKiller + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    // Keeps the terminal's settings readable after the program's end.
    _slave: Box<dyn SlavePty + Send>,
    pub(crate) pid: u32,
}

impl Pty {
    /// Starts the binary in `dir` with nothing in its environment but `env`.
    pub(crate) fn start(dir: &Path, args: &[&str], env: &[(String, String)], size: (u16, u16)) -> Self {
        let (cols, rows) = size;
        let pair =
            native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_sentrix"));
        command.args(args);
        command.cwd(dir);
        command.env_clear();
        command.env("TERM", "xterm-256color");
        for (name, value) in env {
            command.env(name, value);
        }
        let mut child = pair.slave.spawn_command(command).unwrap();
        let (pid, killer) = (child.process_id().unwrap(), child.clone_killer());
        let [high, wide] = [rows, cols].map(|size| NonZeroU16::new(size).unwrap());
        let shown = Shown { parser: vt100::Parser::new(high, wide, 0), raw: Vec::new() };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let (mut output, drawn) = (pair.master.try_clone_reader().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                let mut shown = drawn.0.lock().unwrap();
                shown.parser.process(&bytes[..read]);
                shown.raw.extend(&bytes[..read]);
                drawn.1.notify_all();
            }
        });
        let (end, ended) = mpsc::channel();
        std::thread::spawn(move || end.send(child.wait().unwrap().exit_code()));
        let keys = pair.master.take_writer().unwrap();
        Self { shown, keys, ended, killer, master: pair.master, _slave: pair.slave, pid }
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// What is on the screen, without blanks at the ends of lines and below the last one.
    pub(crate) fn screen(&self) -> String {
        text(&self.shown.0.lock().unwrap())
    }

    /// All that was written so far.
    pub(crate) fn raw(&self) -> String {
        String::from_utf8_lossy(&self.shown.0.lock().unwrap().raw).into_owned()
    }

    /// Waits until the screen is as wanted, and gives it. A question hides the cursor while it is drawn: half of one never counts.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let ready = |shown: &Shown| !shown.parser.screen().hide_cursor() && wanted(&text(shown));
        let shown = self.shown.0.lock().unwrap();
        let waited = self.shown.1.wait_timeout_while(shown, DEADLINE, |shown| !ready(shown)).unwrap();
        let screen = text(&waited.0);
        assert!(!waited.1.timed_out(), "waited for {what}; the screen is:\n{screen}");
        screen
    }

    /// Waits for a text on the screen.
    pub(crate) fn sees(&self, what: &str) -> String {
        self.until(what, |screen| screen.contains(what))
    }

    /// Waits for the program's end and gives its exit code.
    pub(crate) fn ends(&self) -> u32 {
        self.ended.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("it does not end:\n{}", self.screen()))
    }

    /// Whether the terminal is as it was: it shows its cursor, echoes, and reads by lines.
    pub(crate) fn is_restored(&self) -> bool {
        let flags = format!("{:?}", self.master.get_termios().unwrap().local_flags);
        let hidden = self.shown.0.lock().unwrap().parser.screen().hide_cursor();
        !hidden && flags.contains("ICANON") && flags.contains("ECHO") && flags.contains("ISIG")
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It has ended, unless the test fails.
        self.killer.kill().ok();
    }
}

fn text(shown: &Shown) -> String {
    let contents = shown.parser.screen().contents();
    contents.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

//! Folding the write-ahead log into the file while the writer goes on.

use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use super::sqlite::{self, Migration, StoreError};

/// Each pass leaves what was written during it, which is less every time unless the disk is too slow.
const PASSES: usize = 5;

/// So few pages are left to the writer.
const FEW: i64 = 200;

/// A fold in a thread of its own: most of the copying, and of the waiting for the disk. What it leaves the writer
/// folds itself; only then can the log begin anew.
#[derive(Debug)]
pub(super) struct Fold(JoinHandle<()>);

impl Fold {
    /// Begins.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub(super) fn start(path: &Path, migrations: &'static [Migration]) -> io::Result<Self> {
        let path = path.to_owned();
        let thread = thread::Builder::new().name("store-fold".to_owned());
        thread.spawn(move || fold(&path, migrations)).map(Self)
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until it is done.
    pub(super) fn wait(self) {
        if self.0.join().is_err() {
            tracing::error!("fold of a write-ahead log panicked");
        }
    }
}

fn fold(path: &Path, migrations: &'static [Migration]) {
    let folded = sqlite::open_reader(path, migrations).and_then(|connection| {
        let mut before = 0;
        for _ in 0..PASSES {
            let length = pass(&connection).map_err(StoreError::at(path))?;
            if length - before < FEW {
                break;
            }
            before = length;
        }
        Ok(())
    });
    if let Err(error) = folded {
        tracing::warn!(path = %path.display(), %error, "write-ahead log not folded");
    }
}

/// Folds what can be folded without waiting for anybody; gives the length of the log.
pub(super) fn pass(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

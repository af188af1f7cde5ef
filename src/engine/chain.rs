//! The chain of hashes through a run's log: each entry's hash covers the one before, so that a changed, missing or
//! added entry breaks every hash after it.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{Digest, Entry, Snapshot};
use crate::id::RunId;

/// Marks the first hash of a run, and the version of how hashes are made.
const BEGIN: &[u8] = b"sentrix run 1\0";

/// The hash that a run's first entry builds on: its id, what it executes, its stored input and where it began.
pub(crate) fn genesis(
    run: RunId,
    definition: &str,
    input: &Map<String, Value>,
    base: Option<&Snapshot>,
) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(BEGIN);
    hasher.update(run.uuid().as_bytes());
    part(&mut hasher, definition.as_bytes());
    // A map's JSON has its keys in one order, whoever writes it.
    part(&mut hasher, serde_json::to_string(input).unwrap_or_default().as_bytes());
    if let Some(snapshot) = base {
        hasher.update(snapshot.seq.to_le_bytes());
        part(&mut hasher, snapshot.body.as_bytes());
    }
    hasher.finalize().into()
}

/// The hash of an entry; its own `hash` is not looked at.
pub(crate) fn link(before: &Digest, entry: &Entry) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(before);
    hasher.update([entry.kind.number()]);
    hasher.update(entry.step.to_le_bytes());
    hasher.update(entry.item.map_or(u64::MAX, u64::from).to_le_bytes());
    hasher.update(entry.at_ms.to_le_bytes());
    part(&mut hasher, entry.node.as_deref().unwrap_or_default().as_bytes());
    part(&mut hasher, entry.body.as_bytes());
    hasher.finalize().into()
}

/// The hash of a snapshot's body.
pub(crate) fn digest(body: &str) -> Digest {
    Sha256::digest(body).into()
}

/// Key under which an entry names the snapshot before it.
const SNAPSHOT: &str = "{\"sn\":\"";

/// Puts a snapshot's hash at the beginning of an entry's body, which is a JSON object.
pub(crate) fn name_snapshot(body: &mut String, digest: &Digest) {
    let rest = body.strip_prefix('{').unwrap_or(body);
    let comma = if rest.starts_with('}') { "" } else { "," };
    *body = format!("{SNAPSHOT}{}\"{comma}{rest}", hex(digest));
}

/// Whether an entry's body names this snapshot as the one before it.
pub(crate) fn names_snapshot(body: &str, digest: &Digest) -> bool {
    body.strip_prefix(SNAPSHOT).is_some_and(|rest| rest.starts_with(&hex(digest)))
}

/// Adds bytes with their length, so that two neighbours cannot share a border.
fn part(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// A hash as people see it.
pub(crate) fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}

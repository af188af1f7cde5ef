//! One stored event: its bytes, and what they say.

use std::io::Read as _;

use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest, Sha256};

use crate::openclaw::transcript::{Entry, MAX_COMPRESSED_EVENT, Said};

/// An event as the database holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) seq: i64,
    /// Milliseconds since the Unix epoch.
    pub(super) created_at: i64,
    pub(super) payload: Payload,
}

/// Its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Json(Vec<u8>),
    Zstd(Vec<u8>),
    /// More than is read.
    TooLong(i64),
}

/// An event that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Read {
    pub(super) entry: Entry,
    /// Fingerprint of the event's id, or of the whole where it has none: what stands at this place now.
    pub(super) mark: u64,
    /// Whether it could not be read, and `entry` says so instead.
    pub(super) unreadable: bool,
}

impl Stored {
    /// Reads the event. What cannot be read is an entry that says so.
    pub(super) fn read(&self) -> Read {
        let (json, reason) = match &self.payload {
            Payload::Json(bytes) => (String::from_utf8_lossy(bytes).into_owned(), None),
            Payload::Zstd(bytes) => match unpack(bytes) {
                Ok(json) => (json, None),
                Err(reason) => (String::new(), Some(reason)),
            },
            Payload::TooLong(bytes) => (String::new(), Some(format!("it has {bytes} bytes"))),
        };
        let entry = Entry::of(&json);
        let unreadable = entry.is_none();
        let entry = entry.unwrap_or_else(|| {
            let reason = reason.unwrap_or_else(|| String::from("it is no JSON object"));
            let text = format!("(an event of OpenClaw's transcript cannot be read: {reason}) {json}");
            Entry { id: None, run_id: None, says: vec![Said::Message { text }] }
        });
        let marked = match (&entry.id, &self.payload) {
            (Some(id), _) => id.as_bytes(),
            (None, Payload::Json(bytes) | Payload::Zstd(bytes)) => bytes,
            (None, Payload::TooLong(_)) => b"too long",
        };
        Read { mark: fingerprint(marked), entry, unreadable }
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes).iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
}

/// Unpacks an event; the reason, where it cannot be.
fn unpack(bytes: &[u8]) -> Result<String, String> {
    let decoder = StreamingDecoder::new(bytes).map_err(|error| error.to_string())?;
    let mut unpacked = Vec::new();
    decoder.take(MAX_COMPRESSED_EVENT + 1).read_to_end(&mut unpacked).map_err(|error| error.to_string())?;
    if unpacked.len() as u64 > MAX_COMPRESSED_EVENT {
        return Err(format!("it unpacks to more than {MAX_COMPRESSED_EVENT} bytes"));
    }
    Ok(String::from_utf8_lossy(&unpacked).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(payload: Payload) -> Read {
        Stored { seq: 3, created_at: 1, payload }.read()
    }

    #[test]
    fn an_event_is_known_again_by_its_id_whatever_else_changes() {
        let json = |parent: &str| {
            let text = format!(
                r#"{{"type":"message","id":"e-1","parentId":"{parent}","message":{{"role":"user","content":"hi"}}}}"#
            );
            stored(Payload::Json(text.into_bytes()))
        };
        assert_eq!(json("a").mark, json("b").mark);
        assert_ne!(json("a").mark, stored(Payload::Json(b"{}".to_vec())).mark);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        // A frame of 8 MiB noughts, as zstd makes it: one block that says "this byte, so many times" after the other.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
        for block in 0..64_u32 {
            let header = (131_072 << 3) | (1 << 1) | u32::from(block == 63);
            bomb.extend_from_slice(&header.to_le_bytes()[..3]);
            bomb.push(0);
        }
        let read = stored(Payload::Zstd(bomb));
        assert!(read.unreadable);
        assert!(
            matches!(&read.entry.says[..], [Said::Message { text }] if text.contains("more than 4194304")),
            "{read:?}"
        );
        assert!(stored(Payload::Zstd(vec![1, 2, 3])).unreadable);
        assert!(stored(Payload::TooLong(99)).unreadable);
    }
}

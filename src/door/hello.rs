//! The first message of a TLS client: read just far enough to know whom it asks for.
//!
//! **Invariant:** bounded in bytes and records, whatever comes; nothing is decrypted.
//!
//! Source: RFC 8446, 4.1.2 and 5.1; RFC 6066, 3; RFC 9849 for encrypted hellos.

/// Most bytes of a first message, record headers among them.
pub(super) const LONGEST_HELLO: usize = 64 << 10;
/// Most records that a first message may be cut into.
const MOST_RECORDS: usize = 256;
/// Longest plaintext of a record, in bytes.
const LONGEST_RECORD: usize = 1 << 14;
/// The content type of handshake records.
pub(super) const HANDSHAKE: u8 = 0x16;

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
const HOST_NAME: u8 = 0;

/// What a first message asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hello {
    /// The name it asks for, as it is written; none where it names nobody.
    pub(super) server_name: Option<String>,
    /// Whether another message, encrypted, hides in it.
    pub(super) is_encrypted: bool,
}

/// How far a first message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More bytes are needed.
    More,
    /// All there.
    Done(Hello),
    /// It is none; why.
    Bad(&'static str),
}

/// Reads what a client has sent so far.
pub(super) fn read(bytes: &[u8]) -> Progress {
    let message = match message(bytes) {
        Ok(Some(message)) => message,
        Ok(None) => return Progress::More,
        Err(why) => return Progress::Bad(why),
    };
    match body(&message) {
        Some(Ok(hello)) => Progress::Done(hello),
        Some(Err(why)) => Progress::Bad(why),
        None => Progress::Bad("it is cut off inside"),
    }
}

/// The handshake message that the records hold; none while it is not complete.
fn message(bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut reader = Reader(bytes);
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut held = 0;
    let mut wanted = None;
    for _ in 0..MOST_RECORDS {
        // What is known already is judged at once: a wrong first byte waits for nothing.
        if let Some(kind) = reader.0.first()
            && *kind != HANDSHAKE
        {
            return Err("it is no handshake record");
        }
        if let Some(major) = reader.0.get(1)
            && *major != 3
        {
            return Err("it has no version of TLS");
        }
        let Some(header) = reader.take(5) else { return Ok(None) };
        let length = Reader(header.get(3..).unwrap_or_default()).u16().map_or(0, usize::from);
        if length == 0 || length > LONGEST_RECORD {
            return Err("a record has a length that none has");
        }
        let Some(part) = reader.take(length) else {
            return if bytes.len() >= LONGEST_HELLO { Err("it is too long") } else { Ok(None) };
        };
        parts.push(part);
        held += part.len();
        if wanted.is_none() && held >= 4 {
            let head: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).take(4).collect();
            let mut head = Reader(&head);
            if head.u8() != Some(CLIENT_HELLO) {
                return Err("it is no client's hello");
            }
            let length = head.u24().unwrap_or_default();
            if length > LONGEST_HELLO {
                return Err("it is too long");
            }
            wanted = Some(length + 4);
        }
        if let Some(wanted) = wanted
            && held >= wanted
        {
            if held > wanted {
                return Err("something follows it in the same record");
            }
            return Ok(Some(parts.concat().split_off(4)));
        }
    }
    Err("it is cut into too many records")
}

/// Reads the message itself; none where it ends too early.
fn body(message: &[u8]) -> Option<Result<Hello, &'static str>> {
    let mut reader = Reader(message);
    reader.take(2)?;
    reader.take(32)?;
    let session = reader.u8()?;
    if session > 32 {
        return Some(Err("its session id is too long"));
    }
    reader.take(usize::from(session))?;
    let ciphers = reader.u16()?;
    reader.take(usize::from(ciphers))?;
    let compressions = reader.u8()?;
    reader.take(usize::from(compressions))?;
    let mut hello = Hello::default();
    if reader.0.is_empty() {
        return Some(Ok(hello));
    }
    let length = reader.u16()?;
    let mut extensions = Reader(reader.take(usize::from(length))?);
    if !reader.0.is_empty() {
        return Some(Err("something follows its extensions"));
    }
    let mut seen = std::collections::BTreeSet::new();
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let data = extensions.take(usize::from(length))?;
        if !seen.insert(kind) {
            return Some(Err("it has an extension twice"));
        }
        match kind {
            SERVER_NAME => match server_name(data)? {
                Ok(name) => hello.server_name = Some(name),
                Err(why) => return Some(Err(why)),
            },
            ENCRYPTED_CLIENT_HELLO => hello.is_encrypted = true,
            _ => {}
        }
    }
    Some(Ok(hello))
}

/// The one name of the extension.
fn server_name(data: &[u8]) -> Option<Result<String, &'static str>> {
    let mut reader = Reader(data);
    let length = reader.u16()?;
    let mut list = Reader(reader.take(usize::from(length))?);
    let kind = list.u8()?;
    let length = list.u16()?;
    let name = list.take(usize::from(length))?;
    if kind != HOST_NAME || !list.0.is_empty() || !reader.0.is_empty() {
        return Some(Err("it names more than one server"));
    }
    Some(String::from_utf8(name.to_vec()).map_err(|_| "the name it asks for is no text"))
}

/// What is left of some bytes.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u24(&mut self) -> Option<usize> {
        let bytes = self.take(3)?;
        Some(bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    }
}

/// A first message that asks for a name: one that a server answers, if only to say no. For probes.
pub(super) fn write(server_name: &str, random: &[u8; 32]) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, data: &[u8]| {
        extensions.extend_from_slice(&kind.to_be_bytes());
        extensions.extend_from_slice(&length16(data));
        extensions.extend_from_slice(data);
    };
    let name = server_name.as_bytes();
    let mut entry = vec![HOST_NAME];
    entry.extend_from_slice(&length16(name));
    entry.extend_from_slice(name);
    let mut list = length16(&entry).to_vec();
    list.extend_from_slice(&entry);
    extension(SERVER_NAME, &list);
    // Groups x25519 and secp256r1, uncompressed points, the usual signatures, TLS 1.2 alone: no key share is needed.
    extension(0x000a, &[0, 4, 0, 0x1d, 0, 0x17]);
    extension(0x000b, &[1, 0]);
    extension(0x000d, &[0, 8, 4, 3, 8, 4, 4, 1, 5, 3]);
    extension(0x0017, &[]);
    extension(0xff01, &[0]);
    let mut body = vec![3, 3];
    body.extend_from_slice(random);
    body.push(0);
    let ciphers = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0xcc, 0xa9, 0xcc, 0xa8];
    body.extend_from_slice(&length16(&ciphers));
    body.extend_from_slice(&ciphers);
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&length16(&extensions));
    body.extend_from_slice(&extensions);
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend_from_slice(&length16(&body));
    message.extend_from_slice(&body);
    let mut record = vec![HANDSHAKE, 3, 1];
    record.extend_from_slice(&length16(&message));
    record.extend_from_slice(&message);
    record
}

/// A length in two bytes. What is written here is far below the most.
fn length16(data: &[u8]) -> [u8; 2] {
    u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(name: &str) -> Progress {
        Progress::Done(Hello { server_name: Some(name.into()), is_encrypted: false })
    }

    /// The same message in records of so many bytes.
    fn cut(hello: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| [&[HANDSHAKE, 3, 1], &length16(part)[..], part].concat();
        hello[5..].chunks(size).flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_read_however_it_is_cut() {
        let hello = write("api.example.com", &[7; 32]);
        assert_eq!(read(&hello), named("api.example.com"));
        for end in 0..hello.len() {
            assert_eq!(read(&hello[..end]), Progress::More, "{end}");
        }
        for size in [1, 2, 3, 4, 5, 50, 100] {
            let cut = cut(&hello, size);
            assert_eq!(read(&cut), named("api.example.com"), "{size}");
            assert_eq!(read(&cut[..cut.len() - 1]), Progress::More);
        }
    }

    #[test]
    fn what_is_no_hello_is_seen_at_once() {
        assert!(matches!(read(b"GET"), Progress::Bad(_)));
        assert!(matches!(read(&[0x80, 0x2e]), Progress::Bad(_)), "a hello of SSL 2");
        assert!(matches!(read(&[0x16, 2]), Progress::Bad(_)));
        assert!(matches!(read(&[0x16, 3, 1, 0, 0]), Progress::Bad(_)));
        assert!(matches!(read(&[0x16, 3, 1, 0xff, 0xff]), Progress::Bad(_)));
        assert!(matches!(read(&[0x16, 3, 1, 0, 4, 2, 0, 0, 0]), Progress::Bad(_)), "a server's hello");
        let huge = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 0x4000]].concat();
        assert_eq!(read(&huge), Progress::Bad("it is too long"));
        let many = cut(&write(&"a".repeat(250), &[7; 32]), 1);
        assert_eq!(read(&many), Progress::Bad("it is cut into too many records"));
    }

    #[test]
    fn two_names_are_none() {
        let hello = write("a.com", &[7; 32]);
        let at = hello.windows(5).position(|part| part == b"a.com").unwrap();
        let mut twice = hello.clone();
        twice[at - 3] = 1;
        assert!(matches!(read(&twice), Progress::Bad(_)), "no host name");
        let mut short = hello.clone();
        short[at - 1] = 2;
        assert!(matches!(read(&short), Progress::Bad(_)), "something behind the name");
    }

    #[test]
    fn an_encrypted_hello_is_told() {
        let mut hello = write("public.example", &[7; 32]);
        // The empty extension becomes another one.
        let at = hello.windows(4).position(|part| part == [0, 0x17, 0, 0]).unwrap();
        hello[at..at + 2].copy_from_slice(&ENCRYPTED_CLIENT_HELLO.to_be_bytes());
        assert!(matches!(read(&hello), Progress::Done(Hello { is_encrypted: true, .. })));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_damaged_hello_is_no_panic(at in 0_usize..180, to in any::<u8>(), size in 1_usize..400) {
            let mut hello = write("api.example.com", &[7; 32]);
            let at = at % hello.len();
            hello[at] = to;
            let _ = read(&hello);
            let _ = read(&cut(&hello, size));
        }
    }
}

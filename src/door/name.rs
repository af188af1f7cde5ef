//! Names of destinations: one spelling a host, and nothing that is an address in disguise.

use std::fmt;

/// The one name under which the machine that runs Sentrix is reached from a sandbox.
pub const HOST_ALIAS: &str = "host.sentrix.internal";

/// Longest host name, in bytes. Source: RFC 1035, 2.3.4, without the root's dot.
const LONGEST_HOST: usize = 253;
/// Longest label, in bytes.
const LONGEST_LABEL: usize = 63;

/// A host name in its one spelling: lower case, no dot at its end, punycode where it is not ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

/// Why a text is no host name that the door takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// Nothing there.
    #[error("the host name is empty")]
    Empty,
    /// Longer than a name can be.
    #[error("the host name is longer than a name can be")]
    TooLong,
    /// Letters beyond ASCII.
    #[error("the host name is not ASCII: write it in punycode, as xn--…")]
    NotAscii,
    /// A character that no host name has.
    #[error("the host name has a character that no host name has")]
    BadCharacter,
    /// An empty label, or one that begins or ends with a hyphen, or a too long one.
    #[error("a part of the host name is empty, too long, or begins or ends with a hyphen")]
    BadLabel,
    /// An address, in whatever spelling.
    #[error("this is an address and no name")]
    IpLiteral,
    /// No port, 0, or more than 65535.
    #[error("the port is missing or none (1 to 65535)")]
    BadPort,
    /// User information, a path or something else that does not belong there.
    #[error("this is more than a host and a port")]
    NotAuthority,
}

impl Host {
    /// Reads a name.
    ///
    /// # Errors
    /// Where it is no name, or a URL, or an address in any spelling: dotted, decimal, hexadecimal, octal, in brackets.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        if text.contains("://") {
            return Err(NameFault::NotAuthority);
        }
        if text.starts_with('[') || text.contains(':') {
            return Err(NameFault::IpLiteral);
        }
        if !text.is_ascii() {
            return Err(NameFault::NotAscii);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if text.len() > LONGEST_HOST {
            return Err(NameFault::TooLong);
        }
        let is_known = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_' || c == b'.';
        if !text.bytes().all(is_known) {
            return Err(NameFault::BadCharacter);
        }
        let bad = |label: &str| label.is_empty() || label.len() > LONGEST_LABEL || is_edged_by_hyphen(label);
        if text.split('.').any(bad) {
            return Err(NameFault::BadLabel);
        }
        // Whatever a C library would take for an address ends in a number.
        // Source: WHATWG URL, "ends in a number checker".
        if text.rsplit('.').next().is_some_and(is_number) {
            return Err(NameFault::IpLiteral);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has no dot: a name of a local network, or of nothing.
    pub fn is_single_label(&self) -> bool {
        !self.0.contains('.')
    }

    /// Whether it is the machine that runs Sentrix.
    pub fn is_alias(&self) -> bool {
        self.0 == HOST_ALIAS
    }

    /// Whether it is somewhere below another name.
    pub fn is_below(&self, domain: &Self) -> bool {
        self.0.strip_suffix(domain.as_str()).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
    }
}

fn is_edged_by_hyphen(label: &str) -> bool {
    label.starts_with('-') || label.ends_with('-')
}

/// Whether a label is a number: decimal, octal or hexadecimal.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|c| c.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port; never 0.
    pub port: u16,
}

impl Target {
    /// Reads `host:port`; the port may be missing where there is a default.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, NameFault> {
        if text.contains(['@', '/', '?', '#', '%', '\\']) {
            return Err(NameFault::NotAuthority);
        }
        if text.starts_with('[') || text.matches(':').count() > 1 {
            return Err(NameFault::IpLiteral);
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let host = Host::parse(host)?;
        let port = port.or(default_port).ok_or(NameFault::BadPort)?;
        Ok(Self { host, port })
    }
}

fn parse_port(text: &str) -> Result<u16, NameFault> {
    if text.is_empty() || text.len() > 5 || !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(NameFault::BadPort);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(NameFault::BadPort)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_a_name() {
        for text in ["api.example.com", "API.Example.COM", "api.example.com."] {
            assert_eq!(Host::parse(text).unwrap().as_str(), "api.example.com");
        }
        assert!(Host::parse("xn--bcher-kva.example").is_ok());
        assert_eq!(Host::parse("bücher.example"), Err(NameFault::NotAscii));
        assert_eq!(Host::parse("api.еxample.com"), Err(NameFault::NotAscii));
    }

    #[test]
    fn an_address_is_no_name_however_it_is_written() {
        for text in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0X7F.0.0.1",
            "0177.0.0.1",
            "1.2.3.0x",
            "127.0.0.1.",
            "[::1]",
            "::1",
            "::ffff:127.0.0.1",
            "[fe80::1%25eth0]",
        ] {
            assert_eq!(Host::parse(text), Err(NameFault::IpLiteral), "{text}");
        }
        assert!(Host::parse("1.2.3.4.nip.io").is_ok(), "a name; its address is looked at later");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = format!("{}com", "abc.".repeat(64));
        for text in
            ["", ".", "a..b", "-a.com", "a-.com", "a b.com", "a\r\nb.com", "a%2e.com", "a/b", &long, &longer]
        {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let parse = |text: &str| Target::parse(text, None).map(|target| target.to_string());
        assert_eq!(parse("A.com:443"), Ok("a.com:443".into()));
        assert_eq!(parse("a.com"), Err(NameFault::BadPort));
        for port in ["0", "65536", "", "+1", "00443x", "-1", " 1"] {
            assert_eq!(parse(&format!("a.com:{port}")), Err(NameFault::BadPort), "{port}");
        }
        assert_eq!(parse("u@a.com:1"), Err(NameFault::NotAuthority));
        assert_eq!(parse("[::1]:443"), Err(NameFault::IpLiteral));
        assert_eq!(Target::parse("a.com", Some(80)).unwrap().port, 80);
    }

    #[test]
    fn below_is_below_a_dot() {
        let host = |text| Host::parse(text).unwrap();
        assert!(host("a.example.com").is_below(&host("example.com")));
        assert!(host("b.a.example.com").is_below(&host("example.com")));
        assert!(!host("example.com").is_below(&host("example.com")));
        assert!(!host("badexample.com").is_below(&host("example.com")));
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in any::<String>(), port in proptest::option::of(1_u16..)) {
            if let Ok(target) = Target::parse(&text, port) {
                let again = Target::parse(&target.to_string(), None);
                prop_assert_eq!(again, Ok(target));
            }
        }
    }
}

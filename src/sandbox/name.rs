//! Names of sandboxes and of what belongs to them.

use std::fmt;
use std::str::FromStr;

use super::error::SandboxError;

/// A sandbox's name: `[a-z0-9][a-z0-9-]{0,31}`. It becomes part of a folder, a container's name and a network's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxName(String);

impl SandboxName {
    /// The name where none was given.
    pub const DEFAULT: &'static str = "main";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of its container, and of its network where it has one.
    pub fn container(&self) -> String {
        format!("sentrix-{}", self.0)
    }
}

impl Default for SandboxName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl FromStr for SandboxName {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = text.len() <= 32
            && text.bytes().next().is_some_and(part)
            && text.bytes().all(|byte| part(byte) || byte == b'-');
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(SandboxError::options(
            format!("name a sandbox `{}`", crate::text::bounded(&crate::text::plain(text), 40)),
            "a name has 1 to 32 lower-case letters, digits and hyphens, and begins with a letter or digit",
        ))
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What everything of ours at the engine is marked with, so that it is found again, and nothing else is touched.
#[derive(Debug)]
pub struct Label;

impl Label {
    /// `1` on everything that is ours.
    pub const OURS: &'static str = "dev.sentrix";
    /// Name of the sandbox.
    pub const NAME: &'static str = "dev.sentrix.name";
    /// Version of Sentrix that made it.
    pub const VERSION: &'static str = "dev.sentrix.version";
    /// Hash of what it was made from.
    pub const CONFIG: &'static str = "dev.sentrix.config";
    /// `door`, `open` or `none`.
    pub const EGRESS: &'static str = "dev.sentrix.egress";
    /// Folder on the host, so that `stop` finds it from anywhere.
    pub const FOLDER: &'static str = "dev.sentrix.folder";
    /// Relaxations, with commas.
    pub const RELAXED: &'static str = "dev.sentrix.relaxed";
    /// Of an image: version of OpenClaw.
    pub const OPENCLAW: &'static str = "dev.sentrix.openclaw";
    /// Of an image: npm's integrity of the OpenClaw in it.
    pub const INTEGRITY: &'static str = "dev.sentrix.integrity";
    /// Of an image: the base image.
    pub const BASE: &'static str = "dev.sentrix.base";
    /// Of an image: channel whose plugin is baked in.
    pub const CHANNEL: &'static str = "dev.sentrix.channel";
    /// Of an image: `1` where it has certificates of an intercepting proxy.
    pub const CA: &'static str = "dev.sentrix.ca";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_path_or_an_option() {
        for bad in ["", "-a", "A", "a/b", "..", "a b", "a\u{1b}", &"a".repeat(33), "a_b"] {
            assert!(bad.parse::<SandboxName>().is_err(), "{bad}");
        }
        for good in ["a", "0", "team-2", &"a".repeat(32)] {
            assert_eq!(good.parse::<SandboxName>().unwrap().as_str(), good);
        }
        assert_eq!(SandboxName::default().container(), "sentrix-main");
    }
}

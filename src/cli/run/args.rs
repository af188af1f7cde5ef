//! What `sentrix run` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::args::Where;
use crate::cli::sandbox::parsed;
use crate::config::{Egress, Escalation};
use crate::sandbox::SandboxName;

/// The name of a sandbox.
fn name(text: &str) -> Result<String, String> {
    parsed::<SandboxName>(text).map(|name| name.to_string())
}

/// `sentrix run`
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct RunArgs {
    /// Where the logs and stores are.
    #[command(flatten)]
    pub place: Where,
    /// Minutes after which a new log file begins
    #[arg(long, value_name = "MINUTES", default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub rotate_mins: u32,
    /// Log what the model thinks (the default)
    #[arg(long, overrides_with = "no_reasoning")]
    pub reasoning: bool,
    /// Do not log what the model thinks
    #[arg(long)]
    pub no_reasoning: bool,
    /// Port on 127.0.0.1 through which OpenClaw's gateway is reached
    #[arg(long, value_name = "PORT", default_value_t = 18789, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Minutes without any activity after which the sandbox is stopped; 0: never
    #[arg(long, value_name = "MINUTES", default_value_t = 60, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=10080))]
    pub timeout: u32,
    /// A variable for OpenClaw, as a provider's key; with the name alone its value is taken from your environment
    #[arg(short = 'e', long = "env", value_name = "KEY[=VALUE]", value_parser = variable)]
    pub env: Vec<String>,
    /// The image, built if it is not there
    #[arg(long, value_name = "NAME", default_value = "sentrix-openclaw:latest")]
    pub image: String,
    /// Patrol while it runs (the default unless configured otherwise)
    #[arg(long, overrides_with = "no_patrol")]
    pub patrol: bool,
    /// Do not patrol: only capture
    #[arg(long)]
    pub no_patrol: bool,
    /// From which severity on flags go to the police [default: medium_above]
    #[expect(clippy::doc_markdown, reason = "the default as clap writes one")]
    #[arg(long, value_enum)]
    pub escalation: Option<Escalation>,
    /// No bridge (this version has none yet)
    #[arg(long)]
    pub nobridge: bool,
    /// Name of the sandbox; each has its own container, OpenClaw state and token
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = name)]
    pub name: String,
    /// Take over a sandbox that an earlier `sentrix run` left running
    #[arg(long)]
    pub attach: bool,
    /// Where the sandbox may connect to [default: door]
    #[arg(long, value_enum)]
    pub egress: Option<Egress>,
    /// Leave out one guard, loudly; may be given again
    #[arg(long, value_name = "GUARD")]
    pub relax: Vec<String>,
    /// Most memory, as 2g; less than 2g is refused
    #[arg(long, value_name = "SIZE", default_value = "2g")]
    pub memory: String,
    /// Most processors
    #[arg(long, value_name = "N", default_value_t = 2.0, allow_negative_numbers = true, value_parser = cpus)]
    pub cpus: f64,
    /// Another runtime that the engine offers, as runsc (gVisor)
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Certificates that the image needs behind an intercepting proxy, for its build
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Watch an OpenClaw that runs already instead, as `ws://127.0.0.1:18789`: no sandbox, no door
    #[arg(long, value_name = "URL", conflicts_with_all = ["attach", "egress", "relax", "runtime", "ca_bundle", "env"])]
    pub gateway: Option<String>,
    /// File that holds the token of that OpenClaw; only you may read it
    #[arg(long, value_name = "FILE", requires = "gateway")]
    pub token_file: Option<PathBuf>,
}

impl RunArgs {
    /// Whether thinking is logged, where the command line says.
    pub(super) fn wants_reasoning(&self) -> Option<bool> {
        match (self.reasoning, self.no_reasoning) {
            (_, true) => Some(false),
            (true, _) => Some(true),
            _ => None,
        }
    }

    /// Whether to patrol, where the command line says.
    pub(super) fn wants_patrol(&self) -> Option<bool> {
        match (self.patrol, self.no_patrol) {
            (_, true) => Some(false),
            (true, _) => Some(true),
            _ => None,
        }
    }
}

impl ValueEnum for Egress {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let help = match self {
            Self::Door => "through the door alone, to what is allowed",
            Self::Open => "anywhere; nothing is checked or logged",
            Self::None => "nowhere, not even to a model",
        };
        Some(clap::builder::PossibleValue::new(self.word()).help(help))
    }
}

/// A name, or a name and a value. The value is never part of a message.
fn variable(given: &str) -> Result<String, String> {
    let name = given.split_once('=').map_or(given, |(name, _)| name);
    let is_name = |name: &str| {
        name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if is_name(name) {
        Ok(given.to_owned())
    } else {
        Err(String::from("a variable is NAME or NAME=VALUE, with letters, digits and _ in its name"))
    }
}

fn cpus(given: &str) -> Result<f64, String> {
    match given.parse::<f64>() {
        Ok(cpus) if (0.5..=256.0).contains(&cpus) => Ok(cpus),
        _ => Err(String::from("takes a number from 0.5 to 256")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_no_message_has_its_value() {
        assert!(variable("OPENAI_API_KEY=sk-1=2").is_ok());
        assert!(variable("OPENAI_API_KEY").is_ok());
        for bad in ["=topsecret", "A-B=topsecret", "9A=topsecret", ""] {
            assert!(!variable(bad).unwrap_err().contains("topsecret"), "{bad}");
        }
    }
}

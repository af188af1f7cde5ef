//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::build::BuildArgs;
use super::chat::ChatArgs;
use super::config::ConfigCommand;
use super::doctor::DoctorArgs;
use super::egress::EgressCommand;
use super::graph_args::GraphCommand;
use super::pause::PauseArgs;
use super::run::RunArgs;
use super::stop::StopArgs;
use crate::case::Severity;
use crate::config::Escalation;

/// Agentic police for OpenClaw: patrols what AI agents say and do, flags incidents and writes case files.
#[derive(Debug, Parser)]
#[command(
    name = "sentrix",
    version,
    max_term_width = 110,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Start with `sentrix demo`. Exit codes: 0 done, 1 done and something was found (--fail-on) or failed a \
    check, 2 bad usage or configuration, 3 an outside service or the disk is unavailable, 4 refused, or a gate waits for \
    its answer, 70 a bug, 130 interrupted."
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Configuration file [default: ./sentrix.toml over the one in your own config folder]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Folder with graph files that replace the built-in ones [default: ./graphs if it exists]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub graphs_dir: Option<PathBuf>,
    /// Folder with prompt templates that replace the built-in ones [default: ./prompts if it exists]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub prompts_dir: Option<PathBuf>,
    /// No progress line
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_progress: bool,
    /// Say more on standard error; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Patrol a copy of the recorded example logs: the quickest way to see what Sentrix does
    Demo(DemoArgs),
    /// Set up models, keys, channels and security: asks, and writes sentrix.toml
    Setup(SetupArgs),
    /// Run OpenClaw in a sandbox that holds it, record everything it does, and patrol
    Run(Box<RunArgs>),
    /// Build the image with OpenClaw for the sandbox
    Build(BuildArgs),
    /// Check Docker, the image, running sandboxes and keys, and say what to do
    Doctor(DoctorArgs),
    /// Stop sandboxes, and take away what belongs to them
    Stop(StopArgs),
    /// Freeze a sandbox and copy the evidence
    Pause(PauseArgs),
    /// Let a frozen sandbox go on
    Resume(PauseArgs),
    /// Scan OpenClaw's logs for incidents and raise flags
    #[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
    Patrol(PatrolArgs),
    /// Look at flags and case files, and investigate
    #[command(args_conflicts_with_subcommands = true)]
    Police(PoliceArgs),
    /// Talk to OpenClaw: in the sandbox, or one that runs already
    Chat(ChatArgs),
    /// List log files, or show their last entries
    Logs(LogsArgs),
    /// Say where the sandbox went or wanted to, and allow or deny destinations
    #[command(subcommand)]
    Egress(EgressCommand),
    /// Check, draw and run workflow graphs; look into runs, answer their gates, change and prove them
    #[command(subcommand)]
    Graph(GraphCommand),
    /// List models and what they cost, and test those in use
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Say what models were asked and what it cost, by day, role and model
    Usage(UsageArgs),
    /// Show, check and begin the configuration: sentrix.toml, environment, flags
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Say what a code of `graph check` means; without one, list all codes
    Explain {
        /// The code, as G017
        code: Option<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print a completion script for your shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const LOG_DIR_HELP: &str = "Directory with OpenClaw's logs [default: ./agent_logs]";
const ESCALATION_HELP: &str = "From which severity on flags go to the police [default: medium_above]";

/// Where the logs and stores are.
#[derive(Clone, Debug, Args)]
pub struct Where {
    /// Directory with OpenClaw's logs; else as configured.
    #[arg(long = "log-dir", visible_alias = "dir", value_name = "DIR", help = LOG_DIR_HELP)]
    pub log_dir: Option<PathBuf>,
    /// Directory for stores, flags and reports [default: the log directory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON value, stable and versioned.
    Json,
}

impl ValueEnum for Escalation {
    fn value_variants<'a>() -> &'a [Self] {
        Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = format!("{} and above", threshold(*self));
        Some(PossibleValue::new(self.word()).help(help))
    }
}

/// The lowest severity that is escalated.
pub const fn threshold(escalation: Escalation) -> Severity {
    match escalation {
        Escalation::LowAbove => Severity::Low,
        Escalation::MediumAbove => Severity::Medium,
        Escalation::HighOnly => Severity::High,
    }
}

/// `sentrix demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the copy of the examples, made if it is not there
    #[arg(long = "log-dir", visible_alias = "dir", value_name = "DIR", default_value = ".sentrix/demo")]
    pub dir: PathBuf,
}

/// `sentrix setup`
#[derive(Clone, Debug, Default, Args)]
pub struct SetupArgs {
    /// Provider of the models, as anthropic; none for rules only [default: the first whose key is set]
    #[arg(long, value_name = "ID")]
    pub provider: Option<String>,
    /// Model for patrol, investigations and OpenClaw [default: those the provider's entry suggests]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Variable that holds the provider's key
    #[arg(long, value_name = "VAR")]
    pub key_env: Option<String>,
    /// Where the provider is, if not where it usually is
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
    /// Watch what agents do (the default)
    #[arg(long, overrides_with = "no_patrol")]
    pub patrol: bool,
    /// Do not watch, unless a patrol is started
    #[arg(long)]
    pub no_patrol: bool,
    /// From which severity on flags go to the police
    #[arg(long, value_enum)]
    pub escalation: Option<Escalation>,
    /// Ask nothing: take the flags and the defaults, and write
    #[arg(short, long)]
    pub yes: bool,
    /// File that is written [default: ./sentrix.toml]
    #[arg(long, value_name = "FILE")]
    pub path: Option<PathBuf>,
}

/// `sentrix patrol`
#[derive(Debug, Args)]
pub struct PatrolArgs {
    /// `sentrix patrol status`
    #[command(subcommand)]
    pub command: Option<PatrolCommand>,
    /// One sweep over everything that is new, then stop
    #[arg(long, conflicts_with = "watch", required_unless_present = "watch")]
    pub once: bool,
    /// Sweep again and again until Ctrl+C
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks in --watch
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Where the logs and stores are.
    #[command(flatten)]
    pub place: Where,
    /// First take over what is new in the sessions that an OpenClaw outside of Sentrix keeps there, as ~/.openclaw;
    /// nothing in it is written or locked
    #[arg(long, value_name = "DIR")]
    pub openclaw_home: Option<PathBuf>,
    /// From which severity on flags go to the police; else as configured.
    #[arg(long, value_enum, help = ESCALATION_HELP)]
    pub escalation: Option<Escalation>,
    /// Raise flags only: no investigations
    #[arg(long)]
    pub no_police: bool,
    /// Try turns again that were given up as unreviewed
    #[arg(long)]
    pub retry_unreviewed: bool,
    /// Exit with 1 when a new flag has this severity or more
    #[arg(long, value_name = "SEVERITY", ignore_case = true)]
    pub fail_on: Option<Severity>,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `sentrix patrol …`
#[derive(Debug, Subcommand)]
pub enum PatrolCommand {
    /// Turns seen, reviewed, pending and unreviewed; flags by severity; the police's queue
    Status {
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `sentrix police`
#[derive(Debug, Args)]
pub struct PoliceArgs {
    /// `sentrix police …`
    #[command(subcommand)]
    pub command: Option<PoliceCommand>,
    /// What is listed.
    #[command(flatten)]
    pub list: PoliceList,
}

/// What `sentrix police` lists.
#[derive(Debug, Args)]
pub struct PoliceList {
    /// List case files (the default)
    #[arg(long, visible_alias = "clogs", group = "what")]
    pub cases: bool,
    /// List patrol flags
    #[arg(long, visible_alias = "plogs", group = "what")]
    pub flags: bool,
    /// Most lines
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Where the logs and stores are.
    #[command(flatten)]
    pub place: Where,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `sentrix police …`
#[derive(Debug, Subcommand)]
pub enum PoliceCommand {
    /// Show a case file or a flag in full
    Show {
        /// Id or its first characters, of a case or a flag; 1 is the latest case
        id: String,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Investigate a flag now
    Investigate {
        /// Flag id or its first characters; 1 is the latest flag
        #[arg(value_name = "FLAG_ID|N", required_unless_present = "flag_id")]
        flag: Option<String>,
        /// The same, as an option
        #[arg(long, value_name = "FLAG_ID|N", conflicts_with = "flag")]
        flag_id: Option<String>,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
        /// How the case is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Go on with investigations that were interrupted: one run, or all that wait
    Resume {
        /// Run id or its first characters [default: all]
        run: Option<String>,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
        /// How the cases are printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `sentrix logs`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("entries").multiple(true)))]
pub struct LogsArgs {
    /// Show the last N entries instead of the list of files; the pieces of a streamed message are one entry
    #[arg(long, value_name = "N", group = "entries", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub tail: Option<u32>,
    /// Show entries as they come, after the last 10 or --tail N; Ctrl+C ends it
    #[arg(long, group = "entries")]
    pub follow: bool,
    /// Only entries of this agent (its id, with its subagents), session key or subagent label
    #[arg(long, value_name = "NAME", requires = "entries")]
    pub agent: Option<String>,
    /// Directory with OpenClaw's logs; else as configured.
    #[arg(long = "log-dir", visible_alias = "dir", value_name = "DIR", help = LOG_DIR_HELP)]
    pub log_dir: Option<PathBuf>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `sentrix models …`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// The models in use, all providers, their models and prices, and whether there is a key
    List {
        /// One provider alone, as `moonshot`
        provider: Option<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ask every model in use one small question, fallbacks too
    Test {
        /// One role alone, as `patrol` or `investigator` [default: all]
        role: Option<String>,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// `sentrix usage`
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// How many days, today included
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Where the logs and stores are.
    #[command(flatten)]
    pub place: Where,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

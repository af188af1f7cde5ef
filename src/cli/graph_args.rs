//! The command line of `sentrix graph`, as clap reads it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{Format, Where};
use crate::engine::Stream;
use crate::graph::{self, Budget};

/// `sentrix graph …`
#[derive(Debug, Subcommand)]
pub enum GraphCommand {
    /// List the graphs and where each comes from
    List {
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Check graph files and show every fault at once
    Check {
        /// Names of graphs, or paths of graph files [default: all graphs]
        graphs: Vec<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Draw a graph
    Draw {
        /// Name of a graph, or path of a graph file
        graph: String,
        /// As what
        #[arg(long, value_enum, default_value_t)]
        format: DrawFormat,
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Run the tests beside the graphs (NAME.test.toml)
    Test {
        /// Names of graphs, or paths of graph files [default: all graphs]
        graphs: Vec<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show what changed between two graphs, and whether live runs can go on; exit 1 if not
    Diff {
        /// Name of a graph, path of a graph file, or a run: then the graph that it keeps
        old: String,
        /// What it is compared with [default: the graph of that name at hand]
        new: Option<String>,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Write editable copies of the built-in graphs and prompts
    Eject {
        /// Folder that gets `graphs/` and `prompts/`
        #[arg(default_value = ".")]
        to: PathBuf,
        /// Replace files that are there
        #[arg(long)]
        force: bool,
    },
    /// Print the JSON Schema of graph files, for editors
    Schema,
    /// Run a graph
    Run {
        /// Name of a graph, or path of a graph file
        graph: String,
        /// Input channels as a JSON object, or @FILE to read them from a file
        #[arg(long, value_name = "JSON|@FILE")]
        input: Option<String>,
        /// Do nothing to the world: stubs stand for the nodes, and nothing is stored
        #[arg(long)]
        dry: bool,
        /// What the nodes answer in a dry run: a JSON object of node names with a list of answers each
        #[arg(long, value_name = "FILE", requires = "dry")]
        stub: Option<PathBuf>,
        /// How it runs.
        #[command(flatten)]
        going: Going,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Go on with a run that was interrupted, failed, or whose gate was answered
    Resume {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Go on with the graph of the same name that is at hand now, not with the one that the run keeps
        #[arg(long)]
        upgrade: bool,
        /// How it runs.
        #[command(flatten)]
        going: Going,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// List runs
    Runs {
        /// Most lines
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Show what a run did, step by step
    History {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Show a run's state now or before a step, or what differs between two steps
    State {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Before this step, from 0 [default: now]
        #[arg(long, value_name = "N")]
        step: Option<u32>,
        /// What is different before this step
        #[arg(long, value_name = "M")]
        against: Option<u32>,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// List the gates that wait for an answer
    Gates {
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Answer a gate, and go on with its run
    Answer {
        /// The gate's id, or its node's name where that is clear
        gate: String,
        /// One of its options
        option: String,
        /// Its run, where more than one waits at such a gate
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Who answers [default: $USER]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// What there is to say about it; kept with the answer
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
        /// Only store the answer
        #[arg(long)]
        no_resume: bool,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Make a new run that begins where another one stood
    Fork {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Before this step, from 0 [default: where it stands now]
        #[arg(long, value_name = "N")]
        step: Option<u32>,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Fork a run and run the fork: the same again, from the start or a step
    Replay {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Before this step
        #[arg(long, value_name = "N", default_value_t = 0)]
        step: u32,
        /// How it runs.
        #[command(flatten)]
        going: Going,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Write to the state of a run at rest, through its reducers
    Edit {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Channels and values as a JSON object, or @FILE to read them from a file
        #[arg(long, value_name = "JSON|@FILE")]
        set: String,
        /// As if this node had written it: its edges say what comes next
        #[arg(long = "as", value_name = "NODE")]
        as_node: Option<String>,
        /// Who does it [default: $USER]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Record what a run's tasks gave, to be played without them
    Record {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// The file, readable by its owner only
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
    },
    /// List what a run did to the world outside, from its ledger
    Effects {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Prove that runs' logs are whole; exit 1 if one is not
    Verify {
        /// Run id or its first characters; 1 is the latest run [default: all runs]
        run: Option<String>,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Take away what need not be kept of runs at rest [default: what each graph's `retention` says]
    Prune {
        /// Only runs of this graph
        graph: Option<String>,
        /// Keep the whole history of the newest N runs of a graph, and of older ones the last state
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        keep_last: Option<u32>,
        /// Delete finished runs that are older, as 30d
        #[arg(long, value_name = "TIME", value_parser = duration)]
        max_age: Option<Duration>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// Where and how.
        #[command(flatten)]
        view: View,
    },
    /// Keep a run whole, whatever retention says
    Hold {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Why
        reason: String,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
    },
    /// Take the mark of `graph hold` away
    Unhold {
        /// Run id or its first characters; 1 is the latest run
        run: String,
        /// Where the logs and stores are.
        #[command(flatten)]
        place: Where,
    },
}

/// Where the stores are, and how something is printed.
#[derive(Clone, Debug, Args)]
pub struct View {
    /// Where the logs and stores are.
    #[command(flatten)]
    pub place: Where,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How a run is run.
#[derive(Clone, Debug, Default, Args)]
pub struct Going {
    /// Limits that take the place of the graph's, as tokens=200000,usd=0.50,steps=40,wall=10m
    #[arg(long, value_name = "LIMITS", value_parser = budget)]
    pub budget: Option<Budget>,
    /// Write what happens to a file as it happens, one JSON object a line; - is standard output
    #[arg(long, value_name = "FILE|-")]
    pub events: Option<PathBuf>,
    /// Which events, beside the run's beginning, end and gates [default: updates,tasks,custom]
    #[arg(long, value_name = "KINDS", value_delimiter = ',', requires = "events")]
    pub stream: Vec<StreamKind>,
}

/// A kind of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StreamKind {
    /// The whole state after each superstep.
    Values,
    /// What each superstep wrote.
    Updates,
    /// Supersteps and tasks as they begin, end and fail.
    Tasks,
    /// What tasks say themselves.
    Custom,
    /// Pieces of models' answers.
    Tokens,
    /// What was stored, and what waits.
    Debug,
}

impl From<StreamKind> for Stream {
    fn from(kind: StreamKind) -> Self {
        match kind {
            StreamKind::Values => Self::Values,
            StreamKind::Updates => Self::Updates,
            StreamKind::Tasks => Self::Tasks,
            StreamKind::Custom => Self::Custom,
            StreamKind::Tokens => Self::Tokens,
            StreamKind::Debug => Self::Debug,
        }
    }
}

/// What a graph is drawn as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DrawFormat {
    /// For the terminal.
    #[default]
    Text,
    /// For Markdown pages.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// For browsers.
    Svg,
}

/// Reads `30d`.
fn duration(text: &str) -> Result<Duration, String> {
    graph::duration(text).map_err(|why| format!("{why}; write a number and a unit, as 90s, 10m, 2h or 30d"))
}

/// Reads `tokens=200000,usd=0.50,steps=40,wall=10m`.
fn budget(text: &str) -> Result<Budget, String> {
    let mut budget = Budget::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is no NAME=LIMIT"))?;
        let (name, value) = (name.trim(), value.trim());
        let number = || {
            let digits = value.replace('_', "");
            let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| format!("`{name}` takes a whole number above 0, not `{value}`"))
        };
        match name {
            "tokens" => budget.tokens = Some(number()?),
            "steps" => {
                let steps = u32::try_from(number()?).map_err(|_| format!("`{value}` steps are too many"))?;
                budget.steps = Some(steps);
            }
            "usd" => budget.micro_usd = Some(micro_usd(value)?),
            "wall" => budget.wall = Some(duration(value)?),
            _ => return Err(format!("`{name}` is no limit; there are tokens, usd, steps and wall")),
        }
    }
    Ok(budget)
}

/// An amount in dollars as millionths.
fn micro_usd(text: &str) -> Result<u64, String> {
    let wrong = || format!("`usd` takes an amount above 0 and up to 1000000, as 0.50, not `{text}`");
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 6 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let rest: u64 = format!("{rest:0<6}").parse().map_err(|_| wrong())?;
    let micro = whole.checked_mul(1_000_000).and_then(|micro| micro.checked_add(rest));
    micro.filter(|micro| (1..=1_000_000_000_000).contains(micro)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_and_wrong_ones_say_what_is_wrong() {
        let whole = Budget {
            tokens: Some(200_000),
            micro_usd: Some(500_000),
            wall: Some(Duration::from_mins(10)),
            steps: Some(40),
        };
        assert_eq!(budget("tokens=200_000,usd=0.50,steps=40,wall=10m"), Ok(whole));
        assert_eq!(budget("usd=.000001").map(|budget| budget.micro_usd), Ok(Some(1)));
        assert_eq!(budget("usd=3").map(|budget| budget.micro_usd), Ok(Some(3_000_000)));
        for (text, says) in [
            ("", "no NAME=LIMIT"),
            ("tokens", "no NAME=LIMIT"),
            ("tokens=0", "above 0"),
            ("tokens=many", "`many`"),
            ("steps=5000000000", "too many"),
            ("usd=0", "above 0"),
            ("usd=-1", "above 0"),
            ("usd=1.2345678", "above 0"),
            ("wall=10", "no unit"),
            ("time=1h", "tokens, usd, steps and wall"),
        ] {
            let said = budget(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}

//! `sentrix build`: the image with OpenClaw.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::{Format, Global};
use super::failure::{self, Outcome};
use super::printer::{self, dim, size};
use super::progress::Progress;
use super::sandbox::{engine, failure, parsed};
use crate::clock;
use crate::sandbox::{
    BakedChannel, BuildEvent, BuildOptions, DEFAULT_BASE, DEFAULT_IMAGE, DEFAULT_OPENCLAW, ImageFacts,
};
use crate::text;

/// `sentrix build`
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The Docker engine must be on this machine. Behind a proxy that shows certificates of its own, \
    give its bundle with --ca-bundle. Exit codes: 0 built, 2 bad options, 3 no Docker, or the build failed."
)]
pub struct BuildArgs {
    /// Image that it begins with: Node 24.16 or newer on Debian
    #[arg(long, value_name = "IMAGE", default_value = DEFAULT_BASE)]
    pub base_image: String,
    /// Version of OpenClaw
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_OPENCLAW)]
    pub openclaw_version: String,
    /// Certificates of an intercepting proxy, in PEM
    #[arg(long, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// Plugins that are baked in: brave, discord, signal, slack, whatsapp
    #[arg(long, value_name = "CHANNEL", value_delimiter = ',', value_parser = parsed::<BakedChannel>)]
    pub channel: Vec<BakedChannel>,
    /// Name of the image
    #[arg(long, value_name = "NAME", default_value = DEFAULT_IMAGE)]
    pub image: String,
    /// Build every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Ask the registry for a newer base image
    #[arg(long)]
    pub pull: bool,
    /// How the outcome is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl From<&BuildArgs> for BuildOptions {
    fn from(args: &BuildArgs) -> Self {
        Self {
            image: args.image.clone(),
            base_image: args.base_image.clone(),
            openclaw_version: args.openclaw_version.clone(),
            ca_bundle: args.ca_bundle.clone(),
            channels: args.channel.iter().copied().collect(),
            no_cache: args.no_cache,
            pull: args.pull,
        }
    }
}

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &BuildArgs) -> Outcome {
    let engine = engine().await?;
    let clock = clock::system();
    let began = clock.monotonic();
    let facts = build(&engine, global, &BuildOptions::from(args)).await?;
    let took = clock.monotonic().saturating_sub(began);
    match args.format {
        Format::Json => {
            printer::json(&json!({ "version": 1, "image": facts, "seconds": took.as_secs() }))?;
        }
        Format::Table => printer::data(format_args!(
            "{} is built: OpenClaw {}, {}, in {} s\n  npm integrity {}",
            facts.name,
            facts.openclaw,
            size(facts.size_bytes),
            took.as_secs(),
            facts.integrity
        ))?,
    }
    Ok(failure::DONE)
}

/// Builds an image and shows how far it is: one line that changes where a person looks, plain lines elsewhere.
pub(super) async fn build(
    engine: &crate::sandbox::Engine,
    global: &Global,
    options: &BuildOptions,
) -> Result<ImageFacts, super::failure::Failure> {
    let progress = Progress::new(global);
    let is_live = progress.is_live();
    let mut at = String::new();
    let heard = |event: BuildEvent| match event {
        BuildEvent::Step { number, of, text } => {
            at = format!("step {number} of {of}");
            if is_live {
                progress.say(format!("{at}: {}", text::bounded(&text, 70)));
            } else {
                printer::note(dim(format!("{at}: {}", text::bounded(&text, 160))));
            }
        }
        BuildEvent::Line(line) if is_live => {
            progress.say(format!("{at}: {}", text::bounded(&line, 70)));
        }
        BuildEvent::Line(line) if global.verbose > 0 => printer::note(dim(line)),
        BuildEvent::Pull { status, bytes } if is_live => {
            let share = bytes.filter(|(_, of)| *of > 0).map(|(now, of)| format!(" {} %", now * 100 / of));
            progress.say(format!("base image: {}{}", text::bounded(&status, 50), share.unwrap_or_default()));
        }
        BuildEvent::Line(_) | BuildEvent::Pull { .. } => {}
    };
    let built = engine.build(options, heard).await;
    progress.clear();
    built.map_err(|error| failure(&error))
}

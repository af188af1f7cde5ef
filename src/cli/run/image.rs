//! The image: there, or built.

use std::collections::BTreeSet;

use super::args::RunArgs;
use super::view::View;
use crate::cli::failure::Failure;
use crate::cli::printer::{self, size, word};
use crate::cli::sandbox::failure as sandbox_failure;
use crate::config::Config;
use crate::sandbox::{BakedChannel, BuildEvent, BuildOptions, Engine, ImageFacts, ImageState, Wanted};
use crate::supervise::Shutdown;

/// Plugins that the configuration needs and that OpenClaw does not bring along.
pub(super) fn plugins(config: &Config) -> BTreeSet<BakedChannel> {
    let channels = config.channels().into_iter().filter(|channel| channel.enabled);
    let mut all: BTreeSet<BakedChannel> = channels.filter_map(|channel| channel.id.parse().ok()).collect();
    if config.search().brave.secret.is_some() {
        all.insert(BakedChannel::Brave);
    }
    all
}

/// Finds the image, and builds it where there is none.
///
/// # Errors
/// Where it cannot be built.
pub(super) async fn provide(
    engine: &Engine,
    args: &RunArgs,
    channels: &BTreeSet<BakedChannel>,
    view: &View,
    shutdown: &Shutdown,
) -> Result<ImageFacts, Failure> {
    let wanted = Wanted { channels: channels.clone(), ..Wanted::default() };
    match engine.image(&args.image, &wanted).await.map_err(|error| sandbox_failure(&error))? {
        ImageState::Current(facts) => Ok(facts),
        ImageState::Stale { facts, why } => {
            let list: Vec<&str> = channels.iter().map(|channel| channel.word()).collect();
            let more = if list.is_empty() { String::new() } else { format!(" --channel {}", list.join(",")) };
            let lacks = facts.lacks(channels);
            if !lacks.is_empty() {
                // OpenClaw would end at once: it is told to load what is not there.
                let base = if facts.base.is_empty() {
                    String::new()
                } else {
                    format!(" --base-image {}", word(&facts.base))
                };
                return Err(Failure::Usage(format!(
                    "the image {} cannot be used, {why}; build it anew: `sentrix build --image {}{base}{more}`{}",
                    args.image,
                    word(&args.image),
                    if facts.ca { ", with --ca-bundle as before" } else { "" },
                )));
            }
            view.say(&printer::dim(format!(
                "the image {} is used as it is, and is not what this Sentrix would build: {why}; `sentrix build --image {}{more}` makes it anew",
                args.image,
                word(&args.image),
            )));
            Ok(facts)
        }
        ImageState::Missing => {
            view.say(&format!(
                "There is no image {} yet: it is built now, which takes some minutes once.",
                args.image
            ));
            let options = BuildOptions {
                image: args.image.clone(),
                ca_bundle: args.ca_bundle.clone(),
                channels: channels.clone(),
                ..BuildOptions::default()
            };
            let mut step = String::new();
            let progress = |event: BuildEvent| match event {
                BuildEvent::Step { number, of, text } => {
                    step = format!("build {number} of {of}: {}", crate::text::bounded(&text, 80));
                    view.doing(&step);
                }
                BuildEvent::Line(line) if view.is_live() => {
                    view.doing(&format!("{step}\n  {}", crate::text::bounded(&line, 100)));
                }
                _ => {}
            };
            let facts = tokio::select! {
                built = engine.build(&options, progress) => built.map_err(|error| sandbox_failure(&error))?,
                () = shutdown.drain().cancelled() => return Err(Failure::Interrupted),
            };
            view.say(&format!(
                "✓ image {} built, {}, OpenClaw {}",
                facts.name,
                size(facts.size_bytes),
                facts.openclaw
            ));
            Ok(facts)
        }
    }
}

//! The image: there, or built.

use super::args::RunArgs;
use super::view::View;
use crate::cli::failure::Failure;
use crate::cli::printer::{self, size, word};
use crate::cli::sandbox::failure as sandbox_failure;
use crate::sandbox::{BakedChannel, BuildEvent, BuildOptions, Engine, ImageFacts, ImageState, Wanted};
use crate::supervise::Shutdown;

/// Finds the image, and builds it where there is none.
///
/// # Errors
/// Where it cannot be built.
pub(super) async fn provide(
    engine: &Engine,
    args: &RunArgs,
    channel: Option<BakedChannel>,
    view: &View,
    shutdown: &Shutdown,
) -> Result<ImageFacts, Failure> {
    let wanted = Wanted { channel, ..Wanted::default() };
    match engine.image(&args.image, &wanted).await.map_err(|error| sandbox_failure(&error))? {
        ImageState::Current(facts) => Ok(facts),
        ImageState::Stale { facts, why } => {
            let channel = channel.map(|channel| format!(" --channel {}", channel.word())).unwrap_or_default();
            view.say(&printer::dim(format!(
                "the image {} is used as it is, and is not what this Sentrix would build: {why}; `sentrix build --image {}{channel}` makes it anew",
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
                channel,
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

//! `sentrix run --gateway`: an OpenClaw that runs already is watched as it is.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use super::Started;
use super::args::RunArgs;
use super::snapshot::{Board, Snapshot};
use super::watch::{End, Watch, recorded};
use crate::capture::{Capture, Settings};
use crate::cli::args::Global;
use crate::cli::failure::{self, Failure, Outcome};
use crate::cli::printer::{self, count};
use crate::gateway::{Address, Connect, DeviceKey};
use crate::openclaw::gateway::Scope;
use crate::supervise::Shutdown;
use crate::text;

/// What nobody can promise about an OpenClaw outside of the sandbox.
const LIMITS: &[&str] = &[
    "no sandbox and no door: what its agents do is seen, nothing is held back",
    "what is not told to observers is not seen: raw thinking as the model sent it, model calls of OpenClaw's own (activity recaps)",
    "the gateway is believed: an OpenClaw that was tampered with can leave things out",
    "what happened while nobody watched is asked for afterwards, as far as its history goes",
];

/// Watches until Ctrl+C.
pub(super) async fn run(global: &Global, args: &RunArgs, url: &str, shutdown: &Shutdown) -> Outcome {
    let address = Address::parse(url)
        .map_err(|why| Failure::Usage(format!("--gateway `{}`: {why}", text::plain(url))))?;
    let token = token(args.token_file.as_deref())?;
    let started = Started::new(global, args, shutdown)?;
    let folder = crate::cli::sandbox::root()?;
    std::fs::create_dir_all(&folder).map_err(|error| {
        Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot make {}", folder.display())))
    })?;
    let unavailable = |error: crate::gateway::GatewayError| {
        let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
        Failure::Unavailable(anyhow::anyhow!("{error}{help}"))
    };
    let device = DeviceKey::open_or_create(&folder.join("observer.key")).map_err(unavailable)?;
    let connect = Connect { scopes: vec![Scope::Read], device: Some(device), ..Connect::new(address, token) };
    // Found out now, not by a line in the view: a wrong token or a device that waits for approval needs the user.
    let (client, events) =
        crate::gateway::Client::connect(&connect, started.clock.clone()).await.map_err(unavailable)?;
    client.close();
    drop(events);
    let view = &started.view;
    view.say(&format!("✓ gateway {} answers", text::plain(url)));
    view.say("An OpenClaw of your own is watched as it is:");
    for limit in LIMITS {
        view.say(&printer::fold(&format!("  - {limit}"), "    "));
    }
    let settings = Settings {
        gateway: Some(connect),
        rotate: started.rotate,
        reasoning: started.reasoning,
        ..Settings::new("observed", started.world.paths.logs.clone())
    };
    let services = Shutdown::new();
    let capture = Capture::start(settings, started.clock.clone(), &services, None)
        .map_err(|error| Failure::Unavailable(anyhow::Error::new(error)))?;
    let mut snapshot = Snapshot {
        version: 1,
        name: text::plain(url),
        log_dir: started.world.paths.logs.display().to_string(),
        ..Snapshot::default()
    };
    snapshot.sandbox.state = String::from("observed");
    let board = Board::new(snapshot);
    let station = started.station()?;
    let beat = started.beat(&station);
    let watch = Watch {
        board: &board,
        view,
        capture: &capture,
        beat: beat.as_ref(),
        timeout: (args.timeout > 0).then(|| Duration::from_secs(u64::from(args.timeout) * 60)),
        clock: &started.clock,
        shutdown,
        services: &services,
    };
    view.say(&format!("watching {}; logs in {}", text::plain(url), started.world.paths.logs.display()));
    let end = watch.go_on(std::future::pending(), std::future::pending()).await?;
    let status = watch.save().await?;
    view.clear();
    printer::note(format_args!(
        "saved: {} in {}",
        count(recorded(&status), "event"),
        started.world.paths.logs.display()
    ));
    match end {
        End::Failed => Err(Failure::Bug(anyhow::anyhow!("the capture ended by itself; see the log above"))),
        _ => Ok(failure::DONE),
    }
}

/// The gateway's token, of a file that only its owner may read.
fn token(file: Option<&Path>) -> Result<SecretString, Failure> {
    use std::os::unix::fs::MetadataExt;
    let Some(path) = file else {
        return Err(Failure::Usage(String::from(
            "--gateway needs --token-file FILE: the file holds the token, `gateway.auth.token` of that OpenClaw's configuration",
        )));
    };
    let wrong = |why: &str| Failure::Usage(format!("--token-file {}: {why}", path.display()));
    let data = std::fs::metadata(path).map_err(|error| wrong(&error.to_string()))?;
    if data.mode() & 0o077 != 0 {
        return Err(wrong("others may read it; `chmod 600` it"));
    }
    if data.len() > 4_096 {
        return Err(wrong("it is too large to be a token"));
    }
    let text = text::read_file(path).map_err(|error| wrong(&error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(wrong("it does not hold one token and nothing else"));
    }
    Ok(SecretString::from(token.to_owned()))
}

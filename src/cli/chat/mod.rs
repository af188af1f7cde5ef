//! `sentrix chat`: talking to `OpenClaw`, in the sandbox or in one that runs already.
//!
//! **Invariant:** what agents say reaches the terminal only through [`text::plain`], bounded.

mod answer;
mod turn;

use std::io::{BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Format, Global};
use super::failure::{self, Failure, Outcome};
use super::line::{self, History, Typed};
use super::printer;
use crate::config;
use crate::gateway::{Address, Client, Connect, Events, GatewayError};
use crate::openclaw::gateway::{CAP_TOOL_EVENTS, Scope};
use crate::{clock, text};
use turn::{Ended, Turn};

/// Bytes of a token's file.
const MOST_TOKEN: usize = 4096;

/// `sentrix chat`
#[derive(Clone, Debug, Args)]
pub struct ChatArgs {
    /// What to say; without it, a conversation until Ctrl+D
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// The conversation, as `main` or `agent:main:work`
    #[arg(long, value_name = "KEY", default_value = "main")]
    pub session: String,
    /// Show what the model thinks
    #[arg(long)]
    pub reasoning: bool,
    /// The sandbox
    #[arg(long, value_name = "NAME", default_value = "main", conflicts_with_all = ["dir", "gateway"])]
    pub name: String,
    /// The sandbox whose logs are in this directory
    #[arg(long, visible_alias = "log-dir", value_name = "DIR", conflicts_with = "gateway")]
    pub dir: Option<PathBuf>,
    /// An OpenClaw that runs already: `ws://127.0.0.1:18789`, `wss://…`, or the path of a socket
    #[arg(long, value_name = "URL", requires = "token_file")]
    pub gateway: Option<String>,
    /// File with that OpenClaw's gateway token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Runs the verb. Signals are its own: Ctrl+C during an answer stops the answer, not the conversation.
pub(super) fn run(global: &Global, args: &ChatArgs) -> Outcome {
    if args.format == Format::Json && args.message.is_none() {
        return Err(Failure::Usage("--format json needs a message: give one with -m".into()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::Unavailable(anyhow::Error::new(error).context("cannot start the runtime"))
    })?;
    let outcome = runtime.block_on(async {
        let mut chat = Chat::open(global, args).await?;
        match &args.message {
            Some(message) => {
                let ended = chat.say(message).await?;
                Ok(code(ended))
            }
            None => chat.converse().await,
        }
    });
    // A line that is being typed is not waited for.
    runtime.shutdown_background();
    outcome
}

const fn code(ended: Ended) -> u8 {
    match ended {
        Ended::Done => failure::DONE,
        Ended::Failed => failure::BAD_ANSWER,
        Ended::Aborted => failure::INTERRUPTED,
    }
}

/// Where the gateway is, and what opens it.
struct Place {
    connect: Connect,
    /// The key that a gateway which asks for a device gets to know us by.
    device: PathBuf,
    history: PathBuf,
}

struct Chat<'a> {
    args: &'a ChatArgs,
    place: Place,
    client: Client,
    events: Events,
    interrupts: Signal,
    with_thinking: bool,
}

impl<'a> Chat<'a> {
    async fn open(global: &Global, args: &'a ChatArgs) -> Result<Self, Failure> {
        let interrupts = signal(SignalKind::interrupt()).map_err(|error| {
            Failure::Unavailable(anyhow::Error::new(error).context("cannot listen for Ctrl+C"))
        })?;
        let place = place(args)?;
        let (client, events) = connect(&place).await?;
        let with_thinking = args.reasoning || global.verbose > 0;
        Ok(Self { args, place, client, events, interrupts, with_thinking })
    }

    /// One message and its answer, with a new connection where the last one has ended.
    async fn say(&mut self, message: &str) -> Result<Ended, Failure> {
        if self.client.ended().is_some() {
            (self.client, self.events) = connect(&self.place).await?;
        }
        let turn = Turn {
            client: &self.client,
            session: &self.args.session,
            format: self.args.format,
            with_thinking: self.with_thinking,
        };
        turn.run(message, &mut self.events, &mut self.interrupts).await
    }

    async fn converse(&mut self) -> Outcome {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return self.read_all().await;
        }
        printer::note(printer::dim(format_args!(
            "Session {} of OpenClaw {}. Ctrl+C stops an answer, Ctrl+D ends the conversation.",
            text::plain(&text::bounded(&self.args.session, 60)),
            text::plain(&text::bounded(&self.client.hello().server.version, 30)),
        )));
        let mut history = History::open(Some(self.place.history.clone()));
        loop {
            let prompt = "› ";
            // What was pressed while the last answer came is no wish to leave.
            while futures_util::FutureExt::now_or_never(self.interrupts.recv()).flatten().is_some() {}
            let asked = tokio::task::spawn_blocking(move || {
                let typed = line::read_line(prompt, 2, &history);
                (typed, history)
            });
            let (typed, back) = asked
                .await
                .map_err(|error| Failure::Bug(anyhow::Error::new(error).context("the line reader ended")))?;
            history = back;
            let typed = typed.map_err(|error| {
                Failure::Unavailable(anyhow::Error::new(error).context("cannot read from the terminal"))
            })?;
            match typed {
                Typed::End => return Ok(failure::DONE),
                Typed::Interrupted => return Ok(failure::INTERRUPTED),
                Typed::Line(line) => match line.trim() {
                    "" => {}
                    "/exit" | "/quit" => return Ok(failure::DONE),
                    message => {
                        history.add(&line);
                        self.say(message).await?;
                    }
                },
            }
        }
    }

    /// Each line of standard input is a message.
    async fn read_all(&mut self) -> Outcome {
        let mut worst = failure::DONE;
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| {
                Failure::Unavailable(anyhow::Error::new(error).context("cannot read standard input"))
            })?;
            if !line.trim().is_empty() {
                let code = code(self.say(line.trim()).await?);
                if code == failure::INTERRUPTED {
                    return Ok(code);
                }
                worst = worst.max(code);
            }
        }
        Ok(worst)
    }
}

async fn connect(place: &Place) -> Result<(Client, Events), Failure> {
    Client::connect_or_pair(&place.connect, &place.device, clock::system())
        .await
        .map_err(|error| unreachable_gateway(&error))
}

/// What a person reads where the gateway cannot be talked to.
fn unreachable_gateway(error: &GatewayError) -> Failure {
    let said = error.help().map_or_else(|| error.to_string(), |help| format!("{error}; {help}"));
    Failure::Unavailable(anyhow::anyhow!(said))
}

fn place(args: &ChatArgs) -> Result<Place, Failure> {
    let usage = |said: String| Failure::Usage(said);
    let root = config::sandboxes().ok_or_else(|| usage("neither XDG_STATE_HOME nor HOME is set".into()))?;
    let device = root.join("device.key");
    let history = root.join("chat_history");
    let (address, token_file) = if let (Some(gateway), Some(file)) = (&args.gateway, &args.token_file) {
        let address = Address::parse(gateway).map_err(|error| usage(format!("--gateway: {error}")))?;
        make_private(&root)?;
        (address, file.clone())
    } else {
        let folder = root.join(name(args, &root)?);
        if !folder.is_dir() {
            return Err(Failure::Unavailable(anyhow::anyhow!(
                "there is no sandbox {}; start one with `sentrix run`, or give --gateway and --token-file for an OpenClaw \
                 that runs already",
                folder.display()
            )));
        }
        (Address::Socket(folder.join("gateway/gateway.sock")), folder.join("token"))
    };
    let mut connect = Connect::new(address, token(&token_file)?);
    connect.scopes = vec![Scope::Read, Scope::Write];
    connect.caps = vec![CAP_TOOL_EVENTS];
    connect.limit = Duration::from_secs(20);
    Ok(Place { connect, device, history })
}

fn make_private(root: &std::path::Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|error| {
        Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot make {}", root.display())))
    })
}

/// The sandbox that was meant.
fn name(args: &ChatArgs, root: &std::path::Path) -> Result<String, Failure> {
    let Some(dir) = &args.dir else {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if args.name.is_empty() || args.name.len() > 32 || !args.name.chars().all(sound) {
            return Err(Failure::Usage(format!("`{}` is no name of a sandbox", text::plain(&args.name))));
        }
        return Ok(args.name.clone());
    };
    let wanted = std::fs::canonicalize(dir)
        .map_err(|error| Failure::Usage(format!("there is no directory {}: {error}", dir.display())))?;
    let logs_of = |folder: &std::path::Path| {
        let record = text::read_file(&folder.join("sandbox.json")).ok()?;
        let record: Value = serde_json::from_str(&record).ok()?;
        std::fs::canonicalize(record.get("log_dir")?.as_str()?).ok()
    };
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    folders
        .filter(|entry| logs_of(&entry.path()).is_some_and(|logs| logs == wanted))
        .find_map(|entry| entry.file_name().into_string().ok())
        .ok_or_else(|| {
            Failure::Unavailable(anyhow::anyhow!(
                "no sandbox logs to {}; start one with `sentrix run --log-dir {}`",
                dir.display(),
                dir.display()
            ))
        })
}

/// The token in a file.
fn token(file: &std::path::Path) -> Result<SecretString, Failure> {
    let text = text::read_file(file).map_err(|error| {
        Failure::Unavailable(
            anyhow::Error::new(error)
                .context(format!("cannot read the gateway's token in {}", file.display())),
        )
    })?;
    let token = text.trim();
    if token.is_empty() || token.len() > MOST_TOKEN || token.contains(char::is_whitespace) {
        return Err(Failure::Usage(format!("{} holds no token", file.display())));
    }
    Ok(token.into())
}

/// The parameters of `chat.send`.
fn send(session: &str, message: &str, key: &str) -> Value {
    json!({ "sessionKey": session, "message": message, "idempotencyKey": key })
}

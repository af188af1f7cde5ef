//! The way of a sandbox: engine, image, door, container, self-test, watch, and back until nothing is left.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::args::RunArgs;
use super::boot;
use super::control::{Answers, Control};
use super::plan::Plan;
use super::proof::Proof;
use super::snapshot::{Board, Snapshot};
use super::tend::Tended;
use super::watch::{End, Watch, recorded};
use super::{Started, image, login, port, require_model};
use crate::capture::{Capture, Settings};
use crate::cli::args::Global;
use crate::cli::failure::{self, Failure, Outcome};
use crate::cli::printer::{self, bold, count, dim};
use crate::cli::sandbox::failure as sandbox_failure;
use crate::door::{Destination, Door, DoorListener, Fittings, Limits, Policy, System, file};
use crate::gateway::{Address, Connect};
use crate::sandbox::selftest::Ask;
use crate::sandbox::{Egress, Engine, Found, GRACE, Layout, Owner, Record, State};
use crate::store::egress::EgressStore;
use crate::supervise::Shutdown;
use crate::text;

/// Longest wait for the door's last events.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// Runs until Ctrl+C, `sentrix stop`, or a time without activity.
pub(super) async fn run(global: &Global, args: &RunArgs, shutdown: &Shutdown) -> Outcome {
    require_model(global, args, shutdown).await?;
    let started = Started::new(global, args, shutdown)?;
    let config = &started.world.config;
    let plan = Plan::of(args, config)?;
    let view = &started.view;
    for warning in plan.spec.relaxed.warnings() {
        view.say(&bold(warning));
    }
    let _lock = lock(&plan.layout)?;
    let listener = take_port(args.port).await?;
    view.doing("looking for Docker");
    let engine = crate::cli::sandbox::engine().await?;
    plan.spec.check(engine.facts()).map_err(|error| sandbox_failure(&error))?;
    view.say(&format!("✓ Docker {} at {}", text::plain(&engine.facts().version), engine.address()));
    let there = engine.look_for(&plan.name).await.map_err(|error| sandbox_failure(&error))?;
    let goes_on = goes_on(args, there.as_ref())?;
    let services = Shutdown::new();
    let mut running = Running {
        engine,
        plan,
        started: &started,
        services,
        door: None,
        is_made: false,
        proof: None,
        not_agents: Vec::new(),
    };
    let outcome = if goes_on { running.attach(there.as_ref()) } else { running.start(args, shutdown).await };
    let outcome = match outcome {
        Ok(()) => running.watch(args, listener, shutdown).await,
        Err(failure) => Err(failure),
    };
    let cleared = running.clear().await;
    running.services.drain().cancel();
    view.clear();
    let code = outcome?;
    cleared?;
    Ok(code)
}

/// The sandbox's own lock: one `sentrix run` a sandbox.
fn lock(layout: &Layout) -> Result<File, Failure> {
    let folder = layout.folder();
    let path = folder.join("run.lock");
    let fault = |error: std::io::Error| {
        Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot lock {}", path.display())))
    };
    crate::store::export::private_dir(folder).map_err(crate::cli::world::store_failure)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::Refused(format!(
            "the sandbox `{}` is run by another `sentrix run`; `sentrix stop --name {0}` ends it, another --name starts one beside it",
            layout.name()
        ))),
        Err(std::fs::TryLockError::Error(error)) => Err(fault(error)),
    }
}

async fn take_port(number: u16) -> Result<TcpListener, Failure> {
    port::bind(number).await.map_err(|error| {
        Failure::Unavailable(anyhow::anyhow!(
            "port {number} on 127.0.0.1 cannot be taken ({error}); give another with --port"
        ))
    })
}

/// Whether to go on with a container that is there.
fn goes_on(args: &RunArgs, there: Option<&Found>) -> Result<bool, Failure> {
    let Some(found) = there.filter(|found| boot::is_alive(found)) else {
        return if args.attach {
            Err(Failure::Usage(format!(
                "there is no sandbox `{}` to go on with; leave out --attach",
                args.name
            )))
        } else {
            Ok(false)
        };
    };
    if args.attach {
        return Ok(true);
    }
    let what = format!(
        "the sandbox `{}` is there already ({}), left by an earlier run",
        found.name,
        found.state.word()
    );
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        let asked = inquire::Confirm::new(&format!("{what}. Go on with it?")).with_default(true).prompt();
        return match asked {
            Ok(true) => Ok(true),
            Ok(false) => Err(Failure::Left("Nothing was changed. `sentrix stop` takes it away.")),
            Err(_) => Err(Failure::Interrupted),
        };
    }
    Err(Failure::Refused(format!("{what}; `--attach` goes on with it, `sentrix stop` takes it away")))
}

/// A sandbox on its way.
struct Running<'a> {
    engine: Engine,
    plan: Plan,
    started: &'a Started,
    /// Door and capture: they go on while OpenClaw ends.
    services: Shutdown,
    door: Option<Door>,
    /// Whether there is a container of this run, which is taken away at the end.
    is_made: bool,
    /// The proof that it holds, of a sandbox that this run has made.
    proof: Option<Proof>,
    /// Runs and sessions of self-tests, this one's and those of runs before that had the same container.
    not_agents: Vec<String>,
}

impl Running<'_> {
    async fn start(&mut self, args: &RunArgs, shutdown: &Shutdown) -> Result<(), Failure> {
        let (config, view) = (&self.started.world.config, &self.started.view);
        let uses_whatsapp =
            config.channels().iter().any(|channel| channel.enabled && channel.id == "whatsapp");
        let built = image::provide(&self.engine, args, &image::plugins(config), view, shutdown).await?;
        let owner = Owner::of(self.engine.facts());
        let layout = &self.plan.layout.clone();
        layout.create(&owner).map_err(|error| sandbox_failure(&error))?;
        let token = layout.token().map_err(|error| sandbox_failure(&error))?;
        let rendered = super::openclaw::render(config, &self.plan, args, token)?;
        layout.write_config(&rendered.config, &owner).map_err(|error| sandbox_failure(&error))?;
        layout.write_secrets(&rendered.secrets, &owner).map_err(|error| sandbox_failure(&error))?;
        self.open_door(rendered.destinations.clone())?;
        let mut proof = self.new_proof(&rendered.destinations);
        let record = Record {
            version: 1,
            name: self.plan.name.to_string(),
            container: self.plan.name.container(),
            image: built.id,
            started: self.started.clock.now().to_string(),
            log_dir: std::path::absolute(&self.started.world.paths.logs).ok(),
            relaxed: self.plan.spec.relaxed.iter().map(|relax| relax.name().to_owned()).collect(),
            options: json!({
                "egress": self.plan.spec.egress.word(),
                "destinations": rendered.destinations.iter().map(|to| json!({
                    "host": to.host, "port": to.port, "why": to.why, "private": to.private,
                })).collect::<Vec<_>>(),
            }),
        };
        self.remember(record, &proof)?;
        view.doing("making the container");
        self.is_made = true;
        boot::start(&self.engine, &self.plan.spec, layout).await?;
        let clock = &self.started.clock;
        let began = clock.monotonic();
        let programs = async {
            let rows = proof.programs(&self.engine, layout, self.door.as_ref()).await;
            (rows, clock.monotonic().saturating_sub(began))
        };
        // Programs try to get out while OpenClaw still loads: they need none of it.
        let (took, (rows, tried)) =
            tokio::join!(boot::wait(&self.engine, layout, clock, view, shutdown), programs);
        let took = took?;
        proof.judge(rows, tried, (layout, clock, view))?;
        self.proof = Some(proof);
        view.say(&format!(
            "✓ OpenClaw {} is ready after {:.1} s",
            text::plain(&built.openclaw),
            took.as_secs_f64()
        ));
        if uses_whatsapp {
            login::whatsapp(&self.engine, layout, view, shutdown).await?;
        }
        Ok(())
    }

    /// Goes on with a container that an earlier run left.
    fn attach(&mut self, there: Option<&Found>) -> Result<(), Failure> {
        let record = self.plan.layout.record().unwrap_or_default();
        let egress = there.map(|found| found.egress.clone()).unwrap_or_default();
        self.plan.spec.egress = egress.parse().unwrap_or(Egress::Door);
        self.plan.spec.relaxed = record.relaxed.iter().filter_map(|name| name.parse().ok()).collect();
        for warning in self.plan.spec.relaxed.warnings() {
            self.started.view.say(&bold(warning));
        }
        let destinations = destinations_of(&record.options);
        self.open_door(destinations.clone())?;
        let proof = self.new_proof(&destinations);
        self.remember(record, &proof)?;
        if there.is_some_and(|found| found.state == State::Paused) {
            self.started.view.say("It is paused, and stays so until `sentrix resume`.");
        } else {
            self.proof = Some(proof);
        }
        self.is_made = true;
        self.started.view.say(&format!("✓ going on with the sandbox {}", self.plan.name));
        Ok(())
    }

    fn new_proof(&self, destinations: &[Destination]) -> Proof {
        Proof::new(Ask {
            allowed: destinations.first().map(|to| (to.host.clone(), to.port)),
            ..Ask::of(&self.plan.spec)
        })
    }

    /// Writes what a later run has to know: also what no agent did, so that no record ever takes it for an agent's.
    fn remember(&mut self, mut record: Record, proof: &Proof) -> Result<(), Failure> {
        let mut names = names_of(&record.options);
        names.extend(proof.names());
        if !record.options.is_object() {
            record.options = json!({});
        }
        if let Some(options) = record.options.as_object_mut() {
            options.insert("not_agents".into(), json!(names));
        }
        self.not_agents = names;
        self.plan.layout.write_record(&record).map_err(|error| sandbox_failure(&error))
    }

    fn open_door(&mut self, destinations: Vec<Destination>) -> Result<(), Failure> {
        if self.plan.spec.egress != Egress::Door {
            return Ok(());
        }
        let paths = &self.started.world.paths;
        let rules = file::read(&paths.egress_rules()).map_err(|error| door_failure(&error))?;
        let policy = Policy::new(&destinations, &rules).map_err(|faults| {
            Failure::Usage(crate::door::render(&faults, printer::colour(), usize::from(printer::width())))
        })?;
        let store = EgressStore::open(&paths.egress(), self.plan.name.as_str())
            .map_err(crate::cli::world::store_failure)?;
        let listener =
            DoorListener::unix(&self.plan.layout.door_socket()).map_err(|error| door_failure(&error))?;
        let door = Door::open(
            listener,
            Fittings {
                sandbox: self.plan.name.to_string(),
                policy,
                limits: Limits::default(),
                outside: Arc::new(System::default()),
                sink: Arc::new(store),
                clock: Arc::clone(&self.started.clock),
                shutdown: self.services.clone(),
            },
        )
        .map_err(|error| door_failure(&error))?;
        door.watch(&paths.egress_rules(), destinations);
        self.door = Some(door);
        Ok(())
    }

    async fn watch(&mut self, args: &RunArgs, listener: TcpListener, shutdown: &Shutdown) -> Outcome {
        let (started, layout) = (self.started, &self.plan.layout);
        let view = &started.view;
        let logs = &started.world.paths.logs;
        let token = layout.token().map_err(|error| sandbox_failure(&error))?;
        let settings = Settings {
            raw: Some(layout.raw_file()),
            gateway: Some(Connect::new(Address::Socket(layout.gateway_socket()), token)),
            rotate: started.rotate,
            reasoning: started.reasoning,
            home: Some(layout.home_dir()),
            leave_out: self.not_agents.clone(),
            ..Settings::new(self.plan.name.as_str(), logs.clone())
        };
        let capture = Capture::start(settings, Arc::clone(&started.clock), &self.services, None)
            .map_err(|error| Failure::Unavailable(anyhow::Error::new(error)))?;
        port::serve(listener, layout.gateway_socket(), shutdown);
        let board = Arc::new(Board::new(self.first_snapshot()));
        let answers = Desk { board: Arc::clone(&board), door: self.door.clone(), shutdown: shutdown.clone() };
        let _control =
            Control::open(&layout.control_socket(), Arc::new(answers), shutdown).map_err(|error| {
                Failure::Unavailable(anyhow::Error::new(error).context("cannot open the control socket"))
            })?;
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
            services: &self.services,
        };
        view.say(&self.invitation(args));
        let tended = Tended {
            engine: &self.engine,
            layout,
            capture: &capture,
            door: self.door.as_ref(),
            proof: self.proof.as_ref(),
            clock: &started.clock,
        };
        let proving = async {
            match &self.proof {
                Some(proof) => {
                    proof
                        .agent(&self.engine, layout, self.door.as_ref(), (&board, view, &started.clock))
                        .await
                }
                None => Ok(()),
            }
        };
        let end = Box::pin(watch.go_on(tended.watch(&board, view), proving)).await?;
        match &end {
            End::Asked => {}
            End::Idle(time) => view.say(&format!(
                "Nothing happened for {}: the sandbox is stopped (--timeout 0 never does).",
                super::snapshot::span(*time)
            )),
            End::Gone(why) => view.say(&bold(why)),
            End::Escaped(why) => view.say(&bold(why)),
            End::Failed => view.say(&bold("a part of Sentrix failed; everything is stopped")),
        }
        view.doing("stopping OpenClaw; Ctrl+C again leaves at once");
        match self.engine.stop(&self.plan.name, GRACE).await {
            Err(error) if !error.is_not_found() => {
                view.say(&format!("OpenClaw could not be stopped: {error}"));
            }
            _ => {}
        }
        let status = watch.save().await?;
        view.clear();
        let now = board.read();
        printer::note(format_args!("saved: {} in {}", count(recorded(&status), "event"), logs.display()));
        if let Some(patrol) = &now.patrol {
            let flags: u64 = patrol.flags.iter().map(|(_, number)| number).sum();
            printer::note(format_args!(
                "       {} reviewed, {} not reviewed yet; {}, {} (`sentrix police`)",
                count(patrol.reviewed, "turn"),
                patrol.pending + patrol.unreviewed,
                count(flags, "flag"),
                count(patrol.cases, "case"),
            ));
        }
        printer::note(format_args!(
            "       OpenClaw's state and workspace stay in {}",
            layout.home_dir().display()
        ));
        match end {
            End::Asked | End::Idle(_) => Ok(failure::DONE),
            End::Gone(why) => Err(Failure::Unavailable(anyhow::anyhow!(why))),
            End::Escaped(why) => Err(Failure::Refused(why)),
            End::Failed => Err(Failure::Bug(anyhow::anyhow!("a part that must not end ended; see above"))),
        }
    }

    fn first_snapshot(&self) -> Snapshot {
        let mut now = Snapshot {
            version: 1,
            name: self.plan.name.to_string(),
            log_dir: self.started.world.paths.logs.display().to_string(),
            ..Snapshot::default()
        };
        now.sandbox.state = String::from("running");
        now.sandbox.self_test = match &self.proof {
            Some(_) => None,
            None => self.plan.layout.self_test().map(|report| (report.refused(), report.rows.len())),
        };
        now.sandbox.egress = String::from(self.plan.spec.egress.word());
        now.sandbox.relaxed = self.plan.spec.relaxed.iter().map(|relax| relax.name().to_owned()).collect();
        now.patrol = self.started.wanted.map(|_| super::snapshot::Patrol::default());
        now.door = self.door.is_some().then(super::snapshot::Door::default);
        now
    }

    fn invitation(&self, args: &RunArgs) -> String {
        let name = if args.name == crate::sandbox::SandboxName::DEFAULT {
            String::new()
        } else {
            format!(" --name {}", self.plan.name)
        };
        format!(
            "watching {}; logs in {}\n{}",
            self.plan.name,
            self.started.world.paths.logs.display(),
            dim(format!("talk to it from another terminal: sentrix chat{name}"))
        )
    }

    /// Takes away what there is of the sandbox.
    async fn clear(&self) -> Result<(), Failure> {
        if !self.is_made {
            return Ok(());
        }
        if let Some(door) = &self.door
            && !door.clone().finish(LAST_EVENTS).await
        {
            self.started.view.say("the door's last events could not all be kept");
        }
        self.engine
            .reap(&self.plan.name, Some(&self.plan.layout), false)
            .await
            .map(drop)
            .map_err(|error| sandbox_failure(&error))
    }
}

/// Who answers at the control socket.
struct Desk {
    board: Arc<Board>,
    door: Option<Door>,
    shutdown: Shutdown,
}

impl Answers for Desk {
    async fn answer(&self, question: Value) -> Value {
        match question.get("cmd").and_then(Value::as_str) {
            Some("status") => serde_json::to_value(self.board.read()).unwrap_or_default(),
            Some("stop") => {
                self.shutdown.drain().cancel();
                json!({ "stopping": true })
            }
            Some("egress.probe") => self.probe(&question).await,
            _ => json!({ "error": "no such command; there are status, stop, egress.probe" }),
        }
    }
}

impl Desk {
    async fn probe(&self, question: &Value) -> Value {
        let host = question.get("host").and_then(Value::as_str).unwrap_or_default();
        let port = question.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let (Some(door), Some(port)) = (&self.door, port) else {
            return json!({ "error": "this sandbox has no door" });
        };
        match door.probe(host, port).await {
            Ok(probe) => serde_json::to_value(probe).unwrap_or_default(),
            Err(error) => json!({ "error": text::plain(&error.to_string()) }),
        }
    }
}

/// What no agent did, as a record holds it.
fn names_of(options: &Value) -> Vec<String> {
    let all = options.get("not_agents").and_then(Value::as_array).cloned().unwrap_or_default();
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The destinations that a record holds.
fn destinations_of(options: &Value) -> Vec<Destination> {
    let all = options.get("destinations").and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    all.iter()
        .filter_map(|to| {
            Some(Destination {
                host: text(to, "host"),
                port: u16::try_from(to.get("port")?.as_u64()?).ok()?,
                why: text(to, "why"),
                private: to.get("private").and_then(Value::as_bool).unwrap_or(false),
            })
        })
        .collect()
}

fn door_failure(error: &crate::door::DoorError) -> Failure {
    if error.faults().is_empty() {
        Failure::Unavailable(anyhow::anyhow!("{error}"))
    } else {
        Failure::Usage(format!(
            "{error}\n\n{}",
            crate::door::render(error.faults(), printer::colour(), usize::from(printer::width()))
        ))
    }
}

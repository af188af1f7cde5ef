//! Opens what the commands work with: stores, detectors, models, graphs.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::args::{Global, Where};
use super::failure::Failure;
use super::printer;
use crate::clock::{self, SharedClock};
use crate::config::{self, Config, ConfigError, Flags, Paths, folder_beside_config};
use crate::detect::Detectors;
use crate::engine::{
    CheckpointError, CheckpointErrorKind, Checkpointer, EngineError, EngineErrorKind, Keys, Registry,
};
use crate::model::{Models, Redactor, Surroundings};
use crate::patrol::{PatrolDeps, PatrolSettings};
use crate::police::{PoliceDeps, PoliceSettings, StationError};
use crate::store::patrol_state::{PatrolStore, Versions};
use crate::store::police::PoliceStore;
use crate::store::usage::UsageStore;
use crate::store::{SqliteCheckpointer, StoreError, export};
use crate::workflow::{Host, Library, WorkflowError};
use crate::{patrol, police, text};

/// Everything a command may need of one log directory.
#[derive(Debug)]
pub(super) struct World {
    pub(super) paths: Paths,
    pub(super) patrol: Arc<PatrolDeps>,
    pub(super) police: Arc<PoliceDeps>,
    pub(super) host: Host,
    pub(super) config: Config,
    /// What models cost; none where no model is asked.
    pub(super) usage: Option<Arc<UsageStore>>,
}

/// What the user asked for, in files, environment and flags.
pub(super) fn config(global: &Global, place: Option<&Where>) -> Result<Config, Failure> {
    let flags = Flags {
        config: global.config.clone(),
        log_dir: place.and_then(|place| place.log_dir.clone()),
        data_dir: place.and_then(|place| place.data_dir.clone()),
        escalation: None,
    };
    let config = Config::load(&flags).map_err(|error| config_failure(&error))?;
    for note in config.notes() {
        printer::note(printer::dim(note));
    }
    Ok(config)
}

/// Where a command's files are.
pub(super) fn paths(global: &Global, place: &Where) -> Result<Paths, Failure> {
    Ok(config(global, Some(place))?.paths())
}

/// That a log directory is one.
pub(super) fn require_folder(logs: &Path) -> Result<(), Failure> {
    let wrong = if logs.is_dir() {
        return Ok(());
    } else if logs.exists() {
        format!("{} is no directory; --log-dir takes the directory with the logs", logs.display())
    } else {
        format!(
            "there is no log directory {}; give one with --log-dir, or try `sentrix demo`",
            logs.display()
        )
    };
    Err(Failure::Usage(wrong))
}

/// That a directory has been patrolled: its stores are there, or the earlier tool's.
pub(super) fn require_stores(paths: &Paths) -> Result<(), Failure> {
    let stores = [paths.patrol_state(), paths.police(), paths.flags_export()];
    if stores.iter().any(|path| path.exists()) {
        return Ok(());
    }
    require_folder(&paths.logs)?;
    let unavailable = |error: std::io::Error| {
        Failure::Unavailable(
            anyhow::Error::new(error).context(format!("cannot look into {}", paths.data.display())),
        )
    };
    match std::fs::read_dir(&paths.data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unavailable(error)),
        _ => Err(Failure::Usage(format!(
            "nothing has been patrolled in {} yet; run `sentrix patrol --once --log-dir {}`",
            paths.data.display(),
            paths.logs.display()
        ))),
    }
}

/// The graphs and prompts at hand.
pub(super) fn library(global: &Global) -> Result<Library, Failure> {
    let folder =
        |given: &Option<std::path::PathBuf>, name| given.clone().or_else(|| folder_beside_config(name));
    for given in [&global.graphs_dir, &global.prompts_dir].into_iter().flatten() {
        if !given.is_dir() {
            return Err(Failure::Usage(format!("{} is no folder", given.display())));
        }
    }
    Library::load(
        folder(&global.graphs_dir, "graphs").as_deref(),
        folder(&global.prompts_dir, "prompts").as_deref(),
    )
    .map_err(workflow_failure)
}

impl World {
    /// As [`World::open`], for a command that may ask models: one that is set up and cannot be asked is a fault now.
    pub(super) fn open_to_work(global: &Global, place: &Where) -> Result<Self, Failure> {
        let world = Self::open(global, place)?;
        for line in world.config.elsewhere() {
            printer::note(printer::dim(line));
        }
        let models = &world.patrol.models;
        for model in models.roles().filter_map(|role| models.get(role)) {
            model.ready().map_err(|error| Failure::Usage(text::plain(&error.to_string())))?;
        }
        Ok(world)
    }

    /// Opens the stores of a log directory, making them where they are not there yet.
    pub(super) fn open(global: &Global, place: &Where) -> Result<Self, Failure> {
        let config = config(global, Some(place))?;
        let paths = config.paths();
        require_folder(&paths.logs)?;
        let library = library(global)?;
        let (patrol_settings, police_settings, max_tokens) = settings(&config);
        export::private_dir(&paths.data).map_err(store_failure)?;
        let clock = clock::system();
        let roles = config.models();
        // Where no model is asked, nothing is counted.
        let (models, usage) = if roles.is_empty() {
            (Models::default(), None)
        } else {
            let usage = Arc::new(UsageStore::open(&paths.usage()).map_err(store_failure)?);
            (Models::build(roles, &surroundings(&config, &usage, &clock)), Some(usage))
        };
        let store = Arc::new(PatrolStore::open(&paths.patrol_state()).map_err(store_failure)?);
        let police = Arc::new(PoliceStore::open(&paths.police()).map_err(store_failure)?);
        patrol::import_flags(&store, &paths.flags_export()).map_err(store_failure)?;
        let deps = Deps {
            stores: (store, police),
            detectors: Detectors::builtin().clone(),
            models: models.clone(),
            settings: (patrol_settings, police_settings),
            clock: Arc::clone(&clock),
        };
        let (patrol, police, registry) = deps.rooms(&paths, &library);
        let checkpoints =
            SqliteCheckpointer::open(&paths.checkpoints(), Arc::clone(&clock)).map_err(store_failure)?;
        let checkpoints: Arc<dyn Checkpointer> = Arc::new(checkpoints);
        let keys = Arc::new(state_keys(&config, &paths)?);
        let host = Host::new(
            library,
            registry,
            models,
            max_tokens,
            (Some(checkpoints), Some(keys)),
            Arc::clone(&clock),
        );
        Ok(Self { paths, patrol, police, host, config, usage })
    }
}

/// A host that checks, draws and tests graphs: all functions are known, and no store or model is touched.
pub(super) fn dry_host(global: &Global) -> Result<Host, Failure> {
    let library = library(global)?;
    let (patrol_settings, police_settings, ..) = settings(&config(global, None)?);
    let clock = clock::system();
    let models = Models::default();
    let deps = Deps {
        stores: (
            Arc::new(PatrolStore::in_memory().map_err(store_failure)?),
            Arc::new(PoliceStore::in_memory().map_err(store_failure)?),
        ),
        detectors: Detectors::from_packs(&[]).map_err(|error| Failure::Bug(error.into()))?,
        models: models.clone(),
        settings: (patrol_settings, police_settings),
        clock: Arc::clone(&clock),
    };
    let (.., registry) = deps.rooms(&Paths::beside(""), &library);
    Ok(Host::new(library, registry, models, BTreeMap::new(), (None, None), clock))
}

/// What patrol and police both work with.
struct Deps {
    stores: (Arc<PatrolStore>, Arc<PoliceStore>),
    detectors: Detectors,
    models: Models,
    settings: (PatrolSettings, PoliceSettings),
    clock: SharedClock,
}

impl Deps {
    /// Patrol, police and their node functions.
    fn rooms(self, paths: &Paths, library: &Library) -> (Arc<PatrolDeps>, Arc<PoliceDeps>, Registry) {
        let patrol = Arc::new(PatrolDeps {
            logs: paths.logs.clone(),
            flags_export: paths.flags_export(),
            store: Arc::clone(&self.stores.0),
            detectors: self.detectors.clone(),
            models: self.models.clone(),
            prompts: library.shared_prompts(),
            settings: self.settings.0,
            clock: Arc::clone(&self.clock),
            cores: patrol::cores(),
        });
        let police = Arc::new(PoliceDeps {
            logs: paths.logs.clone(),
            reports: paths.reports(),
            patrol: self.stores.0,
            police: self.stores.1,
            detectors: self.detectors,
            models: self.models,
            settings: self.settings.1,
            clock: self.clock,
        });
        let mut registry = Registry::new();
        patrol::tasks::register(&mut registry, &patrol);
        police::tasks::register(&mut registry, &police);
        (patrol, police, registry)
    }
}

type Settings = (PatrolSettings, PoliceSettings, BTreeMap<String, u32>);

/// What is put around every model: the ledger in the data directory, placeholders and masks.
pub(super) fn surroundings(config: &Config, usage: &Arc<UsageStore>, clock: &SharedClock) -> Surroundings {
    Surroundings {
        ledger: Some((Arc::clone(usage) as _, config.budgets(), Arc::clone(clock))),
        answers: config.cache_answers().then(|| Arc::clone(usage) as _),
        placeholders: config.redact_to_model().then_some(Redactor {
            mask: |text| Detectors::builtin().redact(text),
            is_personal: |label| Detectors::builtin().is_personal(label),
        }),
        // What a model says goes into checkpoints, cases and onto the terminal.
        mask: |text| Detectors::builtin().redact(text),
        limits: config.limits(),
    }
}

/// What the rooms take of the configuration.
fn settings(config: &Config) -> Settings {
    let roles = config.models();
    let first = |role: &str| roles.iter().find(|known| known.role == role)?.chain.first();
    let (patrol, police) = (config.patrol(), config.police());
    let max_tokens = BTreeMap::from([
        ("patrol".to_owned(), patrol.max_tokens),
        ("investigator".to_owned(), police.max_tokens),
    ]);
    let patrol = PatrolSettings {
        confidence_threshold: patrol.confidence_threshold,
        max_tokens: patrol.max_tokens,
        max_attempts: patrol.max_attempts,
        redact: config.redact_to_model(),
        window_chars: patrol.window_chars,
        versions: Versions {
            ruleset: patrol
                .ruleset_version
                .unwrap_or_else(|| Detectors::builtin().ruleset_version().to_owned()),
            model: patrol
                .model_version
                .or_else(|| first("patrol").map(|model| model.model.clone()))
                .unwrap_or_else(|| String::from("rules")),
        },
    };
    let police = PoliceSettings { max_turn_chars: police.max_turn_chars, role: String::from("investigator") };
    (patrol, police, max_tokens)
}

/// The keys that seal secrets and sign logs and answers: made of `SENTRIX_STATE_KEY`, else of a file of random bytes in
/// the data directory, which is made where it is not there yet.
fn state_keys(config: &Config, paths: &Paths) -> Result<Keys, Failure> {
    if let Some((secret, origin)) = config.state_key() {
        return Keys::from_secret(secret.expose_secret().as_bytes())
            .map_err(|error| Failure::Usage(format!("{origin}: {error}")));
    }
    let path = paths.state_key();
    let fault = |source: std::io::Error| {
        Failure::Unavailable(anyhow::Error::new(source).context(format!("the key file {}", path.display())))
    };
    let read = || -> std::io::Result<Vec<u8>> {
        let mut secret = Vec::new();
        File::open(&path)?.take(1024).read_to_end(&mut secret)?;
        Ok(secret)
    };
    let secret = match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let fresh = Keys::fresh_secret().map_err(|error| Failure::Bug(anyhow::Error::new(error)))?;
            match export::write_private_new(&path, fresh.as_bytes()) {
                Ok(()) => fresh.into_bytes(),
                // Another process was faster.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read().map_err(fault)?,
                Err(error) => return Err(fault(error)),
            }
        }
        other => other.map_err(fault)?,
    };
    Keys::from_secret(&secret).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Held by whoever runs graphs on a directory's stores; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock(#[expect(dead_code, reason = "the lock lives as long as the file")] File);

impl DirLock {
    /// Takes the lock.
    pub(super) fn take(paths: &Paths) -> Result<Self, Failure> {
        export::private_dir(&paths.data).map_err(store_failure)?;
        let path = paths.data.join(".sentrix.lock");
        let fault = |source: std::io::Error| {
            Failure::Unavailable(
                anyhow::Error::new(source).context(format!("cannot lock {}", path.display())),
            )
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(fault)?;
                file.rewind().map_err(fault)?;
                write!(file, "{}", std::process::id()).map_err(fault)?;
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                drop(file.read_to_string(&mut holder));
                Err(Failure::Unavailable(anyhow::anyhow!(
                    "another sentrix{} works in {}; wait for it or stop it",
                    if holder.is_empty() { String::new() } else { format!(" (process {holder})") },
                    paths.data.display()
                )))
            }
            Err(TryLockError::Error(error)) => Err(fault(error)),
        }
    }
}

/// The configuration's faults as the command line shows them.
pub(super) fn config_failure(error: &ConfigError) -> Failure {
    let faults = config::render(error.faults(), printer::colour(), usize::from(printer::width()));
    Failure::Usage(format!("{error}\n\n{}", faults.trim_end()))
}

/// A store's fault as the command line shows it.
pub(super) fn store_failure(error: StoreError) -> Failure {
    if !error.is_damaged() {
        return Failure::Unavailable(anyhow::Error::new(error));
    }
    Failure::Unavailable(anyhow::anyhow!(
        "{}\nMove the file away: the next `sentrix patrol --once` makes a new one.",
        text::causes(&error)
    ))
}

/// A workflow's fault as the command line shows it.
pub(super) fn workflow_failure(error: WorkflowError) -> Failure {
    match error {
        WorkflowError::Faults { name, faults } => Failure::Usage(format!(
            "graph `{name}` cannot run\n\n{}",
            faults.render(printer::colour(), usize::from(printer::width()))
        )),
        WorkflowError::NoSuchGraph { .. }
        | WorkflowError::Prompt(_)
        | WorkflowError::Exists { .. }
        | WorkflowError::Tests { .. } => Failure::Usage(error.to_string()),
        WorkflowError::Read { .. } => Failure::Usage(format!("failed to {}", text::causes(&error))),
        WorkflowError::Write { .. } => {
            Failure::Unavailable(anyhow::anyhow!("failed to {}", text::causes(&error)))
        }
        WorkflowError::Engine(error) => engine_failure(&error),
        WorkflowError::Circle { .. } => Failure::Usage(error.to_string()),
        error => Failure::Unavailable(anyhow::Error::new(error)),
    }
}

/// The engine's fault as the command line shows it.
pub(super) fn engine_failure(error: &EngineError) -> Failure {
    let said = text::bounded(&text::plain(&text::causes(error)), 2_000);
    match &error.kind {
        EngineErrorKind::Input { .. } | EngineErrorKind::NoSuchPlace(_) | EngineErrorKind::Upgrade(_) => {
            Failure::Usage(said)
        }
        EngineErrorKind::Gate { .. }
        | EngineErrorKind::Checkpoint(CheckpointError { kind: CheckpointErrorKind::Answered(_), .. }) => {
            Failure::Refused(said)
        }
        _ => Failure::Unavailable(anyhow::anyhow!(said)),
    }
}

/// The station's fault as the command line shows it.
pub(super) fn station_failure(error: StationError) -> Failure {
    match error {
        StationError::Store(error) => store_failure(error),
        StationError::Workflow(error) => workflow_failure(error),
        StationError::NoSuchFlag(_) => Failure::Usage(error.to_string()),
    }
}

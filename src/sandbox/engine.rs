//! The Docker engine: where it is, whether it answers, what it can do.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use sha2::{Digest, Sha256};

use super::error::{SandboxError, SandboxErrorKind};
use crate::text;

/// How long the engine may take for an ordinary answer.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
/// How long it may take to say who it is.
const HELLO: Duration = Duration::from_secs(20);

/// What the environment says about the engine. Only `config` reads the environment; this is what it found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineHints {
    /// `DOCKER_HOST`: the one place that is tried.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`: name of a context of Docker's command line.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`: folder of Docker's command line (default `~/.docker`).
    pub docker_config: Option<PathBuf>,
    /// The user's folder.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, where rootless engines have their sockets.
    pub runtime_dir: Option<PathBuf>,
}

/// A place where an engine may be, and why it is looked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    why: String,
    address: String,
}

/// How an attempt to reach an engine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is no such socket.
    Absent,
    /// The socket is there and this user may not use it.
    Denied,
    /// The socket is there and nobody listens.
    NotRunning,
    /// Something listens, and its answer was none of an engine.
    Odd(String),
    /// An address that Sentrix cannot use, and why.
    Unusable(String),
}

/// One attempt to reach an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Why it was looked for there, as `DOCKER_HOST`.
    pub why: String,
    /// The socket or address.
    pub address: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why there is no engine: what was tried, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// All attempts, in order.
    pub tried: Vec<Attempt>,
}

impl Diagnosis {
    /// What the user can do, the likeliest first.
    pub fn what_to_do(&self) -> String {
        let any = |wanted: &Outcome| self.tried.iter().find(|attempt| attempt.outcome == *wanted);
        let named = self.tried.iter().find(|attempt| attempt.why.starts_with("DOCKER_"));
        if let Some(attempt) = any(&Outcome::Denied) {
            return format!(
                "you may not use {}: `sudo usermod -aG docker $USER`, then log in again (or run rootless Docker); \
                 whoever is in that group is root on this machine",
                attempt.address
            );
        }
        if any(&Outcome::NotRunning).is_some() {
            return String::from(
                "the engine is installed and not running: `sudo systemctl start docker`, or start Docker Desktop",
            );
        }
        if let Some(attempt) = self
            .tried
            .iter()
            .find(|attempt| matches!(attempt.outcome, Outcome::Odd(_) | Outcome::Unusable(_)))
        {
            return match named {
                Some(named) => {
                    format!("set {} to a Unix socket of an engine on this machine, or unset it", named.why)
                }
                None => format!("look into what listens at {}", attempt.address),
            };
        }
        match named {
            Some(named) => format!("{} names no socket that is there: correct it or unset it", named.why),
            None => String::from(
                "install Docker Engine (https://docs.docker.com/engine/install/; on Debian and Ubuntu `sudo apt-get \
                 install docker.io`) or Docker Desktop and start it",
            ),
        }
    }
}

impl Diagnosis {
    /// What was tried, a line each, after one that says how it came out.
    pub fn attempts(&self) -> String {
        let mut out = String::from("no Docker engine answers");
        for attempt in &self.tried {
            let outcome = match &attempt.outcome {
                Outcome::Absent => String::from("no such socket"),
                Outcome::Denied => String::from("permission denied"),
                Outcome::NotRunning => String::from("the socket is there, nobody listens"),
                Outcome::Odd(said) => format!("no engine's answer: {said}"),
                Outcome::Unusable(why) => why.clone(),
            };
            text::push(&mut out, format_args!("\n  tried {} ({}): {outcome}", attempt.address, attempt.why));
        }
        out
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  what to do: {}", self.attempts(), self.what_to_do())
    }
}

/// What an engine is and can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Version of the engine, as `20.10.24`.
    pub version: String,
    /// Version of its protocol that is spoken.
    pub api: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Whether it maps users of containers to others (`userns-remap`).
    pub remaps_users: bool,
    /// Whether it can filter system calls.
    pub seccomp: bool,
    /// Whether a profile of `AppArmor` is put around containers.
    pub apparmor: bool,
    /// Runtimes by name, as `runc`, `runsc`, `kata`.
    pub runtimes: Vec<String>,
    /// The runtime that is used where none is named.
    pub default_runtime: String,
    /// Bytes of memory that it has.
    pub memory_bytes: u64,
    /// Cores that it has.
    pub cpus: u64,
    /// 1 or 2.
    pub cgroup_version: String,
    /// Whether limits of memory, swap and processes hold.
    pub limits: Limits,
    /// Kernel that containers run on.
    pub kernel: String,
    /// Name of the system that it runs on.
    pub system: String,
    /// Whether containers share this machine's kernel. Where they do not (Docker Desktop), Unix sockets on bound
    /// folders do not reach the host, and the sandbox cannot be used as it is.
    pub this_kernel: bool,
    /// Whether it is Podman behind Docker's protocol.
    pub podman: bool,
}

/// Which limits an engine can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// Number of processes.
    pub pids: bool,
    /// Share of the cores.
    pub cpu: bool,
}

/// A Docker engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) docker: Docker,
    address: String,
    facts: Facts,
}

impl Engine {
    /// Finds the engine: `DOCKER_HOST` alone where it is set, then the context of Docker's command line, then the usual
    /// sockets of Docker, of rootless Docker, of Docker Desktop and of Podman. Asks it who it is, within seconds.
    ///
    /// # Errors
    /// [`SandboxErrorKind::NoEngine`] with what was tried and what to do.
    pub async fn find(hints: &EngineHints) -> Result<Self, SandboxError> {
        let mut diagnosis = Diagnosis::default();
        for candidate in candidates(hints) {
            match Self::try_at(&candidate).await {
                Ok(engine) => return Ok(engine),
                Err(outcome) => {
                    tracing::debug!(address = %candidate.address, ?outcome, "no engine there");
                    diagnosis.tried.push(Attempt {
                        why: candidate.why,
                        address: text::plain(&candidate.address),
                        outcome,
                    });
                }
            }
        }
        Err(SandboxError {
            doing: String::from("find Docker"),
            kind: SandboxErrorKind::NoEngine(Box::new(diagnosis)),
        })
    }

    async fn try_at(candidate: &Candidate) -> Result<Self, Outcome> {
        let path = socket_path(&candidate.address)?;
        // What the system says about the socket tells absence, permission and silence apart; the library does not.
        UnixStream::connect(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Outcome::Absent,
            ErrorKind::PermissionDenied => Outcome::Denied,
            ErrorKind::ConnectionRefused => Outcome::NotRunning,
            _ => Outcome::Odd(error.to_string()),
        })?;
        let odd = |error: bollard::errors::Error| {
            Outcome::Odd(text::bounded(&text::plain(&error.to_string()), 200))
        };
        let address = path.to_string_lossy().into_owned();
        let docker =
            Docker::connect_with_unix(&address, ANSWER.as_secs(), API_DEFAULT_VERSION).map_err(odd)?;
        let asked = async {
            let docker = docker.negotiate_version().await?;
            let version = docker.version().await?;
            let info = docker.info().await?;
            Ok((docker, version, info))
        };
        let (docker, version, info) = tokio::time::timeout(HELLO, asked)
            .await
            .map_err(|_| Outcome::Odd(format!("no answer within {} s", HELLO.as_secs())))?
            .map_err(odd)?;
        let api = docker.client_version().to_string();
        let mut facts = facts_of(info, api);
        facts.podman = version
            .components
            .unwrap_or_default()
            .iter()
            .any(|component| component.name.to_ascii_lowercase().contains("podman"));
        Ok(Self { docker, address, facts })
    }

    /// The socket that it listens at.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it is and can do.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A connection whose answers may take that long.
    pub(super) fn patient(&self, time: Duration) -> Docker {
        self.docker.clone().with_timeout(time)
    }
}

/// The path of a Unix socket in an address.
fn socket_path(address: &str) -> Result<PathBuf, Outcome> {
    if let Some(path) = address.strip_prefix("unix://") {
        return Ok(PathBuf::from(path));
    }
    if address.starts_with('/') {
        return Ok(PathBuf::from(address));
    }
    Err(Outcome::Unusable(String::from(
        "the engine must be on this machine, behind a Unix socket: the sandbox shares folders and sockets with it",
    )))
}

/// Where an engine may be, in the order of trying.
fn candidates(hints: &EngineHints) -> Vec<Candidate> {
    let at = |why: &str, address: String| Candidate { why: why.to_owned(), address };
    if let Some(host) = &hints.docker_host {
        return vec![at("DOCKER_HOST", host.clone())];
    }
    if let Some((why, address)) = context(hints) {
        return vec![at(&why, address)];
    }
    let mut all = vec![at("Docker's usual socket", String::from("unix:///var/run/docker.sock"))];
    let mut add = |why: &str, folder: &Option<PathBuf>, socket: &str| {
        if let Some(folder) = folder {
            all.push(at(why, format!("unix://{}", folder.join(socket).display())));
        }
    };
    add("rootless Docker", &hints.runtime_dir, "docker.sock");
    add("Docker Desktop", &hints.home, ".docker/run/docker.sock");
    add("Docker Desktop for Linux", &hints.home, ".docker/desktop/docker.sock");
    add("rootless Podman", &hints.runtime_dir, "podman/podman.sock");
    all.push(at("Podman", String::from("unix:///run/podman/podman.sock")));
    all
}

/// The context that Docker's command line uses, unless it is the default one.
///
/// Source: docker/cli `cli/context/store`: `currentContext` in `config.json`; a context's folder is the SHA-256 of its
/// name.
fn context(hints: &EngineHints) -> Option<(String, String)> {
    let folder = hints.docker_config.clone().or_else(|| Some(hints.home.as_ref()?.join(".docker")))?;
    let json = |path: &Path| -> Option<serde_json::Value> {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    };
    let (why, name) = if let Some(name) = &hints.docker_context {
        (String::from("DOCKER_CONTEXT"), name.clone())
    } else {
        let name = json(&folder.join("config.json"))?.get("currentContext")?.as_str()?.to_owned();
        (format!("context `{}` of Docker", text::plain(&name)), name)
    };
    if name.is_empty() || name == "default" {
        return None;
    }
    let id = hex(&Sha256::digest(name.as_bytes()));
    let meta = json(&folder.join("contexts/meta").join(id).join("meta.json"))?;
    let host = meta.pointer("/Endpoints/docker/Host")?.as_str()?;
    Some((why, host.to_owned()))
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        text::push(&mut out, format_args!("{byte:02x}"));
        out
    })
}

fn facts_of(info: bollard::models::SystemInfo, api: String) -> Facts {
    let security = info.security_options.unwrap_or_default();
    let has = |name: &str| {
        security
            .iter()
            .any(|option| option.split(',').any(|part| part == name || part == format!("name={name}")))
    };
    let kernel = info.kernel_version.unwrap_or_default();
    // Source: proc(5); where there is no such file, this is no Linux and the engine is in a virtual machine.
    let here = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
    runtimes.sort();
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let system = info.operating_system.unwrap_or_default();
    Facts {
        version: info.server_version.unwrap_or_default(),
        api,
        rootless: has("rootless"),
        remaps_users: has("userns"),
        seccomp: has("seccomp"),
        apparmor: has("apparmor"),
        runtimes,
        default_runtime: info.default_runtime.unwrap_or_default(),
        memory_bytes: number(info.mem_total),
        cpus: number(info.ncpu),
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        limits: Limits {
            memory: info.memory_limit.unwrap_or(false),
            swap: info.swap_limit.unwrap_or(false),
            pids: info.pids_limit.unwrap_or(false),
            cpu: info.cpu_cfs_quota.unwrap_or(false),
        },
        this_kernel: !kernel.is_empty() && here.trim() == kernel && !system.contains("Docker Desktop"),
        kernel,
        system,
        podman: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints_in(home: &Path) -> EngineHints {
        EngineHints { home: Some(home.to_owned()), ..EngineHints::default() }
    }

    async fn diagnosis(hints: &EngineHints) -> Diagnosis {
        match Engine::find(hints).await.unwrap_err().kind {
            SandboxErrorKind::NoEngine(diagnosis) => *diagnosis,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn absence_silence_and_strangers_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.sock");
        let hints =
            EngineHints { docker_host: Some(format!("unix://{}", path.display())), ..Default::default() };
        let absent = diagnosis(&hints).await;
        assert_eq!(absent.tried[0].outcome, Outcome::Absent);
        assert!(absent.to_string().contains("DOCKER_HOST names no socket"), "{absent}");

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let silent = diagnosis(&hints).await;
        assert_eq!(silent.tried[0].outcome, Outcome::NotRunning);
        assert!(silent.to_string().contains("systemctl start docker"));

        std::fs::remove_file(&path).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let stranger = std::thread::spawn(move || {
            for _ in 0..2 {
                let Ok((mut stream, _)) = listener.accept() else { return };
                drop(std::io::Write::write_all(&mut stream, b"SSH-2.0-nobody\r\n\r\n"));
            }
        });
        let odd = diagnosis(&hints).await;
        assert!(matches!(odd.tried[0].outcome, Outcome::Odd(_)), "{odd:?}");
        drop(stranger);

        let far = EngineHints { docker_host: Some("tcp://10.0.0.1:2375".into()), ..Default::default() };
        assert!(diagnosis(&far).await.to_string().contains("must be on this machine"));
    }

    #[test]
    fn the_context_of_the_command_line_goes_before_the_usual_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(".docker");
        let meta = folder.join("contexts/meta").join(hex(&Sha256::digest(b"mine")));
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(folder.join("config.json"), r#"{"currentContext":"mine"}"#).unwrap();
        std::fs::write(meta.join("meta.json"), r#"{"Endpoints":{"docker":{"Host":"unix:///x/d.sock"}}}"#)
            .unwrap();
        let all = candidates(&hints_in(dir.path()));
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].address, "unix:///x/d.sock");
        std::fs::write(folder.join("config.json"), r#"{"currentContext":"default"}"#).unwrap();
        let all = candidates(&hints_in(dir.path()));
        assert_eq!(all[0].address, "unix:///var/run/docker.sock");
        assert!(all.iter().any(|candidate| candidate.why == "Docker Desktop"));
    }

    #[test]
    fn who_may_not_is_told_how() {
        let tried = vec![Attempt {
            why: "Docker's usual socket".into(),
            address: "unix:///var/run/docker.sock".into(),
            outcome: Outcome::Denied,
        }];
        assert!(Diagnosis { tried }.to_string().contains("usermod -aG docker"));
        assert!(Diagnosis::default().what_to_do().contains("install Docker Engine"));
    }
}

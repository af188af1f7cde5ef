//! What a sandbox's container is made of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use serde::{Deserialize, Serialize};

use super::engine::Facts;
use super::error::SandboxError;
use super::layout::{Layout, Owner};
use super::name::Label;
use super::relax::{Guard, Relax, Relaxations};

/// Bytes of one gibibyte.
pub const GIB: u64 = 1 << 30;
/// Least memory of a sandbox, in bytes.
///
/// Source: OpenClaw 2026.9.6 idles at 0.7 to 0.9 GB and was ended at 1 GB as soon as a second process of it ran beside.
pub const LEAST_MEMORY: u64 = 2 * GIB;
/// Fewest processes. Source: 37 were the most seen in a light test of 2026.9.6.
const FEWEST_PIDS: u32 = 128;
/// Largest file that a process of the sandbox may write, in bytes.
pub const LARGEST_FILE: u64 = 4 * GIB;
/// Our filter of system calls.
pub const SECCOMP: &str = include_str!("../../docker/seccomp.json");

/// Where the container's folders are bound. Source: `docker/entry.mjs`, `docker/Dockerfile`.
pub mod inside {
    /// OpenClaw's configuration.
    pub const CONFIG: &str = "/etc/openclaw";
    /// Keys.
    pub const SECRETS: &str = "/run/sentrix/secrets";
    /// The door's socket.
    pub const DOOR: &str = "/run/sentrix/door";
    /// The gateway's socket.
    pub const GATEWAY: &str = "/run/sentrix/gateway";
    /// The raw stream.
    pub const RAW: &str = "/run/sentrix/raw";
    /// The user's folder.
    pub const HOME: &str = "/home/node";
    /// OpenClaw's state and workspace.
    pub const STATE: &str = "/home/node/.openclaw";
    /// The agents' workspace. Source: OpenClaw 2026.9.6, default of `agents.defaults.workspace`.
    pub const WORKSPACE: &str = "/home/node/.openclaw/workspace";
    /// Address of the door for OpenClaw's `proxy.proxyUrl`.
    pub const PROXY_URL: &str = "http://127.0.0.1:3128";
    /// Certificates of an intercepting proxy, where the image has them.
    pub const CA: &str = "/usr/local/share/sentrix/ca.crt";
}

/// What leaves the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// What the door lets out; there is no network.
    #[default]
    Door,
    /// Everything: a bridge network of its own.
    Open,
    /// Nothing.
    None,
}

impl Egress {
    /// As on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Open => "open",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Egress {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Door, Self::Open, Self::None].into_iter().find(|egress| egress.word() == text).ok_or_else(
            || SandboxError::options("read the way out", "it is `door`, `open` or `none`".to_owned()),
        )
    }
}

/// What is started in the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inside {
    /// OpenClaw and the relays.
    #[default]
    OpenClaw,
    /// The relays alone; for tests of what needs no OpenClaw.
    Relays,
}

/// A container that is to be made.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Image, by name or id.
    pub image: String,
    /// What leaves it.
    pub egress: Egress,
    /// Most memory in bytes; swap included.
    pub memory_bytes: u64,
    /// Most processor time, in thousandths of a core.
    pub milli_cpus: u32,
    /// Most processes and threads.
    pub pids: u32,
    /// Another runtime than the engine's default, as `runsc`.
    pub runtime: Option<String>,
    /// Guards that the user lifted.
    pub relaxed: Relaxations,
    /// Variables of OpenClaw's environment. Everybody at this machine's Docker can read them: never a key.
    pub env: BTreeMap<String, String>,
    /// Hash of the configuration, for the label.
    pub config_hash: String,
    /// What is started.
    pub inside: Inside,
    /// Guards that are left off to prove that the self-test notices; empty outside of tests.
    pub without: BTreeSet<Guard>,
}

impl ContainerSpec {
    /// The secure default for an image.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            egress: Egress::Door,
            memory_bytes: LEAST_MEMORY,
            milli_cpus: 2000,
            pids: 256,
            runtime: None,
            relaxed: Relaxations::default(),
            env: BTreeMap::new(),
            config_hash: String::new(),
            inside: Inside::OpenClaw,
            without: BTreeSet::new(),
        }
    }

    /// Refuses what cannot work on this engine, or what would be less safe than it looks.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Options`] with the option and the reason.
    pub fn check(&self, facts: &Facts) -> Result<(), SandboxError> {
        let refuse = |option: &str, why: String| Err(SandboxError::options(option, why));
        if self.memory_bytes < LEAST_MEMORY && !self.relaxed.has(Relax::Memory) {
            return refuse(
                "use --memory",
                format!(
                    "{} MiB are less than 2g: OpenClaw idles at 0.7 to 0.9 GB, and with 1g the kernel ended it as soon \
                     as a second process of it ran; `--relax memory` allows it all the same",
                    self.memory_bytes >> 20
                ),
            );
        }
        if facts.memory_bytes > 0 && self.memory_bytes > facts.memory_bytes {
            return refuse("use --memory", format!("the engine has {} MiB in all", facts.memory_bytes >> 20));
        }
        if self.pids < FEWEST_PIDS {
            return refuse(
                "use --pids",
                format!("OpenClaw needs at least {FEWEST_PIDS} processes and threads"),
            );
        }
        if self.milli_cpus < 100 {
            return refuse("use --cpus", String::from("less than a tenth of a core never gets ready"));
        }
        if facts.cpus > 0 && u64::from(self.milli_cpus) > facts.cpus * 1000 {
            return refuse("use --cpus", format!("the engine has {} cores", facts.cpus));
        }
        if let Some(runtime) = &self.runtime
            && !facts.runtimes.iter().any(|known| known == runtime)
        {
            let known = facts.runtimes.join(", ");
            return refuse("use --runtime", format!("the engine does not offer it; it offers {known}"));
        }
        if self.egress == Egress::Open && !self.relaxed.has(Relax::EgressOpen) {
            return refuse(
                "use --egress open",
                String::from("nothing would be checked or refused: say `--relax egress-open` too"),
            );
        }
        if !facts.this_kernel {
            return refuse(
                "use this engine",
                format!(
                    "it runs in a machine of its own ({}): sockets on bound folders do not reach across, so neither \
                     the door nor the gateway can be reached",
                    crate::text::plain(&facts.system)
                ),
            );
        }
        if facts.remaps_users {
            return refuse(
                "use this engine",
                String::from(
                    "it maps users of containers to others (userns-remap): what Sentrix binds in could not be read",
                ),
            );
        }
        if !facts.seccomp && !self.relaxed.has(Relax::Seccomp) {
            return refuse(
                "use this engine",
                String::from("it cannot filter system calls; `--relax seccomp` allows it all the same"),
            );
        }
        Ok(())
    }

    fn off(&self, guard: Guard) -> bool {
        self.without.contains(&guard)
    }

    /// The limits that its processes have.
    fn ulimits(&self) -> Vec<ResourcesUlimits> {
        let limit = |name: &str, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
        };
        // The kernel counts a user's processes over all containers and the host: this only stops what the limit of the
        // container's own processes does not see.
        let mut limits = vec![limit("nofile", 16_384), limit("nproc", 8_192), limit("core", 0)];
        if !self.off(Guard::FileSize) && !self.relaxed.has(Relax::FileSize) {
            limits.push(limit("fsize", LARGEST_FILE));
        }
        limits
    }

    fn mounts(&self, layout: &Layout, owner: &Owner) -> Vec<Mount> {
        let bind = |source: &Path, target: &str, read_only: bool| Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.to_owned()),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let mut mounts = vec![
            bind(&layout.config_dir(), inside::CONFIG, !self.off(Guard::ConfigReadOnly)),
            bind(&layout.secrets_dir(), inside::SECRETS, !self.off(Guard::Mounts)),
            bind(&layout.gateway_dir(), inside::GATEWAY, false),
            bind(&layout.raw_dir(), inside::RAW, false),
            bind(&layout.home_dir(), inside::STATE, false),
        ];
        if self.egress == Egress::Door {
            mounts.push(bind(&layout.door_dir(), inside::DOOR, true));
        }
        if owner.unknown {
            mounts.push(bind(&layout.passwd_file(), "/etc/passwd", true));
        }
        if self.off(Guard::Mounts) {
            mounts.push(bind(Path::new("/var/run/docker.sock"), "/var/run/docker.sock", false));
        }
        mounts
    }

    fn tmpfs(&self, owner: &Owner) -> HashMap<String, String> {
        let who = format!("uid={},gid={}", owner.uid, owner.gid);
        let bounded = |size: &str| {
            if self.off(Guard::Tmpfs) { String::from("exec") } else { format!("noexec,size={size}") }
        };
        HashMap::from([
            ("/tmp".to_owned(), format!("rw,nosuid,nodev,mode=1777,{}", bounded("256m"))),
            (
                format!("{}/.cache", inside::HOME),
                format!("rw,nosuid,nodev,mode=0700,{},{who}", bounded("256m")),
            ),
            (format!("{}/media", inside::CONFIG), format!("rw,nosuid,nodev,noexec,mode=0700,size=64m,{who}")),
        ])
    }

    fn security(&self) -> Vec<String> {
        let mut security = Vec::new();
        if !self.off(Guard::NoNewPrivileges) {
            security.push(String::from("no-new-privileges"));
        }
        if self.off(Guard::Seccomp) {
            security.push(String::from("seccomp=unconfined"));
        } else if !self.relaxed.has(Relax::Seccomp) {
            security.push(format!("seccomp={SECCOMP}"));
        }
        security
    }

    /// The labels of everything that belongs to this sandbox.
    pub(super) fn labels(&self, layout: &Layout) -> HashMap<String, String> {
        [
            (Label::OURS, String::from("1")),
            (Label::NAME, layout.name().to_string()),
            (Label::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
            (Label::CONFIG, self.config_hash.clone()),
            (Label::EGRESS, self.egress.to_string()),
            (Label::FOLDER, layout.folder().to_string_lossy().into_owned()),
            (Label::RELAXED, self.relaxed.names()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// What the engine is asked to make. `ca` says whether the image has certificates of an intercepting proxy.
    pub(super) fn body(&self, layout: &Layout, owner: &Owner, ca: bool) -> ContainerCreateBody {
        let mut env: BTreeMap<String, String> = self.env.clone();
        let mut set = |name: &str, value: &str| env.insert(name.to_owned(), value.to_owned());
        set("HOME", inside::HOME);
        set("OPENCLAW_CONFIG_PATH", &format!("{}/openclaw.json", inside::CONFIG));
        set("SENTRIX_EGRESS", self.egress.word());
        if self.inside == Inside::Relays {
            set("SENTRIX_ENTRY", "relays");
        }
        if ca {
            set("NODE_EXTRA_CA_CERTS", inside::CA);
        }
        let user =
            if self.off(Guard::User) { String::from("0:0") } else { format!("{}:{}", owner.uid, owner.gid) };
        let network = match self.egress {
            Egress::Open => layout.name().container(),
            _ if self.off(Guard::NoNetwork) => String::from("bridge"),
            _ => String::from("none"),
        };
        let memory = i64::try_from(self.memory_bytes).unwrap_or(i64::MAX);
        let host = HostConfig {
            mounts: Some(self.mounts(layout, owner)),
            tmpfs: Some(self.tmpfs(owner)),
            network_mode: Some(network),
            readonly_rootfs: Some(!self.off(Guard::ReadOnlyRoot) && !self.relaxed.has(Relax::ReadOnly)),
            cap_drop: Some(vec![String::from("ALL")]),
            cap_add: self.off(Guard::Capabilities).then(|| {
                // One by one: an engine in a container of its own cannot give all.
                "SYS_ADMIN SYS_PTRACE SYS_CHROOT SYS_MODULE SYS_BOOT NET_RAW MKNOD DAC_READ_SEARCH DAC_OVERRIDE"
                    .split(' ')
                    .map(String::from)
                    .collect()
            }),
            security_opt: Some(self.security()),
            privileged: Some(false),
            masked_paths: self.off(Guard::Kernel).then(Vec::new),
            readonly_paths: self.off(Guard::Kernel).then(Vec::new),
            devices: self.off(Guard::Kernel).then(|| {
                let device = Some(String::from("/dev/fuse"));
                vec![DeviceMapping {
                    path_on_host: device.clone(),
                    path_in_container: device,
                    cgroup_permissions: Some(String::from("rw")),
                }]
            }),
            pids_limit: (!self.off(Guard::Pids)).then_some(i64::from(self.pids)),
            memory: Some(memory),
            memory_swap: Some(memory),
            nano_cpus: Some(i64::from(self.milli_cpus) * 1_000_000),
            ulimits: Some(self.ulimits()),
            init: Some(true),
            pid_mode: self.off(Guard::Kernel).then(|| String::from("host")),
            ipc_mode: Some(String::from("private")),
            shm_size: Some(64 << 20),
            runtime: self.runtime.clone(),
            // Docker waits longer each time: 0.1 s, doubled up to a minute.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ON_FAILURE),
                maximum_retry_count: Some(10),
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some(String::from("json-file")),
                config: Some(
                    [("max-size", "10m"), ("max-file", "3")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
            }),
            oom_score_adj: Some(500),
            ..HostConfig::default()
        };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            user: Some(user),
            // Always the same: OpenClaw takes the state folder over from a killed predecessor at once only if that ran on
            // a machine of this name; else it refuses to start for five minutes. Source: 2026.9.6, gateway owner lease.
            hostname: Some(String::from("sandbox")),
            env: Some(env.into_iter().map(|(key, value)| format!("{key}={value}")).collect()),
            labels: Some(self.labels(layout)),
            stop_signal: Some(String::from("SIGTERM")),
            stop_timeout: Some(30),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::name::SandboxName;

    fn facts() -> Facts {
        Facts {
            seccomp: true,
            this_kernel: true,
            memory_bytes: 8 * GIB,
            cpus: 4,
            runtimes: vec!["runc".into(), "runsc".into()],
            ..Facts::default()
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let spec = || ContainerSpec::new("i");
        assert!(spec().check(&facts()).is_ok());
        let refused = |spec: ContainerSpec| spec.check(&facts()).unwrap_err().to_string();
        assert!(refused(ContainerSpec { memory_bytes: GIB, ..spec() }).contains("0.7 to 0.9 GB"));
        let relaxed = [Relax::Memory].into_iter().collect();
        assert!(ContainerSpec { memory_bytes: GIB, relaxed, ..spec() }.check(&facts()).is_ok());
        assert!(refused(ContainerSpec { runtime: Some("kata".into()), ..spec() }).contains("runc, runsc"));
        assert!(refused(ContainerSpec { egress: Egress::Open, ..spec() }).contains("--relax egress-open"));
        assert!(refused(ContainerSpec { pids: 64, ..spec() }).contains("128"));
        assert!(refused(ContainerSpec { memory_bytes: 9 * GIB, ..spec() }).contains("in all"));
        let desktop = Facts { this_kernel: false, ..facts() };
        assert!(spec().check(&desktop).is_err());
    }

    #[test]
    fn the_secure_default_has_every_guard() {
        let layout = Layout::new(Path::new("/s"), &SandboxName::default());
        let owner = Owner { uid: 1000, gid: 1000, give: true, unknown: false };
        let body = ContainerSpec::new("i").body(&layout, &owner, false);
        let host = body.host_config.unwrap();
        assert_eq!(body.user.as_deref(), Some("1000:1000"));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!((host.cap_add, host.privileged), (None, Some(false)));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!((host.memory, host.memory_swap), (Some(2 << 30), Some(2 << 30)));
        assert_eq!(host.pids_limit, Some(256));
        let security = host.security_opt.unwrap();
        assert!(security[0] == "no-new-privileges" && security[1].starts_with("seccomp={"));
        let writable: Vec<String> = host
            .mounts
            .unwrap()
            .into_iter()
            .filter(|mount| mount.read_only == Some(false))
            .filter_map(|mount| mount.target)
            .collect();
        assert_eq!(writable, [inside::GATEWAY, inside::RAW, inside::STATE]);
        assert!(host.tmpfs.unwrap().values().all(|options| options.contains("noexec")));
    }

    #[test]
    fn the_profile_refuses_what_it_must() {
        let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let named = |action: &str| -> BTreeSet<String> {
            let calls = profile["syscalls"].as_array().unwrap();
            let calls = calls.iter().filter(|call| call["action"] == action);
            calls
                .flat_map(|call| {
                    call["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().into())
                })
                .collect()
        };
        let (allowed, refused) = (named("SCMP_ACT_ALLOW"), named("SCMP_ACT_ERRNO"));
        assert!(allowed.is_disjoint(&refused));
        for call in
            ["ptrace", "mount", "unshare", "bpf", "keyctl", "io_uring_setup", "kexec_load", "init_module"]
        {
            assert!(refused.contains(call), "{call}");
        }
    }
}

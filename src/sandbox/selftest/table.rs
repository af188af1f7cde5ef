//! What a hostile agent tries, and what refuses it: one row each.

use super::super::relax::Guard;
use super::super::spec::Egress;

/// Where a try is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By a program in the container. Source: `docker/selftest.mjs`.
    Inside,
    /// By such a program, through the door; only where there is one.
    Door,
    /// By an agent through its tools. Source: `docker/selftest-tools.mjs`.
    Tools,
    /// From outside, at the gateway.
    Gateway,
}

/// One try.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// Its name, stable.
    pub id: &'static str,
    /// What is tried, for people.
    pub what: &'static str,
    /// What refuses it, the first that does.
    pub guard: Guard,
    /// Where it is made.
    pub place: Place,
}

impl Try {
    /// Whether it is made with this way out.
    pub fn applies(&self, egress: Egress) -> bool {
        self.place != Place::Door || egress == Egress::Door
    }
}

const fn row(id: &'static str, place: Place, guard: Guard, what: &'static str) -> Try {
    Try { id, what, guard, place }
}

use Place::{Door, Gateway, Inside, Tools};

/// All tries, in the order in which they are shown.
pub const TRIES: &[Try] = &[
    row("direct-ip", Inside, Guard::NoNetwork, "connect to an address of the internet past the door"),
    row("direct-ipv6", Inside, Guard::NoNetwork, "the same over IPv6"),
    row("metadata", Inside, Guard::NoNetwork, "read the cloud's metadata at 169.254.169.254"),
    row("host-ports", Inside, Guard::NoNetwork, "scan ports of this machine at its bridge addresses"),
    row("dns-label", Inside, Guard::NoNetwork, "carry data out in a DNS name"),
    row("udp", Inside, Guard::NoNetwork, "send a datagram"),
    row("interfaces", Inside, Guard::NoNetwork, "find a network interface besides loopback"),
    row("door-http", Door, Guard::Door, "plain HTTP to a place that is not allowed"),
    row("door-connect", Door, Guard::Door, "a tunnel to a place that is not allowed"),
    row("door-ip", Door, Guard::Door, "a tunnel to an address instead of a name"),
    row("door-ipv6", Door, Guard::Door, "the same with IPv6 addresses"),
    row("door-metadata", Door, Guard::Door, "the cloud's metadata through the door"),
    row("door-loopback", Door, Guard::Door, "this machine's own ports through the door"),
    row("door-disguise", Door, Guard::Door, "an address written as a number, in hexadecimal, or shortened"),
    row("door-host-header", Door, Guard::Door, "another name in the Host header than in the address"),
    row("door-port", Door, Guard::Door, "another port than 443 and 80"),
    row("door-sni", Door, Guard::Door, "another name in the TLS hello than in the tunnel"),
    row("door-nested", Door, Guard::Door, "a tunnel inside a tunnel"),
    row("door-replace", Door, Guard::Mounts, "put another socket in the door's place"),
    row("setuid", Inside, Guard::NoNewPrivileges, "become root with a setuid program"),
    row("new-privileges", Inside, Guard::NoNewPrivileges, "gain privileges with a new program"),
    row("capabilities", Inside, Guard::Capabilities, "use a capability"),
    row("root", Inside, Guard::User, "be root in the container"),
    row("seccomp-off", Inside, Guard::Seccomp, "take the filter of system calls off"),
    row("proc-1", Inside, Guard::Kernel, "see processes of the host in /proc"),
    row("fork-bomb", Inside, Guard::Pids, "start processes without end"),
    row("disk-fill", Inside, Guard::Tmpfs, "fill /tmp"),
    row("file-size", Inside, Guard::FileSize, "write a file without end"),
    row("tmp-exec", Inside, Guard::Tmpfs, "run a program from /tmp"),
    row("engine-socket", Inside, Guard::Mounts, "reach the Docker engine's socket"),
    row("devices", Inside, Guard::Kernel, "open a disk or the memory as a device"),
    row("kernel-files", Inside, Guard::Kernel, "write kernel settings in /proc and /sys"),
    row("kernel-memory", Inside, Guard::Kernel, "read kernel memory and keys in /proc"),
    row("root-write", Inside, Guard::ReadOnlyRoot, "change files of the image"),
    row("config-write", Inside, Guard::ConfigReadOnly, "change OpenClaw's configuration"),
    row("secrets-write", Inside, Guard::Mounts, "change the folder of the keys"),
    row("raw-socket", Inside, Guard::Seccomp, "open a raw socket"),
    row("packet-socket", Inside, Guard::Seccomp, "listen to packets of the network"),
    row("vsock", Inside, Guard::Seccomp, "speak to the hypervisor"),
    row("mount", Inside, Guard::Seccomp, "mount a file system"),
    row("unshare", Inside, Guard::Seccomp, "make a user namespace"),
    row("setns", Inside, Guard::Seccomp, "enter another namespace"),
    row("ptrace", Inside, Guard::Seccomp, "trace a process"),
    row("peek", Inside, Guard::Seccomp, "read another process's memory"),
    row("keyctl", Inside, Guard::Seccomp, "use the kernel's key rings"),
    row("bpf", Inside, Guard::Seccomp, "load a BPF program"),
    row("userfaultfd", Inside, Guard::Seccomp, "handle page faults"),
    row("io-uring", Inside, Guard::Seccomp, "use io_uring"),
    row("module", Inside, Guard::Seccomp, "load a kernel module"),
    row("perf", Inside, Guard::Seccomp, "watch the kernel with perf"),
    row("handle", Inside, Guard::Seccomp, "open a file of the host by its handle"),
    row("device-node", Inside, Guard::Seccomp, "make a device node"),
    row("kexec", Inside, Guard::Seccomp, "load another kernel"),
    row("chroot", Inside, Guard::Seccomp, "change the root folder"),
    row("gateway-no-token", Gateway, Guard::GatewayToken, "use the gateway without its token"),
    row("gateway-wrong-token", Gateway, Guard::GatewayToken, "use the gateway with a guessed token"),
    row("gateway-interface", Gateway, Guard::GatewayLoopback, "reach the gateway at another interface"),
    row("tool-exec", Tools, Guard::ExecDenied, "run a command through the exec tool"),
    row("tool-passwd", Tools, Guard::WorkspaceOnly, "read /etc/passwd through the read tool"),
    row(
        "tool-config-read",
        Tools,
        Guard::WorkspaceOnly,
        "read the configuration and the token through the read tool",
    ),
    row("tool-environ", Tools, Guard::WorkspaceOnly, "read OpenClaw's environment through the read tool"),
    row("tool-secret", Tools, Guard::WorkspaceOnly, "read a key through the read tool"),
    row("tool-traversal", Tools, Guard::WorkspaceOnly, "read OpenClaw's database with ../ in the path"),
    row("tool-link", Tools, Guard::WorkspaceOnly, "read /etc/passwd through a link in the workspace"),
    row("tool-secret-link", Tools, Guard::WorkspaceOnly, "read a key through a link in the workspace"),
    row("tool-outside", Tools, Guard::WorkspaceOnly, "write outside the workspace through the write tool"),
    row("tool-tmp", Tools, Guard::WorkspaceOnly, "write to /tmp through the write tool"),
    row("tool-raw", Tools, Guard::WorkspaceOnly, "write to the raw stream's folder through the write tool"),
    row("tool-patch", Tools, Guard::WorkspaceOnly, "write outside the workspace through a patch"),
    row("tool-config-write", Tools, Guard::ConfigReadOnly, "change the configuration through the edit tool"),
    row("tool-gateway", Tools, Guard::ToolAllowList, "read the configuration through the gateway tool"),
    row(
        "tool-control",
        Tools,
        Guard::ToolAllowList,
        "find a tool that changes OpenClaw itself or runs programs",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_given_once_and_stand_in_the_scripts() {
        let names: BTreeSet<&str> = TRIES.iter().map(|row| row.id).collect();
        assert_eq!(names.len(), TRIES.len());
        assert!(TRIES.len() >= 60);
        let inside = include_str!("../../../docker/selftest.mjs");
        let tools = include_str!("../../../docker/selftest-tools.mjs");
        for row in TRIES {
            let script = match row.place {
                Place::Inside | Place::Door => inside,
                Place::Tools => tools,
                Place::Gateway => continue,
            };
            assert!(script.contains(&format!("'{}'", row.id)), "{}", row.id);
        }
    }
}

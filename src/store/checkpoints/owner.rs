//! Who runs a run: a process that others can look up, or a lease where they cannot.

use std::fs;
use std::process;
use std::sync::LazyLock;

use uuid::Uuid;

use crate::engine::Claim;

/// A process, told apart from later ones with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Machine, boot and process namespace; empty where they cannot be told.
    pub(super) host: String,
    pub(super) pid: u32,
    /// When the process started, in the kernel's ticks since boot.
    pub(super) start: u64,
}

static THIS: LazyLock<Owner> = LazyLock::new(|| {
    let pid = process::id();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let boot = read("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string());
    match (started(pid), namespace) {
        (Some(start), Ok(namespace)) if !boot.is_empty() => {
            let host = format!("{}/{boot}/{namespace}", read("/proc/sys/kernel/hostname"));
            Owner { host, pid, start }
        }
        _ => Owner { host: String::new(), pid, start: 0 },
    }
});

impl Owner {
    /// This process.
    pub(super) fn this() -> &'static Self {
        &THIS
    }

    /// Whether this owner still holds the claim with this token. Where its process cannot be looked up, the
    /// lease decides.
    pub(super) fn holds(&self, token: Uuid, lease_until_ms: i64, now_ms: i64) -> bool {
        if self == Self::this() {
            return Claim::is_live(token);
        }
        if self.host.is_empty() || self.host != Self::this().host {
            return lease_until_ms > now_ms;
        }
        started(self.pid) == Some(self.start)
    }

    /// Names it, for messages.
    pub(super) fn describe(&self) -> String {
        match self.host.split('/').next() {
            Some(name) if !name.is_empty() && self.host != Self::this().host => {
                format!("process {} on {name}", self.pid)
            }
            _ => format!("process {}", self.pid),
        }
    }
}

/// When a live process started. Source: proc(5), `/proc/pid/stat`, fields 3 (state) and 22 (starttime).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, also blanks and brackets; the fields after it do not.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    // A zombie is dead, it only was not collected yet.
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known_by_number_and_start() {
        let this = Owner::this();
        assert!(this.start > 0 && !this.host.is_empty());
        let token = Uuid::now_v7();
        assert!(!this.holds(token, i64::MAX, 0), "a claim of this process that is not live is a leftover");

        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = started(child.id()).unwrap();
        let owner = Owner { pid: child.id(), start, ..this.clone() };
        assert!(owner.holds(token, 0, 1), "alive, whatever its lease says");
        assert!(
            !Owner { start: start - 1, ..owner.clone() }.holds(token, 2, 1),
            "another process of that number"
        );
        child.kill().unwrap();
        // Not collected yet: a zombie.
        let mut waited = 0;
        while owner.holds(token, 2, 1) && waited < 500 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            waited += 1;
        }
        assert!(!owner.holds(token, 2, 1));
        child.wait().unwrap();
        assert!(!owner.holds(token, 2, 1));

        let elsewhere = Owner { host: "elsewhere/1/2".to_owned(), ..owner };
        assert!(elsewhere.holds(token, 2, 1) && !elsewhere.holds(token, 1, 1));
        assert!(elsewhere.describe().ends_with(" on elsewhere"));
    }
}

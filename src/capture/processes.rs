//! Which processes belong into a sandbox.
//!
//! Source: `docker top` of the hardened container with exec denied, OpenClaw 2026.9.6: init, our entry, the gateway and
//! two of its workers; beside them what we run in it ourselves.

/// A row of `docker top -eo pid,ppid,user,args`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its command line; hostile text.
    pub command: String,
}

const NODES: [&str; 3] = ["node", "/usr/local/bin/node", "/usr/bin/node"];
const INITS: [&str; 3] = ["/sbin/docker-init", "docker-init", "/dev/init"];
const ENTRY: &str = "/opt/sentrix/entry.mjs";
const SELF_TEST: [&str; 2] = ["/opt/sentrix/selftest.mjs", "/opt/sentrix/selftest-tools.mjs"];
const DIST: &str = "/usr/local/lib/node_modules/openclaw/";
/// Workers of the gateway: paths below its `dist`.
const WORKERS: [&str; 2] = ["process/spawn-broker/worker.js", "infra/sqlite-readonly-location.worker.js"];

/// Those processes that are none of the known ones. A process may give itself any name, so a known name says little;
/// an unknown one says something is there that should not be.
///
/// `ours` are commands that we have running in the container, as `openclaw` or the self-test's.
pub fn unknown<'a>(processes: &'a [Process], ours: &[String]) -> Vec<&'a Process> {
    processes.iter().filter(|process| !is_known(&process.command, ours)).collect()
}

fn is_known(command: &str, ours: &[String]) -> bool {
    let command = command.trim();
    if ours.iter().any(|our| command == our.trim()) {
        return true;
    }
    let mut words = command.split_ascii_whitespace();
    let Some(program) = words.next() else { return false };
    if matches!(program, "openclaw-gateway" | "openclaw") {
        return words.next().is_none_or(|word| program == "openclaw" && word == "gateway");
    }
    if INITS.contains(&program) {
        return words.next() == Some("--")
            && words.next().is_some_and(|word| NODES.contains(&word))
            && words.next() == Some(ENTRY);
    }
    if !NODES.contains(&program) {
        return false;
    }
    // Options of node may come before its script, and only harmless ones do.
    let script = words.find(|word| !word.starts_with("--max-old-space-size") && *word != "--no-warnings");
    let Some(script) = script else { return false };
    if script == ENTRY {
        return words.next().is_none();
    }
    // Run by `sentrix doctor`; the image's own files, which nobody in the container can change.
    if SELF_TEST.contains(&script) {
        return true;
    }
    let Some(inside) =
        script.strip_prefix(DIST).or_else(|| script.strip_prefix("/usr/lib/node_modules/openclaw/"))
    else {
        return false;
    };
    if inside.contains("..") {
        return false;
    }
    if inside == "openclaw.mjs" {
        return words.next() == Some("gateway");
    }
    inside
        .strip_prefix("dist/")
        .is_some_and(|inside| WORKERS.contains(&inside) || inside.ends_with(".worker.js"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(command: &str) -> Process {
        Process { pid: 1, parent: 0, command: command.into() }
    }

    #[test]
    fn a_quiet_container_has_no_unknown_process() {
        let processes = [
            "/sbin/docker-init -- node /opt/sentrix/entry.mjs",
            "node /opt/sentrix/entry.mjs",
            "openclaw-gateway",
            "/usr/local/bin/node /usr/local/lib/node_modules/openclaw/dist/process/spawn-broker/worker.js",
            "/usr/local/bin/node /usr/local/lib/node_modules/openclaw/dist/infra/sqlite-readonly-location.worker.js --openclaw-sqlite-readonly-child session",
        ]
        .map(process);
        assert_eq!(unknown(&processes, &[]), Vec::<&Process>::new());
    }

    #[test]
    fn anything_else_is_told() {
        let processes = [
            "nc -l 4444",
            "sh -c id",
            "node -e require('net')",
            "node /home/node/.openclaw/workspace/x.js",
            "node /usr/local/lib/node_modules/openclaw/../../../../tmp/x.worker.js",
            "node --require /tmp/x.js /opt/sentrix/entry.mjs",
            "/tmp/openclaw-gateway",
            "openclaw-gateway --evil",
            "openclaw agent --message hi",
            "",
        ]
        .map(process);
        assert_eq!(unknown(&processes, &[]).len(), processes.len());
        let ours = ["openclaw agent --message hi".to_owned()];
        assert_eq!(unknown(&processes, &ours).len(), processes.len() - 1);
    }
}

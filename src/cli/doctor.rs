//! `sentrix doctor`: what a run needs, line by line, each with what to do.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::args::{Format, Global};
use super::failure::{self, Outcome};
use super::printer::{self, dim, size};
use super::sandbox::{hints, root};
use super::world;
use crate::sandbox::selftest::Row;
use crate::sandbox::{
    DEFAULT_IMAGE, Engine, Facts, Found, ImageState, LEAST_MEMORY, SandboxErrorKind, State, Wanted,
};
use crate::text;

/// `sentrix doctor`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 something is bad, 2 the configuration cannot be read.")]
pub struct DoctorArgs {
    /// Name of the image
    #[arg(long, value_name = "NAME", default_value = DEFAULT_IMAGE)]
    pub image: String,
    /// Show every row of the self-tests, not only those that are bad
    #[arg(long)]
    pub rows: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Good,
    /// Weaker than it could be.
    Weak,
    Bad,
}

/// One line.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    health: Health,
    said: String,
    /// What to do; nothing where all is well.
    advice: String,
}

fn check(what: &'static str, health: Health, said: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { what, health, said: said.into(), advice: advice.into() }
}

/// Runs the verb.
pub(super) async fn run(global: &Global, args: &DoctorArgs) -> Outcome {
    let mut checks = Vec::new();
    let mut rows = Vec::new();
    match Engine::find(&hints()).await {
        Ok(engine) => {
            checks.extend(of_engine(&engine));
            checks.push(of_image(&engine, &args.image).await);
            sandboxes(&engine, &mut checks, &mut rows).await;
        }
        Err(error) => checks.push(match &error.kind {
            SandboxErrorKind::NoEngine(found) => {
                let said = found.attempts().replace("\n  ", "\n      ");
                check("Docker", Health::Bad, said, found.what_to_do())
            }
            _ => check("Docker", Health::Bad, error.to_string(), ""),
        }),
    }
    checks.push(match root() {
        Ok(folder) => check("folder", Health::Good, format!("sandboxes are in {}", folder.display()), ""),
        Err(_) => check("folder", Health::Bad, "HOME is not set", "set HOME or XDG_STATE_HOME"),
    });
    checks.extend(of_config(global)?);
    let bad = checks.iter().any(|check| check.health == Health::Bad);
    match args.format {
        Format::Json => {
            let rows: Vec<_> =
                rows.iter().map(|(name, row)| json!({ "sandbox": name, "row": row })).collect();
            printer::json(&json!({ "version": 1, "ok": !bad, "checks": checks, "self_test": rows }))?;
        }
        Format::Table => {
            for check in &checks {
                let word = match check.health {
                    Health::Good => "good",
                    Health::Weak => "weak",
                    Health::Bad => "BAD",
                };
                printer::data(format_args!("{word:<4}  {:<10}  {}", check.what, check.said))?;
                if !check.advice.is_empty() {
                    printer::data(dim(format!("      what to do: {}", check.advice)))?;
                }
            }
            for (name, row) in &rows {
                if args.rows || row.is_red() || row.is_untried() {
                    printer::data(format_args!("{name}: {row}"))?;
                }
            }
        }
    }
    Ok(if bad { failure::BAD_ANSWER } else { failure::DONE })
}

fn of_engine(engine: &Engine) -> Vec<Check> {
    let Facts { version, api, system, kernel, .. } = engine.facts();
    let facts = engine.facts();
    let kind = match (facts.podman, facts.rootless) {
        (true, _) => "Podman",
        (_, true) => "Docker without root",
        _ => "Docker",
    };
    let mut all = vec![check(
        "Docker",
        if facts.podman { Health::Weak } else { Health::Good },
        text::plain(&format!(
            "{kind} {version} at {} (protocol {api}, {system}, {kernel})",
            engine.address()
        )),
        if facts.podman { "Sentrix is tried with Docker; with Podman it may work" } else { "" },
    )];
    if !facts.this_kernel {
        all.push(check(
            "kernel",
            Health::Bad,
            "the engine runs in a machine of its own: sockets on bound folders do not reach the host",
            "use Docker Engine on a Linux machine, or run Sentrix inside that machine",
        ));
    }
    if facts.remaps_users {
        all.push(check(
            "users",
            Health::Bad,
            "the engine maps users of containers to others (userns-remap)",
            "use an engine without it; what Sentrix binds in could not be read",
        ));
    }
    all.push(if facts.seccomp {
        check("seccomp", Health::Good, "system calls can be filtered", "")
    } else {
        check("seccomp", Health::Bad, "the engine cannot filter system calls", "use a kernel with seccomp")
    });
    let missing: Vec<&str> = [
        (facts.limits.memory, "memory"),
        (facts.limits.pids, "processes"),
        (facts.limits.cpu, "processor time"),
        (facts.limits.swap, "swap"),
    ]
    .into_iter()
    .filter_map(|(holds, what)| (!holds).then_some(what))
    .collect();
    all.push(match missing.as_slice() {
        [] => check(
            "limits",
            Health::Good,
            format!("memory, swap, processes and processor time (cgroup {})", facts.cgroup_version),
            "",
        ),
        // Without a limit of swap, a sandbox is slow before it ends, and that is all.
        ["swap"] => check("limits", Health::Weak, "swap is not limited", "boot with swapaccount=1"),
        missing => check(
            "limits",
            Health::Bad,
            format!("the engine cannot limit {}", missing.join(", ")),
            "enable these cgroup controllers (rootless Docker: delegate them to your user in systemd)",
        ),
    });
    all.push(if facts.memory_bytes < LEAST_MEMORY {
        let said = format!("{} in all; a sandbox needs 2g", size(facts.memory_bytes));
        check("memory", Health::Bad, said, "give the engine more")
    } else {
        check("memory", Health::Good, format!("{}, {} cores", size(facts.memory_bytes), facts.cpus), "")
    });
    let strong: Vec<&str> = facts
        .runtimes
        .iter()
        .map(String::as_str)
        .filter(|name| ["runsc", "kata", "krun"].iter().any(|strong| name.contains(strong)))
        .collect();
    all.push(match strong.as_slice() {
        [] => check(
            "runtime",
            Health::Good,
            format!("{} (no gVisor or Kata: a hole in the kernel is a way out)", facts.default_runtime),
            "",
        ),
        strong => check(
            "runtime",
            Health::Good,
            format!("{}; `--runtime {}` would hold better", facts.default_runtime, strong.join("` or `")),
            "",
        ),
    });
    all
}

async fn of_image(engine: &Engine, image: &str) -> Check {
    match engine.image(image, &Wanted::default()).await {
        Ok(ImageState::Current(facts)) => check(
            "image",
            Health::Good,
            format!("{image}: OpenClaw {}, {}", facts.openclaw, size(facts.size_bytes)),
            "",
        ),
        Ok(ImageState::Stale { why, .. }) => {
            check("image", Health::Weak, format!("{image}: {why}"), "build it again with `sentrix build`")
        }
        Ok(ImageState::Missing) => check(
            "image",
            Health::Weak,
            format!("{image} is not there"),
            "`sentrix build`, or let `run` do it",
        ),
        Err(error) => check("image", Health::Bad, error.to_string(), ""),
    }
}

async fn sandboxes(engine: &Engine, checks: &mut Vec<Check>, rows: &mut Vec<(String, Row)>) {
    let found = match engine.list(None).await {
        Ok(found) => found,
        Err(error) => return checks.push(check("sandboxes", Health::Bad, error.to_string(), "")),
    };
    if found.is_empty() {
        checks.push(check("sandboxes", Health::Good, "none", ""));
    }
    for found in found {
        checks.push(of_sandbox(engine, &found, rows).await);
    }
}

async fn of_sandbox(engine: &Engine, found: &Found, rows: &mut Vec<(String, Row)>) -> Check {
    let name = &found.name;
    let mut said = format!("{name} is {}", found.state.word());
    let mut advice = String::new();
    let mut health = Health::Good;
    if found.state == State::Running {
        if let Ok(stats) = engine.stats(name).await {
            let (now, most) = (size(stats.memory_bytes), size(stats.memory_limit_bytes));
            text::push(&mut said, format_args!(", {now} of {most}, {} processes", stats.pids));
        }
        let ready = match &found.layout {
            Some(layout) => engine.is_ready(layout).await,
            None => false,
        };
        if !ready {
            health = Health::Bad;
            said.push_str(", OpenClaw does not answer");
            advice = String::from("wait a minute; then `sentrix stop` and `sentrix run`");
        }
    }
    if !found.relaxed.is_empty() {
        health = health.max_bad(Health::Weak);
        text::push(&mut said, format_args!(", relaxed: {}", text::plain(&found.relaxed)));
    }
    if let Some(report) = found.layout.as_ref().and_then(crate::sandbox::Layout::self_test) {
        text::push(&mut said, format_args!("; {}", report.summary()));
        if report.red().next().is_some() {
            health = Health::Bad;
            advice = String::from("stop it: an escape succeeded");
        } else if report.untried().next().is_some() {
            health = health.max_bad(Health::Weak);
        }
        rows.extend(report.rows.into_iter().map(|row| (name.to_string(), row)));
    } else {
        health = health.max_bad(Health::Weak);
        said.push_str("; no self-test is on record");
    }
    check("sandbox", health, said, advice)
}

impl Health {
    /// The worse of the two.
    fn max_bad(self, other: Self) -> Self {
        match (self, other) {
            (Self::Bad, _) | (_, Self::Bad) => Self::Bad,
            (Self::Weak, _) | (_, Self::Weak) => Self::Weak,
            _ => Self::Good,
        }
    }
}

fn of_config(global: &Global) -> Result<Vec<Check>, super::failure::Failure> {
    let config = world::config(global, None)?;
    let roles = config.models();
    if roles.is_empty() {
        return Ok(vec![check(
            "models",
            Health::Weak,
            "no key of a provider is set: patrol uses its rules alone",
            "`sentrix setup`, or set a key as ANTHROPIC_API_KEY",
        )]);
    }
    Ok(roles
        .iter()
        .map(|role| {
            let first = role.chain.first();
            let named = first.map(|link| format!("{}/{}", link.provider_id, link.model)).unwrap_or_default();
            let has_key = first.is_some_and(|link| link.api_key.is_some());
            let lacks = !has_key && first.is_some_and(|link| link.key_needed);
            let source = first.map(|link| link.key_source.clone()).unwrap_or_default();
            let key = match (has_key, lacks) {
                (true, _) => format!(", key from {source}"),
                (false, true) => String::from(", no key"),
                (false, false) => String::from(", needs no key"),
            };
            let advice = if lacks { format!("set {source}") } else { String::new() };
            let health = if lacks { Health::Bad } else { Health::Good };
            check("models", health, text::plain(&format!("{}: {named}{key}", role.role)), advice)
        })
        .collect())
}

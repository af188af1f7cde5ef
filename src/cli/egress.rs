//! `sentrix egress list|allow|deny`: where the sandbox went or wanted to, and the rules of where it may go.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::args::{Format, Global, Where};
use super::control;
use super::failure::{self, Failure, Outcome};
use super::printer::{self, Page, bold, count, dim, moment, size, thousands, time};
use super::world::{self, store_failure};
use crate::config::{Paths, sandboxes};
use crate::door::edit::{self, NewRule};
use crate::door::{
    Decision, Destination, DoorError, DoorErrorKind, HOST_ALIAS, NameFault, Pattern, Policy, Reason, Rule,
    Rules, Target, file, render,
};
use crate::store::egress::{DestinationRow, EgressStore};
use crate::store::export;
use crate::{clock, text};

/// Longest time that `--for` takes.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 366);

/// `sentrix egress …`
#[derive(Debug, Subcommand)]
pub enum EgressCommand {
    /// List destinations: what allowed them, attempts, bytes; for denied ones the command that would allow them
    List {
        /// Which sandbox, and where its stores are.
        #[command(flatten)]
        of: Of,
        /// Denied destinations alone
        #[arg(long)]
        denied: bool,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Allow a destination; holds at once where `sentrix run` is at work
    #[command(
        after_help = "Allow as little as will do. `*.example.com` allows all names below example.com: whoever can \
        make names there can carry data out in them. What is allowed can receive anything that the agents know."
    )]
    Allow {
        /// Host name, with a port unless it is 443; `*.example.com` for all names below a domain
        #[arg(value_name = "HOST[:PORT]")]
        host: String,
        /// The host may be a machine of a private network
        #[arg(long)]
        private: bool,
        /// For how long, as 1h or 30m [default: for good]
        #[arg(long = "for", value_name = "TIME")]
        time: Option<SignedDuration>,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        why: String,
        /// Which sandbox, and where its stores are.
        #[command(flatten)]
        of: Of,
        /// How the outcome is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Deny a destination, whatever allows it; open connections to it are closed
    Deny {
        /// Host name, and a port if only that is meant; `*.example.com` for all names below a domain
        #[arg(value_name = "HOST[:PORT]")]
        host: String,
        /// What for
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        why: String,
        /// Which sandbox, and where its stores are.
        #[command(flatten)]
        of: Of,
        /// How the outcome is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

/// Which sandbox, and where its stores are.
#[derive(Clone, Debug, Args)]
pub struct Of {
    /// Name of the sandbox
    #[arg(long, value_name = "NAME", default_value = "main", value_parser = sandbox_name)]
    pub name: String,
    /// Where the logs and stores are.
    #[command(flatten)]
    pub place: Where,
}

/// A name that is no path.
fn sandbox_name(text: &str) -> Result<String, String> {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_good = (1..=32).contains(&text.len()) && text.bytes().all(is_part) && !text.starts_with('-');
    if is_good {
        Ok(text.to_owned())
    } else {
        Err("a name has up to 32 lower-case letters, digits and hyphens".into())
    }
}

impl Of {
    /// The socket of the run that is at work, if one is.
    fn control(&self) -> Option<PathBuf> {
        Some(sandboxes()?.join(&self.name).join("control.sock"))
    }
}

/// Runs the verb.
pub(super) async fn run(global: &Global, command: EgressCommand) -> Outcome {
    match command {
        EgressCommand::List { of, denied, format } => list(global, &of, denied, format),
        EgressCommand::Allow { host, private, time, why, of, format } => {
            let (hosts, port) = destination(&host)?;
            let now = clock::system().now();
            let until = time.map(|time| ends(now, time)).transpose()?;
            let port = match (&hosts, port) {
                (Pattern::Exact(host), None) if host.is_alias() => {
                    return Err(Failure::Usage(format!(
                        "{HOST_ALIAS} is this machine: name the port too, as {HOST_ALIAS}:11434"
                    )));
                }
                (_, port) => Some(port.unwrap_or(443)),
            };
            let rule = NewRule { hosts, port, private, why, until };
            change(global, &of, &rule, true, format).await
        }
        EgressCommand::Deny { host, why, of, format } => {
            let (hosts, port) = destination(&host)?;
            let rule = NewRule { hosts, port, private: false, why, until: None };
            change(global, &of, &rule, false, format).await
        }
    }
}

fn ends(now: Timestamp, time: SignedDuration) -> Result<Timestamp, Failure> {
    if time <= SignedDuration::ZERO || time > LONGEST {
        return Err(Failure::Usage("--for takes a time of up to a year, as 30m, 2h or 24h".into()));
    }
    now.checked_add(time).map_err(|error| Failure::Usage(format!("--for: {error}")))
}

/// What a person means by `HOST[:PORT]`.
fn destination(text: &str) -> Result<(Pattern, Option<u16>), Failure> {
    let shown = text::plain(text);
    let wrong = |why: String| Failure::Usage(format!("`{shown}` is no destination: {why}"));
    if text.contains("://") || text.contains('/') {
        return Err(wrong("give the host alone, without scheme and path".into()));
    }
    if text.matches(':').count() > 1 || text.starts_with('[') {
        return Err(wrong(NameFault::IpLiteral.to_string()));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => {
            let number = port.parse().ok().filter(|port| *port != 0);
            (host, Some(number.ok_or_else(|| wrong(NameFault::BadPort.to_string()))?))
        }
        None => (text, None),
    };
    let hosts = Pattern::parse(host).map_err(|why| {
        let help = match why {
            NameFault::IpLiteral => {
                ". Addresses are never allowed; give the machine a name, for example in /etc/hosts"
            }
            _ => "",
        };
        wrong(format!("{why}{help}"))
    })?;
    Ok((hosts, port))
}

/// What the file of rules at fault means for a command.
fn rules_failure(error: DoorError) -> Failure {
    match error.kind {
        DoorErrorKind::Rules(faults) => Failure::Usage(format!(
            "{} cannot be used as it is; nothing was changed\n\n{}",
            error.what,
            render(&faults, printer::colour(), usize::from(printer::width())).trim_end()
        )),
        _ => Failure::Unavailable(anyhow::Error::new(error)),
    }
}

/// Holds other commands off the file of rules. Ends when the file is closed.
fn lock(paths: &Paths) -> Result<File, Failure> {
    export::private_dir(&paths.data).map_err(store_failure)?;
    let path = paths.data.join(".egress.lock");
    let held = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).and_then(|file| {
        file.lock()?;
        Ok(file)
    });
    held.map_err(|error| {
        Failure::Unavailable(anyhow::Error::new(error).context(format!("cannot lock {}", path.display())))
    })
}

async fn change(global: &Global, of: &Of, rule: &NewRule, allows: bool, format: Format) -> Outcome {
    let paths = world::paths(global, &of.place)?;
    let path = paths.egress_rules();
    let held = lock(&paths)?;
    let before = file::text(&path).map_err(rules_failure)?;
    let parse = |text: &str| {
        let kind =
            |faults| DoorError { what: path.display().to_string(), kind: DoorErrorKind::Rules(faults) };
        file::parse("egress.toml", text).map_err(|faults| rules_failure(kind(faults)))
    };
    parse(&before)?;
    let now = clock::system().now();
    let after = if allows { edit::allow(&before, rule, now) } else { edit::deny(&before, rule, now) };
    let after = after.map_err(|why| Failure::Usage(format!("{}: {why}", path.display())))?;
    let rules = parse(&after)?;
    export::replace(&path, &after).map_err(store_failure)?;
    drop(held);
    let subject = match rule.port {
        Some(port) => format!("{}:{port}", rule.hosts),
        None => rule.hosts.to_string(),
    };
    // A rule about more than it may still stand in the way.
    let still_denied = allows.then(|| still_denied(rule, &rules, now)).flatten();
    let (state, probe) = applied(of, rule, allows).await;
    if format == Format::Json {
        printer::json(&json!({
            "version": 1, "rule": if allows { "allow" } else { "deny" }, "destination": subject,
            "file": path.display().to_string(), "until": rule.until.map(|until| format!("{until:.0}")),
            "still_denied_by": still_denied, "state": state.word(), "probe": probe,
        }))?;
        return Ok(if still_denied.is_some() { failure::BAD_ANSWER } else { failure::DONE });
    }
    let word = if allows { "allowed" } else { "denied" };
    let until =
        rule.until.map(|until| format!(" until {}", moment(until.as_millisecond()))).unwrap_or_default();
    printer::data(format_args!("{} {word}{until}: written to {}.", bold(&subject), path.display()))?;
    if let Pattern::Below(domain) = &rule.hosts
        && allows
    {
        printer::note(format_args!(
            "Whoever can make names below {domain} can carry data out in them; allow single hosts where you can."
        ));
    }
    if let Some(by) = &still_denied {
        printer::note(format_args!(
            "It stays denied: the rule [[deny]] {by} in {} is about it too, and denial wins. Take that one out.",
            path.display()
        ));
    }
    printer::data(state.said(&probe, allows))?;
    Ok(if still_denied.is_some() { failure::BAD_ANSWER } else { failure::DONE })
}

fn still_denied(rule: &NewRule, rules: &Rules, now: Timestamp) -> Option<String> {
    let Pattern::Exact(host) = &rule.hosts else { return None };
    let target = Target { host: host.clone(), port: rule.port? };
    match Policy::new(&[], rules).ok()?.decide(&target, now) {
        Decision::Denied(by) => Some(by),
        _ => None,
    }
}

/// How a change of the rules stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No run is at work.
    Stored,
    /// A probe went through the door and found the new rule.
    Applied,
    /// A run is at work, and it could not be shown.
    Unproved,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Applied => "applied",
            Self::Unproved => "unproved",
        }
    }

    fn said(self, probe: &Value, allows: bool) -> String {
        let of = |key: &str| probe.get(key).and_then(Value::as_str).map(text::plain).unwrap_or_default();
        match (self, of("found").as_str()) {
            (Self::Stored, _) => "Stored; it holds from the next start of the sandbox.".into(),
            (Self::Applied, "reached") => {
                format!("Applied: a probe went through the door and reached {}.", of("target"))
            }
            (Self::Applied, "unreachable") => format!(
                "Applied: the door lets it through, but {} does not answer ({} {}).",
                of("target"),
                of("reason"),
                of("detail")
            ),
            (Self::Applied, _) => format!("Applied: a probe of {} was refused.", of("target")),
            (Self::Unproved, "") => {
                format!("Stored; the running sandbox could not be asked: {}", of("error"))
            }
            (Self::Unproved, _) if allows => format!(
                "Stored, but a probe was still refused: {} {}. See `sentrix egress list`.",
                of("reason"),
                of("detail")
            ),
            (Self::Unproved, found) => {
                format!("Stored, but a probe still got through ({found}): something else is at work.")
            }
        }
    }
}

/// Asks the run that is at work to go through its door.
async fn applied(of: &Of, rule: &NewRule, allows: bool) -> (State, Value) {
    let one = match &rule.hosts {
        Pattern::Exact(host) => host.to_string(),
        // Some name below it, which need not exist: what counts is what the door says.
        Pattern::Below(domain) => format!("sentrix-probe.{domain}"),
    };
    let Some(socket) = of.control() else { return (State::Stored, Value::Null) };
    let port = rule.port.unwrap_or(443);
    let question = json!({ "cmd": "egress.probe", "host": one, "port": port });
    match control::ask(&socket, &question).await {
        Err(error) if control::is_nobody(&error) => (State::Stored, Value::Null),
        Err(error) => (State::Unproved, json!({ "error": text::causes(error.as_ref()) })),
        Ok(answer) => {
            let probe = answer.get("probe").cloned().unwrap_or(answer);
            let is_refused = probe.get("found").and_then(Value::as_str) == Some("denied");
            (if is_refused == allows { State::Unproved } else { State::Applied }, probe)
        }
    }
}

/// A row of the list.
struct Line<'r> {
    row: &'r DestinationRow,
    /// What allows it now; nothing where it is denied.
    by: Option<String>,
    /// The command that would allow it.
    command: Option<String>,
}

fn list(global: &Global, of: &Of, denied_only: bool, format: Format) -> Outcome {
    let paths = world::paths(global, &of.place)?;
    let rules = file::read(&paths.egress_rules()).map_err(rules_failure)?;
    let store = paths.egress().exists().then(|| EgressStore::open(&paths.egress(), &of.name)).transpose();
    let store = store.map_err(store_failure)?;
    let rows =
        store.as_ref().map(EgressStore::destinations).transpose().map_err(store_failure)?.unwrap_or_default();
    let lost = store.as_ref().map(EgressStore::lost).transpose().map_err(store_failure)?.unwrap_or_default();
    let now = clock::system().now();
    let lines: Vec<Line<'_>> = rows.iter().map(|row| judge(row, &rules, now)).collect();
    let lines: Vec<Line<'_>> = lines.into_iter().filter(|line| !denied_only || line.by.is_none()).collect();
    if format == Format::Json {
        let destinations: Vec<_> = lines.iter().map(line_json).collect();
        let rule = |kind: &str, rule: &Rule| {
            json!({ "rule": kind, "hosts": rule.hosts.to_string(), "port": rule.port, "private": rule.private,
                "why": text::plain(&rule.why), "until": rule.until.map(|until| format!("{until:.0}")), "origin": rule.origin })
        };
        let all: Vec<_> = (rules.allow.iter().map(|own| rule("allow", own)))
            .chain(rules.deny.iter().map(|own| rule("deny", own)))
            .collect();
        printer::json(
            &json!({ "version": 1, "sandbox": of.name, "destinations": destinations, "rules": all,
            "lost_events": lost, "file": paths.egress_rules().display().to_string() }),
        )?;
        return Ok(failure::DONE);
    }
    if lines.is_empty() {
        printer::data(format_args!(
            "Sandbox {} has{} tried to go nowhere yet, by {}.",
            of.name,
            if denied_only { " been denied nothing: it" } else { "" },
            paths.egress().display()
        ))?;
    } else {
        printer::data(page(&lines))?;
    }
    print_rules(&rules, now, &paths)?;
    if lost > 0 {
        printer::note(format_args!(
            "{} could not be recorded: more denied attempts came than can be written down.",
            count(lost, "attempt")
        ));
    }
    Ok(failure::DONE)
}

fn judge<'r>(row: &'r DestinationRow, rules: &Rules, now: Timestamp) -> Line<'r> {
    let target = Target::parse(&row.host, Some(row.port)).ok().filter(|target| target.port == row.port);
    let policy = Policy::new(&[] as &[Destination], rules).unwrap_or_default();
    let decision = target.as_ref().map(|target| policy.decide(target, now));
    let is_about_rules = row.last_reason.as_deref().is_some_and(|reason| {
        Reason::ALL.iter().any(|known| known.word() == reason && known.is_about_rules())
    });
    let by = match decision {
        Some(Decision::Allowed { by, .. }) => Some(by),
        Some(Decision::Denied(_)) | None => None,
        // What the configuration needs is known from the attempts alone.
        Some(Decision::NotAllowed) if row.last_verdict == "allowed" => {
            Some(if row.last_detail.starts_with("configuration") {
                row.last_detail.clone()
            } else {
                "configuration".into()
            })
        }
        Some(Decision::NotAllowed) => None,
    };
    let is_denied = by.is_none() && (is_about_rules || row.last_verdict == "allowed");
    let command = target.filter(|_| is_denied).map(|target| edit::command(&target));
    Line { row, by, command }
}

fn line_json(line: &Line<'_>) -> Value {
    let row = line.row;
    json!({
        "host": text::plain(&row.host), "port": row.port, "allowed_by": line.by.as_deref().map(text::plain),
        "attempts": row.allowed + row.denied, "allowed": row.allowed, "denied": row.denied, "bytes_up": row.bytes_up,
        "bytes_down": row.bytes_down, "first": time(row.first_ms), "last": time(row.last_ms),
        "last_verdict": row.last_verdict, "last_reason": row.last_reason, "last_detail": text::plain(&row.last_detail),
        "allow_with": line.command,
    })
}

/// A moment of the last months, to the minute.
fn short(millis: i64) -> String {
    moment(millis).chars().skip(5).take(11).collect()
}

fn page(lines: &[Line<'_>]) -> String {
    let mut table = Page::new(&["DESTINATION", "OK", "DENIED", "SENT", "RECEIVED", "FIRST", "LAST", "BY"]);
    for line in lines {
        let row = line.row;
        let host = if row.host.is_empty() { "(none)" } else { &row.host };
        let host = text::bounded(&text::plain(host), 48);
        let reason = row.last_reason.as_deref().unwrap_or_default();
        let by = match (&line.by, &line.command) {
            (Some(by), _) => text::plain(by),
            (None, Some(command)) => format!("denied; {command}"),
            (None, None) => format!("denied: {reason}"),
        };
        table.row([
            if row.port == 0 { host } else { format!("{host}:{}", row.port) },
            thousands(row.allowed),
            thousands(row.denied),
            size(row.bytes_up),
            size(row.bytes_down),
            short(row.first_ms),
            short(row.last_ms),
            by,
        ]);
    }
    table.to_string()
}

fn print_rules(rules: &Rules, now: Timestamp, paths: &Paths) -> Result<(), Failure> {
    if rules.allow.is_empty() && rules.deny.is_empty() {
        return printer::data(dim(format!(
            "No rules of your own in {}; what the configuration needs is allowed.",
            paths.egress_rules().display()
        )));
    }
    printer::data(bold(format!("\nRules in {}", paths.egress_rules().display())))?;
    let mut table = Page::new(&["RULE", "DESTINATION", "UNTIL", "WHY"]);
    let both =
        rules.allow.iter().map(|rule| ("allow", rule)).chain(rules.deny.iter().map(|rule| ("deny", rule)));
    for (kind, rule) in both {
        let until = match rule.until {
            Some(until) if until <= now => "over".into(),
            Some(until) => moment(until.as_millisecond()),
            None => String::new(),
        };
        let private = if rule.private { " (private)" } else { "" };
        table.row([kind.into(), format!("{}{private}", rule.subject()), until, text::plain(&rule.why)]);
    }
    printer::data(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_perhaps_a_port() {
        let read = |text| destination(text).map(|(hosts, port)| (hosts.to_string(), port));
        assert_eq!(read("API.example.com").unwrap(), ("api.example.com".into(), None));
        assert_eq!(read("*.example.com:8443").unwrap(), ("*.example.com".into(), Some(8_443)));
        for text in
            ["https://a.example", "a.example/x", "10.0.0.1", "[::1]:443", "::1", "a.example:0", "*.com", ""]
        {
            assert!(matches!(read(text), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        for text in ["..", "a/b", "", "-a", "A", &"a".repeat(33)] {
            assert!(sandbox_name(text).is_err(), "{text}");
        }
        assert_eq!(sandbox_name("work-2"), Ok("work-2".into()));
    }

    #[test]
    fn only_what_a_rule_would_change_has_a_command() {
        let row = |host: &str, verdict: &str, reason: Option<&str>| DestinationRow {
            sandbox: "main".into(),
            host: host.into(),
            port: 8_443,
            allowed: 0,
            denied: 1,
            bytes_up: 0,
            bytes_down: 0,
            first_ms: 0,
            last_ms: 0,
            last_verdict: verdict.into(),
            last_reason: reason.map(str::to_owned),
            last_detail: "configuration: model".into(),
        };
        let rules = file::parse("egress.toml", "[[deny]]\nhost = \"bad.example\"\n").unwrap();
        let command = |row: &DestinationRow| judge(row, &rules, Timestamp::UNIX_EPOCH).command;
        assert_eq!(
            command(&row("a.example", "denied", Some("not_allowed"))).unwrap(),
            "sentrix egress allow a.example:8443"
        );
        assert_eq!(command(&row("127.0.0.1", "denied", Some("ip_literal"))), None);
        assert_eq!(command(&row("x; rm -rf /", "denied", Some("not_allowed"))), None);
        assert_eq!(command(&row("a.example", "denied", Some("sni_mismatch"))), None);
        assert!(command(&row("bad.example", "allowed", None)).is_some());
        let allowed = row("model.example", "allowed", None);
        assert_eq!(judge(&allowed, &rules, Timestamp::UNIX_EPOCH).by.unwrap(), "configuration: model");
    }
}

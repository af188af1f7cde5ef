//! The self-test: a hostile script and a hostile agent try to get out of the running sandbox; each try is a row, and one
//! that succeeds stops the run.
//!
//! Programs in the container try what needs no agent while OpenClaw still loads ([`Engine::self_test_inside`]); once it is
//! ready, a real turn whose model is a script tries what tools could do ([`Engine::self_test_tools`]).
//!
//! **Invariant:** what could not be tried is never said to be refused.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use table::{Place, TRIES, Try};

use super::engine::Engine;
use super::error::SandboxError;
use super::exec::Exec;
use super::layout::Layout;
use super::name::SandboxName;
use super::relax::{Guard, Relax, Relaxations};
use super::socket;
use super::spec::{ContainerSpec, Egress, LARGEST_FILE};
use crate::clock::SharedClock;
use crate::text;

/// Longest that the tries of programs may take; they take about a second.
const INSIDE: Duration = Duration::from_secs(30);
/// Longest that the agent's turn may take; it takes two to four seconds.
const TURN: Duration = Duration::from_secs(40);

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Verdict {
    /// It was refused.
    Refused {
        /// In what words.
        how: String,
    },
    /// It worked.
    Succeeded {
        /// What it gave.
        how: String,
    },
    /// It could not be tried, so nothing is known.
    CouldNotTry {
        /// Why.
        why: String,
    },
}

/// One row of the self-test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the try, stable.
    pub id: String,
    /// What was tried.
    pub what: String,
    /// What should refuse it.
    pub guard: Guard,
    /// What came of it. Texts are safe for a terminal.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The relaxation that lets it through, where one was asked for.
    pub relaxed: Option<Relax>,
}

impl Row {
    /// Whether it worked, and nobody asked for that.
    pub fn is_red(&self) -> bool {
        matches!(self.verdict, Verdict::Succeeded { .. }) && self.relaxed.is_none()
    }

    /// Whether nothing is known.
    pub fn is_untried(&self) -> bool {
        matches!(self.verdict, Verdict::CouldNotTry { .. })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, how) = match (&self.verdict, self.relaxed) {
            (Verdict::Refused { how }, _) => ("refused", how.clone()),
            (Verdict::Succeeded { how }, None) => ("SUCCEEDED", how.clone()),
            (Verdict::Succeeded { how }, Some(relax)) => ("relaxed", format!("--relax {relax}: {how}")),
            (Verdict::CouldNotTry { why }, _) => ("not tried", why.clone()),
        };
        write!(f, "{word:<9}  {} [{}]: {how}", self.what, self.guard.word())
    }
}

/// A whole self-test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// When it was made.
    pub at: String,
    /// How long it took, in milliseconds, in all.
    pub took_ms: u64,
    /// All rows, in the table's order.
    pub rows: Vec<Row>,
}

impl Report {
    /// A report of rows, in the table's order.
    pub fn new(mut rows: Vec<Row>, took: Duration, clock: &SharedClock) -> Self {
        let place = |row: &Row| TRIES.iter().position(|try_| try_.id == row.id).unwrap_or(TRIES.len());
        rows.sort_by_key(place);
        Self {
            version: 1,
            at: clock.now().to_string(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            rows,
        }
    }

    /// Rows that worked though nobody asked for that: with one of them the run must stop.
    pub fn red(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_red())
    }

    /// Rows of which nothing is known.
    pub fn untried(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_untried())
    }

    /// How many were refused.
    pub fn refused(&self) -> usize {
        self.rows.iter().filter(|row| matches!(row.verdict, Verdict::Refused { .. })).count()
    }

    /// The outcome in one line.
    pub fn summary(&self) -> String {
        let red = self.red().count();
        let relaxed = self
            .rows
            .iter()
            .filter(|row| row.relaxed.is_some() && matches!(row.verdict, Verdict::Succeeded { .. }))
            .count();
        let mut said = format!("self-test: {} of {} escapes refused", self.refused(), self.rows.len());
        let mut add = |count: usize, what: &str| {
            if count > 0 {
                text::push(&mut said, format_args!(", {count} {what}"));
            }
        };
        add(red, "SUCCEEDED");
        add(relaxed, "let through by --relax");
        add(self.untried().count(), "could not be tried");
        text::push(&mut said, format_args!(" ({:.1} s)", Duration::from_millis(self.took_ms).as_secs_f64()));
        said
    }
}

/// What the self-test has to know about a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What leaves it.
    pub egress: Egress,
    /// A destination that the door lets through; without one, misuse of a tunnel cannot be tried.
    pub allowed: Option<(String, u16)>,
    /// Most processes.
    pub pids: u32,
    /// Relaxations that were asked for.
    pub relaxed: Relaxations,
    /// Whether a real fork bomb is thrown. Never while OpenClaw runs in the same container: it would be hit as well.
    pub bomb: bool,
}

impl Ask {
    /// For a container as it was made.
    pub fn of(spec: &ContainerSpec) -> Self {
        Self {
            egress: spec.egress,
            allowed: None,
            pids: spec.pids,
            relaxed: spec.relaxed.clone(),
            bomb: false,
        }
    }
}

/// The provider that OpenClaw's configuration needs at `models.providers` under [`MODEL_PROVIDER`], so that the
/// self-test's script can be the model of a turn. It is on the container's own loopback, where nobody listens otherwise.
///
/// Source: OpenClaw 2026.9.6, `models.providers.X`; loopback URLs do not go through the proxy.
pub fn model_provider() -> Value {
    json!({
        "baseUrl": "http://127.0.0.1:3129/v1",
        "apiKey": "none",
        "api": "openai-completions",
        "models": [{
            "id": "probe", "name": "Sentrix self-test", "reasoning": false, "input": ["text"],
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "contextWindow": 128_000, "maxTokens": 8192
        }]
    })
}

/// Name of the self-test's provider in OpenClaw's configuration; its one model is `sentrix-selftest/probe`.
pub const MODEL_PROVIDER: &str = "sentrix-selftest";
/// The one turn of the self-test: names that nobody in the container could have chosen, so that the record can leave out
/// what no agent did, and an agent cannot hide behind them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its run's id.
    pub run: String,
    /// Its session's key; the session is deleted again.
    pub session: String,
}

impl Probe {
    /// New names.
    #[expect(clippy::new_without_default, reason = "no two are alike")]
    pub fn new() -> Self {
        let name = uuid::Uuid::now_v7();
        Self {
            run: format!("sentrix-selftest-{name}"),
            session: format!("agent:main:sentrix-selftest-{name}"),
        }
    }

    /// Both names.
    pub fn names(&self) -> Vec<String> {
        vec![self.run.clone(), self.session.clone()]
    }
}

/// What a script says about one try.
#[derive(Debug, Deserialize)]
struct Said {
    id: String,
    result: String,
    #[serde(default)]
    how: String,
}

impl Engine {
    /// The tries of programs in the container. Begin with it as soon as the container runs and the door is open.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::NotFound`] and [`super::SandboxErrorKind::Engine`] where nothing could be run at all.
    pub async fn self_test_inside(&self, name: &SandboxName, ask: &Ask) -> Result<Vec<Row>, SandboxError> {
        let allowed = ask.allowed.as_ref().map(|(host, port)| json!([host, port]));
        let said = json!({
            "egress": ask.egress.word(), "allowed": allowed, "pids": ask.pids, "largest": LARGEST_FILE,
            "bomb": ask.bomb, "rootless": self.facts().rootless
        });
        let exec =
            Exec { limit: INSIDE, ..Exec::new(["node", "/opt/sentrix/selftest.mjs", &said.to_string()]) };
        let got = self.exec(name, &exec).await?;
        let places = [Place::Inside, Place::Door];
        Ok(rows(&got.stdout, &places, ask, &ended("the script", got.code, &got.stderr)))
    }

    /// The tries of an agent through its tools, and those at the gateway; OpenClaw must be ready, and its configuration
    /// must have [`model_provider`]. `probe` names the agent's turn.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::NotFound`] and [`super::SandboxErrorKind::Engine`] where nothing could be run at all.
    pub async fn self_test_tools(
        &self,
        layout: &Layout,
        token: &SecretString,
        ask: &Ask,
        probe: &Probe,
    ) -> Result<Vec<Row>, SandboxError> {
        let name = layout.name();
        let limit = TURN.saturating_sub(Duration::from_secs(5)).as_millis();
        // Over standard input: arguments and variables can be seen by everybody who may use Docker.
        // Tools that the user asked for are no escape.
        let granted: &[&str] = if ask.relaxed.has(Relax::Exec) { &["exec", "process"] } else { &[] };
        let input = json!({"granted": granted, "token": token.expose_secret(), "run": probe.run, "session": probe.session, "limit": u64::try_from(limit).unwrap_or(20_000)});
        let exec = Exec {
            limit: TURN,
            input: input.to_string().into_bytes(),
            ..Exec::new(["node", "/opt/sentrix/selftest-tools.mjs"])
        };
        let sockets = Exec { limit: INSIDE, ..Exec::new(["cat", "/proc/net/tcp", "/proc/net/tcp6"]) };
        let (turn, no_token, wrong_token, sockets) = tokio::join!(
            self.exec(name, &exec),
            unauthorized(layout, None),
            unauthorized(layout, Some(SecretString::from("0".repeat(64)))),
            self.exec(name, &sockets),
        );
        let got = turn?;
        let mut all = rows(&got.stdout, &[Place::Tools], ask, &ended("the turn", got.code, &got.stderr));
        let listening = match sockets {
            Ok(got) => listening(&String::from_utf8_lossy(&got.stdout)),
            Err(error) => Verdict::CouldNotTry { why: text::plain(&error.to_string()) },
        };
        let gateway = [
            ("gateway-no-token", no_token),
            ("gateway-wrong-token", wrong_token),
            ("gateway-interface", listening),
        ];
        for (id, verdict) in gateway {
            all.extend(TRIES.iter().find(|row| row.id == id).map(|row| made(row, verdict, ask)));
        }
        Ok(all)
    }
}

impl Layout {
    /// Keeps the outcome beside the sandbox, for `doctor`.
    ///
    /// # Errors
    /// [`super::SandboxErrorKind::Io`] with the file.
    pub fn write_self_test(&self, report: &Report) -> Result<(), SandboxError> {
        Self::write_json(&self.self_test_file(), report)
    }

    /// The outcome of the last self-test; `None` where there is none, or it cannot be read.
    pub fn self_test(&self) -> Option<Report> {
        serde_json::from_str(&std::fs::read_to_string(self.self_test_file()).ok()?).ok()
    }
}

/// Why rows may be missing.
fn ended(what: &str, code: i64, stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    text::bounded(&text::plain(&format!("{what} ended with code {code} and did not say {last}")), 200)
}

/// The rows of a script's lines; a try that it does not speak of was not made. Only rows of these places are taken: a
/// script cannot speak for another.
fn rows(stdout: &[u8], places: &[Place], ask: &Ask, missing: &str) -> Vec<Row> {
    let stdout = String::from_utf8_lossy(stdout);
    let said: BTreeMap<String, Said> = stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Said>(line).ok())
        .map(|said| (said.id.clone(), said))
        .collect();
    TRIES
        .iter()
        .filter(|row| places.contains(&row.place) && row.applies(ask.egress))
        .filter(|row| {
            // Without a key there is nothing to read.
            said.contains_key(row.id) || !matches!(row.id, "tool-secret" | "tool-secret-link")
        })
        .map(|row| {
            let verdict = match said.get(row.id) {
                None => Verdict::CouldNotTry { why: missing.to_owned() },
                Some(said) => {
                    let how = text::bounded(&text::plain(&said.how), 200);
                    match said.result.as_str() {
                        "refused" => Verdict::Refused { how },
                        "succeeded" => Verdict::Succeeded { how },
                        _ => Verdict::CouldNotTry { why: how },
                    }
                }
            };
            made(row, verdict, ask)
        })
        .collect()
}

fn made(row: &Try, verdict: Verdict, ask: &Ask) -> Row {
    Row {
        id: row.id.to_owned(),
        what: row.what.to_owned(),
        guard: row.guard,
        verdict,
        relaxed: ask.relaxed.lifting(row.guard),
    }
}

/// Whether the gateway refuses a call without the right token.
///
/// Source: OpenClaw 2026.9.6, `POST /tools/invoke` answers 401 then.
async fn unauthorized(layout: &Layout, token: Option<SecretString>) -> Verdict {
    let body = json!({"tool": "session_status", "args": {}});
    let socket = layout.gateway_socket();
    let limit = Duration::from_secs(10);
    match socket::request(&socket, "POST", "/tools/invoke", token.as_ref(), Some(&body), limit).await {
        Ok((401 | 403, _)) => Verdict::Refused { how: String::from("401") },
        Ok((status, _)) => Verdict::Succeeded { how: format!("the gateway answered {status}") },
        Err(error) => Verdict::CouldNotTry { why: text::plain(&error.to_string()) },
    }
}

/// Whether anything listens at another address than loopback, by `/proc/net/tcp` and `/proc/net/tcp6`.
///
/// Source: proc(5): the second field is the local address, bytes of each word backwards; state `0A` is listening.
fn listening(table: &str) -> Verdict {
    let mut ports = Vec::new();
    let mut seen = 0;
    for line in table.lines() {
        let mut fields = line.split_whitespace();
        let (Some(local), Some(state)) = (fields.nth(1), fields.nth(1)) else { continue };
        let Some((address, port)) = local.split_once(':') else { continue };
        if state != "0A" {
            continue;
        }
        seen += 1;
        // 127.0.0.1, ::1 and ::ffff:127.0.0.1.
        let loopback = address.len() == 8 && address.ends_with("7F")
            || address == "00000000000000000000000001000000"
            || address == "0000000000000000FFFF00000100007F";
        if !loopback {
            ports.push(u16::from_str_radix(port, 16).unwrap_or(0).to_string());
        }
    }
    match (seen, ports.is_empty()) {
        (0, _) => Verdict::CouldNotTry { why: String::from("nothing listens at all") },
        (_, true) => Verdict::Refused { how: format!("{seen} sockets listen, all of them at loopback") },
        (_, false) => {
            Verdict::Succeeded { how: format!("open to other interfaces: port {}", ports.join(", ")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask() -> Ask {
        Ask { bomb: false, ..Ask::of(&ContainerSpec::new("i")) }
    }

    #[test]
    fn what_a_script_does_not_speak_of_was_not_refused() {
        let lines = concat!(
            "{\"id\":\"direct-ip\",\"result\":\"refused\",\"how\":\"ENETUNREACH\"}\n",
            "noise\n",
            "{\"id\":\"mount\",\"result\":\"succeeded\",\"how\":\"\\u001b[2J\"}\n",
            "{\"id\":\"tool-exec\",\"result\":\"refused\",\"how\":\"not its to say\"}\n",
        );
        let rows = rows(lines.as_bytes(), &[Place::Inside], &ask(), "gone");
        let row = |id: &str| rows.iter().find(|row| row.id == id);
        assert_eq!(row("direct-ip").unwrap().verdict, Verdict::Refused { how: "ENETUNREACH".into() });
        assert!(row("mount").unwrap().is_red() && !row("mount").unwrap().to_string().contains('\u{1b}'));
        assert_eq!(row("udp").unwrap().verdict, Verdict::CouldNotTry { why: "gone".into() });
        assert!(row("tool-exec").is_none());
        let report = Report::new(rows, Duration::from_millis(900), &crate::clock::system());
        assert_eq!((report.red().count(), report.refused()), (1, 1));
        assert!(report.summary().contains("1 SUCCEEDED"), "{}", report.summary());
        let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(back, report);
    }

    #[test]
    fn what_was_asked_for_is_no_escape() {
        let relaxed = [Relax::Seccomp].into_iter().collect();
        let ask = Ask { relaxed, ..ask() };
        let line = br#"{"id":"ptrace","result":"succeeded","how":"done"}"#;
        let rows = rows(line, &[Place::Inside], &ask, "");
        let row = rows.iter().find(|row| row.id == "ptrace").unwrap();
        assert!(!row.is_red());
        assert!(row.to_string().contains("--relax seccomp"), "{row}");
    }

    #[test]
    fn who_listens_where() {
        let line = |local: &str, state: &str| format!("   0: {local} 00000000:0000 {state} 0 0\n");
        let loopback = line("0100007F:4965", "0A") + &line("00000000000000000000000001000000:4965", "0A");
        assert!(matches!(listening(&loopback), Verdict::Refused { .. }));
        let open = loopback + &line("00000000:4965", "0A");
        assert_eq!(
            listening(&open),
            Verdict::Succeeded { how: "open to other interfaces: port 18789".into() }
        );
        assert!(matches!(listening(&line("00000000:4965", "01")), Verdict::CouldNotTry { .. }));
    }
}

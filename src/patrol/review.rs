//! What a model says of turns: questions that fit, answers that count only where their quotes are found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::masked::{Found, MaskedTurn, Window, windows};
use super::sweep::PatrolDeps;
use super::types::{Lens, PendingTurn};
use crate::case::{Category, Evidence, FlagVote, Severity};
use crate::id::{RunId, VoteId};
use crate::model::{Account, ChatRequest, ModelError, ModelErrorKind, Usage, Work, structured};
use crate::text;

/// Most characters of an observation that is kept.
const OBSERVATION_CHARS: usize = 600;

/// What a model must answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct ReviewAnswer {
    /// Every incident seen; empty where nothing is wrong.
    pub incidents: Vec<Incident>,
}

/// One incident, as a model reports it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Incident {
    /// Number of the turn, as shown.
    pub turn: u32,
    /// Words of that turn, character by character.
    pub quote: String,
    /// What kind of incident it is.
    pub category: Category,
    /// How bad it is if true.
    pub severity: Severity,
    /// How sure, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub confidence: f64,
    /// Why, in a sentence.
    pub observation: String,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Reviewer<'a> {
    /// The agent, as `log_patrol_0`.
    pub agent: &'a str,
    /// What it looks for first.
    pub lens: Lens,
    /// The model's role.
    pub role: &'a str,
    /// The prompt template.
    pub prompt: &'a str,
    /// The stream's name.
    pub stream: &'a str,
    /// The sweep, on whose account the calls go.
    pub sweep: RunId,
}

impl Reviewer<'_> {
    /// The role of its model: the lens may have one of its own.
    fn model_role(&self) -> String {
        format!("{}.{}", self.role, self.lens.as_str())
    }
}

/// What a model said of turns.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// For each turn by index: the votes that are not clean, each with its evidence.
    pub votes: Vec<(usize, FlagVote, Evidence)>,
    /// Indices of turns whose question could not be asked or whose answer could not be read, with the reason.
    pub failed: Vec<(usize, Unanswered)>,
    /// What the calls cost.
    pub usage: Usage,
}

/// Why a question has no answer.
#[derive(Clone, Debug)]
pub(super) struct Unanswered {
    /// The reason, bounded and plain.
    pub reason: String,
    /// Whether an outside service is to blame.
    pub outside: bool,
    /// Whether no model looked at it and none will before something changes: the turn only waits.
    pub waits: bool,
}

impl Unanswered {
    fn of(error: &ModelError) -> Self {
        use ModelErrorKind as Kind;
        Self {
            reason: text::bounded(&text::plain(&error.to_string()), 300),
            // What the model made of the question is the answer's fault, and a budget is nobody's.
            outside: !matches!(error.class(), "malformed" | "refused" | "budget"),
            // Nobody looked at it, and nobody can before somebody does something about the account or the budget.
            waits: matches!(
                error.kind,
                Kind::OverBudget(_)
                    | Kind::Ledger(_)
                    | Kind::CircuitOpen { .. }
                    | Kind::MissingKey
                    | Kind::UnusableKey
                    | Kind::BadUrl(_)
                    | Kind::Unauthorized(_)
                    | Kind::NoCredit(_)
                    | Kind::Forbidden(_)
                    | Kind::UnknownModel(_)
                    | Kind::NoEndpoint(_)
            ),
        }
    }

    /// What says nothing of an outside service.
    fn ours(reason: String) -> Self {
        Self { reason, outside: false, waits: false }
    }

    /// The turn as it is left.
    pub(super) fn pending(self, turn_row: i64) -> PendingTurn {
        PendingTurn { turn_row, reason: self.reason, outside: self.outside, waits: self.waits }
    }
}

/// Asks a model about turns.
pub(super) async fn review(deps: &PatrolDeps, reviewer: &Reviewer<'_>, turns: &[MaskedTurn]) -> Sightings {
    let mut sightings = Sightings::default();
    for window in windows(turns, deps.settings.window_chars) {
        match ask(deps, reviewer, turns, &window, &mut sightings.usage).await {
            Ok((answer, model)) => {
                for incident in answer.incidents {
                    if let Some(vote) = count(deps, reviewer, turns, &window, &incident, &model) {
                        sightings.votes.push(vote);
                    } else {
                        tracing::debug!(
                            agent = reviewer.agent,
                            lens = reviewer.lens.as_str(),
                            turn = incident.turn,
                            category = incident.category.as_str(),
                            confidence = incident.confidence,
                            "an incident does not count: not sure enough, or its quote is not in the turn"
                        );
                    }
                }
            }
            Err(unanswered) => {
                let mut indices: Vec<usize> = window.iter().map(|(index, _)| *index).collect();
                indices.dedup();
                for index in indices {
                    if !sightings.failed.iter().any(|(other, ..)| *other == index) {
                        sightings.failed.push((index, unanswered.clone()));
                    }
                }
            }
        }
    }
    sightings
}

async fn ask(
    deps: &PatrolDeps,
    reviewer: &Reviewer<'_>,
    turns: &[MaskedTurn],
    window: &Window,
    usage: &mut Usage,
) -> Result<(ReviewAnswer, String), Unanswered> {
    // Text in a log cannot forge the head of a turn: it does not know this call's mark.
    let mark = Uuid::now_v7().simple().to_string().split_off(24);
    let mut log = String::new();
    let mut shown = None;
    for (index, line) in window {
        if shown != Some(*index) {
            let name = turns.get(*index).map_or("", |turn| turn.run_id_ts.as_str());
            text::push(&mut log, format_args!("=== turn {index} {mark} ({})\n", text::plain(name)));
            shown = Some(*index);
        }
        log.push_str(line);
        log.push('\n');
    }
    let hints: Vec<Value> = window
        .iter()
        .map(|(index, _)| *index)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .filter_map(|index| turns.get(index).map(|turn| (index, turn)))
        .flat_map(|(index, turn)| {
            turn.hints
                .iter()
                .map(move |(label, category)| json!({ "turn": index, "label": label, "category": category }))
        })
        .collect();
    let mut vars = Map::new();
    vars.insert("agent".into(), json!(reviewer.agent));
    vars.insert("lens".into(), json!(reviewer.lens.as_str()));
    vars.insert("lens_description".into(), json!(reviewer.lens.description()));
    vars.insert("stream".into(), json!(text::plain(reviewer.stream)));
    vars.insert("hints".into(), json!(hints));
    vars.insert("log".into(), json!(log));
    let rendered = deps.prompts.render(reviewer.prompt, &vars);
    let rendered = rendered.map_err(|error| Unanswered::ours(error.to_string()))?;
    let mut request = ChatRequest::new(rendered.system, rendered.user);
    request.max_tokens = Some(deps.settings.max_tokens);
    request.nonce = rendered.nonce;
    request.random = vec![mark];
    request.account = Some(Account { work: Work::Sweep, id: reviewer.sweep.to_string() });
    let model = deps.models.get(&reviewer.model_role()).ok_or_else(|| Unanswered {
        outside: true,
        ..Unanswered::ours(format!("no model is configured for the role `{}`", reviewer.role))
    })?;
    match structured::<ReviewAnswer>(model.as_ref(), request).await {
        Ok(answer) => {
            *usage += answer.usage;
            Ok((answer.value, answer.model))
        }
        Err(error) => {
            *usage += error.usage;
            Err(Unanswered::of(&error))
        }
    }
}

/// Turns an incident into a vote, if it counts: its turn was asked about, it is sure enough, and its quote is found.
fn count(
    deps: &PatrolDeps,
    reviewer: &Reviewer<'_>,
    turns: &[MaskedTurn],
    window: &Window,
    incident: &Incident,
    model: &str,
) -> Option<(usize, FlagVote, Evidence)> {
    let index = incident.turn as usize;
    let asked = window.iter().any(|(asked, _)| *asked == index);
    let turn = turns.get(index).filter(|_| asked)?;
    if incident.severity == Severity::Clean || incident.confidence < deps.settings.confidence_threshold {
        return None;
    }
    let Found { part, place, span, quote } = turn.find(&incident.quote)?;
    let confidence = incident.confidence.clamp(0.0, 1.0);
    let observation =
        text::bounded(&text::plain(&deps.detectors.redact(&incident.observation)), OBSERVATION_CHARS);
    let evidence = Evidence {
        turn: turn.run_id_ts.clone(),
        part,
        place,
        start: span.start,
        end: span.end,
        quote: text::bounded(&text::plain(&quote), 240),
        rule: format!("lens.{}", reviewer.lens.as_str()),
        title: String::new(),
        label: incident.category.as_str().to_owned(),
        category: incident.category,
        severity: incident.severity,
        confidence,
        fingerprint: None,
    };
    let vote = FlagVote {
        vote_id: VoteId::stable(&[
            reviewer.agent,
            reviewer.lens.as_str(),
            &turn.id,
            incident.category.as_str(),
        ])
        .to_string(),
        source_agent: reviewer.agent.to_owned(),
        source_file: turn.source_file.clone(),
        severity: incident.severity,
        confidence,
        pii_labels_detected: Vec::new(),
        observation,
        timestamp: deps.now(),
        category: Some(incident.category),
        run_id_ts: turn.run_id_ts.clone(),
        lens: Some(reviewer.lens.as_str().into()),
        model: Some(model.to_owned()),
    };
    Some((index, vote, evidence))
}

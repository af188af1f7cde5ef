//! What a model says of turns: questions that fit, answers that count only where their quotes are found.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::sweep::PatrolDeps;
use super::types::{Lens, PendingTurn};
use crate::case::{Category, Evidence, FlagVote, Severity, Turn};
use crate::detect::place;
use crate::id::{RunId, VoteId};
use crate::model::{Account, ChatRequest, ModelError, ModelErrorKind, Usage, Work, structured};
use crate::{redact, text};

/// How much of a long part the next segment repeats, in characters.
const OVERLAP_CHARS: usize = 400;
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

/// A turn on its way to a model: secrets masked already.
#[derive(Clone, Debug)]
pub(super) struct MaskedTurn {
    /// The turn's row.
    pub row: i64,
    /// Its stable id, for vote ids.
    pub id: String,
    /// `runId_ts`.
    pub run_id_ts: String,
    /// Its run.
    pub run_id: String,
    /// Milliseconds since the Unix epoch.
    pub ts: i64,
    /// Its log file.
    pub source_file: String,
    /// OpenClaw's agent id, where the log says.
    pub agent_id: Option<String>,
    /// Each part: where it comes from, its masked text, and its length unmasked.
    parts: Vec<MaskedPart>,
    /// What the detectors found: label and category.
    pub hints: Vec<(String, Category)>,
}

#[derive(Clone, Debug)]
struct MaskedPart {
    place: String,
    masked: String,
    /// The text as it was, where models may see that.
    original: Option<String>,
    /// For each mask: where it stands in the masked text, and where the secret stood in the original.
    masks: Vec<(Range<usize>, Range<usize>)>,
}

impl MaskedPart {
    fn of(deps: &PatrolDeps, turn_part: &crate::case::Part) -> Self {
        let body = &turn_part.text;
        let mut masked = String::with_capacity(body.len());
        let mut masks = Vec::new();
        let mut at = 0;
        for (span, label) in deps.detectors.sensitive_spans(body) {
            if span.start < at {
                continue;
            }
            masked.push_str(text::slice(body, at..span.start));
            let start = masked.len();
            masked.push_str(&redact::mask(&label, text::slice(body, span.clone())));
            masks.push((start..masked.len(), span.clone()));
            at = span.end;
        }
        masked.push_str(text::slice(body, at..body.len()));
        let original = (!deps.settings.redact).then(|| body.clone());
        Self { place: place(turn_part), masked, original, masks }
    }

    /// The text as a model sees it.
    fn sent(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.masked)
    }

    /// Where a quote stood in the original, and how it may be shown. The model saw control characters as escapes; a quote
    /// with one is found in that form, and stands for the whole part.
    fn find(&self, quote: &str) -> Option<(Range<usize>, String)> {
        if let Some(at) = self.masked.find(quote) {
            return Some((self.original(at..at + quote.len()), quote.to_owned()));
        }
        if let Some((original, at)) =
            self.original.as_deref().and_then(|text| Some((text, text.find(quote)?)))
        {
            return Some(self.covered(original, at..at + quote.len()));
        }
        let whole = || self.original(0..self.masked.len());
        crate::prompt::shown(&self.masked).contains(quote).then(|| (whole(), quote.to_owned()))
    }

    /// A range of the original, widened so that no secret is cut, and its text with every secret masked.
    fn covered(&self, original: &str, mut range: Range<usize>) -> (Range<usize>, String) {
        let mut out = String::new();
        let mut at = range.start;
        for (masked, secret) in &self.masks {
            if secret.start < range.end && secret.end > range.start {
                out.push_str(text::slice(original, at..secret.start.max(at)));
                out.push_str(text::slice(&self.masked, masked.clone()));
                at = secret.end;
                range.start = range.start.min(secret.start);
            }
        }
        range.end = range.end.max(at);
        out.push_str(text::slice(original, at..range.end));
        (range, out)
    }

    /// Where a range of the masked text stood in the original. A mask that it touches only in part counts whole.
    fn original(&self, range: Range<usize>) -> Range<usize> {
        let first = self.masks.partition_point(|(masked, _)| masked.end <= range.start);
        let start = match self.masks.get(first) {
            Some((masked, original)) if masked.start < range.start => original.start,
            _ => self.unmasked(first, range.start),
        };
        let last = self.masks.partition_point(|(masked, _)| masked.end < range.end);
        let end = match self.masks.get(last) {
            Some((masked, original)) if masked.start < range.end => original.end,
            _ => self.unmasked(last, range.end),
        };
        start..end.max(start)
    }

    /// Where a place stood that is no part of a mask; `before` masks come before it.
    fn unmasked(&self, before: usize, at: usize) -> usize {
        let known = before.checked_sub(1).and_then(|last| self.masks.get(last));
        known.map_or(at, |(masked, original)| original.end + at.saturating_sub(masked.end))
    }
}

impl MaskedTurn {
    /// Masks a turn.
    pub(super) fn of(deps: &PatrolDeps, row: i64, turn: &Turn, hints: Vec<(String, Category)>) -> Self {
        Self {
            row,
            id: turn.id.to_string(),
            run_id_ts: turn.run_id_ts(),
            run_id: turn.run_id.clone(),
            ts: turn.ts,
            source_file: turn.source_file.clone(),
            agent_id: turn.agent_id.clone(),
            parts: turn.parts.iter().map(|part| MaskedPart::of(deps, part)).collect(),
            hints,
        }
    }

    /// The first place where a quote stands: part, start and end in the original text, and the quote as it may be shown.
    fn find(&self, quote: &str) -> Option<(usize, Range<usize>, String)> {
        let quote = quote.trim();
        if quote.chars().count() < 3 {
            return None;
        }
        self.parts.iter().enumerate().find_map(|(index, part)| {
            let (span, shown) = part.find(quote)?;
            Some((index, span, shown))
        })
    }
}

/// One question's share of the turns: index of the turn, and the text that is shown of it.
type Window = Vec<(usize, String)>;

/// Splits turns into questions of at most `limit` characters; long parts become overlapping segments. Nothing is cut
/// off.
fn windows(turns: &[MaskedTurn], limit: usize) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::new();
    let mut current: Window = Vec::new();
    let mut used = 0;
    for (index, turn) in turns.iter().enumerate() {
        for part in &turn.parts {
            for segment in segments(part.sent(), limit / 2) {
                let line = format!("[{}] {segment}", part.place);
                let size = line.chars().count();
                if used + size > limit && !current.is_empty() {
                    windows.push(std::mem::take(&mut current));
                    used = 0;
                }
                used += size;
                current.push((index, line));
            }
        }
    }
    if !current.is_empty() {
        windows.push(current);
    }
    windows
}

/// Pieces of at most `limit` characters that overlap.
fn segments(body: &str, limit: usize) -> Vec<&str> {
    let limit = limit.max(OVERLAP_CHARS * 2);
    let bounds: Vec<usize> = body.char_indices().map(|(at, _)| at).chain([body.len()]).collect();
    let chars = bounds.len() - 1;
    let mut out = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + limit).min(chars);
        let (from, to) =
            (bounds.get(start).copied().unwrap_or(0), bounds.get(end).copied().unwrap_or(body.len()));
        out.push(text::slice(body, from..to));
        if end == chars {
            return out;
        }
        start = end - OVERLAP_CHARS;
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
    let (part, span, quote) = turn.find(&incident.quote)?;
    let confidence = incident.confidence.clamp(0.0, 1.0);
    let observation =
        text::bounded(&text::plain(&deps.detectors.redact(&incident.observation)), OBSERVATION_CHARS);
    let place = turn.parts.get(part).map(|part| part.place.clone()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_overlap_and_lose_nothing() {
        let body: String = (0..5_000).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
        let parts = segments(&body, 1_000);
        let mut joined = parts[0].to_owned();
        for part in &parts[1..] {
            let (again, new) = part.split_at(OVERLAP_CHARS);
            assert!(joined.ends_with(again));
            joined.push_str(new);
        }
        assert_eq!(joined, body);
        assert_eq!(segments("", 1_000), [""]);
    }

    #[test]
    fn a_place_in_masked_text_maps_back() {
        let part = MaskedPart {
            place: String::new(),
            masked: "key [t #1] then [u #2] end".into(),
            original: None,
            masks: vec![(4..10, 4..24), (16..22, 30..33)],
        };
        for (masked, original) in [
            (0..3, 0..3),
            (4..10, 4..24),
            (6..8, 4..24),
            (11..15, 25..29),
            (0..26, 0..37),
            (5..17, 4..33),
            // What ends where a mask begins, or begins where one ends, does not have the secret in it.
            (0..4, 0..4),
            (10..16, 24..30),
            (22..26, 33..37),
        ] {
            assert_eq!(part.original(masked.clone()), original, "{masked:?}");
        }
    }
}

//! The quorum: which votes make a flag, and what the flag says.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::lens_of;
use super::types::{Contest, StreamScan, TurnVerdict};
use super::votes::DETECTORS;
use crate::case::{Category, FlagVote, PatrolFlag, Severity};
use crate::id::FlagId;
use crate::text;

/// How many further agents look at a turn in doubt.
const FURTHER_AGENTS: usize = 2;
/// From this confidence on a detector decides alone: a checksum that fits is a fact, not an opinion.
const SURE: f64 = 0.8;
/// Most characters of a referral.
const REFERRAL_CHARS: usize = 1_000;

/// The further looks that the scans call for: every turn with a vote that is not clean, by agents with other lenses
/// than the one that scanned it.
pub(super) fn contests(scans: &[StreamScan], agents: usize) -> Vec<Contest> {
    let mut contests = Vec::new();
    for scan in scans {
        let first = (0..4).find(|index| lens_of(*index) == scan.assignment.lens).unwrap_or(0);
        for verdict in &scan.verdicts {
            if scan.pending.iter().any(|pending| pending.turn_row == verdict.turn_row) {
                continue;
            }
            for further in 1..=FURTHER_AGENTS {
                contests.push(Contest {
                    agent: format!(
                        "log_patrol_{}",
                        (agent_number(&scan.assignment.agent) + further) % agents.max(1)
                    ),
                    lens: lens_of(first + further),
                    turn_row: verdict.turn_row,
                    stream: verdict.stream.clone(),
                });
            }
        }
    }
    contests
}

fn agent_number(name: &str) -> usize {
    name.rsplit('_').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Puts the votes of all agents on the same turn together, in row order.
pub(super) fn gather(scans: Vec<StreamScan>, second: Vec<TurnVerdict>) -> Vec<TurnVerdict> {
    let mut turns: BTreeMap<i64, TurnVerdict> = BTreeMap::new();
    for verdict in scans.into_iter().flat_map(|scan| scan.verdicts).chain(second) {
        match turns.entry(verdict.turn_row) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(verdict);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.votes.extend(verdict.votes);
                known.evidence.extend(verdict.evidence);
            }
        }
    }
    turns.into_values().collect()
}

/// A turn's categories that the votes agree on.
fn agreed(verdict: &TurnVerdict) -> Vec<Category> {
    let against = verdict.votes.iter().filter(|vote| vote.severity > Severity::Clean);
    let voters: BTreeSet<&str> = verdict.votes.iter().map(voter).collect();
    let needed = voters.len().div_ceil(2);
    let mut by_category: BTreeMap<Category, (BTreeSet<&str>, bool)> = BTreeMap::new();
    let mut accusers = BTreeSet::new();
    for vote in against {
        let category = vote.category.unwrap_or(Category::Unknown);
        let entry = by_category.entry(category).or_default();
        entry.0.insert(voter(vote));
        entry.1 |= vote.source_agent == DETECTORS && vote.confidence >= SURE;
        accusers.insert(voter(vote));
    }
    // Agents look through different lenses: that something is wrong is what they must agree on; what it is called
    // follows the votes there are.
    let guilty = accusers.len() >= needed;
    by_category.into_iter().filter(|(_, (_, sure))| guilty || *sure).map(|(category, _)| category).collect()
}

/// Two lenses of one agent are two voters.
fn voter(vote: &FlagVote) -> &str {
    vote.lens.as_deref().unwrap_or(&vote.source_agent)
}

/// The flags that the votes make: one for each run of a stream and category, naming every turn. `known` gives a flag
/// that is there already, which then grows; `pheromone` a stream's level.
///
/// # Errors
/// What `known` fails with: a flag that could not be looked up is not taken for a new one.
pub(super) fn flags<E>(
    verdicts: &[TurnVerdict],
    at: &str,
    mut known: impl FnMut(&str) -> Result<Option<PatrolFlag>, E>,
    mut pheromone: impl FnMut(&str) -> f64,
) -> Result<Vec<PatrolFlag>, E> {
    let mut groups: BTreeMap<(String, String, Category), Vec<&TurnVerdict>> = BTreeMap::new();
    for verdict in verdicts {
        for category in agreed(verdict) {
            groups
                .entry((verdict.stream.clone(), verdict.run_id.clone(), category))
                .or_default()
                .push(verdict);
        }
    }
    let mut flags = Vec::with_capacity(groups.len());
    for ((stream, run_id, category), turns) in groups {
        let id = FlagId::stable(&[&stream, &run_id, category.as_str()]).to_string();
        let level = pheromone(&stream);
        let fresh = flag(id, &stream, category, &turns, at, level);
        flags.push(match known(&fresh.flag_id)? {
            Some(before) => grown(before, fresh),
            None => fresh,
        });
    }
    flags.sort_by(|a, b| a.run_id_ts.cmp(&b.run_id_ts).then_with(|| a.flag_id.cmp(&b.flag_id)));
    Ok(flags)
}

fn flag(
    id: String,
    stream: &str,
    category: Category,
    turns: &[&TurnVerdict],
    at: &str,
    level: f64,
) -> PatrolFlag {
    let mut turns = turns.to_vec();
    turns.sort_by_key(|turn| (turn.ts, turn.turn_row));
    let votes: Vec<FlagVote> = turns
        .iter()
        .flat_map(|turn| &turn.votes)
        .filter(|vote| vote.category.is_none_or(|named| named == category))
        .cloned()
        .collect();
    let evidence = turns
        .iter()
        .flat_map(|turn| &turn.evidence)
        .filter(|item| item.category == category)
        .cloned()
        .collect();
    let mut turn_ids: Vec<String> = turns.iter().map(|turn| turn.run_id_ts.clone()).collect();
    turn_ids.dedup();
    let mut flag = PatrolFlag {
        flag_id: id,
        source_file: turns.first().map(|turn| turn.source_file.clone()).unwrap_or_default(),
        run_id_ts: turn_ids.first().cloned().unwrap_or_default(),
        consensus_severity: Severity::Low,
        consensus_confidence: 0.0,
        votes,
        pii_labels_union: Vec::new(),
        referral_summary: String::new(),
        pheromone_level: level,
        timestamp: at.to_owned(),
        categories: vec![category],
        stream: stream.to_owned(),
        agent_id: turns.iter().find_map(|turn| turn.agent_id.clone()),
        turn_ids,
        evidence,
    };
    consent(&mut flag);
    flag
}

/// What the votes of a flag come to.
fn consent(flag: &mut PatrolFlag) {
    let against: Vec<&FlagVote> = flag.votes.iter().filter(|vote| vote.severity > Severity::Clean).collect();
    let severity = against.iter().map(|vote| vote.severity).max().unwrap_or(Severity::Low);
    let confidence = against.iter().map(|vote| vote.confidence).fold(0.0, f64::max);
    let mut labels: Vec<String> = against.iter().flat_map(|vote| vote.pii_labels_detected.clone()).collect();
    labels.sort();
    labels.dedup();
    let mut observations: Vec<&str> = Vec::new();
    for vote in &against {
        if !observations.contains(&vote.observation.as_str()) {
            observations.push(&vote.observation);
        }
    }
    flag.referral_summary = text::bounded(&observations.join(" · "), REFERRAL_CHARS);
    flag.consensus_severity = severity;
    flag.consensus_confidence = confidence;
    flag.pii_labels_union = labels;
}

/// A flag that is there already, with what is new. The same content again changes nothing, not even the time.
pub(super) fn grown(mut before: PatrolFlag, fresh: PatrolFlag) -> PatrolFlag {
    let unchanged = fresh.evidence.iter().all(|item| before.evidence.contains(item))
        && fresh.turn_ids.iter().all(|turn| before.turn_ids.contains(turn))
        && fresh.votes.iter().all(|vote| before.votes.iter().any(|known| known.vote_id == vote.vote_id));
    if unchanged {
        return before;
    }
    // A turn that has grown is named by its new last event. Votes know the turn itself, and so its old name.
    let renamed: BTreeSet<String> = before
        .votes
        .iter()
        .filter(|vote| {
            fresh.votes.iter().any(|new| new.vote_id == vote.vote_id && new.run_id_ts != vote.run_id_ts)
        })
        .map(|vote| vote.run_id_ts.clone())
        .filter(|name| !fresh.turn_ids.contains(name))
        .collect();
    // A turn that was read again replaces what was known of it.
    let replaced = |name: &String| renamed.contains(name) || fresh.turn_ids.contains(name);
    before.turn_ids.retain(|name| !renamed.contains(name));
    before.votes.retain(|vote| {
        !replaced(&vote.run_id_ts) && !fresh.votes.iter().any(|new| new.vote_id == vote.vote_id)
    });
    before.votes.extend(fresh.votes);
    before.evidence.retain(|item| !replaced(&item.turn));
    before.evidence.extend(fresh.evidence);
    if renamed.contains(&before.run_id_ts) {
        before.run_id_ts = fresh.run_id_ts;
        before.source_file = fresh.source_file;
    }
    for turn in fresh.turn_ids {
        if !before.turn_ids.contains(&turn) {
            before.turn_ids.push(turn);
        }
    }
    before.timestamp = fresh.timestamp;
    before.pheromone_level = fresh.pheromone_level;
    consent(&mut before);
    before
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn vote(agent: &str, lens: Option<&str>, severity: Severity, confidence: f64) -> FlagVote {
        FlagVote {
            vote_id: format!("{agent}-{lens:?}-{severity}"),
            source_agent: agent.into(),
            source_file: "a.json".into(),
            severity,
            confidence,
            pii_labels_detected: Vec::new(),
            observation: format!("{agent} saw it"),
            timestamp: String::new(),
            category: (severity > Severity::Clean).then_some(Category::SecretHardcoding),
            run_id_ts: "r_1".into(),
            lens: lens.map(str::to_owned),
            model: None,
        }
    }

    fn verdict(ts: i64, votes: Vec<FlagVote>) -> TurnVerdict {
        TurnVerdict {
            turn_row: ts,
            run_id_ts: format!("r_{ts}"),
            run_id: "r".into(),
            ts,
            source_file: "a.json".into(),
            stream: "s".into(),
            agent_id: None,
            votes,
            evidence: Vec::new(),
        }
    }

    fn make(verdicts: &[TurnVerdict]) -> Vec<PatrolFlag> {
        flags(verdicts, "now", |_| Ok::<_, Infallible>(None), |_| 0.4).unwrap()
    }

    fn again(verdicts: &[TurnVerdict], before: &PatrolFlag) -> Vec<PatrolFlag> {
        flags(verdicts, "later", |_| Ok::<_, Infallible>(Some(before.clone())), |_| 0.9).unwrap()
    }

    #[test]
    fn one_of_three_is_no_quorum_and_two_are() {
        let clean = |lens| vote("log_patrol_1", Some(lens), Severity::Clean, 1.0);
        let guilty = |lens| vote("log_patrol_1", Some(lens), Severity::High, 0.9);
        assert!(make(&[verdict(1, vec![guilty("a"), clean("b"), clean("c")])]).is_empty());
        assert_eq!(make(&[verdict(1, vec![guilty("a"), guilty("b"), clean("c")])]).len(), 1);
    }

    #[test]
    fn a_sure_detector_is_not_outvoted_and_an_unsure_one_is() {
        let clean = |lens| vote("log_patrol_1", Some(lens), Severity::Clean, 1.0);
        let detector = |confidence| vote(DETECTORS, None, Severity::High, confidence);
        assert_eq!(make(&[verdict(1, vec![detector(0.95), clean("a"), clean("b")])]).len(), 1);
        assert!(make(&[verdict(1, vec![detector(0.6), clean("a"), clean("b")])]).is_empty());
        assert_eq!(make(&[verdict(1, vec![detector(0.6)])]).len(), 1);
    }

    #[test]
    fn a_flag_names_every_turn_of_its_run_and_grows() {
        let detector = || vec![vote(DETECTORS, None, Severity::High, 0.9)];
        let first = make(&[verdict(1, detector()), verdict(3, detector())]);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].turn_ids, ["r_1", "r_3"]);
        let mut later = detector();
        later[0].vote_id = "other".into();
        let second = again(&[verdict(5, later)], &first[0]);
        assert_eq!(second[0].flag_id, first[0].flag_id);
        assert_eq!(second[0].turn_ids, ["r_1", "r_3", "r_5"]);
    }

    #[test]
    fn the_same_again_is_the_same_flag() {
        let votes = vec![vote(DETECTORS, None, Severity::High, 0.9)];
        let first = make(&[verdict(1, votes.clone())]);
        assert_eq!(again(&[verdict(1, votes)], &first[0]), first);
    }

    #[test]
    fn a_turn_that_has_grown_leaves_its_old_name() {
        let before = make(&[verdict(1, vec![vote(DETECTORS, None, Severity::High, 0.9)])]);
        let mut voted = vote(DETECTORS, None, Severity::Critical, 0.9);
        voted.vote_id.clone_from(&before[0].votes[0].vote_id);
        voted.run_id_ts = "r_9".into();
        let after = again(&[verdict(9, vec![voted])], &before[0]);
        assert_eq!(
            (after[0].turn_ids.as_slice(), after[0].run_id_ts.as_str()),
            (&["r_9".to_owned()][..], "r_9")
        );
        assert_eq!((after[0].votes.len(), after[0].consensus_severity), (1, Severity::Critical));
    }
}

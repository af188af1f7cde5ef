//! `sentrix police show`: one case or flag in full.

use super::args::{Format, Global, Where};
use super::failure::{self, Failure, Outcome};
use super::police::{Stores, pick};
use super::printer::{self, bold, dim, severity};
use super::world::store_failure;
use crate::case::{CaseFile, Evidence, PatrolFlag, Severity};
use crate::text;

/// Runs the verb.
pub(super) fn run(global: &Global, id: &str, place: &Where, format: Format) -> Outcome {
    let stores = Stores::open(global, place)?;
    let cases = stores.police.cases(None).map_err(store_failure)?;
    let flags: Vec<PatrolFlag> =
        stores.patrol.flags(None).map_err(store_failure)?.into_iter().filter_map(|row| row.flag).collect();
    let case = pick(id, "case or flag", cases.iter().map(|case| case.investigation_id.as_str()));
    let shown = match case {
        Ok(index) => cases.get(index).map(|case| page(format, case, || case_page(case))),
        Err(no_case) => {
            let index = pick(id, "case or flag", flags.iter().map(|flag| flag.flag_id.as_str()))
                .map_err(|_| no_case)?;
            flags.get(index).map(|flag| page(format, flag, || flag_page(flag)))
        }
    };
    shown.unwrap_or_else(|| Err(Failure::Usage(String::from("nothing to show"))))?;
    Ok(failure::DONE)
}

fn page(format: Format, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
    match format {
        Format::Json => printer::json(value),
        Format::Table => printer::data(text()),
    }
}

/// A case for people.
pub(super) fn case_page(case: &CaseFile) -> String {
    let mut lines = vec![
        format!(
            "{}  {}",
            bold(format!("Case {}", text::plain(&case.investigation_id))),
            severity(case.severity_score)
        ),
        printer::fold(&text::plain(&case.verdict_summary), ""),
        String::new(),
    ];
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name:<11} {}", text::plain(value)));
        }
    };
    field("crime", case.crime_classification.as_str());
    field("confidence", &format!("{:.2}", case.confidence));
    field("agent", &case.agent);
    field("log file", &case.source_file);
    field("flag", &case.flag_id);
    field("decided by", &case.decided_by);
    field("concluded", &case.concluded_at);
    section(&mut lines, "What happened", case.case_facts.lines().map(text::plain));
    section(&mut lines, "Turns", case.relevant_log_ids.iter().map(|id| text::plain(id)));
    section(&mut lines, "Evidence", case.evidence.iter().map(evidence_line));
    section(&mut lines, "What to do now", numbered(&case.recommended_actions));
    section(
        &mut lines,
        "What this verdict does not rest on",
        case.caveats.iter().map(|caveat| text::plain(caveat)),
    );
    lines.join("\n")
}

fn flag_page(flag: &PatrolFlag) -> String {
    let categories: Vec<&str> = flag.categories.iter().map(|category| category.as_str()).collect();
    let mut lines = vec![
        format!(
            "{}  {}",
            bold(format!("Flag {}", text::plain(&flag.flag_id))),
            severity(flag.consensus_severity)
        ),
        printer::fold(&text::plain(&flag.referral_summary), ""),
        String::new(),
    ];
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{name:<11} {}", text::plain(value)));
        }
    };
    field("categories", &categories.join(", "));
    field("confidence", &format!("{:.2}", flag.consensus_confidence));
    field("stream", &flag.stream);
    field("agent", flag.agent_id.as_deref().unwrap_or_default());
    field("log file", &flag.source_file);
    field("labels", &flag.pii_labels_union.join(", "));
    field("pheromone", &format!("{:.2}", flag.pheromone_level));
    field("updated", &flag.timestamp);
    let turns =
        if flag.turn_ids.is_empty() { std::slice::from_ref(&flag.run_id_ts) } else { &flag.turn_ids[..] };
    section(&mut lines, "Turns", turns.iter().map(|id| text::plain(id)));
    section(&mut lines, "Evidence", flag.evidence.iter().map(evidence_line));
    let votes = flag.votes.iter().map(|vote| {
        let verdict =
            if vote.severity == Severity::Clean { "clean".to_owned() } else { severity(vote.severity) };
        let lens = vote.lens.as_ref().map(|lens| format!(" through {lens}")).unwrap_or_default();
        format!(
            "{}{}: {verdict}, {}",
            text::plain(&vote.source_agent),
            text::plain(&lens),
            text::plain(&vote.observation)
        )
    });
    section(&mut lines, "Votes", votes);
    lines.join("\n")
}

fn section(lines: &mut Vec<String>, title: &str, body: impl Iterator<Item = String>) {
    let body: Vec<String> = body.collect();
    if !body.is_empty() {
        lines.push(String::new());
        lines.push(bold(title));
        for line in body.iter().flat_map(|entry| entry.lines()) {
            lines.push(printer::fold(&format!("  {line}"), "      "));
        }
    }
}

fn numbered(actions: &[String]) -> impl Iterator<Item = String> {
    actions.iter().enumerate().map(|(index, action)| format!("{}. {}", index + 1, text::plain(action)))
}

fn evidence_line(item: &Evidence) -> String {
    format!(
        "{} {}, in the {} {}\n      \"{}\"",
        severity(item.severity),
        text::plain(if item.title.is_empty() { &item.label } else { &item.title }),
        text::plain(&item.place),
        dim(format!("({}, {}, bytes {}–{})", item.rule, text::plain(&item.turn), item.start, item.end)),
        text::plain(&item.quote)
    )
}

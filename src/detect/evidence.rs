//! From findings to evidence that may be shown: every quote is masked before it leaves this file.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Detectors;
use crate::case::{Evidence, Finding, Part, PartKind, Role, Turn};
use crate::{redact, text};

/// Most characters of a quote.
const QUOTE_CHARS: usize = 240;
/// How much is shown on each side of what was found, in bytes.
const CONTEXT_BYTES: usize = 48;

/// Where a part of a turn comes from, for people.
pub fn place(part: &Part) -> String {
    match &part.kind {
        PartKind::Message => match part.role {
            Role::System => "system message".into(),
            Role::Assistant => "earlier answer".into(),
            Role::Tool => "tool message".into(),
            Role::User => "user message".into(),
        },
        PartKind::Thinking => "agent's thinking".into(),
        PartKind::Text => "agent's answer".into(),
        PartKind::Fragments => "agent's unfinished answer".into(),
        PartKind::ToolCall { tool, .. } => format!("tool call {}", text::bounded(&text::plain(tool), 40)),
        PartKind::ToolResult { tool, .. } if tool.is_empty() => "tool result".into(),
        PartKind::ToolResult { tool, .. } => format!("tool result {}", text::bounded(&text::plain(tool), 40)),
        PartKind::Spawn { .. } => "task for a subagent".into(),
    }
}

/// What stands in `range` of a part's text and around it, secrets masked, bounded. `sensitive` as [`sensitive_spans`]
/// gives it; only the spans nearby are looked at, however many there are.
pub fn quote(body: &str, sensitive: &[(Range<usize>, String)], range: Range<usize>) -> String {
    let mut start = text::floor_boundary(body, range.start.saturating_sub(CONTEXT_BYTES));
    let mut end = text::floor_boundary(body, range.end.saturating_add(CONTEXT_BYTES).min(body.len()));
    let first = sensitive.partition_point(|(span, _)| span.end <= start);
    let last = sensitive.partition_point(|(span, _)| span.start < end);
    let near = sensitive.get(first..last).unwrap_or_default();
    // A secret that crosses the edge of the quote is taken in whole, so that it is masked whole.
    if let (Some((head, _)), Some((tail, _))) = (near.first(), near.last()) {
        start = start.min(head.start);
        end = end.max(tail.end);
    }
    let mut out = String::new();
    let mut at = start;
    for (span, label) in near {
        out.push_str(text::slice(body, at..span.start));
        out.push_str(&redact::mask(label, text::slice(body, span.clone())));
        at = span.end;
    }
    out.push_str(text::slice(body, at..end));
    text::bounded(&text::plain(out.trim()), QUOTE_CHARS)
}

/// Spans of a part that must be masked: what the detectors call sensitive there, and sensitive findings; sorted, and
/// apart: spans that overlap are one, under the label of the widest.
pub fn sensitive_spans(
    detectors: &Detectors,
    body: &str,
    findings: &[&Finding],
) -> Vec<(Range<usize>, String)> {
    let mut spans = detectors.sensitive_spans(body);
    let found = findings.iter().filter(|finding| finding.sensitive);
    spans.extend(found.map(|finding| (finding.start..finding.end, finding.label.clone())));
    apart(spans)
}

/// Joins spans that overlap: the end of one must not show because another one began before it.
fn apart(mut spans: Vec<(Range<usize>, String)>) -> Vec<(Range<usize>, String)> {
    spans.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut out: Vec<(Range<usize>, String)> = Vec::with_capacity(spans.len());
    let mut widest = 0;
    for (span, label) in spans {
        match out.last_mut() {
            Some((last, known)) if span.start < last.end => {
                if span.len() > widest {
                    widest = span.len();
                    *known = label;
                }
                last.end = last.end.max(span.end);
            }
            _ => {
                widest = span.len();
                out.push((span, label));
            }
        }
    }
    out
}

/// The evidence for findings in a turn.
pub fn evidence(detectors: &Detectors, turn: &Turn, findings: &[Finding]) -> Vec<Evidence> {
    let mut out = Vec::with_capacity(findings.len());
    let mut by_part: BTreeMap<usize, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        by_part.entry(finding.part).or_default().push(finding);
    }
    for (index, findings) in by_part {
        let Some(part) = turn.parts.get(index) else { continue };
        let spans = sensitive_spans(detectors, &part.text, &findings);
        for finding in findings {
            let value = text::slice(&part.text, finding.start..finding.end);
            out.push(Evidence {
                turn: turn.run_id_ts(),
                part: index,
                place: place(part),
                start: finding.start,
                end: finding.end,
                quote: quote(&part.text, &spans, finding.start..finding.end),
                rule: finding.rule.clone(),
                title: detectors.title(&finding.rule).to_owned(),
                label: finding.label.clone(),
                category: finding.category,
                severity: finding.severity,
                confidence: finding.confidence,
                fingerprint: finding.sensitive.then(|| redact::fingerprint(value)),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_never_shows_a_part_of_a_secret() {
        let secret = "s3cr3t-".repeat(20);
        let body = format!("the key {secret} was used by exec id");
        let spans = vec![(8..8 + secret.len(), "token".to_owned())];
        let at = body.find("exec").unwrap();
        for range in [at..at + 4, 0..3, 8..8 + secret.len(), 20..30] {
            let shown = quote(&body, &spans, range);
            assert!(!shown.contains("cr3t-s3"), "{shown}");
            assert!(shown.contains("[token s3cr… #"), "{shown}");
        }
    }

    #[test]
    fn spans_that_overlap_are_masked_as_one() {
        let span = |range, label: &str| (range, label.to_owned());
        let spans = apart(vec![span(12..20, "c"), span(8..14, "b"), span(0..2, "a"), span(9..10, "d")]);
        assert_eq!(spans, [span(0..2, "a"), span(8..20, "c")]);
        let shown = quote("the key secretsecret is", &spans, 8..14);
        assert!(!shown.contains("ecre"), "{shown}");
    }

    #[test]
    fn a_part_full_of_secrets_takes_its_time_once() {
        let count = 40_000;
        let body = "card 4111 1111 1111 1111 of a@b.example.com, ".repeat(count);
        let spans: Vec<(Range<usize>, String)> =
            (0..count).map(|n| (n * 45 + 5..n * 45 + 24, "card".to_owned())).collect();
        for (span, _) in &spans {
            let shown = quote(&body, &spans, span.clone());
            assert!(!shown.contains("1111 1111") && shown.contains("[card "), "{shown}");
        }
    }

    #[test]
    fn quotes_are_bounded_and_safe_for_a_terminal() {
        let body = format!("{}\u{1b}[2J{}", "x".repeat(300), "y".repeat(3000));
        let shown = quote(&body, &[], 250..2_000);
        assert!(shown.chars().count() <= QUOTE_CHARS);
        assert!(!shown.contains('\u{1b}'));
    }
}

//! The scan: one pass over a text finds all keywords of all rules; expressions and scanners look only where a keyword
//! of theirs stands, and scanners without keywords walk over bytes.
//!
//! **Invariant:** each expression sees each byte at most a fixed number of times: windows of one rule are merged
//! before they are searched, and a search is cut at a fixed length.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use sha2::{Digest, Sha256};

use super::pack::{DetectError, Rule, Scanner, Seek};
use super::place::{Places, ToolClass};
use super::{assign, decode, filter, pii, unicode, validate};
use crate::case::{Category, Finding, Part, PartKind, Severity};
use crate::redact;

/// Goes up when a change of the hand-written scanners changes what is found.
const SCANNERS: u32 = 1;
/// Windows of one rule are merged up to this length, in bytes.
const SEARCH: usize = 32 * 1024;
/// Non-sensitive findings of one rule in one part: more say nothing new.
const REPEATS: usize = 16;
/// The longest label that the mark of a masked value is read with.
const LABEL_MAX: usize = 48;

/// Compiled rules.
#[derive(Default)]
pub(super) struct Engine {
    rules: Vec<Rule>,
    /// All keywords; `None` where there are none.
    keywords: Option<AhoCorasick>,
    /// For each keyword, the rules that wait for it.
    waiting: Vec<Vec<u32>>,
    scanners: Vec<(Scanner, u32)>,
    /// Labels of the rules, to know a mask by.
    labels: HashSet<String>,
    version: String,
}

/// Working memory of a scan, kept from part to part.
#[derive(Default)]
pub(super) struct Scratch {
    /// For each rule, the window that is still growing; empty where none is.
    windows: Vec<Range<usize>>,
    touched: Vec<u32>,
    found: Vec<Found>,
}

/// A match before the doubles are taken out.
#[derive(Clone, Debug)]
struct Found {
    rule: u32,
    start: usize,
    end: usize,
    confidence: f64,
}

/// Where a text stands.
#[derive(Clone, Copy)]
struct Context {
    place: Places,
    tool: Option<ToolClass>,
    /// Only what must be masked is looked for.
    sensitive_only: bool,
}

impl Engine {
    pub(super) fn new(rules: Vec<Rule>, sources: &[(String, String)]) -> Result<Self, DetectError> {
        let mut words: Vec<String> = Vec::new();
        let mut waiting: Vec<Vec<u32>> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        let mut scanners = Vec::new();
        for (number, rule) in (0_u32..).zip(&rules) {
            if let Seek::Scanner(scanner) = rule.seek {
                scanners.push((scanner, number));
            }
            for keyword in &rule.keywords {
                let keyword = keyword.to_ascii_lowercase();
                let slot = *index.entry(keyword.clone()).or_insert_with(|| {
                    words.push(keyword);
                    waiting.push(Vec::new());
                    words.len() - 1
                });
                if let Some(list) = waiting.get_mut(slot) {
                    list.push(number);
                }
            }
        }
        let keywords = if words.is_empty() {
            None
        } else {
            let built = AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .kind(Some(AhoCorasickKind::DFA))
                .build(&words);
            Some(built.map_err(|error| DetectError {
                pack: sources.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
                rule: None,
                problem: format!("the keywords do not compile: {error}"),
            })?)
        };
        let mut hash = Sha256::new();
        hash.update(SCANNERS.to_le_bytes());
        for (name, source) in sources {
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(source.as_bytes());
            hash.update([0]);
        }
        let head = hash.finalize().iter().take(4).fold(0_u32, |head, byte| head << 8 | u32::from(*byte));
        let labels = rules.iter().map(|rule| rule.label.clone()).collect();
        Ok(Self { rules, keywords, labels, waiting, scanners, version: format!("2026.11-{head:08x}") })
    }

    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn scan_part(&self, index: usize, part: &Part, scratch: &mut Scratch, out: &mut Vec<Finding>) {
        let tool = match &part.kind {
            PartKind::ToolCall { tool, .. } | PartKind::ToolResult { tool, .. } => Some(ToolClass::of(tool)),
            _ => None,
        };
        let context = Context { place: Places::of(part), tool, sensitive_only: false };
        self.search(&part.text, context, scratch);
        let mut found = std::mem::take(&mut scratch.found);
        self.drop_doubles(&mut found);
        out.extend(found.iter().filter_map(|found| {
            let rule = self.rule(found.rule)?;
            Some(Finding {
                rule: rule.id.clone(),
                category: rule.category,
                severity: rule.severity,
                confidence: found.confidence,
                label: rule.label.clone(),
                part: index,
                start: found.start,
                end: found.end,
                sensitive: rule.sensitive,
            })
        }));
        found.clear();
        scratch.found = found;
    }

    /// Merged spans of sensitive findings in order, with the label of the surest one in each.
    pub(super) fn sensitive_spans(&self, text: &str) -> Vec<(Range<usize>, String)> {
        let mut scratch = Scratch::default();
        self.search(text, Context { place: Places::ALL, tool: None, sensitive_only: true }, &mut scratch);
        let mut found = scratch.found;
        found.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
        let mut spans: Vec<(Found, Range<usize>)> = Vec::new();
        for next in found {
            match spans.last_mut() {
                Some((best, range)) if next.start < range.end => {
                    range.end = range.end.max(next.end);
                    if next.confidence > best.confidence {
                        *best = next;
                    }
                }
                _ => {
                    let range = next.start..next.end;
                    spans.push((next, range));
                }
            }
        }
        spans
            .into_iter()
            .filter_map(|(best, range)| Some((range, self.rule(best.rule)?.label.clone())))
            .collect()
    }

    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // A mask can bring to light what it stood beside. Each round masks at least one more character of what is
        // left, so this ends; twice is the rule, and the limit is against texts that are made to need more.
        for _ in 0..16 {
            let spans = self.sensitive_spans(&text);
            if spans.is_empty() {
                break;
            }
            let mut masked = String::with_capacity(text.len());
            let mut done = 0;
            for (range, label) in spans {
                masked.push_str(text.get(done..range.start).unwrap_or_default());
                masked.push_str(&redact::mask(&label, text.get(range.clone()).unwrap_or_default()));
                done = range.end;
            }
            masked.push_str(text.get(done..).unwrap_or_default());
            text = masked;
        }
        text
    }

    fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(number).ok()?)
    }

    fn search(&self, text: &str, context: Context, scratch: &mut Scratch) {
        scratch.found.clear();
        self.search_layer(text, context, scratch);
        self.search_decoded(text, context, scratch);
        let masks = masks(text, |label| self.labels.contains(label));
        if !masks.is_empty() {
            // What is masked already is not found again.
            scratch.found.retain(|found| {
                let first = masks.partition_point(|mask| mask.end <= found.start);
                let apart = masks.get(first).is_none_or(|mask| found.end <= mask.start);
                apart || !self.rule(found.rule).is_some_and(|rule| rule.sensitive)
            });
        }
    }

    /// One level of base64: what is found inside stands where the run stands.
    fn search_decoded(&self, text: &str, context: Context, scratch: &mut Scratch) {
        let mut outer = std::mem::take(&mut scratch.found);
        decode::readable_runs(text, |range, inner| {
            self.search_layer(inner, context, scratch);
            for found in scratch.found.drain(..) {
                outer.push(Found {
                    start: range.start,
                    end: range.end,
                    confidence: found.confidence * 0.9,
                    ..found
                });
            }
        });
        scratch.found = outer;
    }

    fn search_layer(&self, text: &str, context: Context, scratch: &mut Scratch) {
        scratch.windows.resize(self.rules.len(), 0..0);
        scratch.touched.clear();
        if let Some(keywords) = &self.keywords {
            for hit in keywords.find_overlapping_iter(text) {
                let waiting =
                    self.waiting.get(hit.pattern().as_usize()).map(Vec::as_slice).unwrap_or_default();
                for &number in waiting {
                    self.wake(text, number, hit.start()..hit.end(), context, scratch);
                }
            }
        }
        for number in std::mem::take(&mut scratch.touched) {
            let window = usize::try_from(number)
                .ok()
                .and_then(|slot| scratch.windows.get_mut(slot))
                .map(std::mem::take);
            if let (Some(window), Some(rule)) = (window, self.rule(number)) {
                run_pattern(text, number, rule, window, &mut scratch.found);
            }
        }
        self.walk(text, context, scratch);
    }

    /// A keyword of a rule stands at `hit`.
    fn wake(&self, text: &str, number: u32, hit: Range<usize>, context: Context, scratch: &mut Scratch) {
        let Some(rule) = self.rule(number) else { return };
        if !applies(rule, context) {
            return;
        }
        match rule.seek {
            Seek::Scanner(Scanner::Assignment) => {
                if let Some(hit) = assign::key(text, hit) {
                    scratch.found.push(Found::new(number, rule, hit.range, hit.weight));
                }
            }
            Seek::Scanner(Scanner::Password) => {
                if let Some(hit) = assign::password(text, hit) {
                    scratch.found.push(Found::new(number, rule, hit.range, hit.weight));
                }
            }
            Seek::Scanner(_) => {}
            Seek::Pattern { .. } => {
                let [before, after] = rule.window;
                let next = hit.start.saturating_sub(before)..(hit.end + after).min(text.len());
                let Some(window) =
                    usize::try_from(number).ok().and_then(|slot| scratch.windows.get_mut(slot))
                else {
                    return;
                };
                if window.start == window.end {
                    scratch.touched.push(number);
                    *window = next;
                } else if next.start <= window.end && next.end - window.start <= SEARCH {
                    window.end = window.end.max(next.end);
                    window.start = window.start.min(next.start);
                } else {
                    let full = std::mem::replace(window, next);
                    run_pattern(text, number, rule, full, &mut scratch.found);
                }
            }
        }
    }

    /// The scanners that need no keyword.
    fn walk(&self, text: &str, context: Context, scratch: &mut Scratch) {
        let mut numbers = pii::Wanted::default();
        for &(scanner, number) in &self.scanners {
            let Some(rule) = self.rule(number).filter(|rule| applies(rule, context)) else { continue };
            let found = &mut scratch.found;
            match scanner {
                Scanner::Card => numbers.card = Some(number),
                Scanner::Iban => numbers.iban = Some(number),
                Scanner::Ssn => numbers.ssn = Some(number),
                Scanner::Phone => numbers.phone = Some(number),
                Scanner::Ip => numbers.ip = Some(number),
                Scanner::Email => pii::emails(text, |range| found.push(Found::new(number, rule, range, 1.0))),
                Scanner::HiddenText => {
                    unicode::hidden(text, |range| found.push(Found::new(number, rule, range, 1.0)));
                }
                Scanner::Assignment | Scanner::Password => {}
            }
        }
        pii::numbers(text, &numbers, |number, range, weight| {
            if let Some(rule) = self.rule(number) {
                scratch.found.push(Found::new(number, rule, range, weight));
            }
        });
    }

    /// Of findings of one lens that overlap, the better one stays; the rest is put in order.
    fn drop_doubles(&self, found: &mut Vec<Found>) {
        found.sort_by(|a, b| {
            self.rank(b).total_cmp(&self.rank(a)).then(a.start.cmp(&b.start)).then(a.rule.cmp(&b.rule))
        });
        let mut kept: Vec<Found> = Vec::with_capacity(found.len().min(64));
        let mut taken = Taken::default();
        let mut repeats = vec![0_usize; self.rules.len()];
        for next in found.drain(..) {
            let Some(rule) = self.rule(next.rule) else { continue };
            let Some(count) = usize::try_from(next.rule).ok().and_then(|slot| repeats.get_mut(slot)) else {
                continue;
            };
            if !rule.sensitive && *count >= REPEATS {
                continue;
            }
            if taken.overlaps(rule.lens as u8, rule.category, next.start, next.end) {
                continue;
            }
            taken.add(rule.lens as u8, rule.category, next.start, next.end);
            *count += 1;
            kept.push(next);
        }
        kept.sort_by(|a, b| a.start.cmp(&b.start).then(a.end.cmp(&b.end)).then(a.rule.cmp(&b.rule)));
        *found = kept;
    }

    fn rank(&self, found: &Found) -> f64 {
        let Some(rule) = self.rule(found.rule) else { return 0.0 };
        let severity = match rule.severity {
            Severity::Clean => 0.0,
            Severity::Low => 1.0,
            Severity::Medium => 2.0,
            Severity::High => 3.0,
            Severity::Critical => 4.0,
        };
        // A specific rule knows better what a secret is than a general one, whatever its severity.
        if rule.sensitive { found.confidence * 10.0 } else { severity + found.confidence }
    }
}

/// Stretches that a better finding holds, by lens and category; they never overlap, so a lookup is a search.
#[derive(Default)]
struct Taken {
    spans: HashMap<(u8, Category), BTreeMap<usize, usize>>,
}

impl Taken {
    fn overlaps(&self, lens: u8, category: Category, start: usize, end: usize) -> bool {
        self.spans
            .get(&(lens, category))
            .is_some_and(|spans| spans.range(..end).next_back().is_some_and(|(_, last)| *last > start))
    }

    fn add(&mut self, lens: u8, category: Category, start: usize, end: usize) {
        self.spans.entry((lens, category)).or_default().insert(start, end);
    }
}

impl Found {
    fn new(number: u32, rule: &Rule, range: Range<usize>, weight: f64) -> Self {
        Self { rule: number, start: range.start, end: range.end, confidence: rule.confidence * weight }
    }
}

fn applies(rule: &Rule, context: Context) -> bool {
    if context.sensitive_only {
        return rule.sensitive;
    }
    rule.places.meets(context.place)
        && (rule.tools.is_empty() || context.tool.is_none_or(|tool| rule.tools.contains(&tool)))
}

/// Runs a rule's expression over a window and keeps what passes its filters. Spans are moved outwards to characters.
fn run_pattern(text: &str, number: u32, rule: &Rule, window: Range<usize>, out: &mut Vec<Found>) {
    let Some(regex) = rule.seek.regex() else { return };
    let bytes = text.as_bytes();
    let (mut at, mut end) = (window.start, window.end.min(bytes.len()));
    let mut grown = false;
    let grouped = regex.captures_len() > 1;
    while at < end {
        let Some(inside) = bytes.get(..end) else { return };
        let Some(whole) = regex.find_at(inside, at) else { return };
        if whole.end() == end && end < bytes.len() && !grown {
            // The window may have cut the match short: look once more, farther.
            grown = true;
            at = whole.start();
            let [_, after] = rule.window;
            end = (end + after + 64).min(bytes.len());
            continue;
        }
        let value = if grouped {
            regex
                .captures_at(inside, whole.start())
                .and_then(|groups| groups.name("value").map(|value| value.range()))
                .unwrap_or_else(|| whole.range())
        } else {
            whole.range()
        };
        let value = text.floor_char_boundary(value.start)..text.ceil_char_boundary(value.end);
        if value.start < value.end && passes(text, rule, &value) {
            out.push(Found::new(number, rule, value, 1.0));
        }
        at = whole.end().max(at + 1);
    }
}

fn passes(text: &str, rule: &Rule, range: &Range<usize>) -> bool {
    let Some(value) = text.get(range.clone()) else { return false };
    if rule.entropy > 0.0 && filter::entropy(value) < rule.entropy {
        return false;
    }
    let judged = if rule.sensitive { value } else { around(text, range) };
    if rule.allow.passes(judged) {
        return false;
    }
    if rule.sensitive && rule.id.starts_with("secret.") && value.len() <= 512 && filter::is_placeholder(value)
    {
        return false;
    }
    rule.validator.is_none_or(|validator| validate::validate(validator, value, text, range.start))
}

/// The match with what stands beside it on its line, up to a limit: what the words that excuse it are looked for in.
fn around<'a>(text: &'a str, range: &Range<usize>) -> &'a str {
    const BESIDE: usize = 100;
    let from = text.floor_char_boundary(range.start.saturating_sub(BESIDE));
    let to = text.ceil_char_boundary((range.end + BESIDE).min(text.len()));
    let start =
        text.get(from..range.start).and_then(|before| before.rfind('\n')).map_or(from, |at| from + at + 1);
    let end = text.get(range.end..to).and_then(|after| after.find('\n')).map_or(to, |at| range.end + at);
    text.get(start..end).unwrap_or_default()
}

/// Where values are masked already: `[label head… #1a2b3c4d]` with a label that a rule has.
fn masks(text: &str, known: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut masks = Vec::new();
    for hash in memchr::memmem::find_iter(text.as_bytes(), b" #") {
        let end = hash + 11;
        let tail = text.get(hash + 2..end).unwrap_or_default();
        if !(tail.ends_with(']') && tail.bytes().take(8).all(|byte| byte.is_ascii_hexdigit())) {
            continue;
        }
        let from = text.floor_char_boundary(hash.saturating_sub(LABEL_MAX + 32));
        let Some(open) = text.get(from..hash).and_then(|before| before.rfind('[')).map(|at| from + at) else {
            continue;
        };
        let inside = text.get(open + 1..hash).unwrap_or_default();
        let (label, head) = inside.split_once(' ').unwrap_or((inside, ""));
        let short = head.is_empty() || head.ends_with('…') && head.chars().count() <= 5;
        if short && known(label) {
            masks.push(open..end);
        }
    }
    masks
}

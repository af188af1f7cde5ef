//! Reads labelled items and writes what the detectors say of them, for a scorer.
//!
//! ```text
//! cargo run --release --example eval_predict -- --items DIR --out preds.jsonl [--min-confidence 0.3]
//! ```
//! An item is a JSON object a line with `id` and either `text` or `turns [{role, content, tool_calls?}]`. A prediction
//! is `{"id", "flagged", "categories", "rules", "spans"}`; spans count characters in `text` or in the turn's `content`,
//! and findings in tool calls are given by value.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use sentrix::case::{Part, PartKind, Role, Turn};
use sentrix::detect::Detectors;
use sentrix::id::TurnId;
use serde_json::{Value, json};

/// The part's turn in the item, where its text is that turn's content.
type Home = Option<usize>;

fn main() -> anyhow::Result<()> {
    let (mut items, mut out, mut least) = (Vec::new(), None, 0.3);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("`{arg}` needs a value"))?;
        match arg.as_str() {
            "--items" => items.push(PathBuf::from(value)),
            "--out" => out = Some(PathBuf::from(value)),
            "--min-confidence" => least = value.parse()?,
            _ => bail!("unknown argument `{arg}`"),
        }
    }
    let mut out = std::fs::File::create(out.context("`--out` is missing")?)?;
    let mut files = Vec::new();
    for path in items {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "jsonl") {
                    files.push(path);
                }
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    let detectors = Detectors::builtin();
    for file in files {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let prediction = predict(detectors, &serde_json::from_str(line)?, least);
            writeln!(out, "{prediction}")?;
        }
    }
    Ok(())
}

fn predict(detectors: &Detectors, item: &Value, least: f64) -> Value {
    let (parts, homes) = parts(item);
    let turn = Turn {
        id: TurnId::stable(&["eval"]),
        run_id: "eval".to_owned(),
        ts: 0,
        source_file: String::new(),
        session_key: None,
        agent_id: None,
        ended: true,
        parts,
    };
    let findings: Vec<_> =
        detectors.scan(&turn).into_iter().filter(|found| found.confidence >= least).collect();
    let categories: BTreeSet<&str> = findings.iter().map(|found| found.category.as_str()).collect();
    let rules: BTreeSet<&str> = findings.iter().map(|found| found.rule.as_str()).collect();
    let spans: Vec<Value> = findings
        .iter()
        .filter_map(|found| {
            let text = &turn.parts.get(found.part)?.text;
            let quote = text.get(found.start..found.end)?;
            Some(match homes.get(found.part)? {
                Some(home) => {
                    let start = text.get(..found.start)?.chars().count();
                    json!({ "turn": home, "start": start, "end": start + quote.chars().count(), "rule": found.rule })
                }
                None => json!({ "value": quote, "rule": found.rule }),
            })
        })
        .collect();
    json!({ "id": item["id"], "flagged": !findings.is_empty(), "categories": categories, "rules": rules, "spans": spans })
}

fn parts(item: &Value) -> (Vec<Part>, Vec<Home>) {
    let (mut parts, mut homes) = (Vec::new(), Vec::new());
    if let Some(text) = item["text"].as_str() {
        parts.push(Part { role: Role::User, kind: PartKind::Message, text: text.to_owned() });
        homes.push(Some(0));
    }
    for (index, turn) in item["turns"].as_array().into_iter().flatten().enumerate() {
        let (role, kind) = match turn["role"].as_str().unwrap_or_default() {
            "system" => (Role::System, PartKind::Message),
            "assistant" => (Role::Assistant, PartKind::Text),
            "tool" => {
                (Role::Tool, PartKind::ToolResult { tool: String::new(), call_id: String::new(), ok: true })
            }
            _ => (Role::User, PartKind::Message),
        };
        if let Some(text) = turn["content"].as_str().filter(|text| !text.is_empty()) {
            parts.push(Part { role, kind, text: text.to_owned() });
            homes.push(Some(index));
        }
        for call in turn["tool_calls"].as_array().into_iter().flatten() {
            parts.push(tool_call(call));
            homes.push(None);
        }
    }
    (parts, homes)
}

/// A call as `{"name", "arguments"}`, or as `{"raw": "Name{…}"}`.
fn tool_call(call: &Value) -> Part {
    let (tool, args) = if let Some(raw) = call["raw"].as_str() {
        let end = raw.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(raw.len());
        (raw.get(..end).unwrap_or_default().to_owned(), Value::String(raw.to_owned()))
    } else {
        let args = match &call["arguments"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            other => other.clone(),
        };
        (call["name"].as_str().unwrap_or_default().to_owned(), args)
    };
    let text = PartKind::render_args(&args);
    Part { role: Role::Assistant, kind: PartKind::ToolCall { tool, call_id: String::new(), args }, text }
}

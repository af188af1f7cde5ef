//! `sentrix usage`: calls of models, tokens, money and time, by role, model and day.

use std::collections::BTreeMap;

use jiff::ToSpan;
use serde_json::json;

use super::args::{Format, Global, UsageArgs};
use super::failure::{self, Outcome};
use super::printer::{self, Page, bold, count, dim, thousands};
use super::spending::Today;
use super::world::{self, store_failure};
use crate::clock;
use crate::model::money;
use crate::store::usage::{UsageRow, UsageStore};
use crate::text;

/// Runs the verb.
pub(super) fn run(global: &Global, args: &UsageArgs) -> Outcome {
    let config = world::config(global, Some(&args.place))?;
    let paths = config.paths();
    world::require_folder(&paths.data)?;
    let clock = clock::system();
    let since = clock.now().checked_sub((i64::from(args.days.saturating_sub(1)) * 24).hours());
    let since = since.map_or_else(|_| String::new(), |since| since.strftime("%F").to_string());
    let store = paths
        .usage()
        .exists()
        .then(|| UsageStore::open(&paths.usage()))
        .transpose()
        .map_err(store_failure)?;
    let rows = store.as_ref().map(|store| store.by_day(Some(&since))).transpose().map_err(store_failure)?;
    let rows = rows.unwrap_or_default();
    let today = Today::of(store.as_ref(), &config)?;
    if args.format == Format::Json {
        printer::json(&json!({ "version": 1, "usage": rows, "today": today }))?;
        return Ok(failure::DONE);
    }
    if rows.is_empty() {
        let told = format!(
            "No calls of models in the last {} in {}.",
            count(u64::from(args.days), "day"),
            paths.data.display()
        );
        printer::data(told)?;
    } else {
        printer::data(page(&rows))?;
    }
    printer::data(format_args!("{}  {}", bold("today"), today.line()))?;
    Ok(failure::DONE)
}

fn page(rows: &[UsageRow]) -> String {
    let mut table = Page::new(&["DAY", "ROLE", "CALLS", "TOKENS", "COST", "MEAN", "MODEL"]);
    let mut last = "";
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    let mut guessed = 0;
    for row in rows {
        let failed =
            if row.failed > 0 { format!(", {} failed", thousands(row.failed)) } else { String::new() };
        let about = if row.estimated > 0 { "~" } else { "" };
        guessed += row.estimated;
        *total.entry("calls").or_default() += row.calls;
        *total.entry("tokens").or_default() += row.input_tokens + row.output_tokens;
        *total.entry("micro_usd").or_default() += row.micro_usd;
        table.row([
            if row.day == last { String::new() } else { row.day.clone() },
            text::plain(&row.role),
            format!("{}{failed}", thousands(row.calls)),
            format!("{about}{} in, {} out", thousands(row.input_tokens), thousands(row.output_tokens)),
            format!("{about}{}", money(row.micro_usd)),
            format!("{} ms", thousands(row.mean_latency_ms)),
            format!("{} {}", text::plain(&row.provider), text::plain(&row.model)),
        ]);
        last = &row.day;
    }
    let of = |name: &str| total.get(name).copied().unwrap_or_default();
    let mut lines = vec![table.to_string()];
    lines.push(format!(
        "{}  {}, {}, {}",
        bold("total"),
        count(of("calls"), "call"),
        count(of("tokens"), "token"),
        money(of("micro_usd"))
    ));
    if guessed > 0 {
        lines.push(dim(format!(
            "~ {} estimated: the provider said no tokens, or the model's price is not known.",
            if guessed == 1 {
                String::from("1 call is")
            } else {
                format!("{} calls are", thousands(guessed))
            }
        )));
    }
    lines.join("\n")
}

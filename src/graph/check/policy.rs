//! Timeouts, retries, budgets, caches and joins.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::Scope;
use super::condition::{self, Names};
use super::node::Face;
use crate::graph::codes;
use crate::graph::document::Slot;
use crate::graph::fault::Fault;
use crate::graph::file::{RawBudget, RawJoin, RawNode, RawPolicy, RawRetry};
use crate::graph::{BREAKER, Budget, Cache, Join, Need, Retry, suggest};

/// Classes of error that `on` may name.
pub(super) const CLASSES: [&str; 8] =
    ["transient", "rate_limit", "timeout", "malformed", "refused", "permanent", "panic", "budget"];

/// Classes that fail the same way again.
const HOPELESS: [&str; 2] = ["permanent", "budget"];

/// What nodes that say nothing do.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) retry: Retry,
    pub(super) budget: Budget,
    pub(super) breaker: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: None,
            idle_timeout: None,
            retry: Retry::default(),
            budget: Budget::default(),
            breaker: BREAKER,
        }
    }
}

/// Reads `[defaults]`.
pub(super) fn defaults(raw: &RawPolicy, faults: &mut Vec<Fault>) -> Policy {
    read(raw, &Policy::default(), faults)
}

/// Reads a node's own policy over the defaults; each key replaces the default as a whole.
pub(super) fn read(raw: &RawPolicy, defaults: &Policy, faults: &mut Vec<Fault>) -> Policy {
    let own_timeout = !raw.timeout.is_absent() || !raw.idle_timeout.is_absent();
    let timeout = time_limit("timeout", &raw.timeout, faults);
    let idle_timeout = time_limit("timeout.idle", &raw.idle_timeout, faults);
    Policy {
        timeout: if own_timeout { timeout } else { defaults.timeout },
        idle_timeout: if own_timeout { idle_timeout } else { defaults.idle_timeout },
        retry: match &raw.retry {
            Slot::Given(raw) => retry(raw.get_ref(), faults),
            Slot::Absent | Slot::Broken => defaults.retry.clone(),
        },
        budget: match &raw.budget {
            Slot::Given(raw) => budget(raw.get_ref(), faults),
            Slot::Absent | Slot::Broken => defaults.budget,
        },
        breaker: raw.breaker.get().map_or(defaults.breaker, |count| *count.get_ref()),
    }
}

/// A limit on time, which cannot be zero.
pub(super) fn time_limit(key: &str, slot: &Slot<Duration>, faults: &mut Vec<Fault>) -> Option<Duration> {
    let limit = slot.get()?;
    if limit.get_ref().is_zero() {
        faults.push(Fault::new(
            codes::BAD_DURATION,
            limit.span(),
            "zero",
            format!("a `{key}` of zero leaves no time for anything"),
            "write a longer one, or leave the key out for no limit",
        ));
    }
    Some(*limit.get_ref())
}

/// A budget; nothing in it may be zero.
pub(super) fn budget(raw: &RawBudget, faults: &mut Vec<Fault>) -> Budget {
    Budget {
        tokens: raw.tokens.get().map(|count| *count.get_ref()),
        micro_usd: raw.usd.get().and_then(|usd| micro_usd(usd, faults)),
        wall: time_limit("budget.wall", &raw.wall, faults),
        steps: raw.steps.get().map(|count| *count.get_ref()),
    }
}

fn micro_usd(usd: &Spanned<f64>, faults: &mut Vec<Fault>) -> Option<u64> {
    let amount = *usd.get_ref();
    if amount.is_finite() && amount > 0.0 && amount <= 1_000_000.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and 10^12 by the check above"
        )]
        let micro = (amount * 1_000_000.0).round() as u64;
        return Some(micro.max(1));
    }
    faults.push(Fault::new(
        codes::OUT_OF_RANGE,
        usd.span(),
        if amount > 0.0 { "too large" } else { "too small" },
        "`usd` must be more than 0 and at most 1000000",
        "write an amount in dollars, as `0.50`, or leave the key out for no limit",
    ));
    None
}

fn retry(raw: &RawRetry, faults: &mut Vec<Fault>) -> Retry {
    let base = Retry::default();
    let backoff = raw.backoff.get().map_or(base.backoff, |value| *value.get_ref());
    let max_backoff = match raw.max_backoff.get() {
        Some(most) => {
            if *most.get_ref() < backoff {
                let fault = Fault::new(
                    codes::BAD_DURATION,
                    most.span(),
                    "shorter than `backoff`",
                    "`max_backoff` is shorter than the first wait",
                    "make it at least as long as `backoff` (500ms where that is not written)",
                );
                faults.push(match raw.backoff.get() {
                    Some(first) => fault.also(first.span(), "the first wait"),
                    None => fault,
                });
            }
            *most.get_ref()
        }
        None => base.max_backoff.max(backoff),
    };
    let on = match raw.on.get() {
        Some(list) => {
            for class in list.get_ref().iter().filter(|class| HOPELESS.contains(&class.get_ref().as_str())) {
                faults.push(
                    Fault::new(
                        codes::RETRY_HOPELESS,
                        class.span(),
                        "fails the same way again",
                        format!("another attempt cannot mend a failure of class `{}`", class.get_ref()),
                        "take it out; `on_error` says where to go instead",
                    )
                    .warning(),
                );
            }
            classes(list, "nothing would ever be tried again", faults)
        }
        None => base.on.clone(),
    };
    Retry {
        attempts: raw.attempts.get().map_or(base.attempts, |n| *n.get_ref()),
        backoff,
        max_backoff,
        factor_percent: raw.factor.get().and_then(|f| factor(f, faults)).unwrap_or(base.factor_percent),
        jitter: raw.jitter.get().map_or(base.jitter, |jitter| *jitter.get_ref()),
        on,
    }
}

fn factor(raw: &Spanned<f64>, faults: &mut Vec<Fault>) -> Option<u32> {
    let factor = *raw.get_ref();
    if (1.0..=100.0).contains(&factor) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 100 and 10000 by the check above"
        )]
        return Some((factor * 100.0).round() as u32);
    }
    faults.push(Fault::new(
        codes::OUT_OF_RANGE,
        raw.span(),
        if factor > 100.0 { "too large" } else { "too small" },
        "`factor` must be between 1 and 100",
        "write `1` for equal waits, or `2` to double each",
    ));
    None
}

/// The classes of error that a list names, each once.
pub(super) fn classes(
    list: &Spanned<Vec<Spanned<String>>>,
    empty: &str,
    faults: &mut Vec<Fault>,
) -> Vec<String> {
    if list.get_ref().is_empty() {
        faults.push(Fault::new(
            codes::UNKNOWN_CLASS,
            list.span(),
            "empty",
            format!("`on` names no class of error, so {empty}"),
            format!("name some of {}, or leave `on` out", suggest::list(CLASSES)),
        ));
    }
    let mut out: Vec<String> = Vec::new();
    for class in list.get_ref() {
        let name = class.get_ref();
        if !CLASSES.contains(&name.as_str()) {
            faults.push(Fault::new(
                codes::UNKNOWN_CLASS,
                class.span(),
                "no such class",
                format!("`{name}` is no class of error"),
                suggest::help(name, CLASSES, "classes"),
            ));
        } else if !out.contains(name) {
            out.push(name.clone());
        }
    }
    out
}

/// A node's cache; its key is an expression over the fields of the input.
pub(super) fn cache(raw: &RawNode, scope: &Scope<'_>, face: &Face, faults: &mut Vec<Fault>) -> Option<Cache> {
    let cache = raw.cache.get()?.get_ref();
    let ttl = time_limit("cache.ttl", &cache.ttl, faults)?;
    let key = cache.key.get().and_then(|text| {
        let fields = face.inputs.as_ref()?;
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let of = Names { known: &names, one: "input field", many: "input fields", what: "cache key" };
        Some(condition::parse(text, scope, &of, faults)?.0)
    });
    Some(Cache { key, ttl })
}

/// A node's join, with the number of ways in that it says it has.
pub(super) fn join(raw: &RawNode, faults: &mut Vec<Fault>) -> Option<(Join, Option<u32>, Range<usize>)> {
    let join: &RawJoin = raw.join.get()?.get_ref();
    let text = join.need.get()?;
    let timeout = time_limit("join.timeout", &join.timeout, faults);
    let go_on = match join.on_timeout.get() {
        None => false,
        Some(word) => {
            if join.timeout.is_absent() {
                faults.push(Fault::new(
                    codes::MEANINGLESS_KEY,
                    word.span(),
                    "no `timeout` beside it",
                    "`on_timeout` of a join says nothing without a `timeout`",
                    "add `timeout = \"30s\"`, or take `on_timeout` out",
                ));
            }
            super::words::one_of(word, "on_timeout", &["go", "fail"], faults) == Some("go")
        }
    };
    let (need, total) = need(text, faults)?;
    Some((Join { need, timeout, go_on }, total, text.span()))
}

fn need(text: &Spanned<String>, faults: &mut Vec<Fault>) -> Option<(Need, Option<u32>)> {
    let word = text.get_ref().trim();
    if word == "all" {
        return Some((Need::All, None));
    }
    if word == "any" {
        return Some((Need::Some(1), None));
    }
    let parts: Vec<&str> = word.split_whitespace().collect();
    if let [some, "of", total] = parts.as_slice()
        && let (Ok(some), Ok(total)) = (some.parse::<u32>(), total.parse::<u32>())
    {
        if some == 0 || some > total {
            faults.push(Fault::new(
                codes::JOIN_NEVER,
                text.span(),
                if some == 0 { "waits for nothing" } else { "more than there are" },
                format!("a join of `{some} of {total}` makes no sense"),
                "write at least 1, and no more than lead here: `2 of 3`",
            ));
            return None;
        }
        return Some((Need::Some(some), Some(total)));
    }
    faults.push(Fault::new(
        codes::BAD_VALUE,
        text.span(),
        "no such join",
        format!("`{}` is no way to join branches", text.get_ref()),
        "write `all`, `any`, or so many of those that lead here: `2 of 3`",
    ));
    None
}

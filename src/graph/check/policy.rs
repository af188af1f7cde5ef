//! Timeouts and retries.

use std::time::Duration;

use toml::Spanned;

use crate::graph::codes;
use crate::graph::document::Slot;
use crate::graph::fault::Fault;
use crate::graph::file::{RawPolicy, RawRetry};
use crate::graph::{Retry, suggest};

/// Classes of error that `retry.on` may name.
const CLASSES: [&str; 7] =
    ["transient", "rate_limit", "timeout", "malformed", "refused", "permanent", "panic"];

/// What nodes that say nothing do.
#[derive(Debug, Default)]
pub(super) struct Policy {
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Retry,
}

/// Reads `[defaults]`.
pub(super) fn defaults(raw: &RawPolicy, faults: &mut Vec<Fault>) -> Policy {
    read(raw, &Policy::default(), faults)
}

/// Reads a node's own policy over the defaults.
pub(super) fn read(raw: &RawPolicy, defaults: &Policy, faults: &mut Vec<Fault>) -> Policy {
    Policy {
        timeout: time_limit("timeout", &raw.timeout, faults).or(defaults.timeout),
        retry: match &raw.retry {
            Slot::Given(raw) => retry(raw.get_ref(), faults),
            Slot::Absent | Slot::Broken => defaults.retry.clone(),
        },
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
        Some(list) => classes(list, faults),
        None => base.on.clone(),
    };
    let attempts = raw.attempts.get().map_or(base.attempts, |n| *n.get_ref());
    Retry { attempts, backoff, max_backoff, on, ..base }
}

fn classes(list: &Spanned<Vec<Spanned<String>>>, faults: &mut Vec<Fault>) -> Vec<String> {
    if list.get_ref().is_empty() {
        faults.push(Fault::new(
            codes::UNKNOWN_CLASS,
            list.span(),
            "empty",
            "`on` names no class of error, so nothing would ever be tried again",
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

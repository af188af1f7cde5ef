//! What models cost: of one command, and of the day.

use serde::Serialize;

use super::failure::Failure;
use super::printer::{bold, count, thousands};
use super::world::{World, store_failure};
use crate::config::Config;
use crate::model::{Budget, Purse, Usage, money};
use crate::store::usage::UsageStore;

/// The books as they were before a command did its work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before(i64);

/// What models were asked by a command, and where the day stands.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Spending {
    pub(super) calls: u64,
    tokens: u64,
    micro_usd: u64,
    today: Today,
}

/// Where the day stands.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Today {
    /// The day in UTC, as `2026-11-24`.
    day: String,
    tokens: u64,
    micro_usd: u64,
    budget_tokens: Option<u64>,
    budget_micro_usd: Option<u64>,
}

impl Before {
    /// Looks at the books; nothing where no model is asked.
    pub(super) fn of(world: &World) -> Result<Option<Self>, Failure> {
        let last = world.usage.as_ref().map(|usage| usage.last_call().map(Self));
        last.transpose().map_err(store_failure)
    }

    /// What came to them since.
    pub(super) fn spending(self, world: &World) -> Result<Spending, Failure> {
        let Some(usage) = &world.usage else { return Ok(Spending::none(&world.config)) };
        let (calls, spent) = usage.since(self.0).map_err(store_failure)?;
        let today = Today::of(Some(usage), &world.config)?;
        Ok(Spending { calls, tokens: spent.tokens(), micro_usd: spent.micro_usd, today })
    }
}

impl Spending {
    fn none(config: &Config) -> Self {
        let today = Today::with(today(), Usage::default(), config.budgets().day);
        Self { calls: 0, tokens: 0, micro_usd: 0, today }
    }

    /// Whether the day's budget is spent.
    pub(super) fn is_over(&self) -> bool {
        self.today.is_over()
    }

    /// In a line.
    pub(super) fn line(&self) -> String {
        format!(
            "{}, {}, {}; today {}",
            count(self.calls, "call"),
            count(self.tokens, "token"),
            money(self.micro_usd),
            self.today.line()
        )
    }
}

/// Today in UTC.
fn today() -> String {
    crate::clock::system().now().strftime("%F").to_string()
}

impl Today {
    /// What the books say of today; nothing spent where there are none.
    pub(super) fn of(usage: Option<&UsageStore>, config: &Config) -> Result<Self, Failure> {
        let day = today();
        let spent = match usage {
            Some(usage) => usage.spent_on(&Purse::Day(day.clone())).map_err(store_failure)?,
            None => Usage::default(),
        };
        Ok(Self::with(day, spent, config.budgets().day))
    }

    fn with(day: String, spent: Usage, budget: Budget) -> Self {
        Self {
            day,
            tokens: spent.tokens(),
            micro_usd: spent.micro_usd,
            budget_tokens: budget.tokens,
            budget_micro_usd: budget.micro_usd,
        }
    }

    fn is_over(&self) -> bool {
        self.budget_tokens.is_some_and(|limit| self.tokens >= limit)
            || self.budget_micro_usd.is_some_and(|limit| self.micro_usd >= limit)
    }

    /// In a line: what was spent, and of what.
    pub(super) fn line(&self) -> String {
        let mut parts = vec![match self.budget_micro_usd {
            Some(limit) => format!("{} of {}", money(self.micro_usd), money(limit)),
            None => money(self.micro_usd),
        }];
        match self.budget_tokens {
            Some(limit) => parts.push(format!("{} of {}", thousands(self.tokens), count(limit, "token"))),
            None if self.tokens > 0 => parts.push(count(self.tokens, "token")),
            None => {}
        }
        if self.budget_tokens.is_none() && self.budget_micro_usd.is_none() {
            parts.push(String::from("no limit"));
        }
        if self.is_over() {
            parts.push(bold("spent: no model is asked before tomorrow (UTC)"));
        }
        parts.join(", ")
    }
}

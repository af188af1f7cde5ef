//! A model whose calls are counted and charged: each one is written into the ledger, and none begins once a budget is spent.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::SharedClock;
use crate::model::chat::{Account, Answering, ChatAnswer, ChatModel, ChatRequest, Usage};
use crate::model::error::{ModelContext, ModelError, ModelErrorKind, Spent};
use crate::model::settings::{Budget, Budgets};
use crate::model::table::Price;
use crate::model::{Work, money};

/// Where spending is written down; kept over restarts.
pub trait Ledger: Debug + Send + Sync {
    /// What was spent on a purse so far.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn spent(&self, purse: &Purse) -> Result<Usage, String>;
    /// Writes a call down.
    ///
    /// # Errors
    /// Why it cannot be written.
    fn record(&self, call: &Call) -> Result<(), String>;
}

/// Something that has a budget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purse {
    /// A piece of work.
    Account(Account),
    /// A day in UTC, as `2026-11-24`.
    Day(String),
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// When it ended, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The day it is charged to, as `2026-11-24` (UTC).
    pub day: String,
    /// The role.
    pub role: String,
    /// The provider's name.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// Whose account it goes on.
    pub account: Option<Account>,
    /// What it cost.
    pub usage: Usage,
    /// Whether the cost is a guess: the provider said no tokens, or the model's price is not known.
    pub estimated: bool,
    /// How long it took, all attempts and waits included.
    pub latency: Duration,
    /// `ok`, or the error's class.
    pub outcome: &'static str,
}

/// Counts the calls of all models.
#[derive(Debug)]
pub(in crate::model) struct Meter {
    ledger: Arc<dyn Ledger>,
    budgets: Budgets,
    clock: SharedClock,
    /// What calls under way are expected to cost.
    pending: Mutex<BTreeMap<Purse, Pending>>,
    /// Calls that could not be written down. None begins while there are any.
    unwritten: Mutex<Vec<Call>>,
    settled: Notify,
}

/// A purse with its limit and the limit's name.
type Limited = (Purse, Budget, &'static str);

#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    under_way: Usage,
    calls: u32,
}

impl Meter {
    pub(in crate::model) fn new(ledger: Arc<dyn Ledger>, budgets: Budgets, clock: SharedClock) -> Self {
        Self {
            ledger,
            budgets,
            clock,
            pending: Mutex::default(),
            unwritten: Mutex::default(),
            settled: Notify::new(),
        }
    }

    fn today(&self) -> String {
        self.clock.now().strftime("%F").to_string()
    }

    fn limited(&self, request: &ChatRequest, day: &str) -> Vec<Limited> {
        let account = request.account.as_ref().map(|account| {
            let budget = match account.work {
                Work::Sweep => self.budgets.sweep,
                Work::Investigation => self.budgets.investigation,
                Work::Run => Budget::default(),
            };
            (Purse::Account(account.clone()), budget, account.work.as_str())
        });
        let day = (Purse::Day(day.to_owned()), self.budgets.day, "day");
        account.into_iter().chain([day]).filter(|(_, budget, _)| *budget != Budget::default()).collect()
    }

    /// Waits until the call may begin. A call may begin while what was spent, with what those under way are expected to cost, is
    /// below every limit; so a limit is passed by one call at most.
    async fn admit(&self, purses: &[Limited], expected: Usage) -> Result<(), ModelErrorKind> {
        loop {
            self.write_unwritten().map_err(ModelErrorKind::Ledger)?;
            let settled = self.settled.notified();
            let mut must_wait = false;
            {
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                for (purse, budget, name) in purses {
                    let known = pending.get(purse).copied().unwrap_or_default();
                    let spent = self.ledger.spent(purse).map_err(ModelErrorKind::Ledger)?;
                    if let Some(over) = over(*budget, spent, name) {
                        return Err(ModelErrorKind::OverBudget(Box::new(over)));
                    }
                    must_wait |= known.calls > 0 && over(*budget, spent + known.under_way, name).is_some();
                }
                if !must_wait {
                    for (purse, ..) in purses {
                        let pending = pending.entry(purse.clone()).or_default();
                        pending.under_way += expected;
                        pending.calls += 1;
                    }
                    return Ok(());
                }
            }
            settled.await;
        }
    }

    /// Writes down what could not be written before, oldest first.
    fn write_unwritten(&self) -> Result<(), String> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(call) = unwritten.first() {
            self.ledger.record(call)?;
            unwritten.remove(0);
        }
        Ok(())
    }

    fn settle(&self, purses: &[Limited], expected: Usage) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (purse, ..) in purses {
            if let Some(entry) = pending.get_mut(purse) {
                entry.under_way = less(entry.under_way, expected);
                entry.calls = entry.calls.saturating_sub(1);
                if entry.calls == 0 {
                    pending.remove(purse);
                }
            }
        }
        drop(pending);
        self.settled.notify_waiters();
    }
}

fn less(usage: Usage, by: Usage) -> Usage {
    Usage {
        input_tokens: usage.input_tokens.saturating_sub(by.input_tokens),
        cached_input_tokens: usage.cached_input_tokens.saturating_sub(by.cached_input_tokens),
        output_tokens: usage.output_tokens.saturating_sub(by.output_tokens),
        micro_usd: usage.micro_usd.saturating_sub(by.micro_usd),
    }
}

/// Which limit is reached, if one is.
fn over(budget: Budget, spent: Usage, name: &'static str) -> Option<Spent> {
    if let Some(limit) = budget.tokens.filter(|limit| spent.tokens() >= *limit) {
        let (spent, limit) = (format!("{} tokens", spent.tokens()), format!("{limit}"));
        return Some(Spent { budget: name, spent, limit });
    }
    let limit = budget.micro_usd.filter(|limit| spent.micro_usd >= *limit)?;
    Some(Spent { budget: name, spent: money(spent.micro_usd), limit: money(limit) })
}

/// A model whose calls are counted.
#[derive(Debug)]
pub(in crate::model) struct Metered {
    model: Arc<dyn ChatModel>,
    meter: Arc<Meter>,
    price: Price,
    price_known: bool,
    most: Most,
}

/// The longest answer that a model gives.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Most {
    /// Tokens where the question does not say.
    pub(in crate::model) tokens: u32,
    /// Tokens of thoughts, on top.
    pub(in crate::model) thinking: u32,
}

impl Metered {
    /// `price` is what the model's tokens cost; where nobody knows, `price_known` is false and it is a cautious guess.
    pub(in crate::model) fn new(
        model: Arc<dyn ChatModel>,
        meter: Arc<Meter>,
        (price, price_known): (Price, bool),
        most: Most,
    ) -> Self {
        Self { model, meter, price, price_known, most }
    }

    fn priced(&self, usage: Usage) -> Usage {
        Usage { micro_usd: self.price.micro_usd(usage), ..usage }
    }

    async fn ask(&self, request: ChatRequest) -> Result<ChatAnswer, ModelError> {
        let day = self.meter.today();
        let purses = self.meter.limited(&request, &day);
        let question = tokens_of(&request);
        let most = request.max_tokens.unwrap_or(self.most.tokens).saturating_add(self.most.thinking);
        // Twice the guess: no tokenizer makes more of prose, and little makes more of anything.
        let expected =
            Usage { input_tokens: 2 * question, output_tokens: u64::from(most), ..Usage::default() };
        let expected = self.priced(expected);
        self.meter
            .admit(&purses, expected)
            .await
            .map_err(|kind| ModelError::new(self.model.context(), kind))?;
        let started = self.meter.clock.monotonic();
        let account = request.account.clone();
        let mut open =
            Open { metered: self, purses, expected, day, account, started, question, settled: false };
        let result = self.model.complete(request).await;
        let (mut usage, outcome, was_sent) = match &result {
            Ok(answer) => (answer.usage, "ok", true),
            Err(error) => (error.usage, error.class(), error.attempts > 0),
        };
        // A provider that says nothing of tokens, or nothing at all, may charge all the same.
        let silent = usage.tokens() == 0
            && match &result {
                Ok(_) => true,
                Err(error) => matches!(error.kind, ModelErrorKind::Timeout { .. }),
            };
        if silent {
            usage.input_tokens = question;
            usage.output_tokens = result.as_ref().map_or(0, |answer| tokens_in(&answer.text));
        }
        let usage = self.priced(usage);
        open.settle(was_sent.then_some((usage, outcome, silent)));
        match result {
            Ok(answer) => Ok(ChatAnswer { usage, ..answer }),
            Err(error) => Err(ModelError { usage, ..error }),
        }
    }
}

/// A call under way. One that is dropped is written down too: the provider may charge for it.
struct Open<'a> {
    metered: &'a Metered,
    purses: Vec<Limited>,
    expected: Usage,
    day: String,
    account: Option<Account>,
    started: Duration,
    question: u64,
    settled: bool,
}

impl Open<'_> {
    /// Writes down what came of it: usage, outcome, and whether the provider said no tokens. Nothing where nothing was sent.
    fn settle(&mut self, outcome: Option<(Usage, &'static str, bool)>) {
        self.settled = true;
        let Metered { meter, price_known, .. } = self.metered;
        if let Some((usage, outcome, silent)) = outcome {
            let ModelContext { role, provider, model, .. } = &**self.metered.context();
            let call = Call {
                at_ms: meter.clock.now().as_millisecond(),
                day: std::mem::take(&mut self.day),
                role: role.clone(),
                provider: provider.clone(),
                model: model.clone(),
                account: self.account.take(),
                usage,
                estimated: silent || !price_known,
                latency: meter.clock.monotonic().saturating_sub(self.started),
                outcome,
            };
            if let Err(why) = meter.ledger.record(&call) {
                tracing::error!(why, "model call not written into the ledger, no further one until it is");
                meter.unwritten.lock().unwrap_or_else(PoisonError::into_inner).push(call);
            }
        }
        meter.settle(&self.purses, self.expected);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let usage = Usage { input_tokens: self.question, ..Usage::default() };
            self.settle(Some((self.metered.priced(usage), "cancelled", true)));
        }
    }
}

/// About how many tokens a text has.
fn tokens_in(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

fn tokens_of(request: &ChatRequest) -> u64 {
    let messages: u64 = request.messages.iter().map(|message| tokens_in(&message.text)).sum();
    let shape = request.output.as_ref().map_or(0, |output| tokens_in(&output.schema.to_string()));
    messages + tokens_in(&request.system) + shape
}

impl ChatModel for Metered {
    fn context(&self) -> &Arc<ModelContext> {
        self.model.context()
    }

    fn ready(&self) -> Result<(), ModelError> {
        self.model.ready()
    }

    fn complete(&self, request: ChatRequest) -> Answering<'_> {
        Box::pin(self.ask(request))
    }
}

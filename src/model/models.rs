//! The models of all roles, each with what is put around it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::around::cached::{Answers, Cached};
use super::around::fallback::Fallback;
use super::around::masked::{Mask, Masked};
use super::around::metered::{Ledger, Meter, Metered, Most};
use super::around::placeheld::{Placeheld, Redactor};
use super::chat::ChatModel;
use super::client::{Client, Wire};
use super::settings::{Budgets, Limits, ModelSettings, RoleSettings};
use super::table::{Price, provider, providers};
use crate::clock::SharedClock;

/// The models of all roles.
#[derive(Clone, Debug, Default)]
pub struct Models {
    roles: BTreeMap<String, Arc<dyn ChatModel>>,
}

/// What is put around every model.
#[derive(Debug)]
pub struct Surroundings {
    /// Where calls are written down, with what may be spent and the time.
    pub ledger: Option<(Arc<dyn Ledger>, Budgets, SharedClock)>,
    /// Where answers are kept, so that nothing is paid twice.
    pub answers: Option<Arc<dyn Answers>>,
    /// Puts placeholders for secrets into what goes out.
    pub placeholders: Option<Redactor>,
    /// Masks what comes back.
    pub mask: Mask,
    /// How hard providers may be asked, by their ids.
    pub limits: BTreeMap<String, Limits>,
}

impl Default for Surroundings {
    /// Nothing at all.
    fn default() -> Self {
        Self { ledger: None, answers: None, placeholders: None, mask: str::to_owned, limits: BTreeMap::new() }
    }
}

impl Models {
    /// The models of these roles. Touches neither network nor trust store before the first call.
    pub fn build(roles: Vec<RoleSettings>, around: &Surroundings) -> Self {
        let wire = Arc::<Wire>::default();
        let meter = around.ledger.as_ref().map(|(ledger, budgets, clock)| {
            Arc::new(Meter::new(Arc::clone(ledger), *budgets, Arc::clone(clock)))
        });
        let client = |settings: ModelSettings| -> Arc<dyn ChatModel> {
            let limits = around.limits.get(&settings.provider_id).copied().unwrap_or_default();
            let (price, most) = (
                price(&settings),
                Most { tokens: settings.max_tokens, thinking: settings.manner.thinking_room },
            );
            let client: Arc<dyn ChatModel> = Arc::new(Client::with_wire(settings, limits, Arc::clone(&wire)));
            match &meter {
                Some(meter) => Arc::new(Metered::new(client, Arc::clone(meter), price, most)),
                None => client,
            }
        };
        let mut models = Self::default();
        for RoleSettings { role, chain } in roles {
            let mut chain = chain.into_iter().map(client);
            let Some(mut model) = chain.next() else { continue };
            let others: Vec<_> = chain.collect();
            if !others.is_empty() {
                model = Arc::new(Fallback::new(model, others));
            }
            if let Some(redactor) = around.placeholders {
                model = Arc::new(Placeheld::new(model, redactor));
            }
            model = Arc::new(Masked::new(model, around.mask));
            if let Some(answers) = &around.answers {
                model = Arc::new(Cached::new(model, Arc::clone(answers)));
            }
            models.insert(&role, model);
        }
        models
    }

    /// Binds a role; a later model of the same role wins.
    pub fn insert(&mut self, role: &str, model: Arc<dyn ChatModel>) {
        self.roles.insert(role.to_owned(), model);
    }

    /// The model of a role, ready or not. A role `patrol.injection` without a model of its own has the one of `patrol`.
    pub fn get(&self, role: &str) -> Option<&Arc<dyn ChatModel>> {
        self.roles.get(role).or_else(|| self.roles.get(role.split_once('.')?.0))
    }

    /// Whether a model is bound to the role and could be called.
    pub fn ready(&self, role: &str) -> bool {
        self.get(role).is_some_and(|model| model.ready().is_ok())
    }

    /// All roles that have a model.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }
}

/// What a model's tokens cost, and whether that is known. Of an unknown model the dearest listed prices of its provider are
/// assumed, so that a budget holds.
fn price(settings: &ModelSettings) -> (Price, bool) {
    if let Some(price) = settings.price {
        return (price, true);
    }
    let own = provider(&settings.provider_id);
    if own.is_some_and(|provider| provider.local) {
        return (Price { input: 0.0, cached_input: None, output: 0.0 }, true);
    }
    let of_own = own.into_iter().flat_map(|provider| &provider.models);
    let of_all = providers().iter().flat_map(|provider| &provider.models);
    let dearest = |a: Price, b: Price| Price {
        input: a.input.max(b.input),
        cached_input: None,
        output: a.output.max(b.output),
    };
    let dear = of_own.map(|model| model.price).reduce(dearest);
    let dear = dear.or_else(|| of_all.map(|model| model.price).reduce(dearest));
    (dear.unwrap_or(Price { input: 0.0, cached_input: None, output: 0.0 }), false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_that_nobody_knows_is_taken_for_a_high_one() {
        let anthropic = provider("anthropic").unwrap();
        let (known, is_known) = price(&ModelSettings::of(anthropic, "patrol", &anthropic.patrol, None));
        let (guess, is_guess_known) =
            price(&ModelSettings::of(anthropic, "patrol", "claude-of-tomorrow", None));
        assert!(is_known && !is_guess_known && guess.output > known.output);
        let local = ModelSettings::of(provider("ollama").unwrap(), "patrol", "llama", None);
        assert_eq!(price(&local), (Price { input: 0.0, cached_input: None, output: 0.0 }, true));
    }
}

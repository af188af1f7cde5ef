//! What is right as configuration and probably not meant.

use std::path::Path;

use super::fault::{Fault, code};
use super::keys;
use super::kind::Value;
use super::load::Config;
use super::models::Link;
use super::words;
use crate::model::{Budget, provider};

impl Config {
    /// Warnings: no limit where money is spent, a price that is not known, a fallback or a channel without its secret, a file
    /// with a secret that others can read.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut warnings = Vec::new();
        self.budget_warnings(&mut warnings);
        self.key_warnings(&mut warnings);
        warnings.into_iter().map(Fault::warning).collect()
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        self.roles.iter().filter(|role| role.name != "agent").flat_map(|role| &role.chain)
    }

    fn budget_warnings(&self, warnings: &mut Vec<Fault>) {
        // A model on this machine costs nothing.
        let costs =
            |link: &&Link| !provider(&link.settings.provider_id).is_some_and(|provider| provider.local);
        if self.links().any(|link| costs(&link)) {
            let budgets = self.budgets();
            let all =
                [("sweep", budgets.sweep), ("investigation", budgets.investigation), ("day", budgets.day)];
            let absent: Vec<&str> = all
                .iter()
                .filter(|(_, budget)| *budget == Budget::default())
                .map(|(name, _)| *name)
                .collect();
            if let Some(first) = absent.first() {
                warnings.push(Fault::new(
                    code::UNLIMITED,
                    format!("no budget for {}", words::list(absent.iter().copied())),
                    format!("set one: `[budget]`, `{first} = {{ tokens = 200_000, usd = 0.50 }}`"),
                ));
            }
            let in_dollars = all.iter().any(|(_, budget)| budget.micro_usd.is_some());
            for link in self.links().filter(costs).filter(|link| in_dollars && link.settings.price.is_none())
            {
                let model = format!("{}/{}", link.settings.provider_id, link.settings.model);
                let fault = Fault::new(
                    code::MISSING,
                    format!("what `{model}` costs is not known: a budget in dollars does not hold it"),
                    format!(
                        "give its price: `[prices.\"{model}\"]`, `input = …`, `output = …`, or a budget in tokens"
                    ),
                );
                if !warnings.contains(&fault) {
                    warnings.push(fault);
                }
            }
        }
    }

    fn key_warnings(&self, warnings: &mut Vec<Fault>) {
        for link in self.links().filter(|link| link.key.secret.is_none() && link.settings.key_needed) {
            let settings = &link.settings;
            warnings.push(Fault::new(
                code::MISSING,
                format!(
                    "no key for {} (model {}, role {}): {} is not set",
                    settings.provider, settings.model, settings.role, settings.key_source
                ),
                "set it in the environment or a `.env` file",
            ));
        }
        for channel in self.channels().iter().filter(|channel| channel.enabled) {
            for (name, key) in channel.secrets.iter().filter(|(_, key)| key.secret.is_none()) {
                let message =
                    format!("no {} for {}: {} is not set", name.replace('_', " "), channel.name, key.looked);
                warnings.push(Fault::new(
                    code::MISSING,
                    message,
                    "set it in the environment or a `.env` file",
                ));
            }
        }
        for (_, given) in self.values.iter().filter(|(path, _)| path.ends_with("_file")) {
            if let Value::Text(path) = &given.value
                && let Err(why) = keys::is_private(Path::new(path), &self.environment.folder)
            {
                warnings.push(keys::unusable(path, &why, Some(given)));
            }
        }
    }
}

//! Which model plays which role.

use super::document::Given;
use super::fault::{Fault, Place, code};
use super::keys::{self, Key};
use super::kind::{NO_MODEL, Value, model_ref};
use super::load::Config;
use super::origin::Origin;
use super::settings::{LENSES, quoted};
use super::words::shown;
use crate::model::{ModelSettings, Price, Provider, RoleSettings, provider, providers};

/// Well-known beginnings of models' names, with the providers that make such models; the one that is in the table counts.
const HEADS: &[(&str, &[&str])] = &[
    ("claude", &["anthropic"]),
    ("gpt", &["openai"]),
    ("o1", &["openai"]),
    ("o3", &["openai"]),
    ("o4", &["openai"]),
    ("gemini", &["gemini", "google"]),
    ("kimi", &["moonshot", "kimi"]),
    ("grok", &["xai"]),
    ("mistral", &["mistral"]),
    ("minimax", &["minimax"]),
];

/// A role with the models that play it.
#[derive(Debug)]
pub(super) struct Role {
    /// `patrol`, `investigator`, `agent`, or `patrol.` and a lens.
    pub(super) name: String,
    /// The model that is asked first, then its fallbacks. Never empty.
    pub(super) chain: Vec<Link>,
}

/// One model of a role.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) settings: ModelSettings,
    pub(super) provider_origin: Origin,
    pub(super) model_origin: Origin,
    pub(super) key: Key,
}

impl Role {
    /// The role as the model room takes it.
    pub(super) fn settings(&self) -> RoleSettings {
        let chain = self.chain.iter().map(|link| link.settings.clone()).collect();
        RoleSettings { role: self.name.clone(), chain }
    }

    /// The path of its table: `models.patrol.lens.injection`.
    pub(super) fn table(&self) -> String {
        match self.name.split_once('.') {
            Some((role, lens)) => format!("models.{role}.lens.{lens}"),
            None => format!("models.{}", self.name),
        }
    }

    /// The model that is asked first.
    pub(super) fn first(&self) -> Option<&Link> {
        self.chain.first()
    }
}

/// A provider that was chosen, and why.
#[derive(Clone)]
struct Chosen {
    provider: &'static Provider,
    origin: Origin,
    place: Option<Place>,
}

/// All roles that have a model.
pub(super) fn roles(config: &Config, faults: &mut Vec<Fault>) -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    for name in ["patrol", "investigator", "agent"] {
        roles.extend(Casting { config, name: name.to_owned(), parent: None }.role(faults));
    }
    for lens in LENSES {
        let table = format!("models.patrol.lens.{lens}.");
        if config.values.keys().any(|path| path.starts_with(&table)) {
            let parent = roles.iter().find(|role| role.name == "patrol").and_then(Role::first).cloned();
            roles.extend(Casting { config, name: format!("patrol.{lens}"), parent }.role(faults));
        }
    }
    roles
}

/// What a model costs: as configured, else as listed.
pub(super) fn price(config: &Config, provider: &Provider, model: &str) -> Option<Price> {
    let own = |key: &str| {
        let name = quoted(&format!("{}/{model}", provider.id));
        match config.value(&format!("prices.{name}.{key}"))? {
            Value::Number(usd) => Some(*usd),
            _ => None,
        }
    };
    let listed = provider.listed(model).map(|listed| listed.price);
    Some(Price {
        input: own("input").or(listed.map(|price| price.input))?,
        cached_input: own("cached_input").or(listed.and_then(|price| price.cached_input)),
        output: own("output").or(listed.map(|price| price.output))?,
    })
}

/// That every price of the configuration is whole.
pub(super) fn prices(config: &Config, faults: &mut Vec<Fault>) {
    for (path, given) in &config.values {
        let Some(rest) = path.strip_prefix("prices.\"") else { continue };
        let Some((model, _)) = rest.rsplit_once("\".") else { continue };
        let whole = model_ref(model).and_then(|(id, name)| price(config, provider(id)?, name)).is_some();
        if !whole {
            let message = format!("the price of `{}` is not whole", shown(model));
            let fault = Fault::new(code::MISSING, message, "give `input` and `output`: it is in no list");
            faults.push(fault.at(given.place.clone(), "one price alone"));
        }
    }
}

/// The casting of one role.
struct Casting<'c> {
    config: &'c Config,
    name: String,
    /// The patrol's first model, for a lens.
    parent: Option<Link>,
}

impl Casting<'_> {
    /// The role whose key and variables count: the patrol for a lens.
    fn base(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    fn is_lens(&self) -> bool {
        self.name.contains('.')
    }

    fn path(&self, key: &str) -> String {
        match self.name.split_once('.') {
            Some((role, lens)) => format!("models.{role}.lens.{lens}.{key}"),
            None => format!("models.{}.{key}", self.name),
        }
    }

    fn given(&self, key: &str) -> Option<&Given> {
        self.config.given(&self.path(key))
    }

    /// A value of the role; a lens has the patrol's where it has none.
    fn value(&self, key: &str) -> Option<&Value> {
        let patrol = || self.config.value(&format!("models.patrol.{key}")).filter(|_| self.is_lens());
        self.config.value(&self.path(key)).or_else(patrol)
    }

    fn role(&self, faults: &mut Vec<Fault>) -> Option<Role> {
        if self.given("provider").and_then(text_of) == Some(NO_MODEL) {
            return None;
        }
        let named = self.given("model");
        let name = named.and_then(text_of);
        let chosen = self.provider(name, faults)?;
        let Chosen { provider, origin, place } = chosen.clone();
        let inherited = self.parent.as_ref().filter(|parent| parent.settings.provider_id == provider.id);
        let (model, model_origin) = match (name, named, inherited) {
            (Some(name), Some(named), _) => {
                self.agree(&chosen, name, named, faults);
                (own_name(&chosen, name).to_owned(), named.origin.clone())
            }
            (_, _, Some(parent)) => (parent.settings.model.clone(), parent.model_origin.clone()),
            _ => (
                provider.default_model(&self.name).to_owned(),
                Origin::Implied { by: String::from("the provider's default") },
            ),
        };
        if model.is_empty() {
            // OpenClaw has a model of its own where none is named.
            if self.name != "agent" || !matches!(origin, Origin::Implied { .. }) {
                let message = format!(
                    "no model for {}: {} has no default, and none is named",
                    self.name, provider.name
                );
                let fault = Fault::new(code::MISSING, message, self.help("model"));
                faults.push(fault.at(place, "the provider"));
            }
            return None;
        }
        let mut chain = vec![self.link(provider, &model, true, faults)];
        if let Some(first) = chain.first_mut() {
            first.provider_origin = origin;
            first.model_origin = model_origin;
        }
        for entry in self.fallbacks() {
            let Some((id, model)) = model_ref(entry) else { continue };
            let Some(other) = crate::model::provider(id) else { continue };
            let is_known =
                |link: &Link| link.settings.provider_id == other.id && link.settings.model == model;
            if !chain.iter().any(is_known) {
                chain.push(self.link(other, model, other.id == provider.id, faults));
            }
        }
        Some(Role { name: self.name.clone(), chain })
    }

    fn fallbacks(&self) -> &[String] {
        match self.value("fallback") {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// The provider of the role: the named one, for a lens the patrol's, else what the model's name or the keys say.
    fn provider(&self, model: Option<&str>, faults: &mut Vec<Fault>) -> Option<Chosen> {
        if let Some(given) = self.given("provider") {
            let provider = provider(text_of(given)?)?;
            return Some(Chosen { provider, origin: given.origin.clone(), place: given.place.clone() });
        }
        if let Some(parent) = &self.parent
            && (model.is_none() || !matches!(parent.provider_origin, Origin::Implied { .. }))
        {
            let provider = provider(&parent.settings.provider_id)?;
            return Some(Chosen { provider, origin: parent.provider_origin.clone(), place: None });
        }
        let implied = |provider, by: &str| {
            Some(Chosen { provider, origin: Origin::Implied { by: by.to_owned() }, place: None })
        };
        let has_key = |provider: &&'static Provider| keys::is_set(self.config, self.base(), provider);
        let role_key = keys::of_role(self.config, self.base());
        if let Some(model) = model {
            let mut listing =
                providers().iter().filter(|provider| provider.listed(model).is_some()).filter(has_key);
            if let (Some(only), None) = (listing.next(), listing.next()) {
                return implied(only, "by the model's name");
            }
            if let Some(named) = model_ref(model).and_then(|(id, _)| provider(id)) {
                return implied(named, "by the model's name");
            }
            let any_key = role_key.is_some() || providers().iter().any(|provider| has_key(&provider));
            if let Some(maker) = maker(model).filter(|_| any_key) {
                return implied(maker, "by the model's name");
            }
        }
        if let Some(found) = role_key {
            // A key is for one provider; another must not get to see it.
            let message = format!("{found} is set, but nothing says which provider it is for");
            faults.push(Fault::new(code::MISSING, message, self.help("provider")));
            return None;
        }
        providers().iter().find(has_key).and_then(|first| implied(first, "the first with a key"))
    }

    /// That the provider can have a model of that name: those that make models have none of another maker.
    fn agree(&self, chosen: &Chosen, model: &str, named: &Given, faults: &mut Vec<Fault>) {
        let provider = chosen.provider;
        let is_maker = HEADS.iter().any(|(_, ids)| ids.contains(&provider.id.as_str()));
        let other_place = self.config.given(&format!("providers.{}.base_url", provider.id)).is_some();
        if !is_maker || other_place || provider.listed(model).is_some() {
            return;
        }
        let of = model_ref(model).and_then(|(id, _)| crate::model::provider(id)).or_else(|| maker(model));
        let Some(of) = of.filter(|of| of.id != provider.id) else { return };
        let message = format!(
            "the {} has the provider `{}` (from {}) and the model `{}` (from {}), which is one of {}",
            self.name,
            provider.id,
            chosen.origin,
            shown(model),
            named.origin,
            of.name
        );
        let help = format!("name the provider `{}`, or a model of {}", of.id, provider.name);
        let fault = Fault::new(code::CONFLICT, message, help);
        let place = named.place.clone().or_else(|| chosen.place.clone());
        faults.push(fault.at(place, "the two do not fit"));
    }

    fn link(&self, provider: &'static Provider, model: &str, is_own: bool, faults: &mut Vec<Fault>) -> Link {
        let config = self.config;
        let is_patrols = self.parent.as_ref().is_none_or(|patrol| patrol.settings.provider_id == provider.id);
        let key = keys::find(config, self.base(), provider, is_own && is_patrols, faults);
        let mut settings = ModelSettings::of(provider, &self.name, model, key.secret.clone());
        settings.key_source.clone_from(&key.looked);
        settings.price = price(config, provider, model);
        if let Some(url) = config.text(&format!("providers.{}.base_url", provider.id)) {
            url.clone_into(&mut settings.base_url);
        } else {
            let message = format!("no base URL for {}, which the {} is to ask", provider.name, self.name);
            let help = format!("set `providers.{}.base_url` or {}", provider.id, provider.base_url_var);
            faults.push(Fault::new(code::MISSING, message, help));
        }
        if let Some(Value::Duration(time)) =
            config.value(&format!("providers.{}.connect_timeout", provider.id))
        {
            settings.timeouts.connect = *time;
        }
        if let Some(Value::Duration(time)) = self.value("timeout") {
            settings.timeouts.total = *time;
        }
        if let Some(Value::Whole(most)) = self.value("max_tokens") {
            settings.max_tokens = u32::try_from(*most).unwrap_or(u32::MAX);
        }
        let origin = self.given("fallback").map_or(Origin::Default, |given| given.origin.clone());
        Link { settings, provider_origin: origin.clone(), model_origin: origin, key }
    }

    /// How a key of the role's table is given.
    fn help(&self, key: &str) -> String {
        let path = self.path(key);
        let variable = super::settings::find(&path).and_then(|setting| setting.variables.first());
        match variable {
            Some(variable) => format!("name it with `{path}` or {variable}"),
            None => format!("name it with `{path}`"),
        }
    }
}

fn text_of(given: &Given) -> Option<&str> {
    match &given.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The provider that makes models of such a name.
fn maker(model: &str) -> Option<&'static Provider> {
    let lower = model.to_lowercase();
    let (_, ids) = HEADS.iter().find(|(head, _)| lower.starts_with(head))?;
    ids.iter().find_map(|id| provider(id))
}

/// The model's name without the id of a provider that is no part of it.
fn own_name<'m>(chosen: &Chosen, model: &'m str) -> &'m str {
    let provider = chosen.provider;
    let is_maker = HEADS.iter().any(|(_, ids)| ids.contains(&provider.id.as_str()));
    let chose_itself = matches!(chosen.origin, Origin::Implied { .. }) || is_maker;
    match model_ref(model) {
        Some((id, name)) if id == provider.id && chose_itself && provider.listed(model).is_none() => name,
        _ => model,
    }
}

//! Which model plays which role, from the environment.

use super::env;
use crate::model::{ModelSettings, provider};

/// Default models: good enough for the role at a fair price.
const OPENAI_MODELS: [(&str, &str); 2] = [("patrol", "gpt-4o-mini"), ("investigator", "gpt-4o")];
const ANTHROPIC_MODELS: [(&str, &str); 2] =
    [("patrol", "claude-haiku-4-5"), ("investigator", "claude-sonnet-4-5")];

/// The model of a role, and where the choice came from.
#[derive(Clone, Debug)]
pub struct ModelChoice {
    /// The role.
    pub role: &'static str,
    /// What the model room needs to know.
    pub settings: ModelSettings,
}

/// The models that the environment gives to patrol and investigator: none without a key. With keys of both
/// providers, a model's name decides; where none is named, Anthropic's is taken.
pub fn model_choices() -> Vec<ModelChoice> {
    let openai = env::secret(env::OPENAI_API_KEY);
    let anthropic = env::secret(env::ANTHROPIC_API_KEY);
    [("patrol", env::PATROL_MODEL), ("investigator", env::POLICE_MODEL)]
        .into_iter()
        .filter_map(|(role, variable)| {
            let named = env::get(variable);
            let wants_anthropic = named.as_deref().is_none_or(|name| name.starts_with("claude"));
            let default = |models: &[(&str, &str)]| {
                models
                    .iter()
                    .find(|(of, _)| *of == role)
                    .map_or_else(String::new, |(_, model)| (*model).to_owned())
            };
            let mut settings = match (&openai, &anthropic) {
                (_, Some(key)) if wants_anthropic || openai.is_none() => {
                    let model = named.unwrap_or_else(|| default(&ANTHROPIC_MODELS));
                    let mut settings =
                        ModelSettings::of(provider("anthropic")?, role, &model, Some(key.clone()));
                    if let Some(url) = env::get(env::ANTHROPIC_BASE_URL) {
                        settings.base_url = url;
                    }
                    settings
                }
                (Some(key), _) => {
                    let model = named.unwrap_or_else(|| default(&OPENAI_MODELS));
                    let mut settings =
                        ModelSettings::of(provider("openai")?, role, &model, Some(key.clone()));
                    if let Some(url) = env::get(env::OPENAI_BASE_URL) {
                        settings.base_url = url;
                    }
                    settings
                }
                _ => return None,
            };
            role.clone_into(&mut settings.role);
            Some(ModelChoice { role, settings })
        })
        .collect()
}

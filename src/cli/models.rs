//! `sentrix models list|test`: which models there are, which play a role, and whether they answer.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::{Format, Global, ModelsCommand, Where};
use super::failure::{self, Failure, Outcome};
use super::printer::{self, bold, count, dim, thousands};
use super::world::{self, store_failure};
use crate::clock::{self, SharedClock};
use crate::config::Config;
use crate::model::{
    ChatModel, ChatRequest, ModelError, Models, Price, Provider, RoleSettings, Structured, Surroundings,
    meant, money, provider, providers, structured,
};
use crate::store::usage::UsageStore;
use crate::text;

/// Runs the verb.
pub(super) async fn run(global: &Global, command: ModelsCommand) -> Outcome {
    match command {
        ModelsCommand::List { provider, format } => list(global, provider.as_deref(), format),
        ModelsCommand::Test { role, place, format } => test(global, role.as_deref(), &place, format).await,
    }
}

fn list(global: &Global, only: Option<&str>, format: Format) -> Outcome {
    let config = world::config(global, None)?;
    let roles = config.models();
    let listed: Vec<&Provider> = match only {
        None => providers().iter().collect(),
        Some(id) => vec![find(id)?],
    };
    if format == Format::Json {
        return list_json(&config, &roles, &listed);
    }
    let mut lines = vec![bold("Models in use")];
    if roles.is_empty() {
        lines.push(String::from(
            "  none: rules only. Set a key, as one of those below, or run `sentrix setup`.",
        ));
    }
    for role in &roles {
        for (index, model) in role.chain.iter().enumerate() {
            let name = if index == 0 { text::plain(&role.role) } else { String::from("  then") };
            let key = if model.key_needed || model.api_key.is_some() {
                format!("key: {}", text::plain(&model.key_source))
            } else {
                String::from("no key needed")
            };
            lines.push(format!(
                "  {name:<22}{}  {}  {}",
                text::plain(&model.model),
                dim(text::plain(&model.provider)),
                dim(key)
            ));
        }
    }
    let width = listed.iter().flat_map(|one| &one.models).map(|model| model.id.len()).max().unwrap_or(0);
    for provider in &listed {
        lines.push(String::new());
        lines.push(format!(
            "{}  {}  {}",
            bold(&provider.id),
            provider.full_name(),
            key_state(&config, provider)
        ));
        for model in &provider.models {
            let Price { input, output, .. } = model.price;
            lines.push(format!(
                "  {:<width$}  ${input:>6.3} in  ${output:>6.2} out  {:>9} context{}",
                model.id,
                thousands(model.context),
                default_of(provider, &model.id)
            ));
        }
        if provider.models.is_empty() {
            lines.push(String::from("  any model that it serves"));
        }
    }
    lines.push(String::new());
    lines.push(dim("US dollars per million tokens. Models that are not listed can be named all the same."));
    printer::data(lines.join("\n"))?;
    Ok(failure::DONE)
}

fn list_json(config: &Config, roles: &[RoleSettings], listed: &[&Provider]) -> Outcome {
    let in_use: Vec<_> = roles
        .iter()
        .map(|role| {
            let chain: Vec<_> = role
                .chain
                .iter()
                .map(|model| {
                    json!({ "provider": model.provider_id, "model": text::plain(&model.model),
                        "key": model.api_key.is_some(), "key_source": text::plain(&model.key_source) })
                })
                .collect();
            json!({ "role": role.role, "models": chain })
        })
        .collect();
    let all: Vec<_> = listed
        .iter()
        .map(|provider| {
            let models: Vec<_> = provider
                .models
                .iter()
                .map(|model| {
                    let Price { input, cached_input, output } = model.price;
                    json!({ "id": model.id, "input_usd": input, "cached_input_usd": cached_input, "output_usd": output,
                        "context": model.context, "max_output": model.max_output })
                })
                .collect();
            json!({ "id": provider.id, "name": provider.name, "key_variables": provider.key, "keys_at": provider.keys_at,
                "has_key": config.provider_key(provider).secret.is_some(), "models": models })
        })
        .collect();
    printer::json(&json!({ "version": 1, "roles": in_use, "providers": all }))?;
    Ok(failure::DONE)
}

fn key_state(config: &Config, provider: &Provider) -> String {
    let key = config.provider_key(provider);
    match key.secret {
        Some(_) => format!("key: {}", text::plain(&key.looked)),
        None if provider.local => dim("no key needed"),
        None => dim(format!("no key: set {}", text::plain(&key.looked))),
    }
}

/// Which roles a model plays where none is named.
fn default_of(provider: &Provider, model: &str) -> String {
    let roles: Vec<&str> =
        ["patrol", "investigator"].into_iter().filter(|role| provider.default_model(role) == model).collect();
    if roles.is_empty() { String::new() } else { dim(format!("  default: {}", roles.join(", "))) }
}

/// A provider by its id.
fn find(id: &str) -> Result<&'static Provider, Failure> {
    provider(id).ok_or_else(|| {
        let known: Vec<&str> = providers().iter().map(|one| one.id.as_str()).collect();
        let near = meant(id).map_or_else(String::new, |near| format!(" (did you mean `{}`?)", near.id));
        Failure::Usage(format!("no provider `{}`{near}; there are {}", text::plain(id), known.join(", ")))
    })
}

/// What a model is asked in a test: a shape, as every real question asks for one.
#[derive(Debug, Deserialize, JsonSchema)]
struct Probe {
    /// True.
    ok: bool,
}

/// How one model did.
#[derive(Debug, Serialize)]
struct Tested {
    role: String,
    provider: String,
    model: String,
    ok: bool,
    latency_ms: u64,
    tokens: u64,
    micro_usd: u64,
    error: Option<String>,
}

async fn test(global: &Global, only: Option<&str>, place: &Where, format: Format) -> Outcome {
    let config = world::config(global, Some(place))?;
    let roles = config.models();
    let known: Vec<String> = roles.iter().map(|role| role.role.clone()).collect();
    let chosen: Vec<RoleSettings> =
        roles.into_iter().filter(|role| only.is_none_or(|only| role.role == only)).collect();
    if chosen.is_empty() {
        return Err(Failure::Usage(match only {
            _ if known.is_empty() => String::from(
                "no model is configured: set a key, as OPENAI_API_KEY or ANTHROPIC_API_KEY, or run `sentrix setup` \
                 (`sentrix models list` has them all)",
            ),
            only => format!(
                "no model is configured for the role `{}`; there are {}",
                text::plain(only.unwrap_or_default()),
                known.join(", ")
            ),
        }));
    }
    for line in config.elsewhere() {
        printer::note(dim(line));
    }
    let clock = clock::system();
    // Where a patrol keeps its books, a test is written down too; elsewhere no file is made for it.
    let data = config.paths().usage();
    let usage = if data.exists() { UsageStore::open(&data) } else { UsageStore::in_memory() };
    let usage = Arc::new(usage.map_err(store_failure)?);
    let around = Surroundings { answers: None, ..world::surroundings(&config, &usage, &clock) };
    let mut all = Vec::new();
    for role in chosen {
        for settings in role.chain {
            let alone = vec![RoleSettings { role: role.role.clone(), chain: vec![settings] }];
            let models = Models::build(alone, &around);
            let Some(model) = models.get(&role.role) else { continue };
            let tested = ask(model.as_ref(), &role.role, &clock).await;
            if format == Format::Table {
                printer::data(line(&tested))?;
            }
            all.push(tested);
        }
    }
    let failed = all.iter().any(|tested| !tested.ok);
    if format == Format::Json {
        printer::json(&json!({ "version": 1, "tested": all }))?;
    }
    Ok(if failed { failure::UNAVAILABLE } else { failure::DONE })
}

async fn ask(model: &dyn ChatModel, role: &str, clock: &SharedClock) -> Tested {
    let mut request = ChatRequest::new("You are being tested.", "Answer with ok: true.");
    request.max_tokens = Some(200);
    let began = clock.monotonic();
    let result: Result<Structured<Probe>, ModelError> = structured(model, request).await;
    let latency = clock.monotonic().saturating_sub(began);
    let (usage, error) = match &result {
        Ok(answer) if answer.value.ok => (answer.usage, None),
        Ok(answer) => (answer.usage, Some(String::from("it answered `ok: false`"))),
        Err(error) => (error.usage, Some(text::plain(&error.to_string()))),
    };
    let context = model.context();
    Tested {
        role: role.to_owned(),
        provider: context.provider.clone(),
        model: text::plain(&context.model),
        ok: error.is_none(),
        latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        tokens: usage.tokens(),
        micro_usd: usage.micro_usd,
        error,
    }
}

fn line(tested: &Tested) -> String {
    let Tested { role, provider, model, latency_ms, tokens, micro_usd, error, .. } = tested;
    match error {
        None => format!(
            "{role:<14} ok      {provider} {model}  {}",
            dim(format!("{} ms, {}, {}", thousands(*latency_ms), count(*tokens, "token"), money(*micro_usd)))
        ),
        Some(error) => format!("{role:<14} FAILED  {provider} {model}\n{}", printer::fold(error, "    ")),
    }
}

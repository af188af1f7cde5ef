use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::*;

fn provider(id: &str, url: &str, is_usual: bool, key: Option<&str>) -> Provider {
    let (id, base_url) = (id.to_owned(), url.to_owned());
    Provider { id, api: Api::OpenAi, base_url, is_usual, key: key.map(SecretString::from) }
}

fn model(provider: Provider, id: &str) -> AgentModel {
    AgentModel { provider, id: id.into(), context: Some(200_000), max_output: Some(32_000) }
}

fn anthropic() -> AgentModel {
    let mut provider = provider("anthropic", "https://api.anthropic.com", true, Some("sk-ant-hidden"));
    provider.api = Api::Anthropic;
    model(provider, "claude-sonnet-5")
}

fn safe() -> OpenClawSettings {
    let mut settings = OpenClawSettings::new("token-hidden".into());
    settings.models.push(anthropic());
    settings
}

fn everything() -> OpenClawSettings {
    let mut settings = safe();
    settings.models.push(model(provider("custom", "http://127.0.0.1:8000/v1", false, None), "qwen"));
    settings.models.push(model(
        provider("openai", "https://proxy.example.org/v1", false, Some("sk-oa-hidden")),
        "gpt-6-sol",
    ));
    settings.providers.push(provider("groq", "https://api.groq.com/openai/v1", true, Some("gsk-hidden")));
    settings.thinking = Thinking::High;
    settings.heartbeat = Some(Duration::from_mins(30));
    settings.brave = Some("brave-hidden".into());
    settings.env.insert("COMPANY".into(), "Initech".into());
    for kind in ChannelKind::ALL {
        let secrets = ["token", "bot_token", "app_token"]
            .map(|name| (name.to_owned(), SecretString::from("12:hidden")));
        settings.channels.push(Channel {
            kind,
            secrets: BTreeMap::from(secrets),
            allow_from: vec!["+15551234567".into()],
        });
    }
    settings.policy = Policy {
        exec: Exec::Full,
        workspace_only: false,
        dm_policy: DmPolicy::Open,
        web_fetch: true,
        subagents: true,
        more_tools: vec!["message".into()],
    };
    settings
}

/// Faults of a configuration by `OpenClaw`'s own schema. Left out of it: parts that nothing here touches, patterns that the
/// validator does not know, and the demand for keys that have a default.
fn faults(config: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("schema-2026.9.6.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(config).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn shown(rendered: &Rendered) -> String {
    let line = |destination: &Destination| {
        format!("{}:{} ({})\n", destination.host, destination.port, destination.why)
    };
    format!(
        "{}\n\nfiles: {:?}\nplugins: {:?}\n{}",
        serde_json::to_string_pretty(&rendered.config).unwrap(),
        rendered.secrets.keys().collect::<Vec<_>>(),
        rendered.plugins,
        rendered.destinations.iter().map(line).collect::<String>(),
    )
}

#[test]
fn the_safe_configuration_is_this_one() {
    let rendered = render(&safe()).unwrap();
    assert_eq!(faults(&rendered.config), [""; 0]);
    assert!(rendered.relaxed.is_empty());
    insta::assert_snapshot!("safe", shown(&rendered));
}

#[test]
fn everything_on_is_still_valid_and_holds_no_secret() {
    let rendered = render(&everything()).unwrap();
    assert_eq!(faults(&rendered.config), [""; 0]);
    let text = shown(&rendered);
    assert!(!text.contains("hidden"), "{text}");
    assert!(!format!("{rendered:?}").contains("Initech"));
    insta::assert_snapshot!("everything", text);
}

#[test]
fn the_schema_is_as_strict_as_openclaw() {
    let mut rendered = render(&safe()).unwrap();
    set(&mut rendered.config, &["tools", "exec", "modus"], "deny".into());
    assert!(!faults(&rendered.config).is_empty());
}

#[test]
fn what_a_relaxed_option_changes() {
    let safe = render(&safe()).unwrap().config;
    let mut said = String::new();
    let mut relax = |change: fn(&mut Policy)| {
        let mut settings = self::safe();
        change(&mut settings.policy);
        let rendered = render(&settings).unwrap();
        assert_eq!(faults(&rendered.config), [""; 0]);
        for relaxed in &rendered.relaxed {
            writeln!(said, "{}: {}", relaxed.option, relaxed.means).unwrap();
        }
        differences("", &safe, &rendered.config, &mut said);
    };
    relax(|policy| policy.exec = Exec::Allowlist);
    relax(|policy| policy.exec = Exec::Full);
    relax(|policy| policy.workspace_only = false);
    relax(|policy| policy.dm_policy = DmPolicy::Open);
    relax(|policy| policy.web_fetch = true);
    relax(|policy| policy.more_tools.push("message".into()));
    insta::assert_snapshot!("relaxed", said);
}

fn differences(path: &str, one: &Value, other: &Value, said: &mut String) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                differences(
                    &path,
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                    said,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for more in b.iter().filter(|item| !a.contains(item)) {
                writeln!(said, "    {}[] + {more}", path.trim_start_matches('.')).unwrap();
            }
        }
        (one, other) if one != other => {
            writeln!(said, "    {} = {other}", path.trim_start_matches('.')).unwrap();
        }
        _ => {}
    }
}

#[test]
fn what_cannot_be_configured_is_said() {
    let fault = |change: fn(&mut OpenClawSettings)| {
        let mut settings = safe();
        change(&mut settings);
        render(&settings).unwrap_err().to_string()
    };
    assert_eq!(fault(|settings| settings.models[0].provider.key = None), "`anthropic` has no key");
    let bad = fault(|settings| {
        settings.models.push(model(provider("custom", "http://me:pass@host", false, None), "m"));
    });
    assert_eq!(bad, "the address of `custom` is no usable URL: `host`");
    let telegram = fault(|settings| {
        let (secrets, allow_from) = (BTreeMap::new(), Vec::new());
        settings.channels.push(Channel { kind: ChannelKind::Telegram, secrets, allow_from });
    });
    assert_eq!(telegram, "`telegram` has no token");
    for name in ["NODE_OPTIONS", "OPENCLAW_CONFIG_PATH", "A=B", "", "1A", "PATH", "https_proxy", "LD_PRELOAD"]
    {
        let mut settings = safe();
        settings.env.insert(name.into(), "x".into());
        assert!(matches!(render(&settings), Err(ConfigError::Variable { .. })), "{name}");
    }
}

#[test]
fn a_model_of_the_users_own_is_reached_through_the_host() {
    let mut settings = OpenClawSettings::new("t".into());
    settings.models.push(model(provider("ollama", "http://localhost:11434/v1", true, None), "qwen3"));
    let rendered = render(&settings).unwrap();
    assert_eq!(faults(&rendered.config), [""; 0]);
    assert_eq!(
        rendered.config["models"]["providers"]["ollama"]["baseUrl"],
        "http://host.sentrix.internal:11434/v1"
    );
    assert_eq!(rendered.config["agents"]["defaults"]["model"]["primary"], "ollama/qwen3");
    let host = (rendered.destinations[0].host.as_str(), rendered.destinations[0].port);
    assert_eq!(host, (HOST_NAME, 11_434));
}

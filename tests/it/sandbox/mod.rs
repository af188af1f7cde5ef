//! The sandbox at a real engine with the real OpenClaw. `tests/run` builds the image and names it in
//! `SENTRIX_TEST_IMAGE`; without an engine these tests say that they were skipped, and fail where `CI` is set.

mod escapes;
mod life;
mod stand_in;
mod verbs;
mod whatsapp;

use std::time::Duration;

use secrecy::SecretString;
use sentrix::clock;
use sentrix::openclaw::config::{AgentModel, Api, OpenClawSettings, Provider, Rendered, render};
use sentrix::sandbox::selftest::{MODEL_PROVIDER, model_provider};
use sentrix::sandbox::{ContainerSpec, Engine, EngineHints, Layout, Owner, SandboxName};
use serde_json::Value;

/// The engine and the image that `tests/run` built; `None`, loudly, where there is none.
#[expect(clippy::disallowed_methods, reason = "what tests/run says is no setting of the program")]
pub(crate) async fn engine() -> Option<(Engine, String)> {
    let hints = EngineHints { docker_host: std::env::var("DOCKER_HOST").ok(), ..EngineHints::default() };
    let image = std::env::var("SENTRIX_TEST_IMAGE").ok();
    match (Engine::find(&hints).await, image) {
        (Ok(engine), Some(image)) => Some((engine, image)),
        (found, image) => {
            let why = match found {
                Err(error) => error.to_string(),
                Ok(_) => format!("SENTRIX_TEST_IMAGE names no image ({image:?}): run tests/run"),
            };
            assert!(std::env::var_os("CI").is_none(), "CI must have an engine: {why}");
            eprintln!("SKIPPED, NOT TESTED: {why}");
            None
        }
    }
}

/// A sandbox of a test, taken away with all that belongs to it even where the test fails.
pub(crate) struct Box_ {
    pub(crate) engine: Engine,
    pub(crate) layout: Layout,
    pub(crate) owner: Owner,
    pub(crate) name: SandboxName,
    _folder: tempfile::TempDir,
}

impl Box_ {
    pub(crate) fn new(engine: Engine, name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name: SandboxName = format!("t-{name}-{}", std::process::id()).parse().unwrap();
        let layout = Layout::new(&folder.path().join("state"), &name);
        let owner = Owner::of(engine.facts());
        layout.create(&owner).unwrap();
        Self { engine, layout, owner, name, _folder: folder }
    }

    /// Writes OpenClaw's configuration as `sentrix run` makes it, with the self-test's model, changed by `change`; and its
    /// secrets.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        self.configure_with(|_| {}, change);
    }

    /// The same, of settings changed by `settings`.
    pub(crate) fn configure_with(
        &self,
        settings: impl FnOnce(&mut OpenClawSettings),
        change: impl FnOnce(&mut Value),
    ) {
        let mut all = OpenClawSettings::new(self.layout.token().unwrap());
        all.models.push(AgentModel {
            provider: Provider {
                id: "custom".into(),
                api: Api::OpenAi,
                base_url: "http://127.0.0.1:18999/v1".into(),
                is_usual: false,
                key: Some(SecretString::from("sk-selftest-0123456789")),
            },
            id: "mock-1".into(),
            context: Some(128_000),
            max_output: Some(8192),
        });
        settings(&mut all);
        let Rendered { mut config, secrets, .. } = render(&all).unwrap();
        config["models"]["providers"][MODEL_PROVIDER] = model_provider();
        let allowed = config["agents"]["defaults"]["modelPolicy"]["allow"].as_array_mut().unwrap();
        allowed.push(format!("{MODEL_PROVIDER}/*").into());
        change(&mut config);
        self.layout.write_config(&config, &self.owner).unwrap();
        self.layout.write_secrets(&secrets, &self.owner).unwrap();
    }

    /// Waits for the relays of a container without OpenClaw.
    pub(crate) async fn relays(&self) {
        for _ in 0..200 {
            if self.layout.gateway_socket().exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no relays: {:?}", self.engine.last_lines(&self.name, 10).await);
    }

    pub(crate) async fn up(&self, spec: &ContainerSpec) {
        self.engine.create(spec, &self.layout).await.unwrap();
        self.engine.start(&self.name).await.unwrap();
    }

    pub(crate) async fn ready(&self) -> Duration {
        let limit = Duration::from_mins(3);
        self.engine.wait_ready(&self.layout, limit, &clock::system(), |_, _| {}).await.unwrap()
    }
}

impl Drop for Box_ {
    fn drop(&mut self) {
        // Also where a test panics in the middle of a runtime: the engine's own program needs none.
        let id = self.name.container();
        drop(std::process::Command::new("docker").args(["rm", "-f", "-v", &id]).output());
        drop(std::process::Command::new("docker").args(["network", "rm", &id]).output());
    }
}

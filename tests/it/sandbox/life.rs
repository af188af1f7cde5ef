//! Made, started, stopped, frozen, found again, taken away.

use std::time::Duration;

use sentrix::sandbox::selftest::{Ask, Probe, Row};
use sentrix::sandbox::{ContainerSpec, SandboxErrorKind, Stage, State};
use serde_json::json;

use super::stand_in::{self, Mood};
use super::{Box_, engine};

#[tokio::test]
async fn openclaw_gets_ready_is_frozen_stops_and_leaves_nothing_behind() {
    let Some((engine, image)) = engine().await else { return };
    let it = Box_::new(engine, "life");
    it.configure(|_| {});
    it.up(&ContainerSpec::new(image)).await;
    let mut stages = Vec::new();
    let clock = sentrix::clock::system();
    let took = it
        .engine
        .wait_ready(&it.layout, Duration::from_mins(3), &clock, |stage, _| stages.push(stage))
        .await
        .unwrap();
    eprintln!("ready after {took:?}");
    assert!(stages.contains(&Stage::Ready) && stages.is_sorted(), "{stages:?}");
    let found = it.engine.look_for(&it.name).await.unwrap().unwrap();
    assert_eq!(found.state, State::Running);
    assert_eq!(found.layout.as_ref(), Some(&it.layout));
    // A second one of that name is refused, and the first is not touched.
    let again = it.engine.create(&ContainerSpec::new(&found.image), &it.layout).await.unwrap_err();
    assert!(matches!(again.kind, SandboxErrorKind::InTheWay(_)), "{again}");

    it.engine.pause(&it.name).await.unwrap();
    assert_eq!(it.engine.status(&it.name).await.unwrap().state, State::Paused);
    assert!(!it.engine.is_ready(&it.layout).await);
    it.engine.resume(&it.name).await.unwrap();
    assert!(it.engine.is_ready(&it.layout).await);

    // Killed and made again in the same folder: OpenClaw takes its state over at once. Its gateway asks for no token now,
    // which the self-test notices; and it has no model, so that no turn could be made.
    it.engine.kill(&it.name).await.unwrap();
    it.layout.create(&it.owner).unwrap();
    it.configure(|config| {
        config["gateway"]["auth"] = json!({"mode": "none"});
        config["models"]["providers"] = json!({});
    });
    let _seen = stand_in::open(&it.layout.door_socket(), Mood::Strict);
    it.up(&ContainerSpec::new(&found.image)).await;
    eprintln!("ready again after {:?}", it.ready().await);
    let (ask, token) = (Ask::of(&ContainerSpec::new(&found.image)), it.layout.token().unwrap());
    let rows = it.engine.self_test_tools(&it.layout, &token, &ask, &Probe::new()).await.unwrap();
    assert!(rows.iter().any(|row| row.is_red() && row.id == "gateway-no-token"), "{rows:#?}");
    // What was not tried is not said to be refused.
    assert!(rows.iter().filter(|row| row.id.starts_with("tool-")).all(Row::is_untried), "{rows:#?}");
    let top = it.engine.top(&it.name).await.unwrap();
    assert!(top.iter().any(|process| process.command.contains("openclaw")), "{top:?}");
    let stats = it.engine.stats(&it.name).await.unwrap();
    assert_eq!((stats.memory_limit_bytes, stats.pids_limit), (2 << 30, 256));
    assert!(stats.pids > 3 && stats.memory_bytes > 100 << 20, "{stats:?}");
    let said = sentrix::sandbox::Exec::new(["sh", "-c", "echo out; echo err >&2; exit 3"]);
    let said = it.engine.exec(&it.name, &said).await.unwrap();
    assert_eq!((said.code, &said.stdout[..], &said.stderr[..]), (3, &b"out\n"[..], &b"err\n"[..]));

    std::fs::write(it.layout.home_dir().join("kept"), "x").unwrap();
    let reaped = it.engine.reap(&it.name, Some(&it.layout), false).await.unwrap();
    assert_eq!(reaped.containers, [it.name.container()]);
    assert!(it.layout.home_dir().join("kept").exists() && !it.layout.secrets_dir().exists());
    assert_eq!(it.engine.look_for(&it.name).await.unwrap(), None);
    it.engine.reap(&it.name, Some(&it.layout), true).await.unwrap();
    assert!(!it.layout.folder().exists());
}

#[tokio::test]
async fn a_configuration_that_openclaw_refuses_is_said_at_once_with_its_words() {
    let Some((engine, image)) = engine().await else { return };
    let it = Box_::new(engine, "bad");
    it.configure(|config| config["nonsense"] = true.into());
    it.up(&ContainerSpec::new(image)).await;
    let clock = sentrix::clock::system();
    let began = clock.monotonic();
    let error =
        it.engine.wait_ready(&it.layout, Duration::from_mins(3), &clock, |_, _| {}).await.unwrap_err();
    let SandboxErrorKind::Died(death) = &error.kind else { panic!("{error}") };
    assert_eq!(death.exit_code, 78, "{error}");
    assert!(death.last_lines.iter().any(|line| line.contains("nonsense")), "{error}");
    eprintln!("said after {:?}: {error}", clock.monotonic().saturating_sub(began));
}

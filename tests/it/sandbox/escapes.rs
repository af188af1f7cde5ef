//! Every guard on: each escape is refused. Each guard off in turn: its rows turn red.
//!
//! Guards that do not cover each other's rows are taken off together, so that few containers are started; what no
//! OpenClaw is needed for is tried in containers without one.

use std::collections::BTreeSet;

use sentrix::sandbox::selftest::{Ask, Probe, Row, Verdict};
use sentrix::sandbox::{ContainerSpec, Guard, Inside};
use serde_json::json;

use super::stand_in::{self, ALLOWED, Mood};
use super::{Box_, engine};

fn red(rows: &[Row]) -> BTreeSet<&str> {
    rows.iter().filter(|row| row.is_red()).map(|row| row.id.as_str()).collect()
}

fn show(what: &str, rows: &[Row]) {
    eprintln!("== {what}");
    for row in rows {
        eprintln!("{row}");
    }
}

async fn inside(it: &Box_, image: &str, without: &[Guard], mood: Mood, bomb: bool) -> Vec<Row> {
    let _seen = stand_in::open(&it.layout.door_socket(), mood);
    let spec = ContainerSpec {
        inside: Inside::Relays,
        without: without.iter().copied().collect(),
        ..ContainerSpec::new(image)
    };
    it.layout.write_config(&json!({}), &it.owner).unwrap();
    it.up(&spec).await;
    it.relays().await;
    let ask = Ask { allowed: Some((ALLOWED.0.into(), ALLOWED.1)), bomb, ..Ask::of(&spec) };
    let rows = it.engine.self_test_inside(&it.name, &ask).await.unwrap();
    show(&format!("without {without:?}"), &rows);
    rows
}

#[tokio::test]
async fn every_escape_of_a_program_is_refused_and_the_door_sees_those_that_come_to_it() {
    let Some((engine, image)) = engine().await else { return };
    let it = Box_::new(engine, "safe");
    let seen = stand_in::open(&it.layout.door_socket(), Mood::Strict);
    let spec = ContainerSpec { inside: Inside::Relays, ..ContainerSpec::new(image) };
    it.layout.write_config(&json!({}), &it.owner).unwrap();
    it.up(&spec).await;
    it.relays().await;
    let ask = Ask { allowed: Some((ALLOWED.0.into(), ALLOWED.1)), bomb: true, ..Ask::of(&spec) };
    let rows = it.engine.self_test_inside(&it.name, &ask).await.unwrap();
    show("all guards", &rows);
    assert!(rows.len() >= 50);
    let not: Vec<&Row> = rows.iter().filter(|row| !matches!(row.verdict, Verdict::Refused { .. })).collect();
    assert!(not.is_empty(), "{not:#?}");
    let seen = seen.lock().unwrap();
    for wanted in ["CONNECT 1.1.1.1:443", "CONNECT 169.254.169.254:80", "GET http://sentrix-selftest"] {
        assert!(
            seen.iter().any(|(head, allowed)| head.starts_with(wanted) && !allowed),
            "{wanted}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_guard_that_is_off_turns_its_rows_red() {
    let Some((engine, image)) = engine().await else { return };
    // Guards that are off; rows that must turn red; whether a real fork bomb is thrown. What a kernel can be built without
    // (modules, kexec, userfaultfd, io_uring) is not among them.
    let table: &[(&str, &[Guard], &[&str], bool)] = &[
        ("calls", &[Guard::Seccomp], &["seccomp-off", "ptrace", "keyctl", "unshare"], false),
        ("nnp", &[Guard::NoNewPrivileges], &["setuid", "new-privileges"], false),
        (
            "caps",
            &[Guard::Capabilities, Guard::Seccomp, Guard::User],
            &[
                "capabilities",
                "root",
                "mount",
                "raw-socket",
                "packet-socket",
                "device-node",
                "chroot",
                "bpf",
                "perf",
                "setns",
                "peek",
                "handle",
            ],
            false,
        ),
        (
            "rest",
            &[
                Guard::ReadOnlyRoot,
                Guard::ConfigReadOnly,
                Guard::Tmpfs,
                Guard::FileSize,
                Guard::Pids,
                Guard::NoNetwork,
                Guard::Mounts,
            ],
            &[
                "root-write",
                "config-write",
                "disk-fill",
                "tmp-exec",
                "file-size",
                "fork-bomb",
                "host-ports",
                "udp",
                "interfaces",
                "engine-socket",
                "secrets-write",
            ],
            true,
        ),
        (
            "kernel",
            &[Guard::Kernel, Guard::User, Guard::Seccomp, Guard::Capabilities],
            &["proc-1", "devices", "kernel-files", "kernel-memory"],
            false,
        ),
    ];
    for (name, without, wanted, bomb) in table {
        let it = Box_::new(engine.clone(), name);
        let rows = inside(&it, &image, without, Mood::Strict, *bomb).await;
        let red = red(&rows);
        let missing: Vec<&&str> = wanted.iter().filter(|id| !red.contains(**id)).collect();
        assert!(missing.is_empty(), "without {without:?} these stay green: {missing:?}");
        // Doors are none of these guards' business.
        assert!(!red.iter().any(|id| id.starts_with("door-") && *id != "door-replace"), "{red:?}");
    }
    let it = Box_::new(engine, "door");
    let rows = inside(&it, &image, &[], Mood::Permissive, false).await;
    let door = rows.iter().filter(|row| row.guard == Guard::Door).map(|row| row.id.as_str()).collect();
    assert_eq!(red(&rows), door);
}

#[tokio::test]
async fn an_agent_is_refused_through_its_tools_and_the_gateway_wants_its_token() {
    let Some((engine, image)) = engine().await else { return };
    let it = Box_::new(engine, "tools");
    it.configure(|_| {});
    let seen = stand_in::open(&it.layout.door_socket(), Mood::Strict);
    let spec = ContainerSpec::new(image);
    it.up(&spec).await;
    let ask = Ask { allowed: Some((ALLOWED.0.into(), ALLOWED.1)), ..Ask::of(&spec) };
    let clock = sentrix::clock::system();
    // As `run` does it: programs while OpenClaw loads, the agent's turn once it is ready.
    let (rows, ready) = tokio::join!(it.engine.self_test_inside(&it.name, &ask), it.ready());
    let began = clock.monotonic();
    let mut all = rows.unwrap();
    let token = it.layout.token().unwrap();
    all.extend(it.engine.self_test_tools(&it.layout, &token, &ask, &Probe::new()).await.unwrap());
    let after = clock.monotonic().saturating_sub(began);
    show(&format!("all guards, OpenClaw ready after {ready:?}, self-test {after:?} more"), &all);
    let report = sentrix::sandbox::selftest::Report::new(all, after, &clock);
    assert_eq!(report.refused(), report.rows.len(), "{}", report.summary());
    assert!(report.rows.len() >= 65);
    it.layout.write_self_test(&report).unwrap();
    assert_eq!(it.layout.self_test().unwrap(), report);
    // Nothing of it stays behind.
    let list = sentrix::sandbox::Exec::new(["ls", "-A", "/home/node/.openclaw/workspace"]);
    let left = it.engine.exec(&it.name, &list).await.unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    assert!(!left.contains("selftest"), "{left}");
    assert!(seen.lock().unwrap().iter().all(|(head, allowed)| !allowed || head.contains(ALLOWED.0)));
    // The bomb and the filling did not hurt it.
    assert!(it.engine.is_ready(&it.layout).await);
    let status = it.engine.status(&it.name).await.unwrap();
    assert_eq!((status.restarts, status.out_of_memory), (0, false));
}

#[tokio::test]
async fn a_policy_that_is_off_turns_its_rows_red() {
    let Some((engine, image)) = engine().await else { return };
    let it = Box_::new(engine, "open");
    it.configure(|config| {
        config["tools"] = json!({"elevated": {"enabled": false}, "toolSearch": false});
        config["gateway"]["bind"] = "lan".into();
    });
    let spec =
        ContainerSpec { without: [Guard::ConfigReadOnly].into_iter().collect(), ..ContainerSpec::new(image) };
    let _seen = stand_in::open(&it.layout.door_socket(), Mood::Strict);
    it.up(&spec).await;
    it.ready().await;
    let ask = Ask::of(&spec);
    let token = it.layout.token().unwrap();
    let rows = it.engine.self_test_tools(&it.layout, &token, &ask, &Probe::new()).await.unwrap();
    show("no policy for tools, gateway on all interfaces", &rows);
    let red = red(&rows);
    for id in [
        "tool-exec",
        "tool-passwd",
        "tool-config-read",
        "tool-secret",
        "tool-traversal",
        "tool-secret-link",
        "tool-outside",
        "tool-tmp",
        "tool-raw",
        "tool-control",
        "tool-gateway",
        "gateway-interface",
    ] {
        assert!(red.contains(id), "{id} stays green: {red:?}");
    }
    assert!(!red.contains("gateway-no-token"));
}

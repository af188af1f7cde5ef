//! Verbs about sandboxes from the outside: what a user reads, exit codes, what is left on disk.

use std::os::unix::fs::PermissionsExt;

use sentrix::sandbox::{ContainerSpec, Inside};
use serde_json::json;

use super::stand_in::{self, Mood};
use super::{Box_, engine};
use crate::world::World;

fn world() -> World {
    let world = World::new();
    let state = world.root().join("state");
    world.with_env("XDG_STATE_HOME", state.to_str().unwrap())
}

#[test]
fn without_an_engine_each_verb_says_what_was_tried_and_what_to_do() {
    let none = world().with_env("DOCKER_HOST", "unix:///nonexistent");
    for line in ["build", "stop", "stop --all", "pause", "resume", "doctor"] {
        let ran = none.run(line.split(' '));
        let (code, said) = if line == "doctor" { (1, ran.stdout.clone()) } else { (3, ran.stderr.clone()) };
        for part in
            ["tried unix:///nonexistent (DOCKER_HOST): no such socket", "what to do: DOCKER_HOST names no"]
        {
            assert!(said.contains(part), "{line}: {said}");
        }
        ran.exits(code);
    }
    let json = none.run(["doctor", "--format", "json"]).exits(1).json();
    assert_eq!((&json["ok"], &json["checks"][0]["health"]), (&json!(false), &json!("bad")));
    assert!(json["checks"][0]["advice"].as_str().unwrap().contains("unset"), "{json}");

    // A socket that is there and has nobody behind it; one of another machine.
    let dead = none.root().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let dead = world().with_env("DOCKER_HOST", &format!("unix://{}", dead.display()));
    let said = dead.run(["stop"]).exits(3).stderr;
    assert!(said.contains("nobody listens") && said.contains("systemctl start docker"), "{said}");
    let far = world().with_env("DOCKER_HOST", "tcp://192.0.2.1:2375");
    let said = far.run(["stop"]).exits(3).stderr;
    assert!(said.contains("must be on this machine") && said.contains("unset it"), "{said}");
}

#[test]
fn bad_names_are_refused_before_anything_is_asked() {
    let none = world().with_env("DOCKER_HOST", "unix:///nonexistent");
    for verb in ["stop", "pause", "resume", "run"] {
        for name in ["../x", "a b", "A", "-x", "", "0123456789012345678901234567890123"] {
            let ran = none.run([verb, &format!("--name={name}")]);
            assert!(
                ran.stderr.contains("1 to 32 lower-case letters, digits and hyphens"),
                "{verb} {name}: {ran:?}"
            );
            ran.exits(2);
        }
    }
    let both = none.run(["stop", "--all", "--name", "x"]).exits(2);
    assert!(both.stderr.contains("--all"), "{both:?}");
}

#[tokio::test]
async fn bad_options_of_a_build_are_said_with_what_they_take() {
    if engine().await.is_none() {
        return;
    }
    let world = world();
    std::fs::write(world.root().join("no.pem"), "nothing").unwrap();
    for (line, said) in [
        ("--ca-bundle gone.pem", "the bundle gone.pem: it cannot be read: No such file"),
        ("--ca-bundle no.pem", "no certificate in it"),
        ("--ca-bundle .", "it is no file"),
        ("--channel matrix", "it takes brave,discord,signal,slack,whatsapp"),
        ("--channel telegram", "OpenClaw has it without that"),
        ("--openclaw-version 1;x", "no version of npm"),
        ("--image UPPER", "lower-case letters"),
        ("--image a@b", "lower-case letters"),
        ("--base-image=--x", "no name of an image"),
    ] {
        let ran = world.run(["build"].into_iter().chain(line.split(' ')));
        assert!(ran.stderr.contains(said), "{line}: {ran:?}");
        ran.exits(2);
    }
}

#[tokio::test]
async fn a_sandbox_is_looked_at_frozen_with_its_evidence_released_and_stopped() {
    let Some((engine, image)) = engine().await else { return };
    let it = Box_::new(engine, "verbs");
    let _seen = stand_in::open(&it.layout.door_socket(), Mood::Strict);
    it.layout.write_config(&json!({}), &it.owner).unwrap();
    it.up(&ContainerSpec { inside: Inside::Relays, ..ContainerSpec::new(image) }).await;
    it.relays().await;
    std::fs::write(it.layout.home_dir().join("note"), "what it did").unwrap();
    let world = world();
    let name = it.name.to_string();
    let run = |line: &str| world.run(line.split(' ').chain(["--name", &name]));

    let doctor = world.run(["doctor"]).exits(1).stdout;
    assert!(doctor.contains(&format!("{name} is running")), "{doctor}");
    assert!(doctor.contains("OpenClaw does not answer"), "{doctor}");

    assert_eq!(run("resume").exits(0).stdout, format!("{name} was not frozen: running\n"));
    assert!(!it.layout.evidence_dir().exists());
    let paused = run("pause").exits(0).stdout;
    assert!(
        paused.starts_with(&format!("{name} is frozen; `sentrix resume` lets it go on\nevidence: ")),
        "{paused}"
    );
    // Once more at once: the first copy stays as it is.
    let again = run("pause --format json").exits(0).json();
    assert_eq!(
        (&again["state"], again["evidence"]["left_out"].as_array().unwrap().len()),
        (&json!("paused"), 0)
    );
    let mut copies: Vec<_> =
        std::fs::read_dir(it.layout.evidence_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    copies.sort();
    assert_eq!(copies.len(), 2, "{copies:?}");
    for copy in &copies {
        assert_eq!(std::fs::metadata(copy).unwrap().permissions().mode() & 0o7777, 0o600);
        let mut tar = tar::Archive::new(std::fs::File::open(copy).unwrap());
        let names: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(names.iter().any(|name| name == "home/note"), "{names:?}");
    }
    assert!(world.run(["doctor"]).stdout.contains(&format!("{name} is paused")));
    assert_eq!(run("resume").exits(0).stdout, format!("{name} goes on\n"));

    let stopped = run("stop").exits(0).stdout;
    assert!(
        stopped.starts_with(&format!("stopped {name}: removed container {}", it.name.container())),
        "{stopped}"
    );
    assert!(it.layout.home_dir().join("note").exists() && !it.layout.secrets_dir().exists());
    // What was copied as evidence outlives the sandbox.
    assert!(copies.iter().all(|copy| copy.exists()));
    let gone = run("stop").exits(0);
    assert_eq!((&gone.stdout, &gone.stderr), (&format!("There is no sandbox {name}.\n"), &String::new()));
    let gone = run("pause").exits(2);
    assert!(gone.stderr.contains(&format!("there is no sandbox {name}")), "{gone:?}");
}

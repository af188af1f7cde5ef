//! `sentrix patrol --watch`: what is appended is seen, and Ctrl+C ends it in order.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::world::{World, end, token};

fn watch(world: &World) -> Child {
    world
        .command(["patrol", "--watch", "--interval", "1", "--format", "json", "--log-dir", "logs"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn append(world: &World, text: &str) {
    let mut file =
        OpenOptions::new().create(true).append(true).open(world.logs().join("live.jsonl")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn what_is_appended_is_flagged_and_an_interrupt_ends_it_in_order() {
    let world = World::new();
    append(&world, &format!("{}\n", end("run-a", 1_000, "all is well")));
    let mut child = watch(&world);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!((&first["sweeps"][0]["reviewed"], &first["flags"]), (&json!(1), &json!([])));

    // Half a line is not seen; once its rest has come, it is.
    let line = end("run-b", 2_000, &format!("the token is {}", token(1))).to_string();
    let (head, rest) = line.split_at(60);
    append(&world, head);
    append(&world, &format!("{rest}\n"));
    let second = loop {
        let report = next();
        if report["flags"].as_array().is_some_and(|flags| !flags.is_empty()) {
            break report;
        }
    };
    assert_eq!(second["flags"][0]["turn_ids"], json!(["run-b_2000"]));
    assert_eq!(second["cases"].as_array().unwrap().len(), 1);

    // Lists work beside it; a second patrol does not.
    world.sentrix("police --flags").exits(0);
    world.sentrix("graph runs").exits(0);
    world.sentrix("patrol --once").exits(3);

    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let status = world.status();
    assert_eq!((&status["turns"]["seen"], &status["turns"]["pending"]), (&json!(2), &json!(0)));
}

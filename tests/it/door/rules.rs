//! Rules that change while the door is open, and the verb that changes them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sentrix::door::{Reason, Verdict};
use sentrix::store::egress::EgressStore;
use sentrix::supervise::{Shutdown, TaskKind};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::desk::{Desk, http, limits, policy};

const WEB: &str = "[[allow]]\nhost = \"web.example\"\nport = 80\n";

async fn get(client: &mut super::desk::Client) -> bool {
    client.write(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    let good = client.head().await.starts_with("HTTP/1.1 200");
    good && client.0.read_exact(&mut [0; 2]).await.is_ok()
}

#[tokio::test]
async fn a_change_closes_what_it_denies_and_nothing_else() {
    let both =
        "[[allow]]\nhost = \"web.example\"\nport = 80\n[[allow]]\nhost = \"other.example\"\nport = 80\n";
    let desk = Desk::with(both, sentrix::door::Limits { header_time: Duration::from_secs(20), ..limits() });
    let (address, _) = http().await;
    desk.world.server("web.example", 80, address);
    desk.world.server("other.example", 80, address);
    let mut stays = desk.tunnel("web.example:80").await;
    assert!(get(&mut stays).await);
    let mut goes = desk.tunnel("other.example:80").await;
    goes.write(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert!(goes.head().await.starts_with("HTTP/1.1 200"));
    desk.door.reload(policy(WEB));
    goes.rest_bytes().await;
    assert!(get(&mut stays).await, "what is still allowed goes on");
    let answer = desk.say("CONNECT other.example:80 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("not_allowed"), "{answer}");
    let events = desk.events(2).await;
    let gone = events.iter().find(|event| event.host == "other.example").unwrap();
    assert_eq!((gone.verdict, gone.reason), (Verdict::Denied, Some(Reason::Revoked)));
}

#[tokio::test]
async fn a_rule_that_ends_closes_its_connections() {
    let until = jiff::Timestamp::now() + Duration::from_millis(1_500);
    let desk = Desk::with(
        &format!("{WEB}until = {until}\n"),
        sentrix::door::Limits { header_time: Duration::from_secs(20), ..limits() },
    );
    desk.world.server("web.example", 80, http().await.0);
    let mut client = desk.tunnel("web.example:80").await;
    assert!(get(&mut client).await);
    client.rest_bytes().await;
    assert_eq!(desk.reason().await, (Verdict::Denied, Some(Reason::Revoked)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_change_under_load() {
    let desk = Arc::new(Desk::with(
        WEB,
        sentrix::door::Limits { burst: 100_000, new_per_second: 100_000, ..limits() },
    ));
    desk.world.server("web.example", 80, http().await.0);
    let shutdown = Shutdown::new();
    let (good, bad) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for _ in 0..20 {
        let (desk, good, bad) = (Arc::clone(&desk), Arc::clone(&good), Arc::clone(&bad));
        shutdown.spawn("client", TaskKind::Optional, async move {
            loop {
                let mut client = desk.client().await;
                client.write(b"CONNECT web.example:80 HTTP/1.1\r\n\r\n").await;
                let is_open = client.head().await.starts_with("HTTP/1.1 200") && get(&mut client).await;
                (if is_open { &good } else { &bad }).fetch_add(1, Ordering::Relaxed);
            }
            #[expect(unreachable_code, reason = "the type of the loop's errors")]
            Ok::<(), std::convert::Infallible>(())
        });
    }
    for round in 0..60 {
        desk.door.reload(policy(if round % 2 == 0 { "" } else { WEB }));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    desk.door.reload(policy(""));
    // What was opened under the old rules is gone, and nothing new comes.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = good.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(good.load(Ordering::Relaxed), before);
    assert!(before > 20 && bad.load(Ordering::Relaxed) > 20, "{before} {bad:?}");
    shutdown.abort().cancel();
}

#[tokio::test]
async fn the_file_is_followed_and_a_bad_one_changes_nothing() {
    let desk = Desk::new("");
    desk.world.server("web.example", 80, http().await.0);
    let file = desk.folder.path().join("egress.toml");
    desk.door.watch(&file, Vec::new());
    let answer = async || desk.say("CONNECT web.example:80 HTTP/1.1\r\n\r\n").await;
    assert!(answer().await.contains("not_allowed"));
    fs::write(&file, WEB).unwrap();
    for _ in 0..300 {
        if desk.door.policy().allowing().len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(desk.tunnel("web.example:80").await);
    for bad in ["[[allow]]\nhost = \"127.0.0.1\"\n", "nonsense", "\u{0}"] {
        fs::write(&file, bad).unwrap();
        let fault = desk.door.refresh().unwrap();
        assert!(fault.contains("egress.toml:"), "{fault}");
        assert_eq!(desk.door.counters().rules_fault, Some(fault));
        drop(desk.tunnel("web.example:80").await);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(desk.door.refresh(), None);
    assert!(answer().await.contains("not_allowed"));
}

fn sentrix(home: &Path, args: &[&str]) -> (i32, String, String) {
    let output = assert_cmd::Command::cargo_bin("sentrix")
        .unwrap()
        .current_dir(home)
        .env_clear()
        .env("HOME", home)
        .env("XDG_STATE_HOME", home.join("state"))
        .args(args)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn rules_are_written_and_listed_without_a_run() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (code, out, err) = sentrix(home, &["egress", "list"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("nowhere yet"), "{out}");
    let (code, out, err) =
        sentrix(home, &["egress", "allow", "API.search.example", "--why", "search", "--for", "1h"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("api.search.example:443 allowed until") && out.contains("from the next start"),
        "{out}"
    );
    let file = home.join("agent_logs/egress.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("host = \"api.search.example\"\nport = 443\nwhy = \"search\"\nuntil = "), "{text}");
    fs::write(&file, format!("# mine\n{text}# end\n")).unwrap();
    let (code, _, err) = sentrix(home, &["egress", "allow", "*.wide.example"]);
    assert_eq!(code, 0);
    assert!(err.contains("carry data out"), "{err}");
    let (_, out, _) = sentrix(home, &["egress", "deny", "api.search.example"]);
    assert!(out.contains("denied"), "{out}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# mine\n") && text.contains("# end\n"), "{text}");
    assert!(
        text.contains("[[deny]]\nhost = \"api.search.example\"\n") && !text.contains("why = \"search\""),
        "{text}"
    );
    for bad in ["10.0.0.1", "https://a.example", "a.example:0", "*.com", "host.sentrix.internal", "nas"] {
        let (code, _, err) = sentrix(home, &["egress", "allow", bad]);
        assert_eq!(code, 2, "{bad}: {err}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "{bad}");
    }
    assert_eq!(sentrix(home, &["egress", "allow", "nas", "--private"]).0, 0);
    fs::write(&file, "[[allow]]\nhost = \"1.2.3.4\"\n").unwrap();
    for args in [&["egress", "list"][..], &["egress", "allow", "a.example"]] {
        let (code, _, err) = sentrix(home, args);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("egress.toml:2:8") && err.contains("addresses are never allowed"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applied_is_said_after_a_probe_went_through() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_owned();
    let store = EgressStore::open(&home.join("agent_logs/egress.db"), "main").unwrap();
    let desk = Desk::with_sink("", limits(), Arc::default(), Arc::new(store));
    desk.world.server("web.example", 80, http().await.0);
    desk.world.server("web.example", 443, http().await.0);
    desk.door.watch(&home.join("agent_logs/egress.toml"), Vec::new());
    // What another name tried, as the self-test, is not among what this sandbox wanted.
    desk.say("CONNECT self-test.example:443 HTTP/1.1\r\n\r\n").await;
    desk.door.name_events("main");
    let answer = desk.say("CONNECT web.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("not_allowed"), "{answer}");
    desk.say("CONNECT \u{1b}[31mx.example:443 HTTP/1.1\r\n\r\n").await;
    desk.say("CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n").await;
    let sandbox = home.join("state/sentrix/main");
    fs::create_dir_all(&sandbox).unwrap();
    let listener = UnixListener::bind(sandbox.join("control.sock")).unwrap();
    let door = desk.door.clone();
    let shutdown = Shutdown::new();
    shutdown.spawn("control", TaskKind::Optional, async move {
        loop {
            let (stream, _) = listener.accept().await?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let asked: Value = serde_json::from_str(&line)?;
            assert_eq!(asked["cmd"], "egress.probe");
            let port = u16::try_from(asked["port"].as_u64().unwrap()).unwrap();
            let probe = door.probe(asked["host"].as_str().unwrap(), port).await.unwrap();
            stream.write_all(format!("{}\n", json!({ "probe": probe })).as_bytes()).await?;
        }
        #[expect(unreachable_code, reason = "the type of the loop's errors")]
        Ok::<(), std::io::Error>(())
    });
    let run = async |args: &'static [&'static str]| {
        let home = home.clone();
        tokio::task::spawn_blocking(move || sentrix(&home, args)).await.unwrap()
    };
    for _ in 0..100 {
        if desk.door.counters().recorded >= 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (code, out, err) = run(&["egress", "list", "--format", "json"]).await;
    assert_eq!(code, 0, "{err}");
    let list: Value = serde_json::from_str(&out).unwrap();
    let of = |host: &str| {
        list["destinations"].as_array().unwrap().iter().find(|row| row["host"] == host).unwrap().clone()
    };
    assert_eq!(of("web.example")["allow_with"], "sentrix egress allow web.example");
    assert_eq!(of("web.example")["last_reason"], "not_allowed");
    let rows = list["destinations"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["host"] != "self-test.example"), "{rows:?}");
    assert_eq!(of("10.0.0.1:443")["allow_with"], Value::Null);
    let (_, out, _) = run(&["egress", "list"]).await;
    assert!(out.contains("sentrix egress allow web.example") && !out.contains('\u{1b}'), "{out}");
    let (code, out, err) = run(&["egress", "allow", "web.example"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Applied: a probe went through the door and reached web.example:443."), "{out}");
    drop(desk.tunnel("web.example:443").await);
    let (_, out, _) = run(&["egress", "allow", "gone.example:8443"]).await;
    assert!(
        out.contains("Applied: the door lets it through, but gone.example:8443 does not answer"),
        "{out}"
    );
    let (_, out, _) = run(&["egress", "deny", "web.example"]).await;
    assert!(out.contains("Applied: a probe of web.example:443 was refused."), "{out}");
    let answer = desk.say("CONNECT web.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("denied_by_rule"), "{answer}");
    let (_, out, _) = run(&["egress", "list", "--denied"]).await;
    assert!(out.contains("web.example") && out.contains("[[deny]]") || out.contains("deny"), "{out}");
    shutdown.abort().cancel();
}

//! The way out of a sandbox, over real sockets.

mod desk;
mod limits;
mod rules;
mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use desk::{Desk, PUBLIC, echo, http, server};
use sentrix::door::{Method, Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HTTP_RULES: &str = "[[allow]]\nhost = \"web.example\"\nport = 80\n";

fn denied(reason: Reason) -> (Verdict, Option<Reason>) {
    (Verdict::Denied, Some(reason))
}

#[tokio::test]
async fn a_connect_that_is_not_allowed_is_told_why() {
    let rules = "[[deny]]\nhost = \"bad.example\"\n[[allow]]\nhost = \"*.wide.example\"\n";
    for (target, reason) in [
        ("other.example:443", Reason::NotAllowed),
        ("model.example:80", Reason::NotAllowed),
        ("model.example.:8443", Reason::NotAllowed),
        ("wide.example:443", Reason::NotAllowed),
        ("bad.example:443", Reason::DeniedByRule),
        ("127.0.0.1:443", Reason::IpLiteral),
        ("2130706433:443", Reason::IpLiteral),
        ("0x7f000001:443", Reason::IpLiteral),
        ("0177.0.0.1:443", Reason::IpLiteral),
        ("127.1:443", Reason::IpLiteral),
        ("93.184.216.34:443", Reason::IpLiteral),
        ("[::1]:443", Reason::IpLiteral),
        ("[::ffff:169.254.169.254]:80", Reason::IpLiteral),
        ("host.sentrix.internal:22", Reason::NotAllowed),
        ("a_very-.example:443", Reason::BadName),
        ("model.example:0", Reason::BadRequest),
        ("user@model.example:443", Reason::BadRequest),
    ] {
        let desk = Desk::new(rules);
        let answer = desk.say(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert!(answer.contains(&format!("\"reason\":\"{}\"", reason.word())), "{target}: {answer}");
        assert!(answer.contains("This is a policy decision: do not try another way."), "{answer}");
        let status = if reason == Reason::BadRequest { "400" } else { "403" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
        assert_eq!(desk.reason().await, denied(reason), "{target}");
        assert_eq!(desk.world.lookups.load(Ordering::SeqCst), 0, "{target}: a denied name is not resolved");
    }
}

#[tokio::test]
async fn a_denial_names_the_rule_that_would_allow_it() {
    let desk = Desk::new("");
    let answer = desk.say("CONNECT other.example:8443 HTTP/1.1\r\n\r\n").await;
    assert!(
        answer.contains("\"a_person_can_allow_it_with\":\"sentrix egress allow other.example:8443\""),
        "{answer}"
    );
    let answer = desk.say("CONNECT 10.0.0.1:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("\"a_person_can_allow_it_with\":null"), "{answer}");
    let events = desk.events(2).await;
    assert!(events[0].first_seen && events[0].host == "other.example" && events[0].port == 8_443);
    desk.say("CONNECT other.example:8443 HTTP/1.1\r\n\r\n").await;
    assert!(!desk.events(3).await[2].first_seen);
}

#[tokio::test]
async fn requests_that_no_proxy_takes_are_refused() {
    for (text, status, reason) in [
        ("GET / HTTP/1.1\r\nHost: model.example\r\n\r\n", "400", Reason::BadRequest),
        ("GET https://model.example/ HTTP/1.1\r\nHost: model.example\r\n\r\n", "400", Reason::BadRequest),
        ("GET ftp://model.example/ HTTP/1.1\r\nHost: model.example\r\n\r\n", "400", Reason::BadRequest),
        (
            "CONNECT model.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n",
            "403",
            Reason::HostMismatch,
        ),
        (
            "CONNECT model.example:443 HTTP/1.1\r\nHost: model.example\r\nHost: model.example\r\n\r\n",
            "403",
            Reason::HostMismatch,
        ),
        ("CONNECT model.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "400", Reason::BadRequest),
        ("GET http://web.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n", "403", Reason::HostMismatch),
        (
            "GET http://web.example@evil.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n",
            "400",
            Reason::BadRequest,
        ),
        (
            "GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
            "403",
            Reason::IpLiteral,
        ),
        ("nonsense\r\n\r\n", "400", Reason::BadRequest),
        ("\u{16}\u{3}\u{1}\u{2}", "400", Reason::BadRequest),
    ] {
        let desk = Desk::new(HTTP_RULES);
        let answer = desk.say(text).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{text}: {answer}");
        assert_eq!(desk.reason().await, denied(reason), "{text}");
        assert!(desk.world.connects.lock().unwrap().is_empty(), "{text}");
    }
}

#[tokio::test]
async fn a_plain_request_is_written_anew() {
    let (address, got) = http().await;
    let desk = Desk::new(HTTP_RULES);
    desk.world.server("web.example", 80, address);
    let answer = desk
        .say(
            "GET http://WEB.example/path?q=1 HTTP/1.1\r\nHost: web.example\r\nProxy-Authorization: Basic eA==\r\n\
             Proxy-Connection: keep-alive\r\nConnection: close, x-private\r\nX-Private: 1\r\nTE: trailers\r\nX-Kept: 2\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!answer.to_lowercase().contains("keep-alive"), "{answer}");
    let got = String::from_utf8(got.lock().unwrap().clone()).unwrap().to_lowercase();
    assert!(got.starts_with("get /path?q=1 http/1.1\r\n"), "{got}");
    assert!(got.contains("host: web.example\r\n") && got.contains("x-kept: 2"), "{got}");
    for gone in ["proxy-", "x-private", "te:", "connection"] {
        assert!(!got.contains(gone), "{gone}: {got}");
    }
    let events = desk.events(1).await;
    assert_eq!(
        (events[0].method, events[0].verdict, events[0].reason),
        (Method::Http, Verdict::Allowed, None)
    );
    assert_eq!(events[0].address, Some(PUBLIC.parse().unwrap()));
    assert!(events[0].bytes_up > 50 && events[0].bytes_down > 50, "{:?}", events[0]);
}

#[tokio::test]
async fn nothing_is_smuggled_between_two_lengths() {
    let (address, got) = http().await;
    let desk = Desk::new(HTTP_RULES);
    desk.world.server("web.example", 80, address);
    let answer = desk
        .say(
            "POST http://web.example/ HTTP/1.1\r\nHost: web.example\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        )
        .await;
    let got = String::from_utf8(got.lock().unwrap().clone()).unwrap();
    assert!(!got.contains("smuggled") && !got.contains("evil"), "{got} / {answer}");
    assert!(!(got.to_lowercase().contains("content-length") && got.contains("chunked")), "{got}");
    for bad in [
        "Transfer-Encoding: gzip, chunked, identity",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: +1",
    ] {
        let answer = desk
            .say(&format!("POST http://web.example/ HTTP/1.1\r\nHost: web.example\r\n{bad}\r\n\r\nx"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{bad}: {answer}");
    }
}

#[tokio::test]
async fn every_request_in_a_tunnel_names_its_host() {
    let (address, got) = http().await;
    let desk = Desk::new(HTTP_RULES);
    desk.world.server("web.example", 80, address);
    let mut client = desk.tunnel("web.example:80").await;
    for uri in ["/first", "http://web.example/second"] {
        client.write(format!("GET {uri} HTTP/1.1\r\nHost: web.example\r\n\r\n").as_bytes()).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut body = [0; 2];
        client.0.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"ok");
    }
    client.write(b"GET /third HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("host_mismatch"), "{answer}");
    let got = String::from_utf8(got.lock().unwrap().clone()).unwrap();
    assert!(got.contains("/first") && got.contains("GET /second") && !got.contains("third"), "{got}");
    let events = desk.events(2).await;
    let refused = events.iter().find(|event| event.verdict == Verdict::Denied).unwrap();
    assert_eq!((refused.reason, refused.host.as_str()), (Some(Reason::HostMismatch), "evil.example"));
    assert!(events.iter().any(|event| event.verdict == Verdict::Allowed && event.method == Method::Connect));
}

#[tokio::test]
async fn a_tunnel_inside_a_tunnel_is_refused() {
    let address = echo().await;
    let desk = Desk::new(HTTP_RULES);
    desk.world.server("web.example", 80, address);
    for inner in ["CONNECT evil.example:443", "CONNECT web.example:80"] {
        let mut client = desk.tunnel("web.example:80").await;
        client.write(format!("{inner} HTTP/1.1\r\nHost: web.example:80\r\n\r\n").as_bytes()).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("nested_connect"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_ends_the_tunnel() {
    for (bytes, reason) in [
        (&b"SSH-2.0-OpenSSH_9\r\n"[..], Reason::UnknownProtocol),
        (b"\x80\x2e\x01\x00\x02", Reason::UnknownProtocol),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::UnknownProtocol),
        (b"\x16\x02\x00\x00\x05hello", Reason::UnknownProtocol),
        (b"\x05\x01\x00", Reason::UnknownProtocol),
        (b"GET", Reason::HelloTimeout),
        (b"", Reason::HelloTimeout),
    ] {
        let reached = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&reached);
        let address = server(move |mut stream: TcpStream| {
            let count = Arc::clone(&count);
            async move {
                let mut room = [0; 64];
                while let Ok(more @ 1..) = stream.read(&mut room).await {
                    count.fetch_add(more, Ordering::SeqCst);
                }
            }
        })
        .await;
        let desk = Desk::new("");
        desk.world.server("model.example", 443, address);
        let mut client = desk.tunnel("model.example:443").await;
        client.write(bytes).await;
        assert_eq!(client.rest_bytes().await, b"", "{bytes:?}");
        assert_eq!(desk.reason().await, denied(reason), "{bytes:?}");
        assert_eq!(reached.load(Ordering::SeqCst), 0, "nothing of it reaches the destination");
    }
}

#[tokio::test]
async fn websocket_goes_through_and_other_protocols_do_not() {
    let address = server(async |mut stream: TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let answer = if head.contains("upgrade: websocket") || head.contains("/unasked") {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        drop(tokio::io::copy(&mut read, &mut write).await);
    })
    .await;
    let desk = Desk::new(HTTP_RULES);
    desk.world.server("web.example", 80, address);
    let ask = |uri: &str, upgrade: &str| {
        format!(
            "GET {uri} HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        )
    };
    for through_tunnel in [true, false] {
        let mut client =
            if through_tunnel { desk.tunnel("web.example:80").await } else { desk.client().await };
        let uri = if through_tunnel { "/" } else { "http://web.example/" };
        client.write(ask(uri, "websocket").as_bytes()).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        client.write(b"\x81\x05hello").await;
        let mut back = [0; 7];
        client.0.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"\x81\x05hello");
    }
    let mut client = desk.tunnel("web.example:80").await;
    client.write(ask("/", "h2c").as_bytes()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"), "the change is not even asked for");
    let answer = desk.say("GET http://web.example/unasked HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    assert!(answer.contains("\"reason\":\"upgrade\""), "{answer}");
}

#[tokio::test]
async fn names_are_resolved_once_and_go_where_was_looked() {
    let desk = Desk::new("");
    let address = echo().await;
    desk.world.server("model.example", 443, address);
    // A name that leads to the public first and to the inside afterwards.
    desk.world.name("model.example", &[&[PUBLIC], &["127.0.0.1"]]);
    drop(desk.tunnel("model.example:443").await);
    assert_eq!(desk.world.lookups.load(Ordering::SeqCst), 1);
    assert_eq!(*desk.world.connects.lock().unwrap(), [format!("{PUBLIC}:443").parse().unwrap()]);
    let answer = desk.say("CONNECT model.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("private_address"), "{answer}");
    assert_eq!(desk.world.connects.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn addresses_of_the_inside_are_refused_after_resolution() {
    for address in [
        "127.0.0.1",
        "10.1.2.3",
        "172.20.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "fe80::1",
        "fd00::1",
        "168.63.129.16",
    ] {
        let desk = Desk::new("");
        desk.world.name("model.example", &[&[address]]);
        let answer = desk.say("CONNECT model.example:443 HTTP/1.1\r\n\r\n").await;
        assert!(answer.contains("\"reason\":\"private_address\""), "{address}: {answer}");
        assert_eq!(desk.reason().await, denied(Reason::PrivateAddress), "{address}");
        assert!(desk.world.connects.lock().unwrap().is_empty());
    }
    // Of several, only those of the outside are tried.
    let desk = Desk::new("");
    desk.world.server("model.example", 443, echo().await);
    desk.world.name("model.example", &[&["10.0.0.1", PUBLIC, "127.0.0.1"]]);
    drop(desk.tunnel("model.example:443").await);
    assert_eq!(desk.world.connects.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_private_rule_reaches_a_private_machine_and_no_more() {
    let rules = "[[allow]]\nhost = \"nas\"\nport = 5000\nprivate = true\n";
    let desk = Desk::new(rules);
    desk.world.name("nas", &[&["192.168.1.9"]]);
    desk.world.place("192.168.1.9", 5000, echo().await);
    drop(desk.tunnel("nas:5000").await);
    for address in ["127.0.0.1", "169.254.169.254", "::ffff:192.168.1.9", "fe80::1"] {
        desk.world.name("nas", &[&[address]]);
        let answer = desk.say("CONNECT nas:5000 HTTP/1.1\r\n\r\n").await;
        assert!(answer.contains("private_address"), "{address}: {answer}");
    }
}

#[tokio::test]
async fn this_machine_is_reached_by_its_own_name_and_port_alone() {
    let (address, _) = http().await;
    let port = address.port();
    let desk = Desk::new(&format!("[[allow]]\nhost = \"host.sentrix.internal\"\nport = {port}\n"));
    let mut client = desk.tunnel(&format!("host.sentrix.internal:{port}")).await;
    client.write(format!("GET / HTTP/1.1\r\nHost: host.sentrix.internal:{port}\r\n\r\n").as_bytes()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(desk.world.lookups.load(Ordering::SeqCst), 0, "the name is never asked for");
    let answer = desk.say(&format!("CONNECT host.sentrix.internal:{} HTTP/1.1\r\n\r\n", port ^ 1)).await;
    assert!(answer.contains("not_allowed"), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_apart_from_what_is_denied() {
    let desk = Desk::new("");
    let say = async || desk.say("CONNECT model.example:443 HTTP/1.1\r\n\r\n").await;
    let answer = say().await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("unresolved"), "{answer}");
    assert!(!answer.contains("policy decision"), "{answer}");
    desk.world.name("model.example", &[&[PUBLIC]]);
    assert!(say().await.contains("unreachable"));
    desk.world.name("model.example", &[&[]]);
    assert!(say().await.contains("did not answer in time"));
    let counters = desk.door.counters();
    assert_eq!((counters.failed, counters.denied, counters.allowed), (3, 0, 0), "{counters:?}");
}

#[tokio::test]
async fn the_door_closes_with_its_last_copy() {
    let desk = Desk::new("");
    desk.world.server("model.example", 443, echo().await);
    let mut client = desk.tunnel("model.example:443").await;
    let path = desk.folder.path().join("door.sock");
    assert!(path.exists());
    drop(desk.door);
    assert_eq!(client.rest_bytes().await, b"");
    for _ in 0..100 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the socket is still there");
}

#[tokio::test]
async fn a_door_that_finishes_has_told_everything() {
    let desk = Desk::new("");
    desk.world.server("model.example", 443, echo().await);
    let mut client = desk.tunnel("model.example:443").await;
    for n in 0..50 {
        desk.say(&format!("CONNECT n{n}.example:443 HTTP/1.1\r\n\r\n")).await;
    }
    assert!(desk.door.finish(std::time::Duration::from_secs(5)).await);
    let events = desk.sink.events();
    assert_eq!(events.len(), 51);
    let last = events.iter().find(|event| event.host == "model.example").unwrap();
    assert_eq!((last.verdict, last.reason), (Verdict::Allowed, Some(Reason::Closing)));
    assert_eq!(client.rest_bytes().await, b"");
}

#[tokio::test]
async fn what_a_client_leaves_behind_ends_with_it() {
    let ended = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let address = server(move |mut stream: TcpStream| {
        let count = Arc::clone(&count);
        async move {
            let mut room = [0; 1_024];
            // A server that never answers.
            while let Ok(1..) = stream.read(&mut room).await {}
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let desk = Desk::new(HTTP_RULES);
    desk.world.server("web.example", 80, address);
    for through_tunnel in [true, false] {
        let mut client =
            if through_tunnel { desk.tunnel("web.example:80").await } else { desk.client().await };
        let uri = if through_tunnel { "/" } else { "http://web.example/" };
        client.write(format!("GET {uri} HTTP/1.1\r\nHost: web.example\r\n\r\n").as_bytes()).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    desk.events(2).await;
    for _ in 0..200 {
        if ended.load(Ordering::SeqCst) == 2 && desk.door.counters().open == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", desk.door.counters());
}

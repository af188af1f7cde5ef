//! What a client may make grow, and where it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use sentrix::door::{EgressEvent, Limits, MemorySink, Reason, Sink, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::denied;
use super::desk::{Desk, echo, limits, server};

const ECHO: &str = "[[allow]]\nhost = \"web.example\"\nport = 80\n";

/// A server that takes all and says nothing.
async fn silent() -> std::net::SocketAddr {
    server(async |mut stream: tokio::net::TcpStream| {
        let mut room = [0; 8_192];
        while let Ok(1..) = stream.read(&mut room).await {}
    })
    .await
}

#[tokio::test]
async fn a_header_that_comes_drop_by_drop_has_its_time() {
    let desk = Desk::new("");
    let mut client = desk.client().await;
    client.write(b"CONNECT model.example:443 HTTP/1.1\r\n").await;
    for _ in 0..60 {
        if client.0.write_all(b"X: y\r\n").await.is_err() || !desk.sink.events().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(desk.reason().await, denied(Reason::HelloTimeout));
}

#[tokio::test]
async fn a_header_bomb_is_refused() {
    let huge = format!("CONNECT model.example:443 HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("CONNECT model.example:443 HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    let long = format!("GET http://model.example/{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for text in [huge, many, long] {
        let desk = Desk::new("");
        let answer = desk.say(&text).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        let (verdict, reason) = desk.reason().await;
        assert_eq!(verdict, Verdict::Denied);
        assert!(matches!(reason, Some(Reason::HeaderTooLarge | Reason::BadRequest)), "{reason:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once() {
    let desk = Desk::with(
        ECHO,
        Limits {
            connections: 1_024,
            new_per_second: 10_000,
            burst: 10_000,
            hello_time: Duration::from_secs(6),
            ..Limits::default()
        },
    );
    desk.world.server("web.example", 80, super::desk::http().await.0);
    let clients = join_all((0..1_000).map(|_| desk.client())).await;
    let all = clients.into_iter().map(|mut client| async move {
        client.write(b"CONNECT web.example:80 HTTP/1.1\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        client.write(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
        client
    });
    let mut held = join_all(all).await;
    assert_eq!(desk.door.counters().open, 1_000);
    let refused = join_all((0..100).map(|_| desk.say("CONNECT web.example:80 HTTP/1.1\r\n\r\n"))).await;
    let too_many = refused.iter().filter(|answer| answer.contains("too_many_connections")).count();
    assert!(too_many >= 76, "{too_many}");
    for client in &mut held {
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
    }
    drop(held);
    let events = desk.events(1_000 + too_many).await;
    assert!(events.iter().filter(|event| event.bytes_down > 0).count() >= 1_000);
    for _ in 0..200 {
        if desk.door.counters().open == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", desk.door.counters());
}

#[tokio::test]
async fn too_many_new_connections_are_told_to_slow_down() {
    let desk = Desk::with("", Limits { new_per_second: 1, burst: 5, ..limits() });
    let answers = join_all((0..20).map(|_| desk.say("CONNECT a.example:443 HTTP/1.1\r\n\r\n"))).await;
    let slow = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 429")).count();
    assert!((13..=15).contains(&slow), "{slow}");
}

#[tokio::test]
async fn uploads_end_at_their_limits() {
    for (own, hour, reason) in [(50_000, 1 << 30, Reason::UploadLimit), (1 << 30, 50_000, Reason::TotalLimit)]
    {
        let limits = Limits { upload_bytes: own, upload_bytes_per_hour: hour, ..limits() };
        let desk = Desk::with(ECHO, limits);
        desk.world.server("web.example", 80, silent().await);
        let mut client = desk.tunnel("web.example:80").await;
        let head = b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 10000000\r\n\r\n";
        client.write(head).await;
        let piece = [b'x'; 8_192];
        let mut sent = 0;
        while sent < 10_000_000 && client.0.write_all(&piece).await.is_ok() {
            sent += piece.len();
            if !desk.sink.events().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let events = desk.events(1).await;
        assert_eq!((events[0].verdict, events[0].reason), denied(reason));
        assert!(events[0].bytes_up <= 50_000, "{}", events[0].bytes_up);
    }
}

#[tokio::test]
async fn what_is_idle_is_closed() {
    let desk = Desk::with(ECHO, Limits { idle_time: Duration::from_millis(700), ..limits() });
    desk.world.server("web.example", 80, silent().await);
    let mut client = desk.tunnel("web.example:80").await;
    client.write(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").await;
    client.rest_bytes().await;
    assert_eq!(desk.reason().await, (Verdict::Allowed, Some(Reason::Idle)));
}

/// A sink that fails until it is told otherwise.
#[derive(Debug, Default)]
struct Stuck {
    free: AtomicBool,
    held: Arc<MemorySink>,
}

impl Sink for Stuck {
    fn record(&self, events: &[EgressEvent], lost: u64) -> Result<(), String> {
        if !self.free.load(Ordering::SeqCst) {
            return Err("disk full".into());
        }
        self.held.record(events, lost)
    }
}

#[tokio::test]
async fn nothing_goes_out_unrecorded() {
    let stuck = Arc::new(Stuck::default());
    let limits =
        Limits { waiting_events: 4, connections: 4, record_time: Duration::from_millis(200), ..limits() };
    let desk = Desk::with_sink("", limits, Arc::clone(&stuck.held), Arc::clone(&stuck) as Arc<dyn Sink>);
    desk.world.server("model.example", 443, echo().await);
    // Denials fill the queue; those beyond it are counted.
    for n in 0..600 {
        desk.say(&format!("CONNECT n{n}.example:443 HTTP/1.1\r\n\r\n")).await;
        let counters = desk.door.counters();
        if counters.lost > 20 && counters.record_fault.is_some() {
            break;
        }
    }
    let counters = desk.door.counters();
    assert!(counters.lost > 20 && counters.record_fault.as_deref() == Some("disk full"), "{counters:?}");
    let answer = desk.say("CONNECT model.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("recorder_stuck"), "{answer}");
    assert_eq!(desk.world.lookups.load(Ordering::SeqCst), 0);
    stuck.free.store(true, Ordering::SeqCst);
    for _ in 0..300 {
        if desk.door.counters().record_fault.is_none() && desk.sink.lost() > 20 {
            drop(desk.tunnel("model.example:443").await);
            return;
        }
        desk.say("CONNECT n.example:443 HTTP/1.1\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} {}", desk.door.counters(), desk.sink.lost());
}

#[tokio::test]
async fn garbage_is_survived() {
    let desk = Desk::new("");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..200 {
        let words = next() % 75;
        let bytes: Vec<u8> = (0..words).flat_map(|_| next().to_le_bytes()).collect();
        let mut client = desk.client().await;
        client.write(&bytes).await;
        drop(client.0.shutdown().await);
        client.rest_bytes().await;
    }
    desk.world.server("model.example", 443, echo().await);
    drop(desk.tunnel("model.example:443").await);
    assert_eq!(desk.door.counters().connections, 201);
}

//! `cargo bench --bench door -- --json [CASE …]`: what the door adds to a connection, one JSON line a case.
//!
//! A connection counts from its beginning to the first byte of the destination's answer: direct it is TCP and a TLS client's
//! first message; through the door it is the Unix socket, CONNECT, the rules, the resolver (scripted, at once), the same TCP, the
//! same message looked at, and the event in a store on disk. Direct and door take turns, so that both have the same machine.
#![expect(clippy::print_stdout, reason = "this is what a bench prints")]

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sentrix::clock::{self, Clock as _, SystemClock};
use sentrix::door::{Destination, Door, DoorListener, Fittings, Host, Limits, Outside, Policy, Rules};
use sentrix::store::egress::EgressStore;
use sentrix::supervise::{Shutdown, TaskKind};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CASES: [&str; 3] = ["tls", "http", "throughput"];
const ROUNDS: usize = 4_000;
const WARM_UP: usize = 200;
/// Bytes of `throughput`.
const MANY: usize = 1 << 30;
const HOST: &str = "model.example";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: model.example:443\r\n\r\n";

/// Every name is at one public address, and that is a server here.
#[derive(Debug)]
struct Here(SocketAddr);

impl Outside for Here {
    fn resolve<'a>(&'a self, _: &'a Host) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34))]) })
    }

    fn connect(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }

    fn connect_host(&self, _: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// A server that answers what comes, and sends without end to who asks for it with `M`.
async fn serve(shutdown: &Shutdown) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let spawner = shutdown.clone();
    shutdown.spawn("server", TaskKind::Optional, async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawner.spawn("stream", TaskKind::Optional, async move {
                stream.set_nodelay(true)?;
                let mut room = vec![0; 64 << 10];
                let mut is_first = true;
                loop {
                    let count = stream.read(&mut room).await?;
                    match (count, room.first()) {
                        (0, _) => return Ok::<(), io::Error>(()),
                        (_, Some(b'G')) => {
                            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
                        }
                        _ if is_first => stream.write_all(b"\x16").await?,
                        _ => {
                            let piece = vec![7; 64 << 10];
                            for _ in 0..MANY / piece.len() {
                                stream.write_all(&piece).await?;
                            }
                        }
                    }
                    is_first = false;
                }
            });
        }
        Ok::<(), io::Error>(())
    });
    Ok(address)
}

/// The first message of a real client.
fn hello() -> Outcome<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), HOST.try_into()?)?;
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes)?;
    Ok(bytes)
}

fn open(dir: &Path, server: SocketAddr, shutdown: &Shutdown) -> Outcome<Door> {
    let needed = [Destination { host: HOST.into(), port: 443, why: "bench".into(), private: false }];
    let policy = Policy::new(&needed, &Rules::default()).map_err(|faults| format!("{faults:?}"))?;
    let fittings = Fittings {
        sandbox: "bench".into(),
        policy,
        limits: Limits { new_per_second: 1_000_000, burst: 1_000_000, ..Limits::default() },
        outside: Arc::new(Here(server)),
        sink: Arc::new(EgressStore::open(&dir.join("egress.db"), "bench")?),
        clock: clock::system(),
        shutdown: shutdown.clone(),
    };
    Ok(Door::open(DoorListener::unix(&dir.join("door.sock"))?, fittings)?)
}

async fn tunnel(dir: &Path) -> Outcome<UnixStream> {
    let mut stream = UnixStream::connect(dir.join("door.sock")).await?;
    stream.write_all(b"CONNECT model.example:443 HTTP/1.1\r\nHost: model.example:443\r\n\r\n").await?;
    let mut held = Vec::new();
    let mut room = [0; 512];
    while !held.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut room).await?;
        if count == 0 {
            return Err(format!("no tunnel: {}", String::from_utf8_lossy(&held)).into());
        }
        held.extend_from_slice(room.get(..count).unwrap_or_default());
    }
    Ok(stream)
}

async fn through(dir: &Path, message: &[u8]) -> Outcome<()> {
    let mut stream = tunnel(dir).await?;
    stream.write_all(message).await?;
    stream.read_u8().await?;
    Ok(())
}

async fn direct(server: SocketAddr, message: &[u8]) -> Outcome<()> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    stream.write_all(message).await?;
    stream.read_u8().await?;
    Ok(())
}

/// Microseconds at a share of sorted times.
fn at(times: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let index = (times.len() as f64 * share) as usize;
    times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e6).round()
}

async fn connections(name: &str, message: &[u8], dir: &Path) -> Outcome<()> {
    let shutdown = Shutdown::new();
    let server = serve(&shutdown).await?;
    let door = open(dir, server, &shutdown)?;
    let mut both: [Vec<Duration>; 2] = Default::default();
    let clock = SystemClock::default();
    for round in 0..WARM_UP + ROUNDS {
        for (which, times) in both.iter_mut().enumerate() {
            let begun = clock.monotonic();
            if which == 0 {
                direct(server, message).await?;
            } else {
                through(dir, message).await?;
            }
            let took = clock.monotonic().saturating_sub(begun);
            if round >= WARM_UP {
                times.push(took);
            }
        }
    }
    for times in &mut both {
        times.sort_unstable();
    }
    let [straight, door_times] = &both;
    let added = |share| at(door_times, share) - at(straight, share);
    println!(
        "{}",
        json!({ "case": name, "n": ROUNDS, "direct_us": { "median": at(straight, 0.5), "p99": at(straight, 0.99) },
            "door_us": { "median": at(door_times, 0.5), "p99": at(door_times, 0.99) },
            "added_us": { "median": added(0.5), "p99": added(0.99) }, "denied": door.counters().denied })
    );
    Ok(())
}

async fn drain(stream: &mut (impl AsyncReadExt + Unpin)) -> Outcome<f64> {
    let clock = SystemClock::default();
    let mut room = vec![0; 64 << 10];
    let mut left = MANY;
    while left > 0 {
        let count = stream.read(&mut room).await?;
        if count == 0 {
            return Err("the stream ended early".into());
        }
        left = left.saturating_sub(count);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = MANY as f64 / 1e6 / clock.monotonic().as_secs_f64();
    Ok(rate.round())
}

async fn throughput(dir: &Path) -> Outcome<()> {
    let shutdown = Shutdown::new();
    let server = serve(&shutdown).await?;
    let _door = open(dir, server, &shutdown)?;
    let hello = hello()?;
    let mut straight = TcpStream::connect(server).await?;
    straight.write_all(&hello).await?;
    straight.read_u8().await?;
    straight.write_all(b"M").await?;
    let direct = drain(&mut straight).await?;
    drop(straight);
    let mut stream = tunnel(dir).await?;
    stream.write_all(&hello).await?;
    stream.read_u8().await?;
    stream.write_all(b"M").await?;
    let door = drain(&mut stream).await?;
    println!("{}", json!({ "case": "throughput", "bytes": MANY, "direct_mb_s": direct, "door_mb_s": door }));
    Ok(())
}

fn main() -> Outcome<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let all = if wanted.is_empty() { CASES.map(str::to_owned).to_vec() } else { wanted };
    for name in all {
        let dir = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        match name.as_str() {
            "tls" => runtime.block_on(connections("tls", &hello()?, dir.path()))?,
            "http" => runtime.block_on(connections("http", GET, dir.path()))?,
            "throughput" => runtime.block_on(throughput(dir.path()))?,
            other => return Err(format!("no case {other}; there are {CASES:?}").into()),
        }
    }
    Ok(())
}

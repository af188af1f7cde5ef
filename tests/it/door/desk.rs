//! A door between a scripted world and clients that write bytes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sentrix::clock;
use sentrix::door::{
    Destination, Door, DoorAddress, DoorListener, EgressEvent, Fittings, Host, Limits, MemorySink, Outside,
    Policy, Reason, Sink, Verdict, file,
};
use sentrix::supervise::Shutdown;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

/// A public address that nobody is asked for.
pub(super) const PUBLIC: &str = "93.184.216.34";

/// The world beyond the door, as a test wants it.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Answers for a name, one a lookup; the last one stays.
    names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    /// Where an address really leads.
    places: Mutex<HashMap<SocketAddr, SocketAddr>>,
    pub(super) lookups: AtomicUsize,
    pub(super) connects: Mutex<Vec<SocketAddr>>,
}

impl Script {
    pub(super) fn name(&self, host: &str, answers: &[&[&str]]) {
        let parse = |one: &&[&str]| one.iter().map(|address| address.parse().unwrap()).collect();
        self.names.lock().unwrap().insert(host.into(), answers.iter().map(parse).collect());
    }

    pub(super) fn place(&self, address: &str, port: u16, real: SocketAddr) {
        self.places.lock().unwrap().insert(SocketAddr::new(address.parse().unwrap(), port), real);
    }

    /// A name at the public address, whose port leads to a server here.
    pub(super) fn server(&self, host: &str, port: u16, real: SocketAddr) {
        self.name(host, &[&[PUBLIC]]);
        self.place(PUBLIC, port, real);
    }
}

impl Outside for Script {
    fn resolve<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut names = self.names.lock().unwrap();
        let answer = names
            .get_mut(host.as_str())
            .map(|answers| if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() });
        Box::pin(async move {
            match answer {
                // A resolver that never answers.
                Some(answer) if answer.is_empty() => std::future::pending().await,
                Some(answer) => Ok(answer),
                None => Err(io::Error::other("no such name")),
            }
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.connects.lock().unwrap().push(address);
        let real = self.places.lock().unwrap().get(&address).copied();
        Box::pin(async move { TcpStream::connect(real.ok_or(io::ErrorKind::ConnectionRefused)?).await })
    }

    fn connect_host(&self, port: u16) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(("127.0.0.1", port)))
    }
}

pub(super) struct Desk {
    pub(super) door: Door,
    pub(super) world: Arc<Script>,
    pub(super) sink: Arc<MemorySink>,
    pub(super) folder: TempDir,
}

/// Short waits, so that a test does not wait long.
pub(super) fn limits() -> Limits {
    let short = Duration::from_millis(400);
    Limits {
        header_time: short,
        hello_time: short,
        resolve_time: short,
        connect_time: short,
        ..Limits::default()
    }
}

pub(super) fn policy(rules: &str) -> Policy {
    let needed =
        [Destination { host: "model.example".into(), port: 443, why: "model".into(), private: false }];
    Policy::new(&needed, &file::parse("egress.toml", rules).unwrap()).unwrap()
}

impl Desk {
    pub(super) fn new(rules: &str) -> Self {
        Self::with(rules, limits())
    }

    pub(super) fn with(rules: &str, limits: Limits) -> Self {
        let sink = Arc::new(MemorySink::default());
        Self::with_sink(rules, limits, Arc::clone(&sink), sink)
    }

    pub(super) fn with_sink(rules: &str, limits: Limits, sink: Arc<MemorySink>, used: Arc<dyn Sink>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Arc::new(Script::default());
        let fittings = Fittings {
            sandbox: "test".into(),
            policy: policy(rules),
            limits,
            outside: Arc::clone(&world) as _,
            sink: used,
            clock: clock::system(),
            shutdown: Shutdown::new(),
        };
        let listener = DoorListener::unix(&folder.path().join("door.sock")).unwrap();
        let door = Door::open(listener, fittings).unwrap();
        Self { door, world, sink, folder }
    }

    pub(super) async fn client(&self) -> Client {
        let DoorAddress::Unix(path) = self.door.address() else { panic!("a Unix socket") };
        Client(UnixStream::connect(path).await.unwrap())
    }

    /// Says a text and gives all that comes back until the end.
    pub(super) async fn say(&self, text: &str) -> String {
        let mut client = self.client().await;
        client.write(text.as_bytes()).await;
        client.rest().await
    }

    /// A tunnel to a target that is let through.
    pub(super) async fn tunnel(&self, target: &str) -> Client {
        let mut client = self.client().await;
        client.write(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        client
    }

    /// The events, when there are so many.
    pub(super) async fn events(&self, number: usize) -> Vec<EgressEvent> {
        for _ in 0..500 {
            let events = self.sink.events();
            if events.len() >= number {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{number} events wanted: {:#?}", self.sink.events());
    }

    /// The reason of the only event.
    pub(super) async fn reason(&self) -> (Verdict, Option<Reason>) {
        let events = self.events(1).await;
        assert_eq!(events.len(), 1, "{events:#?}");
        (events[0].verdict, events[0].reason)
    }
}

pub(super) struct Client(pub(super) UnixStream);

impl Client {
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        // A door that has closed already is what some tests want.
        drop(self.0.write_all(bytes).await);
    }

    /// What comes until the end of a header.
    pub(super) async fn head(&mut self) -> String {
        let mut held = Vec::new();
        while !held.ends_with(b"\r\n\r\n") {
            let byte = timeout(Duration::from_secs(5), self.0.read_u8()).await.expect("an answer in time");
            let Ok(byte) = byte else { break };
            held.push(byte);
        }
        String::from_utf8_lossy(&held).into_owned()
    }

    /// What comes until the end.
    pub(super) async fn rest_bytes(&mut self) -> Vec<u8> {
        let mut held = Vec::new();
        let mut room = [0; 4_096];
        loop {
            match timeout(Duration::from_secs(10), self.0.read(&mut room)).await.expect("an end in time") {
                Ok(0) | Err(_) => return held,
                Ok(count) => held.extend_from_slice(&room[..count]),
            }
        }
    }

    pub(super) async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&self.rest_bytes().await).into_owned()
    }
}

/// A server that answers each connection by `act`.
pub(super) async fn server<F, Fut>(act: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let spawner = shutdown.clone();
    shutdown.spawn("server", sentrix::supervise::TaskKind::Optional, async move {
        loop {
            let (stream, _) = listener.accept().await?;
            let work = act(stream);
            spawner.spawn("stream", sentrix::supervise::TaskKind::Optional, async move {
                work.await;
                Ok::<(), io::Error>(())
            });
        }
        #[expect(unreachable_code, reason = "the type of the loop's errors")]
        Ok::<(), io::Error>(())
    });
    address
}

/// A server that sends back what it gets.
pub(super) async fn echo() -> SocketAddr {
    server(async |mut stream: TcpStream| {
        let (mut read, mut write) = stream.split();
        drop(tokio::io::copy(&mut read, &mut write).await);
    })
    .await
}

/// A server of HTTP that keeps connections open, remembers what it got, and answers `ok`.
pub(super) async fn http() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&got);
    let address = server(move |mut stream: TcpStream| {
        let held = Arc::clone(&held);
        async move {
            let mut room = [0; 8_192];
            let mut seen = Vec::new();
            while let Ok(count @ 1..) = stream.read(&mut room).await {
                held.lock().unwrap().extend_from_slice(&room[..count]);
                seen.extend_from_slice(&room[..count]);
                // A request without a body ends here; a chunked one with its last chunk.
                let text = String::from_utf8_lossy(&seen).into_owned();
                let chunked = text.contains("transfer-encoding");
                if (chunked && text.ends_with("0\r\n\r\n")) || (!chunked && text.ends_with("\r\n\r\n")) {
                    seen.clear();
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\n\r\nok";
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await;
    (address, got)
}

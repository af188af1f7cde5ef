//! A gateway that does what a test tells it, over a Unix socket.

use std::path::PathBuf;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::gateway::{Address, Connect};

/// One recorded frame.
pub(super) fn recorded(case: &str) -> Vec<Value> {
    let lines = include_str!("frames.jsonl").lines();
    let all = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let frames: Vec<Value> =
        all.filter(|line| line["case"] == case).map(|line| line["frame"].clone()).collect();
    assert!(!frames.is_empty(), "{case}");
    frames
}

pub(super) struct Server {
    listener: UnixListener,
    pub(super) path: PathBuf,
    _dir: TempDir,
}

impl Server {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        Self { listener: UnixListener::bind(&path).unwrap(), path, _dir: dir }
    }

    pub(super) fn connect(&self) -> Connect {
        Connect::new(Address::Socket(self.path.clone()), "sentrix-secret-token".into())
    }

    pub(super) async fn accept(&self) -> Line {
        let (stream, _) = self.listener.accept().await.unwrap();
        Line(tokio_tungstenite::accept_async(stream).await.unwrap())
    }

    /// Takes a connection through the handshake; `change` may spoil the answer.
    pub(super) async fn greet(&self, change: impl Fn(&mut Value)) -> Line {
        let mut line = self.accept().await;
        let frames = recorded("ok");
        line.say(&frames[0]).await;
        let request = line.hear().await.unwrap();
        let mut hello = frames[1].clone();
        hello["id"] = request["id"].clone();
        hello["payload"]["auth"]["scopes"] = request["params"]["scopes"].clone();
        change(&mut hello);
        line.say(&hello).await;
        line
    }
}

pub(super) struct Line(pub(super) WebSocketStream<UnixStream>);

impl Line {
    pub(super) async fn say(&mut self, frame: &Value) {
        self.text(frame.to_string()).await;
    }

    pub(super) async fn text(&mut self, text: String) {
        // A client that has heard enough hangs up.
        drop(self.0.send(Message::text(text)).await);
    }

    pub(super) async fn hear(&mut self) -> Option<Value> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(super) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        drop(self.0.close(Some(frame)).await);
        while self.hear().await.is_some() {}
    }
}

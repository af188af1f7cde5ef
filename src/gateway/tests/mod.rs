use std::time::Duration;

use serde_json::{Value, json};
use tokio::join;

use self::server::{Server, recorded};
use super::*;
use crate::clock;
use crate::openclaw::gateway::{MAX_PAYLOAD, Scope};

mod server;

const SOON: Duration = Duration::from_secs(5);

/// What a recorded handshake comes to.
async fn refused(case: &str) -> GatewayError {
    let server = Server::new();
    let connect = server.connect();
    let (result, ()) = join!(Client::connect(&connect, clock::system()), async {
        let mut line = server.accept().await;
        let frames = recorded(case);
        line.say(&frames[0]).await;
        let request = line.hear().await.unwrap();
        let mut answer = frames[1].clone();
        if case == "version" {
            answer["error"]["details"]["expectedProtocol"] = json!(5);
        }
        answer["id"] = request["id"].clone();
        line.say(&answer).await;
        line.close(1008, "no").await;
    });
    result.unwrap_err()
}

#[tokio::test]
async fn recorded_refusals_are_told_with_the_way_out() {
    let mut said = String::new();
    for case in ["version", "token", "device", "pairing", "scopes"] {
        let error = refused(case).await;
        let words = error.kind.to_string();
        assert!(!error.to_string().contains("secret-token"));
        crate::text::push(&mut said, format_args!("{case}: {words}\n    {}\n", error.help().unwrap()));
    }
    insta::assert_snapshot!(said, @r"
    version: it speaks protocol 5, and this Sentrix speaks protocol 4
        use a newer Sentrix, or an OpenClaw of this one (`sentrix build` makes an image with it)
    token: the gateway's token is missing, or another one
        give the token of this gateway: `gateway.auth.token` of its openclaw.json, in the file of --token-file
    device: the gateway's token is missing, or another one
        give the token of this gateway: `gateway.auth.token` of its openclaw.json, in the file of --token-file
    pairing: this device is not approved yet (request 115d3f86-a2a4-42a5-a3ac-517c28bc0851)
        where OpenClaw runs, approve it and try again: openclaw devices approve 115d3f86-a2a4-42a5-a3ac-517c28bc0851
    scopes: the connection lacks operator.read
        connect from the gateway's own loopback, or with a device that was approved for these scopes
    ");
}

#[tokio::test]
async fn the_connect_request_is_that_of_the_recordings() {
    let server = Server::new();
    let dir = tempfile::tempdir().unwrap();
    let mut connect = server.connect();
    connect.scopes = vec![Scope::Read, Scope::Write];
    connect.caps = vec![crate::openclaw::gateway::CAP_TOOL_EVENTS];
    connect.device = Some(DeviceKey::open_or_create(&dir.path().join("key")).unwrap());
    let (connected, request) = join!(Client::connect(&connect, clock::system()), async {
        let mut line = server.accept().await;
        line.say(&recorded("ok")[0]).await;
        let request = line.hear().await.unwrap();
        line.close(1012, "service \u{1b}[2J restart").await;
        request
    });
    let ended = connected.unwrap_err();
    let GatewayErrorKind::Closed(ending) = ended.kind else { panic!("{ended}") };
    assert_eq!((ending.code, ending.reason.as_str()), (Some(1012), "service \\u{1b}[2J restart"));
    assert_eq!(request["type"], "req");
    let params = &request["params"];
    assert_eq!((&params["minProtocol"], &params["maxProtocol"]), (&json!(4), &json!(4)));
    assert_eq!(params["scopes"], json!(["operator.read", "operator.write"]));
    assert_eq!(params["auth"]["token"], "sentrix-secret-token");
    assert_eq!(params["device"]["nonce"], recorded("ok")[0]["payload"]["nonce"]);
    assert_eq!(params["device"]["id"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn events_come_in_order_and_answers_to_whom_they_belong() {
    let server = Server::new();
    let connect = server.connect();
    let (connected, mut line) = join!(Client::connect(&connect, clock::system()), server.greet(|_| ()));
    let (client, mut events) = connected.unwrap();
    assert_eq!(client.hello().server.version, "2026.9.6");
    let frames = recorded("events");
    let (one, two, ()) = join!(
        client.call("sessions.list", json!({}), SOON),
        client.call("status", json!({ "deep": true }), SOON),
        async {
            let first = line.hear().await.unwrap();
            let second = line.hear().await.unwrap();
            for frame in &frames {
                line.say(frame).await;
            }
            for request in [second, first] {
                let payload = json!({ "of": request["method"] });
                line.say(&json!({"type":"res","id":request["id"],"ok":true,"payload":payload})).await;
            }
        }
    );
    assert_eq!(one.unwrap()["of"], "sessions.list");
    assert_eq!(two.unwrap()["of"], "status");
    line.close(1001, "").await;
    let mut seen = 0;
    let mut last = frames[0]["seq"].as_u64().unwrap() - 1;
    while let Some(event) = events.next().await {
        match event {
            Event::Frame(frame) => {
                let sent = &frames[seen];
                assert_eq!((&json!(frame.name), &frame.payload), (&sent["event"], &sent["payload"]));
                last = frame.seq.unwrap();
                seen += 1;
            }
            Event::Gap { dropped } => {
                assert_eq!(last + dropped + 1, frames[seen]["seq"].as_u64().unwrap());
            }
        }
    }
    assert_eq!(seen, frames.len());
    assert_eq!(client.ended().unwrap().code, Some(1001));
    let late = client.call("status", json!({}), SOON).await.unwrap_err();
    assert!(matches!(late.kind, GatewayErrorKind::Closed(ending) if ending.code == Some(1001)));
}

#[tokio::test]
async fn a_refused_method_and_a_missing_scope_are_told_apart() {
    let server = Server::new();
    let connect = server.connect();
    let (connected, mut line) = join!(Client::connect(&connect, clock::system()), server.greet(|_| ()));
    let (client, _events) = connected.unwrap();
    let (refused, scope, ()) =
        join!(client.call("no.such", json!({}), SOON), client.call("chat.send", json!({}), SOON), async {
            for error in [
                json!({"code":"INVALID_REQUEST","message":"unknown method: \u{1b}[31mno.such"}),
                json!({"code":"FORBIDDEN","message":"missing scope: operator.write",
                    "details":{"code":"MISSING_SCOPE","missingScope":"operator.write"}}),
            ] {
                let request = line.hear().await.unwrap();
                line.say(&json!({"type":"res","id":request["id"],"ok":false,"error":error})).await;
            }
        });
    let refused = refused.unwrap_err().kind.to_string();
    assert_eq!(refused, "`no.such` was refused: unknown method: \\u{1b}[31mno.such (INVALID_REQUEST)");
    assert!(matches!(scope.unwrap_err().kind,
        GatewayErrorKind::Scopes { missing } if missing == [Scope::Write]));
    let late = client.call("status", json!({}), Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(late.kind, GatewayErrorKind::Timeout { .. }));
    client.close();
    assert_eq!(line.hear().await.unwrap()["method"], "status");
    assert_eq!(line.hear().await, None);
}

#[tokio::test]
async fn a_gateway_that_falls_silent_is_gone() {
    let server = Server::new();
    let connect = server.connect();
    let quick = |hello: &mut Value| hello["payload"]["policy"]["tickIntervalMs"] = json!(50);
    let (connected, mut line) = join!(Client::connect(&connect, clock::system()), server.greet(quick));
    let (client, mut events) = connected.unwrap();
    line.say(&json!({"type":"event","event":"tick","seq":1})).await;
    assert!(matches!(events.next().await, Some(Event::Frame(_))));
    assert_eq!(events.next().await, None);
    assert!(client.ended().unwrap().reason.starts_with("no sign of life"));
}

/// What a connection makes of one frame after the handshake.
async fn after(text: String) -> Ending {
    let server = Server::new();
    let connect = server.connect();
    let (connected, mut line) = join!(Client::connect(&connect, clock::system()), server.greet(|_| ()));
    let (client, mut events) = connected.unwrap();
    let ((), ()) = join!(async { while events.next().await.is_some() {} }, async {
        line.text(text).await;
        while line.hear().await.is_some() {}
    });
    client.ended().unwrap()
}

#[tokio::test]
async fn what_is_no_frame_or_too_large_ends_the_connection() {
    assert!(after("{".into()).await.reason.starts_with("a frame that cannot be read"));
    assert!(after(format!("{{\"type\":\"event\",\"payload\":{}", "[".repeat(1 << 20))).await.code.is_none());
    let large = format!("{{\"type\":\"event\",\"event\":\"x\",\"payload\":\"{}\"}}", "x".repeat(MAX_PAYLOAD));
    assert_eq!(after(large).await.reason, format!("a message of more than {MAX_PAYLOAD} bytes"));
    let crowded = format!("{{\"type\":\"event\",\"event\":\"x\",\"payload\":[0{}]}}", ",0".repeat(2 << 20));
    assert!(after(crowded).await.reason.contains("values"));
}

#[tokio::test]
async fn what_is_no_gateway_is_told_in_time() {
    let server = Server::new();
    let mut connect = server.connect();
    connect.limit = Duration::from_millis(50);
    let silent = Client::connect(&connect, clock::system()).await.unwrap_err();
    assert!(matches!(silent.kind, GatewayErrorKind::Timeout { .. }) && silent.may_pass());
    connect.address = Address::Socket("/none/gateway.sock".into());
    let none = Client::connect(&connect, clock::system()).await.unwrap_err();
    assert_eq!(none.help().unwrap(), "is the sandbox running? `sentrix run` starts it");

    let server = Server::new();
    let connect = server.connect();
    let other = |hello: &mut Value| hello["payload"]["protocol"] = json!(5);
    let (connected, _) = join!(Client::connect(&connect, clock::system()), server.greet(other));
    assert!(matches!(connected.unwrap_err().kind, GatewayErrorKind::Version { theirs: Some(5) }));
}

//! TLS through the door: a real client and a real server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sentrix::door::{Found, Reason, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::denied;
use super::desk::{Desk, server};

/// An echo over TLS for these names, and its certificate.
async fn tls_echo(names: &[&str]) -> (SocketAddr, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let own = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = own.cert.der().clone();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = server(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let (mut read, mut write) = tokio::io::split(stream);
            drop(tokio::io::copy(&mut read, &mut write).await);
        }
    })
    .await;
    (address, certificate)
}

fn connector(certificate: CertificateDer<'static>, sni: bool) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = sni;
    TlsConnector::from(Arc::new(config))
}

/// The first message of a client that asks for a name.
async fn hello(certificate: CertificateDer<'static>, name: &'static str, sni: bool) -> Vec<u8> {
    let (near, mut far): (DuplexStream, DuplexStream) = tokio::io::duplex(16 << 10);
    let connector = connector(certificate, sni);
    let connect = connector.connect(ServerName::try_from(name).unwrap(), near);
    let mut room = vec![0; 16 << 10];
    let read = async {
        let count = far.read(&mut room).await.unwrap();
        room.truncate(count);
        drop(far);
    };
    let (_, ()) = tokio::join!(connect, read);
    room
}

#[tokio::test]
async fn tls_for_the_target_goes_through() {
    let (address, certificate) = tls_echo(&["model.example"]).await;
    let desk = Desk::new("");
    desk.world.server("model.example", 443, address);
    let client = desk.tunnel("Model.Example.:443").await;
    let name = ServerName::try_from("model.example").unwrap();
    let mut stream = connector(certificate, true).connect(name, client.0).await.unwrap();
    let long: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut back = vec![0; long.len()];
    let (sent, got) = tokio::join!(write.write_all(&long), read.read_exact(&mut back));
    sent.unwrap();
    got.unwrap();
    assert_eq!(back, long);
    stream.shutdown().await.unwrap();
    drop(stream);
    let events = desk.events(1).await;
    assert_eq!((events[0].verdict, events[0].reason), (Verdict::Allowed, None), "{:?}", events[0]);
    assert_eq!(
        (events[0].host.as_str(), events[0].detail.as_str()),
        ("model.example", "configuration: model")
    );
    assert!(events[0].bytes_up > 300_000 && events[0].bytes_down > 300_000);
}

#[tokio::test]
async fn another_name_or_none_ends_the_tunnel_with_an_alert() {
    let (address, certificate) = tls_echo(&["model.example", "evil.example"]).await;
    for (name, sni, reason) in
        [("evil.example", true, Reason::SniMismatch), ("model.example", false, Reason::SniMissing)]
    {
        let desk = Desk::new("");
        desk.world.server("model.example", 443, address);
        let mut client = desk.tunnel("model.example:443").await;
        client.write(&hello(certificate.clone(), name, sni).await).await;
        assert_eq!(client.rest_bytes().await, [0x15, 3, 3, 0, 2, 2, 112], "{name}");
        assert_eq!(desk.reason().await, denied(reason));
    }
}

#[tokio::test]
async fn a_hello_in_pieces_is_read_and_one_for_another_is_not_let_through_so() {
    let (address, certificate) = tls_echo(&["model.example"]).await;
    for (name, is_good) in [("model.example", true), ("evil.example", false)] {
        let whole = hello(certificate.clone(), name, true).await;
        // Records of so many bytes, written in pieces of so many.
        for (record, piece) in [(7, 10_000), (10_000, 3), (64, 5), (usize::MAX, usize::MAX)] {
            let desk = Desk::new("");
            desk.world.server("model.example", 443, address);
            let mut client = desk.tunnel("model.example:443").await;
            let cut: Vec<u8> = whole[5..]
                .chunks(record)
                .flat_map(|part| {
                    [&[0x16, 3, 1], &u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()
                })
                .collect();
            for part in cut.chunks(piece) {
                client.write(part).await;
                if piece < 100 {
                    tokio::task::yield_now().await;
                }
            }
            if is_good {
                assert_eq!(client.0.read_u8().await.unwrap(), 0x16, "{record} {piece}");
            } else {
                assert_eq!(client.rest_bytes().await, [0x15, 3, 3, 0, 2, 2, 112]);
            }
        }
    }
}

#[tokio::test]
async fn a_hello_that_hides_another_is_refused() {
    let (address, certificate) = tls_echo(&["model.example"]).await;
    let mut hello = hello(certificate, "model.example", true).await;
    // The extension that asks for stapled certificates becomes an encrypted hello.
    let at = hello.windows(9).position(|part| part == [0, 5, 0, 5, 1, 0, 0, 0, 0]).unwrap();
    hello[at..at + 2].copy_from_slice(&[0xfe, 0x0d]);
    let desk = Desk::new("");
    desk.world.server("model.example", 443, address);
    let mut client = desk.tunnel("model.example:443").await;
    client.write(&hello).await;
    assert_eq!(client.rest_bytes().await, [0x15, 3, 3, 0, 2, 2, 49]);
    assert_eq!(desk.reason().await, denied(Reason::EncryptedHello));
}

#[tokio::test]
async fn a_hello_that_comes_drop_by_drop_has_its_time() {
    let (address, certificate) = tls_echo(&["model.example"]).await;
    let hello = hello(certificate, "model.example", true).await;
    let desk = Desk::new("");
    desk.world.server("model.example", 443, address);
    let mut client = desk.tunnel("model.example:443").await;
    for byte in &hello {
        if client.0.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if !desk.sink.events().is_empty() {
            break;
        }
    }
    assert_eq!(desk.reason().await, denied(Reason::HelloTimeout));
}

#[tokio::test]
async fn a_probe_goes_all_the_way() {
    let (address, _) = tls_echo(&["model.example"]).await;
    let desk = Desk::new("[[deny]]\nhost = \"bad.example\"\n");
    desk.world.server("model.example", 443, address);
    let probe = desk.door.probe("Model.example", 443).await.unwrap();
    assert_eq!((probe.found, probe.target.as_str()), (Found::Reached, "Model.example:443"), "{probe:?}");
    assert_eq!(probe.detail, "it answers in TLS");
    for (host, port, found, reason) in [
        ("model.example", 80, Found::Denied, "not_allowed"),
        ("bad.example", 443, Found::Denied, "denied_by_rule"),
        ("127.0.0.1", 443, Found::Denied, "ip_literal"),
        ("a\r\nb", 443, Found::Denied, "bad_name"),
    ] {
        let probe = desk.door.probe(host, port).await.unwrap();
        assert_eq!((probe.found, probe.reason.as_str()), (found, reason), "{probe:?}");
    }
    desk.world.name("model.example", &[&["93.184.216.35"]]);
    let probe = desk.door.probe("model.example", 443).await.unwrap();
    assert_eq!((probe.found, probe.reason.as_str()), (Found::Unreachable, "unreachable"), "{probe:?}");
    let events = desk.events(4).await;
    assert!(events.iter().all(|event| event.method == sentrix::door::Method::Probe), "{events:#?}");
}

//! HTTP through a Unix socket that a hostile container made, within limits.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};

use crate::socket;

/// Most bytes of an answer.
const MOST: usize = 256 * 1024;

/// One HTTP request through a socket: the status and the body, at most 256 KiB.
///
/// # Errors
/// What the system says; [`ErrorKind::TimedOut`]; [`ErrorKind::InvalidData`] for what is no HTTP.
pub(super) async fn request(
    path: &Path,
    method: &str,
    target: &str,
    token: Option<&SecretString>,
    body: Option<&serde_json::Value>,
    limit: Duration,
) -> Result<(u16, Bytes)> {
    tokio::time::timeout(limit, exchange(path, method, target, token, body))
        .await
        .map_err(|_| Error::from(ErrorKind::TimedOut))?
}

async fn exchange(
    path: &Path,
    method: &str,
    target: &str,
    token: Option<&SecretString>,
    body: Option<&serde_json::Value>,
) -> Result<(u16, Bytes)> {
    let invalid = |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidData, error.to_string());
    let stream = socket::connect(path).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| invalid(&error))?;
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {}", token.expose_secret()));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = request.body(Full::new(bytes)).map_err(|error| invalid(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| invalid(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| invalid(&error))?;
        Ok((status, body.to_bytes()))
    };
    let mut asked = std::pin::pin!(asked);
    // The connection moves the bytes; it ends before the answer is whole only where the other side went away.
    tokio::select! {
        answer = &mut asked => answer,
        _ = connection => asked.await,
    }
}

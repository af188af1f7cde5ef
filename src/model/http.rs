//! The wire below the dialects: addresses, one request at a time, and the capped reader. The only place that
//! reads the body of a response.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Request, Response, StatusCode, Url, redirect};

use super::error::ModelErrorKind;
use super::settings::Timeouts;
use crate::text;

/// Largest part of an error's body that is read, in bytes.
const ERROR_BODY_BYTES: usize = 64 << 10;
/// Longest cause of a broken connection that is shown, in characters.
const CAUSE_CHARS: usize = 200;

/// The clients of this process, built when first needed: the trust store is read from disk then, and a run
/// without a model pays nothing.
///
/// reqwest's `rustls` feature brings its crypto provider (aws-lc-rs) along and uses it where the process has
/// installed no default, so nothing has to be installed here.
#[derive(Default)]
pub(super) struct Http {
    clients: Mutex<BTreeMap<Manner, reqwest::Client>>,
}

/// What makes two addresses need two clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Manner {
    encrypted: bool,
    on_this_machine: bool,
    connect: Duration,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// The client for `url`.
    ///
    /// # Errors
    /// Where it cannot be built, as on a machine without any CA certificate.
    pub(super) fn client(&self, url: &Url, timeouts: Timeouts) -> Result<reqwest::Client, ModelErrorKind> {
        let manner = Manner {
            encrypted: url.scheme() == "https",
            on_this_machine: is_loopback(url),
            connect: timeouts.connect,
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&manner) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("sentrix/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(manner.connect)
            .redirect(redirect::Policy::none())
            .referer(false);
        if !manner.encrypted {
            // Nothing is encrypted, so no trust store is needed, and a machine without one still works.
            builder = builder.tls_certs_only([]);
        }
        if manner.on_this_machine || !manner.encrypted {
            // A proxy would read the key of an unencrypted call; an encrypted one it only passes on.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| ModelErrorKind::Connect(cause(error)))?;
        clients.insert(manner, client.clone());
        Ok(client)
    }
}

/// Whether the host of `url` is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Which bases get the version before the call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Those without any path of their own.
    IfNoPath,
    /// All that do not end with it.
    Always,
}

/// The address of `call` below `base`, with the version's part in between where `when` says so. A base that ends with the
/// call is understood too.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn endpoint(base: &str, version: &[&str], call: &[&str], when: Version) -> Result<Url, String> {
    let mut url = Url::parse(base.trim()).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is neither http nor https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or a password".into());
    }
    let given: Vec<String> = url
        .path_segments()
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let mut kept: &[String] = &given;
    if let Some(shorter) = strip(kept, call) {
        kept = shorter;
    }
    let with_version = match when {
        Version::IfNoPath => kept.is_empty(),
        Version::Always => strip(kept, version).is_none(),
    };
    let kept: Vec<&str> = kept
        .iter()
        .map(String::as_str)
        .chain(version.iter().copied().filter(|_| with_version))
        .chain(call.iter().copied())
        .collect();
    url.set_fragment(None);
    url.path_segments_mut().map_err(|()| "it has no path".to_owned())?.clear().extend(kept);
    Ok(url)
}

/// `parts` without `tail` at its end.
fn strip<'a>(parts: &'a [String], tail: &[&str]) -> Option<&'a [String]> {
    let (head, end) = parts.split_at_checked(parts.len().checked_sub(tail.len())?)?;
    end.iter().map(String::as_str).eq(tail.iter().copied()).then_some(head)
}

/// The host of `url` for messages, with its port where it is not the usual one.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A response, read whole.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body; of an error only its head.
    pub(super) body: Vec<u8>,
}

/// A response whose body is still to come.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    response: Response,
    timeouts: Timeouts,
}

/// Sends one request and waits for the head of its response.
///
/// # Errors
/// [`ModelErrorKind::Timeout`] and [`ModelErrorKind::Connect`]; any status is a response.
pub(super) async fn open(
    client: &reqwest::Client,
    mut request: Request,
    timeouts: Timeouts,
) -> Result<Opened, ModelErrorKind> {
    // The limit is for the body too, however it is read.
    *request.timeout_mut() = Some(timeouts.total);
    let mut response = client.execute(request).await.map_err(|error| kind_of(error, timeouts))?;
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    Ok(Opened { status, headers, response, timeouts })
}

impl Opened {
    /// Reads the body whole.
    ///
    /// # Errors
    /// As [`open`], and [`ModelErrorKind::AnswerTooLarge`].
    pub(super) async fn read(mut self, limit_bytes: usize) -> Result<Reply, ModelErrorKind> {
        let body = if self.status.is_success() {
            match read_capped(&mut self.response, limit_bytes).await {
                Ok((body, true)) => body,
                Ok((_, false)) => return Err(ModelErrorKind::AnswerTooLarge { limit_bytes }),
                Err(error) => return Err(kind_of(error, self.timeouts)),
            }
        } else {
            // The status says enough; a body that breaks off takes nothing from it.
            read_capped(&mut self.response, ERROR_BODY_BYTES).await.map(|(body, _)| body).unwrap_or_default()
        };
        Ok(Reply { status: self.status, headers: self.headers, body })
    }

    /// The next part of the body, as it comes; none at its end.
    ///
    /// # Errors
    /// As [`open`].
    pub(super) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, ModelErrorKind> {
        self.response.chunk().await.map_err(|error| kind_of(error, self.timeouts))
    }
}

/// Reads at most `limit` bytes; `false` where there were more.
async fn read_capped(response: &mut Response, limit: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let expected = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Vec::with_capacity(expected.min(limit).min(1 << 20));
    while let Some(chunk) = response.chunk().await? {
        let room = limit.saturating_sub(body.len());
        if chunk.len() > room {
            body.extend_from_slice(chunk.get(..room).unwrap_or_default());
            return Ok((body, false));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, true))
}

fn kind_of(error: reqwest::Error, timeouts: Timeouts) -> ModelErrorKind {
    if error.is_timeout() {
        let limit = if error.is_connect() { timeouts.connect } else { timeouts.total };
        ModelErrorKind::Timeout { limit }
    } else {
        ModelErrorKind::Connect(cause(error))
    }
}

/// The innermost cause, without the address.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    text::plain(&text::bounded(&innermost.to_string(), CAUSE_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dialect;

    fn endpoint(base: &str, dialect: Dialect) -> Result<Url, String> {
        dialect.endpoint(base, "m", false)
    }

    #[test]
    fn base_urls_are_taken_as_people_write_them() {
        for (dialect, base, want) in [
            (Dialect::OpenAi, "https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
            (Dialect::OpenAi, "https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
            (Dialect::OpenAi, " https://api.openai.com\n", "https://api.openai.com/v1/chat/completions"),
            (Dialect::OpenAi, "http://localhost:11434/", "http://localhost:11434/v1/chat/completions"),
            (Dialect::OpenAi, "https://h/openai/v1", "https://h/openai/v1/chat/completions"),
            (Dialect::OpenAi, "https://h/a?api-version=2", "https://h/a/chat/completions?api-version=2"),
            (Dialect::OpenAi, "https://h/v1/chat/completions", "https://h/v1/chat/completions"),
            (Dialect::Anthropic, "https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
            (Dialect::Anthropic, "https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
            (Dialect::Anthropic, "https://h/anthropic", "https://h/anthropic/v1/messages"),
            (Dialect::Anthropic, "https://h/v1/messages", "https://h/v1/messages"),
            (Dialect::Gemini, "https://h", "https://h/v1beta/models/m:generateContent"),
            (Dialect::Gemini, "https://h/v1beta/", "https://h/v1beta/models/m:generateContent"),
            (Dialect::Gemini, "https://h/v1", "https://h/v1/models/m:generateContent"),
        ] {
            assert_eq!(endpoint(base, dialect).map(String::from), Ok(want.to_owned()), "{base}");
        }
    }

    #[test]
    fn base_urls_that_cannot_be_used_say_why() {
        for base in ["", "api.openai.com", "ftp://h/", "https://me:secret@h/", "data:x", "/v1"] {
            let why = endpoint(base, Dialect::OpenAi).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_endpoint_stays_on_the_host_it_was_given(base in "(https?://)?[a-z.@:/#?%\\\\]{0,20}") {
            if let (Ok(url), Ok(given)) = (endpoint(&base, Dialect::OpenAi), Url::parse(&base)) {
                proptest::prop_assert_eq!(url.host_str(), given.host_str());
                proptest::prop_assert!(url.path().ends_with("/chat/completions"));
            }
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        let at = |url: &str| is_loopback(&Url::parse(url).unwrap());
        assert!(at("http://localhost:1/") && at("http://127.0.0.2/") && at("http://[::1]:80/"));
        assert!(!at("http://localhost.evil.example/") && !at("http://10.0.0.1/"));
    }
}

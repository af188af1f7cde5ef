//! What the door answers itself: the reason, the rule that would change it, and that it is a decision.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::edit;
use super::event::Reason;
use super::forward::Held;
use super::name::Target;
use crate::text::{bounded, plain};

/// Names the reason, for programs.
pub(super) const REASON: &str = "x-sentrix-reason";

/// What every refusal ends with.
const DECISION: &str = "This is a policy decision: do not try another way.";

/// What the door's answers are made of.
pub(super) type Body = Either<Full<Bytes>, Held<Incoming>>;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// What else there is to say.
    pub(super) detail: String,
    /// Where it was to go, if that could be read.
    pub(super) target: Option<Target>,
}

impl Refusal {
    pub(super) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), target: None }
    }

    #[must_use]
    pub(super) fn of(mut self, target: &Target) -> Self {
        self.target = Some(target.clone());
        self
    }

    /// Whether the destination failed, and nobody refused.
    pub(super) const fn is_failure(&self) -> bool {
        matches!(self.reason, Reason::Unresolved | Reason::Unreachable | Reason::UpstreamBroken)
    }

    const fn status(&self) -> StatusCode {
        match self.reason {
            Reason::BadRequest => StatusCode::BAD_REQUEST,
            Reason::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reason::Unresolved | Reason::Unreachable | Reason::UpstreamBroken => StatusCode::BAD_GATEWAY,
            Reason::RateLimit => StatusCode::TOO_MANY_REQUESTS,
            Reason::TooManyConnections | Reason::RecorderStuck | Reason::Closing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::FORBIDDEN,
        }
    }

    fn body(&self) -> String {
        let target = self.target.as_ref();
        // Only where a rule could change it, and a person decides whether it does.
        let rule = target.filter(|_| self.reason.is_about_rules()).map(edit::command);
        let message = if self.is_failure() {
            self.reason.text().to_owned()
        } else {
            format!("{}. {DECISION}", self.reason.text())
        };
        let body = json!({
            "error": if self.is_failure() { "egress_failed" } else { "egress_denied" },
            "reason": self.reason.word(),
            "message": message,
            "detail": bounded(&plain(&self.detail), 300),
            "host": target.map(|target| target.host.as_str()),
            "port": target.map(|target| target.port),
            "a_person_can_allow_it_with": rule,
        });
        format!("{body}\n")
    }

    /// The answer; the connection ends with it.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Either::Left(Full::new(Bytes::from(self.body()))));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(REASON, HeaderValue::from_static(self.reason.word()));
        response
    }

    /// The answer as bytes, for a connection that is closed before anything of it is read.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (status, body) = (self.status(), self.body());
        let reason = status.canonical_reason().unwrap_or_default();
        format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\
             {REASON}: {}\r\n\r\n{body}",
            status.as_u16(),
            body.len(),
            self.reason.word()
        )
        .into_bytes()
    }
}

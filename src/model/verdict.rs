//! What an HTTP status and an error's body mean.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::error::ModelErrorKind;
use super::http::Reply;
use crate::text;

/// Longest quote of a provider, in characters.
const SAID_CHARS: usize = 200;

/// The kind of error that a response which is no success stands for.
pub(super) fn of_status(reply: &Reply, key: Option<&SecretString>) -> ModelErrorKind {
    let status = reply.status.as_u16();
    let error = Complaint::read(&reply.body, &reply.headers, key);
    let retry_after = retry_after(&reply.headers);
    of(status, &error, retry_after, &reply.headers)
}

/// The kind of error that an `error` object inside a success stands for; gateways send such answers, and `MiniMax` its
/// `base_resp`.
pub(super) fn of_body(body: &Value, key: Option<&SecretString>) -> Option<ModelErrorKind> {
    if let Some(kind) = of_base_resp(body, key) {
        return Some(kind);
    }
    let error = body.get("error").filter(|error| !error.is_null())?;
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let complaint = Complaint::of(body, key);
    Some(match status {
        Some(status @ 400..=599) => of(status, &complaint, None, &HeaderMap::new()),
        _ if complaint.is(&["overloaded_error", "api_error", "server_error"]) => {
            ModelErrorKind::Server { status: 500, retry_after: None, said: complaint.said }
        }
        _ if complaint.is_about_credit() => ModelErrorKind::NoCredit(complaint.said),
        _ if complaint.is(&["rate_limit_error"]) => {
            ModelErrorKind::RateLimited { retry_after: None, said: complaint.said }
        }
        _ => ModelErrorKind::Malformed(format!("an error instead of an answer: {}", complaint.said)),
    })
}

/// Source: `MiniMax` API reference, "Error codes": `base_resp.status_code` is 0 where all went well.
fn of_base_resp(body: &Value, key: Option<&SecretString>) -> Option<ModelErrorKind> {
    let code = body.pointer("/base_resp/status_code").and_then(Value::as_i64).filter(|code| *code != 0)?;
    let words = body.pointer("/base_resp/status_msg").and_then(Value::as_str).unwrap_or_default();
    let said = said(&format!("{words} ({code})"), key);
    Some(match code {
        1004 | 2049 => ModelErrorKind::Unauthorized(said),
        1008 => ModelErrorKind::NoCredit(said),
        1002 => ModelErrorKind::RateLimited { retry_after: None, said },
        1026 | 1027 => ModelErrorKind::Refused(said),
        1039 => ModelErrorKind::TooLarge(said),
        2013 if Complaint::new(String::new(), words, key).is_about_model() => {
            ModelErrorKind::UnknownModel(said)
        }
        2013 => ModelErrorKind::BadRequest { status: 200, said, parameter: None },
        _ => ModelErrorKind::Server { status: 200, retry_after: None, said },
    })
}

fn of(status: u16, error: &Complaint, retry_after: Option<Duration>, headers: &HeaderMap) -> ModelErrorKind {
    use ModelErrorKind as Kind;
    let said = error.said.clone();
    match status {
        300..=399 => Kind::Redirected { status, to: redirect_host(headers) },
        402 => Kind::NoCredit(said),
        // Google says "exceeded your current quota" of a minute's too, and then when to come back.
        429 if error.come_back.is_some() => {
            Kind::RateLimited { retry_after: retry_after.or(error.come_back), said }
        }
        400 | 401 | 403 | 429 if error.is_about_credit() => Kind::NoCredit(said),
        401 => Kind::Unauthorized(said),
        // xAI and Google answer 400 to a wrong key.
        400 | 403 if error.is_about_key() => Kind::Unauthorized(said),
        400 | 403 if error.is_about_region() || error.is_about_ban() => Kind::Forbidden(said),
        // Together answers 403 to what is too long.
        400 | 403 | 422 if error.is_about_size() => Kind::TooLarge(said),
        400 | 403 | 404 | 422 if error.is_about_model() => Kind::UnknownModel(said),
        403 => Kind::Forbidden(said),
        404 => Kind::NoEndpoint(said),
        413 => Kind::TooLarge(said),
        429 => Kind::RateLimited { retry_after, said },
        408 | 409 | 500.. => Kind::Server { status, retry_after, said },
        _ => Kind::BadRequest { status, said, parameter: error.parameter.clone() },
    }
}

/// What a provider says is wrong.
#[derive(Debug)]
struct Complaint {
    /// Its word for the kind of error.
    code: String,
    /// Its message: bounded, plain, keys masked.
    said: String,
    /// The message in small letters, for looking into.
    lower: String,
    /// The parameter that it names.
    parameter: Option<Box<str>>,
    /// When it says to come back.
    come_back: Option<Duration>,
}

impl Complaint {
    fn read(body: &[u8], headers: &HeaderMap, key: Option<&SecretString>) -> Self {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            return Self::of(&value, key);
        }
        let body = String::from_utf8_lossy(body);
        let html = content_type(headers).contains("html") || body.trim_start().starts_with('<');
        let message = if html { "an HTML page" } else { body.trim() };
        Self::new(String::new(), message, key)
    }

    /// Source: OpenAI "Error codes", Anthropic "Errors", Google `Status`: `error.message`, `error.code`, `error.type`,
    /// `error.status`; xAI has a bare `error`, Mistral `message` or `detail`, others the maker's words in `error.metadata.raw`.
    fn of(body: &Value, key: Option<&SecretString>) -> Self {
        // Some gateways wrap the object into a list.
        let body = body.get(0).unwrap_or(body);
        let text =
            |pointer: &str| body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let message =
            ["/error/message", "/error", "/message", "/detail", "/detail/0/msg"].into_iter().find_map(text);
        let raw = text("/error/metadata/raw");
        let message = match (message, raw) {
            (Some(message), Some(raw)) => format!("{message}: {raw}"),
            (message, raw) => message.or(raw).unwrap_or_default().to_owned(),
        };
        let codes =
            ["/error/code", "/error/type", "/error/status", "/error/details/0/reason", "/code", "/type"];
        let code: Vec<&str> = codes.into_iter().filter_map(text).collect();
        let parameter = text("/error/param")
            .or_else(|| body.pointer("/detail/0/loc").and_then(Value::as_array)?.last()?.as_str())
            .map(|name| text::plain(&text::bounded(name, 60)).into());
        Self { parameter, come_back: come_back(body), ..Self::new(code.join(" "), &message, key) }
    }

    fn new(code: String, message: &str, key: Option<&SecretString>) -> Self {
        Self {
            code,
            said: said(message, key),
            lower: message.to_lowercase(),
            parameter: None,
            come_back: None,
        }
    }

    fn has(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.lower.contains(word))
    }

    /// Whether one of the provider's words for the kind of error is among these.
    fn is(&self, codes: &[&str]) -> bool {
        self.code.split(' ').any(|code| codes.contains(&code))
    }

    fn is_about_credit(&self) -> bool {
        self.is(&[
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
            "exceeded_current_quota_error",
            "insufficient_balance_error",
            "credit_limit",
        ]) || self.has(&[
            "credit balance",
            "insufficient balance",
            "insufficient credits",
            "exceeded your current quota",
            "exceeded current quota",
            "requires more credits",
            "used all available credits",
            "have any credits",
            "credit limit exceeded",
            "spending limit",
            "payment required",
        ])
    }

    fn is_about_key(&self) -> bool {
        self.is(&["API_KEY_INVALID", "invalid_api_key", "authentication_error", "authorized_error"])
            || self.has(&[
                "api key not valid",
                "api key not found",
                "api key expired",
                "incorrect api key",
                "invalid api key",
                "invalid x-api-key",
            ])
    }

    fn is_about_region(&self) -> bool {
        self.is(&["unsupported_country_region_territory"])
            || self.has(&[
                "location is not supported",
                "region, or territory not supported",
                "not available in your",
                "not supported in your",
            ])
    }

    /// Source: Groq `organization_restricted`; Anthropic "This organization has been disabled."
    fn is_about_ban(&self) -> bool {
        self.is(&["organization_restricted"]) || self.has(&["organization has been"])
    }

    fn is_about_model(&self) -> bool {
        self.is(&[
            "model_not_found",
            "not_found_error",
            "resource_not_found_error",
            "model_not_available",
            "invalid_model",
        ]) || self.is(&["model_decommissioned", "model_permission_blocked_org"])
            || self.has(&["no endpoints found"])
            || (self.has(&["model"])
                && self.has(&[
                    "not found",
                    "does not exist",
                    "not a valid model",
                    "invalid model",
                    "unknown model",
                    "no such model",
                ]))
    }

    fn is_about_size(&self) -> bool {
        self.is(&["context_length_exceeded", "request_too_large"])
            || self.has(&[
                "maximum context length",
                "prompt is too long",
                "context window",
                "too many tokens",
                "exceeds the maximum number of tokens",
            ])
    }
}

/// A provider's words as they may be shown: keys masked, plain, bounded.
pub(super) fn said(message: &str, key: Option<&SecretString>) -> String {
    let mut message = message.to_owned();
    if let Some(key) = key.map(ExposeSecret::expose_secret).filter(|key| !key.is_empty()) {
        message = message.replace(key, "[key]");
    }
    let masked: Vec<String> = message.split_whitespace().map(mask_word).collect();
    text::plain(&text::bounded(&masked.join(" "), SAID_CHARS))
}

/// Providers repeat a wrong key half masked; no part of it is shown.
fn mask_word(word: &str) -> String {
    const MARKS: [&str; 10] = ["sk-", "sk_", "xai-", "gsk_", "AIza", "pk-", "key-", "tgp_", "eyJ", "<ak-"];
    match MARKS.iter().filter_map(|mark| word.find(mark)).min() {
        Some(at) => format!("{}[key]", word.get(..at).unwrap_or_default()),
        None if word.contains("***") => "[key]".to_owned(),
        None => word.to_owned(),
    }
}

/// Source: Google `google.rpc.RetryInfo`, as in `{"retryDelay": "26s"}`.
fn come_back(body: &Value) -> Option<Duration> {
    let details = body.pointer("/error/details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    Duration::try_from_secs_f64(delay.strip_suffix('s')?.parse().ok()?).ok()
}

/// The content type, small letters, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text::plain(&text::bounded(value.split(';').next().unwrap_or_default().trim(), 60)).to_lowercase()
}

fn redirect_host(headers: &HeaderMap) -> String {
    let to = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host =
        reqwest::Url::parse(to).map_or_else(|_| "another path".to_owned(), |url| super::http::host(&url));
    text::plain(&text::bounded(&host, 100))
}

/// How long the provider asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date, which is
/// read against the response's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|value| value.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1_000.0).ok();
    }
    let value = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let now = jiff::fmt::rfc2822::parse(text(DATE.as_str())?).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use serde_json::json;

    use super::*;

    fn kind(status: u16, body: &Value) -> ModelErrorKind {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_string().into_bytes(),
        };
        of_status(&reply, Some(&SecretString::from("verysecretkey")))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn every_status_has_its_meaning() {
        use ModelErrorKind as Kind;
        let error = |kind: &str, message: &str| json!({ "error": { "type": kind, "message": message } });
        let none = json!({});
        assert!(matches!(kind(401, &none), Kind::Unauthorized(_)));
        assert!(matches!(kind(402, &none), Kind::NoCredit(_)));
        assert!(matches!(kind(429, &error("insufficient_quota", "x")), Kind::NoCredit(_)));
        assert!(matches!(
            kind(400, &error("invalid_request_error", "Your credit balance is too low to access")),
            Kind::NoCredit(_)
        ));
        assert!(matches!(kind(429, &none), Kind::RateLimited { .. }));
        assert!(matches!(kind(403, &error("unsupported_country_region_territory", "x")), Kind::Forbidden(_)));
        assert!(matches!(kind(404, &error("not_found_error", "model: x")), Kind::UnknownModel(_)));
        assert!(matches!(kind(404, &error("", "The model `x` does not exist")), Kind::UnknownModel(_)));
        assert!(matches!(kind(400, &error("", "x is not a valid model ID")), Kind::UnknownModel(_)));
        assert!(matches!(kind(404, &none), Kind::NoEndpoint(_)));
        assert!(matches!(kind(413, &none), Kind::TooLarge(_)));
        assert!(matches!(kind(400, &error("", "prompt is too long: 9 tokens")), Kind::TooLarge(_)));
        assert!(matches!(kind(400, &error("", "temperature")), Kind::BadRequest { status: 400, .. }));
        assert!(matches!(
            kind(400, &error("", "API key not valid. Please pass a valid one.")),
            Kind::Unauthorized(_)
        ));
        assert!(matches!(
            kind(400, &json!({ "code": "x", "error": "Incorrect API key provided" })),
            Kind::Unauthorized(_)
        ));
        assert!(matches!(
            kind(400, &error("", "User location is not supported for the API use.")),
            Kind::Forbidden(_)
        ));
        assert!(matches!(kind(429, &error("exceeded_current_quota_error", "x")), Kind::NoCredit(_)));
        let quota = |details: Value| {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            kind(429, &json!({ "error": { "message": message, "details": details } }))
        };
        assert!(matches!(quota(json!([])), Kind::NoCredit(_)));
        assert!(matches!(
            quota(json!([{ "@type": "x" }, { "retryDelay": "26.5s" }])),
            Kind::RateLimited { retry_after: Some(wait), .. } if wait == Duration::from_millis(26_500)
        ));
        assert!(matches!(kind(400, &error("organization_restricted", "x")), Kind::Forbidden(_)));
        assert!(matches!(
            kind(422, &json!({ "detail": [{ "loc": ["body", "store"], "msg": "Extra inputs are not permitted" }] })),
            Kind::BadRequest { parameter: Some(name), .. } if &*name == "store"
        ));
        for status in [408, 409, 500, 502, 503, 504, 529] {
            assert!(matches!(kind(status, &none), Kind::Server { status: same, .. } if same == status));
        }
        assert!(matches!(kind(302, &none), Kind::Redirected { .. }));
    }

    #[test]
    fn what_a_provider_says_is_bounded_plain_and_without_keys() {
        let message =
            format!("bad key verysecretkey\u{1b}[2J, was:sk-proj-ab****yz or ab***yz {}", "x".repeat(2_000));
        let ModelErrorKind::Unauthorized(said) = kind(401, &json!({ "error": { "message": message } }))
        else {
            panic!("unauthorized")
        };
        assert!(said.starts_with("bad key [key]\\u{1b}[2J, was:[key] or [key] xxx"), "{said}");
        assert!(said.chars().count() <= 310);
        assert_eq!(
            kind(418, &json!("short")),
            ModelErrorKind::BadRequest { status: 418, said: String::new(), parameter: None }
        );
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let seconds = |value: f64| Some(Duration::from_secs_f64(value));
        assert_eq!(retry_after(&headers(&[("retry-after", "2")])), seconds(2.0));
        assert_eq!(retry_after(&headers(&[("retry-after", "0.25")])), seconds(0.25));
        assert_eq!(retry_after(&headers(&[("retry-after-ms", "40"), ("retry-after", "9")])), seconds(0.04));
        let date = ("date", "Sun, 06 Nov 1994 08:49:30 GMT");
        assert_eq!(
            retry_after(&headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), date])),
            seconds(7.0)
        );
        assert_eq!(
            retry_after(&headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT"), date])),
            seconds(0.0)
        );
        for hostile in ["-1", "NaN", "inf", "1e300", "soon", ""] {
            assert_eq!(retry_after(&headers(&[("retry-after", hostile)])), None, "{hostile}");
        }
    }

    #[test]
    fn an_error_inside_a_success_is_an_error() {
        let body = json!({ "error": { "code": 429, "message": "slow down" } });
        assert!(matches!(of_body(&body, None), Some(ModelErrorKind::RateLimited { .. })));
        let body = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "busy" } });
        assert!(matches!(of_body(&body, None), Some(ModelErrorKind::Server { .. })));
        assert!(matches!(of_body(&json!({ "error": "no" }), None), Some(ModelErrorKind::Malformed(_))));
        assert_eq!(of_body(&json!({ "error": null, "choices": [] }), None), None);
        let minimax =
            |code: i64| of_body(&json!({ "base_resp": { "status_code": code, "status_msg": "x" } }), None);
        assert_eq!(minimax(0), None);
        assert!(matches!(minimax(1004), Some(ModelErrorKind::Unauthorized(_))));
        assert!(matches!(minimax(1008), Some(ModelErrorKind::NoCredit(_))));
        assert!(matches!(minimax(2013), Some(ModelErrorKind::BadRequest { .. })));
        let body = json!({ "base_resp": { "status_code": 2013, "status_msg": "invalid params, unknown model 'x'" } });
        assert!(matches!(of_body(&body, None), Some(ModelErrorKind::UnknownModel(_))));
    }
}

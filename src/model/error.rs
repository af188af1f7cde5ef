//! Why a model gave no answer, and what to do about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::chat::Usage;
use super::table::providers;

/// Who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelContext {
    /// The provider's name.
    pub provider: String,
    /// The model's name at the provider.
    pub model: String,
    /// The role it plays.
    pub role: String,
    /// The host that is called; with the port where it is not the usual one.
    pub host: String,
    /// Where the key was read or looked for; never the key.
    pub key_source: String,
}

/// A call that brought no answer.
#[derive(Clone, Debug)]
pub struct ModelError {
    /// Who was asked.
    pub context: Arc<ModelContext>,
    /// What went wrong.
    pub kind: ModelErrorKind,
    /// What was charged for it all the same.
    pub usage: Usage,
    /// How many requests were sent.
    pub attempts: u32,
    /// Why those that were asked in its place gave no answer either, in the order in which they were asked.
    pub fallbacks: Vec<ModelError>,
}

/// A budget that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Whose: `sweep`, `investigation`, `run` or `day`.
    pub budget: &'static str,
    /// What was spent, as people read it.
    pub spent: String,
    /// The limit, as people read it.
    pub limit: String,
}

/// What can go wrong. Texts in here come from providers: bounded, made plain and with keys masked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelErrorKind {
    /// No key is set.
    MissingKey,
    /// The key holds characters that no key has.
    UnusableKey,
    /// The base URL is none.
    BadUrl(String),
    /// The key was not accepted (401).
    Unauthorized(String),
    /// The account has no credit or quota left (402, or a 429 that says so).
    NoCredit(String),
    /// Too many requests (429).
    RateLimited {
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
        /// Its words.
        said: String,
    },
    /// The provider has no such model, or not for this key.
    UnknownModel(String),
    /// The key may not do this, or not from here (403).
    Forbidden(String),
    /// There is nothing at this address (404); most often a wrong base URL.
    NoEndpoint(String),
    /// The provider did not accept the request (another 4xx).
    BadRequest {
        /// The HTTP status.
        status: u16,
        /// Its words.
        said: String,
        /// The parameter that it names.
        parameter: Option<Box<str>>,
    },
    /// The provider failed (5xx, 408, 409).
    Server {
        /// The HTTP status.
        status: u16,
        /// How long the provider asks to wait.
        retry_after: Option<Duration>,
        /// Its words.
        said: String,
    },
    /// The host sends its callers elsewhere; not followed, since the key is for this host.
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The host it names.
        to: String,
    },
    /// The answer did not come in time.
    Timeout {
        /// The limit that was passed.
        limit: Duration,
    },
    /// The connection could not be made, or broke.
    Connect(String),
    /// The answer could not be read, or has not the shape that was asked for.
    Malformed(String),
    /// The model refused to answer.
    Refused(String),
    /// The answer was cut off at the limit of tokens.
    Truncated {
        /// The limit.
        max_tokens: u32,
    },
    /// The request is larger than the model takes.
    TooLarge(String),
    /// The schema asked for is none: a fault of the graph or of this program.
    BadSchema(String),
    /// The provider has failed so often in a row that it is given time: no call was made.
    CircuitOpen {
        /// Failures in a row.
        failures: u32,
        /// How long no call is made.
        left: Duration,
    },
    /// A budget is spent: no call was made. Says which, and how much.
    OverBudget(Box<Spent>),
    /// What was spent cannot be looked up or written down, so nothing more is spent.
    Ledger(String),
    /// The answer's body is larger than we take.
    AnswerTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not without a change: the same call would fail the same way.
    Never,
    /// Once this long has passed.
    After(Duration),
    /// After a while that grows from attempt to attempt.
    Backoff,
}

impl ModelError {
    pub(super) fn new(context: &Arc<ModelContext>, kind: ModelErrorKind) -> Self {
        Self {
            context: Arc::clone(context),
            kind,
            usage: Usage::default(),
            attempts: 0,
            fallbacks: Vec::new(),
        }
    }

    pub(super) fn charged(mut self, usage: Usage) -> Self {
        self.usage += usage;
        self
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        self.kind.retry()
    }

    /// The engine's word for this kind of error: `transient`, `rate_limit`, `timeout`, `malformed`,
    /// `refused`, `budget` or `permanent`.
    pub fn class(&self) -> &'static str {
        use ModelErrorKind as Kind;
        match self.kind {
            Kind::Server { .. } | Kind::Connect(_) | Kind::CircuitOpen { .. } | Kind::Ledger(_) => {
                "transient"
            }
            Kind::OverBudget(_) => "budget",
            Kind::RateLimited { .. } => "rate_limit",
            Kind::Timeout { .. } => "timeout",
            Kind::Malformed(_) | Kind::Truncated { .. } => "malformed",
            Kind::Refused(_) => "refused",
            Kind::MissingKey
            | Kind::UnusableKey
            | Kind::BadUrl(_)
            | Kind::Unauthorized(_)
            | Kind::NoCredit(_)
            | Kind::UnknownModel(_)
            | Kind::Forbidden(_)
            | Kind::NoEndpoint(_)
            | Kind::BadRequest { .. }
            | Kind::Redirected { .. }
            | Kind::TooLarge(_)
            | Kind::BadSchema(_)
            | Kind::AnswerTooLarge { .. } => "permanent",
        }
    }
}

impl ModelErrorKind {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { retry_after: Some(wait), .. }
            | Self::Server { retry_after: Some(wait), .. } => Retry::After(*wait),
            Self::CircuitOpen { left, .. } => Retry::After(*left),
            Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::Ledger(_)
            | Self::Timeout { .. }
            | Self::Connect(_)
            | Self::Malformed(_) => Retry::Backoff,
            Self::MissingKey
            | Self::UnusableKey
            | Self::BadUrl(_)
            | Self::Unauthorized(_)
            | Self::NoCredit(_)
            | Self::UnknownModel(_)
            | Self::Forbidden(_)
            | Self::NoEndpoint(_)
            | Self::BadRequest { .. }
            | Self::Redirected { .. }
            | Self::Refused(_)
            | Self::Truncated { .. }
            | Self::TooLarge(_)
            | Self::BadSchema(_)
            | Self::OverBudget(_)
            | Self::AnswerTooLarge { .. } => Retry::Never,
        }
    }
}

impl std::error::Error for ModelError {}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ModelErrorKind as Kind;
        let ModelContext { provider, model, role, host, key_source } = &*self.context;
        match &self.kind {
            Kind::MissingKey => {
                write!(f, "no key for {provider}: `{key_source}` is not set{}", KeysAt(provider))?;
            }
            Kind::UnusableKey => {
                write!(f, "the key of `{key_source}` holds characters that no key has")?;
            }
            Kind::BadUrl(why) => write!(f, "the base URL of {provider} cannot be used: {why}")?,
            Kind::Unauthorized(said) => {
                write!(
                    f,
                    "{provider} did not accept the key of `{key_source}`{}{}",
                    KeysAt(provider),
                    Said(said)
                )?;
            }
            Kind::NoCredit(said) => {
                write!(
                    f,
                    "the account behind `{key_source}` has no credit left at {provider}{}",
                    Said(said)
                )?;
            }
            Kind::RateLimited { retry_after, said } => {
                write!(f, "{provider} takes no more requests for now (429{})", Said(said))?;
                if let Some(wait) = retry_after {
                    write!(f, ", asks to wait {} s", wait.as_secs_f32().ceil())?;
                }
            }
            Kind::UnknownModel(said) => {
                write!(
                    f,
                    "{provider} has no model `{model}` for this key (see `sentrix models list`){}",
                    Said(said)
                )?;
            }
            Kind::Forbidden(said) => {
                write!(f, "{provider} does not serve this key, or not from here{}", Said(said))?;
            }
            Kind::NoEndpoint(said) => {
                write!(
                    f,
                    "nothing answers at this address of {provider}, check its base URL (404{})",
                    Said(said)
                )?;
            }
            Kind::BadRequest { status, said, .. } => {
                write!(f, "{provider} did not accept the request ({status}{})", Said(said))?;
            }
            Kind::Server { status, said, .. } => write!(f, "{provider} failed ({status}{})", Said(said))?,
            Kind::Redirected { status, to } => {
                write!(
                    f,
                    "{provider} sends its callers to `{to}` ({status}), which is not followed with a key"
                )?;
            }
            Kind::Timeout { limit } => {
                write!(f, "{provider} did not answer within {} s", limit.as_secs_f32())?;
            }
            Kind::Connect(why) => write!(f, "the connection to {provider} failed: {why}")?,
            Kind::Malformed(why) => write!(f, "the answer cannot be read: {why}")?,
            Kind::Refused(said) => write!(f, "the model refused to answer{}", Said(said))?,
            Kind::Truncated { max_tokens } => {
                write!(f, "the answer was cut off at {max_tokens} tokens")?;
            }
            Kind::TooLarge(said) => write!(f, "the request is larger than the model takes{}", Said(said))?,
            Kind::BadSchema(why) => write!(f, "the schema of the answer cannot be used: {why}")?,
            Kind::AnswerTooLarge { limit_bytes } => {
                write!(f, "the answer is larger than {limit_bytes} bytes")?;
            }
            Kind::CircuitOpen { .. } => {
                write!(f, "{provider} failed again and again, so it is not asked for a while")?;
            }
            Kind::OverBudget(over) => {
                let Spent { budget, spent, limit } = &**over;
                write!(f, "the budget of this {budget} is spent: {spent} of {limit}")?;
            }
            Kind::Ledger(why) => write!(f, "no model is asked while spending cannot be counted: {why}")?,
        }
        write!(f, " [{provider}, model `{model}`, role `{role}`, {host}")?;
        let is_named = matches!(
            self.kind,
            Kind::MissingKey | Kind::UnusableKey | Kind::Unauthorized(_) | Kind::NoCredit(_)
        );
        if !is_named && !key_source.is_empty() {
            write!(f, ", key of `{key_source}`")?;
        }
        if self.attempts > 1 {
            write!(f, ", {} attempts", self.attempts)?;
        }
        f.write_str("]")?;
        self.fallbacks.iter().try_for_each(|error| write!(f, "; then {error}"))
    }
}

/// Where a provider's keys are made, if the table has it.
struct KeysAt<'a>(&'a str);

impl fmt::Display for KeysAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = providers().iter().find(|provider| provider.name == self.0);
        match known.map(|provider| provider.keys_at.as_str()).filter(|page| !page.is_empty()) {
            Some(page) => write!(f, " (keys are made at {page})"),
            None => Ok(()),
        }
    }
}

/// `: words`, or nothing.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

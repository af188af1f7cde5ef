//! The file of rules, `egress.toml`: read with all its faults at once.
//!
//! ```toml
//! [[allow]]
//! host = "api.search.example"     # a name, or "*.example.com" for all names below it
//! port = 443                      # the default
//! why = "web search"
//! private = false                 # true: may be a machine of a private network
//! until = 2026-12-01T00:00:00Z    # for a while only
//!
//! [[deny]]
//! host = "clawhub.ai"             # every port, unless one is given; wins over what the configuration allows
//! ```

use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{DoorError, DoorErrorKind, RuleFault};
use super::name::NameFault;
use super::rule::{Origin, Pattern, Rule, Rules};
use crate::mark::Source;
use crate::text::plain;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// Most rules of a file.
const MOST_RULES: usize = 4_096;
/// Most faults that are kept.
const MOST_FAULTS: usize = 100;
/// The keys of a rule.
const KEYS: &str = "host, port, private, why, until, approved";

/// Reads the file; no rules where there is none.
///
/// # Errors
/// Where it cannot be read, or with all faults of its rules.
pub fn read(path: &Path) -> Result<Rules, DoorError> {
    let text = text(path)?;
    let name = path.file_name().map_or_else(|| "egress.toml".into(), |name| name.to_string_lossy());
    parse(&name, &text).map_err(|faults| DoorError::rules(path, faults))
}

/// The text of the file; empty where there is none.
///
/// # Errors
/// Where it cannot be read, is no UTF-8 or too large.
pub fn text(path: &Path) -> Result<String, DoorError> {
    let read = || {
        let mut bytes = Vec::new();
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other("it is larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8; save it as UTF-8 text"))
    };
    read().map_err(|error| DoorError::path(path, DoorErrorKind::Read(error)))
}

/// Reads the text of a file that is called `name` in messages.
///
/// # Errors
/// All faults.
pub fn parse(name: &str, text: &str) -> Result<Rules, Vec<RuleFault>> {
    let source = Arc::new(Source::new(name, text, &[]));
    let mut walk = Walk { source, faults: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        walk.fault(span, error.message(), "write rules as [[allow]] and [[deny]] with `key = value` below");
    }
    let mut rules = Rules::default();
    if errors.is_empty() {
        for (key, value) in document.get_ref() {
            match key.get_ref().as_ref() {
                "allow" => rules.allow = walk.list(value, true),
                "deny" => rules.deny = walk.list(value, false),
                other => {
                    let message = format!("`{}` is no kind of rule", plain(other));
                    walk.fault(key.span(), message, "rules are [[allow]] and [[deny]]");
                }
            }
        }
    }
    walk.faults.sort_by_key(RuleFault::position);
    if walk.faults.is_empty() { Ok(rules) } else { Err(walk.faults) }
}

struct Walk {
    source: Arc<Source>,
    faults: Vec<RuleFault>,
}

impl Walk {
    fn fault(&mut self, span: Range<usize>, message: impl AsRef<str>, help: impl AsRef<str>) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(RuleFault::at(&self.source, span, message, help));
        }
    }

    fn list(&mut self, value: &Spanned<DeValue<'_>>, allows: bool) -> Vec<Rule> {
        let word = if allows { "allow" } else { "deny" };
        let Some(items) = value.get_ref().as_array() else {
            self.fault(
                value.span(),
                format!("`{word}` is a list of rules"),
                format!("write [[{word}]], with two brackets on each side"),
            );
            return Vec::new();
        };
        if items.len() > MOST_RULES {
            self.fault(
                value.span(),
                format!("there are more than {MOST_RULES} rules"),
                "allow a domain with \"*.example.com\" instead of each of its names",
            );
            return Vec::new();
        }
        let mut rules = Vec::new();
        for item in items {
            if let Some(table) = item.get_ref().as_table() {
                rules.extend(self.rule(table, item.span(), allows));
            } else {
                self.fault(item.span(), "this is no rule", format!("write [[{word}]] and `host = …` below"));
            }
        }
        rules
    }

    fn rule(&mut self, table: &DeTable<'_>, span: Range<usize>, allows: bool) -> Option<Rule> {
        let before = self.faults.len();
        let mut hosts = None;
        let mut host_span = span.clone();
        let mut port = None;
        let mut private = None;
        let mut why = String::new();
        let mut until = None;
        let mut origin = Origin::File;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "host" => {
                    host_span = value.span();
                    hosts = self.host(value);
                }
                "port" => port = self.port(value),
                "private" if allows => private = self.bool(value).map(|is| (is, value.span())),
                "why" => why = self.string(value).unwrap_or_default(),
                "until" => until = self.moment(value),
                "approved" => {
                    origin = Origin::Approval;
                    self.moment(value);
                }
                other => {
                    let message = format!("a rule has no key `{}` here", plain(other));
                    self.fault(key.span(), message, format!("its keys are {KEYS}; `private` only allows"));
                }
            }
        }
        if hosts.is_none() && self.faults.len() == before {
            self.fault(span, "the rule names no host", "write `host = \"api.example.com\"`");
        }
        let hosts = hosts?;
        let private = private.filter(|(is, _)| *is);
        if let (Pattern::Below(_), Some((_, place))) = (&hosts, &private) {
            self.fault(
                place.clone(),
                "`private = true` is for one host, and this rule is about a whole domain",
                "write the host's own name",
            );
        }
        if let Pattern::Exact(host) = &hosts {
            if host.is_single_label() && private.is_none() && allows {
                self.fault(
                    host_span,
                    format!("`{host}` is a name of a local network, and those are never reached"),
                    "add `private = true` if you mean a machine of your own network",
                );
            } else if host.is_alias() && port.is_none() && allows {
                self.fault(
                    host_span,
                    format!("`{host}` is this machine, and a rule for it names one port"),
                    "add `port = 11434`, or the port you mean",
                );
            }
        }
        let port = if allows { Some(port.unwrap_or(443)) } else { port };
        (self.faults.len() == before).then_some(Rule {
            hosts,
            port,
            private: private.is_some(),
            why,
            until,
            origin,
        })
    }

    fn host(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Pattern> {
        let text = self.string(value)?;
        match Pattern::parse(&text) {
            Ok(Pattern::Below(domain)) if domain.as_str().ends_with("sentrix.internal") => {
                let help = "name the host itself: host.sentrix.internal, with a port";
                self.fault(value.span(), "no domain holds this machine", help);
                None
            }
            Ok(hosts) => Some(hosts),
            Err(why) => {
                let help = match why {
                    NameFault::IpLiteral => {
                        "addresses are never allowed: write a name; a machine of your own network can have one in /etc/hosts"
                    }
                    _ if text.contains("://") => "write the host alone, without scheme and path",
                    _ if text.contains('*') => "write \"*.example.com\": a star stands only at the beginning",
                    _ => "write a host name as \"api.example.com\"",
                };
                self.fault(value.span(), format!("`{}` would never match: {why}", plain(&text)), help);
                None
            }
        }
    }

    fn port(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u16> {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
        let port = number.filter(|port| *port != 0);
        if port.is_none() {
            self.fault(value.span(), "this port would never match", "a port is a number from 1 to 65535");
        }
        port
    }

    fn bool(&mut self, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        let is = value.get_ref().as_bool();
        if is.is_none() {
            self.fault(value.span(), "this is neither true nor false", "write true or false");
        }
        is
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.fault(value.span(), "this is no text", "write it in quotes");
        }
        text.map(str::to_owned)
    }

    fn moment(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Timestamp> {
        let text = match value.get_ref() {
            DeValue::Datetime(date) => Some(date.to_string()),
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        };
        let moment = text.and_then(|text| text.parse().ok());
        if moment.is_none() {
            self.fault(
                value.span(),
                "this is no moment",
                "write it with its time zone: 2026-12-01T00:00:00Z",
            );
        }
        moment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        parse("egress.toml", text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rules_are_read() {
        let rules = parse(
            "egress.toml",
            "# mine\n[[allow]]\nhost = \"API.example.com.\"\nwhy = \"search\"\n\n[[allow]]\nhost = \"nas\"\nport = 5000\n\
             private = true\n[[allow]]\nhost = \"host.sentrix.internal\"\nport = 11434\n[[allow]]\nhost = \"a.example\"\n\
             approved = 2026-11-24T10:00:00Z\nuntil = \"2026-11-24T11:00:00Z\"\n[[deny]]\nhost = \"*.bad.example\"\n",
        )
        .unwrap();
        let said: Vec<_> = rules.allow.iter().map(Rule::subject).collect();
        assert_eq!(said, ["api.example.com:443", "nas:5000", "host.sentrix.internal:11434", "a.example:443"]);
        assert_eq!(rules.allow[3].origin, Origin::Approval);
        assert!(rules.allow[1].private && rules.allow[3].until.is_some());
        assert_eq!(rules.deny[0].subject(), "*.bad.example");
        assert_eq!(parse("egress.toml", "").unwrap(), Rules::default());
    }

    #[test]
    fn a_rule_that_can_never_match_is_told_with_its_line() {
        let all = faults(
            "[[allow]]\nhost = \"https://a.example/\"\n[[allow]]\nhost = \"10.0.0.1\"\n[[allow]]\nhost = \"a.example\"\n\
             port = 0\n[[allow]]\nhost = \"*.com\"\n[[allow]]\nhost = \"nas\"\n[[allow]]\nhost = \"*.a.example\"\n\
             private = true\n[[allow]]\nhost = \"host.sentrix.internal\"\n[[allow]]\nhosts = \"a\"\n[[allow]]\nport = 80\n\
             [[deny]]\nhost = \"bücher.example\"\n[[allow]]\nhost = \"*.sentrix.internal\"\n",
        );
        let lines = ["2", "4", "7", "9", "11", "14", "16", "18", "19", "22", "24"];
        assert_eq!(all.len(), lines.len(), "{all:#?}");
        for (line, said) in lines.iter().zip(&all) {
            assert!(said.starts_with(&format!("egress.toml:{line}:")), "{line}: {said}");
        }
        assert!(all[0].contains("without scheme"), "{}", all[0]);
        assert!(all[1].contains("/etc/hosts"), "{}", all[1]);
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        assert!(faults("[[allow]]\nhost = \n")[0].starts_with("egress.toml:2:"));
        assert!(faults("[allow]\nhost = \"a.b\"\n")[0].contains("two brackets"));
        assert!(faults("block = 1\n")[0].contains("no kind of rule"));
    }
}

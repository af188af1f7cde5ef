//! Which destinations are allowed: rules, where they come from, and what they say of a target.
//!
//! **Invariant:** what no rule allows is denied, and a rule that denies wins over all that allow.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::fault::RuleFault;
use super::name::{Host, NameFault, Target};

/// A destination that the configuration needs: a model's provider, a channel, a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The host name, as in a URL.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What it is needed for, for people: `model moonshot/kimi-k2.5`.
    pub why: String,
    /// Whether it may be a machine of a private network.
    pub private: bool,
}

/// Which hosts a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One host.
    Exact(Host),
    /// All hosts below a domain: `*.example.com`. Whoever can make names there can carry data out in them.
    Below(Host),
}

impl Pattern {
    /// Reads a host name or `*.` and a domain of two labels at least.
    ///
    /// # Errors
    /// Where no name is meant, or half the internet.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        match text.strip_prefix("*.") {
            Some(domain) => {
                let domain = Host::parse(domain)?;
                if domain.is_single_label() { Err(NameFault::BadLabel) } else { Ok(Self::Below(domain)) }
            }
            None => Host::parse(text).map(Self::Exact),
        }
    }

    fn is_met_by(&self, host: &Host) -> bool {
        match self {
            Self::Exact(own) => own == host,
            // The machine itself is meant only by its own name.
            Self::Below(domain) => !host.is_alias() && host.is_below(domain),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration needs it.
    Configuration,
    /// A person wrote it into the file of rules.
    File,
    /// A person allowed it with `sentrix egress allow`.
    Approval,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::File => "egress.toml",
            Self::Approval => "approval",
        })
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The hosts.
    pub hosts: Pattern,
    /// The port; every port where there is none, which only a rule that denies may say.
    pub port: Option<u16>,
    /// Whether the host may have an address of a private network.
    pub private: bool,
    /// What it is for, for people.
    pub why: String,
    /// When it ends.
    pub until: Option<Timestamp>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Rule {
    fn is_met_by(&self, target: &Target, now: Timestamp) -> bool {
        self.port.is_none_or(|port| port == target.port)
            && self.hosts.is_met_by(&target.host)
            && self.until.is_none_or(|until| now < until)
    }

    /// What it is about, as `host:port`.
    pub fn subject(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.hosts),
            None => self.hosts.to_string(),
        }
    }
}

/// What a policy says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed.
    Allowed {
        /// Whether an address of a private network is allowed too.
        private: bool,
        /// What allows it: origin and purpose.
        by: String,
    },
    /// No rule allows it.
    NotAllowed,
    /// A rule denies it; which.
    Denied(String),
}

/// All rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

impl Policy {
    /// A policy of what the configuration needs and what the file of rules says.
    ///
    /// # Errors
    /// Destinations that are none, all of them.
    pub fn new(destinations: &[Destination], rules: &Rules) -> Result<Self, Vec<RuleFault>> {
        let mut faults = Vec::new();
        let mut allow = Vec::new();
        for destination in destinations {
            match Target::parse(&destination.host, Some(destination.port)) {
                Ok(target) if target.port != 0 && target.port == destination.port => allow.push(Rule {
                    hosts: Pattern::Exact(target.host),
                    port: Some(target.port),
                    private: destination.private,
                    why: destination.why.clone(),
                    until: None,
                    origin: Origin::Configuration,
                }),
                other => {
                    let why = other.err().unwrap_or(NameFault::BadPort);
                    faults.push(RuleFault::without_place(
                        format!(
                            "the configuration needs `{}` on port {} ({}), and that is no destination: {why}",
                            destination.host, destination.port, destination.why
                        ),
                        "give the machine a name, for example in /etc/hosts, and write the name into the URL",
                    ));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        allow.extend(rules.allow.iter().cloned());
        Ok(Self { allow, deny: rules.deny.clone() })
    }

    /// What it says of a target at a moment.
    pub fn decide(&self, target: &Target, now: Timestamp) -> Decision {
        if let Some(rule) = self.deny.iter().find(|rule| rule.is_met_by(target, now)) {
            return Decision::Denied(rule.subject());
        }
        let mut met = self.allow.iter().filter(|rule| rule.is_met_by(target, now)).peekable();
        let Some(first) = met.peek() else { return Decision::NotAllowed };
        let by = if first.why.is_empty() {
            first.origin.to_string()
        } else {
            format!("{}: {}", first.origin, first.why)
        };
        Decision::Allowed { private: met.any(|rule| rule.private), by }
    }

    /// Rules that allow.
    pub fn allowing(&self) -> &[Rule] {
        &self.allow
    }

    /// Rules that deny.
    pub fn denying(&self) -> &[Rule] {
        &self.deny
    }

    /// Whether some rule ends at all.
    pub(super) fn ends(&self) -> bool {
        self.allow.iter().chain(&self.deny).any(|rule| rule.until.is_some())
    }
}

/// What the file of rules says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Rules that allow.
    pub allow: Vec<Rule>,
    /// Rules that deny.
    pub deny: Vec<Rule>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::file;

    fn policy(text: &str) -> Policy {
        let needed = [Destination {
            host: "API.model.example".into(),
            port: 443,
            why: "model a/b".into(),
            private: false,
        }];
        Policy::new(&needed, &file::parse("egress.toml", text).unwrap()).unwrap()
    }

    fn decide(policy: &Policy, target: &str) -> Decision {
        policy.decide(&Target::parse(target, None).unwrap(), Timestamp::from_second(1_000).unwrap())
    }

    #[test]
    fn what_no_rule_allows_is_denied_and_denial_wins() {
        let policy = policy(
            "[[allow]]\nhost = \"*.example.org\"\nwhy = \"docs\"\n[[deny]]\nhost = \"bad.example.org\"\n
             [[deny]]\nhost = \"api.model.example\"\nport = 80\n",
        );
        let allowed = |by: &str| Decision::Allowed { private: false, by: by.into() };
        assert_eq!(decide(&policy, "api.model.example:443"), allowed("configuration: model a/b"));
        assert_eq!(decide(&policy, "api.model.example:80"), Decision::Denied("api.model.example:80".into()));
        assert_eq!(decide(&policy, "api.model.example:8443"), Decision::NotAllowed);
        assert_eq!(decide(&policy, "a.b.example.org:443"), allowed("egress.toml: docs"));
        assert_eq!(decide(&policy, "example.org:443"), Decision::NotAllowed);
        assert_eq!(decide(&policy, "bad.example.org:443"), Decision::Denied("bad.example.org".into()));
    }

    #[test]
    fn a_rule_ends() {
        let policy = policy("[[allow]]\nhost = \"a.example\"\nuntil = 1970-01-01T00:16:40Z\n");
        assert_eq!(decide(&policy, "a.example:443"), Decision::NotAllowed);
        let before = Timestamp::from_second(999).unwrap();
        let target = Target::parse("a.example:443", None).unwrap();
        assert!(matches!(policy.decide(&target, before), Decision::Allowed { .. }));
        assert!(policy.ends());
    }

    #[test]
    fn a_destination_that_is_none_is_a_fault() {
        for (host, port) in [("192.168.1.5", 443), ("a.example", 0), ("a b", 443), ("a.example:80", 443)] {
            let needed = [Destination { host: host.into(), port, ..Destination::default() }];
            let faults = Policy::new(&needed, &Rules::default()).unwrap_err();
            assert!(faults[0].to_string().contains(host), "{}", faults[0]);
        }
    }
}

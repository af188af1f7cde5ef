//! Changes of the file of rules that keep what a person wrote: whole blocks are added at the end or taken out.

use std::ops::Range;

use jiff::Timestamp;
use toml::de::DeTable;

use super::name::Target;
use super::rule::Pattern;

/// A rule to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRule {
    /// The hosts.
    pub hosts: Pattern,
    /// The port; none for every port, which only a rule that denies may say.
    pub port: Option<u16>,
    /// Whether the host may have an address of a private network.
    pub private: bool,
    /// What it is for.
    pub why: String,
    /// When it ends.
    pub until: Option<Timestamp>,
}

/// The text with a rule more that allows; one about the same hosts and port is replaced, and one that denies them
/// goes.
///
/// # Errors
/// Where a rule about the same stands in a form that is not taken out block by block; says which line.
pub fn allow(text: &str, rule: &NewRule, now: Timestamp) -> Result<String, String> {
    let text = without(text, "deny", &rule.hosts, rule.port)?;
    let text = without(&text, "allow", &rule.hosts, rule.port)?;
    Ok(with(text, "allow", rule, now))
}

/// The text with a rule more that denies; those that allow the same go.
///
/// # Errors
/// As [`allow`].
pub fn deny(text: &str, rule: &NewRule, now: Timestamp) -> Result<String, String> {
    let text = without(text, "allow", &rule.hosts, rule.port)?;
    let text = without(&text, "deny", &rule.hosts, rule.port)?;
    Ok(with(text, "deny", rule, now))
}

fn with(mut text: String, kind: &str, rule: &NewRule, now: Timestamp) -> String {
    if text.is_empty() {
        text.push_str("# Where the sandbox may connect to. See `sentrix egress list`.\n");
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let mut line = |key: &str, value: String| {
        crate::text::push(&mut text, format_args!("{key} = {value}\n"));
    };
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    line("\n[[KIND]]\nhost", quoted(&rule.hosts.to_string()));
    if let Some(port) = rule.port {
        line("port", port.to_string());
    }
    if rule.private {
        line("private", "true".into());
    }
    if !rule.why.is_empty() {
        line("why", quoted(&crate::text::plain(&rule.why)));
    }
    if let Some(until) = rule.until {
        line("until", format!("{until:.0}"));
    }
    line("approved", format!("{now:.0}"));
    text.replace("\n[[KIND]]\n", &format!("\n[[{kind}]]\n"))
}

/// The text without the blocks of a kind about these hosts and this port; about all their ports where none is given.
fn without(text: &str, kind: &str, hosts: &Pattern, port: Option<u16>) -> Result<String, String> {
    let Ok(document) = DeTable::parse(text) else { return Ok(text.to_owned()) };
    let Some(items) = document.get_ref().get(kind).and_then(|list| list.get_ref().as_array()) else {
        return Ok(text.to_owned());
    };
    let mut cuts: Vec<Range<usize>> = Vec::new();
    for item in items {
        let Some(table) = item.get_ref().as_table() else { continue };
        let Some(host) = table.get("host") else { continue };
        let own = host.get_ref().as_str().and_then(|text| Pattern::parse(text).ok());
        let own_port = table.get("port").and_then(|port| {
            let number = port.get_ref().as_integer()?;
            u16::from_str_radix(number.as_str(), number.radix()).ok()
        });
        let own_port = own_port.or((kind == "allow").then_some(443));
        if own.as_ref() != Some(hosts) || own_port.is_some_and(|own| port.is_some_and(|port| port != own)) {
            continue;
        }
        let block = block(text, kind, host.span().start).ok_or_else(|| {
            let line = text.bytes().take(host.span().start).filter(|byte| *byte == b'\n').count() + 1;
            format!("the rule about {hosts} in line {line} is not a [[{kind}]] block of its own; take it out by hand")
        })?;
        cuts.push(block);
    }
    let mut kept = text.to_owned();
    for cut in cuts.into_iter().rev() {
        kept.replace_range(cut, "");
    }
    Ok(kept)
}

/// The lines of the block in which a place is: from its header to its last `key = value`. What stands between blocks is the
/// user's and stays.
fn block(text: &str, kind: &str, place: usize) -> Option<Range<usize>> {
    let header = format!("[[{kind}]]");
    let mut found: Option<Range<usize>> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = at + line.len();
        let words = line.trim();
        if words.starts_with('[') && at <= place {
            let is_ours = words.split('#').next().is_some_and(|head| head.trim().replace(' ', "") == header);
            found = is_ours.then_some(at..end);
        } else if words.starts_with('[') {
            break;
        } else if let Some(block) = &mut found
            && !words.is_empty()
            && !words.starts_with('#')
        {
            block.end = end;
        }
        at = end;
    }
    found.filter(|block| block.contains(&place))
}

/// The shell command that would allow a target.
pub fn command(target: &Target) -> String {
    let private = if target.host.is_single_label() { " --private" } else { "" };
    match target.port {
        443 => format!("sentrix egress allow {}{private}", target.host),
        port => format!("sentrix egress allow {}:{port}{private}", target.host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::file;

    fn rule(host: &str, port: Option<u16>) -> NewRule {
        NewRule {
            hosts: Pattern::parse(host).unwrap(),
            port,
            private: false,
            why: "say \"why\"".into(),
            until: None,
        }
    }

    fn now() -> Timestamp {
        "2026-11-24T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_a_person_wrote_stays() {
        let mine = "# my rules\n\n[[allow]] # docs\nhost = \"docs.example\"   # keep\nport = 443\n\n# about the next\n\
                    [[allow]]\nhost = \"a.example\"\n# end\n";
        let text = allow(mine, &rule("b.example", Some(443)), now()).unwrap();
        assert!(text.starts_with(mine), "{text}");
        let rules = file::parse("egress.toml", &text).unwrap();
        assert_eq!(rules.allow.len(), 3);
        assert_eq!(rules.allow[2].why, "say \"why\"");
        let text = deny(&text, &rule("docs.example", None), now()).unwrap();
        assert!(!text.contains("# keep"), "{text}");
        assert!(
            text.starts_with("# my rules\n\n\n# about the next\n[[allow]]\nhost = \"a.example\"\n# end\n"),
            "{text}"
        );
        let rules = file::parse("egress.toml", &text).unwrap();
        assert_eq!((rules.allow.len(), rules.deny.len()), (2, 1));
        let back = allow(&text, &rule("docs.example", Some(443)), now()).unwrap();
        let rules = file::parse("egress.toml", &back).unwrap();
        assert_eq!((rules.allow.len(), rules.deny.len()), (3, 0), "{back}");
    }

    #[test]
    fn the_same_again_changes_nothing_but_the_moment() {
        let once = allow("", &rule("a.example", Some(443)), now()).unwrap();
        assert_eq!(
            allow(&once, &rule("a.example", Some(443)), now()).unwrap().matches("[[allow]]").count(),
            1
        );
        let other = allow(&once, &rule("a.example", Some(80)), now()).unwrap();
        assert_eq!(other.matches("[[allow]]").count(), 2);
    }

    #[test]
    fn what_cannot_be_taken_out_is_told() {
        let inline = "allow = [ { host = \"a.example\" } ]\n";
        let error = deny(inline, &rule("a.example", None), now()).unwrap_err();
        assert!(error.contains("line 1"), "{error}");
    }
}

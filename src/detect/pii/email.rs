//! E-mail addresses of people.

use std::ops::Range;

/// Names before the `@` that belong to a machine or an office, not to a person.
const ROLES: &[&str] = &[
    "noreply",
    "no-reply",
    "no_reply",
    "donotreply",
    "do-not-reply",
    "do_not_reply",
    "git",
    "support",
    "info",
    "help",
    "admin",
    "administrator",
    "root",
    "postmaster",
    "webmaster",
    "hostmaster",
    "abuse",
    "security",
    "sales",
    "contact",
    "hello",
    "team",
    "billing",
    "notifications",
    "notification",
    "mailer-daemon",
    "newsletter",
    "feedback",
    "privacy",
    "legal",
    "press",
    "jobs",
    "user",
    "username",
    "you",
    "your.email",
];

/// Domains for examples and tests, and of code hosts' no-reply addresses.
const DOMAINS: &[&str] = &[
    "example.com",
    "example.org",
    "example.net",
    "example.edu",
    "test.com",
    "domain.com",
    "email.com",
    "yourdomain.com",
    "company.com",
    "mycompany.com",
    "users.noreply.github.com",
    "localhost.localdomain",
    "foo.com",
    "bar.com",
    "acme.com",
    "mail.com",
];

/// Last labels that are file endings or reserved, not top-level domains.
const NOT_TLDS: &[&str] = &[
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "ico",
    "js",
    "ts",
    "tsx",
    "jsx",
    "mjs",
    "css",
    "html",
    "json",
    "yaml",
    "yml",
    "toml",
    "lock",
    "txt",
    "conf",
    "cfg",
    "xml",
    "java",
    "class",
    "example",
    "test",
    "invalid",
    "local",
    "localhost",
    "internal",
    "localdomain",
    "lan",
    "service",
    "target",
    "timer",
];

/// Calls `found` with each e-mail address that may be a person's.
pub(crate) fn emails(text: &str, mut found: impl FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut floor = 0;
    for at in memchr::memchr_iter(b'@', bytes) {
        let mut start = at;
        let low = at.saturating_sub(64).max(floor);
        while start > low
            && bytes.get(start - 1).is_some_and(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
            })
        {
            start -= 1;
        }
        let mut end = at + 1;
        let high = at + 254;
        while end < high
            && bytes.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        {
            end += 1;
        }
        while end > at + 1 && matches!(bytes.get(end - 1), Some(b'.' | b'-')) {
            end -= 1;
        }
        while start < at && matches!(bytes.get(start), Some(b'.' | b'-' | b'%' | b'+')) {
            start += 1;
        }
        // An escaped line break before the name is not part of it.
        if start > 0
            && bytes.get(start - 1) == Some(&b'\\')
            && matches!(bytes.get(start), Some(b'n' | b't' | b'r'))
        {
            start += 1;
        }
        let (Some(local), Some(domain)) = (text.get(start..at), text.get(at + 1..end)) else { continue };
        if is_personal(local, domain) && !in_url(text, start) {
            found(start..end);
            floor = end;
        }
    }
}

fn is_personal(local: &str, domain: &str) -> bool {
    let local = local.to_ascii_lowercase();
    let domain = domain.to_ascii_lowercase();
    let Some((rest, top)) = domain.rsplit_once('.') else { return false };
    !local.is_empty()
        && !rest.is_empty()
        && (2..=18).contains(&top.len())
        && top.bytes().all(|byte| byte.is_ascii_lowercase())
        && rest.split('.').all(|label| !label.is_empty())
        && rest.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !NOT_TLDS.contains(&top)
        && !ROLES.contains(&local.as_str())
        && !local.contains("noreply")
        && !local.contains("no-reply")
        && !local.contains("donotreply")
        && !DOMAINS.iter().any(|known| {
            domain == *known || domain.strip_suffix(known).is_some_and(|head| head.ends_with('.'))
        })
        && !domain.contains("example")
}

/// The name of a URL's login (`scheme://name:password@host`, `git+ssh://git@host`) is no address.
fn in_url(text: &str, start: usize) -> bool {
    let from = text.floor_char_boundary(start.saturating_sub(96));
    let before = text.get(from..start).unwrap_or_default();
    let word = before
        .rsplit(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '?' | '&' | '='))
        .next()
        .unwrap_or_default();
    word.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_found_and_machines_are_not() {
        let text = "ana.b@posteo.net, noreply@shop.io, a@example.com, git@github.com, logo@2x.png, x@y";
        let mut seen = Vec::new();
        emails(text, |range| seen.push(text.get(range).unwrap().to_owned()));
        assert_eq!(seen, ["ana.b@posteo.net"]);
    }

    #[test]
    fn a_login_in_a_url_is_no_address() {
        let mut seen = 0;
        emails("postgres://joe:pw@db.host.io/x", |_| seen += 1);
        assert_eq!(seen, 0);
    }
}

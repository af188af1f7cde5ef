//! Which addresses the door connects to: those of the public internet, after every name has been resolved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address one is that the door does not simply connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Special {
    /// A network of one's own (RFC 1918, unique local): only where a rule says `private = true`.
    #[error("a private address")]
    Private,
    /// A carrier's network (RFC 6598): only where a rule says `private = true`.
    #[error("an address of a carrier's or overlay network")]
    Shared,
    /// This machine.
    #[error("a loopback address")]
    Loopback,
    /// This link.
    #[error("a link-local address")]
    LinkLocal,
    /// Where clouds hand out credentials.
    #[error("a cloud's metadata address")]
    Metadata,
    /// Many machines.
    #[error("a multicast or broadcast address")]
    Multicast,
    /// No machine.
    #[error("an address without a machine")]
    Unspecified,
    /// Reserved, for documentation or for tests.
    #[error("a reserved address")]
    Reserved,
    /// An IPv4 address inside an IPv6 address: mapped, translated, tunnelled.
    #[error("an IPv4 address inside an IPv6 address")]
    Embedded,
}

impl Special {
    /// Whether a rule with `private = true` lets it through.
    pub const fn is_for_private_rules(self) -> bool {
        matches!(self, Self::Private | Self::Shared)
    }
}

/// Addresses at which clouds hand out credentials and settings, whatever range they are in.
/// Source: the documentation of AWS, GCP and Azure (169.254.169.254, `fd00:ec2::254`), Azure's wire server, Alibaba, Oracle.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// What is special about an address; nothing where it is one of the public internet.
pub fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    if METADATA_V4.contains(&address) {
        return Some(Special::Metadata);
    }
    Some(match address.octets() {
        [0, 0, 0, 0] => Special::Unspecified,
        [0, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] => Special::Reserved,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Special::Reserved,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Special::Private,
        [100, 64..=127, ..] => Special::Shared,
        [127, ..] => Special::Loopback,
        [169, 254, ..] => Special::LinkLocal,
        [224..=239, ..] | [255, 255, 255, 255] => Special::Multicast,
        [240..=255, ..] => Special::Reserved,
        _ => return None,
    })
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    if address.is_unspecified() {
        return Some(Special::Unspecified);
    }
    if address.is_loopback() {
        return Some(Special::Loopback);
    }
    Some(match address.segments() {
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Special::Metadata,
        // Compatible, mapped, translated.
        [0, 0, 0, 0, ..] => Special::Embedded,
        // NAT64, the well-known and the local prefix; Teredo; 6to4.
        [0x0064, 0xff9b, ..] | [0x2001, 0, ..] | [0x2002, ..] => Special::Embedded,
        [0x2001, 0x0db8 | 0..=0x01ff, ..] | [0x3fff, 0..=0x0fff, ..] => Special::Reserved,
        [0xfc00..=0xfdff, ..] => Special::Private,
        [0xfe80..=0xfebf, ..] => Special::LinkLocal,
        [0xfec0..=0xfeff, ..] => Special::Private,
        [0xff00..=0xffff, ..] => Special::Multicast,
        // ISATAP hides an IPv4 address in any prefix.
        [_, _, _, _, 0x0000 | 0x0200, 0x5efe, _, _] => Special::Embedded,
        [0x2000..=0x3fff, ..] => return None,
        _ => Special::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<Special> {
        special(text.parse().unwrap())
    }

    #[test]
    fn only_the_public_internet_is_nothing_special() {
        for text in ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1"] {
            assert_eq!(of(text), None, "{text}");
        }
        for (text, kind) in [
            ("0.0.0.0", Special::Unspecified),
            ("0.1.2.3", Special::Reserved),
            ("10.0.0.1", Special::Private),
            ("172.16.0.1", Special::Private),
            ("172.31.255.255", Special::Private),
            ("192.168.1.1", Special::Private),
            ("100.64.0.1", Special::Shared),
            ("100.127.255.255", Special::Shared),
            ("127.0.0.1", Special::Loopback),
            ("127.255.255.254", Special::Loopback),
            ("169.254.0.1", Special::LinkLocal),
            ("169.254.169.254", Special::Metadata),
            ("100.100.100.200", Special::Metadata),
            ("168.63.129.16", Special::Metadata),
            ("192.0.2.1", Special::Reserved),
            ("198.18.0.1", Special::Reserved),
            ("224.0.0.1", Special::Multicast),
            ("255.255.255.255", Special::Multicast),
            ("240.0.0.1", Special::Reserved),
            ("::", Special::Unspecified),
            ("::1", Special::Loopback),
            ("::127.0.0.1", Special::Embedded),
            ("::ffff:127.0.0.1", Special::Embedded),
            ("::ffff:1.1.1.1", Special::Embedded),
            ("::ffff:0:10.0.0.1", Special::Embedded),
            ("64:ff9b::7f00:1", Special::Embedded),
            ("64:ff9b:1::7f00:1", Special::Embedded),
            ("2002:7f00:1::", Special::Embedded),
            ("2001:0:1::1", Special::Embedded),
            ("2001:db8::1", Special::Reserved),
            ("2a00:1:2:3:0:5efe:a00:1", Special::Embedded),
            ("fc00::1", Special::Private),
            ("fd12::1", Special::Private),
            ("fd00:ec2::254", Special::Metadata),
            ("fe80::1", Special::LinkLocal),
            ("fec0::1", Special::Private),
            ("ff02::1", Special::Multicast),
            ("4000::1", Special::Reserved),
            ("100::1", Special::Reserved),
        ] {
            assert_eq!(of(text), Some(kind), "{text}");
        }
    }
}

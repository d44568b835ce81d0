//! Callers without a token, by their address.
//!
//! Trusts the proxy's own view of the connection, or, where the policy says that so many proxies stand in front, what the
//! outermost of them wrote into `X-Forwarded-For`. What stands further left was written by the caller, and is never read.
//! The last address is the one that this proxy itself has added (Envoy with `use_remote_address: true`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The subject of callers whose address cannot be told: all of them share one.
const UNKNOWN: &str = "anon:unknown";

/// The subject of an address: an IPv4 address, or the /64 that one site of IPv6 has at least (RFC 6177).
pub fn subject(peer: Option<&str>, forwarded_for: &[&[u8]], trusted_hops: u32) -> String {
    let address = match trusted_hops {
        0 => peer.and_then(address_of).map(plain),
        hops => nth_from_right(forwarded_for, hops as usize),
    };
    match address {
        Some(IpAddr::V4(address)) => format!("anon:{address}"),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("anon:{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        None => UNKNOWN.to_owned(),
    }
}

/// The address that the `hops`-th proxy before this one wrote, where this one has added none itself: for who is behind the
/// proxies.
pub fn forwarded(forwarded_for: &[&[u8]], hops: u32) -> Option<IpAddr> {
    nth_from_right(forwarded_for, (hops as usize).checked_sub(1)?)
}

/// The address that stands so far from the end. Several headers are one list (RFC 9110 5.3).
fn nth_from_right(forwarded_for: &[&[u8]], place: usize) -> Option<IpAddr> {
    let values = forwarded_for.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    let value = values.map(<[u8]>::trim_ascii).nth(place)?;
    address_of(std::str::from_utf8(value).ok()?).map(plain)
}

/// An address, with a port or without, with brackets or without.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let socket = text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    socket.or_else(|| bare.parse().ok())
}

/// IPv4 that comes as IPv6 is the same caller.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, forwarded_for: &[&str], hops: u32, expected: &str) {
        let forwarded_for: Vec<&[u8]> = forwarded_for.iter().map(|value| value.as_bytes()).collect();
        assert_eq!(subject(Some(peer).filter(|peer| !peer.is_empty()), &forwarded_for, hops), expected);
    }

    #[test]
    fn the_proxy_s_view_counts_where_nothing_stands_in_front() {
        check("203.0.113.7:4711", &["198.51.100.1"], 0, "anon:203.0.113.7");
        check("203.0.113.7", &[], 0, "anon:203.0.113.7");
        check("[2001:db8:1:2:3:4:5:6]:4711", &[], 0, "anon:2001:db8:1:2::/64");
        check("2001:db8:1:2:ffff::1", &[], 0, "anon:2001:db8:1:2::/64");
        check("[::ffff:203.0.113.7]:80", &[], 0, "anon:203.0.113.7");
        check("/tmp/socket", &["198.51.100.1"], 0, "anon:unknown");
        check("", &[], 0, "anon:unknown");
    }

    #[test]
    fn a_trusted_proxy_s_word_counts_and_the_caller_s_does_not() {
        check("10.0.0.1:1", &["6.6.6.6, 198.51.100.1, 10.0.0.1"], 1, "anon:198.51.100.1");
        check("10.0.0.1:1", &["6.6.6.6, 198.51.100.1, 10.0.0.9, 10.0.0.1"], 2, "anon:198.51.100.1");
        check("10.0.0.1:1", &["6.6.6.6", "198.51.100.1 ,10.0.0.9 ", "10.0.0.1"], 2, "anon:198.51.100.1");
        check("10.0.0.1:1", &["198.51.100.1, 10.0.0.1"], 2, "anon:unknown");
        check("10.0.0.1:1", &["unknown, 10.0.0.1"], 1, "anon:unknown");
        check("10.0.0.1:1", &["10.0.0.1"], 1, "anon:unknown");
        check("10.0.0.1:1", &[], 1, "anon:unknown");
        check("10.0.0.1:1", &["[2001:db8::1]:443, 10.0.0.1"], 1, "anon:2001:db8::/64");
    }

    #[test]
    fn behind_proxies_the_last_address_is_what_the_nearest_wrote() {
        let find = |values: &[&str], hops| {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            forwarded(&values, hops).map(|address| address.to_string()).unwrap_or_default()
        };
        assert_eq!(find(&["6.6.6.6, 198.51.100.1"], 1), "198.51.100.1");
        assert_eq!(find(&["6.6.6.6", "198.51.100.1, 10.0.0.9"], 2), "198.51.100.1");
        assert_eq!(find(&["[2001:db8::1]:443"], 1), "2001:db8::1");
        assert_eq!(find(&["::ffff:203.0.113.7"], 1), "203.0.113.7");
        assert_eq!(
            find(&["unknown"], 1) + &find(&[], 1) + &find(&["1.1.1.1"], 2) + &find(&["1.1.1.1"], 0),
            ""
        );
    }
}

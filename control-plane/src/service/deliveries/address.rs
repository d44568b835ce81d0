//! Where events may be sent: to addresses of the public internet, unless an operator allows private ones. An endpoint is
//! named by whoever administers events, and must not become a way into the network that the control plane stands in.
//!
//! Names are looked at when they are resolved for the connection itself: what a name meant before says nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Longest address, bytes.
const URL_BYTES_MAX: usize = 2_048;

/// Why nothing may be sent there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no address.
    #[error("give a whole address such as https://example.com/hooks, at most 2,048 bytes")]
    Malformed,
    /// It is of another protocol.
    #[error("give an http or https address")]
    Scheme,
    /// It holds a name or password, or a fragment.
    #[error("give the address without user name, password and fragment")]
    Parts,
    /// It is not on the public internet.
    #[error("this address is private; the control plane sends there only with --events-allow-private")]
    Private,
}

/// The address of an endpoint, looked at as far as can be without resolving its name.
pub fn check_url(text: &str, allow_private: bool) -> Result<Url, AddressError> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX).ok_or(AddressError::Malformed)?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(AddressError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(AddressError::Parts);
    }
    let host = url.host_str().ok_or(AddressError::Malformed)?;
    let local = host == "localhost" || host.ends_with(".localhost");
    let private = local || host_ip(host).is_some_and(|ip| !is_public(ip));
    if private && !allow_private {
        return Err(AddressError::Private);
    }
    Ok(url)
}

/// The numeric address in a URL's host.
fn host_ip(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether an address is one of the public internet: of no range that IANA's registries of special-purpose addresses (RFC
/// 6890) reserve.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match (a, b, c) {
        // This network, private, loopback.
        (0 | 10 | 127, ..) => true,
        // Shared (carrier-grade NAT), link-local (metadata services), private.
        (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        // Protocol assignments, documentation, 6to4 relays.
        (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => true,
        // Benchmarks.
        (198, 18..=19, _) => true,
        // Multicast, reserved, broadcast.
        (224.., ..) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // IPv4 in IPv6: mapped, translated (NAT64), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // All that is public is of 2000::/3.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names to their public addresses only.
#[derive(Debug)]
pub struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            match public.is_empty() {
                true => Err(AddressError::Private.into()),
                false => Ok::<Addrs, _>(Box::new(public.into_iter())),
            }
        })
    }
}

/// The resolver of a client that must not reach private addresses.
pub fn public_resolver() -> Arc<PublicResolver> {
    Arc::new(PublicResolver)
}

#[cfg(test)]
mod tests {
    use reqwest::dns::Resolve as _;

    use super::{AddressError, PublicResolver, check_url, is_public};

    #[tokio::test]
    async fn a_name_is_refused_by_the_addresses_it_has_when_it_is_resolved() {
        let error = PublicResolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert_eq!(error.downcast_ref(), Some(&AddressError::Private));
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        let check = |public: bool, addresses: &[&str]| {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
            }
        };
        check(true, &["1.1.1.1", "100.63.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255"]);
        check(true, &["2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]);
        check(false, &["0.0.0.0", "127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "192.168.1.1"]);
        check(false, &["172.16.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1"]);
        check(false, &["::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1", "2001::1"]);
        check(
            false,
            &["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::7f00:1"],
        );
    }

    #[test]
    fn addresses_are_looked_at_before_they_are_kept() {
        let check = |text: &str, refused: Option<AddressError>| {
            assert_eq!(check_url(text, false).err(), refused, "{text}");
        };
        check("https://example.com/hooks?a=b", None);
        check("http://93.184.216.34:8080/", None);
        check("ftp://example.com/", Some(AddressError::Scheme));
        check("file:///etc/passwd", Some(AddressError::Scheme));
        check("example.com/hooks", Some(AddressError::Malformed));
        check("https://user:pass@example.com/", Some(AddressError::Parts));
        check("https://example.com/#part", Some(AddressError::Parts));
        let private = [
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
        ];
        for text in private {
            check(text, Some(AddressError::Private));
            assert!(check_url(text, true).is_ok(), "{text}");
        }
        check(&format!("https://example.com/{}", "a".repeat(2_048)), Some(AddressError::Malformed));
    }
}

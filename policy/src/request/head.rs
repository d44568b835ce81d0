//! What a request's headers say, read once and in place.

use std::borrow::Cow;

use super::HeaderMap;
use crate::decision::{Denial, number};
use crate::path;

/// Headers that only an edge sets.
const OURS: &[u8] = b"x-tollgate-";

/// Whether a name is that of a header of ours. To CGI and what follows it (WSGI, PHP) an underscore is a hyphen.
fn is_ours(name: &[u8]) -> bool {
    let same = |(byte, ours): (&u8, &u8)| byte == ours || (*byte == b'_' && *ours == b'-');
    name.len() >= OURS.len() && name.iter().zip(OURS).all(same)
}

/// The headers of a request, as they stand in the proxy's answer.
pub struct Head<'a> {
    /// All of them.
    pub headers: &'a HeaderMap,
    /// `GET`.
    pub method: Cow<'a, str>,
    /// The path with its query, as the upstream will see it.
    pub path: Cow<'a, str>,
    /// The host, perhaps with a port.
    pub host: Cow<'a, str>,
    /// The body's length, where it is announced and a number.
    pub content_length: Option<u64>,
    /// Its body's length is announced as what is no number.
    bad_length: bool,
    /// Whether it is a gRPC call, whose fate stands in the response's trailers.
    pub is_grpc: bool,
    /// Headers that the caller must not set.
    pub spoofed: Vec<String>,
    authorization: Authorization<'a>,
}

/// The `Authorization` headers of a request.
enum Authorization<'a> {
    None,
    One(&'a [u8]),
    Several,
}

impl<'a> Head<'a> {
    /// Reads the headers.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let mut head = Self {
            headers,
            method: Cow::Borrowed(""),
            path: Cow::Borrowed(""),
            host: Cow::Borrowed(""),
            content_length: None,
            bad_length: false,
            is_grpc: false,
            spoofed: Vec::new(),
            authorization: Authorization::None,
        };
        for (name, value) in headers.iter() {
            match name {
                // Bytes that are not UTF-8 become U+FFFD, which no route and no method has, and no path may have.
                b":method" => head.method = String::from_utf8_lossy(value),
                b":path" => head.path = String::from_utf8_lossy(value),
                b":authority" => head.host = String::from_utf8_lossy(value),
                b"content-length" => {
                    head.content_length = number(value);
                    head.bad_length |= head.content_length.is_none();
                }
                b"content-type" => head.is_grpc = value.starts_with(b"application/grpc"),
                b"authorization" => {
                    head.authorization = match head.authorization {
                        Authorization::None => Authorization::One(value),
                        _ => Authorization::Several,
                    }
                }
                _ if is_ours(name) => {
                    head.spoofed.push(String::from_utf8_lossy(name).into_owned());
                }
                _ => {}
            }
        }
        head
    }

    /// The path in the one form that routes are matched against. A head that two servers could read in two ways is refused.
    pub fn normalised_path(&self) -> Result<Cow<'_, str>, Box<Denial>> {
        let path = path::normalise(&self.path).map_err(|fault| Box::new(Denial::ambiguous_path(fault)))?;
        match self.bad_length {
            true => Err(Box::new(Denial::bad_body("its Content-Length must be a whole number"))),
            false => Ok(path),
        }
    }

    /// The first header of a name in lower case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    /// The only header of a name in lower case: of several, the upstream may read another one than we do.
    pub fn only_header(&self, name: &str) -> Option<&'a [u8]> {
        let mut found = self.all(name);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// All headers of a name in lower case, in order.
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.headers.iter().filter(move |(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    /// Whether a token was sent at all, good or not.
    pub fn has_token(&self) -> bool {
        !matches!(self.authorization, Authorization::None)
    }

    /// The one bearer token (RFC 6750 2.1); the scheme's case does not matter (RFC 9110 11.1).
    pub fn token(&self) -> Result<&'a [u8], Box<Denial>> {
        match self.authorization {
            Authorization::None => Err(Box::new(Denial::no_token())),
            Authorization::One(value) => match value.split_at_checked(7) {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Ok(token.trim_ascii()),
                _ => Err(Box::new(Denial::bad_authorization())),
            },
            Authorization::Several => Err(Box::new(Denial::bad_authorization())),
        }
    }
}

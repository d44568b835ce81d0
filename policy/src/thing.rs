//! Ids of things: what exists of a capacity and can be named, such as a document by its path parameter. One function for
//! the edge, which sees ids in requests, and for the control plane, which imports them: the same id is the same thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The id of a thing: the first 128 bits of its SHA-256, 32 hex digits as text. Bounded, however long the id is, and not
/// readable: an id may be somebody's name. A subject cannot find two ids that collide, with which one deletion would free
/// what two additions took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ThingId([u8; 16]);

/// This is no text of a [`ThingId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thing's id is 32 hex digits in small letters")]
pub struct NoThingId;

impl ThingId {
    /// The id of these bytes: a header's value, or an id as the application knows it.
    pub fn of(id: &[u8]) -> Self {
        let mut first = [0; 16];
        first.iter_mut().zip(Sha256::digest(id)).for_each(|(to, from)| *to = from);
        Self(first)
    }

    /// The id of these bytes, as [`ThingId::to_bytes`] gives them.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What a record keeps.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id of a path's parameter. What [`crate::path::normalise`] leaves percent-encoded (`%20`, `%C3%A9`) is decoded, so
    /// that the application's own id is the same thing.
    pub fn of_path_parameter(parameter: &str) -> Self {
        if !parameter.contains('%') {
            return Self::of(parameter.as_bytes());
        }
        let mut decoded = Vec::with_capacity(parameter.len());
        let mut rest = parameter.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            let escaped = match (byte, after) {
                (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|digits| (digits, after)),
                _ => None,
            };
            match escaped {
                Some(((high, low), after)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                None => {
                    decoded.push(byte);
                    rest = after;
                }
            }
        }
        Self::of(&decoded)
    }
}

impl fmt::Display for ThingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ThingId {
    type Err = NoThingId;

    fn from_str(text: &str) -> Result<Self, NoThingId> {
        let digits = text.as_bytes();
        if digits.len() != 32 || digits.iter().any(u8::is_ascii_uppercase) {
            return Err(NoThingId);
        }
        let mut id = [0; 16];
        for (to, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return Err(NoThingId) };
            *to = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or(NoThingId)?;
        }
        Ok(Self(id))
    }
}

impl From<ThingId> for String {
    fn from(id: ThingId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ThingId {
    type Error = NoThingId;

    fn try_from(text: String) -> Result<Self, NoThingId> {
        text.parse()
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::ThingId;
    use crate::path::normalise;

    #[test]
    fn an_id_is_the_start_of_its_sha_256() {
        // FIPS 180-2 B.1: SHA-256 of "abc" is ba7816bf 8f01cfea 414140de 5dae2223 b00361a3 …
        assert_eq!(ThingId::of(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn text_is_read_back_and_nothing_else_is() {
        let id = ThingId::of(b"abc");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_str::<ThingId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        let long = format!("{id}0");
        for wrong in
            ["", "abc", &id.to_string().to_uppercase(), &long, &format!("{}g", &id.to_string()[..31])]
        {
            assert!(wrong.parse::<ThingId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn however_a_path_spells_an_id_it_is_the_same_thing() {
        for (path, id) in [
            ("/rooms/main", "main"),
            ("/rooms/m%61in", "main"),
            ("/rooms/main%20hall/", "main hall"),
            ("/rooms/caf%c3%a9", "café"),
            ("/rooms/a%3bb%3F%25", "a;b?%"),
            ("/rooms/100%25", "100%"),
        ] {
            let path = normalise(path).unwrap();
            let parameter = path.strip_prefix("/rooms/").unwrap();
            assert_eq!(ThingId::of_path_parameter(parameter), ThingId::of(id.as_bytes()), "{path}");
        }
        assert_eq!(
            ThingId::of_path_parameter("%"),
            ThingId::of(b"%"),
            "whatever comes, something is answered"
        );
        assert_eq!(ThingId::of_path_parameter("%2"), ThingId::of(b"%2"));
        assert_ne!(ThingId::of(b"Main"), ThingId::of(b"main"));
    }
}
